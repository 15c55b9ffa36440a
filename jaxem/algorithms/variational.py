"""Variational Bayes: the E-step under expected natural parameters, the M-step a conjugate update.

The posterior of states and params is approached by q(states) q(params), the member of that family nearest to it in the divergence
of Kullback and Leibler (Attias 1999, UAI 15; Beal 2003; Bishop 2006, ch. 10). Given q(params), the best q(states) is what the
model's own E-step finds under the expected log-density, E log p(y, z | params); given its statistics s, the best q(params) is the
prior with s added. Both raise

    bound = log sum_z exp E log p(y, z | params) - KL(q(params) || prior)  <=  log p(y),

log p(y) the log evidence, so that it never falls. Components that the data do not need empty themselves, where their
concentration is below about 1.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.algorithms.algorithm import Algorithm, Conclusion, Info
from jaxem.checks import is_traced
from jaxem.conjugate import check_proper, divergence_of, mean_of, relabel_distribution
from jaxem.model import Model


class VariationalPosterior(NamedTuple):
    """`Fit.detail` of `variational`."""

    posterior: Any  # q(params): params with a `jaxem.conjugate.Distribution` in the place of leaves
    bound: jax.Array  # () at that posterior; log p(y) is not below it
    counts: jax.Array  # (K,) expected sums of weights of the rows in each state; infinite where there is but one
    emptied: jax.Array  # (K,) bool: a state that holds less than one row, whose posterior is all but its prior

    def remarks(self) -> list[str]:
        """Sentences for a person. Host."""
        empty = np.flatnonzero(np.asarray(self.emptied))
        if not empty.size:
            return []
        names = ", ".join(str(k) for k in empty)
        return [f"Emptied: component {names} (counted from 0) holds less than one row; its params are all but the prior's."]


class VariationalState(NamedTuple):
    """State of `variational`."""

    params: Any  # expected under the posterior
    prior: Any  # a tree of distributions
    posterior: Any  # likewise
    counts: jax.Array  # (K,)


@dataclasses.dataclass(frozen=True)
class _Given:
    """A prior that can be compared, so that equal settings are equal algorithms."""

    tree: Any
    leaves: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]

    @classmethod
    def of(cls, prior: Any) -> _Given:
        leaves, tree = jax.tree.flatten(prior)
        arrays = [np.asarray(leaf, np.float64) for leaf in leaves]
        return cls(tree, tuple((each.shape, tuple(each.ravel().tolist())) for each in arrays))

    def value(self) -> Any:
        return jax.tree.unflatten(self.tree, [np.array(values).reshape(shape) for shape, values in self.leaves])


def variational(prior: Any = None) -> Algorithm:
    """Variational Bayes for `Mixture`, `Single` and `HiddenMarkov` of families with conjugate priors: the bound is monotone.

    One pass a step; one more to begin (the first q(states) is the E-step at the start) and one more to end. The objective is the
    bound on the log evidence; `Fit.params` are the params expected under the posterior (of a covariance, the inverse of the
    expected precision), with their log-likelihood; `Fit.detail` is a `VariationalPosterior`.

    Args:
        prior: in the types that the model takes, such as `MixturePrior`; None for the model's own. Every part has to be proper: a
            `GammaPrior` of positive shape and rate, a `NormalInverseWishart` of positive shrinkage and dof above d - 1.

    Raises:
        TypeError, ValueError: a traced prior (give it to the model); when a fit begins, no prior, one that is not conjugate, or
            a model whose params are fixed, tied or stationary.
    """
    if is_traced(prior):
        raise TypeError("prior: is traced; give it to the model, whose prior may be.")
    return _make(None if prior is None else _Given.of(prior))


@lru_cache
def _make(given: _Given | None) -> Algorithm:
    check = partial(_check, given)
    return Algorithm(partial(_init, given), _step, opening=_opening, conclude=_conclude, relabel=_relabel, check=check)


def _check(given: _Given | None, model: Any, data: Any) -> None:
    check_proper(with_prior(model, given), data)


def _opening(model: Any, params: Any) -> int:
    del model, params
    return 2  # the first E-step, and the second of the two that the end takes


def _init(given: _Given | None, model: Any, params: Any, data: Any, key: jax.Array) -> VariationalState:
    del key
    prior = with_prior(model, given).conjugate(params)
    local = model.localize(params, data)
    statistics = local.e_step(params, data).statistics
    return _updated(local, prior, statistics)


def with_prior(model: Any, given: _Given | None) -> Any:
    """The model under the prior given, if there is one."""
    if given is None or type(model).conjugate is Model.conjugate:  # a model that has no conjugate prior says so
        return model
    return dataclasses.replace(model, prior=given.value())


def _updated(local: Any, prior: Any, statistics: Any) -> VariationalState:
    posterior = local.update(prior, statistics)
    return VariationalState(local.of_states(mean_of(posterior)), prior, posterior, local.occupation(statistics))


def _step(model: Any, state: VariationalState, data: Any) -> tuple[VariationalState, Info]:
    expected, params = model.under(state.posterior)
    local = expected.localize(params, data)
    statistics, log_norm = local.e_step(params, data)
    bound = log_norm - divergence_of(state.posterior, state.prior)
    posterior = local.update(state.prior, statistics)
    counts = local.occupation(statistics).astype(state.counts.dtype)
    new = VariationalState(model.of_states(mean_of(posterior)), state.prior, posterior, counts)
    return new, Info(bound, bound, 1)


def _conclude(model: Any, state: VariationalState, data: Any) -> Conclusion:
    expected, params = model.under(state.posterior)
    bound = expected.log_likelihood(params, data) - divergence_of(state.posterior, state.prior)
    present = (data.weights > 0) & data.informative
    one_row = data.weights.sum() / jnp.maximum(present.sum(), 1)
    detail = VariationalPosterior(state.posterior, bound, state.counts, state.counts < one_row)
    return Conclusion(state.params, model.log_likelihood(state.params, data), bound, detail)


def _relabel(model: Any, detail: VariationalPosterior, order: jax.Array) -> VariationalPosterior:
    if model.n_states == 1:
        return detail
    posterior = relabel_distribution(model.free_domains, detail.posterior, order)
    return VariationalPosterior(posterior, detail.bound, detail.counts[order], detail.emptied[order])
