"""Quasi-Newton acceleration of a monotone map by a few secants (Zhou, Alexander and Lange 2011, Stat. Comput. 21:261).

With columns U = u1 - u0 and V = u2 - u1 of the last cycles, dM ~ V U^-1 on their span, and Newton's step for u = M(u) is
x = u1 - V (U'U - U'V)^-1 U' (u0 - u1).
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm
from jaxem.algorithms.cycle import Leap, cycle, differences
from jaxem.checks import check_count
from jaxem.kernels.linalg import HIGHEST, solve_small


class Secants(NamedTuple):
    """The last secants."""

    u: jax.Array  # (q, P) u1 - u0
    v: jax.Array  # (q, P) u2 - u1
    filled: jax.Array  # () int32


def quasi_newton(algorithm: Algorithm | None = None, secants: int = 3) -> Algorithm:
    """Quasi-Newton acceleration with a strict guard: monotone, three passes a cycle, 2 q vectors of memory.

    Args:
        algorithm: the monotone algorithm to accelerate, default `em()`.
        secants: q >= 1, how many cycles are remembered.
    """
    return cycle(algorithm, _secants(check_count(secants, "secants")))


@lru_cache
def _secants(q: int) -> Leap:
    return Leap(partial(_start, q), _leap)


def _start(q: int, u: jax.Array) -> Secants:
    none = jnp.zeros((q, u.size), u.dtype)
    return Secants(none, none, jnp.zeros((), jnp.int32))


def _leap(memory: Secants, u0: jax.Array, u1: jax.Array, u2: jax.Array) -> tuple[jax.Array, Secants]:
    q = len(memory.u)
    first, second = differences(u0, u1, u2)
    place = memory.filled % q
    memory = Secants(memory.u.at[place].set(first), memory.v.at[place].set(second), memory.filled + 1)
    own = jnp.arange(q) < memory.filled
    inner = jnp.matmul(memory.u, (memory.u - memory.v).T, precision=HIGHEST)
    inner = jnp.where(own[:, None] & own, inner, jnp.eye(q, dtype=inner.dtype))
    share = solve_small(inner, jnp.matmul(memory.u, first, precision=HIGHEST))
    move = jnp.matmul(share, memory.v, precision=HIGHEST)
    x = jnp.where(jnp.isfinite(u1), u1 + move, u2)
    return jnp.where(jnp.isfinite(move).all(), x, u2), memory
