"""Pictures are drawn without a warning, nothing in them covers or cuts anything else, and they show the right numbers."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import chi2, poisson

import jaxem
from jaxem import (
    Bernoulli,
    Categorical,
    Fit,
    Gaussian,
    GaussianParams,
    Interval,
    LinearRegression,
    Mixture,
    MixtureOfExperts,
    MixtureParams,
    Poisson,
    Product,
    Regression,
    Single,
    Status,
    Stop,
    fit,
    leaves,
    plot,
)  # fmt: skip
from jaxem.plots.evaluate import fitted_means
from jaxem.view import view_of

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
        passes=np.int32(99), history=histories[0], history_stride=np.int32(1),
        history_passes=np.arange(1, 257, dtype=np.int32), gap=np.float64(1e-9),
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


def sizes():
    for kind in KINDS:
        for n_components in (1, 2, 20):
            for d in (1, 2):
                quick = kind == "full" or (n_components, d) == (2, 2)
                yield pytest.param(kind, n_components, d, marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(("kind", "n_components", "d"), list(sizes()))
def test_components(kind, n_components, d):
    model, params = Mixture(Gaussian(kind), n_components), make_params(kind, n_components, d)
    ax = plot.plot_components(model, params, make_data(60, d))
    render(ax.figure)
    renderer = ax.figure.canvas.get_renderer()
    numbers = [text for text in ax.texts if text.get_text().isdecimal()]
    expected = [] if n_components == d == 1 else list(range(n_components))
    assert sorted(int(text.get_text()) for text in numbers) == expected
    assert_apart([text.get_window_extent(renderer) for text in numbers], ax)


@pytest.mark.parametrize("kind", KINDS)
def test_components_of_every_kind_have_dense_covariances(kind):
    params = make_params(kind, 3, 3)
    dense = leaves.components_of(Mixture(Gaussian(kind), 3), params).covariance
    given = params.components.covariance
    expected = {
        "full": lambda: given,
        "tied": lambda: np.stack([given] * 3),
        "diagonal": lambda: np.stack([np.diag(row) for row in given]),
        "spherical": lambda: np.stack([v * np.eye(3) for v in given]),
    }
    np.testing.assert_array_equal(dense, expected[kind]())
    single = jax.tree.map(lambda leaf: leaf if kind == "tied" and leaf is given else leaf[0], params.components)
    alone = leaves.components_of(Single(Gaussian(kind)), single)
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
    with pytest.raises(TypeError, match="give a Regression"):
        plot.plot_regression(Mixture(Gaussian(), 2), found.params, y)
    with pytest.raises(TypeError, match="no probabilities of items"):
        plot.plot_profiles(Mixture(Gaussian(), 2), found.params, y)
    with pytest.raises(TypeError, match="no loadings"):
        plot.plot_loadings(Mixture(Gaussian(), 2), found.params, y)
    with pytest.raises(TypeError, match="no directions"):
        plot.plot_directions(Mixture(Gaussian(), 2), found.params, y)


# any family: what is drawn follows from the data and the params, which come from `init` so that nothing has to be fitted


def items(n, d, seed=2):
    rng = np.random.default_rng(seed)
    half = np.arange(n) % 2
    return {f"item {j}": np.where(rng.random(n) < 0.2 + 0.6 * half, "yes", "no") for j in range(d)}


def responses(n, p, seed=4, gate=0, intervals=False):
    import pandas

    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    y = 2 + np.where(np.arange(n) % 2, 1.5, -1.0) * (x[:, 0] if p else 0) + 0.3 * rng.normal(size=n)
    frame = pandas.DataFrame({f"covariate {j}": x[:, j] for j in range(p)}) if p else None
    gated = pandas.DataFrame({f"gate {j}": rng.normal(size=n) for j in range(gate)}) if gate else None
    given = Interval(np.where(y <= 1, -np.inf, y), np.maximum(y, 1)) if intervals else pandas.Series(y, name="response")
    return Regression(given, frame, gate=gated)


def directions(n, d):
    rng = np.random.default_rng(8)
    y = rng.normal(size=(n, d)) + np.where(np.arange(n) % 2, 2.0, -2.0)[:, None]
    return y / np.linalg.norm(y, axis=1, keepdims=True)


def frame_of(columns):
    import pandas

    return pandas.DataFrame(columns)


def mixed(n):
    rng = np.random.default_rng(6)
    return {"size": rng.normal(size=(n, 2)), "visits": rng.poisson(3, (n, 1)), "ward": frame_of({"ward": items(n, 1)["item 0"]})}


def times(n, seed=7):
    rng = np.random.default_rng(seed)
    time, end = rng.weibull(1.5, n), rng.exponential(2, n)
    return Regression(Interval(np.minimum(time, end), np.where(time < end, time, np.inf)), (np.arange(n) % 2.0)[:, None])


def family(name, *args, **keywords):
    return lambda: getattr(jaxem, name)(*args, **keywords)


QUICK = ("counts", "classes", "line", "survival", "factors", "circle")  # kinds that are drawn in every run


def draw(name, *args):
    return getattr(np.random.default_rng(0), name)(*args)


DENSITIES, PROFILES = "Components and their sum (dashed)", "Profiles of the classes"
KINDS_OF_PICTURES = {
    "counts": (family("Poisson"), lambda: draw("poisson", 4, (60, 1)), [DENSITIES]),
    "many_counts": (family("Poisson"), lambda: draw("poisson", 400, (60, 12)), [DENSITIES]),
    "durations": (family("Gamma"), lambda: draw("gamma", 2, 1, (60, 2)), [DENSITIES]),
    "classes": (family("Categorical"), lambda: frame_of(items(60, 12)), [PROFILES]),
    "categories": (family("Categorical"), lambda: np.random.default_rng(0).integers(0, 4, (60, 12)), [PROFILES]),
    "yes_or_no": (family("Bernoulli"), lambda: np.random.default_rng(0).integers(0, 2, (60, 3)), [PROFILES]),
    "line": (family("LinearRegression"), lambda: responses(60, 1), ["Mean given the covariate in each component", "Coefficients"]),
    "plane": (family("LinearRegression"), lambda: responses(60, 12), ["Observed against fitted", "Coefficients"]),
    "intercept": (family("LinearRegression"), lambda: responses(60, 0), [DENSITIES]),
    "groups": (lambda: Product(size=Gaussian(), visits=Poisson(), ward=Categorical()), lambda: mixed(60), [PROFILES]),
    "heavy_tails": (family("StudentT"), lambda: make_data(60, 2), ["Uncertainty of assignment"]),
    "factors": (family("FactorGaussian", 2), lambda: np.random.default_rng(0).normal(size=(60, 6)), ["Loadings of component 0"]),
    "cut_off": (
        family("CensoredRegression"), lambda: responses(60, 1, intervals=True), ["Mean given the covariate in each component"]
    ),
    "survival": (family("CensoredRegression", "weibull"), lambda: times(60), ["Survival: model (thick), data (thin)"]),
    "circle": (family("VonMisesFisher"), lambda: directions(60, 2), ["Directions: rows, and means (arrows)"]),
    "sphere": (family("VonMisesFisher"), lambda: directions(60, 3), ["Directions: rows, and means (crosses)"]),
    "directions": (family("VonMisesFisher"), lambda: directions(60, 12), ["Mean directions"]),
}  # fmt: skip


def each_kind():
    for kind in KINDS_OF_PICTURES:
        for states in (1, 2, 12):
            marks = [] if states == 2 and kind in QUICK else pytest.mark.thorough
            yield pytest.param(kind, states, marks=marks, id=f"{kind}-{states}")


@pytest.mark.parametrize(("kind", "states"), list(each_kind()))
def test_overview_of_every_kind(kind, states):
    make, data, titles = KINDS_OF_PICTURES[kind]
    model, y = Mixture(make(), states), data()
    figure = plot.figure_overview(model, make_fit(model.init(0, y), states), y)
    render(figure)
    found = [ax.get_title() for ax in figure.axes]
    if states > 1:
        assert set(titles) <= set(found)
        assert "Responsibilities" in found
    for ax in figure.axes:
        if ax.get_title():
            assert ax.get_xlabel()


@pytest.mark.parametrize("gate", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_gate(gate):
    model, y = MixtureOfExperts(LinearRegression(), 2), responses(60, 1, gate=gate)
    params = model.init(0, y)
    figure = plot.figure_overview(model, make_fit(params, 2), y)
    render(figure)
    ax = next(ax for ax in figure.axes if ax.get_title() == "Shares given the gate")
    shares = np.stack([line.get_ydata() for line in ax.lines[:2]])
    np.testing.assert_allclose(shares.sum(axis=0), 1)


def test_densities_are_those_of_the_family():
    """Dots of a Poisson mixture are weights times the probabilities that scipy gives, though other columns are there."""
    y = np.random.default_rng(0).poisson(4, (50, 2)).astype(float)
    model = Mixture(Poisson(), 2)
    params = MixtureParams(np.array([0.3, 0.7]), jaxem.PoissonParams(np.array([[2.0, 9.0], [5.0, 1.0]])))
    ax = plot.plot_densities(model, params, y, column=1)
    for k, (share, rate) in enumerate([(0.3, 9.0), (0.7, 1.0)]):
        x, density = ax.lines[k].get_data()
        np.testing.assert_allclose(density, share * poisson.pmf(x, rate), rtol=1e-9)
        np.testing.assert_array_equal(x, np.round(x))


@pytest.mark.parametrize("name", ["LinearRegression", "PoissonRegression", "LogisticRegression"])
def test_fitted_means(name):
    """Means of a regression are those of its link, whether the family says them or they are summed over its density."""
    links = {"PoissonRegression": np.exp, "LogisticRegression": lambda eta: 1 / (1 + np.exp(-eta))}
    model, data = Single(getattr(jaxem, name)()), responses(40, 2)
    data = jaxem.Regression((np.asarray(data.y) > 2).astype(float), data.x)
    params = model.init(0, data)
    eta = np.asarray(data.x) @ np.asarray(params.coefficients) + np.asarray(params.intercept)
    means = fitted_means(model, params, data, view_of(data))
    np.testing.assert_allclose(means[:, 0], links.get(name, lambda eta: eta)(eta), rtol=2e-3, atol=2e-3)


def test_empirical_survival_is_kaplan_meier():
    """Times 1, 2+, 3, 4+, 5: 4/5, 4/5 * 2/3, and the last dies."""
    time, seen = np.arange(1.0, 6), np.array([1, 0, 1, 0, 1])
    at, alive = plot.empirical_survival(time, np.where(seen == 1, time, np.inf))
    np.testing.assert_array_equal(at, [0, 1, 3, 5])
    np.testing.assert_allclose(alive, [1, 0.8, 0.8 * 2 / 3, 0], atol=1e-5)


def test_profiles_name_items_and_classes():
    y = frame_of(items(60, 3))
    model = Mixture(Categorical(), 2)
    ax = plot.plot_profiles(model, model.init(0, y), y)
    assert ax.get_ylabel() == "probability of 'yes'"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["item 0", "item 1", "item 2"]
    assert [text.get_text()[:7] for text in ax.get_legend().get_texts()] == ["class 0", "class 1"]


def test_bernoulli_profile_is_its_probability():
    y = np.random.default_rng(0).integers(0, 2, (60, 4))
    model = Mixture(Bernoulli(), 2)
    params = model.init(0, y)
    ax = plot.plot_profiles(model, params, y)
    np.testing.assert_allclose([line.get_ydata() for line in ax.lines], params.components.probability)


PAST = [plot.plot_series, plot.plot_smoothed, plot.plot_transitions, plot.plot_regimes, plot.plot_state_space]


@pytest.mark.parametrize("draw", PAST)
def test_models_without_a_past_have_no_pictures_of_it(draw):
    model = Mixture(Bernoulli(), 2)
    with pytest.raises(TypeError, match="model: Mixture has no"):
        draw(model, None, np.zeros((4, 1)))
