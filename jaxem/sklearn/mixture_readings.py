"""What estimators of mixtures of rows have in common once they are fitted."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.validation import check_is_fitted

from jaxem.sklearn.fitting import double, read, row_by_row, seed_of, weights_of


class MixtureReadings(DensityMixin, BaseEstimator):
    """Components, probabilities and densities of rows. An estimator has `fit`, which leaves `model_` and `params_`."""

    def _read(self, X: Any, reset: bool = False) -> Any:
        return read(self, X, reset=reset)

    def _model(self) -> tuple[Any, Any]:
        """The model and params by which rows are told apart."""
        return self.model_, self.params_  # type: ignore[attr-defined]

    def _ask(self, method: str, X: Any, **more: Any) -> Any:
        model, params = self._model()
        return getattr(model, method)(params, self.model_.prepare(X), **more)  # type: ignore[attr-defined]

    def _cells(self, drawn: np.ndarray) -> np.ndarray:
        """Drawn rows in the user's form."""
        return drawn

    def predict(self, X: Any) -> np.ndarray:
        """(n,) the likeliest component of each row, by the cells that are observed."""
        return self.predict_proba(X).argmax(axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, K) probabilities of the components; the weights where a row is missing altogether."""
        check_is_fitted(self)
        return row_by_row(lambda rows: self._ask("posterior", rows), self._read(X))

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """`fit`, then `predict` of the same rows."""
        return self.fit(X, y, sample_weight).predict(X)  # type: ignore[attr-defined]

    def score_samples(self, X: Any) -> np.ndarray:
        """(n,) log-density of the observed cells of each row, 0 where there are none."""
        check_is_fitted(self)
        return row_by_row(lambda rows: self._ask("log_likelihood", rows, per_row=True), self._read(X))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean of `score_samples`."""
        del y
        found = self.score_samples(X)
        return float(np.average(found, weights=weights_of(sample_weight, found)))

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """-2 log-likelihood + 2 parameters; lower is better."""
        return self._deviance(X, sample_weight)[0] + 2 * self.n_parameters_  # type: ignore[attr-defined]

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """-2 log-likelihood + log(n) parameters, n being the sum of the weights; lower is better."""
        deviance, n = self._deviance(X, sample_weight)
        return deviance + float(np.log(n)) * self.n_parameters_  # type: ignore[attr-defined]

    def _deviance(self, X: Any, sample_weight: Any) -> tuple[float, float]:
        found = self.score_samples(X)
        weights = np.ones(len(found)) if sample_weight is None else weights_of(sample_weight, found)
        return -2 * float(weights @ found), float(weights.sum())

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n, d) drawn from the mixture, and their components (n,); those of one component stand together."""
        check_is_fitted(self)
        with double():
            key = jax.random.key(seed_of(self.random_state))  # type: ignore[attr-defined]
            drawn, states = self.model_.sample(key, self.params_, n_samples, states=True)  # type: ignore[attr-defined]
        order = np.argsort(np.asarray(states), kind="stable")
        return self._cells(np.asarray(drawn)[order]), np.asarray(states)[order]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
