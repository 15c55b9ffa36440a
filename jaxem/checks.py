"""Checks of what a user hands in. Each raises before anything compiles, naming the argument, what was found, what to do."""

from __future__ import annotations

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_traced(tree: Any) -> bool:
    """Whether any leaf is a JAX tracer, so that its values cannot be looked at."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def check_count(value: Any, name: str) -> int:
    """`value` as an int >= 1.

    Raises:
        TypeError: not a whole number. ValueError: below 1.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: found {value!r} of type {type(value).__name__}; give a whole number >= 1.")
    if value < 1:
        raise ValueError(f"{name}: found {value}; give a whole number >= 1.")
    return int(value)


def as_key(key: Any) -> jax.Array:
    """An int seed or a JAX key (old or new style) as a new-style key.

    Raises:
        TypeError: anything else.
    """
    if isinstance(key, numbers.Integral) and not isinstance(key, bool):
        return jax.random.key(int(key))
    if isinstance(key, (jax.Array, np.ndarray)):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            return jnp.asarray(key)
        if key.shape == () and jnp.issubdtype(key.dtype, jnp.integer):
            return jax.random.key(key)
        if key.shape == (2,) and key.dtype == jnp.uint32:
            return jax.random.wrap_key_data(jnp.asarray(key))
    raise TypeError(f"key: found {type(key).__name__}; give an int seed or a key from jax.random.key.")


def float_dtype(dtype: Any) -> np.dtype:
    """The float dtype in which data of `dtype` are computed: float32 stays, all else is JAX's default float."""
    if np.dtype(dtype) == np.float32:
        return np.dtype(np.float32)
    return np.dtype(jax.dtypes.canonicalize_dtype(np.float64))


def check_matrix(y: Any, name: str = "y") -> tuple[Any, tuple[str, ...] | None]:
    """`y` as an (n, d) float array (NumPy where concrete, JAX where traced) and its column names where it has them.

    A 1-D `y` is one column. NaN (None, pandas.NA) means missing.

    Raises:
        TypeError: text, objects, complex numbers, sparse matrices. ValueError: wrong rank, no rows, no columns,
            infinite cells.
    """
    columns = None
    if hasattr(y, "columns") and hasattr(y, "to_numpy"):
        columns = tuple(str(c) for c in y.columns)
        bad = [str(c) for c, kind in zip(y.columns, y.dtypes, strict=True) if not _is_numeric(kind)]
        if bad:
            raise TypeError(f"{name}: column {', '.join(map(repr, bad))} is not numeric; drop or encode it.")
        y = y.to_numpy(dtype=np.float64, na_value=np.nan)
    if is_traced(y):
        if y.ndim == 1:
            y = y[:, None]
        if y.ndim != 2 or 0 in y.shape:
            raise ValueError(f"{name}: found shape {y.shape}; give rows by columns, (n, d), or (n,), not empty.")
        return y.astype(float_dtype(y.dtype)), columns
    if hasattr(y, "tocsr"):
        raise TypeError(f"{name}: found a sparse matrix; give a dense array.")
    try:
        array = np.asarray(y)
    except ValueError as error:
        raise ValueError(f"{name}: rows of different lengths; give one (n, d) array.") from error
    if array.dtype == object:
        if array.ndim == 0:
            raise TypeError(f"{name}: found {type(y).__name__}; give an (n, d) array of numbers, or a data frame.")
        try:
            cells = [np.nan if cell is None else cell for cell in array.ravel()]
            array = np.array(cells).astype(np.float64).reshape(array.shape)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}: found cells that are not numbers; drop or encode them.") from error
    if not _is_numeric(array.dtype):
        raise TypeError(f"{name}: found dtype {array.dtype}; give real numbers, NaN where a cell is missing.")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"{name}: found {array.ndim} dimensions, shape {array.shape}; give rows by columns, (n, d).")
    if 0 in array.shape:
        raise ValueError(f"{name}: is empty, shape {array.shape}; give at least one row and one column.")
    array = np.asarray(array, float_dtype(array.dtype))
    infinite = np.isinf(array)
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise ValueError(
            f"{name}: {int(infinite.sum())} infinite cells, the first in row {row}, column {_label(columns, column)}; "
            "remove them, or set them to NaN if they mean missing."
        )
    return array, columns


def check_categories(y: Any, name: str = "y") -> tuple[Any, tuple[tuple[str, ...] | None, ...] | None, tuple[str, ...] | None]:
    """`y` as (n, d) float codes 0, 1, ... (NaN missing), the labels of each column (None where it holds codes), column names.

    Strings are coded in sorted order, pandas categoricals in the order of their categories, booleans as 0 and 1.

    Raises:
        TypeError: cells that are neither numbers nor labels. ValueError: negative or fractional codes, and as `check_matrix`.
    """
    if is_traced(y):
        return check_matrix(y, name)[0], None, None
    columns: tuple[str, ...] | None = None
    frame = hasattr(y, "columns") and hasattr(y, "to_numpy")
    if not frame and hasattr(y, "cat"):  # a pandas series of categories
        y, frame = y.to_frame(), True
    if frame:
        columns = tuple(str(c) for c in y.columns)
        parts = [y.iloc[:, j] for j in range(y.shape[1])]
    else:
        array = np.asarray(y)
        if array.dtype.kind not in "OUSb":
            codes, columns = check_matrix(y, name)
            _check_codes(codes, columns, name)
            return codes, None, columns
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"{name}: found shape {array.shape}; give rows by columns, (n, d), not empty.")
        parts = list(array.T)
    coded = [_code(part) for part in parts]
    codes = np.stack([code for code, _ in coded], axis=1) if coded else np.zeros((0, 0))
    if 0 in codes.shape:
        raise ValueError(f"{name}: is empty, shape {codes.shape}; give at least one row and one column.")
    codes = codes.astype(float_dtype(codes.dtype))
    _check_codes(codes, columns, name)
    labels = tuple(names for _, names in coded)
    return codes, labels if any(names is not None for names in labels) else None, columns


def _code(column: Any) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """One column as float codes, and its labels where it has any."""
    if hasattr(column, "cat"):
        codes = np.asarray(column.cat.codes, np.float64)
        return np.where(codes < 0, np.nan, codes), tuple(str(value) for value in column.cat.categories)
    cells = np.asarray(column)
    if cells.dtype.kind in "biuf":
        return cells.astype(np.float64), None
    missing = np.array([cell is None or cell != cell or str(cell) in ("<NA>", "NaT") for cell in cells], bool)
    values = [cell for cell, gone in zip(cells, missing, strict=True) if not gone]
    out = np.full(len(cells), np.nan)
    if all(isinstance(value, (int, float, np.number, bool, np.bool_)) for value in values):
        out[~missing] = np.array(values, np.float64)
        return out, None
    names = tuple(sorted({str(value) for value in values}))
    place = {label: code for code, label in enumerate(names)}
    out[~missing] = [place[str(value)] for value in values]
    return out, names


def _check_codes(codes: np.ndarray, columns: tuple[str, ...] | None, name: str) -> None:
    del name
    bad = (codes < 0) | (codes != np.floor(codes))
    check_cells(codes, columns, bad, "are negative or fractional", "give codes 0, 1, 2, ... or labels")


def check_cells(y: np.ndarray, columns: tuple[str, ...] | None, bad: np.ndarray, found: str, remedy: str) -> None:
    """Raises ValueError where cells `bad` (n, d) of y are outside of a family's support, with the first of them named."""
    bad = bad & ~np.isnan(y)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        first = f"the first {y[row, column]:g} in row {row}, column {_label(columns, column)}"
        raise ValueError(f"y: {int(bad.sum())} cells {found}, {first}; {remedy}.")


def check_informative(rows: Any, n_states: int, name: str = "y") -> None:
    """What a fit needs of concrete prepared data, and scoring does not.

    Raises:
        ValueError: a column in which every cell is missing, fewer rows that say anything than states, or what the family has
            found wrong with the data, such as collinear covariates.
    """
    if is_traced(rows):
        return
    if rows.flaw is not None:
        raise ValueError(rows.flaw)
    empty = np.isnan(np.asarray(rows.spread))
    if empty.any():
        names = ", ".join(_label(rows.columns, j) for j in np.flatnonzero(empty))
        raise ValueError(f"{name}: every cell of column {names} is missing; drop it.")
    informative = int(rows.informative.sum())
    if informative < n_states:
        raise ValueError(
            f"{name}: found {informative} rows with an observed cell for {n_states} components; ask for fewer components."
        )


def check_weights(weights: Any, n: int, dtype: Any, what: str = "row") -> jax.Array:
    """Weights of n rows (or of what is said) as an (n,) array of `dtype`; ones where None.

    Raises:
        ValueError: wrong length, negative, NaN or infinite, or all zero (the last four only where concrete).
    """
    if weights is None:
        return jnp.ones(n, dtype)
    shape = np.shape(weights)
    if shape != (n,):
        raise ValueError(f"weights: found shape {shape} for {n} {what}s; give one weight per {what}, shape ({n},).")
    if not is_traced(weights):
        try:
            values = np.asarray(weights, np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"weights: found values that are not numbers; give one weight >= 0 per {what}.") from error
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            found = f"{int(bad.sum())} are negative, NaN or infinite, the first {values[row]} in {what} {row}"
            raise ValueError(f"weights: {found}; give weights >= 0.")
        if not values.any():
            raise ValueError(f"weights: all are zero; at least one {what} must count.")
        weights = values
    return jnp.asarray(weights, dtype)


def _is_numeric(dtype: Any) -> bool:
    kind = getattr(dtype, "kind", "O")
    return kind in "biuf"


def _label(columns: tuple[str, ...] | None, j: Any) -> str:
    return str(j) if columns is None else repr(columns[j])
