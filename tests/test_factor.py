"""Factor models: published answers, direct maximisation, rotations at their optima, scores, Heywood cases, bad input."""

import csv
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import optimize
from test_rotation import nearest

import jaxem
from jaxem import (
    FactorAnalysis,
    FactorGaussian,
    FactorGaussianParams,
    Gaussian,
    Mixture,
    ProbabilisticPCA,
    Single,
    Status,
    Stop,
    from_covariance,
)

HERE = Path(__file__).parent / "reference"
TIGHT = Stop(tolerance=1e-10)
D, Q = 6, 2
TWO = np.array([[0.9, 0.0], [0.8, 0.2], [0.7, -0.2], [0.1, 0.9], [0.3, 0.8], [-0.2, 0.7]])


def simulate(n=150, seed=0, holes=0.0):
    rng = np.random.default_rng(seed)
    y = 3 + rng.normal(size=(n, Q)) @ TWO.T + 0.6 * rng.normal(size=(n, D))
    y[rng.random(y.shape) < holes] = np.nan
    return y


def correlations(name):
    with (HERE / name / "data.csv").open() as file:
        rows = list(csv.reader(file))
    return np.array([row[1:] for row in rows[1:]], float), json.loads((HERE / name / "expected.json").read_text())


def start_at_random(d, q, seed):
    rng = np.random.default_rng(seed)
    return FactorGaussianParams(np.zeros(d), 0.5 * rng.normal(size=(d, q)), rng.uniform(0.2, 0.9, d))


# published answers


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("factor_ability", 0), ("factor_ability", 1),
        pytest.param("factor_harman74", 0, marks=pytest.mark.thorough),
        pytest.param("factor_harman74", 1, marks=pytest.mark.thorough),
    ],
)  # fmt: skip
def test_correlation_matrices(name, which):
    """From our own start and three random ones; the M-step is the whole fit, so that steps only confirm it."""
    matrix, expected = correlations(name)
    truth, d = expected["fits"][which], len(matrix)
    model = FactorAnalysis(truth["n_factors"], rotation="varimax")
    rows = from_covariance(matrix, expected["n_obs"])
    data = jaxem.prepare(model, rows.y, rows.weights)
    assert model.n_parameters(d) == truth["n_params_with_means"]
    for start in (None, *(start_at_random(d, truth["n_factors"], seed) for seed in range(3))):
        fit = jaxem.fit(model, data, params=start, stop=TIGHT)
        assert fit.status == Status.CONVERGED
        assert fit.steps <= 6
        assert abs(float(fit.log_likelihood) - truth["logLik"]) < 1e-6
        np.testing.assert_allclose(fit.params.uniquenesses, truth["uniquenesses"], atol=1e-6)
        loadings = np.asarray(fit.params.loadings)
        implied = loadings @ loadings.T + np.diag(fit.params.uniquenesses)
        np.testing.assert_allclose(implied, truth["implied_correlation"], atol=1e-6)
        assert nearest(model.rotate(fit.params).loadings, np.array(truth["loadings_varimax_kaiser"])) < 1e-5
    test = model.test(fit.params, data)
    assert test.df == truth["factanal"]["dof"]
    np.testing.assert_allclose(test.discrepancy, truth["discrepancy"], atol=1e-8)
    np.testing.assert_allclose(test.statistic, truth["factanal"]["statistic_bartlett"], atol=1e-6)
    np.testing.assert_allclose(test.p, truth["factanal"]["p_value"], rtol=1e-5)
    assert not model.remarks(fit.params, data)


@pytest.mark.parametrize("which", range(3))
def test_iris(which):
    with (HERE / "ppca_iris" / "data.csv").open() as file:
        y = np.array([row[:4] for row in list(csv.reader(file))[1:]], float)
    expected = json.loads((HERE / "ppca_iris" / "expected.json").read_text())
    truth = expected["fits"][which]
    q = truth["n_components"]
    model = ProbabilisticPCA(q)
    fit = jaxem.fit(model, y, stop=TIGHT)
    assert fit.status == Status.CONVERGED
    assert fit.steps <= 3
    assert abs(float(fit.log_likelihood) - truth["logLik"]) < 1e-6
    assert abs(float(fit.params.variance) - truth["noise_variance"]) < 1e-6
    loadings = np.asarray(fit.params.loadings)
    np.testing.assert_allclose(loadings @ loadings.T, truth["WWt"], atol=1e-6)
    assert model.n_parameters(4) == truth["n_params"]
    # the columns are the principal axes themselves
    squares = np.array(truth["eigenvalues_ml"])[:q] - truth["noise_variance"]
    np.testing.assert_allclose(loadings.T @ loadings, np.diag(squares), atol=1e-8)


# against direct maximisation


def observed_log_likelihood(y, mean, covariance):
    total = 0.0
    for pattern in np.unique(~np.isnan(y), axis=0):
        rows = y[(~np.isnan(y) == pattern).all(axis=1)][:, pattern] - mean[pattern]
        if pattern.any():
            block = covariance[np.ix_(pattern, pattern)]
            inner = (np.linalg.solve(block, rows.T) * rows.T).sum()
            total -= 0.5 * (len(rows) * (np.linalg.slogdet(block)[1] + pattern.sum() * np.log(2 * np.pi)) + inner)
    return total


@pytest.mark.parametrize("isotropic", [False, True], ids=["factors", "principal"])
def test_missing_cells_against_direct_maximisation(isotropic):
    """Quasi-Newton on scipy's side from the fit, moved: it comes back to it and finds nothing better."""
    y = simulate(60, seed=1, holes=0.15)
    y[3] = np.nan
    model = ProbabilisticPCA(Q) if isotropic else FactorAnalysis(Q)
    fit = jaxem.fit(model, y, stop=Stop(tolerance=1e-11, max_steps=5000))
    assert fit.status == Status.CONVERGED
    size = D * (1 + Q)

    def loss(v):
        loadings = v[D:size].reshape(D, Q)
        return -observed_log_likelihood(y, v[:D], loadings @ loadings.T + np.exp(v[size:]) * np.eye(D))

    here = np.concatenate([np.ravel(leaf) for leaf in (fit.params.mean, fit.params.loadings, np.log(fit.params[2]))])
    np.testing.assert_allclose(-loss(here), fit.log_likelihood, rtol=1e-12)
    moved = here + 0.1 * np.random.default_rng(0).normal(size=here.size)
    found = optimize.minimize(loss, moved, method="BFGS", options={"gtol": 1e-5})
    assert abs(-found.fun - float(fit.log_likelihood)) < 1e-6


def profile(x, spread, q):
    """Twice the loss of a row given logs of uniquenesses, by eigenvalues (Joereskog 1967)."""
    scale = np.exp(-x / 2)
    roots = np.linalg.eigvalsh(scale[:, None] * spread * scale)
    rest, used = roots[:-q], roots[-q:]
    used = np.maximum(used, 1e-12)
    return x.sum() + np.where(used > 1, np.log(used) + 1, used).sum() + rest.sum()


@pytest.mark.parametrize("seed", range(4))
def test_complete_rows_against_bounded_search(seed):
    """Small samples, where uniquenesses run to their bound: L-BFGS-B on the profile finds no more within the same bounds."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(20, Q)) @ TWO.T + 0.5 * rng.normal(size=(20, D))
    model = FactorAnalysis(Q)
    data = jaxem.prepare(model, y)
    fit = jaxem.fit(model, data, stop=TIGHT)
    spread = np.cov(y.T, bias=True)
    bounds = [(np.log(1e-6 * v), np.log(2 * v)) for v in np.diag(spread)]
    starts = [np.log(fit.params.uniquenesses), *(np.log(np.diag(spread) * rng.uniform(0.1, 0.9, (5, D))))]
    found = [optimize.minimize(profile, x, (spread, Q), "L-BFGS-B", bounds=bounds, options={"ftol": 1e-15}) for x in starts]
    best = -0.5 * len(y) * (min(each.fun for each in found) + D * np.log(2 * np.pi))
    assert fit.status == Status.CONVERGED
    assert float(fit.log_likelihood) >= -0.5 * len(y) * (found[0].fun + D * np.log(2 * np.pi)) - 1e-6
    assert float(fit.log_likelihood) <= best + 1e-6
    at_bound = np.asarray(fit.params.uniquenesses) < 2e-6 * np.diag(spread)
    assert bool(at_bound.any()) == any("Heywood" in remark for remark in model.remarks(fit.params, data))


def test_heywood_case():
    """A correlation matrix whose only solution has a negative uniqueness: r12 r13 / r23 > 1."""
    matrix = np.array([[1, 0.9, 0.8], [0.9, 1, 0.6], [0.8, 0.6, 1]])
    rows = from_covariance(matrix, 100)
    model = FactorAnalysis(1)
    data = jaxem.prepare(model, rows.y, rows.weights)
    fit = jaxem.fit(model, data)
    assert fit.status == Status.CONVERGED
    assert model.remarks(fit.params, data) == ["uniqueness of x0 is at its lower bound (a Heywood case)."]
    assert np.isfinite(jax.flatten_util.ravel_pytree(fit.params)[0]).all()
    np.testing.assert_allclose(fit.params.uniquenesses[0], 1e-6, rtol=1e-9)
    score = np.asarray(model.scores(fit.params, rows.y).covariance)
    assert (np.abs(score) < 1e-5).all()  # the factor is the column


def test_few_rows_of_many_columns():
    y = np.random.default_rng(0).normal(size=(5, D))
    fit = jaxem.fit(FactorAnalysis(Q), y)
    assert fit.status in (Status.CONVERGED, Status.DEGENERATE)
    assert np.isfinite(jax.flatten_util.ravel_pytree(fit.params)[0]).all()
    assert np.isfinite(float(fit.log_likelihood))


def test_constant_column_is_degenerate():
    y = simulate()
    y[:, 2] = 1.0
    fit = jaxem.fit(FactorAnalysis(Q), y)
    assert fit.status == Status.DEGENERATE
    assert np.isfinite(jax.flatten_util.ravel_pytree(fit.params)[0]).all()


def test_independent_columns_are_told():
    rows = from_covariance(np.diag([1.0, 2, 3, 4, 5, 6]), 200)
    model = FactorAnalysis(Q)
    data = jaxem.prepare(model, rows.y, rows.weights)
    fit = jaxem.fit(model, data)
    truth = -100 * (D * np.log(2 * np.pi) + np.log(720) + D)
    np.testing.assert_allclose(fit.log_likelihood, truth, rtol=1e-12)
    assert any("find nothing" in text or "alone" in text for text in model.remarks(fit.params, data))


@pytest.mark.slow
def test_float32_in_odd_units():
    """Columns of sizes 1e-3 to 1e3, far from the origin: the log-likelihood is that of float64 but for the units."""
    y, units = simulate(), np.array([1e-3, 1, 1e3, 1, 10, 1])
    fine, rough = jaxem.fit(FactorAnalysis(Q), y), jaxem.fit(FactorAnalysis(Q), ((y + 20) * units).astype(np.float32))
    assert rough.params.loadings.dtype == np.float32
    expected = float(fine.log_likelihood) - len(y) * np.log(units).sum()
    assert abs(float(rough.log_likelihood) - expected) < 0.02
    np.testing.assert_allclose(rough.params.uniquenesses / units**2, fine.params.uniquenesses, rtol=2e-3)


@pytest.mark.slow
def test_mixture_of_factor_analysers():
    """Two groups of other loadings are found; loadings come out in the rotation with L' Psi^-1 L diagonal."""
    y = np.concatenate([simulate(200), simulate(200, seed=2)[:, ::-1] + 4])
    model = Mixture(FactorGaussian(Q), 2)
    fit = jaxem.fit(model, y, key=0, restarts=4)
    assert fit.status == Status.CONVERGED
    states = fit.params.components
    np.testing.assert_allclose(states.mean, [[3] * D, [7] * D], atol=0.3)
    inner = np.einsum("kiq,ki,kir->kqr", states.loadings, 1 / np.asarray(states.uniquenesses), states.loadings)
    assert np.abs(inner[:, 0, 1]).max() < 1e-8 * np.abs(inner).max()
    assert (inner[:, 0, 0] >= inner[:, 1, 1]).all()
    truth = TWO @ TWO.T
    np.testing.assert_allclose(states.loadings[0] @ states.loadings[0].T, truth, atol=0.35)


# scores


@pytest.mark.parametrize("rotation", [None, "varimax", "oblimin"])
def test_scores_are_the_normal_conditional(rotation):
    y = simulate(40, holes=0.2)
    y[0] = np.nan
    model = FactorAnalysis(Q, rotation)
    params = FactorGaussianParams(np.full(D, 2.9), TWO, np.linspace(0.2, 0.6, D))
    found, turned = model.scores(params, y), model.rotate(params)
    covariance = TWO @ TWO.T + np.diag(params.uniquenesses)
    cross = turned.correlations @ turned.loadings.T  # cov(f, y)
    for row, mean, spread in zip(y, *found, strict=True):
        seen = ~np.isnan(row)
        weights = cross[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
        np.testing.assert_allclose(mean, weights @ (row - params.mean)[seen], atol=1e-10)
        np.testing.assert_allclose(spread, turned.correlations - weights @ cross[:, seen].T, atol=1e-10)


def test_scores_of_principal_components():
    """Shrunken principal components: projections on the axes times (root - variance) / root over the length of the axis."""
    y = simulate(80)
    model = ProbabilisticPCA(Q)
    fit = jaxem.fit(model, y)
    roots, vectors = np.linalg.eigh(np.cov(y.T, bias=True))
    axes, roots = vectors[:, ::-1][:, :Q], roots[::-1][:Q]
    excess = roots - float(fit.params.variance)
    expected = (y - y.mean(axis=0)) @ axes * np.sqrt(excess) / roots
    np.testing.assert_allclose(np.abs(model.scores(fit.params, y).mean), np.abs(expected), atol=1e-8)


# reports and data


def test_report_shows_the_rotation():
    y = simulate()
    model = FactorAnalysis(Q, "oblimin")
    fit = jaxem.fit(model, y, stop=TIGHT)
    shown = model.shown(fit.params)
    np.testing.assert_array_equal(shown.loadings, model.rotate(fit.params).loadings)
    text = str(model.rotate(fit.params, names="abcdef"))
    assert "correlation with factor 0" in text
    assert text.splitlines()[2].startswith("a ")
    np.testing.assert_allclose(model.rotate(fit.params, "none").loadings, fit.params.loadings)
    assert model.details(fit.params)["rotated"]["method"] == "oblimin"


# covariances as data


def test_rows_that_stand_for_a_covariance():
    spread, mean = np.cov(simulate().T), np.arange(D) + 0.5
    rows = from_covariance(spread, 50, mean=mean, ddof=1)
    np.testing.assert_allclose(rows.weights.sum(), 50)
    average = rows.weights @ rows.y / 50
    np.testing.assert_allclose(average, mean)
    np.testing.assert_allclose((rows.y - average).T * rows.weights @ (rows.y - average) / 49, spread)
    fit = jaxem.fit(Single(Gaussian()), rows.y, weights=rows.weights)
    volume = np.linalg.slogdet(spread * 49 / 50)[1]
    np.testing.assert_allclose(fit.log_likelihood, -25 * (D * np.log(2 * np.pi) + volume + D), rtol=1e-12)


def test_names_of_a_covariance_are_kept():
    pandas = pytest.importorskip("pandas")
    rows = from_covariance(pandas.DataFrame(np.eye(3), columns=list("abc"), index=list("abc")), 10)
    assert list(rows.y.columns) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3)), 5), "covariance: found shape"),
        (([[1, 0.5], [0.4, 1]], 5), "covariance: is not symmetric"),
        (([[1, 2], [2, 1]], 5), "negative eigenvalue -1"),
        (([[1, np.nan], [np.nan, 1]], 5), "with NaN"),
        ((np.eye(2), 0), "n: found 0"),
        ((np.eye(2), "5"), "n: found '5'"),
    ],
)
def test_bad_covariances(arguments, message):
    with pytest.raises(ValueError, match=message):
        from_covariance(*arguments)
    with pytest.raises(ValueError, match="mean: found shape"):
        from_covariance(np.eye(2), 5, mean=[1, 2, 3])


# bad input

WRONG = {
    "ledermann": (FactorAnalysis(3), np.ones((9, 5)), "q: found 3 factors of 5 columns, which identify at most 2"),
    "two_columns": (FactorAnalysis(1), np.ones((9, 2)), "give more columns"),
    "all_components": (ProbabilisticPCA(3), np.ones((9, 3)), "q: found 3 factors of 3 columns, which identify at most 2"),
    "mixture": (Mixture(FactorGaussian(3), 2), np.ones((9, 5)), "at most 2"),
    "isotropic": (ProbabilisticPCA(1), np.concatenate([np.eye(4), -np.eye(4)]), "y: is isotropic"),
    "one_direction": (ProbabilisticPCA(2), np.concatenate([np.diag([2, 1, 1, 1]), -np.diag([2, 1, 1, 1])]), "but 1 direction"),
    "text": (FactorAnalysis(1), np.array([["a", "b", "c"]]), "give real numbers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_data(case):
    model, y, message = WRONG[case]
    with pytest.raises((ValueError, TypeError), match=message):
        jaxem.fit(model, np.asarray(y, float) if y.dtype.kind != "U" else y, key=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FactorAnalysis(0), "q: found 0"),
        (lambda: FactorAnalysis(1.5), "q: found 1.5"),
        (lambda: FactorAnalysis(1, "vari"), "rotation: found 'vari'; use one of none, varimax"),
        (lambda: FactorGaussian(1, isotropic="yes"), "isotropic: found 'yes'"),
        (lambda: FactorGaussian(1, gaussian=Gaussian("diagonal")), "give a full one"),
        (lambda: FactorAnalysis(1).test(start_at_random(3, 1, 0), np.array([[1, 2, np.nan], [1, 2, 3]])), "missing cells"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
