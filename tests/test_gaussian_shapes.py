"""mclust's fourteen covariance shapes: Old Faithful as published, counts, M-steps against scipy's minimiser, corners."""

import csv
import json
from functools import lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases.gaussian_shapes import COUPLED, dense, matrices, oracle, start
from scipy.optimize import minimize
from table import some

import jaxem
from jaxem import Gaussian, GaussianParams, Mixture, MixtureParams, Single
from jaxem.families.gaussian_shapes import SHAPES, WORDS, kind_of
from jaxem.kernels.jacobi import diagonalize, partners
from jaxem.kernels.rotations import cayley, uncayley

THOROUGH = pytest.mark.thorough
HERE = Path(__file__).parent / "reference" / "gmm_old_faithful"


@lru_cache
def old_faithful():
    with open(HERE / "data.csv") as file:
        y = np.array([[float(row["eruptions"]), float(row["waiting"])] for row in csv.DictReader(file)])
    fits = json.loads((HERE / "expected.json").read_text())["fits"]
    return y, {(fit["model"], fit["G"]): fit for fit in fits}


@pytest.mark.thorough
@pytest.mark.parametrize("n_states", [1, 2, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_old_faithful(name, n_states):
    """Log-likelihood as mclust's or higher, to 0.01; BIC follows. scipy's at our params is ours, so that a higher one is real."""
    fit_and_compare(name, n_states, 16)


@pytest.mark.slow
def test_old_faithful_quickly():
    """The same for one of them."""
    fit_and_compare("VEV", 2, 2)


def fit_and_compare(name, n_states, restarts):
    y, published = old_faithful()
    model = Mixture(Gaussian(name), n_states)
    assert model.n_parameters(2) == published[name, n_states]["n_params"]
    fit = jaxem.fit(model, y, key=0, restarts=restarts if n_states > 1 else 1)
    assert fit.status == jaxem.Status.CONVERGED
    assert float(fit.log_likelihood) > published[name, n_states]["logLik"] - 0.01
    theirs = np.logaddexp.reduce(oracle(name)(fit.params.components, y) + np.log(fit.params.weights), axis=1).sum()
    np.testing.assert_allclose(fit.log_likelihood, theirs, rtol=1e-12)
    assert model.domains.components.covariance.holds(np.asarray(fit.params.components.covariance))


@pytest.mark.parametrize("name", SHAPES)
def test_counts(name):
    """nMclustParams of mclust without proportions and means: volumes, shapes and orientations."""
    for d in (1, 2, 3, 6):
        for n_states in (1, 2, 5):
            own = [n_states if letter == "V" else 1 for letter in name]
            shapes = 0 if name[1] == "I" else own[1] * (d - 1)
            turns = 0 if name[2] == "I" else own[2] * d * (d - 1) // 2
            kind = kind_of(name)
            assert kind.domain.count(kind.structure(n_states, d)) == own[0] + shapes + turns


def test_words_are_shapes():
    for word, name in WORDS.items():
        assert Gaussian(word).domains == Gaussian(name).domains
        assert Gaussian(word).structure(3, 4) == Gaussian(name).structure(3, 4)


def scatters(name):
    """Scatter and mass that no covariance of the kind fits, columns of unequal mass where cells may be missing."""
    rng = np.random.default_rng(1)
    root = rng.normal(size=(3, 3, 3)) * rng.uniform(0.3, 3, size=(3, 1, 3))
    mass = np.array([20.0, 35.0, 11.0])
    scatter = np.einsum("kij,klj->kil", root, root) * mass[:, None, None]
    if name[2] == "I":
        return np.einsum("kii->ki", scatter), mass[:, None] * rng.uniform(0.5, 1, size=(3, 3))
    return scatter, mass


def lack_of_fit(covariance, scatter, mass):
    """F = sum n log|S| + tr(W S^-1), by other routines than the kernels'."""
    if covariance.ndim == 2:
        return (mass * jnp.log(covariance) + scatter / covariance).sum()
    trace = jnp.trace(jnp.linalg.solve(covariance, scatter), axis1=-2, axis2=-1)
    return (mass * jnp.linalg.slogdet(covariance)[1] + trace).sum()


@pytest.mark.parametrize("name", some(COUPLED, ["VVE"], THOROUGH))
def test_m_step_is_the_least(name):
    """As low as the best of twelve runs of BFGS from random points, to its own rounding; its derivative vanishes."""
    kind, (scatter, mass) = kind_of(name), scatters(name)
    shape = kind.structure(3, 3)
    look = jax.jit(jax.value_and_grad(lambda u: lack_of_fit(kind.domain.unflatten(u, shape), scatter, mass)))
    rng = np.random.default_rng(0)
    best = min(
        minimize(lambda u: [np.asarray(part) for part in look(u)], rng.normal(size=kind.domain.count(shape)), jac=True).fun
        for _ in range(12)
    )
    old = np.asarray(jnp.asarray(matrices(name)))
    old = np.einsum("kii->ki", old) if name[2] == "I" else old
    found = jax.jit(kind.solve)(scatter, mass, old)
    value, gradient = look(kind.domain.flatten(found))
    assert value <= best + 1e-9 * abs(best)
    np.testing.assert_allclose(gradient, 0, atol=2e3 * np.finfo(float).eps * mass.sum() * 3)


@pytest.mark.parametrize("name", some(COUPLED, ["EEV"], THOROUGH))
def test_states_without_rows(name):
    """A state without mass leaves the others as they are without it, and stays in the domain; without any, nothing moves."""
    kind, (scatter, mass) = kind_of(name), scatters(name)
    solve = jax.jit(kind.solve)
    old = matrices(name)
    old = np.einsum("kii->ki", old) if name[2] == "I" else old
    scatter[1], mass[1] = 0, 0
    found = np.asarray(solve(scatter, mass, old))
    assert kind.domain.holds(found)
    # the shared axes start from all states' axes before, and end in the same minimum
    np.testing.assert_allclose(found[[0, 2]], solve(scatter[[0, 2]], mass[[0, 2]], old[[0, 2]]), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(solve(0 * scatter, 0 * mass, old), old, rtol=1e-12, atol=1e-12)
    mass[1] = 5.0  # rows that are all one point: collapsed, and told so
    assert np.isfinite(solve(scatter, mass, old)).all()


@pytest.mark.parametrize("name", some(COUPLED, ["VVE"], THOROUGH))
def test_coordinates_are_onto(name):
    """Any coordinates are a covariance of the kind, whose own coordinates give it back; between two of them, the way is in it."""
    kind = kind_of(name)
    shape = kind.structure(3, 3)
    u = np.random.default_rng(2).normal(size=(2, kind.domain.count(shape)))
    unflatten, flatten = jax.jit(lambda u: kind.domain.unflatten(u, shape)), jax.jit(kind.domain.flatten)
    x, far = (unflatten(row) for row in u)
    np.testing.assert_allclose(unflatten(flatten(x)), x, rtol=1e-11, atol=1e-11 * float(np.abs(x).max()))
    between = jax.jit(kind.domain.between)
    for other in (far, unflatten(u[0] + 1e-3)):
        np.testing.assert_allclose(between(x, other, 0.0), x, rtol=1e-11, atol=1e-11 * float(np.abs(x).max()))
        np.testing.assert_array_equal(between(x, other, 1.0), other)
        assert kind.domain.holds(np.asarray(between(x, other, 0.3)))
    off = np.array(x)
    off[0, 0, ...] *= 1.01
    if name[2] != "I":
        off[0, :, 0] *= 1.01
    assert not kind.domain.holds(off)


def test_axes():
    """Every pair of axes meets once a sweep; eigenvalues are LAPACK's; Cayley's coordinates give orthogonal matrices back."""
    for d in (2, 3, 5, 8):
        met = {frozenset((j, int(other))) for row in partners(d) for j, other in enumerate(row) if j != other}
        assert len(met) == d * (d - 1) // 2
    rng = np.random.default_rng(3)
    root = rng.normal(size=(7, 5, 5))
    whole = root @ np.swapaxes(root, -1, -2)
    _, values = jax.jit(diagonalize)(whole[:, None])
    np.testing.assert_allclose(np.sort(values[:, 0]), np.linalg.eigvalsh(whole), rtol=1e-11, atol=1e-12)
    turns = np.linalg.qr(root)[0]
    back = jax.jit(lambda x: cayley(uncayley(x), 5))(turns)
    np.testing.assert_allclose(np.abs(np.einsum("nij,nij->nj", back, turns)), 1, rtol=1e-12)


@pytest.mark.parametrize("name", ["EVI", "VEV", "VVE"])
def test_parts(name):
    params = start(name)
    volume, shape, turn = Gaussian(name).decompose(jax.tree.map(jnp.asarray, params))
    whole = np.einsum("k,kij,kj,klj->kil", volume, turn, shape, turn)
    np.testing.assert_allclose(whole, dense(name, params), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(shape.prod(-1), 1, rtol=1e-12)
    for part, letter in zip((volume, shape), name[:2], strict=True):
        assert (np.ptp(part, axis=0).max() < 1e-10) == (letter == "E")


def test_refusals():
    y = np.random.default_rng(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match="unknown kind 'VEX'; use one of full, tied"):
        Gaussian("VEX")
    fixed = Mixture(Gaussian("VEV"), 3, fixed={"covariance": matrices("VEV")})
    with pytest.raises(ValueError, match="share their shape"):
        jaxem.fit(fixed, y, key=0)
    off = MixtureParams(np.ones(3) / 3, GaussianParams(start("VEV").mean, matrices("VVV")))
    with pytest.raises(ValueError, match="covariance"):
        jaxem.fit(Mixture(Gaussian("VEV"), 3), y, params=off)
    with pytest.raises(TypeError, match="known in closed form"):
        Gaussian("VEV").conjugate(None, None)


@pytest.mark.parametrize("name", some([name for name in SHAPES if name[2] != "I"], [], THOROUGH))
def test_one_state_is_the_whole_covariance(name):
    """K = 1: every shape with an orientation is the sample's covariance."""
    y = np.random.default_rng(0).normal(size=(40, 3)) @ np.array([[1.0, 0.4, 0.1], [0, 2, 0.5], [0, 0, 0.7]])
    fit = jaxem.fit(Single(Gaussian(name)), y)
    np.testing.assert_allclose(np.squeeze(fit.params.covariance), np.cov(y.T, bias=True), rtol=1e-10, atol=1e-12)
