"""Pictures are drawn without a warning, nothing in them covers or cuts anything else, and they show the right numbers."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import chi2

from jaxem import Fit, Gaussian, GaussianParams, Mixture, MixtureParams, Single, Status, Stop, fit, plot, report

KINDS = ("full", "tied", "diagonal", "spherical")


def make_data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, d)) + rng.integers(0, 2, (n, 1)) * 4.0
    y[rng.random((n, d)) < 0.15] = np.nan
    y[0] = np.nan
    y[1] = 1.0
    return y


def make_params(kind, n_components, d):
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(n_components, d, d)) / np.sqrt(d)
    covariance = factor @ np.swapaxes(factor, 1, 2) + 0.3 * np.eye(d)
    shaped = {
        "full": covariance,
        "tied": covariance.mean(axis=0),
        "diagonal": np.diagonal(covariance, axis1=1, axis2=2).copy(),
        "spherical": np.trace(covariance, axis1=1, axis2=2) / d,
    }
    weights = rng.dirichlet(np.full(n_components, 5.0))
    return MixtureParams(weights, GaussianParams(3 * rng.normal(size=(n_components, d)), shaped[kind]))


def make_fit(params, n_components, restarts=4):
    """A fit as `fit` would return it, whose restarts ended in every way that there is."""
    statuses = np.resize([Status.CONVERGED, Status.MAX_STEPS, Status.DEGENERATE, Status.CONVERGED], restarts)
    gaps = np.geomspace(50, 1e-9, 30)
    histories = np.full((restarts, 256), np.nan)
    histories[:, :30] = -100 - gaps - np.arange(restarts)[:, None]
    if restarts > 2:
        histories[2, :3] = [-200, -90, 5]  # a collapse rises without bound
    values = np.nanmax(histories, axis=1)
    return Fit(
        params=params, log_likelihood=values[0], objective=values[0], status=np.int32(Status.CONVERGED), steps=np.int32(29),
        passes=np.int32(99), history=histories[0], history_stride=np.int32(1), gap=np.float64(1e-9),
        degenerate=np.zeros(n_components, bool), restart_log_likelihoods=values, restart_statuses=statuses,
        restart_histories=histories, restart_strides=np.ones(restarts, np.int32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    y = make_data(150, 2)
    model = Mixture(Gaussian(), 2)
    return model, fit(model, y, key=0, restarts=3, stop=Stop(max_steps=30)), y


def render(figure):
    """Draws, with all warnings errors, and checks that no text leaves the figure and no panel or legend covers another."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height(physical=True)
    boxes = [ax.get_tightbbox(renderer) for ax in figure.axes]
    for box in boxes:
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert min(a.x1, b.x1) - max(a.x0, b.x0) < 2 or min(a.y1, b.y1) - max(a.y0, b.y0) < 2
    for ax in figure.axes:
        legend = ax.get_legend()
        if legend is not None:
            label = ax.xaxis.get_label().get_window_extent(renderer)
            assert legend.get_window_extent(renderer).y1 <= label.y0 + 2
        assert_apart([t.get_window_extent(renderer) for t in ax.get_xticklabels() if t.get_text() and t.get_visible()], ax)


def assert_apart(boxes, ax):
    inside = [box for box in boxes if ax.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= ax.bbox.x1 + 1]
    for i, a in enumerate(inside):
        for b in inside[:i]:
            assert not a.overlaps(b)


# the picture of a fit


def test_overview(fitted):
    model, found, y = fitted
    figure = plot.figure_overview(model, found, y, names=["height", "width"])
    render(figure)
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert len(panels) == 6
    assert (panels[0].get_xlabel(), panels[0].get_ylabel()) == ("height", "width")


def test_overview_beside_truth(fitted):
    model, found, y = fitted
    swapped = model.relabel(found.params, np.array([1, 0]))
    figure = plot.figure_overview(model, found, y, truth=swapped)
    render(figure)
    dots = [np.asarray(part.get_offsets()) for part in figure.axes[5].collections]
    dots = np.concatenate([part for part in dots if part.size])
    np.testing.assert_allclose(dots[:, 0], dots[:, 1])  # aligned, the same params lie on the line


@pytest.mark.parametrize(("d", "n_components", "kind"), [(1, 3, "full"), (50, 20, "diagonal"), (3, 1, "tied")])
def test_overview_in_all_sizes(d, n_components, kind):
    y, params = make_data(80, d), make_params(kind, n_components, d)
    names = [f"a long name of column {j}, in $ per $" for j in range(d)]
    model = Mixture(Gaussian(kind), n_components)
    render(plot.figure_overview(model, make_fit(params, n_components), y, names=names, weights=np.linspace(0, 2, 80)))


def test_overview_of_a_single_gaussian():
    y = 1e4 * make_data(60, 3)
    params = GaussianParams(np.array([1e4, 2e4, 0]), 1e8 * (np.eye(3) + 0.5))
    render(plot.figure_overview(Single(Gaussian()), make_fit(params, 1, restarts=1), y))


def test_pyplot_is_left_alone():
    script = (
        "import sys, numpy as np; from jaxem import plot; plot.plot_missingness(np.eye(3)).figure.savefig(sys.stderr.buffer);"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=120, check=True)
    assert done.stdout.split() == [b"False"]
    assert done.stderr.startswith(b"\x89PNG")


# single pictures


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_components", [1, 2, 20])
@pytest.mark.parametrize("d", [1, 2])
def test_components(kind, n_components, d):
    model, params = Mixture(Gaussian(kind), n_components), make_params(kind, n_components, d)
    ax = plot.plot_components(model, params, make_data(60, d))
    render(ax.figure)
    renderer = ax.figure.canvas.get_renderer()
    numbers = [text for text in ax.texts if text.get_text().isdecimal()]
    assert sorted(int(text.get_text()) for text in numbers) == list(range(n_components))
    assert_apart([text.get_window_extent(renderer) for text in numbers], ax)


@pytest.mark.parametrize("kind", KINDS)
def test_components_of_every_kind_have_dense_covariances(kind):
    params = make_params(kind, 3, 3)
    dense = report.components_of(Mixture(Gaussian(kind), 3), params).covariance
    given = params.components.covariance
    expected = {
        "full": lambda: given,
        "tied": lambda: np.stack([given] * 3),
        "diagonal": lambda: np.stack([np.diag(row) for row in given]),
        "spherical": lambda: np.stack([v * np.eye(3) for v in given]),
    }
    np.testing.assert_array_equal(dense, expected[kind]())
    single = jax.tree.map(lambda leaf: leaf if kind == "tied" and leaf is given else leaf[0], params.components)
    alone = report.components_of(Single(Gaussian(kind)), single)
    assert (alone.weights.shape, alone.mean.shape, alone.covariance.shape) == ((1,), (1, 3), (1, 3, 3))
    np.testing.assert_array_equal(alone.covariance[0], dense[0])


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_ellipse_holds_its_level(level):
    mean, covariance = np.array([1.0, -2.0]), np.array([[2.0, 0.7], [0.7, 0.5]])
    deviation = plot.ellipse(mean, covariance, level) - mean[:, None]
    squared = (deviation * np.linalg.solve(covariance, deviation)).sum(axis=0)
    np.testing.assert_allclose(squared, chi2.ppf(level, 2))


def test_missingness_counts():
    y = np.array([[1, 2], [np.nan, 3], [4, np.nan], [5, np.nan], [np.nan, np.nan]])
    ax = plot.plot_missingness(y, names=["a", "b"])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["both (1)", "only a (2)", "only b (1)"]
    assert "1 of 5 rows show neither" in ax.get_title()


def test_uncertainty():
    r = np.array([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(plot.uncertainty(r), [0, 1, 0.5])
    np.testing.assert_array_equal(plot.uncertainty(np.ones((3, 1))), 0)


def test_history_shows_every_restart():
    ax = plot.plot_history(make_fit(None, 2, restarts=8))
    render(ax.figure)
    assert len(ax.lines) == 8
    assert "1 of 8" in ax.get_title()
    gap = ax.lines[0].get_ydata()
    np.testing.assert_allclose(gap[:5], np.geomspace(50, 1e-9, 30)[:5], rtol=1e-6)


def test_history_of_a_start_that_had_collapsed():
    start = make_fit(None, 2, restarts=1)
    nothing = np.full((1, 256), np.nan)
    render(plot.plot_history(start._replace(restart_histories=nothing, gap=np.float64(np.inf))).figure)


def test_axes_in_axes_out():
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    params = make_params("full", 2, 2)
    model, y = Mixture(Gaussian(), 2), make_data(30, 2)
    assert plot.plot_missingness(y, ax) is ax
    assert plot.plot_components(model, params, y, ax) is ax
    assert plot.plot_history(make_fit(params, 2), figure.add_subplot()) is not ax


def test_many_rows_are_thinned():
    y = np.random.default_rng(0).normal(size=(20000, 2))
    ax = plot.plot_components(Single(Gaussian()), GaussianParams(np.zeros(2), np.eye(2)), y)
    assert len(ax.collections[0].get_offsets()) == 5000


def test_refusals(fitted):
    _, found, y = fitted
    with pytest.raises(ValueError, match="names: found 1 for 2 columns"):
        plot.plot_missingness(y, names=["a"])

    class Other:
        pass

    class Model:
        family = Other()

    with pytest.raises(TypeError, match="found family Other"):
        plot.plot_components(Model(), found.params, y)


# the report


def test_summary(fitted):
    model, found, y = fitted
    text = report.summarize(model, found, y, names=["height", "width"])
    assert "150 rows, 2 columns: height, width" in text
    assert "corr height, width" in text
    assert f"{float(found.log_likelihood):.4f}" in text
    assert max(map(len, text.splitlines()[8:])) < 100


def test_criteria_count_rows(fitted):
    model, found, y = fitted
    weights = np.full(150, 2.0)
    measured = report.criteria(model, found, y, weights)
    seen = (~np.isnan(y).all(axis=1)).sum()
    assert (measured.n_rows, measured.n, measured.n_parameters) == (seen, 300, 11)
    assert measured.bic == pytest.approx(-2 * float(found.log_likelihood) + 11 * np.log(300))


def test_wide_tables_are_cut():
    model, params = Mixture(Gaussian("diagonal"), 20), make_params("diagonal", 20, 50)
    text = report.parameter_table(report.components_of(model, params), [f"x{j}" for j in range(50)])
    assert text.count("component") == 3
    assert max(map(len, text.splitlines())) < 120


def test_numbers():
    texts = {0.0: "0.0000", 1.25: "1.2500", 1e-7: "1.000e-07", np.nan: "nan", -2e6: "-2.000e+06"}
    assert [report.number(value) for value in texts] == list(texts.values())
