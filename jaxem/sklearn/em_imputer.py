"""Missing cells filled with their expected values under a Gaussian or a mixture of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from jaxem.sklearn.fitting import fit, read, row_by_row, weights_of
from jaxem.sklearn.gaussian_mixture import gaussian_mixture


class EMImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fills NaN with E[missing cells | observed cells of the row], under a Gaussian (mixture) fitted by EM to data with holes.

    It takes the place of `sklearn.impute.IterativeImputer`: every row and every column tells of all others, exactly, whatever the
    pattern of holes. Filled cells vary less than true ones do; for inference, impute several times or fit the model itself.

    Args:
        n_components: 1 for one Gaussian; more for a mixture.
        covariance_type: "full", "tied", "diag" or "spherical"; only under the first two do columns tell of each other within a
            component.
        prior: None, or "weak": see `GaussianMixture`; for few rows or collinear columns.
        tol, max_iter, n_init, random_state: as of `GaussianMixture`.

    Attributes:
        weights_ (K,), means_ (K, d), covariances_; converged_, n_iter_, log_likelihood_; n_features_in_, feature_names_in_; model_,
        params_, result_ as of jaxem.

    A column in which every cell is missing cannot be filled, and is refused.
    """

    def __init__(
        self, n_components=1, *, covariance_type="full", prior=None, tol=1e-3, max_iter=100, n_init=1, random_state=None
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.prior = prior
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> EMImputer:
        """Fits to rows X (n, d), NaN where missing, with weights (n,) >= 0; y is not looked at."""
        del y
        X = read(self, X, reset=True)
        weights = weights_of(sample_weight, X)
        model = gaussian_mixture(self.n_components, self.covariance_type, self.prior, X, weights)
        total = len(X) if weights is None else float(weights.sum())
        fit(self, model, X, weights=weights, tolerance=self.tol * total, max_steps=self.max_iter)
        self.weights_, (self.means_, self.covariances_) = self.params_.weights, self.params_.components
        return self

    def transform(self, X: Any) -> np.ndarray:
        """X with every NaN filled; observed cells stay as they are."""
        check_is_fitted(self)
        X = read(self, X)
        if not np.isnan(X).any():
            return X.copy()
        return row_by_row(lambda rows: self.model_.impute(self.params_, rows), X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
