"""Hidden semi-Markov models: every path enumerated, geometric durations, corners of durations, underflow, bad input."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases.hidden_semi_markov import LASTING, log_path
from scipy import stats

import jaxem
from jaxem import (
    CategoricalDuration,
    Gaussian,
    HiddenMarkov,
    HiddenMarkovParams,
    HiddenSemiMarkov,
    HiddenSemiMarkovParams,
    HiddenSemiMarkovPrior,
    MixturePrior,
    NegativeBinomialDuration,
    Poisson,
    PoissonDuration,
    Status,
)
from jaxem.kernels import durations

D, T, K = 3, 6, 3
RATES = np.array([1.0, 4.0, 9.0])
MODEL = HiddenSemiMarkov(Poisson(), K, "categorical", D)
MOVES = np.array([[0.0, 1.0, 0.0], [0.6, 0.0, 0.4], [0.5, 0.5, 0.0]])  # with an exact zero besides the diagonal
PARAMS = HiddenSemiMarkovParams(
    np.array([0.5, 0.2, 0.3]), MOVES, CategoricalDuration(np.where(np.eye(3) == 1, 0, LASTING / (1 - np.diag(LASTING))[:, None])),
    MODEL.family.domains._replace(rate=RATES[:, None]),
)  # fmt: skip
Y = np.array([1.0, 2, 7, np.nan, 8, 3])


def every_path(params=PARAMS, y=Y, d=D):
    """All K^T paths and their log joint densities with the data."""
    emission = np.where(np.isnan(y)[:, None], 0, stats.poisson.logpmf(np.nan_to_num(y)[:, None], RATES))
    found = list(product(range(K), repeat=len(y)))
    return np.array(found), np.array([log_path(params, p, d) + sum(emission[t, k] for t, k in enumerate(p)) for p in found])


def test_what_is_read_off_is_that_of_all_paths():
    """Smoothed and filtered probabilities, the likeliest path, paths drawn: against the sum over all paths, two at once."""
    found, joint = every_path()
    p = np.exp(joint - joint.max())
    smooth = np.array([[p[found[:, t] == k].sum() for k in range(K)] for t in range(T)]) / p.sum()
    several = [Y, Y[:4]]  # the second shares the lanes of the first
    np.testing.assert_allclose(MODEL.smooth(PARAMS, several)[:T], smooth, atol=1e-12)
    for data in (Y, Y[:4]):
        own, log = every_path(y=data)
        own_p = np.exp(log - log.max())
        ends = np.array([own_p[own[:, -1] == k].sum() for k in range(K)]) / own_p.sum()
        np.testing.assert_allclose(MODEL.filter(PARAMS, several)[len(data) - 1], ends, atol=1e-12)
    np.testing.assert_array_equal(MODEL.viterbi(PARAMS, several)[:T], found[joint.argmax()])
    rows = jaxem.prepare(MODEL, several)
    draws = jax.vmap(lambda key: MODEL.posterior_sample(key, PARAMS, rows))(jax.random.split(jax.random.key(0), 4000))
    code = np.asarray(draws)[:, :T] @ K ** np.arange(T)
    weight = {int(path @ K ** np.arange(T)): float(share) for path, share in zip(found, p / p.sum(), strict=True)}
    seen = {int(c): float((code == c).mean()) for c in np.unique(code)}
    assert all(weight[c] > 0 for c in seen)
    assert max(abs(seen.get(c, 0) - share) for c, share in weight.items()) < 4 * np.sqrt(0.25 / 4000)


def test_geometric_durations_are_a_hidden_markov_model():
    """A state that is left with the same chance at every step: d(u) = a^(u-1) (1 - a), cut off beyond what can be seen."""
    stay = np.array([0.8, 0.5, 0.9])
    u = np.arange(1, T + 2)
    geometric = stay[:, None] ** (u - 1) * (1 - stay)[:, None]
    geometric[:, -1] = stay**T  # lasts beyond the end in any case
    semi = PARAMS._replace(duration=CategoricalDuration(geometric))
    transition = np.diag(stay) + (1 - stay)[:, None] * MOVES
    plain = HiddenMarkovParams(PARAMS.initial, transition, PARAMS.emissions)
    data = [Y, Y[:4]]
    model = HiddenSemiMarkov(Poisson(), K, "categorical", T + 1)
    ours, theirs = model.e_step(semi, data), HiddenMarkov(Poisson(), K).e_step(plain, data)
    np.testing.assert_allclose(ours.log_likelihood, theirs.log_likelihood, rtol=1e-13)
    off = ~np.eye(K, dtype=bool)
    np.testing.assert_allclose(ours.statistics.transition[off], theirs.statistics.transition[off], atol=1e-12)
    np.testing.assert_allclose(ours.statistics.initial, theirs.statistics.initial, atol=1e-12)


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
def test_what_underflows_is_done_on_logarithms(dtype):
    """Durations of exactly 6 steps and data that at first speak against the only path that is possible: by 40 nats a step."""
    six = np.zeros((2, 6))
    six[:, -1] = 1
    model = HiddenSemiMarkov(Gaussian("diagonal"), 2, "categorical", 6)
    family = model.family.domains
    emissions = family._replace(mean=[[0.0], [9.0]], covariance=[[1.0], [1.0]])
    params = HiddenSemiMarkovParams(np.array([0.5, 0.5]), 1 - np.eye(2), CategoricalDuration(six), emissions)
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), params, is_leaf=lambda x: isinstance(x, list))
    y = np.concatenate([np.full(5, 9.0), [0.0], np.full(6, 9.0), np.tile(np.repeat([0.0, 9.0], 6), 5)]).astype(dtype)

    def path_value(begin):
        path = (np.arange(len(y)) // 6 + begin) % 2
        return np.log(0.5) + stats.norm.logpdf(y.astype(float), np.array([0.0, 9.0])[path]).sum(), path

    (a, first), (b, second) = path_value(0), path_value(1)
    want = np.logaddexp(a, b)
    assert abs(a - b) > 100  # of which the other was ahead by 160 nats after the first steps
    found = model.e_step(params, y)
    np.testing.assert_allclose(found.log_likelihood, want, rtol=1e-5 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(model.log_likelihood(params, y), want, rtol=1e-5 if dtype == "float32" else 1e-12)
    np.testing.assert_array_equal(model.smooth(params, y).argmax(axis=1), first if a > b else second)


def test_impossible_data_are_told_as_such():
    """A count that no state allows at its time: minus infinity, and no NaN anywhere."""
    sure = PARAMS._replace(emissions=PARAMS.emissions._replace(rate=np.zeros((K, 1))))
    assert MODEL.log_likelihood(sure, Y) == -np.inf
    found = MODEL.e_step(sure, Y)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.statistics))


COUNTS = np.array([[0, 1.0, 5, 2, 0, 0], [9, 5, 3, 2, 1, 2], [0, 0, 0, 0, 0, 4], [7, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("kind", ["poisson", pytest.param("negative_binomial", marks=pytest.mark.slow)])
def test_durations_that_make_counts_likeliest(kind):
    """Against a search by scipy; all at the longest, all at the shortest, none: finite, and kept where nothing is known."""
    from scipy.optimize import minimize

    start = PoissonDuration(np.ones(5)) if kind == "poisson" else NegativeBinomialDuration(np.ones(5), np.full(5, 0.5))
    found = jax.jit(durations.maximize)(jax.tree.map(jnp.asarray, start), jnp.asarray(COUNTS))
    assert all(np.isfinite(leaf).all() for leaf in found)
    p = np.exp(durations.log_probabilities(found, 6))
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(p[2:4], [[0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]], atol=1e-6)
    assert found[0][4] == 1
    for row in range(2):

        def value(x, row=row):
            mean, dispersion = np.exp(x[0]), np.exp(max(x[1], -12.0)) if kind != "poisson" else 1e-9
            log_p = stats.nbinom.logpmf(np.arange(6), 1 / dispersion, 1 / (1 + dispersion * mean))
            return -(COUNTS[row] * (log_p - np.logaddexp.reduce(log_p))).sum()

        tight = {"xatol": 1e-8, "fatol": 1e-12}
        best = min(minimize(value, [1.0, s], method="Nelder-Mead", options=tight).fun for s in (-3.0, 0.0))
        assert -(COUNTS[row] * np.log(np.maximum(p[row], 1e-300))).sum() <= best + 1e-5


@pytest.mark.slow
def test_a_fit_finds_what_generated_the_data():
    """Durations around 12 and 5 steps, both far from geometric, from ragged series with holes."""
    model = HiddenSemiMarkov(Gaussian("diagonal"), 2, "poisson", 30)
    family = model.family.domains._replace(mean=jnp.array([[0.0], [2.5]]), covariance=jnp.ones((2, 1)))
    truth = HiddenSemiMarkovParams(jnp.array([0.5, 0.5]), 1 - jnp.eye(2), PoissonDuration(jnp.array([11.0, 4.0])), family)
    long, path = model.sample(1, truth, 1000, states=True)
    y = np.array(long)
    y[::50] = np.nan
    fit = jaxem.fit(model, [y[:700], y[700:]], key=0, restarts=3)
    assert fit.status == Status.CONVERGED
    assert float(fit.log_likelihood) > float(model.log_likelihood(truth, [y[:700], y[700:]]))
    np.testing.assert_allclose(fit.params.duration.rate, truth.duration.rate, rtol=0.15)
    np.testing.assert_allclose(fit.params.emissions.mean, truth.emissions.mean, atol=0.2)
    np.testing.assert_allclose(model.expected_durations(fit.params), 1 + fit.params.duration.rate, rtol=1e-3)
    assert (np.asarray(model.viterbi(fit.params, y)) == path).mean() > 0.95
    assert model.remarks(fit.params, y) == []
    short = HiddenSemiMarkov(Gaussian("diagonal"), 2, "poisson", 8)
    assert "max_duration = 8" in short.remarks(fit.params, y)[0]


def test_what_is_refused():
    family = Poisson()
    with pytest.raises(ValueError, match="n_states: found 1"):
        HiddenSemiMarkov(family, 1, max_duration=3)
    with pytest.raises(ValueError, match="max_duration: found 0"):
        HiddenSemiMarkov(family, 2)
    with pytest.raises(ValueError, match="duration: found 'gamma'"):
        HiddenSemiMarkov(family, 2, "gamma", 3)
    with pytest.raises(ValueError, match="initial"):
        HiddenSemiMarkov(family, 2, "poisson", 3, initial="stationary")
    with pytest.raises(ValueError, match="row 1 of the mask"):
        HiddenSemiMarkov(family, 2, "poisson", 3, transition=np.array([[True, True], [False, True]]))
    with pytest.raises(TypeError, match="HiddenSemiMarkovPrior"):
        HiddenSemiMarkov(family, 2, "poisson", 3, prior=MixturePrior(1.0, None))
    with pytest.raises(TypeError, match="no conjugate prior"):
        HiddenSemiMarkov(family, 2, "poisson", 3, prior=HiddenSemiMarkovPrior(duration=2.0))
    with pytest.raises(ValueError, match=r"y\[1\]"):
        HiddenSemiMarkov(family, 2, "poisson", 3).prepare([np.ones(3), np.ones(0)])
