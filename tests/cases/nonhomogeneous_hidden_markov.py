"""Rows of hidden Markov models whose transitions are moved by covariates: every path enumerated as the oracle."""

from itertools import product

import numpy as np
from table import K, Row, with_holes

from cases import poisson
from cases.hidden_markov import INITIAL, T, named
from jaxem import GateParams, NonhomogeneousHiddenMarkov, NonhomogeneousParams, Poisson, Regression

G = 2
COUNTS = named(poisson.ROWS, "mixture-poisson")
COEFFICIENTS = [[[0, 0], [0.8, -0.2], [-0.5, 0.1]], [[0.3, 0.4], [0, 0], [1.0, 0]], [[-0.6, 0.2], [0.2, 0.5], [0, 0]]]
INTERCEPT = [[0, -1.0, -2.0], [-0.5, 0, -3.0], [-4.0, 0.5, 0]]
GATE = GateParams(np.array(COEFFICIENTS), np.array(INTERCEPT))


def simulate(n, seed=0):
    """(n, T, d) counts and (n, T, g) covariates in units of their own."""
    z = np.random.default_rng(seed + 5).normal(size=(n, T, G)) * [1.0, 2.0] + [0.5, 3.0]
    y = with_holes(np.asarray(COUNTS.simulate(n * T, seed), np.float64), 0.1, seed)
    return Regression(y.reshape(n, T, -1), gate=z)


def start():
    return NonhomogeneousParams(INITIAL, GATE, COUNTS.start())


def total(params, data):
    """(n,) by the sum over all K^T paths."""
    y, z = data.y, data.gate
    n, steps, d = y.shape
    emission = COUNTS.oracle(params.emissions, y.reshape(-1, d)).reshape(n, steps, -1)
    logits = np.einsum("ntg,jkg->ntjk", z, params.gate.coefficients) + params.gate.intercept
    moves = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    out = np.full(n, -np.inf)
    for path in product(range(K), repeat=steps):
        joint = np.log(params.initial[path[0]]) + emission[:, 0, path[0]]
        for t in range(1, steps):
            joint = joint + moves[:, t, path[t - 1], path[t]] + emission[:, t, path[t]]
        out = np.logaddexp(out, joint)
    return out


ROWS = [
    Row(
        "nonhomogeneous-hidden-markov", NonhomogeneousHiddenMarkov(Poisson(), K), simulate, start, COUNTS.oracle, total=total,
        slow=True,
    ),
]  # fmt: skip
