"""Prepared data: blocks of rows that the kernels read, and the table that they are cut from.

Every row keeps its place by `position`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.checks import check_weights
from jaxem.layout import Patterns


class Section(NamedTuple):
    """Blocks of one width. m chunks of c groups of b rows; every row of a group has the same pattern."""

    cells: Any  # leaves (m, c, d, b): what the family reads
    weights: jax.Array  # (m, c, b), 0 where padded
    row: jax.Array  # (m, c, b) int32, input row; n where padded
    mask: Any  # (P, d) bool table of patterns (wider where a cell has more than two kinds), or (m, c, d), one for each group
    pattern: jax.Array | None  # (m, c) int32, row of the table; None where mask is given group by group
    gate: Any = None  # (m, c, g, b) covariates of the state probabilities, where a model has them


@dataclasses.dataclass(frozen=True)
class Rows:
    """Prepared data of `n` rows and `d` columns."""

    sections: tuple[Section, ...]
    position: jax.Array  # (n,) int32, slot of each input row over all sections
    weights: jax.Array  # (n,) as given
    informative: jax.Array  # (n,) bool, False where every cell is missing: such a row says nothing and is left out of sums
    origin: Any  # coordinates of the cells, as the family's `bind` takes them; often what was subtracted, (d,)
    spread: jax.Array  # (f,) variance of the observed cells of each pilot column
    typical: Any  # what the family's `magnitude` reads, or None
    pilot: jax.Array  # (n_pilot, f) columns that starting values are clustered by, NaN where missing
    pilot_cells: Any  # leaves (n_pilot, d): cells of the same rows
    pilot_gate: Any  # (n_pilot, g), or None
    pilot_index: jax.Array  # (n_pilot,) int32 their input rows; n where padded
    n: int
    d: int
    size: Hashable  # what the shapes of params follow from: the number of columns, or what the family says
    has_missing: bool  # whether any cell is missing
    columns: tuple[str, ...] | None = None  # names of the pilot columns
    labels: Hashable = None  # names of the categories, where cells stand for names
    gate_columns: tuple[str, ...] | None = None  # names of the gate's covariates
    flaw: str | None = None  # why no fit has a unique answer, for instance collinear covariates; scoring is sound all the same
    mesh: Any = None  # jax.sharding.Mesh over whose axis the chunks are dealt
    axis: Any = None  # that axis
    gate_origin: Any = None  # mean and scale (2, g) that the gate's covariates were brought to 0 and 1 by
    lanes: Any = None  # `jaxem.sequences.Lanes`, where rows are steps of sequences

    @property
    def dtype(self) -> Any:
        """Float dtype of cells, and so of statistics and params."""
        return self.spread.dtype

    @property
    def pilot_weights(self) -> jax.Array:
        """(n_pilot,) weights of the pilot rows, 0 where nothing is observed or padded."""
        counted = jnp.where(self.informative, self.weights, 0)
        return jnp.concatenate([counted, jnp.zeros(1, counted.dtype)])[self.pilot_index]

    def weigh(self, weights: Any) -> Rows:
        """The same rows under other weights (n,) in input order, concrete or traced; None keeps those there are.

        Weights of sequences are one number each.
        """
        if weights is None:
            return self
        if self.lanes is not None:
            weights = check_weights(weights, self.lanes.start.shape[0], self.dtype, "sequence")[self.lanes.sequence]
            return with_weights(self, weights)
        return with_weights(self, check_weights(weights, self.n, self.dtype))


jax.tree_util.register_dataclass(
    Rows,
    data_fields=(
        "sections", "position", "weights", "informative", "origin", "spread", "typical", "pilot", "pilot_cells", "pilot_gate",
        "pilot_index", "gate_origin", "lanes",
    ),
    meta_fields=("n", "d", "size", "has_missing", "columns", "labels", "gate_columns", "flaw", "mesh", "axis"),
)  # fmt: skip


def with_weights(rows: Rows, weights: jax.Array) -> Rows:
    """The same rows under weights (n,) that have been checked."""
    weights = everywhere(weights, rows.mesh)
    counted = jnp.where(rows.informative, weights, 0)
    counted = jnp.concatenate([counted, jnp.zeros(1, counted.dtype)])
    sections = tuple(s._replace(weights=counted[s.row]) for s in rows.sections)
    return dataclasses.replace(rows, sections=sections, weights=weights)


class Table(NamedTuple):
    """One data set as a family has read and checked it: NumPy arrays, or JAX ones where the data are traced."""

    cells: Any  # tree of (n, ·) arrays that the family reads
    pilot: Any  # (n, f) columns that starting values are clustered by, NaN where missing
    origin: Any  # coordinates of the cells
    size: Hashable  # what the shapes of params follow from
    d: int  # columns of y
    informative: Any = None  # (n,) bool; None where every row says something
    has_missing: bool = False
    typical: Any = None
    patterns: Patterns | None = None  # None where rows share no matrices by pattern
    columns: tuple[str, ...] | None = None
    labels: Hashable = None
    gate: Any = None  # (n, g)
    gate_origin: Any = None  # (2, g)
    gate_columns: tuple[str, ...] | None = None
    flaw: str | None = None


def everywhere(leaf: Any, mesh: Any) -> jax.Array:
    """A leaf that every device needs whole."""
    if mesh is None:
        return jnp.asarray(leaf)
    return jax.device_put(leaf, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
