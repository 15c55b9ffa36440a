"""Missing data: several completed data sets and what is made of them, tests and tables of what is missing, what if it is not
missing at random."""

from jaxem.missing.mcar import LittleTest, little_mcar_test
from jaxem.missing.multiple import Imputations, impute
from jaxem.missing.patterns import Missingness, missingness
from jaxem.missing.rubin import Pooled, pool

__all__ = ["Imputations", "LittleTest", "Missingness", "Pooled", "impute", "little_mcar_test", "missingness", "pool"]
