r"""Gaussian rows with dense covariances: two kernels behind one interface (bind, log_prob, sums, finish).

*quadratic*: log N(y) is linear in phi(y), the F = (d + 1)(d + 2)/2 products of pairs of (y, 1), so that log-probabilities and
statistics are one matrix product each, of (K, F) with (F, b). Half the arithmetic of the other, but digits are lost when
|L_k^-1 (mu_k - origin)|^2 eps is not small.

*whitened*: z = L_k^-1 (y - mu_k) by one product for all k, sums of r, r z, r z z'. Accurate wherever the means are.

Missing cells: for a pattern with observed cells O the covariance is replaced by S_OO on O and the identity elsewhere, so
that one d x d Cholesky of static shape gives the marginal density; the statistics of the pattern are completed at the end,

    E[y | y_O] = mu + R (y - mu)_O,    R = [I; S_MO S_OO^-1],    cov = C = S_MM - S_MO S_OO^-1 S_OM on the missing cells.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.kernels.linalg import HIGHEST, apply, cholesky, invert_lower, matmul, outer, transpose
from jaxem.kernels.moments import Frame, Kernel, Moments

LOG_2PI = float(np.log(2 * np.pi))


class Marginal(NamedTuple):
    """The observed part of each pattern and state, zero on missing cells. K' is K, or 1 for a shared covariance."""

    mask: jax.Array  # (P, 1, d) of the float dtype
    mean: jax.Array  # (1, K, d) relative to the rows' origin
    covariance: jax.Array  # (1, K', d, d) the whole one
    whitener: jax.Array  # (P, K', d, d) inverse Cholesky factor of the observed block
    log_normalizer: jax.Array  # (P, K') -log|L_OO| - |O| log(2 pi) / 2


class QuadraticBound(NamedTuple):
    """Coefficients of `features` for each pattern and state."""

    coefficients: jax.Array  # (P, K, F)
    marginal: Marginal


class WhitenedBound(NamedTuple):
    """What `z = whitener @ y - shift` takes for each pattern and state."""

    shift: jax.Array  # (P, K, d) whitener @ mean
    factor: jax.Array  # (1, K', d, d) Cholesky factor of the whole covariance
    marginal: Marginal


def marginalize(mean: jax.Array, covariance: jax.Array, mask: jax.Array, origin: jax.Array) -> Marginal:
    """mean (K, d), covariance (K', d, d), mask (P, d)."""
    observed = mask.astype(covariance.dtype)
    both = outer(observed, observed)[:, None]
    missing = jnp.eye(mask.shape[-1], dtype=covariance.dtype) * (1 - observed)[:, None, None, :]
    factor = cholesky(covariance[None] * both + missing)
    whitener = invert_lower(factor) * both
    log_determinant = jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    log_normalizer = -log_determinant - 0.5 * LOG_2PI * observed.sum(-1)[:, None]
    return Marginal(observed[:, None], (mean - origin)[None], covariance[None], whitener, log_normalizer)


def pairs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (i, j) of `features`: each unordered pair once, as i and i + s (mod size) for s = 0, 1, ..., size / 2."""
    place = np.arange(size)
    shifts = [(place, (place + s) % size) for s in range(size // 2 + 1)]
    if size % 2 == 0:
        i, j = shifts[-1]
        shifts[-1] = i[: size // 2], j[: size // 2]
    return np.concatenate([i for i, _ in shifts]), np.concatenate([j for _, j in shifts])


def features(y: jax.Array) -> jax.Array:
    """(c, d, b) -> (c, F, b): products of `pairs` of rows of (y, 1).

    Each shift is one product of whole slabs: half the pieces of a triangle built row by row, which is what takes the time.
    """
    size = y.shape[1] + 1
    rows = jnp.concatenate([y, jnp.ones_like(y[:, :1])], axis=1)
    twice = jnp.concatenate([rows, rows], axis=1)
    slabs = [rows * twice[:, s : s + size] for s in range(size // 2 + 1)]
    if size % 2 == 0:
        slabs[-1] = slabs[-1][:, : size // 2]
    return jnp.concatenate(slabs, axis=1)


def bind_quadratic(mean: jax.Array, covariance: jax.Array, mask: jax.Array, origin: jax.Array) -> QuadraticBound:
    """Natural parameters for each pattern: coefficients of `features`."""
    marginal = marginalize(mean, covariance, mask, origin)
    precision = matmul(transpose(marginal.whitener), marginal.whitener)
    linear = apply(precision, marginal.mean)
    constant = marginal.log_normalizer - 0.5 * (linear * marginal.mean).sum(-1)
    quadratic = jnp.broadcast_to(-0.5 * precision, (*linear.shape[:2], *precision.shape[2:]))
    whole = jnp.concatenate([quadratic, 0.5 * linear[..., None]], axis=-1)
    last = jnp.concatenate([0.5 * linear, constant[..., None]], axis=-1)
    whole = jnp.concatenate([whole, last[..., None, :]], axis=-2)
    i, j = pairs(whole.shape[-1])
    return QuadraticBound(whole[..., i, j] * np.where(i == j, 1, 2).astype(whole.dtype), marginal)


def log_prob_quadratic(bound: QuadraticBound, y: jax.Array) -> jax.Array:
    """(c, K, b): one product."""
    return matmul(bound.coefficients, features(y))


def sums_quadratic(bound: QuadraticBound, y: jax.Array, r: jax.Array) -> jax.Array:
    """(c, K, F): sum over rows of r phi(y)."""
    del bound
    return jnp.einsum("ckb,cfb->ckf", r, features(y), precision=HIGHEST)


def finish_quadratic(bound: QuadraticBound, raw: jax.Array, origin: jax.Array, frame: Frame) -> Moments:
    """Completes and adds up the patterns' sums, in the frame (a common origin, no factor)."""
    marginal = bound.marginal
    d = marginal.mean.shape[-1]
    i, j = pairs(d + 1)
    place = np.zeros((d + 1, d + 1), np.int32)
    place[i, j] = place[j, i] = np.arange(len(i))
    whole = raw[..., place]
    second, first, weight = whole[..., :d, :d], whole[..., :d, d], whole[..., d, d]
    regression, offset, conditional = _completion(marginal)
    moved = apply(regression, first)
    cross = outer(moved, offset)
    second = matmul(matmul(regression, second), transpose(regression)) + cross + transpose(cross)
    second = second + weight[..., None, None] * (outer(offset, offset) + conditional)
    first = moved + weight[..., None] * offset
    weight, first, second = weight.sum(0), first.sum(0), second.sum(0)
    shift = origin - frame.origin
    cross = outer(first, shift)
    second = second + cross + transpose(cross) + weight[:, None, None] * outer(shift, shift)
    return Moments(weight, first + weight[:, None] * shift, second)


def _completion(marginal: Marginal) -> tuple[jax.Array, jax.Array, jax.Array]:
    """R (P, K', d, d), offset (P, K, d) and C (P, K', d, d) with E[y | y_O] = R y_O + offset; exact on observed cells."""
    observed = marginal.mask[..., None]  # (P, 1, d, 1)
    whole = marginal.covariance
    precision = matmul(transpose(marginal.whitener), marginal.whitener)
    identity = jnp.eye(whole.shape[-1], dtype=whole.dtype)
    regression = jnp.where(observed > 0, identity * transpose(observed), matmul(whole, precision))
    offset = (1 - marginal.mask) * (marginal.mean - apply(regression, marginal.mean))
    both_missing = (1 - observed) * transpose(1 - observed)
    conditional = both_missing * (whole - matmul(regression, whole))
    return regression, offset, conditional


def bind_whitened(mean: jax.Array, covariance: jax.Array, mask: jax.Array, origin: jax.Array) -> WhitenedBound:
    """Whitening matrices for each pattern."""
    marginal = marginalize(mean, covariance, mask, origin)
    return WhitenedBound(apply(marginal.whitener, marginal.mean), cholesky(covariance)[None], marginal)


def whiten(bound: WhitenedBound, y: jax.Array) -> jax.Array:
    """(c, d, b) -> (c, K, d, b): z = L_k^-1 (y - mu_k), zero on missing cells."""
    whitener = bound.marginal.whitener
    c, k, d, _ = whitener.shape
    z = matmul(whitener.reshape(c, k * d, d), y)
    return z.reshape(z.shape[0], k, d, -1) - bound.shift[..., None]


def log_prob_whitened(bound: WhitenedBound, y: jax.Array) -> jax.Array:
    """(c, K, b)."""
    z = whiten(bound, y)
    return bound.marginal.log_normalizer[..., None] - 0.5 * (z * z).sum(axis=2)


def sums_whitened(bound: WhitenedBound, y: jax.Array, r: jax.Array) -> Moments:
    """Sums of r, r z, r z z' per pattern, about the params."""
    z = whiten(bound, y)
    weighted = z * r[:, :, None, :]
    return Moments(r.sum(-1), weighted.sum(-1), jnp.einsum("ckib,ckjb->ckij", weighted, z, precision=HIGHEST))


def finish_whitened(
    bound: WhitenedBound, raw: Moments, origin: jax.Array, frame: Frame, count: jax.Array | None = None
) -> Moments:
    """Completes the patterns' sums in coordinates whitened by the whole covariance, L^-1 (y - mu), then moves to the frame.

    There E[x | x_O] = T z with T = (W L)' and the conditional covariance is I - T T', counted `count` (P, K) times (default: the
    raw weight).
    """
    marginal = bound.marginal
    identity = jnp.eye(marginal.mean.shape[-1], dtype=marginal.mean.dtype)
    complete = marginal.mask.all(-1)[..., None, None]
    count = raw.weight if count is None else count
    lift = jnp.where(complete, identity, transpose(matmul(marginal.whitener, bound.factor)))
    conditional = jnp.where(complete, 0, identity - matmul(lift, transpose(lift)))
    first = apply(lift, raw.first)
    second = matmul(matmul(lift, raw.second), transpose(lift)) + count[..., None, None] * conditional
    weight, first, second = raw.weight.sum(0), first.sum(0), second.sum(0)
    if frame.factor is not None:
        return Moments(weight, first, second)
    factor = bound.factor[0]
    shift = marginal.mean[0] + (origin - frame.origin)
    first = apply(factor, first)
    cross = outer(first, shift)
    second = matmul(matmul(factor, second), transpose(factor)) + cross + transpose(cross)
    second = second + weight[:, None, None] * outer(shift, shift)
    return Moments(weight, first + weight[:, None] * shift, second)


def complete(bound: QuadraticBound | WhitenedBound, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Conditional means (c, K, d, b) relative to the rows' origin, covariances (c, K, d, d), and what is observed (c, d, 1)."""
    marginal = bound.marginal
    regression, offset, conditional = _completion(marginal)
    k = marginal.mean.shape[1]
    mean = jnp.einsum("ckij,cjb->ckib", jnp.broadcast_to(regression, (y.shape[0], k, *regression.shape[2:])), y, precision=HIGHEST)
    covariance = jnp.broadcast_to(conditional, (y.shape[0], k, *conditional.shape[2:]))
    return mean + offset[..., None], covariance, transpose(marginal.mask)


QUADRATIC = Kernel(bind_quadratic, log_prob_quadratic, sums_quadratic, finish_quadratic, complete)
WHITENED = Kernel(bind_whitened, log_prob_whitened, sums_whitened, finish_whitened, complete)
