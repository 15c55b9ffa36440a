"""Sequences -> prepared rows with the lanes that recursions over time run in, one data set or many."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_weights, is_traced
from jaxem.data import cut_batch, cut_rows, ordered
from jaxem.rows import Rows
from jaxem.sequences import Lanes, block_order, lay_lanes, read_sequences


def prepare_sequences(reader: Any, y: Any, weights: Any, n_states: int, sharding: Any = None) -> Rows:
    """Rows of one data set; `reader` has `read` and `width`, as a family has; weights are one number a sequence.

    Raises:
        TypeError, ValueError: as `jaxem.sequences.read_sequences` and the reader's `read`; a sharding.
    """
    if sharding is not None:
        raise ValueError("sharding: sequences are not dealt over devices; leave it out.")
    data, lengths = read_sequences(y)
    table = reader.read(data, None)
    lanes = lay_lanes(lengths, reader.width(table.size) if ordered(table) else 0)
    rows = cut_rows(reader, table, None, n_states, order=None if lanes.grid is None else block_order(lanes))
    if not is_traced(table):
        informative = np.ones(lengths.sum(), bool) if table.informative is None else table.informative
        told: Any = np.logical_or.reduceat(informative, lanes.start)
        lanes = dataclasses.replace(lanes, told=told)
    rows = dataclasses.replace(rows, lanes=jax.tree.map(jnp.asarray, lanes))
    return rows.weigh(np.ones(len(lengths)) if weights is None else weights)


def prepare_sequence_batch(reader: Any, datasets: Sequence[Any], weights: Sequence[Any] | None, n_states: int) -> Rows:
    """Rows of many data sets, each of one or several sequences, with one shape: every leaf has a leading axis.

    Raises:
        TypeError, ValueError: as `prepare_sequences`, naming the data set.
    """
    parts, every, expanded = [], [], []
    for number, data in enumerate(datasets):
        try:
            part, lengths = read_sequences(data)
            own = check_weights(None if weights is None else weights[number], len(lengths), np.float64, "sequence")
        except (TypeError, ValueError) as error:
            raise type(error)(f"datasets[{number}]: {str(error).removeprefix('y: ')}") from error
        parts.append(part)
        every.append(lengths)
        expanded.append(np.repeat(np.asarray(own), lengths))
    rows = cut_batch(reader, reader.read, parts, expanded, n_states)
    return dataclasses.replace(rows, lanes=jax.tree.map(jnp.asarray, _stack([lay_lanes(lengths) for lengths in every], rows.n)))


def _stack(every: list[Lanes], n: int) -> Lanes:
    """Lanes of data sets padded to n rows, in arrays of one shape.

    Sequences that only pad begin at row n, which is not there; padded steps stand in no lane.
    """
    steps, lanes = np.max([lane.slot.shape for lane in every], axis=0)
    count = max(len(lane.start) for lane in every)
    out = []
    for lane in every:
        own, (t, b) = len(lane.place), lane.slot.shape
        slot, first = np.full((steps, lanes), n, np.int32), np.zeros((steps, lanes), bool)
        slot[:t, :b] = np.where(lane.slot == own, n, lane.slot)
        first[:t, :b] = lane.first
        first[0, b:] = True
        if t < steps:
            first[t, :b] = True
        at, width = np.divmod(np.asarray(lane.place), b)
        place = np.pad(at * lanes + width, (0, n - own)).astype(np.int32)
        sequence = np.pad(lane.sequence, (0, n - own))
        ends = [np.pad(leaf, (0, count - len(leaf)), constant_values=n) for leaf in (lane.start, lane.end)]
        out.append(Lanes(slot, first, place, sequence, *ends))  # type: ignore[arg-type]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *out)
