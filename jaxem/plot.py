"""Pictures of data, fits and components: Matplotlib axes in, the same axes out.

Without `ax` each function makes its own figure (`ax.figure`), outside of pyplot, so that no global backend is touched.
Colours can be told apart by colour-blind readers; components also carry their numbers, which survive print in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.align import align
from jaxem.canvas import (
    COLOURS,
    axes_or_new,
    colours,
    draw_map,
    labels,
    legend_below,
    name_ticks,
    new_figure,
    number_places,
    sample,
)
from jaxem.checks import check_matrix
from jaxem.report import Components, column_names, components_of, describe, reached_best, returned_restart
from jaxem.result import Fit, Status
from jaxem.run import explain_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#8c8c8c"
LEVELS = (0.5, 0.95)  # probability inside the ellipses of a component


def plot_history(fit: Fit, ax: Axes | None = None) -> Axes:
    """How far below the maximum each restart was, against steps, on a log scale.

    The maximum is the value returned plus the estimate of what it had left to gain; the lower edge is what rounding lets one
    see. Restarts that failed are dotted, and where they rose above the maximum (a likelihood without bound) they leave the
    picture.
    """
    ax = axes_or_new(ax)
    known = np.isfinite(float(fit.gap))
    best = float(fit.objective) + (float(fit.gap) if known else 0.0)
    floor = max(32 * float(np.finfo(np.asarray(fit.objective).dtype).eps) * abs(best), 1e-12)
    reached = reached_best(fit)
    chosen = returned_restart(fit)
    seen: set[str] = set()
    ends = []
    for number, (values, stride) in enumerate(zip(fit.restart_histories, fit.restart_strides, strict=True)):
        steps, objective = explain_history(np.asarray(values), int(stride))
        ends.append(int(steps.max(initial=0)))
        gap = best - np.asarray(objective, np.float64)
        gap = np.where(gap < (-floor if known else floor), np.nan, np.maximum(gap, floor))
        label, style = _restart_style(Status(int(fit.restart_statuses[number])), bool(reached[number]), number == chosen)
        ax.plot(steps, gap, label=None if label in seen else label, marker="." if np.isfinite(gap).sum() < 3 else None, **style)
        seen.add(label)
    ax.set_yscale("log")
    ax.set_ylim(floor / 2, None)
    what = "log-likelihood" if float(fit.log_likelihood) == float(fit.objective) else "log posterior"
    title = f"Restarts: {int(reached.sum())} of {len(reached)} reached the best"
    ax.set(xlabel="step", ylabel=f"{what} below the maximum", title=title)
    usual, longest = max(np.array(ends)[reached], default=0), max(ends)
    if longest > 3 * usual > 0:  # stragglers: linear as far as the good ones went, logarithmic beyond
        ax.set_xscale("symlog", linthresh=usual, linscale=2)
        ax.set_xticks([0, usual // 2, usual, longest], labels=[str(tick) for tick in (0, usual // 2, usual, longest)], minor=False)
        ax.set_xticks([], minor=True)
        ax.set_xlim(-usual / 20, longest)
    else:
        ax.locator_params(axis="x", integer=True)
    return legend_below(ax)


def _restart_style(status: Status, reached: bool, chosen: bool) -> tuple[str, dict[str, Any]]:
    if chosen:
        return "the one returned", {"color": COLOURS[1], "lw": 2, "zorder": 3}
    if status not in (Status.CONVERGED, Status.MAX_STEPS):
        return "failed", {"color": "#000000", "lw": 1, "ls": ":"}
    if reached:
        return "reached the best", {"color": COLOURS[0], "lw": 0.8, "alpha": 0.6}
    return "other", {"color": GREY, "lw": 0.8, "ls": "--"}


def plot_missingness(
    y: Any, ax: Axes | None = None, *, columns: tuple[int, int] = (0, 1), names: Sequence[str] | None = None
) -> Axes:
    """The rows of y (n, d) in two columns; a row with one of the two observed is a mark at that column's axis.

    One column is drawn as a histogram. At most 5000 rows are drawn.
    """
    ax, array = axes_or_new(ax), check_matrix(y)[0]
    names = labels(y, names)
    if array.shape[1] == 1:
        observed = array[~np.isnan(array)]
        ax.hist(observed, bins=_bins(observed), color=COLOURS[5], edgecolor="white", linewidth=0.3)
        ax.set(xlabel=names[0], ylabel="rows", title=f"Data: {array.size - observed.size} of {array.size} rows missing")
        return ax
    pair = array[:, columns]
    here = ~np.isnan(pair)
    both, first, second = here.all(axis=1), here[:, 0] & ~here[:, 1], here[:, 1] & ~here[:, 0]
    drawn = sample(len(pair))
    a, b = (names[j] for j in columns)
    x, z = pair.T
    dots = both & drawn
    ax.scatter(x[dots], z[dots], s=9, color=COLOURS[0], alpha=0.6, linewidths=0, label=f"both ({both.sum()})")
    marks: dict[str, Any] = {"linestyle": "none", "markersize": 7, "alpha": 0.8}
    if first.any():
        at = x[first & drawn]
        edge = ax.get_xaxis_transform()
        ax.plot(at, np.full_like(at, 0.02), "|", color=COLOURS[1], transform=edge, label=f"only {a} ({first.sum()})", **marks)
    if second.any():
        at = z[second & drawn]
        edge = ax.get_yaxis_transform()
        ax.plot(np.full_like(at, 0.015), at, "_", color=COLOURS[2], transform=edge, label=f"only {b} ({second.sum()})", **marks)
    ax.margins(0.1)
    ax.locator_params(axis="x", nbins=5)
    neither = int((~here).all(axis=1).sum())
    ax.set(xlabel=a, ylabel=b, title="Data: complete" if both.all() else f"Data: {neither} of {len(pair)} rows show neither")
    return ax if both.all() else legend_below(ax)


def plot_components(
    model: Any,
    params: Any,
    y: Any,
    ax: Axes | None = None,
    *,
    columns: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
    weights: Any = None,
) -> Axes:
    """Gaussian components over the data: ellipses that hold 50 % and 95 % of each, in two columns, with their numbers.

    More than eight components show only the inner ones.
    One column is drawn as weights_k N(x; mu_k, s_k) and their sum over a histogram, whose bars `weights` (n,) weigh.

    Raises:
        TypeError: a family other than `Gaussian`.
    """
    ax, array = axes_or_new(ax), check_matrix(y)[0]
    names, components = labels(y, names), components_of(model, params)
    if array.shape[1] == 1:
        return _plot_densities(ax, components, array[:, 0], names[0], weights)
    pair = array[:, columns][sample(len(array))]
    ax.scatter(pair[:, 0], pair[:, 1], s=6, color=GREY, alpha=0.35, linewidths=0)
    levels = LEVELS if len(components.weights) <= 8 else LEVELS[:1]
    for k, colour in enumerate(colours(len(components.weights))):
        covariance = components.covariance[k][np.ix_(columns, columns)]
        for level in levels:
            inner = level == LEVELS[0]
            outline = ellipse(components.mean[k, columns], covariance, level)
            ax.plot(*outline, color=colour, lw=2.0 if inner else 1.2, ls="-" if inner else "--")
    ax.margins(0.06)
    ax.locator_params(axis="x", nbins=5)
    a, b = (names[j] for j in columns)
    ax.set(xlabel=a, ylabel=b, title=f"Components: {' and '.join(f'{100 * v:.0f} %' for v in levels)} ellipses")
    number_places(ax, components.mean[:, columns])
    return ax


def ellipse(mean: np.ndarray, covariance: np.ndarray, level: float) -> np.ndarray:
    """(2, 121) outline of the ellipse that holds probability `level` of N(mean, covariance), both of two columns.

    Points are mean + r L (cos, sin), with L the symmetric root of the covariance and r^2 = -2 log(1 - level).
    """
    values, vectors = np.linalg.eigh(covariance)
    angle = np.linspace(0, 2 * np.pi, 121)
    radius = np.sqrt(-2 * np.log1p(-level)) * np.sqrt(np.maximum(values, 0))
    return mean[:, None] + vectors @ (radius[:, None] * np.stack([np.cos(angle), np.sin(angle)]))


def plot_responsibilities(responsibilities: Any, ax: Axes | None = None) -> Axes:
    """Responsibilities (n, K) as a grey map, rows sorted by their most probable component; at most 5000 rows."""
    ax, r = axes_or_new(ax), np.asarray(responsibilities)
    r = r[sample(len(r))]
    top = r.argmax(axis=1)
    order = np.lexsort((-r.max(axis=1), top))
    image = ax.imshow(r[order].T, aspect="auto", interpolation="nearest", cmap="Greys", vmin=0, vmax=1)
    ax.figure.colorbar(image, ax=ax, label="responsibility")
    ax.set(xlabel="row, sorted by component", ylabel="component", title="Responsibilities")
    name_ticks(ax.yaxis, [str(k) for k in range(r.shape[1])])
    return ax


def plot_uncertainty(
    responsibilities: Any,
    completed: Any,
    ax: Axes | None = None,
    *,
    holes: Any = None,
    columns: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
) -> Axes:
    """Where assignments are doubtful: rows coloured by -sum_k r_k log r_k / log K, from 0 (certain) to 1 (no idea).

    Args:
        responsibilities: (n, K).
        completed: (n, d) rows without holes, from `model.impute`.
        holes: (n, d) bool, cells that were filled; such rows are drawn as triangles, and those with no observed cell not.
        columns: the two columns to draw; with d = 1 the second axis is the uncertainty.
    """
    ax, y = axes_or_new(ax), np.asarray(completed)
    names = labels(completed, names)
    holes = np.zeros(y.shape, bool) if holes is None else np.asarray(holes)
    doubt = uncertainty(responsibilities)
    shown = sample(len(y)) & ~holes.all(axis=1)
    if y.shape[1] == 1:
        ax.scatter(y[shown, 0], doubt[shown], s=9, color=COLOURS[0], alpha=0.6, linewidths=0)
        ax.set(xlabel=names[0], ylabel="uncertainty", ylim=(-0.05, 1.05), title="Uncertainty of assignment")
        return ax
    image, filled = None, holes.any(axis=1)
    for marker, chosen, label in (("o", shown & ~filled, "complete rows"), ("^", shown & filled, "rows with filled cells")):
        chosen = np.flatnonzero(chosen)
        if chosen.size:
            chosen = chosen[np.argsort(doubt[chosen])]
            style: dict[str, Any] = {"s": 16, "marker": marker, "linewidths": 0.3, "edgecolors": "#555555"}
            x, z = y[chosen][:, columns].T
            image = ax.scatter(x, z, c=doubt[chosen], cmap="cividis_r", vmin=0, vmax=1, label=label, **style)
    if image is not None:
        ax.figure.colorbar(image, ax=ax, label="entropy / log K")
    a, b = (names[j] for j in columns)
    ax.margins(0.06)
    ax.locator_params(axis="x", nbins=5)
    ax.set(xlabel=a, ylabel=b, title="Uncertainty of assignment")
    return legend_below(ax) if filled.any() else ax


def uncertainty(responsibilities: Any) -> np.ndarray:
    """(n,) entropy of responsibilities (n, K) over its largest value, log K; 0 where K = 1."""
    r = np.asarray(responsibilities, np.float64)
    entropy = -(r * np.log(np.where(r > 0, r, 1))).sum(axis=1)
    return np.maximum(entropy, 0) / np.log(max(r.shape[1], 2))


def plot_parameters(
    model: Any, truth: Any, params: Any, ax: Axes | None = None, *, label: str = "generating"
) -> Axes:
    """Estimated params against others of the same model (aligned to them first), with the line where both agree.

    Raises:
        TypeError: a family other than `Gaussian`. ValueError: other shapes.
    """
    ax = axes_or_new(ax)
    if hasattr(model, "n_components"):
        params = align(params, truth)
    ours, theirs = components_of(model, params), components_of(model, truth)
    lower = np.tril_indices(ours.mean.shape[1])
    kinds = [("weights", "o", theirs.weights[:, None], ours.weights[:, None]), ("means", "s", theirs.mean, ours.mean)]
    kinds += [("covariances", "^", theirs.covariance[:, lower[0], lower[1]], ours.covariance[:, lower[0], lower[1]])]
    everything = np.concatenate([np.ravel(part) for kind in kinds for part in kind[2:]])
    ends = np.array([everything.min(), everything.max()])
    ax.plot(ends, ends, color=GREY, lw=1)
    for name, marker, x, z in kinds:
        ax.scatter([], [], marker=marker, s=30, facecolors="none", edgecolors="#333333", label=name)
        for k, colour in enumerate(colours(len(ours.weights))):
            ax.scatter(x[k], z[k], marker=marker, s=30, facecolors="none", edgecolors=colour, linewidths=1.3)
    ax.margins(0.08)
    ax.locator_params(axis="x", nbins=5)
    ax.set(xlabel=label, ylabel="estimated", title=f"Estimated against {label}")
    return legend_below(ax)


def plot_means(model: Any, params: Any, y: Any, ax: Axes | None = None, *, names: Sequence[str] | None = None) -> Axes:
    """Means (K, d) as a map, in standard deviations of each column of y from the column's mean.

    Raises:
        TypeError: a family other than `Gaussian`.
    """
    ax, array = axes_or_new(ax), check_matrix(y)[0]
    names, mean = labels(y, names), components_of(model, params).mean
    spread = np.nanstd(array, axis=0)
    scaled = (mean - np.nanmean(array, axis=0)) / np.where(spread > 0, spread, 1)
    ax.set(xlabel="component", ylabel="column", title="Means of the components")
    limit = max(float(np.abs(scaled).max()), 0.1)
    return draw_map(ax, scaled.T, limit, "mean, in sd of the column", [str(k) for k in range(len(mean))], names)


def plot_correlations(
    model: Any, params: Any, ax: Axes | None = None, *, component: int = 0, names: Sequence[str] | None = None
) -> Axes:
    """Correlations (d, d) within one Gaussian component as a map.

    Raises:
        TypeError: a family other than `Gaussian`.
    """
    ax, covariance = axes_or_new(ax), components_of(model, params).covariance[component]
    names = labels(np.zeros((1, len(covariance))), names)
    scale = np.sqrt(np.diagonal(covariance))
    ax.set(title="Correlations", xlabel="column, in the same order")
    return draw_map(ax, covariance / np.outer(scale, scale), 1.0, "correlation", [""] * len(names), names)


def figure_overview(
    model: Any,
    fit: Fit,
    y: Any,
    *,
    weights: Any = None,
    names: Sequence[str] | None = None,
    columns: tuple[int, int] = (0, 1),
    truth: Any = None,
) -> Figure:
    """Six panels of a Gaussian fit: data, components, restarts, responsibilities, uncertainty, parameters.

    Args:
        model, fit: the `Mixture` or `Single` and its fit to y.
        y: (n, d) data or a data frame, NaN where missing.
        weights: (n,) row weights of the fit.
        names: d column names; default those of the data frame, or x0, x1, ...
        columns: the two columns that scatter plots show.
        truth: params that generated the data; with them the last panel compares, without it shows the means.

    Raises:
        TypeError: a family other than `Gaussian`.
    """
    array, found = check_matrix(y)
    names = column_names(array, found, names)
    rows = model.prepare(array)
    posterior, completed = model.posterior(fit.params, rows), model.impute(fit.params, rows)
    figure = new_figure((14, 8.4))
    panels = figure.subplots(2, 3).ravel()
    plot_missingness(array, panels[0], columns=columns, names=names)
    plot_components(model, fit.params, array, panels[1], columns=columns, names=names, weights=weights)
    plot_history(fit, panels[2])
    plot_responsibilities(posterior, panels[3])
    plot_uncertainty(posterior, completed, panels[4], holes=np.isnan(array), columns=columns, names=names)
    if truth is None and posterior.shape[1] == 1:
        plot_correlations(model, fit.params, panels[5], names=names)
    elif truth is None:
        plot_means(model, fit.params, array, panels[5], names=names)
    else:
        plot_parameters(model, truth, fit.params, panels[5])
    figure.suptitle(f"{describe(model)}: log-likelihood {float(fit.log_likelihood):.4f}, {Status(int(fit.status)).name}")
    return figure


def _plot_densities(ax: Axes, components: Components, x: np.ndarray, name: str, weights: Any) -> Axes:
    observed = ~np.isnan(x)
    mass = None if weights is None else np.asarray(weights)[observed]
    ax.hist(x[observed], bins=_bins(x[observed]), weights=mass, density=True, color="#d9d9d9", edgecolor="white", linewidth=0.3)
    mean, sd = components.mean[:, 0], np.sqrt(components.covariance[:, 0, 0])
    low, high = min(x[observed].min(), (mean - 3 * sd).min()), max(x[observed].max(), (mean + 3 * sd).max())
    fine = np.concatenate([m + s * np.linspace(-4, 4, 81) for m, s in zip(mean, sd, strict=True)])
    grid = np.unique(np.concatenate([np.linspace(low, high, 400), fine]).clip(low, high))
    density = components.weights[:, None] * np.exp(-0.5 * ((grid - mean[:, None]) / sd[:, None]) ** 2)
    density /= np.sqrt(2 * np.pi) * sd[:, None]
    for curve, colour in zip(density, colours(len(mean)), strict=True):
        ax.plot(grid, curve, color=colour, lw=1.5)
    if len(mean) > 1:
        ax.plot(grid, density.sum(axis=0), color="#333333", lw=1, ls="--")
    ax.set(xlabel=name, ylabel="density", title="Components" + (" and their sum (dashed)" if len(mean) > 1 else ""))
    number_places(ax, np.stack([mean, density.max(axis=1)], axis=1))
    return ax


def _bins(x: np.ndarray) -> int:
    """Bars of a histogram: the square root of n, within bounds that an outlier cannot move."""
    return int(np.clip(np.sqrt(x.size), 5, 60))
