"""The observed objective of any model in unconstrained coordinates, and its gradient: one pass over the data.

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
