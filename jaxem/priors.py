"""Conjugate priors, for maximum a posteriori fits that cannot collapse."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_count, check_matrix, is_traced


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


def weak_prior(y: Any, n_components: int, *, concentration: float = 1.0) -> MixturePrior:
    """The weak, scale-equivariant prior of mclust for a Gaussian mixture of `y` (n, d).

    dof = d + 2, scale = cov(y) / K^(2/d), mean = the column means, shrinkage = 0.01 (Fraley and Raftery 2007). With holes,
    mean and covariance are those of a single Gaussian by maximum likelihood. Rescaling y rescales it, so it fits any units.

    Raises:
        ValueError: traced data (the prior is set once, outside of jit).
    """
    from jaxem.families.gaussian import Gaussian
    from jaxem.fit import fit
    from jaxem.models.single import Single

    check_count(n_components, "n_components")
    if is_traced(y):
        raise ValueError("y: is traced; compute the prior from concrete data, or build MixturePrior yourself.")
    array, _ = check_matrix(y)
    d = array.shape[1]
    whole = fit(Single(Gaussian()), array).params
    components = NormalInverseWishart(
        mean=whole.mean,
        shrinkage=jnp.asarray(0.01, whole.mean.dtype),
        dof=jnp.asarray(d + 2, whole.mean.dtype),
        scale=whole.covariance / np.asarray(n_components ** (2 / d), array.dtype),
    )
    return MixturePrior(jnp.asarray(concentration, whole.mean.dtype), components)
