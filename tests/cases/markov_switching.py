"""Rows of Markov-switching autoregressions: series of four steps, with every path of regimes enumerated as the oracle."""

from itertools import pairwise, product

import numpy as np
from scipy import stats
from table import K, Row

from cases.hidden_markov import HELD, INITIAL, TRANSITION
from jaxem import MarkovSwitching, SwitchingInterceptParams, SwitchingMeanParams

T = 4


def paths(model):
    """(params, data (n, T, 1)) -> (n,) by the sum over all K^T paths, given the first p values."""

    def total(params, y):
        y = np.asarray(y)[..., 0]
        p, k = model.order, model.n_regimes
        centre, variance = (np.broadcast_to(params[i], k) for i in (2, 4))
        coefficients = np.broadcast_to(params.coefficients, (k, p))
        out = np.full(len(y), -np.inf)
        for path in product(range(k), repeat=y.shape[1]):
            joint = np.log(params.initial[path[0]]) + np.zeros(len(y))
            joint += sum(np.log(params.transition[a, b]) for a, b in pairwise(path))
            for t in range(p, y.shape[1]):
                s = path[t]
                level = centre[s]
                for i in range(1, p + 1):
                    past = centre[path[t - i]] if model.parametrisation == "mean" else 0
                    level = level + coefficients[s, i - 1] * (y[:, t - i] - past)
                density = stats.norm.logpdf(y[:, t], level, np.sqrt(variance[s]))
                joint += np.where(np.isnan(y[:, t]), 0, density)
            out = np.logaddexp(out, joint)
        return out

    return total


def row(name, model, params, **more):
    def simulate(n, seed=0):
        """From a simulation of its own: regimes that last, means far apart."""
        rng = np.random.default_rng(seed + 5)
        k, p = model.n_regimes, model.order
        regimes = np.zeros((n, T), int)
        regimes[:, 0] = rng.integers(k, size=n)
        for t in range(1, T):
            regimes[:, t] = np.where(rng.random(n) < 0.6, regimes[:, t - 1], rng.integers(k, size=n))
        means, deviations = np.array([-3.0, 1.0, 6.0]), np.array([0.7, 1.0, 1.4])
        y = np.zeros((n, T))
        for t in range(T):
            own = means[regimes[:, t]]
            if t >= p:
                own = own + 0.3 * (y[:, t - 1] - means[regimes[:, t - 1]])
            y[:, t] = own + deviations[regimes[:, t]] * rng.normal(size=n)
        y[::7, -1] = np.nan  # what ends a series early is no lag
        return y[..., None]

    return Row(name, model, simulate, lambda: params, lambda *_: None, total=paths(model), **more)


MEANS, VARIANCES = np.array([-2.5, 0.8, 5.0]), np.array([0.8, 1.2, 1.5])
SHARED = np.array(1.3)
MEAN = MarkovSwitching(1, "mean", K)
VARIED = MarkovSwitching(2, ("mean", "coefficients", "variance"), K, initial="free")
INTERCEPT = MarkovSwitching(1, ("intercept", "variance"), K, "intercept")
EACH = np.array([[0.2, 0.1], [0.3, -0.1], [0.4, 0.0]])

ROWS = [
    row("markov-switching-mean", MEAN, SwitchingMeanParams(HELD, TRANSITION, MEANS, np.array([0.2]), SHARED)),
    row("markov-switching-all", VARIED, SwitchingMeanParams(INITIAL, TRANSITION, MEANS, EACH, VARIANCES), slow=True),
    row(
        "markov-switching-intercept", INTERCEPT, SwitchingInterceptParams(HELD, TRANSITION, MEANS, np.array([0.2]), VARIANCES),
        slow=True,
    ),
]  # fmt: skip
