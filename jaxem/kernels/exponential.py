"""The two products of an exponential family: log p(y | k) = eta_k . phi(y), statistics sum r phi(y).

Features are feature-major, (c, F, b), so that both products run along the long axis. What depends on y alone (the log base
measure) is a feature with coefficient 1. Missing cells have features 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import HIGHEST, matmul

NEVER = -1e25  # stands for log 0 in a product, where minus infinity times a feature of 0 would be NaN


def log_or_never(probability: jax.Array) -> jax.Array:
    """Logarithm, `NEVER` at 0; its derivative there is 0."""
    possible = probability > 0
    return jnp.where(possible, jnp.log(jnp.where(possible, probability, 1)), NEVER)


def log_prob(natural: jax.Array, features: jax.Array) -> jax.Array:
    """(1, K, F) and (c, F, b) -> (c, K, b); minus infinity where something impossible was seen."""
    total = matmul(natural, features)
    return jnp.where(total < 1e-6 * NEVER, -jnp.inf, total)


def sums(features: jax.Array, r: jax.Array) -> jax.Array:
    """(c, F, b) and (c, K, b) -> (c, K, F)."""
    return jnp.einsum("ckb,cfb->ckf", r, features, precision=HIGHEST)


def dot(natural: jax.Array, totals: jax.Array) -> jax.Array:
    """sum eta . S, with 0 NEVER = 0 and minus infinity where something impossible was counted."""
    total = (natural * totals).sum()
    return jnp.where(total < 1e-6 * NEVER, -jnp.inf, total)
