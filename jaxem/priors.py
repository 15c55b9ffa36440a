"""Conjugate priors, for maximum a posteriori fits that cannot collapse."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.conjugate import Betas, Dirichlets, Gammas


class NormalInverseWishart(NamedTuple):
    r"""Prior of the mean and covariance of each Gaussian state.

    mu_k | S_k ~ N(mean, S_k / shrinkage),  S_k ~ inverse Wishart(dof, scale): density proportional to
    |S|^{-(dof + d + 1)/2} exp(-tr(scale S^-1)/2). A diagonal covariance takes inverse gamma(dof/2, scale_jj/2) for each
    variance, a spherical one a single inverse gamma(dof/2, trace(scale)/(2d)), a tied one a single inverse Wishart
    (Fraley and Raftery 2007, J. Classification 24:155). shrinkage 0 leaves the means flat.
    """

    mean: jax.Array  # (d,)
    shrinkage: jax.Array  # () rows that the prior mean is worth
    dof: jax.Array  # ()
    scale: jax.Array  # (d, d)


class NormalInverseGamma(NamedTuple):
    r"""Prior of the coefficients and error variance of each linear regression; the intercept is flat.

    coefficients_kj | variance_k ~ N(mean_j, variance_k / precision_j), variance_k ~ inverse gamma(dof / 2, scale / 2): density
    proportional to variance^{-(dof + 2)/2} exp(-scale / (2 variance)). precision 0 leaves a coefficient flat.
    """

    mean: jax.Array  # () or (p,)
    precision: jax.Array  # () or (p,): sum of squares of the covariate that the prior mean is worth
    dof: jax.Array  # ()
    scale: jax.Array  # ()


class NormalPrior(NamedTuple):
    """Normal prior of the coefficients of each regression: N(mean, scale^2) each, and N(0, intercept_scale^2) of the intercept.

    An infinite scale is flat. On separated data, where maximum likelihood has no answer, it gives one.
    """

    mean: jax.Array  # () or (p,)
    scale: jax.Array  # () or (p,)
    intercept_scale: jax.Array | float = float("inf")  # ()


class GammaPrior(NamedTuple):
    """Gamma(shape, rate) on each rate: density proportional to x^(shape - 1) e^(-rate x). shape 1, rate 0 is flat."""

    shape: jax.Array  # () or what broadcasts to the params
    rate: jax.Array  # likewise

    def log_density(self, x: jax.Array) -> jax.Array:
        """Sum over x of the log-density, up to a constant."""
        shape = jnp.broadcast_to(self.shape, x.shape)
        return dot_log(shape - 1, x) - (self.rate * x).sum()

    def distribution(self, x: jax.Array) -> Gammas:
        """For each entry of x."""
        return Gammas(jnp.broadcast_to(self.shape, x.shape), jnp.broadcast_to(self.rate, x.shape))


class BetaPrior(NamedTuple):
    """Beta(a, b) on each probability: density proportional to p^(a - 1) (1 - p)^(b - 1). a = b = 1 is flat."""

    a: jax.Array  # () or what broadcasts to the params
    b: jax.Array  # likewise

    def log_density(self, p: jax.Array) -> jax.Array:
        """Sum over p of the log-density, up to a constant."""
        a, b = jnp.broadcast_to(self.a, p.shape), jnp.broadcast_to(self.b, p.shape)
        return dot_log(a - 1, p) + dot_log(b - 1, 1 - p)

    def distribution(self, p: jax.Array) -> Betas:
        """For each entry of p."""
        return Betas(jnp.broadcast_to(self.a, p.shape), jnp.broadcast_to(self.b, p.shape))


class DirichletPrior(NamedTuple):
    """Dirichlet(concentration) on each vector of probabilities. concentration 1 is flat."""

    concentration: jax.Array  # () or what broadcasts to the params

    def distribution(self, p: jax.Array) -> Dirichlets:
        """For each vector along the last axis of p; what has probability 0 is taken as impossible."""
        return Dirichlets(jnp.where(p > 0, jnp.broadcast_to(self.concentration, p.shape), 0))


class MixturePrior(NamedTuple):
    """Prior of a mixture: Dirichlet(concentration) on the weights, `components` on the family's params."""

    concentration: jax.Array  # () or (K,), 1 is flat
    components: Any


def dot_log(counts: jax.Array, probabilities: jax.Array) -> jax.Array:
    """sum counts log probabilities, with 0 log 0 = 0."""
    counted = counts != 0
    return jnp.where(counted, counts * jnp.log(jnp.where(counted, probabilities, 1)), 0).sum()
