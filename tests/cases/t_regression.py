"""Linear regressions with t errors, dof free, common and given, with holes; scipy stands opposite."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from scipy import stats
from table import K, Row, one_state

from cases import linear_regression
from cases.linear_regression import GAMMA, VARIANCES, covariates, predictor, seen
from jaxem import Mixture, MixturePrior, Regression, Single, TRegression, TRegressionParams

DOF = np.array([2.5, 6.0, 20.0])


def simulate(n, seed=0):
    x, rng = covariates(n, seed)
    z = rng.integers(K, size=n)
    errors = rng.normal(size=n) / np.sqrt(rng.chisquare(DOF[z]) / DOF[z])
    slopes, intercepts = linear_regression.SLOPES[z], 2 * linear_regression.INTERCEPTS[z]
    y = (x * slopes).sum(axis=1) + intercepts + np.sqrt(VARIANCES[z]) * errors
    y[rng.random(n) < 0.1] = np.nan
    return Regression(y, x)


def start(dof):
    slopes, intercepts, variance = linear_regression.start()
    return TRegressionParams(slopes, 2 * intercepts, variance, np.asarray(dof))


def oracle(params, data):
    scale = np.sqrt(np.asarray(params.variance, np.float64))
    y, dof = np.asarray(data.y, np.float64)[:, None], np.asarray(params.dof, np.float64)
    return seen(data, stats.t(dof, predictor(params, data), scale).logpdf(y))


def row(dof, start_dof, **more):
    name = f"mixture-t-regression-{dof}"
    return Row(name, Mixture(TRegression(dof), K), simulate, lambda: start(start_dof), oracle, **more)


# with free dof few rows can be followed exactly, where the likelihood has no bound; of these data it has a maximum nearby
FREE = replace(row("free", 1.4 * DOF), simulate=lambda n, seed=0: simulate(n, seed + 5))
SINGLE = Single(TRegression())

ROWS = [
    row("common", 5.0),
    replace(FREE, slow=True),
    replace(row(4.0, 4.0, slow=True), name="mixture-t-regression-prior",
            model=Mixture(TRegression(4.0), K, prior=MixturePrior(jnp.asarray(1.5), GAMMA))),
    replace(FREE, name="single-t-regression", model=SINGLE, start=lambda: one_state(start(1.4 * DOF), SINGLE), slow=True),
]  # fmt: skip
