"""Algorithms that draw, harden or temper states: where they end, what they say of their error, and what they refuse."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import poisson
from numpy.polynomial.hermite_e import hermegauss
from scipy import optimize

import jaxem
from jaxem import (
    Latent,
    MixtureParams,
    Poisson,
    PoissonParams,
    Single,
    Status,
    Stop,
    annealed_em,
    classification_em,
    fit,
    monte_carlo_em,
    saem,
    stochastic_em,
)  # fmt: skip
from jaxem.assign import Hardest, Soft
from jaxem.domains import Positive, Real

ROW = poisson.ROWS[0]
Y, START = ROW.data("float64"), ROW.params("float64")
MONTE_CARLO = {"saem": (saem(), Stop(tolerance=0.0, max_steps=1000)), "mcem": (monte_carlo_em(), Stop(tolerance=0.05))}


@pytest.fixture(scope="module")
def best():
    return fit(ROW.model, Y, params=START, stop=Stop(tolerance=1e-10, max_steps=50000))


def within(found, exact, error, sigmas=3):
    for a, b, e in zip(*map(jax.tree.leaves, (found, exact, error)), strict=True):
        e = np.asarray(e)
        assert (e > 0).all()
        assert np.isfinite(e).all()
        assert (np.abs(np.asarray(a) - np.asarray(b)) <= sigmas * e).all()


@pytest.mark.parametrize("name", ["saem", pytest.param("mcem", marks=pytest.mark.slow)])
def test_ends_within_its_stated_error_of_the_maximum(name, best):
    """Three stated standard deviations; the same key, the same numbers; another key, others."""
    algorithm, stop = MONTE_CARLO[name]
    found, again, other = (fit(ROW.model, Y, params=START, algorithm=algorithm, stop=stop, key=key) for key in (1, 1, 2))
    assert found.status == (Status.MAX_STEPS if name == "saem" else Status.CONVERGED), found.explain()
    assert np.isfinite(found.gap)
    for each in (found, other):
        within(each.params, best.params, each.detail.error)
        assert best.log_likelihood - 0.05 < each.log_likelihood <= best.log_likelihood
    jax.tree.map(np.testing.assert_array_equal, found, again)
    assert not np.array_equal(found.params.weights, other.params.weights)


@pytest.mark.thorough
def test_stated_errors_are_those_between_keys():
    """Over 24 keys the params vary as one fit says: the ratio of standard deviations, pooled over params, is 1 within a factor
    of 1.6 (chi-square with 23 degrees of freedom each, and the estimate from one run beside it)."""
    stop = Stop(tolerance=0.0, max_steps=1000)
    found = jax.vmap(lambda key: fit(ROW.model, np.nan_to_num(Y, nan=3.0), params=START, algorithm=saem(), stop=stop, key=key))(
        jax.random.split(jax.random.key(0), 24)
    )
    ratios = [
        np.ravel(np.asarray(leaf).std(axis=0, ddof=1) / np.asarray(error).mean(axis=0))
        for leaf, error in zip(jax.tree.leaves(found.params), jax.tree.leaves(found.detail.error), strict=True)
    ]
    assert 1 / 1.6 < np.exp(np.log(np.concatenate(ratios)).mean()) < 1.6


def test_stochastic_em(best):
    """Its average is near the maximum, a small part of the spread away; the best of its params is not above it."""
    stop = Stop(max_steps=500)
    found = fit(ROW.model, Y, params=START, algorithm=stochastic_em(), stop=stop, key=3)
    assert found.status == Status.MAX_STEPS
    assert np.isinf(found.gap)
    assert found.passes == 501
    assert int(found.detail.steps) == 450
    within(found.params, best.params, found.detail.spread, 1)
    assert best.log_likelihood - 0.2 < found.log_likelihood <= best.log_likelihood
    assert found.detail.best_objective <= best.log_likelihood


@pytest.mark.slow
def test_best_of_stochastic_em_and_the_order_of_its_detail():
    """With a start of its own a fit puts states in order, in the detail too."""
    stop = Stop(max_steps=200)
    found = fit(ROW.model, Y, key=3, algorithm=stochastic_em(average=False), stop=stop)
    jax.tree.map(np.testing.assert_array_equal, found.params, found.detail.best)
    np.testing.assert_allclose(found.log_likelihood, found.detail.best_objective, rtol=1e-12)
    rates = np.asarray(found.params.components.rate)[:, 0]
    assert (np.diff(rates) > 0).all()


def test_classification_em():
    """It maximises the classification log-likelihood, and ends where no row changes its component."""
    found = fit(ROW.model, Y, params=START, algorithm=classification_em())
    assert found.status == Status.CONVERGED
    assert found.gap == 0
    joint = ROW.oracle(found.params.components, Y) + np.log(np.asarray(found.params.weights))
    np.testing.assert_allclose(found.objective, joint.max(axis=1).sum(), rtol=1e-12)
    np.testing.assert_allclose(found.log_likelihood, np.logaddexp.reduce(joint, axis=1).sum(), rtol=1e-12)
    history = np.asarray(found.history)
    assert (np.diff(history[~np.isnan(history)]) >= -1e-9).all()
    state = joint.argmax(axis=1)
    np.testing.assert_allclose(found.params.weights, np.bincount(state, minlength=3) / len(Y), atol=1e-12)


@pytest.mark.parametrize("schedule", [(0.3, 0.6, 1.0), pytest.param((1.3, 1.0), marks=pytest.mark.slow)])
def test_annealed_em_ends_as_em(schedule, best):
    found = fit(ROW.model, Y, params=START, algorithm=annealed_em(schedule, 5), key=0, stop=Stop(tolerance=1e-10))
    assert found.status == Status.CONVERGED
    assert found.steps > 5 * (len(schedule) - 1)
    np.testing.assert_allclose(found.log_likelihood, best.log_likelihood, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_monotone_at_one_beta(beta):
    """An M-step on tempered statistics never lowers the tempered log-likelihood; on hard ones, the classification one."""
    data = jaxem.prepare(ROW.model, Y)
    for how in (Soft(jnp.asarray(beta)), Hardest()):
        params, values = START, []
        for _ in range(12):
            found = ROW.model.assign(how, params, data)
            values.append(float(found.attained))
            params = ROW.model.m_step(params, found.statistics)
        assert (np.diff(values) >= -1e-10).all()


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [stochastic_em(), saem(), monte_carlo_em(), classification_em(), annealed_em((0.5, 1.0), 2)])
def test_without_states_they_are_em(algorithm):
    """There is nothing to draw, to harden or to temper: converged after the one step that it takes."""
    model = Single(Poisson())
    found = fit(model, Y, params=PoissonParams(jnp.full(3, 2.0)), algorithm=algorithm, key=0)
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.params.rate, np.nanmean(Y, axis=0), rtol=1e-12)


def test_bad_input():
    with pytest.raises(ValueError, match=r"ends at beta = 0.8; let it end at 1.*\(0.5, 0.8, 1.0\)"):
        annealed_em((0.5, 0.8))
    with pytest.raises(ValueError, match="beta = -1; give numbers in"):
        annealed_em((-1, 1))
    with pytest.raises(TypeError, match="schedule"):
        annealed_em("soft")
    with pytest.raises(ValueError, match=r"exponent: found 0.5; give a number in \(0.5, 1\]"):
        saem(exponent=0.5)
    with pytest.raises(ValueError, match="'ascent', 'fixed'"):
        monte_carlo_em(rule="up")
    with pytest.raises(ValueError, match="most: found 4"):
        monte_carlo_em(16, most=4)
    with pytest.raises(ValueError, match="burn_in"):
        stochastic_em(burn_in=0)
    with pytest.raises(ValueError, match="only a monotone one"):
        jaxem.squarem(saem())
    assert saem() == saem()
    assert classification_em() == classification_em()
    assert annealed_em([0.5, 1]) == annealed_em((0.5, 1.0))


def test_model_with_an_expansion_is_refused_by_saem():
    from cases import glm_regression

    row = next(row for row in glm_regression.ROWS if not row.model.closed)
    with pytest.raises(ValueError, match="statistics of this model are an expansion"):
        fit(row.model, row.data("float64"), params=row.params("float64"), algorithm=saem(), key=0)


# Booth and Hobert (1999): Monte Carlo EM on a logistic regression with a normal random intercept, as a model of one's own

GLMM = Path(__file__).parent / "reference" / "glmm_booth_hobert"
EXPECTED = json.loads((GLMM / "expected.json").read_text())
NODES, MASS = hermegauss(60)


def clusters():
    raw = np.genfromtxt(GLMM / "data.csv", delimiter=",", names=True)
    own = [raw["z1"] == group for group in np.unique(raw["z1"])]
    return {"y": np.stack([raw["y"][each] for each in own]), "x": np.stack([raw["x1"][each] for each in own])}


def exact(vector, data):
    """Marginal log-likelihood by 60 nodes of Gauss and Hermite, in NumPy."""
    eta = vector[0] * data["x"][..., None] + np.exp(vector[1]) * NODES
    inner = (data["y"][..., None] * eta - np.logaddexp(0, eta)).sum(axis=1)
    return np.logaddexp.reduce(inner + np.log(MASS / MASS.sum()), axis=1).sum()


def glmm_joint(params, u, row):
    eta = params["beta"] * row["x"] + params["sd"] * u
    return (row["y"] * eta - jax.nn.softplus(eta)).sum() + jax.scipy.stats.norm.logpdf(u)


def glmm_draw(key, params, row):
    """From a normal at the mode of u given the row, a fifth wider than its curvature says."""

    def slopes(u):
        p = jax.nn.sigmoid(params["beta"] * row["x"] + params["sd"] * u)
        return params["sd"] * (row["y"] - p).sum() - u, 1 + params["sd"] ** 2 * (p * (1 - p)).sum()

    def climb(_, u):
        gradient, curvature = slopes(u)
        return u + gradient / curvature

    mode = jax.lax.fori_loop(0, 8, climb, jnp.zeros_like(params["sd"]))
    scale = 1.2 / jnp.sqrt(slopes(mode)[1])
    u = mode + scale * jax.random.normal(key, dtype=mode.dtype)
    return u, jax.scipy.stats.norm.logpdf(u, mode, scale)


def test_exact_maximum_of_booth_and_hobert_is_the_published():
    data = clusters()
    found = optimize.minimize(lambda v: -exact(v, data), [5.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
    np.testing.assert_allclose(-found.fun, EXPECTED["logLik"], atol=EXPECTED["tolerances"]["logLik"])
    published = [EXPECTED["params"]["beta"][0], EXPECTED["params"]["sd"]]
    np.testing.assert_allclose([found.x[0], np.exp(found.x[1])], published, atol=EXPECTED["tolerances"]["params"])


@pytest.mark.slow
def test_monte_carlo_em_on_booth_and_hobert():
    """The estimate is within three of its stated Monte Carlo errors of the exact maximum, and these are small."""
    data = clusters()
    model = Latent(glmm_joint, {"beta": Real(), "sd": Positive()}, 64, start={"beta": 2.0, "sd": 1.0}, draw=glmm_draw)
    algorithm, stop = monte_carlo_em(8, most=256), Stop(tolerance=0.001, max_steps=100)
    published = {"beta": EXPECTED["params"]["beta"][0], "sd": EXPECTED["params"]["sd"]}
    for key in range(3):
        found = fit(model, data, params=model.start, algorithm=algorithm, stop=stop, key=key)
        assert found.status == Status.CONVERGED, found.explain()
        within(found.params, published, found.detail.error)
        assert found.detail.error["beta"] < EXPECTED["se"]["beta"][0] / 10
        assert found.detail.error["sd"] < EXPECTED["se"]["sd"] / 10
        vector = [float(found.params["beta"]), float(np.log(found.params["sd"]))]
        assert EXPECTED["logLik"] - exact(vector, data) < 0.01


@pytest.mark.slow
def test_draws_of_a_latent_variable():
    """The simulated likelihood is near the exact one; draws follow rows' numbers; only they can be asked for."""
    data = clusters()
    params = {"beta": 6.0, "sd": 1.3}
    model = Latent(glmm_joint, {"beta": Real(), "sd": Positive()}, 512, start=params, draw=glmm_draw)
    ours = model.log_likelihood(params, data)
    # ten rows of 512 draws with weights of relative deviation about 0.3: 0.04
    np.testing.assert_allclose(ours, exact([6.0, np.log(1.3)], data), atol=0.16)
    assert model.log_likelihood(params, data) == ours
    each = model.log_likelihood(params, data, per_row=True)
    first = jax.tree.map(lambda leaf: leaf[:4], data)
    np.testing.assert_allclose(model.log_likelihood(params, first, per_row=True), each[:4], rtol=1e-12)
    a, b = (model.sample_statistics(key, params, data).log_likelihood for key in (1, 2))
    assert a != b
    assert model.n_states == 1
    np.testing.assert_allclose(model.posterior(params, data), 1)
    with pytest.raises(TypeError, match=r"take monte_carlo_em\(\)"):
        fit(model, data, params=params, algorithm=classification_em())
    with pytest.raises(TypeError, match="return both"):
        Latent(glmm_joint, {"beta": Real(), "sd": Positive()}, 8, draw=lambda key, params, row: params["sd"]).prepare(data)


def test_mixture_weights_of_zero_stay():
    """A component without weight is never drawn, and has no error."""
    start = MixtureParams(jnp.array([0.4, 0.6, 0.0]), START.components)
    found = fit(ROW.model, Y, params=start, algorithm=stochastic_em(), stop=Stop(max_steps=60), key=0)
    assert found.params.weights[2] == 0
    assert np.isfinite(found.log_likelihood)
