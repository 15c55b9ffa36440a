"""What all families with a finite statistic share: the E-step is two matrix products, whatever the family."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_matrix, is_traced
from jaxem.family import Family
from jaxem.kernels import exponential
from jaxem.rows import Rows, Table


class Totals(NamedTuple):
    """Sums over rows."""

    features: jax.Array  # (K, F) sum of r phi(y)


class Cells(NamedTuple):
    """What an exponential family reads."""

    phi: jax.Array  # (c, F, b) features, or what they are made from block by block
    value: jax.Array  # (c, d, b), 0 where missing
    present: jax.Array | None  # (c, d, b) 1 or 0; None where no cell is missing


class ExponentialFamily(Family):
    r"""log p(y | k) = eta_k . phi(y), the log base measure being one of the features.

    A family of this kind gives `check`, `phi`, `natural`, `maximize` and `moments`, besides its domains, shapes and sampler.
    """

    def check(self, y: np.ndarray, columns: tuple[str, ...] | None) -> None:
        """Raises ValueError where an observed cell of y (n, d) is outside the family's support."""

    def phi(self, y: jax.Array, present: jax.Array | None) -> jax.Array:
        """(n, F) features of rows y (n, d), 0 where missing; `present` (n, d) is 1 or 0, None where no cell is missing."""
        raise NotImplementedError

    def features(self, bound: Any, cells: Cells) -> jax.Array:
        """(c, F, b) features of a block."""
        del bound
        return cells.phi

    def natural(self, params: Any, n_features: int) -> jax.Array:
        """(K, F) coefficients of the features."""
        raise NotImplementedError

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        del weights
        y, columns = check_matrix(data)
        d = y.shape[1]
        if is_traced(y):
            traced = self.phi(y, None)
            return Table(Cells(traced, y, None), y, jnp.zeros(1, y.dtype), d, d, typical=jnp.abs(traced).mean(axis=0))
        self.check(y, columns)
        observed = ~np.isnan(y)
        has_missing = bool(not observed.all() if missing is None else missing)
        present: Any = observed.astype(y.dtype) if has_missing else None
        value: Any = np.where(observed, y, 0).astype(y.dtype)
        phi: Any = np.asarray(self.phi(value, present))
        typical = np.abs(phi).mean(axis=0)
        cells = Cells(phi, value, present)
        return Table(cells, y, np.zeros(1, y.dtype), d, d, observed.any(axis=1), has_missing, typical, None, columns)

    def _natural(self, bound: Any, n_features: int) -> jax.Array:
        return self.natural(jax.tree.map(lambda leaf: leaf[0], bound), n_features)[None]

    def log_prob(self, bound: Any, cells: Any) -> jax.Array:
        features = self.features(bound, cells)
        return exponential.log_prob(self._natural(bound, features.shape[1]), features)

    def sums(self, bound: Any, cells: Any, r: jax.Array) -> Totals:
        return Totals(exponential.sums(self.features(bound, cells), r))

    def expected_log_prob(self, params: Any, statistics: Totals) -> jax.Array:
        return exponential.dot(self.natural(params, statistics.features.shape[-1]), statistics.features)

    def complete(self, bound: Any, cells: Cells, origin: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        del origin
        mean, variance = self.moments(jax.tree.map(lambda leaf: leaf[0], bound))
        value = cells.value[:, None]
        full = jnp.broadcast_to(mean[..., None], (value.shape[0], *mean.shape, value.shape[-1]))
        if cells.present is None:
            full, present = jnp.broadcast_to(value, full.shape), jnp.ones_like(cells.value)
        else:
            full, present = jnp.where(cells.present[:, None] > 0, value, full), cells.present
        covariance = variance[..., None] * jnp.eye(variance.shape[-1], dtype=variance.dtype)
        return full, jnp.broadcast_to(covariance, (value.shape[0], *covariance.shape)), present

    def magnitude(self, params: Any, rows: Rows) -> jax.Array:
        """Sum of the sizes of the products eta phi at a typical row, zero probabilities left out."""
        natural = jnp.abs(self.natural(params, rows.typical.shape[-1]))
        return (jnp.where(natural >= -0.5 * exponential.NEVER, 0, natural) * rows.typical).sum(axis=-1).max()

    def init(self, rows: Rows, r: jax.Array) -> Any:
        """The M-step from the pilot rows, every state pulled towards the pooled one by a few rows."""
        params = self.flat(r.shape[1], rows)
        bound = jax.tree.map(lambda leaf: leaf[None], params)
        features = self.features(bound, jax.tree.map(lambda leaf: leaf.T[None], rows.pilot_cells))
        totals = exponential.sums(features, r.T[None])[0]
        pooled = totals.sum(axis=0) / jnp.maximum(r.sum(), 1)
        pull = 0.05 * r.sum(axis=0)[:, None] + 1
        return self.maximize(params, Totals(totals + pull * pooled), None)

    def flat(self, n_states: int, rows: Rows) -> Any:
        """Params for columns that the pilot rows have not seen: ones."""
        shapes = self.structure(n_states, rows.size)
        return jax.tree.map(lambda shape: jnp.ones(shape, rows.dtype), shapes, is_leaf=lambda s: type(s) is tuple)
