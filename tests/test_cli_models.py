"""Every model of the catalogue through the command line, and the options that each takes."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused

import jaxem
from jaxem import catalogue, cli

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


LONG = ("gaussian", "mixture", "student-t", "hidden-markov", "markov-switching", "local-level", "mixture-of-experts")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow if n in LONG else pytest.mark.thorough]) for n in FITS],
)
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


@pytest.mark.slow
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
    assert ", poisson," in out[out.index("--family takes:\n") :]


def test_every_family_can_be_named():
    """A family needs no entry anywhere: its export is enough."""
    names = catalogue.family_names()
    assert names["poisson"] is jaxem.Poisson
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)


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
