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
    Gaussian,
    GaussianParams,
    Mixture,
    MixtureParams,
    Poisson,
    PoissonParams,
    Single,
    Status,
    Stop,
    StudentT,
    StudentTParams,
    accelerated,
    aitken,
    anderson,
    ecm,
    ecme,
    em,
    fit,
    gem,
    gradient,
    lbfgs,
    natural_gradient,
    newton,
    parabolic,
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
    "accelerated": accelerated(),
    "parabolic": parabolic(),
    "natural_gradient": natural_gradient(),
}
QUICK = ("anderson",)
LONG = ("accelerated", "squarem", "newton", "lbfgs")


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
                 [pytest.mark.slow if name in LONG and dtype == "float64" and row is ROWS[1] else pytest.mark.thorough])
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
PASSES = {"squarem": 90, "anderson": 35, "quasi_newton": 45, "newton": 25, "lbfgs": 120, "accelerated": 35}


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


@pytest.mark.parametrize(("algorithm", "like"), [
    (ecm(), 1), (ecm((("weights", "rate"),)), 1), (gem(optax.lbfgs(), 3), 1), (ecme("weights", method="root"), 4),
], ids=["ecm", "one-block", "gem", "ecme-root"])  # fmt: skip
@pytest.mark.slow
def test_other_m_steps_reach_the_same_maximum(algorithm, like):
    """Conditional maximisations of separate terms of Q are the M-step itself, and so is an optimiser that gets there."""
    found = london(algorithm)
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.log_likelihood, PUBLISHED["logLik"], atol=1e-7)
    assert found.passes <= like * 2100
    if like == 1:
        np.testing.assert_allclose(found.steps, london(em()).steps, rtol=0.01)


@pytest.mark.slow
def test_the_root_is_where_newton_ends():
    """One dof on the observed likelihood by either method, of complete t rows whose dof is far from the start."""
    y = np.random.default_rng(0).standard_t(3.0, (80, 2))
    model = Single(StudentT(dof="common"))
    start = StudentTParams(jnp.zeros(2), jnp.eye(2), jnp.array(30.0))
    stop = Stop(tolerance=1e-10)
    newton_, root = (fit(model, y, params=start, algorithm=ecme(block="dof", method=m), stop=stop) for m in ("newton", "root"))
    assert newton_.status == root.status == Status.CONVERGED
    np.testing.assert_allclose(root.params.dof, newton_.params.dof, rtol=1e-4)
    np.testing.assert_allclose(root.log_likelihood, newton_.log_likelihood, atol=1e-8)


def proportions():
    """Twenty known normals of which a few have a weight > 0 in the maximum, and a start inside."""
    y = np.random.default_rng(5).choice([-2.0, 0.0, 2.5], 100, p=[0.3, 0.5, 0.2]) + np.random.default_rng(6).normal(size=100)
    grid = np.linspace(-5, 5, 20)[:, None]
    held = GaussianParams(jnp.asarray(grid), jnp.ones((20, 1)))
    model = Mixture(Gaussian("diagonal"), 20, fixed={"mean": grid, "covariance": np.ones((20, 1))})
    return y, grid, model, MixtureParams(jnp.full(20, 0.05), held)


def test_a_maximum_on_the_boundary():
    """Weights that are 0 in the maximum: Kuhn and Tucker's conditions, sum_i p_ik / p_i <= n and = n where the weight is > 0."""
    y, grid, model, start = proportions()
    stop = Stop(tolerance=1e-9, max_passes=3000, max_steps=3000)
    found = fit(model, y[:, None], params=start, algorithm=accelerated(), stop=stop)
    assert found.status == Status.CONVERGED, found.explain()
    density = np.exp(-0.5 * (y[:, None] - grid[:, 0]) ** 2)
    weights = np.asarray(found.params.weights)
    slope = (density / (density @ weights)[:, None]).sum(0)
    # by concavity what is left to gain is at most the largest slope less n
    assert slope.max() - len(y) <= 1e-3
    np.testing.assert_allclose(slope[weights > 1e-3], len(y), rtol=1e-4)


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
    with pytest.raises(ValueError, match=r"there are weights, components\.rate"):
        london(ecm("nope"))
    with pytest.raises(TypeError, match="names of params"):
        ecm(3)
    with pytest.raises(ValueError, match="None for each"):
        ecm(())
    with pytest.raises(ValueError, match="has 2 here; take 'newton'"):
        london(ecme("rate", method="root"))
    with pytest.raises(ValueError, match="unknown 'bisection'"):
        ecme("rate", method="bisection")
    with pytest.raises(TypeError, match="one of optax"):
        gem(0.1)
    with pytest.raises(ValueError, match="steps"):
        gem(optax.adam(0.1), 0)
    with pytest.raises(ValueError, match="secants"):
        quasi_newton(secants=0)
    assert squarem(em()) == squarem()
    assert jaxem.anderson(memory=3) == jaxem.anderson(memory=3)
    assert ecme("rate") == ecme(block="rate") != ecme("rate", method="root")
    assert accelerated(em()) == accelerated()
    assert ecm("rate") == ecm(("rate",))
    assert quasi_newton() == quasi_newton(em(), 3)
