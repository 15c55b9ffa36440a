"""Rows as steps of sequences: brought to the lanes that recursions over time run in, and back to input order."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxem import reduce
from jaxem.data import Rows


def emissions_in_lanes(family: Any, params: Any, rows: Rows) -> jax.Array:
    """(T, K, B) log p(y_t | z_t), 0 where a lane is filled up."""
    log_prob = reduce.map_rows(family, params, rows, lambda _bound, _cells, log_prob: log_prob)
    return to_lanes(log_prob, rows)


def to_lanes(values: jax.Array, rows: Rows) -> jax.Array:
    """(n, K) in input order -> (T, K, B), 0 where a lane is filled up."""
    padded = jnp.concatenate([values, jnp.zeros_like(values[:1])])
    return jnp.moveaxis(padded[rows.lanes.slot], -1, 1)


def to_rows(values: jax.Array, rows: Rows) -> jax.Array:
    """(T, B, ...) -> (n, ...), input order."""
    return values.reshape(-1, *values.shape[2:])[rows.lanes.place]


def states_to_rows(values: jax.Array, rows: Rows) -> jax.Array:
    """(T, K, B) -> (n, K), input order."""
    return to_rows(jnp.moveaxis(values, 1, -1), rows)


def step_weights(rows: Rows) -> jax.Array:
    """(n,) weight of each step's sequence, 0 for a sequence with nothing observed."""
    lanes = rows.lanes
    told = jax.ops.segment_max(rows.informative.astype(rows.dtype), lanes.sequence, len(lanes.start))
    return rows.weights * told[lanes.sequence]


def lane_weights(rows: Rows) -> jax.Array:
    """(T, B) the same in lanes, 0 where a lane is filled up."""
    return jnp.concatenate([step_weights(rows), jnp.zeros(1, rows.dtype)])[rows.lanes.slot]


def sequence_sums(values: jax.Array, rows: Rows) -> jax.Array:
    """(n, ...) -> (S, ...): sums over the steps of each sequence."""
    return jax.ops.segment_sum(values, rows.lanes.sequence, len(rows.lanes.start))
