"""The weak prior that keeps components from collapsing, set from data."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_count, check_matrix, is_traced
from jaxem.families import Gaussian
from jaxem.fit import fit
from jaxem.models import Single
from jaxem.priors import MixturePrior, NormalInverseWishart


def weak_prior(y: Any, n_components: int, *, weights: Any = None, concentration: float = 1.0) -> MixturePrior:
    """The weak, scale-equivariant prior of mclust for a Gaussian mixture of `y` (n, d).

    dof = d + 2, scale = cov(y) / K^(2/d), mean = the column means, shrinkage = 0.01 (Fraley and Raftery 2007, J. Classification
    24:155). With holes or `weights` (n,), mean and covariance are those of a single Gaussian by maximum likelihood. Rescaling y
    rescales it, so it fits any units.

    Raises:
        ValueError: traced data (the prior is set once, outside of jit).
    """
    check_count(n_components, "n_components")
    if is_traced((y, weights)):
        raise ValueError("y: is traced; compute the prior from concrete data, or build MixturePrior yourself.")
    array, _ = check_matrix(y)
    d = array.shape[1]
    whole = fit(Single(Gaussian()), array, weights=weights).params
    components = NormalInverseWishart(
        mean=whole.mean,
        shrinkage=jnp.asarray(0.01, whole.mean.dtype),
        dof=jnp.asarray(d + 2, whole.mean.dtype),
        scale=whole.covariance / np.asarray(n_components ** (2 / d), array.dtype),
    )
    return MixturePrior(jnp.asarray(concentration, whole.mean.dtype), components)
