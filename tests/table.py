"""The one table of models. A new family or model is a row here and gets every law."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxem
from jaxem import Gaussian, GaussianParams, Mixture, MixtureParams, MixturePrior, NormalInverseWishart, Single

DTYPES = ("float32", "float64")
K, D, N = 3, 3, 60

CENTRES = 0.6 * np.array([[-3.0, 0.0, 1.0], [2.0, 3.0, 0.0], [1.0, -3.0, 4.0]])
MIX = np.array([[[1.0, 0.2, 0.0], [0.0, 0.8, 0.3], [0.0, 0.0, 1.2]], np.eye(3), np.diag([0.6, 1.4, 1.0])])


def simulate(n=N, seed=0, holes=0.25, offset=5.0):
    """Rows of three overlapping Gaussians off the origin, with holes in any pattern."""
    rng = np.random.default_rng(seed)
    z = rng.integers(K, size=n)
    y = offset + CENTRES[z] + np.einsum("nij,nj->ni", MIX[z], rng.normal(size=(n, D)))
    y[rng.random(y.shape) < holes] = np.nan
    return y


def gaussian_oracle(kind):
    """scipy's log-density (n, K) of the observed cells of each row."""

    def covariance(params, k):
        value = np.asarray(params.covariance, np.float64)
        d = np.asarray(params.mean).shape[1]
        return {"full": lambda: value[k], "tied": lambda: value, "diagonal": lambda: np.diag(value[k]),
                "spherical": lambda: value[k] * np.eye(d)}[kind]()  # fmt: skip

    def log_prob(params, y):
        mean = np.asarray(params.mean, np.float64)
        out = np.zeros((len(y), len(mean)))
        for i, row in enumerate(np.asarray(y, np.float64)):
            seen = np.flatnonzero(~np.isnan(row))
            for k in range(len(mean)):
                if seen.size:
                    block = covariance(params, k)[np.ix_(seen, seen)]
                    out[i, k] = stats.multivariate_normal(mean[k, seen], block).logpdf(row[seen])
        return out

    return log_prob


@dataclass(frozen=True)
class Row:
    """A model, data for it, and an independent log-density."""

    name: str
    model: Any
    oracle: Any  # (params of states, y) -> (n, K) log-densities
    holes: float = 0.25

    def data(self, dtype, n=N, seed=0):
        y = simulate(n, seed, self.holes)
        return y.astype(dtype)

    def weights(self, dtype, n=N):
        return np.random.default_rng(9).integers(0, 4, size=n).astype(dtype)

    def start(self, dtype):
        return start_of(self, dtype)

    def oracle_log_likelihood(self, params, y):
        """(n,) log-likelihood of each row by scipy."""
        if isinstance(self.model, Mixture):
            joint = self.oracle(params.components, y) + np.log(np.asarray(params.weights, np.float64))
            return np.logaddexp.reduce(joint, axis=1)
        states = jax.tree.map(lambda domain, x: x[None] if domain.state_axes else x, self.model.domains, params)
        return self.oracle(states, y)[:, 0]


def start_of(row, dtype):
    """Params near the truth, neither stationary nor extreme; written down, so that no start has to be compiled."""
    spread = 1.3 * np.einsum("kij,klj->kil", MIX, MIX)
    covariance = {
        "full": spread,
        "tied": spread.mean(axis=0),
        "diagonal": np.einsum("kii->ki", spread),
        "spherical": np.einsum("kii->k", spread) / D,
    }[row.model.family.covariance]
    states = GaussianParams(5.4 + 0.8 * CENTRES, covariance)
    if isinstance(row.model, Single):
        one = jax.tree.map(lambda domain, x: x[0] if domain.state_axes else x, row.model.domains, states)
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), one)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), MixtureParams(np.array([0.3, 0.5, 0.2]), states))


def prior(kind, single=False, shrinkage=0.3):
    wishart = NormalInverseWishart(
        mean=jnp.asarray([5.0, 6.0, 4.0]), shrinkage=jnp.asarray(shrinkage), dof=jnp.asarray(6.0),
        scale=jnp.asarray([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 1.5]]),
    )  # fmt: skip
    return wishart if single else MixturePrior(jnp.asarray(1.7), wishart)


def rows():
    out = []
    for kind in jaxem.families.gaussian.COVARIANCES:
        oracle = gaussian_oracle(kind)
        base = Row(f"mixture-{kind}", Mixture(Gaussian(kind), K), oracle)
        out += [
            base,
            replace(base, name=f"mixture-{kind}-whitened", model=Mixture(Gaussian(kind, kernel="whitened"), K)),
            replace(base, name=f"mixture-{kind}-prior", model=Mixture(Gaussian(kind), K, prior=prior(kind))),
            replace(base, name=f"single-{kind}", model=Single(Gaussian(kind))),
        ]
    out += [replace(row, name=row.name + "-complete", holes=0.0) for row in out if row.name in ("mixture-full", "mixture-diagonal")]
    out.append(Row("single-full-prior", Single(Gaussian(), prior=prior("full", True, 0.0)), gaussian_oracle("full")))
    return out


ROWS = rows()


def every(test):
    """Runs a law on every row in both precisions; its id names model and dtype."""
    cases = [
        pytest.param(row, dtype, id=f"{row.name}-{dtype}", marks=pytest.mark.xdist_group(row.name))
        for row in ROWS
        for dtype in DTYPES
    ]
    return pytest.mark.parametrize(("row", "dtype"), cases)(test)


def eps(dtype):
    return float(np.finfo(dtype).eps)
