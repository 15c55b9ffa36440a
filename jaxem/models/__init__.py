"""How the discrete states are tied together: one file a model."""

from jaxem.kernels.quantiles import PseudoResiduals
from jaxem.models.factor_analysis import FactorAnalysis, FactorScores, FactorTest, ProbabilisticPCA
from jaxem.models.heckman_selection import HeckmanSelection
from jaxem.models.hidden_markov import HiddenMarkov, HiddenMarkovParams, HiddenMarkovPrior
from jaxem.models.hidden_semi_markov import (
    CategoricalDuration,
    HiddenSemiMarkov,
    HiddenSemiMarkovParams,
    HiddenSemiMarkovPrior,
    NegativeBinomialDuration,
    PoissonDuration,
)
from jaxem.models.latent import Latent
from jaxem.models.markov_forecast import Forecast
from jaxem.models.markov_switching import MarkovSwitching, SwitchingInterceptParams, SwitchingMeanParams
from jaxem.models.mixture import Mixture, MixtureParams
from jaxem.models.mixture_of_experts import GateParams, MixtureOfExperts, MixtureOfExpertsParams
from jaxem.models.nonhomogeneous_hidden_markov import NonhomogeneousHiddenMarkov, NonhomogeneousParams
from jaxem.models.single import Single
from jaxem.models.state_space import StateSpace, StateSpaceParams
from jaxem.models.state_space_data import Inputs
from jaxem.models.state_space_readings import StateForecast, StateMoments
from jaxem.models.structural import dynamic_factor, local_level, local_linear_trend

__all__ = [
    "CategoricalDuration", "FactorAnalysis", "FactorScores", "FactorTest", "Forecast", "GateParams", "HeckmanSelection",
    "HiddenMarkov", "HiddenMarkovParams", "HiddenMarkovPrior", "HiddenSemiMarkov", "HiddenSemiMarkovParams",
    "HiddenSemiMarkovPrior", "Inputs", "Latent", "MarkovSwitching", "Mixture", "MixtureOfExperts", "MixtureOfExpertsParams",
    "MixtureParams", "NegativeBinomialDuration", "NonhomogeneousHiddenMarkov", "NonhomogeneousParams", "PoissonDuration",
    "ProbabilisticPCA", "PseudoResiduals", "Single", "StateForecast", "StateMoments", "StateSpace", "StateSpaceParams",
    "SwitchingInterceptParams", "SwitchingMeanParams", "dynamic_factor", "local_level", "local_linear_trend",
]
