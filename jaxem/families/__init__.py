"""What one observation looks like given its discrete state: one file a family."""

from jaxem.families.categorical import Categorical, CategoricalParams
from jaxem.families.gaussian import Gaussian, GaussianParams
from jaxem.families.poisson import Poisson, PoissonParams
from jaxem.families.product import Product

__all__ = ["Categorical", "CategoricalParams", "Gaussian", "GaussianParams", "Poisson", "PoissonParams", "Product"]
