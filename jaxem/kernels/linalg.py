"""Linear algebra on many small matrices.

LAPACK on a batch of tiny matrices is a serial loop on CPU and a slow kernel on GPU, so for small static d the loops over
d are unrolled here and every operation runs along the batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

UNROLL = 12  # largest d that is unrolled: beyond it LAPACK's blocking wins and programs grow long

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
        return jnp.linalg.cholesky(a, symmetrize_input=False)
    columns: list[jax.Array] = []
    rows = jnp.moveaxis(a, (-2, -1), (0, 1))
    for j in range(d):
        column = rows[j:, j]
        for done in columns:
            column = column - done[j:] * done[j]
        column = column / jnp.sqrt(column[0])
        columns.append(jnp.concatenate([jnp.zeros((j, *column.shape[1:]), a.dtype), column]) if j else column)
    return jnp.moveaxis(jnp.stack(columns, axis=1), (0, 1), (-2, -1))


def invert_lower(factor: jax.Array) -> jax.Array:
    """Inverses of lower triangular matrices (..., d, d)."""
    d = factor.shape[-1]
    if d > UNROLL:
        identity = jnp.broadcast_to(jnp.eye(d, dtype=factor.dtype), factor.shape)
        return jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
    entries = jnp.moveaxis(factor, (-2, -1), (0, 1))
    identity = jnp.eye(d, dtype=factor.dtype).reshape((d, d) + (1,) * (factor.ndim - 2))
    rows: list[jax.Array] = []
    for i in range(d):
        row = jnp.broadcast_to(identity[i], entries.shape[1:])
        for j, done in enumerate(rows):
            row = row - entries[i, j] * done
        rows.append(row / entries[i, i])
    return jnp.moveaxis(jnp.stack(rows), (0, 1), (-2, -1))


def outer(a: jax.Array, b: jax.Array) -> jax.Array:
    """(..., d), (..., e) -> (..., d, e)."""
    return a[..., :, None] * b[..., None, :]


def apply(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """(..., d, e), (..., e) -> (..., d)."""
    return matmul(matrix, vector[..., None])[..., 0]
