"""Whether a density has integral 1: by quadrature where rows are one number, and by its score at rows drawn from it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.inputs import Regression

DRAWN = 4000  # rows drawn from the model
MOST = 64  # coordinates along which the score is taken
CLOSE = 1e-2  # of an integral by quadrature


def integral_one(model: Any, params: Any, data: Any) -> tuple[float, str | None] | None:
    """The integral (or sum, where all data are whole numbers) of the density of one-number rows, and what is wrong with it.

    What the support is cannot be known: the line, the positive half, the unit interval; counts, or the codes that are seen.
    None where rows are more than one number, or the model takes none of these.
    """
    leaves = jax.tree.leaves(data)
    if isinstance(data, Regression) or hasattr(data, "iloc") or len(leaves) != 1:
        return None
    column = np.asarray(leaves[0])
    if column.size != len(column) or column.dtype.kind not in "biuf":
        return None
    seen = column.astype(np.float64).ravel()
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return None
    found = []
    for grid, measure in _grids(seen):
        rows = grid.reshape(-1, *column.shape[1:]).astype(column.dtype)
        if column.dtype.kind in "iu" and (rows.ravel() != grid).any():
            continue
        try:
            density = model.log_likelihood(params, jax.tree.map(lambda _, rows=rows: rows, data), per_row=True)
        except (TypeError, ValueError):  # outside of what the model accepts
            continue
        density = np.nan_to_num(np.exp(np.asarray(density, np.float64)), nan=0.0, posinf=np.inf)
        found.append(float((density * measure).sum()))
    if not found:
        return None
    best = min(found, key=lambda total: abs(np.log(max(total, 1e-300))))
    if abs(best - 1) <= CLOSE:
        return best, None
    kind = "sums" if (seen == np.floor(seen)).all() else "integrates"
    return best, f"the density {kind} to {best:.4g} over all rows instead of 1: a factor is missing, or one too many is there."


def _grids(seen: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Points and their measures, for each support that there may be."""
    if (seen == np.floor(seen)).all() and (seen >= 0).all():
        top = int(seen.max())
        counts = [np.arange(0, min(20 * top + 400, 1 << 15)), np.arange(0, top + 1), np.arange(1, min(20 * top + 400, 1 << 15))]
        grids = [(grid.astype(np.float64), np.ones(len(grid))) for grid in counts]
        return grids
    centre, scale = np.median(seen), max(seen.std(), 1e-12 * (1 + abs(seen).max()))
    t = np.linspace(-11, 11, 20001)
    step = t[1] - t[0]
    grids = [(centre + scale * np.sinh(t), scale * np.cosh(t) * step)]
    positive = np.exp(3 * t)
    grids.append((scale * positive, scale * 3 * positive * step))
    unit = 1 / (1 + np.exp(-3 * t))
    return [*grids, (unit, 3 * unit * (1 - unit) * step)]


def mean_score(model: Any, params: Any, data: Any, key: jax.Array) -> tuple[float, float, int]:
    """Mean of the score at rows drawn from the model, its standard error, and along which coordinate, where they are farthest
    apart: a density whose integral is 1 for all params has mean 0 (Bartlett 1953, Biometrika 40:12).

    Raises:
        TypeError, ValueError: the model does not draw rows, or only given covariates.
    """
    if isinstance(data, Regression):
        raise ValueError("rows are drawn given covariates only.")
    drawn = jax.tree.map(np.asarray, model.sample(key, params, DRAWN))
    dtype = jax.tree.leaves(params)[0].dtype
    rows = model.prepare(jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype.kind == "f" else leaf, drawn))
    vector = model.to_unconstrained(params)
    inside = np.flatnonzero(np.isfinite(vector))[:MOST]

    def each(free: jax.Array) -> jax.Array:
        return model.log_likelihood(model.from_unconstrained(vector.at[inside].set(free), like=params), rows, per_row=True)

    score = np.asarray(jax.jacfwd(each)(vector[jnp.asarray(inside)]), np.float64)
    if not np.isfinite(score).all():
        raise ValueError("the score is not finite at rows drawn from the model.")
    mean, error = score.mean(axis=0), score.std(axis=0) / np.sqrt(len(score)) + 1e-9
    worst = int(np.argmax(np.abs(mean) / error))
    return float(mean[worst]), float(error[worst]), int(inside[worst])
