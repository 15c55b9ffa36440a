r"""Where covariances of several states live that share volume, shape or orientation.

S_k = v_k D_k A_k D_k', v_k = |S_k|^(1/d) the volume, A_k diagonal of determinant 1 the shape, D_k orthogonal the orientation
(Banfield and Raftery 1993, Biometrics 49:803; Celeux and Govaert 1995, Pattern Recognition 28:781). Each of the three is one for
all states (E) or each state's own (V). The leaf holds the covariances themselves, so a domain takes the whole leaf at once; its
coordinates are as many as the model has free parameters, and every point of their space is a covariance of the kind.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.domains import Domain, Positive, PositiveDefinite
from jaxem.kernels.jacobi import diagonalize
from jaxem.kernels.linalg import cholesky, matmul, transpose
from jaxem.kernels.rotations import cayley, uncayley

LOOSE = 1e3  # eps by which shared parts may differ


def count_logs(kind: str, n_states: int, d: int) -> int:
    """Coordinates of log variances (K, d): volumes and shapes."""
    return (n_states if kind[0] == "V" else 1) + (n_states if kind[1] == "V" else 1) * (d - 1)


def pack_logs(kind: str, logs: jax.Array) -> jax.Array:
    """Log variances (K, d) as coordinates: their means over columns, then all but the last of what is left; what is shared
    is averaged over states."""
    volume = logs.mean(-1, keepdims=True)
    shape = (logs - volume)[:, :-1]
    volume = volume if kind[0] == "V" else volume.mean(0)
    shape = shape if kind[1] == "V" else shape.mean(0)
    return jnp.concatenate([volume.reshape(-1), shape.reshape(-1)])


def unpack_logs(kind: str, u: jax.Array, n_states: int, d: int) -> jax.Array:
    """Inverse of `pack_logs`: (K, d)."""
    first = n_states if kind[0] == "V" else 1
    volume, shape = u[:first, None], u[first:].reshape(n_states if kind[1] == "V" else 1, d - 1)
    shape = jnp.concatenate([shape, -shape.sum(-1, keepdims=True)], axis=-1)
    return jnp.broadcast_to(volume + shape, (n_states, d))


@dataclasses.dataclass(frozen=True)
class Together(Domain):
    """What the domains below have in common: a leaf (K, *event), or (*event) of one state, taken as a whole."""

    kind: str = "VV"  # volume, shape and, for matrices, orientation: E shared, V each state's own

    @property
    def elementwise(self):
        return False

    def free(self, event):
        raise ValueError(
            "the states' covariances share their " + " and ".join(self._shared()) + ", so none of them can be held or tied; "
            'take covariance="full" or "diagonal" for that.'
        )

    def _shared(self) -> list[str]:
        return [name for name, letter in zip(("volume", "shape", "orientation"), self.kind, strict=False) if letter == "E"]

    def _states(self, x: jax.Array) -> jax.Array:
        return x.reshape(-1, *x.shape[x.ndim - self.event_ndim :])

    def log_volumes(self, vector, shape):
        raise TypeError(
            "covariances that share " + " and ".join(self._shared()) + " are no cells of their own, in which a posterior could "
            'have a density; take covariance="full", "tied", "diagonal" or "spherical".'
        )

    def between(self, a, b, fraction):
        """Along a straight line of coordinates."""
        start, end = self.flatten(a), self.flatten(b)
        return jnp.where(fraction == 1, b, self.unflatten(start + fraction * (end - start), a.shape))

    def _alike(self, x: np.ndarray) -> bool:
        """Whether a leaf is what its coordinates give back."""
        given = jnp.asarray(x)
        back = np.asarray(self.unflatten(self.flatten(given), x.shape), np.float64)
        x = np.asarray(x, np.float64)
        size = x if self.event_ndim == 1 else np.sqrt(np.einsum("...ii,...jj->...ij", x, x))
        return bool((np.abs(back - x) <= LOOSE * float(jnp.finfo(given.dtype).eps) * size).all())


@dataclasses.dataclass(frozen=True)
class SharedVariances(Together, Positive):
    """Variances (K, d) of which all states share the volume (`kind` "EV") or the shape ("VE")."""

    event_ndim: int = 1
    says: str = "finite numbers > 0 whose shared volumes or shapes are the same in all states"

    def count(self, shape):
        return count_logs(self.kind, math.prod(shape[:-1]), shape[-1])

    def flatten(self, x):
        return pack_logs(self.kind, jnp.log(self._states(x)))

    def unflatten(self, vector, shape):
        return jnp.exp(unpack_logs(self.kind, vector, math.prod(shape[:-1]), shape[-1])).reshape(shape)

    def holds(self, x):
        return Positive.holds(self, x) and self._alike(x)


@dataclasses.dataclass(frozen=True)
class SharedCovariances(Together, PositiveDefinite):
    """Covariances (K, d, d) of which all states share volume, shape or orientation, not all three and not none.

    Shape and orientation both shared (VEE) or both free (EVV): the Cholesky factor of S_k / v_k. Else axes in order of their
    mean log variance, as coordinates of Cayley's map, and the log variances along them; where two of these are equal the axes
    are not told, and the information is singular.
    """

    event_ndim: int = 2
    says: str = "symmetric positive definite matrices whose shared volumes, shapes or orientations are the same in all states"

    @property
    def _triangular(self) -> bool:
        return self.kind[1] == self.kind[2]

    def _matrices(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Number of states, of columns, and of orientations."""
        n_states = math.prod(shape[:-2])
        return n_states, shape[-1], n_states if self.kind[2] == "V" else 1

    def count(self, shape):
        n_states, d, turns = self._matrices(shape)
        return count_logs(self.kind, n_states, d) + turns * (d * (d - 1) // 2)

    def flatten(self, x):
        x = self._states(x)
        if not self._triangular:
            axes, logs = self._spectrum(x)
            return jnp.concatenate([pack_logs(self.kind, logs), uncayley(axes).reshape(-1)])
        d = x.shape[-1]
        factor = cholesky(x)
        logs = jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1))
        below = (factor * jnp.exp(-logs.mean(-1))[:, None, None])[(..., *np.tril_indices(d, -1))]
        below = below if self.kind[2] == "V" else below.mean(0)
        return jnp.concatenate([pack_logs(self.kind, logs), below.reshape(-1)])

    def unflatten(self, vector, shape):
        n_states, d, turns = self._matrices(shape)
        cut = count_logs(self.kind, n_states, d)
        logs, rest = unpack_logs(self.kind, vector[:cut], n_states, d), vector[cut:].reshape(turns, -1)
        if not self._triangular:
            return _assemble(cayley(rest, d), logs).reshape(shape)
        volume = jnp.exp(logs.mean(-1))[:, None]
        rows, columns = np.tril_indices(d, -1)
        below = jnp.broadcast_to(volume * rest, (n_states, len(rows)))
        factor = (jnp.exp(logs)[..., None] * jnp.eye(d, dtype=logs.dtype)).at[:, rows, columns].set(below)
        return matmul(factor, transpose(factor)).reshape(shape)

    def _spectrum(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Axes (turns, d, d) and log variances (K, d) along them, the largest mean first."""
        turns = len(x) if self.kind[2] == "V" else 1
        axes, values = diagonalize(x.reshape(turns, -1, *x.shape[-2:]))
        logs = jnp.log(values)
        order = jnp.argsort(-jax.lax.stop_gradient(logs.mean(-2)), axis=-1)
        logs = jnp.take_along_axis(logs, order[:, None], axis=-1)
        return jnp.take_along_axis(axes, order[:, None], axis=-1), logs.reshape(len(x), -1)

    def between(self, a, b, fraction):
        """Along the turn of a's axes to b's and a straight line of log variances; triangular kinds by coordinates alone."""
        if self._triangular:
            return Together.between(self, a, b, fraction)
        axes, start = self._spectrum(self._states(a))
        if self.kind[2] == "E":  # the same axes are paired, whichever has grown past another
            turned, end = diagonalize(matmul(transpose(axes[0]), matmul(self._states(b), axes[0]))[None])
            end = jnp.log(end[0])
        else:
            there, end = self._spectrum(self._states(b))
            turned = matmul(transpose(axes), there)
        axes = matmul(axes, cayley(fraction * uncayley(turned), axes.shape[-1]))
        return jnp.where(fraction == 1, b, _assemble(axes, start + fraction * (end - start)).reshape(a.shape))

    def holds(self, x):
        return PositiveDefinite.holds(self, x) and self._alike(x)


def _assemble(axes: jax.Array, logs: jax.Array) -> jax.Array:
    """D diag(exp(logs)) D' for each state."""
    root = axes * jnp.exp(0.5 * logs)[:, None, :]
    there = matmul(root, transpose(root))
    return 0.5 * (there + transpose(there))
