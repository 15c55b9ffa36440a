"""What `Mixture`, `Single` and `HiddenMarkov` are under conjugate priors (see `jaxem.conjugate`)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxem import coordinates
from jaxem.conjugate import Dirichlets, Held
from jaxem.family import Family
from jaxem.restrict import Restrictions


def _prior_of(model: Any, params: Any, example: str = "{}") -> Any:
    """The model's prior.

    Raises:
        ValueError: it has none, or params that are held or tied, whose posterior is another.
    """
    if model.prior is None and (model.family.prior_type is None or type(model.family).conjugate is Family.conjugate):
        return model.family.conjugate(None, params)  # says that no prior would do
    if model.prior is None:
        name = getattr(model.family.prior_type, "__name__", "")
        raise ValueError(f"prior: this model has none; give a conjugate one, prior={example.format(f'{name}(...)')}.")
    if isinstance(model.fixed, Restrictions):
        raise ValueError("fixed: params that are fixed or tied have no conjugate posterior; leave them free, or take em().")
    return model._prior(params)


def _family_part(model: Any, prior: Any, params: Any, name: str) -> Any:
    if prior is None and model.family.prior_type is not None:
        raise ValueError(f"prior: has nothing for {name}; give them a {model.family.prior_type.__name__}.")
    return model.family.conjugate(prior, params)


class ConjugateMixture:
    """Dirichlet weights beside the family's own."""

    def conjugate(self: Any, params: Any) -> Any:
        prior = _prior_of(self, params, "MixturePrior(1.0, {})")
        weights = Dirichlets(jnp.broadcast_to(prior.concentration, params.weights.shape))
        return type(params)(weights, _family_part(self, prior.components, params.components, "the components"))

    def update(self: Any, distribution: Any, statistics: Any) -> Any:
        weights = Dirichlets(distribution.weights.concentration + statistics.weights)
        return type(distribution)(weights, self.family.update(distribution.components, statistics.components))

    def under(self: Any, distribution: Any) -> tuple[Any, Any]:
        family, components = self.family.under(distribution.components)
        model = dataclasses.replace(self, family=family, prior=None)
        return model, type(distribution)(distribution.weights.expected(), components)

    def occupation(self: Any, statistics: Any) -> jax.Array:
        return statistics.weights


class ConjugateSingle:
    """The family's own; distributions keep a state axis of length 1."""

    def conjugate(self: Any, params: Any) -> Any:
        prior = _prior_of(self, params)
        return self.family.conjugate(prior, self._states(params))

    def update(self: Any, distribution: Any, statistics: Any) -> Any:
        return self.family.update(distribution, statistics)

    def under(self: Any, distribution: Any) -> tuple[Any, Any]:
        family, params = self.family.under(distribution)
        model = dataclasses.replace(self, family=family, prior=None)
        return model, model.of_states(params)

    def of_states(self: Any, params: Any) -> Any:
        return coordinates.drop_state_axis(self.domains, params)

    def occupation(self: Any, statistics: Any) -> jax.Array:
        del statistics
        return jnp.full(1, jnp.inf)  # all rows


class ConjugateHiddenMarkov:
    """Dirichlet first states and rows of transitions beside the family's own."""

    def conjugate(self: Any, params: Any) -> Any:
        if self.initial == "stationary":
            raise ValueError(
                "initial: a stationary first state ties it to the transitions, and their posterior is not conjugate; "
                "give initial='free', or probabilities to keep."
            )
        prior = _prior_of(self, params, "HiddenMarkovPrior(1.0, 1.0, {})")
        free = self.initial == "free"
        initial = Dirichlets(jnp.broadcast_to(prior.initial, params.initial.shape)) if free else Held(params.initial)
        transition = Dirichlets(jnp.where(self._allowed(), jnp.broadcast_to(prior.transition, params.transition.shape), 0))
        return type(params)(initial, transition, _family_part(self, prior.emissions, params.emissions, "the emissions"))

    def update(self: Any, distribution: Any, statistics: Any) -> Any:
        initial = distribution.initial
        if isinstance(initial, Dirichlets):
            initial = Dirichlets(initial.concentration + statistics.initial)
        transition = Dirichlets(distribution.transition.concentration + statistics.transition)
        return type(distribution)(initial, transition, self.family.update(distribution.emissions, statistics.emissions))

    def under(self: Any, distribution: Any) -> tuple[Any, Any]:
        family, emissions = self.family.under(distribution.emissions)
        model = dataclasses.replace(self, family=family, prior=None)
        return model, type(distribution)(distribution.initial.expected(), distribution.transition.expected(), emissions)

    def occupation(self: Any, statistics: Any) -> jax.Array:
        return statistics.initial + statistics.transition.sum(axis=0)
