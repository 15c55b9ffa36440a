"""Probabilities of the items in each class: lines where items have two categories, else a map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, LABEL_INCHES, LENGTH, MARKERS, TICKS, axes_or_new, colours, legend_below, name_ticks, short
from jaxem.leaves import Leaf, leaves_of
from jaxem.parameters import absent
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = len(COLOURS)  # classes that are drawn as lines
ROOM = 46  # characters that fit beside each other under a panel


def plot_profiles(model: Any, params: Any, data: Any, ax: Axes | None = None, *, names: Sequence[str] | None = None) -> Axes:
    """Probabilities of categories by class: one line a class where every item has two categories, else a map.

    Raises:
        TypeError: params without probabilities of the data.
    """
    view = view_of(data, names, model=model)
    ax = axes_or_new(ax)
    leaves = [leaf for leaf in leaves_of(model, params, view) if leaf.probability]
    if not leaves:
        raise TypeError(f"model: {type(model).__name__} has no probabilities of items to draw.")
    titles, values = _items(leaves, view)
    binary = all(title is not None for title in titles["second"])
    shares = _shares(model, params)
    if binary and values["second"].shape[1] <= LINES and values["second"].shape[0] > 1:
        return _draw_lines(ax, titles["second"], values["second"], shares)  # type: ignore[arg-type]
    kept = [(title, row) for title, row in zip(titles["all"], values["all"], strict=True)]
    return _draw_map(ax, [title for title, _ in kept], np.stack([row for _, row in kept]), shares)


def _items(leaves: list[Leaf], view: View) -> tuple[dict[str, list[Any]], dict[str, np.ndarray]]:
    """Every category with its probabilities (K,), and the second of each item that has two (None where it has more)."""
    titles: dict[str, list[Any]] = {"second": [], "all": []}
    rows: dict[str, list[np.ndarray]] = {"second": [], "all": []}
    for leaf in leaves:
        for j, name in enumerate(leaf.axes[0].names):
            column = view.columns.index(name)
            if leaf.values.ndim == 2:  # (K, d) probability of 1
                each = {1: leaf.values[:, j]}
            else:
                codes = range(leaf.values.shape[2])
                each = {code: leaf.values[:, j, code] for code in codes if not absent(leaf, view, j, code)}
            for code, row in each.items():
                titles["all"].append(f"{name} = {view.category(column, code)}")
                rows["all"].append(row)
            last = max(each)
            titles["second"].append(f"{name} = {view.category(column, last)}" if len(each) <= 2 else None)
            rows["second"].append(each[last])
    return titles, {key: np.stack(value) for key, value in rows.items()}


def _shares(model: Any, params: Any) -> list[str]:
    weights = getattr(params, "weights", None)
    if weights is None or model.n_states == 1:
        return [str(k) for k in range(model.n_states)]
    return [f"{k} ({100 * share:.0f} %)" for k, share in enumerate(np.asarray(weights))]


def _draw_lines(ax: Axes, titles: list[str], values: np.ndarray, shares: list[str]) -> Axes:
    place = np.arange(len(titles))
    for k, colour in enumerate(colours(len(shares))):
        label = f"class {shares[k]}" if len(shares) > 1 else None
        ax.plot(place, values[:, k], color=colour, marker=MARKERS[k], ms=6, lw=1.2, label=label, clip_on=False, zorder=3)
    common = _common_ending(titles)
    what = repr(common.removeprefix(" = ")) if common else "the category"
    ax.set(xlim=(-0.4, len(titles) - 0.6), ylim=(0, 1), ylabel=f"probability of {what}", xlabel="item")
    ax.set_title("Profiles of the classes" if len(shares) > 1 else "Profile")
    ax.grid(axis="y", color="#e5e5e5", lw=0.7)
    deep = name_across(ax, short([title.removesuffix(common) for title in titles] if common else titles))
    return legend_below(ax, LABEL_INCHES + deep) if len(shares) > 1 else ax


def name_across(ax: Axes, names: list[str]) -> float:
    """Names along the x axis: level where they are short, else standing on end; how many inches more they then need."""
    shown = names[:: -(-len(names) // TICKS)]
    name_ticks(ax.xaxis, names)
    if sum(map(len, shown)) + 2 * len(shown) <= ROOM:
        return 0.0
    ax.tick_params(axis="x", labelrotation=90, labelsize="small")
    return 0.06 * max(map(len, shown))


def _common_ending(titles: list[str]) -> str:
    """ " = yes" where every item ends in it."""
    endings = {title[title.rindex(" = ") :] for title in titles}
    return endings.pop() if len(endings) == 1 else ""


def _draw_map(ax: Axes, titles: list[str], values: np.ndarray, shares: list[str]) -> Axes:
    for line, (title, after) in enumerate(pairwise(titles)):
        if title[: title.rindex(" = ")] != after[: after.rindex(" = ")]:
            ax.axhline(line + 0.5, color="white", lw=2)
    image = ax.imshow(values, aspect="auto", interpolation="nearest", cmap="cividis", vmin=0, vmax=1)
    if len(titles) <= 14 and len(shares) <= 6:
        for (i, j), value in np.ndenumerate(values):
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize="small", color="white" if value < 0.55 else "black")
    ax.figure.colorbar(image, ax=ax, label="probability")
    name_ticks(ax.xaxis, shares if len(shares) <= 4 else [str(k) for k in range(len(shares))])
    parts = [title.rsplit(" = ", 1) for title in titles]
    if max(map(len, titles)) > LENGTH:  # both the item and its category are to be read
        items, categories = short([item for item, _ in parts], LENGTH - 5), short([category for _, category in parts], LENGTH // 2)
        name_ticks(ax.yaxis, [f"{item} = {category}" for item, category in zip(items, categories, strict=True)])
    else:
        name_ticks(ax.yaxis, short(titles))
    ax.set(xlabel="class", title="Profiles of the classes" if len(shares) > 1 else "Profile")
    return ax
