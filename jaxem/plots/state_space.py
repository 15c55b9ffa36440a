"""A series, what a state space model sees behind it, and where it goes on to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, axes_or_new, check_drawable, legend_below
from jaxem.models.state_space_data import Inputs, arranged
from jaxem.sequences import read_sequences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = (0.5, 0.9)  # of the bands, the darker one first
NORMAL = {0.5: 0.6744897501960817, 0.9: 1.6448536269514722}


def plot_state_space(
    model: Any,
    params: Any,
    data: Any,
    *,
    steps: int = 0,
    output: int = 0,
    series: int = 0,
    time: Any = None,
    inputs: Any = None,
    name: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One output over time: its cells, what the smoothed states say of it with 50 and 90 % bands, and a forecast fan.

    The band is that of the signal C x_t + D u_t; the fan is that of new cells, their noise included.

    Args:
        steps: how many to forecast.
        output, series: which column of y, and which series.
        time: (T,) numbers at the axis, evenly spaced where there is a forecast; default 0, 1, ...
        inputs: as for `StateSpace.forecast`.
        name: of the output.

    Raises:
        TypeError: another model than `StateSpace`. ValueError: no such output or series, or another number of times than steps.
    """
    check_drawable(model, "n_latent", "states that are vectors")
    ax = axes_or_new(ax)
    whole, lengths = read_sequences(arranged(data))
    y = np.asarray(whole.y if isinstance(whole, Inputs) else whole, np.float64).reshape(int(lengths.sum()), -1)
    if not 0 <= output < y.shape[1] or not 0 <= series < len(lengths):
        raise ValueError(f"output, series: found {output}, {series} for {y.shape[1]} outputs of {len(lengths)} series.")
    columns = getattr(whole, "columns", None)
    name = name or (str(columns[output]) if columns is not None else f"output {output}")
    begin = int(lengths[:series].sum())
    own = slice(begin, begin + int(lengths[series]))
    when = np.arange(lengths[series]) if time is None else np.asarray(time, np.float64)
    if len(when) != lengths[series]:
        raise ValueError(f"time: found {len(when)} for {lengths[series]} steps; give one for each.")
    found = model.smooth(params, data)
    loadings = np.asarray(params.observation, np.float64)[output]
    mean = np.asarray(found.mean, np.float64)[own] @ loadings
    if isinstance(whole, Inputs):
        u = np.asarray(whole.u, np.float64).reshape(len(y), -1)[own]
        mean = mean + u @ np.asarray(params.observation_input, np.float64)[output]
    spread = np.sqrt(np.maximum(np.einsum("i,tij,j->t", loadings, np.asarray(found.covariance, np.float64)[own], loadings), 0))
    cells = y[own, output]
    dense = len(cells) > 400
    ax.plot(when, cells, ls="", marker="." if dense else "o", ms=2 if dense else 3.5, color="#000000", alpha=0.55, label="observed")
    _bands(ax, when, mean, spread, COLOURS[0], "smoothed")
    if steps:
        ahead = model.forecast(params, data, steps, inputs=inputs)
        gap = when[-1] - when[-2] if len(when) > 1 else 1.0
        later = when[-1] + gap * np.arange(1, steps + 1)
        variance = np.asarray(ahead.covariance, np.float64)[series, :, output, output]
        _bands(ax, later, np.asarray(ahead.mean)[series, :, output], np.sqrt(variance), COLOURS[1], "forecast")
    ax.set(xlabel="step" if time is None else "time", ylabel=name.replace("$", r"\$"))
    ax.set_title("Smoothed signal, bands of 50 and 90 %")
    return legend_below(ax)


def _bands(ax: Axes, when: np.ndarray, mean: np.ndarray, spread: np.ndarray, colour: str, label: str) -> None:
    ax.plot(when, mean, color=colour, lw=1.6, label=label)
    for level, alpha in zip(LEVELS, (0.3, 0.18), strict=True):
        reach = NORMAL[level] * spread
        ax.fill_between(when, mean - reach, mean + reach, color=colour, alpha=alpha, lw=0)
