"""The start from merged clusters: the order of mergers against scipy's and against enumeration, and fits that begin there."""

import csv
import itertools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.datasets import load_iris
from table import collect

import jaxem
from jaxem import Gaussian, Mixture, Poisson, Single, Status, Stop, hierarchical, select, split_and_merge
from jaxem.agglomerate import _order, fill, memberships, rescale
from jaxem.coordinates import check_params
from jaxem.kernels.agglomeration import cut, log_determinant, merge_order
from jaxem.model import Model

RNG = np.random.default_rng(5)
OLD_FAITHFUL = Path(__file__).parent / "reference" / "gmm_old_faithful"


def same(a, b):
    """Whether two groupings are one but for their numbers."""
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


# the order of mergers


def test_spheres_of_one_size_are_ward():
    y = RNG.normal(size=(40, 3)) + 3 * RNG.integers(3, size=(40, 1))
    order, theirs = merge_order(y, np.ones(40), "EII"), linkage(y, "ward")
    for k in range(1, 41):
        assert same(cut(order, k), fcluster(theirs, k, "maxclust"))


def total(y, w, groups):
    """The criterion of a grouping as Fraley (1998) writes it, by NumPy's covariance and determinant."""
    d = y.shape[1]
    everything = np.trace(np.atleast_2d(np.cov(y.T, bias=True, aweights=w))) / d
    value = 0.0
    for group in groups:
        own, n = y[group], w[group].sum()
        spread = np.atleast_2d(np.cov(own.T, bias=True, aweights=w[group])) if len(group) > 1 else np.zeros((d, d))
        volume = np.linalg.det(spread) if len(group) > d else 0.0
        value += n * np.log(volume + np.trace(spread) + everything / n)
    return value


@pytest.mark.parametrize(("d", "weighted"), [(1, False), (2, True), (3, False)])
def test_ellipsoids_by_enumeration(d, weighted):
    """Every merger is the one, of all pairs, after which the criterion is least."""
    y = RNG.normal(size=(11, d)) + 4 * RNG.integers(2, size=(11, 1))
    w = RNG.uniform(0.5, 2, size=11) if weighted else np.ones(11)
    groups = {i: [i] for i in range(11)}
    for i, j in merge_order(y, w):

        def after(pair, groups=groups):
            a, b = pair
            return total(y, w, [groups[a] + groups[b], *(own for name, own in groups.items() if name not in pair)])

        best = min(itertools.combinations(groups, 2), key=after)
        assert after((i, j)) == pytest.approx(after(best), abs=1e-9)
        groups[i] += groups.pop(j)
    assert len(groups) == 1


def test_determinants():
    root = RNG.normal(size=(6, 4, 4))
    whole = root @ np.swapaxes(root, 1, 2)
    whole[5] = np.outer(root[5, 0], root[5, 0])  # of rank one
    found = log_determinant(np.moveaxis(whole, 0, -1))
    np.testing.assert_allclose(found[:5], np.linalg.slogdet(whole[:5])[1], rtol=1e-10)
    assert found[5] == -np.inf


def test_rows_that_are_alike():
    """Equal rows join first and cost no number; all equal, there is still an order; more clusters than rows leave some empty."""
    y = np.repeat(RNG.normal(size=(4, 2)), 5, axis=0)
    for criterion in ("VVV", "EII"):
        assert same(cut(merge_order(y, np.ones(20), criterion), 4), np.repeat(np.arange(4), 5))
        np.testing.assert_array_equal(cut(merge_order(np.ones((3, 2)), np.ones(3), criterion), 1), 0)
    r = memberships(y[:3], np.ones(3), jax.random.key(0), 5, 100, "VVV")
    np.testing.assert_array_equal(r, np.eye(3, 5))
    np.testing.assert_array_equal(memberships(y, np.zeros(20), jax.random.key(0), 2, 100, "VVV"), 0)  # none counts
    np.testing.assert_array_equal(memberships(y[:1], np.ones(1), jax.random.key(0), 2, 100, "VVV"), [[1, 0]])


def test_holes_are_filled_from_near_rows():
    """Of two groups far apart, a row gets the mean of its own: of ten rows of it that have the cell."""
    y = RNG.normal(size=(22, 3)) + np.repeat([0.0, 50.0], 11)[:, None]
    holes = y.copy()
    holes[0, 1] = holes[11, 2] = np.nan
    filled = fill(holes)
    np.testing.assert_allclose(filled[0, 1], y[1:11, 1].mean())
    np.testing.assert_allclose(filled[11, 2], y[12:, 2].mean())
    seen = ~np.isnan(holes)
    np.testing.assert_allclose(filled[seen], y[seen], rtol=1e-12)
    assert fill(y) is y
    holes[:, 0] = np.nan
    assert np.isfinite(fill(holes)).all()


def test_directions():
    """Uncorrelated, with the root of the deviation as deviation; a column that is the sum of others adds none."""
    y = RNG.normal(size=(30, 2)) * np.array([3.0, 1.0])
    w = RNG.uniform(1, 2, size=30)
    found = rescale(np.c_[y, y.sum(1)], w)
    assert found.shape == (30, 2)
    spread = np.cov(found.T, bias=True, aweights=w)
    ours = np.linalg.eigvalsh(np.cov(np.c_[y, y.sum(1)].T, bias=True, aweights=w))[:0:-1]
    np.testing.assert_allclose(spread, np.diag(np.sqrt(ours)), atol=1e-12)


# fits that begin there


STOP = Stop(tolerance=1e-6, max_steps=200)
COUNTS = RNG.poisson(np.array([1.0, 5.0, 20.0])[RNG.integers(3, size=60)]).astype(float)
COUNTS[::9] = np.nan
WEIGHTS = RNG.integers(0, 3, size=60).astype(float)
MODEL = Mixture(Poisson(), 4)
ROWS = jaxem.prepare(MODEL, COUNTS, WEIGHTS)


def test_counts_with_holes_and_weights():
    """A lane by each criterion, the same for the same key; the better is told, with the log-likelihood of its params."""
    found = jaxem.fit(MODEL, ROWS, key=0, search=hierarchical(), stop=STOP)
    again = jaxem.fit(MODEL, ROWS, key=0, search=hierarchical(), stop=STOP)
    assert found.status in (Status.CONVERGED, Status.MAX_STEPS)
    assert len(found.restart_statuses) == 2
    assert found.log_likelihood == found.restart_log_likelihoods.max()
    np.testing.assert_allclose(found.log_likelihood, MODEL.log_likelihood(found.params, ROWS), rtol=1e-12)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_sample():
    """Drawn by the key among rows of positive weight; the merges depend on weights but for their scale."""
    points, weights = np.asarray(MODEL.start_points(ROWS)), np.asarray(ROWS.pilot_weights)
    part = [memberships(points, weights, jax.random.key(seed), 3, 20, "VVV") for seed in (0, 0, 1)]
    np.testing.assert_array_equal(part[0], part[1])
    assert (part[0] != part[2]).any()
    whole = memberships(points, weights, jax.random.key(0), 3, 2000, "VVV")
    np.testing.assert_array_equal(whole, memberships(points, 7 * weights, jax.random.key(1), 3, 2000, "VVV"))
    for r in (*part, whole):
        assert set(np.unique(r)) == {0, 1}
        assert (r[(weights == 0) | np.isnan(COUNTS)] == 0).all()
        assert (r.sum(axis=1) == 1).sum() == min((weights > 0).sum(), 20 if r is not whole else 60)
        assert (r.sum(axis=0) > 0).all()


QUICK = ("mixture-product", "hidden-markov-forward", "hidden-semi-markov-poisson", "experts-poisson")
CLUSTERED = [row for row in collect() if type(row.model).start_points is not Model.start_points]


def mark(row):
    return pytest.mark.slow if row.name in QUICK else pytest.mark.thorough


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name, marks=mark(row)) for row in CLUSTERED])
def test_every_model_of_clusters_begins_there(row):
    """In float32: the start is in the domains, every cluster has rows, and the log-likelihood is a finite number."""
    rows = jaxem.prepare(row.model, row.data(np.float32), row.weights(np.float32))
    n_states = row.model.n_states
    points, weights = np.asarray(row.model.start_points(rows)), np.asarray(rows.pilot_weights)
    r = memberships(points, weights, jax.random.key(0), n_states, 2000, "VVV")
    assert (r.sum(axis=0) > 0).all()
    start = row.model.init(0, rows, np.asarray(r, np.float32))
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(start))
    check_params(row.model.domains, row.model.structure(rows), start)
    assert np.isfinite(row.model.log_likelihood(start, rows))


@pytest.fixture(scope="module")
def old_faithful():
    with open(OLD_FAITHFUL / "data.csv") as file:
        y = np.array([[float(row["eruptions"]), float(row["waiting"])] for row in csv.DictReader(file)])
    fits = json.loads((OLD_FAITHFUL / "expected.json").read_text())["fits"]
    return y, {(fit["model"], fit["G"]): fit["logLik"] for fit in fits}


@pytest.mark.slow
def test_old_faithful_as_mclust_begins(old_faithful):
    """One start is as good as mclust's, which begins the same way, and one tree serves all numbers of components."""
    y, published = old_faithful
    before = _order.cache_info().misses
    found = select([Mixture(Gaussian("VVV"), k) for k in (1, 2, 3)], y, search=hierarchical(criterion="VVV"))
    assert _order.cache_info().misses == before + 1
    for k, row in zip((1, 2, 3), found.table, strict=True):
        assert row.status == "CONVERGED"
        assert row.log_likelihood > published["VVV", k] - 1e-3
    assert len(np.atleast_1d(found.fits[2].restart_statuses)) == 1


IRIS = {  # -BIC that mclust prints for two and three components, VEV from its vignette
    "EII": (1123.4117, 878.7650), "VII": (1012.2352, 853.8144), "EEI": (1042.9679, 813.0504), "VEI": (956.2823, 779.1566),
    "EVI": (1007.3082, 797.8342), "VVI": (857.5515, 744.6382), "EEE": (688.0972, 632.9647), "VEE": (656.3270, 605.3982),
    "VEV": (561.7285, 562.5522), "EVV": (658.3306, 656.0359), "VVV": (574.0178, 580.8396),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("shape", IRIS)
def test_iris_as_mclust_prints(shape, k):
    """From the start by the same criterion: mclust's BIC, or lower by a few of the steps at which it stops (1e-5 of it, 0.01)."""
    y, model = load_iris().data, Mixture(Gaussian(shape), k)
    found = jaxem.fit(model, y, key=0, search=hierarchical(criterion="VVV"))
    assert found.status == Status.CONVERGED
    bic = -2 * float(found.log_likelihood) + model.n_parameters(4) * np.log(150)
    assert -0.03 < bic - IRIS[shape][k - 2] < 5e-4


BAD = {
    "no rows": (lambda: hierarchical(0), ValueError, "sample: found 0"),
    "no criterion": (lambda: hierarchical(criterion="EEE"), ValueError, "criterion: found 'EEE'; use one of VVV, EII"),
    "no criteria": (lambda: hierarchical(criterion=()), ValueError, "criterion: found ()"),
    "a number": (lambda: hierarchical(criterion=3), ValueError, "criterion: found 3"),
    "a start beside": (lambda: fit(params=MODEL.init(0, ROWS)), ValueError, "params: is one start"),
    "no clusters": (
        lambda: jaxem.fit(Single(Poisson()), COUNTS, key=0, search=hierarchical()), TypeError, "search: Single does not start",
    ),
    "restarts beside": (lambda: fit(restarts=2), ValueError, "restarts: found 2"),
    "a factory to select": (lambda: select([MODEL], COUNTS, search=hierarchical), TypeError, "search: found hierarchical"),
}  # fmt: skip


def fit(**given):
    return jaxem.fit(MODEL, ROWS, key=0, search=hierarchical(), **given)


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_a_search_that_does_not_suit_is_a_row():
    found = select([Mixture(Poisson(), 2)], COUNTS, search=split_and_merge())
    assert "takes three components at a time" in found.table[0].status
