"""Newton's method inside M-steps, as a program that stays small: derivatives are written out, and taken in one place.

`jaxem.newton.ascend` differentiates its objective and unrolls its solves, which is right for a few coordinates; here the number of
coordinates may be hundreds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

TRIALS = 60  # near the minimum two or three do
EASIER, HARDER = 0.1, 10.0  # how the damping answers a trial
LEAST = 2e-6  # damping below which a step is Newton's


class Look(NamedTuple):
    """A function at a point, in coordinates about it."""

    value: jax.Array  # ()
    gradient: jax.Array  # (p,)
    hessian: jax.Array  # (p, p)


class _State(NamedTuple):
    point: Any
    look: Look
    damping: jax.Array
    tried: jax.Array
    done: jax.Array


def solve_positive(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x with a x = b, a (p, p) symmetric, and whether a is positive definite, by Gauss and Jordan's elimination in a loop."""
    places = jnp.arange(len(b))

    def eliminate(j: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rows, sound = carry
        pivot = rows[j, j]
        sound = sound & (pivot > 0)
        own = rows[j] / jnp.where(pivot > 0, pivot, 1)
        rows = rows - rows[:, j, None] * own
        return jnp.where((places == j)[:, None], own, rows), sound

    rows = jnp.concatenate([a, b[:, None]], axis=1)
    rows, sound = jax.lax.fori_loop(0, len(b), eliminate, (rows, jnp.ones((), bool)))
    return rows[:, -1], sound


def descend(look: Callable[[Any], Look], move: Callable[[Any, jax.Array], Any], start: Any, size: int) -> Any:
    """A point at which the function is not above that at `start` but for rounding, a local minimum if the trials suffice.

    A trial moves along -(H + damping D)^-1 gradient, D the sizes of H's diagonal, and is taken if the function does not rise;
    damping falls after a success and grows after a failure (Levenberg 1944; Marquardt 1963).

    Args:
        look: the function at a point, of order 1 in size.
        move: (point, step (p,)) -> point.
        start: any pytree.
        size: p.
    """
    if size == 0:
        return start
    dtype = jax.tree.leaves(start)[0].dtype
    eps = jnp.finfo(dtype).eps

    def trial(state: _State) -> _State:
        here = state.look
        diagonal = jnp.abs(jnp.diagonal(here.hessian))
        scale = jnp.maximum(diagonal, 1e-6 * diagonal.max())
        root = jnp.sqrt(jnp.where(scale > 0, scale, 1))
        matrix = here.hessian / (root[:, None] * root) + state.damping * jnp.eye(size, dtype=dtype)
        step, positive = solve_positive(matrix, -here.gradient / root)
        step = step / root
        promised = -(here.gradient * step).sum()
        candidate = move(state.point, jnp.where(positive, step, 0))
        there = look(candidate)
        noise = 4 * eps * (1 + jnp.abs(here.value))
        settled = positive & (promised <= noise) & (state.tried > 0)  # the last step mends the gradient, not the value
        better = there.value <= here.value + jnp.where(settled, 2 * noise, 0)
        taken = (positive & better) | (state.tried == 0)
        damping = jnp.where(taken, EASIER * state.damping, HARDER * jnp.maximum(state.damping, 1e-6))
        done = (settled & (state.damping < LEAST)) | (damping > 1e12)
        point, kept = jax.tree.map(lambda new, old: jnp.where(taken, new, old), (candidate, there), (state.point, here))
        return _State(point, kept, damping, state.tried + 1, done)

    # the first trial goes nowhere and looks at the start, so that `look` is compiled once
    nowhere = Look(jnp.zeros((), dtype), jnp.zeros(size, dtype), jnp.eye(size, dtype=dtype))
    first = _State(start, nowhere, jnp.asarray(1e-5, dtype), jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    return jax.lax.while_loop(lambda state: ~state.done & (state.tried < TRIALS), trial, first).point
