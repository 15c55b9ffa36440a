"""Real data with published or independently computed answers, from many seeds."""

import csv
import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases.gaussian import oracle as gaussian_oracle
from table import some

import jaxem
from jaxem import Gaussian, Mixture, Single, Status, Stop

HERE = Path(__file__).parent / "reference"
TIGHT = Stop(tolerance=1e-10, max_steps=20000)


def case(name, columns):
    with open(HERE / name / "data.csv") as file:
        table = list(csv.DictReader(file))
    y = np.array([[float(row[c]) if row[c] not in ("", "NA") else np.nan for c in columns] for row in table])
    return y, json.loads((HERE / name / "expected.json").read_text())


def scipy_log_likelihood(kind, params, y):
    joint = gaussian_oracle(kind)(params.components, y) + np.log(np.asarray(params.weights))
    return np.logaddexp.reduce(joint, axis=1).sum()


@pytest.mark.parametrize("seed", some(range(8), range(3)))
def test_mini_project(seed):
    y, expected = case("gmm_missing_seed_project", ["x1", "x2"])
    fit = jaxem.fit(Mixture(Gaussian(), 3), y, key=seed, restarts=3, stop=TIGHT)
    assert fit.status == Status.CONVERGED
    assert abs(float(fit.log_likelihood) - expected["logLik"]) < 1e-6
    assert abs(scipy_log_likelihood("full", fit.params, y) - float(fit.log_likelihood)) < 1e-8
    truth = expected["params"]  # sorted by first mean, as is canonical order
    np.testing.assert_allclose(fit.params.weights, truth["weights"], atol=1e-5)
    np.testing.assert_allclose(fit.params.components.mean, truth["means"], atol=1e-5)
    np.testing.assert_allclose(fit.params.components.covariance, truth["covariances"], atol=5e-5)


def test_mini_project_complete():
    y, expected = case("gmm_missing_seed_project", ["x1_complete", "x2_complete"])
    fit = jaxem.fit(Mixture(Gaussian(), 3), y, key=0, restarts=3, stop=TIGHT)
    assert abs(float(fit.log_likelihood) - expected["complete_data_fit"]["logLik"]) < 1e-6


def test_airquality():
    y, expected = case("mvn_missing_airquality", ["Ozone", "Solar.R", "Wind", "Temp"])
    fit = jaxem.fit(Single(Gaussian()), y, stop=Stop(tolerance=1e-11))
    assert fit.status == Status.CONVERGED
    assert abs(float(fit.log_likelihood) - expected["logLik"]) < 1e-6
    np.testing.assert_allclose(fit.params.mean, expected["params"]["mean"], rtol=1e-5)
    np.testing.assert_allclose(fit.params.covariance, expected["params"]["cov"], rtol=1e-4)


def murray(correlation):
    """Murray's data, started at mean 0, variances 2.5 and this correlation."""
    y, expected = case("mvn_missing_murray", ["x1", "x2"])
    model = Single(Gaussian())
    start = model.init(None, y)
    start = start._replace(mean=jnp.zeros(2), covariance=2.5 * jnp.array([[1.0, correlation], [correlation, 1.0]]))
    fit = jaxem.fit(model, y, params=start, stop=TIGHT)
    u = model.to_unconstrained(fit.params)
    hessian = jax.hessian(lambda u: model.log_likelihood(model.from_unconstrained(u), jaxem.prepare(model, y)))(u)
    gradient = jax.grad(lambda u: model.log_likelihood(model.from_unconstrained(u), jaxem.prepare(model, y)))(u)
    return fit, expected, np.asarray(gradient), np.linalg.eigvalsh(-np.asarray(hessian))


@pytest.mark.parametrize("sign", some([1, -1], [1]))
def test_murray_has_two_maxima(sign):
    fit, expected, gradient, information = murray(0.4 * sign)
    truth = expected["maxima"][0 if sign > 0 else 1]
    assert abs(float(fit.log_likelihood) - truth["logLik"]) < 1e-8
    np.testing.assert_allclose(fit.params.covariance, truth["cov"], atol=1e-4)
    assert np.abs(gradient).max() < 1e-4
    assert information.min() > 0.1, "a maximum has positive definite information"


@pytest.mark.slow
def test_murray_saddle_is_no_maximum():
    fit, expected, gradient, information = murray(0.0)
    assert abs(float(fit.log_likelihood) - expected["saddle"]["logLik"]) < 1e-6
    np.testing.assert_allclose(fit.params.covariance, expected["saddle"]["cov"], atol=1e-4)
    assert np.abs(gradient).max() < 1e-4
    assert information.min() < -0.05, "the saddle has a direction in which the likelihood curves upwards"


def best_known(expected, shape, n_components):
    found = [f for f in expected["fits"] if f["model"] == shape and f["G"] == n_components]
    return max(max(f["logLik"], f.get("best_found_by_sklearn_restarts") or -np.inf) for f in found)


SHAPES = {"full": "VVV", "tied": "EEE", "diagonal": "VVI", "spherical": "VII"}


SIZES = itertools.product(SHAPES, [1, 2, 3])


@pytest.mark.parametrize(("kind", "n_components"), some(SIZES, [("full", 2)], pytest.mark.thorough))
def test_old_faithful(kind, n_components):
    y, expected = case("gmm_old_faithful", ["eruptions", "waiting"])
    model = Mixture(Gaussian(kind), n_components)
    fit = jaxem.fit(model, y, key=1, restarts=24, stop=Stop(tolerance=1e-9, max_steps=20000))
    assert fit.status == Status.CONVERGED
    known = best_known(expected, SHAPES[kind], n_components)
    assert float(fit.log_likelihood) > known - 0.01, "lower than the best published maximum"
    assert abs(scipy_log_likelihood(kind, fit.params, y) - float(fit.log_likelihood)) < 1e-6
    row = next(f for f in expected["fits"] if f["model"] == SHAPES[kind] and f["G"] == n_components)
    assert model.n_parameters(2) == row["n_params"]


@pytest.mark.parametrize("index", some(range(12), [2], pytest.mark.thorough))
def test_galaxies(index):
    y, expected = case("gmm_galaxies", ["velocity_1000km_s"])
    row = expected["fits"][index]
    model = Mixture(Gaussian("tied" if row["model"] == "E" else "full"), row["G"])
    fit = jaxem.fit(model, y, key=0, restarts=40, stop=Stop(tolerance=1e-9, max_steps=20000))
    assert fit.status == Status.CONVERGED
    known = max(row["logLik"], row.get("logLik_direct") or -np.inf)
    assert float(fit.log_likelihood) > known - 0.01
    assert abs(scipy_log_likelihood(model.family.covariance, fit.params, y) - float(fit.log_likelihood)) < 1e-6
    assert model.n_parameters(1) == row["n_params"]
