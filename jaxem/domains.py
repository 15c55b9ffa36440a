"""Domains of parameters, declared once per family: where a leaf of a params tree lives, and its free coordinates.

A params tree has a parallel tree of `Domain`s; what follows for whole trees is in `jaxem.coordinates`.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.kernels.linalg import cholesky, lower_form


@dataclasses.dataclass(frozen=True)
class Domain:
    """Where a parameter lives. A leaf has shape (*batch, *event); coordinates are taken event by event.

    `state_axes` are the axes that run over the latent states (permuted when states are relabelled); empty for a parameter
    that all states share.
    """

    state_axes: tuple[int, ...] = (0,)
    event_ndim: int = 0
    says: str = "finite numbers"

    def free(self, event: tuple[int, ...]) -> int:
        """Number of unconstrained coordinates of one event."""
        return math.prod(event)

    def unconstrain(self, x: jax.Array) -> jax.Array:
        """(*batch, *event) -> (*batch, free)."""
        batch, event = _split(self, x.shape)
        return x.reshape(*batch, math.prod(event))  # written out: a leaf may hold nothing

    def constrain(self, u: jax.Array, event: tuple[int, ...]) -> jax.Array:
        """(*batch, free) -> (*batch, *event)."""
        return u.reshape(u.shape[:-1] + event)

    @property
    def elementwise(self) -> bool:
        """Whether each cell has a coordinate of its own."""
        return True

    def count(self, shape: tuple[int, ...]) -> int:
        """Free coordinates of a whole leaf."""
        batch, event = _split(self, shape)
        return math.prod(batch) * self.free(event)

    def flatten(self, x: jax.Array) -> jax.Array:
        """A whole leaf as a vector of its free coordinates."""
        return self.unconstrain(x).reshape(-1)

    def unflatten(self, vector: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Inverse of `flatten`."""
        batch, event = _split(self, shape)
        return self.constrain(vector.reshape(*batch, self.free(event)), event)

    def log_volume(self, u: jax.Array, event: tuple[int, ...]) -> jax.Array:
        """(*batch, free) -> (*batch,): log of how much `constrain` stretches volume at u, the log determinant of its derivative.

        Volume is that of the cells a value is told by: all but the last of probabilities, the lower triangle of a symmetric
        matrix, area on a sphere. Coordinates that are not finite stay where they are and have none.

        Raises:
            TypeError: the domain does not say.
        """
        raise TypeError(f"{type(self).__name__} does not say how its coordinates stretch volume, which a posterior density needs.")

    def log_volumes(self, vector: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """() the same of `unflatten`, for a whole leaf."""
        batch, event = _split(self, shape)
        return self.log_volume(vector.reshape(*batch, self.free(event)), event).sum()

    def relabel(self, x: jax.Array, order: jax.Array) -> jax.Array:
        """A whole leaf with state order[k] at place k."""
        for axis in self.state_axes:
            x = jnp.take(x, order, axis=axis)
        return x

    def between(self, a: jax.Array, b: jax.Array, fraction: jax.Array) -> jax.Array:
        """A point on the way from a to b within the domain; b itself at fraction 1."""
        return jnp.where(fraction == 1, b, a + fraction * (b - a))

    def holds(self, x: np.ndarray) -> bool:
        """Whether a concrete value lies in the domain."""
        return bool(np.isfinite(x).all())


class Real(Domain):
    """Any finite number; coordinates are the values themselves."""

    def log_volume(self, u, event):
        return jnp.zeros_like(u[..., :1]).sum(-1)


@dataclasses.dataclass(frozen=True)
class Known(Domain):
    """A number that is given, shared by all states: no coordinate."""

    state_axes: tuple[int, ...] = ()
    value: float = 0.0
    says: str = "the number that the model was given"

    def count(self, shape):
        return 0

    def flatten(self, x):
        return jnp.zeros(0, x.dtype)

    def unflatten(self, vector, shape):
        return jnp.full(shape, self.value, vector.dtype)

    def log_volumes(self, vector, shape):
        return jnp.zeros((), vector.dtype)

    def holds(self, x):
        return bool(np.allclose(x, self.value))


@dataclasses.dataclass(frozen=True)
class Derived(Domain):
    """Probabilities that follow from other params, or are given by state: no coordinate. The model fills them in."""

    says: str = "numbers >= 0 that sum to 1 along the last axis"

    def count(self, shape):
        return 0

    def flatten(self, x):
        return jnp.zeros(0, x.dtype)

    def unflatten(self, vector, shape):
        return jnp.full(shape, 1 / shape[-1], vector.dtype)

    def log_volumes(self, vector, shape):
        return jnp.zeros((), vector.dtype)

    def holds(self, x):
        return Simplex().holds(x)


@dataclasses.dataclass(frozen=True)
class Contrast(Domain):
    """Numbers that mean something only against those of state 0, whose own are 0."""

    says: str = "finite numbers, those of state 0 being 0"

    @property
    def elementwise(self):
        return False

    def count(self, shape):
        return (shape[0] - 1) * math.prod(shape[1:])

    def flatten(self, x):
        return (x[1:] - x[:1]).reshape(-1)

    def unflatten(self, vector, shape):
        rest = vector.reshape(shape[0] - 1, *shape[1:])
        return jnp.concatenate([jnp.zeros_like(vector, shape=(1, *shape[1:])), rest])

    def log_volumes(self, vector, shape):
        return jnp.zeros((), vector.dtype)

    def relabel(self, x, order):
        x = super().relabel(x, order)
        return x - x[:1]

    def holds(self, x):
        return bool(np.isfinite(x).all() and (x[:1] == 0).all())


@dataclasses.dataclass(frozen=True)
class Positive(Domain):
    """Positive numbers; the coordinate is the logarithm."""

    says: str = "finite numbers > 0"

    def unconstrain(self, x):
        return super().unconstrain(jnp.log(x))

    def constrain(self, u, event):
        return super().constrain(jnp.exp(u), event)

    def log_volume(self, u, event):
        return jnp.where(jnp.isfinite(u), u, 0).sum(-1)

    def holds(self, x):
        return bool((np.isfinite(x) & (x > 0)).all())


@dataclasses.dataclass(frozen=True)
class NonNegative(Positive):
    """Numbers >= 0; the coordinate is the logarithm, minus infinity at 0."""

    says: str = "finite numbers >= 0"

    def holds(self, x):
        return bool((np.isfinite(x) & (x >= 0)).all())


@dataclasses.dataclass(frozen=True)
class Unit(Domain):
    """Probabilities; the coordinate is the log-odds, infinite at 0 and 1."""

    says: str = "numbers from 0 to 1"

    def unconstrain(self, x):
        return super().unconstrain(jnp.log(x) - jnp.log1p(-x))

    def constrain(self, u, event):
        return super().constrain(jax.nn.sigmoid(u), event)

    def log_volume(self, u, event):
        one, zero = _log_odds_apart(u)
        return (one + zero).sum(-1)

    def holds(self, x):
        return bool(((x >= 0) & (x <= 1)).all())


@dataclasses.dataclass(frozen=True)
class SignedUnit(Domain):
    """Correlations between -1 and 1, ends left out; the coordinate is Fisher's z, artanh."""

    says: str = "numbers between -1 and 1"

    def unconstrain(self, x):
        return super().unconstrain(0.5 * (jnp.log1p(x) - jnp.log1p(-x)))

    def constrain(self, u, event):
        return super().constrain(jnp.tanh(u), event)

    def log_volume(self, u, event):
        one, zero = _log_odds_apart(2 * u)
        return (math.log(4) + one + zero).sum(-1)

    def holds(self, x):
        return bool(((x > -1) & (x < 1)).all())


@dataclasses.dataclass(frozen=True)
class Simplex(Domain):
    """Probabilities along the last axis; K - 1 coordinates log(p_k / (p_{k+1} + ... + p_K)), the log-odds of stopping at k.

    Zero probabilities have infinite coordinates and come back as exact zeros, wherever they stand.
    """

    event_ndim: int = 1
    says: str = "numbers >= 0 that sum to 1 along the last axis"

    @property
    def elementwise(self):
        return False

    def free(self, event):
        return event[0] - 1

    def unconstrain(self, x):
        after = jnp.flip(jnp.cumsum(jnp.flip(x, -1), -1), -1)[..., 1:]
        here = x[..., :-1]
        gone = after <= 0  # nothing comes after, for instance in padding
        return jnp.where(gone, jnp.inf, jnp.log(here) - jnp.log(jnp.where(gone, 1, after)))

    def constrain(self, u, event):
        ones = jnp.ones_like(u, shape=(*u.shape[:-1], 1))
        stop = jnp.concatenate([jax.nn.sigmoid(u), ones], axis=-1)
        reach = jnp.concatenate([ones, jnp.cumprod(jax.nn.sigmoid(-u), axis=-1)], axis=-1)
        return stop * reach

    def log_volume(self, u, event):
        stop, on = _log_odds_apart(u)
        reach = jnp.where(jnp.isfinite(u), jnp.cumsum(on, axis=-1) - on, 0)
        return (stop + on + reach).sum(-1)

    def holds(self, x):
        close = np.abs(x.sum(axis=-1) - 1) <= 1e3 * np.finfo(x.dtype).eps
        return bool(np.isfinite(x).all() and (x >= 0).all() and close.all())


@dataclasses.dataclass(frozen=True)
class Sphere(Domain):
    """Unit vectors along the last axis; d - 1 stereographic coordinates, seen from a point that data hardly ever point to.

    The point is minus c / |c|, c_j = sqrt(j + 2): no axis, and no diagonal. Its own coordinates are huge, but finite.
    """

    event_ndim: int = 1
    says: str = "vectors of norm 1 along the last axis"

    @property
    def elementwise(self):
        return False

    def free(self, event):
        return event[0] - 1

    @staticmethod
    def _mirror(x: jax.Array) -> jax.Array:
        """The reflection that swaps c / |c| and the last axis; its own inverse."""
        d = x.shape[-1]
        normal = np.sqrt(np.arange(d) + 2.0)
        normal /= np.linalg.norm(normal)
        normal[-1] -= 1
        normal /= np.linalg.norm(normal)
        normal = jnp.asarray(normal, x.dtype)
        return x - 2 * (x * normal).sum(axis=-1, keepdims=True) * normal

    def unconstrain(self, x):
        y = self._mirror(x)
        aside, height = y[..., :-1], y[..., -1:]
        least = jnp.finfo(x.dtype).eps ** 2
        square = (aside * aside).sum(axis=-1, keepdims=True)
        there = square < least * least  # the point itself: any direction serves
        aside = jnp.where(there, jnp.zeros_like(aside).at[..., 0].set(least), aside)
        square = jnp.where(there, least * least, square)
        above = height > 0
        return jnp.where(above, aside / jnp.where(above, 1 + height, 1), aside * (1 - height) / square)

    def constrain(self, u, event):
        largest = jnp.maximum(jnp.abs(u).max(axis=-1, keepdims=True), 1)  # squares of scaled coordinates do not overflow
        scaled, one = u / largest, 1 / largest
        square = (scaled * scaled).sum(axis=-1, keepdims=True)
        total = one * one + square
        return self._mirror(jnp.concatenate([2 * one * scaled, one * one - square], axis=-1) / total)

    def log_volume(self, u, event):
        largest = jnp.maximum(jnp.abs(u).max(axis=-1), 1)
        scaled = u / largest[..., None]
        log_total = 2 * jnp.log(largest) + jnp.log(1 / (largest * largest) + (scaled * scaled).sum(-1))
        return (event[0] - 1) * (math.log(2) - log_total)

    def between(self, a, b, fraction):
        """Along the great circle's chord, brought back to norm 1; b where that passes through the middle."""
        chord = a + fraction * (b - a)
        square = (chord * chord).sum(axis=-1, keepdims=True)
        safe = square > jnp.finfo(chord.dtype).eps
        return jnp.where((fraction == 1) | ~safe, b, chord / jnp.sqrt(jnp.where(safe, square, 1)))

    def holds(self, x):
        return bool((np.abs((x * x).sum(axis=-1) - 1) <= 1e3 * np.finfo(x.dtype).eps).all())


@dataclasses.dataclass(frozen=True)
class PositiveDefinite(Domain):
    """Symmetric positive definite d x d matrices; d(d+1)/2 coordinates: the Cholesky factor row by row, log diagonal."""

    event_ndim: int = 2
    says: str = "symmetric positive definite matrices"

    @property
    def elementwise(self):
        return False

    def free(self, event):
        return event[0] * (event[0] + 1) // 2

    def unconstrain(self, x):
        d = x.shape[-1]
        factor = cholesky(x)
        diagonal = jnp.eye(d, dtype=bool)
        coordinates = jnp.where(diagonal, jnp.log(jnp.where(diagonal, factor, 1)), factor)
        return coordinates[(..., *np.tril_indices(d))]

    def constrain(self, u, event):
        d = event[0]
        lower = jnp.zeros((*u.shape[:-1], d, d), u.dtype).at[(..., *np.tril_indices(d))].set(u)
        diagonal = jnp.eye(d, dtype=bool)
        factor = jnp.where(diagonal, jnp.exp(jnp.where(diagonal, lower, 0)), lower)
        return factor @ jnp.swapaxes(factor, -1, -2)

    def log_volume(self, u, event):
        d = event[0]
        place = np.arange(d)
        on_diagonal = u[..., place * (place + 3) // 2]
        return d * math.log(2) + ((d + 1 - place) * on_diagonal).sum(-1)

    def holds(self, x):
        if not np.isfinite(x).all():
            return False
        scale = np.sqrt(np.abs(np.einsum("...ii,...jj->...ij", x, x)))
        symmetric = (np.abs(x - np.swapaxes(x, -1, -2)) <= 1e3 * np.finfo(x.dtype).eps * scale).all()
        try:
            np.linalg.cholesky(x.astype(np.float64))
        except np.linalg.LinAlgError:
            return False
        return bool(symmetric)


@dataclasses.dataclass(frozen=True)
class Loadings(Domain):
    """Loadings L (d, q) known up to rotation of the factors, L L' being what data tell.

    They are kept in the one form whose top q x q block is lower triangular with a diagonal >= 0: d q - q (q - 1) / 2
    coordinates, the log of the diagonal. Others are rotated to it. Where the top block is singular, some of its diagonal is 0.
    """

    event_ndim: int = 2
    says: str = "finite numbers (loadings, in any rotation)"

    @property
    def elementwise(self):
        return False

    def free(self, event):
        return len(np.tril_indices(event[0], 0, event[1])[0])

    def unconstrain(self, x):
        form = lower_form(x)
        diagonal = jnp.eye(x.shape[-2], x.shape[-1], dtype=bool)
        coordinates = jnp.where(diagonal, jnp.log(jnp.where(diagonal, form, 1)), form)
        return coordinates[(..., *np.tril_indices(x.shape[-2], 0, x.shape[-1]))]

    def constrain(self, u, event):
        form = jnp.zeros(u.shape[:-1] + event, u.dtype).at[(..., *np.tril_indices(event[0], 0, event[1]))].set(u)
        diagonal = jnp.eye(event[0], event[1], dtype=bool)
        return jnp.where(diagonal, jnp.exp(jnp.where(diagonal, form, 0)), form)

    def log_volume(self, u, event):
        row, column = np.tril_indices(event[0], 0, event[1])
        on_diagonal = u[..., np.flatnonzero(row == column)]
        return jnp.where(jnp.isfinite(on_diagonal), on_diagonal, 0).sum(-1)


def _log_odds_apart(u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logs of the two probabilities of log-odds u; 0 where those are not finite."""
    finite = jnp.isfinite(u)
    safe = jnp.where(finite, u, 0)
    return jnp.where(finite, jax.nn.log_sigmoid(safe), 0), jnp.where(finite, jax.nn.log_sigmoid(-safe), 0)


def _split(domain: Domain, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    cut = len(shape) - domain.event_ndim
    return shape[:cut], shape[cut:]
