"""Markov-switching autoregressions: Hamilton's (1989) growth of GNP, every path enumerated, corners, bad input."""

import csv
import json
from itertools import pairwise, product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases.hidden_markov import stationary
from scipy import stats

import jaxem
from jaxem import MarkovSwitching, SwitchingInterceptParams, SwitchingMeanParams

HERE = Path(__file__).parent / "reference" / "regime_switching_hamilton_gnp"
EXPECTED = json.loads((HERE / "expected.json").read_text())
HAMILTON = MarkovSwitching(4)


def growth():
    with open(HERE / "data.csv") as file:
        return np.array([float(row["growth"]) for row in csv.DictReader(file)])


def published():
    truth = EXPECTED["params"]
    a, b = truth["p00_recession_stays"], truth["p10_growth_to_recession"]
    transition = np.array([[a, 1 - a], [b, 1 - b]])
    means = np.array([truth["mu_recession"], truth["mu_growth"]])
    values = (stationary(transition), transition, means, np.array(truth["phi"]), np.array(truth["sigma2"]))
    return jax.tree.map(jnp.asarray, SwitchingMeanParams(*values))


def test_likelihood_at_the_published_estimates():
    y = growth()
    assert abs(float(HAMILTON.log_likelihood(published(), y)) - EXPECTED["logLik"]) < 1e-6
    assert HAMILTON.n_parameters(jaxem.prepare(HAMILTON, y)) == EXPECTED["n_params"]
    table = HAMILTON.regimes(published(), y)
    np.testing.assert_allclose(table.duration, [4.076, 10.426], atol=1e-3)
    np.testing.assert_allclose(table.stationary, [0.281, 0.719], atol=1e-3)
    assert "expected duration      4.0762  10.4259" in str(table)
    smooth = np.asarray(HAMILTON.smooth(published(), y))
    # quarters of 1953Q3-1954Q1, 1957Q1-1958Q1, 1974Q1-1975Q1 and 1981Q2-1982Q4 (Hamilton 1989, p. 374), from 1951Q2
    for begin, end in ((9, 11), (23, 27), (91, 95), (120, 126)):
        assert (smooth[begin:end, 0] > 0.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_growth_of_gnp(seed):
    """From four starts to the published maximum, which is not the only one."""
    y = growth()
    fit = jaxem.fit(HAMILTON, y, key=seed, restarts=4)
    assert abs(float(fit.log_likelihood) - EXPECTED["logLik"]) < EXPECTED["tolerances"]["logLik"]
    for ours, theirs in zip(jax.tree.leaves(fit.params), jax.tree.leaves(published()), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=EXPECTED["tolerances"]["params"])


@pytest.mark.slow
def test_command_line(tmp_path, capsys):
    from jaxem.cli import main

    content, picture = tmp_path / "fit.json", tmp_path / "fit.png"
    given = ["--model", "markov-switching", "--response", "growth", "--order", "4", "--regimes", "2", "--restarts", "4"]
    assert main(["fit", str(HERE / "data.csv"), *given, "--output", str(content), "--plot", str(picture)]) == 0
    told = capsys.readouterr().out
    assert "-181.2634 with 9 free parameters" in told
    assert "expected duration" in told
    found = json.loads(content.read_text())
    assert found["command_model"] == "markov-switching"
    np.testing.assert_allclose(found["params"]["mean"], published().mean, atol=1e-3)
    assert picture.stat().st_size > 10_000
    assert main(["fit", str(HERE / "data.csv"), *given[:-4]]) == 2
    assert "--regimes" in capsys.readouterr().err


def test_picture_of_regimes():
    """Recessions are shaded, with times on the axis; likeliest paths too; what does not fit is refused."""
    pytest.importorskip("matplotlib")
    from jaxem.plot import plot_regimes

    y, years = growth(), np.arange(1951.25, 1985, 0.25)
    ax = plot_regimes(HAMILTON, published(), y, time=years)
    shaded = [patch.get_x() for patch in ax.patches]
    assert len(shaded) == 7
    np.testing.assert_allclose(shaded[0], 1953.375)  # from the third quarter of 1953
    assert "regime 0 (mean -0.359)" in ax.get_legend_handles_labels()[1]
    with pytest.raises(ValueError, match="time: found 3 times for 135 steps"):
        plot_regimes(HAMILTON, published(), y, time=years[:3])
    with pytest.raises(ValueError, match="paths"):
        plot_regimes(HAMILTON, published(), y, paths="best")


# small cases

T = 5
TRANSITION = np.array([[0.8, 0.2], [0.3, 0.7]])
INITIAL = np.array([0.35, 0.65])
VALUES = (np.array([-1.0, 1.5]), np.array([[0.3, -0.2], [-0.4, 0.1]]), np.array([0.5, 1.2]))
SERIES = np.array([0.3, -1.2, 1.9, 0.4, 2.2])


def every_path(params, y, inner):
    """All 2^T paths and their log joint densities with the data, given the first two values."""
    _, _, centre, coefficients, variance = params
    found, joint = list(product(range(2), repeat=len(y))), []
    for path in found:
        total = np.log(INITIAL[path[0]]) + sum(np.log(TRANSITION[a, b]) for a, b in pairwise(path))
        for t in range(2, len(y)):
            s = path[t]
            past = [y[t - i] - (centre[path[t - i]] if inner else 0) for i in (1, 2)]
            total += stats.norm.logpdf(y[t], centre[s] + coefficients[s] @ past, np.sqrt(variance[s]))
        joint.append(total)
    return np.array(found), np.array(joint)


@pytest.mark.parametrize("form", ["mean", pytest.param("intercept", marks=pytest.mark.slow)])
def test_what_is_read_off_is_that_of_all_paths(form):
    """Likelihood, smoothed and filtered probabilities, the likeliest path, paths drawn."""
    kind = SwitchingMeanParams if form == "mean" else SwitchingInterceptParams
    model = MarkovSwitching(2, ("mean", "coefficients", "variance"), 2, form, initial="free")
    params = kind(INITIAL, TRANSITION, *VALUES)
    found, joint = every_path(params, SERIES, form == "mean")
    p = np.exp(joint - joint.max())
    several = [SERIES, SERIES[:4]]
    smooth = np.array([[p[found[:, t] == k].sum() for k in range(2)] for t in range(T)]) / p.sum()
    np.testing.assert_allclose(model.smooth(params, several)[:T], smooth, atol=1e-12)
    np.testing.assert_allclose(model.filter(params, several)[T - 1], smooth[-1], atol=1e-12)
    total = np.logaddexp.reduce(joint), np.logaddexp.reduce(every_path(params, SERIES[:4], form == "mean")[1])
    np.testing.assert_allclose(model.log_likelihood(params, several, per_row=True), total, rtol=1e-12)
    np.testing.assert_array_equal(model.viterbi(params, several)[:T], found[joint.argmax()])
    rows = jaxem.prepare(model, several)
    draws = jax.vmap(lambda key: model.posterior_sample(key, params, rows))(jax.random.split(jax.random.key(0), 4000))
    share = (np.asarray(draws)[:, None, :T] == found).all(axis=2).mean(axis=0)
    assert np.abs(share - p / p.sum()).max() < 4 * np.sqrt(0.25 / 4000)


def test_values_after_the_last_only_let_time_pass():
    """Missing values at the end add nothing, and their regimes are those that the transitions forecast."""
    model = MarkovSwitching(2, ("mean", "coefficients", "variance"), 2, initial="free")
    params = SwitchingMeanParams(INITIAL, TRANSITION, *VALUES)
    longer = np.append(SERIES, [np.nan, np.nan])
    ours, theirs = model.log_likelihood(params, longer), np.logaddexp.reduce(every_path(params, SERIES, True)[1])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    smooth = np.asarray(model.smooth(params, longer))
    np.testing.assert_allclose(smooth[-1], smooth[T - 1] @ TRANSITION @ TRANSITION, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["mean", "intercept"])
def test_a_level_far_from_zero_costs_no_digits(form):
    """Statistics are taken from the mean of the data: a fit to y + 1e5 is that to y, moved."""
    kind = SwitchingMeanParams if form == "mean" else SwitchingInterceptParams
    model = MarkovSwitching(2, ("mean", "variance"), 2, form)
    truth = kind(stationary(TRANSITION), TRANSITION, np.array([-2.0, 2.0]), np.array([0.3, -0.2]), np.array([0.5, 1.2]))
    y, regimes = model.sample(0, truth, 400, states=True)
    start = jax.tree.map(jnp.asarray, truth)
    near = jaxem.fit(model, y, params=start)
    by = 1e5 * (1.0 if form == "mean" else 1 - float(np.sum(truth.coefficients)))
    far = jaxem.fit(model, np.asarray(y) + 1e5, params=start._replace(**{form: start[2] + by}))
    np.testing.assert_allclose(far.log_likelihood, near.log_likelihood, rtol=1e-7)
    np.testing.assert_allclose(model.levels(far.params) - 1e5, model.levels(near.params), atol=1e-3)
    assert (np.asarray(model.viterbi(near.params, y)) == regimes).mean() > 0.9
    assert float(near.log_likelihood) > float(model.log_likelihood(truth, y))


def test_what_is_refused():
    y = np.arange(9.0)
    with pytest.raises(ValueError, match="order: found 0"):
        MarkovSwitching(0)
    with pytest.raises(ValueError, match="switching: found 'slope'"):
        MarkovSwitching(1, ("slope",))
    with pytest.raises(ValueError, match="switching: found nothing"):
        MarkovSwitching(1, ())
    with pytest.raises(ValueError, match="parametrisation"):
        MarkovSwitching(1, "mean", 2, "level")
    model = MarkovSwitching(2)
    with pytest.raises(ValueError, match="found 2 columns"):
        model.prepare(np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"y\[1\]: found 2 steps; order 2 needs at least 3"):
        model.prepare([y, y[:2]])
    with pytest.raises(ValueError, match="step 4 is missing"):
        model.prepare(np.where(y == 4, np.nan, y))
