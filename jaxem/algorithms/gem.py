"""Generalized EM whose M-step is a few steps of an optimiser on Q (Dempster, Laird and Rubin 1977, JRSS-B 39:1).

The E-step's statistics stay fixed meanwhile, so that the optimiser costs no pass over the data. Its steps are
taken again, all of them shortened fourfold, as long as that ends higher, or still lower than where they began: Q + log prior never
falls, and the steps shrink as the maximum comes near.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxem.algorithms.algorithm import Algorithm
from jaxem.algorithms.cycle import select
from jaxem.algorithms.em import by_statistics
from jaxem.checks import check_count

SHORTER = 0.25  # of the steps that are taken again
TRIALS = 25  # after which params stay where they are if Q + log prior has not risen


def gem(optimizer: optax.GradientTransformation, steps: int = 10) -> Algorithm:
    """EM with an M-step by `steps` steps of an optimiser of optax: monotone, one pass a step (more where a model's Q is only an
    expansion about the params, and the step is halved).

    The loss is -(Q + log prior) per unit of weight, in unconstrained coordinates; the optimiser starts afresh in every M-step.

    Args:
        optimizer: for instance `optax.adam(0.1)` or `optax.lbfgs()`.
        steps: >= 1.

    Raises:
        TypeError, ValueError: no optimiser of optax, or no whole number of steps.
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(f"optimizer: found {type(optimizer).__name__}; give one of optax, for instance optax.adam(0.1).")
    return _make(optimizer, check_count(steps, "steps"))


@lru_cache
def _make(optimizer: optax.GradientTransformation, steps: int) -> Algorithm:
    return by_statistics(partial(_move, optax.with_extra_args_support(optimizer), steps))


def _move(optimizer: Any, steps: int, model: Any, params: Any, statistics: Any, data: Any) -> Any:
    start = model.to_unconstrained(params)
    sound = jnp.isfinite(start)
    origin = jnp.where(sound, start, 0)
    total = data.weights.sum()

    def place(v: jax.Array) -> Any:
        return model.from_unconstrained(jnp.where(sound, v, start), like=params)

    def loss(v: jax.Array) -> jax.Array:
        moved = place(v)
        return -(model.expected_log_joint(moved, statistics) + model.log_prior(moved)) / total

    def walk(share: jax.Array) -> jax.Array:
        def stride(_: Any, carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
            v, memory = carry
            value, slope = jax.value_and_grad(loss)(v)
            slope = jnp.where(sound & jnp.isfinite(slope), slope, 0)
            updates, memory = optimizer.update(slope, memory, v, value=value, grad=slope, value_fn=loss)
            return (v + jnp.where(sound, share * updates, 0)).astype(v.dtype), memory

        return jax.lax.fori_loop(0, steps, stride, (origin, optimizer.init(origin)))[0]

    def again(carry: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return ~carry[2] & (carry[3] < TRIALS)

    def attempt(carry: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Shorter steps, until they end lower than the ones before them, which then stand."""
        best, least, _, tried = carry
        v = walk(SHORTER ** tried.astype(origin.dtype))
        found = loss(v)
        better = (found < least) & jnp.isfinite(v).all()
        return select(better, v, best), jnp.where(better, found, least), ~better & (least < before), tried + 1

    before = loss(origin)
    begin = (origin, before, jnp.zeros((), bool), jnp.zeros((), jnp.int32))
    v, least, *_ = jax.lax.while_loop(again, attempt, begin)
    return select(least < before, place(v), params)
