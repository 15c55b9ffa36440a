"""Latent class analysis: what is read off a fitted `Mixture(Categorical(), K)` or `Mixture(Bernoulli(), K)`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax.scipy.special import gammaincc

from jaxem.checks import is_traced
from jaxem.data import as_rows
from jaxem.families import Bernoulli, Categorical
from jaxem.models import Mixture
from jaxem.parameters import number, text_table
from jaxem.rows import Rows
from jaxem.selection.entropy import entropy_r2

SPARSE = 5  # expected rows a cell of the table, below which G2 and X2 are far from chi-squared


class ClassProfiles(NamedTuple):
    """Item probabilities by class, one line for each category of each item."""

    items: tuple[str, ...]  # (L,) name of the item, the column's number where it has none
    categories: tuple[str, ...]  # (L,) label of the category, its code where it has none
    probabilities: np.ndarray  # (L, K) of the category in each class
    shares: np.ndarray  # (K,) probabilities of the classes

    def __str__(self):
        header = ["item", "category", *(f"class {k}" for k in range(len(self.shares)))]
        lines = [["(share)", "", *map(number, self.shares)]]
        for item, category, row in zip(self.items, self.categories, self.probabilities, strict=True):
            lines.append([item, category, *map(number, row)])
        return text_table(header, lines)

    def to_dataframe(self) -> Any:
        """A pandas data frame with columns item, category, class 0, class 1, ... (pandas must be installed)."""
        import pandas as pd

        by_class = {f"class {k}": column for k, column in enumerate(self.probabilities.T)}
        return pd.DataFrame({"item": self.items, "category": self.categories, **by_class})


class GoodnessOfFit(NamedTuple):
    """How the table of answer patterns compares with what the model expects."""

    g2: float  # likelihood ratio 2 sum O log(O / E)
    x2: float  # Pearson's sum (O - E)^2 / E, patterns that were not seen included
    df: int  # cells - 1 - free params; 0 or below where the model says more than the table can
    p_g2: float  # chi-squared tail probabilities; NaN where df <= 0
    p_x2: float
    n_cells: int  # possible patterns
    n_patterns: int  # patterns seen
    n_complete: float  # sum of weights of the rows without missing cells, which alone are counted
    sparse: bool  # fewer than 5 rows a cell on average: the tail probabilities are not to be trusted
    entropy_r2: float  # 1 - sum w r (-log r) / (sum w log K): 1 where every row is certain of its class

    def __str__(self):
        lines = [
            ["G2", number(self.g2), str(self.df), number(self.p_g2)],
            ["X2", number(self.x2), str(self.df), number(self.p_x2)],
        ]
        said = text_table(["", "statistic", "df", "p"], lines)
        said += f"\n{self.n_patterns} of {self.n_cells} patterns seen in {self.n_complete:g} complete rows; "
        said += f"entropy R2 {number(self.entropy_r2)}"
        if self.sparse:
            said += "\nThe table is sparse: p is not to be trusted; compare by a parametric bootstrap."
        return said


class ImputedCategories(NamedTuple):
    """Missing answers filled in."""

    values: np.ndarray  # (n, d) codes, or labels where the data came with labels; observed cells as they were
    probability: np.ndarray  # (n, d) of the category filled in; 1 where observed


def class_profiles(model: Mixture, params: Any, data: Any) -> ClassProfiles:
    """The table of P(item = category | class), with the names and labels of the data.

    Raises:
        TypeError: a model other than a mixture of `Categorical` or `Bernoulli`. ValueError: traced data.
    """
    rows, tables = _items(model, params, data)
    items, categories, lines = [], [], []
    for j, table in enumerate(tables):
        for code, line in enumerate(table.T):
            items.append(str(j) if rows.columns is None else rows.columns[j])
            categories.append(_label(rows, j, code))
            lines.append(line)
    return ClassProfiles(tuple(items), tuple(categories), np.array(lines), np.asarray(params.weights))


def goodness_of_fit(model: Mixture, params: Any, data: Any) -> GoodnessOfFit:
    """G2, X2, their degrees of freedom, and entropy R2 (Goodman 1974, Biometrika 61:215; Ramaswamy et al. 1993).

    Rows with missing cells are left out of G2 and X2, and kept in the entropy; weights count as repetitions, those of prepared
    data. Estimates on the boundary count as free params, as is usual; poLCA replaces the number of cells less one by n where n
    is smaller.

    Raises:
        TypeError, ValueError: as `class_profiles`; ValueError: no row is complete.
    """
    rows, tables = _items(model, params, data)
    codes = _codes(rows)
    weights = np.asarray(rows.weights, np.float64)
    complete = ~np.isnan(codes).any(axis=1) & (weights > 0)
    if not complete.any():
        raise ValueError("y: every row has a missing cell, so that there is no table of patterns to compare with.")
    patterns, first, place = np.unique(codes[complete], axis=0, return_index=True, return_inverse=True)
    observed = np.bincount(place.ravel(), weights=weights[complete], minlength=len(patterns))
    log_probability = np.asarray(model.log_likelihood(params, rows, per_row=True), np.float64)[complete][first]
    n = observed.sum()
    with np.errstate(divide="ignore", over="ignore"):
        expected = n * np.exp(log_probability)
        g2 = float(2 * (observed * (np.log(observed) - np.log(n) - log_probability)).sum())
        x2 = float((np.square(observed - expected) / expected).sum() + (n - expected.sum()))
    n_cells = int(np.prod([table.shape[1] for table in tables], dtype=object))
    df = n_cells - 1 - model.n_parameters(rows)
    return GoodnessOfFit(
        g2, x2, df, _tail(df, g2), _tail(df, x2), n_cells, len(patterns), float(n), bool(n < SPARSE * n_cells),
        entropy_r2(model.posterior(params, rows), weights),
    )  # fmt: skip


def impute_categories(model: Mixture, params: Any, data: Any) -> ImputedCategories:
    """The likeliest category of each missing cell given the observed cells of its row, classes averaged out:
    argmax_c sum_k r_ik P(item = c | k), and its probability.

    Raises:
        TypeError, ValueError: as `class_profiles`.
    """
    rows, tables = _items(model, params, data)
    codes = _codes(rows)
    r = np.asarray(model.posterior(params, rows), np.float64)
    probability = np.ones(codes.shape)
    for j, table in enumerate(tables):
        gone = np.isnan(codes[:, j])
        predicted = r[gone] @ table
        codes[gone, j], probability[gone, j] = predicted.argmax(axis=1), predicted.max(axis=1, initial=0)
    labels: Any = rows.labels
    if labels is None:
        return ImputedCategories(codes, probability)
    values = codes.astype(object)
    for j, names in enumerate(labels):
        if names is not None:
            values[:, j] = [names[int(code)] for code in codes[:, j]]
    return ImputedCategories(values, probability)


def _items(model: Any, params: Any, data: Any) -> tuple[Rows, list[np.ndarray]]:
    """Prepared data, and P(category | class) of each item, (K, C_j) in float64."""
    if not isinstance(model, Mixture) or not isinstance(model.family, (Categorical, Bernoulli)):
        found = f"{type(model).__name__}({type(getattr(model, 'family', None)).__name__})"
        raise TypeError(f"model: found {found}; give a Mixture of Categorical() or Bernoulli().")
    if is_traced((params, data)):
        raise ValueError("data: is traced; tables are made from concrete data, outside of jit.")
    rows = as_rows(model, data)
    if isinstance(model.family, Bernoulli):
        ones = np.asarray(params.components.probability, np.float64)
        return rows, [np.stack([1 - p, p], axis=1) for p in ones.T]
    each = np.asarray(params.components.probabilities, np.float64)
    size: Any = rows.size
    return rows, [each[:, j, :width] for j, width in enumerate(size)]


def _codes(rows: Rows) -> np.ndarray:
    """(n, d) cells in input order, NaN where missing."""
    out = np.full((rows.n, rows.d), np.nan)
    for section in rows.sections:
        value: Any = _by_row(section.cells.value, rows.d)
        if section.cells.present is not None:
            value = np.where(_by_row(section.cells.present, rows.d) > 0, value, np.nan)
        row = np.asarray(section.row).ravel()
        real = row < rows.n
        out[row[real]] = value[real]
    return out


def _by_row(cells: Any, d: int) -> np.ndarray:
    """(m, c, d, b) -> (m c b, d)."""
    return np.moveaxis(np.asarray(cells), 2, -1).reshape(-1, d)


def _label(rows: Rows, j: int, code: int) -> str:
    labels: Any = rows.labels
    return str(code) if labels is None or labels[j] is None else labels[j][code]


def _tail(df: int, statistic: float) -> float:
    """P(chi-squared with df degrees of freedom > statistic)."""
    return float(gammaincc(df / 2, statistic / 2)) if df > 0 else float("nan")
