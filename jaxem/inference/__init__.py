"""What a fit is worth: standard errors, certificates, tests, influence."""

from jaxem.inference.certificate import Certificate, certificate
from jaxem.inference.convergence_rate import Rate, convergence_rate
from jaxem.inference.hypotheses import HypothesisTest, likelihood_ratio_test, score_test, wald_test
from jaxem.inference.inference import Inference
from jaxem.inference.influence import Influence, influence
from jaxem.inference.polish import polish
from jaxem.inference.profile import Profile, profile
from jaxem.inference.standard_errors import standard_errors
from jaxem.inference.supplemented_by_steps import Supplemented, supplemented_by_steps

__all__ = [
    "Certificate", "HypothesisTest", "Inference", "Influence", "Profile", "Rate", "Supplemented", "certificate",
    "convergence_rate", "influence", "likelihood_ratio_test", "polish", "profile", "score_test", "standard_errors",
    "supplemented_by_steps", "wald_test",
]  # fmt: skip
