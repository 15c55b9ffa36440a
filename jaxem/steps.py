"""Rows as steps of sequences: brought to the lanes that recursions over time run in, and back to input order."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxem import reduce
from jaxem.rows import Rows
from jaxem.sequences import out_of_blocks, states_in_blocks


def emissions_in_lanes(family: Any, params: Any, rows: Rows) -> jax.Array:
    """(T, K, B) log p(y_t | z_t), whatever where a lane is filled up."""
    if rows.lanes.grid is not None:
        return _emissions_of_blocks(family, params, rows)
    log_prob = reduce.map_rows(family, params, rows, lambda _bound, _cells, log_prob: log_prob)
    return to_lanes(log_prob, rows)


def _emissions_of_blocks(family: Any, params: Any, rows: Rows) -> jax.Array:
    """The same where blocks hold the steps in order: nothing is looked up."""
    groups, count, steps, across = rows.lanes.grid
    blocks = reduce.map_blocks(family, params, rows)
    return out_of_blocks(jnp.swapaxes(blocks.reshape(groups, count, -1, steps, across), 2, 3), rows.lanes)


def to_lanes(values: jax.Array, rows: Rows) -> jax.Array:
    """(n, K) in input order -> (T, K, B), 0 where a lane is filled up."""
    padded = jnp.concatenate([values, jnp.zeros_like(values[:1])])
    return jnp.moveaxis(padded[rows.lanes.slot], -1, 1)


def fold_in_lanes(family: Any, params: Any, rows: Rows, state: jax.Array) -> Any:
    """Completed statistics of the family under smoothed probabilities (T, K, B)."""
    if rows.lanes.grid is None:
        return reduce.fold_given(family, params, rows, states_to_rows(state, rows))
    blocks = states_in_blocks(state, rows.lanes)
    return reduce.fold_blocks(family, params, rows, blocks.reshape(-1, 1, blocks.shape[2], blocks.shape[3] * blocks.shape[4]))


def first_states(state: jax.Array, rows: Rows) -> jax.Array:
    """(T, K, B) smoothed probabilities -> (K,) expected number of sequences that begin in each state."""
    lanes = rows.lanes
    # a sequence that only pads a batch begins at a row that is not there, and counts for nothing
    counted = step_weights(rows).at[lanes.start].get(mode="fill", fill_value=0)
    step, lane = jnp.divmod(lanes.place.at[lanes.start].get(mode="clip"), state.shape[2])
    return (state[step, :, lane] * counted[:, None]).sum(axis=0)


def to_rows(values: jax.Array, rows: Rows) -> jax.Array:
    """(T, B, ...) -> (n, ...), input order."""
    return values.reshape(-1, *values.shape[2:])[rows.lanes.place]


def states_to_rows(values: jax.Array, rows: Rows) -> jax.Array:
    """(T, K, B) -> (n, K), input order."""
    return to_rows(jnp.moveaxis(values, 1, -1), rows)


def sequence_weights(rows: Rows) -> jax.Array:
    """(S,) weight of each sequence, 0 for one with nothing observed and for one that only pads a batch."""
    return rows.weights.at[rows.lanes.start].get(mode="fill", fill_value=0) * _told(rows)


def step_weights(rows: Rows) -> jax.Array:
    """(n,) the same of each step."""
    return rows.weights * _told(rows)[rows.lanes.sequence]


def _told(rows: Rows) -> jax.Array:
    """(S,) whether a sequence has anything observed."""
    lanes = rows.lanes
    return jax.ops.segment_max(rows.informative, lanes.sequence, len(lanes.start)) if lanes.told is None else lanes.told


def lane_weights(rows: Rows) -> jax.Array:
    """(T, B) the same in lanes, 0 where a lane is filled up."""
    return jnp.concatenate([step_weights(rows), jnp.zeros(1, rows.dtype)])[rows.lanes.slot]


def sequence_sums(values: jax.Array, rows: Rows) -> jax.Array:
    """(n, ...) -> (S, ...): sums over the steps of each sequence."""
    return jax.ops.segment_sum(values, rows.lanes.sequence, len(rows.lanes.start))
