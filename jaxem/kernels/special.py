"""Special functions that more than one family needs."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from jaxem.checks import is_traced


def log_factorial(y: Any) -> Any:
    """log y! of whole numbers; in float64 where they can be looked at, since float32 is wrong by 1e-6 even at 0."""
    if is_traced(y):
        return gammaln(y + 1)
    values, place = np.unique(np.asarray(y), return_inverse=True)
    exact = np.array([math.lgamma(float(value) + 1) for value in values])
    return jnp.asarray(exact[place].reshape(np.shape(y)), np.asarray(y).dtype)
