"""Second-order expansions of sums of log-densities of a linear predictor: the statistics of Newton's method.

A row's log-density is f(eta, extras; cells) with eta = theta . v and a few extra numbers a state. Value, gradient and
curvature (minus the Hessian) of sum r f about the current params are additive over rows and linear in r, so that they serve
as statistics of a generalized EM (Lange 1995, JRSS-B 57:425). Derivatives are taken elementwise, along eta and the extras;
what has the size of the design are matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.kernels.design import grams, quadratic
from jaxem.kernels.linalg import HIGHEST, apply, matmul

Elementwise = Callable[..., jax.Array]  # (eta, *extras) -> log-density, all broadcast against (c, K, b)


class Bound(NamedTuple):
    """The params of all patterns."""

    theta: jax.Array  # (1, K, m) working coefficients, then extras
    user: jax.Array  # (1, K, m) the same without working coordinates


class Raw(NamedTuple):
    """Sums over the rows of each group, about the bound params."""

    value: jax.Array  # (c, K) sum of r f
    slopes: jax.Array  # (c, 1 + e, K, q) of r f_eta v, then of -r f_{eta, extra} v for each extra
    gram: jax.Array  # (c, K, q, q) of -r f_{eta, eta} v v'
    first: jax.Array  # (c, K, e) of r f_extra
    second: jax.Array  # (c, K, e (e + 1) / 2) of -r f_{extra, extra}, i <= j


class Expansion(NamedTuple):
    """sum r f(theta) = value + gradient . d - d' curvature d / 2 with d = theta - point, a state each."""

    value: jax.Array  # (K,)
    gradient: jax.Array  # (K, m)
    curvature: jax.Array  # (K, m, m)


def _along(f: Elementwise, place: int) -> Elementwise:
    """The derivative of f in one argument, elementwise."""

    def derivative(*arguments: jax.Array) -> jax.Array:
        here = arguments[place]

        def alone(x: jax.Array) -> jax.Array:
            return f(*arguments[:place], x, *arguments[place + 1 :])

        return jax.jvp(alone, (here,), (jnp.ones_like(here),))[1]

    return derivative


def sums(f: Elementwise, theta: jax.Array, design: jax.Array, offset: Any, r: jax.Array) -> Raw:
    """theta (1, K, m), design (c, q, b), r (c, K, b); rows with r = 0 count nothing, whatever their derivatives."""
    q = design.shape[1]
    e = theta.shape[-1] - q
    arguments = (predictor(theta, design, offset), *extras_of(theta, q))

    def weigh(values: jax.Array) -> jax.Array:
        return jnp.where(r != 0, r * values, 0)

    partial = [_along(f, i) for i in range(1 + e)]
    slopes = [weigh(partial[0](*arguments))] + [-weigh(_along(partial[0], 1 + i)(*arguments)) for i in range(e)]
    gram = -weigh(_along(partial[0], 0)(*arguments))
    first = [weigh(partial[1 + i](*arguments)).sum(-1) for i in range(e)]
    second = [-weigh(_along(partial[1 + i], 1 + j)(*arguments)).sum(-1) for i in range(e) for j in range(i, e)]
    empty = jnp.zeros((*r.shape[:2], 0), r.dtype)
    return Raw(
        weigh(f(*arguments)).sum(-1),
        jnp.einsum("cskb,cqb->cskq", jnp.stack(slopes, axis=1), design, precision=HIGHEST),
        grams(design, gram),
        jnp.stack(first, axis=-1) if e else empty,
        jnp.stack(second, axis=-1) if e else empty,
    )


def information(f: Elementwise, theta: jax.Array, design: jax.Array, offset: Any, r: jax.Array) -> jax.Array:
    """(c, K, q, q) sum of -r f_{eta, eta} v v' alone: the curvature in the coefficients."""
    arguments = (predictor(theta, design, offset), *extras_of(theta, design.shape[1]))
    values = _along(_along(f, 0), 0)(*arguments)
    return grams(design, -jnp.where(r != 0, r * values, 0))


def predictor(theta: jax.Array, design: jax.Array, offset: Any) -> jax.Array:
    """(c, K, b) the linear predictor."""
    eta = matmul(theta[..., : design.shape[1]], design)
    return eta if offset is None else eta + offset


def extras_of(theta: jax.Array, q: int) -> tuple[jax.Array, ...]:
    """The numbers behind the q coefficients, each (1, K, 1)."""
    return tuple(theta[..., q + i, None] for i in range(theta.shape[-1] - q))


def collect(raw: Raw) -> Expansion:
    """Sums of all groups as one expansion about the bound params."""
    value, slopes, inner, first, second = (leaf.sum(0) for leaf in raw)
    e = first.shape[-1]
    gradient = jnp.concatenate([slopes[0], first], axis=-1)
    if e == 0:
        return Expansion(value, gradient, inner)
    cross = jnp.moveaxis(slopes[1:], 0, -1)  # (K, q, e)
    i, j = np.triu_indices(e)
    place = np.zeros((e, e), np.int32)
    place[i, j] = place[j, i] = np.arange(len(i))
    corner = second[..., place]
    top = jnp.concatenate([inner, cross], axis=-1)
    bottom = jnp.concatenate([jnp.swapaxes(cross, -1, -2), corner], axis=-1)
    return Expansion(value, gradient, jnp.concatenate([top, bottom], axis=-2))


def move(expansion: Expansion, shift: jax.Array) -> Expansion:
    """The same quadratics about a point shifted by `shift` (K, m)."""
    value, gradient, curvature = expansion
    moved = apply(curvature, shift)
    return Expansion(value + ((gradient - 0.5 * moved) * shift).sum(-1), gradient - moved, curvature)


def change(expansion: Expansion, matrix: jax.Array) -> Expansion:
    """The same quadratics in coordinates theta' with theta = matrix theta' + a constant."""
    value, gradient, curvature = expansion
    turned = matmul(matmul(matrix.T, curvature), matrix)
    return Expansion(value, matmul(gradient, matrix), turned)


def evaluate(expansion: Expansion, shift: jax.Array) -> jax.Array:
    """() sum over states of the quadratics at a shift from their point."""
    return (expansion.value + (expansion.gradient * shift).sum(-1) - 0.5 * quadratic(expansion.curvature, shift)).sum()


def arrow_solve(solve: Callable[[jax.Array, jax.Array], jax.Array], curvature: jax.Array, gradient: jax.Array) -> jax.Array:
    """Newton step (K, m) where all states share the last coordinate: Schur complement on it.

    Where the complement is not positive the step goes up the gradient, by the size that its parts have.
    """
    inner, column, corner = curvature[:, :-1, :-1], curvature[:, :-1, -1], curvature[:, -1, -1]
    along, away = solve(inner, gradient[:, :-1]), solve(inner, column)
    pull = (gradient[:, -1] - (column * along).sum(-1)).sum()
    eaten = (column * away).sum(-1)
    complement = (corner - eaten).sum()
    size = jnp.abs(corner).sum() + jnp.abs(eaten).sum()
    stiff = jnp.where(complement > 1e-3 * size, complement, jnp.where(size > 0, size, 1))
    shared = jnp.where(size > 0, pull / stiff, 0)
    return jnp.concatenate([along - shared * away, jnp.broadcast_to(shared, gradient[:, -1:].shape)], axis=-1)


