"""The account of a fit as text and as JSON: names, numbers and counts, for any family."""

import json

import jax
import numpy as np
import pandas
import pytest
from table import some

import jaxem
from jaxem import (
    Categorical,
    Gaussian,
    GaussianParams,
    Interval,
    LinearRegression,
    Mixture,
    MixtureOfExperts,
    MixtureParams,
    Poisson,
    Product,
    Regression,
    Single,
    Stop,
    fit,
    summary,
)  # fmt: skip
from jaxem.document import document
from jaxem.parameters import comparison_table, number, parameter_table
from jaxem.view import view_of

N = 40


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(150, 2)) + rng.integers(0, 2, (150, 1)) * 4.0
    y[rng.random((150, 2)) < 0.15] = np.nan
    y[0] = np.nan
    model = Mixture(Gaussian(), 2)
    return model, fit(model, y, key=0, restarts=3, stop=Stop(max_steps=30)), y


def lines_of(text):
    """Table of an account: title -> numbers."""
    body = text.split("\n\n", 1)[1]
    found = {}
    for line in body.splitlines():
        words = line.split("  ")
        values = [word for word in words[1:] if word.strip()]
        found[words[0].strip()] = values
    return found


def test_summary_of_gaussians(fitted):
    model, found, y = fitted
    text = summary.summarize(model, found, y, names=["height", "width"])
    assert "150 rows, 2 columns: height, width" in text
    assert f"{float(found.log_likelihood):.4f}" in text
    assert max(map(len, text.splitlines()[8:])) < 100
    table, components = lines_of(text), found.params.components
    assert list(table)[-6:] == ["weight", "mean height", "mean width", "sd height", "sd width", "corr height, width"]
    deviation = np.sqrt(np.diagonal(components.covariance, axis1=1, axis2=2))
    correlation = components.covariance[:, 0, 1] / deviation.prod(axis=1)
    deviation, correlation = np.asarray(deviation), np.asarray(correlation)
    assert [float(v) for v in table["sd width"]] == pytest.approx(deviation[:, 1], abs=1e-4)
    assert [float(v) for v in table["corr height, width"]] == pytest.approx(correlation, abs=1e-4)


def test_criteria_count_rows(fitted):
    model, found, y = fitted
    weights = np.full(150, 2.0)
    measured = summary.criteria(model, found, y, weights)
    seen = (~np.isnan(y).all(axis=1)).sum()
    assert (measured.n_rows, measured.n, measured.n_parameters) == (seen, 300, 11)
    assert measured.bic == pytest.approx(-2 * float(found.log_likelihood) + 11 * np.log(300))


@pytest.mark.parametrize("kind", ["tied", "diagonal", "spherical"])
def test_covariances_of_every_kind(kind):
    covariance = {"tied": 4 * np.eye(2), "diagonal": np.full((2, 2), 4.0), "spherical": np.full(2, 4.0)}[kind]
    params = MixtureParams(np.array([0.5, 0.5]), GaussianParams(np.zeros((2, 2)), covariance))
    text = parameter_table(Mixture(Gaussian(kind), 2), params, view_of(np.zeros((3, 2))))
    deviations = [line.split()[-2:] for line in text.splitlines() if line.startswith("sd")]
    assert deviations == [["2.0000", "2.0000"]] * (1 if kind == "spherical" else 2)


def test_wide_tables_are_cut():
    params = MixtureParams(np.full(20, 0.05), GaussianParams(np.zeros((20, 50)), np.ones((20, 50))))
    text = parameter_table(Mixture(Gaussian("diagonal"), 20), params, view_of(np.zeros((3, 50))))
    assert text.count("component") == 3
    assert max(map(len, text.splitlines())) < 120


def test_comparison():
    params = MixtureParams(np.array([0.5, 0.5]), GaussianParams(np.zeros((2, 2)), np.stack([np.eye(2), 2 * np.eye(2)])))
    text = comparison_table(Mixture(Gaussian(), 2), params, params, view_of(np.zeros((3, 2)), ["a", "b"]))
    titles = [line.split("  ")[0] for line in text.splitlines()[3:]]
    assert titles == ["weight", "mean a", "mean b", "cov a, a", "cov a, b", "cov b, b"]


def test_numbers():
    texts = {0.0: "0.0000", 1.25: "1.2500", 1e-7: "1.000e-07", np.nan: "nan", -2e6: "-2.000e+06"}
    assert [number(value) for value in texts] == list(texts.values())


# any family: params from `init`, so that nothing has to be fitted

rng = np.random.default_rng(1)
FRAME = pandas.DataFrame({"age": rng.normal(size=N), "income": rng.normal(size=N)})
Y = pandas.Series(rng.normal(size=N), name="spending")
LABELS = pandas.DataFrame({"smokes": ["yes", "no"] * (N // 2), "colour": (["red", "green", "blue", None] * N)[:N]})
COUNTS = pandas.DataFrame({"visits": rng.poisson(3, N)})
CENSORED = Interval(np.where(Y < 0, -np.inf, Y), np.maximum(Y, 0))


def named(name, *args, **keywords):
    return lambda: getattr(jaxem, name)(*args, **keywords)


TITLES = {
    "poisson": (named("Poisson"), COUNTS, ["weight", "rate visits"]),
    "categorical": (
        named("Categorical"), LABELS, ["weight", "smokes = no", "smokes = yes", "colour = blue", "colour = green", "colour = red"]
    ),
    "product": (
        lambda: Product(a=Gaussian(), b=Poisson(), c=Categorical()), {"a": FRAME, "b": COUNTS, "c": LABELS[["smokes"]]},
        [
            "weight", "mean age", "mean income", "sd age", "sd income", "corr age, income", "rate visits", "smokes = no",
            "smokes = yes",
        ],
    ),
    "regression": (
        named("LinearRegression"), Regression(Y, FRAME), ["weight", "coefficient age", "coefficient income", "intercept", "sd"]
    ),
    "bernoulli": (named("Bernoulli"), (Y > 0).astype(float), ["weight", "probability spending"]),
    "censored": (
        named("CensoredRegression"), Regression(CENSORED, FRAME), ["weight", "coefficient age", "coefficient income", "intercept"]
    ),
    "student": (named("StudentT"), FRAME, ["weight", "corr age, income"]),
}  # fmt: skip


@pytest.mark.parametrize("case", TITLES)
def test_names_of_params(case):
    make, data, titles = TITLES[case]
    model = Mixture(make(), 2)
    params = model.init(0, data)
    text = parameter_table(model, params, view_of(data, model=model))
    found = [line.split("  ")[0].strip() for line in text.splitlines()[2:]]
    assert [title for title in found if title in titles] == titles
    if case in ("poisson", "categorical", "product", "regression", "bernoulli"):
        assert found == titles


@pytest.mark.parametrize("case", some(TITLES, list(TITLES)[:1]))
def test_document_holds_the_params(case):
    """The JSON gives params back leaf by leaf; it has no NaN, and names what the columns stand for."""
    make, data, _ = TITLES[case]
    model = Mixture(make(), 2)
    params = model.init(0, data)
    found = fit(model, data, params=params, stop=Stop(max_steps=1))
    written = json.loads(json.dumps(document(model, found, data), allow_nan=False))
    back = jax.tree.leaves(jax.tree.map(np.asarray, written["params"], is_leaf=lambda leaf: isinstance(leaf, list)))
    for ours, theirs in zip(sorted(back, key=np.size), sorted(jax.tree.leaves(found.params), key=np.size), strict=True):
        assert ours.size == theirs.size
    assert written["params"]["weights"] == pytest.approx(np.asarray(found.params.weights))
    assert written["model"] == "mixture"
    assert written["columns"] == list(view_of(data).columns)
    assert written["n_parameters"] == model.n_parameters(model.prepare(data))


def test_loadings_have_a_table_of_their_own():
    model = Single(jaxem.FactorGaussian(2))
    y = np.random.default_rng(0).normal(size=(50, 5))
    text = parameter_table(model, model.init(0, y), view_of(y))
    assert "factor 0" in text
    assert [line.split()[0] for line in text.splitlines()[-5:]] == [f"x{j}" for j in range(5)]


def test_gate():
    data = Regression(Y, FRAME[["age"]], gate=FRAME[["income"]])
    model = MixtureOfExperts(LinearRegression(), 2)
    text = parameter_table(model, model.init(0, data), view_of(data))
    titles = [line.split("  ")[0].strip() for line in text.splitlines()[2:]]
    assert titles == ["gate coefficient income", "gate intercept", "coefficient age", "intercept", "sd"]
    assert "1 gate covariate: income" in summary.describe_data(view_of(data))


def test_descriptions():
    texts = {
        "Gaussian mixture, 3 components, full covariance": Mixture(Gaussian(), 3),
        "Gaussian, tied covariance": Single(Gaussian("tied")),
        "Linear regression mixture of experts, 2 components": MixtureOfExperts(LinearRegression(), 2),
        "Negative binomial": Single(jaxem.NegativeBinomial()),
        "Product (Gaussian, Poisson) mixture, 1 component": Mixture(Product(a=Gaussian(), b=Poisson()), 1),
    }
    assert [summary.describe(model) for model in texts.values()] == list(texts)


def test_censored_and_missing_are_counted():
    lower, upper = np.array([1, -np.inf, 3, 1, -np.inf, np.nan]), np.array([1, 2, np.inf, 2, np.inf, np.nan])
    view = view_of(Interval(lower, upper))
    assert summary.describe_censored(view) == "1 exact, 1 left, 1 right, 1 interval"
    assert view.missing.sum() == 2
    assert summary.describe_missing(view.missing) == "2 of 6 cells (33.3 %), in 2 rows; 2 rows have nothing observed"


def test_view_refuses():
    with pytest.raises(ValueError, match="names: found 1 for 2 columns"):
        view_of(np.zeros((3, 2)), ["a"])
    with pytest.raises(TypeError, match="give the raw data"):
        view_of(Mixture(Gaussian(), 2).prepare(np.eye(3)))


# labels of states


def test_align_by_domains():
    """A leaf K x K that states share stays as it is; one that runs over states is moved, and the gate with it."""
    model = MixtureOfExperts(Poisson(), 3)
    data = Regression(COUNTS["visits"], gate=FRAME)
    params = model.init(0, data)
    order = np.array([2, 0, 1])
    moved = model.relabel(params, order)
    back = jaxem.align(moved, params, model=model)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_align_keeps_what_looks_like_states():
    """Means K x d with d = K that happen to be symmetric: guessing by shape takes them for a covariance, domains do not."""
    model = Mixture(Gaussian("tied"), 2)
    mean, covariance = np.array([[0.0, 1.0], [1.0, 5.0]]), np.array([[2.0, 0.3], [0.3, 1.0]])
    params = MixtureParams(np.array([0.4, 0.6]), GaussianParams(mean, covariance))
    back = jaxem.align(model.relabel(params, np.array([1, 0])), params, model=model)
    np.testing.assert_array_equal(back.components.mean, mean)
    np.testing.assert_array_equal(back.components.covariance, covariance)
