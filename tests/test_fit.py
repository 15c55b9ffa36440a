"""The driver: restarts, lanes, batches, status codes, purity, collapse."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases.gaussian import oracle as gaussian_oracle
from cases.gaussian import simulate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from table import some

import jaxem
from jaxem import Gaussian, Mixture, Single, Status, Stop, weak_prior
from jaxem.align import assign

KINDS = ("full", "tied", "diagonal", "spherical")
MODEL = Mixture(Gaussian(), 3)
Y = simulate(150)


def finite(tree):
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


# what comes back


def test_log_likelihood_is_of_the_returned_params():
    fit = jaxem.fit(MODEL, Y, key=0, restarts=4, stop=Stop(max_steps=7))
    assert fit.status == Status.MAX_STEPS
    assert fit.steps == 7
    np.testing.assert_allclose(fit.log_likelihood, MODEL.log_likelihood(fit.params, Y), rtol=1e-13)
    np.testing.assert_allclose(fit.restart_log_likelihoods.max(), fit.log_likelihood, rtol=1e-13)
    assert fit.passes == 4 * 8  # seven steps and one pass for the returned point, four times


def test_one_step_is_one_step():
    start = MODEL.init(0, Y)
    fit = jaxem.fit(MODEL, Y, params=start, stop=Stop(max_steps=1))
    by_hand = MODEL.m_step(start, MODEL.e_step(start, Y).statistics)
    for a, b in zip(jax.tree.leaves(fit.params), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_history_starts_at_the_start_and_ends_at_the_end():
    start = MODEL.init(0, Y)
    fit = jaxem.fit(MODEL, Y, params=start)
    np.testing.assert_allclose(fit.history[0], MODEL.log_likelihood(start, Y), rtol=1e-12)
    np.testing.assert_allclose(fit.history[int(fit.steps)], fit.log_likelihood, rtol=1e-12)


def test_long_history_is_thinned():
    fit = jaxem.fit(MODEL, Y, key=0, stop=Stop(tolerance=0.0, rule="parameters", max_steps=700))
    if fit.steps == 700:
        assert fit.history_stride == 4
    kept = np.asarray(fit.history)
    kept = kept[~np.isnan(kept)]
    assert (np.diff(kept) > -1e-8).all()


def test_same_seed_same_result_other_seed_other_start():
    a, b, c = (jaxem.fit(MODEL, Y, key=k, restarts=3) for k in (5, jax.random.key(5), 6))
    assert (np.asarray(a.restart_log_likelihoods) == np.asarray(b.restart_log_likelihoods)).all()
    assert not (np.asarray(a.restart_histories)[:, 0] == np.asarray(c.restart_histories)[:, 0]).all()


def test_canonical_order_and_align():
    fit = jaxem.fit(MODEL, Y, key=0, restarts=3)
    mean = np.asarray(fit.params.components.mean)
    assert (np.diff(mean[:, 0]) > 0).all()
    shuffled = MODEL.relabel(fit.params, np.array([2, 0, 1]))
    back = jaxem.align(shuffled, fit.params)
    np.testing.assert_array_equal(back.components.mean, mean)
    np.testing.assert_array_equal(back.weights, fit.params.weights)


def test_align_keeps_a_shared_covariance():
    model = Mixture(Gaussian("tied"), 3)  # d = K = 3: only symmetry tells a shared matrix
    fit = jaxem.fit(model, Y, key=0)
    back = jaxem.align(model.relabel(fit.params, np.array([1, 2, 0])), fit.params)
    np.testing.assert_array_equal(back.components.covariance, fit.params.components.covariance)
    np.testing.assert_array_equal(back.components.mean, fit.params.components.mean)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_assignment_is_scipys(n):
    from scipy.optimize import linear_sum_assignment

    for seed in range(5):
        cost = np.random.default_rng(seed).random((n, n))
        rows, columns = linear_sum_assignment(cost)
        np.testing.assert_allclose(cost[np.arange(n), assign(cost)].sum(), cost[rows, columns].sum())


# stop rules


@pytest.mark.parametrize("rule", ["aitken", "absolute", "relative", "parameters"])
def test_rules_get_to_the_same_place(rule):
    fit = jaxem.fit(MODEL, Y, key=0, stop=Stop(tolerance=1e-9, rule=rule, max_steps=5000))
    reference = jaxem.fit(MODEL, Y, key=0, stop=Stop(tolerance=1e-12, max_steps=5000))
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.log_likelihood, reference.log_likelihood, atol=1e-5)


def test_aitken_gap_is_what_is_left():
    """Stopped at a loose tolerance, the estimated gap is the true one to a factor of two."""
    best = float(jaxem.fit(MODEL, Y, key=0, stop=Stop(tolerance=1e-12, max_steps=20000)).log_likelihood)
    fit = jaxem.fit(MODEL, Y, key=0, stop=Stop(tolerance=1e-3))
    left = best - float(fit.log_likelihood)
    assert 0 < left < 1e-3
    assert 0.3 < float(fit.gap) / left < 5


# lanes


def test_restarts_equal_single_fits():
    data = jaxem.prepare(MODEL, Y)
    fit = jaxem.fit(MODEL, data, key=3, restarts=9)
    for k in range(3):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(3), 0), 9)
        alone = jaxem.fit(MODEL, data, params=MODEL.init(keys[k], data, k % 3))
        # the same steps to rounding; which step is the last may differ by one, within the tolerance of 1e-8
        np.testing.assert_allclose(alone.log_likelihood, fit.restart_log_likelihoods[k], rtol=0, atol=2e-8)


def test_batch_equals_single_fits():
    sets = [simulate(n, seed=n) for n in (40, 90, 150, 61)]
    starts = [MODEL.init(1, y) for y in sets]
    batch = jaxem.fit_batch(MODEL, sets, params=jax.tree.map(lambda *x: jnp.stack(x), *starts))
    for i, y in enumerate(sets):
        alone = jaxem.fit(MODEL, y, params=starts[i])
        assert batch.status[i] == alone.status
        # a covariance that collapses, as in the first set, magnifies rounding by its condition number
        digits = 1e-3 if alone.status == Status.DEGENERATE else 1e-10
        np.testing.assert_allclose(batch.log_likelihood[i], alone.log_likelihood, rtol=digits)
        np.testing.assert_allclose(batch.params.components.mean[i], alone.params.components.mean, atol=max(1e-5, digits))


@pytest.mark.slow
def test_batch_with_weights_and_restarts():
    sets = [simulate(60, seed=1, holes=0), simulate(80, seed=2, holes=0)]
    weights = [np.random.default_rng(i).integers(0, 3, len(y)).astype(float) for i, y in enumerate(sets)]
    batch = jaxem.fit_batch(MODEL, sets, key=0, restarts=3, weights=weights)
    for i, y in enumerate(sets):
        repeated = np.repeat(y, weights[i].astype(int), axis=0)
        params = jax.tree.map(lambda x, i=i: x[i], batch.params)
        np.testing.assert_allclose(batch.log_likelihood[i], MODEL.log_likelihood(params, repeated), rtol=1e-12)
    assert batch.restart_log_likelihoods.shape == (2, 3)


def test_batch_compiles_once_for_many_sets():
    segment = jaxem.lanes.segment
    sets = [simulate(50 + i, seed=i, holes=0) for i in range(12)]
    jaxem.fit_batch(MODEL, sets, key=0)
    before = segment._cache_size()
    jaxem.fit_batch(MODEL, [y + 1 for y in sets], key=1, stop=Stop(tolerance=1e-5))
    assert segment._cache_size() == before


# purity


def test_jit_and_vmap():
    y = simulate(80, holes=0.0)
    by_jit = jax.jit(lambda y: jaxem.fit(MODEL, y, key=0, restarts=2))(y)
    plain = jaxem.fit(MODEL, y, key=0, restarts=2)
    np.testing.assert_allclose(by_jit.log_likelihood, plain.log_likelihood, rtol=1e-10)
    stack = jnp.stack([y, y + 3])
    both = jax.vmap(lambda y: jaxem.fit(MODEL, y, key=0))(stack)
    np.testing.assert_allclose(both.log_likelihood[0], both.log_likelihood[1], rtol=1e-8)


@pytest.mark.slow
def test_vmap_over_weights_starts_and_priors_on_data_with_holes():
    data = jaxem.prepare(MODEL, Y)
    start = MODEL.init(0, data)
    w = np.random.default_rng(0).integers(0, 3, (4, len(Y))).astype(float)
    fits = jax.vmap(lambda w: jaxem.fit(MODEL, data, params=start, weights=w))(jnp.asarray(w))
    for i in range(4):
        alone = jaxem.fit(MODEL, data, params=start, weights=w[i])
        assert fits.status[i] == alone.status
        if alone.status == Status.CONVERGED:  # where a component collapses, the last good point hangs on rounding
            np.testing.assert_allclose(fits.log_likelihood[i], alone.log_likelihood, rtol=1e-10)
    assert (fits.status == Status.CONVERGED).sum() >= 3
    starts = jax.vmap(lambda key: MODEL.init(key, data))(jax.random.split(jax.random.key(0), 3))
    assert jax.vmap(lambda p: jaxem.fit(MODEL, data, params=p))(starts).log_likelihood.shape == (3,)
    prior = weak_prior(Y, 3)

    def strength(s):
        scaled = prior._replace(components=prior.components._replace(scale=s * prior.components.scale))
        return jaxem.fit(Mixture(Gaussian(), 3, prior=scaled), data, params=start).params.components.covariance

    spread = jax.vmap(strength)(jnp.array([1.0, 50.0]))
    assert np.trace(spread[1].sum(0)) > np.trace(spread[0].sum(0))


def test_library_leaves_global_state_alone():
    import subprocess
    import sys

    code = "import jax, jaxem; assert not jax.config.jax_enable_x64; assert jax.config.jax_default_matmul_precision is None"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_float32_follows_the_input():
    fit = jaxem.fit(MODEL, Y.astype(np.float32), key=0)
    assert {leaf.dtype for leaf in jax.tree.leaves(fit.params)} == {np.dtype(np.float32)}
    double = jaxem.fit(MODEL, Y, key=0)
    assert abs(float(fit.log_likelihood) - float(double.log_likelihood)) < 0.05


# missing cells


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.0, 0.9))
def test_any_pattern(seed, share):
    """Any holes, as many patterns as there may be: each row's log-likelihood is scipy's."""
    rng = np.random.default_rng(seed)
    y = simulate(40, seed=1, holes=0.0)
    y[rng.random(y.shape) < share] = np.nan
    y[0] = simulate(1, holes=0.0)
    params = MODEL.init(0, simulate(40, seed=1, holes=0.0))
    joint = gaussian_oracle("full")(params.components, y) + np.log(np.asarray(params.weights))
    np.testing.assert_allclose(MODEL.log_likelihood(params, y, per_row=True), np.logaddexp.reduce(joint, axis=1), atol=1e-10)


@pytest.mark.parametrize(("d", "n"), some(itertools.product([1, 2, 9], [40, 700, 5000]), [(2, 40), (9, 700)], pytest.mark.thorough))
def test_any_layout(d, n):
    """Few and many patterns, wide and narrow blocks, tables and rows bound one by one: the same sums."""
    rng = np.random.default_rng(d)
    y = rng.normal(size=(n, d))
    y[rng.random(y.shape) < 0.4] = np.nan
    y[0] = 0.0
    model = Mixture(Gaussian(), 2)
    params = model.init(0, y)
    joint = gaussian_oracle("full")(params.components, y[:60]) + np.log(np.asarray(params.weights))
    per_row = model.log_likelihood(params, y, per_row=True)
    np.testing.assert_allclose(per_row[:60], np.logaddexp.reduce(joint, axis=1), atol=1e-9)
    expectation = model.e_step(params, y)
    np.testing.assert_allclose(expectation.log_likelihood, per_row.sum(), rtol=1e-11)
    half = [model.e_step(params, part) for part in (y[: n // 3], y[n // 3 :])]
    for whole, a, b in zip(*map(jax.tree.leaves, (expectation, *half)), strict=True):
        np.testing.assert_allclose(whole, a + b, rtol=1e-9, atol=1e-9 * n)


@pytest.mark.parametrize("kind", some(KINDS, ["full", "diagonal"]))
@pytest.mark.parametrize("make", [lambda f: Mixture(f, 3), Single], ids=["mixture", "single"])
def test_impute(kind, make):
    """Conditional means and covariances against the formula, row by row in NumPy; observed cells untouched, rows in order."""
    model = make(Gaussian(kind))
    fit = jaxem.fit(model, Y, key=0)
    mean, covariance = model.impute(fit.params, Y, covariance=True)
    holes = np.isnan(Y)
    assert (np.asarray(mean)[~holes] == Y[~holes]).all()
    states = fit.params.components if isinstance(model, Mixture) else jax.tree.map(
        lambda domain, x: x[None] if domain.state_axes else x, model.domains, fit.params
    )  # fmt: skip
    r = np.asarray(model.posterior(fit.params, Y))
    mu, spread = np.asarray(states.mean), np.asarray(states.covariance)
    full = {"full": lambda k: spread[k], "tied": lambda k: spread, "diagonal": lambda k: np.diag(spread[k]),
            "spherical": lambda k: spread[k] * np.eye(3)}[kind]  # fmt: skip
    for i in range(30):
        m, o = np.flatnonzero(holes[i]), np.flatnonzero(~holes[i])
        means, squares = [], []
        for k in range(len(mu)):
            s = full(k)
            gain = s[np.ix_(m, o)] @ np.linalg.inv(s[np.ix_(o, o)]) if o.size else np.zeros((m.size, 0))
            means.append(mu[k, m] + gain @ (Y[i, o] - mu[k, o]))
            squares.append(s[np.ix_(m, m)] - gain @ s[np.ix_(o, m)] + np.outer(means[-1], means[-1]))
        expected = r[i] @ np.array(means)
        np.testing.assert_allclose(mean[i, m], expected, atol=1e-9)
        total = np.tensordot(r[i], np.array(squares), 1) - np.outer(expected, expected)
        np.testing.assert_allclose(np.asarray(covariance)[i][np.ix_(m, m)], total, atol=1e-8)
        assert (np.asarray(covariance)[i, o] == 0).all()


def test_all_missing_rows_change_nothing():
    more = np.concatenate([Y, np.full((20, 3), np.nan)])
    start = MODEL.init(0, Y)
    a, b = (jaxem.fit(MODEL, y, params=start) for y in (Y, more))
    np.testing.assert_allclose(a.log_likelihood, b.log_likelihood, rtol=1e-12)
    np.testing.assert_allclose(MODEL.posterior(b.params, more)[-1], b.params.weights, rtol=1e-12)


# sampling


@pytest.mark.parametrize("kind", some(KINDS, ["full"], pytest.mark.thorough))
def test_samples_have_the_models_distribution(kind):
    """Kolmogorov-Smirnov on a projection, against the exact normal mixture."""
    model = Mixture(Gaussian(kind), 3)
    params = model.init(0, Y)
    y, states = model.sample(1, params, 4000, states=True)
    direction = np.array([0.5, -1.0, 0.7])
    spread = np.asarray(params.components.covariance)
    full = {"full": lambda k: spread[k], "tied": lambda k: spread, "diagonal": lambda k: np.diag(spread[k]),
            "spherical": lambda k: spread[k] * np.eye(3)}[kind]  # fmt: skip
    means = np.asarray(params.components.mean)
    law = [stats.norm(m @ direction, (direction @ full(k) @ direction) ** 0.5) for k, m in enumerate(means)]
    cdf = lambda x: sum(w * n.cdf(x) for w, n in zip(np.asarray(params.weights), law, strict=True))  # noqa: E731
    assert stats.kstest(np.asarray(y) @ direction, cdf).pvalue > 1e-3
    np.testing.assert_allclose(np.bincount(states, minlength=3) / 4000, params.weights, atol=0.03)


# trouble


@pytest.mark.parametrize("dtype", some(["float32", "float64"], ["float64"], pytest.mark.thorough))
@pytest.mark.parametrize(
    ("kind", "make", "collapses"),
    [
        ("full", lambda y: np.concatenate([y, np.full((10, 2), 50.0)]), True),
        pytest.param("diagonal", lambda y: np.concatenate([y, np.full((10, 2), 50.0)]), True, marks=pytest.mark.slow),
        ("full", lambda y: np.column_stack([y, np.full(200, 3.0)]), True),
        pytest.param("full", lambda y: np.column_stack([y, y[:, 0]]), True, marks=pytest.mark.slow),
        ("tied", lambda y: np.column_stack([y, y[:, 0]]), True),
        pytest.param("full", lambda y: y[:2], True, marks=pytest.mark.slow),
        pytest.param("spherical", lambda y: y[:2], True, marks=pytest.mark.slow),
        ("tied", lambda y: np.concatenate([y, np.full((10, 2), 50.0)]), False),
    ],
)
def test_collapse_is_a_status(kind, make, collapses, dtype):
    y = make(np.random.default_rng(0).normal(size=(200, 2))).astype(dtype)
    fit = jaxem.fit(Mixture(Gaussian(kind), 2), y, key=0, restarts=3)
    assert finite(fit.params)
    assert not np.isnan(fit.log_likelihood)
    if collapses:
        assert fit.status == Status.DEGENERATE
        assert fit.degenerate.any()
        assert "Collapsed: component" in fit.explain()
    else:
        assert fit.status == Status.CONVERGED


def test_best_sound_restart_wins():
    """Two rows lie so close that some starts collapse on them, at a higher likelihood: a sound one is returned."""
    rng = np.random.default_rng(3)
    y = np.concatenate([rng.normal(size=(30, 1)), [[9.0], [9.0]]])
    fit = jaxem.fit(Mixture(Gaussian(), 2), y, key=0, restarts=30)
    statuses = np.asarray(fit.restart_statuses)
    assert (statuses == Status.DEGENERATE).any()
    assert (statuses == Status.CONVERGED).any()
    assert fit.status == Status.CONVERGED


def test_a_prior_cures_collapse():
    y = np.concatenate([np.random.default_rng(0).normal(size=(200, 2)), np.full((10, 2), 50.0)])
    fit = jaxem.fit(Mixture(Gaussian(), 2, prior=weak_prior(y, 2)), y, key=0, restarts=3)
    assert fit.status == Status.CONVERGED
    assert fit.objective != fit.log_likelihood


def test_weak_prior_is_scale_equivariant():
    fits = [
        jaxem.fit(Mixture(Gaussian(), 3, prior=weak_prior(Y * s, 3)), Y * s, key=0, stop=Stop(tolerance=1e-10)) for s in (1.0, 1e6)
    ]
    np.testing.assert_allclose(fits[1].params.components.mean, 1e6 * fits[0].params.components.mean, rtol=1e-4)


SCALES = itertools.product(KINDS, [1e-12, 1e12, 1e-100])


@pytest.mark.parametrize(("kind", "scale"), some(SCALES, [("full", 1e-100), ("diagonal", 1e12)], pytest.mark.thorough))
def test_rescaling_only_shifts(kind, scale):
    cells = (~np.isnan(Y)).sum()
    a = jaxem.fit(Mixture(Gaussian(kind), 2), Y, key=0)
    b = jaxem.fit(Mixture(Gaussian(kind), 2), Y * scale, key=0)
    assert a.status == b.status == Status.CONVERGED
    np.testing.assert_allclose(b.log_likelihood + cells * np.log(scale), a.log_likelihood, atol=1e-6)


def test_far_from_the_origin():
    a, b = (jaxem.fit(MODEL, Y + shift, key=0) for shift in (0.0, 1e8))
    np.testing.assert_allclose(a.log_likelihood, b.log_likelihood, rtol=1e-6)


@pytest.mark.parametrize("kind", some(KINDS, []))
def test_float32_keeps_tight_clusters_far_apart(kind):
    """Clusters 1000 standard deviations apart: the quadratic kernel has no digits left, auto takes the whitened one."""
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.normal(size=(200, 2)), 1000 + rng.normal(size=(200, 2))])
    double = jaxem.fit(Mixture(Gaussian(kind), 2), y, key=0)
    single = jaxem.fit(Mixture(Gaussian(kind), 2), y.astype(np.float32), key=0)
    assert single.status == Status.CONVERGED
    np.testing.assert_allclose(single.params.components.covariance, double.params.components.covariance, rtol=2e-3, atol=2e-3)


def test_progress_is_told():
    told = []
    jaxem.fit(MODEL, Y, key=0, restarts=2, progress=told.append)
    assert told[-1].finished == told[-1].lanes == 2
    assert told[-1].steps > 0


def test_every_status_has_a_sentence():
    assert all(len(status.sentence) > 20 for status in Status)


def test_public_names_are_documented():
    for name in jaxem.__all__:
        assert inspect.getdoc(getattr(jaxem, name)), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("distance", some([30, 1e3, 1e5], [1e3]))
def test_rounding_is_no_decrease(distance, dtype):
    """Many rows of clusters far apart: the rounding of a squared distance, the same in every row, is not a fall."""
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.normal(size=(10000, 3)), distance + rng.normal(size=(10000, 3))]).astype(dtype)
    fit = jaxem.fit(Mixture(Gaussian(), 2), y, key=0)
    assert fit.status == Status.CONVERGED, fit.explain()
