"""Rows of hidden Markov models: sequences of four steps, with every path enumerated as the oracle."""

from itertools import product

import numpy as np
from table import K, Row, with_holes

from cases import gaussian, poisson
from jaxem import GammaPrior, Gaussian, HiddenMarkov, HiddenMarkovParams, HiddenMarkovPrior, Poisson

T = 4
INITIAL = np.array([0.5, 0.2, 0.3])
TRANSITION = np.array([[0.7, 0.2, 0.1], [0.15, 0.8, 0.05], [0.25, 0.25, 0.5]])
FORWARD = np.array([[0.7, 0.2, 0.1], [0.0, 0.8, 0.2], [0.0, 0.0, 1.0]])


def sequences(case, holes=0.0):
    """(n, T, d) of rows that a case of independent rows simulates: a family that fits, in an order that says little."""

    def simulate(n, seed=0):
        y = np.asarray(case.simulate(n * T, seed), np.float64)
        return with_holes(y, holes, seed).reshape(n, T, -1)

    return simulate


def paths(case):
    """(params, data) -> (n,) by the sum over all K^T paths."""

    def total(params, y):
        n, steps, d = y.shape
        emission = case.oracle(params.emissions, y.reshape(-1, d)).reshape(n, steps, -1)
        out = np.full(n, -np.inf)
        with np.errstate(divide="ignore"):
            log_initial, log_transition = np.log(params.initial), np.log(params.transition)
        for path in product(range(len(log_initial)), repeat=steps):
            joint = log_initial[path[0]] + emission[:, 0, path[0]]
            for t in range(1, steps):
                joint = joint + log_transition[path[t - 1], path[t]] + emission[:, t, path[t]]
            out = np.logaddexp(out, joint)
        return out

    return total


def start(case, initial=INITIAL, transition=TRANSITION):
    def params():
        return HiddenMarkovParams(initial, transition, case.start())

    return params


def stationary(transition):
    values, vectors = np.linalg.eig(transition.T)
    p = np.real(vectors[:, np.argmax(np.real(values))])
    return p / p.sum()


def named(rows, name):
    return next(row for row in rows if row.name == name)


def row(name, case, model, *, initial=INITIAL, transition=TRANSITION, **more):
    return Row(name, model, sequences(case, 0.1), start(case, initial, transition), case.oracle, total=paths(case), **more)


COUNTS = named(poisson.ROWS, "mixture-poisson")
FULL = named(gaussian.ROWS, "mixture-full")
PRIOR = HiddenMarkovPrior(2.0, 1.0 + np.eye(K), GammaPrior(2.0, 0.4))
HELD = stationary(TRANSITION)

ROWS = [
    row("hidden-markov-poisson", COUNTS, HiddenMarkov(Poisson(), K), core=True),
    row("hidden-markov-gaussian", FULL, HiddenMarkov(Gaussian(), K), slow=True),
    row("hidden-markov-stationary", COUNTS, HiddenMarkov(Poisson(), K, initial="stationary"), initial=HELD, slow=True),
    row("hidden-markov-forward", COUNTS, HiddenMarkov(Poisson(), K, transition=FORWARD > 0), transition=FORWARD, slow=True),
    row("hidden-markov-prior", COUNTS, HiddenMarkov(Poisson(), K, prior=PRIOR), slow=True),
]
