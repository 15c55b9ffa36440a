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
# # Standard errors for EM, six ways, and when they differ
#
# EM gives a maximum and no word on how far to trust it. The information that is asked for is that of the *observed* data,
# while every step of EM works with that of the complete data, which is larger. `jaxem.standard_errors` closes the gap by any of
# nine methods, for any model:
#
# | method | covariance | right where |
# | --- | --- | --- |
# | `oakes` | $I^{-1}$, $I$ by one derivative of the E-step | the model is |
# | `observed`, `louis`, `supplemented` | the same number by three other routes | the model is |
# | `empirical` | $(\sum_i s_i s_i')^{-1}$ from the scores of the rows | the model is, and there are many rows |
# | `sandwich`, `jackknife` | $I^{-1} (\sum_i s_i s_i') I^{-1}$ | also where the model is not |
# | `bootstrap` | of refits to resampled rows | also where the likelihood is far from quadratic |
# | `parametric_bootstrap` | of refits to data drawn from the model | the model is, however few rows |
#
# Every number in the text is checked by an `assert` in the cell below it.

# %%
import io
import warnings
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from IPython.display import Image, display

import jaxem
from jaxem import Bernoulli, Gaussian, Mixture, Poisson, Single, Stop, fit, plot, standard_errors

jax.config.update("jax_enable_x64", True)  # a notebook owns its process; the library never sets this
REFERENCE = Path.cwd().parent / "tests" / "reference"


def table(results):
    """Standard errors of several methods beside each other."""
    first = next(iter(results.values())).to_dataframe()
    return pd.DataFrame({"estimate": first["coef"], **{name: each.to_dataframe()["std_err"] for name, each in results.items()}})


def show(figure):
    """Pictures of jaxem.plot are unknown to pyplot, which would show them by itself."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=80)
    display(Image(picture.getvalue()))


# %% [markdown]
# ## First: is it a maximum?
#
# Old Faithful: 272 eruptions, their length and the waiting time after them, in minutes. To make it a problem of missing data we
# lose one cell in five. The first fit stops early, as soon as it estimates that less than a thousandth of log-likelihood is left
# to gain. Standard errors are second derivatives *at the maximum*, so the certificate comes first; it says no.

# %%
faithful = pd.read_csv(REFERENCE / "gmm_old_faithful" / "data.csv")
faithful = faithful.mask(np.random.default_rng(0).random(faithful.shape) < 0.2)
mixture = Mixture(Gaussian(), 2)
early = fit(mixture, faithful, key=0, restarts=5, stop=Stop(tolerance=1e-3))
doubtful = jaxem.certificate(mixture, early, faithful)

assert not doubtful.trusted
assert 0.01 < doubtful.distance < 0.1  # standard errors from the maximum
print(doubtful)
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    too_soon = standard_errors(mixture, early.params, faithful)
assert any("jaxem.polish" in str(each.message) for each in warned)

# %% [markdown]
# Polishing takes a few Newton steps with the same information matrix, to a gradient that is zero but for rounding.

# %%
fitted = jaxem.polish(mixture, early, faithful)
certified = jaxem.certificate(mixture, fitted, faithful)

assert certified.trusted
assert certified.verdict == "maximum"
assert certified.distance < 1e-6
assert 0 < certified.log_likelihood - doubtful.log_likelihood < 1e-2
print(certified)

# %% [markdown]
# ## Four routes to one number

# %%
exact = {name: standard_errors(mixture, fitted.params, faithful, name) for name in ("oakes", "observed", "louis", "supplemented")}
errors = np.stack([each.errors for each in exact.values()])
apart = np.abs(errors / errors[0] - 1).max()
changed = np.abs(too_soon.errors / errors[0] - 1).max()

assert apart < 1e-8  # eight digits or more
assert changed > 1e4 * apart
print(f"largest relative difference between the four routes: {apart:.1e}; to those of the fit that stopped early: {changed:.1e}\n")
print(exact["oakes"])

# %% [markdown]
# They are not four estimates. They are four ways to the same matrix: Oakes differentiates the E-step forward and never stores a
# tape; `observed` is the Hessian of the log-likelihood; Louis takes second moments of the complete-data score; the supplemented
# algorithm corrects the complete-data covariance by the derivative of the EM map. That they agree to the last digits checks
# all of them. None has a step length or a number of draws to choose.
#
# What the holes and the unknown labels cost is the fraction of information that is missing, direction by direction. The largest
# is also the rate at which EM converges.

# %%
rate = jaxem.convergence_rate(mixture, fitted.params, faithful)

assert abs(rate.radius - exact["oakes"].rate) < 1e-8
assert 0.7 < rate.radius < 0.8
print(rate)
show(plot.plot_missing_information(rate).figure)

# %% [markdown]
# ## When the model is wrong
#
# The same four would agree on a wrong model as well, and all would be wrong. Take the mean and the variance of 20,000 waiting
# times that are exponential, fitted as if they were normal. The estimates are fine: they are the sample's mean and variance.
# Theory says what their errors are. With kurtosis 9 the error of the variance is $\sqrt{8/n}$, which only the sandwich and the
# infinitesimal jackknife know. The normal model says $\sqrt{2/n}$, half of it; the scores alone say $\sqrt{1/n}$, which is
# worse: they take the heavy tail for information. The truth is measured on 400 fresh samples.

# %%
n = 20_000
rng = np.random.default_rng(1)
waits = pd.DataFrame({"wait": rng.exponential(size=n)})
normal = Single(Gaussian())
wrong = fit(normal, waits)
told = {name: standard_errors(normal, wrong.params, waits, name) for name in ("oakes", "empirical", "sandwich", "jackknife")}
fresh = rng.exponential(size=(400, n))
shown = table(told).assign(truth=[fresh.mean(axis=1).std(), fresh.var(axis=1).std()])
scaled = shown.loc["covariance[wait, wait]"] * np.sqrt(n)

theory = {"oakes": np.sqrt(2), "empirical": 1.0, "sandwich": np.sqrt(8), "jackknife": np.sqrt(8), "truth": np.sqrt(8)}
for name, expected in theory.items():
    assert abs(scaled[name] / expected - 1) < 0.15, (name, scaled[name])
display(shown)
show(plot.figure_intervals(told))

# %% [markdown]
# ## When the sample is small for what is asked of it
#
# *The Times* reported so many deaths of women over 80 on each of 1,096 days. Two kinds of days, each Poisson? The likelihood is
# so flat along one direction that EM is famous for its slowness here: the rate is 0.9957, so that one more digit takes 530
# steps. The published standard errors are 0.1947, 0.3500 and 0.2505. But a thousand days are few for this question, and the
# likelihood is far from quadratic.

# %%
deaths = pd.read_csv(REFERENCE / "poisson_mixture_london_deaths" / "data.csv")
days, counts = deaths["freq"], deaths[["deaths"]]
two = Mixture(Poisson(), 2)
known = fit(two, counts, weights=days, key=0, restarts=5, algorithm=jaxem.accelerated(), stop=Stop(tolerance=1e-10))
wald = standard_errors(two, known.params, counts, weights=days)
resampled = standard_errors(two, known.params, counts, "bootstrap", weights=days, key=0, draws=150)
low, high = np.argsort(np.asarray(known.params.components.rate)[:, 0])

assert abs(float(known.log_likelihood) + 1989.94585988) < 1e-6
np.testing.assert_allclose(wald.standard_errors.weights, 0.194684298688, rtol=1e-3)
np.testing.assert_allclose(wald.standard_errors.components.rate[[low, high], 0], [0.350029711397, 0.250478270309], rtol=1e-3)
assert abs(wald.rate - 0.9957) < 1e-4
print(resampled)
show(plot.figure_intervals({"oakes": wald, "bootstrap": resampled}))

# %% [markdown]
# The profile likelihood shows why. The curve falls more slowly than the quadratic on one side and faster on the other, and
# Wald's interval for the lower rate lies too far up at both ends. The percentiles of the bootstrap side with the profile.

# %%
name = f"rate[{low}, deaths]"
curve = jaxem.profile(two, known, counts, name, weights=days)
percentiles = resampled.to_dataframe().loc[name, ["lower", "upper"]].to_numpy()

assert curve.lower < curve.wald[0] - 0.2
assert curve.upper < curve.wald[1] - 0.3
assert np.abs(percentiles - curve.interval).max() < 0.15
print(curve)
show(plot.plot_profile(curve).figure)

# %% [markdown]
# ## When a param is on the edge
#
# Seven pathologists looked at 118 slides. With two latent classes, five of the fourteen probabilities end at 0 or 1: in one
# class nobody of C, D, F ever saw carcinoma, and in the other A and G always did. There the likelihood still rises at the edge,
# so that a derivative and a normal interval mean nothing. These params are left out and named; the errors of the others are
# those given that.

# %%
slides = pd.read_csv(REFERENCE / "lca_carcinoma" / "data.csv") - 1
classes = Mixture(Bernoulli(), 2)
split = fit(classes, slides, key=0, restarts=5)
edged = standard_errors(classes, split.params, slides)

assert abs(float(split.log_likelihood) + 317.2568) < 1e-4  # Linzer and Lewis 2011
assert sorted(each.rpartition(" ")[2] for each in edged.boundary) == ["A]", "C]", "D]", "F]", "G]"]
assert np.isnan(edged.errors).sum() == 5
print(edged)
show(plot.figure_intervals(edged))

# %% [markdown]
# ## Which rows the answer hangs on
#
# The same derivatives say what leaving out a row would do, without a refit.

# %%
influential = jaxem.influence(mixture, fitted.params, faithful)
first = int(influential.most(1)[0])

assert influential.cooks_distance[first] > 10 * influential.cooks_distance.mean()
print(influential)
show(plot.plot_influence(influential).figure)

# %% [markdown]
# ## Which one to take
#
# * `oakes`, the default, where the model is believed: exact, and as cheap as one E-step for each parameter. Look at the
#   certificate first, and polish where it says so.
# * `sandwich`, with `groups=` where rows come in clusters, where the model is a convenience.
# * `profile` or `bootstrap` where the sample is small for the question; intervals that are not symmetric are then no accident.
# * `empirical` where nothing but scores can be had.
# * No method for a param on the edge: it is named, and left out.
#
# On the command line: `jaxem fit data.csv --components 2 --se oakes`.
