"""Pictures of how well a model fits: residuals, and components over pairs of columns, with nothing covered or cut."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats
from table import some
from test_plot import make_data, make_fit, make_params, render

from jaxem import (
    Bernoulli,
    BernoulliParams,
    Gaussian,
    GaussianParams,
    LinearRegression,
    LinearRegressionParams,
    Mixture,
    Regression,
    Single,
    plot,
    quantile_residuals,
)  # fmt: skip
from jaxem.canvas import short
from jaxem.plots.residuals import order_band
from jaxem.plots.survival import empirical_survival

LONG = "a rather long name of a column {}"


def gaussian(n, d):
    y = np.random.default_rng(0).normal(size=(n, d))
    return Single(Gaussian("diagonal")), GaussianParams(np.zeros(d), np.ones(d)), y


def curves(ax):
    """(x, y) of the lines that are no straight ones."""
    return [line.get_xydata() for line in ax.lines if len(line.get_xdata()) > 2]


# residuals


def test_band_is_that_of_order_statistics():
    for n in (1, 30, 3000):
        ranks = np.unique(np.round(np.linspace(1, n, 9)))
        for found, p in zip(order_band(n, ranks), (0.025, 0.975), strict=True):
            np.testing.assert_allclose(found, stats.beta.ppf(p, ranks, n + 1 - ranks), rtol=1e-9)


def test_residuals_are_sorted_against_normal_quantiles():
    model, params, y = gaussian(30, 2)
    y[3, 1] = np.nan
    ax = plot.plot_residuals(model, params, y, names=[LONG.format(j) for j in range(2)])
    render(ax.figure)
    for points, column in zip(curves(ax), y.T, strict=True):
        own = np.sort(column[~np.isnan(column)])
        np.testing.assert_allclose(points[:, 1], own, rtol=1e-6)
        medians = stats.beta.ppf(0.5, np.arange(1, len(own) + 1), np.arange(len(own), 0, -1))
        np.testing.assert_allclose(points[:, 0], stats.norm.ppf(medians), atol=0.02)
    label = ax.get_legend().get_texts()[0].get_text()
    assert label == "95% envelope"


@pytest.mark.slow
def test_many_columns_are_one_curve_and_the_farthest():
    model, params, y = gaussian(600, 8)
    y[:, 5] *= 3
    ax = plot.plot_residuals(model, params, y)
    render(ax.figure)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["95% envelope", "all 8 columns", "x5, the farthest"]
    assert curves(ax)[1][-1, 1] == pytest.approx(y[:, 5].max(), rel=1e-6)  # far cells are not thinned out
    assert max(map(len, curves(ax))) < 400


def test_cells_beyond_the_model_are_counted():
    model, params = Single(Bernoulli()), BernoulliParams(np.zeros(1))
    ax = plot.plot_residuals(model, params, np.array([[0.0], [0.0], [1.0]]))
    assert "1 cells beyond" in ax.get_title()
    with pytest.raises(ValueError, match="no cell has a residual"):
        plot.plot_residuals(model, params, np.full((2, 1), np.nan))
    with pytest.raises(ValueError, match="names: found 2 for 1 columns"):
        plot.plot_residuals(model, params, np.zeros((3, 1)), names=["a", "b"])


@pytest.mark.slow
def test_residuals_against_what_explains_them():
    """Means of slices are those of the residuals in them; a variance that grows is seen, and so is a covariate by its name."""
    x = np.linspace(0, 1, 60)
    data = Regression(2 * x + np.where(np.arange(60) < 30, 0.5, -0.5), x[:, None])
    model = Single(LinearRegression())
    params = LinearRegressionParams(np.array([2.0]), np.array(0.0), np.array(0.25))
    z = quantile_residuals(model, params, data)[:, 0]
    for by, values in ((None, 2 * x), ("x", x), ("order", np.arange(60)), (x**2, x**2)):
        ax = plot.plot_residuals_against(model, params, data, by)
        render(ax.figure)
        dots = ax.collections[0].get_offsets()
        np.testing.assert_allclose(np.sort(dots[:, 0]), np.sort(values), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(dots[:, 1], z)
        middles = [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "D"]
        np.testing.assert_allclose(middles, z.reshape(6, 10).mean(axis=1), rtol=1e-9)
    with pytest.raises(ValueError, match="by: found 'unknown'"):
        plot.plot_residuals_against(model, params, data, "unknown")
    with pytest.raises(ValueError, match="by: found shape"):
        plot.plot_residuals_against(model, params, data, x[:5])
    with pytest.raises(ValueError, match="by: there are no covariates"):
        plot.plot_residuals_against(*gaussian(30, 2), "fitted")


# components


@pytest.mark.parametrize(("d", "n_components"), some([(1, 3), (3, 2), (12, 20)], [(3, 2)]))
def test_corner(d, n_components):
    """At most five columns; each pair once, each with all rows and components; nothing covers anything else."""
    y = make_data(40, d)
    figure = plot.figure_corner(
        Mixture(Gaussian(), n_components), make_params("full", n_components, d), y, names=[LONG.format(j) for j in range(d)]
    )
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height(physical=True)
    shown = [ax for ax in figure.axes if ax.axison]
    count = min(d, 5)
    assert len(shown) == count * (count + 1) // 2
    boxes = [ax.get_tightbbox(renderer) for ax in shown]
    legend = figure.axes[count - 1].get_legend() if count > 1 else figure.legends[0]
    boxes.append(legend.get_window_extent(renderer))
    for i, box in enumerate(boxes):
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
        for other in boxes[:i]:
            assert min(box.x1, other.x1) - max(box.x0, other.x0) < 2 or min(box.y1, other.y1) - max(box.y0, other.y0) < 2
    if count > 1:
        outlines = [line for line in shown[1].lines if len(line.get_xdata()) == 121]
        assert len(outlines) == n_components * (2 if n_components <= 8 else 1)


@pytest.mark.slow
def test_corner_chooses_the_columns_that_tell_components_apart():
    mean = np.zeros((2, 8))
    mean[1, [6, 1, 3, 4, 7]] = 3.0
    params = make_params("diagonal", 2, 8)
    params = params._replace(components=GaussianParams(mean, np.ones((2, 8))))
    model, y = Mixture(Gaussian("diagonal"), 2), make_data(40, 8)
    labels = [ax.get_xlabel() for ax in plot.figure_corner(model, params, y).axes if ax.get_xlabel()]
    assert labels == ["x1", "x3", "x4", "x6", "x7"]
    labels = [ax.get_xlabel() for ax in plot.figure_corner(model, params, y, columns=["x5", 2]).axes if ax.get_xlabel()]
    assert labels == ["x5", "x2"]
    for columns, what in ((["x9"], "none named 'x9'"), ([9], "found 9 of 8"), ([], "found none")):
        with pytest.raises(ValueError, match=what):
            plot.figure_corner(model, params, y, columns=columns)


# the rest


def test_names_that_begin_alike_are_told_apart():
    names = [LONG.format(j) for j in range(12)]
    assert len(set(short(names))) == 12
    assert max(map(len, short(names))) == 18
    assert short(["a name that is far too long"]) == ["a name that is fa…"]


@pytest.mark.parametrize("restarts", [1, 200])
def test_restarts(restarts):
    ax = plot.plot_history(make_fit(make_params("full", 2, 2), 2, restarts))
    render(ax.figure)
    assert len(ax.lines) == restarts


def test_patterns_of_many_columns():
    """Row counts beside thirty patterns do not cover one another, however long the names under them."""
    y = np.random.default_rng(0).normal(size=(400, 6))
    y[np.random.default_rng(1).random(y.shape) < 0.3] = np.nan
    import pandas

    ax = plot.plot_patterns(pandas.DataFrame(y, columns=[LONG.format(j) for j in range(6)]))
    render(ax.figure)
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_uncertainty_of_rows_with_holes():
    y = make_data(40, 3)
    r = np.random.default_rng(0).dirichlet(np.ones(3), size=40)
    ax = plot.plot_uncertainty(r, y)
    render(ax.figure)
    assert len(ax.collections[0].get_offsets()) == (~np.isnan(y[:, :2]).any(axis=1)).sum()


def test_survival_of_intervals_is_self_consistent():
    """The mass of each interval is the share of rows in it, each by its own probability; by the table of all rows and places."""
    rng = np.random.default_rng(3)
    lower = rng.uniform(0, 5, 25).round(1)
    upper = np.where(rng.random(25) < 0.3, np.inf, lower + rng.uniform(0.1, 3, 25).round(1))
    times, alive = empirical_survival(lower, upper)
    mass = np.append(-np.diff(alive), alive[-1])
    support = np.append(times[1:], np.inf)
    inside = (support > lower[:, None]) & (support <= upper[:, None])
    again = (inside * mass / (inside @ mass)[:, None]).mean(axis=0)
    np.testing.assert_allclose(again, mass, atol=2e-6)  # where steps end that change it by less than 1e-6
