"""State space models against joint normals written down whole, published answers, and each other's ways of computing."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases.state_space import FACTORS, NAN, TREND, T, dense, normal
from table import cast, some, with_holes

import jaxem
from jaxem import Inputs, StateSpace, StateSpaceParams, Status, Stop, dynamic_factor, local_level, local_linear_trend
from jaxem.sequences import Sequences

NILE = Path(__file__).parent / "reference" / "state_space_nile"
EXPECTED = json.loads((NILE / "expected.json").read_text())
FREE = StateSpace(2, 2)


def nile():
    return np.loadtxt(NILE / "data.csv", delimiter=",", skiprows=1)[:, 1]


def series(steps=T, seed=3):
    """One series with holes, a step without any cell among them, around what the params foretell."""
    rng = np.random.default_rng(seed)
    y = with_holes(rng.normal(size=(steps, 2)), 0.3, seed)
    y[1] = np.nan
    return y


def conditional(params, y, u=None):
    """Moments of (x_1..T, y_1..T) given the observed cells."""
    mean, covariance = dense(params, u, len(y))
    seen = np.concatenate([np.zeros(len(y) * len(params.initial_mean), bool), ~np.isnan(y).ravel()])
    gain = covariance[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
    values = np.concatenate([np.zeros(seen.size - y.size), y.ravel()])
    return mean + gain @ (values - mean)[seen], covariance - gain @ covariance[seen]


@pytest.mark.parametrize("parallel", some([False, True], [False]))
def test_moments_by_conditioning(parallel):
    """Smoothed moments, missing cells and one-step predictions are those of the joint normal, by both ways through time."""
    model = dataclasses.replace(FREE, parallel=parallel)
    params, y = cast(FACTORS, np.float64), series()
    rows = jaxem.prepare(model, y)
    mean, covariance = conditional(params, y)
    found = model.smooth(params, rows)
    np.testing.assert_allclose(found.mean.ravel(), mean[: 2 * T], atol=1e-12)
    for t in range(T):
        np.testing.assert_allclose(found.covariance[t], covariance[2 * t : 2 * t + 2, 2 * t : 2 * t + 2], atol=1e-12)
    filled, spread = model.impute(params, rows, covariance=True)
    np.testing.assert_allclose(filled.ravel(), np.where(np.isnan(y.ravel()), mean[2 * T :], y.ravel()), atol=1e-12)
    for t in range(T):
        np.testing.assert_allclose(spread[t], covariance[2 * T :, 2 * T :][2 * t : 2 * t + 2, 2 * t : 2 * t + 2], atol=1e-12)
    last = model.filter(params, rows)
    np.testing.assert_allclose(last.mean[-1], found.mean[-1], atol=1e-12)
    np.testing.assert_allclose(last.covariance[-1], found.covariance[-1], atol=1e-12)
    short = np.where(np.arange(T)[:, None] < 2, y, np.nan)
    mean, covariance = conditional(params, short)
    np.testing.assert_allclose(model.predict(params, rows).mean[2], mean[4:6], atol=1e-12)
    np.testing.assert_allclose(model.predict(params, rows).covariance[2], covariance[4:6, 4:6], atol=1e-12)
    error = (y[2] - mean[2 * T + 4 : 2 * T + 6]) / np.sqrt(np.diagonal(covariance)[2 * T + 4 : 2 * T + 6])
    np.testing.assert_allclose(model.residuals(params, rows)[2], error, atol=1e-12)


def test_forecast_and_draws():
    """Forecasts continue the joint normal; draws of paths have its smoothed moments, also under a diffuse start."""
    params, y = cast(FACTORS, np.float64), series()
    ahead = np.concatenate([y, np.full((2, 2), np.nan)])
    mean, covariance = conditional(params, ahead)
    found = FREE.forecast(params, y, 2)
    begin = 2 * (T + 2)
    np.testing.assert_allclose(found.mean[0].ravel(), mean[begin + 2 * T :], atol=1e-12)
    np.testing.assert_allclose(found.states[0].ravel(), mean[2 * T : begin], atol=1e-12)
    place = slice(begin + 2 * T + 2, None)
    np.testing.assert_allclose(found.covariance[0, 1], covariance[place, place], atol=1e-12)
    for model in (FREE, dataclasses.replace(FREE, initial="diffuse", fixed=None, blocks=None)):
        y = series(seed=5)
        rows = jaxem.prepare(model, y)
        draw = jax.vmap(lambda key, model=model, rows=rows: model.posterior_sample(key, params, rows))
        paths = np.asarray(draw(jax.random.split(jax.random.key(1), 4000)))
        smooth = model.smooth(params, y)
        deviation = np.sqrt(np.diagonal(smooth.covariance, axis1=1, axis2=2))
        assert (np.abs(paths.mean(0) - smooth.mean) < 5 * deviation / 4000**0.5).all()
        np.testing.assert_allclose(paths.std(0), deviation, rtol=0.08)


@pytest.mark.slow
def test_inputs_and_ragged():
    """Inputs move states and outputs as the joint normal says; ragged series are those series one by one, under weights."""
    inputs = {"transition_input": np.array([[0.5], [-1.0]]), "observation_input": np.array([[2.0], [0.3]])}
    params = FACTORS._replace(**inputs)
    model = StateSpace(2, 2, n_inputs=1, fixed={"transition_noise": np.eye(2)})
    rng = np.random.default_rng(0)
    lengths = (4, 1, 3, 4)
    parts = [Inputs(with_holes(rng.normal(size=(t, 2)), 0.1, t), rng.normal(size=(t, 1))) for t in lengths]
    expected = []
    for part in parts:
        mean, covariance = dense(params, part.u)
        begin = 2 * len(part.y)
        expected.append(normal(part.y.ravel(), mean[begin:], covariance[begin:, begin:]))
    np.testing.assert_allclose(model.log_likelihood(params, parts, per_row=True), expected, atol=1e-11)
    weights = np.array([1.0, 2.0, 0.0, 0.5])
    np.testing.assert_allclose(model.log_likelihood(params, jaxem.prepare(model, parts, weights)), weights @ expected, atol=1e-11)
    whole = Sequences(Inputs(np.concatenate([p.y for p in parts]), np.concatenate([p.u for p in parts])), np.array(lengths))
    np.testing.assert_allclose(model.log_likelihood(params, whole, per_row=True), expected, atol=1e-11)
    found = model.forecast(params, parts, 2, inputs=np.ones((2, 1)))
    assert found.mean.shape == (4, 2, 2)
    longer, inputs = np.concatenate([parts[3].y, np.full((2, 2), np.nan)]), np.concatenate([parts[3].u, np.ones((2, 1))])
    mean, _ = conditional(params, longer, inputs)
    np.testing.assert_allclose(found.mean[3].ravel(), mean[-4:], atol=1e-11)
    rows, values = jaxem.prepare(model, parts), []
    for _ in range(6):
        statistics, value = model.e_step(params, rows)
        values.append(value)
        params = model.m_step(params, statistics)
    assert (np.diff(values) > 0).all()


def test_nile():
    """The published maximum of the local level, diffuse and from a known start (see `expected.json` for the conventions)."""
    y, best = nile(), EXPECTED["params"]
    found = jaxem.fit(local_level(), y, stop=Stop(tolerance=1e-9, max_steps=5000))
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.log_likelihood, EXPECTED["logLik"], atol=1e-4)
    np.testing.assert_allclose(found.params.observation_noise, best["obs_variance"], rtol=1e-3)
    np.testing.assert_allclose(found.params.transition_noise, best["level_variance"], rtol=1e-3)
    np.testing.assert_allclose(found.log_likelihood - 0.5 * np.log(2 * np.pi), EXPECTED["logLik_durbin_koopman"], atol=1e-4)
    known = EXPECTED["known_initial_state"]
    given = local_level(initial="free", fixed={"initial_mean": 1000.0, "initial_covariance": 10000.0})
    found = jaxem.fit(given, y, stop=Stop(tolerance=1e-9, max_steps=5000))
    np.testing.assert_allclose(found.log_likelihood, known["logLik"], atol=1e-4)
    np.testing.assert_allclose(found.params.transition_noise, known["params"]["level_variance"], rtol=1e-3)


def test_diffuse_is_the_limit():
    """A diffuse start is the limit of a wide one, less log(2 pi kappa) / 2 a state; filtered states are finite before it ends."""
    y = np.cumsum(np.cumsum(np.random.default_rng(2).normal(size=12)))
    y[[1, 6]] = np.nan
    params = StateSpaceParams(*TREND[:4], np.zeros(2), np.eye(2))
    exact = local_linear_trend(smooth=True)
    wide = dataclasses.replace(exact, initial="free", fixed=None, blocks=None)
    kappa = 1e5  # a wider one loses digits
    near = params._replace(initial_covariance=kappa * np.eye(2))
    limit = wide.log_likelihood(near, y) + np.log(2 * np.pi * kappa)
    np.testing.assert_allclose(exact.log_likelihood(params, y), limit, atol=1e-3)
    for ours, theirs in zip(exact.smooth(params, y), wide.smooth(near, y), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    filtered = exact.filter(params, y)
    np.testing.assert_allclose(filtered.mean[3:], wide.filter(near, y).mean[3:], atol=1e-3)
    assert np.isfinite(filtered.mean).all()
    assert np.diagonal(filtered.covariance[1]).max() > 1e6


@pytest.mark.slow
def test_long_series_in_single_precision():
    """10,000 steps in float32: both ways agree with float64, and covariances stay positive."""
    params, steps = cast(FACTORS, np.float64), 10_000
    y = np.asarray(FREE.sample(0, params, steps))
    exact = FREE.log_likelihood(params, y)
    narrow = cast(FACTORS, np.float32)
    for parallel in (False, True):
        model = dataclasses.replace(FREE, parallel=parallel)
        np.testing.assert_allclose(model.log_likelihood(narrow, y.astype(np.float32)), exact, rtol=2e-6)
    smooth = FREE.smooth(narrow, y.astype(np.float32)).covariance
    assert (np.linalg.eigvalsh(np.asarray(smooth, np.float64)) > 0.01).all()


def test_corners():
    """One step of one cell; noise that runs to 0; what is seen exactly; nothing is NaN."""
    level = local_level(initial="free", fixed={"initial_mean": 0.0, "initial_covariance": 1.0})
    params = StateSpaceParams(*(np.array([[v]]) for v in (1.0, 2.0, 1.0, 3.0)), np.zeros(1), np.eye(1))
    np.testing.assert_allclose(level.log_likelihood(params, [1.5]), normal(np.array([1.5]), np.zeros(1), 4 * np.eye(1)))
    found = jaxem.fit(level, np.array([0.3, -0.2, 0.1, 0.4, -0.1, 0.0, 0.2]), stop=Stop(max_steps=4000))
    assert found.status in (Status.CONVERGED, Status.MAX_STEPS)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.params))
    exact = params._replace(observation_noise=np.zeros((1, 1)))
    walk = np.array([0.5, 1.0, 0.2])
    held = local_level(initial="free", fixed={"initial_mean": 0.0, "initial_covariance": 1.0, "observation_noise": 0.0})
    value = held.log_likelihood(exact, walk)
    steps = np.array([0.5, 0.5 / 2**0.5, -0.8 / 2**0.5])
    np.testing.assert_allclose(value, -0.5 * (3 * np.log(2 * np.pi) + 2 * np.log(2) + steps @ steps), atol=1e-12)
    np.testing.assert_allclose(held.smooth(exact, walk).mean[:, 0], walk, atol=1e-12)
    still = StateSpaceParams(*(np.array([[v]]) for v in (1.0, 0.0, 1.0, 0.0)), np.zeros(1), np.eye(1))
    both = held.log_likelihood(still, np.array([[[0.5], [0.5]], [[0.5], [0.6]]]), per_row=True)
    assert np.isfinite(both[0])
    assert np.isneginf(both[1])


@pytest.mark.slow
def test_held_blocks():
    """Cells that are held stay; the rest of the M-step maximises, where noises are correlated too."""
    fixed = {"observation": [[NAN, 0.0], [NAN, NAN]], "transition": [[NAN, 0.0], [0.0, NAN]], "initial_covariance": np.eye(2)}
    model = StateSpace(2, 2, fixed=fixed)
    params = FACTORS._replace(
        transition=np.diag([0.7, 0.5]), observation=np.tril(FACTORS.observation), initial_covariance=np.eye(2)
    )
    rows = jaxem.prepare(model, np.stack([series(T, seed) for seed in range(5)]))
    statistics, _ = model.e_step(params, rows)
    best = jax.jit(model.m_step)(params, statistics)
    assert best.observation[0, 1] == 0
    assert best.transition[1, 0] == 0
    slope = jax.grad(lambda u: model.expected_log_joint(model.from_unconstrained(u), statistics))(model.to_unconstrained(best))
    np.testing.assert_allclose(slope, 0, atol=1e-6)


@pytest.mark.slow
def test_dynamic_factor_recovers():
    """Loadings and autoregression of simulated factors are found again."""
    model = dynamic_factor(5, 1)
    truth = StateSpaceParams(
        np.array([[0.8]]), np.eye(1), np.array([[1.0], [0.8], [-0.6], [0.5], [1.2]]), np.diag([0.5, 0.6, 0.4, 0.3, 0.7]),
        np.zeros(1), np.eye(1),
    )  # fmt: skip
    y = np.asarray(model.sample(3, truth, 1500))
    found = jaxem.fit(model, with_holes(y, 0.1), key=1, stop=Stop(max_steps=500))
    sign = np.sign(found.params.observation[0, 0])
    np.testing.assert_allclose(sign * found.params.observation, truth.observation, atol=0.1)
    np.testing.assert_allclose(found.params.transition, truth.transition, atol=0.06)
    assert found.log_likelihood > model.log_likelihood(truth, with_holes(y, 0.1))


@pytest.mark.slow
def test_batch():
    """Data sets of different lengths fitted together end where each ends alone."""
    sets = [nile()[:60], nile()[40:]]
    stop = Stop(tolerance=0.0, max_steps=4)
    both = jaxem.fit_batch(local_level(), sets, stop=stop)
    alone = jaxem.fit(local_level(), sets[1][:60], stop=stop)
    np.testing.assert_allclose(both.log_likelihood[1], alone.log_likelihood, rtol=1e-10)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: StateSpace(0, 1), "n_latent"),
        (lambda: StateSpace(1, 1, initial="wide"), "initial"),
        (lambda: StateSpace(1, 1, initial="diffuse", fixed={"initial_mean": 0.0}), "diffuse"),
        (lambda: StateSpace(2, 1, fixed={"transition_noise": [[NAN, NAN], [NAN, 0.0]]}), "holds part"),
        (lambda: StateSpace(2, 1, fixed={"transition_noise": [[1.0, 2.0], [2.0, 1.0]]}), "semidefinite"),
        (lambda: StateSpace(2, 1, fixed={"transition_noise": [[NAN, 0.0], [0.0, 0.0]]}), "hold these rows"),
        (lambda: StateSpace(2, 1, fixed={"observation": np.zeros((3, 2))}), "shape"),
        (lambda: local_level().prepare(np.zeros((4, 2))), "n_outputs"),
        (lambda: local_level().prepare(Inputs(np.arange(4.0), np.arange(4.0))), "n_inputs"),
        (lambda: local_linear_trend().prepare([np.arange(4.0), np.ones(1)]), "series 1"),
        (lambda: jaxem.fit(local_level(), np.ones(5)), "every step"),
        (lambda: jaxem.fit(StateSpace(1, 2), np.array([[1.0, np.nan], [2.0, np.nan]]), key=0), "missing"),
        (lambda: dynamic_factor(2, 3), "factors"),
        (lambda: local_level().prepare([np.arange(3.0), np.zeros(0)]), "y\\[1\\]"),
    ],
)
def test_bad_input(act, says):
    with pytest.raises((TypeError, ValueError), match=says):
        act()


def test_remarks():
    """A noise that has gone, and a start that one series does not tell, are said."""
    params = StateSpaceParams(*(np.array([[v]]) for v in (1.2, 1e-9, 1.0, 3.0)), np.zeros(1), np.eye(1))
    said = StateSpace(1, 1).remarks(jax.tree.map(jnp.asarray, params), nile())
    assert len(said) == 3


@pytest.mark.slow
def test_command_line_and_picture(tmp_path, capsys):
    """A local level from a file: fitted, filled, drawn; the result names the state."""
    from jaxem.cli import main

    y = nile()[:30]
    cells = [str(value) for value in y]
    cells[7] = "NA"
    file, filled, picture = tmp_path / "nile.csv", tmp_path / "full.csv", tmp_path / "nile.png"
    file.write_text("\n".join(["flow", *cells]) + "\n")
    steps = ["--max-steps", "20", "--impute", str(filled), "--plot", str(picture)]
    assert main(["fit", str(file), "--model", "local-level", *steps]) == 0
    assert "state 0" in capsys.readouterr().out
    assert 700 < float(filled.read_text().splitlines()[8]) < 1300
    assert picture.stat().st_size > 10_000
    assert main(["fit", str(file), "--model", "state-space"]) == 2
