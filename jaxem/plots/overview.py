"""One figure of a whole fit, whose panels follow from the kinds of data and params."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxem.canvas import new_figure
from jaxem.leaves import has_ellipses, leaves_of
from jaxem.plots.components import plot_components
from jaxem.plots.data import plot_missingness
from jaxem.plots.densities import plot_densities
from jaxem.plots.directions import direction_leaf, is_directional, plot_directions
from jaxem.plots.factors import loading_leaf, plot_explained, plot_loadings, plot_scores
from jaxem.plots.gate import plot_gate
from jaxem.plots.history import plot_history
from jaxem.plots.parameters import (
    coefficient_leaf,
    number_leaf,
    plot_coefficients,
    plot_correlations,
    plot_means,
    plot_numbers,
    plot_parameters,
)
from jaxem.plots.profiles import plot_profiles
from jaxem.plots.regimes import plot_regimes
from jaxem.plots.regression import plot_regression
from jaxem.plots.responsibilities import plot_certainty, plot_responsibilities, plot_uncertainty
from jaxem.plots.sequences import plot_series, plot_smoothed, plot_transitions
from jaxem.plots.state_space import plot_state_space
from jaxem.plots.survival import is_survival, plot_survival
from jaxem.result import Fit, Status
from jaxem.sequences import read_sequences
from jaxem.summary import describe
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OUTPUTS = 5  # of a state space that are drawn
LOADINGS = 4  # states whose loadings are drawn
Panel = Callable[["Axes"], Any]


class Panels(NamedTuple):
    """What there is to draw of a fit, each on axes of its own."""

    seen: list[Panel]  # the data, and what the states say of them
    states: list[Panel]  # which row belongs where, and how surely
    params: list[Panel]


def figure_overview(
    model: Any,
    fit: Fit,
    data: Any,
    *,
    weights: Any = None,
    names: Sequence[str] | None = None,
    columns: tuple[int, int] = (0, 1),
    truth: Any = None,
) -> Figure:
    """Panels of any fit: the data with what the states say of them, the params, the restarts, and who belongs where.

    Which pictures are drawn follows from the data (responses with covariates, censored times, unit vectors) and from the
    params (probabilities, loadings, coefficients, means with covariances), never from the family's name.

    Args:
        model, fit: the model and its fit to the data.
        data: raw data of any kind that the model takes.
        weights: (n,) row weights of the fit.
        names: d names of the columns of y; default those of the data frame, or x0, x1, ...
        columns: the two columns that scatter plots show.
        truth: params that generated the data; with them the last panel compares, without it shows the params.
    """
    view = view_of(data, names, model=model)
    kinds = panels_of(model, fit, data, view, weights, columns, truth)
    history: Panel = lambda ax: plot_history(fit, ax)  # noqa: E731
    panels = [*kinds.seen, history, *kinds.states, *kinds.params]
    across = 3 if len(panels) > 4 or len(panels) == 3 else min(len(panels), 2)
    down = -(-len(panels) // across)
    figure = new_figure((14 / 3 * across, 4.2 * down))
    places = figure.subplots(down, across, squeeze=False).ravel()
    for place, panel in zip(places, panels, strict=False):
        panel(place)
    for empty in places[len(panels) :]:
        empty.set_axis_off()
    title = f"{describe(model)}:{' ' if across > 2 else chr(10)}log-likelihood {float(fit.log_likelihood):.4f}, "
    figure.suptitle(f"{title}{Status(int(fit.status)).name}")
    return figure


def panels_of(
    model: Any,
    fit: Fit,
    data: Any,
    view: View,
    weights: Any = None,
    columns: tuple[int, int] = (0, 1),
    truth: Any = None,
) -> Panels:
    """The pictures that suit the data and the params; arguments as for `figure_overview`."""
    params, names = fit.params, view.columns
    several = model.n_states > 1
    if hasattr(model, "n_latent"):  # what is hidden is a vector that moves in time
        ahead = max(1, len(view.y) // 10) if model.n_inputs == 0 else 0

        def draw(j: int) -> Panel:
            return lambda ax: plot_state_space(model, params, data, output=j, steps=ahead, name=names[j], ax=ax)

        own = [draw(j) for j in range(min(view.d, OUTPUTS))]
        return Panels(own, [], [])
    if hasattr(model, "regimes"):  # rows depend on rows before them
        posterior = np.asarray(model.posterior(params, data))
        series: Panel = lambda ax: plot_regimes(model, params, data, ax, names=names)  # noqa: E731
        return Panels([series], [lambda ax: plot_certainty(posterior, ax)], [])
    if getattr(model, "sequential", False) and hasattr(model, "viterbi"):
        return Panels(_sequence_panels(model, fit, data, view, columns), [], [])
    seen = _fit_panels(model, params, data, view, weights, columns)
    if view.gate is not None and several:
        seen.append(lambda ax: plot_gate(model, params, data, ax))
    if truth is not None:
        told: list[Panel] = [lambda ax: plot_parameters(model, truth, params, ax, data=data)]
    else:
        told = _parameter_panels(model, params, data, view)
    return Panels(seen, _state_panels(model, params, data, view, weights, columns), told)


def _state_panels(model: Any, params: Any, data: Any, view: View, weights: Any, columns: tuple[int, int]) -> list[Panel]:
    """Which row belongs where."""
    names, several = view.columns, model.n_states > 1
    if hasattr(model, "scores"):
        scores: Panel = lambda ax: plot_scores(model, params, data, ax)  # noqa: E731
        return [scores, lambda ax: plot_explained(model, params, data, ax, names=names)]
    if not (several or has_ellipses(model, params)):
        return []
    posterior = np.asarray(model.posterior(params, data))
    out: list[Panel] = [lambda ax: plot_responsibilities(posterior, ax)] if several else []
    completed = _completed(model, params, data, view)
    if completed is not None and not is_directional(view) and (several or view.missing.any()):
        shown: dict[str, Any] = {"holes": view.missing, "columns": columns, "names": names}
        out.append(lambda ax: plot_uncertainty(posterior, completed, ax, **shown))
    elif several:
        out.append(lambda ax: plot_certainty(posterior, ax, weights=weights))
    return out


def _sequence_panels(model: Any, fit: Fit, data: Any, view: View, columns: tuple[int, int]) -> list[Panel]:
    """The longest sequence and the states behind it, how they follow one another, and what each says of a row."""
    params, names = fit.params, view.columns
    longest = int(np.argmax(read_sequences(data)[1]))
    out: list[Panel] = [
        partial(plot_series, model, params, data, column=j, sequence=longest, names=names)
        for j in range(min(view.d, OUTPUTS))
    ]  # fmt: skip
    out.append(lambda ax: plot_smoothed(model, params, data, ax, sequence=longest))
    out.append(lambda ax: plot_transitions(model, params, data, ax))
    if view.x is not None and view.x.shape[1] > 0:
        out.append(lambda ax: plot_coefficients(model, params, view, ax, names=names))
    elif has_ellipses(model, params) and view.d > 1:
        out.append(lambda ax: plot_components(model, params, view, ax, columns=columns, names=names))
    else:
        out += _column_panels(model, params, data, view)
    return out


def _column_panels(model: Any, params: Any, data: Any, view: View) -> list[Panel]:
    """What the states say of each column, one at a time."""
    leaves, names, out = leaves_of(model, params, view), view.columns, []
    if any(leaf.probability for leaf in leaves):
        out.append(lambda ax: plot_profiles(model, params, view, ax, names=names))
    numeric = [j for j in range(view.d) if not _coded(leaves, view, j)][:2]
    return [*out, *(partial(plot_densities, model, params, data, column=j, names=names) for j in numeric)]


def _completed(model: Any, params: Any, data: Any, view: View) -> np.ndarray | None:
    """Rows with holes filled, where the picture of the states is over two columns."""
    if view.regression or view.lower is not None or not has_ellipses(model, params):
        return None
    try:
        return np.asarray(model.impute(params, data))
    except (AttributeError, TypeError):
        return None


def _fit_panels(model: Any, params: Any, data: Any, view: View, weights: Any, columns: tuple[int, int]) -> list[Panel]:
    """The data, and what the states say of them."""
    names = view.columns
    leaves = leaves_of(model, params, view)
    if not hasattr(model, "family"):  # nothing says what a single cell is like
        return []
    if is_survival(view):
        return [lambda ax: plot_survival(model, params, data, ax, names=names)]
    if view.x is not None and (view.lower is not None or view.x.shape[1] > 0):
        return [lambda ax: plot_regression(model, params, data, ax, names=names)]
    if is_directional(view) and direction_leaf(leaves) is not None:
        return [lambda ax: plot_directions(model, params, data, ax, names=names)]
    if has_ellipses(model, params) and (view.d > 1 or view.lower is None):
        seen: Panel = lambda ax: plot_missingness(data, ax, columns=columns, names=names)  # noqa: E731
        return [seen, lambda ax: plot_components(model, params, data, ax, columns=columns, names=names, weights=weights)]
    out: list[Panel] = []
    if any(leaf.probability for leaf in leaves):
        out.append(lambda ax: plot_profiles(model, params, data, ax, names=names))
    numeric = [j for j in range(view.d) if not _coded(leaves, view, j)]
    for column in numeric[: 2 if model.n_states > 1 else 3]:
        shown: dict[str, Any] = {"column": column, "names": names, "weights": weights}
        out.append(partial(plot_densities, model, params, data, **shown))
    return out


def _coded(leaves: list[Any], view: View, column: int) -> bool:
    """Whether a column's cells are categories: some leaf holds their probabilities."""
    return any(leaf.probability and leaf.axes and view.columns[column] in leaf.axes[0].names for leaf in leaves)


def _parameter_panels(model: Any, params: Any, data: Any, view: View) -> list[Panel]:
    """The params that say most."""
    names, leaves = view.columns, leaves_of(model, params, view)
    if loading_leaf(leaves) is not None:
        shown = range(min(model.n_states, LOADINGS))
        return [partial(plot_loadings, model, params, data, component=k, names=names) for k in shown]
    coefficients = coefficient_leaf(leaves)
    if coefficients is not None and view.covariates:
        return [lambda ax: plot_coefficients(model, params, data, ax, names=names)]
    if has_ellipses(model, params) and not view.regression:
        if model.n_states == 1 and view.d == 1:
            return []
        if model.n_states == 1:
            return [lambda ax: plot_correlations(model, params, ax, names=names)]
        return [lambda ax: plot_means(model, params, data, ax, names=names)]
    if any(leaf.probability for leaf in leaves):
        return []
    if number_leaf(leaves) is not None and (model.n_states > 1 or view.d > 1):
        return [lambda ax: plot_numbers(model, params, data, ax, names=names)]
    return []
