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
# # Rows that follow one another
#
# The same families, now in time: counts of earthquakes by the number of hidden states, growth and recession after Hamilton, and
# a level that is followed through stretches without data. The data are in `tests/reference`, with their sources.

# %%
import io
import json
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from IPython.display import Image, display

from jaxem import HiddenMarkov, MarkovSwitching, Poisson, Stop, fit, local_level
from jaxem.canvas import new_figure
from jaxem.plot import plot_regimes, plot_state_space

jax.config.update("jax_enable_x64", True)  # a notebook owns its process; the library never sets this
REFERENCE = Path.cwd().parent / "tests" / "reference"


def load(name):
    """The table of a reference case, and what is known about it."""
    return pd.read_csv(REFERENCE / name / "data.csv"), json.loads((REFERENCE / name / "expected.json").read_text())


def show(ax):
    """The picture that axes stand in."""
    picture = io.BytesIO()
    ax.figure.savefig(picture, dpi=90)
    display(Image(picture.getvalue()))


# %% [markdown]
# ## Earthquakes of magnitude 7 and above, 1900 to 2006: how many states?
#
# Zucchini, MacDonald and Langrock (2016) fit Poisson hidden Markov models to these 107 counts. The likelihood rises with every
# state; BIC weighs that against the parameters.

# %%
quakes, _ = load("hmm_poisson_earthquakes")
counts = quakes[["count"]].to_numpy(float)
fits = {}
for k in range(1, 5):
    model = HiddenMarkov(Poisson(), k)
    fits[k] = fit(model, counts, key=0, restarts=20, stop=Stop(max_steps=5000))
table = pd.DataFrame(
    [
        {
            "states": k,
            "log-likelihood": float(found.log_likelihood),
            "parameters": HiddenMarkov(Poisson(), k).n_parameters(1),
            "BIC": -2 * float(found.log_likelihood) + HiddenMarkov(Poisson(), k).n_parameters(1) * np.log(len(counts)),
            "rates": np.round(np.asarray(found.params.emissions.rate)[:, 0], 2).tolist(),
        }
        for k, found in fits.items()
    ]
).set_index("states")
display(table)

# %% [markdown]
# The published maxima for one, two and three states are -391.9189, -341.8787 and -328.5275 with a free first state.

# %%
for k, published in ((1, -391.9189), (2, -341.8787), (3, -328.5275)):
    assert abs(float(fits[k].log_likelihood) - published) < 1e-3
three = HiddenMarkov(Poisson(), 3)
ax = new_figure((9, 4)).add_subplot()
show(plot_regimes(three, fits[3].params, counts, ax, time=quakes["year"].to_numpy(), names=["earthquakes"]))

# %% [markdown]
# How long does each state last, and what comes next? Forecasts mix the states: their spread grows from that of the last state to
# that of the whole record.

# %%
print("steps in a row:", np.round(np.asarray(three.expected_durations(fits[3].params)), 1))
ahead = three.forecast(fits[3].params, counts, 5, levels=[0.05, 0.5, 0.95])
pd.DataFrame(
    {
        "year": 2007 + np.arange(5),
        "mean": np.asarray(ahead.mean)[0, :, 0],
        "5 %": np.asarray(ahead.quantiles)[0, 0, :, 0],
        "median": np.asarray(ahead.quantiles)[1, 0, :, 0],
        "95 %": np.asarray(ahead.quantiles)[2, 0, :, 0],
    }
).set_index("year").round(2)

# %% [markdown]
# If the model is right, the probability that it gave to what then came is uniform, and its normal quantile standard normal.
# Counts are discrete, so each has an interval; the middle of it is used here.

# %%
residuals = np.asarray(three.pseudo_residuals(fits[3].params, counts).residual)[:, 0]
print(f"mean {residuals.mean():.2f}, standard deviation {residuals.std():.2f}, largest {np.abs(residuals).max():.2f}")

# %% [markdown]
# ## Hamilton's recessions
#
# Growth of the gross national product of the United States, 1951 to 1984, per cent a quarter: an autoregression of order 4 about
# a mean that switches (Hamilton 1989). EM finds his maximum, -181.2634.

# %%
growth, _ = load("regime_switching_hamilton_gnp")
y = growth[["growth"]].to_numpy()
switching = MarkovSwitching(4, switching=("mean",), n_regimes=2)
hamilton = fit(switching, y, key=0, restarts=10, stop=Stop(max_steps=5000))
assert abs(float(hamilton.log_likelihood) - -181.263394) < 1e-4
print(switching.regimes(hamilton.params, y))

# %%
quarters = 1951.25 + np.arange(len(y)) / 4
ax = new_figure((9, 4)).add_subplot()
show(plot_regimes(switching, hamilton.params, y, ax, time=quarters, names=["growth, %"]))

# %% [markdown]
# ## A series with missing stretches, and its forecast
#
# The flow of the Nile at Aswan, 1871 to 1970, as a level that wanders (Durbin and Koopman 2012). Twice twenty years are taken
# away: the smoothed level bridges them, and its band opens.

# %%
nile, known = load("state_space_nile")
flow = nile[[nile.columns[-1]]].to_numpy(float)
level = local_level()
whole = fit(level, flow, key=0, stop=Stop(max_steps=20000))
print(f"all years: log-likelihood {float(whole.log_likelihood):.4f}, published -632.5456")
print("variance of the level:", np.asarray(whole.params.transition_noise).ravel().round(1))
print("variance of the noise:", np.asarray(whole.params.observation_noise).ravel().round(1))
assert abs(float(whole.log_likelihood) - -632.5456) < 1e-3

# %%
holed = flow.copy()
holed[20:40] = np.nan
holed[60:80] = np.nan
found = fit(level, holed, key=0, stop=Stop(max_steps=20000))
ax = new_figure((9, 4)).add_subplot()
show(plot_state_space(level, found.params, holed, steps=15, time=1871 + np.arange(len(flow)), name="flow", ax=ax))
