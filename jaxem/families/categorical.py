"""Categories, independent across columns: under a mixture, latent class analysis."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_categories, is_traced
from jaxem.conjugate import Dirichlets
from jaxem.domains import Simplex
from jaxem.families.expected_family import shifted
from jaxem.families.exponential_family import Cells, ExponentialFamily, Totals
from jaxem.kernels.exponential import log_or_never
from jaxem.kernels.quantiles import Tails, category_tails
from jaxem.priors import DirichletPrior, dot_log
from jaxem.rows import Rows, Table


class CategoricalParams(NamedTuple):
    """Params of K states."""

    probabilities: jax.Array  # (K, d, C) of category c of column j in state k; columns with fewer categories end in exact zeros


@dataclasses.dataclass(frozen=True)
class Categorical(ExponentialFamily):
    r"""p(y | k) = prod_j probabilities_{k, j, y_j}.

    Data: (n, d) codes 0..C-1, or labels (strings, pandas categoricals), which are coded in their categories' order (strings
    sorted) and kept as `Rows.labels`; missing cells are left out of the product.
    M-step: weighted shares among the observed cells; with a `DirichletPrior`, counts plus concentration - 1. A category never
    seen keeps probability 0 exactly.

    Args:
        n_categories: how many categories each column has, one number or one for each; None takes the largest code seen.

    Raises:
        TypeError, ValueError: cells that are neither whole codes >= 0 nor labels, codes beyond `n_categories`.
    """

    n_categories: int | tuple[int, ...] | None = None

    prior_type = DirichletPrior
    discrete = True

    def __post_init__(self):
        if self.n_categories is None or isinstance(self.n_categories, int):
            found: tuple[int, ...] = () if self.n_categories is None else (self.n_categories,)
        else:
            found = tuple(int(count) for count in self.n_categories)
            object.__setattr__(self, "n_categories", found)
        if any(count < 1 for count in found):
            raise ValueError(f"n_categories: found {self.n_categories}; give whole numbers >= 1.")

    @property
    def domains(self) -> CategoricalParams:
        return CategoricalParams(Simplex())  # type: ignore[arg-type]

    def structure(self, n_states: int, size: tuple[int, ...]) -> CategoricalParams:
        return CategoricalParams((n_states, len(size), max(size)))  # type: ignore[arg-type]

    def absent(self, n_states: int, size: tuple[int, ...]) -> int:
        return n_states * sum(max(size) - count for count in size)

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        del weights
        y, labels, columns = check_categories(data)
        d = y.shape[1]
        if is_traced(y):
            if self.n_categories is None:
                raise ValueError("n_categories: y is traced, so its categories cannot be counted; say how many there are.")
            size = self._size(np.zeros(d, int), None)
            return Table(Cells(y, y, None), y, jnp.zeros(1, y.dtype), size, d, typical=jnp.ones(d * max(size), y.dtype) / max(size))
        observed = ~np.isnan(y)
        largest = np.where(observed, y, 0).max(axis=0).astype(int)
        size = self._size(largest, None if labels is None else [len(names or ()) for names in labels])
        has_missing = bool(not observed.all() if missing is None else missing)
        present: Any = observed.astype(y.dtype) if has_missing else None
        code: Any = np.where(observed, y, -1).astype(y.dtype)
        value: Any = np.where(observed, y, 0).astype(y.dtype)
        seen = [np.bincount(code[observed[:, j], j].astype(int), minlength=max(size)) for j in range(d)]
        typical: Any = (np.concatenate(seen) / len(y)).astype(y.dtype)
        cells, informative = Cells(code, value, present), observed.any(axis=1)
        return Table(cells, y, np.zeros(1, y.dtype), size, d, informative, has_missing, typical, None, columns, labels)

    def _size(self, largest: np.ndarray, named: list[int] | None) -> tuple[int, ...]:
        """Categories of each column, from what was declared, else from labels, else from the codes seen."""
        seen = [max(int(code) + 1, named[j] if named else 0) for j, code in enumerate(largest)]
        if self.n_categories is None:
            return tuple(seen)
        given = self.n_categories
        declared = (given,) * len(seen) if isinstance(given, int) else given
        if len(declared) != len(seen):
            raise ValueError(f"n_categories: found {len(declared)} numbers for {len(seen)} columns; give one for each.")
        for j, (most, found) in enumerate(zip(declared, seen, strict=True)):
            if found > most:
                raise ValueError(f"y: column {j} has code {found - 1}, beyond its n_categories={most} (codes start at 0).")
        return declared

    def embed(self, rows: Rows) -> jax.Array:
        """Each category a column, scaled so that columns count alike."""
        width: Any = rows.size
        y = rows.pilot
        each = jnp.where(jnp.isnan(y)[..., None], jnp.nan, (y[..., None] == jnp.arange(max(width))).astype(y.dtype))
        scale = jnp.sqrt(jnp.asarray(width, y.dtype))[:, None]
        return (each * scale).reshape(y.shape[0], -1)

    def features(self, bound: CategoricalParams, cells: Cells) -> jax.Array:
        categories = bound.probabilities.shape[-1]
        code = cells.phi[:, :, None]
        each = (code == jnp.arange(categories, dtype=code.dtype)[:, None]).astype(code.dtype)
        return each.reshape(code.shape[0], -1, code.shape[-1])

    def natural(self, params: CategoricalParams, n_features: int) -> jax.Array:
        del n_features
        return log_or_never(params.probabilities).reshape(params.probabilities.shape[0], -1)

    def maximize(self, params: CategoricalParams, statistics: Totals, prior: DirichletPrior | None) -> CategoricalParams:
        counts = statistics.features.reshape(params.probabilities.shape)
        if prior is not None:
            possible = params.probabilities > 0  # padding stays out
            counts = jnp.where(possible, jnp.maximum(counts + prior.concentration - 1, 0), 0)
        total = counts.sum(axis=-1, keepdims=True)
        return CategoricalParams(jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), params.probabilities))

    def log_prior(self, params: CategoricalParams, prior: DirichletPrior) -> jax.Array:
        """Log-density of the Dirichlet priors, up to a constant; categories of probability 0 are taken as absent."""
        p = params.probabilities
        return dot_log(jnp.where(p > 0, jnp.broadcast_to(prior.concentration - 1, p.shape), 0), p)

    def conjugate(self, prior: DirichletPrior, params: CategoricalParams) -> CategoricalParams:
        return CategoricalParams(prior.distribution(params.probabilities))  # type: ignore[arg-type]

    def update(self, distribution: CategoricalParams, statistics: Totals) -> CategoricalParams:
        old: Any = distribution.probabilities
        counts = statistics.features.reshape(old.concentration.shape)
        return CategoricalParams(Dirichlets(old.concentration + counts))  # type: ignore[arg-type]

    def under(self, distribution: CategoricalParams) -> tuple[Any, Any]:
        own: Any = distribution.probabilities
        p = own.expected()
        total = p.sum(axis=-1)
        return shifted(self, CategoricalParams(p / total[..., None]), jnp.log(total))

    def flat(self, n_states: int, rows: Rows) -> CategoricalParams:
        size: Any = rows.size
        counts = np.asarray(size)[:, None]
        p = jnp.asarray((np.arange(max(size)) < counts) / counts, rows.dtype)
        return CategoricalParams(jnp.broadcast_to(p, (n_states, *p.shape)))

    def rank(self, params: CategoricalParams) -> jax.Array:
        """By the probability of the last category of each column, which is a column's mean where there are two."""
        categories = jnp.arange(params.probabilities.shape[-1], dtype=params.probabilities.dtype)
        return params.probabilities @ categories

    def complete(self, bound: Any, cells: Any, origin: Any) -> Any:
        raise TypeError("Categorical: categories have no mean to fill in; jaxem.impute_categories fills in the likeliest.")

    def tails(self, params: CategoricalParams, y: jax.Array, x: None = None) -> Tails:
        """In the order of the codes."""
        del x
        return category_tails(y, params.probabilities)

    def sample(self, key: jax.Array, params: CategoricalParams, states: jax.Array) -> jax.Array:
        p = params.probabilities[states]
        return jax.random.categorical(key, jnp.log(p), axis=-1).astype(p.dtype)


jax.tree_util.register_dataclass(Categorical, data_fields=(), meta_fields=("n_categories",))
