"""Recursions over Markov chains of discrete states, time-major: arrays (T, K, B) of B lanes run side by side.

A lane holds one or more sequences end to end; `first` (T, B) marks the steps at which one begins, where the chain forgets what
came before. Steps that only fill a lane up come after its last sequence, have emission 1 in every state and weight 0.

The scaled recursions keep filtered probabilities that sum to 1 and take the largest emission out of each step (Rabiner 1989,
Proc. IEEE 77:257, sec. V.A): multiplications alone. They fail where the only states that can be reached are far from the likeliest
emission, and where a state that has underflowed is the one that later data ask for. Both are seen as they happen, and the same is
done again on logarithms, which costs some K^2 exponentials a step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import HIGHEST

# Steps are written out, multiplication by multiplication, where products of matrices would cost more to call than to do: for a
# few states, and for more where few lanes leave such products nothing to run along.
UNROLLED, UNROLLED_NARROW, NARROW = 6, 12, 8


class Chain(NamedTuple):
    """What the recursions run over."""

    emission: jax.Array  # (T, K, B) log p(y_t | z_t)
    first: jax.Array  # (T, B) bool
    initial: jax.Array  # (K,)
    transition: jax.Array  # (K, K), from row to column

    def tempered(self, beta: jax.Array) -> Chain:
        """All factors of p(y, z) to the power beta."""
        return Chain(beta * self.emission, self.first, self.initial**beta, self.transition**beta)

    def along(self, path: jax.Array, weights: jax.Array) -> Smoothed:
        """What `smooth` would tell if the path (T, B) were certain; no log_norm."""
        state = one_hot(path, self.emission)
        moved = jnp.where(self.first[1:], 0, weights[1:])
        pairs = jnp.einsum("tjb,tkb->jk", state[:-1] * moved[:, None], state[1:], precision=HIGHEST)
        return Smoothed(state, pairs, jnp.zeros_like(weights))


def one_hot(path: jax.Array, like: jax.Array) -> jax.Array:
    """(T, B) -> (T, K, B), of the shape and dtype of `like`."""
    return jax.nn.one_hot(path, like.shape[1], axis=1, dtype=like.dtype)


class Filtered(NamedTuple):
    """What has been learnt up to and with each step."""

    state: jax.Array  # (T, K, B) p(z_t | y_1..t)
    log_norm: jax.Array  # (T, B) log p(y_t | y_1..t-1)


class Smoothed(NamedTuple):
    """What whole sequences say."""

    state: jax.Array  # (T, K, B) p(z_t | y)
    pairs: jax.Array  # (K, K) weighted expected number of steps from j to k within sequences
    log_norm: jax.Array  # (T, B)


class Kept(NamedTuple):
    """What the backward pass needs of the forward pass, step by step; probabilities, or all of it logarithms."""

    state: jax.Array  # (T, K, B) p(z_t | y_1..t)
    own: jax.Array  # (T, K, B) p(y_t | z_t), up to a factor
    scale: jax.Array  # (T, B) that factor, over p(y_t | y_1..t-1)
    log_norm: jax.Array  # (T, B)


class Ahead(NamedTuple):
    """What a step needs to know of the one after."""

    begins: jax.Array  # (T, B) bool: that it begins a sequence, or is not there
    counted: jax.Array  # (T, B) weight of the pair that ends there, 0 if it begins a sequence


def ahead_of(first: jax.Array, weights: jax.Array) -> Ahead:
    """From arrays (T, B)."""
    begins = jnp.concatenate([first[1:], jnp.ones_like(first[:1])])
    return Ahead(begins, jnp.where(begins, 0, jnp.concatenate([weights[1:], weights[:1]])))


# scaled


def back(transition: jax.Array, state: jax.Array) -> jax.Array:
    """(K, K), (K, B) -> (K, B): sum_k A_jk a_k, one step back."""
    k, b = state.shape
    if k <= (UNROLLED if b > NARROW else UNROLLED_NARROW):
        return sum(transition[:, j, None] * state[j] for j in range(k))  # type: ignore[return-value]
    return jnp.matmul(transition, state, precision=HIGHEST)


def across(transition: jax.Array, state: jax.Array) -> jax.Array:
    """(K, K), (K, B) -> (K, B): sum_j A_jk a_j, one step ahead."""
    return back(transition.T, state)


def unknown(chain: Chain) -> jax.Array:
    """A state (K, B) before anything is known."""
    k, b = chain.emission.shape[1:]
    return jnp.full((k, b), 1 / k, chain.emission.dtype)


def forward(chain: Chain, state: jax.Array, alone: bool = False) -> tuple[jax.Array, Kept, jax.Array]:
    """From the filtered state (K, B) before the first step: the one after the last, all between, whether digits were lost.

    A step that no state could produce has log_norm -inf and leaves all states equally likely. What is lost when a state that
    could be reached underflows, `backward` knows; if it does not follow (`alone`), such a state counts as a loss unless
    others lead into it with enough probability for what it had not to matter.
    """
    emission, first, initial, transition = chain
    k = len(initial)
    tiny = jnp.finfo(emission.dtype).tiny
    top = emission.max(axis=1)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    likelihood = jnp.exp(emission - top[:, None])
    seldom = transition.min() < tiny**0.5

    def step(carry: tuple[jax.Array, Any], now: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, Any], Any]:
        state, lost = carry
        own, begins, *log_own = now
        ahead = jnp.where(begins, initial[:, None], across(transition, state))
        joint = ahead * own
        total = joint.sum(axis=0)
        possible = total > 0
        state = jnp.where(possible, joint, 1 / k) * (1 / jnp.where(possible, total, 1))
        if alone:
            lost = lost | ((ahead > 0) & (joint < tiny) & (log_own[0] > -jnp.inf))
        return (state, lost), (state, total)

    lost: Any = jnp.zeros(state.shape, bool) if alone else None
    given = (likelihood, first, emission) if alone else (likelihood, first)
    (end, lost), (states, total) = jax.lax.scan(step, (state, lost), given)
    possible = total > 0
    safe = jnp.where(possible, total, 1)
    log_norm = jnp.where(possible, jnp.log(safe) + top, -jnp.inf)
    faint = (total < tiny**0.5).any()
    if lost is not None:
        faint = faint | (lost.any() & seldom)
    return end, Kept(states, likelihood, 1 / safe, log_norm), faint


class Behind(NamedTuple):
    """What the backward pass hands from a step to the one before."""

    later: jax.Array  # (K, B) p(y_t.. | z_t) over p(y_t.. | y_1..t-1)
    most: jax.Array  # (K, B) largest p(y_t+1.. | z_t) over p(y_t+1.. | y_1..t) so far


def nothing(start: jax.Array) -> Behind:
    """Behind the last step."""
    return Behind(jnp.zeros_like(start), jnp.zeros_like(start))


def backward(transition: jax.Array, kept: Kept, ahead: Ahead, behind: Behind) -> tuple[Behind, jax.Array, jax.Array]:
    """What the steps hand on; smoothed probabilities (T, K, B); weighted pairs (K, K)."""

    def step(behind: Behind, now: tuple[jax.Array, ...]) -> tuple[Behind, tuple[jax.Array, jax.Array]]:
        state, own, scale, begins, counted = now
        beta = jnp.where(begins, 1, back(transition, behind.later))
        return Behind(own * scale * beta, jnp.maximum(behind.most, beta)), (state * beta, behind.later * counted)

    behind, (smooth, told) = jax.lax.scan(step, behind, (*kept[:3], *ahead), reverse=True)
    # contracted after the recursion, many steps at once; pairs are stored step by step only where that takes less than states
    if told.shape[2] < told.shape[1]:
        pairs = jnp.einsum("tjb,tkb->jk", kept.state, told, precision=HIGHEST)
    else:
        pairs = jnp.einsum("tjb,tkb->tjk", kept.state, told, precision=HIGHEST).sum(axis=0)
    return behind, smooth, transition * pairs


def missed(behind: Behind) -> jax.Array:
    """Whether data asked for a state so much more than those before that it may have underflowed."""
    return ~(behind.most.max() < jnp.finfo(behind.most.dtype).tiny ** -0.75)


# the same on logarithms


def log_forward(chain: Chain, state: jax.Array) -> tuple[jax.Array, Kept, jax.Array]:
    """As `forward`, all of it logarithms; nothing is lost."""
    emission, first, initial, transition = chain
    k = len(initial)
    log_initial, log_transition = jnp.log(initial)[:, None], jnp.log(transition)[:, :, None]

    def step(state: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        own, begins = now
        joint = jnp.where(begins, log_initial, log_sum(state[:, None] + log_transition, 0)) + own
        total = log_sum(joint, 0)
        possible = total > -jnp.inf
        state = jnp.where(possible, joint - jnp.where(possible, total, 0), -jnp.log(k))
        return state, (state, total)

    end, (states, total) = jax.lax.scan(step, state, (emission, first))
    return end, Kept(states, emission, jnp.where(total > -jnp.inf, -total, 0), total), jnp.zeros((), bool)


def log_backward(transition: jax.Array, kept: Kept, ahead: Ahead, behind: Behind) -> tuple[Behind, jax.Array, jax.Array]:
    """As `backward`, what is handed on being logarithms."""
    log_transition = jnp.log(transition)[:, :, None]

    def step(carry: tuple[jax.Array, jax.Array], now: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        later, pairs = carry
        state, own, scale, begins, counted = now
        told = later[None] + log_transition  # (j, k, B)
        beta = jnp.where(begins, 0, log_sum(told, 1))
        pairs = pairs + (jnp.exp(jnp.where(begins, -jnp.inf, state[:, None] + told)) * counted).sum(-1)
        return (own + scale + beta, pairs), jnp.exp(state + beta)

    start = (behind.later, jnp.zeros_like(transition))
    (later, pairs), smooth = jax.lax.scan(step, start, (*kept[:3], *ahead), reverse=True)
    return behind._replace(later=later), smooth, pairs


def log_sum(x: jax.Array, axis: int) -> jax.Array:
    """log sum exp; -inf where all are."""
    top = x.max(axis=axis, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    total = jnp.exp(x - top).sum(axis=axis)
    seen = total > 0
    return jnp.where(seen, jnp.log(jnp.where(seen, total, 1)) + jnp.squeeze(top, axis), -jnp.inf)


# either


def smooth(chain: Chain, weights: jax.Array) -> Smoothed:
    """Smoothed probabilities and weighted counts of transitions, under weights (T, B).

    Logarithms only where the scaled recursions lose digits: a loop of at most one round, which `vmap` runs only if some lane
    needs it. (Not differentiable in reverse; `log_norms` is.)
    """
    ahead, start = ahead_of(chain.first, weights), nothing(unknown(chain))
    _, kept, faint = forward(chain, unknown(chain))
    behind, state, pairs = backward(chain.transition, kept, ahead, start)

    def redo(carry: tuple[jax.Array, Smoothed]) -> tuple[jax.Array, Smoothed]:
        return jnp.zeros((), bool), smooth_logs(chain, weights)

    found = Smoothed(state, pairs, kept.log_norm)
    return jax.lax.while_loop(lambda carry: carry[0], redo, (faint | missed(behind), found))[1]


def smooth_logs(chain: Chain, weights: jax.Array) -> Smoothed:
    """The same on logarithms."""
    _, kept, _ = log_forward(chain, jnp.log(unknown(chain)))
    _, state, pairs = log_backward(chain.transition, kept, ahead_of(chain.first, weights), nothing(kept.state[0]))
    return Smoothed(state, pairs, kept.log_norm)


def log_norms(chain: Chain) -> jax.Array:
    """(T, B) log p(y_t | y_1..t-1); differentiable."""
    _, kept, faint = forward(chain, unknown(chain), alone=True)
    return jax.lax.cond(faint, lambda: filtered_logs(chain).log_norm, lambda: kept.log_norm)


def filtered(chain: Chain) -> Filtered:
    """Filtered probabilities."""
    _, kept, faint = forward(chain, unknown(chain), alone=True)
    return jax.lax.cond(faint, lambda: filtered_logs(chain), lambda: Filtered(kept.state, kept.log_norm))


def filtered_logs(chain: Chain) -> Filtered:
    """The same on logarithms."""
    _, kept, _ = log_forward(chain, jnp.log(unknown(chain)))
    return Filtered(jnp.exp(kept.state), kept.log_norm)


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

    path = backtrack(source, last, first)
    here = jnp.take_along_axis(emission, path[:, None], axis=1)[:, 0]
    moved = jnp.log(transition)[jnp.concatenate([path[:1], path[:-1]]), path]
    return path, here + jnp.where(first, jnp.log(initial)[path], moved)


def backtrack(source: jax.Array, last: jax.Array, first: jax.Array) -> jax.Array:
    """The path (T, B) that ends in states `last` (T, B) where a sequence ends, and comes to a state from `source` (T, K, B)."""

    def trace(following: tuple[jax.Array, jax.Array, jax.Array], now: tuple[jax.Array, ...]) -> Any:
        state, its_source, begins = following  # of the step after
        own_source, own_last, own_first = now
        chosen = jnp.where(begins, own_last, jnp.take_along_axis(its_source, state[None], axis=0)[0])
        return (chosen, own_source, own_first), chosen

    ends = (jnp.zeros_like(last[0]), source[0], jnp.ones_like(first[0]))
    return jax.lax.scan(trace, ends, (source, last, first), reverse=True)[1]


def draw(uniform: jax.Array, chain: Chain) -> jax.Array:
    """(T, B) a path drawn from p(z | y): the last state from its filtered probabilities, then backwards (Chib 1996).

    `uniform` (T, B) are numbers in [0, 1), one for each step.
    """
    first, log_transition = chain.first, jnp.log(chain.transition)
    state = jnp.log(filtered(chain).state)

    def step(following: tuple[jax.Array, jax.Array], now: tuple[jax.Array, ...]) -> Any:
        later, begins = following
        own, chance, own_first = now
        chosen = choose(own + jnp.where(begins, 0, log_transition[:, later]), chance)
        return (chosen, own_first), chosen

    start = (jnp.zeros(first.shape[1:], jnp.int32), jnp.ones_like(first[0]))
    return jax.lax.scan(step, start, (state, uniform, first), reverse=True)[1]


def choose(log_mass: jax.Array, uniform: jax.Array, axis: int = 0) -> jax.Array:
    """int32 states along `axis` with probabilities proportional to exp(log_mass), by the inverse of their distribution."""
    top = log_mass.max(axis=axis, keepdims=True)
    mass = jnp.exp(log_mass - jnp.where(jnp.isfinite(top), top, 0))
    below = jnp.cumsum(mass, axis=axis)
    target = jnp.expand_dims(uniform, axis) * jax.lax.slice_in_dim(below, -1, None, axis=axis)
    place = (below <= target).sum(axis=axis, dtype=jnp.int32)
    return jnp.minimum(place, log_mass.shape[axis] - 1)  # where nothing is possible
