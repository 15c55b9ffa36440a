"""ECM: the M-step in parts, each over one block of params with the others held (Meng and Rubin 1993, Biometrika 80:267).

A CM-step maximises Q + log prior over the coordinates of its block by Newton's method with Levenberg's damping, on the statistics
of the one E-step. Q never falls, so that neither does log-likelihood + log prior; the fixed points are those of EM wherever the
blocks together hold every coordinate ("space filling").
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm
from jaxem.algorithms.ecme import leaves_of, spans_of
from jaxem.algorithms.em import by_statistics
from jaxem.newton import ascend


def ecm(blocks: Any = None) -> Algorithm:
    """EM with one conditional maximisation for each block: monotone, one pass a step (more where a guarded step is halved).

    Params of no block stay where they start.

    Args:
        blocks: the blocks in turn, each a name such as "components.rate" or "rate" (the last part suffices where it is the only
            one), or a tuple of names that move together; None for every leaf of the params by itself.

    Raises:
        TypeError, ValueError: no names; or, when a fit begins, a name that the model does not have.
    """
    if blocks is None:
        return _make(None)
    if isinstance(blocks, str):
        blocks = (blocks,)
    try:
        chosen = tuple((block,) if isinstance(block, str) else tuple(block) for block in blocks)
    except TypeError:
        raise TypeError(f"blocks: found {blocks!r}; give names of params, for instance ('weights', 'components').") from None
    if not chosen or not all(chosen) or not all(isinstance(name, str) for block in chosen for name in block):
        raise ValueError(f"blocks: found {blocks!r}; give names of params, or None for each of them in turn.")
    return _make(chosen)


@lru_cache
def _make(blocks: tuple[tuple[str, ...], ...] | None) -> Algorithm:
    return by_statistics(partial(_move, blocks), partial(_check, blocks))


def _check(blocks: tuple[tuple[str, ...], ...] | None, model: Any, params: Any) -> None:
    del params
    for block in blocks or ():
        leaves_of(model, block, "ecm")


def _move(blocks: tuple[tuple[str, ...], ...] | None, model: Any, params: Any, statistics: Any, data: Any) -> Any:
    del data
    spans = spans_of(model, params)
    chosen = [[place] for place in range(len(spans))] if blocks is None else [leaves_of(model, block) for block in blocks]
    u = model.to_unconstrained(params)
    for places in chosen:
        parts = [jnp.arange(*spans[place]) for place in places]
        index = jnp.concatenate(parts)
        if index.size:
            u = u.at[index].set(ascend(partial(_objective, model, params, statistics, u, index), u[index]))
    return model.from_unconstrained(u, like=params)


def _objective(model: Any, like: Any, statistics: Any, u: jax.Array, index: jax.Array, block: jax.Array) -> jax.Array:
    """Q + log prior with the block's coordinates at `block`."""
    moved = model.from_unconstrained(u.at[index].set(block), like=like)
    return model.expected_log_joint(moved, statistics) + model.log_prior(moved)
