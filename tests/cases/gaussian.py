"""Gaussian rows of every covariance kind, both kernels, with and without priors and holes; scipy stands opposite."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from scipy import stats
from table import K, Row, one_state, with_holes

from jaxem import Gaussian, GaussianParams, Mixture, MixturePrior, NormalInverseWishart, Single
from jaxem.families.gaussian import COVARIANCES

D = 3
CENTRES = 0.6 * np.array([[-3.0, 0.0, 1.0], [2.0, 3.0, 0.0], [1.0, -3.0, 4.0]])
MIX = np.array([[[1.0, 0.2, 0.0], [0.0, 0.8, 0.3], [0.0, 0.0, 1.2]], np.eye(3), np.diag([0.6, 1.4, 1.0])])


def simulate(n, seed=0, holes=0.25, offset=5.0):
    """Rows of three overlapping Gaussians off the origin, with holes in any pattern."""
    rng = np.random.default_rng(seed)
    z = rng.integers(K, size=n)
    y = offset + CENTRES[z] + np.einsum("nij,nj->ni", MIX[z], rng.normal(size=(n, D)))
    return with_holes(y, holes, seed)


def covariance_of(kind, params, k):
    """(d, d) of state k."""
    value, d = np.asarray(params.covariance, np.float64), np.shape(params.mean)[1]
    return {"full": lambda: value[k], "tied": lambda: value, "diagonal": lambda: np.diag(value[k]),
            "spherical": lambda: value[k] * np.eye(d)}[kind]()  # fmt: skip


def oracle(kind):
    """scipy's log-density (n, K) of the observed cells of each row."""

    def log_prob(params, y):
        mean = np.asarray(params.mean, np.float64)
        out = np.zeros((len(y), len(mean)))
        for i, row in enumerate(np.asarray(y, np.float64)):
            seen = np.flatnonzero(~np.isnan(row))
            for k in range(len(mean)):
                if seen.size:
                    block = covariance_of(kind, params, k)[np.ix_(seen, seen)]
                    out[i, k] = stats.multivariate_normal(mean[k, seen], block).logpdf(row[seen])
        return out

    return log_prob


def start(kind):
    spread = 1.3 * np.einsum("kij,klj->kil", MIX, MIX)
    covariance = {
        "full": spread,
        "tied": spread.mean(axis=0),
        "diagonal": np.einsum("kii->ki", spread),
        "spherical": np.einsum("kii->k", spread) / D,
    }[kind]
    return GaussianParams(5.4 + 0.8 * CENTRES, covariance)


def marginal(kind):
    def keep_columns(params, keep):
        covariance = np.asarray(params.covariance)
        if kind in ("full", "tied"):
            covariance = covariance[..., keep, :][..., keep]
        elif kind == "diagonal":
            covariance = covariance[..., keep]
        return GaussianParams(np.asarray(params.mean)[..., keep], covariance)

    return keep_columns


def prior(single=False, shrinkage=0.3):
    wishart = NormalInverseWishart(
        mean=jnp.asarray([5.0, 6.0, 4.0]), shrinkage=jnp.asarray(shrinkage), dof=jnp.asarray(6.0),
        scale=jnp.asarray([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 1.5]]),
    )  # fmt: skip
    return wishart if single else MixturePrior(jnp.asarray(1.7), wishart)


def rows():
    out = []
    for kind in COVARIANCES:
        base = Row(
            f"mixture-{kind}", Mixture(Gaussian(kind), K), simulate, lambda kind=kind: start(kind), oracle(kind), marginal(kind),
            core=kind == "full", slow=kind == "tied", rare=kind == "spherical",
        )  # fmt: skip
        single = Single(Gaussian(kind))
        rest = kind != "full"
        out += [
            base,
            replace(base, name=f"{base.name}-whitened", model=Mixture(Gaussian(kind, kernel="whitened"), K), slow=rest,
                    rare=kind in ("diagonal", "spherical")),
            replace(base, name=f"{base.name}-prior", model=Mixture(Gaussian(kind), K, prior=prior()), slow=rest, core=False),
            replace(
                base, name=f"single-{kind}", model=single, slow=True, core=False,
                start=lambda kind=kind, single=single: one_state(start(kind), single),
            ),
        ]  # fmt: skip
    complete = {"simulate": lambda n, seed=0: simulate(n, seed, holes=0.0), "slow": True}
    out += [replace(r, name=r.name + "-complete", **complete) for r in out if r.name in ("mixture-full", "mixture-diagonal")]
    single = next(r for r in out if r.name == "single-full")
    return [*out, replace(single, name="single-full-prior", model=Single(Gaussian(), prior=prior(True, 0.0)), slow=True)]


ROWS = rows()
