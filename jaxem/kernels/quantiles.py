"""Cumulative distributions on the logarithmic scale, both tails, and normal quantiles of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, gammainc, gammaincc, gammaln, log_ndtr, logsumexp, ndtri

from jaxem.kernels.special import log1p_remainder, log_factorial, log_rising

NEWTON = 4  # steps; from the start taken below each doubles the digits
MANY = 100.0  # degrees of freedom from which Hill's expansion of a t distribution serves
TERMS = 4000  # of a continued fraction at most; it takes some times the fourth root of the variance


class Tails(NamedTuple):
    """Where cells y (n, d) stand in a distribution, for each of K states: logarithms, (n, K, d)."""

    below: jax.Array  # log P(Y < y)
    at: jax.Array  # log P(Y = y), -inf where Y is continuous
    above: jax.Array  # log P(Y > y)


class PseudoResiduals(NamedTuple):
    """Normal quantiles of where cells stand: standard normal under the true model; NaN where the cell is missing."""

    residual: jax.Array  # (n, d)
    lower: jax.Array  # (n, d) ends of the interval; equal to the residual where cells are continuous
    upper: jax.Array


def residuals(tails: Tails, share: jax.Array) -> PseudoResiduals:
    """z = Phi^-1(P(Y < y) + share P(Y = y)) of tails (n, d), and z at shares 0 and 1."""
    below, at, above = tails
    part = jnp.logaddexp(below, at + jnp.log(share)), jnp.logaddexp(above, at + jnp.log1p(-share))
    lower = normal_quantile(below, jnp.logaddexp(at, above))
    return PseudoResiduals(normal_quantile(*part), lower, normal_quantile(jnp.logaddexp(below, at), above))


def between(low: Tails, high: Tails) -> Tails:
    """Where a cell stands of which only the ends of an interval are known, continuous at both: `at` is the interval."""
    from_below, from_above = _log_less(high.below, low.below), _log_less(low.above, high.above)
    return Tails(low.below, jnp.where(low.above < high.below, from_above, from_below), high.above)


def entered(tails: Tails, start: Tails) -> Tails:
    """The tails of what is known to lie above the start."""
    past = jnp.where(tails.above < tails.below, _log_less(start.above, tails.above), _log_less(tails.below, start.below))
    return Tails(*(leaf - start.above for leaf in (past, tails.at, tails.above)))


def _log_less(a: jax.Array, b: jax.Array) -> jax.Array:
    """log(e^a - e^b) for a >= b; minus infinity where they are equal."""
    gap = jnp.where(a > b, b - jnp.where(a > b, a, 0), -1.0)  # also -inf, where b is
    return jnp.where(a > b, a + jnp.log(-jnp.expm1(gap)), -jnp.inf)


def averaged(tails: Tails, probability: jax.Array) -> Tails:
    """The tails (n, d) of a mixture of the states under probabilities (n, K)."""
    log_probability = jnp.where(probability > 0, jnp.log(jnp.where(probability > 0, probability, 1)), -jnp.inf)
    return Tails(*(_log_sum(leaf + log_probability[:, :, None]) for leaf in tails))


def _log_sum(x: jax.Array) -> jax.Array:
    return logsumexp(jnp.where(jnp.isnan(x), -jnp.inf, x), axis=1)


def normal_quantile(log_lower: jax.Array, log_upper: jax.Array) -> jax.Array:
    """z with log Phi(z) = log_lower and log Phi(-z) = log_upper, from whichever tail is smaller; infinite where it is empty."""
    log_p = jnp.minimum(log_lower, log_upper)
    far = log_p < -20
    empty = log_p == -jnp.inf
    near = ndtri(jnp.exp(jnp.where(far, -1.0, log_p)))
    tail = jnp.where(far & ~empty, log_p, -30.0)
    # Phi(z) is nearly phi(z) / |z|
    z = -jnp.sqrt(-2 * tail - jnp.log(2 * jnp.pi) - jnp.log(-2 * tail))
    for _ in range(NEWTON):
        log_phi = -0.5 * z * z - 0.5 * jnp.log(2 * jnp.pi)
        value = log_ndtr(z)
        z = z - (value - tail) * jnp.exp(value - log_phi)
    z = jnp.where(empty, -jnp.inf, jnp.where(far, z, near))
    return jnp.where(log_lower <= log_upper, z, -z)


def normal_tails(y: jax.Array, mean: jax.Array, deviation: jax.Array) -> Tails:
    """Of N(mean, deviation^2)."""
    z = (y - mean) / deviation
    return Tails(log_ndtr(z), jnp.full_like(z, -jnp.inf), log_ndtr(-z))


def student_tails(y: jax.Array, location: jax.Array, scale: jax.Array, dof: jax.Array) -> Tails:
    """Of a t distribution: the incomplete beta function; its leading terms in far tails; and with many degrees of freedom the
    normal distribution at the quantile of Hill (1970, Comm. ACM 13:617), whose logarithm is right to 1e-7."""
    t = (y - location) / scale
    size, dof = jnp.abs(t), jnp.broadcast_to(dof, t.shape)
    many = dof > MANY
    nu = jnp.where(many, MANY, dof)
    ratio = size / jnp.sqrt(nu)  # squared below: a cell may be as far as the root of the largest number
    far, near = 1 / (1 + ratio * ratio), (ratio / jnp.hypot(1.0, ratio)) ** 2
    inner, half = size < 1, jnp.full_like(nu, 0.5)
    mass = betainc(jnp.where(inner, half, 0.5 * nu), jnp.where(inner, 0.5 * nu, half), jnp.where(inner, near, far))
    outside = jnp.where(inner, 1 - mass, mass)
    a = 0.5 * nu
    log_far = -2 * jnp.log(jnp.hypot(1.0, ratio))
    leading = a * log_far - jnp.log(a) - (gammaln(a) + gammaln(half) - gammaln(a + 0.5)) + jnp.log1p(0.5 * a / (a + 1) * far)
    few = _log_or(outside, leading) - jnp.log(2.0)
    large = jnp.where(many, dof, MANY)
    a, square = large - 0.5, (large - 0.5) * jnp.log1p(size * size / large)
    b = 48 * a * a
    more = (4 * square**3 + 33 * square**2 + 240 * square + 855) / (10 * b * (b + 0.8 * square**2 + 100))
    outer = jnp.where(many, log_ndtr(-jnp.sqrt(square) * (1 + (square + 3) / b - more)), few)
    rest = jnp.log1p(-jnp.exp(outer))
    return Tails(jnp.where(t < 0, outer, rest), jnp.full_like(t, -jnp.inf), jnp.where(t < 0, rest, outer))


def two_valued_tails(y: jax.Array, one: jax.Array, zero: jax.Array) -> Tails:
    """Of a cell that is 1 or 0, by the logarithms of the probabilities of both."""
    never = -jnp.inf
    above = jnp.select([y < 0, y < 1], [0.0, one], never)
    at = jnp.select([y == 0, y == 1], [zero, one], never)
    below = jnp.select([y <= 0, y <= 1], [never, zero], 0.0)
    return Tails(below, at, above)


def category_tails(y: jax.Array, probabilities: jax.Array) -> Tails:
    """Of codes y (n, d) 0..C-1 in their order, by probabilities (K, d, C)."""
    chosen = (y[..., None] == jnp.arange(probabilities.shape[-1])).astype(probabilities.dtype)
    after = jnp.cumsum(probabilities[..., ::-1], axis=-1)[..., ::-1] - probabilities
    parts = jnp.cumsum(probabilities, axis=-1) - probabilities, probabilities, after
    return Tails(*(safe_log(jnp.einsum("njc,kjc->nkj", chosen, part, precision="highest")) for part in parts))


def negative_binomial_tails(y: jax.Array, mean: jax.Array, dispersion: jax.Array) -> Tails:
    """Of counts with variance mean + dispersion mean^2, y a whole number.

    The tail on the side of y is its first probability times the continued fraction of the incomplete beta function, written in
    the dispersion, so that it keeps its digits down to dispersion 0, Poisson's; for the lower tail contracted to its even part,
    all of whose terms are positive.
    """
    shape = jnp.broadcast_shapes(y.shape, mean.shape)
    y, mean, alpha = (jnp.broadcast_to(leaf, shape) for leaf in (y, mean, dispersion))
    some, outside = mean > 0, y < 0
    m = jnp.where(some, mean, 1)
    count = jnp.maximum(y, 0)
    high = count >= m

    def mass(n: jax.Array) -> jax.Array:
        log1p_over = m * (1 - alpha * m * log1p_remainder(alpha * m))  # log(1 + alpha m) / alpha
        return log_rising(n, alpha) - log_factorial(n) + n * (jnp.log(m) - jnp.log1p(alpha * m)) - log1p_over

    last = jnp.where(high, count, jnp.maximum(count - 1, 0))
    first = jnp.where(high, mass(last + 1), mass(last) + jnp.log(m * (1 + alpha * last) / (1 + alpha * m)))
    tail = first - jnp.log(_beta_fraction(last, m, alpha, high))
    at = mass(count)
    rest = safe_log(1 - jnp.exp(tail) - jnp.exp(at))
    tail = jnp.where(high | (count > 0), tail, -jnp.inf)  # nothing is below 0
    rest = jnp.where(high | (count > 0), rest, safe_log(-jnp.expm1(at)))
    below, above = jnp.where(high, rest, tail), jnp.where(high, tail, rest)
    never = jnp.full_like(at, -jnp.inf)
    alone = Tails(jnp.where(count > 0, 0.0, never), jnp.where(count == 0, 0.0, never), never)  # all counts are 0
    found = Tails(*(jnp.where(some, a, b) for a, b in zip((below, at, above), alone, strict=True)))
    gone = Tails(never, never, jnp.zeros_like(at))
    return Tails(*(jnp.where(outside, a, b) for a, b in zip(gone, found, strict=True)))


def _beta_fraction(y: jax.Array, m: jax.Array, alpha: jax.Array, upper: jax.Array) -> jax.Array:
    """b_0 + a_1 / (b_1 + a_2 / (b_2 + ...)) by the method of Lentz (1976)."""
    x, size = 1 / (1 + alpha * m), m / (1 + alpha * m)

    def above(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Terms i >= 1 of the fraction of P(Y > y)."""
        j = jnp.floor(i / 2)
        odd = -(y + 1 + j) * (1 + alpha * (y + 1 + j)) / ((y + 1 + 2 * j) * (y + 2 + 2 * j))
        even = j * (1 - alpha * j) / ((y + 2 * j) * (y + 1 + 2 * j))
        return size * jnp.where(i % 2 == 1, odd, even), jnp.ones_like(y)

    def below(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Terms i >= 0 of the even part of that of P(Y <= y)."""
        odd = (1 + alpha * (i - 1)) * (1 + alpha * (y + i)) / ((1 + 2 * alpha * (i - 1)) * (1 + alpha * (2 * i - 1)))
        even = i * (y + 1 - i) / ((1 + alpha * (2 * i - 1)) * (1 + 2 * alpha * i))
        near = 2 * i + m - y + alpha * (i * (3 * i + 1) + (4 * i + 1) * m - i * y) + alpha * alpha * 2 * i * (2 * i + 1) * m
        own = x * near / ((1 + 2 * alpha * i) * (1 + alpha * (2 * i + 1)))
        return x * x * jnp.where(i > 0, odd * even, 0), own + alpha * x * jnp.where(i > 0, even, 0)

    eps, tiny = jnp.finfo(y.dtype).eps, jnp.finfo(y.dtype).tiny ** 0.5

    def sound(value: jax.Array) -> jax.Array:
        return jnp.where(jnp.abs(value) < tiny, tiny, value)

    def step(state: Any) -> Any:
        i, value, c, d, done = state
        a, b = (jnp.where(upper, one, other) for one, other in zip(above(i), below(i), strict=True))
        over = ~upper & (i > y + 0.5)  # the lower one has ended
        d = 1 / sound(b + a * d)
        c = sound(b + a / c)
        change = jnp.where(over, 1, c * d)
        return i + 1, jnp.where(done, value, value * change), c, d, done | (jnp.abs(change - 1) < eps)

    start = sound(jnp.where(upper, 1, below(jnp.zeros_like(y))[1]))
    state = (jnp.ones((), y.dtype), start, start, jnp.zeros_like(y), jnp.zeros(y.shape, bool))
    return jax.lax.while_loop(lambda state: (state[0] < TERMS) & ~state[4].all(), step, state)[1]


def poisson_tails(y: jax.Array, rate: jax.Array) -> Tails:
    """Of counts, y a whole number; in far tails the first term of the sum and the rate at which the others fall."""
    rate = jnp.broadcast_to(rate, jnp.broadcast_shapes(y.shape, rate.shape))
    count, sure = jnp.maximum(y, 0), rate > 0
    safe = jnp.where(sure, rate, 1)

    def mass(n: jax.Array) -> jax.Array:
        return n * jnp.log(safe) - safe - gammaln(n + 1)

    above = _log_or(gammainc(count + 1, safe), mass(count + 1) - jnp.log1p(-jnp.minimum(safe / (count + 2), 0.9)))
    earlier = jnp.maximum(count - 1, 0)
    below = _log_or(gammaincc(jnp.maximum(count, 1), safe), mass(earlier) - jnp.log1p(-jnp.minimum(earlier / safe, 0.9)))
    below = jnp.where(count > 0, below, -jnp.inf)
    at, outside = mass(count), y < 0
    if_none = Tails(jnp.where(count > 0, 0.0, -jnp.inf), jnp.where(count == 0, 0.0, -jnp.inf), jnp.full_like(at, -jnp.inf))
    found = Tails(*(jnp.where(sure, a, b) for a, b in zip((below, at, above), if_none, strict=True)))
    return Tails(
        jnp.where(outside, -jnp.inf, found.below), jnp.where(outside, -jnp.inf, found.at), jnp.where(outside, 0.0, found.above)
    )


def gamma_tails(y: jax.Array, shape: jax.Array, rate: jax.Array) -> Tails:
    """Of a gamma distribution; in far tails the leading term."""
    x = rate * jnp.maximum(y, 0)
    shape = jnp.broadcast_to(shape, x.shape)
    log_x = jnp.log(jnp.where(x > 0, x, 1))
    below = _log_or(gammainc(shape, x), shape * log_x - x - gammaln(shape + 1))
    above = _log_or(gammaincc(shape, x), (shape - 1) * log_x - x - gammaln(shape))
    inside = x > 0
    return Tails(jnp.where(inside, below, -jnp.inf), jnp.full_like(x, -jnp.inf), jnp.where(inside, above, 0.0))


def exponential_tails(y: jax.Array, rate: jax.Array) -> Tails:
    """Of an exponential distribution."""
    x = rate * jnp.maximum(y, 0)
    below = jnp.where(x > 0, jnp.log(-jnp.expm1(-jnp.where(x > 0, x, 1))), -jnp.inf)
    return Tails(below, jnp.full_like(x, -jnp.inf), -x)


def safe_log(p: jax.Array) -> jax.Array:
    """Logarithm, minus infinity at 0."""
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), -jnp.inf)


def _log_or(p: jax.Array, far: jax.Array) -> jax.Array:
    """log p; `far` where p has (nearly) underflown."""
    least = jnp.finfo(p.dtype).tiny / jnp.finfo(p.dtype).eps
    return jnp.where(p > least, jnp.log(jnp.where(p > least, p, 1)), far)
