r"""Autoregressions whose parameters depend on a regime: log-densities, their additive statistics, and what maximises them.

A row is v = (y_t, y_t-1, ..., y_t-p). In regime k its residual is a_k . v - level(s), a_k = (1, -phi_k1, ..., -phi_kp). States s
are K^L regimes of the last L steps, the present one k the most significant digit; level depends on all of them where each lag
is measured from the mean of its own regime (L = p + 1), and on k alone where the regime has an intercept (L = 1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import HIGHEST
from jaxem.newton import damped_step

ROUNDS = 200  # at most; means and coefficients hardly depend on each other, so that ten or so do


class Autoregression(NamedTuple):
    """Params; each has a leading axis of K regimes where it switches, and none where all share it."""

    centre: jax.Array  # (K,) or (): mean or intercept
    coefficients: jax.Array  # (K, p) or (p,)
    variance: jax.Array  # (K,) or ()


class Moments(NamedTuple):
    """Sums over steps of r times the following, v taken from `frame`."""

    weight: jax.Array  # (K^L,) 1
    total: jax.Array  # (K^L, p + 1) v
    cross: jax.Array  # (K, p + 1, p + 1) v v'


def weights_of(coefficients: jax.Array, k: int) -> jax.Array:
    """(K, p + 1) a_k."""
    each = jnp.broadcast_to(coefficients, (k, coefficients.shape[-1]))
    return jnp.concatenate([jnp.ones_like(each[:, :1]), -each], axis=1)


def levels(params: Autoregression, k: int, lags: bool, frame: Any = 0.0) -> jax.Array:
    """(K^L,) what a . v is expected to be, v taken from `frame`."""
    weights = weights_of(params.coefficients, k)
    p = weights.shape[1] - 1
    centre = jnp.broadcast_to(params.centre, (k,))
    if not lags:
        return centre - frame * weights.sum(axis=1)
    total = jnp.zeros((k,) * (p + 1), weights.dtype)
    for i in range(p + 1):
        own = (centre - frame).reshape([k if axis == i else 1 for axis in range(p + 1)])
        total = total + own * weights[:, i].reshape(k, *([1] * p))
    return total.reshape(-1)


def standardized(params: Autoregression, v: jax.Array, k: int, lags: bool, frame: Any) -> jax.Array:
    """Residuals over their standard deviations: (T, p + 1, B) rows taken from `frame` -> (T, K^L, B)."""
    residual, variance = _residuals(params, v, k, lags, frame)
    return (residual / jnp.sqrt(variance)).reshape(v.shape[0], -1, v.shape[2])


def log_densities(params: Autoregression, v: jax.Array, k: int, lags: bool, frame: Any) -> jax.Array:
    """(T, p + 1, B) rows taken from `frame` -> (T, K^L, B)."""
    residual, variance = _residuals(params, v, k, lags, frame)
    out = -0.5 * (residual * residual / variance + jnp.log(2 * jnp.pi * variance))
    return out.reshape(v.shape[0], -1, v.shape[2])


def _residuals(params: Autoregression, v: jax.Array, k: int, lags: bool, frame: Any) -> tuple[jax.Array, jax.Array]:
    """(T, K, K^(L-1), B), and variances (K, 1, 1)."""
    level = levels(params, k, lags, frame)
    reached = jnp.einsum("kp,tpb->tkb", weights_of(params.coefficients, k), v, precision=HIGHEST)
    residual = reached[:, :, None] - level.reshape(k, -1)[..., None]
    return residual, jnp.broadcast_to(params.variance, (k,))[:, None, None]


def moments(v: jax.Array, r: jax.Array, k: int) -> Moments:
    """From rows (T, p + 1, B) and posterior probabilities times weights r (T, K^L, B)."""
    own = r.reshape(r.shape[0], k, -1, r.shape[2]).sum(axis=2)
    total = jnp.einsum("tsb,tpb->sp", r, v, precision=HIGHEST)
    return Moments(r.sum(axis=(0, 2)), total, jnp.einsum("tkb,tpb,tqb->kpq", own, v, v, precision=HIGHEST))


def squares(params: Autoregression, statistics: Moments, k: int, lags: bool, frame: Any) -> jax.Array:
    """(K,) expected sum of squared residuals."""
    weights, level = weights_of(params.coefficients, k), levels(params, k, lags, frame).reshape(k, -1)
    weight, total = statistics.weight.reshape(k, -1), statistics.total.reshape(k, level.shape[1], -1)
    reached = jnp.einsum("kp,ksp->ks", weights, total, precision=HIGHEST)
    own = jnp.einsum("kp,kq,kpq->k", weights, weights, statistics.cross, precision=HIGHEST)
    return own + (level * (weight * level - 2 * reached)).sum(axis=1)


def expected_log_prob(params: Autoregression, statistics: Moments, k: int, lags: bool, frame: Any) -> jax.Array:
    """Q of the rows."""
    variance = jnp.broadcast_to(params.variance, (k,))
    weight = statistics.weight.reshape(k, -1).sum(axis=1)
    found = squares(params, statistics, k, lags, frame)
    return -0.5 * (weight * jnp.log(2 * jnp.pi * variance) + found / variance).sum()


class _Round(NamedTuple):
    """State of the rounds of conditional maximisation."""

    params: Autoregression
    change: jax.Array  # () the largest of the last round, in units in which all params are of order 1
    before: jax.Array  # () and of the one before it
    rounds: jax.Array  # () int32


def maximize(params: Autoregression, statistics: Moments, k: int, lags: bool, frame: Any) -> Autoregression:
    """The params that maximise Q, from those at which the statistics were taken.

    Conditional maximisation (ECM, Meng and Rubin 1993, Biometrika 80:267), repeated on the statistics until rounding is left:
    given the variances Q is quadratic in an intercept and its coefficients together, and in means and coefficients in turn, so
    that each is one weighted least squares; given these, variances are mean squares. No round lowers Q.
    """
    # an intercept is looked for in the frame's coordinates, where covariates have no mean; one that regimes with different
    # coefficients share has no counterpart there
    shifted = lags or params.centre.ndim == 1 or params.coefficients.ndim == 1
    left = 0.0 if shifted else frame

    def moved(given: Autoregression, sign: float) -> Autoregression:
        by = frame * (1.0 if lags else 1 - given.coefficients.sum(-1))
        return given._replace(centre=given.centre + sign * by) if shifted else given

    start = moved(params, -1.0)
    if not lags and (params.variance.ndim == 0 or (params.centre.ndim == 1 and params.coefficients.ndim == 2)):
        # the variances do not weigh anything against anything, so that one round is all
        return moved(_round(start, statistics, k, lags, left), 1.0)

    def go(state: _Round) -> jax.Array:
        settled = state.change <= 4 * jnp.finfo(state.change.dtype).eps
        return (state.rounds < ROUNDS) & ~settled & ((state.rounds < 3) | (state.change < state.before))

    def body(state: _Round) -> _Round:
        found = _round(state.params, statistics, k, lags, left)
        scale = jnp.sqrt(state.params.variance.mean())
        shift = Autoregression(
            (found.centre - state.params.centre) / scale,
            found.coefficients - state.params.coefficients,
            jnp.log(found.variance / state.params.variance),
        )
        change = jnp.max(jnp.stack([jnp.abs(leaf).max() for leaf in shift]))
        return _Round(found, change, state.change, state.rounds + 1)

    never = jnp.full((), jnp.inf, params.variance.dtype)
    return moved(jax.lax.while_loop(go, body, _Round(start, never, never, jnp.zeros((), jnp.int32))).params, 1.0)


def _round(now: Autoregression, statistics: Moments, k: int, lags: bool, frame: Any) -> Autoregression:
    """Each block of params at its maximiser given the others."""
    for names in (("centre",), ("coefficients",)) if lags else (("centre", "coefficients"),):
        now = _least_squares(now, names, statistics, k, lags, frame)
    weight = statistics.weight.reshape(k, -1).sum(axis=1)
    found = squares(now, statistics, k, lags, frame)
    # what is left where a sum of squares cancels is rounding; a variance that small has collapsed anyway
    least = jnp.finfo(found.dtype).eps ** 2 * jnp.trace(statistics.cross, axis1=1, axis2=2)
    found = jnp.maximum(found, least)
    if now.variance.ndim == 0:
        weight, found = weight.sum(), found.sum()
    seen = (weight > 0) & (found > 0)  # a regime without rows keeps its own
    return now._replace(variance=jnp.where(seen, found / jnp.where(seen, weight, 1), now.variance))


def _least_squares(
    now: Autoregression, names: tuple[str, ...], statistics: Moments, k: int, lags: bool, frame: Any
) -> Autoregression:
    """The maximiser over the named params, in which Q is quadratic: one step of Newton's method."""
    parts = [getattr(now, name) for name in names]

    def build(vector: jax.Array) -> Autoregression:
        cut, pieces = 0, {}
        for name, part in zip(names, parts, strict=True):
            pieces[name] = vector[cut : cut + part.size].reshape(part.shape)
            cut += part.size
        return now._replace(**pieces)

    def q(vector: jax.Array) -> jax.Array:
        return expected_log_prob(build(vector), statistics, k, lags, frame)

    vector = jnp.concatenate([part.reshape(-1) for part in parts])
    return build(vector + damped_step(jax.grad(q)(vector), -jax.hessian(q)(vector)))
