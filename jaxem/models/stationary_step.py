"""The M-step of transitions that also say how sequences begin."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.domains import Simplex
from jaxem.kernels.linalg import apply, outer
from jaxem.kernels.stationary import stationary
from jaxem.priors import dot_log

STEPS = 200  # of climbing; ten do where there are many more steps than sequences
ARMIJO = 1e-4


class _Climb(NamedTuple):
    point: jax.Array  # (p,)
    value: jax.Array
    gradient: jax.Array
    inverse: jax.Array  # (p, p) of minus the Hessian
    steps: jax.Array
    done: jax.Array


def maximize_stationary(pairs: jax.Array, firsts: jax.Array, start: jax.Array) -> jax.Array:
    """argmax over transitions A of sum_jk pairs_jk log A_jk + sum_k firsts_k log stationary(A)_k, a local one above `start`.

    There is no closed form. In coordinates of stopping the first sum has a diagonal Hessian, which is where the quasi-Newton
    method of Broyden, Fletcher, Goldfarb and Shanno begins: it needs gradients alone, so that little is to be compiled.
    Probabilities that are 0 stay 0.
    """
    domain = Simplex(state_axes=(0, 1))
    first = domain.flatten(start)
    free = jnp.isfinite(first)
    eps = jnp.finfo(start.dtype).eps

    def objective(point: jax.Array) -> jax.Array:
        a = domain.unflatten(jnp.where(free, point, first), pairs.shape)
        return dot_log(pairs, a) + dot_log(firsts, stationary(a))

    def at(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, gradient = jax.value_and_grad(objective)(point)
        return value, jnp.where(free & jnp.isfinite(gradient), gradient, 0)

    def fresh(point: jax.Array) -> jax.Array:
        left = jnp.flip(jnp.cumsum(jnp.flip(pairs, -1), -1), -1)[:, :-1].reshape(-1)
        stop = jax.nn.sigmoid(jnp.where(free, point, 0))
        information = left * stop * (1 - stop)
        known = free & (information > 0)
        return jnp.diag(jnp.where(known, 1 / jnp.where(known, information, 1), jnp.where(free, 1.0, 0.0)))

    def climb(state: _Climb) -> _Climb:
        way = apply(state.inverse, state.gradient)
        promise = (way * state.gradient).sum()
        uphill = promise > 0
        way = jnp.where(uphill, way, apply(fresh(state.point), state.gradient))
        promise = (way * state.gradient).sum()
        noise = 4 * eps * (1 + jnp.abs(state.value))
        blind = promise <= noise  # the value no longer tells better from worse, but the gradient does

        def short(trial: Any) -> jax.Array:
            fraction, _, value, _ = trial
            return ~blind & ~(value >= state.value + ARMIJO * fraction * promise - noise) & (fraction > eps)

        def halve(trial: Any) -> Any:
            fraction = 0.5 * trial[0]
            point = state.point + fraction * way
            return fraction, point, *at(point)

        point = state.point + way
        _, point, value, gradient = jax.lax.while_loop(short, halve, (jnp.ones((), start.dtype), point, *at(point)))
        smaller = jnp.abs(gradient).max() < jnp.abs(state.gradient).max()
        taken = jnp.where(blind, smaller, value >= state.value - noise) & jnp.isfinite(value)
        s, y = point - state.point, state.gradient - gradient
        curvature = (s * y).sum()
        curved = taken & (curvature > 0)
        rho = jnp.where(curved, 1 / jnp.where(curved, curvature, 1), 0)
        by = apply(state.inverse, y)
        update = (1 + rho * (y * by).sum()) * rho * outer(s, s) - rho * (outer(by, s) + outer(s, by))
        inverse = jnp.where(uphill, state.inverse, fresh(state.point)) + update
        moved = _Climb(point, value, gradient, inverse, state.steps + 1, jnp.zeros((), bool))
        kept = state._replace(done=jnp.ones((), bool))
        return jax.tree.map(lambda yes, no: jnp.where(taken, yes, no), moved, kept)

    begin = jnp.where(free, first, 0)
    state = _Climb(begin, *at(begin), fresh(begin), jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    state = jax.lax.while_loop(lambda state: ~state.done & (state.steps < STEPS), climb, state)
    return domain.unflatten(jnp.where(free, state.point, first), pairs.shape)
