"""Directions in three dimensions, with holes; scipy stands opposite, quadrature where cells are missing."""

from dataclasses import replace

import numpy as np
from scipy import integrate, stats
from table import K, Row, one_state, with_holes

from jaxem import Mixture, Single, VonMisesFisher, VonMisesFisherParams

DIRECTIONS = np.array([[2.0, 1.0, 0.0], [-1.0, 2.0, 1.0], [0.0, -1.0, 2.0]]) / 5**0.5
DIRECTIONS[1] *= (5 / 6) ** 0.5
KAPPAS = np.array([4.0, 8.0, 2.0])


def simulate(n, seed=0, holes=0.2):
    rng = np.random.default_rng(seed)
    z = rng.integers(K, size=n)
    y = np.stack([stats.vonmises_fisher(DIRECTIONS[k], KAPPAS[k]).rvs(1, random_state=rng)[0] for k in z])
    return with_holes(y, holes, seed)


def start():
    moved = DIRECTIONS + 0.1 * np.array([[0.0, 1.0, 1.0]])
    return VonMisesFisherParams(moved / np.linalg.norm(moved, axis=1, keepdims=True), 1.2 * KAPPAS)


def marginal_log_density(distribution, row):
    """Integral of the density over the missing cells of a direction in three dimensions."""
    seen = np.flatnonzero(~np.isnan(row))
    gone = np.flatnonzero(np.isnan(row))
    rho = np.sqrt(1 - (row[seen] ** 2).sum())
    full = row.copy()
    if len(gone) == 1:  # two points, each with the surface element 1 / rho
        ends = []
        for sign in (-1, 1):
            full[gone] = sign * rho
            ends.append(distribution.logpdf(full))
        return np.logaddexp(*ends) - np.log(rho)

    def density(angle):  # a circle of radius rho; the surface element is its angle
        full[gone] = rho * np.cos(angle), rho * np.sin(angle)
        return distribution.pdf(full)

    return np.log(integrate.quad(density, 0, 2 * np.pi, epsabs=0, epsrel=1e-12)[0])


def oracle(params, y):
    y = np.asarray(y, np.float64)
    out = np.zeros((len(y), len(params.direction)))
    for k, (direction, kappa) in enumerate(zip(params.direction, params.concentration, strict=True)):
        direction = np.asarray(direction, np.float64)
        distribution = stats.vonmises_fisher(direction / np.linalg.norm(direction), float(kappa))
        for i, row in enumerate(y):
            if np.isnan(row).all():
                continue
            whole = not np.isnan(row).any()
            out[i, k] = distribution.logpdf(row / np.linalg.norm(row)) if whole else marginal_log_density(distribution, row)
    return out


MODEL, SINGLE = Mixture(VonMisesFisher(), K), Single(VonMisesFisher())
MIXTURE = Row("mixture-von-mises-fisher", MODEL, simulate, start, oracle)

ROWS = [
    MIXTURE,
    replace(
        MIXTURE, name="single-von-mises-fisher", model=SINGLE, start=lambda: one_state(start(), SINGLE), slow=True,
        simulate=lambda n, seed=0: simulate(n, seed, holes=0.0),
    ),
]  # fmt: skip
