"""Quantile residuals: cumulative distributions of scipy stand opposite, cell by cell, and simulated rows give normal numbers."""

import jax
import numpy as np
import pytest
from cases import censored_regression as censored
from scipy import stats
from table import some

from jaxem import (
    Bernoulli,
    BernoulliParams,
    Categorical,
    CategoricalParams,
    CensoredRegression,
    CensoredRegressionParams,
    FactorGaussian,
    FactorGaussianParams,
    GateParams,
    Gaussian,
    GaussianParams,
    HiddenMarkov,
    HiddenMarkovParams,
    HiddenSemiMarkov,
    Interval,
    Latent,
    LinearRegression,
    LinearRegressionParams,
    LogisticRegression,
    LogisticRegressionParams,
    MarkovSwitching,
    Mixture,
    MixtureOfExperts,
    MixtureOfExpertsParams,
    MixtureParams,
    NegativeBinomial,
    NegativeBinomialParams,
    Poisson,
    PoissonParams,
    PoissonRegression,
    PoissonRegressionParams,
    Product,
    Regression,
    SelectedRegression,
    SelectedRegressionParams,
    Single,
    StudentT,
    StudentTParams,
    TRegression,
    TRegressionParams,
    TruncatedRegression,
    VonMisesFisher,
    VonMisesFisherParams,
    quantile_residuals,
)  # fmt: skip
from jaxem.domains import Real
from jaxem.families.selected_regression import SelectionParams
from jaxem.kernels.quantiles import negative_binomial_tails, student_tails

RNG = np.random.default_rng(0)
N = 12
WEIGHTS = np.array([0.3, 0.7])
X = RNG.normal(size=(N, 2))
OFFSET = RNG.normal(size=N)
SLOPES, INTERCEPT = np.array([[0.5, -1.0], [-0.2, 0.3]]), np.array([0.4, 1.0])
ETA = X @ SLOPES.T + INTERCEPT + OFFSET[:, None]  # (n, K)
Y = RNG.normal(size=(N, 2)) * 2
COUNTS = RNG.poisson(3, size=(N, 2)).astype(float)
MEAN, SCALE = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([[1.0, 2.0], [0.5, 1.5]])
LOADINGS = np.array([[[1.0], [0.5], [-0.7], [0.2]], [[0.3], [1.5], [0.4], [1.0]]])
SHARES = np.array([[[0.2, 0.3, 0.5], [0.5, 0.5, 0.0]], [[0.6, 0.3, 0.1], [0.1, 0.9, 0.0]]])


def frozen(make, *params):
    """The distribution of each state and column: params (K, d) -> y (n, d) -> cdf (n, K, d) and pmf or None."""
    return make(*(np.asarray(each)[None] for each in params))


def probabilities(distribution, y):
    """F(y-) and F(y), averaged over the states."""
    y = y[:, None]
    upper = distribution.cdf(y)
    lower = distribution.cdf(y - 1) if hasattr(distribution, "pmf") else upper
    return (WEIGHTS[None, :, None] * lower).sum(axis=1), (WEIGHTS[None, :, None] * upper).sum(axis=1)


def matrices(scale):
    return np.stack([np.diag(row**2) + 0.3 * np.outer(row, row) - 0.3 * np.diag(row**2) for row in scale])


def regress(y, **more):
    return Regression(y, X, offset=OFFSET, **more)


COLUMN = ETA[:, :, None]
SD = np.sqrt(np.array([0.5, 2.0]))
FACTOR_SD = np.sqrt((LOADINGS**2).sum(axis=2) + 0.5)
Y4 = np.concatenate([Y, Y[::-1]], axis=1)
BOTH = ((1.0 - ETA) / SD, (9.0 - ETA) / SD)
INSIDE = RNG.uniform(1.1, 8.9, size=N)

# family, params of two states, data, the same as (n, d) cells, scipy's distributions (n or 1, K, d)
CASES = {
    "gaussian": (Gaussian(), GaussianParams(MEAN, matrices(SCALE)), Y, Y, frozen(stats.norm, MEAN, SCALE)),
    "student": (StudentT("full"), StudentTParams(MEAN, matrices(SCALE), np.array([0.8, 300.0])), Y, Y,
                frozen(stats.t, np.array([[0.8], [300.0]]), MEAN, SCALE)),
    "factors": (FactorGaussian(1), FactorGaussianParams(np.tile(MEAN, 2), LOADINGS, np.full((2, 4), 0.5)), Y4, Y4,
                frozen(stats.norm, np.tile(MEAN, 2), FACTOR_SD)),
    "bernoulli": (Bernoulli(), BernoulliParams(np.array([[0.2, 0.7], [0.9, 0.4]])), COUNTS % 2, COUNTS % 2,
                  frozen(stats.bernoulli, [[0.2, 0.7], [0.9, 0.4]])),
    "poisson": (Poisson(), PoissonParams(SCALE), COUNTS, COUNTS, frozen(stats.poisson, SCALE)),
    "negative-binomial": (NegativeBinomial(), NegativeBinomialParams(3 * SCALE, SCALE), COUNTS, COUNTS,
                          frozen(stats.nbinom, 1 / SCALE, 1 / (1 + 3 * SCALE**2))),
    "linear": (LinearRegression(), LinearRegressionParams(SLOPES, INTERCEPT, SD**2), regress(Y[:, 0]), Y[:, :1],
               stats.norm(COLUMN, SD[:, None])),
    "t-regression": (TRegression(), TRegressionParams(SLOPES, INTERCEPT, SD**2, np.array([1.5, 9.0])), regress(Y[:, 0]),
                     Y[:, :1], stats.t(np.array([[1.5], [9.0]]), COLUMN, SD[:, None])),
    "logistic": (LogisticRegression(), LogisticRegressionParams(SLOPES, INTERCEPT), regress(COUNTS[:, 0] % 2),
                 COUNTS[:, :1] % 2, stats.bernoulli(1 / (1 + np.exp(-COLUMN)))),
    "poisson-regression": (PoissonRegression(), PoissonRegressionParams(SLOPES, INTERCEPT), regress(COUNTS[:, 0]),
                           COUNTS[:, :1], stats.poisson(np.exp(COLUMN))),
    "truncated": (TruncatedRegression(1.0, 9.0), LinearRegressionParams(SLOPES, INTERCEPT, SD**2), regress(INSIDE),
                  INSIDE[:, None], stats.truncnorm(*(end[..., None] for end in BOTH), COLUMN, SD[:, None])),
    "above": (TruncatedRegression(1.0), LinearRegressionParams(SLOPES, INTERCEPT, SD**2), regress(INSIDE),
              INSIDE[:, None], stats.truncnorm(BOTH[0][..., None], np.inf, COLUMN, SD[:, None])),
    "below": (TruncatedRegression(None, 9.0), LinearRegressionParams(SLOPES, INTERCEPT, SD**2), regress(INSIDE),
              INSIDE[:, None], stats.truncnorm(-np.inf, BOTH[1][..., None], COLUMN, SD[:, None])),
    "weibull": (CensoredRegression("weibull"), CensoredRegressionParams(SLOPES, INTERCEPT, SD), regress(INSIDE),
                INSIDE[:, None], stats.weibull_min(1 / SD[:, None], 0, np.exp(COLUMN))),
    "lognormal": (CensoredRegression("lognormal"), CensoredRegressionParams(SLOPES, INTERCEPT, SD), regress(INSIDE),
                  INSIDE[:, None], stats.lognorm(SD[:, None], 0, np.exp(COLUMN))),
}  # fmt: skip


OWN = ("weibull", "student", "negative-binomial", "truncated", "poisson-regression")


def cases():
    """The short run has the normal family, the long run those whose kernels are their own."""
    marks = {"gaussian": []} | {name: [pytest.mark.slow] for name in OWN}
    return [pytest.param(name, marks=marks.get(name, [pytest.mark.thorough])) for name in CASES]


@pytest.mark.parametrize("name", cases())
def test_residuals_are_quantiles_of_the_distribution(name):
    """z = Phi^-1(F(y)) where cells are continuous, in the interval of F(y-) and F(y) where they are not; NaN where missing."""
    family, params, data, cells, distribution = CASES[name]
    if isinstance(data, Regression):
        data, cells = jax.tree.map(np.copy, data), np.copy(cells)
        data.y[3] = np.nan
    else:
        data = np.copy(data)
        data[3, 0] = np.nan
    z = quantile_residuals(Mixture(family, 2), MixtureParams(WEIGHTS, params), data)
    assert z.shape == cells.shape
    assert np.isnan(z[3, 0])
    assert np.isnan(z).sum() == 1
    lower, upper = probabilities(distribution, cells)
    seen = ~np.isnan(z)
    if family.discrete:
        assert (z[seen] > stats.norm.ppf(lower)[seen]).all()
        assert (z[seen] < stats.norm.ppf(upper)[seen]).all()
    else:
        np.testing.assert_allclose(z[seen], stats.norm.ppf(upper)[seen], rtol=1e-6, atol=1e-9)


def test_categories_are_in_the_order_of_their_codes():
    y = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, np.nan]])
    z = quantile_residuals(Mixture(Categorical(), 2), MixtureParams(WEIGHTS, CategoricalParams(SHARES)), y)
    share = np.einsum("k,kjc->jc", WEIGHTS, SHARES)
    ends = np.concatenate([np.zeros((2, 1)), np.cumsum(share, axis=1)], axis=1)
    assert np.isnan(z[2, 1])
    for (i, j), code in np.ndenumerate(y):
        if not np.isnan(code):
            assert stats.norm.ppf(ends[j, int(code)]) < z[i, j] < stats.norm.ppf(ends[j, int(code) + 1])


@pytest.mark.slow
def test_groups_are_each_their_own():
    data = {"size": Y, "visits": COUNTS[:, :1]}
    params = {"size": GaussianParams(MEAN, matrices(SCALE)), "visits": PoissonParams(SCALE[:, :1])}
    z = quantile_residuals(Mixture(Product(size=Gaussian(), visits=Poisson()), 2), MixtureParams(WEIGHTS, params), data)
    np.testing.assert_allclose(z[:, :2], stats.norm.ppf(probabilities(frozen(stats.norm, MEAN, SCALE), Y)[1]), rtol=1e-9)
    lower, upper = probabilities(frozen(stats.poisson, SCALE[:, :1]), COUNTS[:, :1])
    assert ((z[:, 2:] > stats.norm.ppf(lower)) & (z[:, 2:] < stats.norm.ppf(upper))).all()


@pytest.mark.thorough
def test_gate_weighs_the_states():
    gate = np.linspace(-2, 2, N)[:, None]
    shares = GateParams(np.array([[0.0], [1.5]]), np.array([0.0, 0.5]))
    params = MixtureOfExpertsParams(shares, GaussianParams(MEAN, matrices(SCALE)))
    z = quantile_residuals(MixtureOfExperts(Gaussian(), 2), params, Regression(Y, gate=gate))
    second = 1 / (1 + np.exp(-(1.5 * gate + 0.5)))
    below = frozen(stats.norm, MEAN, SCALE).cdf(Y[:, None])
    np.testing.assert_allclose(z, stats.norm.ppf((1 - second) * below[:, 0] + second * below[:, 1]), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("distribution", some(["weibull", "loglogistic"], ["weibull"], pytest.mark.thorough))
def test_censored_cells_lie_between_their_ends(distribution):
    """Between F(lower) and F(upper) of what exceeds `entry`; exact where exact; NaN where only entry is known."""
    data = censored.simulate(distribution, 60, entry=True, states=1)
    model = Single(CensoredRegression(distribution))
    params = CensoredRegressionParams(np.array([0.8, -0.4]), np.array(-3.0), np.array(0.4))
    z = quantile_residuals(model, params, data)[:, 0]
    errors = censored.errors_of(distribution)
    eta = data.x @ params.coefficients + params.intercept
    with np.errstate(divide="ignore"):
        lower, upper, entry = (np.log(np.maximum(end, 0)) for end in (data.y.lower, data.y.upper, data.y.entry))
    start = errors.cdf((entry - eta) / 0.4)
    low, high = ((errors.cdf((np.maximum(end, entry) - eta) / 0.4) - start) / (1 - start) for end in (lower, upper))
    unknown = (lower <= entry) & np.isposinf(upper)
    np.testing.assert_array_equal(np.isnan(z), unknown)
    exact = lower == upper
    assert exact.any()
    assert (~exact & ~unknown).any()
    p = stats.norm.cdf(z)
    np.testing.assert_allclose(p[exact & ~unknown], high[exact & ~unknown], rtol=1e-6, atol=1e-12)
    assert ((p >= low - 1e-12) & (p <= high + 1e-12))[~unknown].all()


def test_intervals_of_a_gaussian():
    lower, upper = np.array([[-np.inf, 0.0], [1.0, 2.0], [0.5, -np.inf]]), np.array([[0.0, 0.0], [np.inf, 3.0], [0.5, np.inf]])
    z = quantile_residuals(Single(Gaussian()), GaussianParams(MEAN[0], matrices(SCALE)[0]), Interval(lower, upper))
    low, high = ((end - MEAN[0]) / SCALE[0] for end in (lower, upper))
    known = np.isfinite(low) | np.isfinite(high)
    np.testing.assert_array_equal(np.isnan(z), ~known)
    assert ((z >= low - 1e-9) & (z <= high + 1e-9))[known].all()
    np.testing.assert_allclose(z[lower == upper], low[lower == upper], rtol=1e-12)


@pytest.mark.slow
def test_selected_responses_are_given_their_selection():
    """Against the bivariate normal distribution of scipy."""
    z = X[:, :1]
    params = SelectedRegressionParams(
        np.array([0.5, -1.0]), np.array(0.3), np.array(2.0), np.array(-0.6), SelectionParams(np.array([0.8]), np.array(0.2))
    )
    y = np.where(np.arange(N) % 4 == 0, np.nan, Y[:, 0])
    found = quantile_residuals(Single(SelectedRegression()), params, Regression(y, X, gate=z))[:, 0]
    error = (y - X @ [0.5, -1.0] - 0.3) / np.sqrt(2)
    zeta = 0.8 * z[:, 0] + 0.2
    seen = ~np.isnan(y)
    both = stats.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]])
    expected = [both.cdf([a, b]) / stats.norm.cdf(b) for a, b in zip(error[seen], zeta[seen], strict=True)]
    np.testing.assert_array_equal(np.isnan(found), ~seen)
    np.testing.assert_allclose(stats.norm.cdf(found[seen]), expected, rtol=1e-5, atol=1e-8)  # what scipy integrates to


@pytest.mark.thorough
def test_families_without_a_cumulative_distribution_are_simulated():
    """The share of 2000 rows below a cell is that of the direction's own distribution to 4 standard errors."""
    angle = np.array([0.3, 1.0, 2.0, -1.0])
    y = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    model, params = Single(VonMisesFisher()), VonMisesFisherParams(np.array([1.0, 0.0]), np.array(2.0))
    p = stats.norm.cdf(quantile_residuals(model, params, y, draws=2000))
    expected = 2 * stats.vonmises(2.0).cdf(-np.abs(angle))  # the cosine is below where the angle is farther off
    np.testing.assert_allclose(p[:, 0], expected, atol=4 * 0.5 / np.sqrt(2000))


@pytest.mark.slow
def test_tails_far_out():
    t = np.array([-1e8, -40.0, -3.0, 0.0, 1e-6, 8.0, 100.0])
    dof = np.array([[0.3], [3.0], [99.0], [101.0], [1e4]])
    below, _, above = jax.jit(student_tails)(t, 0 * dof, 1.0, dof)
    inside = np.abs(t) < np.where(dof < 101, 200, 20)  # where scipy has digits, and so has the expansion
    np.testing.assert_allclose(below[inside], stats.t(dof).logcdf(t)[inside], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(above[inside], stats.t(dof).logsf(t)[inside], rtol=1e-7, atol=1e-10)
    mean, alpha = np.array([[5.0], [300.0], [0.2], [1e4]]), np.array([[0.5], [1e-3], [3.0], [0.01]])
    sd = np.sqrt(mean + alpha * mean**2)
    y = np.floor(np.maximum(mean + sd * np.array([-30.0, -5, -1, 0, 0.5, 4, 20]), 0))
    truth = stats.nbinom(1 / alpha, 1 / (1 + alpha * mean))
    counts = jax.jit(negative_binomial_tails)
    below, _, above = counts(y, mean, alpha)
    np.testing.assert_allclose(above, truth.logsf(y), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(below[y > 0], truth.logcdf(y - 1)[y > 0], rtol=1e-8, atol=1e-11)
    assert (below[y == 0] == -np.inf).all()
    exact = stats.poisson(mean).sf(y)
    some_left = exact > 0  # where scipy's has not run out of numbers
    above = counts(y, mean, 0 * alpha).above
    np.testing.assert_allclose(above[some_left], np.log(exact[some_left]), rtol=1e-8, atol=1e-11)


@pytest.mark.slow
def test_time():
    """One step ahead, as `pseudo_residuals` of a chain; a semi-Markov one of geometric durations foretells the same."""
    model = HiddenMarkov(Gaussian("diagonal"), 2)
    transition = np.array([[0.8, 0.2], [0.4, 0.6]])
    params = HiddenMarkovParams(np.array([0.5, 0.5]), transition, GaussianParams(MEAN, SCALE))
    z = quantile_residuals(model, params, Y)
    np.testing.assert_allclose(z, model.pseudo_residuals(params, Y).residual, rtol=1e-10)
    semi = HiddenSemiMarkov(Gaussian("diagonal"), 2, duration="categorical", max_duration=N)
    stay = np.diagonal(transition)[:, None]
    lasts = stay ** np.arange(N) * (1 - stay)
    lasts[:, -1] = stay[:, 0] ** (N - 1)  # what lasts longer than the data is not told apart
    start = semi.init(0, Y)
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    same = start._replace(initial=params.initial, transition=swap, emissions=params.emissions,
                          duration=type(start.duration)(lasts))  # fmt: skip
    np.testing.assert_allclose(semi.predict(same, Y), model.predict(params, Y), rtol=1e-9)
    np.testing.assert_allclose(quantile_residuals(semi, same, Y), z, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("parametrisation", some(["mean", "intercept"], ["mean"], pytest.mark.thorough))
def test_switching_autoregressions(parametrisation):
    """By enumeration of the paths of regimes up to each step."""
    model = MarkovSwitching(1, ("mean", "variance"), 2, parametrisation)
    transition, level, phi, sd = np.array([[0.8, 0.2], [0.3, 0.7]]), np.array([-1.0, 2.0]), 0.4, np.array([0.7, 1.5])
    y = Y[:6, 0]
    params = model._params(np.array([0.6, 0.4]), transition, level, np.array([phi]), sd**2)
    z = quantile_residuals(model, params, y)[:, 0]
    assert np.isnan(z[0])
    for t in range(1, len(y)):
        paths = np.stack(np.meshgrid(*[[0, 1]] * (t + 1), indexing="ij"), axis=-1).reshape(-1, t + 1)
        mass = np.array([0.6, 0.4])[paths[:, 0]]
        for s in range(1, t + 1):
            lag = y[s - 1] - (level[paths[:, s - 1]] if parametrisation == "mean" else 0)
            e = stats.norm(level[paths[:, s]] + phi * lag, sd[paths[:, s]])
            mass = mass * transition[paths[:, s - 1], paths[:, s]]
            below = e.cdf(y[t]) if s == t else None
            mass = mass if s == t else mass * e.pdf(y[s])
        np.testing.assert_allclose(stats.norm.cdf(z[t]), (mass * below).sum() / mass.sum(), rtol=1e-9)


@pytest.mark.slow
def test_residuals_of_simulated_rows_are_normal():
    """Under the params that drew them, counts randomised within their steps; other params are found out."""
    model = Mixture(NegativeBinomial(), 2)
    params = MixtureParams(WEIGHTS, NegativeBinomialParams(3 * SCALE, SCALE))
    y = np.asarray(model.sample(0, params, 2000))
    z = quantile_residuals(model, params, y, key=1)
    for column in z.T:
        assert stats.kstest(column, "norm").pvalue > 0.01
    wrong = params._replace(components=NegativeBinomialParams(3 * SCALE, 0 * SCALE))
    assert stats.kstest(quantile_residuals(model, wrong, y, key=1)[:, 0], "norm").pvalue < 1e-6
    assert (quantile_residuals(model, params, y, key=2) != z).any()
    np.testing.assert_array_equal(quantile_residuals(model, params, y, key=1), z)


def test_refusals():
    model, params = Mixture(Gaussian(), 2), MixtureParams(WEIGHTS, GaussianParams(MEAN, matrices(SCALE)))
    with pytest.raises(TypeError, match="data: are prepared"):
        quantile_residuals(model, params, model.prepare(Y))
    with pytest.raises(TypeError, match="Latent does not say the distribution of single cells"):
        quantile_residuals(Latent(lambda p, z, y: p["a"] * y.sum(), {"a": Real()}, 1, start={"a": 0.0}), {"a": 0.0}, Y)

    class Silent(LinearRegression):
        def tails(self, params, y, x=None):
            raise TypeError("unknown")

    jax.tree_util.register_dataclass(Silent, data_fields=("frame",), meta_fields=())
    with pytest.raises(TypeError, match="Silent takes covariates, and does not say its cumulative distribution"):
        quantile_residuals(Single(Silent()), LinearRegressionParams(SLOPES[0], INTERCEPT[0], SD[0]), Regression(Y[:, 0], X))
    with pytest.raises(TypeError, match="draws"):
        quantile_residuals(model, params, Y, draws=2.5)
