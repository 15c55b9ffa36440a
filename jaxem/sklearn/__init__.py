"""Estimators for users of scikit-learn and hmmlearn: thin doors onto `jaxem.fit`, with the names that they know.

Parameters, attributes and conventions are those of `sklearn.mixture`, `sklearn.decomposition`, `sklearn.impute` and `hmmlearn.hmm`
as far as they go; what jaxem adds is said in each class: missing cells (NaN) wherever data may have them, `sample_weight`, and
`result_`, the `jaxem.Fit` with its status. Estimators compute in float64, and in float32 where X is float32, whatever JAX is set
to: they switch it within their own calls only. They hold NumPy arrays, so that they can be copied, pickled and sent to workers.

Needs scikit-learn 1.6 or later: `pip install "jaxem[sklearn]"`.
"""

from jaxem.sklearn.bayesian_gaussian_mixture import BayesianGaussianMixture
from jaxem.sklearn.em_imputer import EMImputer
from jaxem.sklearn.factor_analysis import FactorAnalysis
from jaxem.sklearn.gaussian_mixture import GaussianMixture
from jaxem.sklearn.hidden_markov import CategoricalHMM, GaussianHMM, PoissonHMM
from jaxem.sklearn.latent_class import LatentClassAnalysis
from jaxem.sklearn.mixture_of_regressions import MixtureOfRegressions

__all__ = [
    "BayesianGaussianMixture", "CategoricalHMM", "EMImputer", "FactorAnalysis", "GaussianHMM", "GaussianMixture",
    "LatentClassAnalysis", "MixtureOfRegressions", "PoissonHMM",
]  # fmt: skip
