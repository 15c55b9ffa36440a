"""Logistic and Poisson regressions, with holes, offset and prior; scipy stands opposite."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from scipy import stats
from table import K, Row, one_state

from cases.linear_regression import covariates, predictor, seen
from jaxem import (
    LogisticRegression,
    LogisticRegressionParams,
    Mixture,
    MixturePrior,
    NormalPrior,
    PoissonRegression,
    PoissonRegressionParams,
    Regression,
    Single,
)

SLOPES = np.array([[1.2, -0.5], [-1.5, 0.5], [0.3, 1.0]])
INTERCEPTS = np.array([-0.5, 1.0, 0.2])


def design(n, seed):
    x, rng = covariates(n, seed)
    z = rng.integers(K, size=n)
    return x, (x * SLOPES[z]).sum(axis=1) + INTERCEPTS[z], rng


def simulate_logistic(n, seed=0):
    x, eta, rng = design(n, seed)
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    y[rng.random(n) < 0.1] = np.nan
    return Regression(y, x)


def simulate_poisson(n, seed=0):
    x, eta, rng = design(n, seed)
    offset = rng.uniform(-0.5, 0.5, size=n)
    y = rng.poisson(np.exp(0.6 * eta + offset + 0.5)).astype(float)
    y[rng.random(n) < 0.1] = np.nan
    return Regression(y, x, offset=offset)


def logistic_oracle(params, data):
    y = np.asarray(data.y, np.float64)[:, None]
    eta = predictor(params, data)
    return seen(data, np.where(y == 1, stats.logistic.logcdf(eta), stats.logistic.logsf(eta)))


def poisson_oracle(params, data):
    return seen(data, stats.poisson(np.exp(predictor(params, data))).logpmf(np.asarray(data.y, np.float64)[:, None]))


def start_logistic():
    return LogisticRegressionParams(0.8 * SLOPES, 1.1 * INTERCEPTS)


def start_poisson():
    return PoissonRegressionParams(0.5 * SLOPES, 0.6 * INTERCEPTS + 0.4)


PRIOR = MixturePrior(jnp.asarray(1.5), NormalPrior(jnp.asarray(0.2), jnp.asarray([2.0, 1.0]), jnp.asarray(3.0)))
SINGLE = Single(LogisticRegression(), prior=PRIOR.components)

# three logistic curves are hardly told apart by so few rows: under a prior, so that there is a maximum
ROWS = [
    Row("mixture-logistic-regression", Mixture(LogisticRegression(), K, prior=PRIOR), simulate_logistic, start_logistic,
        logistic_oracle, core=True),
    Row("single-logistic-regression", SINGLE, simulate_logistic, lambda: one_state(start_logistic(), SINGLE), logistic_oracle,
        slow=True),
    Row("mixture-poisson-regression", Mixture(PoissonRegression(), K), simulate_poisson, start_poisson, poisson_oracle),
]  # fmt: skip
POISSON_PRIOR = Mixture(PoissonRegression(), K, prior=PRIOR)
ROWS.append(replace(ROWS[-1], name="mixture-poisson-regression-prior", model=POISSON_PRIOR, slow=True))
