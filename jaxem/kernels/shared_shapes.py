r"""M-steps of covariances that share volume, shape or orientation (Celeux and Govaert 1995, Pattern Recognition 28:781).

Given scatter W_k and mass n_k of each state, n = sum_k n_k, they minimise

    F = sum_k n_k log|S_k| + tr(W_k S_k^-1),      S_k = v_k D_k A_k D_k'.

Six are known in closed form. Shared shape with volumes of their own (VEI, VEE, VEV) leaves F(v) = n log|sum_k W_k / v_k| + d
sum_k n_k log v_k, which is convex in log v: Newton's method finds its one minimum. A shared orientation with shapes of their own
(EVE, VVE) leaves a function of D on the orthogonal matrices, that of common principal components (Flury 1984, JASA 79:892) and, for
one volume, of Browne and McNicholas (2014, Adv. Data Anal. Classif. 8:217): Newton's method in Cayley's coordinates about the last
D, each step damped until F does not rise.

A state without mass keeps what the others do not share with it. One whose scatter has collapsed comes out singular.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxem.kernels.jacobi import diagonalize
from jaxem.kernels.linalg import cholesky, invert_lower, matmul, transpose
from jaxem.kernels.rotations import cayley, orthogonal
from jaxem.newton import ascend

STEPS = 100  # of Newton's method where every column has a mass of its own; five do


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


def _minimise_volumes(look, mass: jax.Array, counted: jax.Array, start: jax.Array) -> jax.Array:
    """x (K,) with `look(exp(x)) - sum mass x` least, where `look` is the log-determinant of the sum of exp(x_k) W_k."""
    total = jnp.where(mass.sum() > 0, mass.sum(), 1)
    share = jnp.where(counted, mass, 0) / total

    def objective(x: jax.Array) -> jax.Array:
        x = jnp.where(counted, x, 0)
        level = (share * x).sum()  # what is added to all of x changes nothing
        return -look(jnp.where(counted, jnp.exp(x), 0)) / total + level - 0.5 * level * level

    found = ascend(objective, jnp.where(counted, start, jnp.inf))
    return jnp.where(counted, found, 0)


def _own_volumes(scatter: jax.Array, mass: jax.Array, old: jax.Array) -> jax.Array:
    columns = mass.sum(0)  # (d,)
    told = columns > 0
    pooled = scatter.sum(0)
    sound = told & (pooled > 0)
    rows = jnp.where(sound, mass, 0).sum(-1)  # (K,)
    relative = jnp.where(sound, scatter / jnp.where(sound, pooled, 1), 0)  # columns in any units
    weighted = (columns * relative).sum(-1)
    counted = (rows > 0) & (weighted > 0)

    def look(scale: jax.Array) -> jax.Array:
        sums = (scale[:, None] * relative).sum(0)
        return jnp.where(sound, columns * jnp.log(jnp.where(sums > 0, sums, 1)), 0).sum()

    start = jnp.log(jnp.where(counted, rows, 1)) - jnp.log(jnp.where(counted, weighted, 1))
    x = _minimise_volumes(look, rows, counted, start)
    scale = jnp.where(counted, jnp.exp(x), 0)
    shape = (scale[:, None] * scatter).sum(0) / jnp.where(told, columns, 1)
    collapsed = ~counted & (mass.sum(-1) > 0)
    own = _geometric(old) / _geometric(jnp.where(sound, shape, 1))
    volume = jnp.where(counted, 1 / jnp.where(counted, scale, 1), jnp.where(collapsed, 0, own))
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

    def look(scale: jax.Array) -> jax.Array:
        root = cholesky((scale[:, None, None] * relative).sum(0))
        return total * 2 * jnp.log(jnp.diagonal(root)).sum()

    start = jnp.log(jnp.where(counted, d * mass, 1)) - jnp.log(jnp.where(counted, total * weighted, 1))
    x = _minimise_volumes(look, d * mass, counted, start)
    scale = jnp.where(counted, jnp.exp(x), 0)
    shape = (scale[:, None, None] * scatter).sum(0) / total
    own = _volume(old) / _volume(jnp.where(counted.any(), shape, jnp.eye(d, dtype=shape.dtype)))
    volume = jnp.where(counted, 1 / jnp.where(counted, scale, 1), jnp.where(mass > 0, 0, own))
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
    axes = common_axes(kind[0], scatter, mass, axes)
    values = _diagonals(scatter, axes)
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


def _diagonals(scatter: jax.Array, axes: jax.Array) -> jax.Array:
    """(K, d) scatter along each axis."""
    return (axes * matmul(scatter, axes)).sum(-2)


def common_axes(volume: str, scatter: jax.Array, mass: jax.Array, start: jax.Array) -> jax.Array:
    """Orthogonal D (d, d) at which F is not above that at `start`, a local minimum if the steps suffice.

    With y_kj = d_j' W_k d_j, F is n_k log y_kj summed (`volume` "V"), or n d log sum_k (prod_j y_kj)^(1/d) ("E"), up to constants.
    """
    d = start.shape[-1]
    size = jnp.trace(scatter, axis1=-2, axis2=-1)
    counted = (mass > 0) & (size > 0)
    size = jnp.where(counted, size, 1)
    total = jnp.where(mass.sum() > 0, mass.sum(), 1)
    turned = matmul(transpose(start), matmul(scatter / size[:, None, None], start))  # about the start, free of units
    least = jnp.finfo(scatter.dtype).eps ** 2

    def objective(u: jax.Array) -> jax.Array:
        spread = _diagonals(turned, cayley(u, d))
        logs = jnp.where(counted[:, None], jnp.log(jnp.where(counted[:, None], spread + least, 1)), 0)
        if volume == "V":
            return -(jnp.where(counted, mass, 0) / total * logs.sum(-1)).sum()
        level = jnp.where(counted, logs.mean(-1) + jnp.log(size), -jnp.inf)
        return -d * jax.nn.logsumexp(jnp.where(counted.any(), level, 0))

    found = ascend(objective, jnp.zeros(d * (d - 1) // 2, scatter.dtype))
    return orthogonal(matmul(start, cayley(found, d)))


def _geometric(values: jax.Array) -> jax.Array:
    """Geometric mean along the last axis."""
    return jnp.exp(jnp.log(values).mean(-1))


def _volume(matrices: jax.Array) -> jax.Array:
    """d-th roots of determinants."""
    return jnp.exp(2 * jnp.log(jnp.diagonal(cholesky(matrices), axis1=-2, axis2=-1)).mean(-1))
