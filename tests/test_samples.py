"""Rows that a model draws are rows of that model, on every row of the table of laws.

The log-density is held to scipy's by the laws; here it judges the sampler. At the params that rows were drawn from, the scores of
rows average to zero, with the spread of their mean known from the scores themselves; a wrong location, scale, dependence or share
of a state moves some of them. `moments` are held to the rows drawn.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import WEIGHTS, collect

from jaxem import Mixture, Regression, Single

N = 4000
FAR = 5.0  # standard errors; the odds of one among all the means compared are below 1e-3


def states_of(row):
    """The family's params with a state axis, and a state for each of N rows."""
    params = row.params("float64")
    if isinstance(row.model, Mixture):
        return params, params.components, jnp.asarray(np.random.default_rng(3).choice(len(WEIGHTS), size=N, p=WEIGHTS))
    return params, row.model._states(params), jnp.zeros(N, int)


def draw(row):
    """Params, their states, and data of the kind that the row simulates, the responses drawn by the family."""
    params, components, states = states_of(row)
    kind = row.simulate(N, 5)
    given = {"x": kind} if isinstance(kind, Regression) else {}
    y = row.model.family.sample(jax.random.key(7), components, states, **given)
    return params, components, states, dataclasses.replace(kind, y=y) if given else y


def standardized(values):
    """(m,) means of (n, m) values in units of their standard errors; 0 where all are the same and 0."""
    values = np.asarray(values, np.float64)
    error = values.std(axis=0) / len(values) ** 0.5
    return np.where(error > 0, values.mean(axis=0) / np.where(error > 0, error, 1), values.mean(axis=0))


ROWS = [row for row in collect() if isinstance(row.model, (Mixture, Single))]
FIRST = {type(row.model.family): row.name for row in reversed(ROWS)}  # of each family, the first row


def marks(row):
    if row.core:
        return []
    return [pytest.mark.slow if FIRST[type(row.model.family)] == row.name else pytest.mark.thorough]


CASES = [pytest.param(row, id=row.name, marks=marks(row)) for row in ROWS]


@pytest.mark.parametrize("row", CASES)
def test_scores_of_drawn_rows_average_to_zero(row):
    params, _, _, data = draw(row)
    rows = row.model.prepare(data)
    model = row.model.settle(params, rows)
    u = model.to_unconstrained(params)
    free = np.isfinite(np.asarray(u))  # what pads a leaf is no coordinate

    def likelihood(u):
        return model.log_likelihood(model.from_unconstrained(u, like=params), rows, per_row=True)

    scores = np.asarray(jax.jit(jax.jacfwd(likelihood))(u))[:, free]
    assert np.isfinite(scores).all()
    assert np.abs(standardized(scores)).max() < FAR


@pytest.mark.parametrize("row", CASES)
def test_moments_of_drawn_rows(row):
    """Mean, and variance or covariance, of the cells given their state."""
    _, components, states, data = draw(row)
    if isinstance(data, (Regression, dict)):
        pytest.skip("moments given covariates, or of groups of columns, have no one table")
    try:
        mean, spread = (np.asarray(leaf) for leaf in row.model.family.moments(components))
    except TypeError:
        pytest.skip("categories have no mean")
    y, states = np.asarray(data, np.float64), np.asarray(states)
    for k in np.unique(states):
        off = y[states == k] - mean[k]
        assert np.abs(standardized(off)).max() < FAR
        square = off * off if spread.ndim == 2 else (off[:, :, None] * off[:, None]).reshape(len(off), -1)
        if np.isfinite(spread[k]).all():
            assert np.abs(standardized(square - spread[k].ravel())).max() < FAR
