"""Sums over a block of rows of a `Latent` model: of what a user declares, and of the expansion of `log_joint`."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.models.latent_draws import drawn_statistics, weighed_joint
from jaxem.working import Expansion, expand, from_working, joint_of_rows, working


class LatentStatistics(NamedTuple):
    """Sums over rows and states, by posterior probability times row weight."""

    declared: Any  # of what `statistics` returns; None where it is not declared
    expansion: Expansion | None  # None where `expected` is declared


class Bound(NamedTuple):
    """What a row's density reads; leaves lead with 1."""

    params: Any
    vector: jax.Array  # (1, m) working coordinates, 0 where they are infinite
    edge: jax.Array  # (1, m) bool, where they are
    slots: Any  # a `Slot` for each leaf of a row


def joint(model: Any, params: Any, dtype: Any, rows: Any) -> jax.Array:
    """(K, n) joint log-densities of rows, leaves (n, *event)."""

    def density(params: Any, z: jax.Array, *row: Any) -> jax.Array:
        if model.draw is not None:
            return jnp.asarray(weighed_joint(model, params, z, *row), dtype)
        return jnp.asarray(model.log_joint(params, z, *row), dtype)

    return joint_of_rows(density, model.places)(params, *rows)


def declared_sums(model: Any, bound: Bound, r: jax.Array, rows: Any) -> Any:
    """Sums of the declared statistics over rows; r (K, n)."""
    function: Any = model.statistics
    if model.draw is not None:
        function = partial(drawn_statistics, model, jax.tree.map(lambda leaf: leaf[0], bound.params))
    each = jax.vmap(jax.vmap(function, (None, *(0 for _ in rows))), (0, *(None for _ in rows)))

    def add(leaf: jax.Array) -> jax.Array:
        mass = r.reshape(*r.shape, *(1,) * (leaf.ndim - 2))
        return jnp.where(mass != 0, mass * leaf, 0).sum(axis=(0, 1))

    return jax.tree.map(add, each(jnp.arange(model.places), *rows))


def expansion_of(model: Any, bound: Bound, r: jax.Array, rows: Any) -> Expansion:
    """The expansion of sum r log_joint about the bound params; r (K, n). Infinite coordinates stay where they are."""
    outside = jax.lax.stop_gradient(working(model.domains, jax.tree.map(lambda leaf: leaf[0], bound.params)))

    def density(u: jax.Array) -> jax.Array:
        params = from_working(model.domains, model.shapes, jnp.where(bound.edge[0], outside, u))
        return joint(model, params, u.dtype, rows)

    return expand(density, bound.vector[0], bound.edge[0], r)
