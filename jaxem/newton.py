"""Newton's method with Levenberg's damping, for small problems inside traced code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import apply, cholesky, invert_lower, transpose

STEPS = 60  # trials; near the maximum two or three do
EASIER, HARDER = 0.1, 10.0  # how the damping answers a trial


class _State(NamedTuple):
    point: jax.Array
    value: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    damping: jax.Array
    tried: jax.Array
    done: jax.Array


def ascend(objective: Callable[[jax.Array], jax.Array], start: jax.Array) -> jax.Array:
    """A point (p,) at which `objective` is not below that at `start`, a local maximum if the trials suffice.

    A trial solves (-H + damping D) step = gradient, D the sizes of H's diagonal, and is taken if it does not lower the
    objective; damping falls after a success and grows after a failure (Levenberg 1944; Marquardt 1963). Infinite coordinates
    (parameters on the edge) stay where they are.
    """
    if start.size == 0:
        return start
    edge = ~jnp.isfinite(start)
    eps = jnp.finfo(start.dtype).eps

    def at(point: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        value, gradient = jax.value_and_grad(objective)(point)
        return value, jnp.where(edge, 0, gradient), jnp.where(edge | edge[:, None], 0, jax.hessian(objective)(point))

    def go(state: _State) -> Any:
        return ~state.done & (state.tried < STEPS)

    def trial(state: _State) -> _State:
        diagonal = jnp.abs(jnp.diagonal(state.hessian))
        scale = jnp.where(edge, 1, jnp.maximum(diagonal, 1e-6 * diagonal.max() + jnp.finfo(start.dtype).tiny))
        root = jnp.sqrt(scale)
        matrix = -state.hessian / (root[:, None] * root) + state.damping * jnp.eye(start.size, dtype=start.dtype)
        matrix = jnp.where(jnp.diag(edge), 1, matrix)
        inverse = invert_lower(cholesky(matrix))
        step = apply(transpose(inverse), apply(inverse, state.gradient / root)) / root
        promised = (state.gradient * step).sum()
        candidate = jnp.where(edge, state.point, state.point + step)
        value, gradient, hessian = at(candidate)
        noise = 4 * eps * (1 + jnp.abs(state.value))
        settled = jnp.isfinite(promised) & (promised <= noise)  # the last step mends the gradient, not the value
        sound = jnp.isfinite(step).all() & (value >= state.value - jnp.where(settled, 2 * noise, 0))
        taken = _State(
            candidate, value, gradient, hessian, state.damping * EASIER, state.tried + 1, settled & (state.damping < 1e-3)
        )
        kept = state._replace(
            damping=jnp.maximum(state.damping, 1e-6) * HARDER, tried=state.tried + 1, done=settled | (state.damping > 1e12)
        )
        return jax.tree.map(lambda yes, no: jnp.where(sound, yes, no), taken, kept)

    zero = jnp.zeros((), jnp.int32)
    first = _State(start, *at(start), jnp.asarray(1e-6, start.dtype), zero, jnp.zeros((), bool))
    return jax.lax.while_loop(go, trial, first).point


def damped_step(gradient: jax.Array, information: jax.Array) -> jax.Array:
    """I^-1 g for gradients (..., m) and symmetric information (..., m, m); (I + damping D)^-1 g where I is not positive definite.

    D holds the sizes of I's diagonal and damping is the least of a ladder that makes the matrix positive definite, so that the
    step is one of ascent (Levenberg 1944; Marquardt 1963). Zero rows of I and g give zeros, as does what is not finite.
    """
    m = information.shape[-1]
    if m == 0:
        return gradient
    eps = jnp.finfo(information.dtype).eps
    diagonal = jnp.abs(jnp.diagonal(information, axis1=-2, axis2=-1))
    largest = jnp.abs(information).max((-2, -1), keepdims=False)[..., None]
    scale = jnp.maximum(diagonal, eps * largest)
    root = jnp.sqrt(jnp.where(scale > 0, scale, 1))
    scaled = information / (root[..., :, None] * root[..., None, :])
    bound = 1 + jnp.abs(scaled).sum(-1).max(-1)  # Gershgorin: from here all eigenvalues are positive
    ladder = jnp.asarray([0.0, 64 * m * float(eps), 1e-3, 1e-2, 1e-1], information.dtype)
    ladder = jnp.moveaxis(jnp.broadcast_to(ladder, (*bound.shape, len(ladder))), -1, 0)
    ladder = jnp.concatenate([ladder, jnp.stack([0.3 * bound, bound])])
    factor = cholesky(scaled + ladder[..., None, None] * jnp.eye(m, dtype=information.dtype))
    pivots = jnp.diagonal(factor, axis1=-2, axis2=-1)
    sound = jnp.where(jnp.isfinite(factor).all((-2, -1)), pivots.min(-1), 0) > jnp.sqrt(8 * m * eps)
    sound = sound.at[-1].set(True)
    chosen = jnp.argmax(sound, axis=0)
    factor = jnp.take_along_axis(factor, chosen[None, ..., None, None], axis=0)[0]
    # what is not finite even so, for instance information that is not finite itself, moves nothing
    finite = jnp.isfinite(factor).all((-2, -1))
    factor = jnp.where(finite[..., None, None], factor, jnp.eye(m, dtype=information.dtype))
    inverse = invert_lower(factor)
    out = apply(transpose(inverse), apply(inverse, gradient / root)) / root
    return jnp.where(finite[..., None] & jnp.isfinite(out), out, 0)
