"""Poisson counts; scipy stands opposite."""

import jax.numpy as jnp
import numpy as np
from scipy import stats
from table import K, Row, cellwise_oracle, drop_columns, with_holes

from jaxem import GammaPrior, Mixture, MixturePrior, Poisson, PoissonParams

RATES = np.array([[1.0, 6.0, 3.0], [4.0, 2.0, 9.0], [8.0, 5.0, 1.0]])


def simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    return with_holes(rng.poisson(RATES[rng.integers(K, size=n)]), 0.2, seed)


def start():
    return PoissonParams(1.2 * RATES)


ORACLE = cellwise_oracle(lambda params, k, j, y: stats.poisson(params.rate[k, j]).logpmf(y))
PRIOR = MixturePrior(jnp.asarray(1.5), GammaPrior(jnp.asarray(2.0), jnp.asarray(0.4)))

ROWS = [
    Row("mixture-poisson", Mixture(Poisson(), K), simulate, start, ORACLE, drop_columns, core=True),
    Row("mixture-poisson-prior", Mixture(Poisson(), K, prior=PRIOR), simulate, start, ORACLE, drop_columns, slow=True),
]
