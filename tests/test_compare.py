"""compare(): what a run is said to have cost, what is a row, and how it looks."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from command_line import assert_refused
from test_algorithms import DEATHS, PUBLISHED

from jaxem import (
    Algorithm,
    Mixture,
    MixtureParams,
    Poisson,
    PoissonParams,
    Stop,
    cli,
    compare,
    ecme,
    em,
    fit,
    gradient,
    newton,
    squarem,
)  # fmt: skip
from jaxem.algorithms.algorithm import Info
from jaxem.plots.comparison import figure_comparison, plot_comparison

MODEL = Mixture(Poisson(), 2)
DAYS = np.arange(10.0)[:, None]
START = MixtureParams(jnp.array([0.3, 0.7]), PoissonParams(jnp.array([[1.0], [2.5]])))


def refuse(model, params, data, key):
    del model, params, data, key
    raise ValueError("cannot be: this model has no such thing; take em().")


REFUSED = Algorithm(refuse, lambda model, state, data: (state, Info(0.0, 0.0, 1)))


@pytest.fixture(scope="module")
def found():
    chosen = {"em": em(), "squarem": squarem(), "newton": newton(), "wild": gradient(optax.sgd(1e6)), "none": REFUSED}
    return compare(MODEL, DAYS, chosen, params=START, weights=DEATHS, budget=1000)


def test_costs_are_those_of_fit(found):
    alone = fit(MODEL, DAYS, params=START, weights=DEATHS, algorithm=squarem())
    trial = next(trial for trial in found.trials if trial.name == "squarem")
    assert int(trial.fit.passes) == int(alone.passes)
    np.testing.assert_allclose(found.best, PUBLISHED["logLik"], atol=1e-8)
    path = found.path("squarem")
    assert (np.diff(path.passes) > 0).all()
    assert path.passes[-1] == alone.passes
    np.testing.assert_allclose(path.gap[:-1], found.best - np.asarray(alone.history)[: len(path.gap) - 1], atol=1e-9)
    np.testing.assert_allclose(path.seconds[-1], trial.seconds)


def test_history_is_held_by_a_budget(found):
    """EM from this start needs some 1800 passes; a budget of 1000 ends it there, with the final look."""
    trial = next(trial for trial in found.trials if trial.name == "em")
    assert trial.status == "MAX_STEPS"
    assert int(trial.fit.passes) == 1001
    path = found.path("em")
    steps = path.passes[:-1] - 1
    alone = fit(MODEL, DAYS, params=START, weights=DEATHS, stop=Stop(tolerance=0.0, max_steps=int(steps[5])))
    np.testing.assert_allclose(found.best - path.gap[5], alone.objective, atol=1e-9)


def test_failures_are_rows(found):
    records = {record["algorithm"]: record for record in found.records()}
    assert set(records) == {"em", "squarem", "newton", "wild", "none"}
    assert records["wild"]["status"] == "NONFINITE"
    assert records["none"]["status"] == "REFUSED"
    assert "take em()" in records["none"]["note"]
    assert np.isnan(records["none"]["gap"])
    assert [record["algorithm"] for record in found.records()][:2] == ["newton", "squarem"]
    text = str(found)
    assert "none: cannot be" in text
    assert list(found.to_dataframe()["algorithm"]) == [record["algorithm"] for record in found.records()]


def test_picture(found):
    figure = figure_comparison(found)
    figure.canvas.draw()
    left, right = figure.axes[:2]
    assert len(left.lines) == len(right.lines) == 6
    assert left.get_xscale() == left.get_yscale() == "log"
    labels = [line.get_label() for line in left.lines]
    assert "none (refused)" in labels
    assert "wild (nonfinite)" in labels
    with pytest.raises(ValueError, match="cost: found 'time'"):
        plot_comparison(found, cost="time")
    with pytest.raises(KeyError, match="there are em, squarem"):
        found.path("anderson")


def test_bad_input():
    with pytest.raises(ValueError, match="algorithms: give a mapping"):
        compare(MODEL, DAYS, {}, params=START)
    with pytest.raises(TypeError, match=r"'em' is a .*; give an Algorithm"):
        compare(MODEL, DAYS, {"em": em}, params=START)
    with pytest.raises(ValueError, match="budget"):
        compare(MODEL, DAYS, {"em": em()}, params=START, budget=0)
    with pytest.raises(ValueError, match="within: found 0"):
        compare(MODEL, DAYS, {"em": em()}, params=START, within=0)
    with pytest.raises(ValueError, match="max_passes: found 0"):
        Stop(max_passes=0)
    unknown = compare(MODEL, DAYS, {"ecme": ecme("dof")}, params=START, weights=DEATHS)
    assert "there are weights, components.rate" in unknown.trials[0].refusal


def test_command(tmp_path, capsys):
    table = tmp_path / "deaths.csv"
    table.write_text("count,days\n" + "".join(f"{i},{w:g}\n" for i, w in enumerate(DEATHS)))
    output, picture = tmp_path / "race.json", tmp_path / "race.png"
    line = ["compare", str(table), "--model", "mixture", "--family", "poisson", "--components", "2", "--weights", "days"]
    more = ["--algorithms", "squarem,newton", "--output", str(output), "--plot", str(picture)]
    assert cli.main([*line, *more]) == 0
    printed = capsys.readouterr().out
    assert "squarem" in printed
    assert "-1989.945860" in printed
    written = json.loads(output.read_text())
    assert {run["algorithm"] for run in written["runs"]} == {"squarem", "newton"}
    np.testing.assert_allclose(written["best"], PUBLISHED["logLik"], atol=1e-8)
    assert picture.read_bytes().startswith(b"\x89PNG")
    for wrong, expected in (
        ("squarm", "unknown algorithm 'squarm'; there are accelerated, aitken, "),
        ("adam:fast", "a learning rate is a number above 0"),
        ("em:2", "unknown algorithm 'em:2'"),
        ("em,em", "name different algorithms"),
    ):
        assert_refused(cli.main([*line, "--algorithms", wrong]), capsys, expected)
