"""Factor analysis by maximum likelihood, with the names of `sklearn.decomposition.FactorAnalysis`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

import jaxem
from jaxem.kernels.factor import most_factors
from jaxem.sklearn.fitting import fit, read, row_by_row, weights_of


class FactorAnalysis(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """y = mean + L f + e with q independent factors, `jaxem.FactorAnalysis(q)`; cells may be missing.

    Args:
        n_components: q; None takes as many as d columns identify: (d - q)^2 >= d + q. scikit-learn takes more, of which the data
            cannot tell; here that is an error.
        tol: a fit ends when the log-likelihood gains less in a step.
        max_iter: most steps.
        rotation: None, "varimax", "quartimax", "promax" or "oblimin".

    Attributes:
        components_ (q, d): loadings, rotated; noise_variance_ (d,), mean_ (d,); loglike_: log-likelihood before each step;
        converged_, n_iter_, log_likelihood_, n_parameters_; n_features_in_, feature_names_in_; model_, params_, result_: jaxem's.
    """

    def __init__(self, n_components=None, *, tol=1e-2, max_iter=1000, rotation=None):
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.rotation = rotation

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> FactorAnalysis:
        """Fits to rows X (n, d), NaN where missing, with weights (n,) >= 0; y is not looked at."""
        del y
        X = read(self, X, reset=True)
        weights = weights_of(sample_weight, X)
        d = X.shape[1]
        most = most_factors(d, False)
        if most < 1:
            raise ValueError(f"X: found n_features = {d}, {d} feature(s), which identify no factor; give at least 3.")
        model = jaxem.FactorAnalysis(most if self.n_components is None else self.n_components, rotation=self.rotation)
        fit(self, model, X, weights=weights, tolerance=self.tol, max_steps=self.max_iter)
        loadings = self.params_.loadings
        if self.rotation is not None:
            loadings = np.asarray(model.rotate(self.params_).loadings)
        self.components_, self.noise_variance_, self.mean_ = loadings.T, self.params_.uniquenesses, self.params_.mean
        history = np.asarray(self.result_.history)
        self.loglike_ = history[~np.isnan(history)].tolist()
        return self

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def transform(self, X: Any) -> np.ndarray:
        """(n, q) expected factors of each row given its observed cells (regression scores)."""
        check_is_fitted(self)
        return row_by_row(lambda rows: self.model_.scores(self.params_, rows).mean, read(self, X))

    def get_covariance(self) -> np.ndarray:
        """(d, d) covariance of a row, L L' + diag(noise)."""
        check_is_fitted(self)
        return self.params_.loadings @ self.params_.loadings.T + np.diag(self.noise_variance_)

    def get_precision(self) -> np.ndarray:
        """(d, d) inverse of it."""
        return np.linalg.inv(self.get_covariance())

    def score_samples(self, X: Any) -> np.ndarray:
        """(n,) log-density of the observed cells of each row."""
        check_is_fitted(self)
        return row_by_row(lambda rows: self.model_.log_likelihood(self.params_, rows, per_row=True), read(self, X))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean of `score_samples`."""
        del y
        found = self.score_samples(X)
        return float(np.average(found, weights=weights_of(sample_weight, found)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
