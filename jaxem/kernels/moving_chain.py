"""Recursions over Markov chains whose transitions change from step to step, on logarithms.

The same functions as `jaxem.kernels.chain`, over the same lanes; pairs of states are kept step by step, since what moves the
transitions has to be told from them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.chain import Filtered, backtrack, choose, one_hot


class MovingChain(NamedTuple):
    """What the recursions run over."""

    emission: jax.Array  # (T, K, B) log p(y_t | z_t)
    first: jax.Array  # (T, B) bool
    initial: jax.Array  # (K,)
    log_transition: jax.Array  # (T, K, K, B) from row to column, into step t; not looked at where a sequence begins

    def tempered(self, beta: jax.Array) -> MovingChain:
        """All factors of p(y, z) to the power beta."""
        return MovingChain(beta * self.emission, self.first, self.initial**beta, beta * self.log_transition)

    def along(self, path: jax.Array, weights: jax.Array) -> Smoothed:
        """What `smooth` would tell if the path (T, B) were certain; no log_norm."""
        state = one_hot(path, self.emission)
        before = jnp.concatenate([state[:1], state[:-1]])
        pairs = jnp.where(self.first[:, None, None], 0, before[:, :, None] * state[:, None])
        return Smoothed(state, pairs, jnp.zeros_like(weights))


class Smoothed(NamedTuple):
    """What whole sequences say."""

    state: jax.Array  # (T, K, B) p(z_t | y)
    pairs: jax.Array  # (T, K, K, B) p(z_t-1, z_t | y); 0 where a sequence begins
    log_norm: jax.Array  # (T, B) log p(y_t | y_1..t-1)


def _log_sum(x: jax.Array, axis: int) -> jax.Array:
    """log sum exp; -inf where all are."""
    top = x.max(axis=axis, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    total = jnp.exp(x - top).sum(axis=axis)
    seen = total > 0
    return jnp.where(seen, jnp.log(jnp.where(seen, total, 1)) + jnp.squeeze(top, axis), -jnp.inf)


def _log_of(p: jax.Array) -> jax.Array:
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), -jnp.inf)


def _log_filter(chain: MovingChain) -> tuple[jax.Array, jax.Array]:
    """log p(z_t | y_1..t) (T, K, B) and log_norm; a step that no state can produce leaves all equally likely."""
    emission, first, initial, log_transition = chain
    k, b = emission.shape[1:]
    log_initial = _log_of(initial)[:, None]

    def step(state: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        weight, begins, moves = now
        moves = jnp.where(begins, 0, moves)  # what is not looked at must not be NaN either
        joint = jnp.where(begins, log_initial, _log_sum(state[:, None] + moves, 0)) + weight
        total = _log_sum(joint, 0)
        possible = total > -jnp.inf
        state = jnp.where(possible, joint - jnp.where(possible, total, 0), -jnp.log(k))
        return state, (state, total)

    start = jnp.full((k, b), -jnp.log(k), emission.dtype)
    return jax.lax.scan(step, start, (emission, first, log_transition))[1]


def log_norms(chain: MovingChain) -> jax.Array:
    """(T, B) log p(y_t | y_1..t-1); differentiable."""
    return _log_filter(chain)[1]


def filtered(chain: MovingChain) -> Filtered:
    """Filtered probabilities."""
    logs, norm = _log_filter(chain)
    return Filtered(jnp.exp(logs), norm)


def smooth(chain: MovingChain, weights: jax.Array) -> Smoothed:
    """Smoothed probabilities of states and of pairs, whatever the weights."""
    del weights
    emission, first, _, log_transition = chain
    state, log_norm = _log_filter(chain)
    norm = jnp.where(log_norm > -jnp.inf, log_norm, 0)[:, None]
    before = jnp.concatenate([state[:1], state[:-1]])

    def step(beta: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        own, earlier, growth, begins, moves = now
        ahead = (growth + beta)[None] + jnp.where(begins, 0, moves)  # (j, k, B)
        pair = jnp.where(begins, 0, jnp.exp(earlier[:, None] + ahead))
        return jnp.where(begins, 0, _log_sum(ahead, 1)), (own + beta, pair)

    given = (state, before, emission - norm, first, log_transition)
    _, (smoothed, pairs) = jax.lax.scan(step, jnp.zeros_like(state[0]), given, reverse=True)
    return Smoothed(jnp.exp(smoothed), pairs, log_norm)


def likeliest(chain: MovingChain) -> tuple[jax.Array, jax.Array]:
    """The likeliest path (T, B), int32, and its log joint density with the data, step by step (T, B) (Viterbi 1967)."""
    emission, first, initial, log_transition = chain
    log_initial = jnp.log(initial)[:, None]

    def step(best: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, Any]:
        weight, begins, moves = now
        through = best[:, None] + moves
        value = jnp.where(begins, log_initial, through.max(axis=0)) + weight
        top = value.max(axis=0)
        value = value - jnp.where(jnp.isfinite(top), top, 0)
        return value, (through.argmax(axis=0).astype(jnp.int32), value.argmax(axis=0).astype(jnp.int32))

    _, (source, last) = jax.lax.scan(step, jnp.zeros_like(emission[0]), (emission, first, log_transition))

    path = backtrack(source, last, first)
    here = jnp.take_along_axis(emission, path[:, None], axis=1)[:, 0]
    earlier = jnp.concatenate([path[:1], path[:-1]])
    moved = jnp.take_along_axis(_from(log_transition, earlier), path[:, None], axis=1)[:, 0]
    return path, here + jnp.where(first, jnp.log(initial)[path], moved)


def draw(uniform: jax.Array, chain: MovingChain) -> jax.Array:
    """(T, B) a path drawn from p(z | y), the last state first (Chib 1996), by numbers (T, B) in [0, 1)."""
    first, log_transition = chain.first, chain.log_transition
    state, _ = _log_filter(chain)

    def step(following: tuple[jax.Array, ...], now: tuple[jax.Array, ...]) -> Any:
        later, begins, moves = following  # of the step after
        own, chance, own_first, own_moves = now
        into = jnp.take_along_axis(moves, later[None, None], axis=1)[:, 0]
        chosen = choose(own + jnp.where(begins, 0, into), chance)
        return (chosen, own_first, own_moves), chosen

    start = (jnp.zeros(first.shape[1:], jnp.int32), jnp.ones_like(first[0]), log_transition[0])
    return jax.lax.scan(step, start, (state, uniform, first, log_transition), reverse=True)[1]


def _from(log_transition: jax.Array, state: jax.Array) -> jax.Array:
    """(T, K, K, B), (T, B) -> (T, K, B): the rows of the states."""
    return jnp.take_along_axis(log_transition, state[:, None, None], axis=1)[:, 0]
