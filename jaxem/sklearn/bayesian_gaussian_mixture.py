"""Gaussian mixtures by variational Bayes, with the names of `sklearn.mixture.BayesianGaussianMixture`."""

from __future__ import annotations

from typing import Any

import numpy as np

import jaxem
from jaxem.sklearn.fitting import fit, weights_of
from jaxem.sklearn.gaussian_mixture import gaussian_mixture, inverse
from jaxem.sklearn.mixture_readings import MixtureReadings


class BayesianGaussianMixture(MixtureReadings):
    """Mixture of Gaussians by variational Bayes, `jaxem.variational()`: components that the data do not need empty themselves.

    The weights have a Dirichlet distribution (scikit-learn's weight_concentration_prior_type="dirichlet_distribution"), the means
    and covariances a normal-inverse-Wishart one. Cells may be missing.

    Args:
        n_components: K, the most there can be.
        covariance_type: "full", "tied", "diag" or "spherical".
        tol: a fit ends when the bound gains less in a step.
        max_iter, n_init, random_state: as of `GaussianMixture`.
        weight_concentration_prior: of each component; default 1 / K. The smaller, the more components empty themselves.
        mean_precision_prior: rows that the prior mean is worth; default 1.
        mean_prior: (d,); default the mean of X.
        degrees_of_freedom_prior: above d - 1; default d.
        covariance_prior: (d, d), diag (d,), spherical a number; default the covariance of X, its diagonal where that
            is singular or cells are missing.

    Attributes:
        those of `GaussianMixture`, of the params expected under the posterior; and weight_concentration_ (K,), mean_precision_,
        degrees_of_freedom_. lower_bound_ is that of log p(X), all constants in (scikit-learn leaves some out).

    `predict_proba` and `score_samples` average the logarithms of densities over the posterior, as scikit-learn does.
    """

    def __init__(
        self, n_components=1, *, covariance_type="full", tol=1e-3, max_iter=100, n_init=1, weight_concentration_prior=None,
        mean_precision_prior=None, mean_prior=None, degrees_of_freedom_prior=None, covariance_prior=None, random_state=None,
    ):  # fmt: skip
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BayesianGaussianMixture:
        """Fits to rows X (n, d), NaN where missing, with weights (n,) >= 0; y is not looked at."""
        del y
        X = self._read(X, reset=True)
        weights = weights_of(sample_weight, X)
        plain = gaussian_mixture(self.n_components, self.covariance_type, None, X, weights)
        model = jaxem.Mixture(plain.family, self.n_components, prior=self._prior(X, weights))
        fit(self, model, X, weights=weights, tolerance=self.tol, max_steps=self.max_iter, algorithm=jaxem.variational())
        self.weights_, (self.means_, self.covariances_) = self.params_.weights, self.params_.components
        posterior = self.result_.detail.posterior
        self.weight_concentration_ = posterior.weights.concentration
        self.mean_precision_ = posterior.components.shrinkage
        self.degrees_of_freedom_ = posterior.components.dof
        self.lower_bound_ = float(self.result_.objective)
        return self

    def _prior(self, X: np.ndarray, weights: Any) -> Any:
        d = X.shape[1]
        mass = np.where(np.isnan(X), 0.0, np.ones((len(X), 1)) if weights is None else weights[:, None])
        total = mass.sum(axis=0)
        if not (total > 0).all():
            raise ValueError(f"X: every cell of column {int(np.flatnonzero(total == 0)[0])} is missing or has no weight; drop it.")
        mean = (mass * np.nan_to_num(X)).sum(axis=0) / total
        deviation = np.where(np.isnan(X), 0.0, X - mean)
        scale = self.covariance_prior
        if scale is None:  # unbiased, where there are rows enough
            scale = np.diag((mass * deviation**2).sum(axis=0) / np.where(total > 1, total - 1, total))
            whole = (mass * deviation).T @ deviation / (total[0] - 1 if total[0] > 1 else total[0])
            told = not np.isnan(X).any() and self.covariance_type != "diag"
            scale = whole if told and np.linalg.matrix_rank(whole) == d else scale
        elif np.ndim(scale) < 2:
            scale = np.diag(np.broadcast_to(np.asarray(scale, np.float64), (d,)))
        given: dict[str, Any] = {
            "mean": (self.mean_prior, mean),
            "shrinkage": (self.mean_precision_prior, 1.0),
            "dof": (self.degrees_of_freedom_prior, d),
            "scale": (scale, scale),
        }
        own: dict[str, Any] = {
            name: np.asarray(default if value is None else value, np.float64) for name, (value, default) in given.items()
        }
        concentration: Any = self.weight_concentration_prior
        concentration = np.float64(1 / self.n_components if concentration is None else concentration)
        return jaxem.MixturePrior(concentration, jaxem.NormalInverseWishart(**own))

    def _model(self) -> tuple[Any, Any]:
        """The model whose log-densities are those expected under the posterior."""
        return self.model_.under(self.result_.detail.posterior)

    @property
    def precisions_(self) -> np.ndarray:
        """Inverses of `covariances_`: the expected precisions."""
        return inverse(self.covariances_, self.covariance_type)
