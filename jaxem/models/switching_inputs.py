"""Series as Markov-switching autoregressions read them: checked, with their lags; where a fit begins; simulated ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr

from jaxem import coordinates, initialize
from jaxem.checks import check_matrix, is_traced
from jaxem.data import moments_of
from jaxem.kernels import autoregression, structured_chain
from jaxem.kernels.quantiles import normal_quantile
from jaxem.models.path_readings import ahead
from jaxem.newton import damped_step
from jaxem.rows import Rows, Table
from jaxem.sequences import read_sequences
from jaxem.steps import lane_weights, to_lanes, to_rows


def read_series(data: Any) -> Table:
    """Series one after another as one column."""
    y, columns = check_matrix(data)
    if y.shape[1] != 1:
        raise ValueError(f"y: found {y.shape[1]} columns; give one series, (n,), or a list of series.")
    if is_traced(y):
        return Table({"y": y, "seen": jnp.ones_like(y)}, y, jnp.zeros(1, y.dtype), 1, 1, columns=columns)
    seen = ~np.isnan(y)
    mean = moments_of(y, None)[0].astype(y.dtype)
    cells = {"y": np.where(seen, y, mean), "seen": seen.astype(y.dtype)}
    return Table(cells, y, mean, 1, 1, seen[:, 0], not seen.all(), columns=columns)


def check_series(data: Any, order: int, name: str = "y") -> None:
    """Series long enough, and complete up to the last value seen."""
    whole, lengths = read_sequences(data)
    ends = np.cumsum(lengths)
    several = len(lengths) > 1
    for number in np.flatnonzero(lengths <= order)[:1]:
        who = f"{name}[{number}]" if several else name
        need = f"order {order} needs at least {order + 1}"
        raise ValueError(f"{who}: found {lengths[number]} steps; {need}.")
    y, _ = check_matrix(whole)
    if is_traced(y):
        return
    seen = ~np.isnan(np.asarray(y)[:, 0])
    for number, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        own = seen[end - length : end]
        last = int(np.flatnonzero(own)[-1]) if own.any() else -1
        gone = np.flatnonzero(~own[: last + 1])
        if gone.size:
            who = f"{name}[{number}]" if several else name
            remedy = "cut the series there and give the parts as a list, or fill it in"
            raise ValueError(f"{who}: the value at step {gone[0]} is missing, and later steps need it as a lag; {remedy}.")


def lagged(model: Any, rows: Rows, frame: Any) -> tuple[jax.Array, jax.Array]:
    """y_t, y_t-1, ..., y_t-p less `frame` (T, p + 1, B), and whether a step counts (T, B): it has p steps before it in its
    series, and is seen."""
    cells = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(_slots(section.cells) for section in rows.sections))
    cells = jax.tree.map(lambda leaf: leaf[rows.position], cells)
    y, seen = to_lanes(cells["y"] - frame, rows)[:, 0], to_lanes(cells["seen"], rows)[:, 0]
    counted, values = seen > 0, [y]
    for lag in range(1, model.order + 1):
        nothing = jnp.zeros_like(y[:lag])
        values.append(jnp.concatenate([nothing, y[:-lag]])[: len(y)])
        begun = jnp.concatenate([jnp.ones_like(counted[: lag - 1]), rows.lanes.first])[: len(y)]
        counted = counted & ~begun
    return jnp.stack(values, axis=1), counted


def _slots(cells: Any) -> Any:
    """Leaves (m, c, 1, b) -> (m c b, 1)."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, 1), cells)


def start(model: Any, key: jax.Array, rows: Rows, way: jax.Array) -> Any:
    """Transitions, shares of the regimes, and where an autoregression begins: (mean or intercept, coefficients, variance).

    Coefficients by least squares on all rows; regimes from clusters of the values, and of the logarithms of residuals, where
    mean or variance switch, drawn out in time by as much as chance says; params of each from its rows, pulled to the pooled ones.
    How long regimes last, and how much of the pooled coefficients is not theirs, are left to chance too: starts that are all good
    in the same way end in the same local maximum.
    """
    k, dtype = model.n_regimes, rows.dtype
    chance = jax.random.uniform(jax.random.fold_in(key, 1), (2 * k + 2,), dtype)
    v, counted = lagged(model, rows, rows.origin[0])
    mass = jnp.where(counted, lane_weights(rows), 0)
    design = jnp.concatenate([jnp.ones_like(v[:, :1]), v[:, 1:]], axis=1)  # (T, p + 1, B)

    def regress(weight: jax.Array) -> jax.Array:
        """(..., T, B) -> (..., p + 1) intercept and coefficients."""
        information = jnp.einsum("...tb,tpb,tqb->...pq", weight, design, design)
        return damped_step(jnp.einsum("...tb,tpb,tb->...p", weight, design, v[:, 0]), information)

    pooled = regress(mass)
    residual = v[:, 0] - jnp.einsum("p,tpb->tb", pooled, design)
    total = jnp.maximum(mass.sum(), 1)
    noise = (mass * residual**2).sum() / total
    spread = jnp.where(rows.spread[0] > 0, rows.spread[0], 1)
    size = jnp.log(jnp.sqrt(jnp.where(noise > 0, noise, 1)) * 0.05 + jnp.abs(residual))
    features = {"mean": v[:, 0] / jnp.sqrt(spread), "variance": size, "coefficients": v[:, 0] * v[:, 1] / spread}
    points = jnp.stack([features[name].reshape(-1) for name in model.switching], axis=1)
    r = initialize.memberships(key, points, mass.reshape(-1), k, way).reshape(*mass.shape, k)
    r = jnp.moveaxis(r, -1, 0)  # (K, T, B)
    r = (1 - chance[0]) * r + chance[0] * mass * _around(r) / jnp.maximum(_around(mass[None]), 1e-3)
    weight = r.sum(axis=(1, 2))
    pull = 0.1 * total / k
    mean = (r * v[:, 0]).sum(axis=(1, 2)) / (weight + pull) + rows.origin[0]
    each = regress(r + pull * mass / total)
    own_residual = v[:, 0] - jnp.einsum("kp,tpb->ktb", each, design)
    variance = ((r * own_residual**2).sum(axis=(1, 2)) + pull * noise) / (weight + pull)
    lasting = chance[1] * pooled[1:]
    found = {"mean": mean, "coefficients": 0.5 * each[:, 1:] + 0.5 * chance[2 : k + 2, None] * pooled[1:], "variance": variance}
    if model.parametrisation == "intercept":
        found["mean"] = mean * (1 - found["coefficients"].sum(axis=1))
    if "mean" not in model.switching:
        level = rows.origin[0] + 0 * noise
        found["mean"] = level * (1 - lasting.sum()) if model.parametrisation == "intercept" else level
    if "coefficients" not in model.switching:
        found["coefficients"] = lasting
    if "variance" not in model.switching:
        found["variance"] = noise
    if model.parametrisation == "intercept" and "mean" in model.switching and "coefficients" not in model.switching:
        found["mean"] = mean * (1 - lasting.sum())
    often = (weight + 1) / (weight.sum() + k)
    stay = (0.4 + 0.58 * chance[k + 2 :])[:, None]
    transition = stay * jnp.eye(k, dtype=dtype) + (1 - stay) * often
    least = jnp.finfo(dtype).tiny ** 0.5
    found["variance"] = jnp.maximum(found["variance"], least)
    return transition, often, tuple(found[name].astype(dtype) for name in ("mean", "coefficients", "variance"))


def _around(values: jax.Array) -> jax.Array:
    """(., T, B): means over nine steps."""
    padded = jnp.pad(values, ((0, 0), (4, 4), (0, 0)))
    return sum(padded[:, i : i + values.shape[1]] for i in range(9)) / 9  # type: ignore[return-value]


@partial(jax.jit, static_argnames="n")
def simulate(model: Any, key: jax.Array, params: Any, n: int) -> tuple[jax.Array, jax.Array]:
    """(n,) values and regimes."""
    k, p, dtype = model.n_regimes, model.order, params.transition.dtype
    move, draw = jax.random.split(key)
    noise, shocks = jax.random.gumbel(move, (n, k), dtype), jax.random.normal(draw, (n,), dtype)
    weights = autoregression.weights_of(params.coefficients, k)
    centre, deviation = jnp.broadcast_to(params[2], (k,)), jnp.sqrt(jnp.broadcast_to(params.variance, (k,)))
    level, inner = model.levels(params), model.parametrisation == "mean"

    def step(before: tuple[jax.Array, jax.Array, jax.Array], now: tuple[jax.Array, ...]) -> Any:
        regime, y, regimes = before
        own, shock, t = now
        chances = jnp.where(t == 0, jnp.log(params.initial), jnp.log(params.transition[regime]))
        regime = (chances + own).argmax().astype(jnp.int32)
        past = y - centre[regimes] if inner else y
        expected = centre[regime] - (weights[regime, 1:] * past).sum()
        value = jnp.where(t < p, level[regime], expected) + deviation[regime] * shock
        return (regime, jnp.append(value, y)[:p], jnp.append(regime, regimes)[:p]), (value, regime)

    start = (jnp.zeros((), jnp.int32), jnp.zeros(p, dtype), jnp.zeros(p, jnp.int32))
    return jax.lax.scan(step, start, (noise, shocks, jnp.arange(n)))[1]


@jax.jit
def foretold(model: Any, params: Any, rows: Rows) -> jax.Array:
    """(n, 1) normal quantiles of the values given those before them."""
    params = coordinates.cast(params, rows.dtype)
    v, counted = lagged(model, rows, rows.origin[0])
    z = autoregression.standardized(autoregression.Autoregression(*params[2:]), v, model.n_regimes, model._lags, rows.origin[0])
    log_state = structured_chain.safe_log(ahead(model._links(params, rows)))
    below, above = (structured_chain.log_sum(log_state + log_ndtr(sign * z), 1) for sign in (1, -1))
    return to_rows(jnp.where(counted, normal_quantile(below, above), jnp.nan), rows)[:, None]
