"""What algorithms share that add up statistics taken at different params, part by part.

Statistics of different params can be added where they are expectations of the same functions of the data, in the same coordinates:
for models whose M-step is the maximiser of sums, localized once.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxem.algorithms.cycle import select
from jaxem.rows import Rows


def check_mixable(model: Any, name: str) -> None:
    """Raises ValueError where statistics of different params cannot be added."""
    if not model.closed:
        raise ValueError(
            f"{name}: the statistics of this model are an expansion about the params at which they were taken, so that those of "
            "different params cannot be added; take em(), or gradient(optimizer, batch_size=...)."
        )


def moved(model: Any, params: Any, statistics: Any, rows: Rows) -> Any:
    """The M-step, or `params` where it would leave the domain or collapse: too few rows have been seen, and more are to come."""
    target = model.m_step(params, statistics)
    return select(sound(model, target) & ~model.degenerate(target, rows).any(), target, params)


def sound(model: Any, params: Any) -> jax.Array:
    """() bool: params are in their domains, bounds included."""
    outside = jnp.isnan(model.to_unconstrained(params)).any()
    return ~outside & jnp.stack([~jnp.isnan(leaf).any() for leaf in jax.tree.leaves(params)]).all()
