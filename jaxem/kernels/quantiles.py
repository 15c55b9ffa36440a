"""Cumulative distributions on the logarithmic scale, both tails, and normal quantiles of them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammainc, gammaincc, gammaln, log_ndtr, logsumexp, ndtri

NEWTON = 4  # steps; from the start taken below each doubles the digits


class Tails(NamedTuple):
    """Where cells y (n, d) stand in a distribution, for each of K states: logarithms, (n, K, d)."""

    below: jax.Array  # log P(Y < y)
    at: jax.Array  # log P(Y = y), -inf where Y is continuous
    above: jax.Array  # log P(Y > y)


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


def two_valued_tails(y: jax.Array, probability: jax.Array) -> Tails:
    """Of a cell that is 1 with the probability given, else 0."""
    one, zero = _log(probability), _log(1 - probability)
    never = -jnp.inf
    above = jnp.select([y < 0, y < 1], [0.0, one], never)
    at = jnp.select([y == 0, y == 1], [zero, one], never)
    below = jnp.select([y <= 0, y <= 1], [never, zero], 0.0)
    return Tails(below, at, above)


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


def _log(p: jax.Array) -> jax.Array:
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), -jnp.inf)


def _log_or(p: jax.Array, far: jax.Array) -> jax.Array:
    """log p; `far` where p has (nearly) underflown."""
    least = jnp.finfo(p.dtype).tiny / jnp.finfo(p.dtype).eps
    return jnp.where(p > least, jnp.log(jnp.where(p > least, p, 1)), far)
