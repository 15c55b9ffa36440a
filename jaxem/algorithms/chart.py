"""Coordinates in which accelerators extrapolate.

Near a maximum an algorithm's error shrinks by a constant factor, and extrapolation feeds on that. On the edge of the space, where
a probability or a variance goes to 0, this holds in the parameter itself; its logarithm goes to minus infinity by steps that do
not shrink at all. So probabilities and positive numbers are their own coordinates here, all else has its unconstrained ones. A
leap over the edge ends before it: at 20% of what the map's last step left (fraction to the boundary, as in interior-point methods;
Nocedal and Wright 2006, Numerical Optimization, sec. 19.2), which the next leap may cut again.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxem.domains import Positive, Simplex, Unit

NEAREST = 0.2  # of the way to the edge is kept; at 0.05 weights that the maximum needs were cut so far that they grew back slowly


def to_chart(model: Any, params: Any) -> jax.Array:
    """Params as a flat vector of an accelerator's coordinates."""
    pairs = zip(jax.tree.leaves(model.domains), jax.tree.leaves(params), strict=True)
    return jnp.concatenate([jnp.asarray(leaf).reshape(-1) if _straight(domain) else domain.flatten(leaf) for domain, leaf in pairs])


def from_chart(model: Any, vector: jax.Array, like: Any) -> Any:
    """The params at a vector of coordinates, kept inside: `like` are sound params, from which the leap was made."""
    parts, begin = [], 0
    for domain, leaf in zip(jax.tree.leaves(model.domains), jax.tree.leaves(like), strict=True):
        shape = jnp.shape(leaf)
        straight = _straight(domain)
        size = jnp.size(leaf) if straight else domain.count(shape)
        part = vector[begin : begin + size]
        parts.append(domain.flatten(_inside(domain, part.reshape(shape), leaf)) if straight else part)
        begin += size
    return model.from_unconstrained(jnp.concatenate(parts), like=like)


def _base(domain: Any) -> Any:
    """The domain itself, without what is held or tied."""
    return getattr(domain, "base", domain)


def _straight(domain: Any) -> bool:
    """Whether the values are the coordinates."""
    return isinstance(_base(domain), (Simplex, Unit, Positive))


def _inside(domain: Any, x: jax.Array, near: jax.Array) -> jax.Array:
    x = jnp.maximum(x, NEAREST * near)
    if isinstance(_base(domain), Unit):
        x = jnp.minimum(x, 1 - NEAREST * (1 - near))
    if isinstance(_base(domain), Simplex):
        x = x / x.sum(-1, keepdims=True)
    return x
