r"""Gaussian rows with diagonal covariances: cells are independent given the state, so a missing one is just not counted.

Same interface as `dense`. *quadratic* uses phi(y) = [y^2, y, presence], *whitened* z = (y - mu_k) / sigma_k.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.dense import LOG_2PI
from jaxem.kernels.linalg import HIGHEST, matmul
from jaxem.kernels.moments import Frame, Kernel, Moments


class Cells(NamedTuple):
    """What the cellwise kernels read."""

    value: jax.Array  # (c, d, b), 0 where missing
    present: jax.Array | None  # (c, d, b) 1 or 0; None where no cell is missing


class Bound(NamedTuple):
    """Params as the kernels take them, the same for every group."""

    mean: jax.Array  # (1, K, d) relative to the rows' origin
    variance: jax.Array  # (1, K, d)


def bind(mean: jax.Array, variance: jax.Array, mask: jax.Array, origin: jax.Array) -> Bound:
    """mean and variance (K, d); patterns play no part."""
    del mask
    return Bound((mean - origin)[None], variance[None])


def _features(cells: Cells) -> jax.Array:
    y = cells.value
    count = jnp.ones_like(y[:, :1]) if cells.present is None else cells.present
    return jnp.concatenate([y * y, y, count], axis=1)


def _constant(bound: Bound, cells: Cells) -> jax.Array:
    """Coefficients of the presence features: (1, K, d), or (1, K, 1) where every cell is there."""
    constant = -0.5 * (jnp.log(bound.variance) + LOG_2PI)
    return constant.sum(-1, keepdims=True) if cells.present is None else constant


def log_prob_quadratic(bound: Bound, cells: Cells) -> jax.Array:
    """(c, K, b): one product."""
    precision = 1 / bound.variance
    square = -0.5 * precision * bound.mean * bound.mean
    constant = _constant(bound, cells) + (square.sum(-1, keepdims=True) if cells.present is None else square)
    coefficients = jnp.concatenate([-0.5 * precision, precision * bound.mean, constant], axis=-1)
    return matmul(coefficients, _features(cells))


def sums_quadratic(bound: Bound, cells: Cells, r: jax.Array) -> Moments:
    """Sums of r, r y, r y^2 cell by cell."""
    raw = jnp.einsum("ckb,cfb->ckf", r, _features(cells), precision=HIGHEST)
    d = bound.mean.shape[-1]
    return Moments(jnp.broadcast_to(raw[..., 2 * d :], raw[..., :d].shape), raw[..., d : 2 * d], raw[..., :d])


def finish_quadratic(bound: Bound, raw: Moments, origin: jax.Array, frame: Frame) -> Moments:
    """Adds up the groups and moves to the frame (a common origin, no factor)."""
    del bound
    weight, first, second = (leaf.sum(0) for leaf in raw)
    shift = origin - frame.origin
    return Moments(weight, first + weight * shift, second + 2 * shift * first + weight * shift * shift)


def _whiten(bound: Bound, cells: Cells) -> jax.Array:
    z = (cells.value[:, None] - bound.mean[..., None]) / jnp.sqrt(bound.variance)[..., None]
    return z if cells.present is None else z * cells.present[:, None]


def log_prob_whitened(bound: Bound, cells: Cells) -> jax.Array:
    """(c, K, b)."""
    z = _whiten(bound, cells)
    constant = _constant(bound, cells)
    normalizer = constant if cells.present is None else matmul(constant, cells.present)
    return normalizer - 0.5 * (z * z).sum(axis=2)


def sums_whitened(bound: Bound, cells: Cells, r: jax.Array) -> Moments:
    """Sums of r, r z, r z^2 cell by cell, about the params."""
    z = _whiten(bound, cells)
    weighted = z * r[:, :, None, :]
    if cells.present is None:
        weight = jnp.broadcast_to(r.sum(-1, keepdims=True), z.shape[:3])
    else:
        weight = jnp.einsum("ckb,cdb->ckd", r, cells.present, precision=HIGHEST)
    return Moments(weight, weighted.sum(-1), (weighted * z).sum(-1))


def finish_whitened(bound: Bound, raw: Moments, origin: jax.Array, frame: Frame) -> Moments:
    """Adds up the groups and moves from coordinates about the params to the frame."""
    weight, first, second = (leaf.sum(0) for leaf in raw)
    if frame.factor is not None:
        return Moments(weight, first, second)
    deviation = jnp.sqrt(bound.variance[0])
    shift = bound.mean[0] + (origin - frame.origin)
    first, second = deviation * first, deviation * deviation * second
    return Moments(weight, first + weight * shift, second + 2 * shift * first + weight * shift * shift)


def complete(bound: Bound, cells: Cells) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Conditional means (c, K, d, b) relative to the rows' origin, covariances (c, K, d, d) of cells if missing, presence."""
    y = cells.value[:, None]
    mean = bound.mean[..., None]
    full = jnp.broadcast_to(mean, (y.shape[0], mean.shape[1], *y.shape[2:]))
    full = jnp.where(cells.present[:, None] > 0, y, full) if cells.present is not None else jnp.broadcast_to(y, full.shape)
    covariance = bound.variance[..., None] * jnp.eye(bound.variance.shape[-1], dtype=bound.variance.dtype)
    present = jnp.ones_like(cells.value) if cells.present is None else cells.present
    return full, jnp.broadcast_to(covariance, (y.shape[0], *covariance.shape[1:])), present


QUADRATIC = Kernel(bind, log_prob_quadratic, sums_quadratic, finish_quadratic, complete)
WHITENED = Kernel(bind, log_prob_whitened, sums_whitened, finish_whitened, complete)
