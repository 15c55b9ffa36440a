"""jaxem: expectation-maximization on JAX."""

from jaxem.algorithms import Algorithm, Info, em
from jaxem.align import align
from jaxem.data import prepare
from jaxem.families import Gaussian, GaussianParams
from jaxem.fit import Progress, fit, fit_batch
from jaxem.model import Expectation, Family, Model
from jaxem.models import Mixture, MixtureParams, Single
from jaxem.priors import MixturePrior, NormalInverseWishart
from jaxem.result import Fit, Status, Stop
from jaxem.weak_prior import weak_prior

__version__ = "0.1.0"

__all__ = [
    "Algorithm", "Expectation", "Family", "Fit", "Gaussian", "GaussianParams", "Info", "Mixture", "MixtureParams",
    "MixturePrior", "Model", "NormalInverseWishart", "Progress", "Single", "Status", "Stop", "align", "em", "fit", "fit_batch",
    "prepare", "weak_prior",
]  # fmt: skip
