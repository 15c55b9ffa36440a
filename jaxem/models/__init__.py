"""How the discrete states are tied together: one file a model."""

from jaxem.models.factor_analysis import FactorAnalysis, FactorScores, FactorTest, ProbabilisticPCA
from jaxem.models.hidden_markov import HiddenMarkov, HiddenMarkovParams, HiddenMarkovPrior
from jaxem.models.latent import Latent
from jaxem.models.mixture import Mixture, MixtureParams
from jaxem.models.mixture_of_experts import GateParams, MixtureOfExperts, MixtureOfExpertsParams
from jaxem.models.single import Single

__all__ = [
    "FactorAnalysis", "FactorScores", "FactorTest", "GateParams", "HiddenMarkov", "HiddenMarkovParams", "HiddenMarkovPrior",
    "Latent", "Mixture", "MixtureOfExperts", "MixtureOfExpertsParams", "MixtureParams", "ProbabilisticPCA", "Single",
]
