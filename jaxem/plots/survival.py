"""Times until an event: survival curves of a family beside those of the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import GREY, axes_or_new, colours, legend_below, number, short
from jaxem.inputs import Interval, Regression
from jaxem.plots.evaluate import log_densities
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUPS = 5  # values of covariates that get curves of their own
STEPS = 150


def is_survival(view: View) -> bool:
    """Whether cells are times of which some are cut off: no end below 0, and none known only to be small."""
    if view.lower is None or view.d != 1:
        return False
    lower = view.lower[:, 0]
    return bool((lower[np.isfinite(lower)] >= 0).all() and not (view.censored[:, 0] & np.isneginf(lower)).any())


def plot_survival(model: Any, params: Any, data: Any, ax: Axes | None = None, *, names: Sequence[str] | None = None) -> Axes:
    """P(T > t) by the model, for each group of covariates (at most five; else at their means), over that of the data.

    The data's curve is the self-consistent one: Kaplan and Meier's for exact and right-censored times (Efron 1967), Turnbull's
    (1976) where there are intervals.
    """
    ax, view = axes_or_new(ax), view_of(data, names, model=model)
    groups = _groups(view)
    latest = _latest(view)
    grid = np.linspace(0, latest, STEPS)[1:]
    for (label, chosen, x), colour in zip(groups, colours(len(groups)), strict=True):
        if chosen is not None:
            _draw_data(ax, view, chosen, color=colour, alpha=0.6)
        curve = _curve(model, params, data, view, grid, x)
        ax.plot(np.concatenate([[0], grid]), np.concatenate([[1], curve]), color=colour, lw=2, label=label)
    if len(groups) == 1 and groups[0][1] is None:
        _draw_data(ax, view, np.ones(view.n, bool), color=GREY, label="all rows")
    ax.set(xlabel=short(view.columns)[0], ylabel="survival probability", ylim=(-0.02, 1.03), xlim=(0, latest))
    ax.set_title("Survival: model (thick), data (thin)")
    return legend_below(ax) if any(label for label, _, _ in groups) else ax


def _draw_data(ax: Axes, view: View, chosen: np.ndarray, **style: Any) -> None:
    """Steps; straight between the ends of intervals, within which nobody knows where the mass lies."""
    lower, upper = view.lower[chosen, 0], view.upper[chosen, 0]  # type: ignore[index]
    times, alive = empirical_survival(lower, upper)
    within = ((upper > lower) & np.isfinite(upper)).any()
    ax.plot(times, alive, drawstyle="default" if within else "steps-post", lw=1, **style)


def _groups(view: View) -> list[tuple[str | None, Any, Any]]:
    """A label, the rows and the covariates of each curve."""
    if view.x is None or view.x.shape[1] == 0:
        return [(None, np.ones(view.n, bool), None)]
    values, which = np.unique(view.x, axis=0, return_inverse=True)
    which = which.reshape(-1)
    if len(values) <= GROUPS:
        names = short(view.covariates)
        texts = [", ".join(f"{name} = {value:g}" for name, value in zip(names, row, strict=True)) for row in values]
        return [(text, which == i, values[i]) for i, text in enumerate(texts)]
    middle = view.x.mean(axis=0)
    text = "covariates at their means" if len(middle) > 1 else f"{short(view.covariates)[0]} = {number(middle[0])}"
    return [(text, None, middle)]


def _latest(view: View) -> float:
    ends = np.concatenate([view.lower[:, 0], view.upper[:, 0]])  # type: ignore[index]
    return 1.05 * float(ends[np.isfinite(ends)].max())


def _curve(model: Any, params: Any, data: Any, view: View, grid: np.ndarray, x: Any) -> np.ndarray:
    """P(T > t): what the family says of a time that is only known to exceed t, averaged over the states."""
    beyond: Any = Interval(grid, np.full(len(grid), np.inf))
    if isinstance(data, Regression):
        offset = None if view.offset is None else np.full(len(grid), view.offset.mean())
        gate = None if view.gate is None else np.repeat(view.gate.mean(axis=0)[None], len(grid), axis=0)
        rows = None if data.x is None or x is None else np.repeat(np.asarray(x)[None], len(grid), axis=0)
        beyond = dataclasses.replace(data, y=beyond, x=rows, offset=offset, gate=gate)
    if hasattr(params, "weights") or model.n_states == 1:
        shares = np.asarray(getattr(params, "weights", np.ones(1)))
    else:
        shares = np.asarray(model.posterior(params, data)).mean(axis=0)
    return np.exp(log_densities(model, params, beyond)) @ shares


def empirical_survival(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and the probability of surviving each, from intervals (lower, upper] (equal ends are exact times).

    Where rows are exact or right-censored, the product of 1 - deaths / at risk (Kaplan and Meier 1958). Else mass sits at the
    upper ends (and beyond the last); it is spread by EM until it changes by less than 1e-6 (Turnbull 1976).
    """
    exact = lower == upper
    if np.isposinf(upper[~exact]).all():
        times, deaths = np.unique(upper[exact], return_counts=True)
        at_risk = len(lower) - np.searchsorted(np.sort(lower), times)
        return np.concatenate([[0], times]), np.concatenate([[1], np.cumprod(1 - deaths / at_risk)])
    ends = np.unique(upper[np.isfinite(upper)])
    support = np.concatenate([ends, [np.inf]])
    # the places on the support that a row may have are first, ..., last - 1
    first = np.searchsorted(support, lower, side="right") - exact
    last = np.searchsorted(support, upper, side="right")
    mass = np.full(len(support), 1 / len(support))
    for _ in range(2000):
        below = np.concatenate([[0], np.cumsum(mass)])
        own = 1 / (below[last] - below[first])
        steps = np.bincount(first, own, len(support) + 1) - np.bincount(last, own, len(support) + 1)
        new = mass * np.cumsum(steps)[:-1] / len(lower)
        done = np.abs(new - mass).max() < 1e-6
        mass = new
        if done:
            break
    alive = 1 - np.cumsum(mass)[:-1]
    return np.concatenate([[0], ends]), np.concatenate([[1], alive])
