"""Params of any model as text tables: one text column a state, one line a number, with the names of the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from jaxem.leaves import Leaf, leaves_of
from jaxem.view import View

ABREAST = 8  # components side by side in a table
CORRELATED = 6  # columns up to which correlations are listed

Line = tuple[str, np.ndarray]  # a title and (K,) numbers


def parameter_table(model: Any, params: Any, view: View) -> str:
    """All params: weights, means, probabilities "column = category", coefficients by covariate, and so on.

    Covariances are shown as standard deviations and (up to six columns) correlations, variances as standard deviations.
    Loadings have a table of their own for each state. What all states share is repeated.
    """
    leaves, states = leaves_of(model, params, view), model.n_states
    lines = [line for leaf in leaves for line in lines_of(leaf, view, states)]
    names = [str(k) for k in range(states)]
    tables = []
    for first in range(0, states, ABREAST):
        shown = range(first, min(first + ABREAST, states))
        what = "state" if getattr(model, "sequential", False) else "component"
        header = [what, *(names[k] for k in shown)] if states > 1 else ["parameter", "estimate"]
        part = [[title, *(number(values[k]) for k in shown)] for title, values in lines]
        if part:
            tables.append(text_table(header, part))
    for leaf in leaves:
        if is_matrix(leaf):
            tables += list(_matrices(leaf))
    return "\n\n".join(tables)


def is_matrix(leaf: Leaf) -> bool:
    """Whether a leaf is a table of its own in every state: loadings of columns on factors."""
    return leaf.kinds == ("columns", "factors")


def lines_of(leaf: Leaf, view: View, states: int) -> Iterator[Line]:
    """The numbers of a leaf line by line, each (K,) with its title; none of a leaf that is a table of its own."""
    values = np.broadcast_to(leaf.values, (states, *leaf.values.shape[1:]))
    if is_matrix(leaf):
        return
    if leaf.covariance:
        names = leaf.axes[-1].names
        variances = np.diagonal(values, axis1=-2, axis2=-1)
        deviations = np.sqrt(variances).reshape(states, -1)
        word = "sd" if leaf.variances else f"root {leaf.title}"
        for j, name in enumerate(names):
            yield f"{word} {name}", deviations[:, j]
        if len(names) <= CORRELATED:
            for i, j in combinations(range(len(names)), 2):
                with np.errstate(invalid="ignore"):  # NaN beside a variance of 0
                    correlations = values[:, i, j] / (deviations[:, i] * deviations[:, j])
                yield f"corr {names[i]}, {names[j]}", correlations
        return
    title = leaf.title
    if leaf.variances:
        values, title = np.sqrt(values), title.replace(leaf.name, "sd")
    for place in np.ndindex(values.shape[1:]):
        column = values[(slice(None), *place)]
        if "categories" in leaf.kinds and len(place) == 2:
            if not absent(leaf, view, *place):  # what EM has brought next to 0 reads as 0
                yield _category(leaf, view, *place), np.where(column < 5e-5, 0, column)
            continue
        named = [axis.names[i] for axis, i in zip(leaf.axes, place, strict=True) if not _obvious(axis.kind, view)]
        to = ["to"] if leaf.kinds[:1] == ("states",) else []
        if leaf.name in ("initial", "transition"):
            column = np.where(column < 5e-5, 0, column)
        yield " ".join([title, *to, ", ".join(named)]).strip(), column


def absent(leaf: Leaf, view: View, column: int, code: int) -> bool:
    """Whether a category only pads the leaf: the column has neither a label nor a cell of it."""
    j = view.columns.index(leaf.axes[0].names[column])
    names = None if view.labels is None else view.labels[j]
    if names is not None and code < len(names):
        return False
    seen = view.y[:, j]
    return bool((leaf.values[:, column, code] == 0).all()) and not (seen == code).any()


def _category(leaf: Leaf, view: View, column: int, code: int) -> str:
    name = leaf.axes[0].names[column]
    return f"{name} = {view.category(view.columns.index(name), code)}"


def _obvious(kind: str, view: View) -> bool:
    """The only response of a regression needs no name."""
    return kind == "columns" and view.regression and view.d == 1


def _matrices(leaf: Leaf) -> Iterator[str]:
    for k, matrix in enumerate(leaf.values):
        head = leaf.title if len(leaf.values) == 1 else f"{leaf.title}, component {k}"
        rows = [[name, *map(number, row)] for name, row in zip(leaf.axes[0].names, matrix, strict=True)]
        yield text_table([head, *leaf.axes[1].names], rows)


def comparison_table(model: Any, truth: Any, params: Any, view: View, label: str = "generating") -> str:
    """Params beside others of the same model, aligned to each other: as `parameter_table`, but with covariances as they are."""
    states = model.n_states
    rows = []
    for ours, theirs in zip(leaves_of(model, params, view), leaves_of(model, truth, view), strict=True):
        for place in np.ndindex(ours.values.shape[1:]):
            if ours.covariance and place[0] < place[1]:
                continue
            pair = [np.broadcast_to(leaf.values[(slice(None), *place)], states) for leaf in (theirs, ours)]
            named = [axis.names[i] for axis, i in zip(ours.axes, place, strict=True)]
            if ours.covariance:
                named = named[::-1]
            title = " ".join([ours.title.replace("covariance", "cov"), ", ".join(named)]).strip()
            rows.append([title, *(number(value) for both in zip(*pair, strict=True) for value in both)])
    header = ["component", *(text for k in range(states) for text in (str(k), ""))]
    return text_table(header, [["", *[label, "estimated"] * states], *rows])


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces, the first to the left, the others to the right, with a rule under the header."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[j]) for row in cells) for j in range(len(header))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]) for row in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def number(value: float) -> str:
    """Four decimals, or scientific notation where these would hide the value."""
    size = abs(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= size < 1e5 or not np.isfinite(size) else f"{value:.3e}"
