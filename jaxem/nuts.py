"""The bridge from models to samplers: the posterior's log-density in unconstrained coordinates, and NUTS by blackjax.

For models and priors that no closed form fits, where Gibbs sampling does not apply.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import initialize
from jaxem.checks import as_key, check_count
from jaxem.coordinates import cast, check_params, log_volume
from jaxem.data import prepare
from jaxem.draws import Draws, draws_of
from jaxem.fit import fit
from jaxem.rows import Rows


def log_posterior(model: Any, data: Any, like: Any, *, weights: Any = None, flat: bool = False) -> Callable[[jax.Array], jax.Array]:
    """u -> log p(y | params) + log p(params) + log |d params / d u| at params = `model.from_unconstrained(u, like=like)`.

    Up to a constant, the log-density of the posterior of `model.to_unconstrained(params)`, which any sampler over real vectors
    takes; it can be jitted, vmapped and differentiated. Coordinates of `like` that are not finite (a probability of 0) have to
    stay as they are.

    Args:
        model: any model whose domains say how their coordinates stretch volume.
        data: raw or prepared.
        like: params of the shapes that the vector stands for.
        weights: as for `fit`; a weight is a power of the row's density.
        flat: says that a model without a prior is meant to have a flat one on its params. The posterior may then be improper, as
            it is for every mixture.

    Raises:
        ValueError: no prior, and `flat` is not said.
    """
    _check_prior(model, flat)
    return partial(_log_posterior, *_settled(model, data, like, weights))


def _settled(model: Any, data: Any, like: Any, weights: Any) -> tuple[Any, Rows, Any]:
    """Model, rows and params that the density is bound to."""
    rows = prepare(model, data).weigh(weights)
    check_params(model.domains, model.structure(rows), like)
    return model.settle(like, rows), rows, cast(like, rows.dtype)


def _check_prior(model: Any, flat: bool) -> None:
    if getattr(model, "prior", None) is None and not flat:
        raise ValueError(
            "prior: this model has none, and under a flat one there may be no posterior; give the model a prior, or say flat=True."
        )


def _log_posterior(model: Any, rows: Rows, like: Any, u: jax.Array) -> jax.Array:
    params = model.from_unconstrained(u, like=like)
    shapes = jax.tree.map(jnp.shape, like)
    density = model.log_likelihood(params, rows) + model.log_prior(params) + log_volume(model.domains, shapes, u)
    return jnp.where(jnp.isnan(density), -jnp.inf, density)


def nuts(
    model: Any,
    data: Any,
    *,
    key: Any,
    params: Any = None,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    target: float = 0.8,
    weights: Any = None,
    flat: bool = False,
) -> Draws:
    """Draws from the posterior by the No-U-Turn sampler (Hoffman and Gelman 2014, JMLR 15:1593) of blackjax, an optional extra:
    `pip install "jaxem[nuts]"`.

    Step size and a diagonal mass matrix are adapted in `warmup` steps as Stan does. The first chain starts at `params`, the
    others at `model.init`'s starts. Where the prior treats states alike, those of each draw are brought to canonical order.

    Args:
        key: an int seed or a JAX key.
        params: where the first chain starts; default the params that `fit` finds from one random start.
        draws, warmup: steps of each chain, kept and dropped.
        target: acceptance rate that the step size is adapted to, in (0, 1).
        weights, flat: as for `log_posterior`.

    Returns:
        Draws; `diverging` says where a trajectory went astray, which leaves corners of the posterior unvisited.

    Raises:
        ModuleNotFoundError: blackjax is not installed. TypeError, ValueError: as `log_posterior`; settings out of range.
    """
    try:
        import blackjax
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("nuts: needs blackjax; pip install 'jaxem[nuts]'.") from error
    draws, warmup, chains = check_count(draws, "draws"), check_count(warmup, "warmup"), check_count(chains, "chains")
    if not 0 < target < 1:
        raise ValueError(f"target: found {target}; give an acceptance rate between 0 and 1, such as 0.8.")
    _check_prior(model, flat)
    key = as_key(key)
    rows = prepare(model, data).weigh(weights)
    found = fit(model, rows, key=key).params if params is None else params
    model, rows, like = _settled(model, rows, found, None)
    starts = _starts(model, like, rows, key, chains)
    settings = (draws, warmup, float(target))
    vectors, log_density, diverging = _sample(blackjax, model, rows, like, starts, jax.random.fold_in(key, 1), settings)
    drawn, log_joint = _read(model, like, vectors, log_density, jnp.asarray(_labels_mean_nothing(model, like)))
    return draws_of(drawn, log_joint)._replace(diverging=diverging)


def _starts(model: Any, like: Any, rows: Rows, key: jax.Array, chains: int) -> jax.Array:
    """(chains, P) coordinates."""
    first = model.to_unconstrained(like)
    found = [first]
    for number in range(1, chains):
        start = model.init(jax.random.fold_in(key, number), rows, number % initialize.WAYS)
        own = model.to_unconstrained(cast(start, rows.dtype))
        found.append(jnp.where(jnp.isfinite(first), jnp.where(jnp.isfinite(own), own, first), first))
    return jnp.stack(found)


@partial(jax.jit, static_argnums=(0, 6))
def _sample(blackjax: Any, model: Any, rows: Rows, like: Any, starts: jax.Array, key: jax.Array, settings: Any) -> Any:
    """Coordinates (chains, draws, P), log-densities and divergences (chains, draws)."""
    draws, warmup, target = settings
    held = ~jnp.isfinite(starts[0])

    def density(u: jax.Array) -> jax.Array:
        # coordinates that are not finite stay: their own are any numbers, which a standard normal keeps in place
        return _log_posterior(model, rows, like, jnp.where(held, starts[0], u)) - 0.5 * jnp.where(held, u * u, 0).sum()

    def chain(start: jax.Array, key: jax.Array) -> Any:
        warm, go = jax.random.split(key)
        adaptation = blackjax.window_adaptation(blackjax.nuts, density, target_acceptance_rate=target)
        (state, tuned), _ = adaptation.run(warm, jnp.where(held, 0, start), num_steps=warmup)
        kernel = blackjax.nuts(density, **tuned)

        def step(state: Any, key: jax.Array) -> Any:
            state, info = kernel.step(key, state)
            return state, (state.position, state.logdensity, info.is_divergent)

        return jax.lax.scan(step, state, jax.random.split(go, draws))[1]

    vectors, log_density, diverging = jax.vmap(chain)(starts, jax.random.split(key, len(starts)))
    return jnp.where(held, starts[0], vectors), log_density, diverging


def _labels_mean_nothing(model: Any, params: Any) -> bool:
    """Whether the prior's density is the same under any order of the states."""
    k = model.n_states
    if k == 1:
        return False
    here = float(model.log_prior(params))
    orders = (np.array([1, 0, *range(2, k)]), np.roll(np.arange(k), 1))
    there = [float(model.log_prior(model.relabel(params, jnp.asarray(order)))) for order in orders]
    return bool(np.allclose(there, here, rtol=1e-5, atol=1e-5))


@jax.jit
def _read(model: Any, like: Any, vectors: jax.Array, log_density: jax.Array, order: jax.Array) -> Any:
    """Params of the draws, and log-likelihood + log prior at each."""
    shapes = jax.tree.map(jnp.shape, like)

    def one(u: jax.Array, density: jax.Array) -> Any:
        params = model.from_unconstrained(u, like=like)
        joint = density - log_volume(model.domains, shapes, u)
        if model.n_states == 1:
            return params, joint
        chosen = jnp.where(order, model.canonical_order(params), jnp.arange(model.n_states))
        return model.relabel(params, chosen), joint

    return jax.vmap(jax.vmap(one))(vectors, log_density)
