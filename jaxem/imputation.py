"""Missing cells given the observed ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxem import reduce
from jaxem.checks import check_matrix
from jaxem.inputs import Interval, Regression
from jaxem.kernels.linalg import outer
from jaxem.rows import Rows


def completed_rows(
    family: Any, params: Any, rows: Rows, respond: Callable[[jax.Array], jax.Array], covariance: bool
) -> tuple[jax.Array, jax.Array | None]:
    """Conditional means (n, d) and, if asked, covariances (n, d, d) of the cells of each row given its observed ones.

    `respond` turns log-probabilities (c, K, b) into posterior probabilities of the states. The states are averaged out by
    the law of total covariance.
    """

    def visit(bound: Any, cells: Any, log_prob: jax.Array) -> Any:
        return _averaged(family, bound, cells, rows.origin, respond(log_prob), covariance)

    out = reduce.map_rows(family, params, rows, visit)
    return out if covariance else (out, None)


def completed_given(
    family: Any, params: Any, rows: Rows, states: jax.Array, covariance: bool
) -> tuple[jax.Array, jax.Array | None]:
    """The same under posterior probabilities (n, K) of the states that are known already."""
    padded = jnp.concatenate([states, jnp.zeros_like(states[:1])])
    # they travel with their rows as covariates of a gate do
    sections = tuple(section._replace(gate=jnp.moveaxis(padded[section.row], -1, 2)) for section in rows.sections)

    def visit(bound: Any, cells: Any, log_prob: jax.Array, gate: jax.Array) -> Any:
        del log_prob
        return _averaged(family, bound, cells, rows.origin, gate, covariance)

    out = reduce.map_rows(family, params, dataclasses.replace(rows, sections=sections), visit, gated=True)
    return out if covariance else (out, None)


def _averaged(family: Any, bound: Any, cells: Any, origin: Any, states: jax.Array, covariance: bool) -> Any:
    r = states[:, :, None]
    by_state, spread, observed = family.complete(bound, cells, origin)
    mean = (r * by_state).sum(axis=1)
    if not covariance:
        return mean
    deviation = jnp.moveaxis(by_state - mean[:, None], 2, -1)  # (c, K, b, d)
    own = spread if spread.ndim == 5 else spread[:, :, None]  # row by row, or the same in all rows of a group
    total = (jnp.moveaxis(r, 2, -1)[..., None] * (outer(deviation, deviation) + own)).sum(axis=1)
    missing = jnp.moveaxis(jnp.broadcast_to(1 - observed, mean.shape), 1, -1)
    return mean, jnp.moveaxis(total * outer(missing, missing), 1, -1)


def as_given(mean: jax.Array, data: Any) -> jax.Array:
    """`mean` with the observed cells of raw data, or observed responses, exactly as given (prepared data keep them to rounding)."""
    if isinstance(data, (Rows, Mapping)):
        return mean
    if isinstance(data, Regression):
        return as_given(mean, data.y)
    if isinstance(data, Interval):
        exact = jnp.asarray(data.lower).reshape(mean.shape)
        return jnp.where(exact == jnp.asarray(data.upper).reshape(mean.shape), exact, mean)
    y = jnp.asarray(check_matrix(data)[0])
    return jnp.where(jnp.isnan(y), mean, y)
