"""Estimators for users of scikit-learn and hmmlearn: the same numbers from the same start, their own checks, their own tools."""

import inspect
import itertools
import os
import pickle
import subprocess
import sys

import jax
import numpy as np
import pandas
import pytest
import sklearn.decomposition
import sklearn.mixture
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import estimator_checks_generator

import jaxem
from jaxem.sklearn import (
    BayesianGaussianMixture,
    CategoricalHMM,
    EMImputer,
    FactorAnalysis,
    GaussianHMM,
    GaussianMixture,
    LatentClassAnalysis,
    MixtureOfRegressions,
    PoissonHMM,
)
from jaxem.sklearn.fitting import roomy

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=(40, 2)), 0.5 * RNG.normal(size=(20, 2)) + [3.0, 2.0]])
GROUP = np.repeat([0, 1], [40, 20])
HOLES = X.copy()
HOLES[RNG.random(X.shape) < 0.2] = np.nan
SOME = RNG.integers(0, 3, len(X)).astype(float)
START = {"weights_init": [0.6, 0.4], "means_init": [[0.0, 0.0], [2.0, 2.0]], "precisions_init": [np.eye(2)] * 2}
EXACT = {"tol": 1e-10, "max_iter": 2000}


# the names that users know

MIXTURE_ONLY = {"reg_covar", "init_params", "verbose", "verbose_interval"}
LEFT_OUT = {
    "GaussianMixture": MIXTURE_ONLY,
    "BayesianGaussianMixture": MIXTURE_ONLY | {"weight_concentration_prior_type", "warm_start"},
    "FactorAnalysis": {"copy", "noise_variance_init", "svd_method", "iterated_power", "random_state"},
}


@pytest.mark.parametrize(
    ("ours", "theirs", "more"),
    [
        (GaussianMixture, sklearn.mixture.GaussianMixture, {"prior"}),
        (BayesianGaussianMixture, sklearn.mixture.BayesianGaussianMixture, set()),
        (FactorAnalysis, sklearn.decomposition.FactorAnalysis, set()),
    ],
)
def test_parameters_have_scikit_learns_names_and_defaults(ours, theirs, more):
    mine, other = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
    assert set(mine) - set(other) == more
    assert set(other) - set(mine) == LEFT_OUT[ours.__name__]
    for name in set(mine) & set(other):
        assert mine[name].default == other[name].default, name
    methods = [name for name, _ in inspect.getmembers(theirs, inspect.isfunction) if not name.startswith("_")]
    assert [name for name in methods if not hasattr(ours, name)] == []


def test_hidden_markov_models_have_hmmlearns_names():
    """Those of hmmlearn 0.3, written down."""
    methods = ["aic", "bic", "decode", "fit", "get_stationary_distribution", "predict", "predict_proba", "sample", "score"]
    shared = {"n_components", "algorithm", "random_state", "n_iter", "tol", "init_params"}
    for kind, own in ((GaussianHMM, {"covariance_type"}), (PoissonHMM, set()), (CategoricalHMM, {"n_features"})):
        assert all(hasattr(kind, name) for name in methods)
        assert set(inspect.signature(kind).parameters) == shared | own | {"n_init", "warm_start"}
        for name in ("predict", "decode", "predict_proba", "score", "score_samples", "fit"):
            assert "lengths" in inspect.signature(getattr(kind, name)).parameters


# scikit-learn's own answers


@pytest.mark.parametrize(
    "kind", ["full", *(pytest.param(kind, marks=pytest.mark.thorough) for kind in ("tied", "diag", "spherical"))]
)
def test_gaussian_mixture_is_scikit_learns(kind):
    """From one start the same params after the same number of steps, and the same answers; the ridge of theirs taken out."""
    precisions = {"full": [np.eye(2)] * 2, "tied": np.eye(2), "diag": np.ones((2, 2)), "spherical": np.ones(2)}[kind]
    settings = {**START, **EXACT, "precisions_init": precisions, "covariance_type": kind}
    mine = GaussianMixture(2, **settings).fit(X)
    other = sklearn.mixture.GaussianMixture(2, reg_covar=0, **settings).fit(X)
    assert mine.converged_
    assert mine.n_iter_ == other.n_iter_
    for name in ("weights_", "means_", "covariances_", "precisions_"):
        np.testing.assert_allclose(getattr(mine, name), getattr(other, name), rtol=1e-9, atol=1e-10)
    for name in ("predict_proba", "score_samples", "predict", "score", "aic", "bic"):
        np.testing.assert_allclose(getattr(mine, name)(X[:7]), getattr(other, name)(X[:7]), rtol=1e-8, atol=1e-10)
    # at the last step theirs is the log-likelihood of the params before it, ours of those returned
    np.testing.assert_allclose(mine.lower_bound_, mine.score(X), rtol=1e-12)
    np.testing.assert_allclose(mine.lower_bound_, other.lower_bound_, atol=1e-9)
    assert mine.log_likelihood_ == pytest.approx(60 * mine.lower_bound_)


@pytest.mark.thorough
def test_factor_analysis_is_scikit_learns():
    rng = np.random.default_rng(1)
    loadings = np.array([[1.0, 0.9, 0.8, 0.1, 0.0, 0.2], [0.0, 0.2, 0.1, 1.0, 0.9, 0.7]])
    y = rng.normal(size=(60, 2)) @ loadings + 0.6 * rng.normal(size=(60, 6)) + np.arange(6)
    mine = FactorAnalysis(2, tol=1e-10).fit(y)
    other = sklearn.decomposition.FactorAnalysis(2, tol=1e-9, max_iter=50_000, svd_method="lapack").fit(y)
    np.testing.assert_allclose(mine.score(y), other.score(y), atol=1e-7)
    np.testing.assert_allclose(mine.get_covariance(), other.get_covariance(), atol=1e-3)
    np.testing.assert_allclose(mine.get_precision() @ mine.get_covariance(), np.eye(6), atol=1e-10)
    # factors are known up to their signs and rotation: the space that they span, and what they say of the rows, are not
    np.testing.assert_allclose(mine.transform(y) @ mine.components_, other.transform(y) @ other.components_, atol=1e-3)
    assert mine.get_feature_names_out().tolist() == ["factoranalysis0", "factoranalysis1"]
    turned = FactorAnalysis(2, tol=1e-10, rotation="varimax").fit(y)
    np.testing.assert_allclose(turned.components_.T @ turned.components_, mine.components_.T @ mine.components_, atol=1e-8)
    np.testing.assert_allclose(turned.transform(y) @ turned.components_, mine.transform(y) @ mine.components_, atol=1e-8)
    with pytest.raises(ValueError, match="identify at most 3"):
        FactorAnalysis(5).fit(y)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_bayesian_mixture_is_scikit_learns(kind):
    """The default priors are theirs; of one component there is one posterior, whatever the start."""
    mine = BayesianGaussianMixture(1, covariance_type=kind, tol=1e-12, max_iter=50).fit(X)
    name = {"weight_concentration_prior_type": "dirichlet_distribution"}
    other = sklearn.mixture.BayesianGaussianMixture(n_components=1, covariance_type=kind, reg_covar=0, tol=1e-12, **name).fit(X)
    shapes = ("weight_concentration_", "means_", "covariances_", "precisions_")
    for attribute in shapes:
        np.testing.assert_allclose(getattr(mine, attribute), getattr(other, attribute), rtol=1e-9)
    np.testing.assert_allclose(np.unique(mine.degrees_of_freedom_), np.unique(other.degrees_of_freedom_))
    np.testing.assert_allclose(np.unique(mine.mean_precision_), np.unique(other.mean_precision_))
    if kind == "full":  # of variances theirs takes the expected log-determinant of a full matrix
        np.testing.assert_allclose(mine.score_samples(X), other.score_samples(X), rtol=1e-9)


# what is more than theirs: holes and weights


@pytest.mark.thorough
def test_weights_are_repetitions():
    """Whole weights stand for rows; zero for none."""
    repeated = np.repeat(HOLES, SOME.astype(int), axis=0)
    settings = {**START, **EXACT}
    weighted = GaussianMixture(2, **settings).fit(HOLES, sample_weight=SOME)
    plain = GaussianMixture(2, **settings).fit(repeated)
    for name in ("weights_", "means_", "covariances_", "lower_bound_"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(plain, name), rtol=1e-6)
    assert weighted.bic(HOLES, SOME) == pytest.approx(plain.bic(repeated))
    assert weighted.score(HOLES, sample_weight=SOME) == pytest.approx(plain.score(repeated))


@pytest.mark.thorough
def test_doors_lead_to_jaxem():
    """With holes: the log-likelihood of the library's own fit, and a warm start that has nothing left to do."""
    mine = GaussianMixture(2, random_state=0, n_init=2, warm_start=True, **EXACT).fit(HOLES)
    own = jaxem.fit(jaxem.Mixture(jaxem.Gaussian(), 2), HOLES, key=1, restarts=4)
    assert mine.log_likelihood_ == pytest.approx(float(own.log_likelihood), abs=1e-6)
    assert mine.n_parameters_ == 11
    before = mine.n_iter_
    assert mine.fit(HOLES).n_iter_ < min(before, 5)
    drawn, labels = mine.sample(500)
    assert (np.diff(labels) >= 0).all()
    np.testing.assert_allclose(drawn[labels == 1].mean(0), mine.means_[1], atol=0.3)
    assert (mine.fit_predict(HOLES) == mine.predict(HOLES)).all()


@pytest.mark.thorough
def test_seeds_and_warnings():
    """The same seed is the same fit; a fit cut off warns in words, once."""
    with pytest.warns(ConvergenceWarning, match="MAX_STEPS: The step limit was reached") as caught:
        a = GaussianMixture(2, random_state=3, max_iter=2).fit(X)
    assert len(caught) == 1
    with pytest.warns(ConvergenceWarning):
        b = clone(a).fit(X)
    assert (a.means_ == b.means_).all()
    assert (a.converged_, a.n_iter_) == (False, 2)
    assert isinstance(a.result_.history, np.ndarray)


def test_bad_input():
    for estimator, match in (
        (GaussianMixture(2, covariance_type="diagonal"), "covariance_type: found 'diagonal'; use one of full"),
        (GaussianMixture(2, prior="strong"), "prior: found 'strong'"),
        (GaussianMixture(61), r"found 60 sample\(s\) .* for 61 components"),
        (FactorAnalysis(), "n_features = 2, 2 feature"),
        (GaussianHMM(2, init_params="xyz"), "init_params: found 'xyz'"),
        (GaussianHMM(2, init_params="s"), "leaves transmat_ to you"),
        (GaussianHMM(2, algorithm="best"), "algorithm: found 'best'"),
    ):
        with pytest.raises(ValueError, match=match):
            estimator.fit(X)
    with pytest.raises(ValueError, match="go by their name, lengths="):
        GaussianHMM(2).fit(X, [30, 30])
    with pytest.raises(ValueError, match=r"sample_weight: found shape \(3,\) for 60 rows"):
        GaussianMixture(2).fit(X, sample_weight=[1, 1, 1])
    with pytest.raises(ValueError, match="sample_weight: all are zero"):
        GaussianMixture(2).fit(X, sample_weight=np.zeros(60))
    with pytest.raises(ValueError, match="family: found 'gamma'"):
        MixtureOfRegressions(2, family="gamma").fit(X, X[:, 0])
    with pytest.raises(ValueError, match="every cell of column"):
        EMImputer().fit(np.where(np.arange(2) == 1, np.nan, X))


@pytest.mark.parametrize("n", [1, 2, 16, 17, 60, 4096, 4097, 100_000, 10**6 + 1])
def test_rows_are_rounded_up_to_few_numbers(n):
    assert n <= roomy(n) <= max(16, 2 * n if n <= 4096 else 1.25 * n + 64)
    assert roomy(roomy(n)) == roomy(n)


# the others


@pytest.mark.thorough
def test_latent_classes():
    """Labels of any kind, missing answers; probabilities against those of Bayes' rule by hand."""
    rng = np.random.default_rng(7)
    votes = pandas.DataFrame({
        "a": np.where(rng.random(60) < 0.2 + 0.6 * GROUP, "yes", "no"),
        "b": pandas.Categorical(np.array(["low", "mid", "high"])[rng.integers(0, 3, 60)], ["low", "mid", "high"]),
        "c": np.where(rng.random(60) < 0.1 + 0.8 * GROUP, 7, 5),
    })  # fmt: skip
    votes.loc[3, "a"] = None
    model = LatentClassAnalysis(2, random_state=0, n_init=2).fit(votes)
    assert [labels.tolist() for labels in model.categories_] == [["no", "yes"], ["high", "low", "mid"], [5, 7]]
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    row = pandas.DataFrame({"a": ["yes"], "b": ["mid"], "c": [7]})
    p = model.probabilities_
    joint = model.weights_ * p[:, 0, 1] * p[:, 1, 2] * p[:, 2, 1]
    np.testing.assert_allclose(model.predict_proba(row)[0], joint / joint.sum(), rtol=1e-12)
    np.testing.assert_allclose(model.score(row), np.log(joint.sum()), rtol=1e-12)
    drawn, _ = model.sample(30)
    assert set(drawn[:, 1]) <= {"low", "mid", "high"}
    with pytest.raises(ValueError, match="unknown categories"):
        model.predict(row.assign(a="perhaps"))
    wide = LatentClassAnalysis(1, categories=[["no", "yes", "perhaps"], ["low", "mid", "high"], [5, 7]]).fit(votes)
    assert wide.score_samples(row.assign(a="perhaps"))[0] == -np.inf  # never seen: probability 0


@pytest.mark.thorough
def test_mixture_of_regressions():
    """One component is least squares; two lines that cross are told apart by the response."""
    rng = np.random.default_rng(7)
    y = 1 + X @ [2.0, -1.0] + 0.1 * rng.normal(size=60)
    one = MixtureOfRegressions(1).fit(X, y)
    design = np.column_stack([np.ones(60), X])
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose([one.intercept_[0], *one.coef_[0]], beta, rtol=1e-8)
    np.testing.assert_allclose(one.variance_[0], np.mean((y - design @ beta) ** 2), rtol=1e-8)
    assert one.score(X, y) > 0.99
    signs = np.where(GROUP == 1, 1.0, -1.0)
    crossed = signs * (X @ [2.0, 1.0]) + 0.1 * rng.normal(size=60)
    two = MixtureOfRegressions(2, random_state=0, n_init=5).fit(X, crossed)
    np.testing.assert_allclose(two.coef_, [[-2, -1], [2, 1]], atol=0.2)
    probability = two.responsibilities(X, crossed)
    assert np.mean(probability.argmax(axis=1) == GROUP) > 0.8
    np.testing.assert_allclose(two.predict(X), two.predict_components(X) @ two.weights_)
    assert two.log_density(X, crossed).sum() == pytest.approx(two.log_likelihood_)
    single = MixtureOfRegressions(2, random_state=0).fit(X.astype(np.float32), crossed.astype(np.float32))
    assert single.coef_.dtype == single.responsibilities(X.astype(np.float32), crossed).dtype == np.float32
    counts = rng.poisson(np.exp(0.3 * X[:, 0] + 1))
    assert MixtureOfRegressions(1, family="poisson").fit(X, counts).predict(X).min() > 0


def brute_force(model, log_density):
    """Log-likelihood, posterior and likeliest path of a short sequence by all paths."""
    steps, k = log_density.shape
    paths = list(itertools.product(range(k), repeat=steps))
    joint = np.array([
        np.log(model.startprob_[path[0]]) + sum(log_density[t, path[t]] for t in range(steps))
        + sum(np.log(model.transmat_[a, b]) for a, b in itertools.pairwise(path))
        for path in paths
    ])  # fmt: skip
    total = np.logaddexp.reduce(joint)
    state = np.array([[np.exp(joint - total) @ [path[t] == j for path in paths] for j in range(k)] for t in range(steps)])
    return total, state, joint.max(), np.array(paths[joint.argmax()])


@pytest.mark.thorough
def test_hidden_markov_models():
    """Given params set before, no step: score, states and path are those found by enumeration."""
    counts = np.array([[0], [1], [6], [7], [5], [1], [0], [2.0]])
    model = PoissonHMM(2, init_params="", n_iter=1)
    model.startprob_, model.transmat_ = np.array([0.7, 0.3]), np.array([[0.8, 0.2], [0.4, 0.6]])
    model.lambdas_ = np.array([[1.0], [6.0]])
    with pytest.warns(ConvergenceWarning):
        model.fit(counts)
    assert model.monitor_.iter == 1
    rate = model.lambdas_[:, 0]
    log_density = counts * np.log(rate) - rate - np.array([[np.log(np.arange(1, c + 1)).sum()] for c in counts[:, 0]])
    total, state, best, path = brute_force(model, log_density)
    np.testing.assert_allclose(model.score(counts), total, rtol=1e-10)
    np.testing.assert_allclose(model.predict_proba(counts), state, rtol=1e-8)
    np.testing.assert_allclose(model.decode(counts)[0], best, rtol=1e-10)
    assert (model.predict(counts) == path).all()
    assert model.score_samples(counts)[0] == model.score(counts)
    assert model.decode(counts, algorithm="map")[0] == pytest.approx(state.max(axis=1).sum())
    halves = brute_force(model, log_density[:4]), brute_force(model, log_density[4:])
    np.testing.assert_allclose(model.score(counts, lengths=[4, 4]), halves[0][0] + halves[1][0], rtol=1e-10)
    np.testing.assert_allclose(model.decode(counts, [4, 4])[0], halves[0][2] + halves[1][2], rtol=1e-10)
    left = model.get_stationary_distribution()
    np.testing.assert_allclose(left @ model.transmat_, left, rtol=1e-10)
    drawn, states = model.sample(9, random_state=0)
    assert (drawn.shape, states.shape) == ((9, 1), (9,))


@pytest.mark.thorough
def test_gaussian_and_categorical_hidden_markov_models():
    for kind, shape in (("full", (2, 2, 2)), ("tied", (2, 2, 2)), ("diag", (2, 2, 2)), ("spherical", (2, 2, 2))):
        model = GaussianHMM(2, kind, random_state=0).fit(HOLES)
        assert model.covars_.shape == shape
        again = GaussianHMM(2, kind, init_params="")
        for name in ("startprob_", "transmat_", "means_", "covars_"):
            setattr(again, name, getattr(model, name))
        again.fit(HOLES)
        assert again.n_iter_ <= 3
        assert again.log_likelihood_ >= model.log_likelihood_ - 1e-9
    codes = (SOME[:, None] + GROUP[:, None]) % 3
    model = CategoricalHMM(2, random_state=0, n_features=4, warm_start=True).fit(codes, lengths=[20, 40])
    assert model.emissionprob_.shape == (2, 4)
    assert (model.emissionprob_[:, 3] == 0).all()
    assert model.fit(codes, lengths=[20, 40]).n_iter_ <= 3
    with pytest.raises(ValueError, match="beyond its n_categories=4"):
        model.score(codes + 3)


@pytest.mark.thorough
def test_hmmlearn_agrees():
    """Where it is installed: the same score and path at the same params, and the same fit by maximum likelihood."""
    rng = np.random.default_rng(7)
    hmm = pytest.importorskip("hmmlearn.hmm")
    counts = rng.poisson(2 + 5 * GROUP)[:, None]
    mine = PoissonHMM(2, random_state=0, tol=1e-8, n_iter=1000).fit(counts)
    other = hmm.PoissonHMM(2, init_params="", tol=1e-8, n_iter=1000)
    other.startprob_, other.transmat_, other.lambdas_ = mine.startprob_, mine.transmat_, mine.lambdas_
    assert mine.score(counts) == pytest.approx(other.score(counts), rel=1e-10)
    assert (mine.predict(counts) == other.predict(counts)).all()
    assert mine.bic(counts) == pytest.approx(other.bic(counts))
    assert mine.decode(counts)[0] == pytest.approx(other.decode(counts)[0])


@pytest.mark.thorough
def test_imputer():
    """Conditional means of a Gaussian, by hand."""
    imputer = EMImputer(tol=1e-10).fit(HOLES)
    mean, covariance = imputer.means_[0], imputer.covariances_[0]
    filled = imputer.transform(HOLES)
    seen = ~np.isnan(HOLES)
    assert (filled[seen] == HOLES[seen]).all()
    for i in np.flatnonzero(~seen.all(axis=1)):
        expected = mean.copy()
        if seen[i].any():
            j = int(np.flatnonzero(seen[i])[0])
            expected = mean + covariance[:, j] / covariance[j, j] * (HOLES[i, j] - mean[j])
        np.testing.assert_allclose(filled[i], np.where(seen[i], HOLES[i], expected), rtol=1e-10)
    frame = pandas.DataFrame(HOLES, columns=["p", "q"], index=np.arange(60) + 5)
    out = EMImputer(tol=1e-10).set_output(transform="pandas").fit_transform(frame)
    assert (list(out.columns), out.index[0], bool(out.isna().any().any())) == (["p", "q"], 5, False)
    assert imputer.transform(HOLES.astype(np.float32)).dtype == np.float32


# within scikit-learn's tools


@pytest.mark.thorough
def test_pipelines_searches_and_workers(tmp_path):
    import joblib
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), GaussianMixture(random_state=0))
    folds = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(pipeline, {"gaussianmixture__n_components": [1, 2]}, cv=folds)
    search.fit(HOLES)
    assert search.best_params_ == {"gaussianmixture__n_components": 2}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    joblib.dump(best, tmp_path / "best.joblib")
    for back in (joblib.load(tmp_path / "best.joblib"), pickle.loads(pickle.dumps(best))):
        np.testing.assert_array_equal(back.predict_proba(HOLES), best.predict_proba(HOLES))
    frame = pandas.DataFrame(X, columns=["p", "q"])
    named = clone(best).fit(frame)
    assert named.feature_names_in_.tolist() == ["p", "q"]
    with pytest.raises(ValueError, match="feature names"):
        named.predict(frame[["q", "p"]])


@pytest.mark.thorough
def test_float64_where_jax_computes_in_float32(tmp_path):
    """The digits are those of float64, and JAX's setting is as it was."""
    look = (
        "import sys, jax, numpy as np; from jaxem.sklearn import GaussianMixture; d = np.load(sys.argv[1]);"
        "m = GaussianMixture(2, weights_init=[.6, .4], means_init=[[0, 0], [2, 2]], precisions_init=[np.eye(2)] * 2, tol=1e-10,"
        "max_iter=2000).fit(d['X']);"
        "assert not jax.config.jax_enable_x64 and jax.numpy.zeros(1).dtype == 'float32';"
        "np.testing.assert_allclose(m.means_, d['means'], rtol=1e-9); assert m.predict_proba(d['X']).dtype == 'float64';"
        "assert m.fit(d['X'].astype('f4')).means_.dtype == 'float32'"
    )
    means = GaussianMixture(2, **START, **EXACT).fit(X).means_
    np.savez(tmp_path / "d.npz", X=X, means=means)
    env = {**os.environ, "JAX_ENABLE_X64": "0", "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
    run = [sys.executable, "-W", "ignore", "-c", look, str(tmp_path / "d.npz")]
    assert subprocess.run(run, env=env, check=False).returncode == 0


# scikit-learn's own checks

NEIGHBOURS = dict.fromkeys(
    ["check_methods_subset_invariance", "check_methods_sample_order_invariance"],
    "rows of a sequence tell of each other: what is said of a row changes with the rows around it",
)
TWO_COLUMNS = "two columns identify no factor, (d - q)^2 < d + q: the check fits two"
NO_FACTOR = dict.fromkeys(
    [
        "check_estimators_overwrite_params", "check_estimators_fit_returns_self", "check_readonly_memmap_input",
        "check_sample_weights_pandas_series", "check_sample_weights_not_an_array", "check_sample_weights_shape",
        "check_sample_weights_not_overwritten", "check_fit_idempotent", "check_fit_check_is_fitted", "check_n_features_in",
    ],
    TWO_COLUMNS,
)  # fmt: skip
EQUIVALENCE = "check_sample_weight_equivalence_on_dense_data"
UNSEEN = "labels that only rows of weight 0 hold are unknown to a fit without these rows, which refuses them"
FEW_ROWS = "the weights leave fewer rows than coefficients: least squares has no single answer, and the fit says so"
EXPECTED = {
    GaussianHMM: NEIGHBOURS, PoissonHMM: NEIGHBOURS, CategoricalHMM: NEIGHBOURS, FactorAnalysis: NO_FACTOR,
    LatentClassAnalysis: {EQUIVALENCE: UNSEEN}, MixtureOfRegressions: {EQUIVALENCE: FEW_ROWS},
}  # fmt: skip
UNFITTED = {
    "check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr",
    "check_no_attributes_set_in_init", "check_estimators_unfitted", "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order", "check_parameters_default_constructible", "check_get_params_invariance", "check_set_params",
}  # fmt: skip


KINDS = (
    GaussianMixture, BayesianGaussianMixture, LatentClassAnalysis, MixtureOfRegressions, GaussianHMM, PoissonHMM, CategoricalHMM,
    FactorAnalysis, EMImputer,
)  # fmt: skip


def every_check():
    """Those that fit nothing in the short run, the others in the thorough one."""
    for kind in KINDS:
        for estimator, check in estimator_checks_generator(kind(), legacy=True):
            name = check.func.__name__
            reason = EXPECTED.get(kind, {}).get(name)
            marks = [pytest.mark.xdist_group(kind.__name__)]
            marks += [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            marks += [] if name in UNFITTED else [pytest.mark.thorough]
            yield pytest.param(estimator, check, marks=marks, id=f"{kind.__name__}-{name}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), list(every_check()))
def test_check_estimator(estimator, check):
    check(estimator)
