"""Draws from posteriors: Gibbs and NUTS against closed forms and each other, the diagnostics of chains, volumes of coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from table import collect

from jaxem import (
    GammaPrior,
    Gaussian,
    HiddenMarkov,
    HiddenMarkovPrior,
    Interval,
    Mixture,
    MixtureParams,
    MixturePrior,
    NormalInverseWishart,
    Poisson,
    PoissonParams,
    Single,
    Status,
    Stop,
    fit,
    gibbs,
    log_posterior,
    nuts,
)
from jaxem.coordinates import log_volume
from jaxem.domains import Loadings, Positive, PositiveDefinite, Real, Simplex, Sphere, Unit
from jaxem.draws import ess_bulk, ess_tail, r_hat
from jaxem.shape_domains import Together

GAMMA = GammaPrior(2.0, 0.5)
WISHART = NormalInverseWishart(np.array([0.5, -0.5]), np.array(0.7), np.array(6.5), np.array([[2.0, 0.4], [0.4, 1.0]]))


def near(draws, exact, sizes, deviations=4.5):
    """Means of draws (chains, draws, ...) are within so many Monte Carlo standard errors of exact ones."""
    spread = np.asarray(draws).std((0, 1))
    error = np.abs(np.asarray(draws).mean((0, 1)) - exact)
    assert (error <= deviations * spread / np.sqrt(np.asarray(sizes))).all()


def mixture_data():
    rng = np.random.default_rng(0)
    return rng.poisson(np.array([1.0, 6.0])[rng.integers(2, size=60)])[:, None].astype(float)


MIXTURE = Mixture(Poisson(), 2, prior=MixturePrior(1.0, GAMMA))


# closed forms


def test_independent_draws_of_a_rate():
    """Without anything latent draws are independent, from a gamma distribution."""
    y = np.array([3.0, 0, 2, 5, 1])
    found = fit(Single(Poisson(), prior=GAMMA), y, algorithm=gibbs(1000, 0, chains=2), key=0)
    assert found.status == Status.CONVERGED
    assert found.passes <= 2 * 1000 + 1
    exact = stats.gamma(2 + y.sum(), scale=1 / (0.5 + len(y)))
    drawn = np.asarray(found.detail.params.rate)
    assert drawn.shape == (2, 1000, 1)
    assert stats.kstest(drawn[:, 1:].ravel(), exact.cdf).pvalue > 1e-3
    np.testing.assert_allclose(found.params.rate, drawn.mean((0, 1)), rtol=1e-12)
    assert "2 chains of 1000 draws: largest R-hat 1.0" in found.explain()
    table = found.detail.table(Single(Poisson()).domains)
    np.testing.assert_allclose(table["50%"], exact.median(), atol=0.1)
    assert list(table["name"]) == ["rate[0]"]
    again = fit(Single(Poisson(), prior=GAMMA), y, algorithm=gibbs(1000, 0, chains=2), key=0)
    np.testing.assert_array_equal(drawn, again.detail.params.rate)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "tied", "diagonal", "spherical"])
def test_independent_draws_of_a_covariance(kind):
    y = np.random.default_rng(0).normal(size=(12, 2)) @ [[1.0, 0.5], [0.0, 0.7]] + [1.0, 2.0]
    found = fit(Single(Gaussian(kind), prior=WISHART), y, algorithm=gibbs(2000, 0, chains=2), key=0)
    n, mean, deviation = len(y), y.mean(0), y - y.mean(0)
    shrinkage = 0.7 + n
    between = mean - WISHART.mean
    scatter = WISHART.scale + deviation.T @ deviation + 0.7 * n / shrinkage * np.outer(between, between)
    drawn, sizes = found.detail.params, found.detail.ess_bulk
    near(drawn.mean, (0.7 * WISHART.mean + n * mean) / shrinkage, sizes.mean)
    if kind in ("full", "tied"):
        near(drawn.covariance, scatter / (6.5 + n - 3), sizes.covariance)
        exact = stats.invwishart(6.5 + n, scatter)
        np.testing.assert_allclose(np.asarray(drawn.covariance)[..., 0, 1].std(), exact.rvs(20000, 0)[:, 0, 1].std(), rtol=0.1)
        scale = np.sqrt(scatter[0, 0] / (6.5 + n - 1) / shrinkage)
        marginal = stats.t(6.5 + n - 1, (0.7 * WISHART.mean[0] + n * mean[0]) / shrinkage, scale)
        assert stats.kstest(np.asarray(drawn.mean)[:, 1:, 0].ravel(), marginal.cdf).pvalue > 1e-3
    else:
        own = np.diag(WISHART.scale)
        if kind == "diagonal":
            dof, scale = 6.5 + n, own + (deviation**2).sum(0) + 0.7 * n / shrinkage * between**2
        else:
            dof = 6.5 + 2 * n
            scale = own.mean() + (deviation**2).sum() + (0.7 * n / shrinkage * between**2).sum()
        exact = stats.invgamma(dof / 2, scale=scale / 2)
        near(drawn.covariance, exact.mean(), sizes.covariance)
        np.testing.assert_allclose(np.asarray(drawn.covariance).std((0, 1)), exact.std(), rtol=0.1)


@pytest.mark.slow
def test_missing_cells_are_drawn():
    """With a whole column missing where the other is not, the mean of the first column's margin is exact."""
    rng = np.random.default_rng(3)
    y = rng.normal(size=(25, 2)) @ [[1.0, 0.8], [0.0, 0.6]]
    y[15:, 1] = np.nan
    found = fit(Single(Gaussian(), prior=WISHART), y, algorithm=gibbs(4000, 200, chains=4), key=0)
    assert found.status == Status.CONVERGED
    # column 0 is complete: its posterior is that of the marginal model, inverse Wishart of dof - 1 in one dimension
    n, x = len(y), y[:, 0]
    shrinkage, between = 0.7 + n, x.mean() - WISHART.mean[0]
    scale = WISHART.scale[0, 0] + ((x - x.mean()) ** 2).sum() + 0.7 * n / shrinkage * between**2
    dof = 6.5 - 1 + n
    drawn, sizes = found.detail.params, found.detail.ess_bulk
    near(drawn.mean[..., 0], (0.7 * WISHART.mean[0] + n * x.mean()) / shrinkage, sizes.mean[0])
    near(drawn.covariance[..., 0, 0], scale / (dof - 2), sizes.covariance[0, 0])
    # the regression on it is that of the complete rows (Little and Rubin 2019, sec. 7.3), with the prior as rows beside them
    seen, m = np.c_[np.ones(15), x[:15]], np.r_[1, WISHART.mean[0]]
    square = seen.T @ seen + 0.7 * np.outer(m, m) + np.diag([0, WISHART.scale[0, 0]])
    exact = np.linalg.solve(square, seen.T @ y[:15, 1] + 0.7 * m * WISHART.mean[1] + [0, WISHART.scale[0, 1]])
    slope = drawn.covariance[..., 0, 1] / drawn.covariance[..., 0, 0]
    near(slope, exact[1], ess_bulk(slope))
    assert slope.std() > 0.1  # of 15 rows, not of 25


def enumerated(y, shape, rate, k=2):
    """Posterior mean of the smaller and larger rate of a mixture of Poissons, all assignments summed, draws within each."""
    import itertools

    from scipy.special import gammaln

    rng = np.random.default_rng(0)
    log_weights, low, high = [], [], []
    for states in itertools.product(range(k), repeat=len(y)):
        states = np.array(states)
        counts, totals = np.bincount(states, minlength=k), np.bincount(states, weights=y, minlength=k)
        a, b = shape + totals, rate + counts
        log_weights.append((gammaln(1 + counts) + gammaln(a) - a * np.log(b)).sum())
        rates = np.sort(rng.gamma(a, 1 / b, size=(400, k)), axis=1).mean(0)
        low.append(rates[0])
        high.append(rates[1])
    p = np.exp(np.array(log_weights) - max(log_weights))
    p /= p.sum()
    return p @ np.array(low), p @ np.array(high)


@pytest.mark.slow
def test_mixture_against_all_assignments():
    y = np.array([0.0, 1, 6, 8, 1, 7, 2, 4])
    found = fit(MIXTURE, y[:, None], key=0, algorithm=gibbs(4000, 200))
    exact = np.array(enumerated(y, 2.0, 0.5))
    drawn, sizes = found.detail.params.components.rate, found.detail.ess_bulk.components.rate
    near(drawn[..., 0], exact, sizes[:, 0], 5)
    assert found.detail.worst()[0] < 1.02


@pytest.mark.slow
def test_simulation_based_calibration():
    """Ranks of true params among draws are uniform (Talts et al. 2018), for a mixture whose components the prior tells apart."""
    prior = MixturePrior(np.array([2.0, 3.0]), GammaPrior(np.array([[4.0], [30.0]]), np.array([[4.0], [3.0]])))
    model = Mixture(Poisson(), 2, prior=prior)
    rng, ranks = np.random.default_rng(5), []
    for number in range(60):
        weights = rng.dirichlet([2.0, 3.0])
        rates = rng.gamma([4.0, 30.0], [1 / 4, 1 / 3])
        y = rng.poisson(rates[rng.choice(2, size=12, p=weights)])[:, None].astype(float)
        start = MixtureParams(jnp.array([0.4, 0.6]), PoissonParams(jnp.array([[1.0], [10.0]])))
        found = fit(model, y, params=start, key=number, algorithm=gibbs(150, 20, chains=2, mixed=2.0))
        drawn = found.detail.params
        thin = [np.asarray(leaf)[:, ::5].reshape(60, -1) for leaf in (drawn.weights, drawn.components.rate)]
        ranks.append([(thin[0][:, 0] < weights[0]).sum(), *(thin[1] < rates).sum(0)])
    for each in np.array(ranks).T:
        assert stats.chisquare(np.histogram(each, bins=5, range=(0, 61))[0]).pvalue > 1e-3


@pytest.mark.slow
def test_hidden_markov_states_and_labels():
    rng = np.random.default_rng(0)
    z = np.repeat(rng.integers(2, size=12), 8)
    y = rng.poisson(np.array([1.0, 7.0])[z])[:, None].astype(float)
    prior = HiddenMarkovPrior(1.0, np.array([[3.0, 1.0], [1.0, 3.0]]), GAMMA)
    found = fit(HiddenMarkov(Poisson(), 2, prior=prior), y, key=0, algorithm=gibbs(400, 100))
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.params.emissions.rate[:, 0], [y[z == 0].mean(), y[z == 1].mean()], rtol=0.2)
    rates = np.asarray(found.detail.params.emissions.rate)[..., 0]
    assert (rates[..., 0] < rates[..., 1]).all()
    np.testing.assert_allclose(np.asarray(found.detail.params.transition).sum(-1), 1)


@pytest.mark.slow
def test_ends_before_all_is_drawn():
    found = fit(MIXTURE, mixture_data(), key=0, algorithm=gibbs(500, 100), stop=Stop(max_passes=1000))
    assert found.status == Status.MAX_STEPS
    assert np.isfinite(found.log_likelihood)
    assert "ended before all draws were made" in found.explain()
    assert np.isnan(np.asarray(found.detail.log_joint)).any()


def test_what_cannot_be():
    y = np.array([0.0, 1, 6, 8, 1, 7])
    with pytest.raises(ValueError, match="Repeat such rows"):
        fit(MIXTURE, y, key=0, weights=np.array([1.0, 2, 1, 1, 1, 1]), algorithm=gibbs())
    with pytest.raises(ValueError, match="has none"):
        fit(Mixture(Poisson(), 2), y, key=0, algorithm=gibbs())
    cells = Interval(np.array([[0.0, 1], [1, 2], [0, 1]]), np.array([[0.0, 1], [1, np.inf], [0, 1]]))
    with pytest.raises(TypeError, match="does not draw them"):
        fit(Single(Gaussian(), prior=WISHART), cells, key=0, algorithm=gibbs())
    with pytest.raises(ValueError, match="draws"):
        gibbs(draws=4)
    with pytest.raises(ValueError, match="mixed"):
        gibbs(mixed=1.0)
    with pytest.raises(ValueError, match="say flat=True"):
        log_posterior(Mixture(Poisson(), 2), y, None)
    assert gibbs(100) == gibbs(draws=100)


# diagnostics


def plain_r_hat(x):
    """As Vehtari et al. (2021) write it, by scipy's ranks."""
    half = x.shape[1] // 2
    halves = np.concatenate([x[:, :half], x[:, -half:]])

    def between(values):
        z = stats.norm.ppf((stats.rankdata(values).reshape(values.shape) - 0.375) / (values.size + 0.25))
        within = z.var(axis=1, ddof=1).mean()
        return np.sqrt((half - 1) / half + z.mean(axis=1).var(ddof=1) / within)

    return max(between(halves), between(np.abs(halves - np.median(halves))))


def test_diagnostics():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 201))
    apart = x + np.array([0.0, 0.0, 1.0])[:, None]
    wide = x * np.array([1.0, 1.0, 4.0])[:, None]  # of one place, but not of one width
    found = jax.jit(jax.vmap(r_hat))(jnp.stack([x, apart, wide, jnp.ones((3, 201))]))
    np.testing.assert_allclose(found[:3], [plain_r_hat(each) for each in (x, apart, wide)], rtol=1e-10)
    assert (found[1:3] > 1.1).all()
    assert np.isnan(found[3])
    # an autoregression of correlation a has (1 - a) / (1 + a) as many draws for its mean
    noise, chain = rng.normal(size=(3, 4000)), np.zeros((3, 4000))
    for t in range(1, 4000):
        chain[:, t] = 0.8 * chain[:, t - 1] + noise[:, t]
    bulk, tail = jax.jit(lambda x: (ess_bulk(x), ess_tail(x)))(jnp.asarray(chain))
    np.testing.assert_allclose(bulk / 12000, 0.2 / 1.8, rtol=0.2)
    assert 0.05 < tail / 12000 < 0.5


# coordinates and NUTS

LOWER = np.tril_indices(3)
CELLS = {  # domain, shape, the cells that tell a value
    "real": (Real(), (2, 2), lambda x: x.ravel()),
    "positive": (Positive(), (3,), lambda x: x),
    "unit": (Unit(), (3,), lambda x: x),
    "simplex": (Simplex(), (2, 4), lambda x: x[:, :-1].ravel()),
    "covariance": (PositiveDefinite(), (2, 3, 3), lambda x: x[:, LOWER[0], LOWER[1]].ravel()),
    "loadings": (Loadings(), (1, 3, 2), lambda x: x[:, [0, 1, 1, 2, 2], [0, 0, 1, 0, 1]].ravel()),
}


@pytest.mark.parametrize("name", CELLS)
def test_volumes_are_those_of_the_derivative(name):
    domain, shape, cells = CELLS[name]
    u = jnp.asarray(np.random.default_rng(0).normal(size=domain.count(shape)))
    both = jax.jit(lambda u: (jax.jacfwd(lambda v: cells(domain.unflatten(v, shape)))(u), domain.log_volumes(u, shape)))
    derivative, found = both(u)
    np.testing.assert_allclose(found, np.linalg.slogdet(np.asarray(derivative))[1], atol=1e-10)


def test_volume_of_a_sphere():
    u = jnp.asarray(np.random.default_rng(0).normal(size=3))
    both = jax.jit(lambda u: (jax.jacfwd(lambda v: Sphere().unflatten(v, (1, 4))[0])(u), Sphere().log_volumes(u, (1, 4))))
    derivative, found = map(np.asarray, both(u))
    np.testing.assert_allclose(found, 0.5 * np.linalg.slogdet(derivative.T @ derivative)[1], atol=1e-10)


def test_volume_of_probabilities_with_zeros():
    """What is 0 stays, and the others have the volume that they have without it."""
    p = jnp.array([0.2, 0.0, 0.5, 0.3, 0.0])
    kept = jnp.array([0.2, 0.5, 0.3])
    whole, part = (Simplex().log_volume(Simplex().unconstrain(x), x.shape) for x in (p, kept))
    np.testing.assert_allclose(whole, part, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [{"weights": [0.2, np.nan, np.nan]}, {"rate": [[1.0, np.nan, np.nan]] * 3}])
def test_volume_with_held_cells(fixed):
    model = Mixture(Poisson(), 3, fixed=fixed)
    shapes = model.structure(3)
    u = jnp.asarray(np.random.default_rng(0).normal(size=model.n_parameters(3)))

    def cells(v):
        params = model.from_unconstrained(v, like=MixtureParams(np.ones(3), PoissonParams(np.ones((3, 3)))))
        weights, rate = params.weights, params.components.rate
        held = "weights" in fixed
        return jnp.concatenate([weights[1:2] if held else weights[:2], (rate if held else rate[:, 1:]).ravel()])

    exact = np.linalg.slogdet(np.asarray(jax.jacfwd(cells)(u)))[1]
    np.testing.assert_allclose(log_volume(model.domains, shapes, u), exact, atol=1e-10)


@pytest.mark.slow
def test_every_model_has_a_log_posterior():
    """Its derivative is finite at the table's params; covariances that share a shape have no density of their own."""
    seen = set()
    for row in collect():
        kinds = (type(row.model), *(type(domain) for domain in jax.tree.leaves(row.model.domains)))
        if kinds in seen or row.slow:
            continue
        seen.add(kinds)
        params = row.params("float64")
        u = row.model.to_unconstrained(params)
        shapes = jax.tree.map(jnp.shape, params)
        if any(isinstance(domain, Together) for domain in jax.tree.leaves(row.model.domains)):
            with pytest.raises(TypeError, match="that share"):
                log_volume(row.model.domains, shapes, u)
        else:
            assert np.isfinite(log_volume(row.model.domains, shapes, u)), row.name


@pytest.mark.slow
def test_log_posterior_of_a_rate():
    y = np.array([3.0, 0, 2, 5, 1])
    model = Single(Poisson(), prior=GAMMA)
    density = log_posterior(model, y, PoissonParams(jnp.ones(1)))
    u = jnp.array([[0.3], [0.9]])
    exact = stats.gamma(2 + y.sum(), scale=1 / (0.5 + len(y))).logpdf(np.exp(u[:, 0])) + np.asarray(u[:, 0])
    found = [density(each) for each in u]
    np.testing.assert_allclose(found[1] - found[0], exact[1] - exact[0], rtol=1e-10)


@pytest.mark.slow
def test_nuts_and_gibbs_agree():
    pytest.importorskip("blackjax")
    y = mixture_data()
    theirs = nuts(MIXTURE, y, key=0, draws=600, warmup=300)
    ours = fit(MIXTURE, y, key=1, algorithm=gibbs(2000, 100)).detail
    assert theirs.worst()[0] < 1.03
    for a, b, m, n in zip(*(jax.tree.leaves(x) for x in (theirs.params, ours.params, theirs.ess_bulk, ours.ess_bulk)), strict=True):
        error = np.sqrt(np.asarray(a).var((0, 1)) / m + np.asarray(b).var((0, 1)) / n)
        assert (np.abs(a.mean((0, 1)) - b.mean((0, 1))) <= 4.5 * error).all()
    np.testing.assert_allclose(theirs.log_joint.mean(), ours.log_joint.mean(), atol=0.3)


def test_nuts_says_what_it_needs(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "blackjax", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxem\[nuts\]'"):
        nuts(MIXTURE, mixture_data(), key=0)
