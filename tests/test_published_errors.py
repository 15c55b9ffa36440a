"""Standard errors against every published or independently computed one in tests/reference, at the maxima given there."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_hidden_markov import reference
from test_latent import CELLS, CLOSED, COUNTS
from test_markov_switching import HAMILTON, growth, published
from test_oracles import HERE, case
from test_state_space import nile

import jaxem
from jaxem import (
    Bernoulli,
    BernoulliParams,
    Categorical,
    CategoricalParams,
    CensoredRegression,
    CensoredRegressionParams,
    Gaussian,
    GaussianParams,
    HiddenMarkov,
    HiddenMarkovParams,
    Interval,
    LinearRegression,
    LinearRegressionParams,
    Mixture,
    MixtureOfExperts,
    MixtureParams,
    Poisson,
    PoissonParams,
    PoissonRegression,
    PoissonRegressionParams,
    Regression,
    Single,
    StateSpaceParams,
    StudentT,
    StudentTParams,
    TRegression,
    TRegressionParams,
    TruncatedRegression,
    local_level,
    tobit,
)
from jaxem.models.mixture_of_experts import GateParams, MixtureOfExpertsParams

SHALLOW, DEEP = pytest.mark.slow, pytest.mark.thorough


def array(*values):
    return tuple(jnp.asarray(value, jnp.float64) for value in values)


def shares(values):
    """Probabilities as they are printed, brought to a sum of 1."""
    values = np.asarray(values, float)
    return values / values.sum(axis=-1, keepdims=True)


def errors(model, params, data, **options):
    """Standard errors at params that are taken from elsewhere, with nothing to beware of (a remark would be a warning)."""
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
    return jaxem.standard_errors(model, params, data, **options).standard_errors


def agree(found, expected, rtol, atol=0.0):
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=rtol, atol=atol)


def triangles(matrices):
    """Lower triangles, row by row, of (K, d, d)."""
    return [[matrix[i][j] for i in range(len(matrix)) for j in range(i + 1)] for matrix in np.asarray(matrices)]


def likelier_start(model, params, data):
    """The first state of one sequence is known at the maximum, on the edge; which of two it is, the likelihood says."""
    starts = [params._replace(initial=jnp.asarray(row)) for row in np.eye(2)]
    return max(starts, key=lambda each: float(model.log_likelihood(each, data)))


def of_root(variance_error, root):
    """Error of a standard deviation from that of the variance, by the delta method."""
    return np.asarray(variance_error) / (2 * np.asarray(root))


def test_london_deaths():
    y, expected = case("poisson_mixture_london_deaths", ["deaths", "freq"])
    params = MixtureParams(*array(shares(expected["params"]["weights"])), PoissonParams(*array(np.c_[expected["params"]["means"]])))
    found = errors(Mixture(Poisson(), 2), params, y[:, 0], weights=y[:, 1])
    agree(found.components.rate[:, 0], expected["se"]["means"], 1e-4)
    agree(found.weights, expected["se"]["weights"], 1e-4)


@SHALLOW
def test_linkage():
    expected = json.loads((HERE / "linkage_rao" / "expected.json").read_text())
    found = errors(CLOSED, {"t": expected["params"]["t"]}, CELLS, weights=COUNTS)
    agree(found["t"], expected["se"]["t"], 1e-6)
    rate = jaxem.convergence_rate(CLOSED, {"t": expected["params"]["t"]}, CELLS, COUNTS)
    assert abs(rate.radius - 0.132779) < 1e-6  # derivative of the EM map, Rao (1973) by hand in expected.json


@SHALLOW
def test_airquality():
    y, expected = case("mvn_missing_airquality", ["Ozone", "Solar.R", "Wind", "Temp"])
    params = GaussianParams(*array(expected["params"]["mean"], expected["params"]["cov"]))
    found = errors(Single(Gaussian()), params, y)
    agree(found.mean, expected["se"]["mean"], 1e-3)
    agree(triangles(found.covariance[None])[0], expected["se"]["cov_lower_triangle_rowwise"], 1e-3)


@DEEP
@pytest.mark.parametrize("complete", [False, True])
def test_mini_project(complete):
    columns = ["x1_complete", "x2_complete"] if complete else ["x1", "x2"]
    y, expected = case("gmm_missing_seed_project", columns)
    truth = expected["complete_data_fit"] if complete else expected
    inner = truth.get("params", truth)
    params = MixtureParams(*array(shares(inner["weights"])), GaussianParams(*array(inner["means"], inner["covariances"])))
    found = errors(Mixture(Gaussian(), 3), params, y)
    agree(found.weights, truth["se"]["weights"], 1e-3)
    agree(found.components.mean, truth["se"]["means"], 1e-3)
    agree(triangles(found.components.covariance), truth["se"]["cov_lower_triangle_rowwise"], 1e-3)


@pytest.mark.parametrize("index", [pytest.param(i, marks=DEEP) for i in (0, 2, 3, 5, 6, 7, 8, 9)])
def test_galaxies(index):
    y, expected = case("gmm_galaxies", ["velocity_1000km_s"])
    row = expected["fits"][index]
    truth, k = row["params"], row["G"]
    tied = row["model"] == "E"
    variances = np.square(truth["sds"]).reshape((1, 1) if tied else (k, 1, 1))
    params = MixtureParams(*array(shares(truth["weights"])), GaussianParams(*array(np.c_[truth["means"]], variances)))
    model = Mixture(Gaussian("tied" if tied else "full"), k)
    if row["model"] == "E" and k == 6:  # two components are the same: a flat ridge
        assert not np.isfinite(np.array(row["se"]["weights"], float)).all()
        with pytest.warns(UserWarning, match="information is not positive definite"):
            found = errors(model, params, y)
        assert np.isnan(found.weights).all()
        return
    found = errors(model, params, y)
    agree(found.components.mean[:, 0], row["se"]["means"], 1e-2)
    agree(of_root(found.components.covariance.ravel(), truth["sds"]), row["se"]["sds"], 1e-2)
    if k > 1:
        agree(found.weights, row["se"]["weights"], 1e-2)


@DEEP
def test_old_faithful():
    y, expected = case("gmm_old_faithful", ["eruptions", "waiting"])
    for row in (row for row in expected["details"] if "se" in row):
        truth = row["params"]
        params = MixtureParams(*array(shares(truth["weights"])), GaussianParams(*array(truth["means"], truth["covariances"])))
        found = errors(Mixture(Gaussian(), row["G"]), params, y)
        agree(found.weights, row["se"]["weights"], 1e-2)
        agree(found.components.mean, row["se"]["means"], 1e-2)
        agree(triangles(found.components.covariance), row["se"]["cov_lower_triangle_rowwise"], 1e-2)


@DEEP
def test_tobit_affairs():
    names = ["age", "yearsmarried", "religiousness", "occupation", "rating"]
    y, expected = case("tobit_affairs", ["affairs", *names])
    truth, se = expected["params"], expected["se"]
    params = LinearRegressionParams(*array([truth[name] for name in names], truth["(Intercept)"], truth["sigma"] ** 2))
    found = errors(Single(CensoredRegression()), params, Regression(tobit(y[:, 0], left=0), y[:, 1:]))
    agree(found.coefficients, [se[name] for name in names], 1e-3)
    agree([found.intercept, of_root(found.variance, truth["sigma"])], [se["(Intercept)"], se["sigma"]], 1e-3)


@DEEP
def test_truncated_mroz_hours():
    names = ["nwifeinc", "education", "experience", "expersq", "age", "youngkids", "oldkids"]
    y, expected = case("truncated_mroz_hours", ["hours", *names])
    truth, se = expected["params"], expected["se"]
    params = LinearRegressionParams(*array([truth[name] for name in names], truth["(Intercept)"], truth["sigma"] ** 2))
    found = errors(Single(TruncatedRegression(lower=0)), params, Regression(y[:, 0], y[:, 1:]))
    agree(found.coefficients, [se[name] for name in names], 1e-3)
    agree([found.intercept, of_root(found.variance, truth["sigma"])], [se["(Intercept)"], se["sigma"]], 1e-3)


@pytest.mark.parametrize("number", [pytest.param(0, marks=SHALLOW), pytest.param(1, marks=DEEP)])
def test_interval_regression_breast_cosmesis(number):
    expected = json.loads((HERE / "interval_regression_breast_cosmesis" / "expected.json").read_text())
    with open(HERE / "interval_regression_breast_cosmesis" / "data.csv") as file:
        rows = list(csv.DictReader(file))
    y = Interval(np.array([float(row["left"]) for row in rows]), np.array([float(row["right"]) for row in rows]))
    x = np.array([[row["treatment"] == "RadChem"] for row in rows], float)
    row = expected["fits"][number]
    intercept, slope, scale = row["params"].values()
    params = CensoredRegressionParams(*array([slope], intercept, scale))
    found = errors(Single(CensoredRegression(row["distribution"])), params, Regression(y, x))
    agree([found.intercept, found.coefficients[0], found.scale], list(row["se"].values()), 1e-3)


@DEEP
@pytest.mark.parametrize("dof", ["free", 4.0])
def test_t_regression_stackloss(dof):
    y, expected = case("t_regression_stackloss", ["stack.loss", "Air.Flow", "Water.Temp", "Acid.Conc."])
    row = expected if dof == "free" else expected["dof_fixed_at_4"]
    truth = row["params"]
    coef, scale = truth["coef"], truth["scale"]
    params = TRegressionParams(*array(coef[1:], coef[0], scale**2, truth.get("dof", 4.0)))
    found = errors(Single(TRegression(dof)), params, Regression(y[:, 0], y[:, 1:]))
    agree(np.append(found.intercept, found.coefficients), row["se"]["coef"], 1e-2)
    agree(of_root(found.variance, scale), row["se"]["scale"], 1e-2)
    if dof == "free":
        agree(found.dof, row["se"]["dof"], 1e-2)


@DEEP
def test_mixture_regression_tone():
    y, expected = case("mixture_regression_tone", ["tuned", "stretchratio"])
    truth, se = expected["params"], expected["se"]
    coef, sigma = np.array(truth["coef"]), np.array(truth["sigma"])
    inner = LinearRegressionParams(*array(coef[:, 1:], coef[:, 0], sigma**2))
    params = MixtureParams(*array(shares(truth["weights"])), inner)
    found = errors(Mixture(LinearRegression(), 2), params, Regression(y[:, 0], y[:, 1:]))
    agree(np.column_stack([found.components.intercept, found.components.coefficients]), se["coef"], 1e-2)
    agree(of_root(found.components.variance, sigma), se["sigma"], 1e-2)
    agree(found.weights, se["weights"], 1e-2)


@DEEP
def test_mixture_experts_patent():
    y, expected = case("mixture_experts_patent", ["Patents", "lgRD", "RDS"])
    truth, se = expected["params"], expected["se"]
    coef, gate = np.array(truth["coef"]), np.append(np.zeros((1, 2)), truth["gate_coef"], axis=0)
    inner = PoissonRegressionParams(*array(coef[:, 1:], coef[:, 0]))
    params = MixtureOfExpertsParams(GateParams(*array(gate[:, 1:], gate[:, 0])), inner)
    found = errors(MixtureOfExperts(PoissonRegression(), 3), params, Regression(y[:, 0], y[:, 1:2], gate=y[:, 2:]))
    agree(np.column_stack([found.components.intercept, found.components.coefficients]), se["coef"], 1e-2)
    agree(np.column_stack([found.gate.intercept, found.gate.coefficients])[1:], se["gate_coef"], 1e-2)


@DEEP
@pytest.mark.parametrize(("k", "initial"), [(1, "none"), (2, "stationary"), (2, "free")])
def test_earthquakes(k, initial):
    data, expected = reference("hmm_poisson_earthquakes", "count")
    row = next(f for f in expected["fits"] if (f["n_states"], f["initial_distribution"]) == (k, initial))
    first = row.get("stationary_distribution", np.eye(k)[0])
    chain = array(shares(first), shares(row["params"].get("transition", [[1.0]])))
    params = HiddenMarkovParams(*chain, PoissonParams(*array(np.c_[row["params"]["means"]])))
    model = HiddenMarkov(Poisson(), k, initial="free" if initial == "none" else initial)
    if initial == "free":
        params = likelier_start(model, params, data)
    assert abs(float(model.log_likelihood(params, data)) - row["logLik"]) < 1e-6
    found = errors(model, params, data)
    agree(found.emissions.rate[:, 0], row["se"]["means"], 1e-2)
    if k > 1:
        agree(found.transition, row["se"]["transition"], 1e-2)


@DEEP
@pytest.mark.parametrize(
    ("name", "initial"),
    [("hmm_gaussian_speed_rt", "stationary"), ("hmm_gaussian_speed_rt", "free"), ("hmm_bernoulli_speed_corr", "stationary")],
)
def test_speed(name, initial):
    of_times = "gaussian" in name
    data, expected = reference(name, "rt" if of_times else "y", None if of_times else "series")
    row = next(f for f in expected["fits"] if f["initial_distribution"] == initial)
    truth = row["params"]
    first = row.get("stationary_distribution", [1.0, 0.0])
    if of_times:
        inner, family = GaussianParams(*array(np.c_[truth["means"]], np.c_[np.square(truth["sds"])])), Gaussian("diagonal")
    else:
        inner, family = BernoulliParams(*array(np.c_[truth["prob_of_1"]])), Bernoulli()
    model = HiddenMarkov(family, 2, initial=initial)
    params = HiddenMarkovParams(*array(shares(first), shares(truth["transition"])), inner)
    if initial == "free":
        params = likelier_start(model, params, data)
    found = errors(model, params, data)
    agree(found.transition, row["se"]["transition"], 1e-2)
    agree(found.emissions[0][:, 0], row["se"]["means" if of_times else "prob_of_1"], 1e-2)
    if of_times:
        agree(of_root(found.emissions.covariance[:, 0], truth["sds"]), row["se"]["sds"], 1e-2)


@DEEP
def test_hidden_markov_with_holes():
    data, expected = reference("hmm_gaussian_missing_simulated", ["y1", "y2"], "sequence")
    truth, se = expected["params"], expected["se"]
    chain = array(shares(truth["initial"]), shares(truth["transition"]))
    params = HiddenMarkovParams(*chain, GaussianParams(*array(truth["means"], truth["covariances"])))
    found = errors(HiddenMarkov(Gaussian(), 2), params, data)
    for ours, name in zip((found.initial, found.transition, *found.emissions), se, strict=True):
        agree(ours, se[name], 2e-2)


@DEEP
@pytest.mark.parametrize(("name", "index"), [("lca_carcinoma", 0), ("lca_values", 0), ("lca_values", 1)])
def test_latent_classes(name, index):
    """poLCA's are empirical: the outer product of scores."""
    expected = json.loads((HERE / name / "expected.json").read_text())
    row = expected["fits"][index]
    with open(HERE / name / "data.csv") as file:
        table = list(csv.DictReader(file))
    items = list(row["params"]["item_probs"])
    y = np.array([[float(each[item]) for item in items] for each in table])
    y = y - y.min()
    probabilities = np.swapaxes([row["params"]["item_probs"][item] for item in items], 0, 1)
    params = MixtureParams(*array(shares(row["params"]["class_weights"])), CategoricalParams(*array(shares(probabilities))))
    found = errors(Mixture(Categorical(2), row["n_classes"]), params, y, method="empirical")
    theirs = np.swapaxes([row["poLCA"]["item_probs_se"][item] for item in items], 0, 1)
    order = np.argsort(np.atleast_1d(row["poLCA"]["class_weights"]))[::-1]  # their classes in the order of ours
    order = order[np.argsort(np.argsort(row["params"]["class_weights"])[::-1])]
    agree(found.components.probabilities, theirs[order], 5e-2)
    if row["n_classes"] > 1:
        agree(found.weights, np.array(row["poLCA"]["class_weights_se"])[order], 5e-2)


@DEEP
def test_hamilton():
    y, se = growth(), json.loads((HERE / "regime_switching_hamilton_gnp" / "expected.json").read_text())["se"]
    found = errors(HAMILTON, published(), y)
    agree(found.mean, [se["mu_recession"], se["mu_growth"]], 2e-3)
    agree(found.transition[:, 0], [se["p00_recession_stays"], se["p10_growth_to_recession"]], 2e-3)
    agree(found.coefficients, se["phi"], 2e-3)


@DEEP
@pytest.mark.parametrize("known", [False, True])
def test_nile(known):
    expected = json.loads((HERE / "state_space_nile" / "expected.json").read_text())
    row = expected["known_initial_state"] if known else expected
    held = {"initial_mean": 1000.0, "initial_covariance": 10000.0}
    model = local_level(initial="free", fixed=held) if known else local_level()
    start = model.init(jax.random.key(0), nile())
    truth = row["params"]
    params = start._replace(
        transition_noise=jnp.full_like(start.transition_noise, truth["level_variance"]),
        observation_noise=jnp.full_like(start.observation_noise, truth["obs_variance"]),
    )
    assert isinstance(params, StateSpaceParams)
    found = errors(model, params, nile())
    agree(np.ravel(found.transition_noise)[0], row["se"]["level_variance"], 1e-2)
    agree(np.ravel(found.observation_noise)[0], row["se"]["obs_variance"], 1e-2)


def of_t(truth, k):
    scales = truth["scales"] if k > 1 else truth.get("scale", truth.get("scales", [None])[0])
    means = truth["means"] if k > 1 else truth.get("mean", truth.get("means", [None])[0])
    return StudentTParams(*array(means, scales, np.ravel(truth.get("df", truth.get("dof")))[0]))


@DEEP
@pytest.mark.parametrize("name", ["student_t_hills", "t_multivariate_animals"])
def test_t_rows(name):
    y, expected = case(name, ["dist", "climb", "time"] if "hills" in name else ["log_body", "log_brain"])
    row = expected if "hills" in name else expected["fits"][0]
    found, se = errors(Single(StudentT()), of_t(row["params"], 1), np.log(y) if "hills" in name else y), row["se"]
    agree(found.mean, se["mean"] if "mean" in se else se["means"][0], 2e-2)
    agree(found.scale, se["scale"] if "scale" in se else se["scales"][0], 2e-2)
    agree(found.dof, np.ravel(se.get("df", se.get("dof")))[0], 2e-2)


@DEEP
@pytest.mark.parametrize("name", ["student_t_mixture_quakes", "t_mixture_old_faithful"])
def test_t_mixtures(name):
    y, expected = case(name, ["lat", "long"] if "quakes" in name else ["eruptions", "waiting"])
    row = expected if "quakes" in name else expected["fits"][0]
    params = MixtureParams(*array(shares(row["params"]["weights"])), of_t(row["params"], 2))
    found, se = errors(Mixture(StudentT(dof="common"), 2), params, y), row["se"]
    agree(found.weights, se["weights"], 2e-2)
    agree(found.components.mean, se["means"], 2e-2)
    agree(found.components.scale, se["scales"], 2e-2)
    agree(found.components.dof, np.ravel(se.get("df", se.get("dof")))[0], 2e-2)
