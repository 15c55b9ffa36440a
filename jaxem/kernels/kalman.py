"""Kalman filter and smoother of a linear Gaussian state space, over lanes of sequences that stand end to end.

Matrix axes lead, steps T and lanes B follow: a covariance of every step is (n, n, T, B). `first` (T, B) marks the steps at which
a sequence begins, where the state starts anew. Means have m columns: the first is the mean, the others, where a start is
diffuse, what each coordinate of the first state adds to it, so that the limit of an infinite start variance is exact (de Jong
1991, Ann. Stat. 19:1073).

Cells of one step are absorbed one at a time (Koopman and Durbin 2000, J. Time Ser. Anal. 21:281), which needs no inverse and
lets missing cells be left out; covariances are updated in Joseph's form, whose rounding errors shrink with the covariance. The
backward recursion is that of the adjoint r and its covariance N (de Jong 1989, JASA 84:1085): it inverts nothing either, so
covariances may be singular, and smoothed covariances come from filtered ones, which are small.

The recursions run step by step, or in parallel over time by scans of doubling reach in O(log T) depth (Sarkka and Garcia-Fernandez
2021, IEEE Trans. Autom. Control 66:299), on the same quantities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import HIGHEST

UNROLLED = 6  # inner dimension up to which a product is written out, cells up to which a loop is


class Dynamics(NamedTuple):
    """How the state starts and moves."""

    transition: jax.Array  # (n, n)
    noise: jax.Array  # (n, n) covariance, may be singular
    mean: jax.Array  # (n, m) of the first state
    covariance: jax.Array  # (n, n)


class Cells(NamedTuple):
    """What is seen of the state: k cells a step with independent noise. T and B may be 1 where all steps share a leaf."""

    value: jax.Array  # (k, T, B), 0 where not seen
    row: jax.Array  # (k, n, T, B)
    noise: jax.Array  # (k, T, B) variances, may be 0
    seen: jax.Array  # (k, T, B) 1 or 0
    drift: jax.Array | None  # (n, T, B) what inputs add to the state on its way into each step
    first: jax.Array  # (T, B) bool


class Absorbed(NamedTuple):
    """A normal after k cells, and how it got there."""

    mean: jax.Array  # (n, m, ...)
    covariance: jax.Array  # (n, n, ...)
    gain: jax.Array  # (k, n, ...)
    precision: jax.Array  # (k, ...) of each cell given the ones before; 0 where it is not seen, or has no variance
    innovation: jax.Array  # (k, m, ...)


class Smoothed(NamedTuple):
    """Both passes."""

    predicted: jax.Array  # (n, m, T, B) means given the steps before
    predicted_covariance: jax.Array  # (n, n, T, B)
    absorbed: Absorbed  # given the steps up to this one
    adjoint: jax.Array  # (n, m, T, B) r: the mean moves by covariance @ transition' @ r
    information: jax.Array  # (n, n, T, B) N, its covariance


def mm(a: jax.Array, b: jax.Array) -> jax.Array:
    """(i, k, ...), (k, j, ...) -> (i, j, ...); batch axes broadcast, from the right."""
    ndim = max(a.ndim, b.ndim)
    a, b = (x.reshape(*x.shape[:2], *(1,) * (ndim - x.ndim), *x.shape[2:]) for x in (a, b))
    if a.shape[1] <= UNROLLED:
        return sum(a[:, k, None] * b[None, k] for k in range(a.shape[1]))  # type: ignore[return-value]
    return jnp.einsum("ik...,kj...->ij...", a, b, precision=HIGHEST)


def turned(a: jax.Array) -> jax.Array:
    """Transposes (i, j, ...)."""
    return jnp.swapaxes(a, 0, 1)


def outer(a: jax.Array, b: jax.Array) -> jax.Array:
    """(i, ...), (j, ...) -> (i, j, ...)."""
    return a[:, None] * b[None]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """(n, j, ...), (n, ...) -> (j, ...)."""
    return mm(turned(a), b[:, None])[:, 0]


def symmetric(a: jax.Array) -> jax.Array:
    """The symmetric part."""
    return 0.5 * (a + turned(a))


def lifted(a: jax.Array, like: jax.Array) -> jax.Array:
    """A matrix shared by all steps and lanes, with as many batch axes as `like` has."""
    return a.reshape(*a.shape, *(1,) * (like.ndim - 2))


# factorisations of positive semidefinite matrices


def ldl(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """a = L diag(D) L' with unit lower triangular L (n, n, ...) and D >= 0 (n, ...).

    A pivot that is lost in rounding is 0, and so is what stands below it.
    """
    n = a.shape[0]
    eps = jnp.finfo(a.dtype).eps
    floor = 8 * n * eps * jnp.stack([a[j, j] for j in range(n)])
    columns, pivots = [], []
    rows = jnp.arange(n).reshape(n, *(1,) * (a.ndim - 2))
    for j in range(n):
        sound = a[j, j] > floor[j]
        pivot = jnp.where(sound, a[j, j], 0)
        column = jnp.where(sound & (rows > j), a[:, j] / jnp.where(sound, a[j, j], 1), 0)
        a = a - outer(column, column) * pivot
        columns.append(jnp.where(rows == j, 1, column))
        pivots.append(pivot)
    return jnp.stack(columns, axis=1), jnp.stack(pivots)


def forward_solve(lower: jax.Array, b: jax.Array) -> jax.Array:
    """L^-1 b for unit lower triangular L (n, n, ...) and b (n, j, ...)."""
    rows = [b[0]]
    for i in range(1, b.shape[0]):
        rows.append(b[i] - mm(lower[i : i + 1, :i], jnp.stack(rows))[0])
    return jnp.stack(rows)


def inverse(a: jax.Array) -> jax.Array:
    """A symmetric inverse of positive semidefinite (n, n, ...), 0 along what is lost in rounding."""
    lower, pivot = ldl(a)
    identity = lifted(jnp.eye(a.shape[0], dtype=a.dtype), a)
    half = forward_solve(lower, jnp.broadcast_to(identity, a.shape))
    kept = pivot > 0
    return mm(turned(half), jnp.where(kept, 1 / jnp.where(kept, pivot, 1), 0)[:, None] * half)


def log_det(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log of the product of the pivots that are not lost in rounding, and how many these are."""
    _, pivot = ldl(a)
    kept = pivot > 0
    return jnp.where(kept, jnp.log(jnp.where(kept, pivot, 1)), 0).sum(axis=0), kept.sum(axis=0)


# one step


def absorb(mean: jax.Array, covariance: jax.Array, cells: tuple[jax.Array, ...]) -> Absorbed:
    """The normal (n, m, ...), (n, n, ...) given cells (value, row, noise, seen), whose axis k leads."""
    eps = jnp.finfo(covariance.dtype).eps
    begin = jnp.stack([covariance[j, j] for j in range(len(covariance))])

    def one(carry: tuple[jax.Array, jax.Array], cell: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, jax.Array], tuple]:
        mean, covariance = carry
        value, row, noise, seen = cell
        along = _dot(covariance, row)
        variance = (row * along).sum(axis=0) + noise
        # without noise, what earlier cells have said already is known but for rounding
        known = (noise == 0) & (variance <= 32 * eps * (row * row * begin).sum(axis=0))
        sound = (seen > 0) & (variance > 0) & ~known
        precision = jnp.where(sound, 1 / jnp.where(sound, variance, 1), 0)
        gain = along * precision
        innovation = -_dot(mean, row)
        innovation = innovation.at[0].add(value)
        mean = mean + outer(gain, innovation)
        left = covariance - outer(gain, along)
        covariance = symmetric(left - outer(_dot(turned(left), row), gain) + noise * outer(gain, gain))
        return (mean, covariance), (gain, precision, innovation)

    if len(cells[0]) > UNROLLED:
        (mean, covariance), found = jax.lax.scan(one, (mean, covariance), cells)
        return Absorbed(mean, covariance, *found)
    each = []
    for i in range(len(cells[0])):
        (mean, covariance), own = one((mean, covariance), tuple(leaf[i] for leaf in cells))
        each.append(own)
    return Absorbed(mean, covariance, *(jnp.stack(leaves) for leaves in zip(*each, strict=True)))


def compose(found: Absorbed, row: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Absorbing as one map of adjoints, r -> M'r + g and N -> M'NM + D: M (n, n, ...), g (n, m, ...), D (n, n, ...)."""
    like = found.covariance
    whole = jnp.broadcast_to(lifted(jnp.eye(len(like), dtype=like.dtype), like), like.shape)

    def one(carry: Any, cell: Any) -> tuple[Any, None]:
        matrix, adjoint, information = carry
        gain, precision, innovation, row = cell
        adjoint = adjoint - outer(row, _dot(adjoint, gain)) + outer(row * precision, innovation)
        left = information - outer(row, _dot(information, gain))
        information = symmetric(left - outer(_dot(turned(left), gain), row) + outer(row, row) * precision)
        return (matrix - outer(mm(matrix, gain[:, None])[:, 0], row), adjoint, information), None

    carry: Any = (whole, jnp.zeros_like(found.mean), jnp.zeros_like(like))
    cells = (found.gain, found.precision, found.innovation, row)
    if len(row) > UNROLLED:
        carry, _ = jax.lax.scan(one, carry, cells, reverse=True)
    else:
        for i in reversed(range(len(row))):
            carry, _ = one(carry, tuple(leaf[i] for leaf in cells))
    return carry


# forward


def _anew(first: jax.Array, dynamics: Dynamics, mean: jax.Array, covariance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The start where a sequence begins."""
    start, spread = lifted(dynamics.mean, mean), lifted(dynamics.covariance, covariance)
    return jnp.where(first, start, mean), jnp.where(first, spread, covariance)


def predict(dynamics: Dynamics, cells: Cells, parallel: bool = False) -> tuple[jax.Array, jax.Array]:
    """Means (n, m, T, B) and covariances (n, n, T, B) of the states given the steps before."""
    return (_predict_parallel if parallel else _predict_stepwise)(dynamics, cells)


def _predict_stepwise(dynamics: Dynamics, cells: Cells) -> tuple[jax.Array, jax.Array]:
    transition, noise = dynamics.transition[..., None], dynamics.noise[..., None]
    lanes = cells.first.shape[1]
    given = tuple(jnp.moveaxis(leaf, -2, 0) for leaf in cells[:4])
    fixed = [leaf[0] if len(leaf) == 1 else None for leaf in given]  # the same in every step
    moving = [leaf if known is None else None for leaf, known in zip(given, fixed, strict=True)]
    drift = None if cells.drift is None else jnp.moveaxis(cells.drift, 1, 0)

    def step(carry: tuple[jax.Array, jax.Array], now: tuple) -> tuple[tuple[jax.Array, jax.Array], tuple]:
        own, push, begins = now
        mean, covariance = carry
        if push is not None:
            mean = mean.at[:, 0].add(push)
        mean, covariance = _anew(begins, dynamics, mean, covariance)
        known = tuple(a if b is None else b for a, b in zip(own, fixed, strict=True))
        found = absorb(mean, covariance, known)
        ahead = mm(transition, found.mean), mm(mm(transition, found.covariance), turned(transition)) + noise
        return ahead, (mean, covariance)

    n, m = dynamics.mean.shape
    dtype = cells.value.dtype
    start = jnp.zeros((n, m, lanes), dtype), jnp.zeros((n, n, lanes), dtype)
    _, (mean, covariance) = jax.lax.scan(step, start, (moving, drift, cells.first))
    return jnp.moveaxis(mean, 0, 2), jnp.moveaxis(covariance, 0, 2)


def _predict_parallel(dynamics: Dynamics, cells: Cells) -> tuple[jax.Array, jax.Array]:
    transition, noise = (leaf[..., None, None] for leaf in dynamics[:2])
    n, m = dynamics.mean.shape
    shape = cells.first.shape
    dtype = cells.value.dtype
    push = jnp.zeros((n, m, *shape), dtype)
    if cells.drift is not None:
        push = push.at[:, 0].set(cells.drift)
    mean, covariance = _anew(cells.first, dynamics, push, jnp.broadcast_to(noise, (n, n, *shape)))
    found = absorb(mean, covariance, cells[:4])
    matrix, adjoint, information = compose(found, cells.row)
    elements: Any = (
        mm(matrix, transition), found.mean, found.covariance,
        mm(turned(transition), adjoint), mm(turned(transition), mm(information, transition)),
    )  # fmt: skip
    kept = [True, False, False, True, True]  # what comes before a sequence says nothing about it
    elements = tuple(jnp.where(cells.first, 0, leaf) if own else leaf for leaf, own in zip(elements, kept, strict=True))
    _, mean, covariance, _, _ = _scanned(_joined, elements)
    ahead = mm(transition, mean), mm(mm(transition, covariance), turned(transition)) + noise
    before = [jnp.concatenate([jnp.zeros_like(leaf[:, :, :1]), leaf[:, :, :-1]], axis=2) for leaf in ahead]
    return _anew(cells.first, dynamics, before[0] + push, before[1])


def _scanned(joined: Callable[..., tuple[jax.Array, ...]], elements: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """All prefixes along axis 2 in ceil(log2 T) rounds of doubling (Hillis and Steele 1986), one program for all rounds."""
    steps = elements[0].shape[2]
    place = jnp.arange(steps)

    def double(own: tuple[jax.Array, ...], reach: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
        early = tuple(jnp.take(leaf, jnp.maximum(place - reach, 0), axis=2) for leaf in own)
        both = joined(early, own)
        counted = (place >= reach)[:, None]
        return tuple(jnp.where(counted, new, old) for new, old in zip(both, own, strict=True)), None

    reaches = jnp.asarray([1 << k for k in range((steps - 1).bit_length())], jnp.int32)
    return jax.lax.scan(double, elements, reaches)[0]


def _joined(early: tuple[jax.Array, ...], late: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Two stretches of steps as one: p(x_end | x_begin, y) = N(A x + b, C), p(y | x_begin) with information J, vector e."""
    a1, b1, c1, e1, j1 = early
    a2, b2, c2, e2, j2 = late
    lower, pivot = ldl(c1)
    root = lower * jnp.sqrt(pivot)[None]
    inner = mm(turned(root), mm(j2, root)) + lifted(jnp.eye(len(root), dtype=root.dtype), root)
    unit, size = ldl(inner)
    half = forward_solve(unit, turned(root)) / jnp.sqrt(size)[:, None]
    shared = mm(turned(half), half)  # (I + C1 J2)^-1 C1 = (C1^-1 + J2)^-1
    moved = b1 + mm(c1, e2)
    onward = mm(a2, moved - mm(shared, mm(j2, moved))) + b2
    spread = mm(mm(a2, shared), turned(a2)) + c2
    through = a1 - mm(shared, mm(j2, a1))
    gap = e2 - mm(j2, b1)
    back = mm(turned(a1), gap - mm(j2, mm(shared, gap))) + e1
    known = mm(turned(a1), mm(j2, through)) + j1
    return mm(a2, through), onward, symmetric(spread), back, symmetric(known)


# backward


def smooth(dynamics: Dynamics, cells: Cells, parallel: bool = False) -> Smoothed:
    """Both passes; see `Smoothed`."""
    mean, covariance = predict(dynamics, cells, parallel)
    found = absorb(mean, covariance, cells[:4])
    matrix, adjoint, information = compose(found, cells.row)
    through = mm(dynamics.transition[..., None, None], matrix)
    if parallel:
        out = _back_parallel(through, adjoint, information, cells.first)
        after, known = (jnp.concatenate([leaf[:, :, 1:], jnp.zeros_like(leaf[:, :, :1])], axis=2) for leaf in out)
    else:
        after, known = _back_stepwise(through, adjoint, information, cells.first)
    return Smoothed(mean, covariance, found, after, known)


def _back_stepwise(through: jax.Array, adjoint: jax.Array, information: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
    def step(carry: Any, now: Any) -> tuple[Any, Any]:
        r, n = carry
        matrix, g, d, begins = now
        earlier = mm(turned(matrix), r) + g, mm(turned(matrix), mm(n, matrix)) + d
        return tuple(jnp.where(begins, 0, leaf) for leaf in earlier), carry

    given = tuple(jnp.moveaxis(leaf, 2, 0) for leaf in (through, adjoint, information))
    start = jnp.zeros_like(given[1][0]), jnp.zeros_like(given[2][0])
    _, (r, n) = jax.lax.scan(step, start, (*given, first), reverse=True)
    return jnp.moveaxis(r, 0, 2), jnp.moveaxis(n, 0, 2)


def _back_parallel(through: jax.Array, adjoint: jax.Array, information: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What each step hands to the one before."""

    def joined(late: tuple[jax.Array, ...], early: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        t2, g2, d2 = late
        t1, g1, d1 = early
        return mm(t2, t1), mm(turned(t1), g2) + g1, symmetric(mm(turned(t1), mm(d2, t1)) + d1)

    elements = tuple(jnp.flip(jnp.where(first, 0, leaf), 2) for leaf in (through, adjoint, information))
    _, r, n = (jnp.flip(leaf, 2) for leaf in _scanned(joined, elements))
    return r, n
