"""Gaussian rows whose missing cells are drawn, given the row's observed cells and state, instead of averaged over."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import HIGHEST, cholesky, matmul, transpose
from jaxem.kernels.moments import Moments
from jaxem.rows import Rows


class NumberedCells(NamedTuple):
    """Cells of rows that know their number in the input."""

    own: Any  # the family's
    row: jax.Array  # (c, b)


@dataclasses.dataclass(frozen=True)
class DrawnCells:
    """`family` with statistics of completed rows: those of data without holes, one draw of them.

    For sums under states that are known (responsibilities 0 or 1). A row's randomness follows from the key and its number.

    Args:
        family: a Gaussian of full or tied covariance.
        key: a JAX key.
    """

    family: Any
    key: jax.Array

    closed = True

    @property
    def prior_type(self) -> Any:
        return self.family.prior_type

    @property
    def domains(self) -> Any:
        return self.family.domains

    def settle(self, params: Any, rows: Rows) -> DrawnCells:
        return DrawnCells(self.family.settle(params, rows), self.key)

    def localize(self, params: Any, rows: Rows, shared: bool = False) -> DrawnCells:
        del shared  # completed cells are about the rows' origin, whatever the params
        return DrawnCells(self.family.localize(params, rows, shared=True), self.key)

    def bind(self, params: Any, mask: jax.Array, origin: Any) -> Any:
        return self.family.bind(params, mask, origin)

    def log_prob(self, bound: Any, cells: NumberedCells) -> jax.Array:
        return self.family.log_prob(bound, cells.own)

    def sums(self, bound: Any, cells: NumberedCells, r: jax.Array) -> Moments:
        d = cells.own.shape[1]
        mean, covariance, observed = self.family.complete(bound, cells.own, jnp.zeros(d, r.dtype))
        seen = jnp.moveaxis(observed, -1, 1)[..., None]  # (c, 1, d, 1)
        root = cholesky(covariance + seen * jnp.eye(d, dtype=r.dtype))
        keys = jax.vmap(lambda row: jax.random.fold_in(self.key, row))(cells.row.reshape(-1))
        noise = jax.vmap(lambda own: jax.random.normal(own, (d,), r.dtype))(keys).reshape(*cells.row.shape, d)
        y = mean + matmul(root, (1 - seen) * transpose(noise)[:, None])  # (c, K, d, b)
        weighted = y * r[:, :, None]
        return Moments(r.sum(-1), weighted.sum(-1), jnp.einsum("ckib,ckjb->ckij", weighted, y, precision=HIGHEST))

    def finish(self, bound: Any, raw: Moments, origin: Any) -> Moments:
        del bound, origin  # the frame's
        return jax.tree.map(lambda leaf: leaf.sum(axis=0), raw)

    def update(self, distribution: Any, statistics: Any) -> Any:
        return self.family.update(distribution, statistics)


jax.tree_util.register_dataclass(DrawnCells, data_fields=("family", "key"), meta_fields=())


def numbered(rows: Rows) -> Rows:
    """The rows as `DrawnCells` reads them."""
    sections = tuple(section._replace(cells=NumberedCells(section.cells, section.row)) for section in rows.sections)
    return dataclasses.replace(rows, sections=sections)
