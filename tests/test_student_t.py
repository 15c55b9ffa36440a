"""t rows: published and independently computed answers, ECME and the expanded M-step, dof at both ends."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from cases import student_t
from scipy import special
from table import some
from test_oracles import case

import jaxem
from jaxem import Gaussian, Mixture, Poisson, Single, Status, Stop, StudentT, StudentTParams, ecme, em
from jaxem.kernels.student import log1p_minus, log_gamma_ratio, log_minus_digamma

TIGHT = Stop(tolerance=1e-9, max_steps=5000)


@pytest.mark.parametrize("algorithm", [None, em(), em(expanded=False)], ids=["ecme", "px", "plain"])
def test_hills(algorithm):
    y, expected = case("student_t_hills", ["dist", "climb", "time"])
    fit = jaxem.fit(Single(StudentT()), np.log(y), stop=TIGHT, algorithm=algorithm)
    assert fit.status == Status.CONVERGED
    assert abs(float(fit.log_likelihood) - expected["logLik"]) < 1e-6
    np.testing.assert_allclose(fit.params.dof, expected["params"]["df"], atol=1e-3)
    np.testing.assert_allclose(fit.params.mean, expected["params"]["mean"], atol=1e-4)
    np.testing.assert_allclose(fit.params.scale, expected["params"]["scale"], atol=1e-4)


def test_animals():
    y, expected = case("t_multivariate_animals", ["log_body", "log_brain"])
    truth = expected["fits"][0]
    fit = jaxem.fit(Single(StudentT()), y, stop=TIGHT)
    assert abs(float(fit.log_likelihood) - truth["logLik"]) < 1e-6
    np.testing.assert_allclose(fit.params.dof, truth["params"]["dof"][0], rtol=1e-4)
    np.testing.assert_allclose(fit.params.mean, truth["params"]["means"][0], rtol=1e-4)


@pytest.mark.parametrize("seed", some(range(3), [0], pytest.mark.thorough))
def test_quakes(seed):
    y, expected = case("student_t_mixture_quakes", ["lat", "long"])
    fit = jaxem.fit(Mixture(StudentT(dof="common"), 2), y, key=seed, restarts=3, stop=TIGHT)
    assert fit.status == Status.CONVERGED
    assert abs(float(fit.log_likelihood) - expected["logLik"]) < 1e-5
    np.testing.assert_allclose(fit.params.components.dof, expected["params"]["df"], atol=1e-3)
    np.testing.assert_allclose(fit.params.components.mean, expected["params"]["means"], atol=1e-3)
    assert Mixture(StudentT(dof="common"), 2).n_parameters(2) == expected["n_params"]


@pytest.mark.parametrize("seed", some(range(2), [0], pytest.mark.thorough))
def test_old_faithful(seed):
    y, expected = case("t_mixture_old_faithful", ["eruptions", "waiting"])
    fit = jaxem.fit(Mixture(StudentT(dof="common"), 2), y, key=seed, restarts=3, stop=TIGHT)
    assert abs(float(fit.log_likelihood) - expected["fits"][0]["logLik"]) < 1e-5
    np.testing.assert_allclose(fit.params.components.dof, expected["fits"][0]["params"]["dof"][0], rtol=1e-2)


def test_expanded_m_step_takes_a_fifth_of_the_steps():
    """A Cauchy sample in five dimensions: about 80 plain steps, about 12 expanded ones (Liu, Rubin and Wu 1998)."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 5)) / np.sqrt(rng.chisquare(1, size=(200, 1)))
    model, stop = Single(StudentT(dof=1)), Stop(1e-7)
    plain, expanded = (jaxem.fit(model, y, stop=stop, algorithm=em(expanded=e)) for e in (False, True))
    assert abs(float(plain.log_likelihood - expanded.log_likelihood)) < 1e-5
    assert 5 * expanded.steps < plain.steps


@pytest.mark.slow
def test_normal_data_send_dof_to_infinity_and_it_is_said():
    y = np.random.default_rng(1).uniform(-1, 1, size=(300, 2))
    model = Single(StudentT())
    fit = jaxem.fit(model, y)
    assert fit.params.dof > 1e5
    assert "infinite" in model.remarks(fit.params, y)[0]
    np.testing.assert_allclose(fit.log_likelihood, jaxem.fit(Single(Gaussian()), y).log_likelihood, atol=1e-3)


def density(row, dof):
    """Log of the t density with location 0 and scale I, in 40 digits: scipy's loses them where dof is large."""
    with mpmath.workdps(40):
        dof, d, square = mpmath.mpf(dof), len(row), sum(mpmath.mpf(v) ** 2 for v in row)
        constant = mpmath.loggamma((dof + d) / 2) - mpmath.loggamma(dof / 2) - d * mpmath.log(mpmath.pi * dof) / 2
        return float(constant - (dof + d) / 2 * mpmath.log1p(square / dof))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dof", [1e-2, 1e6, 1e10])
def test_extreme_dof(dof, dtype):
    y = np.random.default_rng(2).normal(size=(20, 2)).astype(dtype)
    model = Mixture(StudentT(dof=dof), 1)
    params = model.init(0, y)
    components = StudentTParams(jnp.zeros((1, 2), dtype), jnp.eye(2, dtype=dtype)[None], jnp.asarray(dof, dtype))
    params = params._replace(components=components)
    ours = model.log_likelihood(params, y, per_row=True)
    theirs = [density(row, dof) for row in y.astype(np.float64)]
    np.testing.assert_allclose(ours, theirs, rtol=3e2 * np.finfo(dtype).eps)
    moved = model.m_step(params, model.e_step(params, y).statistics)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))


def test_special_functions():
    x = np.geomspace(1e-2, 1e3, 30)
    for a in (0.5, 1.5, 4.0):
        np.testing.assert_allclose(log_gamma_ratio(x, a), special.gammaln(x + a) - special.gammaln(x) - a * np.log(x), atol=1e-11)
    np.testing.assert_allclose(log_minus_digamma(x), np.log(x) - special.digamma(x), atol=1e-12)
    t = np.array([-0.9, -0.05, 0.02, 0.5, 7.0])
    np.testing.assert_allclose(log1p_minus(t), np.log1p(t) - t, rtol=1e-12)


def test_samples_have_the_moments():
    params = StudentTParams(jnp.array([1.0, -1.0]), jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.asarray(9.0))
    y = np.asarray(Single(StudentT(dof=9.0)).sample(0, params, 40000))
    np.testing.assert_allclose(y.mean(axis=0), params.mean, atol=0.03)
    np.testing.assert_allclose(np.cov(y.T), np.asarray(params.scale) * 9 / 7, atol=0.08)


def test_ecme_moves_any_block():
    """Weights on the observed likelihood reach the same maximum as EM."""
    y = np.random.default_rng(3).poisson([2.0, 9.0], size=(100, 2)).reshape(-1, 1).astype(float)
    plain = jaxem.fit(Mixture(Poisson(), 2), y, key=0, stop=TIGHT)
    block = jaxem.fit(Mixture(Poisson(), 2), y, key=0, stop=TIGHT, algorithm=ecme("weights"))
    np.testing.assert_allclose(block.log_likelihood, plain.log_likelihood, atol=1e-7)
    assert block.steps < plain.steps


BAD = {
    "dof": (lambda: StudentT(dof=-1.0), "dof: found -1.0"),
    "dof text": (lambda: StudentT(dof="all"), "dof: found 'all'"),
    "covariance": (lambda: StudentT("round"), "covariance: unknown kind 'round'"),
    "no block": (lambda: ecme(), "blocks: found none"),
    "unknown block": (
        lambda: jaxem.fit(Single(StudentT()), np.eye(4)[:, :2], algorithm=ecme("df")), "'df' is no parameter.*mean, scale, dof",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
def test_expansion_of_a_shared_scale_has_the_fixed_points_of_em():
    """One free factor for all states, where each its own would ask for scales that are not shared."""
    row = next(row for row in student_t.ROWS if row.name == "mixture-student-tied-common")
    y, params = row.data("float64"), row.params("float64")
    stop = Stop(tolerance=1e-9, max_steps=5000)
    ends = [jaxem.fit(row.model, y, params=params, algorithm=em(expanded), stop=stop).objective for expanded in (True, False)]
    np.testing.assert_allclose(*ends, rtol=0, atol=1e-6)
