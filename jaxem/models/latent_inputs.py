"""What `Latent` is given: rows of any shape, domains, and functions, checked before anything compiles."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates
from jaxem.checks import float_dtype, is_traced
from jaxem.domains import Domain
from jaxem.models.mixture import softmax
from jaxem.reduce import weighted_sum
from jaxem.restrict import paths_of
from jaxem.rows import Rows, Table

CANDIDATES = 16  # random starts of which the one that the pilot rows like best is taken


class Slot(NamedTuple):
    """Where a leaf of a row goes; an array of zeros, so that its shape travels with the rows."""

    event: Any  # (*event)


class Cells(NamedTuple):
    """Trees like a row."""

    value: Any  # leaves (c, size of event, b), 0 where missing
    observed: Any  # likewise, bool; None where no cell may be missing


def read_rows(data: Any, missing: bool) -> Table:
    """A tree of arrays with leading rows, or a data frame, as a table of flat cells.

    Raises:
        TypeError: cells that are not numbers. ValueError: leaves of different lengths, no rows, missing cells that are not allowed.
    """
    named, tree = _named_leaves(data)
    leaves = [_array(leaf, name) for name, leaf in named]
    n = len(leaves[0])
    for (name, _), leaf in zip(named, leaves, strict=True):
        if len(leaf) != n:
            raise ValueError(f"{name}: found {len(leaf)} rows beside {n} in {named[0][0]}; give the same number.")
    floats = [leaf.dtype for leaf in leaves if np.issubdtype(leaf.dtype, np.floating)]
    dtype = float_dtype(np.result_type(*floats) if floats else np.float64)
    leaves = [leaf.astype(dtype) if np.issubdtype(leaf.dtype, np.floating) else leaf for leaf in leaves]
    flat = [leaf.reshape(n, int(np.prod(leaf.shape[1:]))) for leaf in leaves]
    events = [leaf.shape[1:] for leaf in leaves]
    origin = tree.unflatten([Slot(np.zeros(event, leaf.dtype)) for event, leaf in zip(events, leaves, strict=True)])
    size = (tree, tuple(events), tuple(str(leaf.dtype) for leaf in leaves))
    d = max(1, sum(part.shape[1] for part in flat))
    traced = is_traced(leaves)
    xp: Any = jnp if traced else np
    pilot = xp.concatenate([part.astype(dtype) for part in flat], axis=1)
    typical = (d + xp.abs(xp.where(xp.isfinite(pilot), pilot, 0)).mean(axis=0).sum()).astype(dtype)
    if traced:  # cannot be looked at: taken as complete
        seen = tree.unflatten([jnp.ones(part.shape, bool) for part in flat]) if missing else None
        return Table(Cells(tree.unflatten(flat), seen), pilot, origin, size, d, typical=typical)
    observed = [~np.isnan(part) if np.issubdtype(part.dtype, np.floating) else np.ones(part.shape, bool) for part in flat]
    present = np.concatenate(observed, axis=1)
    informative = present.any(axis=1) if present.shape[1] else np.ones(n, bool)
    partly = informative & ~present.all(axis=1)
    if partly.any() and not missing:
        row = int(np.flatnonzero(partly)[0])
        raise ValueError(
            f"y: row {row} has missing cells beside observed ones; Latent(..., missing=True) passes them on to log_joint, which "
            "has to marginalise them, or drop such rows."
        )
    if not informative.any():
        raise ValueError("y: every cell is missing; give at least one row with an observed cell.")
    if missing:
        flat = [np.where(seen, part, 0).astype(part.dtype) for seen, part in zip(observed, flat, strict=True)]
    else:  # what stands in for a row without cells is as sound as another row; its weight is 0
        sound = np.where(informative, np.arange(n), np.flatnonzero(informative)[0])
        flat = [part[sound] for part in flat]
    cells = Cells(tree.unflatten(flat), tree.unflatten(observed) if missing else None)
    columns = tuple(_columns(named, events))
    return Table(cells, pilot, origin, size, d, informative, not present.all(), typical, None, columns)


def told(slots: Any, cells: Cells) -> tuple[Any, ...]:
    """(row,) or (row, observed) of a block: trees like a row with leaves (c b, *event)."""

    def shape(slot: Slot, cell: jax.Array) -> jax.Array:
        cell = jnp.moveaxis(cell, 1, -1)
        return cell.reshape(cell.shape[0] * cell.shape[1], *slot.event.shape[1:])

    parts = (cells.value,) if cells.observed is None else (cells.value, cells.observed)
    return tuple(jax.tree.map(shape, slots, part, is_leaf=lambda leaf: isinstance(leaf, Slot)) for part in parts)


def _named_leaves(data: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Leaves with their names, and the tree; a data frame is a dict of its columns, a list one array."""
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        data = {str(name): data[name].to_numpy() for name in data.columns}
    elif isinstance(data, list):
        data = np.asarray(data)
    data = jax.tree.map(lambda leaf: leaf.to_numpy() if hasattr(leaf, "to_numpy") else leaf, data)
    found, tree = jax.tree_util.tree_flatten_with_path(data)
    if not found:
        raise ValueError("y: found no array; give an array of rows or a tree of such.")
    return [("y" + jax.tree_util.keystr(path), leaf) for path, leaf in found], tree


def _array(leaf: Any, name: str) -> Any:
    """One leaf (n, ...): NumPy where concrete; floats, whole numbers or booleans."""
    if isinstance(leaf, jax.core.Tracer):
        if leaf.ndim == 0:
            raise ValueError(f"{name}: found a single number; give an array whose first axis runs over rows.")
        return leaf
    try:
        array = np.asarray(leaf)
        if array.dtype == object:
            array = np.array([np.nan if cell is None else cell for cell in array.ravel()], np.float64).reshape(array.shape)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: found cells that are not numbers; drop or encode them.") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: found dtype {array.dtype}; give numbers, NaN where a cell is missing.")
    if array.ndim == 0 or len(array) == 0:
        raise ValueError(f"{name}: found shape {array.shape}; give an array whose first axis runs over at least one row.")
    return array if array.dtype.kind in "bf" else array.astype(jax.dtypes.canonicalize_dtype(np.int64))


def _columns(named: list[tuple[str, Any]], events: list[tuple[int, ...]]) -> list[str]:
    out = []
    for (name, _), event in zip(named, events, strict=True):
        size = int(np.prod(event))
        out += [name] if event == () else [f"{name}[{j}]" for j in range(size)]
    return out


def check_functions(model: Any, table: Table) -> None:
    """Tries a user's functions on shapes alone.

    Raises:
        TypeError, ValueError: a function that looks at traced values, or returns something of another shape than promised.
    """
    dtype = table.pilot.dtype
    params = jax.tree.map(lambda shape: jax.ShapeDtypeStruct(shape, dtype), model.shapes, is_leaf=lambda s: type(s) is tuple)
    is_slot = lambda leaf: isinstance(leaf, Slot)  # noqa: E731
    row = jax.tree.map(lambda slot: jax.ShapeDtypeStruct(slot.event.shape, slot.event.dtype), table.origin, is_leaf=is_slot)
    seen = jax.tree.map(lambda slot: jax.ShapeDtypeStruct(slot.event.shape, bool), table.origin, is_leaf=is_slot)
    told = (row, seen) if model.missing else (row,)
    z: Any = jax.ShapeDtypeStruct((), jnp.int32)
    if model.draw is not None:
        found = _try("draw", model.draw, jax.eval_shape(lambda: jax.random.key(0)), params, *told)
        if not isinstance(found, tuple) or len(found) != 2 or getattr(found[1], "shape", None) != ():
            raise TypeError("draw: returned something else than (z, log-density of z); return both, the density as one number.")
        z = found[0]
    _number("log_joint", "log p(row, z | params)", model.log_joint, params, z, *told)
    if model.prior is not None:
        _number("prior", "the log-density of the prior", model.prior, params)
    if model.statistics is None:
        return
    found = _try("statistics", model.statistics, z, *told)
    sums = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), found)
    moved = _try("maximize", model.maximize, sums)
    tree: Any = jax.tree.structure(model.free_domains)
    if jax.tree.structure(moved) != tree:
        raise TypeError(f"maximize: returned {jax.tree.structure(moved)}; return params, {tree}.")
    for leaf, shape in zip(jax.tree.leaves(moved), tree.flatten_up_to(model.shapes), strict=True):
        if leaf.shape != shape:
            raise ValueError(f"maximize: returned a leaf of shape {leaf.shape} where params have {shape}.")
    if model.expected is not None:
        _number("expected", "the expected log p(row, z | params)", model.expected, params, sums)


def _number(name: str, what: str, function: Any, *arguments: Any) -> None:
    found = _try(name, function, *arguments)
    if not hasattr(found, "shape") or found.shape != ():
        raise ValueError(f"{name}: returned {getattr(found, 'shape', type(found).__name__)}; return one number, {what}.")


def _try(name: str, function: Any, *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except (jax.errors.TracerBoolConversionError, jax.errors.ConcretizationTypeError) as error:
        raise TypeError(
            f"{name}: looks at a value that is traced, as `if z == 0` does; write jnp.where(z == 0, a, b) or jnp.stack([a, b])[z]."
        ) from error


def plain_domains(given: Any, exchangeable: bool) -> Any:
    """The tree as given, without state axes unless the states are exchangeable."""
    leaves = jax.tree.leaves(given)
    for leaf in leaves:
        if isinstance(leaf, type) and issubclass(leaf, Domain):
            raise TypeError(f"domains: found the class {leaf.__name__}; give an instance, {leaf.__name__}().")
        if not isinstance(leaf, Domain):
            raise TypeError(f"domains: found {type(leaf).__name__}; give a tree of jaxem.domains, such as {{'rate': Positive()}}.")
    if not leaves:
        raise ValueError("domains: found no parameter; give a domain for each.")
    if exchangeable:
        return given
    return jax.tree.map(lambda domain: dataclasses.replace(domain, state_axes=()), given)


def shapes_of(given: Any, start: Any, n_states: int) -> Any:
    """Leaf shapes: those of the start, or one number, or one for each state."""
    if start is not None:
        tree: Any = jax.tree.structure(given)
        if jax.tree.structure(start) != tree:
            raise TypeError(f"start: found {jax.tree.structure(start)}; give params like domains, {tree}.")
        for name, domain, leaf in zip(paths_of(given), jax.tree.leaves(given), jax.tree.leaves(start), strict=True):
            if domain.state_axes and np.shape(leaf)[:1] != (n_states,):
                raise ValueError(
                    f"start: {name or 'params'} has shape {np.shape(leaf)}, but runs over {n_states} exchangeable states; give it "
                    f"a leading axis of {n_states}, or its domain state_axes=() if all states share it."
                )
        return jax.tree.map(np.shape, start)
    for name, domain in zip(paths_of(given), jax.tree.leaves(given), strict=True):
        if domain.event_ndim:
            raise ValueError(f"start: {name or 'params'} is no single number, and its shape is not known; give start=params.")
    return jax.tree.map(lambda domain: (n_states,) if domain.state_axes else (), given)


def best_start(model: Any, key: jax.Array, rows: Rows, way: jax.Array) -> Any:
    """The start that was given for `way` 0; else, of a few points about it, the one that the pilot rows like best."""
    m = coordinates.count(model.domains, model.shapes)
    given = None if model.start is None else coordinates.cast(model.start, rows.dtype)
    centre = jnp.zeros(m, rows.dtype) if given is None else model.to_unconstrained(given)
    inside = jnp.isfinite(centre)
    scale = jnp.where(way == 2, 1.0, 0.5).astype(rows.dtype) * (1 + jnp.abs(jnp.where(inside, centre, 0)))
    noise = jax.random.normal(key, (CANDIDATES, m), rows.dtype) * scale
    candidates = jnp.where(inside, jnp.where(inside, centre, 0) + noise, centre)
    cells = jax.tree.map(lambda leaf: leaf.T[None], rows.pilot_cells)

    def worth(vector: jax.Array) -> jax.Array:
        bound = model.bind(model.from_unconstrained(vector), jnp.ones((1, rows.d), bool), rows.origin)
        log_density = softmax(jnp.zeros((), rows.dtype), model.log_prob(bound, cells))[1]
        found = weighted_sum(log_density, rows.pilot_weights[None])
        return jnp.where(jnp.isnan(found), -jnp.inf, found)

    best = candidates[jnp.argmax(jax.lax.map(worth, candidates))]
    return model.from_unconstrained(best if given is None else jnp.where(way == 0, centre, best))
