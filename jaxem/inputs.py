"""What a user hands in besides plain arrays: responses with covariates, and cells known only to lie in an interval."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Regression:
    """Responses y with covariates.

    Args:
        y: (n,) or (n, d) responses, NaN where missing, or an `Interval`.
        x: (n, p) covariates of the response, a data frame or array; None or p = 0 for none. Every cell must be observed.
        intercept: whether the regression has an intercept of its own; x then holds no column of ones.
        offset: (n,) known part of the linear predictor, for instance the log of an exposure.
        gate: (n, g) covariates of the state probabilities, for `MixtureOfExperts`.

    Rows are the leading axis of every leaf; it is a pytree, so that all of it can be traced.
    """

    y: Any
    x: Any = None
    intercept: bool = True
    offset: Any = None
    gate: Any = None


jax.tree_util.register_dataclass(Regression, data_fields=("y", "x", "offset", "gate"), meta_fields=("intercept",))


@dataclasses.dataclass(frozen=True)
class Interval:
    """Cells known to lie in [lower, upper]: equal ends are exact, (-inf, c) is left-censored, (c, inf) right-censored,
    (-inf, inf) missing (or NaN at both ends).

    Args:
        lower: (n,) or (n, d).
        upper: the same shape.
        entry: (n,), or None; left truncation: the row is there only because its cell exceeded `entry`.
    """

    lower: Any
    upper: Any
    entry: Any = None


jax.tree_util.register_dataclass(Interval, data_fields=("lower", "upper", "entry"), meta_fields=())


def tobit(y: Any, left: Any = None, right: Any = None) -> Interval:
    """Responses of a Tobit model: cells at or beyond the limits are censored there, the others exact, NaN missing.

    Args:
        y: (n,) responses as recorded.
        left: limit below which nothing is recorded, one number or (n,); None for none.
        right: limit above.

    Raises:
        ValueError: a left limit that is not below the right one.
    """
    if left is not None and right is not None and not _traced((left, right)) and (np.asarray(left) >= np.asarray(right)).any():
        raise ValueError(f"left: found {left} with right {right}; give left < right.")
    numpy: Any = jnp if _traced((y, left, right)) else np
    y = numpy.asarray(y)
    y = y if numpy.issubdtype(y.dtype, numpy.floating) else y.astype(float)
    low = numpy.zeros(y.shape, bool) if left is None else y <= left
    high = numpy.zeros(y.shape, bool) if right is None else y >= right
    lower = numpy.where(low, -numpy.inf, y if right is None else numpy.where(high, right, y))
    upper = numpy.where(high, numpy.inf, y if left is None else numpy.where(low, left, y))
    return Interval(lower.astype(y.dtype), upper.astype(y.dtype))


def _traced(tree: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def count_rows(data: Any) -> int:
    """Rows of any data: the length of its first leaf."""
    return int(np.shape(jax.tree.leaves(data)[0])[0])
