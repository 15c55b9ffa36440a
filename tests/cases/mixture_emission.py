"""Rows of Gaussian mixtures within the states of a hidden Markov model: every path and every component is summed over."""

import numpy as np
from table import Row

from cases import gaussian
from cases.hidden_markov import INITIAL, TRANSITION, named, paths, sequences
from jaxem import GaussianMixtureEmission, GaussianParams, HiddenMarkov, HiddenMarkovParams, MixtureEmissionParams

M = 2
FULL = named(gaussian.ROWS, "mixture-diagonal")
SHARES = np.array([[0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])


def start():
    inner = FULL.start()
    shift = np.array([-0.7, 0.9])[:, None]
    components = GaussianParams(inner.mean[:, None] + shift, inner.covariance[:, None] * np.array([1.0, 0.7])[:, None])
    return MixtureEmissionParams(SHARES, components)


def oracle(params, y):
    """(n, K): scipy's log-densities of the components, averaged."""
    mean, variance = params.components
    parts = [FULL.oracle(GaussianParams(mean[:, m], variance[:, m]), y) + np.log(params.weights[:, m]) for m in range(M)]
    found = np.logaddexp.reduce(parts, axis=0)
    return np.where(np.isnan(y).all(axis=1)[:, None], 0, found)


class Case:
    """What `cases.hidden_markov` needs of a case of independent rows."""

    simulate = staticmethod(lambda n, seed=0: FULL.simulate(n, seed))
    oracle = staticmethod(oracle)


ROWS = [
    Row(
        "hidden-markov-gaussian-mixture", HiddenMarkov(GaussianMixtureEmission(M, "diagonal"), 3), sequences(Case, 0.1),
        lambda: HiddenMarkovParams(INITIAL, TRANSITION, start()), oracle, total=paths(Case), slow=True,
    ),
]  # fmt: skip
