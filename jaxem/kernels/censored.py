r"""Gaussian rows whose cells are exact, missing, or known to lie in an interval: two more kernels (see `kernels.moments.Kernel`).

A row's density is N(exact cells) P(censored cells in their intervals | exact cells). Statistics take the censored cells'
conditional mean and covariance given both (`kernels.rectangle`); sums are about the params, in whitened coordinates, and are
finished by the kernels of plain rows, to which a censored cell is a seen one.

The table of patterns has 2 d columns: which cells are seen (exact or censored), then which are censored.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels import cellwise, dense, rectangle
from jaxem.kernels.linalg import HIGHEST, apply, cholesky, matmul, transpose
from jaxem.kernels.moments import Frame, Kernel, Moments
from jaxem.kernels.rectangle import Box


class Cells(NamedTuple):
    """What the kernels read, relative to the rows' origin."""

    value: jax.Array  # (c, d, b) exact cells, 0 elsewhere
    seen: jax.Array  # (c, d, b) 1 where exact or censored, else 0
    lower: jax.Array  # (c, m, b) of the censored cells of a row, those that pad first: (-inf, inf); m = d where cellwise
    upper: jax.Array  # likewise
    width: jax.Array  # likewise, upper - lower as given


class DenseBound(NamedTuple):
    """For each pattern and state."""

    seen: dense.WhitenedBound  # of the seen cells
    exact: dense.WhitenedBound  # of the exact cells
    select: jax.Array  # (P, 1, m, d) one-hot rows of the censored cells, zero rows where padded
    regression: jax.Array  # (P, K', m, d) of the censored cells on the exact ones
    offset: jax.Array  # (P, K, m)
    factor: jax.Array  # (P, K', m, m) Cholesky factor of their covariance given the exact cells, identity where padded
    censored: jax.Array  # (P, 1) how many


def bind_dense(mean: jax.Array, covariance: jax.Array, mask: jax.Array, origin: jax.Array) -> DenseBound:
    """The regression of the censored cells of each pattern on its exact ones."""
    d = mean.shape[1]
    seen, censored = mask[:, :d], mask[:, d:]
    exact = dense.bind_whitened(mean, covariance, seen & ~censored, origin)
    regression, offset, conditional = dense._completion(exact.marginal)
    most = min(d, rectangle.MOST)
    place = jnp.sort(jnp.where(censored, jnp.arange(1, d + 1), 0), axis=1)[:, d - most :]  # ascending, padding first
    select = (place[:, :, None] == jnp.arange(1, d + 1)).astype(mean.dtype)[:, None]
    within = matmul(matmul(select, conditional), transpose(select))
    within = within + jnp.eye(most, dtype=mean.dtype) * (1 - select.sum(-1))[..., None]
    whole = dense.bind_whitened(mean, covariance, seen, origin)
    return DenseBound(
        whole, exact, select, matmul(select, regression), apply(select, offset), cholesky(within), (place > 0).sum(1)[:, None]
    )


def _boxes(bound: DenseBound, cells: Cells, m: int) -> tuple[Box, Any]:
    """The last m censored cells about their conditional means, as lists, and their factor."""
    c, d, b = cells.value.shape
    regression = bound.regression[..., -m:, :]
    k = bound.offset.shape[1]
    matrix = jnp.broadcast_to(regression, (c, k, m, d)).reshape(c, k * m, d)
    mean = matmul(matrix, cells.value).reshape(c, k, m, b) + bound.offset[..., -m:, None]
    lower, upper = cells.lower[:, None, -m:] - mean, cells.upper[:, None, -m:] - mean
    width = jnp.broadcast_to(cells.width[:, None, -m:], lower.shape)
    factor = bound.factor[..., -m:, -m:]
    rows = [[jnp.broadcast_to(factor[..., i, j, None], (c, k, 1)) for j in range(m)] for i in range(m)]
    return Box(*([part[:, :, j] for j in range(m)] for part in (lower, upper, width))), rows


def _by_count(bound: DenseBound, cells: Cells, visit: Any, none: Any) -> Any:
    """`visit(m)` for the largest number of censored cells in the block; `none` where it has none."""
    most = cells.lower.shape[1]
    branches = [lambda: none, *(lambda m=m: visit(m) for m in range(1, most + 1))]
    return jax.lax.switch(jnp.minimum(bound.censored.max(), most), branches)


def log_prob_dense(bound: DenseBound, cells: Cells) -> jax.Array:
    """(c, K, b)."""
    exact = dense.log_prob_whitened(bound.exact, cells.value)
    return exact + _by_count(
        bound, cells, lambda m: rectangle.log_probability(*_boxes(bound, cells, m)), jnp.zeros_like(exact)
    )


def _censored_moments(bound: DenseBound, cells: Cells) -> tuple[jax.Array, jax.Array]:
    """Mean (c, K, m, b) and covariance (c, K, m, m, b) of the censored cells about their conditional means, L w."""
    c, k, b = cells.value.shape[0], bound.offset.shape[1], cells.value.shape[2]
    most = cells.lower.shape[1]
    dtype = cells.value.dtype

    def visit(m: int) -> tuple[jax.Array, jax.Array]:
        box, factor = _boxes(bound, cells, m)
        found = rectangle.moments(box, factor)
        lower = jnp.broadcast_to(bound.factor[..., -m:, -m:], (c, k, m, m))
        mean = matmul(lower, jnp.stack(found.mean, axis=2))
        spread = jnp.stack([jnp.stack(row, axis=2) for row in found.covariance], axis=2)
        spread = jnp.einsum("ckij,ckjlb,ckhl->ckihb", lower, spread, lower, precision=HIGHEST)
        pad = most - m
        mean = jnp.pad(mean, [(0, 0), (0, 0), (pad, 0), (0, 0)])
        return mean, jnp.pad(spread, [(0, 0), (0, 0), (pad, 0), (pad, 0), (0, 0)])

    return _by_count(bound, cells, visit, (jnp.zeros((c, k, most, b), dtype), jnp.zeros((c, k, most, most, b), dtype)))


def _completed(bound: DenseBound, cells: Cells) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Exact cells and the means of the censored ones (c, K, d, b), 0 where missing; covariances (c, K, m, m, b); selection."""
    mean, spread = _censored_moments(bound, cells)
    c, k, m, _ = mean.shape
    select = jnp.broadcast_to(bound.select[..., -m:, :], (c, 1, m, cells.value.shape[1]))
    # the conditional mean itself, then what the intervals add to it; padded cells select nothing
    matrix = jnp.broadcast_to(bound.regression[..., -m:, :], (c, k, m, cells.value.shape[1]))
    mean = mean + jnp.einsum("ckmd,cdb->ckmb", matrix, cells.value, precision=HIGHEST) + bound.offset[..., -m:, None]
    full = cells.value[:, None] + jnp.einsum("cmd,ckmb->ckdb", select[:, 0], mean, precision=HIGHEST)
    return full, spread, select


def sums_dense(bound: DenseBound, cells: Cells, r: jax.Array) -> Moments:
    """Sums of r, r z, r z z', z whitened by the seen cells, about the params."""
    full, spread, select = _completed(bound, cells)
    whitener = bound.seen.marginal.whitener
    z = matmul(whitener, full) - bound.seen.shift[..., None]
    weighted = z * r[:, :, None, :]
    second = jnp.einsum("ckib,ckjb->ckij", weighted, z, precision=HIGHEST)
    turned = matmul(whitener, transpose(select))  # (c, K', d, m)
    total = jnp.einsum("ckijb,ckb->ckij", spread, r, precision=HIGHEST)
    return Moments(r.sum(-1), weighted.sum(-1), second + matmul(matmul(turned, total), transpose(turned)))


def finish_dense(bound: DenseBound, raw: Moments, origin: jax.Array, frame: Frame) -> Moments:
    """As for plain rows in which the censored cells are seen."""
    return dense.finish_whitened(bound.seen, raw, origin, frame)


def complete_dense(bound: DenseBound, cells: Cells) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Conditional means (c, K, d, b), covariances row by row (c, K, b, d, d), and which cells are exact (c, d, 1)."""
    full, spread, select = _completed(bound, cells)
    regression, offset, conditional = dense._completion(bound.seen.marginal)
    mean = matmul(regression, full) + offset[..., None]
    lift = matmul(regression, transpose(select))  # (c, K', d, m)
    lift = jnp.broadcast_to(lift, (*full.shape[:2], *lift.shape[2:]))
    extra = jnp.einsum("ckim,ckmlb,ckjl->ckbij", lift, spread, lift, precision=HIGHEST)
    return mean, conditional[:, :, None] + extra, transpose(bound.exact.marginal.mask)


def _boxes_cellwise(bound: cellwise.Bound, cells: Cells) -> tuple[Box, Any]:
    """Each cell by itself; one that is exact or missing has no bounds."""
    mean = bound.mean[..., None]
    lower, upper = cells.lower[:, None] - mean, cells.upper[:, None] - mean
    return Box([lower], [upper], [jnp.broadcast_to(cells.width[:, None], lower.shape)]), [[jnp.sqrt(bound.variance)[..., None]]]


def _censored(cells: Cells) -> jax.Array:
    """(c, 1, d, b) bool."""
    return (jnp.isfinite(cells.lower) | jnp.isfinite(cells.upper))[:, None]


def _plain(cells: Cells) -> cellwise.Cells:
    """The exact cells alone."""
    exact = jnp.where(_censored(cells)[:, 0], 0, cells.seen)
    return cellwise.Cells(cells.value, exact)


def log_prob_cellwise(bound: cellwise.Bound, cells: Cells) -> jax.Array:
    """(c, K, b)."""
    inside = rectangle.log_probability(*_boxes_cellwise(bound, cells))
    return cellwise.log_prob_whitened(bound, _plain(cells)) + jnp.where(_censored(cells), inside, 0).sum(axis=2)


def _cellwise_moments(bound: cellwise.Bound, cells: Cells) -> tuple[jax.Array, jax.Array]:
    """Mean and variance (c, K, d, b) of z = (y - mu) / sigma given the cells; 0 and 0 where missing."""
    found = rectangle.moments(*_boxes_cellwise(bound, cells))
    censored = _censored(cells)
    z = cellwise._whiten(bound, _plain(cells))
    return jnp.where(censored, found.mean[0], z), jnp.where(censored, found.covariance[0][0], 0)


def sums_cellwise(bound: cellwise.Bound, cells: Cells, r: jax.Array) -> Moments:
    """Sums of r, r z, r z^2 cell by cell, about the params."""
    z, spread = _cellwise_moments(bound, cells)
    weighted = z * r[:, :, None, :]
    weight = jnp.einsum("ckb,cdb->ckd", r, cells.seen, precision=HIGHEST)
    return Moments(weight, weighted.sum(-1), (weighted * z + spread * r[:, :, None, :]).sum(-1))


def complete_cellwise(bound: cellwise.Bound, cells: Cells) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Conditional means (c, K, d, b), covariances row by row (c, K, b, d, d), and which cells are exact (c, d, b)."""
    z, spread = _cellwise_moments(bound, cells)
    scale = jnp.sqrt(bound.variance)[..., None]
    plain = _plain(cells)
    exact = plain.present[:, None] > 0  # type: ignore[index]
    mean = jnp.where(exact, cells.value[:, None], bound.mean[..., None] + scale * z)
    variance = jnp.where(exact, 0, jnp.where(_censored(cells), scale * scale * spread, bound.variance[..., None]))
    identity = jnp.eye(variance.shape[2], dtype=variance.dtype)
    return mean, jnp.moveaxis(variance, 2, -1)[..., None] * identity, plain.present  # type: ignore[return-value]


DENSE = Kernel(bind_dense, log_prob_dense, sums_dense, finish_dense, complete_dense)
CELLWISE = Kernel(cellwise.bind, log_prob_cellwise, sums_cellwise, cellwise.finish_whitened, complete_cellwise)
