"""Categories, with fewer in one column and holes; the oracle picks probabilities one by one."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from table import K, Row, cellwise_oracle, with_holes

from jaxem import Categorical, CategoricalParams, DirichletPrior, Mixture, MixturePrior

P = np.array(
    [
        [[0.8, 0.1, 0.1], [0.9, 0.1, 0.0], [0.1, 0.1, 0.8], [0.1, 0.9, 0.0], [0.8, 0.1, 0.1]],
        [[0.1, 0.8, 0.1], [0.2, 0.8, 0.0], [0.8, 0.1, 0.1], [0.1, 0.9, 0.0], [0.1, 0.8, 0.1]],
        [[0.1, 0.1, 0.8], [0.1, 0.9, 0.0], [0.1, 0.8, 0.1], [0.8, 0.2, 0.0], [0.1, 0.8, 0.1]],
    ]
)  # (K, d, C)


def simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    below = rng.random((n, 5, 1)) > P[rng.integers(K, size=n)].cumsum(axis=-1)
    return with_holes(below[..., :2].sum(axis=-1), 0.15, seed)


def start():
    return CategoricalParams(0.8 * P + 0.2 * (P > 0) / (P > 0).sum(axis=-1, keepdims=True))


ORACLE = cellwise_oracle(lambda params, k, j, y: np.log(params.probabilities[k, j, y.astype(int)]))
PRIOR = MixturePrior(jnp.asarray(1.5), DirichletPrior(jnp.asarray(1.4)))


def marginal(params, keep):
    return CategoricalParams(params.probabilities[..., keep, :])


MODEL = Mixture(Categorical((3, 2, 3, 2, 3)), K)

ROWS = [
    Row("mixture-categorical", MODEL, simulate, start, ORACLE, None, core=True),
    Row("mixture-categorical-prior", replace(MODEL, prior=PRIOR), simulate, start, ORACLE, None, slow=True),
    Row("mixture-categorical-seen", Mixture(Categorical(), K), simulate, start, ORACLE, marginal, slow=True),
]
