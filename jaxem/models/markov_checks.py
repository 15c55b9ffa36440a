"""What Markov chains of states are given: first probabilities and masks, checked; counts brought to probabilities."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def shares(counts: jax.Array, kept: jax.Array) -> jax.Array:
    """Counts brought to sum to 1 along the last axis; as `kept` where there are none."""
    total = counts.sum(axis=-1, keepdims=True)
    return jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), kept)


def check_initial(initial: Any, k: int) -> Any:
    """ "free", "stationary", or a tuple of K probabilities."""
    if isinstance(initial, str):
        if initial not in ("free", "stationary"):
            raise ValueError(f"initial: found {initial!r}; give 'free', 'stationary', or {k} probabilities.")
        return initial
    try:
        found = np.asarray(initial, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"initial: found {type(initial).__name__}; give 'free', 'stationary', or {k} probabilities.") from error
    if found.shape != (k,) or not (found >= 0).all() or not abs(found.sum() - 1) < 1e-6:
        raise ValueError(f"initial: found shape {found.shape} with sum {found.sum():g}; give {k} numbers >= 0 that sum to 1.")
    return tuple((found / found.sum()).tolist())


def check_mask(mask: Any, k: int) -> Any:
    """None, or a tuple of K^2 bools."""
    if mask is None or (isinstance(mask, tuple) and len(mask) == k * k and all(isinstance(each, bool) for each in mask)):
        return mask
    found = np.asarray(mask)
    if found.shape != (k, k) or found.dtype != bool:
        raise ValueError(f"transition: found shape {found.shape} of {found.dtype}; give a ({k}, {k}) mask of True and False.")
    for j in np.flatnonzero(~found.any(axis=1))[:1]:
        raise ValueError(f"transition: row {j} of the mask has no way out; allow at least the state itself.")
    return tuple(found.ravel().tolist())
