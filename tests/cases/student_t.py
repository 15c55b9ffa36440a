"""t rows with holes; scipy stands opposite, observed cells by observed cells."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from scipy import stats
from table import K, Row, one_state, with_holes

from cases import gaussian
from jaxem import GaussianParams, Mixture, MixturePrior, Single, StudentT, StudentTParams

DOF = np.array([2.5, 6.0, 30.0])


def simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.integers(K, size=n)
    u = rng.chisquare(DOF[z]) / DOF[z]
    noise = np.einsum("nij,nj->ni", gaussian.MIX[z], rng.normal(size=(n, gaussian.D)))
    return with_holes(5 + gaussian.CENTRES[z] + noise / np.sqrt(u)[:, None], 0.2, seed)


def oracle(kind):
    def log_prob(params, y):
        mean = np.asarray(params.mean, np.float64)
        dof = np.broadcast_to(np.asarray(params.dof, np.float64), len(mean))
        as_gaussian = GaussianParams(params.mean, params.scale)
        out = np.zeros((len(y), len(mean)))
        for i, row in enumerate(np.asarray(y, np.float64)):
            seen = np.flatnonzero(~np.isnan(row))
            for k in range(len(mean)):
                if seen.size:
                    block = gaussian.covariance_of(kind, as_gaussian, k)[np.ix_(seen, seen)]
                    out[i, k] = stats.multivariate_t(mean[k, seen], block, df=dof[k]).logpdf(row[seen])
        return out

    return log_prob


def start(kind, dof=1.4 * DOF):
    return StudentTParams(*gaussian.start(kind), np.asarray(dof))


def marginal(kind):
    def keep_columns(params, keep):
        return StudentTParams(*gaussian.marginal(kind)(GaussianParams(params.mean, params.scale), keep), params.dof)

    return keep_columns


def row(kind, dof, start_dof, **more):
    model = Mixture(StudentT(kind, dof), K)
    name = f"mixture-student-{kind}-{dof}"
    return Row(name, model, simulate, lambda: start(kind, start_dof), oracle(kind), marginal(kind), **more)


FREE = row("full", "free", 1.4 * DOF)
SINGLE = Single(StudentT("full", "free"))
PRIOR = MixturePrior(jnp.asarray(1.5), gaussian.prior(single=True))

ROWS = [
    FREE,
    row("tied", "common", 5.0, slow=True),
    row("diagonal", 4.0, 4.0, rare=True),
    row("spherical", "common", 5.0, rare=True),
    replace(FREE, name="mixture-student-prior", model=Mixture(StudentT(dof=4.0), K, prior=PRIOR), slow=True,
            start=lambda: start("full", 4.0)),
    replace(FREE, name="single-student", model=SINGLE, start=lambda: one_state(start("full"), SINGLE), slow=True),
]  # fmt: skip
