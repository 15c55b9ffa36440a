"""Chains that stay in a state for a number of steps of any distribution, as Markov chains of (state, age).

Age u = 1..D is how many steps the state has lasted so far. With S(u) = P(duration >= u) a step goes from (k, u) to (k, u + 1)
with probability S(u + 1) / S(u), and else on to another state at age 1: K (K + D) operations a step. A duration that the end of
a sequence cuts off counts with S, as it should.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.chain import one_hot
from jaxem.kernels.structured_chain import Ring, Smoothed, safe_log


class Tally(NamedTuple):
    """Expected counts within sequences."""

    pairs: jax.Array  # (K, K) of steps to another state
    ended: jax.Array  # (K, D) of durations that ended at each age
    cut: jax.Array  # (K, D) of durations that had lasted so long when the sequence ended


class DurationChain(NamedTuple):
    """What the recursions of `structured_chain` run over; states are (K, D)."""

    density: jax.Array  # (T, K, B) log p(y_t | z_t)
    first: jax.Array  # (T, B) bool
    initial: jax.Array  # (K,)
    transition: jax.Array  # (K, K), its diagonal 0
    stay: jax.Array  # (K, D) P(duration > u | duration >= u); 0 at D
    leave: jax.Array  # (K, D) P(duration = u | duration >= u)

    def tempered(self, beta: jax.Array) -> DurationChain:
        """All factors of p(y, z) to the power beta."""
        rest = (leaf**beta for leaf in (self.initial, self.transition, self.stay, self.leave))
        return DurationChain(beta * self.density, self.first, *rest)

    def along(self, path: jax.Array, weights: jax.Array) -> Smoothed:
        """What `smooth` would tell if the path (T, B) of flat places were certain; no log_norm."""
        d = self.stay.shape[1]
        state, age = path // d, path % d
        zero = jnp.zeros_like(self.stay)
        ends = jnp.concatenate([self.first[1:], jnp.ones_like(self.first[:1])])
        cut = zero.at[state, age].add(jnp.where(ends, weights, 0))
        gone = jnp.where(self.first[1:] | (age[1:] > 0), 0, weights[1:])
        ended = zero.at[state[:-1], age[:-1]].add(gone)
        pairs = jnp.zeros_like(self.transition).at[state[:-1], state[1:]].add(gone)
        return Smoothed(one_hot(state, self.density), Tally(pairs, ended, cut), jnp.zeros_like(weights))

    def emission(self) -> jax.Array:
        """(T, K, 1, B): the same at all ages."""
        return self.density[:, :, None]

    def begin(self, ring: Ring) -> jax.Array:
        """A state at age 1."""
        return ring.of(jnp.zeros_like(self.stay).at[:, 0].set(self.initial))[..., None]

    def push(self, ring: Ring, state: jax.Array) -> jax.Array:
        """Ages grow by one, or a state of age 1 follows."""
        older = ring.times(state, ring.of(self.stay)[..., None])[:, :-1]
        left = ring.plus(ring.times(state, ring.of(self.leave)[..., None]), 1)
        return jnp.concatenate([ring.across(ring.of(self.transition), left)[:, None], older], axis=1)

    def pull(self, ring: Ring, ahead: jax.Array) -> jax.Array:
        """The other way round."""
        back = ring.across(ring.of(self.transition).T, ahead[:, 0])
        older = jnp.concatenate([ahead[:, 1:], jnp.full_like(ahead[:, :1], ring.zero)], axis=1)
        stayed = ring.times(older, ring.of(self.stay)[..., None])
        return ring.plus(jnp.stack([stayed, ring.times(back[:, None], ring.of(self.leave)[..., None])]), 0)

    def log_into(self, later: jax.Array) -> jax.Array:
        """From the same state a step younger, or, to age 1, from all others."""
        d = self.stay.shape[1]
        state, age = later // d, later % d
        entered = safe_log(self.leave)[..., None] + safe_log(self.transition)[:, state][:, None]  # (K, D, B)
        here = jnp.arange(self.stay.size).reshape(*self.stay.shape, 1)
        stayed = jnp.where(here == later - 1, safe_log(self.stay)[..., None], -jnp.inf)
        return jnp.where(age == 0, entered, stayed)

    def told(self, smooth: jax.Array) -> jax.Array:
        """(K, D, B) is too much to keep of every step: (K, B)."""
        return smooth.sum(axis=1)

    def tally(self, ring: Ring, before: jax.Array, ahead: jax.Array, moved: jax.Array) -> Tally:
        """Steps to other states, and the ages at which they were taken."""
        enter = ahead[:, 0]
        gone = ring.times(before, ring.of(self.leave)[..., None])
        pair = ring.times(ring.plus(gone, 1)[:, None], ring.times(ring.of(self.transition)[..., None], enter[None]))
        end = ring.times(gone, ring.across(ring.of(self.transition).T, enter)[:, None])
        if not ring.one:
            pair, end = jnp.exp(pair), jnp.exp(end)
        return Tally((pair * moved).sum(-1), (end * moved).sum(-1), jnp.zeros_like(self.stay))

    def settled(self, smooth: jax.Array, ended: jax.Array) -> Tally:
        """How long the last states had lasted."""
        return Tally(jnp.zeros_like(self.transition), jnp.zeros_like(self.stay), (smooth * ended).sum(-1))
