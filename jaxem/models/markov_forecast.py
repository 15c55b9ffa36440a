"""What hidden Markov models say of steps to come, and how well they had foretold those that came."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates, reduce
from jaxem.checks import as_key, check_matrix
from jaxem.data import prepare_rows
from jaxem.inputs import Regression
from jaxem.kernels.linalg import HIGHEST, matmul, outer
from jaxem.kernels.quantiles import PseudoResiduals, averaged, residuals
from jaxem.rows import Rows
from jaxem.sequences import read_sequences

HALVINGS = 80  # of the bracket about a quantile


class Forecast(NamedTuple):
    """Steps h = 1, 2, ... beyond the end of each of S sequences."""

    states: jax.Array  # (S, steps, K) probabilities
    mean: jax.Array | None  # (S, steps, d); None where the family has no moments
    variance: jax.Array | None  # (S, steps, d), or covariance (S, steps, d, d), as the family has it
    quantiles: jax.Array | None  # (levels, S, steps, d) of each column, None where no levels were asked for


def forecast(
    model: Any, params: Any, rows: Rows, steps: int, levels: Any, key: Any, draws: int, covariates: Any, gate: Any
) -> Forecast:
    """See `MarkovReadings.forecast`."""
    levels = np.atleast_1d(np.asarray(levels, np.float64))
    if not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"levels: found {levels.tolist()}; give probabilities between 0 and 1.")
    params = coordinates.cast(params, rows.dtype)
    states = _ahead(model.settle(params, rows), params, rows, model.transitions_ahead(params, steps, gate))
    family, emissions = model.family, params.emissions
    flat = states.reshape(-1, states.shape[-1])
    given = _covariates(covariates, rows, steps)
    mean, spread = _mixed(states, *_moments(family, emissions, rows, given, steps))
    if not levels.size:
        return Forecast(states, mean, spread, None)
    repeated = None if given is None else _tile(given, len(states))
    try:
        found = _quantiles(family, emissions, flat, mean.reshape(len(flat), -1), _variances(spread), levels, repeated)
    except (TypeError, AttributeError):  # no cumulative distribution, or no moments to look about
        if key is None:
            raise ValueError(f"key: {type(family).__name__} has no quantiles of its own; give a seed to simulate them.") from None
        found = _simulated(family, emissions, flat, levels, as_key(key), draws, repeated)
    return Forecast(states, mean, spread, found.reshape(len(levels), *states.shape[:2], -1))


@jax.jit
def _ahead(model: Any, params: Any, rows: Rows, transitions: jax.Array) -> jax.Array:
    """(S, steps, K)."""
    state = model._recursions.filtered(model._links(params, rows)).state
    last = jnp.moveaxis(state, 1, -1).reshape(-1, state.shape[1])[rows.lanes.place[rows.lanes.end]]

    def step(now: jax.Array, transition: jax.Array) -> tuple[jax.Array, jax.Array]:
        now = matmul(now, transition)
        now = now / now.sum(axis=1, keepdims=True)
        return now, now

    return jnp.moveaxis(jax.lax.scan(step, last, transitions)[1], 0, 1)


def _covariates(covariates: Any, rows: Rows, steps: int) -> Regression | None:
    """The covariates of the steps to come, with the intercept that the rows were read with."""
    if covariates is None:
        return None
    if not isinstance(covariates, Regression):
        size: Any = rows.size
        size = size[0] if isinstance(size, tuple) and isinstance(size[0], tuple) else size  # beside the width of a gate
        intercept = size[1] if isinstance(size, tuple) and isinstance(size[-1], bool) else True
        covariates = Regression(None, covariates, intercept)
    found = len(check_matrix(covariates.x, "covariates")[0])
    if found != steps:
        raise ValueError(f"covariates: found {found} rows for {steps} steps; give one for each.")
    return covariates


def _tile(given: Regression, times: int) -> Regression:
    def repeat(leaf: Any) -> Any:
        return None if leaf is None else np.tile(np.asarray(leaf), (times,) + (1,) * (np.ndim(leaf) - 1))

    return dataclasses.replace(given, x=repeat(given.x), offset=repeat(given.offset))


def _moments(family: Any, emissions: Any, rows: Rows, given: Regression | None, steps: int) -> Any:
    """Mean and variance of a row in each state, leading with states, or with steps and states; Nones where there are none."""
    try:
        if given is None:
            return family.moments(emissions)
        blank = prepare_rows(family, dataclasses.replace(given, y=np.full(steps, np.nan)), None, 1)
        return _completed(family.settle(emissions, blank), emissions, blank)
    except TypeError:
        return None, None


@jax.jit
def _completed(family: Any, emissions: Any, blank: Rows) -> tuple[jax.Array, jax.Array]:
    """Mean (steps, K, d) and variance (steps, K, d) of responses that are not there."""

    def visit(bound: Any, cells: Any, _log_prob: jax.Array) -> Any:
        mean, spread, _ = family.complete(bound, cells, blank.origin)  # (c, K, d, b)
        spread = spread if spread.ndim == 5 else spread[:, :, None]
        own = jnp.moveaxis(jnp.diagonal(spread, axis1=-2, axis2=-1), 2, -1)
        return mean, jnp.broadcast_to(own, mean.shape)

    return reduce.map_rows(family, emissions, blank, visit)


def _mixed(states: jax.Array, mean: Any, spread: Any) -> tuple[Any, Any]:
    """The law of total variance over the states."""
    if mean is None:
        return None, None
    where = "shk,hkd->shd" if mean.ndim == 3 else "shk,kd->shd"
    matrices = spread.ndim == mean.ndim + 1
    middle = jnp.einsum(where, states, mean, precision=HIGHEST)
    deviation = mean - middle[:, :, None]  # (S, steps, K, d)
    own = outer(deviation, deviation) if matrices else deviation * deviation
    within = jnp.broadcast_to(spread, own.shape)
    axes = (..., None, None) if matrices else (..., None)
    return middle, (states[axes] * (own + within)).sum(axis=2)


def _variances(spread: jax.Array) -> jax.Array:
    """(S * steps, d)."""
    d = spread.shape[2]
    own = jnp.diagonal(spread, axis1=-2, axis2=-1) if spread.ndim == 4 else spread
    return own.reshape(-1, d)


@jax.jit
def _quantiles(
    family: Any, emissions: Any, states: jax.Array, mean: jax.Array, variance: jax.Array, levels: jax.Array, given: Any
) -> jax.Array:
    """(levels, m, d) by bisection between the bounds of Cantelli (1928)."""
    deviation = jnp.sqrt(variance)
    extra = {} if given is None else {"x": given}

    def one(level: jax.Array) -> jax.Array:
        low = mean - deviation * jnp.sqrt((1 - level) / level)
        high = mean + deviation * jnp.sqrt(level / (1 - level))
        slack = 1e-3 * deviation + jnp.finfo(mean.dtype).eps * jnp.abs(mean)
        low, high = low - slack - family.discrete, high + slack + family.discrete

        def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            middle = 0.5 * (ends[0] + ends[1])
            y = jnp.floor(middle) if family.discrete else middle
            tails = averaged(family.tails(emissions, y, **extra), states)
            reached = jnp.exp(tails.below) + jnp.exp(tails.at) >= level
            return jnp.where(reached, ends[0], middle), jnp.where(reached, middle, ends[1])

        found = jax.lax.fori_loop(0, HALVINGS, halve, (low, high))[1]
        return jnp.floor(found) if family.discrete else found

    return jax.lax.map(one, jnp.asarray(levels, mean.dtype))


@partial(jax.jit, static_argnames="draws")
def _simulated(
    family: Any, emissions: Any, states: jax.Array, levels: jax.Array, key: jax.Array, draws: int, given: Any
) -> jax.Array:
    """(levels, m, d) of simulated rows."""
    choose, draw = jax.random.split(key)
    m = len(states)
    chosen = jax.random.categorical(choose, jnp.log(states), axis=-1, shape=(draws, m)).reshape(-1)
    extra = {} if given is None else {"x": _tile_traced(given, draws)}
    y = family.sample(draw, emissions, chosen, **extra)
    return jnp.quantile(y.reshape(draws, m, -1), jnp.asarray(levels, y.dtype), axis=0)


def _tile_traced(given: Regression, times: int) -> Regression:
    return jax.tree.map(lambda leaf: jnp.tile(leaf, (times,) + (1,) * (leaf.ndim - 1)), given)


# residuals


def pseudo_residuals(model: Any, params: Any, data: Any, key: Any) -> PseudoResiduals:
    """See `MarkovReadings.pseudo_residuals`."""
    raw, _ = read_sequences(data)
    given = raw if isinstance(raw, Regression) else None
    dtype = model.prepare(data).dtype
    y = np.asarray(check_matrix(raw if given is None else raw.y)[0], dtype)
    if given is not None:
        x = None if given.x is None else check_matrix(given.x, "x")[0]
        given = dataclasses.replace(given, y=None, gate=None, x=x)
    predicted = model.predict(params, data)
    noise = 0.5 * np.ones(y.shape, dtype) if key is None else jax.random.uniform(as_key(key), y.shape, dtype)
    return _residuals(model.family, coordinates.cast(params, dtype).emissions, jnp.asarray(y), predicted, noise, given)


@jax.jit
def _residuals(family: Any, emissions: Any, y: jax.Array, predicted: jax.Array, share: jax.Array, given: Any) -> PseudoResiduals:
    seen = ~jnp.isnan(y)
    extra = {} if given is None else {"x": given}
    found = residuals(averaged(family.tails(emissions, jnp.where(seen, y, 1), **extra), predicted), share)
    return PseudoResiduals(*(jnp.where(seen, z, jnp.nan) for z in found))
