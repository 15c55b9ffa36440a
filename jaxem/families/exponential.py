"""Exponential waiting times, independent across columns."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_cells
from jaxem.conjugate import Gammas
from jaxem.domains import Positive
from jaxem.families.expected_family import shifted
from jaxem.families.exponential_family import ExponentialFamily, Totals
from jaxem.kernels.quantiles import Tails, exponential_tails
from jaxem.priors import GammaPrior
from jaxem.rows import Rows


class ExponentialParams(NamedTuple):
    """Params of K states."""

    rate: jax.Array  # (K, d) one over the mean of column j in state k


@dataclasses.dataclass(frozen=True)
class Exponential(ExponentialFamily):
    r"""p(y | k) = prod_j rate_kj e^{-rate_kj y_j}

    Data: (n, d) numbers >= 0; missing (NaN) cells are left out of the product.
    M-step: rate = sum r / sum r y over the observed cells; with a `GammaPrior`, (sum r + shape - 1) / (sum r y + rate).
    A state whose cells are all 0 has an unbounded likelihood: `degenerate` says so. A prior with rate > 0 keeps it finite.

    Raises:
        ValueError: negative cells.
    """

    prior_type = GammaPrior

    @property
    def domains(self) -> ExponentialParams:
        return ExponentialParams(Positive(event_ndim=1))  # type: ignore[arg-type]

    def structure(self, n_states: int, size: int) -> ExponentialParams:
        return ExponentialParams((n_states, size))  # type: ignore[arg-type]

    def check(self, y: np.ndarray, columns: tuple[str, ...] | None) -> None:
        check_cells(y, columns, y < 0, "are negative", "give times >= 0")

    def phi(self, y: jax.Array, present: jax.Array | None) -> jax.Array:
        present = jnp.ones_like(y, shape=(y.shape[0], 1)) if present is None else present
        return jnp.concatenate([y, present], axis=1)

    def natural(self, params: ExponentialParams, n_features: int) -> jax.Array:
        log_rate = jnp.log(params.rate)
        every_cell = n_features == params.rate.shape[1] + 1
        return jnp.concatenate([-params.rate, log_rate.sum(axis=1, keepdims=True) if every_cell else log_rate], axis=1)

    def maximize(self, params: ExponentialParams, statistics: Totals, prior: GammaPrior | None) -> ExponentialParams:
        d = params.rate.shape[1]
        total, weight = statistics.features[:, :d], statistics.features[:, d:]
        tiny = jnp.finfo(total.dtype).tiny
        if prior is not None:
            weight, total = jnp.maximum(weight + prior.shape - 1, tiny), total + prior.rate
        rate = weight / jnp.where(total > 0, total, 1)
        rate = jnp.where(total > 0, jnp.minimum(rate, _unbounded(rate.dtype)), _unbounded(rate.dtype))
        return ExponentialParams(jnp.where(weight > 0, rate, params.rate))

    def log_prior(self, params: ExponentialParams, prior: GammaPrior) -> jax.Array:
        return prior.log_density(params.rate)

    def conjugate(self, prior: GammaPrior, params: ExponentialParams) -> ExponentialParams:
        return ExponentialParams(prior.distribution(params.rate))  # type: ignore[arg-type]

    def update(self, distribution: ExponentialParams, statistics: Totals) -> ExponentialParams:
        old: Any = distribution.rate
        total, weight = jnp.split(statistics.features, [old.shape.shape[1]], axis=1)
        return ExponentialParams(Gammas(old.shape + weight, old.rate + total))  # type: ignore[arg-type]

    def under(self, distribution: ExponentialParams) -> tuple[Any, Any]:
        own: Any = distribution.rate
        return shifted(self, ExponentialParams(own.mean()), own.log() - jnp.log(own.mean()))

    def degenerate(self, params: ExponentialParams, rows: Rows) -> jax.Array:
        """A state has collapsed onto zeros where its mean is below eps^2 of the column's mean over all rows."""
        eps = jnp.finfo(rows.dtype).eps
        high = (params.rate * rows.typical[: params.rate.shape[1]] > eps**-2.0) | (params.rate >= _unbounded(rows.dtype))
        return high.any(axis=1)

    def moments(self, params: ExponentialParams) -> tuple[jax.Array, jax.Array]:
        return 1 / params.rate, params.rate**-2

    def tails(self, params: ExponentialParams, y: jax.Array, x: None = None) -> Tails:
        del x
        return exponential_tails(y[:, None], params.rate)

    def sample(self, key: jax.Array, params: ExponentialParams, states: jax.Array) -> jax.Array:
        rate = params.rate[states]
        return jax.random.exponential(key, rate.shape, rate.dtype) / rate


jax.tree_util.register_dataclass(Exponential, data_fields=(), meta_fields=())


def _unbounded(dtype: jax.typing.DTypeLike) -> float:
    """What stands for an infinite rate in a state that `degenerate` reports."""
    return float(jnp.finfo(dtype).max) ** 0.5
