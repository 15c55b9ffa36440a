"""Traced values put in the place of those that prepared rows hold, so that derivatives by data go through their holes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxem.inputs import Regression
from jaxem.rows import Rows, Section

STAND_IN = 1.0  # where a cell is missing while values are read: a value that every family allows; it is not kept


def refill(model: Any, rows: Rows, data: Any) -> Rows:
    """`rows` with the values of `data` (traced or not) in the observed cells; what is missing stays missing.

    Weights, blocks, pilot rows and spreads stay those of `rows`.

    Raises:
        TypeError: cells that are intervals, or a model whose rows are not cells. ValueError: another shape than (n, d).
    """
    seen = observed_cells(model, rows)
    y = data.y if isinstance(data, Regression) else data
    if not hasattr(y, "shape"):
        raise TypeError(f"y: found {type(y).__name__}; give an array (n, d) of the shape that like= was prepared from.")
    y = y[:, None] if y.ndim == 1 else y
    if y.shape != seen.shape:
        raise ValueError(f"y: found shape {y.shape}; like= was prepared from {seen.shape[0]} rows of {seen.shape[1]} columns.")
    filled = jnp.where(seen, y, STAND_IN).astype(rows.dtype)
    new = _read(model, dataclasses.replace(data, y=filled) if isinstance(data, Regression) else filled)
    cells = jax.tree.map(lambda *parts: _in_order(parts, new), *(section.cells for section in new.sections))
    gates = [section.gate for section in new.sections]
    gate = None if gates[0] is None else _in_order(gates, new)
    sections = tuple(_put(section, cells, gate, seen) for section in rows.sections)
    return dataclasses.replace(rows, sections=sections, origin=new.origin, gate_origin=new.gate_origin)


@jax.jit
def _read(model: Any, data: Any) -> Rows:
    """Rows of data that are traced here, so that they are read as complete, whatever their values; one program a shape."""
    return model.prepare(data)


def observed_cells(model: Any, rows: Rows) -> jax.Array:
    """(n, d) bool, input order: which cells hold a value."""
    parts = []
    for section in rows.sections:
        m, c, b = section.weights.shape
        mask = jnp.asarray(section.mask if section.pattern is None else section.mask[section.pattern])
        present = jax.vmap(model.family.seen)(section.cells) if hasattr(model, "family") else None
        if mask.shape[-1] != rows.d or not hasattr(model, "family"):
            raise TypeError("like: its cells are intervals or no cells at all; only plain values can be put in their place.")
        shape = (m, c, rows.d, b)
        both = jnp.broadcast_to(mask[..., None], shape)
        parts.append(both if present is None else both & (jnp.broadcast_to(present, shape) > 0))
    return _in_order(parts, rows)


def _in_order(parts: Any, rows: Rows) -> jax.Array:
    """Leaves (m, c, f, b) of all sections -> (n, f) in input order."""
    flat = [jnp.moveaxis(part, 2, -1).reshape(-1, part.shape[2]) for part in parts]
    return jnp.concatenate(flat)[rows.position]


def _put(section: Section, cells: Any, gate: Any, seen: jax.Array) -> Section:
    """A section with the values (n, f) in its blocks."""

    def gathered(values: jax.Array) -> jax.Array:
        inside = jnp.minimum(section.row, len(values) - 1)
        return jnp.moveaxis(values[inside], -1, 2)

    def leaf(old: jax.Array, new: jax.Array) -> jax.Array:
        placed = gathered(new).astype(old.dtype)
        return jnp.where(gathered(seen), placed, old) if new.shape == seen.shape else placed

    return section._replace(cells=_merge(section.cells, cells, leaf), gate=None if gate is None else gathered(gate))


def _merge(old: Any, new: Any, leaf: Any) -> Any:
    """New leaves for old ones; what is told of missing cells alone has no new one, and stays."""
    if new is None:
        return old
    if isinstance(old, dict):
        return {name: _merge(part, new[name], leaf) for name, part in old.items()}
    if isinstance(old, tuple):
        parts = [_merge(a, b, leaf) for a, b in zip(old, new, strict=True)]
        return type(old)(*parts) if hasattr(old, "_fields") else tuple(parts)
    return old if old is None else leaf(old, new)
