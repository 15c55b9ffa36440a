"""What one observation looks like given its discrete state: one file a family."""

from jaxem.families.gaussian import Gaussian, GaussianParams

__all__ = ["Gaussian", "GaussianParams"]
