"""Starting memberships of a sample of rows, missing cells tolerated, all in traced JAX.

Three ways, because starts that are all good in the same way end in the same local maximum: restarts take them in turn.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import HIGHEST, matmul

LLOYD_STEPS = 8
CANDIDATES = 3  # seeds tried greedily at each draw
WAYS = 3  # 0: k-means from k-means++ seeds; 1: the seeds alone; 2: seeds from random rows, memberships half uniform


def number_of(way: jax.Array) -> jax.Array:
    """The number of a way; that of the first for memberships that are given."""
    return way if jnp.ndim(way) == 0 else jnp.zeros((), jnp.int32)


def memberships(key: jax.Array, y: jax.Array, weights: jax.Array, n_states: int, way: jax.Array | int = 0) -> jax.Array:
    """(n, K) memberships times weights (n,) of the rows y (n, f), NaN where missing, by one of the `WAYS`.

    Columns come scaled. A distance is taken over the observed cells and scaled up to all of them (partial distance, Dixon
    1979); seeds are drawn with probability proportional to squared distance (Arthur and Vassilvitskii 2007), greedily the best
    of a few, then moved by k-means. A cluster that empties takes the farthest row.

    Where `way` is memberships (n, K) themselves, they are taken.
    """
    if jnp.ndim(way) == 2:
        return jnp.asarray(way, y.dtype) * weights[:, None]
    present = (~jnp.isnan(y)).astype(y.dtype)
    y = jnp.where(present > 0, y, 0)
    f = y.shape[1]
    observed = present.sum(axis=1)
    weights = jnp.where(observed > 0, weights, 0)
    stretch = jnp.where(observed > 0, f / jnp.where(observed > 0, observed, 1), 0)[:, None]

    def distances(centres: jax.Array) -> jax.Array:
        """Squared partial distances, (n, K)."""
        inner = matmul(y, centres.T)
        squared = (y * y).sum(axis=1, keepdims=True) - 2 * inner + matmul(present, (centres * centres).T)
        return jnp.maximum(squared, 0) * stretch

    # all draws at once: each call of the generator costs half a second to compile
    uniforms = jax.random.uniform(key, (n_states, CANDIDATES), y.dtype)

    def draw(uniform: jax.Array, mass: jax.Array) -> jax.Array:
        """Indices with probability proportional to mass, by inversion; never one without mass."""
        total = jnp.cumsum(mass)
        return jnp.searchsorted(total, uniform * total[-1], side="right").clip(0, mass.shape[0] - 1)

    def seed(k: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        centres, nearest = state
        mass = weights * jnp.where(way == 2, (nearest > 0).astype(y.dtype), nearest)  # never the same row twice
        mass = jnp.where(mass.sum() > 0, mass, weights)
        candidates = draw(uniforms[k], mass)
        found = jnp.minimum(nearest[:, None], distances(y[candidates]))
        best = jnp.where(way == 2, 0, jnp.argmin((weights[:, None] * found).sum(axis=0)))
        return centres.at[k].set(y[candidates[best]]), found[:, best]

    def move(_: int, centres: jax.Array) -> jax.Array:
        d2 = distances(centres)
        r = jax.nn.one_hot(d2.argmin(axis=1), n_states, dtype=y.dtype) * weights[:, None]
        counts = jnp.einsum("nk,nj->kj", r, present, precision=HIGHEST)
        means = matmul(r.T, y) / jnp.where(counts > 0, counts, 1)
        farthest = y[jnp.argmax(jnp.where(weights > 0, d2.min(axis=1), -1))]
        moved = jnp.where(counts > 0, means, centres)
        return jnp.where(r.sum(axis=0)[:, None] > 0, moved, farthest)

    start = jnp.zeros((n_states, f), y.dtype), jnp.full(y.shape[0], jnp.finfo(y.dtype).max, y.dtype)
    first = draw(uniforms[0, 0], weights)
    centres = start[0].at[0].set(y[first])
    centres, _ = jax.lax.fori_loop(1, n_states, seed, (centres, distances(centres[:1])[:, 0]))
    centres = jax.lax.fori_loop(0, jnp.where(way == 0, LLOYD_STEPS, 0), move, centres)
    nearest = jax.nn.one_hot(distances(centres).argmin(axis=1), n_states, dtype=y.dtype)
    softness = jnp.where(way == 2, 0.5, 0.0).astype(y.dtype)
    return ((1 - softness) * nearest + softness / n_states) * weights[:, None]
