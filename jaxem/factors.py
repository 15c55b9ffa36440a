"""Logs of the factors that p(y, z) is a product of, for discrete z, and what they sum up to: log p(y) = evidence(factors).

What Louis' formula needs of a model, see `jaxem.information.louis`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxem import coordinates, reduce
from jaxem.kernels import chain, moving_chain, structured_chain
from jaxem.kernels.chain import Chain
from jaxem.kernels.moving_chain import MovingChain
from jaxem.kernels.structured_chain import safe_log
from jaxem.rows import Rows
from jaxem.steps import lane_weights

LOGARITHMS = ("emission", "density", "log_transition")  # fields of chains that are logarithms; the others are probabilities


def row_evidence(factors: jax.Array, rows: Rows) -> jax.Array:
    """() sum_i w_i log sum_z exp F_iz of factors (n, K) of independent rows."""
    return reduce.weighted_sum(structured_chain.log_sum(factors, 1), jnp.where(rows.informative, rows.weights, 0))


class ChainFactors:
    """What models of sequences have in common that give `_links(params, rows)`, what recursions run over."""

    def factors(self, params: Any, data: Rows) -> Any:
        """The chain with its probabilities (first states, transitions) as logarithms, like the densities of its steps."""
        links = self._links(coordinates.cast(params, data.dtype), data)  # type: ignore[attr-defined]
        return _each(links, safe_log)._replace(first=None)

    def evidence(self, factors: Any, data: Rows) -> jax.Array:
        """() log-likelihood of the sequences, also of factors that are no probabilities."""
        links = _each(factors, jnp.exp)._replace(first=data.lanes.first)
        recursions: Any = structured_chain
        if isinstance(links, (Chain, MovingChain)):
            recursions = chain if isinstance(links, Chain) else moving_chain
        return reduce.weighted_sum(recursions.log_norms(links), lane_weights(data))


def _each(links: Any, change: Any) -> Any:
    """A chain with its probabilities changed."""
    named = links._asdict().items()
    return links._replace(**{name: change(leaf) for name, leaf in named if name not in (*LOGARITHMS, "first")})
