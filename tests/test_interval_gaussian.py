"""Gaussian cells known to lie in intervals: rectangles with known probabilities, tails, fits, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import interval_gaussian as case
from scipy import special, stats

import jaxem
from jaxem import Gaussian, GaussianParams, Interval, Mixture, Single, Status, Stop
from jaxem.kernels.rectangle import Box, log_probability, moments

ACCURACY = {1: 1e-13, 2: 1e-8, 3: 1e-8, 4: 1e-6, 5: 1e-4}  # of the logarithm, as Gaussian's docstring says
DIAGONAL, FULL = Single(Gaussian("diagonal")), Single(Gaussian("full"))


def rectangle(lower, upper, covariance):
    """log P and moments of w of one rectangle about 0."""
    factor = np.linalg.cholesky(covariance)
    lower, upper = np.asarray(lower, float), np.asarray(upper, float)
    box = Box(*([jnp.asarray([v]) for v in part] for part in (lower, upper, upper - lower)))
    rows = [[jnp.asarray([v]) for v in row] for row in factor]
    found, given = both(box, rows)
    return float(found[0]), given


@jax.jit
def both(box, rows):
    return log_probability(box, rows), moments(box, rows)


def scipys(lower, upper, covariance):
    """Genz's integral in scipy."""
    d = len(covariance)
    more = {"maxpts": 100_000 * d, "abseps": 1e-8, "releps": 1e-7, "rng": np.random.default_rng(0)}
    return np.log(stats.multivariate_normal.cdf(upper, np.zeros(d), covariance, lower_limit=lower, **more))


def equicorrelated(m, rho=0.5):
    return (1 - rho) * np.eye(m) + rho


SIZES = [1, 2, 3, pytest.param(4, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)]


@pytest.mark.parametrize("m", SIZES)
def test_orthants(m):
    """With all correlations 1/2 the orthant has probability 1 / (m + 1)."""
    found, _ = rectangle(np.zeros(m), np.full(m, np.inf), equicorrelated(m))
    np.testing.assert_allclose(found, -np.log(m + 1), rtol=0, atol=ACCURACY[m])


@pytest.mark.parametrize("m", SIZES[1:])
def test_rectangles(m):
    """Genz's integrals in scipy, which are known to about 1e-5."""
    rng = np.random.default_rng(m)
    for _ in range(2):
        a = rng.normal(size=(m, m + 2))
        covariance = a @ a.T
        scale = np.sqrt(np.diag(covariance))
        lower, upper = scale * rng.uniform(-2, 0.5, m), scale * rng.uniform(0.6, 2, m)
        lower[rng.random(m) < 0.3] = -np.inf
        theirs = scipys(lower, upper, covariance)
        np.testing.assert_allclose(rectangle(lower, upper, covariance)[0], theirs, rtol=0, atol=max(5e-5, ACCURACY[m]))


@pytest.mark.parametrize("m", SIZES[:4])
def test_forty_standard_deviations_out(m):
    """Independent tails: the logarithm is the sum of the single ones, and moments stay in the interval."""
    found, given = rectangle(np.full(m, 40.0), np.full(m, np.inf), np.eye(m))
    np.testing.assert_allclose(found, m * special.log_ndtr(-40), rtol=1e-7)
    mean = np.array([float(v[0]) for v in given.mean])
    assert ((mean > 40) & (mean < 40.05)).all()
    assert all(0 < float(given.covariance[i][i][0]) < 1e-3 for i in range(m))
    narrow, _ = rectangle(np.full(m, 40.0), np.full(m, 40.0 + 1e-9), np.eye(m))
    np.testing.assert_allclose(narrow, m * (stats.norm.logpdf(40) + np.log(1e-9)), rtol=1e-6)


@pytest.mark.slow
def test_correlated_tails_have_a_finite_gradient():
    params = GaussianParams(jnp.zeros(2), jnp.asarray([[1.0, 0.9], [0.9, 1.0]]))
    lower = np.array([[40.0, -np.inf], [-np.inf, 40.0], [40.0, 40.0]])
    y = Interval(lower, np.array([[np.inf, -40.0], [-40.0, 41.0], [41.0, 41.0]]))
    rows = FULL.prepare(y)
    value, slopes = jax.jit(jax.value_and_grad(lambda params: FULL.log_likelihood(params, rows)))(params)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in slopes)
    moved = FULL.m_step(params, FULL.e_step(params, rows).statistics)
    assert all(np.isfinite(leaf).all() for leaf in moved)


def test_exact_cells_are_plain_rows():
    y = case.gaussian.simulate(40)[:, :2]
    params = jax.tree.map(jnp.asarray, case.start("full"))
    model, weights = Mixture(Gaussian(), 3), jnp.asarray([0.3, 0.5, 0.2])
    params = jaxem.MixtureParams(weights, params)
    ours = model.log_likelihood(params, Interval(y, y), per_row=True)
    np.testing.assert_allclose(ours, model.log_likelihood(params, y, per_row=True), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("model", [DIAGONAL, pytest.param(FULL, marks=pytest.mark.slow)], ids=["diagonal", "full"])
def test_fit_is_stationary_and_near_the_truth(model):
    rng = np.random.default_rng(3)
    mean, root = np.array([1.0, -2.0]), np.array([[1.0, 0.0], [0.8, 0.6]])
    y = mean + rng.normal(size=(150, 2)) @ root.T
    kind = rng.integers(0, 4, y.shape)
    gap = rng.exponential(0.7, y.shape)
    lower = np.where(kind == 0, y, np.where(kind == 1, -np.inf, y - gap))
    upper = np.where(kind == 0, y, np.where(kind == 2, np.inf, y + gap))
    data = Interval(lower, upper)
    rows = model.prepare(data)
    fit = jaxem.fit(model, rows, stop=Stop(tolerance=1e-9, max_steps=5000))
    assert fit.status == Status.CONVERGED
    u = model.to_unconstrained(fit.params)
    score = jax.jit(jax.grad(lambda u: model.log_likelihood(model.from_unconstrained(u, like=fit.params), rows)))(u)
    np.testing.assert_allclose(score, 0, atol=1e-3)
    np.testing.assert_allclose(fit.params.mean, mean, atol=0.3)
    variance = fit.params.covariance if model is DIAGONAL else np.diagonal(fit.params.covariance)
    np.testing.assert_allclose(variance, 1, atol=0.5)
    filled = np.asarray(model.impute(fit.params, data))
    assert ((filled >= lower) & (filled <= upper)).all()


def test_truncated_means_are_scipys():
    params = GaussianParams(jnp.asarray([0.5]), jnp.asarray([4.0]))
    lower, upper = np.array([-np.inf, 1.0, 2.0, -np.inf]), np.array([0.0, np.inf, 2.5, np.inf])
    filled, variance = DIAGONAL.impute(params, Interval(lower, upper), covariance=True)
    ends = (lower - 0.5) / 2, (upper - 0.5) / 2
    np.testing.assert_allclose(filled[:, 0], stats.truncnorm(*ends, loc=0.5, scale=2).mean(), rtol=1e-9)
    np.testing.assert_allclose(variance[:, 0, 0], stats.truncnorm(*ends, loc=0.5, scale=2).var(), rtol=1e-7)


@pytest.mark.slow
def test_float32_keeps_its_digits():
    data = case.simulate(30)
    params = case.one_state(case.start("full"), FULL)
    narrow = FULL.log_likelihood(case.gaussian.GaussianParams(*(np.float32(leaf) for leaf in params)), case.Interval(
        data.lower.astype(np.float32), data.upper.astype(np.float32)), per_row=True)  # fmt: skip
    assert narrow.dtype == np.float32
    wide = FULL.log_likelihood(params, data, per_row=True)
    np.testing.assert_allclose(narrow, wide, rtol=1e-4, atol=1e-4)


@pytest.mark.thorough
def test_five_censored_cells_in_a_row():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 7))
    params = GaussianParams(jnp.zeros(5), jnp.asarray(a @ a.T))
    lower = rng.uniform(-3, 0, (2, 5))
    upper = lower + rng.uniform(1, 4, (2, 5))
    theirs = [scipys(low, high, a @ a.T) for low, high in zip(lower, upper, strict=True)]
    np.testing.assert_allclose(FULL.log_likelihood(params, Interval(lower, upper), per_row=True), theirs, atol=3e-4)


def refused(lower, upper, model=FULL, **given):
    return model.prepare(Interval(np.asarray(lower, float), np.asarray(upper, float), **given))


REFUSED = {
    "crossed": (lambda: refused([[0.0, 2.0]], [[1.0, 1.0]]), r"the first \[2, 1\] in row 0, column 1 has lower > upper"),
    "wrong side": (lambda: refused([[0.0, np.inf]], [[1.0, np.inf]]), "lower: is inf in row 0"),
    "other wrong side": (lambda: refused([[0.0, -np.inf]], [[1.0, -np.inf]]), "upper: is -inf in row 0"),
    "half missing": (lambda: refused([[0.0, np.nan]], [[1.0, 2.0]]), "is missing at one end only"),
    "shapes": (lambda: refused([[0.0, 1.0]], [[1.0]]), r"upper: found shape \(1, 1\) beside lower of shape \(1, 2\)"),
    "truncated": (lambda: refused([0.0], [1.0], entry=np.zeros(1)), "Gaussian has no left truncation"),
    "six": (lambda: refused(np.zeros((1, 6)), np.ones((1, 6))), "row 0 has 6 censored cells; a dense covariance takes up to 5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        call()


def test_six_censored_cells_are_fine_where_columns_are_independent():
    params = GaussianParams(jnp.zeros(6), jnp.ones(6))
    found = DIAGONAL.log_likelihood(params, Interval(np.zeros((1, 6)), np.full((1, 6), np.inf)))
    np.testing.assert_allclose(found, -6 * np.log(2), rtol=1e-12)
