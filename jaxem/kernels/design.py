"""Design matrices in coordinates in which their Gram matrix is the identity, and weighted Gram matrices.

The linear predictor theta . (x, 1) is theta_w . v with v = (W (x - mean), 1): covariates of any scale, far from the origin or
nearly collinear then lose no more digits than the data themselves have.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import _label
from jaxem.kernels.dense import pairs
from jaxem.kernels.linalg import HIGHEST, apply, cholesky, invert_lower, matmul, transpose

COLLINEAR = 4  # times rounding of the covariates, below which what a column adds to the others is nothing
FEW = 8  # states up to which each has a matrix product of its own


class Design(NamedTuple):
    """Working coordinates v of the covariates, and what was subtracted from the response."""

    lift: jax.Array  # (q, q) working coefficients = lift @ (coefficients, intercept)
    drop: jax.Array  # (q, q) its inverse
    centre: jax.Array  # () in the user's units


def identity(q: int, dtype: Any) -> Design:
    """The user's own coordinates."""
    return Design(jnp.eye(q, dtype=dtype), jnp.eye(q, dtype=dtype), jnp.zeros((), dtype))


def whiten(
    x: np.ndarray, weights: np.ndarray, intercept: bool, names: tuple[str, ...] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str | None]:
    """Concrete covariates (n, p) -> working design (n, q), lift, drop, and a sentence where columns are collinear.

    By QR in float64. A column that adds nothing to the ones before it keeps its own direction, so that the transform is
    invertible whatever the data; a fit of such data has no unique answer.
    """
    n, p = x.shape
    eps = np.finfo(x.dtype).eps
    values, mass = x.astype(np.float64), weights / weights.sum()
    mean = mass @ values if intercept else np.zeros(p)
    centred = values - mean
    largest = np.abs(values).max(axis=0, initial=0)
    spread = np.sqrt(mass @ np.square(centred))
    empty = spread <= COLLINEAR * eps * largest
    spread = np.where(empty, np.where(largest > 0, largest, 1), spread)
    triangle = np.zeros((p, p))
    if p:
        found = np.linalg.qr(np.sqrt(mass)[:, None] * centred / spread, mode="r")
        triangle[: len(found)] = found
    noise = eps * largest / spread
    flaw = None
    for j in range(p):
        before = triangle[:j, :j]
        combination = np.linalg.solve(before, triangle[:j, j]) if j else np.zeros(0)
        nothing = COLLINEAR * (noise[j] + np.abs(combination) @ noise[:j] + eps)
        if empty[j] or abs(triangle[j, j]) <= nothing:
            if flaw is None:
                shares = combination * spread[j] / spread[:j]
                constant = abs(mean[j] - shares @ mean[:j]) > 1e-6 * (abs(mean[j]) + np.abs(shares * mean[:j]).sum())
                flaw = _collinear(j, np.flatnonzero(np.abs(combination) > 1e-6), intercept and constant, bool(empty[j]), names)
            triangle[j] = 0
            triangle[j, j] = 1
    inverse = np.linalg.inv(triangle) if p else triangle
    working = centred / spread @ inverse
    if not intercept:
        return working, triangle * spread, inverse / spread[:, None], flaw
    q = p + 1
    lift, drop = np.eye(q), np.eye(q)
    lift[:p, :p], lift[p, :p] = triangle * spread, mean
    drop[:p, :p] = inverse / spread[:, None]
    drop[p, :p] = -mean @ drop[:p, :p]
    return np.column_stack([working, np.ones(n)]), lift, drop, flaw


def _collinear(j: int, others: np.ndarray, intercept: bool, empty: bool, names: tuple[str, ...] | None) -> str:
    column = f"x: column {_label(names, j)}"
    if empty:
        return f"{column} is constant, which the intercept is already; drop it." if intercept else f"{column} is zero; drop it."
    parts = [f"column {_label(names, i)}" for i in others] + (["the intercept"] if intercept else [])
    listed = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" and {parts[-1]}" if parts else "those before it"
    return f"{column} is a linear combination of {listed}; drop one of them, or give more rows."


def whiten_traced(x: jax.Array, weights: jax.Array, intercept: bool) -> tuple[Any, Any, Any]:
    """The same of traced covariates, by Cholesky of their correlations; constant in derivatives."""
    p = x.shape[1]
    mass = weights / weights.sum()
    mean = mass @ x if intercept else jnp.zeros(p, x.dtype)
    centred = x - mean
    spread = jnp.sqrt(mass @ jnp.square(centred))
    spread = jnp.where(spread > 0, spread, 1)
    scaled = centred / spread
    gram = matmul((scaled * mass[:, None]).T, scaled)
    # a little on the diagonal keeps the factor real whatever the data; any invertible transform will do
    root = cholesky(gram + 64 * p * jnp.finfo(x.dtype).eps * jnp.eye(p, dtype=x.dtype)) if p else gram
    whitener = invert_lower(root) if p else gram
    lift, drop = root.T * spread, whitener.T / spread[:, None]
    if intercept:
        column, corner = jnp.zeros((p, 1), x.dtype), jnp.ones((1, 1), x.dtype)
        lift = jnp.block([[lift, column], [mean[None], corner]])
        drop = jnp.block([[drop, column], [-(mean @ drop)[None], corner]])
    lift, drop, mean = jax.lax.stop_gradient((lift, drop, mean))
    inner = drop[:p, :p]
    working = matmul(x - mean, inner)
    if intercept:
        working = jnp.concatenate([working, jnp.ones_like(working, shape=(x.shape[0], 1))], axis=1)
    return working, lift, drop


def grams(design: jax.Array, r: jax.Array) -> jax.Array:
    """(c, q, b), (c, K, b) -> (c, K, q, q): sum over rows of r v v', exactly symmetric.

    Few states are fastest as K products of q x b with b x q; many share one list of the products of pairs of rows of v, each
    unordered pair once. The two cross near K = 8, whatever q.
    """
    if r.shape[1] <= FEW:
        full = jnp.einsum("ckqb,cpb->ckqp", r[:, :, None] * design[:, None], design, precision=HIGHEST)
        return 0.5 * (full + transpose(full))
    q = design.shape[1]
    i, j = pairs(q)
    place = np.zeros((q, q), np.int32)
    place[i, j] = place[j, i] = np.arange(len(i))
    return jnp.einsum("ckb,cfb->ckf", r, _products(design), precision=HIGHEST)[..., place]


def _products(design: jax.Array) -> jax.Array:
    """(c, q, b) -> (c, F, b): products of `pairs` of its rows, each unordered pair once, in whole slabs."""
    q = design.shape[1]
    twice = jnp.concatenate([design, design], axis=1)
    slabs = [design * twice[:, s : s + q] for s in range(q // 2 + 1)]
    if q % 2 == 0:
        slabs[-1] = slabs[-1][:, : q // 2]
    return jnp.concatenate(slabs, axis=1)


def quadratic(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """(..., q, q), (..., q) -> v' M v."""
    return (apply(matrix, vector) * vector).sum(-1)
