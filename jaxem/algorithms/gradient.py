"""Gradient ascent of the observed likelihood by any optimiser of optax: what EM is compared with."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.ascent import look


class GradientState(NamedTuple):
    """State of `gradient`."""

    params: Any
    u: jax.Array  # (P,)
    optimizer: Any  # the optimiser's


@lru_cache
def gradient(optimizer: optax.GradientTransformation) -> Algorithm:
    """Full-batch ascent of log-likelihood + log prior per unit of weight, in unconstrained coordinates: one pass a step.

    Not monotone. The objective is divided by the sum of weights, so that a learning rate means the same for any n.

    Args:
        optimizer: for instance `optax.adam(0.05)`.

    Raises:
        TypeError: not an optimiser of optax.
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(f"optimizer: found {type(optimizer).__name__}; give one of optax, for instance optax.adam(0.05).")
    return Algorithm(partial(_init, optimizer), partial(_step, optimizer), monotone=False)


def _init(optimizer: Any, model: Any, params: Any, data: Any, key: jax.Array) -> GradientState:
    del key, data
    u = model.to_unconstrained(params)
    return GradientState(params, u, optimizer.init(jnp.where(jnp.isfinite(u), u, 0)))


def _step(optimizer: Any, model: Any, state: GradientState, data: Any) -> tuple[GradientState, Info]:
    here = look(model, state.u, state.params, data)
    sound = jnp.isfinite(state.u)
    loss = -here.gradient / data.weights.sum()
    updates, memory = optimizer.update(loss, state.optimizer, jnp.where(sound, state.u, 0))
    u = jnp.where(sound, state.u + updates, state.u)
    return GradientState(model.from_unconstrained(u, like=state.params), u, memory), Info(here.log_likelihood, here.objective, 1)
