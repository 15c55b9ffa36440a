"""Algorithms that move after each part of the data: what they compute, where they end, what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import gaussian, glm_regression, poisson
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy.special import logsumexp, xlogy
from scipy.stats import poisson as oracle

from jaxem import (
    Mixture,
    MixtureParams,
    Poisson,
    PoissonParams,
    Status,
    Stop,
    fit,
    gradient,
    incremental_em,
    online_em,
    prepare,
    squarem,
    variance_reduced_em,
)  # fmt: skip

ROW = next(row for row in poisson.ROWS if row.name == "mixture-poisson")
Y, START = ROW.data("float64"), ROW.params("float64")
PARTS = 6  # of the 60 rows: row i is in part i modulo 6


def in_slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


def in_thorough(value):
    return pytest.param(value, marks=pytest.mark.thorough)


def numpy_joint(params, y):
    """(n, K) log of weight times density of the observed cells, by scipy."""
    weights, rate = params
    return np.log(weights) + np.nansum(oracle.logpmf(y[:, None], rate), axis=2)


def numpy_e_step(params, y):
    """Responsibilities and log-densities of a Poisson mixture."""
    joint = numpy_joint(params, y)
    total = logsumexp(joint, axis=1)
    return np.exp(joint - total[:, None]), total


def numpy_sums(r, y):
    return np.concatenate([r.sum(axis=0)[:, None], r.T @ np.isfinite(y), r.T @ np.nan_to_num(y)], axis=1)


def numpy_m_step(sums):
    weights, (counts, totals) = sums[:, 0], np.split(sums[:, 1:], 2, axis=1)
    return weights / weights.sum(), totals / counts


def numpy_free_energy(params, r, y):
    """E_q log p(y, z) + entropy of q = r, row by row."""
    return (r * numpy_joint(params, y)).sum() - xlogy(r, r).sum()


def numpy_of(params):
    return np.asarray(params.weights), np.asarray(params.components.rate)


def close(params, expected, rtol=1e-10):
    for a, b in zip(numpy_of(params), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol)


@pytest.fixture(scope="module")
def best():
    return fit(ROW.model, Y, params=START, stop=Stop(tolerance=1e-13, max_steps=20000))


def test_incremental_em_and_its_free_energy():
    """Neal and Hinton's recursion written row by row, F by its definition."""
    params, r = numpy_of(START), numpy_e_step(numpy_of(START), Y)[0]
    bounds, ends = [], []
    for _ in range(3):
        bounds.append(numpy_free_energy(params, r, Y))
        params = numpy_m_step(numpy_sums(r, Y))
        for part in range(PARTS):
            r[part::PARTS] = numpy_e_step(params, Y[part::PARTS])[0]
            params = numpy_m_step(numpy_sums(r, Y))
        ends.append(params)
    found = fit(ROW.model, Y, params=START, algorithm=incremental_em(PARTS), stop=Stop(tolerance=0.0, max_steps=3))
    close(found.params, ends[-1])
    history = np.asarray(found.history)
    np.testing.assert_allclose(history[:3], bounds, rtol=1e-12)
    assert found.passes == 5  # one to open, three, one to evaluate
    log_likelihood = numpy_e_step(ends[-1], Y)[1].sum()
    np.testing.assert_allclose(found.log_likelihood, log_likelihood, rtol=1e-12)
    assert (np.diff(np.append(bounds, log_likelihood)) > 0).all()


def test_online_em():
    """Cappe and Moulines' recursion, first M-step after enough rows, and the average, in NumPy."""
    algorithm = online_em(exponent=0.7, batch_size=10)
    key = jax.random.key(3)
    rows = prepare(ROW.model, Y)
    state, info = jax.jit(algorithm.step)(ROW.model, algorithm.init(ROW.model, START, rows, key), rows)
    order = np.asarray(jax.random.permutation(jax.random.split(key)[1], PARTS))
    wait = min(-(-2 * ROW.model.n_parameters(rows) * PARTS // 60), PARTS // 2)
    params, sums, told, average = numpy_of(START), 0, 0.0, None
    for k, part in enumerate(order, 1):
        r, log_density = numpy_e_step(params, Y[part::PARTS])
        told += log_density.sum()
        gain = 1 / k if k <= wait else k**-0.7
        sums = sums + gain * (PARTS * numpy_sums(r, Y[part::PARTS]) - sums)
        params = numpy_m_step(sums) if k >= wait else params
        moved = MixtureParams(jnp.asarray(params[0]), PoissonParams(jnp.asarray(params[1])))
        u = np.asarray(ROW.model.to_unconstrained(moved))
        share = 4 / (k - wait + 4)
        average = u if k <= wait else (1 - share) * average + share * u
    close(state.params, params)
    np.testing.assert_allclose(state.average, average, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(info.log_likelihood, told, rtol=1e-12)
    assert info.passes == 1
    end = algorithm.conclude(ROW.model, state, rows)
    np.testing.assert_allclose(ROW.model.to_unconstrained(end.params), average, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(end.log_likelihood, numpy_e_step(numpy_of(end.params), Y)[1].sum(), rtol=1e-12)


def test_from_the_optimum_they_stay(best):
    for algorithm in (incremental_em(PARTS), variance_reduced_em(PARTS)):
        again = fit(ROW.model, Y, params=best.params, algorithm=algorithm, stop=Stop(tolerance=1e-8))
        assert again.status == Status.CONVERGED
        assert again.steps <= 5
        close(again.params, numpy_of(best.params), 1e-6)


def test_they_end_where_em_does(best):
    for algorithm in (incremental_em(PARTS), variance_reduced_em(PARTS)):
        found = fit(ROW.model, Y, params=START, algorithm=algorithm, stop=Stop(tolerance=1e-10))
        assert found.status == Status.CONVERGED
        np.testing.assert_allclose(found.log_likelihood, best.log_likelihood, atol=1e-7)


@pytest.mark.slow
def test_online_em_of_few_rows():
    """500 rows cut within their one chunk: near the maximum after some visits, and the same again from the same key."""
    y = ROW.simulate(500, 1)
    top = fit(ROW.model, y, params=START).log_likelihood
    found, again = (fit(ROW.model, y, params=START, key=7, algorithm=online_em(), stop=Stop(max_steps=20)) for _ in range(2))
    assert found.status == Status.MAX_STEPS
    assert found.passes == 21
    assert top - found.log_likelihood < 500 * 1e-3
    jax.tree.map(np.testing.assert_array_equal, found.params, again.params)


def test_an_optimiser_that_diverges():
    for algorithm in (gradient(optax.sgd(1e6)), gradient(optax.sgd(1e6), batch_size=10)):
        found = fit(ROW.model, Y, params=START, algorithm=algorithm, stop=Stop(max_steps=40))
        assert found.status == Status.NONFINITE
        jax.tree.map(np.testing.assert_array_equal, found.params, START)
        np.testing.assert_allclose(found.log_likelihood, numpy_e_step(numpy_of(START), Y)[1].sum(), rtol=1e-12)


@pytest.mark.slow
def test_batches_of_a_gradient(best):
    """One batch of all rows is the full batch; small ones with a falling rate end near the maximum."""
    stop = Stop(tolerance=0.0, max_steps=5)
    whole, one = (
        fit(ROW.model, Y, params=START, algorithm=gradient(optax.adam(0.05), batch_size=size), stop=stop) for size in (None, 60)
    )
    close(one.params, numpy_of(whole.params), 1e-9)
    falling = optax.adam(optax.cosine_decay_schedule(0.05, 400))
    found = fit(ROW.model, Y, params=START, algorithm=gradient(falling, batch_size=10), key=2, stop=Stop(0.0, max_steps=60))
    np.testing.assert_allclose(found.log_likelihood, best.log_likelihood, atol=0.05)


@pytest.mark.thorough
def test_parts_without_weight():
    """A part in which all rows have weight 0 changes nothing."""
    weights = np.where(np.arange(60) % PARTS == 2, 0.0, 1.0)
    top = fit(ROW.model, Y, params=START, weights=weights, stop=Stop(tolerance=1e-11, max_steps=5000)).log_likelihood
    for algorithm in (incremental_em(PARTS), variance_reduced_em(PARTS), online_em(batch_size=10)):
        stop = Stop(max_steps=60, tolerance=1e-10)
        found = fit(ROW.model, Y, params=START, weights=weights, algorithm=algorithm, stop=stop)
        assert top - found.log_likelihood < (0.05 if not np.isfinite(found.gap) else 1e-6)


@pytest.mark.parametrize("make", [in_slow(incremental_em), in_thorough(variance_reduced_em)])
def test_statistics_in_one_frame(make):
    """Where sums are taken about the params, those of different params are brought together: whitened, with holes, float32."""
    row = next(row for row in gaussian.ROWS if row.name == "mixture-full-whitened")
    y, params = row.data("float32"), row.params("float32")
    top = fit(row.model, y, params=params, stop=Stop(tolerance=1e-4))
    found = fit(row.model, y, params=params, algorithm=make(PARTS), stop=Stop(tolerance=1e-4))
    assert found.status == Status.CONVERGED, found.explain()
    np.testing.assert_allclose(found.log_likelihood, top.log_likelihood, atol=0.02)


@pytest.mark.parametrize("make", [in_slow(online_em), in_thorough(incremental_em)])
def test_any_number_of_devices(make):
    """The batches are the same rows in the same order."""
    model, y = Mixture(Poisson(), 3), ROW.simulate(9000, 1)
    mesh = NamedSharding(Mesh(np.array(jax.devices("cpu")[:8]), ("rows",)), PartitionSpec("rows"))
    algorithm = make()
    one, many = (
        fit(model, prepare(model, y, sharding=s), params=START, key=1, algorithm=algorithm, stop=Stop(max_steps=2))
        for s in (None, mesh)
    )
    close(many.params, numpy_of(one.params), 1e-9)


@pytest.mark.thorough
def test_incremental_em_can_be_accelerated(best):
    found = fit(ROW.model, Y, params=START, algorithm=squarem(incremental_em(PARTS)), stop=Stop(tolerance=1e-10))
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.log_likelihood, best.log_likelihood, atol=1e-7)


def test_bad_input():
    for exponent in (0.5, 1.1, -1):
        with pytest.raises(ValueError, match=r"\(0.5, 1\]"):
            online_em(exponent=exponent)
    with pytest.raises(TypeError, match="exponent"):
        online_em(exponent="0.6")
    for make in (lambda: online_em(batch_size=0), lambda: incremental_em(0), lambda: gradient(optax.sgd(0.1), batch_size=0)):
        with pytest.raises(ValueError, match="found 0"):
            make()
    with pytest.raises(ValueError, match="gain"):
        variance_reduced_em(gain=0)
    with pytest.raises(ValueError, match="61 parts for 60 rows"):
        fit(ROW.model, Y, params=START, algorithm=incremental_em(61))
    row = next(row for row in glm_regression.ROWS if not row.model.closed)
    for algorithm in (online_em(), incremental_em(PARTS), variance_reduced_em(PARTS)):
        with pytest.raises(ValueError, match=r"expansion about the params.*take em\(\)"):
            fit(row.model, row.data("float64"), params=row.params("float64"), algorithm=algorithm)
    assert online_em() == online_em(0.6)
    assert incremental_em(4) == incremental_em(n_blocks=4)
