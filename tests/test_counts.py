"""Counts, categories and directions: a published mixture, the corners of their params, and what is refused."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from table import some

import jaxem
from jaxem import (
    Bernoulli,
    BernoulliParams,
    Categorical,
    CategoricalParams,
    Mixture,
    NegativeBinomial,
    NegativeBinomialParams,
    Poisson,
    PoissonParams,
    Single,
    Status,
    Stop,
    VonMisesFisher,
    VonMisesFisherParams,
)
from jaxem.kernels.bessel import bessel_ratio, log_0f1

DEATHS = Path(__file__).parent / "reference" / "poisson_mixture_london_deaths"


def london():
    with open(DEATHS / "data.csv") as file:
        table = np.array([[float(cell) for cell in row.values()] for row in csv.DictReader(file)])
    return table[:, 0], table[:, 1], json.loads((DEATHS / "expected.json").read_text())


@pytest.mark.parametrize("seed", range(5))
def test_london_deaths(seed):
    """Grouped counts as weights; slow for EM, whose rate here is 0.99."""
    y, weights, expected = london()
    model = Mixture(Poisson(), 2)
    fit = jaxem.fit(model, y, weights=weights, key=seed, restarts=2, stop=Stop(tolerance=1e-9, max_steps=20000))
    assert fit.status == Status.CONVERGED
    assert abs(float(fit.log_likelihood) - expected["logLik"]) < expected["tolerances"]["logLik"]
    np.testing.assert_allclose(fit.params.components.rate[:, 0], expected["params"]["means"], atol=2e-3)
    np.testing.assert_allclose(fit.params.weights, expected["params"]["weights"], atol=2e-3)
    assert model.n_parameters(1) == expected["n_params"]


def test_london_deaths_params_to_the_digit():
    y, weights, expected = london()
    fit = jaxem.fit(Mixture(Poisson(), 2), y, weights=weights, key=0, stop=Stop(1e-9, "parameters", 50000))
    np.testing.assert_allclose(fit.params.components.rate[:, 0], expected["params"]["means"], atol=expected["tolerances"]["params"])
    np.testing.assert_allclose(fit.params.weights, expected["params"]["weights"], atol=expected["tolerances"]["params"])


def test_rate_zero():
    """A column without a count has rate 0 exactly, finite everywhere, and makes a count impossible."""
    y = np.column_stack([np.zeros(20), np.arange(20.0) % 4])
    fit = jaxem.fit(Single(Poisson()), y)
    assert fit.params.rate[0] == 0
    np.testing.assert_allclose(fit.log_likelihood, stats.poisson(1.5).logpmf(y[:, 1]).sum(), rtol=1e-12)
    assert Single(Poisson()).log_likelihood(fit.params, np.array([[1.0, 1.0]])) == -np.inf
    mixed = jaxem.fit(Mixture(Poisson(), 2), np.concatenate([np.zeros(30), np.full(30, 20.0)]), key=0)
    np.testing.assert_allclose(mixed.params.components.rate[:, 0], [0, 20], atol=1e-6)
    assert np.isfinite(mixed.log_likelihood)
    slope = jax.grad(lambda rate: Single(Poisson()).log_likelihood(PoissonParams(rate), y))(fit.params.rate)
    assert np.isfinite(slope).all()


def test_category_never_seen():
    """It keeps probability 0 exactly; a row that has it is impossible, and alone in that."""
    y = np.array([0.0, 0, 1, 1, 1])
    model = Single(Categorical(n_categories=3))
    fit = jaxem.fit(model, y)
    np.testing.assert_allclose(fit.params.probabilities[0], [0.4, 0.6, 0], atol=1e-12)
    assert fit.params.probabilities[0, 2] == 0
    found = model.log_likelihood(fit.params, np.array([0.0, 2.0]), per_row=True)
    np.testing.assert_allclose(found, [np.log(0.4), -np.inf])
    assert not np.isnan(jax.grad(lambda p: model.log_likelihood(CategoricalParams(p), y))(fit.params.probabilities)).any()
    sure = Single(Bernoulli())
    ones = jaxem.fit(sure, np.ones((8, 2)))
    assert (ones.params.probability == 1).all()
    assert ones.log_likelihood == 0
    assert sure.log_likelihood(BernoulliParams(jnp.ones(2)), np.array([[1.0, 0.0]])) == -np.inf


def test_negative_binomial_becomes_poisson():
    y = np.arange(12.0)
    poisson = stats.poisson(4.0).logpmf(y)
    model = Single(NegativeBinomial())
    for dispersion, bound in ((0.0, 1e-13), (1e-12, 1e-9), (1e-8, 1e-6), (1e-4, 1e-2)):
        params = NegativeBinomialParams(jnp.asarray([4.0]), jnp.asarray([dispersion]))
        ours = model.log_likelihood(params, y, per_row=True)
        np.testing.assert_allclose(ours, poisson, rtol=0, atol=bound)
        if dispersion >= 1e-8:  # below, scipy's gamma functions cancel
            size = 1 / dispersion
            np.testing.assert_allclose(ours, stats.nbinom(size, size / (size + 4)).logpmf(y), rtol=0, atol=1e-6)
    under = np.tile([3.0, 4.0, 4.0, 5.0], 10)  # less varied than Poisson counts
    fit = jaxem.fit(model, under)
    assert fit.params.dispersion[0] == 0
    np.testing.assert_allclose(fit.log_likelihood, stats.poisson(4.0).logpmf(under).sum(), rtol=1e-12)


def exact_constant(d, kappa):
    """log C_d in 50 digits."""
    with mpmath.workdps(50):
        nu = mpmath.mpf(d) / 2 - 1
        kappa = mpmath.mpf(kappa)
        scaled = mpmath.log(mpmath.besseli(nu, kappa)) if kappa < 1e3 else None
        if scaled is None:  # Hankel's expansion, far beyond double precision here
            total, term = mpmath.mpf(1), mpmath.mpf(1)
            for k in range(1, 60):
                term *= -(4 * nu**2 - (2 * k - 1) ** 2) / (k * 8 * kappa)
                total += term
                if abs(term) < mpmath.mpf(10) ** -45:
                    break
            scaled = kappa - mpmath.log(2 * mpmath.pi * kappa) / 2 + mpmath.log(total)
        return float(nu * mpmath.log(kappa) - mpmath.mpf(d) / 2 * mpmath.log(2 * mpmath.pi) - scaled + kappa)  # at the mode


@pytest.mark.parametrize("d", [2, 3, 10])
def test_concentration_from_1e_minus_6_to_1e6(d):
    """Log-density at the mode against 50 digits. Rounding of kappa itself: eps kappa."""
    mode = np.eye(d)[:1]
    model = Single(VonMisesFisher())
    for kappa in 10.0 ** np.arange(-6, 7):
        params = VonMisesFisherParams(jnp.asarray(mode[0]), jnp.asarray(kappa))
        found = float(model.log_likelihood(params, mode))
        np.testing.assert_allclose(found, exact_constant(d, kappa), rtol=1e-12, atol=1e-13 + 4e-16 * kappa)
        slope = jax.grad(lambda k: model.log_likelihood(VonMisesFisherParams(jnp.asarray(mode[0]), k), mode))(jnp.asarray(kappa))
        assert np.isfinite(slope)


@pytest.mark.parametrize("kappa", some([1e-6, 1e-2, 1.0, 1e2, 1e4, 1e6], [1.0, 1e6], pytest.mark.thorough))
def test_concentration_is_found_again(kappa):
    """The M-step inverts A_d: rows whose resultant is A_3(kappa) = coth kappa - 1 / kappa give kappa back."""
    with mpmath.workdps(50):
        length = float(mpmath.coth(kappa) - 1 / mpmath.mpf(kappa))
    z, side = length, np.sqrt(max(1 - length**2, 0))
    y = np.array([[side, 0, z], [-side, 0, z], [0, side, z], [0, -side, z]])
    fit = jaxem.fit(Single(VonMisesFisher()), y)
    # 1 - length, of size 1 / kappa, is known to eps; so is length itself, of size kappa / 3
    bound = 1e-9 + 1e-15 * max(kappa, 1 / kappa) * 10
    np.testing.assert_allclose(fit.params.concentration, kappa, rtol=bound)
    np.testing.assert_allclose(fit.params.direction, [0, 0, 1], atol=1e-9 + 1e-15 / kappa)


def test_bessel_kernels_at_both_ends():
    order = 0.5
    for x in (1e-8, 1e-3, 1.0, 50.0, 1e5):
        with mpmath.workdps(50):
            ratio = float(mpmath.coth(x) - 1 / mpmath.mpf(x))
            rest = float(1 - mpmath.coth(x) + 1 / mpmath.mpf(x))
        np.testing.assert_allclose(bessel_ratio(order, jnp.asarray(x)), [ratio, rest], rtol=1e-12)
        assert np.isfinite(log_0f1(order + 1, jnp.asarray(x)))


GOOD = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])

REFUSED = {
    "negative": (lambda: Single(Poisson()).prepare(np.array([[1.0, -2.0]])), ValueError, "the first -2 in row 0, column 1"),
    "fraction": (lambda: Single(Poisson()).prepare([0.5, 1.0]), ValueError, "1 cells are negative or fractional, the first 0.5"),
    "named": (lambda: Single(Poisson()).prepare(pd.DataFrame({"bites": [1.5]})), ValueError, "column 'bites'"),
    "nb": (lambda: Single(NegativeBinomial()).prepare([-1.0]), ValueError, "give whole counts >= 0"),
    "nb fraction": (lambda: Single(NegativeBinomial()).prepare([2.5]), ValueError, "negative or fractional"),
    "bernoulli": (lambda: Single(Bernoulli()).prepare([0.0, 2.0]), ValueError, "the first 2 in row 1"),
    "code": (lambda: Single(Categorical(n_categories=2)).prepare([0.0, 2.0]), ValueError, "beyond its n_categories=2"),
    "negative code": (lambda: Single(Categorical()).prepare([0.0, -1.0]), ValueError, "negative or fractional"),
    "half a code": (lambda: Single(Categorical()).prepare([0.5]), ValueError, "give codes 0, 1, 2, ... or labels"),
    "norm": (lambda: Single(VonMisesFisher()).prepare(np.array([[1.0, 0.0], [3.0, 4.0]])), ValueError, "norm"),
    "norm with a hole": (lambda: Single(VonMisesFisher()).prepare(np.array([[1.5, np.nan], [1.0, 0.0]])), ValueError, "norm"),
    "one column": (lambda: Single(VonMisesFisher()).prepare(np.ones((3, 1))), ValueError, "column"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call()


def test_labels_keep_their_names():
    frame = pd.DataFrame({"colour": ["red", "blue", None, "red"], "size": pd.Categorical(["s", "l", "s", "s"], ["s", "m", "l"])})
    rows = Single(Categorical()).prepare(frame)
    assert rows.labels == (("blue", "red"), ("s", "m", "l"))
    assert rows.size == (2, 3)
    assert float(Single(Categorical()).log_likelihood(jaxem.fit(Single(Categorical()), rows).params, rows)) < 0
