"""Hidden Markov models on the command line and as pictures."""

import json

import numpy as np
import pytest

from jaxem.cli import main

pytest.importorskip("matplotlib")
pandas = pytest.importorskip("pandas")


@pytest.fixture
def counts(tmp_path):
    """Three ragged sequences of counts whose rows are shuffled, one count missing."""
    rng = np.random.default_rng(0)
    rows = [(s, t, rng.poisson((2, 12)[(t // 6) % 2])) for s, n in (("b", 20), ("a", 14), ("c", 1)) for t in range(n)]
    frame = pandas.DataFrame(rows, columns=["who", "when", "count"]).sample(frac=1, random_state=0)
    frame["count"] = frame["count"].astype(float)
    frame.iloc[3, 2] = np.nan
    frame["x"] = rng.normal(size=len(frame))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path


FIT = ["--model", "hidden-markov", "--states", "2", "--family", "poisson", "--columns", "count", "--restarts", "1"]
IN_TIME = ["--sequence-column", "who", "--time-column", "when"]


@pytest.mark.slow
def test_hidden_markov(counts, capsys):
    """Report, JSON, picture, and rows filled in the order of the file."""
    wanted = ["--output", str(counts / "fit.json"), "--plot", str(counts / "fit.png"), "--impute", str(counts / "full.csv")]
    assert main(["fit", str(counts / "rows.csv"), *FIT, *IN_TIME, *wanted]) == 0
    text = capsys.readouterr().out
    for part in ("Poisson hidden Markov, 2 states", "state ", "transition to 1", "expected duration", "35 rows"):
        assert part in text
    found = json.loads((counts / "fit.json").read_text())
    assert found["model"] == "hidden-markov"
    assert found["components"] == 2
    rate = np.ravel(found["params"]["emissions"]["rate"])
    assert rate[0] < rate[1]  # in canonical order
    assert len(found["expected_durations"]) == 2
    assert (counts / "fit.png").stat().st_size > 20_000
    before, after = pandas.read_csv(counts / "rows.csv"), pandas.read_csv(counts / "full.csv")
    assert (before["who"] == after["who"]).all()
    kept = before["count"].notna()
    assert (before["count"][kept] == after["count"][kept]).all()
    assert rate[0] <= after["count"][3] <= rate[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "hidden-markov"], "--states: --model hidden-markov needs it"),
        ([*FIT, "--sequence-column", "nobody"], "there is no column 'nobody'"),
        ([*FIT, "--time-column", "who"], "column 'who' is not numeric"),
        ([*FIT, "--sequence-column", "who", "--weights", "when"], "rows of a sequence differ"),
        ([*FIT, "--gate", "x", "--initial", "stationary"], "no stationary distribution"),
        ([*FIT, "--entry", "x"], "--entry: --model hidden-markov does not take it"),
    ],
)
def test_bad(counts, capsys, options, message):
    assert main(["fit", str(counts / "rows.csv"), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_gate_and_response(counts, capsys):
    """Covariates of the transitions, and a regression in each state."""
    assert main(["fit", str(counts / "rows.csv"), *FIT, *IN_TIME, "--gate", "x", "--plot", str(counts / "gate.png")]) == 0
    assert "gate coefficient to 1, x" in capsys.readouterr().out
    response = ["--model", "hidden-markov", "--states", "2", "--family", "poisson", "--response", "count", "--covariates", "x"]
    assert main(["fit", str(counts / "rows.csv"), *response, *IN_TIME, "--restarts", "1", "--plot", str(counts / "line.png")]) == 0
    assert "coefficient x" in capsys.readouterr().out
