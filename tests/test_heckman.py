"""Sample selection: its gradient, its bias where selection is ignored, corners and bad input."""

import jax
import numpy as np
import pytest
from cases import heckman_selection as cases
from scipy import integrate, stats
from table import WEIGHTS, K

import jaxem
from jaxem import HeckmanSelection, LinearRegression, Mixture, MixtureParams, Regression, SelectedRegression, Single, Status, Stop
from jaxem.domains import SignedUnit
from jaxem.kernels.selection import truncated


def simulate(n, seed, rho=0.7):
    """Selection by x and by a column of its own; the truth is intercept 1, slope 2, deviation 1.5."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1))
    z = np.column_stack([x, rng.normal(size=n)])
    v = rng.normal(size=n)
    y = 1 + 2 * x[:, 0] + 1.5 * (rho * v + np.sqrt(1 - rho**2) * rng.normal(size=n))
    seen = 0.2 + 0.8 * z[:, 0] + z[:, 1] + v > 0
    return Regression(np.where(seen, y, np.nan), x, gate=z), y


@pytest.fixture(scope="module")
def fitted():
    data, y = simulate(4000, 1)
    return data, y, jaxem.fit(HeckmanSelection(), data, algorithm=jaxem.squarem(), stop=Stop(tolerance=1e-7))


@pytest.mark.slow
def test_truth_where_the_ignorable_fit_is_biased(fitted):
    """The bias of least squares is known: its limits are the moments of (x, y) given selection, by quadrature over x."""
    data, _, fit = fitted
    assert fit.status == Status.CONVERGED
    errors = jaxem.standard_errors(HeckmanSelection(), fit.params, data).standard_errors
    for value, error, truth in [
        (fit.params.intercept, errors.intercept, 1.0),
        (fit.params.coefficients[0], errors.coefficients[0], 2.0),
        (fit.params.correlation, errors.correlation, 0.7),
        (fit.params.variance, errors.variance, 2.25),
        (fit.params.selection.coefficients[1], errors.selection.coefficients[1], 1.0),
    ]:
        assert abs(float(value) - truth) < 4 * float(error)
        assert float(error) < 0.2

    def moment(f):  # given x the rest of the selection is N(0, 2), and E[e | selected] = 1.5 rho hazard / sqrt(2)
        def weighed(x):
            a = (0.2 + 0.8 * x) / np.sqrt(2)
            mean = 1 + 2 * x + 1.5 * 0.7 / np.sqrt(2) * stats.norm.pdf(a) / stats.norm.cdf(a)
            return stats.norm.pdf(x) * stats.norm.cdf(a) * f(x, mean)

        return integrate.quad(weighed, -9, 9)[0]

    mass = moment(lambda x, y: 1.0)
    ex, ey, exx, exy = (moment(f) / mass for f in (lambda x, y: x, lambda x, y: y, lambda x, y: x * x, lambda x, y: x * y))
    slope = (exy - ex * ey) / (exx - ex * ex)
    intercept = ey - slope * ex
    assert intercept - 1 > 0.5  # what is at stake
    assert slope - 2 < -0.15
    naive = jaxem.fit(Single(LinearRegression()), Regression(data.y, data.x))
    error = jaxem.standard_errors(Single(LinearRegression()), naive.params, Regression(data.y, data.x)).standard_errors
    assert abs(float(naive.params.intercept) - intercept) < 5 * float(error.intercept)
    assert abs(float(naive.params.coefficients[0]) - slope) < 5 * float(error.coefficients[0])
    assert abs(float(naive.params.intercept) - 1) > 10 * float(error.intercept)


@pytest.mark.slow
def test_responses_that_were_not_selected(fitted):
    """Imputed means are those of the responses that nobody saw; the ignorable ones are too high."""
    data, y, fit = fitted
    gone = np.isnan(data.y)
    mean, spread = HeckmanSelection().impute(fit.params, data, covariance=True)
    mean, spread = np.asarray(mean)[:, 0], np.asarray(spread)[:, 0, 0]
    np.testing.assert_array_equal(spread[~gone], 0)
    np.testing.assert_allclose(mean[~gone], y[~gone], rtol=1e-12)
    standardised = (y - mean)[gone] / np.sqrt(spread[gone])
    assert abs(standardised.mean()) < 0.1
    assert abs(standardised.std() - 1) < 0.1
    ignorable = fit.params.intercept + np.asarray(data.x)[:, 0] * fit.params.coefficients[0]
    assert (y - np.asarray(ignorable))[gone].mean() < -0.4
    drawn = np.stack([each.y for each in jaxem.impute(HeckmanSelection(), fit.params, data, draws=20, method="posterior", key=0)])
    np.testing.assert_array_equal(drawn[:, ~gone], np.broadcast_to(data.y[~gone], (20, (~gone).sum())))
    off = (drawn.mean(axis=0) - mean)[gone] / np.sqrt(spread[gone] / 20)
    assert abs(off.mean()) < 1  # params differ from draw to draw, for all cells together
    assert abs((drawn[:, gone].var(axis=0, ddof=1) / spread[gone]).mean() - 1) < 0.15


@pytest.mark.slow
def test_no_correlation_is_least_squares_and_probit():
    """With the correlation held at 0 both equations part."""
    data, _ = simulate(300, 2)
    held = jaxem.fit(HeckmanSelection(fixed={"correlation": 0.0}), data)
    x = np.column_stack([np.ones(300), data.x])[~np.isnan(data.y)]
    theta, rest = np.linalg.lstsq(x, data.y[~np.isnan(data.y)], rcond=None)[:2]
    np.testing.assert_allclose([held.params.intercept, held.params.coefficients[0]], theta, rtol=1e-5)
    np.testing.assert_allclose(held.params.variance, rest[0] / len(x), rtol=1e-5)
    free = jaxem.fit(HeckmanSelection(), data, algorithm=jaxem.squarem())
    assert float(free.log_likelihood) >= float(held.log_likelihood)


@pytest.mark.slow
def test_mixture_of_selections():
    """Log-likelihood by the closed form, Fisher's identity, and no step downwards, in a mixture of three."""
    data, model = cases.simulate(60), Mixture(SelectedRegression(), K)
    params = jax.tree.map(jax.numpy.asarray, MixtureParams(WEIGHTS, cases.start()))
    joint = cases.oracle(params.components, data) + np.log(WEIGHTS)
    np.testing.assert_allclose(model.log_likelihood(params, data, per_row=True), np.logaddexp.reduce(joint, axis=1), atol=1e-9)
    statistics = model.e_step(params, data).statistics
    u, rows = model.to_unconstrained(params), jaxem.prepare(model, data)

    def at(u):
        return model.from_unconstrained(u, like=params)

    ours = jax.jit(jax.grad(lambda u: model.expected_log_joint(at(u), statistics)))(u)
    theirs = jax.jit(jax.grad(lambda u: model.log_likelihood(at(u), rows)))(u)
    np.testing.assert_allclose(ours, theirs, atol=1e-8)
    history = np.asarray(jaxem.fit(model, rows, params=params, stop=Stop(max_steps=40)).history)
    assert np.nanmin(np.diff(history)) > -1e-9


def test_moments_of_truncated_normals():
    mean = np.array([-60.0, -9.0, -1.0, 0.0, 2.0, 30.0])
    shift, spread = (np.asarray(part) for part in truncated(jax.numpy.asarray(mean), 2.0, jax.numpy.ones(6)))
    theirs = [stats.truncnorm(-m / 2, np.inf, loc=m, scale=2) for m in mean]
    np.testing.assert_allclose(mean + shift, [each.mean() for each in theirs], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(spread, [(2 / (m / 2)) ** 2 * (1 - 6 / (m / 2) ** 2) if m < -50 else each.var()
                                        for m, each in zip(mean, theirs, strict=True)], rtol=1e-4)  # fmt: skip


def test_signed_unit():
    domain = SignedUnit()
    x = np.array([-0.999, -0.3, 0.0, 0.8])
    u = domain.unconstrain(jax.numpy.asarray(x))
    np.testing.assert_allclose(domain.constrain(u, ()), x, rtol=1e-12)
    slopes = jax.vmap(jax.grad(jax.numpy.tanh))(u.ravel())
    np.testing.assert_allclose(domain.log_volume(u, ()), np.log(slopes), rtol=1e-9, atol=1e-15)
    assert domain.holds(x)
    assert not domain.holds(np.array([1.0]))


def test_bad_input():
    data, _ = simulate(30, 3)
    model = HeckmanSelection()
    for bad, error, said in [
        (Regression(data.y, data.x), TypeError, "Regression without gate"),
        (np.ones((4, 2)), TypeError, "takes Regression"),
        (Regression(np.column_stack([data.y, np.full(30, 2.0)]), data.x, gate=data.gate), ValueError, "give 1, 0, or NaN"),
        (Regression(np.column_stack([np.ones(30), np.zeros(30)]), data.x, gate=data.gate), ValueError, "row 0 was not selected"),
        (Regression(data.y, data.x, gate=data.gate[:5]), ValueError, "found 5 rows for 30"),
        (Regression(np.ones((30, 3)), data.x, gate=data.gate), ValueError, "found 3 columns"),
        (Regression(np.ones(30), data.x, gate=data.gate), ValueError, "every row was selected"),
        (Regression(data.y, data.x, gate=np.ones((30, 1))), ValueError, "gate: column 0 is constant"),
    ]:
        with pytest.raises(error, match=said):
            jaxem.fit(model, bad)
    with pytest.raises(ValueError, match="gate=z"):
        model.sample(0, model.init(0, data), 3)


def test_sample():
    data, _ = simulate(4000, 5)
    model = HeckmanSelection()
    params = model.init(0, data)._replace(correlation=np.float64(0.5))
    drawn = np.asarray(model.sample(0, params, 4000, covariates=data))
    share = stats.norm.cdf(data.gate @ params.selection.coefficients + params.selection.intercept).mean()
    assert abs((~np.isnan(drawn)).mean() - share) < 4 * np.sqrt(share * (1 - share) / 4000)
