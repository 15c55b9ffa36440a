"""What a user hands in besides plain arrays: responses with covariates, and cells known only to lie in an interval."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_matrix, is_traced


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
        ValueError: a left limit that is not below the right one; limits of another shape than y.
    """
    if left is not None and right is not None and not is_traced((left, right)) and (np.asarray(left) >= np.asarray(right)).any():
        raise ValueError(f"left: found {left} with right {right}; give left < right.")
    numpy: Any = jnp if is_traced((y, left, right)) else np
    y = numpy.asarray(y)
    y = y if numpy.issubdtype(y.dtype, numpy.floating) else y.astype(float)
    for name, limit in (("left", left), ("right", right)):
        if limit is not None and np.shape(limit) not in ((), y.shape):
            raise ValueError(f"{name}: found shape {np.shape(limit)} for y of shape {y.shape}; give one number, or one for each.")
    low = numpy.zeros(y.shape, bool) if left is None else y <= left
    high = numpy.zeros(y.shape, bool) if right is None else y >= right
    lower = numpy.where(low, -numpy.inf, y if right is None else numpy.where(high, right, y))
    upper = numpy.where(high, numpy.inf, y if left is None else numpy.where(low, left, y))
    return Interval(lower.astype(y.dtype), upper.astype(y.dtype))


class WeightedRows(NamedTuple):
    """Rows that stand for others: `fit(model, rows.y, weights=rows.weights)`."""

    y: Any  # (2 d, d), a data frame where names are known
    weights: np.ndarray  # (2 d,)


def from_covariance(covariance: Any, n: float, *, mean: Any = None, ddof: int = 0) -> WeightedRows:
    """2 d weighted rows with exactly this covariance and mean: all that a Gaussian or factor model reads of n complete rows.

    The log-likelihood of such a model is that of the n rows themselves, of a correlation matrix that of rows scaled to
    variance 1. The rows are mean +- sqrt(d) c_j with C C' the covariance, each of weight n / 2 d.

    Args:
        covariance: (d, d) covariances or correlations; a data frame gives the names of the columns.
        n: rows that it was computed from.
        mean: (d,); default zeros, as where it is not known.
        ddof: what was taken from n in the divisor, 1 where the covariance is the unbiased one; correlations do not tell.

    Raises:
        TypeError, ValueError: not a square, symmetric, positive semidefinite matrix of numbers; n not above ddof; another
            length of mean.
    """
    matrix, names = check_matrix(covariance, "covariance")
    if is_traced(matrix):
        raise TypeError("covariance: is traced; make the rows outside of jit.")
    d = matrix.shape[1]
    if matrix.shape != (d, d) or not np.isfinite(matrix).all():
        holes = " with NaN" if np.isnan(matrix).any() else ""
        raise ValueError(f"covariance: found shape {matrix.shape}{holes}; give (d, d) numbers.")
    spread, dtype = matrix.astype(np.float64), matrix.dtype
    slack = 1e3 * np.finfo(dtype).eps
    scale = np.sqrt(np.abs(np.diagonal(spread)))
    gap = np.abs(spread - spread.T)
    if (gap > max(slack, 1e-6) * np.outer(scale, scale)).any():
        i, j = np.unravel_index(np.argmax(gap), gap.shape)
        raise ValueError(f"covariance: is not symmetric: {spread[i, j]:g} in row {i}, column {j}, and {spread[j, i]:g} in row {j}.")
    if isinstance(n, bool) or not isinstance(n, (int, float, np.number)) or not ddof < n < np.inf:
        raise ValueError(f"n: found {n!r}; give the number of rows, above {ddof}.")
    roots, vectors = np.linalg.eigh((spread + spread.T) / 2)
    if roots[0] < -slack * max(roots[-1], 0.0):
        raise ValueError(f"covariance: has the negative eigenvalue {roots[0]:g}; give a positive semidefinite matrix.")
    centre = np.zeros(d) if mean is None else np.asarray(mean, np.float64).ravel()
    if centre.shape != (d,) or not np.isfinite(centre).all():
        raise ValueError(f"mean: found shape {np.shape(mean)} for {d} columns; give one finite number for each.")
    sides = (vectors * np.sqrt(np.maximum(roots, 0) * d * (n - ddof) / n)).T
    y: Any = np.concatenate([centre + sides, centre - sides]).astype(dtype)
    if names is not None:
        y = type(covariance)(y, columns=list(names))
    return WeightedRows(y, np.full(2 * d, n / (2 * d)))


def count_rows(data: Any) -> int:
    """Rows of any data: the length of its first leaf."""
    return int(np.shape(jax.tree.leaves(data)[0])[0])
