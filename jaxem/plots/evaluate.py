"""What a family says at points of a picture: log-densities and means by state, through its own `log_prob` and `complete`.

Whether a family takes fractions, negative numbers or missing responses is found by asking it to read them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates, reduce
from jaxem.data import prepare_rows
from jaxem.inputs import Regression
from jaxem.leaves import states_of
from jaxem.settings import inner_families
from jaxem.view import View

POINTS = 400  # of a curve


@jax.jit
def _log_prob(family: Any, params: Any, rows: Any) -> jax.Array:
    return reduce.map_rows(family, coordinates.cast(params, rows.dtype), rows, lambda bound, cells, log_prob: log_prob)


@jax.jit
def _means(family: Any, params: Any, rows: Any) -> jax.Array:
    return reduce.map_rows(
        family, coordinates.cast(params, rows.dtype), rows,
        lambda bound, cells, log_prob: family.complete(bound, cells, rows.origin)[0],
    )  # fmt: skip


def prepare(model: Any, data: Any) -> Any:
    """Rows as the family alone reads them: what the shares of the states depend on may be the same in all of them."""
    if isinstance(data, Regression) and not getattr(model.family, "gated", False):
        data = dataclasses.replace(data, gate=None)
    return prepare_rows(model.family, data, None, 1)


def log_densities(model: Any, params: Any, data: Any) -> np.ndarray:
    """(n, K) log-density of raw rows in each state."""
    rows, (_, inner) = prepare(model, data), states_of(model, params)
    return np.asarray(_log_prob(model.family.settle(inner, rows), inner, rows), np.float64)


def fitted_means(model: Any, params: Any, data: Regression, view: View) -> np.ndarray:
    """(n, K) mean of the (first) response given the covariates of each row, in each state.

    What the family says of a missing response; where it does not say, the mean of its density over a grid.
    """
    n = int(np.shape(data.x)[0]) if data.x is not None else view.n
    _, inner = states_of(model, params)
    blank = dataclasses.replace(data, y=np.full((n, view.d), np.nan) if view.d > 1 else np.full(n, np.nan))
    try:
        rows = prepare(model, blank)
        means = _means(model.family.settle(inner, rows), inner, rows)
        return np.asarray(means, np.float64)[:, :, 0]
    except (TypeError, ValueError, NotImplementedError):
        return _means_on_grid(model, params, data, n, view)


def _means_on_grid(model: Any, params: Any, data: Regression, n: int, view: View) -> np.ndarray:
    grid, _ = grid_for(lambda values: _crossed(data, n, values), model, ends_of(view), reach=1.0)
    density = log_densities(model, params, _crossed(data, n, grid)).reshape(n, len(grid), -1)
    density = np.exp(density - density.max(axis=1, keepdims=True))
    width = np.gradient(grid)[:, None] if len(grid) > 1 else np.ones((1, 1))
    mass = density * width
    return (grid[:, None] * mass).sum(axis=1) / mass.sum(axis=1)


def _crossed(data: Regression, n: int, values: np.ndarray) -> Regression:
    """Every row of covariates with every value of the response."""

    def repeat(leaf: Any) -> Any:
        return None if leaf is None else np.repeat(np.asarray(leaf, np.float64), len(values), axis=0)

    parts: dict[str, Any] = {"x": repeat(data.x), "offset": repeat(data.offset), "gate": repeat(data.gate)}
    return dataclasses.replace(data, y=np.tile(values, n), **parts)


def ends_of(view: View, column: int = 0) -> tuple[float, float]:
    """Least and largest finite value of a column, ends of intervals included."""
    parts = [view.y[:, column]]
    if view.lower is not None and view.upper is not None:
        parts += [view.lower[:, column], view.upper[:, column]]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def grid_for(build: Any, model: Any, ends: tuple[float, float], reach: float = 0.08) -> tuple[np.ndarray, bool]:
    """Values between (and where the family takes them, beyond) the ends, and whether they are whole numbers only.

    `build(values)` makes raw data of them.

    Raises:
        ValueError: the family reads none of them.
    """
    low, high = ends
    span = (high - low) or max(abs(low), 1.0)
    wide = (low - reach * span, high + reach * span)
    upward = (low, wide[1])
    trials: list[tuple[np.ndarray, bool]] = [(np.linspace(*some, POINTS), False) for some in (wide, upward, ends)]
    for some in (wide, (max(wide[0], 0), wide[1]), ends):
        first, last = int(np.floor(some[0])), int(np.ceil(some[1]))
        every = max(1, (last - first) // (4 * POINTS))
        trials.append((np.arange(first, last + 1, every, dtype=np.float64), True))
    trials.append((np.arange(np.ceil(low), np.floor(high) + 1), True))
    for values, whole in trials:
        try:
            prepare(model, build(values))
        except (TypeError, ValueError):
            continue
        return values, whole
    raise ValueError("the family reads no value near those of the data.")


@dataclasses.dataclass(frozen=True)
class Marginal:
    """Columns that one family says something about."""

    family: Any
    params: Any  # with a leading state axis
    columns: tuple[int, ...]


def marginals(model: Any, params: Any, view: View) -> list[Marginal]:
    """The family, or where it is made of others the ones it is made of, with their columns."""
    _, inner = states_of(model, params)
    groups = inner_families(model.family)
    if not groups or not view.parts:
        return [Marginal(model.family, inner, tuple(range(view.d)))]
    out = []
    for group, family in groups.items():
        own = inner[group] if isinstance(inner, dict) else getattr(inner, group)
        out.append(Marginal(family, own, tuple(j for j, part in enumerate(view.parts) if part == group)))
    return out


class Curve(NamedTuple):
    """The density of one column."""

    grid: np.ndarray  # (m,) values
    density: np.ndarray  # (m, K) there in each state
    whole: bool  # whether values are whole numbers


def column_densities(part: Marginal, view: View, columns: Sequence[int]) -> list[Curve]:
    """The densities of several columns, found together.

    The other columns are missing, so that the family marginalises over them.

    Raises:
        ValueError, TypeError: the family does not take rows with one observed cell, or values near those of the data.
    """
    from jaxem.models import Single

    model, d = Single(part.family), len(part.columns)
    grids, wholes, parts, plain = [], [], [], True
    for column in columns:
        bare = partial(_bare, part.columns.index(column), d)

        def with_covariates(values: np.ndarray, bare: Any = bare) -> Any:  # of which there are none but the intercept
            return Regression(values if d == 1 else bare(values), None, view.intercept)

        try:
            grid, whole = grid_for(bare, model, ends_of(view, column))
        except ValueError:
            plain = False
            grid, whole = grid_for(with_covariates, model, ends_of(view, column))
        if not whole:
            grid = np.unique(np.concatenate([grid, _finer(part, view, column, grid)]))
        grids.append(grid)
        wholes.append(whole)
        parts.append(bare(grid))
    y = np.concatenate(parts)
    rows = prepare(model, y if plain else Regression(y[:, 0] if d == 1 else y, None, view.intercept))
    found = np.asarray(jnp.exp(_log_prob(part.family.settle(part.params, rows), part.params, rows)), np.float64)
    cuts = np.cumsum([len(grid) for grid in grids])[:-1]
    return [Curve(*each) for each in zip(grids, np.split(found, cuts), wholes, strict=True)]


def _bare(place: int, d: int, values: np.ndarray) -> np.ndarray:
    """(n, d) rows with one observed cell."""
    y = np.full((len(values), d), np.nan)
    y[:, place] = values
    return y


def _finer(part: Marginal, view: View, column: int, grid: np.ndarray) -> np.ndarray:
    """Points where a narrow state would fall between those of an even grid: at the data, and about each mean."""
    x = view.y[:, column]
    x = np.sort(x[np.isfinite(x)])
    points = [x[:: max(1, len(x) // POINTS)]]
    try:
        mean, spread = (np.asarray(leaf, np.float64) for leaf in part.family.moments(part.params))
        place = part.columns.index(column)
        variance = spread[:, place] if spread.ndim == 2 else spread[:, place, place]
        points += [m + np.sqrt(v) * np.linspace(-4, 4, 81) for m, v in zip(mean[:, place], variance, strict=True)]
    except (TypeError, NotImplementedError):
        pass
    fine = np.concatenate(points)
    return fine[np.isfinite(fine) & (fine >= grid[0]) & (fine <= grid[-1])]
