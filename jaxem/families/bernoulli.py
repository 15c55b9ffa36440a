"""Yes or no, independent across columns: under a mixture, latent class analysis of two-valued items."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_cells
from jaxem.conjugate import Betas
from jaxem.domains import Unit
from jaxem.families.expected_family import shifted
from jaxem.families.exponential_family import ExponentialFamily, Totals
from jaxem.kernels.exponential import log_or_never
from jaxem.kernels.quantiles import Tails, safe_log, two_valued_tails
from jaxem.priors import BetaPrior
from jaxem.rows import Rows


class BernoulliParams(NamedTuple):
    """Params of K states."""

    probability: jax.Array  # (K, d) that column j is 1 in state k


@dataclasses.dataclass(frozen=True)
class Bernoulli(ExponentialFamily):
    r"""p(y | k) = prod_j probability_kj^{y_j} (1 - probability_kj)^{1 - y_j}

    Data: (n, d) of 0 and 1, or booleans; missing (NaN) cells are left out of the product.
    M-step: probability = sum r y / sum r over the observed cells; with a `BetaPrior`, (sum r y + a - 1) / (sum r + a + b - 2).
    A state that has seen only ones (or only zeros) keeps probability 1 (or 0) exactly; the other value is then impossible.

    Raises:
        ValueError: cells other than 0 and 1.
    """

    prior_type = BetaPrior
    discrete = True

    @property
    def domains(self) -> BernoulliParams:
        return BernoulliParams(Unit())  # type: ignore[arg-type]

    def structure(self, n_states: int, size: int) -> BernoulliParams:
        return BernoulliParams((n_states, size))  # type: ignore[arg-type]

    def check(self, y: np.ndarray, columns: tuple[str, ...] | None) -> None:
        check_cells(y, columns, (y != 0) & (y != 1), "are neither 0 nor 1", "give 0 and 1, or take Categorical()")

    def phi(self, y: jax.Array, present: jax.Array | None) -> jax.Array:
        return jnp.concatenate([y, (1 if present is None else present) - y], axis=1)

    def natural(self, params: BernoulliParams, n_features: int) -> jax.Array:
        del n_features
        return jnp.concatenate([log_or_never(params.probability), log_or_never(1 - params.probability)], axis=1)

    def maximize(self, params: BernoulliParams, statistics: Totals, prior: BetaPrior | None) -> BernoulliParams:
        ones, zeros = jnp.split(statistics.features, 2, axis=1)
        if prior is not None:
            ones, zeros = jnp.maximum(ones + prior.a - 1, 0), jnp.maximum(zeros + prior.b - 1, 0)
        total = ones + zeros
        return BernoulliParams(jnp.where(total > 0, ones / jnp.where(total > 0, total, 1), params.probability))

    def log_prior(self, params: BernoulliParams, prior: BetaPrior) -> jax.Array:
        return prior.log_density(params.probability)

    def conjugate(self, prior: BetaPrior, params: BernoulliParams) -> BernoulliParams:
        return BernoulliParams(prior.distribution(params.probability))  # type: ignore[arg-type]

    def update(self, distribution: BernoulliParams, statistics: Totals) -> BernoulliParams:
        old: Any = distribution.probability
        ones, zeros = jnp.split(statistics.features, 2, axis=1)
        return BernoulliParams(Betas(old.a + ones, old.b + zeros))  # type: ignore[arg-type]

    def under(self, distribution: BernoulliParams) -> tuple[Any, Any]:
        own: Any = distribution.probability
        one, zero = own.logs()
        return shifted(self, BernoulliParams(jax.nn.sigmoid(one - zero)), jnp.logaddexp(one, zero))

    def flat(self, n_states: int, rows: Rows) -> BernoulliParams:
        return BernoulliParams(jnp.full((n_states, rows.d), 0.5, rows.dtype))

    def moments(self, params: BernoulliParams) -> tuple[jax.Array, jax.Array]:
        return params.probability, params.probability * (1 - params.probability)

    def tails(self, params: BernoulliParams, y: jax.Array, x: None = None) -> Tails:
        del x
        return two_valued_tails(y[:, None], safe_log(params.probability), safe_log(1 - params.probability))

    def sample(self, key: jax.Array, params: BernoulliParams, states: jax.Array) -> jax.Array:
        probability = params.probability[states]
        return jax.random.bernoulli(key, probability).astype(probability.dtype)


jax.tree_util.register_dataclass(Bernoulli, data_fields=(), meta_fields=())
