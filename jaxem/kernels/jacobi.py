r"""Orthogonal axes in which symmetric positive definite matrices are diagonal, by Jacobi's rotations.

For one matrix these are its eigenvectors (Jacobi 1846); for several that commute, their common ones; for several that do not,
those that make them as diagonal as rotations of two axes can (Cardoso and Souloumiac 1996, SIAM J. Matrix Anal. 17:161). Rotations
of disjoint pairs of axes are done side by side. No LAPACK is called, so this may stand inside loops; derivatives go through it
forward, because the last sweep starts where the sweep before it ended.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.kernels.linalg import transpose

SWEEPS = 30  # 5 to 8 do for matrices that commute


def partners(d: int) -> np.ndarray:
    """(rounds, d) which axis each one is paired with in each round of a sweep, itself where it has none: all pairs meet once."""
    size = d + d % 2
    circle, rounds = list(range(size)), []
    for _ in range(size - 1):
        row = np.arange(d)
        for a, b in zip(circle[: size // 2], circle[: size // 2 - 1 : -1], strict=True):
            if a < d and b < d:
                row[a], row[b] = b, a
        rounds.append(row)
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return np.array(rounds).reshape(-1, d)


def diagonalize(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Axes (..., d, d), in columns, and the diagonals (..., m, d) of matrices (..., m, d, d) in them; in no order.

    Entries are measured against the diagonal ones of their own two axes, so that small eigenvalues keep their digits as far as
    the columns' scales allow (Demmel and Veselic 1992, SIAM J. Matrix Anal. 13:1204).
    """
    *batch, _, d, _ = matrices.shape
    dtype = matrices.dtype
    axes = jnp.broadcast_to(jnp.eye(d, dtype=dtype), (*batch, d, d))
    if d == 1:
        return axes, matrices[..., 0]
    table = jnp.asarray(partners(d))
    above = np.triu(np.ones((d, d), bool), 1)
    enough = float(jnp.finfo(dtype).eps) ** 0.75

    def rotate(number: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        matrices, axes = carry
        partner = table[number]
        angle = _angles(matrices, partner)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        matrices = cos[..., None, :, None] * matrices + sin[..., None, :, None] * matrices[..., partner, :]
        matrices = cos[..., None, None, :] * matrices + sin[..., None, None, :] * matrices[..., partner]
        return 0.5 * (matrices + transpose(matrices)), cos[..., None, :] * axes + sin[..., None, :] * axes[..., partner]

    def sweep(carry: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        matrices, axes, _, swept = carry
        diagonal = jnp.diagonal(matrices, axis1=-2, axis2=-1)
        size = diagonal[..., :, None] + diagonal[..., None, :]
        largest = jnp.where(above & (size > 0), jnp.abs(matrices) / jnp.where(size > 0, size, 1), 0).max()
        matrices, axes = jax.lax.fori_loop(0, len(table), rotate, (matrices, axes))
        return matrices, axes, largest <= enough, swept + 1  # convergence is quadratic: one sweep more is all

    start = matrices, axes, jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    matrices, axes, _, _ = jax.lax.while_loop(lambda c: ~c[2] & (c[3] < SWEEPS), sweep, start)
    return axes, jnp.diagonal(matrices, axis1=-2, axis2=-1)


def _angles(matrices: jax.Array, partner: jax.Array) -> jax.Array:
    """(..., d) by how much each axis turns towards its partner, at most pi / 4; axis and partner turn by opposite angles."""
    own = jnp.arange(partner.shape[0])
    diagonal = jnp.diagonal(matrices, axis1=-2, axis2=-1)
    other = diagonal[..., partner]
    size = diagonal + other
    size = jnp.where(size > 0, size, 1)
    apart, beside = (diagonal - other) / size, 2 * matrices[..., own, partner] / size
    y, x = 2 * (apart * beside).sum(-2), (apart * apart - beside * beside).sum(-2)
    still = (own == partner) | ((x == 0) & (y == 0))
    angle = 0.25 * jnp.arctan2(jnp.where(still, 0, y), jnp.where(still, 1, x))
    return jnp.where(own < partner, angle, -angle[..., partner])
