"""What can be said of a log-likelihood: how much of it is rounding, and how much is still to gain."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxem.rows import Rows

ROUNDING = 32  # see `rounding`
RESOLUTION = 4  # see `resolution`


def rounding(model: Any, params: Any, objective: jax.Array, rows: Rows) -> jax.Array:
    """How much of a change of the objective may be rounding: 32 eps (|objective| + magnitude times sum of weights).

    A row's log-density is a sum of terms of order `model.magnitude(params, rows)`, each rounded to eps. The roundings of the
    params' own transforms are the same in every row, so errors add up like n, not like its root; totals are compensated.
    """
    eps = jnp.finfo(rows.dtype).eps
    return ROUNDING * eps * (jnp.abs(objective) + model.magnitude(params, rows) * rows.weights.sum())


def resolution(objective: jax.Array, rows: Rows) -> jax.Array:
    """The least change that the objective can show at its best: 4 eps (|objective| + d sum of weights)."""
    return RESOLUTION * jnp.finfo(rows.dtype).eps * (jnp.abs(objective) + rows.d * rows.weights.sum())


def aitken_gap(last: jax.Array, previous: jax.Array, before: jax.Array) -> jax.Array:
    """l_inf - l_t; 0 where nothing moves any more, infinity where the steps do not shrink."""
    change, earlier = last - previous, previous - before
    ratio = change / jnp.where(earlier == 0, 1, earlier)
    shrinking = (change > 0) & (earlier != 0) & (ratio > 0) & (ratio < 1)
    remaining = jnp.where(shrinking, change * ratio / (1 - jnp.where(shrinking, ratio, 0)), jnp.inf)
    return jnp.where(change == 0, 0, jnp.where(jnp.isfinite(earlier), remaining, jnp.inf)).astype(last.dtype)
