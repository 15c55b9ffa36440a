"""Bootstraps: samples as weights, data drawn in the form of those given, refits with the labels of the fit.

Standard errors are held to closed forms. One estimated from B refits has itself the relative error (2 B)^-1/2 where the refits are
normal; FAR of these are allowed.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxem import (
    Categorical,
    CensoredRegression,
    Gaussian,
    GaussianParams,
    HiddenMarkov,
    Interval,
    Latent,
    Mixture,
    MixtureParams,
    PoissonRegression,
    Regression,
    Sequences,
    Single,
    Stop,
    fit,
    prepare,
    standard_errors,
    tobit,
)
from jaxem.align import orders_towards
from jaxem.domains import Real
from jaxem.fit import fit_weighted
from jaxem.inference import bootstrap
from jaxem.inference.censoring import common_limits, draw_limits, record
from jaxem.inference.point import look_at
from jaxem.inference.replicates import replicate, template_of
from jaxem.result import Status

B = 400
FAR = 4.5
MEAN = Single(Gaussian("diagonal"))


def of_mean(y, method="bootstrap", key=1, **options):
    """The fit of a mean and variance of each column, and its bootstrap."""
    weights = options.get("weights")
    fitted = fit(MEAN, y, weights=weights)
    return standard_errors(MEAN, fitted.params, y, method, key=key, draws=B, **options)


def near(found, expected, slack=0.0):
    """Within Monte Carlo error, and `slack` for what the closed form leaves out."""
    return np.abs(np.asarray(found) / expected - 1) <= FAR / np.sqrt(2 * B) + slack


def columns(n=200):
    return np.random.default_rng(0).normal(size=(n, 2)) * [1.0, 3.0]


def holed(n=200):
    y = columns(n)
    y[: n // 2, 1] = np.nan
    return y


# standard errors against closed forms


def test_of_a_mean():
    y = columns()
    found = of_mean(y)
    assert near(found.standard_errors.mean, y.std(axis=0) / np.sqrt(len(y))).all()
    kurtosis = stats.kurtosis(y, fisher=False)
    assert near(found.standard_errors.covariance, y.var(axis=0) * np.sqrt((kurtosis - 1) / len(y)), 0.05).all()
    lower, upper = found.interval(0.9)
    ends = y.mean(axis=0) + stats.norm.ppf([[0.05], [0.95]]) * y.std(axis=0) / np.sqrt(len(y))
    # a quantile of B normal refits has this error, in units of their spread
    error = FAR * np.sqrt(0.05 * 0.95 / B) / stats.norm.pdf(stats.norm.ppf(0.05))
    assert (np.abs(np.stack([lower.mean, upper.mean]) - ends) <= (error + 0.1) * y.std(axis=0) / np.sqrt(len(y))).all()


@pytest.mark.slow
def test_same_key_same_refits():
    y = columns()
    first, again, other = (of_mean(y, key=key).draws for key in (3, jax.random.key(3), 4))
    assert (first == again).all()
    assert (first != other).all()


def test_weights_are_repetitions():
    y = columns()
    weights = np.ones(len(y))
    weights[:50], weights[50:60] = 3, 0
    long = np.repeat(y, weights.astype(int), axis=0)
    found = of_mean(y, weights=weights)
    assert near(found.standard_errors.mean, long.std(axis=0) / np.sqrt(len(long))).all()
    drawn = bootstrap.draw_weights(np.random.default_rng(0), weights, None, 5)
    assert (drawn.sum(axis=1) == weights.sum()).all()
    assert (drawn[:, 50:60] == 0).all()


def test_groups_are_drawn_as_one():
    y = columns()
    groups = np.arange(200) // 5
    shared = np.random.default_rng(1).normal(size=(40, 2))[groups] * 2
    y = y + shared
    found = of_mean(y, groups=groups)
    sums = np.array([(y - y.mean(axis=0))[groups == g].sum(axis=0) for g in range(40)])
    expected = np.sqrt((sums**2).sum(axis=0)) / len(y)
    assert near(found.standard_errors.mean, expected).all()
    assert (expected > 1.5 * y.std(axis=0) / np.sqrt(len(y))).any()  # rows alone would tell another


@pytest.mark.slow
def test_parametric_keeps_the_holes():
    y = holed()
    found = of_mean(y, "parametric_bootstrap")
    expected = np.nanstd(y, axis=0) / np.sqrt(np.isfinite(y).sum(axis=0))
    assert near(found.standard_errors.mean, expected, 0.02).all()
    rows = prepare(MEAN, y)
    template = template_of(y, rows, np.ones(200))
    drawn = np.array(replicate(MEAN, found.params, template, jax.random.split(jax.random.key(0), 3)))
    assert (np.isnan(drawn[:, :200]) == np.isnan(y)).all()
    assert (drawn[0, :200, 0] != drawn[1, :200, 0]).all()


# labels and failures


def test_orders_of_many_are_those_of_each():
    """Turned and jittered means come back: the order that undoes the turn, and the same as one by one."""
    model, rng = Mixture(Gaussian("diagonal"), 4), np.random.default_rng(9)
    mean = 10 * np.arange(4.0)[:, None]
    turns = np.stack([np.arange(4), *(rng.permutation(4) for _ in range(5))])

    def params(order):
        moved = GaussianParams(mean[order] + rng.normal(size=(4, 1)), np.ones((4, 1)))
        return MixtureParams(np.full(4, 0.25), moved)

    each = [params(order) for order in turns]
    found = orders_towards(model, jax.tree.map(lambda *leaves: np.stack(leaves), *each), params(np.arange(4)))
    assert (found == np.argsort(turns, axis=1)).all()


def two_components():
    rng = np.random.default_rng(2)
    y = np.where(rng.random(200) < 0.4, rng.normal(-3, 1, 200), rng.normal(3, 1, 200))[:, None]
    return Mixture(Gaussian(), 2), np.concatenate([y, 0.1 * rng.normal(size=(200, 1))], axis=1)


@pytest.mark.slow
def test_refits_have_the_labels_of_the_fit():
    model, y = two_components()
    fitted = fit(model, y, key=0)
    point = look_at(model, fitted.params, y)
    weights = bootstrap.draw_weights(np.random.default_rng(0), np.ones(200), None, 4)
    swapped = model.relabel(fitted.params, jnp.array([1, 0]))
    straight, turned = (
        bootstrap._aligned(point, fit_weighted(model, point.rows, weights, start, stop=Stop(1e-10)))
        for start in (fitted.params, swapped)
    )
    assert np.allclose(straight[0], turned[0], atol=1e-4)
    assert (np.sign(straight[0][:, 2]) == np.sign(point.cells.values[2])).all()


@pytest.mark.slow
def test_weighted_fits_are_fits():
    model, y = two_components()
    y = np.where(np.random.default_rng(5).random(y.shape) < 0.2, np.nan, y)
    rows = prepare(model, y)
    start = fit(model, rows, key=0, stop=Stop(max_steps=5)).params
    weights = bootstrap.draw_weights(np.random.default_rng(0), np.ones(200), None, 3)
    found = fit_weighted(model, rows, weights, start, stop=Stop(1e-10))
    for i in range(3):
        alone = fit(model, np.repeat(y, weights[i].astype(int), axis=0), params=start, stop=Stop(1e-10))
        assert np.isclose(alone.log_likelihood, found.log_likelihood[i], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"give \(B, 200\)"):
        fit_weighted(model, rows, np.ones(200), start)


@pytest.mark.slow
def test_failed_refits_are_counted():
    """A component of two points collapses in the samples that draw only one of them."""
    rng = np.random.default_rng(3)
    y = np.concatenate([rng.normal(size=(58, 1)), [[50.0], [51.0]]])
    model = Mixture(Gaussian("diagonal"), 2)
    fitted = fit(model, y, key=0, restarts=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = standard_errors(model, fitted.params, y, "bootstrap", key=0, draws=64)
    failed = np.isnan(found.draws).all(axis=1)
    once = 1 - (1 - 2 / 60) ** 60  # of the samples without either, and those with copies of one only, no second component is left
    assert 0 < failed.sum() < 64
    assert once < 1
    assert any(f"{failed.sum()} of 64 refits did not converge" in remark for remark in found.remarks)
    assert np.isfinite(found.errors).any()


# sequences


def chain(count=12, steps=9):
    rng = np.random.default_rng(4)
    lengths = rng.integers(5, steps + 1, count)
    y = rng.normal(size=(lengths.sum(), 1)) + 3 * (np.arange(lengths.sum()) % 8 < 4)[:, None]
    return HiddenMarkov(Gaussian("diagonal"), 2), Sequences(y, lengths)


@pytest.mark.slow
def test_sequences_are_drawn_whole():
    model, data = chain()
    fitted = fit(model, data, key=0, stop=Stop(max_steps=20))
    rows = prepare(model, data)
    often = np.zeros((2, 12))
    often[0, [0, 3]], often[1, 5:] = 2, 1
    found = fit_weighted(model, rows, often, fitted.params, stop=Stop(1e-9))
    ends = np.cumsum(data.lengths)
    parts = [data.y[end - length : end] for end, length in zip(ends, data.lengths, strict=True)]
    for i in range(2):
        repeated = [parts[s] for s in range(12) for _ in range(int(often[i, s]))]
        alone = fit(model, repeated, params=fitted.params, stop=Stop(1e-9))
        assert np.isclose(alone.log_likelihood, found.log_likelihood[i], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_lengths_and_holes_of_sequences_are_kept():
    model, data = chain()
    fitted = fit(model, data, key=0, stop=Stop(max_steps=20))
    ends = np.cumsum(data.lengths)
    data.y[ends[1] - 2] = np.nan  # in the second sequence
    template = template_of(data, prepare(model, data), np.arange(12) % 3)
    (drawn,) = replicate(model, fitted.params, template, jax.random.split(jax.random.key(0), 1))
    often = np.repeat(np.arange(12), np.arange(12) % 3)
    assert (drawn.lengths[: len(often)] == data.lengths[often]).all()
    assert template.weights.sum() == len(often)
    rows = np.concatenate([np.arange(ends[s] - data.lengths[s], ends[s]) for s in often])
    assert (np.isnan(drawn.y[: len(rows)]) == np.isnan(data.y[rows])).all()
    assert not np.isin(drawn.y[: len(rows)], data.y).any()


@pytest.mark.slow
def test_one_sequence_says_what_to_use():
    model, data = chain()
    fitted = fit(model, data, key=0, stop=Stop(max_steps=20))
    point = look_at(model, fitted.params, data, np.eye(12)[0])
    with pytest.raises(ValueError, match=r"only one sequence that says something.*parametric_bootstrap"):
        bootstrap.refit(point, data, "bootstrap", 0, 10)


# censoring


def test_common_limits():
    given = tobit(np.array([0.0, 0.0, 1.5, 2.0, np.nan]), left=0.0, right=2.0)
    found = record(np.array([[-1.0, 0.5, 3.0, 1.0, 1.0]]), given, np.random.default_rng(0))
    assert (found.lower[0] == [-np.inf, 0.5, 2.0, 1.0, -np.inf]).all()
    assert (found.upper[0] == [0.0, 0.5, np.inf, 1.0, np.inf]).all()


def test_brackets():
    """Answers by brackets: a gap between two of them is one as well."""
    lower, upper = np.array([0.0, 10.0, 30.0]), np.array([10.0, 20.0, np.inf])
    found = record(np.array([[12.0, 25.0, -1.0]]), Interval(lower, upper), np.random.default_rng(0))
    assert (found.lower[0] == [10, 20, -np.inf]).all()
    assert (found.upper[0] == [20, 30, 0]).all()


def test_own_limits():
    lower, upper = np.array([1.0, 2.0, 5.0, 4.0]), np.array([3.0, 6.0, 5.0, np.inf])
    assert common_limits(lower[[0, 1, 3]], upper[[0, 1, 3]], lower[[2]]) is None
    values = np.array([[2.0, 7.0, 3.0, 3.5], [0.5, 1.0, 3.0, 4.5]])
    found = record(values, Interval(lower, upper), np.random.default_rng(0))
    assert (found.lower == [[1, 6, 3, 3.5], [-np.inf, -np.inf, 3, 4]]).all()
    assert (found.upper == [[3, np.inf, 3, 3.5], [1, 2, 3, np.inf]]).all()


def test_limits_of_exact_rows():
    """Kaplan-Meier by hand: censored at 2 (of 4 at risk: 2, 3, 4, 5) and at 4 (of 2: 4, 5); after 5 nothing is known."""
    censored, exact = np.array([2.0, 4.0]), np.array([1.0, 3.0, 5.0])
    drawn = draw_limits(censored, exact, np.random.default_rng(0), 4000)
    first = [1 / 4, 3 / 4 * 1 / 2, 3 / 8]  # at 2, at 4, beyond
    second = [0, 1 / 2, 1 / 2]  # given that it lies beyond 3
    for column, expected in zip(drawn.T, (first, second), strict=False):
        share = np.array([(column == 2).mean(), (column == 4).mean(), np.isinf(column).mean()])
        assert (np.abs(share - expected) <= FAR * np.sqrt(0.25 / 4000)).all()
    assert np.isinf(drawn[:, 2]).all()


def drawn_like(data, model, n):
    """The first n rows of a data set drawn at starting params, and these."""
    params = model.init(0, data)
    template = template_of(data, prepare(model, data), np.ones(n))
    (drawn,) = replicate(model, params, template, jax.random.split(jax.random.key(0), 1))
    return jax.tree.map(lambda leaf: leaf[:n], drawn), params


def test_tobit_limits_stay():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(60, 1))
    data = Regression(tobit(1 + x[:, 0] + rng.normal(size=60), left=0.0), x)
    drawn, params = drawn_like(data, Single(CensoredRegression()), 60)
    censored = np.isneginf(drawn.y.lower)
    assert (drawn.y.upper[censored] == 0).all()
    assert (drawn.y.lower[~censored] > 0).all()
    assert (drawn.x == x).all()
    # by the model, row by row
    expected = stats.norm.cdf(0, params.intercept + x @ params.coefficients, np.sqrt(params.variance))
    assert abs(censored.sum() - expected.sum()) <= FAR * np.sqrt((expected * (1 - expected)).sum())


def test_rows_that_enter_late():
    rng = np.random.default_rng(7)
    entry = rng.uniform(0, 1, 50)
    y = entry + rng.exponential(size=50)
    drawn, _ = drawn_like(Regression(Interval(y, y, entry)), Single(CensoredRegression("exponential")), 50)
    assert (drawn.y.lower > entry).all()
    assert not np.isin(drawn.y.lower, y).any()


# categories, covariates


@pytest.mark.slow
def test_rare_categories_stay():
    letters = np.array([["a"], ["b"]] * 20 + [["c"]])
    model = Single(Categorical())
    fitted = fit(model, letters)
    found = standard_errors(model, fitted.params, letters, "parametric_bootstrap", key=0, draws=16)
    assert found.draws.shape == (16, 3)
    assert np.allclose(found.draws.sum(axis=1), 1)
    assert (found.draws[:, 2] == 0).any()  # the third was not drawn in all of them


@pytest.mark.slow
def test_offsets_are_kept():
    rng = np.random.default_rng(8)
    x, offset = rng.normal(size=(200, 1)), rng.normal(size=200)
    data = Regression(rng.poisson(np.exp(1 + 0.5 * x[:, 0] + offset)).astype(float), x, offset=offset)
    model = Single(PoissonRegression())
    fitted = fit(model, data)
    found = standard_errors(model, fitted.params, data, "parametric_bootstrap", key=0, draws=B)
    rate = np.exp(float(fitted.params.intercept) + x @ np.asarray(fitted.params.coefficients) + offset)
    design = np.column_stack([x[:, 0], np.ones(200)])
    expected = np.sqrt(np.diag(np.linalg.inv(design.T @ (rate[:, None] * design))))
    assert near(found.errors, expected, 0.02).all()


# bad input


def test_bad_input():
    y = holed()
    fitted = fit(MEAN, y)
    rows = prepare(MEAN, y)
    with pytest.raises(TypeError, match="are prepared"):
        standard_errors(MEAN, fitted.params, rows, "parametric_bootstrap", key=0, draws=4)
    with pytest.raises(ValueError, match="whole"):
        standard_errors(MEAN, fitted.params, y, "parametric_bootstrap", key=0, draws=4, weights=np.full(200, 1.5))
    with pytest.raises(ValueError, match=r"only one row that says something.*parametric_bootstrap"):
        bootstrap.refit(look_at(MEAN, fitted.params, rows, np.eye(200)[0]), y, "bootstrap", 0, 4)


def test_model_that_does_not_draw():
    model = Latent(lambda params, row, z: -0.5 * jnp.square(row - params["mean"]), {"mean": Real()}, 1)
    template = template_of(np.ones(3), prepare(MEAN, np.ones(3)), np.ones(3))
    with pytest.raises(TypeError, match=r'says: .* Take method="bootstrap"'):
        replicate(model, {"mean": jnp.zeros(())}, template, jax.random.split(jax.random.key(0), 1))


def test_remarks():
    assert bootstrap._remarks(np.full(3, Status.CONVERGED)) == ()
    (remark,) = bootstrap._remarks(np.array([Status.CONVERGED, Status.MAX_STEPS, Status.DEGENERATE]))
    assert "2 of 3" in remark
    assert "1 MAX_STEPS" in remark
