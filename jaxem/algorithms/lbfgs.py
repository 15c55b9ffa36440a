"""L-BFGS on the observed likelihood (Liu and Nocedal 1989, Math. Program. 45:503), with backtracking.

The direction is optax's; the step is halved until the objective rises by a share of what the gradient promises (Armijo 1966).
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.cycle import select
from jaxem.ascent import Point, look
from jaxem.checks import check_count
from jaxem.rounding import rounding

SHARE = 1e-4  # of the promised rise
TRIALS = 25
FARTHEST = 5.0  # no coordinate moves by more in a step


class LBFGSState(NamedTuple):
    """State of `lbfgs`."""

    params: Any
    here: Point
    memory: Any  # optax's


def lbfgs(memory: int = 10) -> Algorithm:
    """L-BFGS with backtracking: monotone, one pass a trial; steps of which the likelihood is not concave fall back on the gradient.

    Args:
        memory: pairs of differences that are kept.
    """
    return _make(check_count(memory, "memory"))


@lru_cache
def _make(memory: int) -> Algorithm:
    optimizer = optax.scale_by_lbfgs(memory_size=memory)
    return Algorithm(partial(_init, optimizer), partial(_step, optimizer), opening=_opening)


def _opening(model: Any, params: Any) -> int:
    del model, params
    return 1


def _init(optimizer: Any, model: Any, params: Any, data: Any, key: jax.Array) -> LBFGSState:
    del key
    here = look(model, model.to_unconstrained(params), params, data)
    return LBFGSState(params, here, optimizer.init(jnp.where(jnp.isfinite(here.u), here.u, 0)))


def _step(optimizer: Any, model: Any, state: LBFGSState, data: Any) -> tuple[LBFGSState, Info]:
    here, like = state.here, state.params
    sound = jnp.isfinite(here.u)
    updates, memory = optimizer.update(-here.gradient, state.memory, jnp.where(sound, here.u, 0))
    direction = -updates  # optax scales the gradient of the loss; its caller subtracts
    promised = here.gradient @ direction
    size = jnp.linalg.norm(here.gradient)
    plain = here.gradient / jnp.where(size > 0, size, 1)
    uphill = (promised > 0) & jnp.isfinite(direction).all()
    left = jnp.where(uphill, promised / 2, jnp.inf)  # what the quadratic that L-BFGS believes in still gains
    direction = jnp.where(uphill, direction, plain)
    longest = jnp.abs(direction).max()
    direction = direction * jnp.minimum(1, FARTHEST / jnp.where(longest > 0, longest, 1))
    promised = here.gradient @ direction
    slack = rounding(model, like, here.objective, data) / 4

    def trial(carry: Any) -> Any:
        _, _, tried = carry
        length = 0.5 ** tried.astype(data.dtype)
        there = look(model, jnp.where(sound, here.u + length * direction, here.u), like, data)
        good = (there.objective >= here.objective + SHARE * length * promised - slack) & jnp.isfinite(there.gradient).all()
        return there, good & ~model.degenerate(there.params, data).any(), tried + 1

    def again(carry: Any) -> jax.Array:
        return ~carry[1] & (carry[2] < TRIALS)

    begin = (here, jnp.zeros((), bool), jnp.zeros((), jnp.int32))
    there, good, tried = jax.lax.while_loop(again, trial, begin)
    there = select(good, there, here)
    # a curvature that leads nowhere is forgotten: the next step follows the gradient
    memory = select(good, memory, optimizer.init(jnp.where(sound, here.u, 0)))
    gap = jnp.where(good, left, jnp.inf)
    return LBFGSState(there.params, there, memory), Info(here.log_likelihood, here.objective, tried, gap)
