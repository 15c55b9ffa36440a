"""What the pictures of `jaxem.plot` share: figures outside of pyplot, colours, labels that cover nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito 2008
GREY = "#8c8c8c"
MARKERS = "os^Dv<>P*X"  # of components, which grey print tells apart
SHOWN = 5000  # rows drawn at most
TICKS = 16  # columns or components that get a name on their axis
LABEL_INCHES = 0.48  # height of tick labels and axis label
PANEL = 57  # characters of a legend that fit under a panel
HANDLE = 6  # what the handle of an entry takes of them
LENGTH = 18  # characters of a column name that are shown


def new_figure(size: tuple[float, float]) -> Figure:
    """A figure of `size` inches that draws itself by Agg and is unknown to pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    return figure


def axes_or_new(ax: Axes | None) -> Axes:
    """`ax`, or the axes of a figure of its own."""
    return new_figure((5.5, 4.5)).add_subplot() if ax is None else ax


def check_drawable(model: Any, needed: str, what: str) -> None:
    """Raises TypeError for a model without the attribute that a picture of `what` reads."""
    if not hasattr(model, needed):
        raise TypeError(f"model: {type(model).__name__} has no {what} to draw.")


def legend_below(ax: Axes, down: float = LABEL_INCHES) -> Axes:
    """A legend `down` inches below the axes: under tick labels and axis label, where it covers nothing."""
    from matplotlib.transforms import ScaledTranslation

    _, texts = ax.get_legend_handles_labels()
    across = max(1, min(len(texts), PANEL // (max(map(len, texts), default=0) + HANDLE)))
    below = ax.transAxes + ScaledTranslation(0, -down, ax.figure.dpi_scale_trans)
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": below}
    ax.legend(ncols=across, frameon=False, fontsize="small", **place)
    return ax


def short(names: Sequence[str], length: int = LENGTH) -> list[str]:
    """Names cut to a length that fits an axis, with no mark that Matplotlib would read as mathematics.

    Where their beginnings do not tell them apart they are cut in the middle.
    """
    cut = [name if len(name) <= length else f"{name[: length - 1]}…" for name in names]
    if len(set(cut)) < len(set(names)):
        head = length // 2
        cut = [name if len(name) <= length else f"{name[:head]}…{name[head + 1 - length :]}" for name in names]
    return [name.replace("$", r"\$") for name in cut]


def number(value: float) -> str:
    """A few digits of a number, for a label."""
    return f"{value:.3g}"


def sample(n: int) -> np.ndarray:
    """(n,) bool: the rows that are drawn, all or a fixed random choice."""
    drawn = np.ones(n, bool)
    if n > SHOWN:
        drawn[np.random.default_rng(0).choice(n, n - SHOWN, replace=False)] = False
    return drawn


def colours(count: int) -> list[Any]:
    """Colours of `count` components: told apart up to seven, a scale beyond."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    from matplotlib import colormaps

    return list(colormaps["viridis"](np.linspace(0, 0.9, count)))


def name_ticks(axis: Any, names: Sequence[str]) -> None:
    """Names at whole numbers: all, or every few where they are many."""
    every = -(-len(names) // TICKS)
    at = list(range(0, len(names), every))
    axis.set_ticks(at, [names[i] for i in at])


def draw_map(
    ax: Axes, values: np.ndarray, limit: float, label: str, across: Sequence[str], down: Sequence[str], digits: int = 1
) -> Axes:
    """Values (rows, columns) between -limit and limit in colours, as numbers too where there is room."""
    image = ax.imshow(values, aspect="auto", interpolation="nearest", cmap="PuOr_r", vmin=-limit, vmax=limit)
    if values.shape[0] <= 12 and values.shape[1] <= 6:
        for (i, j), value in np.ndenumerate(values):
            ink = "white" if abs(value) > 0.7 * limit else "black"
            ax.text(j, i, f"{round(value, digits) + 0:.{digits}f}", ha="center", va="center", color=ink)
    ax.figure.colorbar(image, ax=ax, label=label)
    name_ticks(ax.xaxis, across)
    name_ticks(ax.yaxis, down)
    return ax


def number_places(ax: Axes, places: np.ndarray) -> None:
    """Each component's number at its place, moved aside within the axes where it would cover another's."""
    from matplotlib.patheffects import withStroke

    ends = np.sort(np.array([ax.get_xlim(), ax.get_ylim()]), axis=1)
    size = np.array([0.05 if len(places) <= 10 else 0.08, 0.06]) * (ends[:, 1] - ends[:, 0])
    taken: list[np.ndarray] = []

    def free(spot: np.ndarray, place: np.ndarray) -> bool:
        inside = (spot >= ends[:, 0] + 0.4 * size).all() and (spot <= ends[:, 1] - 0.4 * size).all()
        return (inside or spot is place) and not any((np.abs(spot - t) < size).all() for t in taken)

    for k, place in enumerate(places):
        spot = next((spot for spot in _spots(place, size, len(places)) if free(spot, place)), place)
        taken.append(spot)
        if (spot != place).any():
            ax.plot(*np.stack([place, spot]).T, color="#333333", lw=0.5)
        halo = [withStroke(linewidth=2.5, foreground="white")]
        ax.text(spot[0], spot[1], str(k), ha="center", va="center", fontweight="bold", path_effects=halo, zorder=5)


def _spots(place: np.ndarray, size: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Places for a label, nearest first: in `count` rings there is always room beside `count` others."""
    yield place
    for ring in range(1, count + 2):
        for angle in np.linspace(0, 2 * np.pi, 8 * ring, endpoint=False):
            yield place + 1.05 * ring * size * np.array([np.cos(angle), np.sin(angle)])
