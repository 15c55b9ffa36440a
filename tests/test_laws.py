"""The laws of DESIGN: each on every row of the table, in float32 and float64."""

import sys

import chex
import jax
import numpy as np
from table import K, N, every, take

import jaxem
from jaxem import Mixture, Stop


def tree_close(a, b, bound, scale=None):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        size = np.abs(y).max(initial=0) if scale is None else scale
        np.testing.assert_allclose(x, y, rtol=0, atol=bound * max(size, 1e-300))


@jax.jit
def m_step(model, params, statistics):
    return model.m_step(params, statistics)


@jax.jit
def relabel(model, params, order):
    return model.relabel(params, order)


@jax.jit
def free(model, params):
    return model.to_unconstrained(params)


@jax.jit
def bound(model, vector, params):
    return model.from_unconstrained(vector, like=params)


@jax.jit
def score(model, params, data):
    """Gradients of log-likelihood and log prior in unconstrained coordinates."""
    u = model.to_unconstrained(params)
    likelihood = jax.grad(lambda u: model.log_likelihood(model.from_unconstrained(u, like=params), data))(u)
    return likelihood, jax.grad(lambda u: model.log_prior(model.from_unconstrained(u, like=params)))(u)


@jax.jit
def score_of_q(model, params, statistics):
    """Gradient of Q in unconstrained coordinates."""
    u = model.to_unconstrained(params)
    return jax.grad(lambda u: model.expected_log_joint(model.from_unconstrained(u, like=params), statistics))(u)


@jax.jit
def about_the_maximum(model, params, statistics):
    """Gradient of Q + log prior, and its value at 20 points nearby less that at the params."""
    u = model.to_unconstrained(params)

    def objective(u):
        moved = model.from_unconstrained(u, like=params)
        return model.expected_log_joint(moved, statistics) + model.log_prior(moved)

    value, gradient = jax.value_and_grad(objective)(u)
    nearby = u + 0.05 * jax.random.normal(jax.random.key(0), (20, u.size), u.dtype)
    return gradient, jax.vmap(objective)(nearby) - value


@every
def test_additive(row, dtype):
    """e_step(a ++ b) = e_step(a) + e_step(b). Bound: sums of N terms in two orders, each rounded to eps, of cells near 10."""
    y, params = row.data(dtype), row.params(dtype)
    whole = row.model.e_step(params, y)
    parts = [row.model.e_step(params, take(y, slice(None, N // 2))), row.model.e_step(params, take(y, slice(N // 2, None)))]
    tree_close(jax.tree.map(np.add, *parts), whole, 64 * row.eps(dtype))


@every
def test_weights_repeat(row, dtype):
    """Weight w is the row w times, weight 0 its absence. Bound as for additivity."""
    y, w, params = row.data(dtype), row.weights(dtype), row.params(dtype)
    weighted = row.model.e_step(params, jaxem.prepare(row.model, y, weights=w))
    repeated = row.model.e_step(params, take(y, np.repeat(np.arange(N), w.astype(int))))
    tree_close(weighted, repeated, 64 * row.eps(dtype))


@every
def test_brute_force(row, dtype):
    """The log-likelihood of every row is scipy's. Bound: rounding of a squared distance that cancels terms of size 1e3."""
    y, params = row.data(dtype), row.params(dtype)
    ours = row.model.log_likelihood(params, y, per_row=True)
    theirs = row.oracle_log_likelihood(params, y)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=4e3 * row.eps(dtype))
    np.testing.assert_allclose(row.model.log_likelihood(params, y), theirs.sum(), rtol=0, atol=4e3 * N**0.5 * row.eps(dtype))


@every
def test_fisher(row, dtype):
    """grad log-likelihood = grad of Q at the same params, in unconstrained coordinates (Fisher's identity)."""
    y, params = row.data(dtype), row.params(dtype)
    data = jaxem.prepare(row.model, y, weights=row.weights(dtype))
    settled = row.model.settle(params, data)
    q = score_of_q(settled, params, settled.e_step(params, data).statistics)
    s, _ = score(settled, params, data)
    size = 1 + np.abs(np.asarray(s)).max()
    # raw moments about the origin, 5 to 10 standard deviations away, lose a factor of about 1e2
    np.testing.assert_allclose(q, s, rtol=0, atol=3e3 * row.eps(dtype) * max(size, N))


@every
def test_m_step_maximises(row, dtype):
    """m_step zeroes the gradient of Q + log prior, and no nearby point is better."""
    y, params = row.data(dtype), row.params(dtype)
    local = row.model.localize(params, jaxem.prepare(row.model, y))
    statistics = local.e_step(params, y).statistics
    best = m_step(local, params, statistics)

    gradient, nearby = about_the_maximum(local, best, statistics)
    np.testing.assert_allclose(gradient, 0, atol=2e3 * row.eps(dtype) * N)
    assert (nearby < 0).all()


@every
def test_monotone(row, dtype):
    """log-likelihood + log prior never falls by more than its rounding: 32 eps (|objective| + n magnitude), see `jaxem.run`."""
    y, params = row.data(dtype), row.params(dtype)
    magnitude = float(row.model.magnitude(params, jaxem.prepare(row.model, y)))
    fit = jaxem.fit(row.model, y, params=params, stop=Stop(tolerance=0.0, max_steps=60))
    history = np.asarray(fit.history, np.float64)
    history = history[~np.isnan(history)]
    assert len(history) > 2
    assert (np.diff(history) >= -32 * row.eps(dtype) * (np.abs(history[1:]) + N * magnitude)).all()
    assert fit.status in (jaxem.Status.CONVERGED, jaxem.Status.MAX_STEPS)


@every
def test_missing_is_marginal(row, dtype):
    """A column that is missing everywhere but in weightless rows leaves the marginal model; an all-missing row adds 0."""
    data, params = row.data(dtype), row.params(dtype)
    y = getattr(data, "y", data)
    for part in y.values() if isinstance(y, dict) else (y,):
        if isinstance(part, np.ndarray):
            part[0] = np.nan
        else:  # an interval without ends
            part.lower[0], part.upper[0] = -np.inf, np.inf
    rows = jaxem.prepare(row.model, data)
    nothing = np.asarray(row.model.log_likelihood(params, rows, per_row=True))[0]
    assert abs(nothing) <= 2 * row.eps(dtype)  # weights sum to 1 to rounding
    absent = np.ones(N, dtype)
    absent[0] = 0
    without = row.model.e_step(params, jaxem.prepare(row.model, row.data(dtype), weights=absent))
    tree_close(row.model.e_step(params, rows), without, 64 * row.eps(dtype))
    if row.marginal is None:
        return
    last = y[-1, 1]
    y[:, 1] = np.nan
    y[-1, 1] = np.nan_to_num(last, nan=1.0)
    w = np.ones(N, dtype)
    w[-1] = 0
    states = params.components if isinstance(row.model, Mixture) else params
    marginal = row.marginal(states, np.delete(np.arange(y.shape[1]), 1))
    marginal = params._replace(components=marginal) if isinstance(row.model, Mixture) else marginal
    ours = row.model.log_likelihood(params, jaxem.prepare(row.model, y, weights=w))
    theirs = row.model.log_likelihood(marginal, np.delete(y[:-1], 1, axis=1))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=4e3 * N**0.5 * row.eps(dtype))


@every
def test_stable_types(row, dtype):
    """Shapes, dtypes and structure come out as they went in; values, weights and tolerance compile nothing new."""
    y, params = row.data(dtype), row.params(dtype)
    data = jaxem.prepare(row.model, y)
    expectation = row.model.e_step(params, data)
    chex.assert_trees_all_equal_shapes_and_dtypes(m_step(row.model, params, expectation.statistics), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(expectation)} == {np.dtype(dtype)}
    u = free(row.model, params)
    assert np.isfinite(u).sum() == row.model.n_parameters(data)  # what pads a leaf has no finite coordinate
    tree_close(bound(row.model, u, params), params, 64 * row.eps(dtype))
    fit = jaxem.fit(row.model, data, params=params, stop=Stop(tolerance=1e-3, max_steps=5))
    chex.assert_trees_all_equal_shapes_and_dtypes(fit.params, params)
    module = sys.modules[type(row.model).__module__]
    counters = (module._e_step, module._log_likelihood, jaxem.lanes.segment, jaxem.lanes.conclude)
    before = [f._cache_size() for f in counters]
    moved = bound(row.model, np.asarray(u) * np.asarray(1.01, dtype), params)
    row.model.e_step(moved, data.weigh(row.weights(dtype)))
    jaxem.fit(row.model, data, params=params, weights=row.weights(dtype), stop=Stop(tolerance=1e-5, max_steps=7))
    assert [f._cache_size() for f in counters] == before


@every
def test_relabelling(row, dtype):
    """Permuted states give permuted statistics and the same likelihood, exactly up to the order of K-term sums."""
    y, params = row.data(dtype), row.params(dtype)
    order = np.array([2, 0, 1]) if row.model.n_states == K else np.arange(row.model.n_states)
    moved = relabel(row.model, params, order)
    ours, theirs = row.model.e_step(moved, y), row.model.e_step(params, y)
    np.testing.assert_allclose(ours.log_likelihood, theirs.log_likelihood, rtol=16 * row.eps(dtype))
    back = m_step(row.model, moved, ours.statistics)
    tree_close(back, relabel(row.model, m_step(row.model, params, theirs.statistics), order), 3e3 * row.eps(dtype))


@every
def test_stationary(row, dtype):
    """At a converged fit the gradient of log-likelihood + log prior vanishes in unconstrained coordinates.

    A remaining gain g with curvature at most N d leaves a gradient of at most sqrt(2 g N d): 1e-5 in float64. In float32 the
    gain is known to eps |l| only.
    """
    y, params = row.data(dtype), row.params(dtype)
    fit = jaxem.fit(row.model, y, params=params, stop=Stop(tolerance=1e-12, max_steps=50000))
    assert fit.status == jaxem.Status.CONVERGED, fit.explain()
    gain = {"float64": 1e-11, "float32": 32 * row.eps(dtype) * (abs(float(fit.objective)) + N * 3)}[dtype]
    data = jaxem.prepare(row.model, y)
    gradient = sum(score(row.model.settle(fit.params, data), fit.params, data))
    assert np.abs(gradient).max() <= (2 * gain * N * 3) ** 0.5
