"""Tables on disk: CSV kept as text and Parquet kept as Arrow, so that what is not filled in stays as it was."""

from __future__ import annotations

import csv
import gzip
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

MISSING = frozenset({"", "na", "nan", "n/a", "null", "none"})  # texts of a missing cell, in any case


class TableError(Exception):
    """What is wrong with a file, in one line for a person."""


class Table(Protocol):
    """Named columns in the order of the file."""

    @property
    def names(self) -> list[str]:
        """Column names in the order of the file."""
        ...

    def numbers(self, name: str) -> np.ndarray | None:
        """(n,) float64, NaN where missing; None where the column is not numeric."""
        ...

    def texts(self, name: str) -> list[str | None]:
        """n cells as text, None where missing."""
        ...

    def write(self, path: Path, columns: Mapping[str, np.ndarray], parquet: bool) -> None:
        """Writes the table with the missing cells of `columns` replaced by the values given, all else as it was."""
        ...

    def extended(self, columns: Mapping[str, Any]) -> Table:
        """The table with further columns on the right: whole numbers, numbers (NaN is an empty cell) or texts."""
        ...


@dataclass(frozen=True)
class TextTable:
    """Rows of a CSV file as text."""

    names: list[str]
    rows: list[list[str]]
    delimiter: str

    def numbers(self, name: str) -> np.ndarray | None:
        """See `Table`."""
        j = self.names.index(name)
        try:
            return np.array([_parse(row[j]) for row in self.rows], np.float64)
        except ValueError:
            return None

    def texts(self, name: str) -> list[str | None]:
        """See `Table`."""
        j = self.names.index(name)
        return [None if _is_missing(row[j]) else row[j].strip() for row in self.rows]

    def write(self, path: Path, columns: Mapping[str, np.ndarray], parquet: bool) -> None:
        """See `Table`; numbers are written in as many digits as give them back exactly."""
        if parquet:
            self._to_arrow().write(path, columns, parquet)
            return
        filled = {self.names.index(name): values for name, values in columns.items()}
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=self.delimiter, lineterminator="\n")
            writer.writerow(self.names)
            for i, row in enumerate(self.rows):
                writer.writerow(
                    repr(float(filled[j][i])) if j in filled and _is_missing(cell) else cell for j, cell in enumerate(row)
                )

    def extended(self, columns: Mapping[str, Any]) -> TextTable:
        """See `Table`; numbers are written in as many digits as give them back exactly."""
        cells = [[_text(value) for value in np.asarray(values).tolist()] for values in columns.values()]
        rows = [[*row, *more] for row, *more in zip(self.rows, *cells, strict=True)]
        return TextTable([*self.names, *columns], rows, self.delimiter)

    def _to_arrow(self) -> ArrowTable:
        import pyarrow

        arrays = {}
        for j, name in enumerate(self.names):
            values = self.numbers(name)
            if values is None:
                arrays[name] = pyarrow.array([None if _is_missing(row[j]) else row[j] for row in self.rows], pyarrow.string())
            elif all(row[j].strip().lstrip("+-").isdecimal() for row in self.rows) and (np.abs(values) < 2**53).all():
                arrays[name] = pyarrow.array(values.astype(np.int64))
            else:
                arrays[name] = pyarrow.array(values, mask=np.isnan(values))
        return ArrowTable(pyarrow.table(arrays))


@dataclass(frozen=True)
class ArrowTable:
    """A Parquet file as an Arrow table."""

    table: Any

    @property
    def names(self) -> list[str]:
        """Column names in the order of the file."""
        return list(self.table.column_names)

    def numbers(self, name: str) -> np.ndarray | None:
        """See `Table`."""
        import pyarrow
        from pyarrow import types

        column = self.table.column(name)
        kind = column.type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)):
            return None
        if types.is_boolean(kind):
            column = column.cast(pyarrow.int8())
        return column.cast(pyarrow.float64(), safe=False).to_numpy()

    def texts(self, name: str) -> list[str | None]:
        """See `Table`."""
        cells = self.table.column(name).to_pylist()
        return [None if cell is None or cell != cell or _is_missing(str(cell)) else str(cell) for cell in cells]

    def write(self, path: Path, columns: Mapping[str, np.ndarray], parquet: bool) -> None:
        """See `Table`; a column with holes that was not of a float type becomes float64."""
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet

        table = self.table
        for name, values in columns.items():
            found = self.numbers(name)
            if found is None or not np.isnan(found).any():
                continue
            kind = table.column(name).type
            kind = kind if pyarrow.types.is_floating(kind) else pyarrow.float64()
            full = pyarrow.array(np.where(np.isnan(found), values, found)).cast(kind, safe=False)
            table = table.set_column(table.column_names.index(name), name, full)
        if parquet:
            pyarrow.parquet.write_table(table, path)
        else:
            pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(quoting_style="needed"))

    def extended(self, columns: Mapping[str, Any]) -> ArrowTable:
        """See `Table`."""
        import pyarrow

        table = self.table
        for name, values in columns.items():
            table = table.append_column(name, pyarrow.array(values, from_pandas=True))
        return ArrowTable(table)


def is_parquet(path: Path) -> bool:
    """Whether the path's ending says Parquet."""
    return path.suffix.lower() in (".parquet", ".pq")


def read_table(path: Path) -> Table:
    """The table in a CSV (UTF-8; comma, semicolon or tab; with a header; also by gzip) or Parquet file.

    Raises:
        TableError: no such file, unreadable, not of that format, no rows, a repeated column name.
    """
    try:
        table: Table = _read_parquet(path) if is_parquet(path) else _read_csv(path)
    except OSError as error:
        raise TableError(f"{path}: {error.strerror or error}") from error
    repeated = sorted({name for name in table.names if table.names.count(name) > 1})
    if repeated:
        raise TableError(f"{path}: column {', '.join(map(repr, repeated))} appears more than once; rename it")
    return table


def _read_parquet(path: Path) -> ArrowTable:
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as file:
            table = pyarrow.parquet.read_table(file)
    except pyarrow.ArrowInvalid as error:
        raise TableError(f"{path}: is not a Parquet file") from error
    if table.num_rows == 0:
        raise TableError(f"{path}: has no rows")
    return ArrowTable(table)


def _read_csv(path: Path) -> TextTable:
    try:
        with _opened(path) as file:
            header = file.readline()
            delimiter = max(",;\t", key=header.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            names = next(reader, [])
            rows = list(_rows(path, reader, len(names)))
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is not a CSV file (not UTF-8 text; save it as UTF-8)") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise TableError(f"{path}: is damaged ({error})") from error
    except csv.Error as error:
        raise TableError(f"{path}: is not a CSV file ({error})") from error
    if not names:
        raise TableError(f"{path}: is empty; its first line must name the columns")
    if not rows:
        raise TableError(f"{path}: has no rows under its header")
    if any(map(_is_fraction, names)) and all(map(_is_number, names)):
        found = ", ".join(names[:3])
        raise TableError(f"{path}: its first line holds numbers ({found}), where the names of the columns have to stand")
    kept = [j for j, name in enumerate(names) if name.strip() or any(row[j].strip() for row in rows)]  # not what a last comma opens
    rows = rows if len(kept) == len(names) else [[row[j] for j in kept] for row in rows]
    return TextTable([names[j].strip() for j in kept], rows, delimiter)


def _opened(path: Path) -> TextIO:
    """A text file, or one compressed by gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    settings: dict[str, Any] = {"mode": "rt", "encoding": "utf-8-sig", "newline": ""}
    return gzip.open(path, **settings) if packed else path.open(**settings)


def _is_number(name: str) -> bool:
    try:
        return not np.isnan(_parse(name))
    except ValueError:
        return False


def _is_fraction(name: str) -> bool:
    """Whether a name is a number that is not whole; whole ones are names, of years for instance."""
    return _is_number(name) and not _parse(name).is_integer()


def _rows(path: Path, reader: Any, width: int) -> Iterator[list[str]]:
    """Rows of equal length; an empty line is skipped, or where there is one column, a missing cell."""
    for row in reader:
        if not row:
            if width == 1:
                yield [""]
            continue
        if len(row) != width:
            raise TableError(f"{path}: line {reader.line_num} has {len(row)} cells where the header has {width}")
        yield row


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _parse(cell: str) -> float:
    if _is_missing(cell):
        return np.nan
    if "_" in cell:  # float() would take 1_000
        raise ValueError(cell)
    return float(cell)


def odd_cell(table: Table, name: str) -> str:
    """The first cell of a column that is no number, for a message."""
    for text in table.texts(name):
        try:
            _parse(text or "")
        except ValueError:
            return repr(text if len(text or "") < 30 else f"{(text or '')[:27]}...")
    return "cells of another type"


@contextmanager
def staged() -> Iterator[Any]:
    """Gives `stage(path)`: a temporary path beside `path`. All are moved into place together when the block ends well.

    Where it does not, none is, and what was written is deleted.
    """
    waiting: list[tuple[Path, Path]] = []

    def stage(path: Path) -> Path:
        target = path.resolve()
        temporary = target.with_name(f".{target.name}.{os.getpid()}.{len(waiting)}.tmp")
        waiting.append((temporary, target))
        return temporary

    try:
        yield stage
        for temporary, target in waiting:
            os.replace(temporary, target)
    finally:
        for temporary, _ in waiting:
            temporary.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Raises TableError where no file can be written at `path`."""
    if path.suffix.lower() == ".gz":
        raise TableError(f"{path}: no file is compressed in writing; leave out .gz")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise TableError(f"{path}: there is no folder {folder}")
    if path.exists() and not path.is_file():
        raise TableError(f"{path}: is not a file that can be replaced")
    if not os.access(folder, os.W_OK):
        raise TableError(f"{path}: the folder cannot be written to")
