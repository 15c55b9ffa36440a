"""Missing data: completed data sets and what is made of them, tables and tests of what is missing, and what if it is not missing
at random."""

from jaxem.missing.mcar import LittleTest, little_mcar_test
from jaxem.missing.multiple import Imputations, impute
from jaxem.missing.overimputation import Overimputation, overimpute
from jaxem.missing.patterns import Missingness, missingness
from jaxem.missing.rubin import Pooled, pool
from jaxem.missing.sensitivity import DeltaSensitivity, delta_sensitivity

__all__ = [
    "DeltaSensitivity", "Imputations", "LittleTest", "Missingness", "Overimputation", "Pooled", "delta_sensitivity", "impute",
    "little_mcar_test", "missingness", "overimpute", "pool",
]  # fmt: skip
