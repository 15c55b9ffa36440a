"""Coordinates in which regressions with a scale are concave: coefficients / scale and 1 / scale (Olsen 1978).

Straight lines in these are straight lines in (coefficients, scale), so that a step that is halved there stays on its way.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxem.kernels.design import Design

LARGEST = 4.0  # times by which one step may grow or shrink the scale


def to_ratios(working: jax.Array, scale: jax.Array) -> jax.Array:
    """(K, q) and (K,) -> (K, q + 1)."""
    return jnp.concatenate([working, jnp.ones_like(scale)[:, None]], axis=-1) / scale[:, None]


def from_ratios(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse of `to_ratios`."""
    return theta[:, :-1] / theta[:, -1:], 1 / theta[:, -1]


def turn(design: Design, m: int) -> jax.Array:
    """(m, m) derivative of theta by theta in the user's coordinates; the centre of the response is worth centre / scale."""
    q = len(design.lift)
    matrix = jnp.eye(m, dtype=design.lift.dtype).at[:q, :q].set(design.lift)
    return matrix.at[:q, q].set(-design.centre * design.lift[:, -1])


def admissible(theta: jax.Array, step: jax.Array) -> jax.Array:
    """(K,) share of the step up to which 1 / scale changes by a factor of no more than `LARGEST`."""
    now, change = theta[:, -1], step[:, -1]
    room = jnp.where(change > 0, (LARGEST - 1) * now, (1 - 1 / LARGEST) * now)
    return room / jnp.maximum(jnp.abs(change), room)
