"""The recursions of `jaxem.kernels.chain` in some log(T) rounds instead of T steps, for devices with cores to spare.

A stretch of steps is the matrix p(z_t, y_s..t | z_s-1); such matrices are multiplied in any grouping (Särkkä and García-Fernández
2021, IEEE Trans. Automat. Contr. 66:299). Each is kept as rows that sum to 1 and the logarithms of what they were divided by, so
that a start from which the data are unlikely does not drown in one from which they are not. A step at which a sequence begins has
equal rows: it forgets what came before by itself. Work is K times that of a recursion, memory T K^2 B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels import chain as sequential
from jaxem.kernels.chain import Chain, Filtered, Smoothed, log_sum
from jaxem.kernels.linalg import HIGHEST

RADIX = 16  # stretches that are joined one after another before the next round


class _Stretch(NamedTuple):
    """Matrices diag(exp(log_mass)) rows, up to a factor for each stretch."""

    log_mass: jax.Array  # (..., K), the largest 0
    rows: jax.Array  # (..., K, K), sum to 1 over the last axis


def _stretch(log_mass: jax.Array, rows: jax.Array) -> _Stretch:
    """Normalised; one that no start allows leaves all states equally likely, as the recursion does."""
    total = rows.sum(axis=-1)
    safe = jnp.where(total > 0, total, 1)
    rows = jnp.where(total[..., None] > 0, rows / safe[..., None], 1 / rows.shape[-1])
    log_mass = jnp.where(total > 0, log_mass + jnp.log(safe), -jnp.inf)
    most = log_mass.max(axis=-1, keepdims=True)
    possible = most > -jnp.inf
    return _Stretch(jnp.where(possible, log_mass - jnp.where(possible, most, 0), 0), rows)


def _exp_rows(logs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """exp of (..., K, K) over the largest of each row, and its logarithm (..., K)."""
    most = logs.max(axis=-1)
    most = jax.lax.stop_gradient(jnp.where(jnp.isfinite(most), most, 0))
    return jnp.exp(logs - most[..., None]), most


def _join(early: _Stretch, late: _Stretch) -> _Stretch:
    through, most = _exp_rows(jnp.log(early.rows) + late.log_mass[..., None, :])
    return _stretch(early.log_mass + most, jnp.matmul(through, late.rows, precision=HIGHEST))


def _cumulated(steps: _Stretch, reverse: bool = False) -> _Stretch:
    """Products of all steps from the first to each, or from each to the last.

    What `jax.lax.associative_scan` does, whose program grows by two products for each doubling of T; this one grows by two for
    each factor of 16, so that long sequences compile in the time of short ones.
    """
    if reverse:
        flipped = _cumulated_by(lambda late, early: _join(early, late), jax.tree.map(lambda leaf: leaf[::-1], steps))
        return jax.tree.map(lambda leaf: leaf[::-1], flipped)
    return _cumulated_by(_join, steps)


def _cumulated_by(join: Callable[[_Stretch, _Stretch], _Stretch], steps: _Stretch) -> _Stretch:
    count, k = steps.log_mass.shape[0], steps.log_mass.shape[-1]
    rounds = -(-count // RADIX) if count > RADIX else 1
    size = -(-count // rounds)
    # what comes before the first step, and what fills the last round up: nothing
    same = jnp.broadcast_to(jnp.eye(k, dtype=steps.rows.dtype), steps.rows[:1].shape)
    nothing = _Stretch(jnp.zeros_like(steps.log_mass[:1]), same)

    def times(leaf: jax.Array, n: int) -> jax.Array:
        return jnp.broadcast_to(leaf, (n, *leaf.shape[1:]))

    filled = jax.tree.map(lambda leaf, one: jnp.concatenate([leaf, times(one, rounds * size - count)]), steps, nothing)
    dealt = jax.tree.map(lambda leaf: jnp.swapaxes(leaf.reshape(rounds, size, *leaf.shape[1:]), 0, 1), filled)

    def step(done: _Stretch, own: _Stretch) -> tuple[_Stretch, _Stretch]:
        done = join(done, own)
        return done, done

    start = jax.tree.map(lambda one: times(one, rounds), nothing)
    whole, within = jax.lax.scan(step, start, dealt)
    if rounds > 1:
        before = jax.tree.map(lambda one, leaf: jnp.concatenate([one, leaf[:-1]]), nothing, _cumulated_by(join, whole))
        before = jax.tree.map(lambda leaf, own: jnp.broadcast_to(leaf, own.shape), before, within)
        within = join(before, within)
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1).reshape(rounds * size, *leaf.shape[2:])[:count], within)


def _steps(chain: Chain) -> _Stretch:
    """(T, B, ...) of single steps."""
    emission, first, initial, transition = chain
    into = jnp.where(first[..., None, None], jnp.log(initial), jnp.log(transition))
    rows, most = _exp_rows(into + jnp.swapaxes(emission, 1, 2)[..., None, :])
    return _stretch(most, rows)


def _forward(chain: Chain, steps: _Stretch) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Filtered states (T, K, B), those one step ahead of the data (T, K, B), log_norm, whether digits were lost.

    The last step of each stretch is done again by itself: the likelihood is a sum over steps, not a difference of sums.
    """
    emission, first, initial, transition = chain
    tiny = jnp.finfo(emission.dtype).tiny
    past = _cumulated(steps).rows[..., 0, :]  # all rows are equal: the first step begins a sequence
    before = jnp.concatenate([past[:1], past[:-1]])
    ahead = jnp.where(first[..., None], initial, jnp.matmul(before, transition, precision=HIGHEST))
    ahead = jnp.swapaxes(ahead, 1, 2)
    top = emission.max(axis=1)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    joint = ahead * jnp.exp(emission - top[:, None])
    total = joint.sum(axis=1)
    possible = total > 0
    safe = jnp.where(possible, total, 1)
    state = jnp.where(possible[:, None], joint / safe[:, None], 1 / len(initial))
    log_norm = jnp.where(possible, jnp.log(safe) + top, -jnp.inf)
    lost = ((ahead > 0) & (joint < tiny) & (emission > -jnp.inf)).any() & (transition.min() < tiny**0.5)
    return state, ahead, log_norm, jnp.stack([(total < tiny**0.5).any(), lost])


def smooth(chain: Chain, weights: jax.Array) -> Smoothed:
    """As `jaxem.kernels.chain.smooth`."""
    emission, first, _, transition = chain
    tiny = jnp.finfo(emission.dtype).tiny
    steps = _steps(chain)
    state, ahead, log_norm, faint = _forward(chain, steps)
    future = _cumulated(steps, reverse=True).log_mass
    future = jnp.concatenate([future[1:], jnp.zeros_like(future[:1])])
    log_beta = jnp.swapaxes(jnp.where(jnp.concatenate([first[1:], jnp.ones_like(first[:1])])[..., None], 0, future), 1, 2)
    norm = log_sum(jnp.log(state) + log_beta, 1)[:, None]
    log_beta = jnp.where(norm > -jnp.inf, log_beta - jnp.where(norm > -jnp.inf, norm, 0), 0)
    told = emission + log_beta
    top = told.max(axis=1, keepdims=True)
    told = jnp.exp(told - jnp.where(jnp.isfinite(top), top, 0))
    shared = (ahead * told).sum(axis=1)
    counted = jnp.where(first, 0, weights) / jnp.where(shared > 0, shared, 1)
    pairs = transition * jnp.einsum("tjb,tkb->jk", state[:-1], (told * counted[:, None])[1:], precision=HIGHEST)
    found = Smoothed(state * jnp.exp(log_beta), pairs, log_norm)
    missed = ~(log_beta.max() < -0.75 * jnp.log(tiny)) | (shared < tiny**0.5).any()

    def redo(carry: tuple[jax.Array, Smoothed]) -> tuple[jax.Array, Smoothed]:
        return jnp.zeros((), bool), sequential.smooth_logs(chain, weights)

    return jax.lax.while_loop(lambda carry: carry[0], redo, (faint[0] | missed, found))[1]


def log_norms(chain: Chain) -> jax.Array:
    """As `jaxem.kernels.chain.log_norms`."""
    _, _, log_norm, faint = _forward(chain, _steps(chain))
    return jax.lax.cond(faint.any(), lambda: sequential.filtered_logs(chain).log_norm, lambda: log_norm)


def filtered(chain: Chain) -> Filtered:
    """As `jaxem.kernels.chain.filtered`."""
    state, _, log_norm, faint = _forward(chain, _steps(chain))
    return jax.lax.cond(faint.any(), lambda: sequential.filtered_logs(chain), lambda: Filtered(state, log_norm))
