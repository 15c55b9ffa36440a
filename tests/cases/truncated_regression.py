"""Regressions of responses between limits; scipy's truncated normal stands opposite."""

from dataclasses import replace

import numpy as np
from scipy import stats
from table import K, Row, one_state

from cases import linear_regression
from cases.linear_regression import INTERCEPTS, SLOPES, covariates, predictor, seen
from jaxem import Mixture, Regression, Single, TruncatedRegression

VARIANCES = linear_regression.VARIANCES / 8  # states that are told apart: where they are not, a truncated one may run away


def start():
    return linear_regression.start()._replace(variance=1.3 * VARIANCES)


def simulate(lower, upper, n, seed=0, states=K):
    x, rng = covariates(n, seed)
    z = rng.integers(states, size=n)
    eta, scale = (x * SLOPES[z]).sum(axis=1) + INTERCEPTS[z], np.sqrt(VARIANCES[z])
    low, high = (-np.inf if lower is None else lower), (np.inf if upper is None else upper)
    y = stats.truncnorm((low - eta) / scale, (high - eta) / scale, eta, scale).rvs(random_state=rng)
    y[rng.random(n) < 0.1] = np.nan
    return Regression(y, x)


def oracle(lower, upper):
    low, high = (-np.inf if lower is None else lower), (np.inf if upper is None else upper)

    def log_prob(params, data):
        eta, scale = predictor(params, data), np.sqrt(np.asarray(params.variance, np.float64))
        y = np.asarray(data.y, np.float64)[:, None]
        return seen(data, stats.truncnorm((low - eta) / scale, (high - eta) / scale, eta, scale).logpdf(y))

    return log_prob


def row(lower, upper, **more):
    name = "mixture-truncated-regression" + "-lower" * (lower is not None) + "-upper" * (upper is not None)
    model = Mixture(TruncatedRegression(lower, upper), K)
    # predictors are up to 30 scales from 0, and an expansion in the user's coordinates squares that
    return Row(name, model, lambda n, seed=0: simulate(lower, upper, n, seed), start, oracle(lower, upper), shaky=4.0, **more)


BOTH = row(1.5, 6.5, slow=True)
SINGLE = Single(TruncatedRegression(1.5, 6.5))

ROWS = [
    BOTH,
    row(1.5, None),
    row(None, 6.5, rare=True),
    replace(BOTH, name="single-truncated-regression", model=SINGLE, start=lambda: one_state(start(), SINGLE),
            simulate=lambda n, seed=0: simulate(1.5, 6.5, n, seed, states=1)),
]  # fmt: skip
