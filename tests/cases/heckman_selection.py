"""Sample selection; the closed form of Heckman (1979) by scipy stands opposite."""

import numpy as np
from scipy import stats
from table import K, Row, one_state

from jaxem import HeckmanSelection, Regression, SelectedRegressionParams, SelectionParams

SLOPES = np.array([[0.8, -0.4], [-0.8, 0.4], [0.2, 0.9]])
INTERCEPTS = np.array([2.0, 6.0, -1.0])
VARIANCES = np.array([0.5, 0.8, 0.3])
CORRELATIONS = np.array([0.6, -0.4, 0.2])
GATES = np.array([[0.9, 0.3, -0.5], [-0.4, 0.8, 0.6], [0.3, -0.6, 1.0]])
LEVELS = np.array([0.3, -0.2, 0.5])


def simulate(n, seed=0, states=K):
    """A few rows selected without a response, and a few of which nothing is known.

    In small samples the likelihood may rise up to a correlation of 1; not in those of the table.
    """
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(1, 1, n), rng.normal(-2, 2, n)])
    z = np.column_stack([x, rng.normal(0.5, 1.5, n)])
    k = rng.integers(states, size=n)
    v = rng.normal(size=n)
    e = CORRELATIONS[k] * v + np.sqrt(1 - CORRELATIONS[k] ** 2) * rng.normal(size=n)
    y = (x * SLOPES[k]).sum(axis=1) + INTERCEPTS[k] + np.sqrt(VARIANCES[k]) * e
    chosen = ((z * GATES[k]).sum(axis=1) + LEVELS[k] + v > 0).astype(float)
    y[chosen == 0] = np.nan
    y[rng.random(n) < 0.05] = np.nan
    chosen[rng.random(n) < 0.05] = np.nan
    y[np.isnan(chosen)] = np.nan
    return Regression(np.column_stack([y, chosen]), x, gate=z)


def oracle(params, data):
    y, chosen = np.asarray(data.y, np.float64).T[:, :, None]
    eta = np.asarray(data.x, np.float64) @ params.coefficients.T + params.intercept
    zeta = np.asarray(data.gate, np.float64) @ params.selection.coefficients.T + params.selection.intercept
    sigma, rho = np.sqrt(params.variance), params.correlation
    e = (np.nan_to_num(y) - eta) / sigma
    both = stats.norm.logpdf(e) - np.log(sigma) + stats.norm.logcdf((zeta + rho * e) / np.sqrt(1 - rho**2))
    alone = np.where(chosen == 1, stats.norm.logcdf(zeta), stats.norm.logcdf(-zeta))
    return np.where(np.isnan(y), np.where(np.isnan(chosen), 0, alone), both)


def start():
    inner = SelectionParams(0.8 * GATES, 1.2 * LEVELS)
    return SelectedRegressionParams(1.1 * SLOPES, 0.9 * INTERCEPTS, 1.3 * VARIANCES, 0.7 * CORRELATIONS, inner)


SINGLE = HeckmanSelection()

ROWS = [Row("heckman", SINGLE, lambda n, seed=0: simulate(n, seed + 2, 1), lambda: one_state(start(), SINGLE), oracle)]
