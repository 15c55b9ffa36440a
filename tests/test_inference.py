"""What a fit is worth: certificates, polish, rate, influence, profiles and tests against closed forms, refits and scipy."""

import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from test_oracles import case

import jaxem
from jaxem import (
    CensoredRegression,
    CensoredRegressionParams,
    Fit,
    Gaussian,
    Interval,
    Mixture,
    MixtureParams,
    Poisson,
    PoissonParams,
    Regression,
    Single,
    Status,
    Stop,
    information,
)
from jaxem.inference.chi_square import chi_square_tail

ONE, TWO = Single(Gaussian()), Mixture(Poisson(), 2)
rng = np.random.default_rng(0)
COUNTS = np.concatenate([rng.poisson(1.5, (40, 1)), rng.poisson(6.0, (20, 1))]).astype(float)
TIGHT = Stop(tolerance=1e-10, max_steps=5000)
CHI = stats.chi2.ppf(0.95, 1)


def cells(params):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)]).astype(float)


@pytest.fixture(scope="module")
def fitted():
    return jaxem.fit(TWO, COUNTS, key=0, restarts=3, stop=TIGHT)


@pytest.fixture(scope="module")
def polished(fitted):
    return jaxem.polish(TWO, fitted, COUNTS)


# certificates


def murray(correlation, tolerance=1e-9):
    y, expected = case("mvn_missing_murray", ["x1", "x2"])
    start = ONE.init(None, y)
    start = start._replace(mean=jnp.zeros(2), covariance=2.5 * jnp.array([[1.0, correlation], [correlation, 1.0]]))
    return y, jaxem.fit(ONE, y, params=start, stop=Stop(tolerance=tolerance)), expected


@pytest.mark.slow
def test_murray_both_maxima_are_certified():
    for sign in (1, -1):
        y, fit, expected = murray(0.4 * sign)
        found = jaxem.certificate(ONE, fit, y)
        assert found.verdict == "maximum"
        assert found.trusted
        assert found.boundary == ()
        truth = expected["maxima"][0 if sign > 0 else 1]
        exact = jaxem.polish(ONE, fit, y)
        np.testing.assert_allclose(exact.params.covariance, 8 / 3 * np.array([[1, sign / 2], [sign / 2, 1]]), rtol=1e-9, atol=0)
        covariance = jaxem.standard_errors(ONE, exact.params, y).covariance
        lower = np.ix_([0, 1, 2, 4, 5], [0, 1, 2, 4, 5])  # means and the lower triangle
        eigenvalues = np.linalg.eigvalsh(np.linalg.inv(covariance[lower]))
        np.testing.assert_allclose(eigenvalues, truth["information_eigenvalues"], rtol=1e-5)


@pytest.mark.slow
def test_murray_saddle_is_named():
    y, fit, _ = murray(0.0)
    found = jaxem.certificate(ONE, fit, pd.DataFrame(y, columns=["a", "b"]))
    assert found.verdict == "saddle"
    assert not found.trusted
    assert "A saddle, no maximum: the likelihood rises along +covariance[b, a]" in str(found)
    assert "not to be trusted: this is a saddle" in str(found)
    same = jaxem.polish(ONE, fit, y)  # an exact saddle: the gradient says nothing
    np.testing.assert_allclose(same.params.covariance, 2.5 * np.eye(2), atol=1e-8)
    with pytest.warns(UserWarning, match="rate|positive definite"):
        jaxem.standard_errors(ONE, fit.params, y)
    assert jaxem.convergence_rate(ONE, fit.params, y).radius > 1


@pytest.mark.slow
def test_fit_stopped_early_is_not_to_be_trusted():
    y, fit, _ = murray(0.4, tolerance=1e-3)
    found = jaxem.certificate(ONE, fit, y)
    assert found.status == Status.CONVERGED
    assert found.verdict == "maximum"
    assert not found.trusted
    lines = str(found).split("\n")
    assert len(lines) == 4
    assert "Standard errors are not to be trusted: the stop was not tight enough" in lines[3]
    assert "jaxem.polish" in lines[3]
    assert json.loads(json.dumps(found.to_dict()))["trusted"] is False
    assert {each["name"] for each in found.records()} >= {"status", "verdict", "smallest", "boundary"}
    better = jaxem.polish(ONE, fit, y)
    assert jaxem.certificate(ONE, better, y).trusted


def test_certificate_of_restarts_and_edges(fitted):
    found = jaxem.certificate(TWO, fitted, COUNTS)
    assert (found.restarts, found.reached, found.failed) == (3, 3, 0)
    assert "3 of 3 restarts reached this value" in str(found)
    below = fitted._replace(
        restart_log_likelihoods=fitted.log_likelihood - jnp.array([0.0, 3.0, 7.0]),
        restart_statuses=jnp.array([1, 1, Status.DEGENERATE]),
    )
    other = jaxem.certificate(TWO, below, COUNTS)
    assert (other.reached, other.failed, len(other.others)) == (1, 1, 1)
    assert "1 of 3 restarts reached this value; the other 1 ended 3 below it; 1 failed." in str(other)
    early = jaxem.fit(TWO, COUNTS, params=fitted.params._replace(weights=jnp.array([0.5, 0.5])), stop=Stop(tolerance=1e-2))
    assert early.status == Status.CONVERGED
    assert "not to be trusted: the stop was not tight enough" in str(jaxem.certificate(TWO, early, COUNTS))


@pytest.mark.slow
def test_components_that_are_the_same_are_a_flat_ridge(fitted):
    mean = COUNTS.mean()
    params = MixtureParams(jnp.array([0.5, 0.5]), PoissonParams(jnp.array([[mean], [mean]])))
    found = jaxem.certificate(TWO, fitted._replace(params=params), COUNTS)
    assert found.verdict == "saddle"  # flat along the weights; and the counts vary more than a Poisson law's
    assert not found.trusted
    poor = np.arange(60.0)[:, None] % 3 + 1  # they vary less than a Poisson law's: the likelihood falls when components part
    same = MixtureParams(jnp.array([0.5, 0.5]), PoissonParams(jnp.full((2, 1), poor.mean())))
    ridge = jaxem.certificate(TWO, fitted._replace(params=same), poor)
    assert ridge.verdict == "flat ridge"
    assert "A flat ridge: the likelihood does not change along" in str(ridge)


# polish


def test_polish_to_the_last_digit(fitted, polished):
    early = jaxem.fit(TWO, COUNTS, params=fitted.params._replace(weights=jnp.array([0.5, 0.5])), stop=Stop(max_steps=2))
    assert early.status == Status.MAX_STEPS
    found = jaxem.polish(TWO, early, COUNTS)
    assert found.status == Status.CONVERGED
    assert found.objective >= early.objective
    assert found.steps > early.steps
    assert found.passes > early.passes
    np.testing.assert_allclose(cells(found.params), cells(polished.params), rtol=1e-9)
    rows = TWO.prepare(COUNTS)
    u = TWO.to_unconstrained(found.params)
    gradient = jax.grad(lambda v: TWO.log_likelihood(TWO.from_unconstrained(v), rows))(u)
    own = np.sqrt(np.diag(np.asarray(information.oakes(TWO, u, found.params, rows))))
    assert np.abs(np.asarray(gradient) / own).max() < 1e-9  # that of another route; its rounding is its own
    assert float(found.log_likelihood) == pytest.approx(float(TWO.log_likelihood(found.params, rows)), abs=1e-10)
    assert found.gap < 1e-18
    again = jaxem.polish(TWO, found, COUNTS)
    assert again.steps == found.steps
    assert (cells(again.params) == cells(found.params)).all()
    assert set(Fit._fields) == set(again._fields)


def test_polish_leaves_collapsed_fits(fitted):
    collapsed = fitted._replace(status=jnp.asarray(Status.DEGENERATE))
    assert jaxem.polish(TWO, collapsed, COUNTS) is collapsed


# the rate


def test_rate_is_that_of_the_history(fitted, polished):
    """Near the maximum the gain of a step is the one before times the square of the rate."""
    start = fitted.params._replace(weights=jnp.array([0.5, 0.5]))
    run = jaxem.fit(TWO, COUNTS, params=start, stop=Stop(tolerance=0, max_steps=60))
    left = float(polished.objective) - np.asarray(run.history)
    left = left[(left > 1e-9) & (left < 1e-3)]
    assert len(left) > 5
    seen = np.sqrt(left[-1] / left[-2])
    rate = jaxem.convergence_rate(TWO, polished.params, COUNTS)
    assert rate.dense
    assert rate.remarks == ()
    assert abs(rate.radius - seen) < 0.01 * seen  # gains down to 1e-9 hold the ratio to about 1e-3
    assert rate.steps_per_digit == pytest.approx(np.log(10) / -np.log(rate.radius))
    assert f"{rate.radius:.6f}" in str(rate)


def test_rate_is_the_derivative_of_the_em_map(polished, monkeypatch):
    rows = TWO.prepare(COUNTS)
    u = TWO.to_unconstrained(polished.params)
    by_hand = np.asarray(jax.jacfwd(lambda v: information.em_map(TWO, v, polished.params, rows))(u))
    values, vectors = np.linalg.eig(by_hand)
    dense = jaxem.convergence_rate(TWO, polished.params, COUNTS)
    np.testing.assert_allclose(dense.eigenvalues, np.sort(values.real)[::-1], atol=1e-9)
    slow = np.asarray(information.natural(TWO, u, polished.params)) @ vectors[:, np.argmax(values.real)].real
    np.testing.assert_allclose(dense.direction, slow / slow[np.argmax(np.abs(slow))], atol=1e-7)
    monkeypatch.setattr(importlib.import_module("jaxem.inference.convergence_rate"), "DENSE", 0)
    free = jaxem.convergence_rate(TWO, polished.params, COUNTS)
    assert not free.dense
    assert free.radius == pytest.approx(dense.radius, abs=1e-8)
    assert free.slowest == dense.slowest
    assert json.loads(json.dumps(free.to_dict()))["dense"] is False


@pytest.mark.thorough
def test_rate_without_missing_information():
    y = rng.normal(size=(30, 2))
    rate = jaxem.convergence_rate(ONE, jaxem.fit(ONE, y).params, y)
    assert rate.radius < 1e-10
    assert "arrives in one step" in str(rate)


@pytest.mark.slow
def test_supplemented_by_steps(polished):
    """The classic DM comes near to the exact one and says by how much it misses; its covariance is not symmetric."""
    start = polished.params._replace(weights=jnp.array([0.6, 0.4]))
    found = jaxem.supplemented_by_steps(TWO, polished.params, COUNTS, start, tolerance=1e-6)
    rows = TWO.prepare(COUNTS)
    u = TWO.to_unconstrained(polished.params)
    exact = np.asarray(jax.jacfwd(lambda v: information.em_map(TWO, v, polished.params, rows))(u)).T
    assert found.settled.all()
    missed = np.abs(found.dm - exact).max(axis=1)
    assert (missed < 10 * found.error + 1e-6).all()
    assert missed.max() < 1e-2
    assert 0 < found.asymmetry < 0.1
    plain = jaxem.standard_errors(TWO, polished.params, COUNTS, "supplemented").errors
    np.testing.assert_allclose(found.errors, plain, rtol=0.02)
    assert "asymmetry" in str(found)
    with pytest.raises(ValueError, match="start: is the maximum itself"):
        jaxem.supplemented_by_steps(TWO, polished.params, COUNTS, polished.params)


# influence


def refit(weights, polished):
    return jaxem.polish(TWO, jaxem.fit(TWO, COUNTS, params=polished.params, weights=weights, stop=TIGHT), COUNTS, weights)


def test_influence_is_the_derivative_by_a_weight(polished):
    found = jaxem.influence(TWO, polished.params, COUNTS)
    step = 1e-3
    for row in (0, 45):
        moved = [cells(refit(1 + sign * step * np.eye(60)[row], polished).params) for sign in (1, -1)]
        np.testing.assert_allclose(found.derivative[row], (moved[0] - moved[1]) / (2 * step), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_influence_by_refits_without_each_row(polished):
    """To first order: the error of leaving out half as much is about a quarter."""
    found = jaxem.influence(TWO, polished.params, COUNTS)
    top = found.most(4)
    assert (found.cooks_distance[top[:-1]] >= found.cooks_distance[top[1:]]).all()
    for row in top[:2]:
        errors, fall = [], []
        for share in (0.5, 0.25):
            other = refit(1 - share * np.eye(60)[row], polished)
            errors.append(np.abs(cells(other.params) - (cells(polished.params) - share * found.derivative[row])).max())
            fall.append(2 * float(polished.log_likelihood - TWO.log_likelihood(other.params, COUNTS)) / share**2 / 3)
        assert 3 < errors[0] / errors[1] < 5.5
        limit = fall[1] + (fall[1] - fall[0])  # extrapolated to leaving out next to nothing
        assert found.cooks_distance[row] == pytest.approx(limit, rel=0.1)


@pytest.mark.slow
def test_leaving_one_out(polished):
    """Log-likelihood of each row at the params fitted without it, for all 60."""
    found = jaxem.influence(TWO, polished.params, COUNTS)
    each = []
    for row in range(60):
        other = jaxem.fit(TWO, COUNTS, params=polished.params, weights=1 - np.eye(60)[row], stop=TIGHT)
        each.append(float(TWO.log_likelihood(other.params, COUNTS, per_row=True)[row]))
    fitted = found.log_likelihood.sum()
    assert fitted == pytest.approx(float(polished.log_likelihood))
    gap = fitted - np.sum(each)
    assert abs(found.total_leave_one_out - np.sum(each)) < 0.25 * gap  # what is not of first order
    assert np.corrcoef(found.leverage, found.log_likelihood - each)[0, 1] > 0.98


def test_influence_of_groups_weights_and_edges(polished):
    groups = np.arange(60) // 5
    found, rows = jaxem.influence(TWO, polished.params, COUNTS, groups=groups), jaxem.influence(TWO, polished.params, COUNTS)
    np.testing.assert_allclose(found.derivative[3], rows.derivative[15:20].sum(axis=0), atol=1e-12)
    assert len(found.cooks_distance) == 12
    values, counts = np.unique(COUNTS, return_counts=True)
    table = jaxem.influence(TWO, polished.params, values[:, None], weights=counts)
    own = [np.flatnonzero(COUNTS[:, 0] == value)[0] for value in values]
    np.testing.assert_allclose(table.leave_one_out, rows.leave_one_out[own], rtol=1e-8)  # one repetition is left out
    assert table.total_leave_one_out == pytest.approx(rows.total_leave_one_out)
    without = cells(rows.without(0))
    np.testing.assert_allclose(without, cells(polished.params) - rows.derivative[0])
    assert json.loads(json.dumps(table.to_dict()))["most_influential"][0]["row"] == int(table.most(1)[0])
    assert "leaving one out" in str(table)
    with pytest.raises(ValueError, match="groups: found shape"):
        jaxem.influence(TWO, polished.params, COUNTS, groups=groups[:5])


# profiles


def closed(fall, estimate, low, high):
    return [optimize.brentq(lambda v: fall(v) - CHI, *ends) for ends in ((low, estimate), (estimate, high))]


@pytest.mark.slow
def test_profile_of_a_normal_mean_and_variance():
    y = rng.normal(2.0, 1.5, size=(25, 1))
    fit, n, s2 = jaxem.fit(ONE, y), 25, y.var()
    frame = pd.DataFrame(y, columns=["waiting"])
    found = jaxem.profile(ONE, fit, frame, "mean[waiting]", points=5)
    reach = np.sqrt(np.expm1(CHI / n) * s2)  # n log(1 + t^2 / (n - 1)) = quantile
    np.testing.assert_allclose(found.interval, [y.mean() - reach, y.mean() + reach], rtol=1e-7)
    fall = n * np.log1p(np.square(found.values - y.mean()) / s2)
    np.testing.assert_allclose(np.square(found.signed_root), fall, rtol=1e-6, atol=1e-9)
    assert found.remarks == ()
    found = jaxem.profile(ONE, fit, y, "covariance[x0, x0]", points=0)
    exact = closed(lambda v: n * (np.log(v / s2) + s2 / v - 1), s2, s2 / 10, 10 * s2)
    np.testing.assert_allclose(found.interval, exact, rtol=1e-7)
    assert json.loads(json.dumps(found.to_dict()))["values"] == []


@pytest.mark.slow
def test_profile_of_a_poisson_rate():
    model, y = Single(Poisson()), COUNTS[:30]
    mean, n = y.mean(), 30
    found = jaxem.profile(model, jaxem.fit(model, y), y, "rate[x0]", level=0.95, points=3)
    exact = closed(lambda v: 2 * n * (mean * np.log(mean / v) - mean + v), mean, mean / 10, 10 * mean)
    np.testing.assert_allclose(found.interval, exact, rtol=1e-7)
    assert "95 % profile likelihood interval" in str(found)


@pytest.mark.thorough
def test_profile_of_a_probability():
    model, y = Single(jaxem.Bernoulli()), np.array([[1.0]] * 7 + [[0.0]] * 13)
    found = jaxem.profile(model, jaxem.fit(model, y), y, "probability[x0]", points=0)
    exact = closed(lambda p: -2 * stats.binom.logpmf(7, 20, p) + 2 * stats.binom.logpmf(7, 20, 0.35), 0.35, 1e-3, 0.999)
    np.testing.assert_allclose(found.interval, exact, rtol=1e-7)


def mixture_log_likelihood(x, y):
    weight, rates = x[0], x[1:]
    joint = stats.poisson.logpmf(y, rates) + np.log([weight, 1 - weight])
    return np.logaddexp.reduce(joint, axis=1).sum()


@pytest.mark.parametrize("name", ["weights[0]", pytest.param("rate[1, x0]", marks=pytest.mark.thorough)])
def test_profile_of_a_mixture_by_scipy(polished, name):
    found = jaxem.profile(TWO, polished, COUNTS, name, points=4)
    place = {"weights[0]": 0, "rate[1, x0]": 2}[name]
    best = np.array([polished.params.weights[0], *polished.params.components.rate[:, 0]], float)

    def held(value):
        rest = [i for i in range(3) if i != place]
        bounds = [(1e-6, 1 - 1e-6), (1e-3, 30), (1e-3, 30)]

        def fall(x):
            whole = best.copy()
            whole[place], whole[rest] = value, x
            return -mixture_log_likelihood(whole, COUNTS)

        return -optimize.minimize(fall, best[rest], bounds=[bounds[i] for i in rest], tol=1e-12).fun

    np.testing.assert_allclose([held(value) for value in found.values], found.log_likelihoods, atol=1e-5)
    for end in found.interval:
        assert 2 * (float(polished.log_likelihood) - held(end)) == pytest.approx(CHI, abs=1e-4)
    assert found.remarks == ()


@pytest.mark.slow
def test_profile_that_does_not_fall_is_open():
    """A second component for one row of 30: without it the log-likelihood falls by less than 1.92, so that its weight may be 0."""
    y = np.append(np.tile([1.0, 2.0, 3.0], 10), 9.0)[:, None]
    fit = jaxem.fit(TWO, y, key=0, restarts=3, stop=TIGHT)
    fit = jaxem.polish(TWO, fit, y)
    alone = -optimize.minimize_scalar(lambda rate: -stats.poisson.logpmf(y, rate).sum(), bounds=(1, 5), method="bounded").fun
    assert float(fit.log_likelihood) - alone < CHI / 2
    found = jaxem.profile(TWO, fit, y, "weights[0]", points=0)
    assert found.interval == (0, 1)  # near 0 as well, with the components exchanged
    assert "does not fall by enough for the upper limit" in " ".join(found.remarks)
    assert "rises again on the way to the lower limit" in " ".join(found.remarks)


# tests of hypotheses


def test_chi_square_tail():
    for df in (1, 2, 3, 4, 7, 10, 51, 200):
        for x in (0.0, 1e-8, 0.5, 3.84, 20.0, 300.0, 900.0):
            assert chi_square_tail(x, df) == pytest.approx(stats.chi2.sf(x, df), rel=1e-10)
    assert np.isnan(chi_square_tail(float("nan"), 3))


@pytest.mark.slow
def test_three_tests_of_a_poisson_rate():
    model, y, n = Single(Poisson()), COUNTS[:30], 30
    fit, mean = jaxem.fit(model, y), COUNTS[:30].mean()
    wald = jaxem.wald_test(jaxem.standard_errors(model, fit.params, y), {"rate[x0]": 1.0})
    assert wald.statistic == pytest.approx(n * (mean - 1) ** 2 / mean)
    assert wald.p_value == pytest.approx(stats.chi2.sf(wald.statistic, 1))
    null_model = Single(Poisson(), fixed={"rate": 1.0})
    null = jaxem.fit(null_model, y)
    ratio = jaxem.likelihood_ratio_test(null, fit, null_model=null_model, model=model, data=y)
    assert ratio.statistic == pytest.approx(2 * n * (mean * np.log(mean) - mean + 1))
    assert ratio.df == 1
    for told in ({"restricted": "rate[x0]"}, {"null_model": null_model}):
        score = jaxem.score_test(model, null.params, y, **told)
        assert score.statistic == pytest.approx(n * (mean - 1) ** 2)
        assert score.df == 1
        assert score.remarks == ()
    assert "1 degree of freedom" in str(score)


def test_wald_by_matrix(polished):
    found = jaxem.standard_errors(TWO, polished.params, COUNTS)
    difference = np.array([[0.0, 0.0, 1.0, -1.0]])
    test = jaxem.wald_test(found, difference, -4.0)
    gap = (difference @ found.cells.values + 4.0)[0]
    assert test.statistic == pytest.approx(gap**2 / (difference @ found.covariance @ difference.T)[0, 0])
    both = jaxem.wald_test(found, {"rate[0, x0]": 1.0, "rate[1, x0]": 5.0})
    assert both.df == 2
    with pytest.raises(ValueError, match="follow from others"):
        jaxem.wald_test(found, {"weights[0]": 0.5, "weights[1]": 0.5})
    with pytest.raises(ValueError, match="'rate' is none of the 4 params"):
        jaxem.wald_test(found, {"rate": 0.5})
    with pytest.raises(ValueError, match="give \\(m, 4\\)"):
        jaxem.wald_test(found, np.ones((1, 3)))


@pytest.mark.slow
def test_number_of_components_has_no_chi_square(polished):
    one = Mixture(Poisson(), 1)
    null = jaxem.fit(one, COUNTS, key=0)
    test = jaxem.likelihood_ratio_test(null, polished, null_model=one, model=TWO, data=COUNTS)
    assert test.p_value is None
    assert test.df == 2
    assert "bootstrap" in str(test)
    assert "no p-value" in str(test)
    assert json.loads(json.dumps(test.to_dict()))["p_value"] is None
    with pytest.raises(ValueError, match="null_model: has 2 more free parameters"):
        jaxem.likelihood_ratio_test(polished, null, null_model=TWO, model=one, data=COUNTS)


def test_score_says_where_the_null_is_not_at_its_maximum(polished):
    off = polished.params._replace(components=PoissonParams(jnp.array([[2.5], [6.0]])))
    test = jaxem.score_test(TWO, off, COUNTS, restricted="rate[0, x0]")
    assert "not the null's maximum" in test.remarks[0]


# bad input


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda f: jaxem.certificate(TWO, f.params, COUNTS), "fit: found MixtureParams"),
        (lambda f: jaxem.polish(TWO, jax.tree.map(lambda x: x[None], f), COUNTS), "fit: holds 1 fits; take one"),
        (lambda f: jax.jit(lambda y: jaxem.convergence_rate(TWO, f.params, y))(COUNTS), "traced; call this outside of jit"),
        (lambda f: jaxem.profile(TWO, f, COUNTS, "rate[2, x0]"), "'rate\\[2, x0\\]' is none of the 4 params; there are rate"),
        (lambda f: jaxem.profile(TWO, f, COUNTS, 3), "name: found 3"),
        (lambda f: jaxem.profile(TWO, f, COUNTS, "weights[0]", points=-1), "points: found -1"),
        (lambda f: jaxem.profile(TWO, f, COUNTS, "weights[0]", level=95), "level: found 95"),
        (lambda f: jaxem.supplemented_by_steps(TWO, f.params, COUNTS, f.params, tolerance=0), "tolerance: found 0"),
        (lambda f: jaxem.score_test(TWO, f.params, COUNTS), "restricted: give the names"),
        (lambda f: jaxem.score_test(TWO, f.params, COUNTS, restricted=3), "restricted: found 3"),
        (lambda f: jaxem.score_test(TWO, f.params, COUNTS, null_model=ONE), "null_model: its params have another structure"),
        (lambda f: jaxem.wald_test(f, {}), "inference: found Fit"),
    ],
)
def test_bad_input(act, says, polished):
    with pytest.raises((TypeError, ValueError), match=says):
        act(polished)


@pytest.mark.slow
def test_what_is_held_or_at_the_edge_has_no_profile():
    model, zeros = Single(Poisson()), np.zeros((6, 1))
    none = jaxem.fit(model, zeros)
    assert jaxem.certificate(model, none, zeros).boundary == ("rate[x0]",)
    assert jaxem.polish(model, none, zeros).params.rate[0] == none.params.rate[0]
    with pytest.raises(ValueError, match="on the edge of its domain"):
        jaxem.profile(model, none, zeros, "rate[x0]")
    held = Single(Poisson(), fixed={"rate": 1.0})
    with pytest.raises(ValueError, match="held by the model"):
        jaxem.profile(held, jaxem.fit(held, COUNTS), COUNTS, "rate[x0]")
    tied = Mixture(Poisson(), 2, tied=("rate",))
    same = jaxem.fit(tied, COUNTS, key=0)
    with pytest.raises(ValueError, match="no unique maximum"):
        jaxem.profile(tied, same, COUNTS, "weights[0]")


def test_early_params_bring_a_remark(fitted):
    early = jaxem.fit(TWO, COUNTS, params=fitted.params._replace(weights=jnp.array([0.5, 0.5])), stop=Stop(max_steps=2))
    with pytest.warns(UserWarning, match="no stationary point"):
        jaxem.influence(TWO, early.params, COUNTS)
    assert "no fixed point" in str(jaxem.convergence_rate(TWO, early.params, COUNTS))
    assert "no stationary point" in jaxem.profile(TWO, early, COUNTS, "weights[0]", points=0).remarks[0]


# second derivatives far out in the tails


@pytest.mark.slow
def test_second_derivatives_where_a_component_is_impossible():
    """A Weibull component of scale 1e-3 lies e^1000 away from most rows: it moves nothing, and its 0 times infinity is not NaN."""
    left = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 7.0])
    data = Regression(Interval(left, np.array([1.0, 2.0, np.inf, 4.0, 6.5, np.inf])))
    model = Mixture(CensoredRegression("weibull"), 2)
    rows, seen = model.prepare(data), []
    for scale in (1.1e-3, 1e-4):
        inner = CensoredRegressionParams(jnp.zeros((2, 0)), jnp.array([1.0, -0.2]), jnp.array([0.6, scale]))
        params = MixtureParams(jnp.array([0.5, 0.5]), inner)
        u = model.to_unconstrained(params)
        for method in (information.oakes, information.observed):
            found = np.asarray(method(model, u, params, rows))
            assert np.isfinite(found).all()
            seen.append(found)
    np.testing.assert_allclose(seen[1:], seen[:1] * 3, rtol=1e-8, atol=1e-10)
