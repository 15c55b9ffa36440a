"""The command line, called in process: exit codes, one-line errors, what it writes."""

import csv
import gzip
import json
import os
import re
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from command_line import assert_refused, read
from scipy.stats import multivariate_normal

import jaxem.document
from jaxem import cli, commands, demo

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


def test_search(data, tmp_path):
    """A start from merged clusters, which no chance is in: the same whatever the seed."""
    told = []
    for seed in "12":
        out = tmp_path / f"{seed}.json"
        line = ["fit", str(data), "--components", "2", "--columns", "height,width", "--search", "hierarchical", "--seed", seed]
        assert cli.main([*line, "--output", str(out), "--quiet"]) == 0
        told.append(json.loads(out.read_text()))
    assert told[0]["params"] == told[1]["params"]
    assert len(told[0]["restarts"]) == 2  # one by each criterion


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
    "gzip": [[*fit_options("{data}"), "--impute", "x.csv.gz"], "x.csv.gz: no file is compressed in writing; leave out .gz"],
    "picture": [[*fit_options("{data}"), "--plot", "fit.bmp"], "unknown kind of picture"],
    "over_the_data": [[*fit_options("{data}"), "--impute", "{data}"], "not that of the data"],
    "output_is_a_folder": [[*fit_options("{data}"), "--output", "{folder}"], "not a file"],
    "search_and_restarts": [[*fit_options("{data}"), "--search", "halving"], "--restarts: --search finds its own starts"],
    "search_of_two": [
        ["fit", "{data}", "--components", "2", "--columns", "height", "--search", "split-and-merge"], "three components at a time",
    ],
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
    "decimal_comma": [b"a;b\n1,5;2\n2,5;3\n", "column 'a' is not numeric, it holds '1,5'"],
    "no_header": [b"5.1,3.5\n4.9,3\n", "its first line holds numbers (5.1, 3.5), where the names of the columns have to stand"],
    "row_numbers": [b",a\n0,1\n1,2\n", "column 1 has no name, as numbers of rows have none; name it, or say by --columns"],
    "cut_gzip": [gzip.compress(b"a\n1\n2\n" * 99)[:25], "is damaged"],
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


def test_all_outputs_or_none(data, tmp_path, capsys, monkeypatch):
    """The picture fails last: neither the JSON nor the filled file appears, and an older one stays as it was."""

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commands.fit, "draw_overview", fail)
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

    monkeypatch.setattr(commands.fit, "fit", interrupt)
    assert cli.main(fit_options(data)) == 130
    assert capsys.readouterr() == ("", "")


def test_interrupt_of_a_process(data, tmp_path):
    """A signal while the fit compiles: no traceback, no crash, nothing written."""
    arguments = [*fit_options(data), "--max-steps", "77", "--output", str(tmp_path / "fit.json")]
    script = f"""
import os, signal, threading, sys
from jaxem import cli
from jaxem.commands import fit as command
fit = command.fit
def interrupted(*args, **kwargs):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    return fit(*args, **kwargs)
command.fit = interrupted
sys.argv = ["jaxem", *{arguments!r}]
sys.exit(cli.main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert not list(tmp_path.iterdir())
