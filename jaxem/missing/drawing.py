"""Missing cells drawn given the observed ones and params: states first, then each row's cells given its state."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.inputs import Regression
from jaxem.rows import Rows
from jaxem.view import View


def draw_cells(model: Any, params: Any, rows: Rows, view: View, keys: jax.Array) -> np.ndarray:
    """(m, n, d) cells of the view with the missing ones drawn, under params whose leaves lead with m, each by its own key.

    Raises:
        TypeError: a model or a family that does not draw missing cells.
    """
    check_draws(model)
    y = jnp.asarray(view.y, rows.dtype)
    x = _covariates(view, rows.dtype, getattr(model.family, "gated", False))
    if view.parts:
        own = {name: [j for j, part in enumerate(view.parts) if part == name] for name in dict.fromkeys(view.parts)}
        drawn = _draw(model, params, rows, {name: y[:, np.array(place)] for name, place in own.items()}, x, keys)
        out = np.zeros((len(keys), *view.y.shape))
        for name, place in own.items():
            out[:, :, place] = np.asarray(drawn[name], np.float64)
        return out
    return np.asarray(_draw(model, params, rows, y, x, keys), np.float64)


def check_draws(model: Any) -> None:
    """Raises TypeError where a model has no rows that are independent given discrete states."""
    family = getattr(model, "family", None)
    if family is None or not hasattr(family, "draw_missing"):
        raise TypeError(
            f"model: {type(model).__name__} does not draw missing cells; Single, Mixture, HiddenMarkov and their kin do, of any "
            "family that says what a row looks like given its state."
        )


def _covariates(view: View, dtype: Any, gated: bool) -> Any:
    """Covariates of the rows as `sample` takes them, or None; those of the gate too where it takes them."""
    if view.x is None or (view.x.shape[1] == 0 and view.offset is None and not gated):
        return None
    gate = jnp.asarray(view.gate, dtype) if gated else None
    offset = None if view.offset is None else jnp.asarray(view.offset, dtype)
    return Regression(jnp.zeros(view.n, dtype), jnp.asarray(view.x, dtype), view.intercept, offset, gate)


@jax.jit
def _draw(model: Any, params: Any, rows: Rows, y: Any, x: Any, keys: jax.Array) -> Any:
    def one(given: tuple[jax.Array, Any]) -> Any:
        key, own = given
        for_states, for_cells = jax.random.split(key)
        states = _states(model, for_states, own, rows)
        inner = jax.tree.map(lambda leaf: jnp.asarray(leaf, rows.dtype), _family_params(model, own))
        return model.family.draw_missing(for_cells, inner, states, y, x)

    return jax.lax.map(one, (keys, params))


def _family_params(model: Any, params: Any) -> Any:
    """The family's params with a leading state axis, also where they are traced."""
    if model.n_states == 1 and hasattr(model, "_states"):
        return model._states(params)
    own: Any = jax.tree.structure(model.family.domains)
    named = zip(model.domains._fields, model.domains, strict=True)
    return getattr(params, next(name for name, domains in named if jax.tree.structure(domains) == own))


def _states(model: Any, key: jax.Array, params: Any, rows: Rows) -> jax.Array:
    """(n,) states drawn from their posterior: whole paths, where rows follow one another."""
    if model.n_states == 1:
        return jnp.zeros(rows.n, jnp.int32)
    if hasattr(model, "posterior_sample"):
        return model.posterior_sample(key, params, rows)
    return jax.random.categorical(key, jnp.log(model.posterior(params, rows)), axis=-1)
