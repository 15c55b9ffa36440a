"""A gate on two covariates over Poisson counts; the oracle is the softmax written out, over scipy's densities."""

import numpy as np
from table import K, Row, with_holes

from cases import poisson
from jaxem import GateParams, MixtureOfExperts, MixtureOfExpertsParams, Poisson, PoissonParams, Regression

COEFFICIENTS = np.array([[0.0, 0.0], [0.8, -0.5], [-0.6, 0.4]])
INTERCEPT = np.array([0.0, 0.3, -1.0])


def simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    gate = np.column_stack([rng.normal(1.0, 1.0, n), rng.normal(0.0, 2.0, n)])
    odds = gate @ COEFFICIENTS.T + INTERCEPT
    z = (odds + rng.gumbel(size=odds.shape)).argmax(axis=1)
    return Regression(with_holes(rng.poisson(poisson.RATES[z]), 0.2, seed), gate=gate)


def start():
    gate = GateParams(0.7 * COEFFICIENTS, 1.2 * INTERCEPT)
    return MixtureOfExpertsParams(gate, PoissonParams(1.2 * poisson.RATES))


def total(params, data):
    odds = data.gate @ params.gate.coefficients.T + params.gate.intercept
    log_pi = odds - np.logaddexp.reduce(odds, axis=1, keepdims=True)
    return np.logaddexp.reduce(log_pi + poisson.ORACLE(params.components, data.y), axis=1)


ROWS = [Row("experts-poisson", MixtureOfExperts(Poisson(), K), simulate, start, None, total=total)]
