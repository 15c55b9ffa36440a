"""Which model: criteria, cross-validation, the bootstrap of the likelihood ratio, agreement of groupings."""

from jaxem.selection.criteria import Criteria, criteria
from jaxem.selection.cross_validation import CrossValidation, cross_validate
from jaxem.selection.select import select
from jaxem.selection.selection import Candidate, Selection

__all__ = ["Candidate", "Criteria", "CrossValidation", "Selection", "criteria", "cross_validate", "select"]
