"""What state space models read: series of outputs, with inputs where there are any."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_matrix, is_traced
from jaxem.data import moments_of
from jaxem.inputs import count_rows
from jaxem.layout import WIDE
from jaxem.rows import Rows, Table
from jaxem.sequences import Sequences


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Outputs y with inputs u.

    Args:
        y: (T, d) or (T,), NaN where missing; (B, T, d) for several series of one length.
        u: (T, p) or (T,), or (B, T, p); every cell must be there. u_t moves y_t, and the state on its way to t + 1.
    """

    y: Any
    u: Any


jax.tree_util.register_dataclass(Inputs, data_fields=("y", "u"), meta_fields=())


def arranged(data: Any) -> Any:
    """Data as `read_sequences` takes them: several series with inputs one after another, plain lists of numbers as arrays."""
    if isinstance(data, Inputs) and np.ndim(data.y) == 3:
        b, t = np.shape(data.y)[:2]
        if np.shape(data.u)[:2] != (b, t):
            raise ValueError(f"u: found shape {np.shape(data.u)} for y of shape {np.shape(data.y)}; give the same steps of each.")
        return Sequences(jax.tree.map(lambda leaf: leaf.reshape(b * t, -1), data), np.full(b, t))
    if isinstance(data, (list, tuple)) and len(data) and np.isscalar(data[0]):
        return np.asarray(data)
    return data


@dataclasses.dataclass(frozen=True)
class SeriesReader:
    """Reads rows of d outputs and p inputs; `loud` says which outputs have a noise variance that is estimated."""

    n_outputs: int
    n_inputs: int
    loud: tuple[bool, ...]

    def width(self, size: Any) -> int:
        """Rows a block."""
        del size
        return WIDE

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        """Checks and lays out the rows of all series, one after another.

        Raises:
            TypeError, ValueError: as `check_matrix`; another number of columns than the model's; inputs that are missing, or
                given to a model without.
        """
        given = isinstance(data, Inputs)
        if given != (self.n_inputs > 0):
            found = "inputs" if given else "no inputs"
            raise TypeError(f"y: found {found}, but the model has n_inputs={self.n_inputs}; give Inputs(y, u), or y alone.")
        y, columns = check_matrix(data.y if given else data)
        if y.shape[1] != self.n_outputs:
            raise ValueError(f"y: found {y.shape[1]} columns; the model has n_outputs={self.n_outputs}.")
        numpy: Any = jnp if is_traced(y) else np
        seen = ~numpy.isnan(y)
        cells = {"y": numpy.where(seen, y, 0), "seen": seen.astype(y.dtype)}
        if given:
            cells["u"] = self._inputs(data.u, y)
        if is_traced(y):
            mean, spread = y.mean(axis=0), y.var(axis=0)
            return Table(cells, y, mean, self.n_outputs, self.n_outputs, None, False, numpy.sqrt(mean * mean + spread))
        mean, spread = moments_of(y, weights)
        rms = np.sqrt(mean * mean + np.nan_to_num(spread))
        return Table(
            cells=cells,
            pilot=y,
            origin=mean.astype(y.dtype),
            size=self.n_outputs,
            d=self.n_outputs,
            informative=seen.any(axis=1),
            has_missing=bool(missing) or not seen.all(),
            typical=rms.astype(y.dtype),
            columns=columns,
            flaw=self._constant(y, seen, columns),
        )

    def _inputs(self, u: Any, y: Any) -> Any:
        u, _ = check_matrix(u, "u")
        if u.shape != (count_rows(y), self.n_inputs):
            raise ValueError(f"u: found shape {u.shape} for {count_rows(y)} steps; give ({count_rows(y)}, {self.n_inputs}).")
        if not is_traced(u) and np.isnan(u).any():
            row = int(np.argwhere(np.isnan(u))[0, 0])
            raise ValueError(f"u: an input is missing in row {row}; every input must be known.")
        return u.astype(y.dtype)

    def _constant(self, y: np.ndarray, seen: np.ndarray, columns: Any) -> str | None:
        """Why no fit has an answer: an output that never changes can be followed without any noise."""
        for j in range(y.shape[1]):
            cells = y[seen[:, j], j]
            if self.loud[j] and len(cells) > 1 and (cells == cells[0]).all():
                name = j if columns is None else repr(columns[j])
                return (
                    f"y: column {name} has the value {cells[0]:g} in every step, so that its noise has no positive variance; "
                    "drop it, or hold its noise by fixed=."
                )
        return None


def check_diffuse(rows: Rows, n_latent: int) -> None:
    """Raises ValueError where a series has fewer cells than a diffuse start has states."""
    if is_traced(rows.informative):
        return
    lanes = rows.lanes
    seen = np.asarray(rows.informative).astype(int) * rows.d  # at most
    counts = np.bincount(np.asarray(lanes.sequence), seen, len(lanes.start))
    for number in np.flatnonzero((counts > 0) & (counts < n_latent))[:1]:
        raise ValueError(
            f"y: series {number} has too few observed cells for {n_latent} diffuse states; leave it out, or hold a start."
        )
