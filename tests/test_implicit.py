"""A fit within programs that are differentiated: as a layer, by a prior, with holes, and where it must not be trusted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import Gaussian, Mixture, MixturePrior, Single, Status, Stop

RNG = np.random.default_rng(4)
X = np.concatenate([RNG.normal(-2, 1, (30, 1)), RNG.normal(2, 1, (30, 1))])
MODEL = Mixture(Gaussian(), 2)
START = jaxem.MixtureParams(np.array([0.5, 0.5]), jaxem.GaussianParams(np.array([[-2.0], [2.0]]), np.ones((2, 1, 1))))
STOP = Stop(tolerance=1e-13, max_steps=5000)


def encode(slope, x):
    """A bend that keeps the order of the rows."""
    return x + slope * jnp.tanh(x)


def through_params(slope, stop=STOP, **options):
    """Log-density of ten rows at params fitted to the others after encoding all of them."""
    z = encode(slope, jnp.asarray(X))
    fit = jaxem.fit(MODEL, z[5:-5], params=START, stop=stop, **options)
    return MODEL.log_likelihood(fit.params, jnp.concatenate([z[:5], z[-5:]]))


@pytest.mark.slow
def test_encoder_is_trained_through_the_params():
    """Forward and reverse mode under jit are one number, and that of refits (central differences, error h^2)."""
    here = 0.3
    backward = float(jax.jit(jax.grad(through_params))(here))
    forward = float(jax.jit(jax.jacfwd(through_params))(here))
    value = jax.jit(through_params)
    h = 1e-4
    assert backward == pytest.approx(forward, rel=1e-10)
    assert backward == pytest.approx(float(value(here + h) - value(here - h)) / (2 * h), rel=1e-5)


@pytest.mark.slow
def test_not_converged_has_no_derivative_unless_asked():
    early = Stop(max_steps=2)
    assert np.isnan(jax.grad(through_params)(0.3, early))
    assert np.isnan(jax.jacfwd(through_params)(0.3, early))
    assert np.isfinite(jax.grad(lambda slope: through_params(slope, early, derivatives="always"))(0.3))
    with pytest.raises(ValueError, match="derivatives: found 'maybe'"):
        jaxem.fit(MODEL, X, params=START, derivatives="maybe")


@pytest.mark.slow
def test_prior_strength_by_its_gradient():
    """The derivative of a held-out log-likelihood by the log of a prior's strength is that of refits, under vmap as well."""
    train, held = X[::2], X[1::2]
    usual = jaxem.weak_prior(train, 2)

    def validation(strength):
        components = usual.components._replace(shrinkage=jnp.exp(strength))
        own = Mixture(Gaussian(), 2, prior=MixturePrior(usual.concentration, components))
        fit = jaxem.fit(own, train, params=START, stop=STOP, algorithm=jaxem.newton())  # to the last digit, which differences need
        return own.log_likelihood(fit.params, held)

    slopes = jax.jit(jax.vmap(jax.grad(validation)))(jnp.array([0.0, 1.5]))
    value = jax.jit(validation)
    for strength, slope in zip((0.0, 1.5), slopes, strict=True):
        difference = float(value(strength + 1e-3) - value(strength - 1e-3)) / 2e-3
        assert float(slope) == pytest.approx(difference, rel=1e-5, abs=1e-8)


@pytest.mark.slow
def test_mean_and_log_likelihood_in_closed_form():
    """A normal sample: d mean / d y_i = w_i / sum w, d mean / d w_i = (y_i - mean) / sum w; the log-likelihood's derivative by y_i
    is -w_i (y_i - mean) / variance, its params held (envelope theorem)."""
    y, w = X[:20], RNG.uniform(0.5, 2, 20)

    def mean(y, w):
        return jaxem.fit(Single(Gaussian()), y, weights=w, stop=STOP).params.mean[0]

    by_y, by_w = jax.jacfwd(mean, (0, 1))(jnp.asarray(y), jnp.asarray(w))
    centre = (w @ y / w.sum())[0]
    np.testing.assert_allclose(by_y[:, 0], w / w.sum(), rtol=1e-9)
    np.testing.assert_allclose(by_w, (y[:, 0] - centre) / w.sum(), rtol=1e-9, atol=1e-12)
    slope = jax.grad(lambda y: jaxem.fit(Single(Gaussian()), y, weights=jnp.asarray(w), stop=STOP).log_likelihood)(jnp.asarray(y))
    variance = w @ (y[:, 0] - centre) ** 2 / w.sum()
    np.testing.assert_allclose(slope[:, 0], -w * (y[:, 0] - centre) / variance, rtol=1e-9)


def test_values_put_in_prepared_rows():
    """Rows refilled with their own values are the same rows; holes stay holes whatever is given there."""
    y = RNG.normal(size=(20, 3))
    holes = RNG.random(y.shape) < 0.3
    for model in (Single(Gaussian()), Mixture(Gaussian(covariance="diagonal"), 2), Single(jaxem.StudentT())):
        rows = jaxem.prepare(model, np.where(holes, np.nan, y))
        again = jaxem.prepare(model, np.where(holes, 1e9, y), like=rows)
        params = model.init(0, rows)
        np.testing.assert_allclose(model.log_likelihood(params, again), model.log_likelihood(params, rows), rtol=1e-12)
    with pytest.raises(ValueError, match="found shape"):
        jaxem.prepare(model, y[:5], like=rows)
    with pytest.raises(TypeError, match="like: found"):
        jaxem.prepare(model, y, like=y)


def test_fit_in_jit_without_derivatives_is_the_same():
    found = jax.jit(lambda y: jaxem.fit(MODEL, y, params=START))(jnp.asarray(X))
    plain = jaxem.fit(MODEL, X, params=START)
    assert int(found.status) == Status.CONVERGED
    np.testing.assert_allclose(found.log_likelihood, plain.log_likelihood, rtol=1e-12)
