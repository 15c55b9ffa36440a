"""What a user hands in -> blocks of rows that the kernels read.

Rows are grouped by pattern of observed cells, because all rows of one pattern share their matrices, and cut into blocks of
equal width, because one compiled program then serves any data of that shape. Frequent patterns fill wide blocks; what
remains goes into narrow ones, several to a chunk, so that padding stays small. Every row keeps its place by `position`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_weights, is_traced

WIDE = 1024  # rows in a wide block: the features of a block stay in the second-level cache
SMALL = 2048  # up to so many rows one narrow section serves all patterns
PILOT = 4096  # rows that starting values look at
TABLE = 1 << 18  # numbers: pattern tables (P, K, d, d) up to this size are bound once, larger ones chunk by chunk


class Section(NamedTuple):
    """Blocks of one width. m chunks of c groups of b rows; every row of a group has the same pattern."""

    cells: Any  # leaves (m, c, d, b): what the family reads
    weights: jax.Array  # (m, c, b), 0 where padded
    row: jax.Array  # (m, c, b) int32, input row; n where padded
    mask: Any  # (P, d) bool table of patterns, or (m, c, d), one for each group
    pattern: jax.Array | None  # (m, c) int32, row of the table; None where mask is given group by group


@dataclasses.dataclass(frozen=True)
class Rows:
    """Prepared data of `n` rows and `d` columns."""

    sections: tuple[Section, ...]
    position: jax.Array  # (n,) int32, slot of each input row over all sections
    weights: jax.Array  # (n,) as given
    informative: jax.Array  # (n,) bool, False where every cell is missing: such a row says nothing and is left out of sums
    origin: Any  # what was subtracted from the cells, (d,)
    spread: jax.Array  # (d,) variance of the observed cells of each column
    pilot: jax.Array  # (n_pilot, d) rows for starting values, NaN where missing, origin subtracted
    pilot_index: jax.Array  # (n_pilot,) int32 their input rows; n where padded
    n: int
    d: int
    has_missing: bool  # whether any cell is missing
    columns: tuple[str, ...] | None = None
    mesh: Any = None  # jax.sharding.Mesh over whose axis the chunks are dealt
    axis: Any = None  # that axis

    @property
    def dtype(self) -> Any:
        """Float dtype of cells, and so of statistics and params."""
        return self.spread.dtype

    def weigh(self, weights: Any) -> Rows:
        """The same rows under other weights (n,) in input order, concrete or traced; None keeps those there are."""
        if weights is None:
            return self
        weights = check_weights(weights, self.n, self.dtype)
        return _with_weights(self, weights)


jax.tree_util.register_dataclass(
    Rows,
    data_fields=("sections", "position", "weights", "informative", "origin", "spread", "pilot", "pilot_index"),
    meta_fields=("n", "d", "has_missing", "columns", "mesh", "axis"),
)


def _with_weights(rows: Rows, weights: jax.Array) -> Rows:
    weights = _everywhere(weights, rows.mesh)
    counted = jnp.where(rows.informative, weights, 0)
    counted = jnp.concatenate([counted, jnp.zeros(1, counted.dtype)])
    sections = tuple(s._replace(weights=counted[s.row]) for s in rows.sections)
    return dataclasses.replace(rows, sections=sections, weights=weights)


class Plan(NamedTuple):
    """How rows are cut into blocks: static, shared by all data sets of a batch."""

    wide: int  # width of wide blocks, 0 where there are none
    narrow: int  # width of narrow blocks, 0 where there are none
    chunk: int  # narrow blocks a chunk
    tabled: bool  # whether patterns are bound once, from a table


class Patterns(NamedTuple):
    """Distinct patterns of observed cells."""

    table: np.ndarray  # (P, d) bool, True where observed
    of_row: np.ndarray  # (n,) int
    counts: np.ndarray  # (P,) int


def find_patterns(observed: np.ndarray) -> Patterns:
    """Groups the rows of (n, d) bool by equality."""
    n, d = observed.shape
    if observed.all():
        return Patterns(np.ones((1, d), bool), np.zeros(n, np.int64), np.array([n]))
    packed = np.ascontiguousarray(np.packbits(observed, axis=1))
    codes = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, of_row, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    return Patterns(observed[first], of_row.reshape(-1), counts)


def make_plan(patterns: list[Patterns], n_states: int, width: int = WIDE) -> Plan:
    """The cutting that suits these data sets together: the least padding and per-block work."""
    d = patterns[0].table.shape[1]
    n = max(int(p.counts.sum()) for p in patterns)
    if all(len(p.counts) == 1 for p in patterns):
        blocks = math.ceil(n / width)
        return Plan(wide=_round_up(math.ceil(n / blocks), 8), narrow=0, chunk=1, tabled=True)
    wide = 0 if n <= SMALL else width // 2
    table = max(len(p.counts) for p in patterns) * n_states * d * d
    tabled = table <= TABLE
    remainders_of = [_remainder(p.counts, wide) for p in patterns]
    remainders = np.concatenate(remainders_of)
    per_block = 12 + (0 if tabled else d)  # work of a block that does not depend on its width, in rows
    widths = [1, 2, 4, 8, 16, 32, 64]
    costs = [float((-(-remainders // b) * (b + per_block)).sum()) for b in widths]
    narrow = widths[int(np.argmin(costs))]
    if not remainders.any():
        narrow = 0
    if wide and not any((p.counts - _remainder(p.counts, wide)).any() for p in patterns):
        wide = 0
    limit = max(1, (1 << 15) // (n_states * d * d)) if not tabled else 1 << 10
    most = max(int((-(-r // max(narrow, 1))).sum()) for r in remainders_of)  # blocks of the data set that has most
    chunks = max(1, -(-most // max(1, min(WIDE // max(narrow, 1), limit))))
    chunk = max(1, -(-most // chunks))
    return Plan(wide, narrow, chunk, tabled)


def _remainder(counts: np.ndarray, wide: int) -> np.ndarray:
    """Rows of each pattern that do not go to wide blocks; a block at least 3/4 full is wide."""
    if not wide:
        return counts
    return np.maximum(counts - (counts + wide // 4) // wide * wide, 0)


def _round_up(x: int, multiple: int) -> int:
    return -(-x // multiple) * multiple


class Layout(NamedTuple):
    """Where each row goes in the blocks of one width: arrays for NumPy data, before cells are gathered."""

    row: np.ndarray  # (blocks, b), n where padded
    pattern: np.ndarray  # (blocks,)


def lay_out(patterns: Patterns, plan: Plan) -> list[Layout]:
    """Assigns rows to blocks, one `Layout` for each width of the plan."""
    n = len(patterns.of_row)
    order = np.argsort(patterns.of_row, kind="stable")
    start = np.cumsum(patterns.counts) - patterns.counts
    rank = np.arange(n) - np.repeat(start, patterns.counts)
    pattern = patterns.of_row[order]
    in_wide = patterns.counts - _remainder(patterns.counts, plan.wide) if plan.wide else np.zeros_like(patterns.counts)
    if not plan.narrow:
        in_wide = patterns.counts
    layouts = []
    for width, chosen, rank_of in (
        (plan.wide, rank < in_wide[pattern], rank),
        (plan.narrow, rank >= in_wide[pattern], rank - in_wide[pattern]),
    ):
        if not width:
            continue
        size = np.bincount(pattern[chosen], minlength=len(patterns.counts))
        blocks = -(-size // width)
        first = np.cumsum(blocks) - blocks
        slot = first[pattern[chosen]] * width + rank_of[chosen]
        index = np.full(int(blocks.sum()) * width, n, np.int32)
        index[slot] = order[chosen]
        layouts.append(Layout(index.reshape(-1, width), np.repeat(np.arange(len(blocks)), blocks).astype(np.int32)))
    return layouts


class Table(NamedTuple):
    """One checked, centred data set, on the host."""

    y: np.ndarray  # (n, d), NaN where missing, origin subtracted
    cells: Any  # tree of (n, ·) arrays that the family reads
    patterns: Patterns
    origin: np.ndarray  # (d,)
    spread: np.ndarray  # (d,)
    weights: np.ndarray | jax.Array  # (n,)
    columns: tuple[str, ...] | None


def build_rows(table: Table, n_states: int, width: int, sharding: jax.sharding.NamedSharding | None = None) -> Rows:
    """Rows of one data set, on one device or dealt over a mesh axis."""
    mesh, axis, devices = _mesh(sharding)
    plan = make_plan([table.patterns], n_states, width)
    layouts = lay_out(table.patterns, plan)
    blocks = [_round_up(len(layout.row), _chunk(layout, plan) * devices) for layout in layouts]
    rows = _assemble(table, plan, layouts, blocks, len(table.patterns.table), len(table.y))
    sections = tuple(_place(section, mesh, axis) for section in rows.sections)
    rows = jax.tree.map(lambda leaf: _everywhere(leaf, mesh), dataclasses.replace(rows, sections=()))
    rows = dataclasses.replace(rows, sections=sections, mesh=mesh, axis=axis)
    return _with_weights(rows, jnp.asarray(table.weights))


def build_batch(tables: Sequence[Table], n_states: int, width: int) -> Rows:
    """Rows of many data sets with one shape: every leaf has a leading axis, short data sets are padded with weight 0."""
    plan = make_plan([table.patterns for table in tables], n_states, width)
    layouts = [lay_out(table.patterns, plan) for table in tables]
    blocks = []
    for number in range(len(layouts[0])):
        most = max(len(each[number].row) for each in layouts)
        blocks.append(_round_up(max(most, 1), _chunk(layouts[0][number], plan)))
    n_patterns = max(len(table.patterns.table) for table in tables)
    length = max(len(table.y) for table in tables)
    each = [
        _assemble(table, plan, own, blocks, n_patterns, length) for table, own in zip(tables, layouts, strict=True)
    ]
    has_missing = any(rows.has_missing for rows in each)
    each = [dataclasses.replace(rows, has_missing=has_missing, columns=None) for rows in each]
    rows = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *each)
    weights = np.stack([np.pad(np.asarray(table.weights), (0, length - len(table.y))) for table in tables])
    return jax.vmap(_with_weights)(rows, jnp.asarray(weights))


def _chunk(layout: Layout, plan: Plan) -> int:
    return 1 if layout.row.shape[1] == plan.wide else plan.chunk


def _assemble(
    table: Table, plan: Plan, layouts: list[Layout], blocks: list[int], n_patterns: int, length: int
) -> Rows:
    """NumPy leaves of one data set, cut to `blocks` of each width; row-wise leaves padded to `length`."""
    y, patterns = table.y, table.patterns.table
    n, d = y.shape
    sections, offset = [], 0
    slots: Any = np.zeros(length + 1, np.int32)
    patterns = np.concatenate([patterns, np.ones((n_patterns - len(patterns), d), bool)])
    for layout, total in zip(layouts, blocks, strict=True):
        width, chunk = layout.row.shape[1], _chunk(layout, plan)
        extra = total - len(layout.row)
        index = np.concatenate([layout.row, np.full((extra, width), n, np.int32)])
        pattern = np.concatenate([layout.pattern, np.zeros(extra, np.int32)])
        slots[np.where(index == n, length, index).ravel()] = offset + np.arange(index.size, dtype=np.int32)
        offset += index.size
        shape = (total // chunk, chunk)
        index = index.reshape(*shape, width)

        def gather(leaf: np.ndarray, index: np.ndarray = index) -> np.ndarray:
            padded = np.concatenate([leaf, np.zeros((1, *leaf.shape[1:]), leaf.dtype)])
            return np.ascontiguousarray(np.swapaxes(padded[index], -1, -2))

        tabled = plan.tabled or width == plan.wide
        leaves: dict[str, Any] = {
            "weights": np.zeros(index.shape, y.dtype),
            "row": np.where(index == n, length, index).astype(np.int32),
            "mask": patterns if tabled else patterns[pattern].reshape(*shape, d),
            "pattern": pattern.reshape(shape) if tabled else None,
        }
        sections.append(Section(cells=jax.tree.map(gather, table.cells), **leaves))
    pilot = _pilot_rows(n)
    short = min(length, PILOT) - len(pilot)
    by_row: dict[str, Any] = {
        "position": slots[:length],
        "weights": np.zeros(length, y.dtype),
        "informative": np.pad(~np.isnan(y).all(axis=1), (0, length - n)),
        "pilot": np.pad(y[pilot], ((0, short), (0, 0)), constant_values=np.nan),
        "pilot_index": np.pad(pilot, (0, short), constant_values=length).astype(np.int32),
    }
    return Rows(
        **by_row,
        sections=tuple(sections),
        origin=table.origin,
        spread=jnp.asarray(table.spread),
        n=length,
        d=d,
        has_missing=bool(np.isnan(y).any()),
        columns=table.columns,
    )


def build_traced_rows(y: jax.Array, cells: Any, weights: Any, width: int = WIDE) -> Rows:
    """Rows from a traced (n, d) array: its values cannot be looked at, so it is taken as complete.

    `cells` is a function of the (m, 1, d, b) blocks and of the (d,) origin that gives what the family reads.
    """
    n, d = y.shape
    weights = check_weights(weights, n, y.dtype)
    plan = make_plan([Patterns(np.ones((1, d), bool), np.zeros(n, np.int64), np.array([n]))], 1, width)
    b = plan.wide
    blocks = -(-n // b)
    mass = weights / weights.sum()
    origin = jax.lax.stop_gradient(mass @ y)
    centred = y - origin
    spread = jax.lax.stop_gradient(mass @ (centred * centred))
    padded = jnp.concatenate([centred, jnp.zeros((blocks * b - n, d), y.dtype)])
    cut = jnp.swapaxes(padded.reshape(blocks, 1, b, d), -1, -2)
    index = np.minimum(np.arange(blocks * b), n).astype(np.int32).reshape(blocks, 1, b)
    section = Section(
        cells=cells(cut, origin),
        weights=jnp.zeros(index.shape, y.dtype),
        row=jnp.asarray(index),
        mask=jnp.ones((1, d), bool),
        pattern=jnp.zeros((blocks, 1), jnp.int32),
    )
    pilot_index = _pilot_rows(n)
    rows = Rows(
        sections=(section,),
        position=jnp.arange(n, dtype=jnp.int32),
        weights=weights,
        informative=jnp.ones(n, bool),
        origin=origin,
        spread=spread,
        pilot=centred[pilot_index],
        pilot_index=jnp.asarray(pilot_index, jnp.int32),
        n=n,
        d=d,
        has_missing=False,
    )
    return _with_weights(rows, weights)


def _pilot_rows(n: int) -> np.ndarray:
    """The rows that starting values look at: all, or a fixed random sample."""
    if n <= PILOT:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, PILOT, replace=False))


def _mesh(sharding: Any) -> tuple[Any, Any, int]:
    if sharding is None:
        return None, None, 1
    if not isinstance(sharding, jax.sharding.NamedSharding):
        raise TypeError(f"sharding: found {type(sharding).__name__}; give a jax.sharding.NamedSharding over the rows.")
    spec = tuple(sharding.spec)
    if not spec or spec[0] is None or any(part is not None for part in spec[1:]):
        raise ValueError(f"sharding: found {sharding.spec}; rows are dealt over the first axis only, as PartitionSpec('rows').")
    axis = spec[0]
    names = axis if isinstance(axis, tuple) else (axis,)
    # the caller's mesh may be in explicit mode, in which every gather would need a sharding of its own
    mesh = jax.sharding.Mesh(sharding.mesh.devices, sharding.mesh.axis_names)
    return mesh, axis, math.prod(sharding.mesh.shape[name] for name in names)


def _everywhere(leaf: Any, mesh: Any) -> jax.Array:
    """A leaf that every device needs whole."""
    if mesh is None:
        return jnp.asarray(leaf)
    return jax.device_put(leaf, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def _place(section: Section, mesh: Any, axis: Any) -> Section:
    """Moves a section to the devices: chunks dealt over the mesh axis, pattern tables everywhere."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, section)
    dealt = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(axis))
    placed = jax.tree.map(lambda leaf: jax.device_put(leaf, dealt), section._replace(mask=None))
    mask = jax.device_put(section.mask, dealt) if section.pattern is None else _everywhere(section.mask, mesh)
    return placed._replace(mask=mask)


def as_rows(model: Any, data: Any) -> Rows:
    """`data` if prepared, else `model.prepare(data)`."""
    return data if isinstance(data, Rows) else model.prepare(data)


def prepare(model: Any, y: Any, weights: Any = None, sharding: jax.sharding.NamedSharding | None = None) -> Rows:
    """Checks `y` and cuts it into blocks for `model`, once: every call then takes the result in place of `y`.

    Args:
        model: the model that will be fitted (its family decides how cells are laid out).
        y: (n, d) or (n,), NaN where a cell is missing; float32 stays float32, all else is JAX's default float.
        weights: (n,) numbers >= 0, in input order.
        sharding: a `NamedSharding` whose first spec entry names the mesh axis over which the blocks are dealt.

    Returns:
        Rows. A traced `y` is taken as complete, since its cells cannot be looked at.

    Raises:
        TypeError, ValueError: see `jaxem.checks`.
    """
    if isinstance(y, Rows):
        if sharding is not None:
            raise ValueError("sharding: the data are prepared already; give it where they are prepared first.")
        return y.weigh(weights)
    if is_traced(y) and sharding is not None:
        raise ValueError("sharding: y is traced; prepare the concrete array outside of jit.")
    return model.prepare(y, weights, sharding)
