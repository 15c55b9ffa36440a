"""Which cells are missing together: the table of patterns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxem.checks import is_traced
from jaxem.parameters import text_table
from jaxem.rows import Rows
from jaxem.view import view_of

SHOWN = 20  # patterns that are printed


class Missingness(NamedTuple):
    """Patterns of observed cells, the most frequent first."""

    columns: tuple[str, ...]  # d names
    observed: np.ndarray  # (P, d) bool: which columns a pattern shows
    counts: np.ndarray  # (P,) rows of each
    pattern: np.ndarray  # (n,) the pattern of each row

    @property
    def missing(self) -> np.ndarray:
        """(d,) missing cells of each column."""
        return (~self.observed * self.counts[:, None]).sum(axis=0)

    @property
    def together(self) -> np.ndarray:
        """(d, d) rows in which both of two columns are observed."""
        return (self.observed.T * self.counts) @ self.observed

    def __str__(self) -> str:
        n, cells = int(self.counts.sum()), int(self.missing.sum())
        header = ["rows", *self.columns, "missing"]
        shown = list(zip(self.counts, self.observed, strict=True))[:SHOWN]
        lines = [[str(count), *("x" if seen else "." for seen in own), str(int((~own).sum()))] for count, own in shown]
        lines.append(["missing", *map(str, self.missing), str(cells)])
        text = text_table(header, lines)
        rest = len(self.counts) - len(shown)
        more = f"\n{rest} more patterns of {int(self.counts[SHOWN:].sum())} rows" if rest else ""
        whole = int(self.counts[self.observed.all(axis=1)].sum())
        share = cells / (n * len(self.columns))
        return f"{text}{more}\nx observed, . missing; {whole} of {n} rows are complete, {share:.1%} of cells are missing"

    def to_dataframe(self) -> Any:
        """A pandas data frame, one row a pattern: its rows, and a column True where observed (pandas must be installed)."""
        import pandas as pd

        columns = {name: self.observed[:, j] for j, name in enumerate(self.columns)}
        return pd.DataFrame({"rows": self.counts, **columns, "missing": (~self.observed).sum(axis=1)})


def missingness(data: Any) -> Missingness:
    """The patterns of missing cells of (n, d) data: numbers, labels, groups of columns, or a data frame with columns of any kind.

    Raises:
        TypeError: prepared or traced data.
    """
    if is_traced(data):
        raise TypeError("data: are traced; look at concrete data, outside of jit.")
    if isinstance(data, Rows):
        raise TypeError("data: are prepared, and no longer hold their columns; give the raw data.")
    if hasattr(data, "columns") and hasattr(data, "isna"):  # also columns that no model takes
        columns, gone = tuple(map(str, data.columns)), data.isna().to_numpy(dtype=bool)
    else:
        view = view_of(data)
        columns, gone = view.columns, view.missing
    seen, place, counts = np.unique(~gone, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((*(~seen).T[::-1], (~seen).sum(axis=1), -counts))
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    return Missingness(columns, seen[order], counts[order], rank[place.ravel()])
