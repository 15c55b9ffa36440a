"""Second-moment statistics of Gaussian rows and the coordinates they are taken in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import apply, invert_lower, matmul, outer, transpose


class Frame(NamedTuple):
    """Coordinates x = factor^-1 (y - origin) of statistics.

    Sums of squares about a far origin lose digits: in float32 a mean 1000 standard deviations away leaves none. A frame at
    the data's centre, or at the current params, keeps them.
    """

    origin: jax.Array  # (d,), or (K, d) one for each state
    factor: jax.Array | None  # None for the identity, (K, d, d) lower triangular, or (K, d) diagonal


class Moments(NamedTuple):
    """Sums over rows, in the coordinates of a frame (the user's own where there is none)."""

    weight: jax.Array  # (K,), or (K, d) where cells are counted one by one
    first: jax.Array  # (K, d) sum of r x
    second: jax.Array  # (K, d, d) sum of r x x', or (K, d) sum of r x^2


class Kernel(NamedTuple):
    """One way to compute with Gaussian rows; see `jaxem.family.Family` for what each function does."""

    bind: Callable  # (mean (K, d), covariance, mask (P, d), origin (d,)) -> bound
    log_prob: Callable  # (bound, cells) -> (c, K, b)
    sums: Callable  # (bound, cells, r (c, K, b)) -> raw sums
    finish: Callable  # (bound, raw, origin, frame) -> Moments
    complete: Callable  # (bound, cells) -> conditional means and covariances


def centre(moments: Moments, frame: Frame | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Weight, mean (K, d) and scatter about the mean ((K, d, d) or (K, d)) in the user's coordinates.

    A state without weight has scatter 0 and the frame's origin as mean.
    """
    weight, first, second = moments
    counted = weight if weight.ndim == first.ndim else weight[:, None]
    mean = first / jnp.where(counted > 0, counted, 1)
    dense = second.ndim == first.ndim + 1
    scatter = second - (outer(first, mean) if dense else first * mean)
    if frame is None:
        return weight, mean, scatter
    if frame.factor is None:
        return weight, frame.origin + mean, scatter
    if dense:
        return weight, frame.origin + apply(frame.factor, mean), matmul(matmul(frame.factor, scatter), transpose(frame.factor))
    return weight, frame.origin + frame.factor * mean, frame.factor * frame.factor * scatter


def about(moments: Moments, frame: Frame | None, point: jax.Array) -> jax.Array:
    """Sum of r (y - point)(y - point)' in the coordinates of the frame's factor; linear in the moments. `point` is (K, d)."""
    weight, first, second = moments
    dense = second.ndim == first.ndim + 1
    shift = point if frame is None else point - frame.origin
    if frame is not None and frame.factor is not None:
        shift = apply(invert_lower(frame.factor), shift) if dense else shift / frame.factor
    if not dense:
        return second - 2 * shift * first + weight * shift * shift
    cross = outer(first, shift)
    return second - cross - transpose(cross) + weight[:, None, None] * outer(shift, shift)
