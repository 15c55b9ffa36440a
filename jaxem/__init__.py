"""jaxem: expectation-maximization on JAX."""

from jaxem import algorithms as _algorithms
from jaxem import families as _families
from jaxem import inference as _inference
from jaxem import missing as _missing
from jaxem import models as _models
from jaxem import selection as _selection
from jaxem.algorithms import *  # noqa: F403  every algorithm, as its own line in jaxem/algorithms/__init__.py says
from jaxem.align import align
from jaxem.check_model import check_model
from jaxem.compare import CompareProgress, Comparison, compare
from jaxem.data import prepare
from jaxem.draws import Draws
from jaxem.families import *  # noqa: F403  every family and its params, as its own line in jaxem/families/__init__.py says
from jaxem.family import Family
from jaxem.fit import Progress, fit, fit_batch
from jaxem.inference import *  # noqa: F403  and what a fit is worth
from jaxem.inputs import Interval, Regression, WeightedRows, from_covariance, tobit
from jaxem.latent_class import class_profiles, entropy_r2, goodness_of_fit, impute_categories
from jaxem.missing import *  # noqa: F403  and what to do about missing cells
from jaxem.model import Expectation, Model
from jaxem.models import *  # noqa: F403  and every model, likewise
from jaxem.multi_start import Search, hierarchical, split_and_merge, successive_halving
from jaxem.nuts import log_posterior, nuts
from jaxem.priors import (
    BetaPrior,
    DirichletPrior,
    GammaPrior,
    MixturePrior,
    NormalInverseGamma,
    NormalInverseWishart,
    NormalPrior,
)
from jaxem.report import Report, report
from jaxem.residuals import quantile_residuals
from jaxem.result import Fit, Status, Stop
from jaxem.rotation import Rotation, oblimin, promax, quartimax, rotate, varimax
from jaxem.saved import load, save
from jaxem.selection import *  # noqa: F403  and which model to take
from jaxem.sequences import Sequences
from jaxem.weak_prior import weak_prior

__version__ = "0.1.0"

__all__ = [
    "BetaPrior", "CompareProgress", "Comparison", "DirichletPrior", "Draws", "Expectation", "Family", "Fit", "GammaPrior",
    "Interval", "MixturePrior",
    "Model", "NormalInverseGamma", "NormalInverseWishart", "NormalPrior", "Progress", "Regression", "Report",
    "Rotation", "Search", "Sequences", "Status", "Stop", "WeightedRows", "align", "check_model", "class_profiles", "compare",
    "entropy_r2", "fit", "fit_batch", "from_covariance", "goodness_of_fit", "hierarchical", "impute_categories", "load",
    "log_posterior", "nuts", "oblimin", "prepare", "promax", "quantile_residuals", "quartimax", "report", "rotate", "save",
    "split_and_merge", "successive_halving", "tobit", "varimax", "weak_prior",
    *_algorithms.__all__, *_families.__all__, *_inference.__all__, *_missing.__all__, *_models.__all__, *_selection.__all__,
]  # fmt: skip
