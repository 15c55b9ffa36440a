"""Quantile residuals: where each cell stands in what the model says of it, as a standard normal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates
from jaxem.checks import as_key, check_count
from jaxem.inputs import Regression
from jaxem.kernels.quantiles import Tails, averaged, between, entered, residuals, safe_log
from jaxem.leaves import states_of
from jaxem.rows import Rows
from jaxem.sequences import read_sequences
from jaxem.view import view_of

DRAWS = 2000  # rows simulated in each state where a family has no cumulative distribution


class _Cells(NamedTuple):
    """What is known of the cells of n rows, and given them; NumPy arrays, or dicts of them by group."""

    lower: Any  # (n, d) ends of intervals, the same where a cell is exact; NaN where missing
    upper: Any
    entry: Any  # (n,) left truncation, or None
    given: Any  # covariates as `Family.sample` takes them, or None


def quantile_residuals(model: Any, params: Any, data: Any, key: Any = 0, *, draws: int = DRAWS) -> np.ndarray:
    r"""z = Phi^{-1}(F(y)), cell by cell: standard normal under the true model, whatever the family (Dunn and Smyth 1996).

    F is the marginal distribution of one cell given the row's covariates: the states' under their probabilities before y is
    seen, the weights of a mixture, the gate of a mixture of experts, p(z_t | y_1..t-1) of models in time, whose residuals are
    one step ahead. Where a cell has a positive probability (counts, categories in the order of their codes) z is drawn
    uniformly on the scale of F from F(y-) to F(y); a censored one from F(lower) to F(upper); under left truncation F is that
    of what exceeds `entry`. A response of `SelectedRegression` is taken given that it was selected.

    A family whose `tails` are not known (`VonMisesFisher`, or one's own) is simulated: F is the rank of the cell among `draws`
    rows of each state. Params are taken as true, so that residuals of a fit are a little closer to 0 than normal ones.

    Args:
        model: any but `Latent`, which says nothing of single cells.
        params: its params.
        data: raw data, not prepared ones.
        key: an int seed or a JAX key, for what is drawn.
        draws: rows simulated where they are needed.

    Returns:
        (n, d) numbers in input order, NaN where the cell is missing, where a model in time only conditions on it, and where no
        state could have given it; infinite beyond the reach of the model.

    Raises:
        TypeError: prepared data; a model without families; a family with covariates that has no `tails`. As the model's checks
            of its data.
    """
    if isinstance(data, Rows):
        raise TypeError("data: are prepared, and no longer hold their cells; give the raw data.")
    if hasattr(model, "residuals"):  # of its own, since its states are no rows of a family
        return np.asarray(model.residuals(params, data))
    if not hasattr(model, "family"):
        raise TypeError(f"model: {type(model).__name__} does not say the distribution of single cells; compare simulated rows.")
    check_count(draws, "draws")
    rows = model.prepare(data)
    params = coordinates.cast(jax.tree.map(jnp.asarray, params), rows.dtype)
    chance, simulate = jax.random.split(as_key(key))
    raw = read_sequences(data)[0] if getattr(model, "sequential", False) else data
    cells = _cells(model.family, raw, rows.dtype)
    inner = states_of(model, params)[1]
    shares = _shares(model, params, data, rows)
    ranked = None
    if _mute(model.family, inner, cells):
        ranked = _simulated(model.family, inner, cells, simulate, draws, shares.shape[1])
    exact = jax.tree.all(jax.tree.map(lambda a, b: bool(((a == b) | np.isnan(a)).all()), cells.lower, cells.upper))
    return np.asarray(_residuals(model.family, inner, cells, shares, chance, ranked, exact))


def state_probabilities(model: Any, params: Any, data: Any) -> jax.Array:
    """(n, K) probabilities of the states before a row is seen: weights, the gate, or in time p(z_t | y_1..t-1)."""
    rows = model.prepare(data)
    return _shares(model, coordinates.cast(jax.tree.map(jnp.asarray, params), rows.dtype), data, rows)


def _shares(model: Any, params: Any, data: Any, rows: Rows) -> jax.Array:
    if hasattr(model, "predict"):
        return model.predict(params, data)
    if hasattr(model, "gate_probabilities"):
        return model.gate_probabilities(params, data.gate)
    weights = jnp.asarray(states_of(model, params)[0], rows.dtype)
    return jnp.broadcast_to(weights, (rows.n, len(weights)))


def _cells(family: Any, raw: Any, dtype: Any) -> _Cells:
    if (dealt := getattr(family, "_groups", None)) is not None:
        each = {name: _cells(family.families[name], part, dtype) for name, part in dealt(raw).items()}
        parts = [{name: cells[i] for name, cells in each.items()} for i in range(4)]
        return _Cells(*parts)
    if isinstance(raw, Mapping):
        raise TypeError(f"data: found groups of columns, and {type(family).__name__} takes one; take Product.")
    view = view_of(raw)
    lower = view.y if view.lower is None else view.lower
    upper = view.y if view.upper is None else view.upper
    unknown = np.isnan(lower) | view.missing
    lower, upper = (np.where(unknown, np.nan, end).astype(dtype) for end in (lower, upper))
    given = None
    if isinstance(raw, Regression) and not (raw.x is None and raw.offset is None and raw.gate is None):
        x = np.zeros((view.n, 0), dtype) if view.x is None else view.x.astype(dtype)
        offset = None if view.offset is None else view.offset.astype(dtype)
        given = Regression(None, x, view.intercept, offset, None if view.gate is None else view.gate.astype(dtype))
    if view.entry is None:
        return _Cells(lower, upper, None, given)
    entry = np.where(np.isnan(view.entry), -np.inf, view.entry).astype(dtype)[:, None]
    return _Cells(np.maximum(lower, entry), upper, entry, given)


def _mute(family: Any, params: Any, cells: _Cells) -> bool:
    """Whether the family does not say its cumulative distribution.

    Raises:
        TypeError: and cannot be simulated for that either.
    """
    try:
        jax.eval_shape(_tails_at, family, params, cells.lower, cells.given, None)
        return False
    except TypeError:
        given = [each for each in jax.tree.leaves(cells.given, is_leaf=_covariates) if _covariates(each)]
        if any(each.offset is not None or each.x.shape[1] for each in given):
            who = type(family).__name__
            raise TypeError(f"{who} takes covariates, and does not say its cumulative distribution; give it `tails`.") from None
        return True


def _covariates(each: Any) -> bool:
    return isinstance(each, Regression)


def _simulated(family: Any, params: Any, cells: _Cells, key: jax.Array, draws: int, n_states: int) -> Any:
    """Rows of each state in ascending order, column by column: leaves (K, d, draws)."""
    y = family.sample(key, params, jnp.repeat(jnp.arange(n_states), draws))

    def ordered(drawn: Any, like: np.ndarray) -> jax.Array:
        return jnp.sort(jnp.moveaxis(jnp.reshape(drawn, (n_states, draws, like.shape[1])), 1, 2), axis=-1)

    return jax.tree.map(ordered, y, cells.lower)


# traced


@partial(jax.jit, static_argnames="exact")
def _residuals(
    family: Any, params: Any, cells: _Cells, shares: jax.Array, key: jax.Array, ranked: Any, exact: bool
) -> jax.Array:
    tails = _tails_at(family, params, cells.lower, cells.given, ranked)
    high = None if exact else _tails_at(family, params, cells.upper, cells.given, ranked)
    starts = jax.tree.leaves(cells.entry)
    if starts:
        start = _tails_at(family, params, _entries(cells), cells.given, ranked)
        tails, high = entered(tails, start), None if high is None else entered(high, start)
    tails = averaged(tails, shares)
    lower, upper = _flat(cells.lower), _flat(cells.upper)
    told = ~jnp.isnan(lower)
    if high is not None:
        inside = between(tails, averaged(high, shares))
        tails = Tails(*(jnp.where(upper > lower, a, b) for a, b in zip(inside, tails, strict=True)))
        told = told & ~((upper > lower) & (tails.below == -jnp.inf) & (tails.above == -jnp.inf))
    share = jax.random.uniform(key, lower.shape, lower.dtype, minval=jnp.finfo(lower.dtype).tiny)
    return jnp.where(told, residuals(tails, share).residual, jnp.nan)


def _flat(cells: Any) -> jax.Array:
    """(n, d) columns of all groups."""
    return jnp.concatenate(list(cells.values()), axis=1) if isinstance(cells, dict) else jnp.asarray(cells)


def _entries(cells: _Cells) -> Any:
    """Where rows began to be seen, in the shape of the cells: -inf without left truncation."""
    if not isinstance(cells.lower, dict):
        return jnp.broadcast_to(-jnp.inf if cells.entry is None else cells.entry, cells.lower.shape)
    return {name: _entries(_Cells(cells.lower[name], None, cells.entry[name], None)) for name in cells.lower}


def _tails_at(family: Any, params: Any, y: Any, given: Any, ranked: Any) -> Tails:
    """(n, K, d) at cells that may be infinite, or NaN where anything does."""
    sound = jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 1), y)
    if ranked is None:
        found = family.tails(params, sound, **({} if given is None else {"x": given}))
    else:
        each = jax.tree.leaves(jax.tree.map(_rank, sound, ranked), is_leaf=lambda leaf: isinstance(leaf, Tails))
        found = Tails(*(jnp.concatenate(leaves, axis=-1) for leaves in zip(*each, strict=True)))
    end = _flat(y)[:, None]
    ends = ((-jnp.inf, 0.0), (-jnp.inf, -jnp.inf), (0.0, -jnp.inf))  # at -inf and at inf
    return Tails(
        *(jnp.where(jnp.isinf(end), jnp.where(end < 0, *out), leaf) for leaf, out in zip(found, ends, strict=True))
    )


def _rank(y: jax.Array, drawn: jax.Array) -> Tails:
    """Where y (n, d) stands among draws (K, d, m) and itself."""

    def count(side: str) -> jax.Array:
        each = jax.vmap(jax.vmap(partial(jnp.searchsorted, side=side)), (0, None))(drawn, y.T)  # (K, d, n)
        return jnp.moveaxis(each, -1, 0).astype(y.dtype)

    before, upto, m = count("left"), count("right"), drawn.shape[-1]
    return Tails(*(safe_log(part / (m + 1)) for part in (before, upto - before + 1, m - upto)))
