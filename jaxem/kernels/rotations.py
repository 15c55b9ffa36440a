r"""Orthogonal matrices as coordinates: Cayley's map X = (I + S)(I - S)^-1 of skew-symmetric S, d(d - 1)/2 numbers.

It reaches every rotation without the eigenvalue -1, and so, up to signs of its columns, every orthogonal matrix: signs can always
be chosen that keep X away from -1. Where only the axes are told, not their signs, it is onto.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.kernels.linalg import cholesky, invert_lower, matmul, transpose

FLIP = -1 / 3  # a pivot below this has its column's sign changed; 0 would be a place where axes that swap columns are


def skew(u: jax.Array, d: int) -> jax.Array:
    """(..., d(d-1)/2) -> skew-symmetric (..., d, d)."""
    upper = jnp.zeros((*u.shape[:-1], d, d), u.dtype).at[(..., *np.triu_indices(d, 1))].set(u)
    return upper - transpose(upper)


def cayley(u: jax.Array, d: int) -> jax.Array:
    """(..., d(d-1)/2) -> rotations (..., d, d)."""
    s, identity = skew(u, d), jnp.eye(d, dtype=u.dtype)
    root = invert_lower(cholesky(identity + matmul(transpose(s), s)))
    there = matmul(matmul(identity + s, identity + s), matmul(transpose(root), root))
    return orthogonal(there)


def orthogonal(x: jax.Array) -> jax.Array:
    """The same matrices with rounding taken out of x'x = 1, by a step of Newton's method."""
    return 0.5 * matmul(x, 3 * jnp.eye(x.shape[-1], dtype=x.dtype) - matmul(transpose(x), x))


def uncayley(x: jax.Array) -> jax.Array:
    """Coordinates (..., d(d-1)/2) of orthogonal x (..., d, d) up to the signs of its columns."""
    d = x.shape[-1]
    x = x * _signs(x)[..., None, :]
    root = invert_lower(cholesky(2 * jnp.eye(d, dtype=x.dtype) + x + transpose(x)))  # (I + X)'(I + X)
    s = matmul(x - transpose(x), matmul(transpose(root), root))
    s = 0.5 * (s - transpose(s))
    return s[(..., *np.triu_indices(d, 1))]


def _signs(x: jax.Array) -> jax.Array:
    """(..., d) signs under which I + X has pivots of at least 2/3: those of elimination without interchanges, one by one
    (Ballard et al. 2014, IPDPS, who make Householder vectors so)."""
    d = x.shape[-1]
    place = jnp.arange(d)

    def eliminate(j: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        left, signs = carry
        pivot = left[..., j, j]
        sign = jnp.where(pivot >= FLIP, 1, -1).astype(x.dtype)
        below = jnp.where(place > j, left[..., :, j], 0) / (pivot + sign)[..., None]
        return left - below[..., :, None] * left[..., j, None, :], jnp.where(place == j, sign[..., None], signs)

    return jax.lax.stop_gradient(jax.lax.fori_loop(0, d, eliminate, (x, jnp.ones_like(x[..., 0])))[1])
