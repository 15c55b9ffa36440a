"""The one table of algorithms: what each guarantees, and which models it refuses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optax

from jaxem import (
    aitken,
    anderson,
    annealed_em,
    classification_em,
    ecm,
    ecme,
    em,
    gem,
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
    Entry("online_em", online_em(), "mean", unless_closed),
    Entry("incremental_em", incremental_em(6), "monotone", unless_closed),
    Entry("variance_reduced_em", variance_reduced_em(6), "mean", unless_closed),
    Entry("stochastic_em", stochastic_em(burn_in=4), "mean"),
    Entry("classification_em", classification_em(), "monotone"),
    Entry("annealed_em", annealed_em((0.5, 1.0), 3), "mean"),
    Entry("saem", saem(burn_in=4), "mean", unless_closed),
    Entry("monte_carlo_em", monte_carlo_em(8, most=24), "mean", steps=4),
]
