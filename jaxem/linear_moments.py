"""Linear equations with Gaussian noise, target = coefficients @ design + noise, from additive sums of second moments.

Cells of the coefficients may be held, and blocks of the noise's covariance. What is maximised in closed form is said by
`decouples`: rows whose noises are correlated need the same free cells (Zellner 1962, JASA 57:348).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.domains import Domain, PositiveDefinite
from jaxem.kernels import kalman
from jaxem.kernels.kalman import mm, symmetric
from jaxem.kernels.linalg import cholesky, invert_lower


class LinearMoments(NamedTuple):
    """Weighted sums of expectations about an anchor: e = target - anchor @ design."""

    total: jax.Array  # () sum of weights
    noise: jax.Array  # (e, e) sums of e e'
    cross: jax.Array  # (e, q) sums of e design'
    design: jax.Array  # (q, q) sums of design design'


class Block(NamedTuple):
    """Noises that are independent of all others."""

    members: tuple[int, ...]
    free: bool  # whether their covariance is estimated, in whole


def about(moments: LinearMoments, change: jax.Array) -> LinearMoments:
    """The same sums about anchor - change."""
    total, noise, cross, design = moments
    moved = jnp.matmul(change, design, precision="highest")
    twice = jnp.matmul(cross, change.T, precision="highest")
    square = jnp.matmul(moved, change.T, precision="highest")
    return LinearMoments(total, symmetric(noise + twice + twice.T + square), cross + moved, design)


def solve(moments: LinearMoments, start: jax.Array, free: np.ndarray) -> jax.Array:
    """(e, q) changes of the anchor's coefficients that minimise the squared noise of each row; those not free as `start`.

    Directions in which the design has no variance change nothing.
    """
    if not free.any():
        return start
    chosen = jnp.asarray(free, start.dtype)
    held = jnp.where(free, 0, start)
    left = moments.cross - jnp.matmul(held, moments.design, precision="highest")
    one = not (free != free[:1]).any()  # all rows alike
    own = chosen[:1].T if one else chosen.T  # (q, rows)
    matrix = moments.design[..., None] * own[:, None] * own[None] + jnp.eye(len(own), dtype=start.dtype)[..., None] * (1 - own)
    found = mm(kalman.inverse(matrix), (left * chosen).T[:, None])[:, 0].T
    return held + chosen * found


def noise_of(moments: LinearMoments, kept: jax.Array, blocks: tuple[Block, ...]) -> jax.Array:
    """Mean squares of the noise in free blocks; elsewhere, and where nothing was counted, as `kept`."""
    free = np.zeros(kept.shape, bool)
    for members, estimated in blocks:
        free[np.ix_(members, members)] = estimated
    total = moments.total
    return jnp.where(free & (total > 0), moments.noise / jnp.where(total > 0, total, 1), kept)


def expected_log_density(moments: LinearMoments, covariance: jax.Array, blocks: tuple[Block, ...], free: np.ndarray) -> jax.Array:
    """Sum of E log N(e; 0, covariance) over the blocks that have something to estimate; the others are constant."""
    total = jnp.zeros((), covariance.dtype)
    for members, estimated in blocks:
        if not (estimated or free[list(members)].any()):
            continue
        place = np.ix_(members, members)
        half = invert_lower(cholesky(covariance[place]))
        log_det = -2 * jnp.log(jnp.diagonal(half)).sum()
        distance = (jnp.matmul(half, moments.noise[place], precision="highest") * half).sum()
        total = total - 0.5 * (moments.total * (log_det + len(members) * math.log(2 * math.pi)) + distance)
    return total


def decouples(free: np.ndarray, blocks: tuple[Block, ...]) -> bool:
    """Whether rows with correlated noises have the same free cells, so that the covariance has no say in them."""
    return all(not (free[list(members)] != free[members[0]]).any() for members, _ in blocks)


def read_blocks(held: np.ndarray, values: np.ndarray, name: str) -> tuple[Block, ...]:
    """Independent blocks of a covariance some of whose cells are held.

    Raises:
        ValueError: blocks that are held in part, or values that are no covariance.
    """
    if (held != held.T).any() or (np.abs(values - values.T) > 1e-9 * np.abs(values).max(initial=0)).any():
        raise ValueError(f"fixed: {name} must be symmetric, in its values and in which cells are NaN.")
    n = len(held)
    linked = ~held | (values != 0) | np.eye(n, dtype=bool)
    blocks, seen = [], set()
    for i in range(n):
        if i in seen:
            continue
        members, grown = {i}, True
        while grown:
            more = set(np.flatnonzero(linked[list(members)].any(axis=0)).tolist()) | members
            grown, members = more != members, more
        seen |= members
        order = tuple(sorted(members))
        part = held[np.ix_(order, order)]
        if part.any() and not part.all():
            raise ValueError(
                f"fixed: {name} holds part of the covariances of {order}; a block that varies together is held or free in "
                "whole, and its covariances with the others are held at 0."
            )
        if part.all() and np.linalg.eigvalsh(values[np.ix_(order, order)])[0] < -1e-9 * np.abs(values).max(initial=0):
            raise ValueError(f"fixed: {name} is not positive semidefinite; give a covariance matrix.")
        blocks.append(Block(order, not part.any()))
    return tuple(blocks)


@dataclasses.dataclass(frozen=True, eq=False)
class BlockCovariance(Domain):
    """A covariance matrix whose free blocks are positive definite; the rest is held and may be singular."""

    state_axes: tuple[int, ...] = ()
    event_ndim: int = 2
    says: str = "symmetric matrices, positive definite where free and as the model holds them elsewhere"
    blocks: tuple[Block, ...] = ()
    value: Any = None  # what is held

    @property
    def elementwise(self) -> bool:
        """Cells hang together."""
        return False

    def free(self, event: tuple[int, ...]) -> int:
        """Coordinates of the free blocks."""
        del event
        return sum([len(b.members) * (len(b.members) + 1) // 2 for b in self.blocks if b.free])

    def unconstrain(self, x: jax.Array) -> jax.Array:
        """Coordinates of `PositiveDefinite`, block after block."""
        inner = PositiveDefinite()
        parts = [inner.unconstrain(x[..., list(b.members), :][..., list(b.members)]) for b in self.blocks if b.free]
        return jnp.concatenate([jnp.zeros((*x.shape[:-2], 0), x.dtype), *parts], axis=-1)

    def constrain(self, u: jax.Array, event: tuple[int, ...]) -> jax.Array:
        """Inverse of `unconstrain`, with what is held."""
        out = jnp.broadcast_to(jnp.asarray(self.value, u.dtype), (*u.shape[:-1], *event))
        inner, begin = PositiveDefinite(), 0
        for block in self.blocks:
            if block.free:
                size = len(block.members)
                end = begin + size * (size + 1) // 2
                part = inner.constrain(u[..., begin:end], (size, size))
                out = out.at[(..., *np.ix_(block.members, block.members))].set(part)
                begin = end
        return out

    def log_volume(self, u: jax.Array, event: tuple[int, ...]) -> jax.Array:
        """That of the free blocks."""
        total, begin = jnp.zeros(u.shape[:-1], u.dtype), 0
        for block in self.blocks:
            if block.free:
                size = len(block.members)
                end = begin + size * (size + 1) // 2
                total = total + PositiveDefinite().log_volume(u[..., begin:end], (size, size))
                begin = end
        return total

    def holds(self, x: np.ndarray) -> bool:
        """Whether free blocks are positive definite and the rest is as held."""
        kept = np.array(x, np.float64)
        own = np.broadcast_to(np.asarray(self.value), x.shape)
        for members, free in self.blocks:
            place = np.ix_(members, members)
            if free and not PositiveDefinite().holds(np.asarray(x)[place]):
                return False
            if free:
                kept[place] = own[place]
        return bool(np.allclose(kept, own, rtol=1e3 * np.finfo(x.dtype).eps, atol=0))
