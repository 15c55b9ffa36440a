"""What a fit is worth: standard errors, certificates, tests, influence."""

from jaxem.inference.certificate import Certificate, certificate
from jaxem.inference.inference import Inference
from jaxem.inference.polish import polish
from jaxem.inference.standard_errors import standard_errors

__all__ = ["Certificate", "Inference", "certificate", "polish", "standard_errors"]
