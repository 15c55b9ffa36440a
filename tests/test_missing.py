"""Missing data: draws of missing cells, pooling, tests and tables, shifts; oracles are written in NumPy or scipy."""

import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from command_line import assert_refused
from scipy import stats

import jaxem
from jaxem import (
    Categorical,
    Gaussian,
    GaussianParams,
    HiddenMarkov,
    Mixture,
    MixtureParams,
    Poisson,
    Product,
    Regression,
    Sequences,
    Single,
    StudentT,
    StudentTParams,
    plot,
    weak_prior,
)
from jaxem.cli import main
from jaxem.missing.student import central_quantile, two_sided

AIR = Path(__file__).parent / "reference" / "mvn_missing_airquality" / "data.csv"
MODEL = Single(Gaussian())


def airquality():
    return np.genfromtxt(AIR, delimiter=",", skip_header=1)


@pytest.fixture(scope="module")
def air():
    y = airquality()[:, :4]
    return y, jaxem.fit(MODEL, y).params


# cells given cells


def conditional(mean, spread, row):
    seen = ~np.isnan(row)
    back = spread[np.ix_(~seen, seen)] @ np.linalg.inv(spread[np.ix_(seen, seen)])
    return mean[~seen] + back @ (row[seen] - mean[seen]), spread[np.ix_(~seen, ~seen)] - back @ spread[np.ix_(seen, ~seen)]


def test_gaussian_cells_have_their_conditional_distribution():
    """Mean and covariance of 20,000 draws of two cells given the third, against the closed form; bounds are 5 standard errors."""
    mean, root, n = np.array([1.0, -2.0, 3.0]), np.array([[1.0, 0, 0], [0.8, 0.5, 0], [-0.4, 0.9, 1.1]]), 20_000
    row = np.array([np.nan, np.nan, 4.0])
    params = GaussianParams(mean[None], (root @ root.T)[None])
    drawn = np.asarray(Gaussian().draw_missing(jax.random.key(0), params, jnp.zeros(n, int), jnp.tile(row, (n, 1))))
    centre, spread = conditional(mean, root @ root.T, row)
    assert (drawn[:, 2] == 4).all()
    assert (np.abs(drawn[:, :2].mean(0) - centre) < 5 * np.sqrt(np.diag(spread) / n)).all()
    bound = 5 * np.sqrt((spread**2 + np.outer(np.diag(spread), np.diag(spread))) / n)
    assert (np.abs(np.cov(drawn[:, :2].T) - spread) < bound).all()


def test_t_cells_have_their_conditional_distribution():
    """A t cell given another is t with one degree of freedom more, its scale stretched by the distance of the other."""
    n, dof = 20_000, 3.0
    scale = np.array([[2.0, 0.6], [0.6, 0.5]])
    params = StudentTParams(np.zeros((1, 2)), scale[None], np.array([dof]))
    y = np.tile([np.nan, 2.0], (n, 1))
    drawn = np.asarray(StudentT().draw_missing(jax.random.key(1), params, jnp.zeros(n, int), jnp.asarray(y)))[:, 0]
    centre, own = 0.6 / 0.5 * 2.0, 2.0 - 0.6**2 / 0.5
    stretched = np.sqrt(own * (dof + 2.0**2 / 0.5) / (dof + 1))
    assert stats.kstest((drawn - centre) / stretched, stats.t(dof + 1).cdf).pvalue > 1e-3


def test_states_and_cells_of_a_mixture():
    """The share of draws near each component is the row's responsibility; their mean is what `impute` of the model gives."""
    params = MixtureParams(np.array([0.3, 0.7]), GaussianParams(np.array([[0.0, 0], [6, 4]]), np.stack([np.eye(2)] * 2)))
    model, y = Mixture(Gaussian(), 2), np.array([[np.nan, 1.8], [np.nan, np.nan], [0.5, 1.0]] * 2000)
    found = jaxem.impute(model, params, y, draws=1, method="bootstrap", key=0)[0]
    r = 0.3 * stats.norm.pdf(1.8) / (0.3 * stats.norm.pdf(1.8) + 0.7 * stats.norm.pdf(1.8 - 4))
    assert not np.isnan(found).any()
    np.testing.assert_array_equal(found[2::3], y[2::3])
    drawn = jaxem.missing.multiple.draw_cells(
        model, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], params), jaxem.prepare(model, y), jaxem.view.view_of(y),
        jax.random.split(jax.random.key(3), 1),
    )[0]  # fmt: skip
    share = (drawn[::3, 0] < 3).mean()
    assert abs(share - r) < 5 * np.sqrt(r * (1 - r) / 2000)
    error = drawn[::3, 0].mean() - 6 * (1 - r)
    assert abs(error) < 5 * np.sqrt((36 * r * (1 - r) + 1) / 2000)


# data sets


@pytest.mark.slow
def test_forms_of_data(air):
    """Rows in order, observed cells as given; a frame is answered by a frame with its index and its other columns."""
    y, params = air
    frame = pd.DataFrame(y, columns=["Ozone", "Solar", "Wind", "Temp"], index=np.arange(153)[::-1])
    plain = jaxem.impute(MODEL, params, y, draws=3, method="posterior", key=1)
    framed = jaxem.impute(MODEL, params, frame, draws=3, method="posterior", key=1)
    assert len(plain) == 3
    for own, theirs in zip(plain, framed, strict=True):
        seen = ~np.isnan(y)
        np.testing.assert_array_equal(own[seen], y[seen])
        assert not np.isnan(own).any()
        pd.testing.assert_frame_equal(theirs, pd.DataFrame(own, columns=frame.columns, index=frame.index))
    again = jaxem.impute(MODEL, params, y, draws=3, method="posterior", key=1)
    np.testing.assert_array_equal(again[2], plain[2])
    assert (plain[0][~seen] != plain[1][~seen]).all()


@pytest.mark.slow
def test_mixed_families_with_labels():
    """Numbers, counts and labels side by side: labels come back as labels, in a frame with a column that no family takes."""
    rng = np.random.default_rng(0)
    n = 60
    z = rng.integers(2, size=n)
    frame = pd.DataFrame({
        "who": [f"row {i}" for i in range(n)], "ward": pd.Categorical(np.where(rng.random(n) < 0.2 + 0.6 * z, "b", "a")),
        "age": rng.normal(40 + 30 * z, 3), "visits": rng.poisson(1 + 6 * z).astype(float),
    })  # fmt: skip
    frame.loc[::5, "age"], frame.loc[1::5, "ward"], frame.loc[2::5, "visits"] = np.nan, None, np.nan
    columns = {"age": ["age"], "visits": ["visits"], "ward": ["ward"]}
    model = Mixture(Product(columns=columns, age=Gaussian(), visits=Poisson(), ward=Categorical()), 2)
    params = jaxem.fit(model, frame, key=0).params
    out = jaxem.impute(model, params, frame, draws=2, key=0)[1]
    assert list(out.columns) == list(frame.columns)
    assert not out.isna().any().any()
    assert set(out["ward"].unique()) == {"a", "b"}
    assert (out["visits"] == out["visits"].round()).all()
    for name in frame:
        seen = frame[name].notna()
        assert (out.loc[seen, name] == frame.loc[seen, name]).all()
    parts = {"age": frame[["age"]], "visits": frame[["visits"]].to_numpy(), "ward": frame[["ward"]]}
    split = jaxem.impute(model, params, parts, draws=2, key=0)[1]
    np.testing.assert_allclose(split["visits"][:, 0], out["visits"])


@pytest.mark.slow
def test_sequences():
    """A hidden Markov model fills in paths: padded sequences, lists and one series after another agree."""
    rng = np.random.default_rng(1)
    model = HiddenMarkov(Gaussian("diagonal"), 2)
    y = np.where(rng.random((4, 12, 2)) < 0.2, np.nan, rng.normal(size=(4, 12, 2)) + 4 * rng.integers(2, size=(4, 12, 1)))
    params = jaxem.fit(model, y, key=0).params
    padded = jaxem.impute(model, params, Sequences(y, np.array([12, 12, 12, 12])), draws=2, key=0)[0]
    listed = jaxem.impute(model, params, list(y), draws=2, key=0)[0]
    assert not np.isnan(padded.y).any()
    np.testing.assert_array_equal(np.stack(listed), padded.y)
    with pytest.raises(ValueError, match="draws sequences with replacement, and there is 1"):
        jaxem.impute(model, params, y[0], draws=2, key=0)


@pytest.mark.thorough
def test_data_augmentation_agrees_with_the_posterior(air):
    """Under a weak prior and many rows both methods have the same between-imputation variance, to Monte Carlo error."""
    y, params = air
    model = Single(Gaussian(), prior=weak_prior(y, 1).components)
    at = jaxem.fit(model, y).params
    variances = []
    for method in ("posterior", "data_augmentation"):
        found = jaxem.impute(model, at, y, draws=200, method=method, key=2)
        assert found.remarks == ()
        variances.append(np.var([own[:, 0].mean() for own in found], ddof=1))
    assert 0.6 < variances[0] / variances[1] < 1.6  # F(199, 199) is within with probability 0.999
    with pytest.raises((TypeError, ValueError), match="prior"):
        jaxem.impute(MODEL, params, y, draws=2, method="data_augmentation", key=0)


def test_refusals(air):
    y, params = air
    for arguments, error, said in [
        ({"draws": 0}, ValueError, "draws: found 0"),
        ({"method": "mean"}, ValueError, "method: found 'mean'; use one of bootstrap"),
        ({"key": "a"}, TypeError, "key: found str"),
    ]:
        with pytest.raises(error, match=said):
            jaxem.impute(MODEL, params, y, **{"draws": 2, "key": 0, **arguments})
    with pytest.raises(TypeError, match="are prepared"):
        jaxem.impute(MODEL, params, jaxem.prepare(MODEL, y), key=0)
    with pytest.raises(TypeError, match="found an Interval"):
        jaxem.impute(MODEL, params, jaxem.Interval(y, y + 1), key=0)
    with pytest.raises(ValueError, match="not positive definite"):
        jaxem.impute(MODEL, params._replace(mean=params.mean + 500.0), y, draws=2, method="posterior", key=0)


# pooling


def test_rubins_rules():
    """Two data sets by hand: Q = (1, 3), U = (1, 2), nu = 20."""
    found = jaxem.pool([1.0, 3.0], [1.0, 2.0], dof=20)
    total, share = 1.5 + 1.5 * 2, 3 / 4.5
    old, seen = 1 / share**2, 21 / 23 * 20 * (1 - share)
    dof = old * seen / (old + seen)
    np.testing.assert_allclose(found.estimate, 2)
    np.testing.assert_allclose(found.standard_error, np.sqrt(total))
    np.testing.assert_allclose(found.dof, dof)
    np.testing.assert_allclose(found.relative_increase, 2)
    np.testing.assert_allclose(found.missing_information, (2 + 2 / (dof + 3)) / 3)
    reach = stats.t.ppf(0.975, dof) * np.sqrt(total)
    np.testing.assert_allclose([found.lower, found.upper], [[2 - reach], [2 + reach]])
    np.testing.assert_allclose(found.p_value(1.0), 2 * stats.t.sf(1 / np.sqrt(total), dof))
    assert "missing information" in str(found)


def test_pooling_without_missing_cells():
    """The same estimate everywhere is the complete-data analysis."""
    found = jaxem.pool(np.ones((5, 2)), np.full((5, 2), 4.0), dof=10)
    np.testing.assert_allclose(found.dof, 10 * 11 / 13)
    np.testing.assert_allclose(found.missing_information, 0)
    normal = jaxem.pool(np.ones((5, 2)), np.full((5, 2), 4.0))
    np.testing.assert_allclose(normal.upper - 1, 2 * stats.norm.ppf(0.975), rtol=1e-6)
    frames = [pd.Series({"a": 1.0, "b": 2.0}), pd.Series({"a": 2.0, "b": 2.5})]
    assert jaxem.pool(frames, frames).names == ("a", "b")
    assert list(jaxem.pool(frames, frames).to_dataframe().index) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (([1.0], [1.0]), ValueError, "found 1 data set; at least 2"),
        (([1.0, 2.0], [1.0, 2.0, 3.0]), ValueError, "found 3 data sets of 1 quantities where estimates are 2"),
        (([[1.0, 2.0], [1.0]], [1.0, 2.0]), ValueError, "estimates: found 2 shapes"),
        (([1.0, 2.0], [1.0, -2.0]), ValueError, "variances: found -2 in data set 1"),
        (([1.0, np.nan], [1.0, 2.0]), ValueError, "estimates: found nan in data set 1"),
        ((["a", "b"], [1.0, 2.0]), TypeError, "not numbers"),
    ],
)
def test_pooling_refuses(arguments, error, said):
    with pytest.raises(error, match=said):
        jaxem.pool(*arguments)
    with pytest.raises(ValueError, match="level: found 1"):
        jaxem.pool([1.0, 2.0], [1.0, 1.0], level=1)
    with pytest.raises(ValueError, match="dof: found 0"):
        jaxem.pool([1.0, 2.0], [1.0, 1.0], dof=0)


@pytest.mark.parametrize("dof", [0.4, 1.0, 2.5, 40.0, 1e5])
def test_t_distribution(dof):
    for t in (0.0, 0.3, 2.0, 9.0):
        np.testing.assert_allclose(two_sided(t, dof), 2 * stats.t.sf(t, dof), rtol=1e-9)
    np.testing.assert_allclose(central_quantile(0.95, dof), stats.t.ppf(0.975, dof), rtol=1e-9)


# what is missing


def little(y, mean, spread):
    """The statistic and its degrees of freedom, row by row."""
    groups = {}
    for row in y:
        groups.setdefault(tuple(~np.isnan(row)), []).append(row)
    total, df = 0.0, -y.shape[1]
    for seen, rows in groups.items():
        seen = np.array(seen)
        off = np.mean(rows, axis=0)[seen] - mean[seen]
        total += len(rows) * off @ np.linalg.inv(spread[np.ix_(seen, seen)]) @ off
        df += seen.sum()
    return total, df


@pytest.mark.slow
def test_little_on_airquality():
    """R's naniar 1.1.0 gives 35.10613 on 14 degrees of freedom, p = 0.00141778, 4 patterns."""
    y = airquality()
    found = jaxem.little_mcar_test(y)
    np.testing.assert_allclose(found.statistic, 35.1061288689702, rtol=2e-5)
    assert (found.df, found.n_patterns) == (14, 4)
    np.testing.assert_allclose(found.p, 0.00141778, rtol=1e-3)
    fit = jaxem.fit(MODEL, y, stop=jaxem.Stop(tolerance=1e-12))
    theirs = little(y, *(np.asarray(leaf) for leaf in fit.params))
    np.testing.assert_allclose((found.statistic, found.df), theirs, rtol=1e-4)
    with pytest.raises(ValueError, match="covariance is singular"):
        jaxem.little_mcar_test(np.column_stack([y[:, 2:4], y[:, 2]]))
    with pytest.raises(TypeError, match="found labels"):
        jaxem.little_mcar_test(np.array([["a"], ["b"]]))


def test_table_of_patterns():
    frame = pd.DataFrame({"a": [1, np.nan, 3, 4], "b": [1.0, 2, np.nan, 4], "c": ["x", None, "y", "z"]})
    found = jaxem.missingness(frame)
    assert found.counts.tolist() == [2, 1, 1]
    assert found.observed.tolist() == [[True, True, True], [True, False, True], [False, True, False]]
    assert found.pattern.tolist() == [0, 2, 1, 0]
    assert found.missing.tolist() == [1, 1, 1]
    assert found.together.tolist() == [[3, 2, 3], [2, 3, 2], [3, 2, 3]]
    assert "2 of 4 rows are complete, 25.0% of cells are missing" in str(found)
    assert found.to_dataframe()["rows"].tolist() == [2, 1, 1]
    assert jaxem.missingness(np.ones((3, 2))).counts.tolist() == [3]


# checks of the model


def test_overimputation(air):
    y, params = air
    found = jaxem.overimpute(MODEL, params, y, draws=39, level=0.9, method="posterior", key=0)
    assert found.observed.size == (~np.isnan(y)).sum()
    mean, spread = (np.asarray(leaf) for leaf in params)
    for cell in (3, 200, 400):
        row = y[found.row[cell]].copy()
        row[found.column[cell]] = np.nan
        place = np.flatnonzero(np.isnan(row)).tolist().index(found.column[cell])
        centre, cov = conditional(mean, spread, row)
        assert abs(found.mean[cell] - centre[place]) < 6 * np.sqrt(cov[place, place] / 39)
    counts = np.bincount(found.column)
    # cells of a column are nearly independent given params; skewed columns are off by more
    assert (np.abs(found.coverage - 0.9) < 4 * np.sqrt(0.09 / counts) + 0.03).all()
    assert set(found.to_dataframe()["column"]) == {"x0", "x1", "x2", "x3"}
    with pytest.raises(ValueError, match="need at least 199"):
        jaxem.overimpute(MODEL, params, y, draws=39, level=0.99, key=0)


def mean_of_ozone(data):
    return data[:, 0].mean(), data[:, 0].var(ddof=1) / len(data)


def test_delta_sensitivity(air):
    """The pooled mean moves by delta times the share of missing cells; the tipping point is where an end of its interval is."""
    y, params = air
    share = np.isnan(y[:, 0]).mean()
    found = jaxem.delta_sensitivity(
        MODEL, params, y, 0, [-30, 0, 30], mean_of_ozone, null=38.0, draws=5, method="posterior", key=0
    )
    np.testing.assert_allclose(np.diff(found.estimate), 30 * share, rtol=1e-9)
    assert len(found.tipping) >= 1
    for place in found.tipping:
        at = jaxem.delta_sensitivity(
            MODEL, params, y, 0, [place, 90.0], mean_of_ozone, null=38.0, draws=5, method="posterior", key=0
        )
        assert min(abs(at.lower[0] - 38), abs(at.upper[0] - 38)) < 1e-6
    assert "Tipping point" in str(found)
    assert len(found.to_dataframe()) == 3
    for arguments, error, said in [
        (("x9", [0, 1], mean_of_ozone), ValueError, "there are 'x0'"),
        ((2, [0, 1], mean_of_ozone), ValueError, "no cell of 'x2' is missing"),
        ((0, [1], mean_of_ozone), ValueError, "give at least two"),
        ((0, [0, 1], lambda data: 1.0), TypeError, "return two numbers"),
        ((0, [0, 1], 3), TypeError, "give a function"),
    ]:
        with pytest.raises(error, match=said):
            jaxem.delta_sensitivity(MODEL, params, y, *arguments, draws=2, method="posterior", key=0)


@pytest.mark.slow
def test_regression_responses():
    """A missing response is drawn about its predictor."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(80, 1))
    y = 2 * x[:, 0] + 0.1 * rng.normal(size=80)
    y[::4] = np.nan
    model = Single(jaxem.LinearRegression())
    params = jaxem.fit(model, Regression(y, x)).params
    out = jaxem.impute(model, params, Regression(y, x), draws=2, method="posterior", key=0)[0]
    assert np.abs(out.y[::4] - 2 * x[::4, 0]).max() < 0.6
    np.testing.assert_array_equal(out.y[1::4], y[1::4])


# pictures


def test_pictures():
    """Each draws itself, names what it shows, and keeps the axes that it is given."""
    y = np.where(np.random.default_rng(0).random((40, 30)) < 0.1, np.nan, 1.0)
    frame = pd.DataFrame(y, columns=[f"a column of a long name {j}" for j in range(30)])
    ax = plot.plot_patterns(frame)
    assert "rows complete" in ax.get_title()
    assert plot.plot_patterns(jaxem.missingness(frame), ax) is ax
    seen = np.arange(4.0)
    upper = seen + np.array([1, 1, 1, -0.5])
    over = jaxem.Overimputation(("a",), np.arange(4), np.zeros(4, int), seen, seen, seen - 1, upper, seen, 0.9, 39)
    np.testing.assert_allclose(over.coverage, 0.75)
    drawn = plot.plot_overimputed(over, column="a")
    assert [text.get_text() for text in drawn.get_legend().get_texts()] == ["inside (3)", "outside (1)"]
    numbers = [np.array([-1.0, 0, 1]) for _ in range(7)]
    shifts = jaxem.DeltaSensitivity("a", *numbers, (0.5,), 0.0, 0.95, 20)
    told = [text.get_text() for text in plot.plot_sensitivity(shifts).get_legend().get_texts()]
    assert "tipping point 0.5" in told
    for each in (ax, drawn, plot.plot_sensitivity(shifts)):
        each.figure.canvas.draw()


# coverage


def simulate(rng, n):
    """Two correlated columns; the second is missing at random in 40 % of the rows, more often where the first is large."""
    y = rng.multivariate_normal([0.0, 1.0], [[1.0, 0.7], [0.7, 1.0]], n)
    y[np.argsort(-(1.5 * y[:, 0] + rng.gumbel(size=n)))[: 2 * n // 5], 1] = np.nan
    return y


@pytest.mark.slow
def test_coverage_of_pooled_intervals():
    """95 % intervals of a mean cover it 95 % of the time: 120 data sets, bound 4 standard errors of a binomial. Of complete
    rows alone they cover it far less."""
    hits, naive = 0, 0
    for seed in range(120):
        y = simulate(np.random.default_rng(seed), 100)
        params = jaxem.fit(MODEL, y).params
        sets = jaxem.impute(MODEL, params, y, draws=10, method="posterior", key=seed)
        found = jaxem.pool([own[:, 1].mean() for own in sets], [own[:, 1].var(ddof=1) / 100 for own in sets], dof=99)
        hits += bool(found.lower[0] <= 1 <= found.upper[0])
        seen = y[~np.isnan(y[:, 1]), 1]
        naive += abs(seen.mean() - 1) < stats.t.ppf(0.975, len(seen) - 1) * seen.std(ddof=1) / np.sqrt(len(seen))
    assert abs(hits / 120 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 120)
    assert naive / 120 < 0.8


# command line


def records(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_command(tmp_path, capsys):
    data, out = tmp_path / "air.csv", tmp_path / "full.csv"
    data.write_text(AIR.read_text())
    asked = ["impute", str(data), "--columns", "Ozone,Solar.R,Wind,Temp", "--model", "gaussian", "--method", "posterior"]
    assert main([*asked, "--draws", "3", "-o", str(out)]) == 0
    assert "3 completed data sets by posterior" in capsys.readouterr().out
    given, found = records(data), records(out)
    assert [row["imputation"] for row in found] == ["1"] * 153 + ["2"] * 153 + ["3"] * 153
    for row, own in zip(given * 3, found, strict=True):
        for name, cell in row.items():
            assert own[name] == cell if cell not in ("", "NA") else np.isfinite(float(own[name]))
    assert len({row["Ozone"] for row in found[4::153]}) == 3
    assert main([*asked, "--draws", "1", "--quiet", "-o", str(tmp_path / "one.csv")]) == 0
    assert len(records(tmp_path / "one.csv")) == 153
    assert_refused(main([*asked, "-o", str(data)]), capsys, "each needs a file of its own")
    again = ["impute", str(out), "--model", "gaussian", "-o", str(tmp_path / "x.csv")]
    assert_refused(main(again), capsys, "has a column 'imputation'")
