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
# # EM and gradient ascent, told fairly
#
# Six problems, one start each, and the same question to every algorithm: what does it cost to come within 0.0001 of the best
# log-likelihood that any of them found? Cost is counted in passes over the data, everything that an algorithm evaluates included,
# and in seconds without compilation. Adam is given the best of three learning rates for each problem, and the search for that rate
# is told beside it: nobody hands you the right rate.

# %%
import io

import jax
import numpy as np
import optax
import pandas as pd
from IPython.display import Image, display

import jaxem
from jaxem import Gaussian, HiddenMarkov, Mixture, Poisson, Regression, Single, compare, em, gradient, tobit
from jaxem.plot import figure_comparison

jax.config.update("jax_enable_x64", True)  # a notebook owns its process; the library never sets this
RATES = (0.01, 0.1, 0.5)


def show(figure):
    """The figure as a picture in the page."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=90)
    display(Image(picture.getvalue()))


# %% [markdown]
# ## The problems
#
# What they differ in is how much of the information is missing. When components stand far apart, it is nearly known which row
# belongs to which; when they overlap, it is not, and EM must make up for it slowly: near the maximum each of its steps leaves the
# share of missing information of the error (Dempster, Laird and Rubin 1977).

# %%
rng = np.random.default_rng(7)


def blobs(distance, n=400):
    """Three round clouds in the plane, `distance` standard deviations apart."""
    centres = distance * np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.9]])
    return centres[rng.integers(0, 3, n)] + rng.normal(size=(n, 2))


def with_holes(share=0.4, n=300, d=4):
    """Correlated columns with a share of the cells missing."""
    y = rng.normal(size=(n, d)) @ np.linalg.cholesky(0.6 * np.ones((d, d)) + 0.4 * np.eye(d)).T
    y[rng.random((n, d)) < share] = np.nan
    return y


def counts_in_time(n=300):
    """Counts whose mean follows a slow chain of three states."""
    state, rates, out = 0, (1.0, 4.0, 9.0), []
    for _ in range(n):
        state = state if rng.random() < 0.9 else int(rng.integers(0, 3))
        out.append(rng.poisson(rates[state]))
    return np.array(out, float)


def scores(n, p, q):
    """Scores of p tests behind which are q abilities."""
    return rng.normal(size=(n, q)) @ rng.normal(size=(q, p)) + rng.normal(size=(n, p)) * rng.uniform(0.5, 1.5, p)


def hours(n=300):
    """A response of which half is cut off at 0."""
    x = rng.normal(size=(n, 2))
    return Regression(tobit(np.maximum(x @ [1.0, -0.5] + rng.normal(size=n), 0), left=0), x)


PROBLEMS = {
    "separated mixture": (Mixture(Gaussian(), 3), blobs(6.0)),
    "overlapping mixture": (Mixture(Gaussian(), 3), blobs(2.6, 800)),
    "missing cells": (Single(Gaussian()), with_holes()),
    "hidden Markov": (HiddenMarkov(Poisson(), 3), counts_in_time()),
    "factor analysis": (jaxem.FactorAnalysis(2), scores(300, 6, 2)),
    "Tobit": (Single(jaxem.CensoredRegression()), hours()),
}

# %% [markdown]
# ## The race
#
# All begin at the same point: the usual start, pushed aside at random in every free coordinate, so that the way is not too short.
# Where two of them end on different hills, the gap tells.

# %%
STEADY = {"em": em(), "accelerated": jaxem.accelerated(), "newton": jaxem.newton(), "lbfgs": jaxem.lbfgs()}
ADAMS = {f"adam {rate:g}": gradient(optax.adam(rate)) for rate in RATES}


def missing_information(fit):
    """The largest fraction of missing information, from how the steps of EM shrink: gains shrink by its square."""
    values = np.asarray(fit.history)
    gains = np.diff(values[~np.isnan(values)])
    gains = gains[gains > 1e-7]
    if len(gains) < 2:
        return 0.0
    return float((gains[-1] / gains[-2]) ** (0.5 / int(fit.history_stride)))


found, share = {}, {}


def race(name):
    """All algorithms on one problem, from its start."""
    model, data = PROBLEMS[name]
    rows = jaxem.prepare(model, data)
    usual = model.init(1, rows)
    free = np.asarray(model.to_unconstrained(usual))
    start = model.from_unconstrained(free + 0.3 * rng.normal(size=free.shape), like=usual)
    found[name] = compare(model, rows, STEADY | ADAMS, params=start, budget=3000)
    share[name] = missing_information(next(trial.fit for trial in found[name].trials if trial.name == "em"))
    print(f"largest fraction of missing information {share[name]:.3f}\n\n{found[name]}")


race("separated mixture")

# %%
race("overlapping mixture")

# %%
race("missing cells")

# %%
race("hidden Markov")

# %%
race("factor analysis")

# %%
race("Tobit")

# %% [markdown]
# ## Passes to the best log-likelihood
#
# A dash stands where an algorithm did not come within 0.0001 in 3000 passes.


# %%
def passes_of(comparison):
    """Passes to the best of each algorithm; of Adam the best rate, and what all the rates cost together."""
    records = {record["algorithm"]: record for record in comparison.records()}
    row = {name: records[name]["passes_to_best"] for name in STEADY}
    adams = [records[name] for name in ADAMS]
    row["adam, best rate"] = min((each["passes_to_best"] for each in adams if each["passes_to_best"] > 0), default=np.nan)
    row["adam, all rates"] = sum(each["passes"] for each in adams)
    return row


table = pd.DataFrame({name: {"missing": share[name], **passes_of(found[name])} for name in found}).T
shown = table.map(lambda passes: "-" if np.isnan(passes) else f"{passes:,.0f}")
shown.assign(missing=table["missing"].map("{:.3f}".format))

# %% tags=["picture-rivals"]
show(figure_comparison(found["overlapping mixture"]))

# %%
show(figure_comparison(found["separated mixture"]))

# %% [markdown]
# ## What wins where, and why
#
# * **Little is missing** (separated clouds, Tobit): EM is there in a few passes, needs no rate, and nothing that has to be tuned
#   comes near it. In factor analysis nothing is missing at all: the M-step integrates the factors out, and EM ends at once.
# * **Much is missing** (overlapping clouds, missing cells): EM crawls. The same EM steps with an accelerator around them cost a
#   fraction, and stay monotone. L-BFGS, which sees only gradients, is about as good there: both learn the same curvature.
# * **On an edge** (hidden Markov: with one sequence the first state is certain, so its probability is 1) EM arrives like anywhere
#   else. In the free coordinates of the gradient methods the edge lies infinitely far away, and they end short of it or late.
# * **Newton** needs the fewest steps, and each costs as many passes as there are parameters, which is what it loses where these
#   are many.
# * **Adam** comes there with a good rate and not with a bad one, and the good one differs by problem. It pays off where a pass over
#   all the data is too dear for any of the others, which none of these problems is.

# %%
rows = {name: {record["algorithm"]: record for record in comparison.records()} for name, comparison in found.items()}
slow = rows["overlapping mixture"]
assert slow["accelerated"]["passes_to_best"] < slow["em"]["passes_to_best"]
assert share["overlapping mixture"] > share["separated mixture"]
assert rows["separated mixture"]["em"]["passes_to_best"] < 30
