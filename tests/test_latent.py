"""Models that a user writes: the linkage of Rao (1973), README's examples, corners, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from cases import latent as mine
from jax.scipy.stats import norm, poisson
from scipy import stats

import jaxem
from jaxem import Latent, Status, Stop, fit, fit_batch
from jaxem.domains import Positive, PositiveDefinite, Real, Simplex, Unit
from jaxem.summary import summarize

HERE = Path(__file__).parent
EXPECTED = json.loads((HERE / "reference" / "linkage_rao" / "expected.json").read_text())
CELLS, COUNTS = np.arange(4), np.array([125, 18, 20, 34])
TIGHT = Stop(tolerance=1e-12, max_steps=500)


def linkage_joint(params, z, cell):
    t = params["t"]
    return jnp.log(jnp.array([[1 / 2, t / 4], [(1 - t) / 4, 0], [(1 - t) / 4, 0], [t / 4, 0]])[cell, z])


def linkage_statistics(z, cell):
    return jnp.array([(cell == 3) | (z == 1), (cell == 1) | (cell == 2)])


def linkage_maximize(sums):
    return {"t": sums[0] / sums.sum()}


NEWTON = Latent(linkage_joint, {"t": Unit()}, 2, start={"t": 0.5})
CLOSED = Latent(
    linkage_joint, {"t": Unit()}, 2, start={"t": 0.5}, statistics=linkage_statistics, maximize=linkage_maximize
)  # fmt: skip


@pytest.mark.parametrize("model", [NEWTON, CLOSED], ids=["newton", "closed"])
@pytest.mark.parametrize("seed", range(4))
def test_linkage(model, seed):
    found = fit(model, CELLS, weights=COUNTS, key=seed, restarts=1 + seed, stop=TIGHT)
    assert found.status == Status.CONVERGED
    assert abs(float(found.params["t"]) - EXPECTED["params"]["t"]) < EXPECTED["tolerances"]["params"]
    assert abs(float(found.log_likelihood) - EXPECTED["logLik"]) < EXPECTED["tolerances"]["logLik"]


def test_linkage_iterates_and_rate():
    rows = CLOSED.prepare(CELLS, COUNTS)

    @jax.jit
    def em_map(t):
        return CLOSED.m_step({"t": t}, CLOSED.e_step({"t": t}, rows).statistics)["t"]

    t = jnp.asarray(EXPECTED["em"]["start"])
    for expected in EXPECTED["em"]["iterates"][1:8]:
        t = em_map(t)
        np.testing.assert_allclose(t, expected, atol=1e-10)
    rate = jax.grad(em_map)(jnp.asarray(EXPECTED["params"]["t"]))
    assert abs(float(rate) - EXPECTED["em"]["rate_of_convergence"]) < EXPECTED["tolerances"]["rate"]


def test_information_by_autodiff():
    """The statistics' expansion has the complete information, the likelihood the observed one."""
    rows, t = NEWTON.prepare(CELLS, COUNTS), jnp.asarray(EXPECTED["params"]["t"])
    observed = -jax.hessian(lambda t: NEWTON.log_likelihood({"t": t}, rows))(t)
    np.testing.assert_allclose(observed, EXPECTED["observed_information"], rtol=1e-8)
    statistics = NEWTON.localize({"t": t}, rows).e_step({"t": t}, rows).statistics
    du = 1 / (t * (1 - t))  # the coordinate is the log-odds
    np.testing.assert_allclose(statistics.expansion.curvature[0, 0] * du**2, EXPECTED["complete_information"], rtol=1e-6)


@pytest.mark.slow
def test_readme(capsys):
    """The section runs as it stands, and says what comes out."""
    section = re.search(r"## Your own model\n(.*?)\n## ", (HERE.parent / "README.md").read_text(), re.DOTALL)[1]
    scope = {}
    seen = []
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(block, scope)
        seen.append(scope["fitted"])
    assert abs(float(seen[0].params["t"]) - 0.6268215) < 1e-5
    assert abs(float(seen[0].log_likelihood) + 205.7159) < 1e-3
    assert " 0 fail" in capsys.readouterr().out  # what check_model prints
    closed = fit(scope["closed"], CELLS, weights=COUNTS)
    np.testing.assert_allclose(closed.params["t"], seen[0].params["t"], atol=1e-6)
    y, params = scope["y"], seen[2].params
    assert seen[2].status == Status.CONVERGED
    density = float(params["zero"]) * (y == 0) + (1 - float(params["zero"])) * stats.poisson(float(params["rate"])).pmf(y)
    np.testing.assert_allclose(seen[2].log_likelihood, np.log(density).sum(), rtol=1e-5)
    mean = y[y > 0].mean()  # the maximum: the mean of the positive counts is that of a truncated Poisson
    np.testing.assert_allclose(params["rate"] / -np.expm1(-params["rate"]), mean, rtol=1e-4)
    snippet = section.split("Counts with more zeros")[1].split("```python")[1].split("```")[0]
    assert len([line for line in snippet.splitlines() if line.strip()]) < 15


def test_edges_stay_finite():
    """No recombinant was seen: t goes to the edge, said so, without NaN."""
    with_none = fit(CLOSED, CELLS, weights=[125, 0, 0, 34])
    assert with_none.params["t"] == 1
    assert "edge" in CLOSED.remarks(with_none.params, CELLS)[0]
    by_newton = fit(NEWTON, CELLS, weights=[125, 0, 0, 34], stop=Stop(tolerance=1e-6, max_steps=200))
    assert by_newton.params["t"] > 0.99
    assert np.isfinite(by_newton.log_likelihood)
    edge = {"t": jnp.asarray(1.0)}
    assert NEWTON.log_likelihood(edge, CELLS[:2]) == -np.inf
    moved = NEWTON.m_step(edge, NEWTON.e_step(edge, CELLS[:1]).statistics)
    assert moved["t"] == 1


def test_rows_of_any_shape():
    """A data frame, a dict and one array of the same rows; vectors and whole numbers stay what they are."""
    y = np.random.default_rng(0).normal(size=(40, 2))
    kind = np.arange(40) % 3

    def by_column(params, z, row):
        assert row["kind"].dtype.kind == "i"
        return jnp.log(0.5) + norm.logpdf(row["a"], params["mean"]) + norm.logpdf(row["b"], z + row["kind"] * 1.0)

    def by_vector(params, z, row):
        return by_column(params, z, {"a": row["y"][0], "b": row["y"][1], "kind": row["kind"]})

    params = {"mean": 0.3}
    frame = pd.DataFrame({"a": y[:, 0], "b": y[:, 1], "kind": kind})
    one, two = Latent(by_column, {"mean": Real()}, 2), Latent(by_vector, {"mean": Real()}, 2)
    ours = one.log_likelihood(params, frame, per_row=True)
    theirs = np.logaddexp.reduce([stats.norm(z + kind).logpdf(y[:, 1]) for z in (0, 1)]) + np.log(0.5)
    np.testing.assert_allclose(ours, theirs + stats.norm(0.3).logpdf(y[:, 0]), rtol=1e-12)
    np.testing.assert_allclose(two.log_likelihood(params, {"y": y, "kind": kind}, per_row=True), ours, rtol=1e-12)
    traced = jax.jit(lambda y: two.log_likelihood(params, {"y": y, "kind": kind}))(y)
    np.testing.assert_allclose(traced, ours.sum(), rtol=1e-12)


class Shape(NamedTuple):
    location: Any
    covariance: Any


@pytest.mark.slow
def test_matrices_and_newton_from_afar():
    """A two-state normal scale mixture with a covariance matrix: Newton's M-step finds the maximum that a closed one finds."""
    rng = np.random.default_rng(2)
    y = rng.normal(size=(150, 2)) @ [[2.0, 0.7], [0.0, 1.0]] * np.where(rng.random((150, 1)) < 0.3, 3.0, 1.0) + [50.0, -20.0]

    def joint(params, z, row):
        scale = jnp.where(z == 1, 9.0, 1.0)
        return jnp.log(jnp.where(z == 1, 0.3, 0.7)) + jax.scipy.stats.multivariate_normal.logpdf(
            row, params.location, scale * params.covariance
        )

    def sums(z, row):
        weight = jnp.where(z == 1, 1 / 9.0, 1.0)
        return {"weight": weight, "first": weight * row, "second": weight * jnp.outer(row, row), "rows": 1.0}

    def maximize(sums):
        mean = sums["first"] / sums["weight"]
        return Shape(mean, (sums["second"] - jnp.outer(mean, mean) * sums["weight"]) / sums["rows"])

    start = Shape(np.zeros(2), 100 * np.eye(2))
    free = Shape(Real(event_ndim=1), PositiveDefinite())
    newton = fit(Latent(joint, free, 2, start=start), y)
    closed = fit(Latent(joint, free, 2, start=start, statistics=sums, maximize=maximize), y)
    assert newton.status == closed.status == Status.CONVERGED
    np.testing.assert_allclose(newton.log_likelihood, closed.log_likelihood, atol=1e-6)
    np.testing.assert_allclose(newton.params.covariance, closed.params.covariance, atol=1e-3)


def test_prior_moves_the_mode():
    """With a beta prior the mode of an always-observed share is the posterior's; Newton's step knows the prior."""

    def joint(params, z, y):
        return jnp.log(jnp.where(z == 1, params["p"], 1 - params["p"])) + jnp.where(z == y, 0.0, -jnp.inf)

    def prior(params):
        return 4 * jnp.log(params["p"]) + 2 * jnp.log1p(-params["p"])

    found = fit(Latent(joint, {"p": Unit()}, 2, prior=prior, start={"p": 0.2}), np.array([1, 1, 0, 1]), stop=TIGHT)
    np.testing.assert_allclose(found.params["p"], (3 + 4) / (4 + 6), atol=1e-6)
    held = Latent(joint, {"p": Unit()}, 2, start={"p": 0.2}, fixed={"p": 0.25})
    assert held.n_parameters(1) == 0
    assert fit(held, np.array([1, 1, 0, 1]), params={"p": 0.25}).params["p"] == 0.25


def test_states_are_drawn_from_their_posterior():
    params = {"t": jnp.asarray(EXPECTED["params"]["t"])}
    drawn = NEWTON.sample_states(3, params, np.zeros(4000, int))
    share = float(NEWTON.posterior(params, np.zeros(1, int))[0, 1])
    assert abs(share - 0.25 * params["t"] / (0.5 + 0.25 * params["t"])) < 1e-12
    assert abs(float(drawn.mean()) - share) < 4 * (share * (1 - share) / 4000) ** 0.5
    with pytest.raises(TypeError, match="simulate=f"):
        NEWTON.sample(0, params, 3)


@pytest.mark.thorough
def test_drawn_rows_and_batch():
    def simulate(key, params):
        inflated, count = jax.random.split(key)
        y = jax.random.poisson(count, params["rate"])
        return jnp.where(jax.random.uniform(inflated) < params["zero"], 0, y)

    model = Latent(mine.zip_joint, {"zero": Unit(), "rate": Positive()}, 2, simulate=simulate)
    truth = {"zero": 0.3, "rate": 4.0}
    y = np.asarray(model.sample(0, truth, 300))
    both = fit_batch(model, [y, y[:100]], key=0, restarts=2)
    alone = [fit(model, part, params=truth) for part in (y, y[:100])]
    np.testing.assert_allclose(both.log_likelihood, [each.log_likelihood for each in alone], atol=1e-6)
    assert all(status == Status.CONVERGED for status in both.status)
    assert abs(float(alone[0].params["rate"]) - 4) < 0.5
    text = summarize(model, alone[0], y)
    assert "rate" in text
    assert "2 free parameters" in text


def bad(log_joint=mine.zip_joint, domains=None, n_states=2, data=None, **given):
    data = np.arange(4.0) if data is None else data
    model = Latent(log_joint, {"zero": Unit(), "rate": Positive()} if domains is None else domains, n_states, **given)
    return model.prepare(data)


REFUSED = {
    "no function": (lambda: bad("joint"), TypeError, "log_joint: found str"),
    "class": (lambda: bad(domains={"zero": Unit, "rate": Positive()}), TypeError, r"give an instance, Unit\(\)"),
    "no domain": (lambda: bad(domains={"rate": 1.0}), TypeError, "domains: found float"),
    "nothing": (lambda: bad(domains={}), ValueError, "domains: found no parameter"),
    "states": (lambda: bad(n_states=0), ValueError, "n_states: found 0"),
    "shape": (lambda: bad(domains={"c": PositiveDefinite()}), ValueError, "start: c is no single number"),
    "start": (lambda: bad(start={"zero": 0.3}), TypeError, "start: found PyTreeDef"),
    "start outside": (lambda: bad(start={"zero": 1.5, "rate": 1.0}), ValueError, r"start\['zero'\]: must hold numbers from 0 to 1"),
    "shared": (lambda: bad(start={"zero": 0.3, "rate": np.ones(2)}, exchangeable=True), ValueError, r"zero has shape \(\), but"),
    "half declared": (lambda: bad(statistics=lambda z, y: y), ValueError, "give both or neither"),
    "branches": (lambda: bad(lambda p, z, y: p["rate"] if z == 0 else y), TypeError, "log_joint: looks at a value that is traced"),
    "vector": (lambda: bad(lambda p, z, y: jnp.stack([y, y])), ValueError, r"log_joint: returned \(2,\); return one number"),
    "maximize": (
        lambda: bad(statistics=lambda z, y: y, maximize=lambda s: {"rate": s}), TypeError, "maximize: returned PyTreeDef",
    ),
    "maximize shape": (
        lambda: bad(statistics=lambda z, y: y, maximize=lambda s: {"rate": s, "zero": jnp.ones(3)}), ValueError,
        r"maximize: returned a leaf of shape \(3,\)",
    ),
    "unknown fixed": (lambda: bad(fixed={"mean": 1.0}), ValueError, "'mean' is no parameter of this model; there are rate, zero"),
    "text": (lambda: bad(data=np.array(["a", "b"])), TypeError, "y: found dtype <U1"),
    "lengths": (lambda: bad(data={"a": np.ones(3), "b": np.ones(4)}), ValueError, r"y\['b'\]: found 4 rows beside 3"),
    "one number": (lambda: bad(data=3.0), ValueError, r"found shape \(\)"),
    "hole": (lambda: bad(lambda p, z, y: y.sum(), data=np.array([[1, np.nan], [1, 2]])), ValueError, "row 0 has missing cells"),
    "all missing": (lambda: bad(data=np.full(3, np.nan)), ValueError, "every cell is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call()


@pytest.mark.slow
def test_poisson_is_a_latent_too():
    """The same mixture by hand and by the library."""
    y = np.random.default_rng(5).poisson([2.0, 9.0], (50, 2)).ravel()

    def joint(params, z, y):
        return jnp.log(params["weights"][z]) + poisson.logpmf(y, params["rate"][z])

    start = {"weights": np.array([0.4, 0.6]), "rate": np.array([1.0, 10.0])}
    domains = {"weights": Simplex(), "rate": Positive()}
    model = Latent(joint, domains, 2, start=start, exchangeable=True)
    ours = fit(model, y, key=0, restarts=3)
    theirs = fit(jaxem.Mixture(jaxem.Poisson(), 2), y.astype(float), key=0)
    np.testing.assert_allclose(ours.log_likelihood, theirs.log_likelihood, atol=1e-5)
    np.testing.assert_allclose(ours.params["rate"], theirs.params.components.rate[:, 0], atol=1e-2)
