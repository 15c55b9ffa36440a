"""`check_model` passes what is right and names what is wrong: each faulty model has one seeded fault."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gaussian
from cases import latent as mine
from jax.scipy.stats import norm
from table import some

from jaxem import Gaussian, Latent, Mixture, Poisson, Single, check_model
from jaxem.domains import Positive, Real, Unit
from jaxem.families.exponential_family import Totals
from jaxem.kernels import exponential

Y = np.random.default_rng(0).poisson([[2.0, 7.0]], (60, 2)).astype(float)
COUNTS = mine.zip_simulate(60).astype(int)


def registered(cls):
    cls = dataclasses.dataclass(frozen=True)(cls)
    jax.tree_util.register_dataclass(cls, data_fields=(), meta_fields=())
    return cls


@registered
class WrongMStep(Poisson):
    def maximize(self, params, statistics, prior):
        best = super().maximize(params, statistics, prior)
        return best._replace(rate=1.2 * best.rate)


@registered
class Unnormalised(Poisson):
    def natural(self, params, n_features):
        return super().natural(params, n_features).at[:, -1].multiply(0.5)


@registered
class Averages(Poisson):
    def sums(self, bound, cells, r):
        return Totals(exponential.sums(self.features(bound, cells), r) / r.sum(axis=-1)[..., None])


@registered
class NaNWithoutRows(Poisson):
    def maximize(self, params, statistics, prior):
        totals = statistics.features
        return params._replace(rate=totals[:, :2] / totals[:, -1:])

    def sums(self, bound, cells, r):  # rows of small responsibility are lost altogether
        return super().sums(bound, cells, jnp.where(r > 0.99, r, 0))


class Deaf(Single):
    """Ignores weights."""

    def prepare(self, y, weights=None, sharding=None):
        return super().prepare(y, None, sharding)


jax.tree_util.register_dataclass(Deaf, data_fields=("family", "prior", "fixed"), meta_fields=())


def bump(params, z, y):
    scale = jnp.where(z == 0, 1.0, params["scale"])
    share = jnp.where(z == 0, 1 - params["share"], params["share"])
    return jnp.log(share) + norm.logpdf(y, 0.0, scale)


def no_scale(params, z, y):
    """The logarithm of the scale is forgotten."""
    return bump(params, z, y) + jnp.where(z == 1, jnp.log(params["scale"]), 0.0)


def broken_maximize(sums):
    best = mine.declared_maximize(sums)
    return best | {"rate": best["rate"] + 1}


def broken_expected(params, sums):
    return mine.declared_expected(params, sums) + sums["rows"].sum() * jnp.log(params["rate"][0])


def declared(**changes):
    given = {"statistics": mine.declared_statistics, "maximize": mine.declared_maximize, "expected": mine.declared_expected}
    free = mine.DECLARED.free_domains
    return Latent(mine.declared_joint, free, 3, start=mine.declared_start(), exchangeable=True, **(given | changes))


BUMP = {"scale": Positive(), "share": Unit()}
NORMAL = np.random.default_rng(1).normal(0, 2, 60)
CATEGORIES = mine.declared_simulate(60)

FAULTY = {
    "wrong M-step": (WrongMStep(), Y, {"M-step", "monotone"}, "argmax"),
    "unnormalised": (Unnormalised(), Y, {"density"}, "normalising constant"),
    "averages": (Averages(), Y, {"additive"}, "plain sum over"),
    "lost rows": (NaNWithoutRows(), Y, {"gradient"}, "belong to another density"),
    "deaf": (Deaf(Poisson()), Y, {"weights"}, "weights are ignored"),
    "own maximize": (declared(maximize=broken_maximize), CATEGORIES, {"M-step", "monotone"}, "argmax"),
    "own expected": (declared(expected=broken_expected), CATEGORIES, {"gradient"}, "slope"),
    "own density": (Latent(no_scale, BUMP, 2), NORMAL, {"density"}, "instead of 1"),
}


@pytest.mark.parametrize("name", some(FAULTY, ("wrong M-step", "deaf"), pytest.mark.thorough))
def test_faults_are_named(name):
    model, data, laws, words = FAULTY[name]
    check = check_model(model, data)
    found = {finding.law: finding.sentence for finding in check.failures}
    assert laws <= set(found), str(check)
    assert words in found[min(laws)]
    assert not check.holds
    assert "FAILS" in str(check)


SOUND = {
    "zip": (mine.ZIP, COUNTS),
    "declared": (mine.DECLARED, CATEGORIES),
    "bump": (Latent(bump, BUMP, 2), NORMAL),
    "poisson": (Poisson(), Y),
    "gaussian with holes": (Mixture(Gaussian("diagonal"), 2), gaussian.simulate(60)),
}


@pytest.mark.parametrize("name", some(SOUND, ("zip",)))
def test_sound_models_pass(name):
    check = check_model(*SOUND[name])
    assert check.holds, str(check)
    assert sum(finding.holds is True for finding in check.findings) >= 11


def test_what_a_users_code_raises_is_a_finding():
    def prior(params):
        return jnp.log(params["nowhere"])

    check = check_model(Latent(bump, BUMP, 2, prior=prior), NORMAL)
    assert check.failures[0].sentence.startswith("raised KeyError")


def test_neither_model_nor_family():
    with pytest.raises(TypeError, match=r"give an instance, Poisson\(...\)"):
        check_model(Poisson, Y)
    with pytest.raises(TypeError, match="no e_step"):
        check_model(Real(), Y)
