"""Parts of prepared sequences: some of the lanes in which recursions over time run, each with the whole sequences it holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxem.rows import Rows, Section
from jaxem.sequences import Blocks, Lanes


def cuts_lanes(rows: Rows) -> bool:
    """Whether lanes can be taken out: blocks of rows hold the steps in order, as they do where no cell is missing."""
    return rows.lanes is not None and rows.lanes.grid is not None


def lanes_of(rows: Rows, index: jax.Array, count: int) -> Rows:
    """The sequences in lanes `index`, `index` + count, ...: rows numbered lane by lane, so that those of a sequence follow one
    another; what fills a lane up is a row without weight."""
    lanes, (section,) = rows.lanes, rows.sections
    groups, blocks, steps, across = lanes.grid
    t, b = lanes.slot.shape
    width = -(-(groups * across) // count)
    chosen = index + count * jnp.arange(width)
    real = chosen < b
    chosen = jnp.minimum(chosen, b - 1)
    group, within = chosen // across, chosen % across
    n, sequences = t * width, lanes.start.shape[0]

    def of_grid(leaf: jax.Array) -> jax.Array:
        """(groups, blocks, ..., across) -> (blocks, ..., width)."""
        return jnp.moveaxis(leaf[group, ..., within], 0, -1)

    def of_cells(leaf: jax.Array) -> jax.Array:
        """(groups * blocks, 1, d, steps * across) -> (blocks, 1, d, steps * width)."""
        cut = of_grid(leaf.reshape(groups, blocks, leaf.shape[2], steps, across))
        return cut.reshape(blocks, 1, leaf.shape[2], steps * width)

    def of_blocks(leaf: jax.Array, fill: Any) -> jax.Array:
        return jnp.where(real, of_grid(leaf), fill)[None]

    def local(row: jax.Array) -> jax.Array:
        """Where a row of the whole stands in this part, n where it does not."""
        step, lane = jnp.divmod(lanes.place.at[row].get(mode="clip"), b)
        return jnp.where(lane % count == index, lane // count * t + step, n).astype(jnp.int32)

    weights = jnp.where(real, of_cells(section.weights[:, :, None]).reshape(blocks, 1, steps, width), 0)
    before = lanes.slot[:, chosen].T  # (width, t) rows of the whole
    there = real[:, None] & (before < rows.n)
    before = jnp.minimum(before, rows.n - 1).reshape(-1)
    slot = jnp.arange(n, dtype=jnp.int32).reshape(width, t).T
    place = jnp.arange(n, dtype=jnp.int32).reshape(t, width).T.reshape(-1)
    row = jnp.pad(slot, ((0, blocks * steps - t), (0, 0)), constant_values=n)
    taken = Section(
        cells=jax.tree.map(of_cells, section.cells),
        weights=weights.reshape(blocks, 1, steps * width),
        row=row.reshape(blocks, 1, steps * width),
        mask=section.mask,
        pattern=jnp.zeros((blocks, 1), jnp.int32),
        gate=None if section.gate is None else of_cells(section.gate),
    )
    marks = lanes.blocks
    own = Lanes(
        slot=slot,
        first=jnp.where(real, lanes.first[:, chosen], True),
        place=place,
        sequence=lanes.sequence[before],
        start=local(lanes.start),
        end=local(lanes.end),
        told=lanes.told,
        blocks=Blocks(of_blocks(marks.first, True), of_blocks(marks.last, True), of_blocks(marks.owner, sequences)),
        grid=(1, blocks, steps, width),
    )
    return dataclasses.replace(
        rows,
        sections=(taken,),
        position=place,
        weights=jnp.where(there.reshape(-1), rows.weights[before], 0),
        informative=there.reshape(-1) & rows.informative[before],
        pilot_index=jnp.full_like(rows.pilot_index, n),
        n=n,
        lanes=own,
    )
