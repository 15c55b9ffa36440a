"""What accelerators share that look at two steps of a map and leap: u0 -> u1 -> u2, a leap to x, one step from there to y.

The map is any monotone algorithm's step; coordinates are those of `jaxem.algorithms.chart`. A leap along the slow directions stirs
up fast ones, which the step from x settles; so the leap is judged at y, where the next cycle evaluates the objective anyway. Below
that of u1 it is dropped and the cycle ends at u2: as monotone as its map, three evaluations a cycle, four where a leap is dropped,
and the end is a plain step. Coordinates without bound do not leap.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Info, last
from jaxem.algorithms.chart import from_chart, to_chart
from jaxem.algorithms.em import em
from jaxem.rounding import rounding

FORGET = 0.9  # share of the slowest rate seen that a cycle still believes in: right after a leap, fast modes hide the slow


class CycleState(NamedTuple):
    """State of a cycle: a point, the map's state one step from it, and what the leap remembers."""

    params: Any
    image: Any  # the map's state after a step from params
    objective: jax.Array  # () at params
    log_likelihood: jax.Array  # ()
    memory: Any  # the leap's
    rate: jax.Array  # () slowest rate of convergence seen of late


def unmoved(memory: Any, accepted: jax.Array, worth: jax.Array, x: jax.Array) -> Any:
    """The memory of a leap that does not mind whether it was accepted."""
    del accepted, worth, x
    return memory


class Leap(NamedTuple):
    """How to leap: three functions at module level, or partials of such."""

    start: Callable  # (vector u) -> memory
    leap: Callable  # (memory, u0, u1, u2) -> (x, memory)
    # (memory, accepted, worth, x) -> memory; worth: the gain after u1 over that of u0 -> u1; x: where the leap went, kept inside
    learn: Callable = unmoved


class _Visit(NamedTuple):
    """A cycle under way."""

    at: Any  # (params, objective, log-likelihood) where the map was taken last
    image: Any  # the map's state after it
    held: Any  # the map's state at u2
    u2: jax.Array
    x: jax.Array  # where the leap went
    objective: jax.Array  # () at u1
    memory: Any
    good: jax.Array  # () bool: what was visited last may stand
    passes: jax.Array
    phase: jax.Array


def cycle(inner: Algorithm | None, leap: Leap) -> Algorithm:
    """The algorithm that leaps after every second step of `inner`, default `em()`; the same object for equal arguments.

    Raises:
        TypeError, ValueError: `inner` is no algorithm, or not monotone: a leap could not be judged.
    """
    return _cycle(em() if inner is None else inner, leap)


@lru_cache
def _cycle(inner: Algorithm, leap: Leap) -> Algorithm:
    check_monotone(inner)
    return Algorithm(partial(_init, inner, leap), partial(_step, inner, leap), opening=partial(opening_of_image, inner))


def opening_of_image(inner: Algorithm, model: Any, params: Any) -> int:
    """Passes of an `init` that takes one step of `inner`."""
    return inner.opening(model, params) + 1


def _init(inner: Algorithm, leap: Leap, model: Any, params: Any, data: Any, key: jax.Array) -> CycleState:
    image, info = inner.step(model, inner.init(model, params, data, key), data)
    known = info.objective.astype(data.dtype), info.log_likelihood.astype(data.dtype)
    return CycleState(params, image, *known, leap.start(to_chart(model, params)), jnp.zeros((), data.dtype))


def _step(inner: Algorithm, leap: Leap, model: Any, state: CycleState, data: Any) -> tuple[CycleState, Info]:
    like, dtype = state.params, data.dtype
    u0, u1 = to_chart(model, like), to_chart(model, state.image.params)
    slack = rounding(model, like, state.objective, data) / 4  # a quarter of what the driver takes for a fall

    def visit(now: _Visit) -> _Visit:
        """Phase 0 takes the map at u1, 1 at x, 2 at y, and 3, where y does not do, at u2."""

        def leapt() -> tuple[Any, Any]:
            x, memory = leap.leap(now.memory, u0, u1, now.u2)
            return inner.init(model, from_chart(model, x, now.image.params), data, jax.random.key(0)), memory

        held = select(now.phase == 1, now.image, now.held)
        if inner.opening(model, like) == 0:
            begin, memory = select(now.phase == 1, leapt(), (now.image, now.memory))
        else:
            begin, memory = jax.lax.cond(now.phase == 1, leapt, lambda: (now.image, now.memory))
        begin = select(now.phase == 3, held, begin)
        image, info = inner.step(model, begin, data)
        objective = info.objective.astype(dtype)
        first, second = now.phase == 0, now.phase == 2
        sound = jnp.isfinite(objective) & finite_params(image.params) & ~model.degenerate(begin.params, data).any()
        return _Visit(
            (begin.params, objective, info.log_likelihood.astype(dtype)),
            image,
            held,
            jnp.where(first, to_chart(model, image.params), now.u2),
            jnp.where(now.phase == 1, to_chart(model, begin.params), now.x),
            jnp.where(first, objective, now.objective),
            memory,
            jnp.where(second, sound & (objective >= now.objective - slack), now.phase == 3),
            now.passes + jnp.asarray(info.passes, jnp.int32),
            now.phase + 1,
        )

    none = jnp.zeros((), dtype)
    spent = jnp.asarray(inner.opening(model, like), jnp.int32)
    begin = _Visit((like, none, none), state.image, state.image, u1, u1, none, state.memory, jnp.zeros((), bool), spent, 0 * spent)
    end = jax.lax.while_loop(lambda now: (now.phase < 3) | ((now.phase == 3) & ~now.good), visit, begin)

    u = jnp.stack([u0, u1, end.u2])
    slowest = jnp.maximum(rate_of(u), FORGET * state.rate)
    gain = end.objective - state.objective
    gap = jnp.where(gain >= -slack, jnp.maximum(gain, 0) * slowest**4 / (1 - slowest**2), jnp.inf)
    worth = jnp.where(gain > 0, (end.at[1] - end.objective) / jnp.where(gain > 0, gain, 1), 0)
    memory = leap.learn(end.memory, end.phase == 3, worth, end.x)
    params, objective, log_likelihood = end.at
    new = CycleState(params, end.image, objective, log_likelihood, memory, slowest)
    return new, Info(state.log_likelihood, state.objective, end.passes, gap)


def rate_of(u: jax.Array) -> jax.Array:
    """|u2 - u1| / |u1 - u0|, below 1: the rate at which steps of the map shrink."""
    steps = jnp.linalg.norm(differences(*u), axis=-1)
    rate = jnp.where(steps[0] > 0, steps[1] / jnp.where(steps[0] > 0, steps[0], 1), 0)
    return jnp.clip(rate, 0, 1 - jnp.sqrt(jnp.finfo(u.dtype).eps))


def differences(*u: jax.Array) -> jax.Array:
    """u1 - u0, u2 - u1, ...; 0 for coordinates that are not finite in all."""
    stacked = jnp.stack(u)
    sound = jnp.isfinite(stacked).all(axis=0)
    return jnp.diff(jnp.where(sound, stacked, 0), axis=0)


def finite_params(params: Any) -> jax.Array:
    """Whether every leaf is a number everywhere."""
    leaves = jax.tree.leaves(params)
    return jnp.stack([~jnp.isnan(leaf).any() for leaf in leaves]).all()


def check_monotone(algorithm: Any) -> None:
    """Raises where `algorithm` cannot be accelerated."""
    if not isinstance(algorithm, Algorithm):
        raise TypeError(f"algorithm: found {type(algorithm).__name__}; give one to accelerate, for instance em().")
    if not algorithm.monotone:
        raise ValueError("algorithm: only a monotone one can be accelerated: a random step says nothing about the next.")
    if algorithm.conclude is not last:
        raise ValueError(
            "algorithm: maximises something else than its newest params' log-likelihood + log prior, by which a leap is judged; "
            "accelerate one such as em()."
        )


def select(condition: jax.Array, yes: Any, no: Any) -> Any:
    """Leaf by leaf `yes` or `no`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
