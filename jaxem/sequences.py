"""Sequences: what a user hands in, and the lanes in which chains run over them.

Rows of all sequences stand one after another. For the recursions over time they are dealt to lanes of one length, the longest
sequence's: short sequences share a lane, end to end, so that lengths that differ cost little more than equal ones.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import is_traced
from jaxem.inputs import Regression, count_rows


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Several sequences of rows, for models of time.

    Args:
        y: padded (B, T, d) data, or any data a family takes whose rows are those of all sequences, one after another.
        lengths: (B,) whole numbers: how many rows each has, from the start where y is padded.
    """

    y: Any
    lengths: Any


class Blocks(NamedTuple):
    """What the steps of blocks are, in the shape of the grid (groups, blocks, steps, lanes)."""

    first: jax.Array  # bool, whether a sequence begins, or nothing is there
    last: jax.Array  # bool, whether it ends
    owner: jax.Array  # int32, its sequence; S where nothing is there


@dataclasses.dataclass(frozen=True)
class Lanes:
    """Where the rows of sequences stand in time-major arrays of T steps and B lanes."""

    slot: jax.Array  # (T, B) int32, the row; n where a lane is filled up
    first: jax.Array  # (T, B) bool, whether a sequence (or what fills a lane up) begins
    place: jax.Array  # (n,) int32, t B + b of each row
    sequence: jax.Array  # (n,) int32, which sequence a row belongs to
    start: jax.Array  # (S,) int32, first row of each sequence
    end: jax.Array  # (S,) int32, last row
    told: jax.Array | None = None  # (S,) bool, whether anything of a sequence is observed, where that is known beforehand
    blocks: Blocks | None = None  # where blocks of rows hold the steps in order
    grid: tuple[int, int, int, int] | None = None  # their groups, blocks, steps, lanes

    def cut(self, values: np.ndarray, fill: Any) -> np.ndarray:
        """(T, B) -> (groups, blocks, steps, lanes), `fill` where a block is padded."""
        groups, blocks, steps, across = self.grid  # type: ignore[misc]
        t, b = values.shape
        padded = np.pad(values, ((0, blocks * steps - t), (0, groups * across - b)), constant_values=fill)
        return np.moveaxis(padded.reshape(blocks, steps, groups, across), 2, 0)


jax.tree_util.register_dataclass(
    Lanes, data_fields=("slot", "first", "place", "sequence", "start", "end", "told", "blocks"), meta_fields=("grid",)
)


def read_sequences(data: Any) -> tuple[Any, np.ndarray]:
    """Data of all sequences, one after another, and their lengths.

    Args:
        data: one sequence of rows of any kind; a list of such; a (B, T, d) array; a `Regression` whose leaves lead with (B, T)
            and whose y is (B, T, d); or `Sequences`.

    Raises:
        TypeError, ValueError: no sequence, or one without rows, named by its place; lengths that do not fit.
    """
    if isinstance(data, Sequences):
        return _read_lengths(data)
    if isinstance(data, (list, tuple)) and not hasattr(data, "_fields") and len(data) and not np.isscalar(data[0]):
        return _join(data)
    if data is None or isinstance(data, str):
        raise TypeError(f"y: found {type(data).__name__}; give a (T, d) array, a list of such, or Sequences.")
    if isinstance(data, (list, tuple)) and len(data) == 0:
        raise ValueError("y: found no sequence; give a list with at least one (T, d) array.")
    if np.ndim(data) == 3 if not _is_tree(data) else False:
        b, t = np.shape(data)[:2]
        return _read_lengths(Sequences(data, np.full(b, t)))
    if isinstance(data, Regression) and np.ndim(jax.tree.leaves(data.y)[0]) == 3:
        b, t = np.shape(jax.tree.leaves(data.y)[0])[:2]
        return jax.tree.map(lambda leaf: leaf.reshape(b * t, *leaf.shape[2:]), data), np.full(b, t)
    n = count_rows(data)
    if n == 0:
        raise ValueError("y: found a sequence without rows; give at least one.")
    return data, np.array([n])


def _is_tree(data: Any) -> bool:
    return dataclasses.is_dataclass(data) or isinstance(data, dict) or hasattr(data, "columns")


def _join(parts: Sequence[Any]) -> tuple[Any, np.ndarray]:
    lengths = []
    for number, part in enumerate(parts):
        n = count_rows(part) if len(jax.tree.leaves(part)) else 0
        if n == 0:
            raise ValueError(f"y[{number}]: found a sequence without rows; leave it out.")
        lengths.append(n)
    kinds = {jax.tree.structure(part) for part in parts}
    if len(kinds) > 1:
        raise TypeError(f"y: found sequences of {len(kinds)} kinds; give all in the same form.")
    widths = [tuple(np.shape(leaf)[1:] for leaf in jax.tree.leaves(part)) for part in parts]
    for number, width in enumerate(widths):
        if width != widths[0]:
            raise ValueError(f"y[{number}]: found rows of shape {width[0]} where y[0] has {widths[0][0]}; give the same columns.")
    if hasattr(parts[0], "iloc"):  # pandas
        import pandas as pd

        return pd.concat(parts, ignore_index=True), np.array(lengths)
    whole = jax.tree.map(lambda *leaves: (jnp if is_traced(leaves) else np).concatenate([_array(leaf) for leaf in leaves]), *parts)
    return whole, np.array(lengths)


def _array(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "dtype") and not hasattr(leaf, "iloc") else np.asarray(leaf)


def _read_lengths(data: Sequences) -> tuple[Any, np.ndarray]:
    try:
        lengths = np.asarray(data.lengths)
        whole = lengths.ndim == 1 and lengths.size > 0 and np.issubdtype(lengths.dtype, np.integer)
    except (TypeError, ValueError, jax.errors.TracerArrayConversionError):
        whole = False
    if not whole:
        raise TypeError("lengths: give a concrete (B,) array of whole numbers.")
    for number in np.flatnonzero(lengths < 1)[:1]:
        raise ValueError(f"lengths[{number}]: found {lengths[number]}; give at least 1.")
    y = data.y
    if not _is_tree(y) and np.ndim(y) == 3:
        b, t = np.shape(y)[:2]
        if len(lengths) != b:
            raise ValueError(f"lengths: found {len(lengths)} for {b} sequences.")
        for number in np.flatnonzero(lengths > t)[:1]:
            raise ValueError(f"lengths[{number}]: found {lengths[number]}, beyond the {t} steps of y.")
        kept = (np.arange(t) < lengths[:, None]).ravel()
        return _array(y).reshape(b * t, -1)[np.flatnonzero(kept)], lengths
    n = count_rows(y)
    if lengths.sum() != n:
        raise ValueError(f"lengths: sum to {lengths.sum()}, but y has {n} rows.")
    return y, lengths


def lay_lanes(lengths: np.ndarray, width: int = 0) -> Lanes:
    """Lanes as long as the longest sequence, filled longest first, each sequence into the first lane with room.

    With `width`, also how blocks of about that many rows hold the steps in order; see `block_order`.
    """
    n, most = int(lengths.sum()), int(lengths.max())
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    lane, offset = _pack(lengths, most)
    b = int(lane.max()) + 1
    slot, first = np.full((most, b), n, np.int32), np.zeros((most, b), bool)
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    t = np.arange(n) - np.repeat(starts - offset, lengths)
    slot[t, lane[sequence]] = np.arange(n)
    first[offset, lane] = True
    filled = np.bincount(lane, lengths, b).astype(int)
    short = np.flatnonzero(filled < most)
    first[filled[short], short] = True
    place = (t * b + lane[sequence]).astype(np.int32)
    owner, begin, end = (each.astype(np.int32) for each in (sequence, starts, starts + lengths - 1))
    lanes = Lanes(slot, first, place, owner, begin, end)  # type: ignore[arg-type]
    if not width:
        return lanes
    lanes = dataclasses.replace(lanes, grid=_grid(most, b, width))
    last = np.concatenate([first[1:], np.ones((1, b), bool)])
    owners = np.append(owner, len(lengths)).astype(np.int32)[slot]
    blocks: Any = Blocks(lanes.cut(first, True), lanes.cut(last, True), lanes.cut(owners, len(lengths)))  # type: ignore[arg-type]
    return dataclasses.replace(lanes, blocks=blocks)


def _pack(lengths: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Lane of each sequence and the step at which it begins there: first fit, longest first, lane by lane."""
    if (lengths == most).all():
        return np.arange(len(lengths)), np.zeros(len(lengths), int)
    order = np.argsort(lengths, kind="stable")
    kinds, begin, count = np.unique(lengths[order], return_index=True, return_counts=True)
    waiting, next_of, left = kinds.tolist(), dict(zip(kinds, begin, strict=True)), dict(zip(kinds, count, strict=True))
    lane, offset = np.zeros(len(lengths), int), np.zeros(len(lengths), int)
    b = 0
    while waiting:
        room = most
        while (fits := bisect.bisect_right(waiting, room)) > 0:
            length = waiting[fits - 1]  # the longest that fits
            taken = min(left[length], room // length)
            chosen = order[next_of[length] : next_of[length] + taken]
            lane[chosen], offset[chosen] = b, most - room + length * np.arange(taken)
            room -= length * taken
            next_of[length] += taken
            left[length] -= taken
            if not left[length]:
                waiting.pop(fits - 1)
        b += 1
    return lane, offset


LANES, STEPS, ROWS = 1024, 16, 1 << 15  # most lanes of a group, least steps of a block, most rows unless so


def _grid(steps: int, lanes: int, width: int) -> tuple[int, int, int, int]:
    """Groups of lanes, blocks of steps, steps a block, lanes a group.

    Blocks of some `width` rows and at least sqrt(T) steps, so that what is kept for each block takes no more than a block.
    """
    groups = -(-lanes // LANES)
    across = -(-lanes // groups)
    least = max(STEPS, width // across, min(math.isqrt(steps), ROWS // across))
    blocks = -(-steps // least)
    return groups, blocks, -(-steps // blocks), across


def block_order(lanes: Lanes) -> np.ndarray:
    """(groups * blocks, steps * lanes) rows in the order of the grid, n where there is none."""
    cut = lanes.cut(np.asarray(lanes.slot), len(lanes.place))
    return cut.reshape(-1, cut.shape[2] * cut.shape[3])


def states_in_blocks(values: jax.Array, lanes: Lanes) -> jax.Array:
    """(T, K, B) -> (groups, blocks, K, steps, lanes), 0 where a block is padded."""
    groups, blocks, steps, across = lanes.grid  # type: ignore[misc]
    t, k, b = values.shape
    padded = jnp.pad(values, ((0, blocks * steps - t), (0, 0), (0, groups * across - b)))
    return padded.reshape(blocks, steps, k, groups, across).transpose(3, 0, 2, 1, 4)


def out_of_blocks(values: jax.Array, lanes: Lanes) -> jax.Array:
    """(groups, blocks, steps, K, lanes) -> (T, K, B)."""
    t, b = lanes.slot.shape
    groups, blocks, steps, across = lanes.grid  # type: ignore[misc]
    out = jnp.moveaxis(values, 0, 3).reshape(blocks * steps, values.shape[3], groups * across)
    return out[:t, :, :b]
