"""Poisson counts, independent across columns."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_cells
from jaxem.conjugate import Gammas
from jaxem.domains import NonNegative
from jaxem.families.expected_family import shifted
from jaxem.families.exponential_family import ExponentialFamily, Totals
from jaxem.kernels.exponential import log_or_never
from jaxem.kernels.quantiles import Tails, poisson_tails
from jaxem.kernels.special import log_factorial
from jaxem.priors import GammaPrior


class PoissonParams(NamedTuple):
    """Params of K states."""

    rate: jax.Array  # (K, d) expected count of column j in state k


@dataclasses.dataclass(frozen=True)
class Poisson(ExponentialFamily):
    r"""p(y | k) = prod_j rate_kj^{y_j} e^{-rate_kj} / y_j!

    Data: (n, d) whole numbers >= 0; missing (NaN) cells are left out of the product.
    M-step: rate = sum r y / sum r over the observed cells; with a `GammaPrior`, (sum r y + shape - 1) / (sum r + rate).
    A state that has seen no count keeps rate 0 exactly; it gives any positive count probability 0.

    Raises:
        ValueError: negative or fractional counts.
    """

    prior_type = GammaPrior
    discrete = True

    @property
    def domains(self) -> PoissonParams:
        return PoissonParams(NonNegative(event_ndim=1))  # type: ignore[arg-type]

    def structure(self, n_states: int, size: int) -> PoissonParams:
        return PoissonParams((n_states, size))  # type: ignore[arg-type]

    def check(self, y: np.ndarray, columns: tuple[str, ...] | None) -> None:
        check_cells(y, columns, (y < 0) | (y != np.floor(y)), "are negative or fractional", "give whole counts >= 0")

    def phi(self, y: jax.Array, present: jax.Array | None) -> jax.Array:
        present = jnp.ones_like(y, shape=(y.shape[0], 1)) if present is None else present
        return jnp.concatenate([y, -log_factorial(y).sum(axis=1, keepdims=True), present], axis=1)

    def natural(self, params: PoissonParams, n_features: int) -> jax.Array:
        rate = params.rate
        every_cell = n_features == rate.shape[1] + 2
        exposure = rate.sum(axis=1, keepdims=True) if every_cell else rate
        return jnp.concatenate([log_or_never(rate), jnp.ones_like(rate[:, :1]), -exposure], axis=1)

    def maximize(self, params: PoissonParams, statistics: Totals, prior: GammaPrior | None) -> PoissonParams:
        d = params.rate.shape[1]
        total, weight = statistics.features[:, :d], statistics.features[:, d + 1 :]
        if prior is not None:
            return PoissonParams(jnp.maximum(total + prior.shape - 1, 0) / (weight + prior.rate))
        return PoissonParams(jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), params.rate))

    def log_prior(self, params: PoissonParams, prior: GammaPrior) -> jax.Array:
        return prior.log_density(params.rate)

    def conjugate(self, prior: GammaPrior, params: PoissonParams) -> PoissonParams:
        return PoissonParams(prior.distribution(params.rate))  # type: ignore[arg-type]

    def update(self, distribution: PoissonParams, statistics: Totals) -> PoissonParams:
        old: Any = distribution.rate
        total, weight = statistics.features[:, : old.shape.shape[1]], statistics.features[:, old.shape.shape[1] + 1 :]
        return PoissonParams(Gammas(old.shape + total, old.rate + weight))  # type: ignore[arg-type]

    def under(self, distribution: PoissonParams) -> tuple[Any, Any]:
        own: Any = distribution.rate
        rate = jnp.exp(own.log())
        return shifted(self, PoissonParams(rate), rate - own.mean())

    def moments(self, params: PoissonParams) -> tuple[jax.Array, jax.Array]:
        return params.rate, params.rate

    def tails(self, params: PoissonParams, y: jax.Array, x: None = None) -> Tails:
        del x
        return poisson_tails(y[:, None], params.rate)

    def sample(self, key: jax.Array, params: PoissonParams, states: jax.Array) -> jax.Array:
        rate = params.rate[states]
        return jax.random.poisson(key, rate).astype(rate.dtype)


jax.tree_util.register_dataclass(Poisson, data_fields=(), meta_fields=())
