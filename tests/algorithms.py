"""The one table of algorithms: what each guarantees, and which models it refuses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import optax

from jaxem import (
    Bernoulli,
    Categorical,
    Exponential,
    Gaussian,
    HiddenMarkov,
    Mixture,
    NormalInverseWishart,
    Poisson,
    Single,
    accelerated,
    aitken,
    anderson,
    annealed_em,
    classification_em,
    ecm,
    ecme,
    em,
    gem,
    gibbs,
    incremental_em,
    lbfgs,
    monte_carlo_em,
    natural_gradient,
    newton,
    online_em,
    parabolic,
    quasi_newton,
    saem,
    squarem,
    stochastic_em,
    variance_reduced_em,
    variational,
)  # fmt: skip
from jaxem.restrict import paths_of


def never(model: Any) -> str | None:
    """No model is refused."""
    del model


def unless_closed(model: Any) -> str | None:
    """What mixes statistics of different params takes models whose M-step is the maximiser of sums."""
    return None if model.closed else "statistics of this model"


def without_weights(model: Any) -> str | None:
    """A model without a parameter of that name lists its own."""
    return None if "weights" in paths_of(model.domains) else "there are"


def without_conjugate_prior(model: Any) -> str | None:
    """Posteriors in closed form need a proper conjugate prior."""
    conjugate = (Gaussian, Poisson, Exponential, Bernoulli, Categorical)
    known = isinstance(model, (Mixture, Single, HiddenMarkov)) and isinstance(model.family, conjugate)
    if not known or model.prior is None or getattr(model, "initial", None) == "stationary":
        return "prior|posterior"
    shrinkage = [leaf.shrinkage for leaf in jax.tree.leaves(model.prior, is_leaf=is_wishart) if is_wishart(leaf)]
    return "improper" if 0 in shrinkage else None


def is_wishart(prior: Any) -> bool:
    return isinstance(prior, NormalInverseWishart)


ADAM = optax.adam(0.05)


@dataclass(frozen=True)
class Entry:
    """An algorithm in the table."""

    name: str
    algorithm: Any
    guarantee: str  # "monotone", or "mean" where steps are random or not guarded
    refuses: Callable[[Any], str | None] = never  # model -> a part of the error's text, None where the model is taken
    quick: bool = False  # whether it is in the short run
    steps: int = 12  # steps that show the guarantee


TABLE = [
    Entry("em", em(), "monotone"),
    Entry("squarem", squarem(), "monotone", quick=True),
    Entry("anderson", anderson(), "monotone"),
    Entry("quasi_newton", quasi_newton(), "monotone"),
    Entry("aitken", aitken(), "monotone"),
    Entry("newton", newton(), "monotone"),
    Entry("lbfgs", lbfgs(), "monotone"),
    Entry("ecm", ecm(), "monotone"),
    Entry("ecme", ecme("weights"), "monotone", without_weights),
    Entry("gem", gem(ADAM, 5), "monotone"),
    Entry("parabolic", parabolic(), "monotone"),
    Entry("natural_gradient", natural_gradient(), "monotone"),
    Entry("accelerated", accelerated(), "monotone"),
    Entry("online_em", online_em(), "mean", unless_closed),
    Entry("incremental_em", incremental_em(6), "monotone", unless_closed),
    Entry("variance_reduced_em", variance_reduced_em(6), "mean", unless_closed),
    Entry("stochastic_em", stochastic_em(burn_in=4), "mean"),
    Entry("classification_em", classification_em(), "monotone"),
    Entry("annealed_em", annealed_em((0.5, 1.0), 3), "mean"),
    Entry("saem", saem(burn_in=4), "mean", unless_closed),
    Entry("variational", variational(), "monotone", without_conjugate_prior),
    Entry("gibbs", gibbs(draws=16, burn_in=4, chains=2), "mean", without_conjugate_prior),
    Entry("monte_carlo_em", monte_carlo_em(8, most=24), "mean", steps=4),
]
