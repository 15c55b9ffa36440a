"""The command line, called in process: exit codes, one-line errors, what it writes."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from scipy.stats import multivariate_normal

import jaxem.document
from jaxem import catalogue, cli, demo, tables

ROWS = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A CSV whose columns are a name, two numbers with holes in several spellings, and a weight."""
    rng = np.random.default_rng(5)
    y = rng.normal(size=(ROWS, 2)) + np.where(np.arange(ROWS) % 2, 4.0, -4.0)[:, None]
    path = tmp_path_factory.mktemp("cli") / "data.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name, first", "height", "width", "w"])
        for i, (a, b) in enumerate(y):
            height = ["", "NA", "NaN"][i % 3] if i % 5 == 0 else f"{a:.6f}"
            width = "" if i % 7 == 0 else f"{b:+.3e}"
            writer.writerow([f'row "{i}"', height, width, 1 + i % 3])
    return path


@pytest.fixture(scope="module")
def written(data):
    """One fit with everything written, shared by the tests that look at it."""
    folder = data.parent
    paths = {"output": folder / "fit.json", "impute": folder / "full.csv", "plot": folder / "fit.png"}
    options = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    code = cli.main([*fit_options(data), *options, "--quiet"])
    assert code == 0
    return paths


def fit_options(path, *more):
    return ["fit", str(path), "--components", "2", "--columns", "height,width", "--weights", "w", "--restarts", "4", *more]


def read(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def numbers(path):
    rows = read(path)
    return np.array([[float(c) if c not in ("", "NA", "NaN") else np.nan for c in row[1:]] for row in rows[1:]])


def moments(document):
    """Weights, means and covariances of a mixture of Gaussians as written."""
    return {"weights": document["params"]["weights"], **document["params"]["components"]}


def mixture_log_likelihood(document, y, weights):
    """By scipy, row by row on the observed cells."""
    params, total = moments(document), 0.0
    for row, weight in zip(y, weights, strict=True):
        seen = ~np.isnan(row)
        if seen.any():
            density = sum(
                share * multivariate_normal.pdf(row[seen], np.array(mean)[seen], np.array(covariance)[np.ix_(seen, seen)])
                for share, mean, covariance in zip(params["weights"], params["mean"], params["covariance"], strict=True)
            )
            total += weight * np.log(density)
    return total


# what is written


def test_json_gives_the_log_likelihood_back(data, written):
    document, values = json.loads(written["output"].read_text()), numbers(data)
    expected = mixture_log_likelihood(document, values[:, :2], values[:, 2])
    assert document["log_likelihood"] == pytest.approx(expected, rel=1e-12)


def test_json_holds_what_is_needed(data, written):
    document, values = json.loads(written["output"].read_text()), numbers(data)
    informative = ~np.isnan(values[:, :2]).all(axis=1)
    assert document["format"] == "jaxem-fit"
    assert document["format_version"] == jaxem.document.FORMAT_VERSION
    assert (document["model"], document["family"], document["components"]) == ("mixture", "gaussian", 2)
    assert document["family_settings"] == {"covariance": "full"}
    assert (document["command_model"], document["options"]["--components"]) == ("gaussian-mixture", 2)
    assert document["columns"] == ["height", "width"]
    assert (document["rows"], document["rows_used"]) == (ROWS, informative.sum())
    assert document["n"] == values[:, 2].sum()
    assert document["n_parameters"] == 11
    assert document["aic"] == pytest.approx(-2 * document["log_likelihood"] + 22)
    assert document["bic"] == pytest.approx(-2 * document["log_likelihood"] + 11 * np.log(document["n"]))
    assert document["status"]["name"] == "CONVERGED"
    assert len(document["restarts"]) == 4
    assert document["dtype"] == "float64"
    assert (document["seed"], document["weights_column"], document["prior"]) == (0, "w", None)


def test_filled_file_changes_nothing_but_holes(data, written):
    before, after = read(data), read(written["impute"])
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        for name, a, b in zip(before[0], old, new, strict=True):
            if name in ("height", "width") and a in ("", "NA", "NaN"):
                assert np.isfinite(float(b))
            else:
                assert a == b


def test_filled_cells_are_conditional_means(data, written):
    document, values, full = json.loads(written["output"].read_text()), numbers(data), numbers(written["impute"])
    params = moments(document)
    row = next(i for i in range(ROWS) if np.isnan(values[i, 0]) and not np.isnan(values[i, 1]))
    joint, means = [], []
    for share, mean, covariance in zip(params["weights"], params["mean"], params["covariance"], strict=True):
        joint.append(share * multivariate_normal.pdf(values[row, 1], mean[1], covariance[1][1]))
        means.append(mean[0] + covariance[0][1] / covariance[1][1] * (values[row, 1] - mean[1]))
    assert full[row, 0] == pytest.approx(np.average(means, weights=joint), rel=1e-9)


def test_picture_is_a_png(written):
    assert written["plot"].read_bytes().startswith(b"\x89PNG")


def test_nothing_temporary_is_left(written):
    assert not [path.name for path in written["plot"].parent.iterdir() if path.name.endswith(".tmp")]


def test_parquet_in_and_out(data, written, tmp_path):
    source, target, output = tmp_path / "data.parquet", tmp_path / "full.parquet", tmp_path / "fit.json"
    values = numbers(data)
    columns = {"name": [f"r{i}" for i in range(ROWS)], "height": values[:, 0].astype(np.float32), "width": values[:, 1]}
    table = pyarrow.table({**columns, "w": values[:, 2].astype(np.int64)})
    pyarrow.parquet.write_table(table, source)
    assert cli.main([*fit_options(source), "--output", str(output), "--impute", str(target), "--quiet"]) == 0
    full = pyarrow.parquet.read_table(target)
    assert full.schema.equals(table.schema)
    assert full.column("name").equals(table.column("name"))
    observed = ~np.isnan(values[:, 1])
    np.testing.assert_array_equal(full.column("width").to_numpy()[observed], values[observed, 1])
    assert not np.isnan(full.column("height").to_numpy()).any()
    expected = json.loads(written["output"].read_text())["log_likelihood"]
    assert json.loads(output.read_text())["log_likelihood"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_cross_formats(tmp_path, suffix):
    source = tmp_path / "a.csv"
    source.write_text("k,x,t\n1,,b\n2,2.5,\n")
    target = tmp_path / f"b{suffix}"
    tables.read_table(source).write(target, {"x": np.array([0.1, 9.0])}, suffix == ".parquet")
    back = tables.read_table(target)
    assert back.names == ["k", "x", "t"]
    np.testing.assert_array_equal(back.numbers("x"), [0.1, 2.5])
    np.testing.assert_array_equal(back.numbers("k"), [1, 2])
    assert back.numbers("t") is None


def test_arrow_table_to_csv(tmp_path):
    path = tmp_path / "a.csv"
    tables.ArrowTable(pyarrow.table({"x": [1.5, None], "t": ["a,b", "c"]})).write(path, {"x": np.array([7.0, 0.1])}, False)
    assert read(path) == [["x", "t"], ["1.5", "a,b"], ["0.1", "c"]]


@pytest.mark.parametrize("text", ["a;b\n1;2\n", "a\tb\n1\t2\n", "\ufeffa,b\r\n1,2\r\n", "a,b\n1,2\n\n"])
def test_csv_dialects(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8", newline="")
    table = tables.read_table(path)
    assert (table.names, table.numbers("b").tolist()) == (["a", "b"], [2.0])


def test_empty_line_is_a_missing_cell_where_there_is_one_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n\n3\n")
    np.testing.assert_array_equal(tables.read_table(path).numbers("a"), [1, np.nan, 3])


# what is said


def test_account_names_columns_and_is_silent_on_stderr(data, capsys):
    assert cli.main(fit_options(data)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "mean height" in out
    assert "corr height, width" in out
    assert "CONVERGED" in out
    assert "4 of 4 reached the best value" in out


def test_quiet_says_nothing(data, capsys):
    assert cli.main([*fit_options(data), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal(data, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    seen = []
    monkeypatch.setattr("rich.status.Status.update", lambda self, text: seen.append(text))
    assert cli.main(fit_options(data)) == 0
    assert "4 of 4 restarts done" in seen[-1]
    assert "left to gain" in seen[-1]


def test_single_gaussian_and_prior(data, tmp_path):
    output = tmp_path / "fit.json"
    options = ["--model", "gaussian", "--columns", "height,width", "--prior", "weak", "--output", str(output), "--quiet"]
    assert cli.main(["fit", str(data), *options]) == 0
    document = json.loads(output.read_text())
    assert np.shape(document["params"]["covariance"]) == (2, 2)
    assert "weights" not in document["params"]
    assert (document["components"], document["prior"], document["has_prior"]) == (1, "weak", True)
    assert document["objective"] != document["log_likelihood"]


def test_collapse_is_told_and_written(tmp_path, capsys):
    data, output = tmp_path / "data.csv", tmp_path / "fit.json"
    points = np.concatenate([np.random.default_rng(0).normal(size=20), np.full(20, 9.0)])
    data.write_text("x\n" + "\n".join(map(repr, points.tolist())) + "\n")
    assert cli.main(["fit", str(data), "--components", "2", "--restarts", "1", "--output", str(output)]) == 1
    assert "Collapsed: component 1" in capsys.readouterr().out
    document = json.loads(output.read_text())
    assert document["status"]["name"] == "DEGENERATE"
    assert document["degenerate_components"] == [1]


def test_demo(tmp_path, capsys):
    picture = tmp_path / "demo.png"
    assert cli.main(["demo", "--output", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "-1528.3316" in out
    assert int(re.search(r"(\d+) of 20 reached the best value", out).group(1)) >= 15
    assert "201 of 1000 cells" in out
    assert "generating" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_demo_data():
    y = demo.load()
    assert y.shape == (500, 2)
    assert (np.isnan(y).sum(), np.isnan(y).any(axis=1).sum(), np.isnan(y).all(axis=1).sum()) == (201, 178, 23)


def test_a_process_of_its_own():
    """Float64 is on in the command alone, help and errors need no fit, and nothing but the message is said."""
    look = "print(jax.config.jax_enable_x64)"
    script = f"import jax, jaxem, jaxem.cli; {look}; jaxem.cli.main(['x']); {look}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert done.stderr.startswith("jaxem: ")
    assert done.stderr.count("\n") == 1


# the catalogue

COLUMNS = ("a", "b", "c", "count", "answer", "yes", "time", "seen", "low", "high", "site")


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    """Forty rows with a column of every kind."""
    rng = np.random.default_rng(3)
    n = 40
    group = np.arange(n) % 2
    a, b, c = rng.normal(size=(3, n)) + 2.0 * group
    slope = np.where(group == 1, 2.0, -1.0)
    response = 3 + slope * a + 0.3 * rng.normal(size=n)
    time = rng.weibull(1.5, n) * np.exp(0.3 * a) + 0.05
    columns = {
        "a": a, "b": b, "c": c + 0.5 * a, "response": response, "cut": np.maximum(response - 2, 0), "above": np.abs(response) + 0.1,
        "count": rng.poisson(np.exp(1 + 0.3 * a)), "yes": (rng.random(n) < 1 / (1 + np.exp(-b))).astype(int),
        "time": time, "seen": (rng.random(n) < 0.8).astype(int), "low": np.floor(time), "high": np.floor(time) + 1,
        "answer": np.where(rng.random(n) < 0.3 + 0.4 * group, "yes", "no"),
        "site": np.array(["x", "y", "z"])[rng.integers(0, 3, n)],
        "exposure": rng.normal(size=n),
    }  # fmt: skip
    path = tmp_path_factory.mktemp("catalogue") / "sheet.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return path


FITS = {
    "gaussian-mixture": ["--components", "2", "--columns", "a,b", "--covariance", "tied", "--prior", "weak"],
    "gaussian": ["--columns", "a,b"],
    "mixture": ["--family", "poisson", "--components", "2", "--columns", "count"],
    "single": ["--family", "poisson", "--columns", "count"],
    "latent-class": ["--components", "2", "--columns", "answer,site,yes"],
    "student-t": ["--columns", "a,b"],
    "student-t-mixture": ["--components", "2", "--columns", "a,b"],
    "factor-analysis": ["--factors", "1", "--columns", "a,b,c"],
    "probabilistic-pca": ["--factors", "1", "--columns", "a,b,c"],
    "mixture-of-factor-analysers": ["--components", "2", "--factors", "1", "--columns", "a,b,c"],
    "linear-regression": ["--response", "response", "--covariates", "a,site"],
    "logistic-regression": ["--response", "yes", "--covariates", "b"],
    "poisson-regression": ["--response", "count", "--covariates", "a", "--offset", "exposure"],
    "t-regression": ["--response", "response", "--covariates", "a", "--no-intercept"],
    "mixture-regression": ["--response", "response", "--covariates", "a", "--components", "2"],
    "mixture-of-experts": ["--response", "count", "--covariates", "a", "--components", "2", "--gate", "b", "--family", "poisson"],
    "hidden-markov": ["--states", "2", "--family", "poisson", "--columns", "count"],
    "markov-switching": ["--response", "response", "--order", "1", "--regimes", "2"],
    "local-level": ["--columns", "a"],
    "local-linear-trend": ["--columns", "a"],
    "dynamic-factor": ["--factors", "1", "--columns", "a,b,c"],
    "state-space": ["--states", "1", "--columns", "a,b"],
    "tobit": ["--response", "cut", "--covariates", "a"],
    "truncated-regression": ["--response", "above", "--covariates", "a"],
    "survival": ["--time", "time", "--event", "seen", "--covariates", "a"],
}
TWO_ENDS = ["--lower-column", "low", "--upper-column", "high", "--distribution", "lognormal"]


QUICK = ("latent-class", "linear-regression", "mixture-regression", "tobit", "survival", "factor-analysis")  # in every run


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FITS])
def test_every_model_of_the_catalogue(name, sheet, tmp_path, capsys):
    """Each fits, tells, writes and draws; what is written is what the library gives for the same log-likelihood."""
    run_model(name, FITS[name], sheet, tmp_path, capsys)


@pytest.mark.slow
def test_survival_from_two_ends(sheet, tmp_path, capsys):
    run_model("survival", TWO_ENDS, sheet, tmp_path, capsys)


def run_model(name, options, sheet, folder, capsys):
    output, picture = folder / "fit.json", folder / "fit.png"
    more = ["--max-steps", "60", "--output", str(output), "--plot", str(picture)]
    assert cli.main(["fit", str(sheet), "--model", name, *options, *more]) == 0
    out, err = capsys.readouterr()
    document = json.loads(output.read_text())
    assert err == ""
    assert np.isfinite(document["log_likelihood"])
    assert f"{document['log_likelihood']:.4f} with {document['n_parameters']} free parameters" in out
    assert document["command_model"] == name
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_factor_analysis_of_a_correlation_matrix(tmp_path, capsys):
    reference, output = Path(__file__).parent / "reference" / "factor_ability", tmp_path / "fit.json"
    expected = json.loads((reference / "expected.json").read_text())
    options = ["--model", "factor-analysis", "--factors", "2", "--rotation", "oblimin", "--covariance-of", str(expected["n_obs"])]
    assert cli.main(["fit", str(reference / "data.csv"), *options, "--output", str(output)]) == 0
    told = capsys.readouterr().out
    assert "correlation with factor 0" in told
    assert "chi-squared 6.1066 on 4 degrees of freedom, p = 0.1913" in told
    written = json.loads(output.read_text())
    assert written["log_likelihood"] == pytest.approx(expected["fits"][1]["logLik"], abs=1e-4)
    assert written["columns"] == expected["variables"]
    assert written["n"] == pytest.approx(112)
    loadings, corr = (np.array(written["rotated"][name]) for name in ("loadings", "correlations"))
    implied = loadings @ corr @ loadings.T + np.diag(written["params"]["uniquenesses"])
    assert implied == pytest.approx(np.array(expected["fits"][1]["implied_correlation"]), abs=1e-3)


def test_every_model_is_tested():
    assert set(FITS) == set(catalogue.MODELS)


def test_models_are_listed(capsys):
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    for name in catalogue.MODELS:
        assert f"\n{name}\n" in f"\n{out}"
    assert "--family takes: " in out
    assert "poisson" in out.splitlines()[-2]


def test_every_family_can_be_named():
    """A family needs no entry anywhere: its export is enough."""
    names = catalogue.family_names()
    assert names["poisson"] is jaxem.Poisson
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)


@pytest.mark.slow
def test_help_has_an_example_that_runs(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        cli.main(["fit", "--help"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    monkeypatch.chdir(tmp_path)
    text = next(line for line in lines if line.startswith("printf")).split("'")[1]
    (tmp_path / "rows.csv").write_text(text.replace("\\n", "\n"))
    for line in lines:
        if line.startswith("jaxem fit"):
            assert cli.main(line.split()[1:]) == 0
    assert (tmp_path / "full.csv").exists()
    assert (tmp_path / "fit.png").exists()


def test_text_covariates_become_indicators(sheet, tmp_path):
    if "linear-regression" not in catalogue.family_names():
        pytest.skip("no linear regression")
    output = tmp_path / "fit.json"
    cli.main(["fit", str(sheet), "--model", "linear-regression", *FITS["linear-regression"], "--output", str(output), "--quiet"])
    assert json.loads(output.read_text())["covariates"] == ["a", "site = y", "site = z"]


def test_labels_of_a_latent_class_model(sheet, tmp_path, capsys):
    output = tmp_path / "fit.json"
    options = ["--components", "1", "--columns", "answer,site,yes", "--output", str(output)]
    assert cli.main(["fit", str(sheet), "--model", "latent-class", *options]) == 0
    told = capsys.readouterr().out
    assert "site = z" in told
    assert "entropy R2" in told
    document = json.loads(output.read_text())
    assert document["labels"] == [["no", "yes"], ["x", "y", "z"], ["0", "1"]]
    assert document["n_parameters"] == 4
    with sheet.open() as file:
        rows = list(csv.DictReader(file))
    share = np.mean([row["answer"] == "yes" for row in rows])
    assert document["params"]["components"]["probabilities"][0][0] == pytest.approx([1 - share, share, 0])


def test_settings_of_a_family(sheet, tmp_path):
    output = tmp_path / "fit.json"
    options = ["--family", "gaussian", "--option", "covariance=diagonal", "--columns", "a,b", "--output", str(output), "--quiet"]
    assert cli.main(["fit", str(sheet), "--model", "single", *options]) == 0
    assert json.loads(output.read_text())["family_settings"] == {"covariance": "diagonal"}


WRONG = {
    "model": [["--model", "kmeans"], "kmeans"],
    "family": [["--model", "mixture", "--family", "normal", "--components", "2"], "--family: found 'normal'; use one of"],
    "no_family": [["--model", "mixture", "--components", "2"], "--family: --model mixture needs it"],
    "foreign": [["--model", "gaussian", "--left", "0"], "--left: --model gaussian does not take it; it takes --covariance"],
    "covariance": [["--model", "latent-class", "--components", "2", "--covariance", "full"], "--covariance: --model latent-class"],
    "prior": [["--model", "latent-class", "--components", "2", "--prior", "weak"], "--prior: --model latent-class does"],
    "no_response": [["--model", "linear-regression"], "--response: --model linear-regression needs it"],
    "columns": [["--model", "tobit", "--response", "cut", "--columns", "a"], "--columns: --model tobit does not take it"],
    "no_gate": [["--model", "mixture-of-experts", "--response", "a", "--components", "2"], "--gate: --model mixture-of-experts"],
    "no_factors": [["--model", "factor-analysis"], "--factors: --model factor-analysis needs it"],
    "no_time": [["--model", "survival"], "--time: say which column holds the times"],
    "one_end": [["--model", "survival", "--lower-column", "low"], "--lower-column, --upper-column: give both"],
    "time_and_ends": [["--model", "survival", "--time", "time", "--lower-column", "low"], "give one or the other"],
    "event_of_ends": [["--model", "survival", *TWO_ENDS, "--event", "seen"], "--event: belongs to --time"],
    "limits": [["--model", "tobit", "--response", "cut", "--left", "2", "--right", "1"], "the left limit must be the smaller"],
    "limit": [["--model", "tobit", "--response", "cut", "--left", "x"], "--left: found 'x'; give a number"],
    "setting": [["--model", "single", "--family", "poisson", "--option", "dof=3"], "--option dof: --family poisson has no"],
    "setting_value": [["--model", "single", "--family", "gaussian", "--option", "covariance=round"], "unknown kind 'round'"],
    "setting_form": [["--model", "single", "--family", "gaussian", "--option", "round"], "give NAME=VALUE"],
    "text_response": [["--model", "mixture-regression", "--components", "2", "--response", "site"], "column 'site' is not numeric"],
    "response_twice": [["--model", "mixture-regression", "--components", "2", "--response", "a", "--covariates", "a"], "twice"],
    "counts": [["--model", "single", "--family", "poisson", "--columns", "a"], "whole counts >= 0"],
    "impute": [["--model", "latent-class", "--components", "2", "--impute", "x.csv"], "--impute: --model latent-class"],
    "event": [["--model", "survival", "--time", "time", "--event", "count"], "must hold 1 (event) or 0 (censored)"],
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options(case, sheet, capsys):
    arguments, expected = WRONG[case]
    assert_refused(cli.main(["fit", str(sheet), *arguments]), capsys, expected)


# what is refused

CASES = {
    "no_command": [[], "required"],
    "unknown_command": [["train"], "train"],
    "missing_file": [["fit", "nowhere.csv", "--components", "2"], "nowhere.csv: No such file"],
    "folder": [["fit", ".", "--components", "2"], "directory"],
    "unknown_column": [["fit", "{data}", "--components", "2", "--columns", "height,depth"], "no column 'depth'"],
    "unknown_weights": [["fit", "{data}", "--components", "2", "--weights", "v"], "no column 'v'"],
    "text_column": [["fit", "{data}", "--components", "2"], "column 'name, first' is not numeric"],
    "twice": [["fit", "{data}", "--components", "2", "--columns", "width,width"], "named twice"],
    "covariance": [["fit", "{data}", "--components", "2", "--covariance", "round"], "round"],
    "components_0": [["fit", "{data}", "--components", "0"], "--components: found '0'"],
    "components_missing": [["fit", "{data}"], "--components"],
    "components_of_one": [["fit", "{data}", "--components", "2", "--model", "gaussian"], "--components"],
    "too_many": [["fit", "{data}", "--components", "99", "--columns", "height"], "99 components"],
    "seed": [["fit", "{data}", "--components", "2", "--seed", "x"], "--seed"],
    "tolerance": [["fit", "{data}", "--components", "2", "--tolerance", "-1"], "--tolerance"],
    "negative_weights": [["fit", "{data}", "--components", "2", "--columns", "height", "--weights", "width"], "negative"],
    "no_folder": [[*fit_options("{data}"), "--output", "nowhere/fit.json"], "no folder"],
    "picture": [[*fit_options("{data}"), "--plot", "fit.bmp"], "unknown kind of picture"],
    "over_the_data": [[*fit_options("{data}"), "--impute", "{data}"], "not that of the data"],
    "output_is_a_folder": [[*fit_options("{data}"), "--output", "{folder}"], "not a file"],
    "demo_picture": [["demo", "--output", "demo.txt"], "unknown kind of picture"],
}


@pytest.mark.parametrize("case", CASES)
def test_refusals(case, data, capsys):
    arguments, expected = CASES[case]
    before = sorted(os.listdir(data.parent))
    code = cli.main([part.format(data=data, folder=data.parent) for part in arguments])
    assert_refused(code, capsys, expected)
    assert sorted(os.listdir(data.parent)) == before


FILES = {
    "empty": [b"", "is empty"],
    "no_rows": [b"a,b\n", "no rows"],
    "ragged": [b"a,b\n1,2\n3\n", "line 3 has 1 cells"],
    "binary": [b"\x89PNG\r\n\x1a\n\xff\xfe\x00", "not a CSV"],
    "repeated": [b"a,a\n1,2\n", "'a' appears more than once"],
    "infinite": [b"a,b\n1,2\ninf,4\n", "infinite"],
    "nothing_in_a_column": [b"a,b\n1,\n2,\n", "column 'b' is missing"],
    "underscore": [b"a\n1_000\n", "'a' is not numeric"],
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files(case, tmp_path, capsys):
    content, expected = FILES[case]
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    assert_refused(cli.main(["fit", str(path), "--components", "1"]), capsys, expected)


def test_not_a_parquet_file(tmp_path, capsys):
    path = tmp_path / "data.parquet"
    path.write_text("a\n1\n")
    assert_refused(cli.main(["fit", str(path), "--components", "1"]), capsys, "not a Parquet file")


@pytest.mark.parametrize("package", ["matplotlib", "pandas"])
def test_missing_extra(package, data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    code = cli.main([*fit_options(data), "--plot", "x.png"])
    assert_refused(code, capsys, f'{package} is not installed: pip install "jaxem[cli]"')


def assert_refused(code, capsys, expected):
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("jaxem: ")
    assert err.count("\n") == 1
    assert expected in err


def test_all_outputs_or_none(data, tmp_path, capsys, monkeypatch):
    """The picture fails last: neither the JSON nor the filled file appears, and an older one stays as it was."""

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli, "_draw", fail)
    output, impute, picture = tmp_path / "fit.json", tmp_path / "full.csv", tmp_path / "fit.png"
    output.write_text("old")
    targets = ["--output", str(output), "--impute", str(impute), "--plot", str(picture)]
    code = cli.main(fit_options(data, "--quiet", *targets))
    assert_refused(code, capsys, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.json"]
    assert output.read_text() == "old"


def test_interrupt(data, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "fit", interrupt)
    assert cli.main(fit_options(data)) == 130
    assert capsys.readouterr() == ("", "")


def test_interrupt_of_a_process(data, tmp_path):
    """A signal while the fit compiles: no traceback, no crash, nothing written."""
    arguments = [*fit_options(data), "--max-steps", "77", "--output", str(tmp_path / "fit.json")]
    script = f"""
import os, signal, threading, sys
from jaxem import cli
fit = cli.fit
def interrupted(*args, **kwargs):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    return fit(*args, **kwargs)
cli.fit = interrupted
sys.argv = ["jaxem", *{arguments!r}]
sys.exit(cli.main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert not list(tmp_path.iterdir())
