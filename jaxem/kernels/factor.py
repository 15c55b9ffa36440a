"""Covariances L L' + Psi of q factors: their fit to a covariance by maximum likelihood.

The log-likelihood of a factor model given a covariance S is, up to constants, -n/2 times

    F(L, Psi) = log|L L' + Psi| + tr((L L' + Psi)^-1 S).

Given Psi, the best L is Psi^1/2 U (T - 1)^1/2, with T the q largest eigenvalues t_j of Psi^-1/2 S Psi^-1/2 that exceed 1 and U
their eigenvectors u_j (Lawley 1940). What is left is a function of x = log diag(Psi) alone, a problem of size d (Joereskog 1967):

    F(x) = sum_i x_i + sum_{j in a} (log t_j + 1) + sum_{j in b} t_j,      dF/dx_i = sum_{j in b} (1 - t_j) u_ij^2,

a the eigenvalues taken up by factors, b the others. Its second derivatives follow from those of the eigenvectors (Clarke 1970).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import apply, cholesky, invert_lower, matmul, outer, transpose

TRIALS = 100  # of Newton's method; 5 to 10 do, 20 where a uniqueness runs to its bound
FARTHEST = 1.5  # no uniqueness changes by more than this factor's exponential in one trial
ABOVE = 0.7  # log of the largest uniqueness tried, relative to the variance, which is the largest a maximum can have


def least(dtype: jnp.dtype) -> float:
    """Lower bound of a uniqueness as a fraction of its column's variance: 1e-6, and 3.5e-4 in float32."""
    return max(1e-6, float(jnp.finfo(dtype).eps) ** 0.5)


def most_factors(d: int, isotropic: bool) -> int:
    """The largest q that d columns identify: (d - q)^2 >= d + q (Ledermann 1937); d - 1 where all columns share a variance."""
    if isotropic:
        return d - 1
    return max((q for q in range(1, d) if (d - q) ** 2 >= d + q), default=0)


def covariance(loadings: jax.Array, uniquenesses: jax.Array) -> jax.Array:
    """L L' + Psi, (K, d, d), from (K, d, q) and (K, d)."""
    return matmul(loadings, transpose(loadings)) + uniquenesses[..., None] * jnp.eye(loadings.shape[-2], dtype=loadings.dtype)


def project(loadings: jax.Array, uniquenesses: jax.Array) -> tuple[jax.Array, jax.Array]:
    """B (..., q, d) and G (..., q, q) of the factors given a row, E[f | y] = B (y - mean) and cov(f | y) = G.

    G = (I + L' Psi^-1 L)^-1, B = G L' Psi^-1: no matrix of size d is inverted.
    """
    over = transpose(loadings / uniquenesses[..., None])
    root = invert_lower(cholesky(jnp.eye(loadings.shape[-1], dtype=loadings.dtype) + matmul(over, loadings)))
    spread = matmul(transpose(root), root)
    return matmul(spread, over), spread


def principal_axes(loadings: jax.Array, uniquenesses: jax.Array) -> jax.Array:
    """The rotation of loadings (K, d, q) with L' Psi^-1 L diagonal, largest first; no column of it has a sum below 0."""
    scaled = loadings / jnp.sqrt(jnp.where(uniquenesses > 0, uniquenesses, 1))[..., None]  # 0 where a column is constant
    _, vectors = jnp.linalg.eigh(matmul(transpose(scaled), scaled), symmetrize_input=False)
    turned = matmul(loadings, vectors[..., ::-1])
    return jnp.where(turned.sum(-2, keepdims=True) < 0, -turned, turned)


def principal(spread: jax.Array, q: int, floor: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loadings (K, d, q) and the one variance (K,) of probabilistic principal components (Tipping and Bishop 1999, eq. 7, 8).

    The variance is the mean of the d - q smallest eigenvalues, or `floor` (K,) where that is more.
    """
    values, vectors = jnp.linalg.eigh(spread, symmetrize_input=False)
    d = values.shape[-1]
    variance = jnp.maximum(values[..., : d - q].mean(-1), floor)
    excess = jnp.maximum(values[..., d - q :] - variance[..., None], 0)
    return vectors[..., d - q :] * jnp.sqrt(excess)[..., None, :], variance


class _Point(NamedTuple):
    """x and what F and its derivatives follow from."""

    x: jax.Array  # (K, d) logs of the uniquenesses
    value: jax.Array  # (K,) F
    roots: jax.Array  # (K, d) eigenvalues t_j, ascending
    vectors: jax.Array  # (K, d, d) u_j in columns


class _State(NamedTuple):
    point: _Point
    damping: jax.Array  # (K,)
    promised: jax.Array  # (K,) what the last step was to gain
    done: jax.Array  # (K,)
    tried: jax.Array  # ()


def _at(x: jax.Array, spread: jax.Array, q: int) -> _Point:
    scale = jnp.exp(-0.5 * x)
    roots, vectors = jnp.linalg.eigh(scale[..., :, None] * spread * scale[..., None, :], symmetrize_input=False)
    used = _used(roots, q)
    value = x.sum(-1) + jnp.where(used, jnp.log(jnp.where(used, roots, 1)) + 1, roots).sum(-1)
    return _Point(x, value, roots, vectors)


def _used(roots: jax.Array, q: int) -> jax.Array:
    """(K, d) which eigenvalues the factors take up."""
    d = roots.shape[-1]
    return (jnp.arange(d) >= d - q) & (roots > 1)


def _derivatives(point: _Point, q: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradient (K, d), second derivatives (K, d, d), and the semidefinite ones that take the b eigenvalues for 1.

    With w_j = u_j u_j' and * cell by cell, the second derivatives are

        (sum_b t_j w_j) * (sum_b w_j) + sum_{m in a} w_m * sum_{j in b} (1 - t_j) (t_m + t_j) / (t_m - t_j) w_j.
    """
    _, _, roots, vectors = point
    d = roots.shape[-1]
    used = _used(roots, q)
    rest = jnp.where(used, 0, 1).astype(roots.dtype)
    gradient = (rest[..., None, :] * (1 - roots[..., None, :]) * vectors * vectors).sum(-1)
    back = transpose(vectors)
    unused = matmul(vectors * rest[..., None, :], back)
    hessian = matmul(vectors * (rest * roots)[..., None, :], back) * unused
    top, taken = roots[..., d - q :, None], used[..., d - q :, None]
    gap = top - roots[..., None, :]
    counted = taken & ~used[..., None, :] & (gap > jnp.finfo(roots.dtype).eps * top)
    ratio = jnp.where(counted, (1 - roots[..., None, :]) * (top + roots[..., None, :]) / jnp.where(counted, gap, 1), 0)
    inner = matmul(vectors[..., None, :, :] * ratio[..., :, None, :], back[..., None, :, :])  # (K, q, d, d)
    own = back[..., d - q :, :]
    hessian = hessian + (outer(own, own) * inner).sum(-3)
    return gradient, hessian, unused * unused


def loadings_given(spread: jax.Array, uniquenesses: jax.Array, q: int) -> jax.Array:
    """The best loadings (K, d, q) given the uniquenesses (K, d) (Lawley 1940)."""
    return _loadings(_at(jnp.log(uniquenesses), spread, q), q)


def _loadings(point: _Point, q: int) -> jax.Array:
    d = point.x.shape[-1]
    excess = jnp.maximum(point.roots[..., d - q :] - 1, 0)
    return jnp.exp(0.5 * point.x)[..., None] * point.vectors[..., d - q :] * jnp.sqrt(excess)[..., None, :]


def factorize(spread: jax.Array, start: jax.Array, q: int, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loadings (K, d, q) and uniquenesses (K, d) at a local maximum of the likelihood, given covariances (K, d, d).

    Newton's method on F(x) from `start` (K, d), with bounds: a uniqueness stays above `least` times `variance` (K, d), the
    diagonal of `spread` or, where that is 0, a number that stands for it. A step that raises F is damped (Levenberg 1944), so
    that F is never above that of `start` with any loadings.
    """
    root = jnp.sqrt(variance)
    scaled = spread / outer(root, root)  # in units of the columns, which the eigenvalues then do not depend on
    low = jnp.log(jnp.asarray(least(spread.dtype), spread.dtype))
    eps = jnp.finfo(spread.dtype).eps
    identity = jnp.eye(spread.shape[-1], dtype=spread.dtype)

    def trial(state: _State) -> _State:
        point, damping, before, done, tried = state
        gradient, exact, safe = _derivatives(point, q)
        held = ((point.x <= low) & (gradient > 0)) | ((point.x >= ABOVE) & (gradient < 0))
        gradient = jnp.where(held, 0, gradient)
        apart = held[..., :, None] | held[..., None, :]
        lift = damping[..., None, None] * identity * (safe + eps)
        factor = cholesky(jnp.where(apart, identity, jnp.stack([exact, safe]) + lift))
        sound = jnp.isfinite(factor[0]).all((-2, -1), keepdims=True)
        inverse = invert_lower(jnp.where(sound, factor[0], factor[1]))
        step = -apply(transpose(inverse), apply(inverse, gradient))
        promised = -(gradient * step).sum(-1)
        step = step * jnp.minimum(1, FARTHEST / jnp.maximum(jnp.abs(step).max(-1), FARTHEST))[..., None]
        candidate = _at(jnp.clip(point.x + step, low, ABOVE), scaled, q)
        better = candidate.value <= point.value + 8 * eps * (1 + jnp.abs(point.value))
        # near the maximum the promise falls as its square, until what is left of it is rounding
        settled = (promised <= eps**1.5) | ((promised <= 4 * eps) & (promised >= 0.25 * before))
        taken = better & ~done
        point = jax.tree.map(lambda new, old: jnp.where(_against(taken, new), new, old), candidate, point)
        eased = jnp.where(damping > 1e-6, 0.1 * damping, 0)
        damping = jnp.where(better, eased, 10 * jnp.maximum(damping, 1e-4))
        done = done | settled | (damping > 1e8)
        return _State(point, damping, jnp.where(better, promised, jnp.inf), done, tried + 1)

    zero = jnp.zeros_like(spread[..., 0, 0])
    first = _at(jnp.clip(jnp.log(start / variance), low, ABOVE), scaled, q)
    state = _State(first, zero, zero + jnp.inf, zero > 0, jnp.zeros((), jnp.int32))
    point = jax.lax.while_loop(lambda s: ~s.done.all() & (s.tried < TRIALS), trial, state).point
    return root[..., None] * _loadings(point, q), variance * jnp.exp(point.x)


def _against(taken: jax.Array, leaf: jax.Array) -> jax.Array:
    return taken.reshape(taken.shape + (1,) * (leaf.ndim - taken.ndim))
