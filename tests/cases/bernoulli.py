"""Zeros and ones, with holes; scipy stands opposite."""

import jax.numpy as jnp
import numpy as np
from scipy import stats
from table import K, Row, cellwise_oracle, drop_columns, with_holes

from jaxem import Bernoulli, BernoulliParams, BetaPrior, Mixture, MixturePrior

P = np.array([[0.9, 0.8, 0.2, 0.9, 0.7], [0.1, 0.8, 0.9, 0.2, 0.3], [0.2, 0.1, 0.1, 0.8, 0.1]])


def simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    return with_holes(rng.random((n, 5)) < P[rng.integers(K, size=n)], 0.15, seed)


def start():
    return BernoulliParams(0.8 * P + 0.1)


ORACLE = cellwise_oracle(lambda params, k, j, y: stats.bernoulli(params.probability[k, j]).logpmf(y))
PRIOR = MixturePrior(jnp.asarray(1.5), BetaPrior(jnp.asarray(1.6), jnp.asarray(1.3)))

ROWS = [
    Row("mixture-bernoulli", Mixture(Bernoulli(), K), simulate, start, ORACLE, drop_columns),
    Row("mixture-bernoulli-prior", Mixture(Bernoulli(), K, prior=PRIOR), simulate, start, ORACLE, drop_columns, slow=True),
]
