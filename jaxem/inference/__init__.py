"""What a fit is worth: standard errors, certificates, tests, influence."""

from jaxem.inference.inference import Inference
from jaxem.inference.standard_errors import standard_errors

__all__ = ["Inference", "standard_errors"]
