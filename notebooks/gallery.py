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
# # One data set for each family
#
# Every family of jaxem on data that people have published about. Each section fits, prints the account of the fit and draws it.
# The data are in `tests/reference`, with their sources in the `expected.json` beside them.

# %%
import io
import json
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from IPython.display import Image, display

import jaxem
from jaxem import Interval, Mixture, Regression, Single, Stop, fit, tobit
from jaxem.plot import figure_overview
from jaxem.summary import summarize

jax.config.update("jax_enable_x64", True)  # a notebook owns its process; the library never sets this
REFERENCE = Path.cwd().parent / "tests" / "reference"


def load(name):
    """The table of a reference case, and what is known about it."""
    return pd.read_csv(REFERENCE / name / "data.csv"), json.loads((REFERENCE / name / "expected.json").read_text())


def show(model, data, restarts=10, weights=None):
    """Fits, prints the account, draws, and gives the fit back."""
    fitted = fit(model, data, key=0, restarts=restarts if model.needs_key else 1, weights=weights, stop=Stop(max_steps=20000))
    print(summarize(model, fitted, data, weights=weights))
    picture = io.BytesIO()
    figure_overview(model, fitted, data, weights=weights).savefig(picture, dpi=60)
    display(Image(picture.getvalue()))
    return fitted


# %% [markdown]
# ## Gaussian: eruptions of Old Faithful

# %%
faithful, _ = load("gmm_old_faithful")
show(Mixture(jaxem.Gaussian("tied"), 3), faithful)

# %% [markdown]
# ## Gaussian cells that are only known to lie in an interval: times in two treatments
#
# Each woman's time is known to lie between two visits; `Inf` says that nothing had happened at the last one.

# %%
cosmesis, known = load("interval_regression_breast_cosmesis")
with np.errstate(divide="ignore"):  # the log of 0 is -Inf: it may have happened at any time before
    lower, upper = (np.log(cosmesis[side].to_numpy(float)) for side in ("left", "right"))
show(Single(jaxem.Gaussian()), Interval(lower[:, None], upper[:, None]))

# %% [markdown]
# ## Student t: record times of Scottish hill races
#
# A few races are far out. The degrees of freedom are estimated; `fit` moves them on the observed likelihood (ECME).

# %%
hills, known = load("student_t_hills")
fitted = show(Single(jaxem.StudentT()), np.log(hills))
assert abs(float(fitted.log_likelihood) - known["logLik"]) < 1e-4

# %% [markdown]
# ## Bernoulli: five items of a law school admission test

# %%
lsat, _ = load("irt_2pl_lsat6")
show(Mixture(jaxem.Bernoulli(), 2), lsat)

# %% [markdown]
# ## Categorical, latent class analysis: seven pathologists read 118 slides

# %%
carcinoma, known = load("lca_carcinoma")
model = Mixture(jaxem.Categorical(), 3)
fitted = show(model, carcinoma - 1, restarts=20)
assert abs(float(fitted.log_likelihood) - known["fits"][2]["logLik"]) < 1e-4
print(jaxem.goodness_of_fit(model, fitted.params, carcinoma - 1))

# %% [markdown]
# ## Poisson: deaths a day in The Times, as counts with frequencies

# %%
deaths, known = load("poisson_mixture_london_deaths")
fitted = show(Mixture(jaxem.Poisson(), 2), deaths[["deaths"]], weights=deaths["freq"].to_numpy(float))
assert abs(float(fitted.log_likelihood) - known["logLik"]) < 1e-5

# %% [markdown]
# ## Negative binomial: earthquakes a year, more variable than Poisson

# %%
earthquakes, _ = load("hmm_poisson_earthquakes")
counts = earthquakes[["count"]]
fitted = show(Single(jaxem.NegativeBinomial()), counts)
assert fitted.log_likelihood > fit(Single(jaxem.Poisson()), counts).log_likelihood + 30

# %% [markdown]
# ## Gamma: response times of one person

# %%
times, _ = load("hmm_gaussian_speed_rt")
show(Mixture(jaxem.Gamma(), 2), np.exp(times))

# %% [markdown]
# ## Exponential: what firms spend on research

# %%
patents, _ = load("mixture_experts_patent")
show(Mixture(jaxem.Exponential(), 2), patents[["RDS"]])

# %% [markdown]
# ## von Mises-Fisher: where the earth quakes near Fiji, as directions from its centre

# %%
quakes, _ = load("student_t_mixture_quakes")
latitude, longitude = np.radians(quakes["lat"].to_numpy()), np.radians(quakes["long"].to_numpy())
directions = np.column_stack(
    [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)]
)
show(Mixture(jaxem.VonMisesFisher(), 2), directions)

# %% [markdown]
# ## Mixture of linear regressions: how musicians tune a stretched octave

# %%
tone, known = load("mixture_regression_tone")
fitted = show(Mixture(jaxem.LinearRegression(), 2), Regression(tone["tuned"], tone[["stretchratio"]]), restarts=20)
assert abs(float(fitted.log_likelihood) - known["logLik"]) < 1e-3

# %% [markdown]
# ## Regression with t errors: stack loss, with its outliers

# %%
stackloss, known = load("t_regression_stackloss")
fitted = show(Single(jaxem.TRegression()), Regression(stackloss["stack.loss"], stackloss.drop(columns="stack.loss")))

# %% [markdown]
# ## Logistic regression: who had an affair

# %%
affairs, known = load("tobit_affairs")
about = affairs[["age", "yearsmarried", "religiousness", "occupation", "rating"]]
show(Single(jaxem.LogisticRegression()), Regression((affairs["affairs"] > 0).astype(float), about))

# %% [markdown]
# ## Censored regression: how many, where 0 stands for everything below (Tobit)

# %%
fitted = show(Single(jaxem.CensoredRegression()), Regression(tobit(affairs["affairs"], left=0), about))
assert abs(float(fitted.log_likelihood) - known["logLik"]) < 1e-4

# %% [markdown]
# ## Survival: a Weibull regression of interval-censored times

# %%
treated = (cosmesis["treatment"] == "RadChem").astype(float).to_frame("RadChem")
times = Regression(Interval(cosmesis["left"].to_numpy(float), cosmesis["right"].to_numpy(float)), treated)
show(Single(jaxem.CensoredRegression("weibull")), times)

# %% [markdown]
# ## Truncated regression: hours of the women who work

# %%
mroz, known = load("truncated_mroz_hours")
fitted = show(Single(jaxem.TruncatedRegression(lower=0.0)), Regression(mroz["hours"], mroz.drop(columns="hours")))
assert abs(float(fitted.log_likelihood) - known["logLik"]) < 1e-3

# %% [markdown]
# ## Mixture of experts: Poisson regressions of patents, with a gate on research intensity

# %%
gated = Regression(patents["Patents"], patents[["lgRD"]], gate=patents[["RDS"]])
_, known = load("mixture_experts_patent")
fitted = show(jaxem.MixtureOfExperts(jaxem.PoissonRegression(), 3), gated, restarts=20)
assert abs(float(fitted.log_likelihood) - known["logLik"]) < 1e-3

# %% [markdown]
# ## Factor analysis: six tests of ability, known only by their correlations

# %%
ability, known = load("factor_ability")
correlations = ability.set_index("variable")
tests = jaxem.from_covariance(correlations, known["n_obs"])
model = jaxem.FactorAnalysis(2)
fitted = show(model, tests.y, weights=tests.weights)
print(model.rotate(fitted.params, "oblimin"))

# %% [markdown]
# ## Probabilistic principal components: iris

# %%
iris, known = load("ppca_iris")
fitted = show(jaxem.ProbabilisticPCA(2), iris.select_dtypes("number"))
assert abs(float(fitted.log_likelihood) - known["fits"][1]["logLik"]) < 1e-5

# %% [markdown]
# ## Mixture of factor analysers

# %%
show(Mixture(jaxem.FactorGaussian(1), 3), iris.select_dtypes("number"))

# %% [markdown]
# ## Mixed columns in one mixture: numbers, counts and categories

# %%
mixed = {
    "numbers": affairs[["age", "yearsmarried"]],
    "count": affairs[["affairs"]],
    "answers": affairs[["gender", "children"]],
}
family = jaxem.Product(numbers=jaxem.Gaussian(), count=jaxem.Poisson(), answers=jaxem.Categorical())
show(Mixture(family, 3), mixed)
