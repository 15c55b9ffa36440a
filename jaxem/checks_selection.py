"""Checks of responses that are there only where they were selected. Each raises before anything compiles."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_matrix, is_traced
from jaxem.inputs import Regression


def what_is(data: Any) -> str:
    """The kind of data that is not the one asked for."""
    return "Regression without gate" if isinstance(data, Regression) else type(data).__name__


def read_selection(y: Any) -> tuple[Any, Any, str | None]:
    """Responses (n,), NaN where there are none, whether selected (n,) 1, 0 or NaN, and the response's name."""
    array, names = check_matrix(y, "y")
    name = names[0] if names else (None if getattr(y, "name", None) is None or is_traced(y) else str(y.name))
    if array.shape[1] == 1:
        response = array[:, 0]
        return response, (jnp if is_traced(array) else np).where(response == response, 1.0, 0.0).astype(array.dtype), name
    if array.shape[1] != 2:
        raise ValueError(f"y: found {array.shape[1]} columns; give the response, or the response and whether it was selected.")
    response, chosen = array[:, 0], array[:, 1]
    if not is_traced(array):
        if not np.isin(chosen[~np.isnan(chosen)], (0, 1)).all():
            raise ValueError("y: the second column says whether a row was selected; give 1, 0, or NaN where that is not known.")
        bad = ~np.isnan(response) & (chosen == 0)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(f"y: row {row} was not selected and has the response {response[row]:g}; set it to NaN.")
        chosen = np.where(~np.isnan(response), 1.0, chosen).astype(array.dtype)
    return response, chosen, name


def one_sided(chosen: np.ndarray, known: np.ndarray) -> str | None:
    """What is wrong where selection does not vary."""
    told = chosen[known]
    if len(told) and (told == told[0]).all():
        which = "every row was selected" if told[0] else "no row was selected"
        return f"y: {which}, so that nothing tells of the selection; take LinearRegression."
    return None
