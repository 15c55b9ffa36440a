"""Standard errors on the command line: what is printed and written, a fit that is polished first, what is refused."""

import json

import numpy as np
import pytest
from command_line import assert_refused

import jaxem
from jaxem import cli

COUNTS = (162, 267, 271, 185, 111, 61, 27, 8, 3, 1)  # days with 0, 1, ... deaths in The Times (Titterington, Smith and Makov 1985)


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    path = tmp_path_factory.mktemp("errors") / "deaths.csv"
    path.write_text("deaths,days\n" + "".join(f"{i},{n}\n" for i, n in enumerate(COUNTS)))
    return path


def single(path, *more):
    return ["fit", str(path), "--model", "single", "--family", "poisson", "--weights", "days", *more]


def mixture(path, *more):
    return ["fit", str(path), "--model", "mixture", "--family", "poisson", "--components", "2", "--weights", "days", *more]


def test_table_is_that_of_theory(deaths, tmp_path, capsys):
    """The standard error of a Poisson mean is sqrt(mean / n), and its interval is symmetric in the logarithm."""
    output = tmp_path / "fit.json"
    assert cli.main(single(deaths, "--se", "oakes", "--level", "0.9", "--output", str(output))) == 0
    out, err = capsys.readouterr()
    assert err == ""
    n = sum(COUNTS)
    mean = sum(i * count for i, count in enumerate(COUNTS)) / n
    told = json.loads(output.read_text())["standard_errors"]
    assert (told["method"], told["level"], told["draws"], told["boundary"]) == ("oakes", 0.9, None, [])
    (record,) = told["records"]
    assert record["name"] == "rate[deaths]"
    assert record["std_err"] == pytest.approx(np.sqrt(mean / n), rel=1e-9)
    reach = 1.6448536269514722 / np.sqrt(mean * n)
    assert [record["lower"], record["upper"]] == pytest.approx([mean * np.exp(-reach), mean * np.exp(reach)], rel=1e-9)
    assert "Standard errors: oakes" in out
    assert "rate[deaths]" in out
    assert "[5%" in out


def test_certificate_has_four_lines(deaths, tmp_path, capsys):
    output = tmp_path / "fit.json"
    assert cli.main(single(deaths, "--se", "oakes", "--output", str(output))) == 0
    written = json.loads(output.read_text())["certificate"]
    assert written["trusted"] is True
    lines = written["text"].splitlines()
    assert len(lines) == 4
    out = capsys.readouterr().out
    assert all(line in out for line in lines)
    assert out.count("Certificate") == 1
    assert "Polished" not in out


def test_nothing_of_it_where_it_is_not_asked_for(deaths, tmp_path, capsys):
    output = tmp_path / "fit.json"
    assert cli.main(single(deaths, "--output", str(output))) == 0
    document = json.loads(output.read_text())
    assert (document["standard_errors"], document["certificate"]) == (None, None)
    out = capsys.readouterr().out
    assert "Certificate" not in out
    assert "Standard errors" not in out


def test_early_stop_is_polished_and_said(deaths, tmp_path, capsys):
    """The maximum, of log-likelihood -1989.945859 (Hasselblad 1969), and its errors are those of a fit that ran to the end.

    That fit may still lie as many standard errors away as its own certificate says, in any direction; twice that is allowed.
    """
    early, tight = tmp_path / "early.json", tmp_path / "tight.json"
    more = ("--restarts", "2", "--se", "oakes", "--output")
    assert cli.main(mixture(deaths, *more, str(early), "--tolerance", "0.01")) == 0
    out = capsys.readouterr().out
    assert "Polished: the fit had stopped about" in out
    assert "Standard errors can be told" in out
    assert cli.main(mixture(deaths, *more, str(tight), "--tolerance", "1e-12", "--quiet")) == 0
    assert capsys.readouterr().out == ""
    first, second = (json.loads(path.read_text()) for path in (early, tight))
    assert first["log_likelihood"] == pytest.approx(-1989.945859, abs=1e-6)
    assert first["status"]["name"] == "CONVERGED"
    bound = 2 * second["certificate"]["distance"]
    assert bound < 0.02
    for one, other in zip(*(by_size(each["standard_errors"]) for each in (first, second)), strict=True):
        assert abs(one["coef"] - other["coef"]) <= bound * other["std_err"]
        assert one["std_err"] == pytest.approx(other["std_err"], rel=bound)


def by_size(told):
    """Records in an order that does not depend on the labels of the components."""
    return sorted(told["records"], key=lambda record: record["coef"])


def test_bootstrap_takes_seed_and_draws(deaths, tmp_path, capsys):
    output = tmp_path / "fit.json"
    told = []
    for seed in (3, 3, 4):
        options = ("--se", "bootstrap", "--draws", "16", "--seed", str(seed), "--output", str(output), "--quiet")
        assert cli.main(single(deaths, *options)) == 0
        told.append(json.loads(output.read_text())["standard_errors"])
    assert told[0]["draws"] == 16
    assert told[0] == told[1]
    assert told[0]["records"][0]["std_err"] != told[2]["records"][0]["std_err"]
    assert capsys.readouterr().err == ""


def test_saved_model_is_the_polished_one(deaths, tmp_path):
    output, saved = tmp_path / "fit.json", tmp_path / "model.npz"
    options = ("--restarts", "2", "--se", "oakes", "--tolerance", "0.01", "--output", str(output), "--save", str(saved), "--quiet")
    assert cli.main(mixture(deaths, *options)) == 0
    params = json.loads(output.read_text())["params"]
    np.testing.assert_array_equal(np.asarray(jaxem.load(saved).params.weights), params["weights"])


def test_failed_fit_has_none(tmp_path, capsys):
    data, output = tmp_path / "data.csv", tmp_path / "fit.json"
    points = np.concatenate([np.random.default_rng(0).normal(size=20), np.full(20, 9.0)])
    data.write_text("x\n" + "\n".join(map(repr, points.tolist())) + "\n")
    options = ["--components", "2", "--restarts", "1", "--se", "oakes", "--output", str(output)]
    assert cli.main(["fit", str(data), *options]) == 1
    assert "No standard errors: the fit ended as DEGENERATE" in capsys.readouterr().out
    assert json.loads(output.read_text())["standard_errors"] is None


REFUSED = {
    "unknown": [("--se", "guess"), "oakes"],
    "level_alone": [("--level", "0.9"), "give --se"],
    "draws_alone": [("--draws", "9"), "give --se"],
    "level": [("--se", "oakes", "--level", "95"), "between 0 and 1"],
    "one_draw": [("--se", "bootstrap", "--draws", "1"), "--draws"],
    "draws_of_oakes": [("--se", "oakes", "--draws", "9"), "makes no refits"],
    "louis_of_one": [("--se", "louis"), "--se louis"],
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case, deaths, capsys, monkeypatch):
    def never(*_, **__):
        raise AssertionError("refused before the fit")

    monkeypatch.setattr("jaxem.commands.fit.fit", never)
    more, expected = REFUSED[case]
    assert_refused(cli.main(single(deaths, *more)), capsys, expected)


def test_one_row_is_not_resampled(tmp_path, capsys):
    data = tmp_path / "data.csv"
    data.write_text("deaths,days\n3,7\n")
    assert_refused(cli.main(single(data, "--se", "bootstrap")), capsys, "only one row")
