"""Newton's method on the observed likelihood, within a trust region set by Levenberg's damping.

(I + damping D) step = gradient, with I the observed information by automatic differentiation of the E-step and D the sizes of its
diagonal; damping falls after a good step and grows after a bad one (Levenberg 1944; Marquardt 1963).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.cycle import select
from jaxem.ascent import Point, look
from jaxem.information import oakes
from jaxem.newton import damped_step
from jaxem.rounding import rounding

EASIER, HARDER = 0.1, 10.0
TRIALS = 25
START, LEAST = 0.01, 1e-8  # damping below which it is 0
FARTHEST = 5.0  # no coordinate moves by more in a step


class NewtonState(NamedTuple):
    """State of `newton`."""

    params: Any
    here: Point
    damping: jax.Array


@lru_cache
def newton() -> Algorithm:
    """Newton's method with damping, after one step of EM: monotone, quadratic near the maximum.

    One pass a trial, and P a step for P free coordinates.

    The estimate of what is left to gain is half the Newton decrement, g' I^-1 g / 2, with I of the point before.
    """
    return Algorithm(_init, _step, opening=_opening)


def _opening(model: Any, params: Any) -> int:
    del model, params
    return 2


def _init(model: Any, params: Any, data: Any, key: jax.Array) -> NewtonState:
    del key
    local = model.localize(params, data)
    start = local.m_step(params, local.e_step(params, data).statistics)
    here = look(model, model.to_unconstrained(start), params, data)
    return NewtonState(here.params, here, jnp.full((), START, data.dtype))


def _step(model: Any, state: NewtonState, data: Any) -> tuple[NewtonState, Info]:
    here, like = state.here, state.params
    information = oakes(model, here.u, like, data)
    diagonal = jnp.abs(jnp.diagonal(information))
    scale = jnp.where(diagonal > 0, jnp.maximum(diagonal, 1e-6 * diagonal.max()), 1)
    slack = rounding(model, like, here.objective, data) / 4

    def trial(carry: Any) -> Any:
        _, damping, _, tried = carry
        step = damped_step(here.gradient, information + damping * jnp.diag(scale))
        longest = jnp.abs(step).max()
        step = step * jnp.minimum(1, FARTHEST / jnp.where(longest > 0, longest, 1))
        there = look(model, here.u + step, like, data)
        good = (there.objective >= here.objective - slack) & jnp.isfinite(there.gradient).all()
        good = good & ~model.degenerate(there.params, data).any()
        damping = jnp.where(good, damping * EASIER, jnp.maximum(damping, 1e-4) * HARDER)
        return there, jnp.where(damping < LEAST, 0, damping), good, tried + 1

    def again(carry: Any) -> jax.Array:
        return ~carry[2] & (carry[3] < TRIALS)

    begin = (here, state.damping, jnp.zeros((), bool), jnp.zeros((), jnp.int32))
    there, damping, good, tried = jax.lax.while_loop(again, trial, begin)
    there = select(good, there, here)
    left = 0.5 * there.gradient @ damped_step(there.gradient, information)
    info = Info(here.log_likelihood, here.objective, tried + here.u.size, jnp.where(good, left, jnp.inf))
    return NewtonState(there.params, there, damping), info
