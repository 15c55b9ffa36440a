"""Laws 11 and 12 on the table of models: standard errors by different routes agree, and derivatives are those of refits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import N, collect

import jaxem
from jaxem import Stop, information
from jaxem.inference.point import look_at

QUICK = ("mixture-poisson",)
LONG = (
    "mixture-full", "single-full", "hidden-markov-poisson", "mixture-linear-regression", "latent-zip", "single-full-prior",
)  # fmt: skip
STOP = Stop(tolerance=1e-11, max_steps=3000)
NOISE = 1e-6  # relative to sqrt(I_ii I_jj): what law 11 asks


def rows_of(*names):
    marks = {True: [], False: [pytest.mark.thorough]}
    cases = []
    for row in collect():
        mark = [pytest.mark.slow] if row.name in LONG else marks[row.name in QUICK]
        if not names or row.name in names:
            cases.append(pytest.param(row, id=row.name, marks=[*mark, pytest.mark.xdist_group(row.name)]))
    return pytest.mark.parametrize("row", cases)


@rows_of()
def test_routes_to_the_information_agree(row):
    """Law 11: Oakes = observed = Louis = supplemented on weighted data with the row's holes, and scores are finite differences of
    row by row log-likelihoods, whose sum is the gradient. They are identities at any params, so near the truth as well as at a
    maximum. Bound of the differences: h^2 with h = 1e-5, and eps / h."""
    data = jaxem.prepare(row.model, row.data(np.float64), weights=row.weights(np.float64))
    point = look_at(row.model, row.params(np.float64), data)
    kept = np.ix_(~point.edge, ~point.edge)
    given = point.model, jnp.asarray(point.u), point.params, data
    reference = np.asarray(information.observed(*given))[kept]
    size = np.sqrt(np.maximum(np.abs(np.diag(reference)), 1e-3 * np.abs(reference).max()))
    size = size[:, None] * size

    def off(matrix):
        return (np.abs(np.asarray(matrix)[kept] - reference) / size).max()

    assert off(point.information) < NOISE
    if point.model.n_states > 1:
        assert off(information.louis(*given)) < NOISE
    complete, crossed = (np.asarray(each(*given)) for each in (information.complete, information.crossed))
    assert off(complete - crossed) < NOISE  # I_c (I - DM)

    scores = np.asarray(information.scores(*given))
    prior = jax.grad(lambda u: point.model.log_prior(point.model.from_unconstrained(u, like=point.params)))(given[1])
    total = information.unit_weights(data) @ scores + np.asarray(prior)
    np.testing.assert_allclose(total[~point.edge], point.gradient[~point.edge], atol=1e-9 * (1 + np.abs(scores).sum()))

    def moved(step):
        params = row.model.from_unconstrained(given[1] + step, like=point.params)
        return np.asarray(row.model.log_likelihood(params, data, per_row=True))

    for j in np.flatnonzero(~point.edge)[:: max(1, (~point.edge).sum() // 4)]:
        step = 1e-5 * (np.arange(len(point.u)) == j)
        slope = (moved(step) - moved(-step)) / 2e-5
        np.testing.assert_allclose(scores[:, j], slope, atol=1e-4 * (1 + np.abs(scores[:, j]).max()))


def maximum(row):
    """Weighted rows, enough of them that no component collapses, with holes where the row has them, and a polished maximum."""
    weights = np.random.default_rng(5).uniform(0.5, 1.5, 4 * N)
    y = row.data(np.float64, 4 * N)
    units = row.model.prepare(y)
    weights = weights[: len(information.unit_weights(units))]
    data = units.weigh(weights)
    fit = jaxem.fit(row.model, data, params=row.params(np.float64), algorithm=jaxem.accelerated(), stop=STOP)
    return y, data, jaxem.polish(row.model, fit, data)


def value(model, params, direction):
    """A smooth function of all params: their sum in random proportions."""
    leaves = zip(jax.tree.leaves(params), jax.tree.leaves(direction), strict=True)
    return sum((leaf * jnp.asarray(weight)).sum() for leaf, weight in leaves)


def refit(model, rows, params, direction):
    """The same function of the maximum near `params`, found by Newton's method on the exact derivatives."""
    for _ in range(6):
        point = look_at(model, params, rows)
        step = point.covariance() @ np.where(point.edge, 0, point.gradient)
        u = jnp.asarray(np.where(np.isfinite(point.u), point.u + step, point.u))
        params = model.from_unconstrained(u, like=params)
    return float(value(model, params, direction))


@rows_of()
def test_derivatives_are_those_of_refits(row):
    """Law 12: derivatives of a fit by weights, by data with holes and by prior strengths are those of refits (central
    differences, whose error is h^2 times a third derivative, bounded by comparing two steps h)."""
    y, data, fit = maximum(row)
    assert fit.status == jaxem.Status.CONVERGED
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda leaf: rng.normal(size=np.shape(leaf)), fit.params)
    units = np.asarray(information.unit_weights(data))
    change = rng.uniform(0.1, 1.0, len(units)) * (units > 0)

    def by_weights(t):
        found = jaxem.fit(row.model, data, params=fit.params, weights=jnp.asarray(units) + t * change, stop=STOP)
        return value(row.model, found.params, direction)

    check(jax.grad(by_weights), lambda t: refit(row.model, data.weigh(units + t * change), fit.params, direction))

    if plain(row, y):
        shift = rng.normal(size=np.shape(y))
        known = np.nan_to_num(np.asarray(y))

        def moved(t):
            return jaxem.prepare(row.model, jnp.asarray(known + t * shift), like=data)

        def by_data(t):
            return value(row.model, jaxem.fit(row.model, moved(t), params=fit.params, stop=STOP).params, direction)

        check(jax.grad(by_data), lambda t: refit(row.model, moved(t), fit.params, direction))

    if getattr(row.model, "prior", None) is not None and not callable(row.model.prior):

        def scaled(t):
            prior = jax.tree.map(lambda leaf: jnp.asarray(leaf) * (1 + t), row.model.prior)
            return jax.tree.unflatten(jax.tree.structure(row.model), replaced(row.model, prior))

        def by_prior(t):
            return value(row.model, jaxem.fit(scaled(t), data, params=fit.params, stop=STOP).params, direction)

        check(jax.grad(by_prior), lambda t: refit(scaled(t), data, fit.params, direction))


def replaced(model, prior):
    """Leaves of the model with another prior."""
    return jax.tree.leaves(dataclasses.replace(model, prior=prior))


def plain(row, y):
    """Whether cells are numbers that may take any value nearby."""
    rough = ("poisson", "bernoulli", "categorical", "binomial", "logistic", "product", "latent", "mises")
    return isinstance(y, np.ndarray) and y.ndim == 2 and not any(word in row.name for word in rough)


def check(gradient, refitted):
    analytic = float(gradient(0.0))
    fine, coarse = ((refitted(h) - refitted(-h)) / (2 * h) for h in (1e-4, 2e-4))
    error = abs(fine - coarse) + 1e-7 * (1 + abs(fine))
    assert abs(analytic - fine) <= error, (analytic, fine, coarse)


@pytest.mark.slow
def test_rotated_params_have_errors_of_their_own():
    """Factors are told in one rotation, in which the numbers' derivatives are finite differences (h = 1e-5)."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(100, 2)) @ rng.normal(size=(2, 5)) + rng.normal(size=(100, 5))
    model = jaxem.FactorAnalysis(2)
    fit = jaxem.fit(model, y, stop=STOP)
    point = look_at(model, fit.params, y)

    def cells(u):
        params = model.canonical(model.from_unconstrained(jnp.asarray(u), like=fit.params))
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])

    np.testing.assert_allclose(cells(point.u), point.cells.values, atol=1e-10)
    for i in range(len(point.u)):
        step = 1e-5 * (np.arange(len(point.u)) == i)
        slope = (cells(point.u + step) - cells(point.u - step)) / 2e-5
        np.testing.assert_allclose(point.natural[:, i], slope, atol=1e-6 * (1 + np.abs(slope).max()))
