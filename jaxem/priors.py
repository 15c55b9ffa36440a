"""Conjugate priors, for maximum a posteriori fits that cannot collapse."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax


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


class MixturePrior(NamedTuple):
    """Prior of a mixture: Dirichlet(concentration) on the weights, `components` on the family's params."""

    concentration: jax.Array  # () or (K,), 1 is flat
    components: Any
