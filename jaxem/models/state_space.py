"""Linear Gaussian state space models: a vector of hidden states that moves linearly, seen through noise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates, linear_moments
from jaxem.checks import as_key, check_count
from jaxem.data import as_rows, rows_for
from jaxem.domains import PositiveDefinite, Real
from jaxem.kernels.linalg import cholesky
from jaxem.linear_moments import Block, BlockCovariance, LinearMoments, read_blocks
from jaxem.model import Expectation, Model
from jaxem.models.state_space_data import SeriesReader, arranged, check_diffuse
from jaxem.models.state_space_moments import begin_state_space, posterior_moments, sequence_log_likelihoods, statistics_of
from jaxem.models.state_space_readings import StateSpaceReadings, remarks_on
from jaxem.restrict import GIVEN, Restrictions, paths_of, restrict, restrictions
from jaxem.restrict import m_step as restricted_m_step
from jaxem.rows import Rows
from jaxem.sequence_rows import prepare_sequence_batch, prepare_sequences
from jaxem.steps import step_weights

PARALLEL = 1 << 62  # steps from which one lane on a CPU is worth running in parallel over time


class StateSpaceParams(NamedTuple):
    """Params of n hidden states, d outputs and p inputs."""

    transition: Any  # (n, n) A
    transition_noise: Any  # (n, n) Q
    observation: Any  # (d, n) C
    observation_noise: Any  # (d, d) R
    initial_mean: Any  # (n,) m0
    initial_covariance: Any  # (n, n) P0
    transition_input: Any = None  # (n, p) B, where there are inputs
    observation_input: Any = None  # (d, p) D


class StateSpaceStatistics(NamedTuple):
    """Sums over sequences, each of one linear equation."""

    initial: LinearMoments  # x_1 = m0 + noise
    transition: LinearMoments  # x_{t+1} = [A B] [x_t; u_t] + noise
    observation: LinearMoments  # y_t = [C D] [x_t; u_t] + noise, over steps with something observed


@dataclasses.dataclass(frozen=True)
class StateSpace(StateSpaceReadings, Model):
    r"""x_{t+1} = A x_t + B u_t + w_t, w ~ N(0, Q); y_t = C x_t + D u_t + v_t, v ~ N(0, R); x_1 ~ N(m0, P0).

    E-step: the Kalman filter and a smoother that inverts no covariance of the state (`jaxem.kernels.kalman`), step by step or
    in parallel over time. M-step (Shumway and Stoffer 1982, J. Time Ser. Anal. 3:253): each of the three equations is a linear
    regression on sums of second moments, in closed form. Missing cells are integrated out, whatever their pattern; a step with
    nothing observed only lets time pass.

    Data: one (T, d) series, or (T,) where d is 1, a list of series, a (B, T, d) array, or `Sequences(y, lengths)`; with inputs
    `Inputs(y, u)` in place of each. Weights are one number a series.

    A model with all matrices free is known up to a change of the states' coordinates, x -> S x, which changes no density: hold
    some blocks (Q = I and C lower triangular, for instance) where the states themselves are of interest. `n_parameters` does
    not count the freedom of S.

    Args:
        n_latent: n >= 1 hidden states.
        n_outputs: d >= 1 columns of y.
        n_inputs: p >= 0 columns of u.
        initial: "free", or "diffuse", a start of infinite variance: the likelihood is then that under a flat density of x_1,
            which is the conditional one given as many observations as determine x_1, up to a constant. (Durbin and Koopman
            2012, sec. 7.2.2, and statsmodels count log(2 pi) / 2 less for each state.) One series tells m0 and P0 not apart:
            P0 then shrinks to 0.
        fixed: params held at values: name -> number or array that broadcasts to the leaf, NaN where a cell stays free. Of a
            covariance whole blocks are held, as [[nan, 0], [0, 0]] does; a held one may be singular. A given start is held in
            `initial_mean` and `initial_covariance`.
        parallel: whether the recursions run in parallel over time, for long series on accelerators; None chooses by device,
            length and number of series. The results are the same to rounding.

    Raises:
        TypeError, ValueError: counts that are none; an unknown start; fixed names, shapes or blocks that cannot be; a held
            start that is diffuse too; free coefficients of a state whose noise is held singular.
    """

    n_latent: int
    n_outputs: int
    _: dataclasses.KW_ONLY
    n_inputs: int = 0
    initial: str = "free"
    fixed: Any = None
    parallel: bool | None = None
    anchor: Any = None  # of the statistics, see `localize`
    blocks: Any = dataclasses.field(default=None, repr=False)  # of the three noises, from `fixed`

    n_states = 1  # discrete ones
    closed = True
    observed_blocks = ()
    sequential = True

    def __post_init__(self):
        check_count(self.n_latent, "n_latent")
        check_count(self.n_outputs, "n_outputs")
        if isinstance(self.n_inputs, bool) or not isinstance(self.n_inputs, int) or self.n_inputs < 0:
            raise ValueError(f"n_inputs: found {self.n_inputs!r}; give a whole number >= 0.")
        if self.initial not in ("free", "diffuse"):
            raise ValueError(f"initial: found {self.initial!r}; give 'free' or 'diffuse' (a given start is held by fixed=).")
        if isinstance(self.fixed, GIVEN) and self.blocks is None:
            object.__setattr__(self, "fixed", self._read_fixed())
            object.__setattr__(self, "blocks", self._read_blocks())

    def _read_fixed(self) -> Restrictions | None:
        given: Any = self.fixed if isinstance(self.fixed, (list, tuple, str, float)) else dict(self.fixed or {})
        if self.initial == "diffuse":
            for name in ("initial_mean", "initial_covariance"):
                if name in given:
                    raise ValueError(f"fixed: {name} is held, but initial is 'diffuse'; give one or the other.")
            given |= {"initial_mean": np.zeros(self.n_latent), "initial_covariance": np.eye(self.n_latent)}
        chosen = restrictions(given or None, None, paths_of(self.free_domains))
        if chosen is not None:
            shapes = self.structure(None)._asdict()
            for name, (shape, _) in zip(chosen.names, chosen.held, strict=True):
                if np.broadcast_shapes(shape, shapes[name]) != shapes[name]:
                    raise ValueError(f"fixed: {name} has shape {shape}; this model needs {shapes[name]}.")
        return chosen

    def _read_blocks(self) -> tuple[tuple[Block, ...], ...]:
        out = []
        for noise, names in NOISES.items():
            held, values = self._held(noise), np.where(self._held(noise), np.asarray(self._value(noise)), 0)
            blocks = read_blocks(held, values, noise)
            free = self._free(names)
            for members, estimated in blocks:
                place = np.ix_(members, members)
                if not estimated and free[list(members)].any():
                    roots = np.linalg.eigvalsh(values[place])
                    if roots[0] <= 1e-12 * max(roots[-1], 0) and noise != "initial_covariance":
                        raise ValueError(
                            f"fixed: {noise} is held singular in {members}, where {names[0]} has free cells: what moves without "
                            f"noise cannot be estimated by EM; hold these rows of {names[0]} too."
                        )
            out.append(blocks)
        return tuple(out)

    @property
    def needs_key(self) -> bool:
        return bool(self._free(("observation",)).any() or self._free(("transition",)).any())

    # what is held

    def _held(self, name: str) -> np.ndarray:
        """(shape of the leaf) bool."""
        shape = getattr(self.structure(None), name)
        if isinstance(self.fixed, Restrictions) and name in self.fixed.names:
            own, cells = self.fixed.held[self.fixed.names.index(name)]
            return np.broadcast_to(np.array(cells, bool).reshape(own), shape)
        return np.zeros(shape, bool)

    def _value(self, name: str) -> Any:
        """The values held, broadcast to the leaf, 0 where free."""
        shape = getattr(self.structure(None), name)
        if isinstance(self.fixed, Restrictions) and name in self.fixed.names:
            value = self.fixed.values[self.fixed.names.index(name)]
            return (np if isinstance(value, np.ndarray) else jnp).broadcast_to(value, shape)
        return np.zeros(shape)

    def _free(self, names: tuple[str, ...]) -> np.ndarray:
        """(e, q) bool: free coefficients of an equation."""
        parts = [~self._held(name) for name in names if getattr(self.structure(None), name) is not None]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    @property
    def domains(self) -> StateSpaceParams:
        chosen = self.fixed
        if not isinstance(chosen, Restrictions):
            return self.free_domains
        kept = [i for i, name in enumerate(chosen.names) if name not in NOISES]
        rest = dataclasses.replace(
            chosen,
            names=tuple(chosen.names[i] for i in kept),
            held=tuple(chosen.held[i] for i in kept),
            values=tuple(chosen.values[i] for i in kept),
        )
        out = restrict(self.free_domains, rest)
        given = {
            name: BlockCovariance(blocks=blocks, value=self._value(name))
            for name, blocks in zip(NOISES, self.blocks, strict=True)
            if name in chosen.names
        }
        return out._replace(**given)

    @property
    def free_domains(self) -> StateSpaceParams:
        """The domains before anything is fixed."""
        real, covariance = Real(state_axes=()), PositiveDefinite(state_axes=())
        inputs = (real, real) if self.n_inputs else (None, None)
        return StateSpaceParams(real, covariance, real, covariance, real, covariance, *inputs)

    # data and starts

    def _reader(self) -> SeriesReader:
        loud = np.diagonal(~self._held("observation_noise"))
        return SeriesReader(self.n_outputs, self.n_inputs, tuple(loud.tolist()))

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        rows = prepare_sequences(self._reader(), arranged(y), weights, 1, sharding)
        if self.initial == "diffuse":
            check_diffuse(rows, self.n_latent)
        return rows

    def prepare_batch(self, datasets: Sequence[Any], weights: Sequence[Any] | None = None) -> Rows:
        """Many data sets, each of one or several series, in blocks and lanes of one shape; every leaf has a leading axis."""
        return prepare_sequence_batch(self._reader(), [arranged(data) for data in datasets], weights, 1)

    def init(self, key: Any, data: Any, way: Any = 0) -> StateSpaceParams:
        """Outputs as unit states seen through random loadings, each lasting differently long; held cells as they are held.

        States that are seen through held coefficients start with noises as large as the data's.
        """
        return _init(self, as_key(0 if key is None else key), as_rows(self, data), jnp.asarray(way))

    def settle(self, params: Any, data: Rows) -> StateSpace:
        del params
        if self.parallel is not None:
            return self
        steps, lanes = data.lanes.first.shape[-2:]
        accelerator = jax.default_backend() != "cpu"
        return dataclasses.replace(self, parallel=bool(steps >= (256 if accelerator else PARALLEL) and lanes * 64 <= steps))

    def localize(self, params: StateSpaceParams, data: Rows, shared: bool = False) -> StateSpace:
        """Statistics are then taken of the noises at `params`, which keep their digits; wherever they were taken."""
        del shared
        return dataclasses.replace(self, anchor=coordinates.cast(params, data.dtype))

    # EM

    def e_step(self, params: StateSpaceParams, data: Any) -> Expectation:
        rows = rows_for(self, params, data)
        return _e_step(self.settle(params, rows), params, rows)

    def m_step(self, params: StateSpaceParams, statistics: StateSpaceStatistics) -> StateSpaceParams:
        free = [self._free(names) for names in NOISES.values()]
        if not all(map(linear_moments.decouples, free, self.blocks)):
            return restricted_m_step(self, params, statistics)
        out = params
        for (noise, names), own, blocks, moments in zip(NOISES.items(), free, self.blocks, statistics, strict=True):
            anchored = self._anchored(params, names)
            change = linear_moments.solve(moments, anchored, own)
            # held cells and those without data stay exactly where they are
            change = jnp.where(moments.total > 0, change, anchored)
            new = self._coefficients(params, names) - anchored + change
            new = jnp.where(own, new, self._coefficients(params, names))
            left = linear_moments.about(moments, -change)
            covariance = linear_moments.noise_of(left, getattr(params, noise), blocks)
            out = out._replace(**self._split(names, new), **{noise: covariance})
        return out

    def m_step_expanded(self, params: StateSpaceParams, statistics: StateSpaceStatistics) -> StateSpaceParams:
        return self.m_step(params, statistics)

    def _coefficients(self, params: StateSpaceParams, names: tuple[str, ...]) -> jax.Array:
        """(e, q) of one equation."""
        parts = [jnp.asarray(leaf) for name in names if (leaf := getattr(params, name)) is not None]
        return jnp.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    def _split(self, names: tuple[str, ...], whole: jax.Array) -> dict[str, jax.Array]:
        """Inverse of `_coefficients`."""
        out, begin = {}, 0
        for name in names:
            if (shape := getattr(self.structure(None), name)) is not None:
                size = math.prod(shape[1:])
                out[name] = whole[:, begin : begin + size].reshape(shape)
                begin += size
        return out

    def _anchored(self, params: StateSpaceParams, names: tuple[str, ...]) -> jax.Array:
        """Coefficients less the anchor's."""
        own = self._coefficients(params, names)
        return own if self.anchor is None else own - self._coefficients(self.anchor, names)

    def expected_log_joint(self, params: StateSpaceParams, statistics: StateSpaceStatistics) -> jax.Array:
        """Up to what the held blocks add, which is constant (and infinite where they are singular)."""
        total = jnp.zeros((), jnp.asarray(params.transition).dtype)
        for (noise, names), blocks, moments in zip(NOISES.items(), self.blocks, statistics, strict=True):
            left = linear_moments.about(moments, -self._anchored(params, names))
            total = total + linear_moments.expected_log_density(left, getattr(params, noise), blocks, self._free(names))
        return total

    def log_likelihood(self, params: StateSpaceParams, data: Any, per_row: bool = False) -> jax.Array:
        """Of all series together; (S,) unweighted, one a series, with per_row."""
        rows = rows_for(self, params, data)
        return (_log_likelihood_sequences if per_row else _log_likelihood)(self.settle(params, rows), params, rows)

    def log_prior(self, params: StateSpaceParams) -> jax.Array:
        return jnp.zeros((), jnp.asarray(params.transition).dtype)

    # what follows from domains

    def structure(self, size: Any) -> StateSpaceParams:
        del size
        n, d, p = self.n_latent, self.n_outputs, self.n_inputs
        inputs = ((n, p), (d, p)) if p else (None, None)
        return StateSpaceParams((n, n), (n, n), (d, n), (d, d), (n,), (n, n), *inputs)

    def n_parameters(self, size: Any) -> int:
        """Free coordinates, less n^2 where nothing that the states' coordinates change is held."""
        found = coordinates.count(self.domains, self.structure(size))
        names = ("transition", "transition_noise", "observation", "initial_mean", "initial_covariance", "transition_input")
        held = any(self._held(name).any() for name in names if getattr(self.structure(None), name) is not None)
        return found if held else found - self.n_latent**2

    def to_unconstrained(self, params: StateSpaceParams) -> jax.Array:
        return coordinates.to_unconstrained(self.domains, params)

    def from_unconstrained(self, vector: jax.Array, like: Any = None) -> StateSpaceParams:
        del like
        return coordinates.from_unconstrained(self.domains, self.structure(None), vector)

    def canonical_order(self, params: StateSpaceParams) -> jax.Array:
        """There is one discrete state."""
        del params
        return jnp.zeros(1, jnp.int32)

    def relabel(self, params: StateSpaceParams, order: jax.Array) -> StateSpaceParams:
        del order
        return params

    def _floor(self, params: StateSpaceParams) -> jax.Array:
        """(d, d) least covariance of a step's outputs given all before: C Q C' + R."""
        seen = jnp.matmul(params.observation, params.transition_noise, precision="highest")
        return jnp.matmul(seen, params.observation.T, precision="highest") + params.observation_noise

    def degenerate(self, params: StateSpaceParams, data: Rows) -> jax.Array:
        """(1,) bool: an output follows from what came before, but for rounding, though its noise is estimated."""
        loud = np.diagonal(~self._held("observation_noise"))
        if not loud.any():
            return jnp.zeros(1, bool)
        place = np.flatnonzero(loud)
        floor = self._floor(params)[np.ix_(place, place)]
        scale = jnp.sqrt(jnp.where(data.spread > 0, data.spread, 1))[..., place]
        root = jnp.diagonal(cholesky(floor / (scale[:, None] * scale)))
        sound = root > jnp.asarray(np.finfo(data.dtype).eps, data.dtype) ** 0.5 * 8
        return ~sound.all(keepdims=True)

    def magnitude(self, params: StateSpaceParams, data: Rows) -> jax.Array:
        """d, and what subtracting predictions of the outputs' size cancels."""
        spread = jnp.diagonal(self._floor(params))
        reach = data.typical / jnp.sqrt(jnp.where(spread > 0, spread, 1))
        return jnp.asarray(data.d, data.dtype) + jnp.where(spread > 0, reach, 0).sum()

    def remarks(self, params: Any, data: Any) -> list[str]:
        rows = rows_for(self, params, data)
        return remarks_on(self, params, rows)


NOISES = {  # the noise of each equation, and its coefficients
    "initial_covariance": ("initial_mean",),
    "transition_noise": ("transition", "transition_input"),
    "observation_noise": ("observation", "observation_input"),
}

jax.tree_util.register_dataclass(
    StateSpace,
    data_fields=("fixed", "anchor"),
    meta_fields=("n_latent", "n_outputs", "n_inputs", "initial", "parallel", "blocks"),
)


@jax.jit
def _init(model: StateSpace, key: jax.Array, rows: Rows, way: jax.Array) -> StateSpaceParams:
    start = begin_state_space(model, key, rows, way)
    shapes = model.structure(None)
    return coordinates.from_unconstrained(model.domains, shapes, coordinates.to_unconstrained(model.domains, start))


@jax.jit
def _e_step(model: StateSpace, params: StateSpaceParams, rows: Rows) -> Expectation:
    params = coordinates.cast(params, rows.dtype)
    found = posterior_moments(model, params, rows)
    parts = statistics_of(found, params, rows)
    shifts = [model._anchored(params, names) for names in NOISES.values()]
    statistics = StateSpaceStatistics(*map(linear_moments.about, parts, shifts))
    return Expectation(statistics, _weighed(found.log_likelihood, rows))


def _weighed(each: jax.Array, rows: Rows) -> jax.Array:
    """Sum of (S,) under the sequences' weights; weight 0 is absence."""
    weights = step_weights(rows).at[rows.lanes.start].get(mode="fill", fill_value=0)
    return jnp.where(weights > 0, weights * jnp.where(weights > 0, each, 0), 0).sum()


@jax.jit
def _log_likelihood(model: StateSpace, params: StateSpaceParams, rows: Rows) -> jax.Array:
    return _weighed(sequence_log_likelihoods(model, coordinates.cast(params, rows.dtype), rows), rows)


@jax.jit
def _log_likelihood_sequences(model: StateSpace, params: StateSpaceParams, rows: Rows) -> jax.Array:
    return sequence_log_likelihoods(model, coordinates.cast(params, rows.dtype), rows)
