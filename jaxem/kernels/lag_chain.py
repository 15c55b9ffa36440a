"""Chains whose state is the tuple of the last L values of a Markov chain of K states: K^L states, K ways on from each.

A tuple (z_t, z_t-1, ..., z_t-L+1) has flat index with z_t the most significant digit. Where a sequence begins the values
before it are 0, which say nothing: they have gone before the L-th step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.chain import one_hot
from jaxem.kernels.structured_chain import Ring, Smoothed, safe_log


class LagChain(NamedTuple):
    """What the recursions of `structured_chain` run over; states are one flat axis of length K^L, L >= 2."""

    density: jax.Array  # (T, K^L, B) log p(y_t | tuple)
    first: jax.Array  # (T, B) bool
    initial: jax.Array  # (K,)
    transition: jax.Array  # (K, K)

    def tempered(self, beta: jax.Array) -> LagChain:
        """All factors of p(y, z) to the power beta."""
        return LagChain(beta * self.density, self.first, self.initial**beta, self.transition**beta)

    def along(self, path: jax.Array, weights: jax.Array) -> Smoothed:
        """What `smooth` would tell if the path (T, B) of tuples were certain; no log_norm."""
        return Smoothed(one_hot(path, self.density), (), jnp.zeros_like(weights))

    def emission(self) -> jax.Array:
        """(T, K^L, B)"""
        return self.density

    def begin(self, ring: Ring) -> jax.Array:
        """The first regime, with nothing before it."""
        k, size = len(self.initial), self.density.shape[1]
        alone = jnp.zeros((k, size // k), self.initial.dtype).at[:, 0].set(self.initial)
        return ring.of(alone).reshape(size, 1)

    def push(self, ring: Ring, state: jax.Array) -> jax.Array:
        """The oldest value is summed out, and a new one comes first."""
        k = len(self.initial)
        kept = ring.plus(state.reshape(k, -1, k, state.shape[-1]), 2)  # (K, K^(L-2), B)
        moved = ring.times(kept[None], ring.of(self.transition).T[:, :, None, None])
        return moved.reshape(state.shape)

    def pull(self, ring: Ring, ahead: jax.Array) -> jax.Array:
        """The oldest value says nothing of what is to come."""
        k = len(self.initial)
        ahead = ahead.reshape(k, k, -1, ahead.shape[-1])
        kept = ring.plus(ring.times(ahead, ring.of(self.transition).T[:, :, None, None]), 0)  # (K, K^(L-2), B)
        return jnp.repeat(kept.reshape(-1, kept.shape[-1]), k, axis=0)

    def log_into(self, later: jax.Array) -> jax.Array:
        """From tuples that the later one continues."""
        k, size = len(self.initial), self.density.shape[1]
        here = jnp.arange(size)[:, None]
        follows = here // k == later % (size // k)
        return jnp.where(follows, safe_log(self.transition)[here // (size // k), later // (size // k)], -jnp.inf)

    def told(self, smooth: jax.Array) -> jax.Array:
        """Whole tuples."""
        return smooth

    def tally(self, ring: Ring, before: jax.Array, ahead: jax.Array, moved: jax.Array) -> Any:
        """Nothing: a tuple tells of its own steps."""
        del ring, before, ahead, moved
        return ()

    def settled(self, smooth: jax.Array, ended: jax.Array) -> Any:
        """Nothing."""
        del smooth, ended
        return ()
