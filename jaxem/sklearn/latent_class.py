"""Latent class analysis: mixtures of independent categorical columns."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
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
        missing = _missing(X) if X.dtype == object else np.isnan(X) if X.dtype.kind == "f" else np.zeros(X.shape, bool)
        if reset:
            automatic = isinstance(self.categories, str)
            if not automatic and len(self.categories) != X.shape[1]:
                raise ValueError(f"categories: found {len(self.categories)} lists for {X.shape[1]} columns; give one for each.")
            told = zip(X.T, missing.T, strict=True)
            self.categories_ = [_unique(each[~gone]) for each, gone in told] if automatic else [*map(np.array, self.categories)]
        codes = np.full(X.shape, np.nan)
        for j, labels in enumerate(self.categories_):
            codes[~missing[:, j], j] = _codes(X[~missing[:, j], j], labels, j)
        return codes

    def _cells(self, drawn: np.ndarray) -> np.ndarray:
        columns = [labels[column.astype(int)] for labels, column in zip(self.categories_, drawn.T, strict=True)]
        kinds = {labels.dtype.kind in "OUS" for labels in self.categories_}
        return np.stack([column.astype(object) for column in columns] if len(kinds) > 1 else columns, axis=1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags


_MISSING = np.frompyfunc(lambda cell: cell is None or str(cell) == "<NA>" or cell != cell, 1, 1)


def _missing(cells: np.ndarray) -> np.ndarray:
    """Where a cell is None, NaN or pandas.NA."""
    return np.asarray(_MISSING(cells), bool)


def _unique(cells: np.ndarray) -> np.ndarray:
    """The labels among them, sorted.

    Raises:
        TypeError: cells that are no labels, or texts beside numbers.
    """
    if cells.dtype == object:
        strange = [cell for cell in cells if not isinstance(cell, (str, numbers.Real))]
        if strange or len({isinstance(cell, str) for cell in cells}) > 1:
            found = type(strange[0]).__name__ if strange else "both"
            raise TypeError(f"X: argument must be labels, in a column all strings or all numbers; found {found}.")
    return np.unique(cells)


def _codes(cells: np.ndarray, labels: np.ndarray, j: int) -> np.ndarray:
    """Places of cells among the labels of column j."""
    seen = _unique(cells)
    place = {label: code for code, label in enumerate(labels.tolist())}
    strange = [label for label in seen.tolist() if label not in place]
    if strange:
        known = ", ".join(map(repr, labels.tolist()[:20]))
        raise ValueError(f"X: found unknown categories {strange} in column {j}, which has {known}; name all by categories=.")
    return np.array([place[label] for label in seen.tolist()], float)[np.searchsorted(seen, cells)] if len(seen) else np.zeros(0)
