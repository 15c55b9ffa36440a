"""Kinds of covariance of Gaussian states: four words and the fourteen names of mclust."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.domains import Domain, Positive, PositiveDefinite
from jaxem.kernels import shared_shapes
from jaxem.kernels.linalg import transpose
from jaxem.shape_domains import SharedCovariances, SharedVariances

SHAPES = ("EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV")
WORDS = {"full": "VVV", "tied": "EEE", "diagonal": "VVI", "spherical": "VII"}


@dataclasses.dataclass(frozen=True)
class Kind:
    """Volume, shape and orientation of covariances, each equal for all states (E), varying (V) or the identity (I).

    The covariance leaf of params is as small as the kind allows: () EII, (K,) VII, (d,) EEI, (d, d) EEE, (K, d) for other
    diagonal kinds, and (K, d, d).
    """

    name: str  # of mclust

    @property
    def cellwise(self) -> bool:
        """Whether covariances are diagonal."""
        return self.name[2] == "I"

    @property
    def spherical(self) -> bool:
        """Whether all columns have one variance."""
        return self.name[1] == "I"

    @property
    def one(self) -> bool:
        """Whether all states have one covariance."""
        return "V" not in self.name

    @property
    def coupled(self) -> bool:
        """Whether states have covariances of their own that share a part."""
        return "V" in self.name and "E" in self.name

    @property
    def domain(self) -> Domain:
        """Of the covariance leaf."""
        axes = () if self.one else (0,)
        if not self.coupled:
            return Positive(axes, 0 if self.spherical else 1) if self.cellwise else PositiveDefinite(axes)
        return SharedVariances(kind=self.name[:2]) if self.cellwise else SharedCovariances(kind=self.name)

    def structure(self, n_states: int, d: int) -> tuple[int, ...]:
        """Shape of the covariance leaf."""
        event = () if self.spherical else (d,) if self.cellwise else (d, d)
        return event if self.one else (n_states, *event)

    def spread(self, covariance: jax.Array, n_states: int, d: int) -> jax.Array:
        """What the kernels take: covariances (K, d, d), (1, d, d) where there is one, or variances (K, d)."""
        if not self.cellwise:
            return covariance[None] if self.one else covariance
        return jnp.broadcast_to(covariance[..., None] if self.spherical else covariance, (n_states, d))

    # M-step

    def pool(self, scatter: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scatter and weight in the shape of the covariance leaf: summed over what shares it."""
        if self.spherical:
            scatter, weight = scatter.sum(-1), weight.sum(-1)
        return (scatter.sum(0), weight.sum(0)) if self.one else (scatter, weight)

    def solve(self, scatter: jax.Array, mass: jax.Array, old: jax.Array) -> jax.Array:
        """The covariance that minimises sum mass log|S| + tr(scatter S^-1), `scatter` and `mass` as `pool` gives them; without
        mass, `old`."""
        if self.coupled:
            if self.cellwise:
                return shared_shapes.variances(self.name[:2], scatter, mass, old)
            return shared_shapes.covariances(self.name, scatter, mass, old)
        if not self.cellwise:
            mass = mass[..., None, None]
        found = jnp.where(mass > 0, scatter / jnp.where(mass > 0, mass, 1), old)
        return found if self.cellwise else 0.5 * (found + transpose(found))

    def nearest(self, spread: jax.Array, counts: jax.Array) -> jax.Array:
        """The covariance leaf of this kind for covariances (K, d, d) of (K,) rows each, or variances (K, d) of (K, d) cells."""
        if self.one:
            scatter, mass = self.pool(spread * counts, counts)  # of variances alone
            return scatter / mass
        if self.coupled:
            return self.solve(spread * (counts if self.cellwise else counts[:, None, None]), counts, spread)
        return spread.mean(-1) if self.spherical else spread

    def shares(self, n_states: int, d: int) -> int:
        """How many factors |S|^(1/2) of means one covariance stands for."""
        return (n_states if self.one else 1) * (d if self.spherical else 1)


def kind_of(covariance: Any) -> Kind:
    """The kind that a word or a name of mclust stands for.

    Raises:
        ValueError: another word or name.
    """
    name = WORDS.get(covariance, covariance) if isinstance(covariance, str) else None
    if name not in SHAPES:
        known = ", ".join([*WORDS, *SHAPES])
        raise ValueError(f"covariance: unknown kind {covariance!r}; use one of {known}.")
    return Kind(name)


class Decomposition(NamedTuple):
    """Covariances taken apart, S_k = volume_k D_k diag(shape_k) D_k'."""

    volume: np.ndarray  # (K,) |S_k|^(1/d)
    shape: np.ndarray  # (K, d) of product 1
    orientation: np.ndarray  # (K, d, d) D_k, axes in columns, the largest entry of each > 0


def decompose(covariance: str, matrices: Any) -> Decomposition:
    """Volume, shape and orientation of covariances (K, d, d) of a kind. Host.

    Axes that states share stand in one order, by their mean log variance; others by their own variance, largest first.
    """
    kind, matrices = kind_of(covariance), np.asarray(matrices, np.float64)
    if kind.name[2] == "I":
        values = np.diagonal(matrices, axis1=-2, axis2=-1)
        axes = np.broadcast_to(np.eye(matrices.shape[-1]), matrices.shape)
    elif kind.name[2] == "E":
        with np.errstate(divide="ignore"):
            own, turns = SharedCovariances(kind="VVE")._spectrum(jnp.asarray(matrices))
        values, axes = np.exp(np.asarray(turns, np.float64)), np.broadcast_to(np.asarray(own, np.float64), matrices.shape)
    else:
        values, axes = (part[..., ::-1] for part in np.linalg.eigh(matrices))
    largest = np.take_along_axis(axes, np.abs(axes).argmax(-2, keepdims=True), axis=-2)
    axes = axes * np.where(largest < 0, -1, 1)
    volume = np.exp(np.log(values).mean(-1))
    return Decomposition(volume, values / volume[:, None], axes)
