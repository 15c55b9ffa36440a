"""Every algorithm on a few models: monotone where it says so, the same maximum as EM, in the passes that are known of it."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import censored_regression, gaussian, poisson
from table import DTYPES, N

import jaxem
from jaxem import (
    Mixture,
    MixtureParams,
    Poisson,
    PoissonParams,
    Status,
    Stop,
    aitken,
    anderson,
    ecme,
    em,
    fit,
    gradient,
    lbfgs,
    newton,
    prepare,
    quasi_newton,
    squarem,
)  # fmt: skip

MONOTONE = {
    "squarem": squarem(),
    "anderson": anderson(),
    "quasi_newton": quasi_newton(),
    "aitken": aitken(),
    "newton": newton(),
    "lbfgs": lbfgs(),
}
QUICK = ("squarem", "anderson", "newton")


def named(rows, name):
    return next(row for row in rows if row.name == name)


ROWS = [
    named(poisson.ROWS, "mixture-poisson"),
    named(gaussian.ROWS, "mixture-full"),
    next(row for row in censored_regression.ROWS if not row.model.closed),
]
CASES = [
    pytest.param(name, row, dtype, id=f"{name}-{row.name}-{dtype}",
                 marks=[] if name in QUICK and row is ROWS[0] and dtype == "float64" else
                 [pytest.mark.slow if dtype == "float64" and row is ROWS[1] else pytest.mark.thorough])
    for name in MONOTONE for row in ROWS for dtype in DTYPES
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "dtype"), CASES)
def test_monotone_and_as_high_as_em(name, row, dtype):
    y = row.data(dtype)
    # a few steps of EM choose the hill, which Newton's long first steps could leave
    params = fit(row.model, y, params=row.params(dtype), stop=Stop(tolerance=0.0, max_steps=20)).params
    stop = Stop(tolerance=1e-9, max_steps=3000)
    found = fit(row.model, y, params=params, algorithm=MONOTONE[name], stop=stop)
    plain = fit(row.model, y, params=params, stop=Stop(tolerance=1e-9, max_steps=50000))
    assert found.status == Status.CONVERGED, found.explain()
    history = np.asarray(found.history, np.float64)
    history = history[~np.isnan(history)]
    magnitude = float(row.model.magnitude(params, prepare(row.model, y)))
    slack = 32 * row.eps(dtype) * (np.abs(history[-1]) + N * magnitude)
    assert (np.diff(history) >= -slack).all()
    assert found.objective >= plain.objective - max(1e-7, 4 * slack)
    if dtype == "float64":
        np.testing.assert_allclose(found.objective, plain.objective, atol=1e-6)


# Hasselblad (1969): deaths of women over 80 by day in the Times, from weights 0.3 and 0.7 and rates 1 and 2.5; EM needs 1700 to
# 2100 passes (Varadhan and Roland 2008, table 1)
DEATHS = np.array([162, 267, 271, 185, 111, 61, 27, 8, 3, 1.0])
PUBLISHED = json.loads((Path(__file__).parent / "reference/poisson_mixture_london_deaths/expected.json").read_text())
PASSES = {"squarem": 90, "anderson": 35, "quasi_newton": 45, "newton": 25, "lbfgs": 120}


def london(algorithm, **more):
    start = MixtureParams(jnp.array([0.3, 0.7]), PoissonParams(jnp.array([[1.0], [2.5]])))
    days = np.arange(10.0)[:, None]
    stop = Stop(tolerance=1e-9, max_steps=5000)
    return fit(Mixture(Poisson(), 2), days, weights=DEATHS, params=start, algorithm=algorithm, stop=stop, **more)


@pytest.mark.parametrize("name", PASSES)
def test_passes_on_the_london_deaths(name):
    found = london(MONOTONE[name])
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.log_likelihood, PUBLISHED["logLik"], atol=1e-8)
    assert found.passes <= PASSES[name]


def test_em_on_the_london_deaths():
    assert 1700 <= london(em()).passes <= 2100


def test_gradient_ascent_rises_and_says_that_it_is_not_monotone():
    algorithm = gradient(optax.adam(0.1))
    assert not algorithm.monotone
    found = london(algorithm)
    np.testing.assert_allclose(found.log_likelihood, PUBLISHED["logLik"], atol=1e-4)


def test_probabilities_of_zero_stay_zero():
    """A weight that starts at 0 has no finite coordinate."""
    start = MixtureParams(jnp.array([0.4, 0.6, 0.0]), PoissonParams(jnp.array([[1.0], [2.5], [4.0]])))
    days = np.arange(10.0)[:, None]
    for name in ("squarem", "anderson"):
        found = fit(Mixture(Poisson(), 3), days, weights=DEATHS, params=start, algorithm=MONOTONE[name])
        assert found.params.weights[2] == 0
        assert np.isfinite(found.log_likelihood)
        assert found.log_likelihood > -1990


@pytest.mark.slow
def test_restarts_in_lanes_are_each_alone():
    """Restarts by an accelerator end where the same starts end one by one."""
    row = ROWS[1]
    model, y = row.model, row.data("float64")
    many = fit(model, y, key=3, restarts=4, algorithm=squarem())
    assert (np.asarray(many.restart_statuses) != Status.DECREASED).all()
    assert many.log_likelihood >= fit(model, y, key=3, restarts=4).log_likelihood - 1e-6


@pytest.mark.slow
def test_ecme_can_be_accelerated():
    from cases import student_t

    row = next(row for row in student_t.ROWS if isinstance(row.model, Mixture) and row.model.observed_blocks)
    y, params = row.data("float64"), row.params("float64")
    plain = ecme(*row.model.observed_blocks)
    found = fit(row.model, y, params=params, algorithm=squarem(plain))
    np.testing.assert_allclose(found.objective, fit(row.model, y, params=params).objective, atol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="only a monotone one"):
        squarem(gradient(optax.sgd(0.1)))
    with pytest.raises(TypeError, match=r"for instance em\(\)"):
        anderson("em")
    with pytest.raises(TypeError, match="one of optax"):
        gradient(0.1)
    with pytest.raises(ValueError, match="secants"):
        quasi_newton(secants=0)
    assert squarem(em()) == squarem()
    assert jaxem.anderson(memory=3) == jaxem.anderson(memory=3)
