"""Parts of prepared rows: what algorithms look at that move params before they have seen all the data.

Every part has the same shapes, so that one program serves all of them, and is made of chunks from all over the data: chunk u of a
section goes to part u modulo the number of parts. Where there are too few chunks for that, each is cut as well, every p-th of its
rows to one piece. A part is `Rows` of its own, numbered slot by slot, so that every function of a model takes it; sums over parts
are those over the whole.

Of sequences a part is a set of whole ones. Where all cells are known it is cut out of the lanes (`jaxem.sequence_parts`); where
some are missing it is the whole under weights that are 0 for all others, and costs as much as the whole (`passes`).
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.rows import Rows, Section, with_weights
from jaxem.sequence_parts import cuts_lanes, lanes_of

PER_CHUNK = 64  # work of a chunk that does not depend on its width, in rows


class Cut(NamedTuple):
    """How a section is dealt to parts: into `groups` sets of chunks, every chunk in `pieces`."""

    groups: int
    pieces: int
    across: bool  # whether pieces share the groups of a chunk between them, or the rows of each group


def n_parts(rows: Rows, size: int) -> int:
    """How many parts of some `size` rows (of sequences, `size` sequences) there are."""
    return max(1, min(most_parts(rows), round(units(rows) / size)))


def units(rows: Rows) -> int:
    """What parts are counted in: rows, or sequences."""
    return rows.n if rows.lanes is None else rows.lanes.start.shape[0]


def most_parts(rows: Rows) -> int:
    """Into how many parts rows can be cut."""
    return rows.lanes.slot.shape[1] if cuts_lanes(rows) else units(rows)


def check_parts(rows: Rows, count: int, name: str) -> int:
    """`count`, or ValueError where the data cannot be cut so."""
    if count > most_parts(rows):
        kind = "rows" if rows.lanes is None else "lanes of sequences, which are not cut"
        raise ValueError(f"{name}: found {count} parts for {most_parts(rows)} {kind}; give fewer parts.")
    return count


def passes(rows: Rows, count: int) -> int:
    """E-step equivalents of one visit to each part."""
    return 1 if rows.lanes is None or cuts_lanes(rows) else count


def weight(rows: Rows) -> jax.Array:
    """() sum of the weights of rows that say something."""
    total = jnp.zeros((), rows.dtype)
    for section in rows.sections:
        total = total + section.weights.sum()
    return total


def part(rows: Rows, index: Any, count: int) -> Rows:
    """Part `index` (concrete or traced) of `count`. Starting values are not sought in parts: the pilot rows have no weight there.

    Rows that are dealt over devices stay where they are: each device holds its share of the part. Parts are the same sets of rows
    for any number of devices where no cell is missing.
    """
    index = jnp.asarray(index, jnp.int32)
    if cuts_lanes(rows):
        return lanes_of(rows, index, count)
    if rows.lanes is not None:
        mine = rows.lanes.sequence % count == index
        return with_weights(rows, jnp.where(mine, rows.weights, 0))
    sections, real = [], []
    for section in rows.sections:
        taken, row = _of_section(section, rows, index, count)
        sections.append(taken)
        real.append(row.reshape(-1))
    row = jnp.concatenate(real)
    slots = np.arange(len(row), dtype=np.int32)
    numbered, begin = [], 0
    for section in sections:
        size = section.weights.size
        numbered.append(section._replace(row=jnp.asarray(slots[begin : begin + size].reshape(section.weights.shape))))
        begin += size
    told = jnp.concatenate([rows.informative, jnp.zeros(1, bool)])
    return dataclasses.replace(
        rows,
        sections=tuple(numbered),
        position=jnp.asarray(slots),
        weights=jnp.concatenate([section.weights.reshape(-1) for section in sections]),
        informative=told[row],
        pilot_index=jnp.full_like(rows.pilot_index, len(slots)),
        n=len(slots),
    )


def cut_for(chunks: int, groups: int, width: int, count: int) -> Cut:
    """The least work over chunks of `groups` times `width` rows in `count` parts."""
    across = groups > width
    long, short = (groups, width) if across else (width, groups)

    def work(pieces: int) -> int:
        return -(-chunks * pieces // count) * (-(-long // pieces) * short + PER_CHUNK)

    pieces = min((each for each in range(1, count + 1) if count % each == 0), key=work)
    return Cut(count // pieces, pieces, across)


def _of_section(section: Section, rows: Rows, index: jax.Array, count: int) -> tuple[Section, jax.Array]:
    """The section of a part, and which input rows its slots hold, n where none."""
    chunks, groups, width = section.weights.shape
    # as many chunks as there are without those that only even out the devices' shares
    cut = cut_for(min(chunks, -(-rows.n // (groups * width))), groups, width, count)
    if rows.mesh is None:
        return _slice(section, index, jnp.zeros((), jnp.int32), cut, rows.n)

    def local(section: Section, index: jax.Array) -> tuple[Section, jax.Array]:
        return _slice(section, index, jax.lax.axis_index(rows.axis), cut, rows.n)

    dealt, everywhere = jax.sharding.PartitionSpec(rows.axis), jax.sharding.PartitionSpec()
    mask = dealt if section.pattern is None else everywhere
    specs = jax.tree.map(lambda _: dealt, section)._replace(mask=mask)
    mapped = jax.shard_map(local, mesh=rows.mesh, in_specs=(specs, everywhere), out_specs=(specs, dealt), check_vma=False)
    return mapped(section, index)


def _slice(section: Section, index: jax.Array, device: jax.Array, cut: Cut, n: int) -> tuple[Section, jax.Array]:
    """The chunks and rows of one part among those of one device."""
    chunks, groups, width = section.weights.shape
    group, piece = index % cut.groups, index // cut.groups
    first = (group - device * chunks) % cut.groups
    place = first + cut.groups * jnp.arange(-(-chunks // cut.groups))
    long = groups if cut.across else width
    within = piece + cut.pieces * jnp.arange(-(-long // cut.pieces))
    real = (place < chunks)[:, None, None] & ((within < long)[:, None] if cut.across else within < long)
    place, within = jnp.minimum(place, chunks - 1), jnp.minimum(within, long - 1)

    def pick(leaf: jax.Array, by_row: bool = True) -> jax.Array:
        leaf = leaf[place]
        if cut.pieces == 1 or not (cut.across or by_row):
            return leaf
        return jnp.take(leaf, within, axis=1 if cut.across else -1)

    taken = Section(
        cells=jax.tree.map(pick, section.cells),
        weights=jnp.where(real, pick(section.weights), 0),
        row=section.row[:0],
        mask=pick(section.mask, by_row=False) if section.pattern is None else section.mask,
        pattern=None if section.pattern is None else pick(section.pattern, by_row=False),
        gate=None if section.gate is None else pick(section.gate),
    )
    return taken, jnp.where(real, pick(section.row), n)
