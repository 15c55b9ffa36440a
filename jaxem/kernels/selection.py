"""The two equations of a sample selection model: moments of the latent selection variable, and the M-step of complete data.

Selection u = gamma . z + e1 with e1 ~ N(0, 1); response y = beta . x + delta e1 + omega e2. With t = delta / omega the correlation
of the errors is t / sqrt(1 + t^2). Grams are of (x, z, e, w): covariates, and residuals e of y and w of u about a point.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, logsumexp

from jaxem.kernels.linalg import apply, matmul, transpose
from jaxem.kernels.quantiles import Tails, normal_quantile
from jaxem.kernels.tails import hazard, log_normal_above
from jaxem.newton import damped_step

STEPS = 60  # of t; near its maximum three or four do
# tanh-sinh rule on (0, 1), for integrands whose derivatives grow at the ends (Takahasi and Mori 1974)
_STEPS = np.linspace(-3.1, 3.1, 63)
_NODES = 1 / (1 + np.exp(-np.pi * np.sinh(_STEPS)))
_SHARES = 0.1 * np.pi * np.cosh(_STEPS) * _NODES * (1 - _NODES)


class Complete(NamedTuple):
    """Maximiser of the complete-data likelihood, as moves from the point about which residuals were taken."""

    beta: jax.Array  # (K, q)
    gamma: jax.Array  # (K, g)
    omega: jax.Array  # (K,)
    t: jax.Array  # (K,)


def truncated(mean: jax.Array, scale: jax.Array, sign: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean less `mean`, and variance, of N(mean, scale^2) given that it is above 0 (sign 1) or below (-1); as is where 0."""
    a = sign * mean / scale
    h = hazard(-a)
    # far out 1 - h (h + a) has no digits left; the first term that is left out of the series there is 518 / a^8
    edge = -((518 / jnp.finfo(a.dtype).eps) ** 0.1)
    far = jnp.where(a < edge, a, edge)
    series = (1 - (6 - 50 / (far * far)) / (far * far)) / (far * far)
    share = jnp.where(a < edge, series, 1 - h * (h + a))
    return sign * scale * h, scale * scale * jnp.where(sign == 0, 1, share)


def maximize(seen: jax.Array, unseen: jax.Array, count: jax.Array, q: int, t: jax.Array) -> Complete:
    """The maximiser for Grams `seen` (K, q + g + 2, .) of rows with a response and `unseen` (K, g + 1, .) of (z, w) of the others.

    For a given t all else is known in closed form: coefficients by least squares given 1 / omega, which is then the root of a
    quadratic; t given all else is a regression slope. Where both agree is found by secants, a step back where the objective falls.

    Args:
        count: (K,) sum of responsibilities of the rows with a response.
        q: covariates of the response.
        t: (K,) where to begin.
    """
    rows = count > 0

    def look(t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The objective at t and all else given it, and the slope that follows."""
        found = _given(seen, unseen, count, q, t)
        y, u = _residuals(found)
        below = _form(seen, u, u)
        slope = jnp.where(rows & (below > 0), _form(seen, y, u) / jnp.where(below > 0, below, 1), 0)
        return _objective(seen, unseen, count, found), slope

    def go(state: _Turn) -> jax.Array:
        return (state.number < STEPS) & ~state.done.all()

    def turn(state: _Turn) -> _Turn:
        value, slope = look(state.t)
        worse = ~(value >= state.value - 8 * jnp.finfo(value.dtype).eps * jnp.abs(value))
        error = slope - state.t
        bend = error - state.error
        secant = state.t - error * (state.t - state.best) / jnp.where(bend == 0, 1, bend)
        leap = jnp.where((bend == 0) | ~jnp.isfinite(secant) | jnp.isneginf(state.value), slope, secant)
        done = state.done | (~worse & (jnp.abs(error) <= 4 * jnp.finfo(error.dtype).eps * (1 + jnp.abs(state.t))))
        new = _Turn(leap, state.t, value, slope, error, done, state.number + 1)
        # a leap too far: the slope at the best t so far cannot be worse than that t
        back = state._replace(t=state.slope, number=state.number + 1)
        kept = jax.tree.map(lambda bad, good: jnp.where(worse, bad, good) if bad.ndim else good, back, new)
        still = jax.tree.map(lambda old, own: jnp.where(state.done, old, own) if old.ndim else own, state, kept)
        return still._replace(done=done | state.done)

    start = jnp.where(rows, t, 0)
    never = jnp.full_like(start, -jnp.inf)
    first = _Turn(start, start, never, start, jnp.zeros_like(start), jnp.zeros(t.shape, bool), jnp.zeros((), jnp.int32))
    return _given(seen, unseen, count, q, jax.lax.while_loop(go, turn, first).best)


class _Turn(NamedTuple):
    """State of the search for t; (K,) but for the number of steps."""

    t: jax.Array  # to be tried
    best: jax.Array  # so far
    value: jax.Array  # objective there
    slope: jax.Array  # that all else there implies
    error: jax.Array  # slope less t there
    done: jax.Array
    number: jax.Array  # ()


def _given(seen: jax.Array, unseen: jax.Array, count: jax.Array, q: int, t: jax.Array) -> Complete:
    g = unseen.shape[-1] - 1
    gram = seen[:, : q + g, : q + g]
    by_e, by_w = seen[:, : q + g, -2], seen[:, : q + g, -1]
    # residuals of (y / omega - t u) and of u; scaled coefficients of x stand beside those of z
    sign = jnp.concatenate([jnp.ones((len(t), q), t.dtype), jnp.broadcast_to(-t[:, None], (len(t), g))], axis=1)
    matrix = gram * sign[:, :, None] * sign[:, None, :]
    own = seen[:, q:-2, q:-2] + unseen[:, :-1, :-1]
    matrix = matrix.at[:, q:, q:].add(own)
    for_e = sign * by_e
    for_w = (-t[:, None] * sign * by_w).at[:, q:].add(seen[:, q:-2, -1] + unseen[:, :-1, -1])
    both = damped_step(jnp.stack([for_e, for_w]), jnp.broadcast_to(matrix, (2, *matrix.shape)))
    a = seen[:, -2, -2] - (both[0] * for_e).sum(-1)
    b = -t * seen[:, -2, -1] - (both[1] * for_e).sum(-1)
    a = jnp.maximum(a, 8 * jnp.finfo(t.dtype).eps * seen[:, -2, -2])
    rows = (count > 0) & (a > 0)
    root = jnp.sqrt(b * b + 4 * jnp.where(rows, a * count, 1))
    # (-b + root) / 2a without cancellation where b > 0
    inverse = jnp.where(b > 0, 2 * count / jnp.where(b + root > 0, b + root, 1), (root - b) / (2 * jnp.where(rows, a, 1)))
    inverse = jnp.where(rows & (inverse > 0), inverse, 1)
    found = inverse[:, None] * both[0] + both[1]
    return Complete(found[:, :q] / inverse[:, None], found[:, q:], 1 / inverse, t)


def _residuals(found: Complete) -> tuple[jax.Array, jax.Array]:
    """Residuals of y / omega and of u as combinations of (x, z, e, w)."""
    inverse, zero, one = 1 / found.omega[:, None], jnp.zeros_like(found.omega)[:, None], jnp.ones_like(found.omega)[:, None]
    y = jnp.concatenate([-found.beta * inverse, jnp.zeros_like(found.gamma), inverse, zero], axis=1)
    u = jnp.concatenate([jnp.zeros_like(found.beta), -found.gamma, zero, one], axis=1)
    return y, u


def _form(gram: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return (a * apply(gram, b)).sum(-1)


def _objective(seen: jax.Array, unseen: jax.Array, count: jax.Array, found: Complete) -> jax.Array:
    """(K,) expected complete-data log-likelihood but for constants."""
    y, u = _residuals(found)
    own = y - found.t[:, None] * u
    rest = jnp.concatenate([-found.gamma, jnp.ones_like(found.omega)[:, None]], axis=1)
    return -0.5 * (_form(seen, own, own) + _form(seen, u, u) + _form(unseen, rest, rest)) - count * jnp.log(found.omega)


def objective(seen: jax.Array, unseen: jax.Array, count: jax.Array, omega: jax.Array, t: jax.Array) -> jax.Array:
    """() the same at the point itself, summed over states."""
    k, size, g = seen.shape[0], seen.shape[-1], unseen.shape[-1] - 1
    here = Complete(jnp.zeros((k, size - g - 2), omega.dtype), jnp.zeros((k, g), omega.dtype), omega, t)
    return _objective(seen, unseen, count, here).sum()


def moved(gram: jax.Array, change: jax.Array) -> jax.Array:
    """Grams (K, m, m) of vectors v as those of change v."""
    return matmul(matmul(change, gram), transpose(change))


def selected_tails(error: jax.Array, zeta: jax.Array, rho: jax.Array) -> Tails:
    """Where standardised errors e of responses stand among those that were selected, u = zeta + v > 0, corr(e, v) = rho.

    P(E < e | u > 0) is the mean of Phi((e - rho v) / sqrt(1 - rho^2)) over v > -zeta, on the scale of the probability of v,
    on either side of where the argument is 0, since it jumps there as rho nears 1.
    """
    error, zeta, rho = jnp.broadcast_arrays(error, zeta, rho)
    steep = jnp.where(jnp.abs(rho) > 1e-3, rho, 1e-3)
    chosen = log_normal_above(-zeta)
    split = jnp.clip(-jnp.expm1(log_normal_above(jnp.maximum(error / steep, -zeta)) - chosen), 0, 1)
    nodes, shares = (jnp.asarray(part, error.dtype).reshape(-1, *(1,) * error.ndim) for part in (_NODES, _SHARES))
    u = jnp.concatenate([split * nodes, split + (1 - split) * nodes])
    mass = jnp.concatenate([split * shares, (1 - split) * shares])
    log_above = jnp.log1p(-jnp.minimum(u, 1 - jnp.finfo(u.dtype).eps)) + chosen
    v = normal_quantile(jnp.log(-jnp.expm1(jnp.minimum(log_above, -jnp.finfo(u.dtype).tiny))), log_above)
    z = (error - rho * v) / jnp.sqrt((1 - rho) * (1 + rho))
    below, above = (logsumexp(log_ndtr(sign * z), axis=0, b=mass) for sign in (1, -1))
    return Tails(below, jnp.full_like(below, -jnp.inf), above)


def about(statistics: Any, beta: jax.Array, gamma: jax.Array) -> Any:
    """The statistics with residuals about a point moved by `beta` (K, q) and `gamma` (K, g)."""
    weight, seen, unseen = statistics
    q, g = beta.shape[-1], gamma.shape[-1]
    k, m = len(weight), q + g + 2
    change = jnp.broadcast_to(jnp.eye(m, dtype=seen.dtype), (k, m, m))
    change = change.at[:, -2, :q].set(-beta).at[:, -1, q:-2].set(-gamma)
    rest = jnp.broadcast_to(jnp.eye(g + 1, dtype=seen.dtype), (k, g + 1, g + 1)).at[:, -1, :-1].set(-gamma)
    both = [moved(seen, change), moved(unseen, rest)]
    return type(statistics)(weight, *(0.5 * (gram + transpose(gram)) for gram in both))
