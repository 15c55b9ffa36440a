r"""M-steps of covariances that share volume, shape or orientation (Celeux and Govaert 1995, Pattern Recognition 28:781).

Given scatter W_k and mass n_k of each state, n = sum_k n_k, they minimise

    F = sum_k n_k log|S_k| + tr(W_k S_k^-1),      S_k = v_k D_k A_k D_k'.

Six are known in closed form. Shared shape with volumes of their own (VEI, VEE, VEV) leaves F(v) = n log|sum_k W_k / v_k| + d
sum_k n_k log v_k, which is convex in log v: Newton's method finds its one minimum. A shared orientation with shapes of their own
(EVE, VVE) leaves a function of D on the orthogonal matrices (`jaxem.kernels.common_axes`), brought to a local minimum not above
that of the last D.

A state without mass keeps what the others do not share with it. One whose scatter has collapsed comes out singular.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxem.kernels.common_axes import common_axes, diagonals
from jaxem.kernels.descent import Look, descend
from jaxem.kernels.jacobi import diagonalize
from jaxem.kernels.linalg import cholesky, invert_lower, matmul, transpose

STEPS = 100  # of Newton's method where every column has a mass of its own; five do
LONGEST = 3.0  # no log volume changes by more in one trial


def variances(kind: str, scatter: jax.Array, mass: jax.Array, old: jax.Array) -> jax.Array:
    """Variances (K, d) of `kind` "VE" or "EV" (volume, shape) from scatter and mass (K, d), which differs by column where cells
    are missing, and the variances `old` (K, d) before."""
    if kind == "VE":
        return _own_volumes(scatter, mass, old)
    return _one_volume(scatter, mass, old)


def covariances(kind: str, scatter: jax.Array, mass: jax.Array, old: jax.Array) -> jax.Array:
    """Covariances (K, d, d) of `kind` (volume, shape, orientation) from scatter (K, d, d), mass (K,) and those before."""
    solve = {"VEE": _vee, "EVV": _evv, "EEV": _own_axes, "VEV": _own_axes, "EVE": _one_orientation, "VVE": _one_orientation}
    found = solve[kind](kind, scatter, mass, old)
    return 0.5 * (found + transpose(found))


# shared shape, volumes of their own


def _minimise_volumes(look: Callable[[jax.Array], Look], mass: jax.Array, counted: jax.Array, start: jax.Array) -> jax.Array:
    """x (K,) at which look(x) - sum mass x is least; `look` is sum_j N_j log sum_k exp(x_k) w_kj or a log-determinant likewise,
    over the total mass and of the `counted` states, x of the others is 0."""
    share = mass / jnp.where(mass.sum() > 0, mass.sum(), 1)

    def whole(x: jax.Array) -> Look:
        value, gradient, hessian = look(x)
        level = (share * x).sum()  # what is added to all of x changes nothing, so that this may be wanted to be 0
        gradient = jnp.where(counted, gradient - share + level * share, 0)
        hessian = jnp.where(counted[:, None] & counted, hessian + jnp.outer(share, share), jnp.eye(len(x), dtype=x.dtype))
        return Look(value - level + 0.5 * level * level, gradient, hessian)

    def move(x: jax.Array, step: jax.Array) -> jax.Array:
        longest = jnp.abs(step).max()
        return x + step * jnp.where(longest > LONGEST, LONGEST / jnp.where(longest > LONGEST, longest, 1), 1)

    return descend(whole, move, jnp.where(counted, start, 0), len(start))


def _own_volumes(scatter: jax.Array, mass: jax.Array, old: jax.Array) -> jax.Array:
    columns, pooled = mass.sum(0), scatter.sum(0)  # (d,)
    told = columns > 0
    sound = told & (pooled > 0)
    relative = jnp.where(sound, scatter / jnp.where(sound, pooled, 1), 0)  # columns in any units
    rows = jnp.where(sound, mass, 0).sum(-1)  # (K,)
    weighted = (columns * relative).sum(-1)
    counted = (rows > 0) & (weighted > 0)
    part = jnp.where(sound, columns, 0) / jnp.where(rows.sum() > 0, rows.sum(), 1)

    def look(x: jax.Array) -> Look:
        own = jnp.where(counted, jnp.exp(x), 0)[:, None] * relative
        sums = own.sum(0)
        share = own / jnp.where(sums > 0, sums, 1)
        gradient = share @ part
        hessian = jnp.diag(gradient) - (share * part) @ share.T
        return Look((part * jnp.log(jnp.where(sums > 0, sums, 1))).sum(), gradient, hessian)

    rows = jnp.where(counted, rows, 0)
    start = jnp.log(jnp.where(counted, rows, 1)) - jnp.log(jnp.where(counted, weighted, 1))
    scale = jnp.where(counted, jnp.exp(_minimise_volumes(look, rows, counted, start)), 0)
    shape = (scale[:, None] * scatter).sum(0) / jnp.where(told, columns, 1)
    before = _geometric(old) / _geometric(jnp.where(sound, shape, 1))
    collapsed = ~counted & (mass.sum(-1) > 0)
    volume = jnp.where(counted, 1 / jnp.where(counted, scale, 1), jnp.where(collapsed, 0, before))
    return jnp.where(told, volume[:, None] * shape, old)


def _vee(kind: str, scatter: jax.Array, mass: jax.Array, old: jax.Array) -> jax.Array:
    del kind
    d = scatter.shape[-1]
    total = jnp.where(mass.sum() > 0, mass.sum(), 1)
    pooled = scatter.sum(0)
    whitener = invert_lower(cholesky(pooled))
    sound = jnp.isfinite(whitener).all()
    whitener = jnp.where(sound, whitener, jnp.eye(d, dtype=pooled.dtype))
    relative = matmul(matmul(whitener, scatter), whitener.T)
    weighted = jnp.trace(relative, axis1=-2, axis2=-1)
    counted = (mass > 0) & (weighted > 0) & sound

    def look(x: jax.Array) -> Look:
        own = jnp.where(counted, jnp.exp(x), 0)[:, None, None] * relative
        root = cholesky(own.sum(0))
        inverse = invert_lower(root)
        share = matmul(matmul(inverse, own), inverse.T)
        gradient = jnp.trace(share, axis1=-2, axis2=-1) / d
        flat = share.reshape(len(x), -1)
        return Look(2 * jnp.log(jnp.diagonal(root)).sum() / d, gradient, jnp.diag(gradient) - matmul(flat, flat.T) / d)

    start = jnp.log(jnp.where(counted, d * mass, 1)) - jnp.log(jnp.where(counted, total * weighted, 1))
    x = _minimise_volumes(look, jnp.where(counted, mass, 0), counted, start)
    scale = jnp.where(counted, jnp.exp(x), 0)
    shape = (scale[:, None, None] * scatter).sum(0) / jnp.where(counted, mass, 0).sum().clip(jnp.finfo(mass.dtype).tiny)
    before = _volume(old) / _volume(jnp.where(counted.any(), shape, jnp.eye(d, dtype=shape.dtype)))
    volume = jnp.where(counted, 1 / jnp.where(counted, scale, 1), jnp.where(mass > 0, 0, before))
    there = volume[:, None, None] * shape
    singular = pooled / total  # no volumes can be told where all states together span fewer columns
    return jnp.where(mass.sum() > 0, jnp.where(sound, there, singular), old)


def _own_axes(kind: str, scatter: jax.Array, mass: jax.Array, old: jax.Array) -> jax.Array:
    """Shared shape (EEV: shared volume too), orientations of their own: each scatter's axes, largest first."""
    counted = mass > 0
    axes, found = _sorted_axes(jnp.where(counted[:, None, None], scatter, old))
    values, before = jnp.where(counted[:, None], jnp.maximum(found, 0), 0), jnp.where(counted[:, None], 1, found)
    if kind[0] == "E":
        total = jnp.where(mass.sum() > 0, mass.sum(), 1)
        found = jnp.broadcast_to(values.sum(0) / total, values.shape)
        found = jnp.where(counted.any(), found, _sorted_axes(old)[1])
    else:
        found = _own_volumes(values, jnp.broadcast_to(mass[:, None], values.shape), before)
    return matmul(axes * found[:, None, :], transpose(axes))


def _sorted_axes(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    axes, values = diagonalize(matrices[:, None])
    order = jnp.argsort(-values[:, 0], axis=-1)
    return jnp.take_along_axis(axes, order[:, None], axis=-1), jnp.take_along_axis(values[:, 0], order, axis=-1)


# shared volume, shapes of their own


def _one_volume(scatter: jax.Array, mass: jax.Array, old: jax.Array) -> jax.Array:
    """Minimises sum mass s + scatter exp(-s) over s = log variances with the same sum over columns in every state.

    Newton's method with equality constraints; where each state's columns have one mass, its start is the answer. A step whose
    longest part is b is shortened to log(1 + b) / b, which no sum of exponentials lets overshoot (Bach 2010, EJS 4:384).
    """
    eps = jnp.finfo(scatter.dtype).eps
    seen = mass > 0
    empty, collapsed = ~seen.any(-1), (seen & (scatter <= 0)).any(-1)
    own = ~(empty | collapsed)[:, None]
    n, w = jnp.where(own, mass, 0), jnp.where(own & seen, scatter, 0)
    count = jnp.where(seen, n, 0).sum(-1, keepdims=True) / jnp.maximum(seen.sum(-1, keepdims=True), 1)
    logs = jnp.where(own & seen, jnp.log(jnp.where(own & seen, w / jnp.where(count > 0, count, 1), 1)), jnp.log(old))
    level = logs.mean(-1, keepdims=True)
    masses = jnp.where(own, count, 0)
    total = jnp.where(masses.sum() > 0, masses.sum(), 1)
    # the volume where columns have one mass: the mean of the states' own
    highest = jnp.where(own, level, -jnp.inf).max()
    highest = jnp.where(jnp.isfinite(highest), highest, 0)
    shared = highest + jnp.log(jnp.where(own.any(), (masses * jnp.exp(jnp.where(own, level - highest, 0))).sum() / total, 1))
    start = jnp.where(own.any(), logs - level + shared, logs)

    def step(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        s, _, taken = carry
        curvature = jnp.maximum(w * jnp.exp(-s), eps * eps * jnp.where(own, jnp.maximum(n, count), 1))
        gradient = n - w * jnp.exp(-s)
        ease, pull = (1 / curvature).sum(-1, keepdims=True), (gradient / curvature).sum(-1, keepdims=True)
        over = jnp.where(own, 1 / ease, 0)
        move = -(over * pull).sum() / jnp.where(own.any(), over.sum(), 1)
        change = jnp.where(own, ((move + pull) / ease - gradient) / curvature, move / s.shape[-1])
        longest = jnp.abs(change).max()
        shorter = jnp.where(longest > 1e-3, jnp.log1p(longest) / jnp.where(longest > 1e-3, longest, 1), 1)
        return s + shorter * change, longest, taken + 1

    first = start, jnp.asarray(jnp.inf, start.dtype), jnp.zeros((), jnp.int32)
    found = jnp.exp(jax.lax.while_loop(lambda c: (c[1] > eps**0.5) & (c[2] < STEPS), step, first)[0])
    return jnp.where(collapsed[:, None], 0, jnp.where(seen.any(), found, old))


def _evv(kind: str, scatter: jax.Array, mass: jax.Array, old: jax.Array) -> jax.Array:
    del kind
    root = cholesky(scatter)
    sound = (mass > 0) & jnp.isfinite(root).all((-2, -1))
    shapes = jnp.where(sound[:, None, None], scatter, old)
    own = _volume(shapes)
    volume = jnp.where(sound, own, 0).sum() / jnp.where(sound.any(), jnp.where(sound, mass, 0).sum(), 1)
    found = jnp.where(sound.any(), volume / own, 1)[:, None, None] * shapes
    singular = (mass > 0) & ~sound
    return jnp.where(singular[:, None, None], scatter / jnp.where(mass > 0, mass, 1)[:, None, None], found)


# shared orientation, shapes of their own


def _one_orientation(kind: str, scatter: jax.Array, mass: jax.Array, old: jax.Array) -> jax.Array:
    axes, before = diagonalize(old[None])
    axes, before = axes[0], before[0]
    axes = common_axes(kind[0] == "E", scatter, mass, axes)
    values = diagonals(scatter, axes)
    counted = mass > 0
    if kind[0] == "V":
        found = jnp.where(counted[:, None], values / jnp.where(counted, mass, 1)[:, None], before)
    else:
        sound = counted & (values > 0).all(-1)
        shapes = jnp.where(sound[:, None], values, before)
        own = _geometric(shapes)
        volume = jnp.where(sound, own, 0).sum() / jnp.where(sound.any(), jnp.where(sound, mass, 0).sum(), 1)
        found = jnp.where(sound.any(), volume / own, 1)[:, None] * shapes
        found = jnp.where((counted & ~sound)[:, None], values / jnp.where(counted, mass, 1)[:, None], found)
    return matmul(axes * found[:, None, :], axes.T)


def _geometric(values: jax.Array) -> jax.Array:
    """Geometric mean along the last axis."""
    return jnp.exp(jnp.log(values).mean(-1))


def _volume(matrices: jax.Array) -> jax.Array:
    """d-th roots of determinants."""
    return jnp.exp(2 * jnp.log(jnp.diagonal(cholesky(matrices), axis1=-2, axis2=-1)).mean(-1))
