"""Regressions that differ between hidden components."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

import jaxem
from jaxem.sklearn.fitting import can_go_on, check_rows, double, fit, read, row_by_row, seed_of, weights_of

FAMILIES: dict[str, tuple[Any, Any]] = {  # and what a linear predictor says of the mean
    "linear": (jaxem.LinearRegression, lambda eta: eta),
    "t": (jaxem.TRegression, lambda eta: eta),
    "poisson": (jaxem.PoissonRegression, np.exp),
}


class MixtureOfRegressions(RegressorMixin, BaseEstimator):
    """p(y | x) = sum_k weights_k p(y | x, k), each component a regression of its own: `jaxem.Mixture(jaxem.LinearRegression(), K)`.

    As a regressor, `predict` gives E[y | x] and `score` is R^2. Which component a row belongs to is told by x and y together:
    `responsibilities(X, y)`; a regressor of scikit-learn has no `predict_proba`.

    Args:
        n_components: K.
        family: "linear" (normal errors), "t" (errors with heavy tails; `predict` gives their center) or "poisson" (counts, the
            logarithm of whose mean is linear).
        fit_intercept: whether regressions have an intercept.
        tol, max_iter, n_init, random_state, warm_start: as of `GaussianMixture`.

    Attributes:
        weights_ (K,), coef_ (K, p), intercept_ (K,), variance_ (K,) of the errors (None of counts); converged_, n_iter_,
        lower_bound_, log_likelihood_, n_parameters_; n_features_in_, feature_names_in_; model_, params_, result_ as of jaxem.
    """

    def __init__(
        self, n_components=1, *, family="linear", fit_intercept=True, tol=1e-3, max_iter=100, n_init=1, random_state=None,
        warm_start=False,
    ):  # fmt: skip
        self.n_components = n_components
        self.family = family
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MixtureOfRegressions:
        """Fits responses y (n,) to covariates X (n, p), with weights (n,) >= 0."""
        if self.family not in FAMILIES:
            raise ValueError(f"family: found {self.family!r}; use one of {', '.join(FAMILIES)}.")
        X, y = read(self, X, reset=True, y=y, holes=False)
        weights = weights_of(sample_weight, X)
        check_rows(X, self.n_components)
        model = jaxem.Mixture(FAMILIES[self.family][0](), self.n_components)
        total = len(X) if weights is None else float(weights.sum())
        start = None
        if can_go_on(self, (self.n_components, X.shape[1]), "coef_"):
            old = self.params_
            start = lambda rows, seed: old  # noqa: E731
        data = self._data(X, y)
        fit(self, model, data, weights=weights, start=start, tolerance=self.tol * total, max_steps=self.max_iter)
        components = self.params_.components
        self.weights_, self.coef_ = self.params_.weights, components.coefficients
        self.intercept_ = components.intercept if self.fit_intercept else np.zeros_like(self.weights_)
        self.variance_ = getattr(components, "variance", None)
        self.lower_bound_ = self.log_likelihood_ / total
        return self

    def _data(self, X: np.ndarray, y: Any) -> jaxem.Regression:
        return jaxem.Regression(np.asarray(y, X.dtype), X, intercept=bool(self.fit_intercept))

    def predict(self, X: Any) -> np.ndarray:
        """(n,) expected responses, sum_k weights_k E[y | x, k]."""
        return self.predict_components(X) @ self.weights_

    def predict_components(self, X: Any) -> np.ndarray:
        """(n, K) expected responses of each component."""
        check_is_fitted(self)
        X = read(self, X, holes=False)
        return FAMILIES[self.family][1](X @ self.coef_.T + self.intercept_)

    def responsibilities(self, X: Any, y: Any) -> np.ndarray:
        """(n, K) probabilities of the components given covariates and responses."""
        check_is_fitted(self)
        X = read(self, X, holes=False)
        return row_by_row(lambda rows: self.model_.posterior(self.params_, rows), self._data(X, y))

    def log_density(self, X: Any, y: Any) -> np.ndarray:
        """(n,) log p(y | x) of each row."""
        check_is_fitted(self)
        X = read(self, X, holes=False)
        return row_by_row(lambda rows: self.model_.log_likelihood(self.params_, rows, per_row=True), self._data(X, y))

    def aic(self, X: Any, y: Any) -> float:
        """-2 log-likelihood + 2 parameters; lower is better."""
        return -2 * float(self.log_density(X, y).sum()) + 2 * self.n_parameters_

    def bic(self, X: Any, y: Any) -> float:
        """-2 log-likelihood + log(n) parameters; lower is better."""
        found = self.log_density(X, y)
        return -2 * float(found.sum()) + float(np.log(len(found))) * self.n_parameters_

    def sample(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Responses (n,) drawn for the rows of X, and their components (n,)."""
        check_is_fitted(self)
        X = read(self, X, holes=False)
        with double():
            key = jax.random.key(seed_of(self.random_state))
            y, states = self.model_.sample(key, self.params_, len(X), states=True, covariates=X)
        return np.asarray(y).reshape(-1), np.asarray(states)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.positive_only = self.family == "poisson"
        return tags
