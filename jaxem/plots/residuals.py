"""Quantile residuals against what they would be under the model: a normal QQ picture, and what might explain them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, GREY, MARKERS, axes_or_new, legend_below, sample, short
from jaxem.inputs import Regression
from jaxem.plots.evaluate import fitted_means
from jaxem.residuals import quantile_residuals, state_probabilities
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL = 0.95  # of the envelope, and of intervals of means
OUTER = 40  # points at either end that are all drawn
INNER = 160  # and between them
HALVINGS = 60  # of a bracket of a quantile, after which it has all its digits
SLICES = 20  # of the rows, at most, each with its mean
FEW = 10  # rows a slice, at least


def plot_residuals(
    model: Any, params: Any, data: Any, ax: Axes | None = None, *, key: Any = 0, names: Sequence[str] | None = None
) -> Axes:
    r"""Normal QQ picture of `jaxem.quantile_residuals`: sorted residuals against the quantiles that they would have on average.

    On the line where the model holds: an S-shape says that tails are too short or too long, a bow that a skewness is missed, a
    shift or a slope that means or variances are off. The envelope holds each point with probability 0.95, from the beta
    distributions of order statistics, U_(i) ~ beta(i, n - i + 1), so that of many points one in twenty may lie outside; with
    unequal numbers of cells it is that of the column with the fewest. Up to seven columns have marks of their own; of more, all
    cells together are drawn, and as a line the column farthest from them.

    Args:
        model, params, data: as for `jaxem.quantile_residuals`.
        ax: where to draw; default a figure of its own.
        key: an int seed or a JAX key, for what is drawn in counts, categories and censored cells.
        names: d names of the columns.

    Raises:
        TypeError, ValueError: as `jaxem.quantile_residuals`; no cell that has a residual.
    """
    z = np.asarray(quantile_residuals(model, params, data, key), np.float64)
    columns, ax = short(_columns(model, data, z, names)), axes_or_new(ax)
    each = [np.sort(column[~np.isnan(column)]) for column in z.T]
    each, columns = [own for own in each if own.size], [name for own, name in zip(each, columns, strict=True) if own.size]
    if not each:
        raise ValueError("data: no cell has a residual; give data with observed cells.")
    _envelope(ax, min(own.size for own in each))
    if len(each) <= len(COLOURS):
        for own, name, colour, marker in zip(each, columns, COLOURS, MARKERS, strict=False):
            style: dict[str, Any] = {"ls": "none", "marker": marker, "ms": 3.5, "mew": 0}
            ax.plot(*_points(own), color=colour, alpha=0.8, label=name if len(each) > 1 else None, **style)
    else:
        ax.plot(*_points(np.sort(np.concatenate(each))), "o", color=COLOURS[0], ms=3.5, mew=0, label=f"all {len(each)} columns")
        worst = int(np.argmax([_distance(own) for own in each]))
        ax.plot(*_points(each[worst]), color=COLOURS[1], lw=1.5, label=f"{columns[worst]}, the farthest")
    infinite = int(sum(np.isinf(own).sum() for own in each))
    rest = f"\n{infinite} cells beyond the reach of the model are not drawn" if infinite else ""
    ax.set(xlabel="standard normal quantile", ylabel="quantile residual", title=f"Quantile residuals{rest}")
    return legend_below(ax)


def plot_residuals_against(
    model: Any,
    params: Any,
    data: Any,
    by: Any = None,
    ax: Axes | None = None,
    *,
    column: int = 0,
    key: Any = 0,
    names: Sequence[str] | None = None,
) -> Axes:
    """`jaxem.quantile_residuals` of one column against what might explain them, with means of slices and their 95 % intervals.

    Under the model the points are a level band about 0 of the same width everywhere, and nineteen of twenty intervals hold 0.
    At most 5000 rows are drawn.

    Args:
        model, params, data: as for `jaxem.quantile_residuals`.
        by: "order" of the rows, "fitted" means (of responses with covariates), the name of a column or covariate, or (n,)
            numbers; default "fitted" where there are covariates, else "order".
        ax: where to draw; default a figure of its own.
        column: whose residuals.
        key: an int seed or a JAX key, for what is drawn.
        names: d names of the columns.

    Raises:
        TypeError, ValueError: as `jaxem.quantile_residuals`; fitted means without covariates; an unknown name; another number
            of rows.
    """
    z = np.asarray(quantile_residuals(model, params, data, key), np.float64)
    columns = _columns(model, data, z, names)
    x, what = _explained_by(model, params, data, by, columns, len(z))
    ax, own = axes_or_new(ax), z[:, column]
    told = np.isfinite(own) & np.isfinite(x)
    drawn = told & sample(len(own))
    ax.scatter(x[drawn], own[drawn], s=8, color=COLOURS[0], alpha=0.45, linewidths=0)
    ax.axhline(0, color="black", lw=1)
    for end in (-1, 1):
        ax.axhline(end * NormalDist().inv_cdf(0.5 + LEVEL / 2), color=GREY, lw=0.8, ls="--")
    slices = np.array_split(np.argsort(x[told], kind="stable"), int(np.clip(told.sum() // FEW, 1, SLICES)))
    for number, rows in enumerate(part for part in slices if part.size):
        middle, mean = float(np.median(x[told][rows])), float(own[told][rows].mean())
        error = NormalDist().inv_cdf(0.5 + LEVEL / 2) / np.sqrt(rows.size)
        label = f"means of {len(slices)} slices, {LEVEL:.0%} interval" if number == 0 else None
        ax.errorbar(middle, mean, error, color=COLOURS[1], fmt="D", ms=4, lw=1.2, capsize=2.5, label=label)
    of = f" of {short(columns)[column]}" if len(columns) > 1 else ""
    ax.margins(0.04)
    ax.locator_params(axis="x", nbins=5)
    ax.set(xlabel=short([what])[0], ylabel="quantile residual", title=f"Quantile residuals{of}")
    return legend_below(ax)


def order_band(n: int, ranks: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the central intervals of the order statistics i = `ranks` (m,) of n uniform numbers, by bisection of
    P(U_(i) <= x) = I_x(i, n - i + 1)."""
    i = np.asarray(ranks, np.float64)
    tails = np.stack([np.full(len(i), (1 - level) / 2), np.full(len(i), (1 + level) / 2)])
    low, high = np.zeros(tails.shape), np.ones(tails.shape)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        short_of = _incomplete_beta(np.broadcast_to(i, middle.shape), n + 1 - i, middle) < tails
        low, high = np.where(short_of, middle, low), np.where(short_of, high, middle)
    found = 0.5 * (low + high)
    return found[0], found[1]


def _incomplete_beta(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """I_x(a, b) for whole a, b by its continued fraction (Lentz 1976), on the side where that converges fast."""
    far = x > (a + 1) / (a + b + 2)
    p, q, x = np.where(far, b, a), np.where(far, a, b), np.where(far, 1 - x, x)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, int((a + b).max()) + 1)))])
    whole = [leaf.astype(int) for leaf in (p + q - 1, p, q - 1)]
    log_mass = log_factorial[whole[0]] - log_factorial[whole[1]] - log_factorial[whole[2]]
    with np.errstate(divide="ignore"):
        first = np.exp(log_mass + p * np.log(x) + q * np.log1p(-x))
    value, c, d = np.ones(x.shape), np.ones(x.shape), np.zeros(x.shape)
    for step in range(1, 500):
        j = step // 2
        if step % 2:
            term = -(p + j) * (p + q + j) * x / ((p + 2 * j) * (p + 2 * j + 1))
        else:
            term = j * (q - j) * x / ((p + 2 * j - 1) * (p + 2 * j))
        d = 1 / (1 + term * d)
        c = 1 + term / c
        value = value * c * d
        if np.abs(c * d - 1).max() < 1e-13:
            break
    share = first / value
    return np.where(far, 1 - share, share)


def _envelope(ax: Axes, n: int) -> None:
    ranks = _ranks(n)
    lower, upper = (_normal(end) for end in order_band(n, ranks))
    x = _expected(ranks, n)
    ax.fill_between(x, lower, upper, color=GREY, alpha=0.3, lw=0, label=f"{LEVEL:.0%} envelope")
    ends = np.array([x[0], x[-1]]) if n > 1 else np.array([-1.0, 1.0])
    ax.plot(ends, ends, color="black", lw=1)


def _ranks(n: int) -> np.ndarray:
    """Ranks 1..n that are drawn: the outer ones all, those between evenly spaced on the scale of the picture."""
    if n <= 2 * OUTER + INNER:
        return np.arange(1, n + 1)
    edge = NormalDist().inv_cdf(OUTER / n)
    inner = [NormalDist().cdf(value) * n for value in np.linspace(edge, -edge, INNER)]
    outer = np.arange(1, OUTER + 1)
    return np.unique(np.concatenate([outer, np.clip(np.round(inner), 1, n).astype(int), n + 1 - outer]))


def _expected(ranks: np.ndarray, n: int) -> np.ndarray:
    """Normal quantiles of the medians of order statistics, (i - 1/3) / (n + 1/3) to three digits."""
    return _normal((ranks - 1 / 3) / (n + 1 / 3))


def _normal(p: np.ndarray) -> np.ndarray:
    tiny = np.finfo(np.float64).tiny
    return np.array([NormalDist().inv_cdf(min(max(float(each), tiny), 1 - 1e-16)) for each in p])


def _points(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected and found residuals at the ranks that are drawn; infinite ones leave gaps."""
    ranks = _ranks(len(ordered))
    found = ordered[ranks - 1]
    return _expected(ranks, len(ordered)), np.where(np.isfinite(found), found, np.nan)


def _distance(ordered: np.ndarray) -> float:
    """How far a column's residuals are from the line: the mean square, and infinity where one is infinite."""
    ranks = _ranks(len(ordered))
    return float(np.square(ordered[ranks - 1] - _expected(ranks, len(ordered))).mean())


def _columns(model: Any, data: Any, z: np.ndarray, names: Sequence[str] | None) -> tuple[str, ...]:
    if names is not None:
        if len(names) != z.shape[1]:
            raise ValueError(f"names: found {len(names)} for {z.shape[1]} columns; give one for each.")
        return tuple(map(str, names))
    found = view_of(data, model=model).columns
    return found if len(found) == z.shape[1] else tuple(f"x{j}" for j in range(z.shape[1]))


def _explained_by(model: Any, params: Any, data: Any, by: Any, columns: tuple[str, ...], n: int) -> tuple[np.ndarray, str]:
    """(n,) numbers and what they are called."""
    view = view_of(data, model=model)
    if by is None:
        by = "fitted" if view.x is not None and view.x.shape[1] else "order"
    if not isinstance(by, str):
        x = np.asarray(by, np.float64)
        if x.shape != (n,):
            raise ValueError(f"by: found shape {x.shape}; give ({n},) numbers.")
        return x, str(getattr(by, "name", None) or "given numbers")
    if by == "order":
        return np.arange(n, dtype=np.float64), "row"
    if by == "fitted":
        return _fitted(model, params, data, view), "fitted mean"
    named = dict(zip(view.gates, () if view.gate is None else view.gate.T, strict=False))
    named |= dict(zip(view.covariates, () if view.x is None else view.x.T, strict=False))
    named |= dict(zip(columns, view.y.T, strict=False))
    if by not in named:
        raise ValueError(f'by: found {by!r}; give "order", "fitted", or one of {", ".join(named)}.')
    return np.asarray(named[by], np.float64), by


def _fitted(model: Any, params: Any, data: Any, view: View) -> np.ndarray:
    if not isinstance(data, Regression) or not view.covariates:
        raise ValueError('by: there are no covariates that means could depend on; give "order" or the name of a column.')
    means = fitted_means(model, params, data, view)
    return (np.asarray(state_probabilities(model, params, data), np.float64) * means).sum(axis=1)
