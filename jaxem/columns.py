"""The columns that the options of the command line name -> the raw data that a model takes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxem.catalogue import MODELS, CommandError, flag
from jaxem.inputs import Interval, Regression, from_covariance
from jaxem.sequences import Sequences
from jaxem.tables import Table, odd_cell

NAMED = ("columns", "covariates", "gate")  # options that name several columns
ONE = (  # and one
    "weights", "response", "offset", "time", "event", "lower_column", "upper_column", "entry", "sequence_column", "time_column",
)  # fmt: skip


def read_data(options: Namespace, table: Table) -> tuple[Any, np.ndarray | None]:
    """Raw data for the model that the options ask for, and the row weights.

    Leaves in `options.resolved` what the options did not say: the columns and covariates taken, and the labels of each column of
    text. `options.labels`, where it is there, says which labels columns have, as `resolved` of another file did.

    Raises:
        CommandError: unknown, repeated or missing columns, and columns of text where numbers are needed.
    """
    source = _Source(options, table)
    weights = None if options.weights is None else source.numbers(options.weights)
    kind = MODELS[options.model].data
    if kind == "any":
        timed = options.time is not None or options.lower_column is not None
        kind = "interval" if timed else "regression" if options.response is not None else "matrix"
    if getattr(options, "covariance_of", None) is not None:
        return source.covariance()
    if kind in ("sequences", "series"):
        return source.sequences(weights, alone=kind == "series")
    if kind in ("matrix", "labels"):
        return source.matrix(labels=kind == "labels"), weights
    if kind == "interval":
        y = source.times()
        if options.covariates is None:
            options.covariates = []
        return source.regression(y), weights
    y = source.series(options.response)
    return source.regression(_cut(options, y) if kind == "limits" else y), weights


class _Source:
    """A table whose columns are asked for by options."""

    def __init__(self, options: Namespace, table: Table):
        self.options, self.table = options, table
        self.labels: dict[str, list[str]] = {}
        options.resolved = {"labels": self.labels}
        asked: list[str] = []
        for name in NAMED:
            asked += getattr(options, name) or []
        asked += [getattr(options, name) for name in ONE if getattr(options, name) is not None]
        unknown = list(dict.fromkeys(name for name in asked if name not in table.names))
        if unknown:
            raise CommandError(f"{options.data}: there is no column {quoted(unknown)}; found {quoted(table.names)}")
        twice = [name for name in dict.fromkeys(asked) if asked.count(name) > 1]
        shared = set(options.gate or []) & set(options.covariates or [])  # a covariate may also move the shares
        if [name for name in twice if name not in shared]:
            raise CommandError(f"{', '.join(map(flag, self._flags(twice)))}: a column is named twice")
        self.spoken = asked

    def _flags(self, columns: list[str]) -> list[str]:
        several = [name for name in NAMED if set(getattr(self.options, name) or []) & set(columns)]
        return several + [name for name in ONE if getattr(self.options, name) in columns]

    def numbers(self, name: str) -> np.ndarray:
        values = self.table.numbers(name)
        if values is None:
            raise self._not_numeric(name, "it has to be here")
        return values

    def series(self, name: str) -> Any:
        import pandas

        return pandas.Series(self.numbers(name), name=name)

    def matrix(self, labels: bool) -> Any:
        """A data frame of the columns to fit: numbers where they are, else text; with `labels`, categories."""
        import pandas

        options = self.options
        names = options.columns or [name for name in self.table.names if name not in self.spoken]
        if not names:
            raise CommandError(f"{options.data}: has no column besides the weights")
        if not options.columns:
            self._check_named(names, "--columns")
        found = {}
        options.resolved["columns"] = list(names)
        for name in names:
            values = self._as_before(name)
            if labels or (values is None and options.family == "categorical") or name in self._known:
                found[name] = self._categories(name, values)
            elif values is None:
                raise self._not_numeric(name, "leave it out by --columns")
            else:
                found[name] = values
        return pandas.DataFrame(found)

    def sequences(self, weights: np.ndarray | None, alone: bool = False) -> tuple[Sequences, np.ndarray | None]:
        """Rows sorted by sequence (in the order of the file) and time, and one weight a sequence.

        Leaves the order of the file's rows in `options.row_order`.
        """
        options = self.options
        if alone:  # the response without covariates
            data: Any = self.series(options.response)
        elif options.response is not None:
            data = self.regression(self.series(options.response))
        else:
            data = self.matrix(labels=False)
            if options.gate:
                data = Regression(data, gate=self.design(options.gate, "--gate"))
        n = len(self.table.texts(self.table.names[0]))
        place = np.zeros(n, int)
        if options.sequence_column is not None:
            texts = self.table.texts(options.sequence_column)
            if None in texts:
                raise CommandError(f"{options.data}: --sequence-column {options.sequence_column!r} has missing cells; fill them")
            numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
            place = np.array([numbers[text] for text in texts])
        time = np.arange(n, dtype=float) if options.time_column is None else self.numbers(options.time_column)
        if np.isnan(time).any():
            raise CommandError(f"{options.data}: --time-column {options.time_column!r} has missing cells; fill them")
        options.row_order = order = np.lexsort((time, place))
        lengths = np.bincount(place)
        if weights is not None:
            begin = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            own = weights[order]
            if (own != np.repeat(own[begin], lengths)).any():
                raise CommandError(f"--weights {options.weights!r}: rows of a sequence differ; give each sequence one weight")
            weights = own[begin]
        index = None if options.time_column is None else time[order]
        return Sequences(jax.tree.map(lambda leaf: _sorted(leaf, order, index), data), lengths), weights

    def covariance(self) -> tuple[Any, np.ndarray]:
        """Weighted rows that have the covariance in the table, whose lines stand for its columns in the same order."""
        import pandas

        options = self.options
        if options.columns is not None or options.weights is not None:
            raise CommandError("--covariance-of: takes the whole matrix, without row weights; leave out --columns and --weights")
        found = {name: values for name in self.table.names if (values := self.table.numbers(name)) is not None}
        options.resolved["columns"] = list(found)
        try:
            return from_covariance(pandas.DataFrame(found), options.covariance_of)
        except (TypeError, ValueError) as error:
            raise CommandError(f"{options.data}: {error}") from error

    def regression(self, y: Any) -> Regression:
        options = self.options
        names = options.covariates
        if names is None:
            names = [name for name in self.table.names if name not in self.spoken]
            self._check_named(names, "--covariates")
        options.resolved["covariates"] = list(names)
        gate = None if not options.gate else self.design(options.gate, "--gate")
        offset = None if options.offset is None else self.numbers(options.offset)
        return Regression(y, self.design(names, "--covariates"), not options.no_intercept, offset, gate)

    def design(self, names: Sequence[str], option: str) -> Any:
        """Numbers as they are; text as an indicator of each label but the first in sorted order."""
        import pandas

        found: dict[str, np.ndarray] = {}
        for name in names:
            values = self._as_before(name)
            if values is not None and name not in self._known:
                found[name] = values
                holes = np.isnan(values)
            else:
                texts = self.table.texts(name)
                holes = np.array([text is None for text in texts])
                labels = self._labels(name, sorted({text for text in texts if text is not None}))
                if len(labels) > max(20, len(texts) // 10):
                    raise CommandError(f"{self.options.data}: column {name!r} has {len(labels)} labels; leave it out by {option}")
                found.update({f"{name} = {label}": np.array([text == label for text in texts], np.float64) for label in labels[1:]})
            if holes.any():
                raise CommandError(
                    f"{self.options.data}: covariate {name!r} has {int(holes.sum())} missing cells; fill or drop these rows, "
                    f"or leave it out by {option}"
                )
        return pandas.DataFrame(found) if found else None

    def _not_numeric(self, name: str, remedy: str) -> CommandError:
        found = odd_cell(self.table, name)
        return CommandError(f"{self.options.data}: column {name!r} is not numeric, it holds {found}; {remedy}")

    def _check_named(self, names: Sequence[str], option: str) -> None:
        """Columns that nobody asked for have names: what has none may be the numbers of the rows."""
        if "" in names:
            what = f"column {self.table.names.index('') + 1} has no name, as numbers of rows have none"
            raise CommandError(f"{self.options.data}: {what}; name it, or say by {option} which columns to take")

    @property
    def _known(self) -> dict[str, list[str]]:
        return getattr(self.options, "labels", {})

    def _as_before(self, name: str) -> np.ndarray | None:
        """The numbers of a column, None where it is text; but text in the place of numbers is refused."""
        values = self.table.numbers(name)
        if values is None and hasattr(self.options, "labels") and name not in self._known:
            raise self._not_numeric(name, "the model was fitted to numbers")
        return values

    def _labels(self, name: str, seen: list[str]) -> list[str]:
        """Labels of a column: those known, else those seen."""
        self.labels[name] = labels = self._known.get(name, seen)
        strange = [label for label in seen if label not in labels]
        if strange:
            found = f"has the label {quoted(strange)}, which the model does not know; it knows {quoted(labels)}"
            raise CommandError(f"{self.options.data}: column {name!r} {found}")
        return labels

    def _categories(self, name: str, values: np.ndarray | None) -> Any:
        """A pandas categorical, its labels in the order of their numbers or letters."""
        import pandas

        texts = self.table.texts(name)
        if values is not None and name in self._known:  # 1.0 is the label 1
            written = {text: text for text in self._known[name]} | {_number(text): text for text in self._known[name]}
            texts = [None if text is None else written.get(text, written.get(float(text), text)) for text in texts]
        seen = {text for text in texts if text is not None}
        order = sorted(seen) if values is None else sorted(seen, key=lambda text: (float(text), text))
        return pandas.Categorical(texts, categories=self._labels(name, order))

    def times(self) -> Interval:
        """Times with their ends: from --time and --event, or from --lower-column and --upper-column."""
        import pandas

        options = self.options
        if options.time is not None:
            time = self.numbers(options.time)
            event = np.ones(len(time)) if options.event is None else self.numbers(options.event)
            if not np.isin(event[~np.isnan(event)], (0, 1)).all():
                raise CommandError(f"{options.data}: column {options.event!r} must hold 1 (event) or 0 (censored)")
            lower, upper, name = time, np.where(event == 1, time, np.inf), options.time
            upper = np.where(np.isnan(event) | np.isnan(time), np.nan, upper)
            lower = np.where(np.isnan(upper), np.nan, lower)
        else:
            lower, upper = self.numbers(options.lower_column), self.numbers(options.upper_column)
            known = ~(np.isnan(lower) & np.isnan(upper))  # an empty end is no end
            lower = np.where(known & np.isnan(lower), -np.inf, lower)
            upper = np.where(known & np.isnan(upper), np.inf, upper)
            name = "time"
        entry = None if options.entry is None else self.numbers(options.entry)
        return Interval(pandas.Series(lower, name=name), pandas.Series(upper, name=name), entry)


def _sorted(leaf: Any, order: np.ndarray, index: np.ndarray | None) -> Any:
    """Rows of a frame, series or array in another order; times, where there are such, become the index."""
    if not hasattr(leaf, "iloc"):
        return np.asarray(leaf)[order]
    leaf = leaf.iloc[order]
    return leaf.reset_index(drop=True) if index is None else leaf.set_axis(index, axis=0)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _cut(options: Namespace, y: Any) -> Interval:
    """Responses at or beyond a limit are known only to lie beyond it."""
    import pandas

    values = y.to_numpy()
    left = -np.inf if options.left is None else options.left
    right = np.inf if options.right is None else options.right
    lower = np.where(values <= left, -np.inf, np.where(values >= right, right, values))
    upper = np.where(values >= right, np.inf, np.where(values <= left, left, values))
    return Interval(pandas.Series(lower, name=y.name), pandas.Series(upper, name=y.name))


def quoted(names: Sequence[str]) -> str:
    """Names in quotes, the first twenty."""
    return ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
