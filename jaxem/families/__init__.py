"""What one observation looks like given its discrete state: one file a family."""

from jaxem.families.bernoulli import Bernoulli, BernoulliParams
from jaxem.families.categorical import Categorical, CategoricalParams
from jaxem.families.censored_regression import CensoredRegression, CensoredRegressionParams
from jaxem.families.exponential import Exponential, ExponentialParams
from jaxem.families.factor_gaussian import FactorGaussian, FactorGaussianParams, IsotropicFactorParams
from jaxem.families.gamma import Gamma, GammaParams
from jaxem.families.gaussian import Gaussian, GaussianParams
from jaxem.families.linear_regression import LinearRegression, LinearRegressionParams
from jaxem.families.logistic_regression import LogisticRegression, LogisticRegressionParams
from jaxem.families.mixture_emission import GaussianMixtureEmission, MixtureEmission, MixtureEmissionParams
from jaxem.families.negative_binomial import NegativeBinomial, NegativeBinomialParams
from jaxem.families.poisson import Poisson, PoissonParams
from jaxem.families.poisson_regression import PoissonRegression, PoissonRegressionParams
from jaxem.families.product import Product
from jaxem.families.selected_regression import SelectedRegression, SelectedRegressionParams, SelectionParams
from jaxem.families.student_t import StudentT, StudentTParams
from jaxem.families.t_regression import TRegression, TRegressionParams
from jaxem.families.truncated_regression import TruncatedRegression
from jaxem.families.von_mises_fisher import VonMisesFisher, VonMisesFisherParams

__all__ = [
    "Bernoulli",
    "BernoulliParams",
    "Categorical",
    "CategoricalParams",
    "CensoredRegression",
    "CensoredRegressionParams",
    "Exponential",
    "ExponentialParams",
    "FactorGaussian",
    "FactorGaussianParams",
    "Gamma",
    "GammaParams",
    "Gaussian",
    "GaussianMixtureEmission",
    "GaussianParams",
    "IsotropicFactorParams",
    "LinearRegression",
    "LinearRegressionParams",
    "LogisticRegression",
    "LogisticRegressionParams",
    "MixtureEmission",
    "MixtureEmissionParams",
    "NegativeBinomial",
    "NegativeBinomialParams",
    "Poisson",
    "PoissonParams",
    "PoissonRegression",
    "PoissonRegressionParams",
    "Product",
    "SelectedRegression", "SelectedRegressionParams", "SelectionParams", "StudentT",
    "StudentTParams",
    "TRegression",
    "TRegressionParams",
    "TruncatedRegression",
    "VonMisesFisher",
    "VonMisesFisherParams",
]
