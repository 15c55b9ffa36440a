"""What is read off a state space model: states given the data, steps to come, draws, missing cells."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates
from jaxem.checks import as_key, check_count, check_matrix
from jaxem.data import rows_for
from jaxem.imputation import as_given
from jaxem.kernels import kalman
from jaxem.kernels.kalman import mm, outer, turned
from jaxem.models.state_space_data import Inputs, arranged
from jaxem.models.state_space_moments import (
    Lane,
    cells_of,
    dynamics_of,
    in_sequences,
    lanes_of,
    posterior_moments,
    scored,
)
from jaxem.rows import Rows
from jaxem.sequences import read_sequences
from jaxem.steps import to_rows


class StateMoments(NamedTuple):
    """Normals of the states, one a step, in input order."""

    mean: jax.Array  # (rows, n)
    covariance: jax.Array  # (rows, n, n)


class StateForecast(NamedTuple):
    """Steps 1, 2, ... beyond the end of each of S series: normals of the outputs and of the states."""

    mean: jax.Array  # (S, steps, d)
    covariance: jax.Array  # (S, steps, d, d)
    states: jax.Array  # (S, steps, n)
    states_covariance: jax.Array  # (S, steps, n, n)


class StateSpaceReadings:
    """Methods of a state space model once it is fitted. Rows of several series stand one after another."""

    n_latent: int
    n_inputs: int

    def posterior(self, params: Any, data: Any) -> jax.Array:
        """(rows, 1) ones: there is one discrete state. `smooth` gives the hidden ones."""
        rows = rows_for(self, params, data)
        return jnp.ones((rows.n, 1), rows.dtype)

    def filter(self, params: Any, data: Any) -> StateMoments:
        """x_t given y_1..t. Under a diffuse start variances are huge until the data determine the states."""
        return self._read(params, data, _filtered)

    def predict(self, params: Any, data: Any) -> StateMoments:
        """x_t given y_1..t-1, likewise."""
        return self._read(params, data, _predicted)

    def smooth(self, params: Any, data: Any) -> StateMoments:
        """x_t given its whole series."""
        return self._read(params, data, _smoothed)

    def residuals(self, params: Any, data: Any) -> jax.Array:
        """(rows, d) one-step-ahead prediction errors of each cell over their standard deviations: standard normal, and
        independent from step to step, under the true model. NaN where the cell is missing."""
        return self._read(params, data, _residuals)

    def impute(self, params: Any, data: Any, covariance: bool = False) -> Any:
        """Missing cells by their means given the whole series, observed cells as given, (rows, d); with `covariance`, also
        (rows, d, d), zero on observed cells."""
        mean, spread = self._read(params, data, _imputed)
        if not isinstance(data, Rows):
            whole = read_sequences(arranged(data))[0]
            mean = as_given(mean, whole.y if isinstance(whole, Inputs) else whole)
        return (mean, spread) if covariance else mean

    def posterior_sample(self, key: Any, params: Any, data: Any) -> jax.Array:
        """(rows, n) a path of the states drawn given each whole series (Durbin and Koopman 2002, Biometrika 89:603)."""
        return self._read(params, data, jax.tree_util.Partial(_drawn, as_key(key)))

    def forecast(self, params: Any, data: Any, steps: int, *, inputs: Any = None) -> StateForecast:
        """The next `steps` steps of each series, given it.

        Args:
            inputs: (S, steps, p), or (steps, p) for all alike: u of these steps, where the model has inputs. The input of the
                last step of the data is known already.

        Raises:
            TypeError, ValueError: steps no whole number >= 1; inputs missing, of another shape, or to a model without.
        """
        rows = rows_for(self, params, data)
        count = len(rows.lanes.start)
        known = self._inputs(inputs, (count, check_count(steps, "steps")))
        return _forecast(self.settle(params, rows), params, rows, steps, known)  # type: ignore[attr-defined]

    def sample(self, key: Any, params: Any, n: int, *, inputs: Any = None, states: bool = False) -> Any:
        """One series of n steps (n, d); with `states`, also (n, n_latent). A diffuse start is `initial_mean`."""
        coordinates.no_fit(params)
        known = self._inputs(inputs, (1, check_count(n, "n")))
        first = jnp.zeros((n, 1), bool).at[0].set(True)
        cast = coordinates.cast(params, jnp.asarray(params.transition).dtype)
        u = None if known is None else jnp.moveaxis(known, -1, 0).swapaxes(1, 2)
        x, y = _simulate(as_key(key), cast, first, u, self.initial == "diffuse")  # type: ignore[attr-defined]
        return (y[:, :, 0].T, x[:, :, 0].T) if states else y[:, :, 0].T

    def axes_of(self, name: str, columns: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
        """Kind and names of the axes of a leaf, for reports."""
        states, outputs = ("factors", tuple(f"state {i}" for i in range(self.n_latent))), ("columns", columns)
        inputs = ("numbers", tuple(f"input {i}" for i in range(self.n_inputs)))
        if name in ("observation", "observation_noise", "observation_input"):
            return [outputs, {"observation": states, "observation_noise": outputs}.get(name, inputs)]
        return [states] if name == "initial_mean" else [states, inputs if name == "transition_input" else states]

    def _inputs(self, inputs: Any, shape: tuple[int, int]) -> Any:
        """(S, steps, p), checked."""
        p = self.n_inputs
        if (inputs is not None) != (p > 0):
            raise TypeError(f"inputs: the model has n_inputs={p}; give {f'(steps, {p}) numbers' if p else 'none'}.")
        if inputs is None:
            return None
        found = np.asarray(inputs) if np.ndim(inputs) == 3 else check_matrix(inputs, "inputs")[0]
        if found.shape[-2:] != (shape[1], p) or (found.ndim == 3 and len(found) != shape[0]):
            raise ValueError(f"inputs: found shape {found.shape}; give ({shape[1]}, {p}), or {(*shape, p)}.")
        return jnp.broadcast_to(jnp.asarray(found), (*shape, p))

    def _read(self, params: Any, data: Any, what: Any) -> Any:
        rows = rows_for(self, params, data)
        what = what if isinstance(what, jax.tree_util.Partial) else jax.tree_util.Partial(what)
        return _read_rows(self.settle(params, rows), params, rows, what)  # type: ignore[attr-defined]


@jax.jit
def _read_rows(model: Any, params: Any, rows: Rows, what: Any) -> Any:
    return what(model, coordinates.cast(params, rows.dtype), rows)


def _ordered(values: jax.Array, rows: Rows) -> jax.Array:
    """(..., T, B) -> (rows, ...)."""
    return to_rows(jnp.moveaxis(values, (-2, -1), (0, 1)), rows)


def _smoothed(model: Any, params: Any, rows: Rows) -> StateMoments:
    found = posterior_moments(model, params, rows)
    return StateMoments(_ordered(found.mean, rows), _ordered(found.covariance, rows))


def _forward(model: Any, params: Any, rows: Rows, after: bool) -> tuple[jax.Array, jax.Array, Lane]:
    """Filtered (or predicted) means (n, T, B) and covariances."""
    lane = lanes_of(rows)
    cells = cells_of(model, params, rows, lane)
    mean, covariance = kalman.predict(dynamics_of(model, params), cells, model.parallel)
    found = kalman.absorb(mean, covariance, cells[:4])
    if after:
        mean, covariance = found.mean, found.covariance
    if mean.shape[1] == 1:
        return mean[:, 0], covariance, lane
    # what the series says of its start so far
    each = jnp.moveaxis(found.innovation, 1, 0)
    gram = jnp.moveaxis((outer(each, each) * found.precision).sum(axis=2), 2, 0)

    def step(total: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        own, begins = now
        before = jnp.where(begins, 0, total)
        return before + own, before + own if after else before

    _, so_far = jax.lax.scan(step, jnp.zeros_like(gram[0]), (gram, rows.lanes.first))
    so_far = jnp.moveaxis(so_far, 0, 2)
    whole = scored(found, cells, rows).spread
    diagonal = jnp.stack([whole[j, j] for j in range(len(whole))])
    faint = in_sequences(jnp.where(diagonal > 0, 1 / jnp.where(diagonal > 0, diagonal, 1), 1), rows)
    faint = jnp.where(faint > 0, faint, 1) * jnp.finfo(rows.dtype).eps
    information = so_far[1:, 1:] + faint[:, None] * jnp.eye(len(whole), dtype=rows.dtype)[..., None, None]
    spread = kalman.inverse(information)
    start = -mm(spread, so_far[1:, :1])[:, 0]
    beside = mean[:, 1:]
    return mean[:, 0] + mm(beside, start[:, None])[:, 0], covariance + mm(mm(beside, spread), turned(beside)), lane


def _filtered(model: Any, params: Any, rows: Rows) -> StateMoments:
    mean, covariance, _ = _forward(model, params, rows, True)
    return StateMoments(_ordered(mean, rows), _ordered(covariance, rows))


def _predicted(model: Any, params: Any, rows: Rows) -> StateMoments:
    mean, covariance, _ = _forward(model, params, rows, False)
    return StateMoments(_ordered(mean, rows), _ordered(covariance, rows))


def _expected_outputs(params: Any, lane: Lane, mean: jax.Array) -> jax.Array:
    """(d, T, B) C x + D u."""
    out = mm(params.observation[..., None, None], mean[:, None])[:, 0]
    if lane.u is not None:
        out = out + mm(params.observation_input[..., None, None], lane.u[:, None])[:, 0]
    return out


def _residuals(model: Any, params: Any, rows: Rows) -> jax.Array:
    mean, covariance, lane = _forward(model, params, rows, False)
    observation = params.observation[..., None, None]
    spread = (mm(observation, covariance) * observation).sum(axis=1) + jnp.diagonal(params.observation_noise)[:, None, None]
    sound = spread > 0
    scaled = (lane.y - _expected_outputs(params, lane, mean)) / jnp.sqrt(jnp.where(sound, spread, 1))
    return _ordered(jnp.where(lane.seen > 0, jnp.where(sound, scaled, 0), jnp.nan), rows)


def _imputed(model: Any, params: Any, rows: Rows) -> tuple[jax.Array, jax.Array]:
    found = posterior_moments(model, params, rows)
    lane, observation = found.lane, params.observation[..., None, None]
    mean = _expected_outputs(params, lane, found.mean) + found.output
    across = mm(found.output_state, turned(observation))
    spread = mm(mm(observation, found.covariance), turned(observation)) + found.output_covariance + across + turned(across)
    unseen = 1 - lane.seen
    return _ordered(jnp.where(lane.seen > 0, lane.y, mean), rows), _ordered(spread * outer(unseen, unseen), rows)


def _root(covariance: jax.Array) -> jax.Array:
    """A square root of a positive semidefinite matrix."""
    lower, pivot = kalman.ldl(covariance)
    return lower * jnp.sqrt(pivot)[None]


@partial(jax.jit, static_argnames="fixed_start")
def _simulate(key: jax.Array, params: Any, first: jax.Array, u: jax.Array | None, fixed_start: bool) -> tuple[jax.Array, jax.Array]:
    """States (n, T, B) and outputs (d, T, B) drawn from the model."""
    n, d, dtype = len(params.transition), len(params.observation), params.transition.dtype
    noise = jax.random.normal(key, (n + d, *first.shape), dtype)
    kicks = jnp.einsum("ij,jtb->itb", _root(params.transition_noise), noise[:n], precision="highest")
    begins = jnp.einsum("ij,jtb->itb", _root(params.initial_covariance), noise[:n], precision="highest")
    begins = params.initial_mean[:, None, None] + (0 if fixed_start else 1) * begins
    # the noise drawn at a step that begins a series is its start's; else that of the step into it
    push = kicks
    if u is not None:
        own = jnp.einsum("ij,jtb->itb", params.transition_input, u, precision="highest")
        push = push + jnp.concatenate([jnp.zeros_like(own[:, :1]), own[:, :-1]], axis=1)

    def step(x: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        start, kick, begins = now
        x = jnp.where(begins, start, mm(params.transition[..., None], x[:, None])[:, 0] + kick)
        return x, x

    given = (jnp.moveaxis(begins, 1, 0), jnp.moveaxis(push, 1, 0), first)
    _, x = jax.lax.scan(step, jnp.zeros((n, first.shape[1]), dtype), given)
    x = jnp.moveaxis(x, 0, 1)
    y = _expected_outputs(params, Lane(x, x, u), x)
    return x, y + jnp.einsum("ij,jtb->itb", _root(params.observation_noise), noise[n:], precision="highest")


def _drawn(key: jax.Array, model: Any, params: Any, rows: Rows) -> jax.Array:
    """x+ + E[x | y - y+] with (x+, y+) from the model: right under a diffuse start too, whatever x+ starts at."""
    lane = lanes_of(rows)
    x, y = _simulate(key, params, rows.lanes.first, lane.u, model.initial == "diffuse")
    plain = params._replace(initial_mean=jnp.zeros_like(params.initial_mean))
    gap = Lane(lane.seen * (lane.y - y), lane.seen, None)
    return _ordered(x + posterior_moments(model, plain, rows, gap).mean, rows)


@partial(jax.jit, static_argnames="steps")
def _forecast(model: Any, params: Any, rows: Rows, steps: int, inputs: jax.Array | None) -> StateForecast:
    params = coordinates.cast(params, rows.dtype)
    found = posterior_moments(model, params, rows)
    ends = rows.lanes.end
    mean, covariance = (jnp.moveaxis(_ordered(leaf, rows)[ends], 0, -1) for leaf in (found.mean, found.covariance))
    if inputs is None or found.lane.u is None:
        before = jnp.zeros((steps, 1, len(ends)), rows.dtype)
        shift = jnp.zeros((steps, model.n_outputs, len(ends)), rows.dtype)
        drive = jnp.zeros((model.n_latent, 1), rows.dtype)
    else:
        last = _ordered(found.lane.u, rows)[ends]  # (S, p)
        own = jnp.moveaxis(inputs.astype(rows.dtype), 0, -1)  # (steps, p, S)
        before = jnp.concatenate([last.T[None], own[:-1]])
        shift = jnp.einsum("ij,tjs->tis", params.observation_input, own, precision="highest")
        drive = params.transition_input
    transition, observation = params.transition[..., None], params.observation[..., None]

    def step(carry: tuple[jax.Array, jax.Array], now: tuple[jax.Array, jax.Array]) -> Any:
        mean, covariance = carry
        u, shift = now
        mean = mm(transition, mean[:, None])[:, 0] + mm(drive[..., None], u[:, None])[:, 0]
        covariance = mm(mm(transition, covariance), turned(transition)) + params.transition_noise[..., None]
        seen = mm(observation, mean[:, None])[:, 0] + shift
        spread = mm(mm(observation, covariance), turned(observation)) + params.observation_noise[..., None]
        return (mean, covariance), (seen, spread, mean, covariance)

    _, out = jax.lax.scan(step, (mean, covariance), (before, shift))
    return StateForecast(*(jnp.moveaxis(leaf, -1, 0) for leaf in out))


def remarks_on(model: Any, params: Any, rows: Rows) -> list[str]:
    """What a person should know of noises that have gone, of states that explode, and of a start that one series tells."""
    out = []
    spread = np.nanmax(np.asarray(rows.spread, np.float64))
    for name, what in (("transition_noise", "state"), ("observation_noise", "output")):
        held, values = model._held(name), np.diagonal(np.asarray(getattr(params, name), np.float64))
        seen = float(np.abs(np.asarray(params.observation)).max()) ** 2 if what == "state" else 1.0
        for j in np.flatnonzero(~np.diagonal(held) & (values * seen < 1e-10 * spread)):
            out.append(f"The noise of {what} {j} has run to 0: its variance is {values[j]:.3g}, at the edge of what it can be.")
    size = np.abs(np.linalg.eigvals(np.asarray(params.transition, np.float64))).max()
    if size > 1 + 1e-6 and not model._held("transition").all():
        out.append(f"The states explode: the largest eigenvalue of the transition has size {size:.4g}.")
    free = model.initial == "free" and not model._held("initial_covariance").all()
    if free and len(rows.lanes.start) == 1:
        out.append("One series tells nothing of the covariance of its first state, which shrinks towards 0: hold it by fixed=.")
    return out
