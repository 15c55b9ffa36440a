"""Pictures of standard errors, profiles, influence and missing information: right numbers, and nothing covers anything else."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from test_plot import render

import jaxem
from jaxem import Inference, Influence, Poisson, Profile, Rate, Single, plot
from jaxem.canvas import COLOURS
from jaxem.inference.labels import Cells
from jaxem.plots.likelihood_profile import quadratic

Z = 1.959963984540054


def inference(names, scale="plain", method="oakes", values=None, errors=None, doubled=None):
    count = len(names)
    rng = np.random.default_rng(count)
    values = rng.uniform(0.2, 0.8, count) if values is None else np.asarray(values, float)
    errors = 0.1 * np.abs(values) if errors is None else np.asarray(errors, float)
    doubled = np.zeros(count, bool) if doubled is None else np.array(doubled)
    return Inference(
        params=tuple(values), method=method, level=0.95, cells=Cells(tuple(names), values, (scale,) * count, doubled),
        errors=errors, unconstrained_covariance=np.eye(count), natural=np.eye(count), boundary=(), eigenvalues=np.ones(count),
        rate=0.5, slowest="", gradient_norm=0.0, distance=0.0, remarks=(),
    )  # fmt: skip


def segments(ax):
    """(lines, 3) of each interval: from, to, height."""
    found = []
    for collection in ax.collections:
        found += [(line[0, 0], line[1, 0], line[0, 1]) for line in collection.get_segments()]
    return np.array(found)


def texts(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


# intervals


def test_intervals_are_those_told():
    found = inference(["mean[0, a]", "mean[1, a]"], values=[-2.0, 3.0], errors=[0.5, 1.0])
    ax = plot.plot_intervals(found)
    render(ax.figure)
    np.testing.assert_allclose(segments(ax), [[-2 - 0.5 * Z, -2 + 0.5 * Z, 0], [3 - Z, 3 + Z, 1]], atol=1e-9)
    assert texts(ax.yaxis) == ["0, a", "1, a"]
    assert ax.get_title() == "mean"
    assert ax.get_xlabel() == "95 % intervals"
    assert ax.get_ylim() == (1.5, -0.5)  # the first on top


def test_methods_stand_beside_each_other():
    given = {name: inference(["rate"], "log", errors=[0.1 * i], values=[1.0]) for i, name in enumerate(("a", "b", "c"), 1)}
    ax = plot.plot_intervals(given, level=0.5)
    render(ax.figure)
    found = segments(ax)
    reach = 0.6744897501960817 * 0.1 * np.arange(1, 4)
    np.testing.assert_allclose(found[:, :2], np.exp(np.stack([-reach, reach], axis=1)), rtol=1e-9)
    assert len(set(found[:, 2])) == 3
    assert np.abs(found[:, 2]).max() < 0.5  # within the line of the param
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["a", "b", "c"]


def test_params_without_error_are_open_and_doubled_ones_left_out():
    names = [f"covariance[0, {a}, {b}]" for a in "xy" for b in "xy"]
    found = inference(names, errors=[0.1, 0.1, 0.1, np.nan], doubled=[False, True, False, False])
    ax = plot.plot_intervals(found)
    render(ax.figure)
    assert texts(ax.yaxis) == ["0, x, x", "0, y, x", "0, y, y"]
    assert len(segments(ax)) == 2
    (open_,) = [line for line in ax.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert list(open_.get_ydata()) == [2.0]


def test_one_endless_interval_does_not_hide_the_others():
    errors = np.full(9, 0.1)
    errors[4] = 1e6
    ax = plot.plot_intervals(inference([f"mean[{k}]" for k in range(9)], errors=errors))
    low, high = ax.get_xlim()
    assert high - low < 20
    arrows = [
        line.get_marker() for line in ax.lines if line.get_marker() in "<>" and len(line.get_xdata()) and line.get_ls() == "None"
    ]
    assert sorted(arrows) == ["<", ">"]
    render(ax.figure)


def test_log_scale_where_sizes_differ():
    names = [f"rate[{k}]" for k in range(3)]
    assert plot.plot_intervals(inference(names, "log", values=[0.01, 1, 90])).get_xscale() == "log"
    assert plot.plot_intervals(inference(names, "log", values=[1, 1.5, 2])).get_xscale() == "linear"
    assert plot.plot_intervals(inference(names, "plain", values=[0.01, 1, 90])).get_xscale() == "linear"


@pytest.mark.parametrize("components", [1, 3, 20])
def test_figure_has_a_panel_for_each_leaf(components):
    columns = [f"$a$ long name, of column {j}" for j in range(3)]
    names = [f"weights[{k}]" for k in range(components)]
    names += [f"mean[{k}, {column}]" for k in range(components) for column in columns]
    names.append("dof")
    methods = {name: inference(names, method=name) for name in ("oakes", "sandwich", "bootstrap")}
    figure = plot.figure_intervals(methods)
    render(figure)
    titles = [ax.get_title().split(" (")[0] for ax in figure.axes]
    assert list(dict.fromkeys(titles)) == ["weights", "mean", "dof"]
    shown = [text for ax in figure.axes for text in texts(ax.yaxis)]
    assert len(shown) == len(names)
    assert len(set(texts(figure.axes[1].yaxis))) == len(texts(figure.axes[1].yaxis))  # cut names can be told apart
    assert sum(len(segments(ax)) for ax in figure.axes) == 3 * len(names)
    for ax in figure.axes:
        labels = [label.get_window_extent() for label in ax.get_yticklabels()]
        assert not any(a.overlaps(b) for a, b in pairwise(labels))


def test_sixty_params_in_given_axes():
    figure = Figure(figsize=(6, 14), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    assert plot.plot_intervals(inference([f"mean[{k}]" for k in range(60)]), ax) is ax
    render(figure)
    labels = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert len(labels) == 60
    assert not any(a.overlaps(b) for a, b in pairwise(labels))


BAD = {
    "none": [{}, {}, "standard_errors returned"],
    "something": [{"oakes": 3}, {}, "standard_errors returned"],
    "others": [{"a": inference(["x"]), "b": inference(["y"])}, {}, "'b' tells of other params than 'a'"],
    "leaves": [inference(["a[0]", "b[0]"]), {}, "leaf: there are a, b"],
    "leaf": [inference(["a[0]", "b[0]"]), {"leaf": "c"}, "leaf: found 'c'"],
    "level": [inference(["a"]), {"level": 95}, "level"],
}


@pytest.mark.parametrize("case", BAD)
def test_bad_intervals(case):
    found, more, expected = BAD[case]
    with pytest.raises(ValueError, match=expected):
        plot.plot_intervals(found, **more)


# profiles


def exact(estimate=3.0, n=10, lower=None, wald=None):
    """The profile of a Poisson mean, which is its likelihood."""
    se = 1 / np.sqrt(n * estimate)
    wald = (estimate * np.exp(-Z * se), estimate * np.exp(Z * se)) if wald is None else wald
    x = np.linspace(1.8, 4.6, 21)
    curve = n * (estimate * np.log(x) - x)
    lower = 2.04 if lower is None else lower
    return Profile("rate[$x$]", estimate, 0.95, lower, 4.2, x, curve, n * (estimate * np.log(estimate) - estimate), wald, ())


@pytest.mark.parametrize(
    ("wald", "moved"),
    [((2.0, 4.0), lambda x: x - 3), ((1.5, 6.0), lambda x: 3 * np.log(x / 3) / (3 * np.log(2)))],
)
def test_quadratic_reaches_its_limits(wald, moved):
    """It is 0 at the estimate, -z^2 / 2 at Wald's limits, and quadratic on the scale on which they are symmetric."""
    found, x = exact(wald=wald), np.array([1.7, 3.0, 4.1])
    np.testing.assert_allclose(quadratic(found, np.array([*wald, 3.0])), [-Z * Z / 2, -Z * Z / 2, 0], atol=1e-9)
    np.testing.assert_allclose(quadratic(found, x), -0.5 * (Z * moved(x)) ** 2, rtol=1e-9, atol=1e-12)


def test_quadratic_of_a_probability():
    odds = np.exp(np.array([-2.0, -1.0, 0.0]))
    ends = odds / (1 + odds)
    found = Profile("weights[0]", ends[1], 0.95, 0.1, 0.5, ends, np.zeros(3), 0.0, (ends[0], ends[2]), ())
    np.testing.assert_allclose(quadratic(found, np.array([1 / (1 + np.exp(1.5))])), [-0.5 * (0.5 * Z) ** 2], rtol=1e-9)


def test_profile_shows_the_fall_and_its_limits():
    found = exact()
    ax = plot.plot_profile(found)
    render(ax.figure)
    (curve,) = [line for line in ax.lines if line.get_label().startswith("profile")]
    np.testing.assert_allclose(curve.get_ydata(), found.log_likelihoods - found.highest)
    ends = {float(line.get_xdata()[0]) for line in ax.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] > 1}
    assert ends == {*found.interval, *found.wald}
    assert ax.get_xlabel() == r"rate[\$x\$]"


def test_open_limit_is_not_drawn():
    ax = plot.plot_profile(exact(lower=0.0))
    render(ax.figure)
    assert "profile 0 to 4.2" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert ax.get_xlim()[0] > 1.7


def test_profile_without_points():
    found = exact()
    with pytest.raises(ValueError, match="points=21"):
        plot.plot_profile(Profile("x", 3.0, 0.95, 2.0, 4.0, found.values[:0], found.log_likelihoods[:0], 0.0, (2.0, 4.0), ()))


# influence


def influence(distance, labels=None):
    n = len(distance)
    ones, cells = np.ones(n), Cells(("rate",), np.ones(1), ("log",), np.zeros(1, bool))
    labels = np.arange(n) if labels is None else np.asarray(labels)
    return Influence(
        (1.0,), cells, labels, ones, ones, np.zeros((n, 1)), ones, ones - distance, np.asarray(distance, float), (), ()
    )


@pytest.mark.parametrize("n", [11, 40, 700])
def test_influence_names_the_largest(n):
    distance = np.random.default_rng(n).exponential(size=n)
    distance[n // 2 : n // 2 + 4] += 5  # neighbours, whose names would cover each other
    ax = plot.plot_influence(influence(distance))
    render(ax.figure)
    named = [text.get_text() for text in ax.texts]
    assert named == [str(i) for i in np.argsort(-distance)[:5]]
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    for i, text in zip(np.argsort(-distance)[:5], ax.texts, strict=True):
        assert text.get_position()[1] > distance[i]
    assert any(line.get_label() == f"mean {distance.mean():.3g}" for line in ax.lines)


def test_influence_of_groups():
    ax = plot.plot_influence(influence([0.1, 0.4, 0.2], ["$site$ one", "a very long name of the second site", "c"]), count=2)
    render(ax.figure)
    assert texts(ax.xaxis) == [r"\$site\$ one", "a very long name …", "c"]
    raised = [line.get_xdata() for line in ax.lines if line.get_color() == COLOURS[1]]
    assert [list(x) for x in raised] == [[1, 2]]
    render(plot.plot_influence(influence([0.3])).figure)
    render(plot.plot_influence(influence(np.arange(9) / 10, [f"the {i}th of the many sites" for i in range(9)])).figure)


def test_influence_of_many_rows_draws_the_largest():
    distance = np.random.default_rng(0).exponential(size=20000)
    ax = plot.plot_influence(influence(distance))
    assert "15000 smaller ones not drawn" in ax.get_title()
    drawn = np.concatenate([line.get_ydata() for line in ax.lines if line.get_marker() == "o"])
    assert len(drawn) == 5000
    assert drawn.min() == np.sort(distance)[-5000]
    render(ax.figure)


def test_unknown_influence():
    with pytest.raises(ValueError, match="no distance is known"):
        plot.plot_influence(influence(np.full(3, np.nan)))


# missing information


def rate(values, slowest="+mean[0, $width$], -weights[1]", dense=True):
    values = np.asarray(values, float)
    radius = float(values[0]) if len(values) else 0.0
    return Rate(radius, values, slowest, np.ones(1), ("mean",), (), dense, 0.0, 0.0, ())


@pytest.mark.parametrize(
    "values", [[0.7], [0.9, 0.5, 0.1, 1e-17], np.linspace(0.99, 0, 12), np.linspace(0.99, 0, 150), [1.4, 0.2, -1e-16]]
)
def test_missing_information_as_bars(values):
    ax = plot.plot_missing_information(rate(values, slowest=", ".join(["+covariance[0, height, a long name]"] * 3)))
    render(ax.figure)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], values)
    assert [to_hex(bar.get_facecolor()).upper() for bar in ax.patches[:2]] == [COLOURS[1], COLOURS[0]][: len(values)]
    assert ax.get_ylim()[1] > max(*values, 1)
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    assert f"{values[0]:.4f}" in ax.get_title()


def test_nothing_missing():
    ax = plot.plot_missing_information(rate([1e-17]))
    render(ax.figure)
    assert "Nothing is missing" in ax.get_title()
    assert ax.get_legend() is None


def test_unknown_rate():
    for values in ([], [np.nan]):
        with pytest.raises(ValueError, match="no fraction is known"):
            plot.plot_missing_information(rate(values))


# of a fit


def test_pictures_of_a_fit():
    """All of them from what the library returns, for a Poisson mean whose error, profile and distances are known."""
    y = np.array([[2.0], [4.0], [1.0], [7.0], *[[3.0]] * 8])
    model = Single(Poisson())
    fit = jaxem.fit(model, y)
    mean, n = y.mean(), len(y)
    told = jaxem.standard_errors(model, fit.params, y)
    ax = plot.plot_intervals(told)
    reach = Z / np.sqrt(mean * n)
    np.testing.assert_allclose(segments(ax)[0, :2], mean * np.exp([-reach, reach]), rtol=1e-4)
    drawn = plot.plot_profile(jaxem.profile(model, fit, y, told.names[0], points=5))
    (curve,) = [line for line in drawn.lines if line.get_label().startswith("profile")]
    x = np.asarray(curve.get_xdata())
    np.testing.assert_allclose(curve.get_ydata(), n * (mean * np.log(x / mean) - x + mean), rtol=1e-3, atol=1e-3)
    influential = plot.plot_influence(jaxem.influence(model, fit.params, y), count=1)
    assert [text.get_text() for text in influential.texts] == ["3"]
    missing = plot.plot_missing_information(jaxem.convergence_rate(model, fit.params, y))
    assert missing.patches[0].get_height() == pytest.approx(0, abs=1e-5)
    for axes in (ax, drawn, influential, missing):
        render(axes.figure)
