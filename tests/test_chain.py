"""Recursions over Markov chains: against all paths written out, against one another, where numbers underflow, across lanes."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import Gaussian, GaussianParams, HiddenMarkov, HiddenMarkovParams, sequences
from jaxem.kernels import chain, parallel_chain
from jaxem.kernels.chain import Chain, Filtered
from jaxem.sequences import block_order, lay_lanes, out_of_blocks

K = 3
INITIAL = np.array([0.5, 0.2, 0.3])
TRANSITION = np.array([[0.7, 0.2, 0.1], [0.15, 0.8, 0.05], [0.25, 0.25, 0.5]])
FORWARD = np.array([[0.7, 0.2, 0.1], [0.0, 0.8, 0.2], [0.0, 0.0, 1.0]])  # states are left for good
LENGTHS = [4, 2, 5, 1]  # in two lanes of six steps


SMOOTHERS = {
    "scaled": jax.jit(chain.smooth), "logarithms": jax.jit(chain.smooth_logs), "parallel": jax.jit(parallel_chain.smooth)
}  # fmt: skip
FILTERS = {
    "scaled": jax.jit(chain.filtered), "logarithms": jax.jit(chain.filtered_logs), "parallel": jax.jit(parallel_chain.filtered)
}  # fmt: skip
likeliest = jax.jit(chain.likeliest)


def enumerate_paths(emission, initial=INITIAL, transition=TRANSITION):
    """Paths (P, T) of one sequence (T, K) and their log joint density with the data (P,)."""
    steps, k = emission.shape
    paths = np.array(list(product(range(k), repeat=steps)))
    with np.errstate(divide="ignore"):
        joint = np.log(initial)[paths[:, 0]] + emission[np.arange(steps), paths].sum(axis=1)
        joint += np.log(transition)[paths[:, :-1], paths[:, 1:]].sum(axis=1)
    return paths, joint


def expected(emission, transition=TRANSITION):
    """Filtered and smoothed (T, K), pairs (K, K), log p(y_1..t) (T,) of one sequence."""
    steps, k = emission.shape
    filtered, totals = [], []
    for t in range(1, steps + 1):
        paths, joint = enumerate_paths(emission[:t], transition=transition)
        mass = np.exp(joint)
        totals.append(np.log(mass.sum()))
        filtered.append(np.bincount(paths[:, -1], mass, k) / mass.sum())
    mass = mass / mass.sum()
    smoothed = np.array([np.bincount(paths[:, t], mass, k) for t in range(steps)])
    pairs = np.zeros((k, k))
    for t in range(1, steps):
        np.add.at(pairs, (paths[:, t - 1], paths[:, t]), mass)
    return np.array(filtered), smoothed, pairs, np.array(totals)


def in_lanes(parts, fill=0.0):
    """Sequences (T, K) in the lanes that they are packed in: (T, K, B), and the lanes."""
    lanes = lay_lanes(np.array([len(part) for part in parts]))
    rows = np.concatenate([*parts, np.full((1, parts[0].shape[1]), fill)])
    return np.moveaxis(rows[lanes.slot], -1, 1), lanes


def of_sequences(values, lanes):
    """(T, ..., B) -> one array a sequence."""
    rows = np.moveaxis(np.asarray(values), -1, 1).reshape(-1, *values.shape[1:-1])[np.asarray(lanes.place)]
    return np.split(rows, np.asarray(lanes.start)[1:])


def case(zeros=False, seed=0):
    rng = np.random.default_rng(seed)
    parts = [2 * rng.normal(size=(t, K)) for t in LENGTHS]
    if zeros:
        parts[0][1, 0] = parts[0][2, 2] = parts[2][0, 1] = parts[2][4, 0] = -np.inf
    return parts


def links_of(parts, transition=TRANSITION, dtype=np.float64):
    emission, lanes = in_lanes(parts)
    links = Chain(*(jnp.asarray(leaf, dtype) for leaf in (emission, lanes.first, INITIAL, transition)))
    return links._replace(first=jnp.asarray(lanes.first)), lanes


def weights_of(lanes, weights):
    padded = np.append(np.asarray(weights, float)[np.asarray(lanes.sequence)], 0)
    return jnp.asarray(padded[lanes.slot])


@pytest.mark.parametrize("transition", [TRANSITION, FORWARD], ids=["ergodic", "forward"])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("how", SMOOTHERS)
def test_all_paths(how, zeros, transition):
    parts, weights = case(zeros), [1.0, 2.0, 0.5, 3.0]
    links, lanes = links_of(parts, transition)
    smooth, filtered = SMOOTHERS[how](links, weights_of(lanes, weights)), FILTERS[how](links)
    path, steps = likeliest(links)
    total = np.zeros((K, K))
    found = [of_sequences(leaf, lanes) for leaf in (filtered.state, smooth.state, filtered.log_norm, smooth.log_norm, path, steps)]
    for number, part in enumerate(parts):
        forward, both, pairs, totals = expected(part, transition)
        own = [each[number] for each in found]
        np.testing.assert_allclose(own[0], forward, atol=1e-14)
        np.testing.assert_allclose(own[1], both, atol=1e-14)
        np.testing.assert_allclose(own[2].cumsum(), totals, rtol=1e-12)
        np.testing.assert_allclose(own[3].cumsum(), totals, rtol=1e-12)
        total += weights[number] * pairs
        paths, joint = enumerate_paths(part, transition=transition)
        np.testing.assert_array_equal(own[4], paths[joint.argmax()])
        np.testing.assert_allclose(own[5].sum(), joint.max(), rtol=1e-12)
    np.testing.assert_allclose(smooth.pairs, total, atol=1e-13)


def test_drawn_paths_have_their_posterior():
    parts = case(zeros=True)
    links, lanes = links_of(parts)
    n = 40_000
    chances = jax.random.uniform(jax.random.key(0), (n, *links.first.shape), links.emission.dtype)
    draws = np.asarray(jax.jit(jax.vmap(chain.draw, (0, None)))(chances, links))
    rows = draws.reshape(n, -1)[:, np.asarray(lanes.place)]
    for part, own in zip(parts, np.split(rows, np.asarray(lanes.start)[1:], axis=1), strict=True):
        _, joint = enumerate_paths(part)
        p = np.exp(joint) / np.exp(joint).sum()
        count = np.bincount(own @ K ** np.arange(len(part))[::-1], minlength=len(p))
        assert not count[p == 0].any()
        seen = n * p > 5
        squared = ((count - n * p)[seen] ** 2 / (n * p)[seen]).sum()
        assert squared < seen.sum() + 5 * np.sqrt(2 * seen.sum())  # chi-square, five standard deviations


@pytest.mark.parametrize("how", SMOOTHERS)
def test_impossible_sequence(how):
    """It has likelihood 0; the others in its lane know nothing of it."""
    parts = case()
    parts[0][2] = -np.inf
    links, lanes = links_of(parts)
    weights = weights_of(lanes, np.ones(4))
    smooth, filtered = SMOOTHERS[how](links, weights), FILTERS[how](links)
    for found in (*smooth, *filtered):
        assert not np.isnan(found).any()
    totals = [part.sum() for part in of_sequences(smooth.log_norm, lanes)]
    assert totals[0] == -np.inf
    for number in (1, 2, 3):
        np.testing.assert_allclose(totals[number], expected(parts[number])[3][-1], rtol=1e-12)
        np.testing.assert_allclose(of_sequences(smooth.state, lanes)[number], expected(parts[number])[1], atol=1e-14)


@pytest.mark.parametrize("how", ["scaled", "parallel"])
def test_far_emissions(how):
    """Data that only unlikely states explain: exp(emission) is 0 in every number format."""
    parts = [part * 400 for part in case()]
    links, lanes = links_of(parts, FORWARD)
    weights = weights_of(lanes, np.ones(4))
    for found, exact in zip(SMOOTHERS[how](links, weights), SMOOTHERS["logarithms"](links, weights), strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-12)
    for found, exact in zip(FILTERS[how](links), FILTERS["logarithms"](links), strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("how", ["scaled", pytest.param("parallel", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_underflowed_comes_back(how, dtype):
    """States that never change: the first half says 0 by more than the format holds, the second 1 by more still."""
    half, each = 200, 2.0 if dtype == np.float32 else 10.0
    emission = np.zeros((2 * half, 2, 1))
    emission[:half, 1], emission[half:, 0] = -each, -1.5 * each
    first = jnp.zeros((2 * half, 1), bool).at[0].set(True)
    links = Chain(jnp.asarray(emission, dtype), first, jnp.full(2, 0.5, dtype), jnp.eye(2, dtype=dtype))
    smooth, filtered = SMOOTHERS[how](links, jnp.ones((2 * half, 1), dtype)), FILTERS[how](links)
    total = np.log(0.5) - each * half  # all in state 1; all in state 0 is e^(each half / 2) times less likely
    for found in (smooth, filtered):
        np.testing.assert_allclose(found.log_norm.sum(), total, rtol=1e-5 if dtype == np.float32 else 1e-12)
    np.testing.assert_allclose(smooth.state[:, 1], 1, rtol=1e-5)
    np.testing.assert_allclose(smooth.pairs, [[0, 0], [0, 2 * half - 1]], atol=0.05)


def long_chain(steps, dtype):
    rng = np.random.default_rng(0)
    first = np.zeros((steps, 1), bool)
    first[0] = True
    leaves = (5 * rng.normal(size=(steps, K, 1)) - 50, INITIAL, TRANSITION)
    emission, initial, transition = (jnp.asarray(leaf.astype(dtype)) for leaf in leaves)
    return Chain(emission, jnp.asarray(first), initial, transition)


def test_long_sequence_in_single_precision():
    steps = 100_000
    ones = jnp.ones((steps, 1), jnp.float32)
    single, double = (SMOOTHERS["scaled"](long_chain(steps, dtype), ones.astype(dtype)) for dtype in (np.float32, np.float64))
    np.testing.assert_allclose(np.sum(single.log_norm, dtype=np.float64), double.log_norm.sum(), rtol=1e-6)
    np.testing.assert_allclose(single.state, double.state, atol=1e-4)
    np.testing.assert_allclose(single.pairs, double.pairs, rtol=1e-3)


@pytest.mark.slow
def test_long_sequence_parallel_in_single_precision():
    steps = 20_000
    links, exact = long_chain(steps, np.float32), long_chain(steps, np.float64)
    found = SMOOTHERS["parallel"](links, jnp.ones((steps, 1), jnp.float32))
    right = SMOOTHERS["scaled"](exact, jnp.ones((steps, 1)))
    np.testing.assert_allclose(np.sum(found.log_norm, dtype=np.float64), right.log_norm.sum(), rtol=1e-6)
    np.testing.assert_allclose(found.state, right.state, atol=1e-4)


def test_gradient_of_the_likelihood():
    """Of all three ways, by the transitions, is the expected pairs over the transitions (Fisher)."""
    parts = case()
    links, lanes = links_of(parts)
    weights = weights_of(lanes, np.ones(4))

    def total(transition, log_norms):
        return (log_norms(links._replace(transition=transition)) * weights).sum()

    pairs = SMOOTHERS["scaled"](links, weights).pairs
    for log_norms in (chain.log_norms, parallel_chain.log_norms):
        gradient = jax.jit(jax.grad(total), static_argnums=1)(links.transition, log_norms)
        np.testing.assert_allclose(gradient * TRANSITION, pairs, rtol=1e-9)


# the model on each recursion


def series(seed=0):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(t, 2)) for t in (17, 3, 40, 1, 1, 25, 33, 31, 9)]
    parts[0][3, 0] = parts[2][4, 1] = np.nan
    parts[3][0] = parts[5][7] = np.nan
    return parts


@pytest.fixture(params=[pytest.param((1, 1), marks=pytest.mark.slow), (3, 2)], ids=["one block", "blocks"])
def grid(request, monkeypatch):
    blocks, groups = request.param

    def cut(steps, lanes, width):
        return groups, blocks, -(-steps // blocks), -(-lanes // groups)

    monkeypatch.setattr(sequences, "_grid", cut)
    return groups * blocks


@pytest.mark.parametrize("transition", [TRANSITION, FORWARD], ids=["ergodic", "forward"])
def test_recursions_agree(grid, transition):
    rng = np.random.default_rng(1)
    params = HiddenMarkovParams(INITIAL, transition, GaussianParams(3 * rng.normal(size=(K, 2)), np.ones((K, 2))))
    found = {}
    for recursion in ("sequential", "checkpointed", "parallel"):
        model = HiddenMarkov(Gaussian("diagonal"), K, recursion=recursion)
        rows = jaxem.prepare(model, series(), weights=np.linspace(0.5, 2, 9))
        assert np.prod(rows.lanes.grid[:2]) == grid
        found[recursion] = model.e_step(params, rows)
    for other in ("checkpointed", "parallel"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), found["sequential"], found[other])
    # the sums over blocks are those of the smoothed states
    expectation, state = found["sequential"], model.smooth(params, rows)
    counted = np.repeat(np.linspace(0.5, 2, 9), [len(part) for part in series()])
    observed = ~np.isnan(np.concatenate(series()))
    weight = np.einsum("nk,nd,n->kd", state, observed, counted)
    np.testing.assert_allclose(expectation.statistics.emissions.weight, weight, rtol=1e-9)


def test_underflow_in_blocks(grid):
    """Far data in one block send all blocks through logarithms."""
    parts = series()
    parts[2][20] = 60.0
    given = (INITIAL, FORWARD, GaussianParams(np.array([[0.0, 0], [1, 0], [60, 60]]), np.full((K, 2), 0.3)))
    params = HiddenMarkovParams(*given)
    found = []
    for recursion in ("sequential", "checkpointed"):
        model = HiddenMarkov(Gaussian("diagonal"), K, recursion=recursion)
        rows = jaxem.prepare(model, parts)
        found.append(model.e_step(params, rows))
        total = model.log_likelihood(params, rows, per_row=True).sum()
        np.testing.assert_allclose(found[-1].log_likelihood, total, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), *found)
    assert np.isfinite(found[0].log_likelihood)


def test_unknown_recursion():
    with pytest.raises(ValueError, match="recursion: found 'fast'"):
        HiddenMarkov(Gaussian(), 2, recursion="fast")


# lanes


@pytest.mark.parametrize("seed", range(4))
def test_lanes_hold_every_step_in_order(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, [2, 9, 60, 400][seed] + 1, [5, 40, 200, 300][seed])
    lanes = lay_lanes(lengths, 64)
    n, (t, b) = lengths.sum(), lanes.slot.shape
    assert t == lengths.max()
    np.testing.assert_array_equal(np.sort(lanes.slot[lanes.slot < n]), np.arange(n))
    np.testing.assert_array_equal(lanes.slot.ravel()[lanes.place], np.arange(n))
    # a step either begins a sequence (or what fills up), or stands right below the step before it
    same = lanes.slot[1:] == np.where(lanes.slot[:-1] == n, n, lanes.slot[:-1] + 1)
    owner = np.append(lanes.sequence, len(lengths))
    continues = owner[lanes.slot[1:]] == owner[lanes.slot[:-1]]
    assert (same | lanes.first[1:]).all()
    np.testing.assert_array_equal(continues & same, ~lanes.first[1:])
    assert lanes.first[0].all()
    # first fit, longest first: lanes are mostly full
    assert b <= 11 / 9 * np.ceil(n / t) + 1
    order = block_order(lanes)
    np.testing.assert_array_equal(np.sort(order[order < n]), np.arange(n))
    blocks = jnp.asarray(lanes.cut(lanes.slot, n))
    np.testing.assert_array_equal(out_of_blocks(blocks[:, :, :, None], lanes)[:, 0], lanes.slot)


def test_equal_lengths_take_a_lane_each():
    lanes = lay_lanes(np.full(7, 5))
    np.testing.assert_array_equal(lanes.slot, np.arange(35).reshape(7, 5).T)
    np.testing.assert_array_equal(lanes.first, np.arange(5)[:, None] == np.zeros(7))


def test_filter_is_a_filter():
    """Filtered states at the last step are the smoothed ones."""
    links, lanes = links_of(case())
    found: Filtered = FILTERS["parallel"](links)
    smooth = SMOOTHERS["parallel"](links, weights_of(lanes, np.ones(4)))
    for a, b in zip(of_sequences(found.state, lanes), of_sequences(smooth.state, lanes), strict=True):
        np.testing.assert_allclose(a[-1], b[-1], atol=1e-14)
