"""Recursions over Markov chains of discrete states, time-major: arrays (T, K, B) of B lanes run side by side.

A lane holds one or more sequences end to end; `first` (T, B) marks the steps at which one begins, where the chain forgets what
came before. Steps that only fill a lane up come after its last sequence, have emission 1 in every state and weight 0.

The scaled recursions keep filtered probabilities that sum to 1 and take the largest emission out of each step (Rabiner 1989,
Proc. IEEE 77:257, sec. V.A): multiplications alone. Where the only states that can be reached are far from the likeliest
emission they underflow, and the same is done on logarithms, which costs some K^2 exponentials a step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import HIGHEST

UNROLLED = 6  # states up to which a step is written out: a product of tiny matrices costs more to call than to do


class Chain(NamedTuple):
    """What the recursions run over."""

    emission: jax.Array  # (T, K, B) log p(y_t | z_t)
    first: jax.Array  # (T, B) bool
    initial: jax.Array  # (K,)
    transition: jax.Array  # (K, K), from row to column


class Filtered(NamedTuple):
    """What has been learnt up to and with each step."""

    state: jax.Array  # (T, K, B) p(z_t | y_1..t)
    log_norm: jax.Array  # (T, B) log p(y_t | y_1..t-1)


class Smoothed(NamedTuple):
    """What whole sequences say."""

    state: jax.Array  # (T, K, B) p(z_t | y)
    pairs: jax.Array  # (K, K) weighted expected number of steps from j to k within sequences
    log_norm: jax.Array  # (T, B)


# scaled


def across(transition: jax.Array, state: jax.Array) -> jax.Array:
    """(K, K), (K, B) -> (K, B): sum_j A_jk a_j, one step ahead."""
    if len(transition) <= UNROLLED:
        return sum(row[:, None] * a for row, a in zip(transition, state, strict=True))  # type: ignore[return-value]
    return jnp.matmul(transition.T, state, precision=HIGHEST)


def _scaled(chain: Chain) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Filtered states, growth p(y_t | z_t) / p(y_t | past) (T, K, B), log_norm, and what each step was scaled by (T, B).

    A step that no state could produce has log_norm -inf and leaves all states equally likely.
    """
    emission, first, initial, transition = chain
    k, b = emission.shape[1:]
    top = emission.max(axis=1, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    likelihood = jnp.exp(emission - top)

    def step(state: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        weight, begins = now
        joint = jnp.where(begins, initial[:, None], across(transition, state)) * weight
        total = joint.sum(axis=0)
        possible = total > 0
        state = jnp.where(possible, joint, 1 / k) / jnp.where(possible, total, 1)
        return state, (state, total)

    start = jnp.full((k, b), 1 / k, emission.dtype)
    _, (state, total) = jax.lax.scan(step, start, (likelihood, first))
    possible = total > 0
    safe = jnp.where(possible, total, 1)
    return state, likelihood / safe[:, None], jnp.where(possible, jnp.log(safe) + top[:, 0], -jnp.inf), total


def _smooth_scaled(chain: Chain, weights: jax.Array) -> tuple[Smoothed, jax.Array]:
    _, first, _, transition = chain
    state, growth, log_norm, total = _scaled(chain)

    def step(beta: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        alpha, own, begins = now
        ahead = own * beta
        return jnp.where(begins, 1, across(transition.T, ahead)), (alpha * beta, ahead)

    _, (smooth, ahead) = jax.lax.scan(step, jnp.ones_like(state[0]), (state, growth, first), reverse=True)
    counted = jnp.where(first[1:], 0, weights[1:])
    # one contraction over all steps, so that pairs of states are never stored
    pairs = jnp.einsum("tjb,tkb->jk", state[:-1] * counted[:, None], ahead[1:], precision=HIGHEST)
    return Smoothed(smooth, transition * pairs, log_norm), _faint(total)


def _faint(total: jax.Array) -> jax.Array:
    """Whether some step came near underflow."""
    return (total < jnp.sqrt(jnp.finfo(total.dtype).tiny)).any()


# logarithms


def _log_filter(chain: Chain) -> tuple[jax.Array, jax.Array]:
    """log p(z_t | y_1..t) (T, K, B) and log_norm."""
    emission, first, initial, transition = chain
    k, b = emission.shape[1:]
    log_initial, log_transition = jnp.log(initial)[:, None], jnp.log(transition)[:, :, None]

    def step(state: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        weight, begins = now
        predicted = jnp.where(begins, log_initial, _log_sum(state[:, None] + log_transition, 0))
        joint = predicted + weight
        total = _log_sum(joint, 0)
        possible = total > -jnp.inf
        state = jnp.where(possible, joint - jnp.where(possible, total, 0), -jnp.log(k))
        return state, (state, total)

    start = jnp.full((k, b), -jnp.log(k), emission.dtype)
    return jax.lax.scan(step, start, (emission, first))[1]


def _smooth_log(chain: Chain, weights: jax.Array) -> Smoothed:
    emission, first, _, transition = chain
    state, log_norm = _log_filter(chain)
    log_transition = jnp.log(transition)[:, :, None]
    norm = jnp.where(log_norm > -jnp.inf, log_norm, 0)[:, None]
    before = jnp.concatenate([state[:1], state[:-1]])  # of the step before; not looked at where a sequence begins

    def step(carry: tuple[jax.Array, jax.Array], now: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        beta, pairs = carry
        own, earlier, growth, begins, weight = now
        ahead = (growth + beta)[None] + log_transition  # (j, k, B)
        counted = jnp.where(begins, 0, weight)
        pairs = pairs + (jnp.exp(earlier[:, None] + ahead) * counted).sum(-1)
        return (jnp.where(begins, 0, _log_sum(ahead, 1)), pairs), own + beta

    start = (jnp.zeros_like(state[0]), jnp.zeros_like(transition))
    given = (state, before, emission - norm, first, weights)
    (_, pairs), smooth = jax.lax.scan(step, start, given, reverse=True)
    return Smoothed(jnp.exp(smooth), pairs, log_norm)


def _log_sum(x: jax.Array, axis: int) -> jax.Array:
    """log sum exp; -inf where all are."""
    top = x.max(axis=axis, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    total = jnp.exp(x - top).sum(axis=axis)
    seen = total > 0
    return jnp.where(seen, jnp.log(jnp.where(seen, total, 1)) + jnp.squeeze(top, axis), -jnp.inf)


# either


def smooth(chain: Chain, weights: jax.Array) -> Smoothed:
    """Smoothed probabilities and weighted counts of transitions, under weights (T, B).

    Logarithms only where the scaled recursions come near underflow: a loop of at most one round, which `vmap` runs only if some
    lane needs it. (Not differentiable in reverse; `log_norms` is.)
    """
    scaled, faint = _smooth_scaled(chain, weights)

    def redo(carry: tuple[jax.Array, Smoothed]) -> tuple[jax.Array, Smoothed]:
        return jnp.zeros((), bool), _smooth_log(chain, weights)

    return jax.lax.while_loop(lambda carry: carry[0], redo, (faint, scaled))[1]


def log_norms(chain: Chain) -> jax.Array:
    """(T, B) log p(y_t | y_1..t-1); differentiable."""
    _, _, log_norm, total = _scaled(chain)
    return jax.lax.cond(_faint(total), lambda: _log_filter(chain)[1], lambda: log_norm)


def filtered(chain: Chain) -> Filtered:
    """Filtered probabilities."""
    state, _, log_norm, total = _scaled(chain)

    def exactly() -> Filtered:
        logs, norm = _log_filter(chain)
        return Filtered(jnp.exp(logs), norm)

    return jax.lax.cond(_faint(total), exactly, lambda: Filtered(state, log_norm))


def likeliest(chain: Chain) -> tuple[jax.Array, jax.Array]:
    """The likeliest path (T, B), int32, and its log joint density with the data, step by step (T, B) (Viterbi 1967).

    Of equally likely paths the one with the lower states at their ends.
    """
    emission, first, initial, transition = chain
    log_initial, log_transition = jnp.log(initial)[:, None], jnp.log(transition)[:, :, None]

    def step(best: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        weight, begins = now
        through = best[:, None] + log_transition  # (j, k, B)
        source = through.argmax(axis=0).astype(jnp.int32)
        value = jnp.where(begins, log_initial, through.max(axis=0)) + weight
        top = value.max(axis=0)
        top = jnp.where(jnp.isfinite(top), top, 0)
        return value - top, (source, value.argmax(axis=0).astype(jnp.int32))

    _, (source, last) = jax.lax.scan(step, jnp.zeros_like(emission[0]), (emission, first))

    def trace(following: tuple[jax.Array, jax.Array, jax.Array], now: tuple[jax.Array, ...]) -> Any:
        state, its_source, begins = following  # of the step after
        own_source, own_last, own_first = now
        chosen = jnp.where(begins, own_last, jnp.take_along_axis(its_source, state[None], axis=0)[0])
        return (chosen, own_source, own_first), chosen

    ends = (jnp.zeros_like(last[0]), source[0], jnp.ones_like(first[0]))
    _, path = jax.lax.scan(trace, ends, (source, last, first), reverse=True)
    here = jnp.take_along_axis(emission, path[:, None], axis=1)[:, 0]
    moved = jnp.log(transition)[jnp.concatenate([path[:1], path[:-1]]), path]
    return path, here + jnp.where(first, jnp.log(initial)[path], moved)


def draw(key: jax.Array, chain: Chain) -> jax.Array:
    """(T, B) a path drawn from p(z | y): the last state from its filtered probabilities, then backwards (Chib 1996)."""
    _, first, _, transition = chain
    state = filtered(chain).state
    noise = jax.random.gumbel(key, state.shape, state.dtype)

    def step(following: tuple[jax.Array, jax.Array], now: tuple[jax.Array, ...]) -> Any:
        later, begins = following
        own, own_noise, own_first = now
        weight = own * jnp.where(begins, 1, transition[:, later])
        chosen = (jnp.log(weight) + own_noise).argmax(axis=0).astype(jnp.int32)
        return (chosen, own_first), chosen

    start = (jnp.zeros(first.shape[1:], jnp.int32), jnp.ones_like(first[0]))
    return jax.lax.scan(step, start, (state, noise, first), reverse=True)[1]
