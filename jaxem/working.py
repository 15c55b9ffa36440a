"""Newton steps for any params tree: working coordinates, expansions in them, and the step.

Working coordinates are the unconstrained ones of the domains, except that probabilities are taken by their logarithms, all of
them: no category is then special, so that a step is the same however states or categories are numbered. What multiplies all
logarithms' arguments alike changes nothing, and is left out of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.domains import Domain, Positive, Real, Simplex, Unit
from jaxem.kernels.linalg import matmul
from jaxem.newton import damped_step
from jaxem.restrict import Restricted

REACH = 5.0  # the longest step of a logarithm or log-odds: farther away nothing is trusted to be nearly quadratic


class Expansion(NamedTuple):
    """f(u) = value + gradient . d - d' curvature d / 2 with d = u - point, to second order."""

    value: jax.Array  # ()
    gradient: jax.Array  # (m,) in working coordinates u
    curvature: jax.Array  # (m, m) minus the Hessian


def move(expansion: Expansion, shift: jax.Array) -> Expansion:
    """The same quadratic about a point shifted by `shift` (m,)."""
    value, gradient, curvature = expansion
    moved = matmul(curvature, shift)
    return Expansion(value + ((gradient - 0.5 * moved) * shift).sum(), gradient - moved, curvature)


def joint_of_rows(density: Callable[..., jax.Array], n_states: int) -> Callable[..., jax.Array]:
    """(params, *rows) -> (K, n) from a log-density (params, z, *row) -> (); derivatives are 0 where it is -inf.

    What a state cannot produce has no share in any sum, but the derivative of log 0 would make NaN of it: 0 times infinity. So
    derivatives are taken of a possible state of the row instead, or of another row where there is none, and then dropped.
    """

    def at(params: Any, states: jax.Array, rows: Any, along: int | None) -> jax.Array:
        """States (K,) shared by all rows, or (K, n) where `along` is 0."""
        one = jax.vmap(lambda z, row: density(params, z, *row), (along, 0))
        return jax.vmap(one, (0, None))(states, rows)

    @jax.custom_jvp
    def value(params: Any, *rows: Any) -> jax.Array:
        return at(params, jnp.arange(n_states), rows, None)

    @value.defjvp
    def rule(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        found = value(*primals)
        known = ~jnp.isneginf(found)

        def plain() -> jax.Array:
            return jax.jvp(lambda params, *rows: at(params, jnp.arange(n_states), rows, None), primals, tangents)[1]

        def careful() -> jax.Array:
            sound = known.any(axis=0)
            place = jnp.where(sound, jnp.arange(sound.size), jnp.argmax(sound))
            states = jnp.where(known, jnp.arange(n_states)[:, None], jnp.argmax(known, axis=0))[:, place]

            def instead(params: Any, *rows: Any) -> jax.Array:
                return at(params, states, jax.tree.map(lambda leaf: leaf[place], rows), 0)

            return jnp.where(known, jax.jvp(instead, primals, tangents)[1], 0)

        return found, jax.lax.cond(known.all(), plain, careful)

    return value


def expand(density: Callable[[jax.Array], jax.Array], vector: jax.Array, edge: jax.Array, r: jax.Array) -> Expansion:
    """Expansion of sum r density(u) about `vector` (m,), r and densities (K, n); coordinates at the `edge` are left out."""
    counted = r != 0

    def total(u: jax.Array) -> jax.Array:
        found = density(u)
        return jnp.where(counted, r * jnp.where(counted, found, 0), 0).sum()

    def both(u: jax.Array) -> tuple[jax.Array, Any]:
        value, gradient = jax.value_and_grad(total)(u)
        return gradient, (value, gradient)

    hessian, (value, gradient) = jax.jacfwd(both, has_aux=True)(vector)
    curvature = -0.5 * (hessian + hessian.T)
    return Expansion(value, jnp.where(edge, 0, gradient), jnp.where(edge | edge[:, None], 0, curvature))


def _leaves(domains: Any, shapes: Any) -> list[tuple[Domain, tuple[int, ...]]]:
    tree: Any = jax.tree.structure(domains)
    return list(zip(jax.tree.leaves(domains), tree.flatten_up_to(shapes), strict=True))


def _size(domain: Domain, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape)) if isinstance(domain, Simplex) else domain.count(shape)


def working_size(domains: Any, shapes: Any) -> int:
    """Number m of working coordinates."""
    return sum(_size(*leaf) for leaf in _leaves(domains, shapes))


def working(domains: Any, params: Any) -> jax.Array:
    """(m,) working coordinates, infinite where a param is at the edge of its domain."""
    parts = [
        jnp.log(jnp.asarray(leaf)).reshape(-1) if isinstance(domain, Simplex) else domain.flatten(jnp.asarray(leaf))
        for domain, leaf in zip(jax.tree.leaves(domains), jax.tree.leaves(params), strict=True)
    ]
    return jnp.concatenate(parts)


def from_working(domains: Any, shapes: Any, vector: jax.Array) -> Any:
    """Inverse of `working`; logarithms of probabilities need not be normalised."""
    values, begin = [], 0
    for domain, shape in _leaves(domains, shapes):
        part, begin = vector[begin : begin + _size(domain, shape)], begin + _size(domain, shape)
        values.append(jax.nn.softmax(part.reshape(shape)) if isinstance(domain, Simplex) else domain.unflatten(part, shape))
    tree: Any = jax.tree.structure(domains)
    return tree.unflatten(values)


def _charts(domains: Any, shapes: Any, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(m,) longest step of each coordinate, and (m, s) unit vectors along which nothing changes."""
    limits, begin, idle = [], 0, []
    for domain, shape in _leaves(domains, shapes):
        size = _size(domain, shape)
        here = jnp.abs(vector[begin : begin + size])
        base = domain.base if isinstance(domain, Restricted) else domain
        if isinstance(base, Real):
            limits.append(jnp.full_like(here, jnp.inf))
        elif isinstance(base, (Positive, Unit, Simplex)):
            limits.append(jnp.full_like(here, REACH))
        else:
            limits.append(REACH * (1 + here))
        if isinstance(domain, Simplex):
            for first in range(begin, begin + size, shape[-1]):
                idle.append(np.zeros(vector.size))
                idle[-1][first : first + shape[-1]] = shape[-1] ** -0.5
        begin += size
    directions = np.stack(idle, axis=1) if idle else np.zeros((vector.size, 0))
    return jnp.concatenate(limits), jnp.asarray(directions, vector.dtype)


def newton_step(
    domains: Any, shapes: Any, params: Any, expansion: Expansion, point: jax.Array | None, log_prior: Callable[[Any], Any] | None
) -> Any:
    """Params one Newton step up from `params`, on an expansion about `point` (None for 0) plus the log prior.

    Damped where the curvature is not positive definite, so that the step always points upwards. Params at the edge of their
    domain stay there.
    """
    outside = working(domains, params)
    if outside.size == 0:
        return params
    edge = ~jnp.isfinite(outside)
    vector = jnp.where(edge, 0, outside)
    _, gradient, curvature = move(expansion, vector if point is None else vector - point)
    if log_prior is not None:

        def density(u: jax.Array) -> jax.Array:
            return log_prior(from_working(domains, shapes, jnp.where(edge, outside, u)))

        gradient = gradient + jnp.where(edge, 0, jax.grad(density)(vector))
        curvature = curvature - jnp.where(edge | edge[:, None], 0, jax.hessian(density)(vector))
    largest = jnp.abs(jnp.diagonal(curvature)).max()
    largest = jnp.where(largest > 0, largest, 1)
    limit, idle = _charts(domains, shapes, vector)
    idle = jnp.where(edge[:, None], 0, idle)
    curvature = curvature + jnp.diag(jnp.where(edge, largest, 0)) + largest * matmul(idle, idle.T)
    step = damped_step(gradient, curvature)
    step = step * jnp.where(jnp.abs(step) > limit, limit / jnp.where(step == 0, 1, jnp.abs(step)), 1).min()
    return from_working(domains, shapes, jnp.where(edge, outside, vector + step))
