"""Exponential waiting times, with holes; scipy stands opposite."""

import jax.numpy as jnp
import numpy as np
from scipy import stats
from table import K, Row, cellwise_oracle, drop_columns, with_holes

from jaxem import Exponential, ExponentialParams, GammaPrior, Mixture, MixturePrior

RATES = np.array([[0.1, 2.0, 5.0], [1.0, 10.0, 0.3], [8.0, 0.4, 1.0]])


def simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    return with_holes(rng.exponential(1 / RATES[rng.integers(K, size=n)]), 0.2, seed)


def start():
    return ExponentialParams(1.2 * RATES)


ORACLE = cellwise_oracle(lambda params, k, j, y: stats.expon(scale=1 / params.rate[k, j]).logpdf(y))
PRIOR = MixturePrior(jnp.asarray(1.5), GammaPrior(jnp.asarray(2.0), jnp.asarray(0.4)))

ROWS = [
    Row("mixture-exponential", Mixture(Exponential(), K), simulate, start, ORACLE, drop_columns),
    Row("mixture-exponential-prior", Mixture(Exponential(), K, prior=PRIOR), simulate, start, ORACLE, drop_columns, slow=True),
]
