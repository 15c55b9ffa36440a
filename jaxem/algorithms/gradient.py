"""Gradient ascent of the observed likelihood by any optimiser of optax: what EM is compared with."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxem import parts
from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.online_em import batches_of
from jaxem.ascent import look
from jaxem.checks import check_count


class GradientState(NamedTuple):
    """State of `gradient`."""

    params: Any
    u: jax.Array  # (P,)
    optimizer: Any  # the optimiser's
    key: jax.Array  # of the order of the batches to come


def gradient(optimizer: optax.GradientTransformation, batch_size: int | None = None) -> Algorithm:
    """Ascent of log-likelihood + log prior per unit of weight, in unconstrained coordinates.

    Not monotone. The objective is divided by the sum of weights, so that a learning rate means the same for any n, and for any
    batch. Full batch: a step is one move, and costs one pass. With `batch_size`: a step is one visit to all batches in random
    order, a move after each, one pass; the objective told is the log-likelihood of each batch at the params of its time, plus log
    prior, and the fit ends at `Stop(max_steps=...)`, or by the other rules. An optimiser that diverges ends NONFINITE with the
    params before that step.

    Args:
        optimizer: for instance `optax.adam(0.05)`.
        batch_size: None for all rows at once, or rows (sequences, for models of time) a batch, about.

    Raises:
        TypeError: not an optimiser of optax, or batch_size not a whole number. ValueError: batch_size below 1; when a fit begins,
            batches of a single sequence.
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(f"optimizer: found {type(optimizer).__name__}; give one of optax, for instance optax.adam(0.05).")
    return _make(optimizer, None if batch_size is None else check_count(batch_size, "batch_size"))


@lru_cache
def _make(optimizer: Any, batch_size: int | None) -> Algorithm:
    step = partial(_step, optimizer) if batch_size is None else partial(_visit_batches, optimizer, batch_size)
    return Algorithm(partial(_init, optimizer, batch_size), step, monotone=False)


def _init(optimizer: Any, batch_size: int | None, model: Any, params: Any, data: Any, key: jax.Array) -> GradientState:
    if batch_size is not None:
        batches_of(batch_size, model, data)
    u = model.to_unconstrained(params)
    return GradientState(params, u, optimizer.init(jnp.where(jnp.isfinite(u), u, 0)), key)


def _step(optimizer: Any, model: Any, state: GradientState, data: Any) -> tuple[GradientState, Info]:
    here = look(model, state.u, state.params, data)
    u, memory = _move(optimizer, state, here.gradient / data.weights.sum())
    params = model.from_unconstrained(u, like=state.params)
    return GradientState(params, u, memory, state.key), Info(here.log_likelihood, here.objective, 1)


def _move(optimizer: Any, state: GradientState, uphill: jax.Array) -> tuple[jax.Array, Any]:
    """The optimiser's next u, and its own state; coordinates without bound stay."""
    sound = jnp.isfinite(state.u)
    updates, memory = optimizer.update(-uphill, state.optimizer, jnp.where(sound, state.u, 0))
    return jnp.where(sound, state.u + updates, state.u), memory


def _visit_batches(optimizer: Any, batch_size: int, model: Any, state: GradientState, data: Any) -> tuple[GradientState, Info]:
    count = batches_of(batch_size, model, data)
    like, whole = state.params, data.weights.sum()
    all_told = parts.weight(data)
    key, own = jax.random.split(state.key)

    def prior(u: jax.Array) -> jax.Array:
        return model.log_prior(model.from_unconstrained(u, like=like)).astype(data.dtype)

    def visit(carry: tuple[jax.Array, Any, jax.Array], index: jax.Array) -> tuple[tuple[jax.Array, Any, jax.Array], None]:
        u, memory, told = carry
        batch = parts.part(data, index, count)
        seen = parts.weight(batch)
        here = look(model, u, like, batch)
        pull = jnp.where(jnp.isfinite(u), jax.grad(prior)(u), 0)
        scale = all_told / jnp.where(seen > 0, seen, 1)
        uphill = (scale * (here.gradient - pull) + pull) / whole
        moved, memory_after = _move(optimizer, GradientState(like, u, memory, own), uphill)
        after = jax.tree.map(lambda new, old: jnp.where(seen > 0, new, old), (moved, memory_after), (u, memory))
        return (*after, told + here.log_likelihood), None

    begin = state.u, state.optimizer, jnp.zeros((), data.dtype)
    (u, memory, told), _ = jax.lax.scan(visit, begin, jax.random.permutation(own, count))
    new = GradientState(model.from_unconstrained(u, like=like), u, memory, key)
    return new, Info(told, told + model.log_prior(state.params), parts.passes(data, count))
