"""Rotations at the optimum of their criterion, and what they make of perfect clusters, one factor and none."""

from itertools import permutations

import jax
import numpy as np
import pytest

import jaxem


def nearest(ours, theirs):
    """Largest distance of loadings up to sign and order of the columns."""
    signs = [np.where((ours[:, order] * theirs).sum(axis=0) < 0, -1, 1) for order in map(list, permutations(range(ours.shape[1])))]
    orders = map(list, permutations(range(ours.shape[1])))
    return min(np.abs(ours[:, order] * sign - theirs).max() for order, sign in zip(orders, signs, strict=True))


def orthomax(loadings, gamma):
    squares = loadings**2
    return (squares**2).sum() - gamma / len(loadings) * (squares.sum(axis=0) ** 2).sum()


def oblimin_value(loadings, gamma):
    squares = loadings**2
    inner = squares.T @ squares - gamma / len(loadings) * np.outer(squares.sum(axis=0), squares.sum(axis=0))
    return inner.sum() - np.trace(inner)


def arbitrary(q=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(12, q)) * rng.uniform(0.2, 1, (12, 1))


def nearby(q, size, seed):
    """Orthogonal matrices near the identity."""
    rng = np.random.default_rng(seed)
    skew = size * rng.normal(size=(20, q, q))
    return [np.linalg.qr(np.eye(q) + s - s.T)[0] for s in skew]


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("method", "gamma"), [("varimax", 1.0), ("quartimax", 0.0)])
@pytest.mark.parametrize("seed", range(3))
def test_orthogonal_rotations_are_at_their_maximum(method, gamma, normalize, seed):
    loadings = arbitrary(seed=seed)
    found = jaxem.rotate(loadings, method, normalize=normalize)
    np.testing.assert_allclose(found.rotation.T @ found.rotation, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(found.loadings, loadings @ found.rotation, atol=1e-12)
    assert not found.oblique
    scaled = found.loadings / np.linalg.norm(loadings, axis=1, keepdims=True) if normalize else found.loadings
    gradient = scaled.T @ (scaled**3 - gamma / 12 * scaled * (scaled**2).sum(axis=0))  # symmetric where stationary
    np.testing.assert_allclose(gradient, gradient.T, atol=1e-8)
    best = orthomax(scaled, gamma)
    for size in (1e-3, 0.3, 3.0):
        assert all(orthomax(scaled @ turn, gamma) <= best + 1e-12 for turn in nearby(3, size, seed))


@pytest.mark.parametrize("gamma", [0.0, -0.5])
@pytest.mark.parametrize("normalize", [False, True])
def test_oblimin_is_at_its_minimum(gamma, normalize):
    loadings = arbitrary()
    found = jaxem.oblimin(loadings, gamma=gamma, normalize=normalize)
    np.testing.assert_allclose(np.diag(found.correlations), 1, atol=1e-12)
    np.testing.assert_allclose(found.loadings @ found.correlations @ found.loadings.T, loadings @ loadings.T, atol=1e-10)
    weight = np.linalg.norm(loadings, axis=1, keepdims=True) if normalize else 1.0
    scaled, factors = loadings / weight, np.linalg.inv(found.rotation).T
    best = oblimin_value(scaled @ np.linalg.inv(factors).T, gamma)
    rng = np.random.default_rng(0)
    for size in (1e-4, 1e-2, 0.3):
        for _ in range(20):
            moved = factors + size * rng.normal(size=factors.shape)
            moved /= np.linalg.norm(moved, axis=0)
            assert oblimin_value(scaled @ np.linalg.inv(moved).T, gamma) >= best - 1e-9


@pytest.mark.parametrize("method", ["oblimin", "promax"])
def test_oblique_rotations_find_perfect_clusters(method):
    """Each column has one factor, factors are correlated: the criterion's minimum, 0, is there and nowhere else."""
    pattern = np.zeros((9, 3))
    for j in range(9):
        pattern[j, j // 3] = 0.9 - 0.05 * j
    corr = np.array([[1, 0.3, 0.2], [0.3, 1, 0.4], [0.2, 0.4, 1]])
    mixed = pattern @ np.linalg.cholesky(corr) @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    found = jaxem.rotate(mixed, method)
    if method == "oblimin":
        np.testing.assert_allclose(found.loadings, pattern, atol=1e-7)
        np.testing.assert_allclose(found.correlations, corr, atol=1e-7)
    else:  # promax raises what varimax finds to the fourth power: close
        np.testing.assert_allclose(found.loadings, pattern, atol=0.1)
        np.testing.assert_allclose(found.correlations, corr, atol=0.2)
    np.testing.assert_allclose(found.loadings @ found.correlations @ found.loadings.T, mixed @ mixed.T, atol=1e-12)


def test_promax_is_the_regression_on_its_target():
    loadings = arbitrary()
    first = jaxem.varimax(loadings).loadings
    turn = np.linalg.solve(first.T @ first, first.T @ (np.abs(first) ** 3 * first))
    turn = turn * np.sqrt(np.diag(np.linalg.inv(turn.T @ turn)))
    found = jaxem.promax(loadings)
    assert nearest(found.loadings, first @ turn) < 1e-10
    np.testing.assert_allclose(np.diag(found.correlations), 1, atol=1e-12)


@pytest.mark.parametrize("method", ["none", "varimax", "quartimax", "promax", "oblimin"])
def test_rotations_of_one_factor_and_of_none(method):
    one = jaxem.rotate(arbitrary(1).astype(np.float32), method)
    assert one.loadings.dtype == np.float32
    np.testing.assert_allclose(np.abs(one.rotation), 1)
    nothing = jaxem.rotate(np.zeros((5, 2)), method)
    np.testing.assert_array_equal(nothing.loadings, 0)
    assert np.isfinite(nothing.correlations).all()
    assert "factor 1" in str(nothing)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jaxem.rotate(np.ones((4, 2)), "equamax"), "rotation: found 'equamax'; use one of none, varimax"),
        (lambda: jaxem.rotate(np.ones((2, 3))), "d >= q"),
        (lambda: jaxem.rotate(np.full((3, 2), np.nan)), "loadings: found NaN"),
        (lambda: jaxem.oblimin(np.ones((3, 2)), gamma=0.5), "gamma: found 0.5"),
        (lambda: jaxem.promax(np.ones((3, 2)), power=0), "power: found 0"),
        (lambda: jaxem.varimax(np.ones((3, 2)), normalize=3), "normalize: found 3"),
        (lambda: jax.jit(lambda x: jaxem.varimax(x).loadings)(np.ones((3, 2))), "loadings: are traced"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
