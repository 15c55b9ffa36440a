r"""Axes that several scatter matrices share: maximum likelihood on the orthogonal matrices.

Covariances D diag(a_k) D' with shapes of their own leave, given scatter W_k and mass n_k, a function of D alone. It is, with
y_kj = d_j' W_k d_j,

    F(D) = sum_k n_k sum_j log y_kj              where each has a volume of its own: common principal components (Flury 1984,
                                                 JASA 79:892),
    F(D) = n d log sum_k (prod_j y_kj)^(1/d)     where all have one.

Newton's method in skew-symmetric coordinates S about the last D, D exp(S), with damping until F does not rise; Flury and Gautschi
(1986, SIAM J. Sci. Stat. Comput. 7:169) turn pairs of axes one after another, Browne and McNicholas (2014, Adv. Data Anal. Classif.
8:217) majorise. All stop where the derivative vanishes; near there this needs two or three steps.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.kernels.descent import Look, descend
from jaxem.kernels.linalg import matmul, transpose
from jaxem.kernels.rotations import skew

FARTHEST = 0.5  # norm of S that one step may have


def diagonals(scatter: jax.Array, axes: jax.Array) -> jax.Array:
    """(K, d) scatter (K, d, d) along each axis."""
    return (axes * matmul(scatter, axes)).sum(-2)


def turn(axes: jax.Array, u: jax.Array) -> jax.Array:
    """D exp(S) to second order, exactly orthogonal; S of `u` (d(d-1)/2,), shortened to `FARTHEST`.

    I + S + S^2/2 differs from an orthogonal matrix by S^4/8, which steps of Newton's method for the polar factor remove.
    """
    d = axes.shape[-1]
    longest = jnp.sqrt((u * u).sum())
    s = skew(u * jnp.where(longest > FARTHEST, FARTHEST / jnp.where(longest > FARTHEST, longest, 1), 1), d)
    identity = jnp.eye(d, dtype=u.dtype)
    there = matmul(axes, identity + s + 0.5 * matmul(s, s))

    def polish(_: int, x: jax.Array) -> jax.Array:
        return 0.5 * matmul(x, 3 * identity - matmul(transpose(x), x))

    return jax.lax.fori_loop(0, 4, polish, there)


def common_axes(one_volume: bool, scatter: jax.Array, mass: jax.Array, start: jax.Array) -> jax.Array:
    """Orthogonal D (d, d) at which F is not above that at `start`, a local minimum if the trials suffice; scatter (K, d, d), mass
    (K,). States without either do not count."""
    d = start.shape[-1]
    size = jnp.trace(scatter, axis1=-2, axis2=-1)
    counted = (mass > 0) & (size > 0)
    size = jnp.where(counted, size, 1)
    scaled = scatter / size[:, None, None]
    weight = jnp.where(counted, mass, 0)
    weight = weight / jnp.where(weight.sum() > 0, weight.sum(), 1)
    least = jnp.finfo(scatter.dtype).eps ** 2  # of a state that spans fewer columns, whose likelihood has no bound
    a, b = np.triu_indices(d, 1)

    def look(axes: jax.Array) -> Look:
        turned = matmul(transpose(axes), matmul(scaled, axes))
        spread = jnp.where(counted[:, None], jnp.diagonal(turned, axis1=-2, axis2=-1) + least, 1)
        logs = jnp.log(spread)
        if one_volume:
            level = jnp.where(counted, logs.mean(-1) + jnp.log(size), -jnp.inf)
            level = jnp.where(counted.any(), level, 0)
            value, share = d * jax.nn.logsumexp(level), jax.nn.softmax(level)
        else:
            value, share = (weight * logs.sum(-1)).sum(), weight
        # with z = log y: dF = share dz summed, d2F = share d2z summed + dz'(d2F/dz2)dz; S_ab raises y_b and lowers y_a
        raised = 2 * turned[:, a, b]
        slope = raised / spread[:, b] - raised / spread[:, a]  # (K, p) of the sum of z_k
        gradient = share @ slope
        pull = share[:, None] / spread  # (K, d)
        hessian = _second(turned, pull, a, b) - _squares(share, raised, spread, a, b)
        if one_volume:
            hessian = hessian + ((share[:, None] * slope).T @ slope - jnp.outer(gradient, gradient)) / d
        return Look(value, gradient, 0.5 * (hessian + hessian.T))

    return descend(look, turn, start, len(a))


def _second(turned: jax.Array, pull: jax.Array, a: np.ndarray, b: np.ndarray) -> jax.Array:
    """(p, p) second derivatives of sum_kj pull_kj y_kj, in which y = diag(exp(S)' T exp(S)).

    For S = A_q the derivative along A_p is the difference of the (p, p') entries of M = sum_k 2 T A_q G - A_q T G - T G A_q, with
    G = diag(pull_k).
    """
    cubes = jnp.einsum("kij,kl->lij", turned, pull, precision=jax.lax.Precision.HIGHEST)
    plain = (turned * pull[:, None, :]).sum(0)  # sum_k T G
    c, e = a[:, None], b[:, None]  # rows of H: the pair (c, e)

    def entry(i: np.ndarray, j: np.ndarray) -> jax.Array:
        """M[i, j] for A_q = e_a e_b' - e_b e_a'."""
        out = 2 * (cubes[b, i, a] * (j == b) - cubes[a, i, b] * (j == a))
        out = out - (plain[b, j] * (i == a) - plain[a, j] * (i == b))
        return out - (plain[i, a] * (j == b) - plain[i, b] * (j == a))

    return entry(c, e) - entry(e, c)


def _squares(share: jax.Array, raised: jax.Array, spread: jax.Array, a: np.ndarray, b: np.ndarray) -> jax.Array:
    """(p, p) sum_kj share_k (dy_kj / y_kj)(dy_kj / y_kj)'."""
    d = spread.shape[-1]
    column = np.arange(d)
    sign = ((b[:, None] == column).astype(int) - (a[:, None] == column)).astype(raised.dtype)  # (p, d)
    relative = raised[:, :, None] * sign / spread[:, None, :]  # (K, p, d)
    return jnp.einsum("kpj,kqj,k->pq", relative, relative, share, precision=jax.lax.Precision.HIGHEST)
