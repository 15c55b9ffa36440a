"""Overdispersed counts, with holes; scipy stands opposite."""

from dataclasses import replace

import numpy as np
from scipy import stats
from table import K, Row, cellwise_oracle, drop_columns, one_state, with_holes

from jaxem import Mixture, NegativeBinomial, NegativeBinomialParams, Single

MEANS = np.array([[1.0, 12.0, 3.0], [4.0, 2.0, 20.0], [15.0, 7.0, 1.0]])
DISPERSIONS = np.array([[1.0, 0.5, 0.8], [0.6, 2.0, 0.4], [0.3, 1.2, 1.5]])


def simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.integers(K, size=n)
    return with_holes(rng.poisson(rng.gamma(1 / DISPERSIONS[z]) * DISPERSIONS[z] * MEANS[z]), 0.15, seed)


def start():
    return NegativeBinomialParams(1.2 * MEANS, 0.8 * DISPERSIONS)


def log_density(params, k, j, y):
    size = 1 / params.dispersion[k, j]
    return stats.nbinom(size, size / (size + params.mean[k, j])).logpmf(y)


ORACLE = cellwise_oracle(log_density)
MODEL, SINGLE = Mixture(NegativeBinomial(), K), Single(NegativeBinomial())
MIXTURE = Row("mixture-negative-binomial", MODEL, simulate, start, ORACLE, drop_columns)

ROWS = [
    MIXTURE,
    replace(MIXTURE, name="single-negative-binomial", model=SINGLE, start=lambda: one_state(start(), SINGLE), slow=True),
]
