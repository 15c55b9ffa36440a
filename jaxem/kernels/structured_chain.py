"""Recursions over Markov chains with many states of which each can go to few: what is known of the transitions is used.

A `Links` says how probabilities move one step ahead and back, in any semiring, so that sums of products (forward-backward), the
same on logarithms, and maxima (Viterbi) are one code. Arrays are time-major with lanes last, (T, *states, B), laid out as in
`jaxem.kernels.chain`; states may have several axes.

Scaled probabilities are used where they lose nothing. What underflows at some step is less than the smallest number times the
rest; it can matter later only if the data to come favour it by as much, which the backward recursion tells. Then, or where a
step is nearly impossible, all is done again on logarithms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxem.kernels.chain import across, choose


class Ring(NamedTuple):
    """A semiring on which chains run."""

    of: Callable[[jax.Array], jax.Array]  # a probability
    weigh: Callable[[jax.Array], jax.Array]  # a density given by its logarithm
    log: Callable[[jax.Array], jax.Array]  # back to a logarithm
    plus: Callable[[jax.Array, Any], jax.Array]  # sum over axes
    times: Callable[[jax.Array, jax.Array], jax.Array]
    over: Callable[[jax.Array, jax.Array], jax.Array]  # divided by
    across: Callable[[jax.Array, jax.Array], jax.Array]  # (K, K), (K, B) -> (K, B): sum_j m_jk a_j
    zero: float
    one: float


class Links(Protocol):
    """A chain with structure: a NamedTuple that holds `first` (T, B), whether a sequence begins, and what else it needs."""

    first: Any

    def emission(self) -> jax.Array:
        """Log-densities (T, *states, B), or (T, *, B) with axes of length 1 that broadcast to them."""

    def begin(self, ring: Ring) -> jax.Array:
        """(*states, 1) probabilities of the first state."""

    def push(self, ring: Ring, state: jax.Array) -> jax.Array:
        """(*states, B) -> (*states, B): sum_s p(s) P(s -> s')."""

    def pull(self, ring: Ring, ahead: jax.Array) -> jax.Array:
        """(*states, B) -> (*states, B): sum_s' P(s -> s') ahead(s')."""

    def log_into(self, later: jax.Array) -> jax.Array:
        """(B,) flat index of a state -> (*states, B) log P(s -> it)."""

    def told(self, smooth: jax.Array) -> Any:
        """What is kept of the smoothed probabilities (*states, B) of a step."""

    def tally(self, ring: Ring, before: jax.Array, ahead: jax.Array, moved: jax.Array) -> Any:
        """Sums over lanes, under weights `moved` (B,), of what a step from filtered `before` tells; `ahead` is what follows."""

    def settled(self, smooth: jax.Array, ended: jax.Array) -> Any:
        """The same tree, of the smoothed probabilities (*states, B) where a sequence ends, under weights `ended` (B,)."""


class Smoothed(NamedTuple):
    """What whole sequences say."""

    told: Any  # `Links.told` of each step
    tally: Any  # `Links.tally`, summed over steps within sequences
    log_norm: jax.Array  # (T, B) log p(y_t | y_1..t-1)


# semirings


def safe_log(p: jax.Array) -> jax.Array:
    """Logarithm, minus infinity at 0, with a derivative of 0 there."""
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), -jnp.inf)


def log_sum(x: jax.Array, axis: Any) -> jax.Array:
    """log sum exp; minus infinity where all are."""
    top = x.max(axis=axis, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    total = jnp.exp(x - top).sum(axis=axis)
    seen = total > 0
    return jnp.where(seen, jnp.log(jnp.where(seen, total, 1)) + jnp.squeeze(top, axis), -jnp.inf)


def _log_over(a: jax.Array, b: jax.Array) -> jax.Array:
    return a - jnp.where(b > -jnp.inf, b, 0)


def _best_across(matrix: jax.Array, state: jax.Array) -> jax.Array:
    return (state[:, None] + matrix[..., None]).max(axis=0)


def _log_across(matrix: jax.Array, state: jax.Array) -> jax.Array:
    return log_sum(state[:, None] + matrix[..., None], 0)


SCALED = Ring(
    of=lambda p: p, weigh=jnp.exp, log=safe_log, plus=lambda x, axis: x.sum(axis=axis), times=jnp.multiply,
    over=lambda a, b: a / jnp.where(b > 0, b, 1), across=across, zero=0.0, one=1.0,
)  # fmt: skip
LOGS = Ring(
    of=safe_log, weigh=lambda x: x, log=lambda x: x, plus=log_sum, times=jnp.add, over=_log_over, across=_log_across,
    zero=-jnp.inf, one=0.0,
)  # fmt: skip
BEST = LOGS._replace(plus=lambda x, axis: x.max(axis=axis), across=_best_across)


# recursions


class _Forward(NamedTuple):
    state: jax.Array  # (T, *states, B) filtered, in the ring
    growth: jax.Array  # (T, *, B) p(y_t | z_t) / p(y_t | past), in the ring
    log_norm: jax.Array  # (T, B)
    total: jax.Array  # (T, B) what each step was scaled by, in the ring


def _forward(ring: Ring, links: Any) -> _Forward:
    """A step that no state could produce has log_norm -inf and leaves all states equally likely."""
    emission, begin = links.emission(), links.begin(ring)
    axes = tuple(range(emission.ndim - 2))
    top = emission.max(axis=tuple(a + 1 for a in axes), keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    weight = ring.weigh(emission - top)
    shape = (*begin.shape[:-1], emission.shape[-1])
    size = begin.size
    even = ring.of(jnp.full(shape, 1 / size, emission.dtype))

    def step(state: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        own, begins = now
        joint = ring.times(jnp.where(begins, begin, links.push(ring, state)), own)
        total = ring.plus(joint, axes)
        state = jnp.where(total > ring.zero, ring.over(joint, total), even)
        return state, (state, total)

    _, (state, total) = jax.lax.scan(step, even, (weight, links.first))
    inner = total.reshape(total.shape[0], *(1 for _ in axes), -1)
    log_norm = jnp.where(total > ring.zero, ring.log(total) + top.reshape(total.shape), -jnp.inf)
    return _Forward(state, ring.over(weight, inner), log_norm, total)


def _backward(ring: Ring, links: Any, ran: _Forward, weights: jax.Array | None) -> tuple[Any, Any, jax.Array]:
    """What steps tell, their tally, and whether what the past has lost to underflow could matter. No weights, no tally."""
    dtype = ran.log_norm.dtype
    axes = tuple(range(ran.state.ndim - 2))
    one = jnp.full(ran.state.shape[1:], ring.one, dtype)
    before = jnp.concatenate([ran.state[:1], ran.state[:-1]])  # not looked at where a sequence begins
    huge = jnp.log(jnp.finfo(dtype).tiny) / -2

    def step(carry: Any, now: tuple[jax.Array, ...]) -> Any:
        beta, tally, lost = carry
        state, earlier, growth, begins, ends, weight = now
        ahead = ring.times(growth, beta)
        told: Any = ()
        if weights is not None:
            smooth = ring.times(state, beta) if ring.one else jnp.exp(state + beta)
            told = links.told(smooth)
            within = links.tally(ring, earlier, ahead, jnp.where(begins, 0, weight))
            last = links.settled(smooth, jnp.where(ends, weight, 0))
            tally = jax.tree.map(lambda a, b, c: a + b + c, tally, within, last)
        lost = lost | ~(ring.log(beta.max(axis=axes)) < huge)
        return (jnp.where(begins, one, links.pull(ring, ahead)), tally, lost), told

    counts = jnp.zeros_like(ran.log_norm) if weights is None else weights
    zeros: Any = ()
    if weights is not None:
        shapes = jax.eval_shape(lambda: links.tally(ring, one, one, counts[0]))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    start = (one, zeros, jnp.zeros(ran.log_norm.shape[1:], bool))
    ends = jnp.concatenate([links.first[1:], jnp.ones_like(links.first[:1])])
    given = (ran.state, before, ran.growth, links.first, ends, counts)
    (_, tally, lost), told = jax.lax.scan(step, start, given, reverse=True)
    return told, tally, lost.any() | (ran.total < jnp.sqrt(jnp.finfo(dtype).tiny)).any()


def smooth(links: Any, weights: jax.Array) -> Smoothed:
    """What whole sequences tell, under weights (T, B). (Not differentiable in reverse; `log_norms` is.)"""
    ran = _forward(SCALED, links)
    told, tally, faint = _backward(SCALED, links, ran, weights)

    def redo(carry: tuple[jax.Array, Smoothed]) -> tuple[jax.Array, Smoothed]:
        again = _forward(LOGS, links)
        told, tally, _ = _backward(LOGS, links, again, weights)
        return jnp.zeros((), bool), Smoothed(told, tally, again.log_norm)

    # a loop of at most one round, which `vmap` runs only if some lane needs it
    return jax.lax.while_loop(lambda carry: carry[0], redo, (faint, Smoothed(told, tally, ran.log_norm)))[1]


def log_norms(links: Any) -> jax.Array:
    """(T, B) log p(y_t | y_1..t-1); differentiable."""
    ran = _forward(SCALED, links)
    stopped = jax.lax.stop_gradient((links, ran))
    faint = _backward(SCALED, *stopped, None)[2]
    return jax.lax.cond(faint, lambda: _forward(LOGS, links).log_norm, lambda: ran.log_norm)


def log_filtered(links: Any) -> jax.Array:
    """(T, *states, B) log p(z_t | y_1..t)."""
    return _forward(LOGS, links).state


def likeliest(links: Any) -> tuple[jax.Array, jax.Array]:
    """(T, B) flat index of the states on the likeliest path (Viterbi 1967); what each step adds to its log joint density."""
    ran = _forward(BEST, links)
    return _trace(links, ran.state, None), ran.log_norm


def draw(uniform: jax.Array, links: Any) -> jax.Array:
    """(T, B) flat index of the states on a path drawn from p(z | y), the last first (Chib 1996), by numbers in [0, 1)."""
    return _trace(links, log_filtered(links), uniform)


def _trace(links: Any, state: jax.Array, uniform: jax.Array | None) -> jax.Array:
    """Backwards from the ends, the best predecessor of what follows; or one drawn."""
    lanes = state.shape[-1]

    def step(following: tuple[jax.Array, jax.Array], now: tuple[jax.Array, ...]) -> Any:
        later, begins = following
        own, own_first, *chance = now
        value = (own + jnp.where(begins, 0, links.log_into(later))).reshape(-1, lanes)
        chosen = choose(value, chance[0]) if chance else value.argmax(axis=0).astype(jnp.int32)
        return (chosen, own_first), chosen

    start = (jnp.zeros(lanes, jnp.int32), jnp.ones_like(links.first[0]))
    given = (state, links.first) if uniform is None else (state, links.first, uniform)
    return jax.lax.scan(step, start, given, reverse=True)[1]
