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


def check_informative(rows: Any, n_states: int, name: str = "y") -> None:
    """What a fit needs of concrete prepared data, and scoring does not.

    Raises:
        ValueError: a column in which every cell is missing, or fewer rows that say anything than states.
    """
    if is_traced(rows):
        return
    empty = np.isnan(np.asarray(rows.spread))
    if empty.any():
        names = ", ".join(_label(rows.columns, j) for j in np.flatnonzero(empty))
        raise ValueError(f"{name}: every cell of column {names} is missing; drop it.")
    informative = int(rows.informative.sum())
    if informative < n_states:
        raise ValueError(
            f"{name}: found {informative} rows with an observed cell for {n_states} components; ask for fewer components."
        )


def check_datasets(datasets: Any) -> list[np.ndarray]:
    """Each data set checked as a matrix, all with as many columns and of one dtype.

    Raises:
        TypeError, ValueError: as `check_matrix`, naming the data set; different numbers of columns; traced arrays.
    """
    if is_traced(datasets):
        raise TypeError("datasets: are traced; vmap fit over a stacked array of complete data instead.")
    arrays = [check_matrix(y, f"datasets[{number}]")[0] for number, y in enumerate(datasets)]
    for number, y in enumerate(arrays):
        if y.shape[1] != arrays[0].shape[1]:
            raise ValueError(f"datasets[{number}]: found {y.shape[1]} columns where datasets[0] has {arrays[0].shape[1]}.")
    dtype = np.result_type(*arrays)
    return [y.astype(dtype) for y in arrays]


def check_weights(weights: Any, n: int, dtype: Any) -> jax.Array:
    """Row weights as an (n,) array of `dtype`; ones where None.

    Raises:
        ValueError: wrong length, negative, NaN or infinite, or all zero (the last four only where concrete).
    """
    if weights is None:
        return jnp.ones(n, dtype)
    shape = np.shape(weights)
    if shape != (n,):
        raise ValueError(f"weights: found shape {shape} for {n} rows; give one weight per row, shape ({n},).")
    if not is_traced(weights):
        try:
            values = np.asarray(weights, np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError("weights: found values that are not numbers; give one weight >= 0 per row.") from error
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            found = f"{int(bad.sum())} are negative, NaN or infinite, the first {values[row]} in row {row}"
            raise ValueError(f"weights: {found}; give weights >= 0.")
        if not values.any():
            raise ValueError("weights: all are zero; at least one row must count.")
        weights = values
    return jnp.asarray(weights, dtype)


def _is_numeric(dtype: Any) -> bool:
    kind = getattr(dtype, "kind", "O")
    return kind in "biuf"


def _label(columns: tuple[str, ...] | None, j: Any) -> str:
    return str(j) if columns is None else repr(columns[j])
