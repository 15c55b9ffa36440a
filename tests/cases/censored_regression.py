"""Censored and truncated regressions of five distributions; scipy stands opposite, with log-probabilities of both tails."""

from dataclasses import replace

import numpy as np
from scipy import special, stats
from table import K, Row, one_state

from cases.linear_regression import covariates, predictor
from jaxem import CensoredRegression, CensoredRegressionParams, Interval, LinearRegressionParams, Mixture, Regression, Single

SLOPES = np.array([[0.8, -0.4], [-0.8, 0.4], [0.2, 0.9]])
INTERCEPTS = np.array([-3.0, 4.0, 0.5])
SCALES = np.array([0.4, 0.5, 0.45])
ERRORS = {"normal": stats.norm, "lognormal": stats.norm, "loglogistic": stats.logistic}  # the rest: smallest extreme values


def errors_of(distribution):
    return ERRORS.get(distribution, stats.gumbel_l)


def simulate(distribution, n, seed=0, entry=False, plain=False, states=K):
    """One cell in three each exact, right-censored and in an interval, a few left-censored, a few missing."""
    x, rng = covariates(n, seed)
    z = rng.integers(states, size=n)
    eta = INTERCEPTS[z] if plain else (x * SLOPES[z]).sum(axis=1) + INTERCEPTS[z]
    scale = 1.0 if distribution == "exponential" else SCALES[z]
    y = eta + scale * errors_of(distribution).rvs(size=n, random_state=rng)
    kind, width = rng.choice(5, p=[0.45, 0.2, 0.2, 0.1, 0.05], size=n), rng.uniform(0.3, 1.0, size=n)
    lower = np.choose(kind, [y, y - 0.2 * width, y - 0.4 * width, np.full(n, -np.inf), np.full(n, -np.inf)])
    upper = np.choose(kind, [y, np.full(n, np.inf), y + 0.6 * width, y + 0.3 * width, np.full(n, np.inf)])
    entered = np.where(rng.random(n) < 0.5, np.where(np.isfinite(lower), lower, y) - rng.exponential(1, n), -np.inf)
    if distribution != "normal":
        lower, upper, entered = np.exp(lower), np.exp(upper), np.exp(entered)
    return Regression(Interval(lower, upper, entered if entry else None), None if plain else x)


def between(errors, a, b):
    """log P(a < e < b), from the side of the nearer tail."""
    flip = a + b > 0
    near = np.where(flip, errors.logsf(a), errors.logcdf(b))
    far = np.where(flip, errors.logsf(b), errors.logcdf(a))
    return special.logsumexp([near, far], b=[np.ones_like(near), -np.ones_like(far)], axis=0)


def oracle(distribution):
    errors, times = errors_of(distribution), distribution != "normal"

    def log_prob(params, data):
        lower, upper = (np.asarray(end, np.float64)[:, None] for end in (data.y.lower, data.y.upper))
        n, states = len(lower), len(np.asarray(params.coefficients))
        eta = predictor(params, replace(data, x=np.zeros((n, 0)) if data.x is None else data.x)).reshape(n, states)
        spread = np.asarray(params[-1], np.float64)
        scale = np.ones(states) if distribution == "exponential" else spread if times else np.sqrt(spread)
        never = np.full(n, 0 if times else -np.inf)
        entry = np.asarray(never if data.y.entry is None else data.y.entry, np.float64)[:, None]
        exact = lower == upper
        missing = ((lower <= 0) if times else np.isneginf(lower)) & np.isposinf(upper)
        start = np.where(exact, lower, np.maximum(lower, entry))
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b, e = ((np.log(end) if times else end) for end in (start, upper, entry))
            a, b, e = (a - eta) / scale, (b - eta) / scale, (e - eta) / scale
            point = errors.logpdf(a) - np.log(scale) - (np.log(lower) if times else 0)
            out = np.where(exact, point, between(errors, a, b)) - errors.logsf(e)
        return np.where(missing, 0, out)

    return log_prob


def start(distribution, plain=False):
    scale = np.zeros((K, 0)) if distribution == "exponential" else 1.2 * SCALES
    slopes = np.zeros((K, 0)) if plain else 1.1 * SLOPES
    if distribution == "normal":
        return LinearRegressionParams(slopes, 0.9 * INTERCEPTS, scale**2)
    return CensoredRegressionParams(slopes, 0.9 * INTERCEPTS, scale)


def row(distribution, entry=False, plain=False, shift=0, **more):
    name = f"mixture-censored-{distribution}" + "-entry" * entry + "-plain" * plain
    model = Mixture(CensoredRegression(distribution), K)

    def data(n, seed=0):
        return simulate(distribution, n, seed + shift, entry, plain)

    return Row(name, model, data, lambda: start(distribution, plain), oracle(distribution), **more)


NORMAL = row("normal")
SINGLE = Single(CensoredRegression("weibull"))

ROWS = [
    NORMAL,
    row("weibull", entry=True, slow=True),
    row("lognormal", entry=True, shift=2, rare=True),
    row("loglogistic", rare=True),
    row("exponential", entry=True, rare=True),
    row("normal", plain=True, slow=True),
    replace(NORMAL, name="single-censored-weibull", model=SINGLE, slow=True, oracle=oracle("weibull"),
            simulate=lambda n, seed=0: simulate("weibull", n, seed, states=1), start=lambda: one_state(start("weibull"), SINGLE)),
]  # fmt: skip
