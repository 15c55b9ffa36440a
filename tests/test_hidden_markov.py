"""Hidden Markov models: every path enumerated, published answers, what is read off a fit, bad input."""

import csv
import json
from itertools import pairwise, product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import bernoulli, categorical, gamma, gaussian, linear_regression, mixture_emission, poisson, student_t
from cases.hidden_markov import INITIAL, TRANSITION, named
from scipy import optimize, special, stats

import jaxem
from jaxem import (
    Bernoulli,
    BernoulliParams,
    Exponential,
    ExponentialParams,
    Gamma,
    GammaParams,
    Gaussian,
    GaussianParams,
    HiddenMarkov,
    HiddenMarkovParams,
    LinearRegression,
    NonhomogeneousHiddenMarkov,
    Poisson,
    PoissonParams,
    Regression,
    Sequences,
    Single,
    Status,
    Stop,
)
from jaxem.kernels.quantiles import normal_quantile
from jaxem.kernels.stationary import stationary

HERE = Path(__file__).parent / "reference"
TIGHT = Stop(tolerance=1e-9, max_steps=20000)
K = 3
LENGTHS = (4, 1, 3)


# every path


def enumerated(params, emission):
    """Log-likelihood, smoothed (T, K), pairs (T - 1, K, K) and the best path of one sequence with log-densities (T, K)."""
    steps = len(emission)
    total, smoothed, pairs, best = 0.0, np.zeros((steps, K)), np.zeros((steps - 1, K, K)), (-1.0, ())
    for path in product(range(K), repeat=steps):
        p = params.initial[path[0]] * np.exp(sum(emission[t, k] for t, k in enumerate(path)))
        for j, k in pairwise(path):
            p = p * params.transition[j, k]
        total += p
        smoothed[np.arange(steps), path] += p
        for t, (j, k) in enumerate(pairwise(path)):
            pairs[t, j, k] += p
        best = max(best, (p, path))
    return np.log(total), smoothed / total, pairs / total, best[1]


CASES = [
    pytest.param(named(poisson.ROWS, "mixture-poisson"), id="poisson"),
    *(
        pytest.param(named(module.ROWS, name), id=name, marks=pytest.mark.slow)
        for module, name in (
            (gaussian, "mixture-full"), (bernoulli, "mixture-bernoulli"), (categorical, "mixture-categorical"),
            (student_t, "mixture-student-t"), (gamma, "mixture-gamma"), (linear_regression, "mixture-linear-regression"),
            (mixture_emission, "hidden-markov-gaussian-mixture"),
        )
        if any(row.name == name for row in module.ROWS)
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_path(case):
    """Ragged sequences with holes, a whole step among them."""
    inner = case.start()
    params = inner if isinstance(inner, HiddenMarkovParams) else HiddenMarkovParams(INITIAL, TRANSITION, inner)
    model = case.model if isinstance(case.model, HiddenMarkov) else HiddenMarkov(case.model.family, K)
    whole = case.simulate(12, 3)
    flat = jax.tree.map(lambda leaf: np.array(leaf, np.float64).reshape(-1, *leaf.shape[2:]), whole)
    rows = whole if not isinstance(case.model, HiddenMarkov) else flat
    rows = jax.tree.map(lambda leaf: np.array(leaf, np.float64)[: sum(LENGTHS)], rows)
    y = getattr(rows, "y", rows)
    y[2] = np.nan
    emission = np.where(np.isnan(y.reshape(len(y), -1)).all(axis=1)[:, None], 0, case.oracle(params.emissions, rows))
    ends = np.cumsum((0, *LENGTHS))
    data = [jax.tree.map(lambda leaf, a=a, b=b: leaf[a:b], rows) for a, b in pairwise(ends)]
    found = (
        model.log_likelihood(params, data, per_row=True), model.smooth(params, data), model.pairwise(params, data, full=True),
        model.viterbi(params, data),
    )  # fmt: skip
    each = [enumerated(params, emission[a:b]) for a, b in pairwise(ends)]
    np.testing.assert_allclose(found[0], [e[0] for e in each], rtol=1e-10)
    for place, at in ((1, 1), (2, 2)):
        np.testing.assert_allclose(found[place], np.concatenate([e[at] for e in each]), atol=1e-10)
    assert found[3].tolist() == [k for e in each for k in e[3]]
    summed = np.concatenate([e[2] for e in each]).sum(axis=0)  # never across a boundary
    np.testing.assert_allclose(model.pairwise(params, data), summed, atol=1e-10)
    np.testing.assert_allclose(model.filter(params, data)[ends[1:] - 1], found[1][ends[1:] - 1], atol=1e-12)
    np.testing.assert_allclose(model.predict(params, data)[ends[:-1]], np.tile(params.initial, (3, 1)), atol=1e-12)


# published and independent answers


def reference(name, column, group=None):
    with open(HERE / name / "data.csv") as file:
        table = list(csv.DictReader(file))
    columns = column if isinstance(column, list) else [column]
    y = np.array([[float(row[c]) if row[c] else np.nan for c in columns] for row in table])
    labels = [row[group] if group else "" for row in table]
    places = {label: [i for i, other in enumerate(labels) if other == label] for label in dict.fromkeys(labels)}
    return [y[at] for at in places.values()], json.loads((HERE / name / "expected.json").read_text())


def fitted(model, data, restarts, seed):
    fit = jaxem.fit(model, data, key=seed, restarts=restarts, stop=TIGHT)
    assert fit.status == Status.CONVERGED, fit.explain()
    return fit


EARTHQUAKES = [(1, "none"), (2, "free"), (2, "stationary"), (3, "stationary"), (3, "free"), (4, "stationary")]


@pytest.mark.slow
@pytest.mark.parametrize(("k", "initial"), EARTHQUAKES)
def test_earthquakes(k, initial):
    data, expected = reference("hmm_poisson_earthquakes", "count")
    truth = next(f for f in expected["fits"] if (f["n_states"], f["initial_distribution"]) == (k, initial))
    model = HiddenMarkov(Poisson(), k, initial="free" if initial == "none" else initial)
    assert model.n_parameters(model.prepare(data)) == truth["n_params"]
    for seed in range(3):
        fit = fitted(model, data, 4 if k < 4 else 24, seed)
        assert abs(float(fit.log_likelihood) - truth["logLik"]) < 1e-6
        np.testing.assert_allclose(fit.params.emissions.rate[:, 0], truth["params"]["means"], atol=1e-3)  # in canonical order
        np.testing.assert_allclose(fit.params.transition, truth["params"].get("transition", [[1.0]]), atol=1e-3)


@pytest.mark.slow
def test_earthquakes_four_free():
    """The reference is a local maximum (2 of its 6 starts): ours is higher, and is the likelihood of its params by hand."""
    data, expected = reference("hmm_poisson_earthquakes", "count")
    truth = next(f for f in expected["fits"] if (f["n_states"], f["initial_distribution"]) == (4, "free"))
    fit = fitted(HiddenMarkov(Poisson(), 4), data, 24, 0)
    assert float(fit.log_likelihood) > truth["logLik"] + 0.1
    state, total = np.asarray(fit.params.initial, np.float64), 0.0
    for t, y in enumerate(data[0]):
        state = state if t == 0 else state @ np.asarray(fit.params.transition)
        state = state * stats.poisson.pmf(y, np.asarray(fit.params.emissions.rate)[:, 0])
        total, state = total + np.log(state.sum()), state / state.sum()
    assert abs(total - float(fit.log_likelihood)) < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("initial", ["free", "stationary"])
@pytest.mark.parametrize("name", ["hmm_gaussian_speed_rt", "hmm_bernoulli_speed_corr"])
def test_speed(name, initial):
    """Response times as one series, correctness as three."""
    gaussian_case = "gaussian" in name
    data, expected = reference(name, "rt" if gaussian_case else "y", None if gaussian_case else "series")
    truth = next(f for f in expected["fits"] if f["initial_distribution"] == initial)
    model = HiddenMarkov(Gaussian("diagonal") if gaussian_case else Bernoulli(), 2, initial=initial)
    for seed in range(3):
        fit = fitted(model, data, 24, seed)
        assert abs(float(fit.log_likelihood) - truth["logLik"]) < 1e-6
        np.testing.assert_allclose(fit.params.transition, truth["params"]["transition"], atol=1e-3)
        level = fit.params.emissions[0][:, 0]
        np.testing.assert_allclose(level, truth["params"]["means" if gaussian_case else "prob_of_1"], atol=1e-3)
        if initial == "stationary":
            np.testing.assert_allclose(fit.params.initial, truth["stationary_distribution"], atol=1e-3)


def test_missing():
    """32 short sequences, a third of the cells missing."""
    data, expected = reference("hmm_gaussian_missing_simulated", ["y1", "y2"], "sequence")
    model = HiddenMarkov(Gaussian(), 2)
    for seed in range(3):
        fit = fitted(model, data, 1, seed)
        assert abs(float(fit.log_likelihood) - expected["logLik"]) < 1e-6
        truth = expected["params"]
        found = (fit.params.initial, fit.params.transition, *fit.params.emissions)
        for ours, name in zip(found, ("initial", "transition", "means", "covariances"), strict=True):
            np.testing.assert_allclose(ours, truth[name], atol=5e-3)
    np.testing.assert_allclose(model.smooth(fit.params, data), expected["smoothed_states"], atol=1e-3)
    frame = np.concatenate(data)
    lengths = [len(part) for part in data]
    assert model.log_likelihood(fit.params, Sequences(frame, lengths)) == model.log_likelihood(fit.params, data)


@pytest.mark.slow
def test_imputation():
    """A missing cell is the average over smoothed states of its regression on the step's observed cell."""
    data, expected = reference("hmm_gaussian_missing_simulated", ["y1", "y2"], "sequence")
    truth, model = {name: np.array(value) for name, value in expected["params"].items()}, HiddenMarkov(Gaussian(), 2)
    params = HiddenMarkovParams(truth["initial"], truth["transition"], GaussianParams(truth["means"], truth["covariances"]))
    filled, spread = model.impute(params, data, covariance=True)
    state, y = np.asarray(model.smooth(params, data)), np.concatenate(data)
    mean, covariance = (np.asarray(leaf) for leaf in params.emissions)
    i = next(i for i, row in enumerate(y) if np.isnan(row).tolist() == [False, True])
    own = mean[:, 1] + covariance[:, 1, 0] / covariance[:, 0, 0] * (y[i, 0] - mean[:, 0])
    left = covariance[:, 1, 1] - covariance[:, 1, 0] ** 2 / covariance[:, 0, 0]
    np.testing.assert_allclose(filled[i], [y[i, 0], state[i] @ own], rtol=1e-10)
    np.testing.assert_allclose(spread[i, 1, 1], state[i] @ (left + own**2) - (state[i] @ own) ** 2, rtol=1e-8)


# what is read off


TWO = HiddenMarkovParams(np.array([0.6, 0.4]), np.array([[0.9, 0.1], [0.3, 0.7]]), PoissonParams(np.array([[2.0], [9.0]])))
COUNTS = [np.array([[1.0], [3.0], [8.0], [np.nan], [11.0]]), np.array([[2.0], [7.0]])]


def test_forecast():
    model = HiddenMarkov(Poisson(), 2)
    levels = (0.05, 0.5, 0.95)
    out = model.forecast(TWO, COUNTS, 3, levels=levels)
    last = np.asarray(model.filter(TWO, COUNTS))[[4, 6]]
    rate = TWO.emissions.rate[:, 0]
    for h in range(3):
        state = last @ np.linalg.matrix_power(TWO.transition, h + 1)
        np.testing.assert_allclose(out.states[:, h], state, rtol=1e-12)
        np.testing.assert_allclose(out.mean[:, h, 0], state @ rate, rtol=1e-12)
        np.testing.assert_allclose(out.variance[:, h, 0], state @ (rate + rate**2) - (state @ rate) ** 2, rtol=1e-12)
        for level, found in zip(levels, out.quantiles[:, :, h, 0], strict=True):
            for p, q in zip(state, np.asarray(found), strict=True):
                assert p @ stats.poisson.cdf(q, rate) >= level > p @ stats.poisson.cdf(q - 1, rate)


def test_pseudo_residuals():
    model = HiddenMarkov(Poisson(), 2)
    found = model.pseudo_residuals(TWO, COUNTS)
    ahead = np.asarray(model.predict(TWO, COUNTS))
    y, rate = np.concatenate(COUNTS)[:, 0], TWO.emissions.rate[:, 0]
    seen = ~np.isnan(y)
    upper = (ahead * stats.poisson.cdf(y[:, None], rate)).sum(axis=1)[seen]
    lower = (ahead * stats.poisson.cdf(y[:, None] - 1, rate)).sum(axis=1)[seen]
    for leaf, p in zip(found, ((lower + upper) / 2, lower, upper), strict=True):
        assert np.isnan(leaf[3, 0])
        np.testing.assert_allclose(leaf[seen, 0], stats.norm.ppf(p), rtol=1e-8)
    drawn = model.pseudo_residuals(TWO, COUNTS, key=0).residual[seen]
    assert ((drawn > found.lower[seen]) & (drawn < found.upper[seen])).all()


def test_tails():
    """Cumulative distributions of families against scipy, 30 standard deviations out."""
    y = np.array([[0.0], [1.0], [4.0], [60.0], [200.0]])
    rows = [
        (Gaussian(), GaussianParams(np.array([[1.0]]), np.array([[[4.0]]])), stats.norm(1, 2)),
        (Poisson(), PoissonParams(np.array([[5.0]])), stats.poisson(5)),
        (Exponential(), ExponentialParams(np.array([[0.7]])), stats.expon(scale=1 / 0.7)),
        (Gamma(), GammaParams(np.array([[2.5]]), np.array([[0.7]])), stats.gamma(2.5, scale=1 / 0.7)),
        (Bernoulli(), BernoulliParams(np.array([[0.3]])), stats.bernoulli(0.3)),
    ]
    for family, params, truth in rows:
        below, at, above = (np.asarray(leaf)[:, 0, 0] for leaf in family.tails(jax.tree.map(jnp.asarray, params), jnp.asarray(y)))
        mass = truth.pmf(y[:, 0]) if family.discrete else np.zeros(len(y))
        np.testing.assert_allclose(np.exp(at), mass, rtol=1e-9)
        np.testing.assert_allclose(np.exp(below), truth.cdf(y[:, 0]) - mass, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(above, truth.logsf(y[:, 0]), rtol=1e-6)
    far = np.array([-1e-3, -1.0, -19.9, -20.1, -500.0, -1e5])
    np.testing.assert_allclose(normal_quantile(jnp.asarray(far), jnp.log1p(-jnp.exp(far))), special.ndtri_exp(far), rtol=1e-9)
    assert normal_quantile(jnp.asarray(-jnp.inf), jnp.asarray(0.0)) == -jnp.inf


def test_stationary_distribution():
    a = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.0, 1e-9, 1 - 1e-9]])
    p = np.asarray(stationary(jnp.asarray(a)))
    np.testing.assert_allclose(p @ a, p, rtol=1e-12)
    np.testing.assert_allclose(p[2] / p[1], 0.3e9, rtol=1e-9)  # no digits lost by subtraction
    model = HiddenMarkov(Poisson(), 2)
    np.testing.assert_allclose(model.expected_durations(TWO), [10, 10 / 3])
    np.testing.assert_allclose(model.stationary(TWO), [0.75, 0.25])


def test_paths_that_cannot_be():
    """A count that neither state can produce: -inf and a status, not NaN; one that only one of them can is no trouble."""
    model = HiddenMarkov(Poisson(), 2)
    params = TWO._replace(emissions=PoissonParams(np.array([[0.0], [9.0]])))
    assert np.isfinite(model.log_likelihood(params, COUNTS))
    assert model.viterbi(params, COUNTS).tolist() == [1, 1, 1, 1, 1, 1, 1]
    blind = params._replace(emissions=PoissonParams(np.zeros((2, 1))))
    assert model.log_likelihood(blind, COUNTS) == -np.inf
    assert np.isfinite(model.smooth(blind, COUNTS)).all()
    assert jaxem.fit(model, COUNTS, params=blind).status == Status.NONFINITE


@pytest.mark.slow
def test_batch():
    """Data sets of different numbers of sequences and lengths in one program are what they are alone."""
    model = HiddenMarkov(Poisson(), 2)
    sets, weights = [COUNTS, [COUNTS[0][[4, 2, 1, 0, 0, 1, 2, 4]]]], [np.array([1.0, 2.0]), None]
    stop = Stop(max_steps=3)
    both = jaxem.fit_batch(model, sets, key=0, weights=weights, stop=stop)
    for i in range(2):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], both.params)
        alone = model.log_likelihood(own, jaxem.prepare(model, sets[i], weights[i]))
        np.testing.assert_allclose(both.log_likelihood[i], alone, rtol=1e-12)


def test_one_state():
    y = COUNTS[0]
    model, params = HiddenMarkov(Poisson(), 1), HiddenMarkovParams(np.ones(1), np.ones((1, 1)), PoissonParams(np.array([[4.0]])))
    single = Single(Poisson()).log_likelihood(PoissonParams(np.array([4.0])), y)
    np.testing.assert_allclose(model.log_likelihood(params, y), single, rtol=1e-12)
    np.testing.assert_allclose(model.m_step(params, model.e_step(params, y).statistics).emissions.rate, [[23 / 4]])


# bad input


BAD = [
    ([], "no sequence"),
    ([COUNTS[0], np.zeros((0, 1))], r"y\[1\]: found a sequence without rows"),
    ([COUNTS[0], np.ones((2, 2))], r"y\[1\]: found rows of shape \(2,\)"),
    (Sequences(np.ones((2, 5, 1)), [3, 6]), r"lengths\[1\]: found 6, beyond the 5 steps"),
    (Sequences(np.ones((2, 5, 1)), [3, 0]), r"lengths\[1\]: found 0"),
    (Sequences(np.ones((2, 5, 1)), [3]), "found 1 for 2 sequences"),
    (Regression(COUNTS[0], gate=np.ones((5, 1))), "NonhomogeneousHiddenMarkov"),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_bad_data(data, message):
    with pytest.raises((ValueError, TypeError), match=message):
        HiddenMarkov(Poisson(), 2).prepare(data)


def test_bad_settings():
    for settings, message in (
        ({"transition": np.array([[True, False], [False, False]])}, "row 1 of the mask has no way out"),
        ({"transition": np.ones((2, 2))}, "mask of True and False"),
        ({"initial": [0.5, 0.6]}, "sum 1.1"),
        ({"initial": "uniform"}, "'uniform'"),
        ({"prior": jaxem.MixturePrior(1.0, None)}, "HiddenMarkovPrior"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            HiddenMarkov(Poisson(), 2, **settings)
    model = HiddenMarkov(Poisson(), 2)
    with pytest.raises(ValueError, match=r"shape \(7,\) for 2 sequences"):
        model.prepare(COUNTS, weights=np.ones(7))
    with pytest.raises(ValueError, match=r"datasets\[1\]: weights: found shape \(2,\)"):
        model.prepare_batch([COUNTS, COUNTS[:1]], [None, np.ones(2)])
    with pytest.raises(ValueError, match="ask for fewer components"):
        jaxem.fit(HiddenMarkov(Poisson(), 9), COUNTS, key=0)
    with pytest.raises(ValueError, match="levels"):
        model.forecast(TWO, COUNTS, 1, levels=(0.5, 1.0))
    with pytest.raises(TypeError, match="give the raw data"):
        model.pseudo_residuals(TWO, model.prepare(COUNTS))
    with pytest.raises(ValueError, match="no covariates"):
        model.forecast(TWO, COUNTS, 1, gate=np.ones((1, 1)))
    with pytest.raises(ValueError, match="no stationary distribution"):
        NonhomogeneousHiddenMarkov(Poisson(), 2, initial="stationary")
    with pytest.raises(TypeError, match="found no gate"):
        NonhomogeneousHiddenMarkov(Poisson(), 2).prepare(COUNTS)


# longer runs


@pytest.mark.slow
def test_long_float32():
    """100,000 steps: no underflow in float32, and the log-likelihood is that of float64."""
    model = HiddenMarkov(Poisson(), 2)
    y = np.asarray(model.sample(0, TWO, 100_000))
    assert jaxem.prepare(model, y.astype(np.float32)).dtype == np.float32
    values = [float(model.log_likelihood(TWO, y.astype(dtype))) for dtype in (np.float32, np.float64)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)


@pytest.mark.slow
def test_draws():
    """Paths drawn from p(z | y) are as frequent as their probabilities."""
    model = HiddenMarkov(Poisson(), 2)
    copies = np.tile(COUNTS[0], (20_000, 1, 1))
    drawn = np.asarray(model.posterior_sample(0, TWO, copies)).reshape(len(copies), -1)
    np.testing.assert_allclose(drawn.mean(axis=0), model.smooth(TWO, COUNTS[0])[:, 1], atol=0.015)
    moved = np.array([[((drawn[:, 1] == j) & (drawn[:, 2] == k)).mean() for k in range(2)] for j in range(2)])
    np.testing.assert_allclose(moved, model.pairwise(TWO, COUNTS[0], full=True)[1], atol=0.015)


@pytest.mark.slow
def test_residuals_are_normal():
    model = HiddenMarkov(Poisson(), 2)
    y = np.asarray(model.sample(1, TWO, 3000))
    assert stats.kstest(np.asarray(model.pseudo_residuals(TWO, y, key=0).residual)[:, 0], "norm").pvalue > 0.01
    wrong = TWO._replace(transition=np.full((2, 2), 0.5))
    assert stats.kstest(np.asarray(model.pseudo_residuals(wrong, y, key=0).residual)[:, 0], "norm").pvalue < 0.01


@pytest.mark.slow
def test_regression_in_time():
    """Markov-switching regression of ragged sequences: params come back, and a forecast follows its covariates."""
    rng = np.random.default_rng(0)
    slopes, levels, data = np.array([-1.0, 2.0]), np.array([0.0, 5.0]), []
    for n in (300, 200, 1):
        path = np.zeros(n, int)
        for t in range(1, n):
            path[t] = path[t - 1] if rng.random() < 0.9 else 1 - path[t - 1]
        x = rng.normal(size=(n, 1))
        data.append(Regression(levels[path] + slopes[path] * x[:, 0] + 0.3 * rng.normal(size=n), x))
    model = HiddenMarkov(LinearRegression(), 2)
    fit = fitted(model, data, 3, 0)
    order = np.argsort(np.asarray(fit.params.emissions.intercept).ravel())
    np.testing.assert_allclose(np.asarray(fit.params.emissions.coefficients)[order, 0], slopes, atol=0.1)
    np.testing.assert_allclose(np.diagonal(fit.params.transition), 0.9, atol=0.05)
    out = model.forecast(fit.params, data, 2, covariates=np.array([[0.0], [1.0]]), levels=[0.5], key=0)
    state = np.asarray(out.states)[:, :, order]
    np.testing.assert_allclose(out.mean[:, :, 0], (state * [[0.0, 5.0], [-1.0, 7.0]]).sum(axis=2), atol=0.2)


@pytest.mark.slow
def test_gate_of_nothing():
    """Coefficients 0 are the model without a gate; forecasts and samples need the covariates."""
    gated, still = NonhomogeneousHiddenMarkov(Poisson(), 2), HiddenMarkov(Poisson(), 2)
    log = np.log(TWO.transition)
    gate = jaxem.GateParams(np.zeros((2, 2, 1)), log - np.diagonal(log)[:, None])
    params = jaxem.NonhomogeneousParams(TWO.initial, gate, TWO.emissions)
    data = [Regression(y, gate=np.arange(len(y))[:, None] + i) for i, y in enumerate(COUNTS)]
    for read in ("smooth", "filter", "predict", "viterbi", "pairwise"):
        np.testing.assert_allclose(getattr(gated, read)(params, data), getattr(still, read)(TWO, COUNTS), atol=1e-12)
    ahead = gated.forecast(params, data, 2, gate=np.zeros((2, 1)))
    np.testing.assert_allclose(ahead.mean, still.forecast(TWO, COUNTS, 2).mean, rtol=1e-12)
    with pytest.raises(ValueError, match="gate"):
        gated.forecast(params, data, 2)


@pytest.mark.slow
def test_continuous_quantiles():
    """Quantiles of a Gaussian forecast are the roots of its distribution; simulated ones come near them."""
    model = HiddenMarkov(Gaussian("diagonal"), 2)
    params = TWO._replace(emissions=GaussianParams(np.array([[0.0], [4.0]]), np.array([[1.0], [0.25]])))
    out = model.forecast(params, COUNTS, 1, levels=(0.025, 0.9))
    state = np.asarray(out.states)[0, 0]
    for level, found in zip((0.025, 0.9), np.asarray(out.quantiles)[:, 0, 0, 0], strict=True):
        root = optimize.brentq(lambda q, level=level: state @ stats.norm.cdf(q, [0, 4], [1, 0.5]) - level, -9, 9, xtol=1e-13)
        assert abs(found - root) < 1e-9
    residual = model.pseudo_residuals(params, COUNTS)
    np.testing.assert_array_equal(residual.lower, residual.upper)
