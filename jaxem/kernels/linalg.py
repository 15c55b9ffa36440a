"""Linear algebra on many small matrices.

LAPACK on a batch of tiny matrices is a serial loop on CPU and a slow kernel on GPU; worse, XLA's CPU runtime can deadlock
when it runs several of those calls at once on two threads (seen with JAX 0.10.2). So small factorisations are unrolled here,
with every operation running along the batch, and larger ones are built from them by 2 x 2 blocks and matrix products.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

UNROLL = 8  # largest d that is unrolled; beyond it matrices are halved

HIGHEST = jax.lax.Precision.HIGHEST  # TF32 on GPUs breaks monotonicity of EM


def transpose(a: jax.Array) -> jax.Array:
    """Swap the last two axes."""
    return jnp.swapaxes(a, -1, -2)


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """a @ b in full precision of the dtype on every device."""
    return jnp.matmul(a, b, precision=HIGHEST)


def cholesky(a: jax.Array) -> jax.Array:
    """Lower Cholesky factors of (..., d, d); only the lower triangle is read. NaN where a matrix is not positive definite."""
    d = a.shape[-1]
    if d > UNROLL:
        h = d // 2
        upper = cholesky(a[..., :h, :h])
        beside = matmul(a[..., h:, :h], transpose(invert_lower(upper)))
        lower = cholesky(a[..., h:, h:] - matmul(beside, transpose(beside)))
        return _stack_lower(upper, beside, lower)
    columns: list[jax.Array] = []
    rows = jnp.moveaxis(a, (-2, -1), (0, 1))
    for j in range(d):
        column = rows[j:, j]
        for k, done in enumerate(columns):
            column = column - done[j - k :] * done[j - k]
        columns.append(column / jnp.sqrt(column[0]))
    padded = [jnp.concatenate([jnp.zeros((j, *c.shape[1:]), a.dtype), c]) for j, c in enumerate(columns)]
    return jnp.moveaxis(jnp.stack(padded, axis=1), (0, 1), (-2, -1))


def invert_lower(factor: jax.Array) -> jax.Array:
    """Inverses of lower triangular matrices (..., d, d)."""
    d = factor.shape[-1]
    if d > UNROLL:
        h = d // 2
        upper, lower = invert_lower(factor[..., :h, :h]), invert_lower(factor[..., h:, h:])
        return _stack_lower(upper, -matmul(matmul(lower, factor[..., h:, :h]), upper), lower)
    entries = jnp.moveaxis(factor, (-2, -1), (0, 1))
    identity = jnp.eye(d, dtype=factor.dtype).reshape((d, d) + (1,) * (factor.ndim - 2))
    rows: list[jax.Array] = []
    for i in range(d):
        row = jnp.broadcast_to(identity[i], entries.shape[1:])
        for j, done in enumerate(rows):
            row = row - entries[i, j] * done
        rows.append(row / entries[i, i])
    return jnp.moveaxis(jnp.stack(rows), (0, 1), (-2, -1))


def _stack_lower(upper: jax.Array, beside: jax.Array, lower: jax.Array) -> jax.Array:
    """[[upper, 0], [beside, lower]]."""
    top = jnp.concatenate([upper, jnp.zeros_like(transpose(beside))], axis=-1)
    return jnp.concatenate([top, jnp.concatenate([beside, lower], axis=-1)], axis=-2)


def outer(a: jax.Array, b: jax.Array) -> jax.Array:
    """(..., d), (..., e) -> (..., d, e)."""
    return a[..., :, None] * b[..., None, :]


def apply(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """(..., d, e), (..., e) -> (..., d)."""
    return matmul(matrix, vector[..., None])[..., 0]


def lower_form(loadings: jax.Array) -> jax.Array:
    """(..., d, q) times the rotation that makes the top q x q block lower triangular, with a diagonal >= 0.

    Householder reflections of the columns, which stand a singular top block: its diagonal then has a 0.
    """
    d, q = loadings.shape[-2:]
    out = loadings
    for j in range(min(d, q)):
        below = out[..., j:, j:]
        row = below[..., 0, :]
        norm = jnp.sqrt((row * row).sum(-1))
        sign = jnp.where(row[..., 0] < 0, -1, 1).astype(row.dtype)
        normal = row.at[..., 0].add(sign * norm)
        square = (normal * normal).sum(-1)
        scale = jnp.where(square > 0, 2 / jnp.where(square > 0, square, 1), 0)
        below = below - outer(apply(below, normal) * scale[..., None], normal)
        below = below.at[..., 0].multiply(-sign[..., None])
        below = below.at[..., 0, :].set(jnp.zeros_like(row).at[..., 0].set(norm))
        out = out.at[..., j:, j:].set(below)
    return out


def solve_small(a: jax.Array, b: jax.Array) -> jax.Array:
    """x with a x = b, a (n, n) of any kind, b (n,), by Gauss and Jordan's elimination with partial pivoting, unrolled: n is a
    handful. Not finite where a is singular."""
    n = len(b)
    rows = jnp.concatenate([a, b[:, None]], axis=1)
    places = jnp.arange(n)
    for j in range(n):
        pivot = jnp.where(places >= j, jnp.abs(rows[:, j]), -1).argmax()
        swapped = jnp.where(places == j, pivot, jnp.where(places == pivot, j, places))
        rows = rows[swapped]
        own = rows[j] / rows[j, j]
        rows = jnp.where((places == j)[:, None], own, rows - rows[:, j : j + 1] * own)
    return rows[:, n]
