"""Parts of prepared rows: together they are the whole, alone they are rows like any others."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import gaussian, hidden_markov, poisson
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from table import some

from jaxem import (
    Gaussian,
    HiddenMarkov,
    HiddenMarkovParams,
    Mixture,
    Poisson,
    PoissonParams,
    Sequences,
    fit,
    gradient,
    online_em,
    parts,
    prepare,
)  # fmt: skip

part = jax.jit(parts.part, static_argnums=2)


def named(rows, name):
    return next(row for row in rows if row.name == name)


def sharding():
    return NamedSharding(Mesh(np.array(jax.devices("cpu")[:8]), ("rows",)), PartitionSpec("rows"))


def held(rows, count):
    """Which rows each part holds, told by weights that are all different."""
    rows = rows.weigh(1.0 + np.arange(parts.units(rows)))
    each = [part(rows, index, count) for index in range(count)]
    assert len({jax.tree.structure(one) for one in each}) == 1
    assert len({tuple(leaf.shape for leaf in jax.tree.leaves(one)) for one in each}) == 1
    found = []
    for one in each:
        weights = np.concatenate([np.asarray(section.weights).ravel() for section in one.sections])
        np.testing.assert_array_equal(np.asarray(one.weights)[np.asarray(one.informative)].sum(), weights.sum())
        found.append((weights[weights > 0] - 1).astype(int))
    return found


@pytest.mark.parametrize(("n", "count"), some([(60, 60), (500, 7), (3000, 10), (9000, 4), (9000, 20)], [(500, 7), (9000, 20)]))
def test_each_row_is_in_one_part(n, count):
    rows = prepare(Mixture(Poisson(), 2), np.arange(float(n))[:, None])
    found = held(rows, count)
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(n))
    assert max(len(one) for one in found) <= 1.3 * n / count + 1
    if n == 500:  # few chunks: dealt row by row
        for index, one in enumerate(found):
            assert (one % count == index).all()


@pytest.mark.parametrize(("n", "count"), some([(60, 4), (6000, 12)], [(60, 4)]))
def test_each_row_is_in_one_part_whatever_is_missing(n, count):
    y = gaussian.simulate(n, holes=0.3)
    y[np.isnan(y).all(axis=1), 0] = 0.5
    found = held(prepare(Mixture(Gaussian(), 2), y), count)
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(n))


@pytest.mark.parametrize("count", some([3, 16], [3]))
def test_devices_hold_the_same_parts(count):
    model, y = Mixture(Poisson(), 2), np.arange(20000.0)[:, None]
    one, many = held(prepare(model, y), count), held(prepare(model, y, sharding=sharding()), count)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(np.sort(a), np.sort(b))


CASES = [
    named(poisson.ROWS, "mixture-poisson"),
    pytest.param(named(gaussian.ROWS, "mixture-full-whitened"), marks=pytest.mark.slow),
    pytest.param(named(hidden_markov.ROWS, "hidden-markov-poisson"), marks=pytest.mark.slow),
    pytest.param(named(hidden_markov.ROWS, "hidden-markov-gaussian"), marks=pytest.mark.thorough),
]


@pytest.mark.parametrize("row", CASES, ids=lambda row: row.name)
def test_sums_over_parts_are_those_over_the_whole(row):
    """To rounding of sums in another order; in the frame of other params too."""
    params = row.params("float64")
    rows = prepare(row.model, row.data("float64"))
    moved = row.model.m_step(params, row.model.e_step(params, rows).statistics)
    local = row.model.localize(params, rows, shared=True)
    each = [local.e_step(moved, part(rows, index, 7)) for index in range(7)]
    total = jax.tree.map(lambda *leaves: sum(leaves), *each)
    whole = local.e_step(moved, rows)
    for a, b in zip(jax.tree.leaves(total), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=64 * row.eps("float64") * max(1, np.abs(b).max()))
    own = row.model.localize(moved, rows)
    exact = own.m_step(moved, own.e_step(moved, rows).statistics)
    for a, b in zip(jax.tree.leaves(local.m_step(moved, whole.statistics)), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_sequences_of_different_lengths():
    """Whole sequences, each in one part, those of a lane together."""
    rng = np.random.default_rng(0)
    lengths = np.r_[40, rng.integers(1, 40, 30)]
    model = HiddenMarkov(Poisson(), 2)
    y = rng.poisson(3.0, (lengths.sum(), 1)).astype(float)
    rows = prepare(model, Sequences(y, lengths)).weigh(1.0 + np.arange(31))
    params = model.init(0, rows)
    count = parts.most_parts(rows)
    assert 1 < count < 31
    likelihood = jax.jit(model.log_likelihood, static_argnames="per_row")
    whole = np.asarray(likelihood(params, rows, per_row=True)) * (1 + np.arange(31))
    each = [float(likelihood(params, part(rows, index, count))) for index in range(count)]
    np.testing.assert_allclose(sum(each), whole.sum(), rtol=1e-12)
    assert parts.passes(rows, count) == 1
    with_holes = prepare(model, Sequences(np.where(rng.random(y.shape) < 0.1, np.nan, y), lengths))
    assert parts.passes(with_holes, 3) in (1, 3)


def test_a_part_is_rows_like_others():
    row = CASES[0]
    rows, params = prepare(row.model, row.data("float64")), row.params("float64")
    mine = part(rows, 2, 7)
    weights = np.asarray(mine.weights)
    each = np.asarray(row.model.log_likelihood(params, mine, per_row=True))
    np.testing.assert_allclose(weights @ each, row.model.log_likelihood(params, mine), rtol=1e-12)
    assert row.model.posterior(params, mine).shape == (mine.n, 3)


def test_what_cannot_be_cut():
    rows = prepare(Mixture(Poisson(), 2), np.arange(60.0)[:, None])
    with pytest.raises(ValueError, match="61 parts for 60 rows"):
        parts.check_parts(rows, 61, "n_blocks")
    one = np.random.default_rng(0).poisson(3.0, (50, 1)).astype(float)
    start = HiddenMarkovParams(jnp.ones(2) / 2, jnp.ones((2, 2)) / 2, PoissonParams(jnp.array([[1.0], [3.0]])))
    for algorithm in (online_em(batch_size=10), gradient(optax.adam(0.01), batch_size=10)):
        with pytest.raises(ValueError, match="single sequence is not cut"):
            fit(HiddenMarkov(Poisson(), 2), one, params=start, algorithm=algorithm)
    assert parts.n_parts(rows, 1000) == 1
