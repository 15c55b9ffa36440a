"""A family under expected natural parameters: the E-step of variational Bayes is the E-step of this family."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.domains import Real
from jaxem.rows import Rows


class ExpectedParams(NamedTuple):
    """Params of the family, and what its log-density has beside theirs."""

    params: Any
    shift: jax.Array  # (K,) for each row, or (K, d) for each observed cell


class ExpectedBound(NamedTuple):
    """Params of one pattern of observed cells."""

    own: Any  # the family's
    shift: jax.Array  # (P, K), 0 where nothing is observed, or (1, K, d)
    counted: jax.Array  # (P, 1) 0 where a shift for each row meets a row that says nothing; else 1


@dataclasses.dataclass(frozen=True)
class ExpectedFamily:
    """log p(y | k) = E log p(y | params_k) under a distribution of the params (Beal 2003, sec. 2.4): that of a family at some
    params, but for a shift. What is missing inside a row is latent like the states where the shift is one for a row, and left
    out where it is one for a cell. It is there for E-steps alone: nothing is maximised, started from or drawn.

    Args:
        family: the family.
    """

    family: Any

    closed = True
    prior_type = None

    @property
    def domains(self) -> ExpectedParams:
        return ExpectedParams(self.family.domains, Real())  # type: ignore[arg-type]

    def settle(self, params: ExpectedParams | None, rows: Rows) -> ExpectedFamily:
        return ExpectedFamily(self.family.settle(None if params is None else params.params, rows))

    def localize(self, params: ExpectedParams, rows: Rows, shared: bool = False) -> ExpectedFamily:
        return ExpectedFamily(self.family.localize(params.params, rows, shared))

    def bind(self, params: ExpectedParams, mask: jax.Array, origin: Any) -> ExpectedBound:
        own = self.family.bind(params.params, mask, origin)
        if params.shift.ndim == 2:
            return ExpectedBound(own, params.shift[None], jnp.ones((1, 1), params.shift.dtype))
        counted = mask.any(axis=1, keepdims=True).astype(params.shift.dtype)
        return ExpectedBound(own, counted * params.shift, counted)

    def log_prob(self, bound: ExpectedBound, cells: Any) -> jax.Array:
        log_prob = self.family.log_prob(bound.own, cells)
        if bound.shift.ndim == 2:
            return log_prob + bound.shift[..., None]
        seen = self.family.seen(cells)
        if seen is None:
            return log_prob + bound.shift.sum(axis=-1)[..., None]
        return log_prob + jnp.einsum("ckd,cdb->ckb", bound.shift + jnp.zeros_like(seen[:, :1, :1]), seen, precision="highest")

    def sums(self, bound: ExpectedBound, cells: Any, r: jax.Array) -> Any:
        return self.family.sums(bound.own, cells, r * bound.counted[..., None])

    def finish(self, bound: ExpectedBound, raw: Any, origin: Any) -> Any:
        return self.family.finish(bound.own, raw, origin)

    def update(self, distribution: Any, statistics: Any) -> Any:
        return self.family.update(distribution, statistics)


jax.tree_util.register_dataclass(ExpectedFamily, data_fields=("family",), meta_fields=())


def shifted(family: Any, params: Any, shift: jax.Array) -> tuple[ExpectedFamily, ExpectedParams]:
    """The family whose log-density is that of `family` at `params` plus the shift: (K,) for each row that says something, or (K, d)
    for each observed cell."""
    return ExpectedFamily(family), ExpectedParams(params, shift)
