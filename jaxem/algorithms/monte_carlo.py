"""What drawn statistics say of their own error.

Given the data, the score of the complete data varies from draw to draw of the states by the information I_m that is missing,
and its curvature is the complete information I_c (Louis 1982, JRSS-B 44:226). What is observed is I_o = I_c - I_m, and I_c^-1
I_m is by how much a step of EM shrinks an error. All are (P, P) in unconstrained coordinates; ones that are infinite are left
out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.domains import Domain
from jaxem.information import complete_given
from jaxem.kernels.linalg import cholesky, invert_lower, matmul, transpose

SLOWEST = 0.99  # the largest share of missing information that is believed


def score(local: Any, u: jax.Array, like: Any, statistics: Any) -> jax.Array:
    """(P,) gradient of Q at u, given statistics in the coordinates of `local`."""
    found = jax.grad(lambda v: local.expected_log_joint(local.from_unconstrained(v, like=like), statistics))(u)
    return jnp.where(jnp.isfinite(u) & jnp.isfinite(found), found, 0)


def complete_information(local: Any, u: jax.Array, like: Any, statistics: Any) -> jax.Array:
    """(P, P) minus the Hessian of Q + log prior at u; the identity along coordinates that are left out."""
    found = complete_given(local, u, like, statistics)
    kept = jnp.isfinite(u) & jnp.isfinite(jnp.diagonal(found))
    found = jnp.where(kept[:, None] & kept, found, 0)
    return found + jnp.diag(jnp.where(kept, 0, 1).astype(u.dtype))


class Share(NamedTuple):
    """The missing share of information in coordinates in which complete information is the identity."""

    matrix: jax.Array  # (P, P) symmetric, eigenvalues in [0, 1): of each, 1 over 1 minus it is by how much EM is slowed down
    back: jax.Array  # (P, P): covariances C there are back C back' in unconstrained coordinates
    slowest: jax.Array  # () bound of the eigenvalues


def missing_share(complete: jax.Array, missing: jax.Array) -> Share:
    """NaN where complete information is not positive definite; an estimate with eigenvalues of 1 and more is scaled down."""
    inverse = invert_lower(cholesky(complete))
    matrix = matmul(matmul(inverse, missing), transpose(inverse))
    power = matrix
    scale = jnp.zeros((), matrix.dtype)
    for level in range(5):  # the 32nd power: its trace is within P of the largest eigenvalue's
        size = jnp.trace(power)
        size = jnp.where(size > 0, size, 1)
        scale = scale + jnp.log(size) / 2**level
        power = matmul(power / size, power / size)
    trace = jnp.trace(power)
    slowest = jnp.where(trace > 0, jnp.exp(scale + jnp.log(jnp.where(trace > 0, trace, 1)) / 32), 0)
    factor = jnp.minimum(1, SLOWEST / jnp.where(slowest > 0, slowest, 1))
    return Share(matrix * factor, transpose(inverse), jnp.minimum(slowest, SLOWEST))


def solved(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """matrix^-1 right for positive definite ones, NaN for others."""
    inverse = invert_lower(cholesky(matrix))
    return matmul(transpose(inverse), matmul(inverse, right))


def errors_of(model: Any, u: jax.Array, like: Any, covariance: jax.Array) -> Any:
    """A tree like params: standard deviation of each number, by the delta method from a covariance in unconstrained coordinates."""
    jacobian = jax.jacfwd(lambda v: model.from_unconstrained(v, like=like))(jnp.where(jnp.isfinite(u), u, 0))

    def deviation(slope: jax.Array) -> jax.Array:
        slope = jnp.where(jnp.isfinite(u), slope, 0)
        return jnp.sqrt(jnp.maximum((matmul(slope.reshape(-1, u.size), covariance).reshape(slope.shape) * slope).sum(-1), 0))

    return jax.tree.map(deviation, jacobian)


def relabel_spread(model: Any, spread: Any, order: jax.Array) -> Any:
    """Numbers about each param with the states in that order."""
    if model.n_states == 1:
        return spread
    return jax.tree.map(lambda domain, leaf: Domain.relabel(domain, leaf, order), model.domains, spread)
