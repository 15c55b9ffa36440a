"""Gamma-distributed numbers, with holes; scipy stands opposite."""

from dataclasses import replace

import numpy as np
from scipy import stats
from table import K, Row, cellwise_oracle, drop_columns, one_state, with_holes

from jaxem import Gamma, GammaParams, Mixture, Single

SHAPES = np.array([[2.0, 9.0, 0.7], [6.0, 3.0, 4.0], [3.0, 1.5, 8.0]])
RATES = np.array([[2.0, 2.0, 0.5], [1.0, 0.3, 1.0], [0.4, 3.0, 4.0]])


def simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.integers(K, size=n)
    return with_holes(rng.gamma(SHAPES[z]) / RATES[z], 0.15, seed)


def start():
    return GammaParams(1.2 * SHAPES, 1.1 * RATES)


ORACLE = cellwise_oracle(lambda params, k, j, y: stats.gamma(params.shape[k, j], scale=1 / params.rate[k, j]).logpdf(y))
MODEL, SINGLE = Mixture(Gamma(), K), Single(Gamma())
MIXTURE = Row("mixture-gamma", MODEL, simulate, start, ORACLE, drop_columns)

ROWS = [
    MIXTURE,
    replace(MIXTURE, name="single-gamma", model=SINGLE, start=lambda: one_state(start(), SINGLE), slow=True),
]
