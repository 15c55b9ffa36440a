"""What a user hands in -> blocks of rows that the kernels read.

A family reads raw data into a `Table`; `prepare_rows` cuts it into the blocks of `jaxem.layout`: `jaxem.rows.Rows`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates
from jaxem.checks import check_weights, is_traced
from jaxem.layout import Layout, Patterns, Plan, lay_out, make_plan, one_pattern, round_up
from jaxem.refill import refill
from jaxem.rows import Rows, Section, Table, everywhere, with_weights

PILOT = 4096  # rows that starting values look at


def prepare_rows(family: Any, data: Any, weights: Any, n_states: int, sharding: Any = None) -> Rows:
    """Rows of one data set, concrete or traced, on one device or dealt over a mesh axis."""
    return cut_rows(family, family.read(data, weights), weights, n_states, sharding)


def cut_rows(family: Any, table: Table, weights: Any, n_states: int, sharding: Any = None, order: np.ndarray | None = None) -> Rows:
    """The same from what has been read; `order` (blocks, b) says which row stands where, n where none does."""
    weights = check_weights(weights, len(table.pilot), table.pilot.dtype)
    width = family.width(table.size)
    if is_traced(table):
        return _build_traced(table, weights, width)
    return _build(table, weights, n_states, width, sharding, order)


def ordered(table: Table) -> bool:
    """Whether rows may stand in any order: all are known and of one pattern."""
    return not is_traced(table) and len(_patterns(table).table) == 1


def prepare_batch(family: Any, datasets: Sequence[Any], weights: Sequence[Any] | None, n_states: int) -> Rows:
    """Rows of many data sets with one shape: every leaf has a leading axis, short data sets are padded with weight 0.

    Raises:
        TypeError, ValueError: as the family's `read`, naming the data set; data sets of different shapes; traced data.
    """
    return cut_batch(family, family.read, datasets, weights, n_states)


def cut_batch(family: Any, read: Any, datasets: Sequence[Any], weights: Sequence[Any] | None, n_states: int) -> Rows:
    """The same with a reader other than the family's own."""
    if is_traced(datasets):
        raise TypeError("datasets: are traced; vmap fit over a stacked array of complete data instead.")
    given = [None] * len(datasets) if weights is None else weights
    tables: list[Table] = []
    checked = []
    for number, (data, own) in enumerate(zip(datasets, given, strict=True)):
        try:
            tables.append(read(data, own))
        except (TypeError, ValueError) as error:
            raise type(error)(f"datasets[{number}]: {str(error).removeprefix('y: ')}") from error
        if tables[-1].d != tables[0].d:
            raise ValueError(f"datasets[{number}]: found {tables[-1].d} columns where datasets[0] has {tables[0].d}.")
        checked.append(np.asarray(check_weights(own, len(tables[-1].pilot), tables[-1].pilot.dtype)))
        if tables[-1].size != tables[0].size:
            found = f"found rows of size {tables[-1].size} where datasets[0] has {tables[0].size}"
            raise ValueError(f"datasets[{number}]: {found}; give the same columns and categories.")
    dtype = np.result_type(*(table.pilot for table in tables))
    missing = any(table.has_missing for table in tables)
    if missing:  # all with the same kinds of cells
        tables = [read(data, own, missing=True) for data, own in zip(datasets, given, strict=True)]
    tables = [_cast(table, dtype) for table in tables]
    return _build_batch(tables, checked, n_states, family.width(tables[0].size))


def _cast(table: Table, dtype: Any) -> Table:
    def cast(leaf: Any) -> Any:
        return leaf.astype(dtype) if np.issubdtype(leaf.dtype, np.floating) else leaf

    floats = jax.tree.map(cast, (table.cells, table.pilot, table.origin, table.typical))
    return table._replace(cells=floats[0], pilot=floats[1], origin=floats[2], typical=floats[3])


def _build(table: Table, weights: Any, n_states: int, width: int, sharding: Any, order: np.ndarray | None) -> Rows:
    mesh, axis, devices = _mesh(sharding)
    patterns = _patterns(table)
    if order is None:
        plan = make_plan([patterns], n_states, width)
        layouts = lay_out(patterns, plan)
    else:
        plan = Plan(wide=order.shape[1], narrow=0, chunk=1, tabled=True)
        layouts = [Layout(order, np.zeros(len(order), np.int32))]
    blocks = [round_up(len(layout.row), _chunk(layout, plan) * devices) for layout in layouts]
    rows = _assemble(table, plan, layouts, blocks, len(patterns.table), len(table.pilot), weights)
    sections = tuple(_place(section, mesh, axis) for section in rows.sections)
    rows = jax.tree.map(lambda leaf: everywhere(leaf, mesh), dataclasses.replace(rows, sections=()))
    rows = dataclasses.replace(rows, sections=sections, mesh=mesh, axis=axis)
    return with_weights(rows, jnp.asarray(weights))


def _build_batch(tables: list[Table], weights: list[np.ndarray], n_states: int, width: int) -> Rows:
    patterns = [_patterns(table) for table in tables]
    plan = make_plan(patterns, n_states, width)
    layouts = [lay_out(own, plan) for own in patterns]
    blocks = []
    for number in range(len(layouts[0])):
        most = max(len(each[number].row) for each in layouts)
        blocks.append(round_up(max(most, 1), _chunk(layouts[0][number], plan)))
    n_patterns = max(len(own.table) for own in patterns)
    length = max(len(table.pilot) for table in tables)
    each = [
        _assemble(table, plan, own, blocks, n_patterns, length, w) for table, own, w in zip(tables, layouts, weights, strict=True)
    ]
    has_missing = any(rows.has_missing for rows in each)
    flaw = next((f"datasets[{number}]: {table.flaw}" for number, table in enumerate(tables) if table.flaw), None)
    same: dict[str, Any] = {"has_missing": has_missing, "columns": None, "labels": None, "gate_columns": None, "flaw": flaw}
    each = [dataclasses.replace(rows, **same) for rows in each]
    rows = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *each)
    padded = np.stack([np.pad(own, (0, length - len(own))) for own in weights])
    return jax.vmap(with_weights)(rows, jnp.asarray(padded))


def _patterns(table: Table) -> Patterns:
    return one_pattern(len(table.pilot), table.d) if table.patterns is None else table.patterns


def _chunk(layout: Layout, plan: Plan) -> int:
    return 1 if layout.row.shape[1] == plan.wide else plan.chunk


def _assemble(
    table: Table, plan: Plan, layouts: list[Layout], blocks: list[int], n_patterns: int, length: int, weights: Any
) -> Rows:
    """NumPy leaves of one data set, cut to `blocks` of each width; row-wise leaves padded to `length`."""
    n, d = len(table.pilot), table.d
    patterns = _patterns(table).table
    sections, offset = [], 0
    slots: Any = np.zeros(length + 1, np.int32)
    patterns = np.concatenate([patterns, np.ones((n_patterns - len(patterns), patterns.shape[1]), bool)])
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
            # what pads a block is a copy of the first row, so that it is as sound as the data; its weight is 0
            return np.ascontiguousarray(np.swapaxes(np.concatenate([leaf, leaf[:1]])[index], -1, -2))

        tabled = plan.tabled or width == plan.wide
        leaves: dict[str, Any] = {
            "weights": np.zeros(index.shape, table.pilot.dtype),
            "row": np.where(index == n, length, index).astype(np.int32),
            "mask": patterns if tabled else patterns[pattern].reshape(*shape, patterns.shape[1]),
            "pattern": pattern.reshape(shape) if tabled else None,
            "gate": None if table.gate is None else gather(table.gate),
        }
        sections.append(Section(cells=jax.tree.map(gather, table.cells), **leaves))
    chosen = _pilot_rows(n)
    short = min(length, PILOT) - len(chosen)
    informative = np.ones(n, bool) if table.informative is None else table.informative

    def pick(leaf: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf[chosen], np.repeat(leaf[:1], short, axis=0)])

    return Rows(
        sections=tuple(sections),
        position=slots[:length],  # type: ignore[arg-type]
        weights=np.zeros(length, table.pilot.dtype),  # type: ignore[arg-type]
        informative=np.pad(informative, (0, length - n)),  # type: ignore[arg-type]
        origin=table.origin,
        spread=_variance(table.pilot, weights),  # type: ignore[arg-type]
        typical=table.typical,
        pilot=pick(table.pilot),  # type: ignore[arg-type]
        pilot_cells=jax.tree.map(pick, table.cells),
        pilot_gate=None if table.gate is None else pick(table.gate),
        pilot_index=np.pad(chosen, (0, short), constant_values=length).astype(np.int32),  # type: ignore[arg-type]
        n=length,
        d=d,
        size=table.size,
        has_missing=table.has_missing,
        columns=table.columns,
        labels=table.labels,
        gate_columns=table.gate_columns,
        flaw=table.flaw,
        gate_origin=table.gate_origin,
    )


def _build_traced(table: Table, weights: jax.Array, width: int) -> Rows:
    """Rows of traced data: its values cannot be looked at, so that it is taken as complete."""
    n = len(table.pilot)
    b = make_plan([one_pattern(n, table.d)], 1, width).wide
    blocks = -(-n // b)

    def cut(leaf: jax.Array) -> jax.Array:
        leaf = jnp.asarray(leaf)
        padded = jnp.concatenate([leaf, jnp.broadcast_to(leaf[:1], (blocks * b - n, *leaf.shape[1:]))])
        return jnp.swapaxes(padded.reshape(blocks, 1, b, -1), -1, -2)

    index = np.minimum(np.arange(blocks * b), n).astype(np.int32).reshape(blocks, 1, b)
    section = Section(
        cells=jax.tree.map(cut, table.cells),
        weights=jnp.zeros(index.shape, table.pilot.dtype),
        row=jnp.asarray(index),
        mask=jnp.ones((1, table.d), bool),
        pattern=jnp.zeros((blocks, 1), jnp.int32),
        gate=None if table.gate is None else cut(table.gate),
    )
    chosen = _pilot_rows(n)
    mean = weights @ table.pilot / weights.sum()
    spread = weights @ jnp.square(table.pilot - mean) / weights.sum()
    rows = Rows(
        sections=(section,),
        position=jnp.arange(n, dtype=jnp.int32),
        weights=weights,
        informative=jnp.ones(n, bool),
        origin=jax.tree.map(jnp.asarray, table.origin),
        spread=jax.lax.stop_gradient(spread),
        typical=jax.tree.map(jnp.asarray, table.typical),
        pilot=table.pilot[chosen],
        pilot_cells=jax.tree.map(lambda leaf: leaf[chosen], table.cells),
        pilot_gate=None if table.gate is None else table.gate[chosen],
        pilot_index=jnp.asarray(chosen, jnp.int32),
        n=n,
        d=table.d,
        size=table.size,
        has_missing=False,
        gate_origin=table.gate_origin,
    )
    return with_weights(rows, weights)


def _variance(y: np.ndarray, weights: Any) -> np.ndarray:
    """(f,) variance of the observed cells of each column, in float64; NaN where there is none."""
    return moments_of(y, weights)[1].astype(y.dtype)


def moments_of(y: np.ndarray, weights: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the observed cells of each column, in float64, under concrete weights (else unweighted).

    A column without an observed cell has mean 0 and variance NaN.
    """
    observed = ~np.isnan(y)
    check_weights(weights, len(y), y.dtype)
    w = np.ones(len(y)) if weights is None or is_traced(weights) else np.asarray(weights, np.float64)
    mass = np.where(observed, w[:, None], 0.0)
    total = mass.sum(axis=0)
    if not (total > 0).all():  # a column that only weightless rows have
        mass, total = observed.astype(np.float64), observed.sum(axis=0)
    total = np.where(total > 0, total, np.nan)
    value = np.where(observed, y, 0).astype(np.float64)
    mean = np.nan_to_num((mass * value).sum(axis=0) / total)
    return mean, (mass * np.square(value - mean)).sum(axis=0) / total


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


def _place(section: Section, mesh: Any, axis: Any) -> Section:
    """Moves a section to the devices: chunks dealt over the mesh axis, pattern tables everywhere."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, section)
    dealt = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(axis))
    placed = jax.tree.map(lambda leaf: jax.device_put(leaf, dealt), section._replace(mask=None))
    mask = jax.device_put(section.mask, dealt) if section.pattern is None else everywhere(section.mask, mesh)
    return placed._replace(mask=mask)


def as_rows(model: Any, data: Any) -> Rows:
    """`data` if prepared, else `model.prepare(data)`."""
    return data if isinstance(data, Rows) else model.prepare(data)


def rows_for(model: Any, params: Any, data: Any) -> Rows:
    """`as_rows` for params that are about to meet them.

    Raises:
        TypeError: a `Fit` in place of params, or params of another model. ValueError: raw data with other columns than those that
            the params are of, or with categories that they do not know.
    """
    coordinates.check_structure(model.domains, params)
    if isinstance(data, Rows):
        return data
    rows = model.prepare(data)
    tree: Any = jax.tree.structure(model.domains)
    known = not isinstance(rows.size, int)  # how many categories: of those, data may show fewer than the fit saw
    for needed, leaf in zip(tree.flatten_up_to(model.structure(rows)), jax.tree.leaves(params), strict=True):
        found = np.shape(leaf)
        fewer = known and len(found) == len(needed) and found[:-1] == needed[:-1] and found[-1:] >= needed[-1:]
        if found != needed and not fewer:
            told = coordinates.named(params)
            raise ValueError(
                f"data: have rows that need params of shapes {tree.flatten_up_to(model.structure(rows))}, and {told} has "
                f"{[np.shape(each) for each in jax.tree.leaves(params)]}; give data with the columns of the fit, in their order."
            )
    return rows


def prepare(
    model: Any, y: Any, weights: Any = None, sharding: jax.sharding.NamedSharding | None = None, *, like: Rows | None = None
) -> Rows:
    """Checks `y` and cuts it into blocks for `model`, once: every call then takes the result in place of `y`.

    Args:
        model: the model that will be fitted (its family decides how cells are laid out).
        y: (n, d) or (n,), NaN where a cell is missing; float32 stays float32, all else is JAX's default float.
        weights: (n,) numbers >= 0, in input order.
        sharding: a `NamedSharding` whose first spec entry names the mesh axis over which the blocks are dealt.
        like: rows prepared from data of the same shape, whose holes, weights and blocks are kept while `y`, traced or not, gives
            the values of the observed cells: the way to differentiate a fit by data with holes.

    Returns:
        Rows. A traced `y` is taken as complete, since its cells cannot be looked at.

    Raises:
        TypeError, ValueError: see `jaxem.checks`.
    """
    if like is not None:
        if not isinstance(like, Rows):
            raise TypeError(f"like: found {type(like).__name__}; give what prepare(model, data) returned.")
        return refill(model, like, y).weigh(weights)
    if isinstance(y, Rows):
        if sharding is not None:
            raise ValueError("sharding: the data are prepared already; give it where they are prepared first.")
        return y.weigh(weights)
    if is_traced(y) and sharding is not None:
        raise ValueError("sharding: y is traced; prepare the concrete array outside of jit.")
    return model.prepare(y, weights, sharding)
