"""Which model: criteria, cross-validation, the bootstrap of the likelihood ratio, agreement of groupings."""

from jaxem.selection.criteria import Criteria, criteria
from jaxem.selection.cross_validation import CrossValidation, cross_validate
from jaxem.selection.groupings import ClassificationTable, adjusted_rand_index, classification_table, silhouette
from jaxem.selection.likelihood_ratio_bootstrap import LikelihoodRatioBootstrap, bootstrap_likelihood_ratio
from jaxem.selection.select import select
from jaxem.selection.selection import Candidate, Selection, SelectProgress

__all__ = [
    "Candidate", "ClassificationTable", "Criteria", "CrossValidation", "LikelihoodRatioBootstrap", "SelectProgress",
    "Selection", "adjusted_rand_index", "bootstrap_likelihood_ratio", "classification_table", "criteria", "cross_validate",
    "select", "silhouette",
]  # fmt: skip
