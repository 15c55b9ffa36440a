"""Parabolic EM: a search along the parabola through three iterates (Berlinet and Roland 2009, Computational Statistics 24:339).

p(s) = (1 - s)^2 u0 + 2 s (1 - s) u1 + s^2 u2 passes u2 at s = 1; s = 1 + h a^i with a = 1.5 and h = 0.1 is tried for i, i + 1, ...
while the objective rises. The best point begins the next cycle, with a step of the map to settle it. Published searches begin at
i = 0; here each begins where the last one ended, which on the deaths of Hasselblad (1969) more than halves the passes.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.chart import from_chart, to_chart
from jaxem.algorithms.cycle import FORGET, check_monotone, differences, finite_params, opening_of_image, rate_of, select
from jaxem.algorithms.em import em
from jaxem.rounding import rounding

FIRST, GROWTH = 0.1, 1.5  # h and a
BACK = 1  # after a search whose first point did not rise, the next begins so much lower, else where this one ended
TRIALS = 40  # of a search at most


class ParabolicState(NamedTuple):
    """State of `parabolic`: a point, and the map's state one step from it."""

    params: Any
    image: Any  # the map's state after a step from params
    objective: jax.Array  # () at params
    log_likelihood: jax.Array  # ()
    rate: jax.Array  # () slowest rate of convergence seen of late
    place: jax.Array  # () int32, i at which the next search begins


class _Search(NamedTuple):
    held: tuple[Any, Any, jax.Array, jax.Array]  # params, the map's state after, objective, log-likelihood: the last that rose
    near: Any  # params at u2
    u1: jax.Array
    u2: jax.Array
    good: jax.Array  # () bool: whether the last trial rose
    passes: jax.Array
    phase: jax.Array
    place: jax.Array


def parabolic(algorithm: Algorithm | None = None) -> Algorithm:
    """Parabolic acceleration: monotone; two passes a cycle and one for each point tried on the parabola.

    Args:
        algorithm: the monotone algorithm to accelerate, default `em()`.
    """
    return _make(em() if algorithm is None else algorithm)


@lru_cache
def _make(algorithm: Algorithm) -> Algorithm:
    check_monotone(algorithm)
    return Algorithm(partial(_init, algorithm), partial(_step, algorithm), opening=partial(opening_of_image, algorithm))


def _init(inner: Algorithm, model: Any, params: Any, data: Any, key: jax.Array) -> ParabolicState:
    image, info = inner.step(model, inner.init(model, params, data, key), data)
    known = info.objective.astype(data.dtype), info.log_likelihood.astype(data.dtype)
    return ParabolicState(params, image, *known, jnp.zeros((), data.dtype), jnp.zeros((), jnp.int32))


def _step(inner: Algorithm, model: Any, state: ParabolicState, data: Any) -> tuple[ParabolicState, Info]:
    like, dtype = state.params, data.dtype
    u0 = to_chart(model, state.image.params)
    slack = rounding(model, like, state.objective, data) / 4

    def visit(now: _Search) -> _Search:
        """Phases 0, 1 and 2 take the map at u0, u1 and u2, the others at points of the parabola."""
        r, after = differences(u0, now.u1, now.u2)
        beyond = FIRST * GROWTH ** (now.place + now.phase - 3).astype(dtype)  # s - 1
        x = now.u2 + 2 * beyond * after + beyond**2 * (after - r)
        settled = now.phase < 3

        def tried() -> Any:
            return inner.init(model, from_chart(model, x, now.near), data, jax.random.key(0))

        if inner.opening(model, like) == 0:
            begin, opened = select(settled, now.held[1], tried()), jnp.zeros((), jnp.int32)
        else:
            begin = jax.lax.cond(settled, lambda: now.held[1], tried)
            opened = jnp.where(settled, 0, inner.opening(model, like)).astype(jnp.int32)
        image, info = inner.step(model, begin, data)
        objective = info.objective.astype(dtype)
        sound = jnp.isfinite(objective) & finite_params(image.params) & ~model.degenerate(begin.params, data).any()
        rose = settled | (sound & (objective > now.held[2]))
        point = (begin.params, image, objective, info.log_likelihood.astype(dtype))
        u = to_chart(model, image.params)
        return _Search(
            select(rose, point, now.held),
            select(now.phase < 2, image.params, now.near),
            jnp.where(now.phase == 0, u, now.u1),
            jnp.where(now.phase < 2, u, now.u2),
            rose,
            now.passes + opened + jnp.asarray(info.passes, jnp.int32),
            now.phase + 1,
            now.place,
        )

    zero = jnp.zeros((), jnp.int32)
    held = (like, state.image, state.objective, state.log_likelihood)
    begin = _Search(held, like, u0, u0, jnp.ones((), bool), zero, zero, state.place)
    end = jax.lax.while_loop(lambda now: now.good & (now.phase < 3 + TRIALS), visit, begin)

    slowest = jnp.maximum(rate_of(jnp.stack([u0, end.u1, end.u2])), FORGET * state.rate)
    gain = end.held[2] - state.objective
    gap = jnp.where(gain >= -slack, jnp.maximum(gain, 0) * slowest**4 / (1 - slowest**2), jnp.inf)
    risen = end.phase - 4
    place = jnp.maximum(state.place + jnp.where(risen > 0, risen, -BACK), 0)
    return ParabolicState(*end.held, slowest, place), Info(state.log_likelihood, state.objective, end.passes, gap)
