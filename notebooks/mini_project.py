# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A Gaussian mixture with holes
#
# 500 points from three Gaussian components; one cell in five is missing. We want the maximum-likelihood mixture.
#
# A piece of code that is often copied fills each missing cell with its expected value and then treats the table as complete.
# Below it is written out in NumPy and measured: every one of its steps makes the fit worse. Then the right answer.
#
# Every number in the text is checked by an `assert` in the cell below it.

# %%
from importlib import resources

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from jaxem import Gaussian, Mixture, Status, Stop, fit, fit_batch, prepare, weak_prior
from jaxem.run import explain_history

jax.config.update("jax_enable_x64", True)  # a notebook owns its process; the library never sets this

with resources.files("jaxem").joinpath("examples/mini_project.csv").open() as file:
    table = pd.read_csv(file)
complete = table[["x1_complete", "x2_complete"]].to_numpy()
y = table[["x1", "x2"]].to_numpy()  # NaN where a cell is missing
observed = ~np.isnan(y)

assert y.shape == (500, 2)
assert (~observed).sum() == 201  # 20 % of 1000 cells
assert observed.all(axis=1).sum() == 322  # rows without a hole
assert (~observed).all(axis=1).sum() == 23  # rows in which nothing was seen
table.head()

# %% [markdown]
# ## The code that is often copied
#
# One step has three parts.
#
# 1. Responsibilities $r_{ik}$ from the observed cells of each row. This part is right.
# 2. Each missing cell gets one number, its conditional mean averaged over the components,
#    $\hat y_i = \sum_k r_{ik} E[y_i \mid \text{observed}, k]$.
# 3. Weighted means and covariances of the filled table, as if it had been observed.
#
# Two things are lost. A component should use its own conditional mean, not the average over all components. And a filled cell
# is not an observation: the second moment of a missing cell is its squared mean *plus its conditional variance* $C$.


# %%
def log_normal(x, mean, covariance):
    root = np.linalg.cholesky(covariance)
    whitened = np.linalg.solve(root, (x - mean).T)
    constant = np.log(np.diag(root)).sum() + 0.5 * x.shape[1] * np.log(2 * np.pi)
    return -0.5 * (whitened**2).sum(axis=0) - constant


def e_step(y, weights, means, covariances):
    """Responsibilities (n, K), conditional means (n, K, d) and covariances (n, K, d, d), log-likelihood of the observed cells."""
    n, d = y.shape
    seen = ~np.isnan(y)
    log_joint = np.tile(np.log(weights), (n, 1))
    filled = np.empty((n, len(weights), d))
    spread = np.zeros((n, len(weights), d, d))
    for pattern in np.unique(seen, axis=0):
        rows = np.flatnonzero((seen == pattern).all(axis=1))
        o, m = np.flatnonzero(pattern), np.flatnonzero(~pattern)
        for k, (mean, cov) in enumerate(zip(means, covariances, strict=True)):
            log_joint[rows, k] += log_normal(y[np.ix_(rows, o)], mean[o], cov[np.ix_(o, o)])
            slope = np.linalg.solve(cov[np.ix_(o, o)], cov[np.ix_(o, m)])
            filled[rows, k] = y[rows]
            filled[np.ix_(rows, [k], m)] = (mean[m] + (y[np.ix_(rows, o)] - mean[o]) @ slope)[:, None]
            spread[np.ix_(rows, [k], m, m)] = cov[np.ix_(m, m)] - cov[np.ix_(m, o)] @ slope
    top = log_joint.max(axis=1, keepdims=True)
    log_density = top[:, 0] + np.log(np.exp(log_joint - top).sum(axis=1))
    return np.exp(log_joint - log_density[:, None]), filled, spread, log_density.sum()


def weighted_moments(r, x):
    """Weights, means and covariances of rows x (n, K, d) under responsibilities r."""
    counts = r.sum(axis=0)
    means = np.einsum("nk,nkj->kj", r, x) / counts[:, None]
    deviations = x - means
    return counts / len(r), means, np.einsum("nk,nki,nkj->kij", r, deviations, deviations) / counts[:, None, None]


def copied_step(r, filled, spread):
    average = (r[..., None] * filled).sum(axis=1, keepdims=True)  # one value a cell, for all components
    weights, means, covariances = weighted_moments(r, np.broadcast_to(average, filled.shape))
    return weights, means, covariances + 1e-6 * np.eye(2)  # the ridge is copied along with the rest


def step_without_spread(r, filled, spread):
    return weighted_moments(r, filled)


def em_step(r, filled, spread):
    weights, means, covariances = weighted_moments(r, filled)
    return weights, means, covariances + np.einsum("nk,nkij->kij", r, spread) / r.sum(axis=0)[:, None, None]


def iterate(step, params, tolerance=1e-6, max_steps=500):
    """Steps until the log-likelihood changes by less than `tolerance`, relative; the sign of the change is not looked at."""
    history = []
    while True:
        *expected, log_likelihood = e_step(y, *params)
        history.append(log_likelihood)
        done = len(history) > 1 and abs(history[-1] - history[-2]) < tolerance * abs(history[-1])
        if done or len(history) > max_steps:
            return params, np.array(history)
        params = step(*expected)


# %% [markdown]
# The start: k-means on the complete rows, and the covariances of its clusters plus 0.1 on the diagonal.


# %%
def k_means(x, k, tries=10):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(tries):
        centres = x[rng.choice(len(x), k, replace=False)]
        for _ in range(100):
            labels = ((x[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
            centres = np.stack([x[labels == j].mean(axis=0) for j in range(k)])
        found.append((((x - centres[labels]) ** 2).sum(), labels))
    return min(found, key=lambda pair: pair[0])[1]


whole_rows = y[observed.all(axis=1)]
labels = k_means(whole_rows, 3)
clusters = [whole_rows[labels == k] for k in range(3)]
clusters.sort(key=lambda rows: rows[:, 0].mean())
start = (
    np.array([len(rows) for rows in clusters]) / len(whole_rows),
    np.array([rows.mean(axis=0) for rows in clusters]),
    np.array([np.cov(rows.T) + 0.1 * np.eye(2) for rows in clusters]),
)

copied, copied_history = iterate(copied_step, start)
changes = np.diff(copied_history)

assert abs(copied_history[0] - -1531.692256) < 1e-5
assert len(changes) == 14
assert (changes < 0).all()
assert abs(copied_history[-1] - -1577.62465) < 1e-5
assert changes[0] < -32  # most of it is lost in the first step
print(copied_history.round(4))

# %% [markdown]
# The start has log-likelihood -1531.69. Each of the 14 steps lowers it, to -1577.62. The stopping rule looks at the size of the
# change and not at its sign, so the run reports that it has converged.
#
# ## The right answer
#
# The same start with the two omissions repaired (`em_step` above: own conditional means, plus $C$) rises at every step. And
# jaxem, from 10 random starts:

# %%
right, right_history = iterate(em_step, start, tolerance=1e-12)

model = Mixture(Gaussian(), 3)
fitted = fit(model, y, key=0, restarts=10)
print(fitted.explain())
print(f"log-likelihood {float(fitted.log_likelihood):.6f} after {int(fitted.steps)} steps")

assert (np.diff(right_history) > -1e-9).all()
assert fitted.status == Status.CONVERGED
assert abs(fitted.log_likelihood - -1528.3316) < 1e-4
assert abs(right_history[-1] - fitted.log_likelihood) < 1e-6
assert np.ptp(fitted.restart_log_likelihoods) < 1e-6  # all ten starts reach the same maximum

_, rises = explain_history(fitted.history, fitted.history_stride)
assert (np.diff(rises) > -1e-9).all()

expected_means = [[-2.03677894, -2.17578512], [-0.08418056, 3.06300344], [2.66722093, -0.1121898]]
assert np.allclose(fitted.params.components.mean, expected_means, atol=1e-4)

# %% [markdown]
# Handed this maximum, the copied step walks away from it to the same wrong place: it is not a bad start, it is a different
# fixed point.

# %%
optimum = (np.array(fitted.params.weights), *map(np.array, fitted.params.components))
drifted, drift = iterate(copied_step, optimum, tolerance=1e-9)

assert abs(drift[0] - -1528.33159) < 1e-4
assert abs(drift[1] - -1562.29569) < 1e-4
assert abs(drift[-1] - -1577.62487) < 1e-4
assert (np.diff(drift) < 0).all()

# %% [markdown]
# At the maximum the gradient is zero in every free coordinate; this is what "converged" should mean.

# %%
rows = prepare(model, y)
coordinates = model.to_unconstrained(fitted.params)
gradient = jax.grad(lambda u: model.log_likelihood(model.from_unconstrained(u), rows))(coordinates)
assert model.n_parameters(2) == len(coordinates) == 17
assert jnp.abs(gradient).max() < 1e-2
print(f"largest slope {float(jnp.abs(gradient).max()):.1e}; what the fit says is left to gain: {float(fitted.gap):.1e}")

# %% [markdown]
# ## The picture
#
# Left: the log-likelihood, step by step. Right: contours that hold 90 % of each component, for both answers.

# %% tags=["picture-overview"]
INK, RIGHT, WRONG = "#33415c", "#1b7f79", "#d1495b"


def ellipse(mean, covariance, mass=0.9):
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.sqrt(-2 * np.log(1 - mass)) * np.stack([np.cos(angle), np.sin(angle)])
    return np.asarray(mean)[:, None] + np.linalg.cholesky(covariance) @ circle


figure, (left, right_axes) = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=(1, 1.15), layout="constrained")
left.plot(right_history[: len(copied_history)], "o-", ms=4, color=RIGHT, label="EM")
left.plot(copied_history, "o-", ms=4, color=WRONG, label="filled cells taken as observed")
left.set(xlabel="step", ylabel="observed-data log-likelihood", title="From the same start")
left.legend(frameon=False)
right_axes.scatter(*y[observed.all(axis=1)].T, s=7, color=INK, alpha=0.35, linewidths=0)
for column, where in ((0, ~observed[:, 1] & observed[:, 0]), (1, ~observed[:, 0] & observed[:, 1])):
    edge = -6.2 if column == 0 else -6.6
    seen_cells = y[where, column]
    at_edge = np.full(len(seen_cells), edge)
    pair = (seen_cells, at_edge) if column == 0 else (at_edge, seen_cells)
    right_axes.plot(*pair, "|" if column == 0 else "_", ms=6, color=INK, alpha=0.5)
for k in range(3):
    right_axes.plot(*ellipse(optimum[1][k], optimum[2][k]), color=RIGHT, lw=2, label="maximum likelihood" if k == 0 else None)
    right_axes.plot(*ellipse(copied[1][k], copied[2][k]), color=WRONG, lw=2, ls="--", label="filled cells" if k == 0 else None)
right_axes.set(xlabel="x1", ylabel="x2", title="500 rows; ticks at the edge: one cell missing")
right_axes.legend(frameon=False, loc=(0.58, 0.12))
for axes in (left, right_axes):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## What each shortcut does to the variances
#
# Each rule iterated to its own fixed point. The last column is the mean of the six variances, relative to a fit of the same
# model to the table before any cell was removed (which only a simulation has).

# %%
before_holes = fit(model, complete, params=fitted.params)
no_spread, _ = iterate(step_without_spread, start, tolerance=1e-10)


def variances(covariances):
    return np.diagonal(np.asarray(covariances), axis1=-2, axis2=-1).ravel()


reference = variances(before_holes.params.components.covariance)
answers = {
    "before the holes": reference,
    "EM (jaxem)": variances(optimum[2]),
    "averaged fill, taken as observed": variances(drifted[2]),
    "own fill, conditional covariance left out": variances(no_spread[2]),
}
columns = [f"{axis}, component {k}" for k in range(3) for axis in ("x1", "x2")]
comparison = pd.DataFrame(answers, index=columns).T
comparison["relative"] = (comparison / reference).mean(axis=1)

relative = comparison["relative"]
assert abs(before_holes.log_likelihood - -1899.56276) < 1e-4
assert 0.9 < relative["EM (jaxem)"] < 1.05
assert abs(relative["averaged fill, taken as observed"] - 1.34) < 0.01
assert abs(relative["own fill, conditional covariance left out"] - 0.75) < 0.01
assert answers["averaged fill, taken as observed"][1] > 2 * reference[1]  # x2 of component 0
assert (answers["own fill, conditional covariance left out"] < answers["EM (jaxem)"]).all()
comparison.round(3)

# %% [markdown]
# Averaging over the components puts cells between the clusters. The variances come out 1.34 times too large on average, and
# that of x2 in component 0 more than doubles. Leaving out only $C$ puts every missing cell exactly on a regression line: all six
# variances come out smaller than those of EM, 0.75 of the reference on average.
#
# ## Filling in the holes, with what is not known about them
#
# `impute` gives the conditional mean of each missing cell, and on request its conditional covariance, averaged over components
# by the law of total covariance. Observed cells come back untouched.

# %%
filled, uncertainty = model.impute(fitted.params, y, covariance=True)
holes = ~observed
deviation = np.sqrt(np.diagonal(np.asarray(uncertainty), axis1=1, axis2=2))
error = (np.asarray(filled) - complete)[holes]

assert (np.asarray(filled)[observed] == y[observed]).all()
assert (deviation[observed] == 0).all()
assert (deviation[holes] > 0).all()
inside = np.mean(np.abs(error) < 1.96 * deviation[holes])
assert 0.90 < inside < 0.98
print(f"{holes.sum()} cells filled; {inside:.0%} of the true values lie within 1.96 standard deviations")

# at the maximum, the filled table plus its conditional covariances has exactly the moments of the fitted mixture
weights, means, covariances = optimum
centre = weights @ means
of_mixture = np.einsum("k,kij->ij", weights, covariances + np.einsum("ki,kj->kij", means - centre, means - centre))
around = np.asarray(filled) - centre
of_filled = (around.T @ around + np.asarray(uncertainty).sum(axis=0)) / len(y)
assert np.allclose(of_mixture, of_filled, atol=1e-4)
assert (np.diag(around.T @ around / len(y)) < 0.95 * np.diag(of_mixture)).all()  # the filled table alone is too narrow

# %% [markdown]
# ## Weights
#
# A weight is a repetition: weight 2 counts a row twice, weight 0 leaves it out. Weights need not be whole numbers.

# %%
quick = Stop(max_steps=200)
counts = np.random.default_rng(1).integers(0, 3, size=len(y)).astype(float)
weighted = fit(model, y, params=fitted.params, weights=counts, stop=quick)
repeated = fit(model, np.repeat(y, counts.astype(int), axis=0), params=fitted.params, stop=quick)
assert abs(weighted.log_likelihood - repeated.log_likelihood) < 1e-6
assert np.allclose(weighted.params.components.mean, repeated.params.components.mean, atol=1e-6)

# %% [markdown]
# ### Bootstrap: 50 weighted fits in one call
#
# A bootstrap sample is a vector of counts, so it is a set of weights. `fit` is a pure function: `vmap` runs it for all vectors
# together, each lane until it has converged.

# %%
generator = np.random.default_rng(2)
draws = jnp.asarray(generator.multinomial(len(y), np.full(len(y), 1 / len(y)), size=50), float)
bootstrap = jax.vmap(lambda w: fit(model, rows, params=fitted.params, weights=w, stop=Stop(1e-4)))(draws)
spread_of_means = np.asarray(bootstrap.params.components.mean.std(axis=0, ddof=1))

assert (bootstrap.status == Status.CONVERGED).all()
# standard errors from the observed information at the maximum (its inverse Hessian), for comparison
information = [[0.10798, 0.08862], [0.06927, 0.07587], [0.16628, 0.13281]]
assert (np.abs(spread_of_means / information - 1) < 0.5).all()
pd.DataFrame(
    {"bootstrap": spread_of_means.ravel(), "observed information": np.ravel(information)},
    index=[f"mean of {axis}, component {k}" for k in range(3) for axis in ("x1", "x2")],
).round(3)

# %% [markdown]
# ## Many data sets at once
#
# `fit_batch` takes data sets of different lengths and with different holes, and runs them as one program. Each result is the
# one that `fit` gives alone.

# %%
datasets = [y, y[:120], y[120:300]]
batch = fit_batch(model, datasets, key=0)
assert (batch.status == Status.CONVERGED).all()
assert abs(batch.log_likelihood[0] - fitted.log_likelihood) < 1e-6
assert np.allclose(batch.params.components.mean[0], fitted.params.components.mean, atol=1e-3)
pd.DataFrame({"rows": map(len, datasets), "log-likelihood": batch.log_likelihood, "steps": batch.steps}).round(4)

# %% [markdown]
# ## When the likelihood has no maximum
#
# A component that sits on identical points has a density without bound. jaxem adds no hidden ridge. It says what happened, and
# which component it was.

# %%
pile = np.tile([5.0, 6.0], (10, 1))  # ten identical points beside forty others
cloud = np.concatenate([pile, np.random.default_rng(0).normal(size=(40, 2))])
collapsed = fit(Mixture(Gaussian(), 2), cloud, key=0)
print(collapsed.explain())
assert collapsed.status == Status.DEGENERATE
assert collapsed.degenerate.tolist() == [False, True]
assert np.isfinite(collapsed.log_likelihood)  # the last good parameters come with it

# a weak prior, scaled by the data, gives the problem a maximum
sound = fit(Mixture(Gaussian(), 2, prior=weak_prior(cloud, 2)), cloud, key=0)
assert sound.status == Status.CONVERGED
assert np.allclose(sound.params.weights, [0.8, 0.2], atol=0.01)

# %% [markdown]
# A run that is cut short does not claim to have converged either.

# %%
short = fit(model, y, params=model.init(0, y), stop=Stop(max_steps=3))
assert short.status == Status.MAX_STEPS
assert short.steps == 3
assert short.gap > 1e-8
print(short.explain())

# %% [markdown]
# ## float32
#
# Data in float32 stay in float32. The answer is the same to the digits that float32 has, and the fit ends with a status of its
# own, since a rise below the resolution of the log-likelihood cannot be measured.

# %%
single = fit(model, y.astype(np.float32), params=fitted.params)
assert single.log_likelihood.dtype == jnp.float32
assert single.status == Status.CONVERGED
assert abs(float(single.log_likelihood) - float(fitted.log_likelihood)) < 2e-3
assert np.allclose(single.params.components.mean, fitted.params.components.mean, atol=1e-2)
print(f"float64 {float(fitted.log_likelihood):.6f}   float32 {float(single.log_likelihood):.6f}")
