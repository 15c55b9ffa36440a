"""Gaussian rows in which cells are exact, missing, or left-, right- or interval-censored; scipy integrates."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy import integrate, special, stats
from table import K, Row, one_state

from cases import gaussian
from jaxem import Gaussian, Interval, Mixture, Single


def simulate(n, seed=0, share=0.35):
    """Rows of `gaussian.simulate`, some of whose cells are only known to lie on one side of a limit or between two."""
    y = gaussian.simulate(n, seed, holes=0.15)[:, :2]
    rng = np.random.default_rng(seed + 5)
    kind = np.where(rng.random(y.shape) < share, rng.integers(1, 4, y.shape), 0)
    gap = rng.exponential(1.0, y.shape)
    lower = np.where(kind == 1, -np.inf, np.where(kind > 1, y - gap, y))
    upper = np.where(kind == 3, np.inf, np.where((kind == 1) | (kind == 2), y + gap, y))
    return Interval(np.where(np.isnan(y), -np.inf, lower), np.where(np.isnan(y), np.inf, upper))


def log_interval(a, b):
    """log(Phi(b) - Phi(a))."""
    a, b = (-b, -a) if a > 0 else (a, b)
    return special.log_ndtr(b) + np.log1p(-np.exp(special.log_ndtr(a) - special.log_ndtr(b)))


def log_rectangle(lower, upper, mean, covariance):
    """log P(lower <= x <= upper) of one or two cells: the second given the first by the normal's tails, the first by quadrature."""
    scale = np.sqrt(covariance[0, 0])
    if len(mean) == 1:
        return log_interval((lower[0] - mean[0]) / scale, (upper[0] - mean[0]) / scale)
    slope = covariance[0, 1] / covariance[0, 0]
    rest = np.sqrt(covariance[1, 1] - slope * covariance[0, 1])

    def density(x):
        centre = mean[1] + slope * (x - mean[0])
        inside = log_interval((lower[1] - centre) / rest, (upper[1] - centre) / rest)
        return np.exp(inside + stats.norm(mean[0], scale).logpdf(x))

    ends = np.clip([lower[0], upper[0]], mean[0] - 10 * scale, mean[0] + 10 * scale)
    cuts = np.linspace(*ends, 5)
    return np.log(sum(integrate.quad(density, a, b, epsabs=0, epsrel=1e-12)[0] for a, b in pairwise(cuts)))


def oracle(kind):
    def log_prob(params, data):
        mean = np.asarray(params.mean, np.float64)
        lower, upper = np.asarray(data.lower, np.float64), np.asarray(data.upper, np.float64)
        out = np.zeros((len(lower), len(mean)))
        for i, (low, high) in enumerate(zip(lower, upper, strict=True)):
            exact = np.flatnonzero(low == high)
            inside = np.flatnonzero((low < high) & (np.isfinite(low) | np.isfinite(high)))
            for k in range(len(mean)):
                covariance, centre = gaussian.covariance_of(kind, params, k), mean[k]
                if exact.size:
                    block = covariance[np.ix_(exact, exact)]
                    out[i, k] = stats.multivariate_normal(centre[exact], block).logpdf(low[exact])
                    gain = np.linalg.solve(block, covariance[np.ix_(exact, inside)]).T
                    centre = centre.copy()
                    centre[inside] += gain @ (low[exact] - mean[k, exact])
                    covariance = covariance.copy()
                    covariance[np.ix_(inside, inside)] -= gain @ block @ gain.T
                if inside.size:
                    out[i, k] += log_rectangle(low[inside], high[inside], centre[inside], covariance[np.ix_(inside, inside)])
        return out

    return log_prob


def start(kind):
    return gaussian.marginal(kind)(gaussian.start(kind), np.arange(2))


def rows():
    out = []
    for kind in ("full", "tied", "diagonal", "spherical"):
        single = Single(Gaussian(kind))
        base = Row(
            f"mixture-interval-{kind}", Mixture(Gaussian(kind), K), simulate, lambda kind=kind: start(kind), oracle(kind), None,
            slow=kind == "full", rare=kind in ("tied", "spherical"),
        )  # fmt: skip
        out += [
            base,
            replace(
                base, name=f"single-interval-{kind}", model=single, slow=True,
                start=lambda kind=kind, single=single: one_state(start(kind), single),
            ),
        ]  # fmt: skip
    return out


ROWS = rows()
