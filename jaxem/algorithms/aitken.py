"""Aitken's leap along the slowest direction (Aitken 1926; for EM Louis 1982, JRSS-B 44:226, sec. 4).

Steps that shrink by a constant factor a have their limit at u2 + a / (1 - a) (u2 - u1); a = (r1 . r0) / (r0 . r0) is read off
two steps r0 = u1 - u0, r1 = u2 - u1.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm
from jaxem.algorithms.cycle import Leap, cycle, differences

NEAREST = 1e-4  # 1 - a is taken to be at least this


def aitken(algorithm: Algorithm | None = None) -> Algorithm:
    """Aitken's acceleration with a strict guard: monotone, three passes a cycle. Best where one direction alone is slow.

    Args:
        algorithm: the monotone algorithm to accelerate, default `em()`.
    """
    return cycle(algorithm, Leap(_start, _leap))


def _start(u: jax.Array) -> tuple[()]:
    del u
    return ()


def _leap(memory: Any, u0: jax.Array, u1: jax.Array, u2: jax.Array) -> tuple[jax.Array, Any]:
    first, second = differences(u0, u1, u2)
    size = first @ first
    ratio = jnp.where(size > 0, (second @ first) / jnp.where(size > 0, size, 1), 0)
    ratio = jnp.clip(ratio, 0, 1 - NEAREST)
    return u2 + ratio / (1 - ratio) * second, memory
