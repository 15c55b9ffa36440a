"""Params held at values or shared by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases.gaussian import simulate
from scipy import optimize, stats

import jaxem
from jaxem import Categorical, Gaussian, Mixture, Poisson, Single, Stop

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(np.array([[2.0, 5.0], [7.0, 1.0]])[RNG.integers(2, size=200)]).astype(float)
TIGHT = Stop(tolerance=1e-10, max_steps=5000)


def test_fixed_cells_stay_and_the_rest_is_the_maximum_of_scipy():
    model = Mixture(Poisson(), 2, fixed={"rate": [[2.0, np.nan], [np.nan, 1.5]]})
    fit = jaxem.fit(model, COUNTS, key=0, restarts=3, stop=TIGHT)
    rate = np.asarray(fit.params.components.rate)
    assert rate[0, 0] == 2.0
    assert rate[1, 1] == 1.5
    assert model.n_parameters(2) == 3

    def loss(v):
        rates = np.array([[2.0, np.exp(v[1])], [np.exp(v[2]), 1.5]])
        joint = [stats.poisson(r).logpmf(COUNTS).sum(axis=1) for r in rates]
        return -np.logaddexp(joint[0] - np.logaddexp(0, -v[0]), joint[1] - np.logaddexp(0, v[0])).sum()

    best = optimize.minimize(loss, [0.0, 1.0, 1.5], method="BFGS", options={"gtol": 1e-6})
    assert abs(float(fit.log_likelihood) + best.fun) < 1e-6


@pytest.mark.thorough
def test_tied_by_name_is_the_tied_family():
    y = simulate(120, holes=0.1)
    ours = jaxem.fit(Mixture(Gaussian(), 3, tied=("covariance",)), y, key=0, restarts=6, stop=TIGHT)
    theirs = jaxem.fit(Mixture(Gaussian("tied"), 3), y, key=0, restarts=6, stop=TIGHT)
    np.testing.assert_allclose(ours.log_likelihood, theirs.log_likelihood, atol=1e-6)
    np.testing.assert_allclose(ours.params.components.covariance[1], theirs.params.components.covariance, atol=1e-3)
    assert Mixture(Gaussian(), 3, tied=("covariance",)).n_parameters(3) == Mixture(Gaussian("tied"), 3).n_parameters(3)


def test_one_weight_fixed_leaves_the_others_their_share():
    model = Mixture(Poisson(), 3, fixed={"weights": [0.4, np.nan, np.nan]})
    fit = jaxem.fit(model, COUNTS, key=0, stop=TIGHT)
    weights = np.asarray(fit.params.weights)
    assert weights[0] == 0.4
    assert abs(weights.sum() - 1) < 1e-12
    u = model.to_unconstrained(fit.params)
    assert u.shape == (model.n_parameters(2),) == (1 + 6,)
    gradient = jax.grad(lambda u: model.log_likelihood(model.from_unconstrained(u, like=fit.params), COUNTS))(u)
    assert np.abs(gradient).max() < 1e-2


@pytest.mark.slow
def test_structural_zero_of_a_category_stays_zero():
    y = RNG.integers(3, size=(80, 2)).astype(float)
    zero = np.full((2, 2, 3), np.nan)
    zero[0, 0, 2] = 0.0
    fit = jaxem.fit(Mixture(Categorical(3), 2, fixed={"probabilities": zero}), y, key=0, stop=TIGHT)
    p = np.asarray(fit.params.components.probabilities)
    assert p[0, 0, 2] == 0
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-12)


def test_fixed_mean_of_a_single_gaussian():
    y = RNG.normal(1.0, 2.0, size=(100, 2))
    fit = jaxem.fit(Single(Gaussian(), fixed={"mean": [0.0, np.nan]}), y, stop=TIGHT)
    slope = y[:, 0] @ y[:, 1] / (y[:, 0] @ y[:, 0])  # of the second on the first, through the origin of the first
    np.testing.assert_allclose(fit.params.covariance[0, 0], (y[:, 0] ** 2).mean(), rtol=1e-6)
    assert fit.params.mean[0] == 0
    np.testing.assert_allclose(fit.params.mean[1], y[:, 1].mean() - fit.params.covariance[0, 1] / fit.params.covariance[0, 0] * y[:, 0].mean(), rtol=1e-5)  # noqa: E501
    assert np.isfinite(slope)


def test_values_are_leaves():
    """Another fixed value compiles nothing, and the likelihood can be differentiated by it."""

    def worth(value):
        model = Mixture(Poisson(), 2, fixed={"rate": [[1.0, np.nan], [np.nan, np.nan]]})
        model = jax.tree.unflatten(jax.tree.structure(model), [value * jnp.ones_like(leaf) for leaf in jax.tree.leaves(model)])
        params = model.from_unconstrained(jnp.zeros(4), like=Mixture(Poisson(), 2).init(0, COUNTS))
        return model.log_likelihood(params, COUNTS)

    h = 1e-5
    np.testing.assert_allclose(jax.grad(worth)(2.0), (worth(2.0 + h) - worth(2.0 - h)) / (2 * h), rtol=1e-6)


BAD = {
    "unknown": (lambda: Mixture(Poisson(), 2, fixed={"rat": 1.0}), ValueError, "'rat' is no parameter.*weights, components.rate"),
    "both": (lambda: Mixture(Poisson(), 2, tied="rate", fixed={"rate": 2.0}), ValueError, "tied: components.rate is fixed too"),
    "infinite": (lambda: Mixture(Poisson(), 2, fixed={"rate": np.inf}), ValueError, "infinite"),
    "list": (lambda: Mixture(Poisson(), 2, fixed=["rate"]), TypeError, "fixed: found list"),
    "part of a matrix": (
        lambda: jaxem.fit(Mixture(Gaussian(), 2, fixed={"covariance": [[1, np.nan], [np.nan, np.nan]]}), COUNTS, key=0),
        ValueError, "hang together",
    ),
    "shape": (lambda: jaxem.fit(Mixture(Poisson(), 2, fixed={"rate": [1, 2, 3]}), COUNTS, key=0), ValueError, r"shape \(3,\)"),
    "shared already": (lambda: Mixture(Gaussian("tied"), 2, tied="covariance").domains, ValueError, "shared by all states already"),
    "start": (
        lambda: jaxem.fit(Mixture(Poisson(), 2, fixed={"rate": 2.0}), COUNTS, params=Mixture(Poisson(), 2).init(0, COUNTS)),
        ValueError, "fixed and tied cells",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        make()
