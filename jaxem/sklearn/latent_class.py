"""Latent class analysis: mixtures of independent categorical columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils.validation import validate_data

import jaxem
from jaxem.sklearn.fitting import can_go_on, check_rows, fit, weights_of
from jaxem.sklearn.mixture_readings import MixtureReadings


class LatentClassAnalysis(MixtureReadings):
    """Classes within which categorical columns are independent, by EM: `jaxem.Mixture(jaxem.Categorical(), K)`.

    X holds labels (texts, numbers, pandas categoricals), one column a question; NaN or None is a missing answer.

    Args:
        n_components: K classes.
        categories: "auto", or a list of the labels of each column, as of `sklearn.preprocessing.OrdinalEncoder`: where rows to
            come may hold labels that the fit does not see.
        tol, max_iter, n_init, random_state, warm_start: as of `GaussianMixture`.

    Attributes:
        weights_ (K,): shares of the classes; probabilities_ (K, d, C): of category c of column j in class k, 0 beyond the
        categories of a column; categories_: list of the labels of each column; and as of `GaussianMixture`.
    """

    def __init__(
        self, n_components=1, *, categories="auto", tol=1e-3, max_iter=100, n_init=1, random_state=None, warm_start=False
    ):
        self.n_components = n_components
        self.categories = categories
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> LatentClassAnalysis:
        """Fits to rows X (n, d) of labels, with weights (n,) >= 0; y is not looked at."""
        del y
        codes = self._read(X, reset=True)
        weights = weights_of(sample_weight, codes)
        check_rows(codes, self.n_components)
        sizes = tuple(max(len(labels), 1) for labels in self.categories_)
        model = jaxem.Mixture(jaxem.Categorical(sizes), self.n_components)
        total = len(codes) if weights is None else float(weights.sum())
        start = None
        if can_go_on(self, (self.n_components, len(sizes), max(sizes)), "probabilities_"):
            old = self.params_
            start = lambda rows, seed: old  # noqa: E731
        fit(self, model, codes, weights=weights, start=start, tolerance=self.tol * total, max_steps=self.max_iter)
        self.weights_, self.probabilities_ = self.params_.weights, self.params_.components.probabilities
        self.lower_bound_ = self.log_likelihood_ / total
        return self

    def _read(self, X: Any, reset: bool = False) -> np.ndarray:
        """Codes of the labels, NaN where missing."""
        X = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=2 if reset else 1)
        if X.dtype == object:
            X = np.where(_missing(X), np.nan, X)
        if reset:
            self._encoder = OrdinalEncoder(categories=self.categories, encoded_missing_value=np.nan).fit(X)
            self.categories_ = [labels[~_missing(labels)] for labels in self._encoder.categories_]
        return self._encoder.transform(X)

    def _cells(self, drawn: np.ndarray) -> np.ndarray:
        columns = [labels[column.astype(int)] for labels, column in zip(self.categories_, drawn.T, strict=True)]
        return np.stack(columns, axis=1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags


_MISSING = np.frompyfunc(lambda cell: cell is None or str(cell) == "<NA>" or cell != cell, 1, 1)


def _missing(cells: np.ndarray) -> np.ndarray:
    """Where a cell is None, NaN or pandas.NA."""
    return np.asarray(_MISSING(cells), bool)
