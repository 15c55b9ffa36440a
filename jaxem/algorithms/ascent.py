"""What the rivals of EM share: the observed objective in unconstrained coordinates, its gradient and curvature.

By Fisher's identity the gradient of the observed log-likelihood is that of Q at the same params, so that one E-step gives value
and gradient of any model. Coordinates without bound (a probability of 0) stay where they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Point(NamedTuple):
    """The objective at a point."""

    params: Any
    u: jax.Array  # (P,) unconstrained coordinates
    log_likelihood: jax.Array  # ()
    objective: jax.Array  # () log-likelihood + log prior
    gradient: jax.Array  # (P,) of the objective, 0 along coordinates that are not finite


def look(model: Any, u: jax.Array, like: Any, data: Any) -> Point:
    """Value and gradient at u: one pass."""
    params = model.from_unconstrained(u, like=like)
    local = model.localize(params, data)
    statistics, log_likelihood = local.e_step(params, data)

    def expected(v: jax.Array) -> jax.Array:
        moved = model.from_unconstrained(v, like=like)
        return local.expected_log_joint(moved, statistics) + model.log_prior(moved)

    gradient = jax.grad(expected)(u)
    gradient = jnp.where(jnp.isfinite(u) & jnp.isfinite(gradient), gradient, 0)
    known = log_likelihood.astype(data.dtype)
    return Point(params, u, known, known + model.log_prior(params).astype(data.dtype), gradient.astype(data.dtype))


def curvature(model: Any, point: Point, like: Any, data: Any) -> jax.Array:
    """(P, P) minus the Hessian of the objective: P more passes, each a derivative of the E-step along one coordinate.

    Zero rows and columns for coordinates that are not finite.
    """
    sound = jnp.isfinite(point.u)

    def gradient(u: jax.Array) -> jax.Array:
        return look(model, u, like, data).gradient

    found = -jax.jacfwd(gradient)(point.u)
    found = jnp.where(sound[:, None] & sound, found, 0)
    return 0.5 * (found + found.T)
