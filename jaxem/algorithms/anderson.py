"""Anderson acceleration with damping and a guard, after DAAREM (Henderson and Varadhan 2019, J. Comput. Graph. Stat. 28:834).

f = M(u) - u; of the last m differences of u and of f, dX and dF, the next point is u + f - (dX + dF) g, where g minimises
|f - dF g|^2 + lambda |g|^2. lambda is set so that |g|^2 is the share 1 / (1 + 1.2^(25 - s)) of what it would be undamped; s counts
accepted steps, and loses m for a rejected one. Where the objective at the new point is below that at u, the plain step M(u) is
taken and the differences are forgotten; DAAREM forgets them every m steps, which costs twice the passes where m is small.
Coordinates are those of `jaxem.algorithms.chart`.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.chart import from_chart, to_chart
from jaxem.algorithms.cycle import check_monotone, finite_params, opening_of_image, select
from jaxem.algorithms.em import em
from jaxem.checks import check_count
from jaxem.kernels.linalg import HIGHEST, cholesky, invert_lower
from jaxem.rounding import rounding

EASE, HELD_BACK = 1.2, 25.0  # of the damping, as published
BISECTIONS = 40
RIDGE = 8.0  # in units of eps times the trace: below that differences are linearly dependent to rounding
RATES = (0.5, 0.99)  # what one step is believed to leave of the gap, at least and at most


class AndersonState(NamedTuple):
    """State of `anderson`: a point, the map's state one step from it, and what came before."""

    params: Any
    image: Any  # the map's state after a step from params
    objective: jax.Array  # () at params
    log_likelihood: jax.Array  # ()
    points: jax.Array  # (m, P) differences of points
    residuals: jax.Array  # (m, P) differences of M(u) - u
    filled: jax.Array  # () int32
    trust: jax.Array  # () s of the damping
    gain: jax.Array  # () of the objective in the last step, NaN before the first


def anderson(algorithm: Algorithm | None = None, memory: int = 5) -> Algorithm:
    """Anderson acceleration (DAAREM) with a strict guard: monotone, one pass a step and one more where the guard strikes.

    Args:
        algorithm: the monotone algorithm to accelerate, default `em()`.
        memory: m >= 1 differences, at most as many as free coordinates. 5 to 10 are usual.
    """
    return _make(em() if algorithm is None else algorithm, check_count(memory, "memory"))


@lru_cache
def _make(algorithm: Algorithm, memory: int) -> Algorithm:
    check_monotone(algorithm)

    return Algorithm(partial(_init, algorithm, memory), partial(_step, algorithm), opening=partial(opening_of_image, algorithm))


def _init(inner: Algorithm, memory: int, model: Any, params: Any, data: Any, key: jax.Array) -> AndersonState:
    image, info = inner.step(model, inner.init(model, params, data, key), data)
    size = to_chart(model, params).size
    none = jnp.zeros((max(1, min(memory, size)), size), data.dtype)
    zero = jnp.zeros((), data.dtype)
    known = info.objective.astype(data.dtype), info.log_likelihood.astype(data.dtype)
    return AndersonState(params, image, *known, none, none, jnp.zeros((), jnp.int32), zero, jnp.full((), jnp.nan, data.dtype))


def _step(inner: Algorithm, model: Any, state: AndersonState, data: Any) -> tuple[AndersonState, Info]:
    u, plain = to_chart(model, state.params), to_chart(model, state.image.params)
    sound = jnp.isfinite(u) & jnp.isfinite(plain)
    residual = jnp.where(sound, plain - u, 0)
    mixed = _mixed(state, residual)
    leap = jnp.where(sound & jnp.isfinite(mixed), u + residual - mixed, plain)
    begin = inner.init(model, from_chart(model, leap, state.image.params), data, jax.random.key(0))
    slack = rounding(model, state.params, state.objective, data) / 4

    def attempt(tried: jax.Array) -> tuple[Any, Any, jax.Array, jax.Array, jax.Array, jax.Array]:
        """Where the map was taken, its state after, objective, log-likelihood, passes, whether it is good."""
        start = select(tried == 0, begin, state.image)
        image, info = inner.step(model, start, data)
        good = (info.objective >= state.objective - slack) & finite_params(image.params)
        good = good & ~model.degenerate(start.params, data).any()
        known = info.objective.astype(slack.dtype), info.log_likelihood.astype(slack.dtype)
        return start.params, image, *known, jnp.asarray(info.passes, jnp.int32), good

    def again(carry: Any) -> jax.Array:
        *_, good, _, tried = carry
        return (tried == 0) | (~good & (tried < 2))

    def body(carry: Any) -> Any:
        *_, spent, tried = carry
        *found, passes, good = attempt(tried)
        return *found, good, spent + passes, tried + 1

    shapes = jax.eval_shape(attempt, jnp.zeros((), jnp.int32))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    begun = jnp.asarray(inner.opening(model, state.params), jnp.int32)
    carry = (*zeros[:4], zeros[5], begun, jnp.zeros((), jnp.int32))
    params, image, objective, log_likelihood, _, passes, tried = jax.lax.while_loop(again, body, carry)

    kept = tried == 1
    m = len(state.points)
    moved = to_chart(model, params)
    after = to_chart(model, image.params) - moved
    finite = sound & jnp.isfinite(moved) & jnp.isfinite(after)
    place = state.filled % m
    points = state.points.at[place].set(jnp.where(finite, moved - u, 0))
    residuals = state.residuals.at[place].set(jnp.where(finite, after - residual, 0))
    keep = jnp.where(kept, 1, 0).astype(u.dtype)
    trust = jnp.where(kept, state.trust + 1, jnp.maximum(state.trust - m, -2 * HELD_BACK))
    gain = objective - state.objective
    new = AndersonState(
        params, image, objective, log_likelihood, keep * points, keep * residuals,
        jnp.where(kept, state.filled + 1, 0), trust, gain,
    )  # fmt: skip
    return new, Info(state.log_likelihood, state.objective, passes, jnp.where(kept, _gap(state.gain, gain), jnp.inf))


def _mixed(state: AndersonState, residual: jax.Array) -> jax.Array:
    """(dX + dF) g."""
    m = len(state.points)
    own = jnp.arange(m) < jnp.minimum(state.filled, m)
    gram = jnp.matmul(state.residuals, state.residuals.T, precision=HIGHEST)
    trace = jnp.trace(gram)
    scale = jnp.where(trace > 0, trace, 1)
    gram = jnp.where(own[:, None] & own, gram / scale, jnp.eye(m, dtype=gram.dtype))
    target = jnp.where(own, jnp.matmul(state.residuals, residual, precision=HIGHEST) / scale, 0)
    ridge = RIDGE * m * jnp.finfo(gram.dtype).eps

    def solve(damping: jax.Array) -> jax.Array:
        inverse = invert_lower(cholesky(gram + damping * jnp.eye(m, dtype=gram.dtype)))
        return jnp.matmul(inverse.T, jnp.matmul(inverse, target, precision=HIGHEST), precision=HIGHEST)

    share = 1 / (1 + EASE ** (HELD_BACK - state.trust))
    free = jnp.square(solve(jnp.asarray(ridge, gram.dtype))).sum()

    def halve(_: Any, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        less = jnp.square(solve(jnp.exp(middle))).sum() > share * free  # too little damping
        return jnp.where(less, middle, low), jnp.where(less, high, middle)

    ends = jnp.log(jnp.asarray(ridge, gram.dtype)), jnp.log(jnp.asarray(1e3, gram.dtype))
    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, ends)
    g = solve(jnp.exp(0.5 * (low + high)))
    mixed = jnp.matmul(g, state.points + state.residuals, precision=HIGHEST)
    return jnp.where((state.filled > 0) & jnp.isfinite(g).all(), mixed, 0)


def _gap(before: jax.Array, gain: jax.Array) -> jax.Array:
    """Bound on what is left to gain, from the gains of two steps. Steps are uneven, so the larger counts."""
    rate = jnp.clip(gain / jnp.where(before > 0, before, 1), *RATES)
    left = jnp.maximum(gain, before) * rate / (1 - rate)
    return jnp.where((before > 0) & (gain >= 0), left, jnp.inf)
