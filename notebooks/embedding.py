# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A fit as a layer
#
# `jaxem.fit` is a function of data, weights and priors like any other in JAX, with derivatives: those of the maximum that it finds,
# by the implicit function theorem. So a fit can stand in the middle of a program that is trained by gradients.
#
# 1. An encoder is trained through a mixture: once through the fitted log-likelihood, and through the fitted params, on which the
#    density of other rows depends.
# 2. The strength of a prior is tuned by the gradient of the held-out log-likelihood.

# %%
import io

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from IPython.display import Image, display
from matplotlib.figure import Figure

import jaxem
from jaxem import Gaussian, Mixture, MixturePrior, Stop

matplotlib.use("Agg")
jax.config.update("jax_enable_x64", True)  # a notebook owns its process; the library never sets this


def show(figure):
    """The figure as a picture in the page."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=90)
    display(Image(picture.getvalue()))


# %% [markdown]
# ## Bent clusters
#
# Three round clusters, bent: no mixture of three round Gaussians fits them. An invertible encoder could unbend them first.

# %%
rng = np.random.default_rng(3)
centres = np.array([[-4.0, 0.0], [0.0, 0.5], [4.0, 0.0]])


def bent(n):
    """n rows of the three clusters, pushed along a parabola and a wave."""
    z = centres[rng.integers(0, 3, n)] + 0.6 * rng.normal(size=(n, 2))
    return np.column_stack([z[:, 0], z[:, 1] + 0.35 * z[:, 0] ** 2 + 0.8 * np.sin(2 * z[:, 0])])


train, other = bent(240), bent(240)
model = Mixture(Gaussian(covariance="spherical"), 3)
plain = jaxem.fit(model, train, key=0, restarts=5)
before = float(model.log_likelihood(plain.params, other)) / len(other)
print(f"held-out log-density a row without an encoder: {before:.4f}")

# %% [markdown]
# The encoder moves the second column by a small network of the first: z = (x0, x1 - g(x0)). It keeps volumes, so that densities of
# z are densities of x, and nothing is gained by merely shrinking.


# %%
def encode(net, x):
    """(n, 2) -> (n, 2), invertible, with Jacobian determinant 1."""
    hidden = jnp.tanh(x[:, :1] * net["slope"] + net["offset"])
    return jnp.column_stack([x[:, 0], x[:, 1] - hidden @ net["out"]])


width = 12
net = {
    "slope": jnp.asarray(rng.normal(size=width)),
    "offset": jnp.asarray(rng.normal(size=width)),
    "out": jnp.zeros(width),
}
stop = Stop(tolerance=1e-9, max_steps=500)


def through_likelihood(net, start):
    """Minus the log-likelihood at its maximum over the mixture's params, a row."""
    fit = jaxem.fit(model, encode(net, train), params=start, stop=stop)
    return -fit.log_likelihood / len(train), fit.params


def through_params(net, start):
    """Minus the log-density of rows that the fit has not seen, at params fitted to those that it has."""
    fit = jaxem.fit(model, encode(net, train[:120]), params=start, stop=stop)
    return -model.log_likelihood(fit.params, encode(net, train[120:])) / 120, fit.params


# %% [markdown]
# The first needs no derivative of the params (at a maximum they cancel). The second does: the encoder changes the rows, these the
# fitted params, these the density of the other rows. Both gradients are those of finite differences:


# %%
def polished(net):
    """The second objective with the fit driven to the last digit."""
    fit = jaxem.fit(model, encode(net, train[:120]), params=plain.params, stop=Stop(tolerance=0.0, max_steps=3000))
    return float(-model.log_likelihood(fit.params, encode(net, train[120:])) / 120)


gradient = jax.jit(jax.grad(lambda net: through_params(net, plain.params)[0]))(net)
for place in (0, 5):
    ends = [polished({**net, "out": net["out"].at[place].add(sign * 1e-4)}) for sign in (1, -1)]
    difference = (ends[0] - ends[1]) / 2e-4
    print(f"by the implicit function theorem {gradient['out'][place]:.8f}, by refits {difference:.8f}")
    assert abs(gradient["out"][place] - difference) < 1e-5

# %%
optimizer = optax.adam(0.05)


@jax.jit
def step(net, state, start):
    """One step of Adam through the fit; each fit starts from the params of the last."""
    (loss, params), slope = jax.value_and_grad(through_params, has_aux=True)(net, start)
    change, state = optimizer.update(slope, state)
    return optax.apply_updates(net, change), state, params, loss


losses, state, start = [], optimizer.init(net), plain.params
for _ in range(100):
    net, state, start, loss = step(net, state, start)
    losses.append(float(loss))

encoded = jaxem.fit(model, encode(net, train), key=0, restarts=5)
after = float(model.log_likelihood(encoded.params, encode(net, other))) / len(other)
print(f"held-out log-density a row: {before:.4f} without the encoder, {after:.4f} with it")
assert after > before + 0.3

# %% tags=["picture-embedding"]
figure = Figure(figsize=(10.5, 3.4), layout="constrained")
axes = figure.subplots(1, 3)
for ax, rows, fitted, title in (
    (axes[0], other, plain, "rows as they are"), (axes[1], np.asarray(encode(net, other)), encoded, "rows encoded"),
):  # fmt: skip
    labels = np.asarray(model.posterior(fitted.params, rows)).argmax(1)
    for k, (colour, marker) in enumerate(zip(("#0072B2", "#D55E00", "#009E73"), "os^", strict=True)):
        ax.plot(*rows[labels == k].T, marker, color=colour, markersize=3, linestyle="none", label=f"component {k}")
    ax.set(title=title, xlabel="first column", ylabel="second column")
axes[0].legend(fontsize=8)
axes[2].plot(losses, color="#0072B2")
axes[2].set(title="training", xlabel="step", ylabel="minus log-density of rows not fitted")
show(figure)

# %% [markdown]
# ## The strength of a prior
#
# Four columns, a dozen rows a component: covariances of full size are poorly determined, and a prior that draws them to a common
# one helps. How strong should it be? The held-out log-likelihood is a function of its degrees of freedom, and has a derivative.

# %%
d, n = 4, 12
mixing = rng.normal(size=(2, d, d)) / np.sqrt(d) + np.eye(d)


def rows_of(n):
    """n rows of two overlapping components with full covariances."""
    state = rng.integers(0, 2, n)
    return np.einsum("nij,nj->ni", mixing[state], rng.normal(size=(n, d))) + 2.0 * state[:, None]


small, held_out = rows_of(2 * n), rows_of(2000)
usual = jaxem.weak_prior(small, 2)


def with_strength(log_strength):
    """The prior of covariances worth exp(log_strength) rows, its mode where the weak prior has its own."""
    rows = jnp.exp(log_strength)
    factor = (d + 2 + rows) / (2 * d + 4)
    components = usual.components._replace(dof=d + 2 + rows, scale=usual.components.scale * factor)
    return Mixture(Gaussian(), 2, prior=MixturePrior(usual.concentration, components))


start = jaxem.fit(with_strength(1.0), small, key=0, restarts=5).params
scores = jaxem.prepare(Mixture(Gaussian(), 2), held_out)


@jax.jit
def validation(log_strength):
    """Held-out log-density a row of the posterior mode under that prior."""
    own = with_strength(log_strength)
    fit = jaxem.fit(own, small, params=start, stop=Stop(tolerance=1e-10, max_steps=3000))
    return own.log_likelihood(fit.params, scores) / len(held_out)


slope = jax.jit(jax.grad(validation))
grid = np.linspace(0.0, 5.0, 11)
values = np.array([validation(t) for t in grid])
difference = (validation(2.0 + 1e-4) - validation(2.0 - 1e-4)) / 2e-4
print(f"slope at 2: {slope(2.0):.8f}, by refits {difference:.8f}")
assert abs(slope(2.0) - difference) < 1e-5

# %% [markdown]
# A few steps of a one-dimensional secant search on the derivative find the best strength, with no grid.

# %%
a, b = 1.0, 2.0
slope_a, slope_b = float(slope(a)), float(slope(b))
for _ in range(8):
    a, b = b, float(np.clip(b - slope_b * (b - a) / (slope_b - slope_a), 0.0, 6.0))
    slope_a, slope_b = slope_b, float(slope(b))
    if abs(slope_b) < 1e-7 or a == b:
        break
print(f"best strength: worth {np.exp(b):.2f} rows, held-out log-density {validation(b):.4f}; best of the grid {values.max():.4f}")
assert validation(b) >= values.max() - 1e-9

figure = Figure(figsize=(5.5, 3.4), layout="constrained")
ax = figure.subplots()
ax.plot(np.exp(grid), values, "o-", color="#0072B2", label="grid of fits")
ax.plot(np.exp(b), validation(b), "*", color="#D55E00", markersize=14, label="by derivatives")
ax.set(xscale="log", xlabel="rows that the prior of each covariance is worth", ylabel="held-out log-density a row")
ax.legend()
show(figure)
