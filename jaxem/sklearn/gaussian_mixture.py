"""Gaussian mixtures by maximum likelihood, with the names of `sklearn.mixture.GaussianMixture`."""

from __future__ import annotations

from typing import Any

import numpy as np

import jaxem
from jaxem.checks import as_key
from jaxem.sklearn.fitting import as_numpy, can_go_on, check_rows, double, fit, pad, roomy, weights_of
from jaxem.sklearn.mixture_readings import MixtureReadings

COVARIANCES = {"full": "full", "tied": "tied", "diag": "diagonal", "spherical": "spherical"}


class GaussianMixture(MixtureReadings):
    """Mixture of Gaussians by EM, `jaxem.Mixture(jaxem.Gaussian(...), K)`; cells may be missing.

    Args:
        n_components: K.
        covariance_type: "full", "tied", "diag" or "spherical".
        tol: a fit ends when the mean log-likelihood of a row gains less in a step.
        max_iter: most steps.
        n_init: starts, of which the best is kept.
        weights_init, means_init, precisions_init: params to begin from; those left out are found from the data.
        prior: None for maximum likelihood, or "weak": see `jaxem.weak_prior`. It takes the place of scikit-learn's `reg_covar`,
            which adds the same number to every variance whatever its unit; with it no component collapses.
        random_state: seed of the starts and of `sample`.
        warm_start: whether `fit` goes on from where the last one ended.

    Attributes:
        weights_ (K,), means_ (K, d), covariances_ and precisions_ (K, d, d), tied (d, d), diag (K, d), spherical (K,);
        converged_, n_iter_; lower_bound_: mean log-likelihood of a row of X; log_likelihood_: of all of them; n_parameters_;
        n_features_in_, feature_names_in_; model_, params_, result_ as of jaxem.

    A fit that does not converge, or in which a component collapses, warns by `ConvergenceWarning`.
    """

    def __init__(
        self, n_components=1, *, covariance_type="full", tol=1e-3, max_iter=100, n_init=1, weights_init=None, means_init=None,
        precisions_init=None, prior=None, random_state=None, warm_start=False,
    ):  # fmt: skip
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.prior = prior
        self.random_state = random_state
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> GaussianMixture:
        """Fits to rows X (n, d), NaN where missing, with weights (n,) >= 0; y is not looked at."""
        del y
        X = self._read(X, reset=True)
        weights = weights_of(sample_weight, X)
        model = gaussian_mixture(self.n_components, self.covariance_type, self.prior, X, weights)
        total = len(X) if weights is None else float(weights.sum())
        start = self._start(model, X.shape[1])
        fit(self, model, X, weights=weights, start=start, tolerance=self.tol * total, max_steps=self.max_iter)
        self.weights_, (self.means_, self.covariances_) = self.params_.weights, self.params_.components
        self.lower_bound_ = self.log_likelihood_ / total
        return self

    def _start(self, model: Any, d: int) -> Any:
        """How a fit begins, where the user says something of it."""
        if can_go_on(self, (self.n_components, d), "means_") and np.shape(self.covariances_) == model.structure(d)[1][1]:
            old = self.params_
            return lambda rows, seed: old
        given = (self.weights_init, self.means_init, self.precisions_init)
        if all(each is None for each in given):
            return None
        weights, means, precisions = (None if each is None else np.asarray(each, np.float64) for each in given)
        covariances = None if precisions is None else inverse(precisions, self.covariance_type)

        def start(rows: Any, seed: int) -> Any:
            found = model.init(as_key(seed), rows)
            mean, covariance = found.components
            mean, covariance = mean if means is None else means, covariance if covariances is None else covariances
            return found._replace(
                weights=found.weights if weights is None else weights,
                components=found.components._replace(mean=mean, covariance=covariance),
            )

        return start

    @property
    def precisions_(self) -> np.ndarray:
        """Inverses of `covariances_`."""
        return inverse(self.covariances_, self.covariance_type)


def gaussian_mixture(n_components: Any, covariance_type: Any, prior: Any, X: Any, weights: Any) -> Any:
    """The model that scikit-learn's words stand for.

    Raises:
        TypeError, ValueError: an unknown kind of covariance or prior, no whole number of components >= 1.
    """
    if covariance_type not in COVARIANCES:
        raise ValueError(f"covariance_type: found {covariance_type!r}; use one of {', '.join(COVARIANCES)}.")
    if prior not in (None, "weak"):
        raise ValueError(f"prior: found {prior!r}; give None or 'weak'.")
    model = jaxem.Mixture(jaxem.Gaussian(COVARIANCES[covariance_type]), n_components)
    check_rows(X, n_components)
    if prior is None:
        return model
    with double():
        whole = np.concatenate([np.ones(len(X)) if weights is None else weights, np.zeros(roomy(len(X)) - len(X))])
        prior = jaxem.weak_prior(pad(X, len(X)), n_components, weights=whole)
        return jaxem.Mixture(model.family, n_components, prior=as_numpy(prior))


def inverse(matrices: np.ndarray, covariance_type: str) -> np.ndarray:
    """Precisions from covariances, and back."""
    return np.linalg.inv(matrices) if covariance_type in ("full", "tied") else 1 / matrices
