"""Gaussian rows whose covariances share volume, shape or orientation, with holes, priors and one state; scipy stands opposite."""

from dataclasses import replace

import numpy as np
from scipy import stats
from scipy.spatial.transform import Rotation
from table import K, Row, one_state

from cases import hidden_markov
from cases.gaussian import CENTRES, D, prior, simulate
from jaxem import Gaussian, GaussianParams, HiddenMarkov, Mixture, Single

COUPLED = ("VEI", "EVI", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV")
OTHERS = ("EII", "EEI")  # VII, VVI, EEE and VVV are the four words
VOLUMES = np.array([0.9, 1.4, 0.7])
ASPECTS = np.array([[2.0, 0.8, 0.625], [1.2, 1.5, 1 / 1.8], [3.0, 0.5, 1 / 1.5]])  # of product 1
TURNS = Rotation.from_rotvec([[0.3, -0.4, 0.5], [-0.6, 0.2, 0.1], [0.2, 0.9, -0.3]]).as_matrix()


def matrices(name):
    """Covariances (K, d, d) put together from their parts."""
    volume, aspect, turn = (
        np.broadcast_to(part[:1] if letter == "E" else part, part.shape)
        for letter, part in zip(name, (VOLUMES, ASPECTS, TURNS), strict=True)
    )
    aspect = np.ones_like(aspect) if name[1] == "I" else aspect
    turn = np.broadcast_to(np.eye(D), turn.shape) if name[2] == "I" else turn
    return np.einsum("k,kij,kj,klj->kil", volume, turn, aspect, turn)


def leaf(name):
    """The same as the params hold them."""
    whole = matrices(name)
    if name == "EII":
        return whole[0, 0, 0]
    if name[2] == "I":
        whole = np.einsum("kii->ki", whole)
    return whole[0] if "V" not in name else whole


def start(name):
    return GaussianParams(5.4 + 0.8 * CENTRES, leaf(name))


def dense(name, params):
    """(K, d, d) from the leaf."""
    n_states, d = np.shape(params.mean)
    value = np.asarray(params.covariance, np.float64)
    if name[2] == "I":
        value = (value[..., None, None] if name[1] == "I" else value[..., None]) * np.eye(d)  # one variance, or one a column
    return np.broadcast_to(value, (n_states, d, d))


def oracle(name):
    def log_prob(params, y):
        mean, spread = np.asarray(params.mean, np.float64), dense(name, params)
        out = np.zeros((len(y), len(mean)))
        for i, row in enumerate(np.asarray(y, np.float64)):
            seen = np.flatnonzero(~np.isnan(row))
            for k in range(len(mean)):
                if seen.size:
                    out[i, k] = stats.multivariate_normal(mean[k, seen], spread[k][np.ix_(seen, seen)]).logpdf(row[seen])
        return out

    return log_prob


def marginal(name):
    def keep_columns(params, keep):
        value = np.asarray(params.covariance)
        if name[2] != "I":
            value = value[..., keep, :]
        return GaussianParams(np.asarray(params.mean)[..., keep], value[..., keep] if name != "EII" else value)

    return keep_columns


def rows():
    out = []
    for name in (*OTHERS, *COUPLED):
        row = Row(
            f"mixture-gaussian-{name.lower()}", Mixture(Gaussian(name), K), simulate, lambda name=name: start(name), oracle(name),
            marginal(name), rare=name != "VEV",
        )  # fmt: skip
        out.append(row)
        if name in ("EEI", "VEI", "EVI", "VVE", "VEV"):
            held = Mixture(Gaussian(name), K, prior=prior())
            out.append(replace(row, name=f"{row.name}-prior", model=held, rare=True))
        if name in ("EVI", "EEV"):
            single = Single(Gaussian(name))
            begin = lambda name=name, single=single: one_state(start(name), single)  # noqa: E731
            out.append(replace(row, name=f"single-gaussian-{name.lower()}", model=single, start=begin, rare=True))
        if name in ("EVE", "VEV"):
            whitened = Mixture(Gaussian(name, kernel="whitened"), K)
            out.append(replace(row, name=f"{row.name}-whitened", model=whitened, rare=True))
            chain = HiddenMarkov(Gaussian(name), K)
            out.append(Row(
                f"hidden-markov-gaussian-{name.lower()}", chain, hidden_markov.sequences(row, 0.1), hidden_markov.start(row),
                row.oracle, total=hidden_markov.paths(row), rare=True,
            ))  # fmt: skip
    return out


ROWS = rows()
