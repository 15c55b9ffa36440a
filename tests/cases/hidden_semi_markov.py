"""Rows of hidden semi-Markov models: sequences of four steps, with every segmentation enumerated as the oracle."""

from itertools import pairwise, product

import numpy as np
from scipy import stats
from table import K, Row

from cases import gaussian, poisson
from cases.hidden_markov import INITIAL, named, sequences
from jaxem import (
    CategoricalDuration,
    GammaPrior,
    Gaussian,
    HiddenSemiMarkov,
    HiddenSemiMarkovParams,
    HiddenSemiMarkovPrior,
    NegativeBinomialDuration,
    Poisson,
    PoissonDuration,
)

FOLLOWS = np.array([[0.0, 0.7, 0.3], [0.6, 0.0, 0.4], [0.5, 0.5, 0.0]])
LASTING = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3], [0.1, 0.2, 0.7]])


def duration_probabilities(duration, d):
    """(K, D), by scipy."""
    before = np.arange(d)
    if isinstance(duration, CategoricalDuration):
        return np.asarray(duration.probabilities, np.float64)
    if isinstance(duration, PoissonDuration):
        p = stats.poisson.pmf(before, np.asarray(duration.rate, np.float64)[:, None])
    else:
        mean, size = np.asarray(duration.mean, np.float64)[:, None], 1 / np.asarray(duration.dispersion, np.float64)[:, None]
        p = stats.nbinom.pmf(before, size, size / (size + mean))
    return p / p.sum(axis=1, keepdims=True)


def log_path(params, path, d):
    """log p of a path: its runs are the segments, the last of which is cut off by the end."""
    p = duration_probabilities(params.duration, d)
    cuts = [0, *(t for t in range(1, len(path)) if path[t] != path[t - 1]), len(path)]
    total, before = 0.0, None
    with np.errstate(divide="ignore"):
        for begin, end in pairwise(cuts):
            k, u = path[begin], end - begin
            total += np.log(params.initial[k]) if before is None else np.log(params.transition[before, k])
            chance = p[k, u - 1 :].sum() if end == len(path) else (p[k, u - 1] if u <= d else 0.0)
            total, before = total + np.log(chance), k
    return total


def paths(case, d):
    """(params, data (n, T, .)) -> (n,) by the sum over all K^T paths."""

    def total(params, y):
        n, steps, columns = y.shape
        emission = case.oracle(params.emissions, y.reshape(-1, columns)).reshape(n, steps, -1)
        out = np.full(n, -np.inf)
        for path in product(range(emission.shape[2]), repeat=steps):
            own = log_path(params, path, d) + sum(emission[:, t, k] for t, k in enumerate(path))
            out = np.logaddexp(out, own)
        return out

    return total


def row(name, case, duration, *, d=3, **more):
    kinds = {PoissonDuration: "poisson", NegativeBinomialDuration: "negative_binomial", CategoricalDuration: "categorical"}
    model = HiddenSemiMarkov(more.pop("family"), K, kinds[type(duration)], d, prior=more.pop("prior", None))

    def start():
        return HiddenSemiMarkovParams(INITIAL, FOLLOWS, duration, case.start())

    return Row(name, model, sequences(case, 0.1), start, case.oracle, total=paths(case, d), **more)


COUNTS = named(poisson.ROWS, "mixture-poisson")
FULL = named(gaussian.ROWS, "mixture-full")
PRIOR = HiddenSemiMarkovPrior(2.0, 1.5, 1.5, GammaPrior(2.0, 0.4))
VARIED = NegativeBinomialDuration(np.array([0.5, 1.5, 3.0]), np.array([0.3, 1.0, 0.5]))

ROWS = [
    row("hidden-semi-markov-poisson", COUNTS, PoissonDuration(np.array([0.5, 1.5, 3.0])), family=Poisson()),
    row("hidden-semi-markov-categorical", COUNTS, CategoricalDuration(LASTING), family=Poisson(), prior=PRIOR, slow=True),
    row("hidden-semi-markov-negative-binomial", FULL, VARIED, d=6, family=Gaussian(), slow=True),
]
