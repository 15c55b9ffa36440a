"""Variational Bayes: the bound against exact evidence, the posterior against scikit-learn and closed forms."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gaussian
from scipy import stats
from scipy.special import gammaln, logsumexp
from sklearn.mixture import BayesianGaussianMixture

from jaxem import (
    Bernoulli,
    BetaPrior,
    Categorical,
    DirichletPrior,
    Exponential,
    Gamma,
    GammaPrior,
    Gaussian,
    HiddenMarkov,
    HiddenMarkovPrior,
    Interval,
    Mixture,
    MixturePrior,
    NormalInverseWishart,
    Poisson,
    Product,
    Single,
    Status,
    Stop,
    fit,
    squarem,
    variational,
)
from jaxem.conjugate import mean_of

EXACT = Stop(tolerance=1e-10, max_steps=5000)
GAMMA = GammaPrior(2.0, 0.5)
WISHART = NormalInverseWishart(np.array([0.5, -0.5]), np.array(0.7), np.array(4.5), np.array([[2.0, 0.4], [0.4, 1.0]]))


def rising(found):
    history = np.asarray(found.history)
    history = history[~np.isnan(history)]
    return (np.diff(history) >= -1e-9 * np.abs(history[-1])).all()


# where nothing is latent, the bound is the log evidence and the posterior is exact


def gamma_evidence(y, shape, rate):
    """Log evidence of Poisson counts under a gamma prior."""
    total = shape + y.sum()
    return shape * np.log(rate) - gammaln(shape) + gammaln(total) - total * np.log(rate + len(y)) - gammaln(y + 1).sum()


def test_bound_is_the_evidence_of_counts():
    y = np.array([3.0, 0, 2, 5, 1])
    found = fit(Single(Poisson(), prior=GAMMA), y, algorithm=variational())
    np.testing.assert_allclose(found.objective, gamma_evidence(y, 2.0, 0.5), rtol=1e-12)
    np.testing.assert_allclose(found.params.rate[0], (2 + y.sum()) / (0.5 + len(y)), rtol=1e-12)
    assert found.status == Status.CONVERGED
    assert found.passes <= 6


def inverse_gamma(dof, scale):
    return stats.invgamma(dof / 2, scale=scale / 2)


def log_density(kind, belief, k, mean, covariance):
    """Of a mean and a covariance under hyperparameters (location, shrinkage, dof, scale) of one state, by scipy."""
    location, shrinkage, dof, scale = (np.asarray(x) for x in belief)
    if kind in ("full", "tied"):
        dof, scale = (float(dof), scale) if kind == "tied" else (dof[k], scale[k])
        spread = stats.invwishart(dof, scale).logpdf(covariance)
        return spread + stats.multivariate_normal(location[k], covariance / shrinkage[k]).logpdf(mean)
    spread = np.sum(inverse_gamma(dof[k], scale[k]).logpdf(covariance))
    return spread + np.sum(stats.norm(location[k], np.sqrt(covariance / shrinkage[k])).logpdf(mean))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "holes"),
    [("full", False), ("tied", False), ("diagonal", False), ("diagonal", True), ("spherical", False), ("spherical", True)],
)
def test_bound_is_the_evidence_of_gaussian_rows(kind, holes):
    """log p(y) = log p(y | params) + log p(params) - log p(params | y), whatever the params; with holes too where cells stand
    alone, since cells that are missing are left out."""
    y = np.random.default_rng(0).normal(size=(9, 2)) @ [[1.0, 0.5], [0.0, 0.7]] + [1.0, 2.0]
    if holes:
        y[[0, 3, 4], [1, 0, 1]] = np.nan
    found = fit(Single(Gaussian(kind), prior=WISHART), y, algorithm=variational())
    q = found.detail.posterior
    posterior = (q.location, q.shrinkage, q.dof, q.scale)
    d, scale = 2, WISHART.scale
    shapes = {"full": ((1,), scale[None]), "tied": ((), scale), "diagonal": ((1, d), np.diag(scale)[None]),
              "spherical": ((1,), np.trace(scale)[None] / d)}  # fmt: skip
    counts, own = shapes[kind]
    cells = (1, d) if kind in ("diagonal", "spherical") else (1,)
    prior = (WISHART.mean[None], np.full(cells, 0.7), np.full(counts, 4.5), own)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        mean, spread = rng.normal(size=d), {"diagonal": rng.uniform(0.5, 2, d), "spherical": rng.uniform(0.5, 2)}.get(
            kind, stats.wishart(5, np.eye(d)).rvs(random_state=rng)
        )
        whole = spread if np.ndim(spread) == 2 else np.diag(np.broadcast_to(spread, d))
        seen = [np.flatnonzero(~np.isnan(row)) for row in y]
        log_likelihood = sum(
            stats.multivariate_normal(mean[s], whole[np.ix_(s, s)]).logpdf(row[s]) for s, row in zip(seen, y, strict=True)
        )
        evidence = log_likelihood + log_density(kind, prior, 0, mean, spread) - log_density(kind, posterior, 0, mean, spread)
        np.testing.assert_allclose(found.objective, evidence, rtol=1e-10)


@pytest.mark.slow
def test_bound_of_a_full_covariance_with_holes_is_below_the_evidence():
    """The evidence by quadrature over the two missing cells."""
    y = np.random.default_rng(1).normal(size=(6, 2)) + np.array([0.5, 0.0])
    model, algorithm = Single(Gaussian(), prior=WISHART), variational()
    places = ([1, 4], [0, 1])
    y[places] = np.nan
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    rows = fit(model, y, algorithm=algorithm, stop=EXACT)
    assert rising(rows)

    def evidence(filled):
        n = len(filled)
        mean, deviation = filled.mean(0), filled - filled.mean(0)
        pull = 0.7 * n / (0.7 + n) * np.outer(mean - WISHART.mean, mean - WISHART.mean)
        after = WISHART.scale + deviation.T @ deviation + pull
        dof = 4.5 + n
        out = -n * np.log(np.pi) + np.log(0.7 / (0.7 + n))
        out += 0.5 * 4.5 * np.linalg.slogdet(WISHART.scale)[1] - 0.5 * dof * np.linalg.slogdet(after)[1]
        return out + sum(gammaln(0.5 * (dof - i)) - gammaln(0.5 * (4.5 - i)) for i in range(2))

    # Gauss-Hermite nodes, 3 standard deviations wide, since the integrand has the tails of a t
    total = []
    for (a, wa), (b, wb) in itertools.product(zip(nodes, weights, strict=True), repeat=2):
        filled = y.copy()
        filled[places] = [3 * a, 3 * b]
        total.append(np.log(wa * wb * 9) + 0.5 * (a * a + b * b) + evidence(filled))
    exact = logsumexp(total)
    assert exact - 1.0 < rows.objective < exact + 1e-6


def mixture_evidence(y, weights_prior, shape, rate, k):
    """Log evidence of a mixture of Poissons by summing over all assignments."""
    each = []
    for states in itertools.product(range(k), repeat=len(y)):
        counts = np.bincount(states, minlength=k)
        out = gammaln(k * weights_prior) - k * gammaln(weights_prior)
        out += gammaln(weights_prior + counts).sum() - gammaln(k * weights_prior + len(y))
        each.append(out + sum(gamma_evidence(y[np.array(states) == j], shape, rate) for j in range(k)))
    return logsumexp(each)


def test_bound_of_a_mixture_is_below_the_evidence():
    y = np.array([0.0, 1, 6, 8, 1, 7])
    model = Mixture(Poisson(), 2, prior=MixturePrior(1.0, GAMMA))
    found = fit(model, y, key=0, restarts=4, algorithm=variational(), stop=EXACT)
    exact = mixture_evidence(y, 1.0, 2.0, 0.5, 2)
    # each of two labellings has half of the evidence, and the bound can hold but one
    assert exact - np.log(2) - 0.3 < found.objective < exact - np.log(2) + 1e-9
    assert rising(found)
    posterior = found.detail.posterior
    jax.tree.map(np.testing.assert_array_equal, mean_of(posterior), found.params)  # relabelled together
    assert found.params.components.rate[0, 0] < found.params.components.rate[1, 0]


@pytest.mark.slow
def test_bound_of_a_hidden_markov_model_is_below_the_evidence():
    y, k = np.array([0.0, 1, 0, 7, 8, 6, 1]), 2
    prior = HiddenMarkovPrior(1.0, np.array([[3.0, 1.0], [1.0, 3.0]]), GAMMA)
    found = fit(HiddenMarkov(Poisson(), k, prior=prior), y, key=0, restarts=4, algorithm=variational(), stop=EXACT)
    each = []
    for states in itertools.product(range(k), repeat=len(y)):
        moves = np.zeros((k, k))
        np.add.at(moves, (states[:-1], states[1:]), 1)
        out = -np.log(k)
        for j in range(k):
            a = prior.transition[j]
            out += gammaln(a.sum()) - gammaln(a).sum() + gammaln(a + moves[j]).sum() - gammaln((a + moves[j]).sum())
            out += gamma_evidence(y[np.array(states) == j], 2.0, 0.5)
        each.append(out)
    exact = logsumexp(each)
    assert exact - np.log(2) - 1.0 < found.objective < exact - np.log(2) + 1e-9
    assert rising(found)
    np.testing.assert_allclose(found.detail.counts.sum(), len(y))


# the same posterior as scikit-learn's


class Started(BayesianGaussianMixture):
    """From given responsibilities."""

    def _initialize_parameters(self, X, random_state, *rest, **more):
        self._initialize(X, self.given)


@pytest.mark.slow
def test_same_as_scikit_learn():
    """Its bound leaves out what does not change: the prior's normalising constants and n d log(2 pi) / 2."""
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.normal(size=(40, 2)), rng.normal(size=(30, 2)) * [1, 0.5] + [4, 3]])
    k, d, alpha, shrinkage, dof = 4, 2, 0.05, 1.0, 4.0
    center, scale = y.mean(0), np.cov(y.T)
    model = Mixture(Gaussian(), k, prior=MixturePrior(alpha, NormalInverseWishart(center, shrinkage, dof, scale)))
    start = model.init(3, y)
    found = fit(model, y, params=start, algorithm=variational(), stop=EXACT)
    theirs = Started(
        n_components=k, weight_concentration_prior_type="dirichlet_distribution", weight_concentration_prior=alpha,
        mean_prior=center, mean_precision_prior=shrinkage, degrees_of_freedom_prior=dof, covariance_prior=scale, tol=1e-14,
        max_iter=5000, reg_covar=0,
    )  # fmt: skip
    theirs.given = np.asarray(model.posterior(start, y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.fit(y)
    posterior = found.detail.posterior
    np.testing.assert_allclose(posterior.weights.concentration, theirs.weight_concentration_, atol=1e-4)
    np.testing.assert_allclose(found.params.components.mean, theirs.means_, atol=1e-5)
    np.testing.assert_allclose(found.params.components.covariance, theirs.covariances_, rtol=1e-4)
    log_wishart = 0.5 * dof * np.linalg.slogdet(scale)[1] - 0.5 * dof * d * np.log(2)
    log_wishart -= sum(gammaln(0.5 * (dof - i)) for i in range(d))
    left_out = k * (log_wishart + 0.5 * d * np.log(shrinkage)) + gammaln(k * alpha) - k * gammaln(alpha)
    left_out -= 0.5 * len(y) * d * np.log(2 * np.pi)
    np.testing.assert_allclose(found.objective, theirs.lower_bound_ + left_out, atol=1e-5)
    # two of the four are not needed, and the fit says so
    assert np.asarray(found.detail.emptied).sum() == 2
    empty = np.flatnonzero(np.asarray(found.detail.emptied))
    assert f"component {empty[0]}, {empty[1]}" in found.explain()
    np.testing.assert_allclose(found.params.components.mean[empty], np.broadcast_to(center, (2, d)), atol=1e-6)


# the rest


@pytest.mark.slow
def test_every_conjugate_family_rises_with_holes():
    rng = np.random.default_rng(2)
    z = rng.integers(2, size=60)
    data = {
        "age": rng.normal(size=(60, 2)) + 4 * z[:, None],
        "wait": rng.exponential(1 + 5 * z)[:, None],
        "visits": rng.poisson(1 + 5 * z)[:, None].astype(float),
        "yes": (rng.random((60, 2)) < 0.2 + 0.6 * z[:, None]).astype(float),
        "ward": rng.integers(3, size=(60, 1)).astype(float),
    }
    for values in data.values():
        values[rng.random(values.shape) < 0.2] = np.nan
    data["age"][3] = np.nan  # a whole group missing
    family = Product(age=Gaussian(), wait=Exponential(), visits=Poisson(), yes=Bernoulli(), ward=Categorical())
    own = {"age": WISHART, "wait": GammaPrior(1.0, 1.0), "visits": GAMMA, "yes": BetaPrior(1.0, 2.0), "ward": DirichletPrior(0.8)}
    found = fit(Mixture(family, 3, prior=MixturePrior(0.5, own)), data, key=0, algorithm=variational(), stop=EXACT)
    assert found.status == Status.CONVERGED
    assert rising(found)
    np.testing.assert_allclose(found.detail.counts.sum(), 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_censored_cells_are_latent(kind):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 2)) + 3 * rng.integers(2, size=40)[:, None]
    lower, upper = np.where(y > 3.5, 3.5, y), np.where(y > 3.5, np.inf, y)
    lower[0, 0], upper[0, 0] = -np.inf, np.inf
    model = Mixture(Gaussian(kind), 2, prior=MixturePrior(1.0, WISHART))
    found = fit(model, Interval(lower, upper), key=1, algorithm=variational(), stop=Stop(tolerance=1e-7))
    assert found.status == Status.CONVERGED
    assert rising(found)


@pytest.mark.slow
def test_a_weight_is_a_repetition():
    row = next(row for row in gaussian.ROWS if row.name == "mixture-full-prior")
    y, weights = row.data("float64"), row.weights("float64").astype(int)
    stop = Stop(tolerance=0.0, max_steps=6)
    weighed = fit(row.model, y, params=row.params("float64"), weights=weights.astype(float), algorithm=variational(), stop=stop)
    repeated = fit(row.model, np.repeat(y, weights, axis=0), params=row.params("float64"), algorithm=variational(), stop=stop)
    np.testing.assert_allclose(weighed.objective, repeated.objective, rtol=1e-11)


@pytest.mark.slow
def test_a_given_prior_is_the_models_own():
    y = np.array([0.0, 1, 6, 8, 1, 7])
    prior = MixturePrior(jnp.asarray(1.0), GammaPrior(jnp.asarray(2.0), jnp.asarray(0.5)))
    assert variational(prior) == variational(MixturePrior(1.0, GammaPrior(2.0, 0.5)))
    own = fit(Mixture(Poisson(), 2, prior=prior), y, key=0, algorithm=variational())
    given = fit(Mixture(Poisson(), 2), y, key=0, algorithm=variational(prior))
    np.testing.assert_allclose(own.objective, given.objective, rtol=1e-13)


def test_what_cannot_be():
    y = np.array([0.0, 1, 6, 8, 1, 7])
    params = Mixture(Poisson(), 2).init(0, y)

    even = params._replace(weights=jnp.array([0.5, 0.5]))

    def attempt(model, prior=None, start=params, data=y):
        return fit(model, data, params=start, algorithm=variational(prior))

    with pytest.raises(ValueError, match=r"has none; give a conjugate one, prior=MixturePrior\(1.0, GammaPrior"):
        attempt(Mixture(Poisson(), 2))
    with pytest.raises(ValueError, match=r"improper, with rate of 0"):
        attempt(Mixture(Poisson(), 2), MixturePrior(1.0, GammaPrior(1.0, 0.0)))
    with pytest.raises(ValueError, match="concentration of 0"):
        attempt(Mixture(Poisson(), 2, prior=MixturePrior(0.0, GAMMA)))
    with pytest.raises(TypeError, match="takes GammaPrior"):
        attempt(Mixture(Poisson(), 2), MixturePrior(1.0, BetaPrior(1.0, 1.0)))
    with pytest.raises(ValueError, match="nothing for the components"):
        attempt(Mixture(Poisson(), 2), MixturePrior(1.0, None))
    with pytest.raises(ValueError, match="fixed or tied"):
        attempt(Mixture(Poisson(), 2, prior=MixturePrior(1.0, GAMMA), fixed={"weights": [0.5, 0.5]}), start=even)
    with pytest.raises(TypeError, match="closed form"):
        attempt(Single(Gamma()), start=None, data=1 + y)
    model = HiddenMarkov(Poisson(), 2, initial="stationary", prior=HiddenMarkovPrior(1.0, 1.0, GAMMA))
    with pytest.raises(ValueError, match="initial"):
        attempt(model, start=model.init(0, y))
    with pytest.raises(ValueError, match="dof"):
        attempt(Single(Gaussian()), NormalInverseWishart(np.zeros(2), 1.0, 1.0, np.eye(2)), start=None, data=np.eye(2)[[0, 1, 0]])
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda rate: variational(GammaPrior(2.0, rate)))(1.0)
    with pytest.raises(ValueError, match="something else than its newest params"):
        squarem(variational())
