"""Linear regressions, with holes in the response, with and without intercept, offset and prior; scipy stands opposite."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from scipy import stats
from table import K, Row, one_state

from jaxem import LinearRegression, LinearRegressionParams, Mixture, MixturePrior, NormalInverseGamma, Regression, Single

SLOPES = np.array([[1.0, -0.5], [-1.0, 0.5], [0.3, 1.5]])
INTERCEPTS = np.array([2.0, 6.0, 4.0])
VARIANCES = np.array([0.4, 0.6, 0.9])


def covariates(n, seed):
    """Correlated, off the origin."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ np.array([[1.0, 0.4], [0.0, 0.8]]) + np.array([1.0, -0.5]), rng


def simulate(n, seed=0, intercept=True, offset=False):
    x, rng = covariates(n, seed)
    z = rng.integers(K, size=n)
    y = (x * SLOPES[z]).sum(axis=1) + INTERCEPTS[z] * intercept + np.sqrt(VARIANCES[z]) * rng.normal(size=n)
    added = rng.normal(size=n) if offset else None
    y = y + (added if offset else 0)
    y[rng.random(n) < 0.1] = np.nan
    return Regression(y, x, intercept=intercept, offset=added)


def start(intercept=True):
    return LinearRegressionParams(1.1 * SLOPES, 0.9 * INTERCEPTS if intercept else np.zeros((K, 0)), 1.3 * VARIANCES)


def predictor(params, data):
    """(n, K) linear predictor, row by row."""
    x, slopes = np.asarray(data.x, np.float64), np.asarray(params.coefficients, np.float64)
    eta = np.array([[sum(a * b for a, b in zip(row, slope, strict=True)) for slope in slopes] for row in x])
    if data.intercept:
        eta = eta + np.asarray(params.intercept, np.float64)
    return eta if data.offset is None else eta + np.asarray(data.offset, np.float64)[:, None]


def seen(data, log_density):
    """0 where the response is missing."""
    return np.where(np.isnan(np.asarray(data.y, np.float64))[:, None], 0, log_density)


def oracle(params, data):
    scale = np.sqrt(np.asarray(params.variance, np.float64))
    y = np.asarray(data.y, np.float64)[:, None]
    return seen(data, stats.norm(predictor(params, data), scale).logpdf(y))


GAMMA = NormalInverseGamma(jnp.asarray([0.5, 0.0]), jnp.asarray([2.0, 0.0]), jnp.asarray(3.0), jnp.asarray(1.5))
BASE = Row("mixture-linear-regression", Mixture(LinearRegression(), K), simulate, start, oracle, core=True)

ROWS = [
    BASE,
    replace(BASE, name="mixture-linear-regression-prior", core=False, slow=True,
            model=Mixture(LinearRegression(), K, prior=MixturePrior(jnp.asarray(1.5), GAMMA))),
    replace(BASE, name="mixture-linear-regression-origin", core=False, slow=True, start=lambda: start(False),
            simulate=lambda n, seed=0: simulate(n, seed, intercept=False, offset=True)),
    replace(BASE, name="single-linear-regression", core=False, slow=True, model=Single(LinearRegression()),
            start=lambda: one_state(start(), Single(LinearRegression()))),
]  # fmt: skip
