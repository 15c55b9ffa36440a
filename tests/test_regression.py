"""Regressions: published and independently computed answers, far tails, what has no maximum, bad input."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from table import some
from test_oracles import HERE, case

import jaxem
from jaxem import (
    CensoredRegression,
    CensoredRegressionParams,
    Gaussian,
    Interval,
    LinearRegression,
    LinearRegressionParams,
    LogisticRegression,
    Mixture,
    MixtureOfExperts,
    NormalPrior,
    PoissonRegression,
    Regression,
    Single,
    Status,
    Stop,
    TRegression,
    TruncatedRegression,
    tobit,
)

rng = np.random.default_rng(0)
N = 200
X = rng.normal(size=(N, 2))
Y = X @ [1.0, 2.0] + rng.normal(size=N)


def scale_of(params):
    return np.sqrt(np.asarray(params.variance)) if hasattr(params, "variance") else np.asarray(params.scale)


# reference cases; each says how many passes its fit may take


def test_tobit_affairs():
    names = ["age", "yearsmarried", "religiousness", "occupation", "rating"]
    y, expected = case("tobit_affairs", ["affairs", *names])
    fit = jaxem.fit(Single(CensoredRegression()), Regression(tobit(y[:, 0], left=0), y[:, 1:]))
    assert fit.status == Status.CONVERGED
    assert fit.passes <= 10
    assert abs(float(fit.log_likelihood) - expected["logLik"]) < 1e-6
    truth = expected["params"]
    np.testing.assert_allclose(fit.params.coefficients, [truth[name] for name in names], rtol=1e-6)
    np.testing.assert_allclose(fit.params.intercept, truth["(Intercept)"], rtol=1e-6)
    np.testing.assert_allclose(scale_of(fit.params), truth["sigma"], rtol=1e-6)


@pytest.mark.slow
def test_truncated_mroz_hours():
    names = ["nwifeinc", "education", "experience", "expersq", "age", "youngkids", "oldkids"]
    y, expected = case("truncated_mroz_hours", ["hours", *names])
    model, data = Single(TruncatedRegression(lower=0)), Regression(y[:, 0], y[:, 1:])
    fit = jaxem.fit(model, data)
    assert fit.status == Status.CONVERGED
    assert fit.passes <= 10
    assert abs(float(fit.log_likelihood) - expected["logLik"]) < 1e-6
    truth = expected["params"]
    np.testing.assert_allclose(fit.params.coefficients, [truth[name] for name in names], rtol=1e-5)
    np.testing.assert_allclose(scale_of(fit.params), truth["sigma"], rtol=1e-6)
    assert model.remarks(fit.params, data) == []


@pytest.mark.parametrize("number", some([0, 1], [0]))
def test_interval_regression_breast_cosmesis(number):
    _, expected = case("interval_regression_breast_cosmesis", ["left"])
    with open(HERE / "interval_regression_breast_cosmesis" / "data.csv") as file:
        rows = list(csv.DictReader(file))
    y = Interval(np.array([float(row["left"]) for row in rows]), np.array([float(row["right"]) for row in rows]))
    x = np.array([[row["treatment"] == "RadChem"] for row in rows], float)
    truth = expected["fits"][number]
    fit = jaxem.fit(Single(CensoredRegression(truth["distribution"])), Regression(y, x))
    assert fit.status == Status.CONVERGED
    assert fit.passes <= 10
    assert abs(float(fit.log_likelihood) - truth["logLik"]) < expected["tolerances"]["logLik"]
    found = [fit.params.intercept, fit.params.coefficients[0], fit.params.scale]
    np.testing.assert_allclose(found, list(truth["params"].values()), atol=expected["tolerances"]["params"])


@pytest.mark.slow
def test_t_regression_stackloss():
    y, expected = case("t_regression_stackloss", ["stack.loss", "Air.Flow", "Water.Temp", "Acid.Conc."])
    data = Regression(y[:, 0], y[:, 1:])
    for dof, truth in (("free", expected), (4.0, expected["dof_fixed_at_4"])):
        fit = jaxem.fit(Single(TRegression(dof)), data)
        assert fit.status == Status.CONVERGED
        assert fit.steps <= 60
        assert abs(float(fit.log_likelihood) - truth["logLik"]) < expected["tolerances"]["logLik"]
        found = np.append(fit.params.intercept, fit.params.coefficients)
        np.testing.assert_allclose(found, truth["params"]["coef"], atol=1e-3)
        np.testing.assert_allclose(scale_of(fit.params), truth["params"]["scale"], rtol=1e-3)
    assert Single(TRegression()).n_parameters(3) == expected["n_params"]


@pytest.mark.parametrize("seed", some(range(3), [0]))
def test_mixture_regression_tone(seed):
    y, expected = case("mixture_regression_tone", ["tuned", "stretchratio"])
    fit = jaxem.fit(Mixture(LinearRegression(), 2), Regression(y[:, 0], y[:, 1:]), key=seed, restarts=3)
    assert fit.status == Status.CONVERGED
    assert fit.passes <= 3 * 40
    assert abs(float(fit.log_likelihood) - expected["logLik"]) < expected["tolerances"]["logLik"]
    truth, components = expected["params"], fit.params.components
    found = np.column_stack([components.intercept, components.coefficients])
    np.testing.assert_allclose(found, truth["coef"], atol=1e-3)
    np.testing.assert_allclose(scale_of(components), truth["sigma"], rtol=1e-3)
    np.testing.assert_allclose(fit.params.weights, truth["weights"], atol=1e-3)


@pytest.mark.parametrize("seed", some(range(3), [0], pytest.mark.thorough))
def test_mixture_experts_patent(seed):
    y, expected = case("mixture_experts_patent", ["Patents", "lgRD", "RDS"])
    data = Regression(y[:, 0], y[:, 1:2], gate=y[:, 2:])
    fit = jaxem.fit(MixtureOfExperts(PoissonRegression(), 3), data, key=seed, restarts=3)
    assert fit.status == Status.CONVERGED
    assert fit.passes <= 3 * 80
    assert abs(float(fit.log_likelihood) - expected["logLik"]) < expected["tolerances"]["logLik"]
    truth, components = expected["params"], fit.params.components
    np.testing.assert_allclose(np.column_stack([components.intercept, components.coefficients]), truth["coef"], atol=1e-3)
    gate = np.column_stack([fit.params.gate.intercept, fit.params.gate.coefficients])[1:]
    np.testing.assert_allclose(gate, truth["gate_coef"], rtol=1e-2)


# far tails: params are given, so that nothing is fitted

ONE = {"normal": LinearRegressionParams(np.zeros(0), np.zeros(()), np.ones(()))}
TIMES = CensoredRegressionParams(np.zeros(0), np.zeros(()), np.ones(()))


def log_likelihoods(distribution, dtype, lower, upper, entry=None):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), ONE.get(distribution, TIMES))
    ends = [None if end is None else np.asarray(end, dtype) for end in (lower, upper, entry)]
    model = Single(CensoredRegression(distribution))
    rows = jaxem.prepare(model, Regression(Interval(*ends)))
    return np.asarray(model.log_likelihood(params, rows, per_row=True)), model, rows, params


@pytest.mark.parametrize("dtype", some([np.float32, np.float64], [np.float64]))
def test_normal_tails_to_40_sd(dtype):
    eps, inf = np.finfo(dtype).eps, np.inf
    z = np.array([-40.0, -10, -1, 0, 1, 10, 40])
    found, model, rows, params = log_likelihoods("normal", dtype, [*z, *(0 * z - inf), *z], [*(0 * z + inf), *z, *(z + 0.5)])
    between = special.log_ndtr(-np.abs(z + 0.25) + 0.25) + np.log1p(
        -np.exp(special.log_ndtr(-np.abs(z + 0.25) - 0.25) - special.log_ndtr(-np.abs(z + 0.25) + 0.25))
    )
    np.testing.assert_allclose(found, [*stats.norm.logsf(z), *stats.norm.logcdf(z), *between], rtol=32 * eps, atol=32 * eps)
    moved = model.m_step(params, model.e_step(params, rows).statistics)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entry_keeps_its_digits_far_out(dtype):
    """P(Y > a + 0.1 | Y > a) and the density of a + 0.1 given Y > a, where P(Y > a) itself is below any number."""
    eps, a = np.finfo(dtype).eps, np.asarray([3.0, 10.0, 40.0], dtype)
    b = (a + np.asarray(0.1, dtype)).astype(dtype)
    survive = -((b.astype(float) - a) * (b.astype(float) + a)) / 2 + np.log(special.erfcx(b / 2**0.5) / special.erfcx(a / 2**0.5))
    found, *_ = log_likelihoods("normal", dtype, b, np.full(3, np.inf), a)
    np.testing.assert_allclose(found, survive, rtol=64 * eps)
    found, *_ = log_likelihoods("normal", dtype, b, b, a)
    hazard = -np.log(np.sqrt(np.pi / 2) * special.erfcx(b.astype(float) / 2**0.5))
    np.testing.assert_allclose(found, survive + hazard, rtol=64 * eps, atol=64 * eps)
    # times, where the cumulative hazard is e^z
    found, *_ = log_likelihoods("weibull", dtype, [2000.0], [np.inf], [1990.0])
    np.testing.assert_allclose(found, [-10.0], rtol=256 * eps)


def test_row_that_only_entered_says_nothing():
    found, _, rows, _ = log_likelihoods("weibull", np.float64, [2.0, 1.0, 0.0], [np.inf, 3.0, np.inf], [2.0, 0.0, 1.0])
    assert found[0] == 0
    assert found[2] == 0
    assert found[1] < 0
    assert np.asarray(rows.informative).tolist() == [False, True, False]


@pytest.mark.slow
def test_one_response_40_sd_out():
    y = tobit(np.append(Y, 45.0), right=45.0)
    fit = jaxem.fit(Single(CensoredRegression()), Regression(y, np.append(X, np.zeros((1, 2)), axis=0)))
    assert fit.status == Status.CONVERGED
    assert fit.passes <= 12
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.params))


def test_truncated_far_above_the_mean():
    """Limits 30 sd above the mean: the density beyond is that of the tail, and draws lie there."""
    params = LinearRegressionParams(jnp.zeros(0), jnp.zeros(()), jnp.ones(()))
    for model, sign in ((Single(TruncatedRegression(30.0)), 1), (Single(TruncatedRegression(upper=-30.0)), -1)):
        y = sign * np.array([30.0, 30.01, 30.1])
        found = model.log_likelihood(params, Regression(y), per_row=True)
        np.testing.assert_allclose(found, stats.norm.logpdf(y) - stats.norm.logsf(30.0), rtol=1e-11)
        drawn = sign * np.asarray(model.sample(0, params, 4000))
        assert drawn.min() > 30
        assert abs(drawn.mean() - stats.truncnorm(30, np.inf).mean()) < 3e-3


def test_truncated_draws_have_the_moments():
    model, params = Single(TruncatedRegression(-0.5, 1.0)), LinearRegressionParams(jnp.zeros(0), jnp.asarray(0.7), jnp.asarray(4.0))
    drawn = np.asarray(model.sample(0, params, 20000))
    exact = stats.truncnorm(-0.6, 0.15, 0.7, 2.0)
    assert drawn.min() > -0.5
    assert drawn.max() < 1.0
    assert abs(drawn.mean() - exact.mean()) < 0.01
    assert abs(drawn.std() - exact.std()) < 0.01


# what has no maximum

APART = (X[:, 0] > 0).astype(float)


def test_separation_is_said_and_finite():
    model, data = Single(LogisticRegression()), Regression(APART, X)
    fit = jaxem.fit(model, data)
    assert fit.status == Status.DEGENERATE
    assert fit.passes < 40
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.params))
    assert "hyperplane separates" in model.remarks(fit.params, data)[0]
    held = jaxem.fit(Single(LogisticRegression(), prior=NormalPrior(0.0, 2.0, 5.0)), data)
    assert held.status == Status.CONVERGED
    assert np.abs(held.params.coefficients).max() < 20


@pytest.mark.slow
def test_quasi_separation_of_counts():
    """A group with counts of 0 alone: its log rate runs away, the rest is as without the group."""
    group = (X[:, 0] > 1).astype(float)
    y = np.where(group == 1, 0, np.random.default_rng(1).poisson(3, N))
    model, data = Single(PoissonRegression()), Regression(y, np.column_stack([group, X[:, 1]]))
    fit = jaxem.fit(model, data)
    assert fit.status == Status.DEGENERATE
    assert "all counts" in model.remarks(fit.params, data)[0]
    rest = jaxem.fit(model, Regression(y[group == 0], X[group == 0, 1:]))
    np.testing.assert_allclose(fit.params.intercept, rest.params.intercept, atol=1e-3)


@pytest.mark.slow
def test_separated_component_of_a_mixture():
    y = np.where(rng.random(N) < 0.5, APART, rng.random(N) < 0.2).astype(float)
    fit = jaxem.fit(Mixture(LogisticRegression(), 2), Regression(y, X), key=0, restarts=2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.params))
    assert np.isfinite(fit.log_likelihood)


@pytest.mark.slow
@pytest.mark.parametrize("family", [LinearRegression(), TRegression(), CensoredRegression()], ids=lambda f: type(f).__name__)
def test_perfect_fit(family):
    y = X @ [1.0, 2.0] + 3
    model, data = Single(family), Regression(tobit(y, left=0) if isinstance(family, CensoredRegression) else y, X)
    fit = jaxem.fit(model, data)
    assert fit.status == Status.DEGENERATE
    assert fit.passes < 40
    np.testing.assert_allclose(fit.params.coefficients, [1, 2], atol=1e-5)
    assert fit.degenerate.all()
    if isinstance(family, CensoredRegression):
        assert "fitted exactly" in model.remarks(fit.params, data)[0]


def test_denser_beside_the_limit_than_any_truncated_normal():
    model, data = Single(TruncatedRegression(0.0)), Regression(np.random.default_rng(2).gamma(0.5, size=N), X)
    fit = jaxem.fit(model, data)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.params))
    assert any("look exponential" in sentence for sentence in model.remarks(fit.params, data))


# weights, samples, starts from elsewhere

COUNTS = rng.integers(0, 4, size=N)
WEIGHTED = {
    "tobit": (CensoredRegression(), lambda y: tobit(y, left=0)),
    "truncated": (TruncatedRegression(-20.0), lambda y: y),
    "t": (TRegression(4.0), lambda y: y),
    "logistic": (LogisticRegression(), lambda y: (y > 0).astype(float)),
}


@pytest.mark.parametrize("name", some(WEIGHTED, []))
def test_weights_are_replications(name):
    family, of = WEIGHTED[name]
    index = np.repeat(np.arange(N), COUNTS)
    weighted = jaxem.fit(Single(family), Regression(of(Y), X), weights=COUNTS)
    repeated = jaxem.fit(Single(family), Regression(of(Y[index]), X[index]))
    np.testing.assert_allclose(weighted.log_likelihood, repeated.log_likelihood, rtol=1e-9)
    for ours, theirs in zip(jax.tree.leaves(weighted.params), jax.tree.leaves(repeated.params), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_no_limit_is_least_squares():
    """Without a censored row Tobit is least squares; so is truncation far away, and a t of many degrees of freedom."""
    least = jaxem.fit(Single(LinearRegression()), Regression(Y, X)).params
    for family in (CensoredRegression(), TruncatedRegression(-60.0), TRegression(1e6)):
        found = jaxem.fit(Single(family), Regression(Y, X), stop=Stop(1e-12)).params
        np.testing.assert_allclose(found.coefficients, least.coefficients, atol=1e-5)
        np.testing.assert_allclose(found.variance, least.variance, rtol=1e-5)


def test_exponential_is_a_weibull_of_scale_1():
    times = np.exp(0.3 * Y)
    fit = jaxem.fit(Single(CensoredRegression("exponential")), Regression(tobit(times, right=1.5), X))
    params = CensoredRegressionParams(fit.params.coefficients, fit.params.intercept, jnp.ones(()))
    other = Single(CensoredRegression("weibull")).log_likelihood(params, Regression(tobit(times, right=1.5), X))
    np.testing.assert_allclose(fit.log_likelihood, other, rtol=1e-12)


@pytest.mark.slow
def test_rows_are_drawn_given_their_covariates():
    mixture, single = Mixture(LinearRegression(), 2), Single(PoissonRegression())
    fit = jaxem.fit(mixture, Regression(Y, X), key=0)
    drawn, states = mixture.sample(1, fit.params, N, states=True, covariates=X)
    assert drawn.shape == (N,)
    assert set(np.unique(states)) <= {0, 1}
    params = jaxem.fit(single, Regression(rng.poisson(np.exp(0.3 * X[:, 0])), X)).params
    many = single.sample(0, params, 50 * N, covariates=Regression(None, np.repeat(X, 50, axis=0), offset=np.full(50 * N, 1.0)))
    mean = np.exp(X @ np.asarray(params.coefficients) + params.intercept + 1)
    np.testing.assert_allclose(np.asarray(many).mean(), mean.mean(), rtol=0.03)
    gate = rng.normal(size=(N, 1))
    experts = MixtureOfExperts(LinearRegression(), 2)
    fit = jaxem.fit(experts, Regression(Y, X, gate=gate), key=0, stop=Stop(max_steps=3))
    assert experts.sample(0, fit.params, N, gate=gate, covariates=X).shape == (N,)
    start = mixture.init(0, Regression(Y, X))
    with pytest.raises(ValueError, match="covariates: rows are drawn given theirs"):
        mixture.sample(0, start, N)
    with pytest.raises(ValueError, match="covariates: found shape"):
        mixture.sample(0, start, N, covariates=X[:5])


# bad input

INF = np.inf
BAD = {
    "lengths": (lambda: (LinearRegression(), Regression(Y, X[:-1])), "x: found 199 rows for 200 responses"),
    "missing covariate": (
        lambda: (LinearRegression(), Regression(Y, np.where(np.arange(N)[:, None] == 3, np.nan, X))),
        "x: column 0 is missing in 1 rows, the first 3",
    ),
    "collinear": (
        lambda: (CensoredRegression(), Regression(Y, np.column_stack([X, X @ [1, -1]]))),
        "column 2 is a linear combination of.*0.*1",
    ),
    "constant": (lambda: (TRegression(), Regression(Y, np.ones((N, 1)))), "column 0 is constant, which the intercept is"),
    "nothing": (lambda: (LinearRegression(), Regression(Y, intercept=False)), "no covariates and no intercept"),
    "order": (lambda: (CensoredRegression(), Regression(Interval(Y + 1, Y), X)), "y: 200 intervals are not in order"),
    "half": (lambda: (CensoredRegression(), Regression(Interval(Y, Y * np.nan), X)), "one end is NaN in row 0"),
    "times": (lambda: (CensoredRegression("weibull"), Regression(Y, X)), "times are not positive"),
    "late": (lambda: (CensoredRegression(), Regression(Interval(Y, Y, Y + 1), X)), "200 cells end before they enter"),
    "all censored": (lambda: (CensoredRegression(), Regression(tobit(Y, left=100), X)), "every response is left-censored"),
    "beyond": (lambda: (TruncatedRegression(0.0), Regression(Y, X)), r"beyond the limits \(0.0, inf\)"),
    "limits": (lambda: (TruncatedRegression(1.0, 0.0), Regression(Y, X)), "lower: found 1 with upper 0"),
    "no limits": (lambda: (TruncatedRegression(), Regression(Y, X)), "found no limit"),
    "dof": (lambda: (TRegression(dof=0), Regression(Y, X)), "dof: found 0"),
    "distribution": (lambda: (CensoredRegression("gumbel"), Regression(Y, X)), "unknown kind 'gumbel'"),
    "negative counts": (lambda: (PoissonRegression(), Regression(-np.ones(N), X)), "are negative or fractional"),
    "not binary": (lambda: (LogisticRegression(), Regression(np.full(N, 2.0), X)), "are neither 0 nor 1"),
    "tobit limits": (lambda: (CensoredRegression(), Regression(tobit(Y, left=1, right=0), X)), "left: found 1 with right 0"),
    "offset": (lambda: (LinearRegression(), Regression(Y, X, offset=Y[:-1])), "offset: found 199 rows where y has 200"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]

    def attempt():
        family, data = make()
        return jaxem.fit(Single(family), data)

    with pytest.raises(ValueError, match=message):
        attempt()


def test_wrong_types():
    with pytest.raises(TypeError, match="LinearRegression takes exact responses"):
        jaxem.fit(Single(LinearRegression()), Regression(tobit(Y, left=0), X))
    with pytest.raises(TypeError, match=r"takes Regression\(y, x\)"):
        jaxem.fit(Single(LinearRegression()), X)
    with pytest.raises(TypeError):
        Single(Gaussian()).sample(0, Single(Gaussian()).init(0, X), N, covariates=X)
