"""Posterior moments of the states of a linear Gaussian state space, and the sums that its M-step reads."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels import kalman
from jaxem.kernels.kalman import Absorbed, Cells, Dynamics, lifted, mm, outer, turned
from jaxem.linear_moments import LinearMoments
from jaxem.rows import Rows
from jaxem.steps import lane_weights, sequence_sums, to_lanes, to_rows

LOG_2PI = math.log(2 * math.pi)


class Lane(NamedTuple):
    """Data in lanes, (k, T, B)."""

    y: jax.Array  # (d, T, B), 0 where missing
    seen: jax.Array  # (d, T, B) 1 or 0
    u: jax.Array | None  # (p, T, B)


class Posterior(NamedTuple):
    """Moments given whole series, in lanes."""

    mean: jax.Array  # (n, T, B) of x_t
    covariance: jax.Array  # (n, n, T, B)
    noise: jax.Array  # (n, T, B) of w_t, on the way to t + 1
    noise_covariance: jax.Array  # (n, n, T, B)
    noise_state: jax.Array  # (n, n, T, B) cov(w_t, x_t)
    output: jax.Array  # (d, T, B) of v_t
    output_covariance: jax.Array  # (d, d, T, B)
    output_state: jax.Array  # (d, n, T, B) cov(v_t, x_t)
    log_likelihood: jax.Array  # (S,)
    lane: Lane


def lanes_of(rows: Rows) -> Lane:
    """Cells of prepared data in lanes; what fills a lane up is not seen."""

    def brought(name: str) -> jax.Array:
        leaves = [section.cells[name] for section in rows.sections]
        slots = jnp.concatenate([jnp.moveaxis(leaf, -1, 2).reshape(-1, leaf.shape[-2]) for leaf in leaves])
        return jnp.moveaxis(to_lanes(slots[rows.position], rows), 1, 0)

    return Lane(brought("y"), brought("seen"), brought("u") if "u" in rows.sections[0].cells else None)


def dynamics_of(model: Any, params: Any) -> Dynamics:
    """How the state starts and moves. A diffuse start is 0 with each coordinate's effect beside it."""
    mean, covariance = params.initial_mean[:, None], params.initial_covariance
    if model.initial == "diffuse":
        mean = jnp.concatenate([mean, jnp.eye(len(mean), dtype=mean.dtype)], axis=1)
        covariance = jnp.zeros_like(covariance)
    return Dynamics(params.transition, params.transition_noise, mean, covariance)


def cells_of(model: Any, params: Any, rows: Rows, lane: Lane) -> Cells:
    """Outputs with independent noises: those of y where its noises are, else L^-1 y with R = L D L' over what is seen."""
    value, drift, first = lane.y, None, rows.lanes.first
    if lane.u is not None:
        value = lane.seen * (value - mm(lifted(params.observation_input, lane.u[None]), lane.u[:, None])[:, 0])
        push = mm(lifted(params.transition_input, lane.u[None]), lane.u[:, None])[:, 0]
        drift = jnp.where(first, 0, jnp.concatenate([jnp.zeros_like(push[:, :1]), push[:, :-1]], axis=1))
    row, noise = params.observation[..., None, None], params.observation_noise
    if independent(model):
        return Cells(value, row, jnp.diagonal(noise)[:, None, None], lane.seen, drift, first)
    noise = noise[..., None, None]
    if rows.has_missing:
        noise = noise * outer(lane.seen, lane.seen)
        row = row * lane.seen[:, None]
    lower, pivot = kalman.ldl(noise)
    value = kalman.forward_solve(lower, value[:, None])[:, 0]
    return Cells(value, kalman.forward_solve(lower, row), pivot, lane.seen, drift, first)


def independent(model: Any) -> bool:
    """Whether the outputs' noises are."""
    return all(len(members) == 1 for members, _ in model.blocks[2])


class Score(NamedTuple):
    """Log-likelihoods of series, and what they say of a diffuse start."""

    log_likelihood: jax.Array  # (S,)
    start: jax.Array  # (n or 0, S) mean of a diffuse first state
    spread: jax.Array  # (n or 0, n or 0, S) its covariance


def scored(found: Absorbed, cells: Cells, rows: Rows) -> Score:
    """Sums the innovations of each series: log N(y_t | y_1..t-1), and under a flat density of x_1 its integral."""
    value, precision, innovation = cells.value, found.precision, found.innovation
    sound = precision > 0
    logs = jnp.where(sound, 0.5 * (jnp.log(jnp.where(sound, precision, 1)) - LOG_2PI), 0)
    # a cell without variance has to be as foretold
    off = jnp.abs(innovation[:, 0]) > jnp.sqrt(jnp.finfo(value.dtype).eps) * (1 + jnp.abs(value))
    logs = jnp.where(~sound & (cells.seen > 0) & off, -jnp.inf, logs).sum(axis=0)
    gram = (outer(jnp.moveaxis(innovation, 1, 0), jnp.moveaxis(innovation, 1, 0)) * precision).sum(axis=2)
    total = _sequence_totals(to_rows(logs, rows), rows)
    gram = jnp.moveaxis(_sequence_totals(to_rows(jnp.moveaxis(gram, (0, 1), (2, 3)), rows), rows), 0, -1)
    cross, information = gram[1:, 0], gram[1:, 1:]
    if not len(cross):
        return Score(total - 0.5 * gram[0, 0], cross, information)
    spread = kalman.inverse(information)
    start = -mm(spread, cross[:, None])[:, 0]
    log_det, rank = kalman.log_det(information)
    explained = -(cross * start).sum(axis=0)
    out = total - 0.5 * (gram[0, 0] - explained) + 0.5 * (rank * LOG_2PI - log_det)
    return Score(out, start, spread)


def _sequence_totals(values: jax.Array, rows: Rows) -> jax.Array:
    """(n, ...) -> (S, ...), summed about the mean, so that long series in float32 lose no more than short ones."""
    # a row that only pads the data set of a batch stands in no lane
    real = rows.lanes.slot.reshape(-1)[rows.lanes.place] == jnp.arange(len(values))
    mean = jax.lax.stop_gradient(values.mean(axis=0))
    mean = jnp.where(jnp.isfinite(mean), mean, 0)
    count = sequence_sums(real.astype(values.dtype), rows)
    about = jnp.where(real.reshape(-1, *(1,) * mean.ndim), values - mean, 0)
    return sequence_sums(about, rows) + count.reshape(-1, *(1,) * mean.ndim) * mean


def sequence_log_likelihoods(model: Any, params: Any, rows: Rows) -> jax.Array:
    """(S,) log-likelihoods."""
    cells = cells_of(model, params, rows, lanes_of(rows))
    found = kalman.absorb(*kalman.predict(dynamics_of(model, params), cells, model.parallel), cells[:4])
    return scored(found, cells, rows).log_likelihood


def in_sequences(values: jax.Array, rows: Rows) -> jax.Array:
    """(..., S) -> (..., T, B): of the sequence that stands in each slot, 0 where a lane is filled up."""
    sequence = jnp.concatenate([rows.lanes.sequence, jnp.full(1, values.shape[-1])])[rows.lanes.slot]
    padded = jnp.concatenate([values, jnp.zeros_like(values[..., :1])], axis=-1)
    return padded[..., sequence]


def posterior_moments(model: Any, params: Any, rows: Rows, lane: Lane | None = None) -> Posterior:
    """Everything that the E-step reads; `lane` may hold other cells than the rows' own.

    With r, N the adjoint after a step and a, P the filtered moments: x ~ N(a + P A'r, P - P A'NA P), w ~ N(Q r, Q - Q N Q) and
    cov(w, x) = -Q N A P. Under a diffuse start each gets what its own effect and the start's posterior covariance add.
    """
    lane, dynamics = lanes_of(rows) if lane is None else lane, dynamics_of(model, params)
    cells = cells_of(model, params, rows, lane)
    both = kalman.smooth(dynamics, cells, model.parallel)
    score = scored(both.absorbed, cells, rows)
    filtered, spread = both.absorbed.mean, both.absorbed.covariance
    transition, noise = dynamics.transition[..., None, None], dynamics.noise[..., None, None]
    carried = mm(transition, spread)  # A P
    state = filtered + mm(turned(carried), both.adjoint)
    moved = mm(both.information, carried)  # N A P
    covariance = spread - mm(turned(carried), moved)
    driven = mm(noise, both.adjoint)
    noise_covariance = noise - mm(noise, mm(both.information, noise))
    noise_state = -mm(noise, moved)
    mean, w = state[:, 0], driven[:, 0]
    if state.shape[1] > 1:
        start, own = in_sequences(score.start, rows), in_sequences(score.spread, rows)
        mean = mean + mm(state[:, 1:], start[:, None])[:, 0]
        w = w + mm(driven[:, 1:], start[:, None])[:, 0]
        share, share_noise = mm(state[:, 1:], own), mm(driven[:, 1:], own)
        covariance = covariance + mm(share, turned(state[:, 1:]))
        noise_covariance = noise_covariance + mm(share_noise, turned(driven[:, 1:]))
        noise_state = noise_state + mm(share_noise, turned(state[:, 1:]))
    output, output_covariance, output_state = _outputs(model, params, rows, lane, mean, covariance)
    return Posterior(
        mean, kalman.symmetric(covariance), w, kalman.symmetric(noise_covariance), noise_state,
        output, output_covariance, output_state, score.log_likelihood, lane,
    )  # fmt: skip


def _outputs(
    model: Any, params: Any, rows: Rows, lane: Lane, mean: jax.Array, covariance: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Moments of v_t, missing cells by regression on the seen ones: v = W v_seen + the rest, W = R S'(S R S')^-1 S."""
    observation, noise = params.observation[..., None, None], params.observation_noise[..., None, None]
    left = lane.y - mm(observation, mean[:, None])[:, 0]
    if lane.u is not None:
        left = left - mm(lifted(params.observation_input, lane.u[None]), lane.u[:, None])[:, 0]
    along = -mm(observation, covariance)
    spread = -mm(along, turned(observation))
    if not rows.has_missing:
        return left, spread, along
    left = lane.seen * left
    if independent(model):
        rest = lifted(jnp.diag(jnp.diagonal(params.observation_noise)), spread) * (1 - lane.seen)[None]
        return left, spread * outer(lane.seen, lane.seen) + rest, along * lane.seen[:, None]
    both = outer(lane.seen, lane.seen)
    weight = mm(noise, kalman.inverse(noise * both))
    rest = noise - mm(weight, noise)
    return (
        mm(weight, left[:, None])[:, 0],
        mm(mm(weight, spread), turned(weight)) + rest,
        mm(weight, along),
    )


def statistics_of(found: Posterior, params: Any, rows: Rows) -> list[LinearMoments]:
    """Sums of the three equations, anchored at `params`."""
    first = rows.lanes.first
    weights = lane_weights(rows)
    follows = jnp.concatenate([~first[1:], jnp.zeros_like(first[:1])])
    moves = weights * follows
    looks = weights * found.lane.seen.max(axis=0)
    begins = weights * first
    mean, covariance, u = found.mean, found.covariance, found.lane.u
    design = mean if u is None else jnp.concatenate([mean, u])

    def summed(noise: jax.Array, spread: jax.Array, cross: jax.Array, weights: jax.Array) -> LinearMoments:
        square = _products(noise, noise, weights) + (spread * weights).sum(axis=(2, 3))
        across = _products(noise, design, weights).at[:, : len(mean)].add((cross * weights).sum(axis=(2, 3)))
        inner = _products(design, design, weights)
        inner = inner.at[: len(mean), : len(mean)].add((covariance * weights).sum(axis=(2, 3)))
        return LinearMoments(weights.sum(), kalman.symmetric(square), across, kalman.symmetric(inner))

    away = mean - params.initial_mean[:, None, None]
    square = _products(away, away, begins) + (covariance * begins).sum(axis=(2, 3))
    count = begins.sum()
    initial = LinearMoments(count, kalman.symmetric(square), (away * begins).sum(axis=(1, 2))[:, None], count[None, None])
    return [
        initial,
        summed(found.noise, found.noise_covariance, found.noise_state, moves),
        summed(found.output, found.output_covariance, found.output_state, looks),
    ]


def _products(a: jax.Array, b: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.einsum("itb,jtb->ij", a * weights, b, precision="highest")


# starts


def begin_state_space(model: Any, key: jax.Array, rows: Rows, way: jax.Array) -> Any:
    """Params before anything is held; see `StateSpace.init`."""
    n, d, dtype = model.n_latent, model.n_outputs, rows.dtype
    shapes = model.structure(None)
    variance = jnp.where(rows.spread > 0, rows.spread, 1)
    direct = (model._held("observation") & (model._value("observation") != 0)).any(axis=0)  # states in the units of the data
    scale = jnp.where(direct, variance.max(), 1)
    # persistence from 0.95 downwards, so that states differ
    stay = 0.95 * (1 - jnp.arange(n) / n).astype(dtype)
    noise = jax.random.normal(key, (d + n, n), dtype)
    loadings = noise[:d] * jnp.sqrt(0.5 * variance / n)[:, None]
    wander = jnp.where(way == 0, 0.05, 0.3).astype(dtype)
    transition = jnp.diag(stay) + wander * noise[d:] / n
    own = {
        "transition": transition,
        "transition_noise": jnp.diag(scale * jnp.where(direct, 0.1, 1 - stay * stay)),
        "observation": loadings,
        "observation_noise": jnp.diag(0.5 * variance),
        "initial_mean": jnp.zeros(n, dtype),
        "initial_covariance": jnp.diag(scale),
    }
    inputs = {
        name: jnp.zeros(getattr(shapes, name), dtype)
        for name in ("transition_input", "observation_input")
        if getattr(shapes, name) is not None
    }
    return type(shapes)(**own, **inputs)
