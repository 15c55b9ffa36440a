"""Strategies of global search: which starts go on, what they cost, and where plain EM stays behind."""

import re

import jax
import numpy as np
import pytest

import jaxem
from jaxem import (
    Gaussian,
    GaussianParams,
    HiddenMarkov,
    Mixture,
    MixtureParams,
    Poisson,
    Single,
    Status,
    Stop,
    annealed_em,
    em,
    split_and_merge,
    squarem,
    stochastic_em,
    successive_halving,
)
from jaxem.summary import describe_restarts

STOP = Stop(tolerance=1e-6, max_steps=200)
RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(np.array([1.0, 5.0, 20.0])[RNG.integers(3, size=60)]).astype(float)
COUNTS[::9] = np.nan
WEIGHTS = RNG.integers(0, 3, size=60).astype(float)
MODEL = Mixture(Poisson(), 4)
ROWS = jaxem.prepare(MODEL, COUNTS, WEIGHTS)

HALVING = successive_halving(8, (2, 3), 1 / 2)
LONGER = {
    "short": successive_halving(8, (3,), 2),
    "moves": split_and_merge(candidates=6, keep=2),
    "annealed": successive_halving(4, (6,), 1, annealed_em((0.5, 1.0), 3)),
    "stochastic first": successive_halving(8, (3,), 2, stochastic_em()),
}


def check(search):
    plain = jaxem.fit(MODEL, ROWS, key=0, restarts=8, stop=STOP)
    found = jaxem.fit(MODEL, ROWS, key=0, search=search, stop=STOP)
    again = jaxem.fit(MODEL, ROWS, key=0, search=search, stop=STOP)
    assert found.status in (Status.CONVERGED, Status.MAX_STEPS)
    assert found.log_likelihood >= np.mean(plain.restart_log_likelihoods) - 1e-3
    np.testing.assert_allclose(found.log_likelihood, MODEL.log_likelihood(found.params, ROWS), rtol=1e-12)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(np.asarray(found.restart_log_likelihoods)).all()
    assert (np.diff(found.params.components.rate[:, 0]) >= 0).all()  # in canonical order


def test_as_good_as_plain_restarts():
    """With weights, missing cells and ties; the log-likelihood told is that of the params; the same key, the same result."""
    check(HALVING)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONGER)
def test_others_as_good_as_plain_restarts(name):
    check(LONGER[name])


def test_passes_are_counted():
    """Each of 8 starts 2 steps, each of the better 4 another 3; the better 2 go on to their end, which is one more pass each."""
    fit = jaxem.fit(MODEL, ROWS, key=0, search=HALVING, stop=STOP)
    statuses, histories = np.asarray(fit.restart_statuses), np.asarray(fit.restart_histories)
    assert np.asarray(fit.restart_strides).max() == 1
    seen = (~np.isnan(histories)).sum(axis=1)  # the objective of each pass, that of the end included
    assert (statuses == Status.RUNNING).sum() == 6
    assert sorted(seen[statuses == Status.RUNNING]) == [2, 2, 2, 2, 5, 5]
    assert fit.passes == seen.sum()
    kept = np.argsort(-histories[:, 1])[:4]
    assert set(np.flatnonzero(seen > 2)) == set(kept)  # those ahead after the first rung
    assert "6 dropped on the way" in describe_restarts(fit)


@pytest.mark.slow
def test_another_algorithm_hands_over():
    """Two cycles of squarem cost 1 to begin and 3 or 4 each; what went on is a plain EM run from where they ended."""
    fit = jaxem.fit(MODEL, ROWS, key=0, search=successive_halving(3, (2,), 1, squarem(em())), stop=STOP)
    kept = int(np.flatnonzero(np.asarray(fit.restart_statuses) != Status.RUNNING)[0])
    steps = int((~np.isnan(np.asarray(fit.restart_histories[kept]))).sum())
    assert 3 * 7 + steps <= fit.passes <= 3 * 9 + steps


@pytest.mark.slow
def test_collapsed_lanes_come_last():
    """Two rows alike far off: a component that takes both has no variance, and its likelihood no bound."""
    y = np.concatenate([RNG.normal(size=20), [50.0, 50.0]])
    fit = jaxem.fit(Mixture(Gaussian(), 2), y, key=0, search=successive_halving(8, (2, 3), 1 / 2), stop=STOP)
    plain = jaxem.fit(Mixture(Gaussian(), 2), y, key=0, restarts=8, stop=STOP)
    sound = np.isin(np.asarray(plain.restart_statuses), (Status.CONVERGED, Status.MAX_STEPS))
    assert (fit.status == Status.DEGENERATE) == (not sound.any())
    if fit.status == Status.DEGENERATE:  # then all have been to their end
        assert (np.asarray(fit.restart_statuses) == Status.DEGENERATE).all()


TRAP = np.concatenate([RNG.normal(centre, 1.0, size=(40, 2)) for centre in ([0, 0], [10, 0], [30, 0])])
THREE = Mixture(Gaussian("spherical"), 3)
STUCK = MixtureParams(
    np.array([1 / 6, 1 / 6, 2 / 3]), GaussianParams(np.array([[29.0, 0], [31.0, 0], [5.0, 0]]), np.array([1.0, 1.0, 25.0]))
)


def test_a_trap_that_only_moves_leave():
    """Two components in one group and one over two others: a local maximum of EM (Jin et al. 2016), not of split and merge."""
    stuck = jaxem.fit(THREE, TRAP, params=STUCK)
    moved = jaxem.fit(THREE, TRAP, params=STUCK, search=split_and_merge())
    truth = MixtureParams(
        np.full(3, 1 / 3), GaussianParams(np.array([[0.0, 0], [10.0, 0], [30.0, 0]]), np.ones(3))
    )
    best = jaxem.fit(THREE, TRAP, params=truth)
    assert stuck.converged
    assert stuck.log_likelihood < best.log_likelihood - 50
    np.testing.assert_allclose(moved.log_likelihood, best.log_likelihood, rtol=1e-7)
    assert moved.restart_log_likelihoods[0] == pytest.approx(float(stuck.log_likelihood), rel=1e-12)
    assert moved.passes > moved.steps


@pytest.mark.slow
def test_restrictions_hold_through_a_move():
    y = RNG.poisson(np.array([1.0, 8.0, 30.0])[RNG.integers(3, size=90)]).astype(float)
    held = Mixture(Poisson(), 3, fixed={"rate": [[2.0], [np.nan], [np.nan]]})
    found = jaxem.fit(held, y, key=0, search=split_and_merge(candidates=3, keep=2), stop=STOP)
    assert found.params.components.rate[0, 0] == 2.0


@pytest.mark.thorough
def test_moves_where_the_m_step_is_on_the_observed_likelihood():
    found = jaxem.fit(Mixture(jaxem.StudentT(), 3), TRAP[:, :1], key=0, search=split_and_merge(candidates=3, keep=1), stop=STOP)
    assert found.status in (Status.CONVERGED, Status.MAX_STEPS)
    assert np.isfinite(found.log_likelihood)


BAD = {
    "keep of a share above 1": (lambda: successive_halving(5, keep=1.5), ValueError, "keep: found 1.5"),
    "keep more than there are": (lambda: successive_halving(5, keep=6), ValueError, "from 1 to starts=5"),
    "keep none": (lambda: successive_halving(5, keep=0), ValueError, "keep: found 0"),
    "keep a word": (lambda: successive_halving(5, keep="half"), TypeError, "keep: found 'half'"),
    "no rungs": (lambda: successive_halving(5, ()), ValueError, "rungs: is empty"),
    "rungs a number": (lambda: successive_halving(5, 10), TypeError, "rungs: found 10"),
    "a rung of 0": (lambda: successive_halving(5, (5, 0)), ValueError, "rungs: found 0"),
    "no starts": (lambda: successive_halving(0), ValueError, "starts: found 0"),
    "a factory for an algorithm": (lambda: successive_halving(5, algorithm=em), TypeError, "algorithm: found em"),
    "no candidates": (lambda: split_and_merge(candidates=0), ValueError, "candidates: found 0"),
    "restarts beside": (lambda: fit(restarts=3, search=successive_halving()), ValueError, "restarts: found 3 beside search"),
    "a start beside": (lambda: fit(params=STUCK, search=successive_halving()), ValueError, "params: is one start"),
    "no key": (lambda: jaxem.fit(MODEL, ROWS, search=successive_halving()), ValueError, "key: a search draws"),
    "a factory": (lambda: fit(search=successive_halving), TypeError, "search: found successive_halving"),
    "moves of one": (lambda: jaxem.fit(Single(Poisson()), COUNTS, key=0, search=split_and_merge()), TypeError, "found Single"),
    "moves of two": (lambda: jaxem.fit(Mixture(Poisson(), 2), COUNTS, key=0, search=split_and_merge()), ValueError, "found 2"),
    "moves of a chain": (
        lambda: jaxem.fit(HiddenMarkov(Poisson(), 3), COUNTS, key=0, search=split_and_merge()), TypeError, "found HiddenMarkov",
    ),
    "traced": (
        lambda: jax.jit(lambda y: jaxem.fit(MODEL, y, key=0, search=successive_halving()).params)(np.arange(30.0)),
        ValueError, "search: starts are chosen",
    ),
}  # fmt: skip


def fit(**given):
    return jaxem.fit(MODEL, ROWS, key=0, **given)


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, message = BAD[name]
    before = jaxem.lanes.segment._cache_size()
    with pytest.raises(error, match=re.escape(message)):
        call()
    assert jaxem.lanes.segment._cache_size() == before
