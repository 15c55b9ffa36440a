"""Rows whose covariance comes from factors, with holes; scipy stands opposite, observed cells by observed cells."""

from dataclasses import replace

import numpy as np
from scipy import stats
from table import K, Row, one_state, with_holes

from jaxem import FactorGaussian, FactorGaussianParams, IsotropicFactorParams, Mixture, Single

CENTRES = np.array([[2.0, 5.0, 4.0, 6.0], [7.0, 8.0, 3.0, 2.0], [5.0, 2.0, 8.0, 9.0]])
LOADINGS = np.array([[1.0, 0.8, -0.7, 0.9], [0.9, -0.8, 1.0, 0.6], [0.7, 1.1, 0.8, -0.9]])[..., None]
UNIQUENESSES = np.array([[0.5, 0.6, 0.8, 0.7], [0.8, 0.5, 0.6, 0.9], [0.6, 0.7, 0.5, 0.8]])
TWO = np.array([[0.9, 0.0], [0.8, 0.3], [0.7, -0.2], [0.1, 0.9], [0.2, 0.8], [-0.3, 0.7]])  # six columns, two factors


def own_of(params):
    """(K, d) variances given the factors."""
    own = params.variance[:, None] if hasattr(params, "variance") else params.uniquenesses
    return np.broadcast_to(np.asarray(own, np.float64), np.shape(params.mean))


def covariances(params):
    loadings = np.asarray(params.loadings, np.float64)
    return np.einsum("kiq,kjq->kij", loadings, loadings) + np.einsum("kj,ij->kij", own_of(params), np.eye(loadings.shape[1]))


def oracle(params, y):
    mean, spread = np.asarray(params.mean, np.float64), covariances(params)
    out = np.zeros((len(y), len(mean)))
    for i, row in enumerate(np.asarray(y, np.float64)):
        seen = np.flatnonzero(~np.isnan(row))
        for k in range(len(mean)):
            if seen.size:
                out[i, k] = stats.multivariate_normal(mean[k, seen], spread[k][np.ix_(seen, seen)]).logpdf(row[seen])
    return out


def marginal(params, keep):
    """Loadings of fewer columns, in whatever rotation they then are."""
    own = params[-1] if hasattr(params, "variance") else params.uniquenesses[..., keep]
    return type(params)(params.mean[..., keep], params.loadings[..., keep, :], own)


def simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.integers(K, size=n)
    factors = rng.normal(size=(n, 1))
    noise = np.sqrt(UNIQUENESSES)[z] * rng.normal(size=(n, 4))
    return with_holes(CENTRES[z] + np.einsum("njq,nq->nj", LOADINGS[z], factors) + noise, 0.1, seed)


def simulate_two(n, seed=0):
    rng = np.random.default_rng(seed)
    return with_holes(5 + rng.normal(size=(n, 2)) @ TWO.T + 0.7 * rng.normal(size=(n, 6)), 0.1, seed)


def start():
    return FactorGaussianParams(0.9 * CENTRES + 0.5, 0.9 * LOADINGS, 1.3 * UNIQUENESSES)


def start_isotropic():
    return IsotropicFactorParams(0.9 * CENTRES + 0.5, 0.9 * LOADINGS, UNIQUENESSES.mean(axis=1))


def start_two():
    return FactorGaussianParams(np.full(6, 5.2), 0.9 * TWO, np.linspace(0.3, 0.8, 6))


# shaky: uniquenesses of the smallest component come of some 12 rows, whose curvature hardly holds them
FACTORS = Row("mixture-factors", Mixture(FactorGaussian(1), K), simulate, start, oracle, marginal, shaky=4.0)
TWO_FACTORS = Row("single-factors", Single(FactorGaussian(2)), simulate_two, start_two, oracle, marginal, slow=True)
PPCA = Single(FactorGaussian(1, isotropic=True))

ROWS = [
    FACTORS,
    replace(FACTORS, name="mixture-factors-isotropic", model=Mixture(FactorGaussian(1, isotropic=True), K), start=start_isotropic,
            slow=True),
    TWO_FACTORS,
    replace(FACTORS, name="single-factors-isotropic", model=PPCA, start=lambda: one_state(start_isotropic(), PPCA), slow=True),
]  # fmt: skip
