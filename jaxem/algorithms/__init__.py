"""How statistics are gathered and params moved: one file an algorithm."""

from typing import Any

from jaxem.algorithms.accelerated import accelerated
from jaxem.algorithms.aitken import aitken
from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.anderson import anderson
from jaxem.algorithms.annealed_em import annealed_em
from jaxem.algorithms.classification_em import classification_em
from jaxem.algorithms.ecm import ecm
from jaxem.algorithms.ecme import ecme
from jaxem.algorithms.em import em
from jaxem.algorithms.gem import gem
from jaxem.algorithms.gibbs import gibbs
from jaxem.algorithms.gradient import gradient
from jaxem.algorithms.incremental_em import incremental_em
from jaxem.algorithms.lbfgs import lbfgs
from jaxem.algorithms.monte_carlo_em import monte_carlo_em
from jaxem.algorithms.natural_gradient import natural_gradient
from jaxem.algorithms.newton import newton
from jaxem.algorithms.online_em import online_em
from jaxem.algorithms.parabolic import parabolic
from jaxem.algorithms.quasi_newton import quasi_newton
from jaxem.algorithms.saem import saem
from jaxem.algorithms.squarem import squarem
from jaxem.algorithms.stochastic_em import stochastic_em
from jaxem.algorithms.variance_reduced_em import variance_reduced_em
from jaxem.algorithms.variational import VariationalPosterior, variational

__all__ = [
    "Algorithm", "Info", "VariationalPosterior", "accelerated", "aitken", "anderson", "annealed_em", "classification_em",
    "ecm", "ecme", "em", "gem", "gibbs", "gradient", "incremental_em", "lbfgs", "monte_carlo_em", "natural_gradient",
    "newton", "online_em", "parabolic", "quasi_newton", "saem", "squarem", "stochastic_em",
    "variance_reduced_em", "variational",
]


def algorithm_for(model: Any) -> Algorithm:
    """What `fit` runs where no algorithm is asked for: `em()`, or `ecme` on the blocks that a model wants moved so."""
    return ecme(*model.observed_blocks) if model.observed_blocks else em()
