"""Selection of models: criteria, cross-validation, the bootstrap of the likelihood ratio, agreement of groupings."""

import itertools
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.mixture import GaussianMixture
from table import collect

import jaxem
from jaxem import (
    GammaPrior,
    Gaussian,
    HiddenMarkov,
    HiddenMarkovParams,
    Mixture,
    MixturePrior,
    Poisson,
    Single,
    Status,
    Stop,
    adjusted_rand_index,
    bootstrap_likelihood_ratio,
    classification_table,
    criteria,
    cross_validate,
    fit,
    prepare,
    select,
    silhouette,
)  # fmt: skip
from jaxem.checks import as_key
from jaxem.families.gaussian_shapes import SHAPES
from jaxem.plots.criteria import plot_criteria
from jaxem.selection.entropy import entropy, state_entropy
from jaxem.selection.selection import CRITERIA
from jaxem.selection.side_by_side import alike, fit_side_by_side
from jaxem.settings import short_name

RNG = np.random.default_rng(3)
GROUP = np.repeat([0, 1], [36, 24])
Y = RNG.normal(size=(60, 2)) + np.array([[0.0, 0.0], [4.0, 3.0]])[GROUP]
COUNTS = RNG.poisson(np.array([2.0, 9.0])[GROUP])[:, None].astype(float)
REFERENCE = Path(__file__).parent / "reference" / "gmm_old_faithful"


@pytest.fixture(scope="module")
def found():
    return select((Mixture(Gaussian(shape), k) for shape, k in [("VVV", 1), ("VVV", 2), ("EII", 2)]), Y, restarts=3)


# the table


def test_criteria_are_those_of_scikit_learn(found):
    """scikit-learn computes them from our params."""
    for row, model, own in zip(found.table, found.models, found.fits, strict=True):
        kind = {"EII": "spherical", "VVV": "full"}[model.family.covariance]
        theirs = GaussianMixture(model.n_components, covariance_type=kind)
        theirs.weights_, theirs.means_ = np.asarray(own.params.weights), np.asarray(own.params.components.mean)
        covariance = np.asarray(own.params.components.covariance)
        if kind == "spherical":  # theirs has a variance for each component, and so K - 1 more params
            covariance = np.broadcast_to(covariance, model.n_components)
            theirs.precisions_cholesky_ = 1 / np.sqrt(covariance)
        else:
            theirs.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(covariance)).transpose(0, 2, 1)
        theirs.covariances_ = covariance
        more = model.n_components - 1 if kind == "spherical" else 0
        assert row.n_parameters == theirs._n_parameters() - more
        assert row.aic == pytest.approx(theirs.aic(Y) - 2 * more, abs=1e-6)
        assert row.bic == pytest.approx(theirs.bic(Y) - more * np.log(60), abs=1e-6)
        r = theirs.predict_proba(Y)
        uncertain = -(r * np.log(np.where(r > 0, r, 1))).sum()
        assert row.icl == pytest.approx(row.bic + 2 * uncertain, abs=1e-6)
        k = model.n_components
        assert row.entropy_r2 == pytest.approx(1 if k == 1 else 1 - uncertain / (60 * np.log(k)), abs=1e-8)


def test_the_other_criteria(found):
    for row in found.table:
        l, p, n = row.log_likelihood, row.n_parameters, 60  # noqa: E741
        assert row.aicc == pytest.approx(-2 * l + 2 * p * n / (n - p - 1))
        assert row.sabic == pytest.approx(-2 * l + p * np.log((n + 2) / 24))
        assert row.caic == pytest.approx(row.bic + p)


def test_the_best_has_the_least(found):
    place = int(np.argmin([row.bic for row in found.table]))
    assert found.best is found.models[place]
    assert found.best_fit is found.fits[place]
    assert (place, found.table[place].model) == (2, "Mixture(Gaussian(EII), 2)")  # what the data were drawn from
    assert (np.diff(found.values[found.order]) >= 0).all()


def test_table_and_text(found):
    frame = found.to_dataframe()
    assert list(frame.columns) == [
        "model", "log_likelihood", "n_parameters", "aic", "aicc", "bic", "sabic", "caic", "icl", "entropy_r2",
        "cv_log_likelihood", "status", "restarts_at_best", "seconds",
    ]  # fmt: skip
    assert list(frame.model) == [short_name(model) for model in found.models]
    text = str(found)
    assert "Lower is better for every criterion" in text
    assert "n = 60 rows" in text
    assert text.splitlines()[2].startswith("* Mixture(Gaussian(EII), 2)")
    assert max(map(len, text.splitlines())) < 160


@pytest.mark.slow
def test_higher_is_better_held_out():
    models = [Mixture(Poisson(), k) for k in (2, 1)]
    found = select(models, COUNTS, "cv_log_likelihood", restarts=3, folds=4)
    held = [cross_validate(model, COUNTS, 4, restarts=3).log_likelihood for model in models]
    assert [row.cv_log_likelihood for row in found.table] == held  # the same key, the same folds
    assert held[0] > held[1]
    assert found.best is models[0]
    assert "Lower is better for every criterion, but higher for 4-fold" in str(found)
    assert "higher is better" in plot_criteria(found).get_ylabel()


def test_what_fails_is_a_row():
    flat = np.where(GROUP[:, None] == 1, 2.0, Y)  # 24 equal rows: the likelihood of a full covariance has no bound
    few = select([Mixture(Gaussian("VVV"), 2), Mixture(Gaussian("VVV"), 61), Mixture(Gaussian("EII"), 2)], flat, restarts=3)
    collapsed, many, sound = few.table
    assert collapsed.status == "DEGENERATE"
    assert np.isfinite(collapsed.log_likelihood)
    assert all(np.isnan(getattr(collapsed, name)) for name in CRITERIA)
    assert "60 rows" in many.status
    assert "61 components" in many.status
    assert few.fits[1] is None
    assert sound.status in ("CONVERGED", "MAX_STEPS")
    assert few.best_index == 2
    lost = select([Mixture(Gaussian("VVV"), 61)], flat)
    with pytest.raises(ValueError, match="no model has a finite bic"):
        _ = lost.best
    assert "no model has a finite criterion" in str(lost)


@pytest.mark.slow
def test_models_that_differ_in_numbers_are_lanes(monkeypatch):
    """Three priors in one program, none of them by `fit`, each as `fit` makes it; progress goes from set to set."""
    models = [Mixture(Poisson(), 2, prior=MixturePrior(a, GammaPrior(b, 1.0))) for a, b in [(1.0, 1.0), (2.0, 9.0), (2.0, 1.0)]]
    alone, told = [], []
    module = sys.modules["jaxem.selection.select"]
    monkeypatch.setattr(module, "fit", lambda *given, **more: alone.append(1) or fit(*given, **more))
    before = jaxem.lanes.segment._cache_size()
    found = select([models[0], Single(Poisson()), *models[1:]], COUNTS, restarts=2, progress=told.append)
    assert len(alone) == 1  # that of the single state
    assert jaxem.lanes.segment._cache_size() <= before + 2
    own_names = [f"Mixture(Poisson, 2, prior) [{number}]" for number in (1, 2, 3)]
    assert [row.model for row in found.table] == [own_names[0], "Single(Poisson)", *own_names[1:]]
    for model, own in zip(models, [found.fits[i] for i in (0, 2, 3)], strict=True):
        theirs = fit(model, COUNTS, key=0, restarts=2)
        np.testing.assert_allclose(own.objective, theirs.objective, rtol=1e-12)
        np.testing.assert_allclose(own.params.components.rate, theirs.params.components.rate, rtol=1e-9)
        np.testing.assert_allclose(own.restart_log_likelihoods, theirs.restart_log_likelihoods, rtol=1e-9)
        assert own.status == theirs.status
    assert [(now.done, now.of, now.model) for now in told] == [
        (0, 4, "Mixture(Poisson, 2, prior) [1]"), (3, 4, "Single(Poisson)"), (4, 4, None),
    ]  # fmt: skip
    assert (told[0].best, told[-1].best) == (None, found.table[found.best_index].model)
    assert told[-1].best_value == found.values[found.best_index]


LANES = ("mixture-full-prior", "mixture-product-prior", "hidden-markov-prior", "mixture-poisson-by-name-tied")


@pytest.mark.thorough
@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in collect() if row.name in LANES])
def test_models_of_other_kinds_are_lanes(row):
    """A prior, or a value that is held, and the same with all numbers a quarter larger."""
    larger = jax.tree.map(lambda leaf: 1.25 * jnp.asarray(leaf), row.model)
    rows, stop = prepare(row.model, row.data(np.float64)), Stop(tolerance=1e-6, max_steps=30)
    assert alike([row.model, larger], [rows, rows]) == [[0, 1]]
    for model, own in zip((row.model, larger), fit_side_by_side([row.model, larger], rows, as_key(0), 2, stop), strict=True):
        theirs = fit(model, rows, key=0, restarts=2, stop=stop)
        assert (own.status, own.steps) == (theirs.status, theirs.steps)
        np.testing.assert_allclose(own.objective, theirs.objective, rtol=1e-10)
        np.testing.assert_allclose(own.restart_log_likelihoods, theirs.restart_log_likelihoods, rtol=1e-10)


@pytest.mark.slow
def test_old_faithful_is_as_mclust_says():
    y = np.loadtxt(REFERENCE / "data.csv", delimiter=",", skiprows=1)
    expected = json.loads((REFERENCE / "expected.json").read_text())
    values = {(each["model"], each["G"]): each for each in expected["fits"]}
    given = [("EEE", 2), ("EEE", 3)]
    chosen = select((Mixture(Gaussian(shape), k) for shape, k in given), y, restarts=6)
    for row, kind in zip(chosen.table, given, strict=True):
        assert row.n_parameters == values[kind]["n_params"]
        assert row.log_likelihood == pytest.approx(values[kind]["logLik"], abs=1e-4)
        assert row.bic == pytest.approx(values[kind]["BIC"], abs=2e-4)
    assert chosen.table[chosen.best_index].model == "Mixture(Gaussian(EEE), 3)"


@pytest.mark.thorough
def test_the_winner_of_all_shapes_is_that_of_mclust():
    """BIC of every shape at least as good as mclust's where its own fit is no spurious one; EEE, 3 wins (Scrucca et al. 2016)."""
    y = np.loadtxt(REFERENCE / "data.csv", delimiter=",", skiprows=1)
    expected = json.loads((REFERENCE / "expected.json").read_text())["best_by_BIC"]
    chosen = select((Mixture(Gaussian(shape), k) for shape in SHAPES for k in (1, 2, 3)), y, restarts=6)
    best = chosen.table[chosen.best_index]
    assert best.model == f"Mixture(Gaussian({expected['model']}), {expected['G']})"
    assert best.bic == pytest.approx(expected["BIC"], abs=2e-4)


# what is counted


def test_one_gaussian_has_two_parameters_in_one_column():
    assert {Mixture(Gaussian(shape), 1).n_parameters(1) for shape in SHAPES} == {2}


def test_n_counts_units():
    found = fit(Single(Poisson()), COUNTS, weights=np.full(60, 0.5))
    measured = criteria(Single(Poisson()), found, COUNTS, np.full(60, 0.5))
    assert (measured.n, measured.unit) == (30, "row")
    assert np.isfinite(measured.aicc)
    model = HiddenMarkov(Poisson(), 1)
    pieces, weights = np.split(COUNTS, [20, 30]), np.array([1.0, 2.0, 1.5])
    found = fit(model, pieces)
    assert criteria(model, found, pieces, weights)[1:3] == (4.5, 1)
    assert criteria(model, found, pieces, weights).unit == "sequence"
    alone = criteria(model, found, COUNTS)
    assert (alone.n, alone.unit) == (60, "step")
    short = criteria(model, found, pieces)  # n = 3, p = 1
    assert short.aicc == pytest.approx(short.aic + 4)
    assert np.isnan(criteria(model, found, pieces[:2]).aicc)  # n = p + 1


def test_entropy_of_paths_by_enumeration():
    model, pieces, weights = HiddenMarkov(Poisson(), 2), [COUNTS[:4], COUNTS[34:37]], np.array([1.0, 3.0])
    transition = np.array([[0.7, 0.3], [0.0, 1.0]])
    initial, rate = np.array([0.6, 0.4]), np.array([[2.0], [5.0]])
    params = HiddenMarkovParams(jnp.array(initial), jnp.array(transition), jaxem.PoissonParams(jnp.array(rate)))
    total = 0.0
    for y, w in zip(pieces, weights, strict=True):
        joint = []
        for path in itertools.product(range(2), repeat=len(y)):
            p = initial[path[0]] * np.prod([transition[a, b] for a, b in itertools.pairwise(path)])
            joint.append(p * np.prod(stats.poisson.pmf(y[:, 0], rate[list(path), 0])))
        p = np.array(joint) / np.sum(joint)
        total -= w * (p * np.log(np.where(p > 0, p, 1))).sum()
    rows = prepare(model, pieces, weights)
    assert state_entropy(model, params, rows) == pytest.approx(total, rel=1e-9)
    smoothed = np.asarray(model.posterior(params, rows))
    assert total < entropy(smoothed, np.repeat(weights, [4, 3]))


def test_short_names():
    names = {
        "Mixture(Gaussian(VEV), 3)": Mixture(Gaussian("VEV"), 3), "Mixture(Poisson, 2)": Mixture(Poisson(), 2),
        "HiddenMarkov(Gaussian(full), stationary, 2)": HiddenMarkov(Gaussian(), 2, initial="stationary"),
        "Single(Poisson)": Single(Poisson()), "Mixture(FactorGaussian(q=2), 3)": Mixture(jaxem.FactorGaussian(2), 3),
        "Mixture(Gaussian(full), 2, prior)": Mixture(Gaussian(), 2, prior=jaxem.weak_prior(Y, 2)),
    }  # fmt: skip
    assert {short_name(model) for model in names.values()} == set(names)


# cross-validation


def normal_held_out(y, fold, weights):
    """Log-density of each row under the normal of the rows in other folds, in closed form."""
    out = np.zeros(len(y))
    for place in range(fold.max() + 1):
        seen = fold != place
        mean = np.average(y[seen], axis=0, weights=weights[seen])
        covariance = np.cov(y[seen].T, aweights=weights[seen], ddof=0)
        out[~seen] = stats.multivariate_normal(mean, covariance).logpdf(y[~seen])
    return out


def test_folds_are_weights():
    weights = np.where(np.arange(60) % 3 == 0, 2.0, 1.0)
    weights[7] = 0
    found = cross_validate(Mixture(Gaussian("VVV"), 1), Y, 4, weights=weights)
    assert sorted(np.bincount(found.fold[found.fold >= 0])) == [14, 15, 15, 15]
    assert found.fold[7] == -1
    kept = found.fold >= 0
    expected = normal_held_out(Y[kept], found.fold[kept], weights[kept])
    np.testing.assert_allclose(found.per_unit[kept], expected, atol=1e-6)  # fits end within 1e-8 of the maximum
    terms = weights[kept] * expected
    assert found.log_likelihood == pytest.approx(terms.sum(), abs=1e-5)
    assert found.standard_error == pytest.approx(np.sqrt(59) * terms.std(ddof=1), rel=1e-6)


@pytest.mark.slow
def test_sequences_are_held_out_whole():
    pieces = np.split(Y, 12)
    found = cross_validate(HiddenMarkov(Gaussian("VVV"), 1), pieces, 3)
    rowwise = normal_held_out(Y, np.repeat(found.fold, 5), np.ones(60))
    np.testing.assert_allclose(found.per_unit, rowwise.reshape(12, 5).sum(axis=1), atol=1e-6)


@pytest.mark.slow
def test_a_fold_that_fails_has_no_number():
    flat = np.where(GROUP[:, None] == 1, 2.0, Y)
    found = cross_validate(Mixture(Gaussian("VVV"), 2), flat, 4, restarts=3)
    assert Status.DEGENERATE in found.statuses
    assert np.isnan(found.log_likelihood)
    assert "ended DEGENERATE" in str(found)


# bootstrap of the likelihood ratio


@pytest.mark.thorough
def test_two_kinds_of_counts():
    found = bootstrap_likelihood_ratio(Mixture(Poisson(), 1), Mixture(Poisson(), 2), COUNTS, draws=19)
    one = stats.poisson.logpmf(COUNTS, COUNTS.mean()).sum()
    two = fit(Mixture(Poisson(), 2), COUNTS, key=5, restarts=5)
    assert found.statistic == pytest.approx(2 * (float(two.log_likelihood) - one), abs=1e-3)
    assert (found.statistics >= 0).all()
    assert found.p_value == (1 + (found.statistics >= found.statistic).sum()) / 20 == 0.05
    assert float(found.large.log_likelihood) - float(found.small.log_likelihood) == pytest.approx(found.statistic / 2)
    assert "0 of 19 draws" in str(found)


@pytest.mark.slow
def test_clear_cases_end_early():
    same = RNG.poisson(4.0, size=(60, 1)).astype(float)
    arguments = Mixture(Poisson(), 1), Mixture(Poisson(), 2), same, 19
    whole = bootstrap_likelihood_ratio(*arguments, key=2, early=False)
    short = bootstrap_likelihood_ratio(*arguments, key=2)
    made = len(short.statistics)
    assert len(whole.statistics) == 19
    assert (whole.statistics >= 0).all()
    reached = np.flatnonzero(whole.statistics >= whole.statistic)
    assert made == (reached[9] if len(reached) >= 10 and reached[9] < 18 else 19)
    np.testing.assert_array_equal(short.statistics, whole.statistics[:made])
    assert short.p_value == (1 + (reached < made).sum()) / (made + 1)


@pytest.mark.thorough
def test_the_level_is_kept():
    """Of 40 data sets from the smaller model, those with p <= 0.2 are Binomial(40, 0.2): above 17 with probability 2e-4."""
    rng = np.random.default_rng(8)
    few = 0
    for number in range(40):
        y = rng.poisson(np.where(rng.random(60) < 0.5, 2.0, 9.0))[:, None].astype(float)
        found = bootstrap_likelihood_ratio(Mixture(Poisson(), 2), Mixture(Poisson(), 3), y, 19, number)
        assert (found.statistics >= 0).all()
        few += found.p_value <= 0.2
    assert few <= 17


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["holes", "hidden markov"])
def test_other_models_are_split(kind):
    if kind == "holes":
        y = Y.copy()
        y[::7, 0] = np.nan
        found = bootstrap_likelihood_ratio(Mixture(Gaussian("EII"), 1), Mixture(Gaussian("EII"), 2), y, 9)
    else:
        pieces = np.split(COUNTS, 6)
        found = bootstrap_likelihood_ratio(HiddenMarkov(Poisson(), 1), HiddenMarkov(Poisson(), 2), pieces, 9)
    assert found.p_value == 0.1
    assert (found.statistics >= 0).all()


# groupings


@pytest.mark.parametrize("holes", [False, True])
def test_silhouettes_are_those_of_scikit_learn(holes):
    y, labels = Y.copy(), GROUP.copy()
    labels[[3, 5, 9]] = 2
    labels[11] = 3  # alone
    if holes:
        y[::5, 0] = np.nan
    distances = metrics.pairwise.nan_euclidean_distances(y)
    expected = metrics.silhouette_samples(distances, labels, metric="precomputed")
    np.testing.assert_allclose(silhouette(y, labels), expected, atol=1e-10)
    names = np.array(["d", "a", "c", "b"])[labels]
    np.testing.assert_allclose(silhouette(y, names), expected, atol=1e-10)


def test_adjusted_rand_is_that_of_scikit_learn():
    for number in range(20):
        rng = np.random.default_rng(number)
        a, b = rng.integers(0, rng.integers(1, 5), 30), rng.integers(0, rng.integers(1, 5), 30)
        assert adjusted_rand_index(a, b) == pytest.approx(metrics.adjusted_rand_score(a, b), abs=1e-12)
    assert adjusted_rand_index(["x", "y", "y"], [5, 2, 2]) == 1
    assert adjusted_rand_index([0, 0, 0], [0, 0, 0]) == 1
    assert adjusted_rand_index([0, 1, 2], [2, 1, 0]) == 1


def test_classification_table():
    r = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    table = classification_table(r, weights=[1, 2, 1])
    np.testing.assert_allclose(table.counts, [[2.1, 0.9], [0.2, 0.8]])
    assert table.error == pytest.approx((0.1 + 0.8 + 0.2) / 4)
    assert "classification error" in str(table)
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 4, 50), rng.integers(0, 3, 50)
    table = classification_table(found, np.array(["w", "x", "y", "z"])[truth])
    np.testing.assert_array_equal(table.counts, metrics.cluster.contingency_matrix(truth, found))
    agreed = max(sum(table.counts[i, k] for k, i in enumerate(order)) for order in itertools.permutations(range(4), 3))
    assert table.error == pytest.approx(1 - agreed / 50)
    assert list(table.to_dataframe().index) == ["w", "x", "y", "z"]


# pictures


def test_picture_marks_the_chosen(found):
    ax = plot_criteria(found)
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_allclose(lines["VVV"].get_ydata(), [found.table[0].bic, found.table[1].bic])
    np.testing.assert_array_equal(lines["EII"].get_xdata(), [2])
    ring = ax.get_lines()[-1]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (2, found.table[2].bic)
    assert "Mixture(Gaussian(EII), 2)" in ax.get_title()
    assert "AICC" in plot_criteria(found, criterion="aicc").get_ylabel()
    assert "lower is better" in ax.get_ylabel()
    with pytest.raises(ValueError, match="criterion: found 'r2'"):
        plot_criteria(found, criterion="r2")


# bad input

M = Mixture(Poisson(), 2)
BAD = {
    "models: found none": lambda: select([], COUNTS),
    "models: found Mixture": lambda: select(M, COUNTS),
    r"models\[1\]: found 3": lambda: select([M, 3], COUNTS),
    r"models\[0\]: found <class": lambda: select([Mixture], COUNTS),
    "probabilities of counts or categories, Mixture.* about densities": lambda: select([M, Mixture(Gaussian(), 2)], COUNTS),
    "does not take these data": lambda: select([M, HiddenMarkov(Poisson(), 2)], np.split(COUNTS, 3)),
    "criterion: found 'BIC'; use one of aic, aicc, bic, sabic, caic, icl, cv_log_likelihood": lambda: select([M], COUNTS, "BIC"),
    "cv_log_likelihood needs a number of folds": lambda: select([M], COUNTS, "cv_log_likelihood"),
    "folds: found 61 for 60 rows": lambda: select([M], COUNTS, folds=61),
    "folds: found 5 for 1 sequence ": lambda: select([HiddenMarkov(Poisson(), 2)], COUNTS, folds=5),
    "folds: found 4 for 3 sequences": lambda: cross_validate(HiddenMarkov(Poisson(), 2), np.split(COUNTS, 3), 4),
    "folds: found 1; give at least 2": lambda: cross_validate(M, COUNTS, 1),
    "leaves 1 rows for 2 states": lambda: cross_validate(M, COUNTS[:2], 2),
    "restarts: found 0": lambda: select([M], COUNTS, restarts=0),
    "large: found 2 states beside 2": lambda: bootstrap_likelihood_ratio(M, M, COUNTS),
    "large: found Mixture and Single": lambda: bootstrap_likelihood_ratio(M, Single(Poisson()), COUNTS),
    "large: differs from small": lambda: bootstrap_likelihood_ratio(Mixture(Gaussian("EII"), 1), Mixture(Gaussian(), 2), Y),
    "prior: a likelihood ratio": lambda: bootstrap_likelihood_ratio(
        Mixture(Gaussian(), 1), Mixture(Gaussian(), 2, prior=jaxem.weak_prior(Y, 2)), Y
    ),
    "draws: found 0": lambda: bootstrap_likelihood_ratio(M, Mixture(Poisson(), 3), COUNTS, 0),
    "labels: found 1 groups": lambda: silhouette(Y, np.zeros(60)),
    "labels: found 3 labels for 60 rows": lambda: silhouette(Y, [0, 1, 2]),
    "second: found 2 labels for 3 rows": lambda: adjusted_rand_index([0, 1, 1], [0, 1]),
    "first: found shape": lambda: adjusted_rand_index([[0, 1]], [0, 1]),
    "second: some are missing": lambda: adjusted_rand_index([0, 1], [0, np.nan]),
    "labels: are needed": lambda: classification_table([0, 1]),
    "found: is \\(n, K\\) and no resp": lambda: classification_table(np.ones((3, 2))),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises((TypeError, ValueError), match=message):
        BAD[message]()
