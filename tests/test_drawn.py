"""States that are drawn, tempered or hardened: the laws of `Model.assign` on every model, and enumeration beside it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gaussian, hidden_markov, poisson
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import stats
from table import N, collect, take

import jaxem
from jaxem import HiddenMarkov, HiddenMarkovParams, Mixture, MixtureParams, Poisson, PoissonParams
from jaxem.assign import Drawn, Hardest, Soft

DRAWS = 200
QUICK = ("mixture-poisson", "hidden-markov-poisson")


def some_rows(quick=QUICK, slow=True):
    for row in collect():
        mark = () if row.name in quick else pytest.mark.slow if row.core and slow else pytest.mark.thorough
        yield pytest.param(row, id=row.name, marks=mark)


def close(a, b, rtol=1e-12):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * max(np.abs(y).max(initial=0), 1e-300))


@jax.jit
def drawn(model, keys, params, data):
    return jax.lax.map(lambda key: model.sample_statistics(key, params, data), keys)


@pytest.mark.parametrize("row", list(some_rows()))
def test_means_of_draws_are_expectations(row):
    """E[S(z) | y] is the E-step's. The bound is the quantile of Student's t at which one row of the table in 10^4 would fail,
    with the variance of at least one draw of a unit among all."""
    y, params = row.data("float64"), row.params("float64")
    data = jaxem.prepare(row.model, y, weights=row.weights("float64"))
    model = row.model.settle(params, data)
    expected = model.e_step(params, data)
    found = drawn(model, jax.random.split(jax.random.key(7), DRAWS), params, data)
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=64 * row.eps("float64"))
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(expected.statistics))
    bound = stats.t.isf(1e-4 / size / 2, DRAWS - 1)
    for some, mean in zip(jax.tree.leaves(found.statistics), jax.tree.leaves(expected.statistics), strict=True):
        some, mean = np.asarray(some), np.asarray(mean)
        if not row.model.draws:
            close(some, np.broadcast_to(mean, some.shape))
            continue
        error = np.sqrt((some.var(axis=0, ddof=1) + 1 / DRAWS) / DRAWS) + 1e-9 * np.abs(mean).max(initial=0)
        assert (np.abs(some.mean(axis=0) - mean) <= bound * error).all()


@pytest.mark.parametrize("row", list(some_rows(QUICK[:1], slow=False)))
def test_tempering(row):
    """beta = 1 is the E-step; the tempered log-likelihood falls with beta, to the classification log-likelihood, which lies
    at most n log(K) / beta below it: a sum of K^n terms is at most K^n times the largest."""
    y, params = row.data("float64"), row.params("float64")
    data = jaxem.prepare(row.model, y)
    model = row.model.settle(params, data)
    expected = model.e_step(params, data)
    bound = 256 * row.eps("float64")
    assign = jax.jit(lambda how: model.assign(how, params, data))
    plain, sharp = assign(Soft(jnp.asarray(1.0))), assign(Soft(jnp.asarray(4.0)))
    hard = assign(Hardest())
    close(plain[:2], tuple(expected), bound)
    for known in (plain, sharp, hard):
        np.testing.assert_allclose(known.log_likelihood, expected.log_likelihood, rtol=bound)
    values = [float(each.attained) for each in (plain, sharp, hard)]
    slack = bound * abs(values[-1])
    assert values[0] + slack >= values[1] >= values[2] - slack
    # a semi-Markov state has an age too, a regime those before it
    states = np.log(row.model.n_states) * (1 + getattr(row.model, "max_duration", 1) + getattr(row.model, "order", 0))
    assert values[1] <= values[2] + N * states / 4 + slack


@pytest.mark.parametrize("row", [poisson.ROWS[0], pytest.param(gaussian.ROWS[0], marks=pytest.mark.slow)], ids=lambda r: r.name)
def test_drawn_by_number_of_the_row(row):
    """Devices, blocks and padding change nothing: eight devices, rows whose neighbours are left out, lanes of a batch."""
    y, params = row.data("float64"), row.params("float64")
    mesh = NamedSharding(Mesh(np.array(jax.devices("cpu")[:8]), ("rows",)), PartitionSpec("rows"))
    key = jax.random.key(3)
    whole = row.model.sample_statistics(key, params, jaxem.prepare(row.model, y))
    close(row.model.sample_statistics(key, params, jaxem.prepare(row.model, y, sharding=mesh)), whole)
    first = np.where(np.arange(N) < 40, 1.0, 0.0)
    alone = row.model.sample_statistics(key, params, take(y, slice(0, 40)))
    close(row.model.sample_statistics(key, params, jaxem.prepare(row.model, y, weights=first)), alone)
    batch = row.model.prepare_batch([y, take(y, slice(0, 40))])
    lanes = jax.vmap(lambda rows: row.model.sample_statistics(key, params, rows))(batch)
    close(jax.tree.map(lambda leaf: leaf[0], lanes), whole)
    close(jax.tree.map(lambda leaf: leaf[1], lanes), alone)
    assert not np.allclose(whole.statistics.weights, row.model.sample_statistics(4, params, y).statistics.weights)


@pytest.mark.slow
def test_paths_drawn_by_number_of_the_row():
    """The same for sequences, in lanes that are filled up."""
    row = next(row for row in hidden_markov.ROWS if row.name == "hidden-markov-poisson")
    y, params = row.data("float64"), row.params("float64")
    whole = row.model.sample_statistics(5, params, jaxem.prepare(row.model, y))
    batch = row.model.prepare_batch([y, take(y, slice(0, 40))])
    lanes = jax.vmap(lambda rows: row.model.sample_statistics(jax.random.key(5), params, rows))(batch)
    close(jax.tree.map(lambda leaf: leaf[0], lanes), whole)
    close(jax.tree.map(lambda leaf: leaf[1], lanes), row.model.sample_statistics(5, params, take(y, slice(0, 40))))


COUNTS = np.array([[0.0], [3.0], [7.0], [4.0]])
RATES = np.array([[1.0], [4.0], [6.0]])
INITIAL = np.array([0.5, 0.3, 0.2])
MOVES = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.0, 0.4, 0.6]])


def weighed(joint, how):
    """Probabilities of all configurations of states, and what is attained, from their log joint densities."""
    if isinstance(how, Hardest):
        return np.eye(len(joint))[joint.argmax()], joint.max()
    tempered = float(how.beta) * joint
    total = np.logaddexp.reduce(tempered)
    return np.exp(tempered - total), total / float(how.beta)


@pytest.mark.parametrize("how", [Soft(jnp.asarray(0.5)), Soft(jnp.asarray(3.0)), Hardest()], ids=["half", "three", "hard"])
def test_enumeration_of_a_mixture(how):
    params = MixtureParams(jnp.asarray(INITIAL), PoissonParams(jnp.asarray(RATES)))
    found = Mixture(Poisson(), 3).assign(how, params, COUNTS[:3])
    joint = stats.poisson.logpmf(COUNTS[:3], RATES[:, 0]) + np.log(INITIAL)
    each = [weighed(own, how) for own in joint]
    np.testing.assert_allclose(found.statistics.weights, sum(r for r, _ in each), atol=1e-13)
    np.testing.assert_allclose(found.attained, sum(value for _, value in each), rtol=1e-13)
    np.testing.assert_allclose(found.log_likelihood, np.logaddexp.reduce(joint, axis=1).sum(), rtol=1e-13)


@pytest.mark.parametrize("how", [Soft(jnp.asarray(0.5)), Soft(jnp.asarray(3.0)), Hardest()], ids=["half", "three", "hard"])
def test_enumeration_of_a_chain(how):
    params = HiddenMarkovParams(jnp.asarray(INITIAL), jnp.asarray(MOVES), PoissonParams(jnp.asarray(RATES)))
    found = HiddenMarkov(Poisson(), 3).assign(how, params, COUNTS)
    emission = stats.poisson.logpmf(COUNTS, RATES[:, 0])
    paths = np.array(list(itertools.product(range(3), repeat=len(COUNTS))))
    with np.errstate(divide="ignore"):
        joint = np.log(INITIAL)[paths[:, 0]] + np.log(MOVES)[paths[:, :-1], paths[:, 1:]].sum(axis=1)
    joint = joint + emission[np.arange(len(COUNTS)), paths].sum(axis=1)
    share, attained = weighed(joint, how)
    one = np.eye(3)[paths]
    np.testing.assert_allclose(found.statistics.initial, share @ one[:, 0], atol=1e-13)
    np.testing.assert_allclose(found.statistics.transition, np.einsum("p,ptj,ptk->jk", share, one[:, :-1], one[:, 1:]), atol=1e-13)
    np.testing.assert_allclose(found.attained, attained, rtol=1e-13)
    np.testing.assert_allclose(found.log_likelihood, np.logaddexp.reduce(joint), rtol=1e-13)


def test_a_row_without_states_is_left_out():
    """A row that no component can produce has no state to draw."""
    params = MixtureParams(jnp.array([0.4, 0.6]), PoissonParams(jnp.zeros((2, 1))))
    for how in (Drawn(jax.random.key(0)), Hardest(), Soft(jnp.asarray(2.0))):
        found = Mixture(Poisson(), 2).assign(how, params, np.array([[0.0], [3.0]]))
        np.testing.assert_allclose(found.statistics.weights.sum(), 1)
        assert found.log_likelihood == -np.inf


@pytest.mark.slow
def test_single_precision():
    row = poisson.ROWS[0]
    y, params = row.data("float32"), row.params("float32")
    found = row.model.sample_statistics(0, params, y)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}
    np.testing.assert_allclose(found.statistics.weights.sum(), N)
