"""Saved models on the command line: `jaxem fit --save`, `jaxem predict` and `jaxem sample`, against the library itself."""

import csv
import json

import numpy as np
import pandas
import pytest
from command_line import assert_refused, read

import jaxem
from jaxem import Categorical, CategoricalParams, Gaussian, GaussianParams, Mixture, MixtureParams, cli, load, save

RNG = np.random.default_rng(5)
N = 40
GROUP = np.arange(N) % 2
A, B = RNG.normal(size=(2, N)) + 4.0 * GROUP
SHEET = {
    "name": [f"row {i}, {'é' if i % 3 else ''}" for i in range(N)], "a": A.round(3), "b": B.round(3),
    "y": (np.where(GROUP == 1, 2.0, -1.0) * A + 0.3 * RNG.normal(size=N)).round(3),
    "answer": np.where(RNG.random(N) < 0.2 + 0.6 * GROUP, "yes", "no"), "site": np.array(["x", "y", "z"])[RNG.integers(0, 3, N)],
    "grade": np.where(GROUP == 1, RNG.integers(1, 3, N), RNG.integers(0, 2, N)), "count": RNG.poisson(2 + 5 * GROUP),
    "who": np.repeat(["u", "v"], N // 2), "when": np.tile(np.arange(N // 2)[::-1], 2),
}  # fmt: skip
SHORT = ["--restarts", "2", "--max-steps", "3", "--quiet"]


def write(path, columns):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(list(values) for values in columns.values()), strict=True))
    return path


@pytest.fixture
def sheet(tmp_path):
    return write(tmp_path / "sheet.csv", SHEET)


def fitted(tmp_path, sheet, *arguments):
    """A model file of a short fit."""
    path = tmp_path / "model.npz"
    assert cli.main(["fit", str(sheet), *arguments, *SHORT, "--save", str(path)]) == 0
    return path


def predicted(model, data, out):
    assert cli.main(["predict", str(model), str(data), "-o", str(out)]) == 0
    return pandas.read_csv(out, keep_default_na=False)


def probabilities(table, k):
    return table[[f"probability_{j}" for j in range(k)]].to_numpy()


PARAMS = MixtureParams(np.array([0.5, 0.5]), GaussianParams(np.array([[0.0, 0.0], [5.0, 5.0]]), np.stack([np.eye(2)] * 2)))
MODEL = Mixture(Gaussian(), 2)


def test_predict(tmp_path, capsys):
    """Label, probabilities and density are the library's; columns stay, in another order and among others."""
    model = tmp_path / "model.npz"
    save(model, MODEL, PARAMS, columns=["a", "b"])
    new = write(tmp_path / "new.csv", {"b": ["4.0", "", ""], "more": ["kept, as it is", "1.50", ""], "a": ["4", "0.10", ""]})
    table = predicted(model, new, tmp_path / "out.csv")
    y = [[4.0, 4.0], [0.1, np.nan], [np.nan, np.nan]]
    posterior = np.asarray(MODEL.posterior(PARAMS, y))
    np.testing.assert_allclose(probabilities(table, 2), posterior, rtol=1e-12)
    np.testing.assert_array_equal(table["label"], posterior.argmax(axis=1))
    np.testing.assert_allclose(table["log_density"], MODEL.log_likelihood(PARAMS, y, per_row=True), rtol=1e-12)
    assert [row[:3] for row in read(tmp_path / "out.csv")] == read(new)
    assert table["log_density"][2] == 0

    # refused: other columns, with both lists
    out = str(tmp_path / "o.csv")
    short = write(tmp_path / "short.csv", {"a": [1], "c": [2]})
    assert_refused(cli.main(["predict", str(model), str(short), "-o", out]), capsys, "there is no column 'b'; found 'a', 'c'")
    clash = write(tmp_path / "clash.csv", {"a": [1], "b": [2], "label": [0]})
    assert_refused(cli.main(["predict", str(model), str(clash), "-o", out]), capsys, "has a column 'label'")
    words = write(tmp_path / "words.csv", {"a": ["one"], "b": [2]})
    assert_refused(cli.main(["predict", str(model), str(words), "-o", out]), capsys, "column 'a' is not numeric")
    assert_refused(cli.main(["predict", str(words), str(new), "-o", out]), capsys, "is not a model file of jaxem")
    assert_refused(cli.main(["predict", str(model), str(new), "-o", str(model)]), capsys, "is the model file")
    assert_refused(cli.main(["predict", str(model), str(new), "-o", str(new)]), capsys, "not that of the data")
    assert_refused(cli.main(["predict", "nothing.npz", str(new), "-o", out]), capsys, "nothing.npz: No such file")
    assert_refused(cli.main(["predict", str(model), str(new)]), capsys, "-o")
    save(model, MODEL, PARAMS)
    assert_refused(cli.main(["predict", str(model), str(new), "-o", out]), capsys, "names no columns")
    wide = write(tmp_path / "wide.csv", {"a": [1], "b": [2], "c": [3]})
    save(model, MODEL, PARAMS, columns=["a", "b", "c"])
    assert_refused(cli.main(["predict", str(model), str(wide), "-o", out]), capsys, "do not fit the model")
    assert not (tmp_path / "o.csv").exists()


def test_sample(tmp_path, capsys):
    """Drawn rows have the columns of the fit, and are the same again from a seed."""
    model = tmp_path / "model.npz"
    save(model, MODEL, PARAMS, columns=["a", "b"])
    for out in ("one.csv", "two.csv"):
        assert cli.main(["sample", str(model), "-n", "50", "--seed", "3", "-o", str(tmp_path / out)]) == 0
    assert read(tmp_path / "one.csv") == read(tmp_path / "two.csv")
    drawn = pandas.read_csv(tmp_path / "one.csv")
    assert (list(drawn.columns), len(drawn), set(drawn["label"])) == (["a", "b", "label"], 50, {0, 1})
    middle = PARAMS.components.mean[drawn["label"]]
    assert (np.abs(drawn[["a", "b"]] - middle) < 6).all().all()
    out = str(tmp_path / "o.csv")
    assert_refused(cli.main(["sample", str(model), "-o", out]), capsys, "give one of them")
    assert_refused(cli.main(["sample", str(model), "-n", "0", "-o", out]), capsys, "whole number from 1")
    given = ["--given", str(tmp_path / "one.csv")]
    assert_refused(cli.main(["sample", str(model), *given, "-o", out]), capsys, "have no covariates")


LABELS = {"answer": ["no", "yes"], "site": ["x", "y", "z"], "grade": ["0", "1", "2"]}
CLASSES = Mixture(Categorical((2, 3, 3)), 2)


def test_labels_are_those_of_the_fit(tmp_path, capsys):
    """A new file has other labels first, or fewer: each keeps its code. One that the fit did not see is refused."""
    model = tmp_path / "model.npz"
    first, second = [[0.9, 0.1, 0], [0.2, 0.5, 0.3], [0.5, 0.5, 0]], [[0.3, 0.7, 0], [0.6, 0.3, 0.1], [0.1, 0.4, 0.5]]
    params = MixtureParams(np.array([0.4, 0.6]), CategoricalParams(np.array([first, second])))
    table = {"model": "latent-class", "options": {"columns": list(LABELS)}, "labels": LABELS}
    save(model, CLASSES, params, columns=list(LABELS), table=table)
    new = write(tmp_path / "new.csv", {"grade": ["1.0", "2"], "site": ["z", ""], "answer": ["yes", "yes"]})
    found = predicted(model, new, tmp_path / "out.csv")
    joint = params.weights * np.array([[0.1 * 0.3 * 0.5, 0.7 * 0.1 * 0.4], [0.1 * 0, 0.7 * 0.5]])
    np.testing.assert_allclose(probabilities(found, 2), joint / joint.sum(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(found["log_density"], np.log(joint.sum(axis=1)), rtol=1e-12)
    assert cli.main(["sample", str(model), "-n", "40", "-o", str(tmp_path / "drawn.csv")]) == 0
    drawn = pandas.read_csv(tmp_path / "drawn.csv", dtype=str)
    assert all(set(drawn[name]) == set(labels) for name, labels in LABELS.items())
    other = write(tmp_path / "other.csv", {"grade": [1], "site": ["w"], "answer": ["yes"]})
    code = cli.main(["predict", str(model), str(other), "-o", str(tmp_path / "o.csv")])
    assert_refused(code, capsys, "column 'site' has the label 'w', which the model does not know; it knows 'x', 'y', 'z'")


def test_fit_saves(tmp_path, sheet):
    """What is saved is what was fitted."""
    output = ["--output", str(tmp_path / "f.json")]
    model = fitted(tmp_path, sheet, "--model", "single", "--family", "poisson", "--columns", "count", *output)
    saved = load(model)
    assert (saved.columns, saved.table["options"]["columns"]) == (("count",), ["count"])
    np.testing.assert_allclose(saved.params.rate, [np.mean(SHEET["count"])], rtol=1e-12)
    document = json.loads((tmp_path / "f.json").read_text())
    assert document["params"]["rate"] == saved.params.rate.tolist()
    assert document["log_likelihood"] == float(saved.fit.log_likelihood)


@pytest.mark.slow
def test_fitted_labels(tmp_path, sheet):
    """The labels and the numbers of categories of a fit go with it; all columns but the weights, by default."""
    model = fitted(tmp_path, sheet, "--model", "latent-class", "--columns", "answer,site,grade", "--components", "2")
    saved = load(model)
    assert saved.model.family.n_categories == (2, 3, 3)
    assert saved.table["labels"] == LABELS
    table = predicted(model, sheet, tmp_path / "out.csv")
    frame = pandas.read_csv(sheet)[["answer", "site", "grade"]]
    codes = np.stack([frame["answer"] == "yes", frame["site"].map("xyz".index), frame["grade"]], axis=1).astype(float)
    np.testing.assert_allclose(probabilities(table, 2), saved.model.posterior(saved.params, codes), rtol=1e-12)


@pytest.mark.slow
def test_codes(tmp_path, sheet, capsys):
    model = fitted(tmp_path, sheet, "--model", "mixture", "--family", "categorical", "--columns", "grade", "--components", "2")
    new = write(tmp_path / "new.csv", {"grade": [0, 1]})
    assert np.isfinite(predicted(model, new, tmp_path / "out.csv")["log_density"]).all()
    other = write(tmp_path / "other.csv", {"grade": [7]})
    assert_refused(cli.main(["predict", str(model), str(other), "-o", "o.csv"]), capsys, "beyond its n_categories=3")


@pytest.mark.slow
def test_regression(tmp_path, sheet, capsys):
    """Text among the covariates has the fit's labels; responses are drawn for a file's covariates."""
    model = fitted(
        tmp_path, sheet, "--model", "mixture-regression", "--components", "2", "--response", "y", "--covariates", "a,site"
    )
    saved = load(model)
    assert saved.table["labels"] == {"site": ["x", "y", "z"]}
    new = write(tmp_path / "new.csv", {"site": ["z", "z"], "y": ["2.0", ""], "a": [1.0, 2.0], "id": ["p", "q"]})
    table = predicted(model, new, tmp_path / "out.csv")
    data = jaxem.Regression([2.0, np.nan], [[1.0, 0, 1], [2.0, 0, 1]])
    np.testing.assert_allclose(probabilities(table, 2), saved.model.posterior(saved.params, data), rtol=1e-10)
    assert_refused(cli.main(["sample", str(model), "-n", "3", "-o", "o.csv"]), capsys, "give a file of them by --given")
    out = tmp_path / "drawn.parquet"
    rest = write(tmp_path / "rest.csv", {"site": ["z"] * 4, "a": [1.0] * 4, "id": list("pqrs")})
    assert cli.main(["sample", str(model), "--given", str(rest), "-o", str(out)]) == 0
    drawn = pandas.read_parquet(out)
    assert list(drawn.columns) == ["site", "a", "id", "y", "label"]
    slope = np.asarray(saved.params.components.coefficients)[drawn["label"]] @ [1.0, 0, 1]
    middle = slope + np.asarray(saved.params.components.intercept)[drawn["label"]]
    spread = np.sqrt(np.broadcast_to(saved.params.components.variance, 2))[drawn["label"]]
    assert (np.abs(drawn["y"] - middle) < 6 * spread).all()


@pytest.mark.slow
def test_sequences(tmp_path, sheet):
    """Rows in the file's order, sequences in the order of their times; labels are the likeliest path's."""
    model = fitted(
        tmp_path, sheet, "--model", "hidden-markov", "--states", "2", "--family", "poisson", "--columns", "count",
        "--sequence-column", "who", "--time-column", "when",
    )  # fmt: skip
    saved = load(model)
    table = predicted(model, sheet, tmp_path / "out.csv")
    u, v = SHEET["count"][: N // 2][::-1], SHEET["count"][N // 2 :][::-1]
    for values, of in (
        (probabilities(table, 2), saved.model.posterior),
        (table["label"].to_numpy(), saved.model.viterbi),
        (table["log_density"].to_numpy(), lambda *a: np.repeat(saved.model.log_likelihood(*a, per_row=True), N // 2)),
    ):
        expected = np.asarray(of(saved.params, [u, v]))
        np.testing.assert_allclose(values, np.concatenate([expected[: N // 2][::-1], expected[N // 2 :][::-1]]), rtol=1e-12)
    assert cli.main(["sample", str(model), "-n", "7", "-o", str(tmp_path / "drawn.csv")]) == 0
    rows = read(tmp_path / "drawn.csv")
    assert rows[0] == ["count", "label"]
    assert all(cell.isdecimal() for row in rows[1:] for cell in row)  # counts are whole


@pytest.mark.thorough
def test_gate_moves_transitions(tmp_path, sheet):
    model = fitted(
        tmp_path, sheet, "--model", "hidden-markov", "--states", "2", "--family", "poisson", "--columns", "count", "--gate", "a",
        "--sequence-column", "who",
    )  # fmt: skip
    assert np.isfinite(predicted(model, sheet, tmp_path / "out.csv")["log_density"]).all()
    assert cli.main(["sample", str(model), "--given", str(sheet), "-o", str(tmp_path / "drawn.csv")]) == 0
    drawn = pandas.read_csv(tmp_path / "drawn.csv")
    assert list(drawn.columns) == [*(name for name in SHEET if name != "count"), "count", "label"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "survival", "--time", "b2"],
        ["--model", "tobit", "--response", "y", "--covariates", "a"],
        ["--model", "mixture-of-experts", "--response", "y", "--covariates", "a", "--gate", "b", "--components", "2"],
        ["--model", "factor-analysis", "--columns", "a,b,y", "--factors", "1"],
        ["--model", "local-level", "--columns", "a"],
        ["--model", "markov-switching", "--response", "a", "--order", "1", "--regimes", "2"],
        ["--model", "linear-regression", "--response", "y", "--covariates", "a"],
    ],
)
def test_models_of_every_kind_of_data(tmp_path, arguments):
    sheet = write(tmp_path / "sheet.csv", {**SHEET, "b2": np.abs(SHEET["b"]) + 0.1})
    model = fitted(tmp_path, sheet, *arguments)
    table = predicted(model, sheet, tmp_path / "out.csv")
    assert np.isfinite(table["log_density"]).all()
    given = any(each in arguments for each in ("--covariates", "--time"))
    more = ["--given", str(sheet)] if given else ["-n", "6"]
    assert cli.main(["sample", str(model), *more, "-o", str(tmp_path / "drawn.csv")]) == 0
    assert len(read(tmp_path / "drawn.csv")) == (N if given else 6) + 1


@pytest.mark.slow
def test_parquet(tmp_path, sheet):
    """Parquet in and out keeps the types of columns."""
    pandas.read_csv(sheet).to_parquet(tmp_path / "sheet.parquet")
    path = tmp_path / "model.npz"
    save(path, MODEL, PARAMS, columns=["a", "b"])
    assert cli.main(["predict", str(path), str(tmp_path / "sheet.parquet"), "-o", str(tmp_path / "out.parquet")]) == 0
    back, before = pandas.read_parquet(tmp_path / "out.parquet"), pandas.read_parquet(tmp_path / "sheet.parquet")
    pandas.testing.assert_frame_equal(back[before.columns], before)
    assert back["label"].dtype == np.int64
