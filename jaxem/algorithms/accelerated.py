"""The accelerator to take where nothing is known of the problem: Anderson's leaps where they pay, SQUAREM's elsewhere.

Every cycle of three evaluations leaps once (see `jaxem.algorithms.cycle`), by one of two rules. Anderson's, on the differences of
the last m + 1 points at which the map was taken, whichever leap led there, and taken after two plain steps as alternating
Anderson methods do (Pratapa, Suryanarayana and Pask 2016, J. Comput. Phys. 306:43; Banerjee, Suryanarayana and Pask 2016, Chem.
Phys. Lett. 647:31). SQUAREM's S3 (Varadhan and Roland 2008). An Anderson leap that is dropped, or that is worth less than half
of what S3's are worth of late, is followed by 1, 2, 4, at most 8 cycles of S3, fewer again once one pays. What a leap is worth is
its gain in units of the gain of the plain step before it.

Why this is the default to recommend. Either rule alone fails somewhere: Anderson's secants mean little far from the maximum, where
overlapping components still sort themselves out, and there it takes three times the passes of SQUAREM; near the maximum SQUAREM
knows one rate of convergence and the secants know several, a factor of two to four. Judged together in one cycle they share their
evaluations, so that neither trial nor memory is lost when the rule changes. On the problems of `benchmarks/accelerators.py` its
median of passes was 0.5 to 1.25 times that of the best of the others, and no start failed.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm
from jaxem.algorithms.cycle import Leap, cycle, select
from jaxem.algorithms.squarem import leap as squared_leap
from jaxem.algorithms.squarem import learn as learn_bound
from jaxem.algorithms.squarem import start as first_bound
from jaxem.checks import check_count
from jaxem.kernels.linalg import HIGHEST, cholesky, invert_lower

LONGEST = 8  # cycles of S3 between two trials of Anderson's leap, at most
PAYS = 0.5  # of the worth of S3's leaps
LEAST = 1e-3  # a leap is taken to be worth at least this
POWER = 0.75  # of eps: the ridge, relative to differences of length 1


class _Memory(NamedTuple):
    points: jax.Array  # (m + 1, P), newest last
    residuals: jax.Array  # (m + 1, P) M(u) - u there
    filled: jax.Array  # () int32
    leapt: jax.Array  # (P,) the point leapt to last
    arrived: jax.Array  # () bool: whether the next cycle begins one step from it
    squared: tuple[jax.Array, jax.Array]  # SQUAREM's bound and step length
    mixed: jax.Array  # () bool: whether Anderson's leap was the last
    worth: jax.Array  # () log of what S3's leaps are worth of late; -inf before the first
    wait: jax.Array  # () int32 cycles of S3 to go
    penalty: jax.Array  # () int32 and after the next failure


def accelerated(algorithm: Algorithm | None = None, memory: int = 5) -> Algorithm:
    """Anderson's leaps or SQUAREM's, whichever pay: monotone, three passes a cycle, four where a leap is dropped.

    Args:
        algorithm: the monotone algorithm to accelerate, default `em()`.
        memory: m >= 1 differences for Anderson's leaps; 2 m vectors are kept. 4 to 6 do.
    """
    return cycle(algorithm, _leap_of(check_count(memory, "memory")))


@lru_cache
def _leap_of(m: int) -> Leap:
    return Leap(partial(_start, m), _leap, _learn)


def _start(m: int, u: jax.Array) -> _Memory:
    none = jnp.zeros((min(m, max(1, u.size)) + 1, u.size), u.dtype)
    zero, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    return _Memory(none, none, zero, u, no, first_bound(u), no, jnp.full((), -jnp.inf, u.dtype), zero, zero + 1)


def _push(memory: _Memory, point: jax.Array, image: jax.Array, when: Any = True) -> _Memory:
    """One more point of the map, where it is sound."""
    when = when & jnp.isfinite(point).all() & jnp.isfinite(image).all()
    points = jnp.concatenate([memory.points[1:], point[None]])
    residuals = jnp.concatenate([memory.residuals[1:], (image - point)[None]])
    more = memory._replace(points=points, residuals=residuals, filled=memory.filled + 1)
    return select(when, more, memory)


def _leap(memory: _Memory, u0: jax.Array, u1: jax.Array, u2: jax.Array) -> tuple[jax.Array, _Memory]:
    memory = _push(memory, memory.leapt, u0, memory.arrived)
    memory = _push(_push(memory, u0, u1), u1, u2)
    straight, squared = squared_leap(memory.squared, u0, u1, u2)
    move = _mix(memory, u2 - u1)
    mixed = (memory.wait <= 0) & (memory.filled > 2) & jnp.isfinite(move).all()
    x = jnp.where(mixed, u1 + jnp.where(mixed, move, 0), straight)
    squared = select(mixed, memory.squared, squared)
    return x, memory._replace(squared=squared, mixed=mixed)


def _mix(memory: _Memory, residual: jax.Array) -> jax.Array:
    """The step f - (dX + dF) g from the newest point, g minimising |f - dF g|^2 with a slight ridge."""
    m = len(memory.points) - 1
    own = jnp.arange(m) >= m - (memory.filled - 1)
    moves = jnp.where(own[:, None], jnp.diff(memory.points, axis=0), 0)
    changes = jnp.where(own[:, None], jnp.diff(memory.residuals, axis=0), 0)
    sizes = jnp.linalg.norm(changes, axis=1)
    scale = jnp.where(sizes > 0, sizes, 1)[:, None]
    moves, changes = moves / scale, changes / scale
    ridge = m * float(jnp.finfo(residual.dtype).eps) ** POWER
    gram = jnp.matmul(changes, changes.T, precision=HIGHEST) + ridge * jnp.eye(m, dtype=residual.dtype)
    gram = jnp.where(jnp.diag(sizes > 0) | ~jnp.eye(m, dtype=bool), gram, 1)
    inverse = invert_lower(cholesky(gram))
    g = jnp.matmul(inverse.T, jnp.matmul(inverse, jnp.matmul(changes, residual, precision=HIGHEST), precision=HIGHEST))
    return residual - jnp.matmul(g, moves + changes, precision=HIGHEST)


def _learn(memory: _Memory, accepted: jax.Array, worth: jax.Array, x: jax.Array) -> _Memory:
    found = jnp.log(jnp.maximum(jnp.where(accepted, worth, 0), LEAST))
    pays = accepted & (found >= memory.worth + jnp.log(PAYS))
    known = jnp.where(jnp.isfinite(memory.worth), 0.5 * (memory.worth + found), found)
    tried = jnp.where(pays, 0, memory.penalty)
    return memory._replace(
        leapt=x,
        arrived=accepted,
        squared=select(memory.mixed, memory.squared, learn_bound(memory.squared, accepted, worth, x)),
        worth=jnp.where(memory.mixed, memory.worth, known),
        wait=jnp.where(memory.mixed, tried, memory.wait - 1),
        penalty=jnp.where(memory.mixed, jnp.where(pays, 1, jnp.minimum(2 * memory.penalty, LONGEST)), memory.penalty),
    )
