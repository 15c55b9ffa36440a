"""SQUAREM: squared extrapolation of a monotone map (Varadhan and Roland 2008, Scand. J. Stat. 35:335).

x = u0 + 2 a r + a^2 v, with r = u1 - u0, v = (u2 - u1) - r and the step length a = |r| / |v| of scheme S3, the only scheme that
accelerates mixtures reliably. a lies between 1 (no leap) and a bound, 4 at first, that grows fourfold where it was reached and
did good, and shrinks where it did harm.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm
from jaxem.algorithms.cycle import Leap, cycle, differences

GROWTH = 4.0


def squarem(algorithm: Algorithm | None = None) -> Algorithm:
    """SQUAREM S3 with a strict guard: monotone, three passes a cycle, two vectors of memory, robust at boundaries.

    Args:
        algorithm: the monotone algorithm to accelerate, default `em()`.
    """
    return cycle(algorithm, Leap(start, leap, learn))


def start(u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The bound of a, and a itself."""
    bound = jnp.full((), GROWTH, u.dtype)
    return bound, bound


def leap(memory: Any, u0: jax.Array, u1: jax.Array, u2: jax.Array) -> tuple[jax.Array, Any]:
    """The squared extrapolation."""
    bound, _ = memory
    r, after = differences(u0, u1, u2)
    v = after - r
    size = jnp.linalg.norm(v)
    a = jnp.where(size > 0, jnp.linalg.norm(r) / jnp.where(size > 0, size, 1), 1)
    a = jnp.clip(a, 1, bound)
    # u2 and what is added to it: a = 1 leaves u2 as it is, infinite coordinates too
    return u2 + 2 * (a - 1) * r + (a**2 - 1) * v, (bound, a)


def learn(memory: Any, accepted: jax.Array, worth: jax.Array, x: jax.Array) -> Any:
    """The bound after a leap that was accepted or dropped."""
    del worth, x
    bound, a = memory
    reached = a >= bound
    moved = jnp.where(accepted, GROWTH * bound, jnp.maximum(bound / GROWTH, 1))
    return jnp.where(reached, moved, bound), a
