"""Mixtures whose component probabilities depend on covariates of the row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxem import coordinates, initialize, reduce
from jaxem.assign import Assign, Assigned, assign_rows
from jaxem.checks import as_key, check_count, check_matrix, is_traced
from jaxem.data import as_rows, cut_batch, cut_rows, rows_for
from jaxem.domains import Contrast
from jaxem.factors import row_evidence
from jaxem.family import check_family, check_prior, spoken
from jaxem.inputs import Regression
from jaxem.kernels.gate import GateFrame, GateStatistics, expected_log_gate, gate_step, gate_sums, log_gate, move_gate
from jaxem.model import Expectation, Model, size_of
from jaxem.models.mixture import softmax
from jaxem.restrict import GIVEN, Restrictions, breaks_symmetry, paths_of, restrict, restrictions
from jaxem.restrict import m_step as restricted_m_step
from jaxem.rows import Rows


class GateParams(NamedTuple):
    """Log-odds of each component against component 0, whose coefficients and intercept are 0."""

    coefficients: jax.Array  # (K, g) by covariate, in the user's units
    intercept: jax.Array  # (K,)


class MixtureOfExpertsParams(NamedTuple):
    """Params of K components and their gate."""

    gate: GateParams
    components: Any  # the family's params with a leading K axis


class MixtureOfExpertsStatistics(NamedTuple):
    """Sums over rows."""

    gate: GateStatistics
    components: Any  # the family's statistics


@dataclasses.dataclass(frozen=True)
class MixtureOfExperts(Model):
    r"""p(y | x, z) = sum_k pi_k(z) p(y | x, k), with pi_k(z) = softmax_k(intercept_k + coefficients_k . z), for any family.

    Data: `Regression(y, x, gate=z)`; z (n, g) without missing cells, an intercept is added. Under a family of plain rows
    (latent class analysis with covariates of class membership) x is left out. E-step as for a mixture. M-step: components by
    the family; the gate by one Newton step on its weighted multinomial logit, which the algorithm halves until the likelihood
    does not fall (Jordan and Jacobs 1994, Neural Computation 6:181; Newton steps as in Lange 1995).

    Args:
        family: what a row looks like given its component.
        n_components: K >= 1.
        prior: None, or the family's conjugate prior.
        fixed, tied: as for `Mixture`, with names such as "gate.coefficients".

    Raises:
        TypeError, ValueError: n_components not a whole number >= 1, data without a gate, missing or collinear covariates.
    """

    family: Any
    n_components: int
    _: dataclasses.KW_ONLY
    prior: Any = None
    fixed: Any = None
    tied: Any = None
    frame: GateFrame | None = None  # coordinates of the gate's statistics; None for the user's, about 0. Set by `localize`

    closed = False

    def __post_init__(self):
        check_family(self.family)
        check_count(self.n_components, "n_components")
        check_prior(self.family, self.prior)
        if (self.fixed is not None or self.tied is not None) and isinstance(self.fixed, GIVEN):
            object.__setattr__(self, "fixed", restrictions(self.fixed, self.tied, paths_of(self.free_domains)))
            object.__setattr__(self, "tied", None)

    @property
    def n_states(self) -> int:
        return self.n_components

    @property
    def needs_key(self) -> bool:
        return self.n_components > 1

    @property
    def observed_blocks(self) -> tuple[str, ...]:
        return tuple(f"components.{name}" for name in self.family.observed_blocks)

    @property
    def domains(self) -> MixtureOfExpertsParams:
        return restrict(self.free_domains, self.fixed)

    @property
    def free_domains(self) -> MixtureOfExpertsParams:
        """The domains before anything is fixed or tied."""
        return MixtureOfExpertsParams(GateParams(Contrast(), Contrast()), self.family.domains)  # type: ignore[arg-type]

    # data and starts

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        return cut_rows(self, self._read(y, weights), weights, self.n_components, sharding)

    def prepare_batch(self, datasets: Sequence[Any], weights: Sequence[Any] | None = None) -> Rows:
        return cut_batch(self, self._read, datasets, weights, self.n_components)

    def width(self, size: Any) -> int:
        """Rows a block, as the family has it."""
        return self.family.width(size[0])

    def _read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Any:
        """The family's table, with the gate's covariates beside it, scaled."""
        return read_gated(self.family, data, weights, missing)

    def init(self, key: Any, data: Any, way: Any = 0) -> MixtureOfExpertsParams:
        """Components as under a mixture, the gate flat at their shares."""
        return _init(self, as_key(key), as_rows(self, data), jnp.asarray(way))

    def start_points(self, data: Rows) -> jax.Array:
        return self.family.embed(own(data))

    def settle(self, params: MixtureOfExpertsParams | None, data: Rows) -> MixtureOfExperts:
        components = None if params is None else params.components
        return dataclasses.replace(self, family=self.family.settle(components, own(data)))

    def localize(self, params: MixtureOfExpertsParams, data: Rows, shared: bool = False) -> MixtureOfExperts:
        settled = self.settle(params, data)
        frame = GateFrame(data.gate_origin, move_gate(params.gate, data.gate_origin))
        return dataclasses.replace(settled, family=settled.family.localize(params.components, own(data), shared), frame=frame)

    # EM

    def e_step(self, params: MixtureOfExpertsParams, data: Any) -> Expectation:
        rows = rows_for(self, params, data)
        return _e_step(self.settle(params, rows), params, rows)

    def assign(self, how: Assign, params: MixtureOfExpertsParams, data: Any) -> Assigned:
        rows = rows_for(self, params, data)
        return _assign(self.settle(params, rows), how, params, rows)

    def m_step(self, params: MixtureOfExpertsParams, statistics: MixtureOfExpertsStatistics) -> MixtureOfExpertsParams:
        return self._m_step(params, statistics, self.family.maximize)

    def m_step_expanded(self, params: MixtureOfExpertsParams, statistics: MixtureOfExpertsStatistics) -> MixtureOfExpertsParams:
        return self._m_step(params, statistics, self.family.maximize_expanded)

    def _m_step(self, params: Any, statistics: Any, maximize: Any) -> MixtureOfExpertsParams:
        if isinstance(self.fixed, Restrictions):
            return restricted_m_step(self, params, statistics)
        gate = GateParams(*gate_step(params.gate, statistics.gate, self.frame))
        return MixtureOfExpertsParams(gate, maximize(params.components, statistics.components, self._prior(params)))

    def _prior(self, params: MixtureOfExpertsParams) -> Any:
        return None if self.prior is None else coordinates.cast(self.prior, params.gate.intercept.dtype)

    def expected_log_joint(self, params: MixtureOfExpertsParams, statistics: MixtureOfExpertsStatistics) -> jax.Array:
        return expected_log_gate(params.gate, statistics.gate, self.frame) + self.family.expected_log_prob(
            params.components, statistics.components
        )

    def log_likelihood(self, params: MixtureOfExpertsParams, data: Any, per_row: bool = False) -> jax.Array:
        rows = rows_for(self, params, data)
        return (_log_likelihood_rows if per_row else _log_likelihood)(self.settle(params, rows), params, rows)

    def factors(self, params: MixtureOfExpertsParams, data: Rows) -> jax.Array:
        """(n, K) log pi_k(x_i) + log p(y_i | k)."""
        params, work = _work(params, data)
        return reduce.map_rows(self.family, params.components, data, partial(_joint, work), gated=True)

    def evidence(self, factors: jax.Array, data: Rows) -> jax.Array:
        return row_evidence(factors, data)

    def log_prior(self, params: MixtureOfExpertsParams) -> jax.Array:
        if self.prior is None:
            return jnp.zeros((), params.gate.intercept.dtype)
        return self.family.log_prior(params.components, self._prior(params))

    # what follows from domains

    def structure(self, size: Any) -> MixtureOfExpertsParams:
        inner, g = size_of(size)
        shapes = self.family.structure(self.n_components, inner)
        gate = GateParams((self.n_components, g), (self.n_components,))  # type: ignore[arg-type]
        return MixtureOfExpertsParams(gate, shapes)

    def n_parameters(self, size: Any) -> int:
        return coordinates.count(self.domains, self.structure(size)) - self.family.absent(self.n_components, size_of(size)[0])

    def to_unconstrained(self, params: MixtureOfExpertsParams) -> jax.Array:
        return coordinates.to_unconstrained(self.domains, params)

    def from_unconstrained(self, vector: jax.Array, like: MixtureOfExpertsParams | None = None) -> MixtureOfExpertsParams:
        return coordinates.from_unconstrained(self.domains, coordinates.shapes_for(self, vector, like), vector)

    def canonical_order(self, params: MixtureOfExpertsParams) -> jax.Array:
        if breaks_symmetry(self.fixed, self.free_domains):
            return jnp.arange(self.n_components)
        return jnp.lexsort(tuple(self.family.rank(params.components).T[::-1]))

    def relabel(self, params: MixtureOfExpertsParams, order: jax.Array) -> MixtureOfExpertsParams:
        return coordinates.relabel(self.free_domains, params, order)

    def degenerate(self, params: MixtureOfExpertsParams, data: Rows) -> jax.Array:
        return jnp.broadcast_to(self.family.degenerate(params.components, own(data)), (self.n_components,))

    def magnitude(self, params: MixtureOfExpertsParams, data: Rows) -> jax.Array:
        return self.family.magnitude(params.components, own(data))

    def remarks(self, params: Any, data: Any) -> list[str]:
        return spoken(self.family.remarks(params.components, own(rows_for(self, params, data))))

    # what is read off a fit

    def posterior(self, params: MixtureOfExpertsParams, data: Any) -> jax.Array:
        """Responsibilities (n, K) in input order; a row with nothing observed has the gate's probabilities."""
        rows = rows_for(self, params, data)
        return _posterior(self.settle(params, rows), params, rows)

    def gate_probabilities(self, params: MixtureOfExpertsParams, gate: Any) -> jax.Array:
        """(n, K) probabilities of the components given covariates (n, g) alone."""
        z = jnp.asarray(check_matrix(gate, "gate")[0])
        return jax.nn.softmax(z @ params.gate.coefficients.T + params.gate.intercept, axis=-1)

    def sample(self, key: Any, params: MixtureOfExpertsParams, n: int, *, gate: Any = None, covariates: Any = None) -> Any:
        """n rows (n, d) drawn given the gate's covariates (n, g), and `covariates` (n, p) where the family takes them.

        Raises:
            ValueError: no gate, or another number of rows than n.
        """
        coordinates.no_fit(params)
        if gate is None or np.shape(gate)[0] != check_count(n, "n"):
            raise ValueError(f"gate: rows are drawn given their covariates; give gate= of shape ({n}, g).")
        choose, draw = jax.random.split(as_key(key))
        chosen = jax.random.categorical(choose, jnp.log(self.gate_probabilities(params, gate)), axis=-1)
        extra = {} if covariates is None else {"x": covariates}
        return self.family.sample(draw, params.components, chosen, **extra)


jax.tree_util.register_dataclass(
    MixtureOfExperts, data_fields=("family", "prior", "fixed", "frame"), meta_fields=("n_components", "tied")
)


def read_gated(family: Any, data: Any, weights: Any, missing: bool | None) -> Any:
    """The family's table, with the covariates of the gate beside it, scaled.

    Raises:
        TypeError, ValueError: data without a gate; missing, constant or collinear covariates; as the family's `read`.
    """
    if not isinstance(data, Regression) or data.gate is None:
        raise TypeError("y: found no gate; give Regression(y, x, gate=z) with the covariates z of the states' probabilities.")
    plain = data.x is None and data.offset is None
    table = family.read(data.y if plain else dataclasses.replace(data, gate=None), weights, missing)
    gate, origin, names = _check_gate(data.gate, len(table.pilot), table.pilot.dtype)
    size = (table.size, gate.shape[1])
    return table._replace(gate=gate, gate_origin=origin, size=size, gate_columns=names)


def own(rows: Rows) -> Rows:
    """The rows as the family knows them, without the gate's share of the size."""
    return dataclasses.replace(rows, size=rows.size[0])  # type: ignore[index]


def _check_gate(gate: Any, n: int, dtype: Any) -> tuple[Any, Any, tuple[str, ...] | None]:
    """Covariates scaled to mean 0 and deviation 1, the (2, g) means and deviations, and names."""
    z, names = check_matrix(gate, "gate")
    if len(z) != n:
        raise ValueError(f"gate: found {len(z)} rows for {n} of y; give one for each.")
    if is_traced(z):
        mean, scale = z.mean(axis=0), z.std(axis=0)
        origin = jax.lax.stop_gradient(jnp.stack([mean, jnp.where(scale > 0, scale, 1)]))
        return ((z - origin[0]) / origin[1]).astype(dtype), origin.astype(dtype), names
    missing = np.isnan(z)
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise ValueError(f"gate: covariates must be observed; row {row}, column {column} is missing. Drop the row or fill it in.")
    z = np.asarray(z, np.float64)
    mean, scale = z.mean(axis=0), z.std(axis=0)
    for j in range(z.shape[1]):
        label = j if names is None else repr(names[j])
        if scale[j] <= 1e-10 * (1 + abs(mean[j])):
            raise ValueError(f"gate: column {label} is constant, and the gate has an intercept already; drop it.")
        rest = np.delete((z - mean) / np.where(scale > 0, scale, 1), np.arange(j, z.shape[1]), axis=1)
        if rest.size:
            unit = (z[:, j] - mean[j]) / scale[j]
            if np.linalg.norm(unit - rest @ np.linalg.lstsq(rest, unit, rcond=None)[0]) < 1e-8 * len(unit) ** 0.5:
                raise ValueError(f"gate: column {label} is a linear combination of those before it; drop it.")
    return ((z - mean) / scale).astype(dtype), np.stack([mean, scale]).astype(dtype), names


def _respond(work: jax.Array, log_prob: jax.Array, weights: jax.Array, gate: jax.Array) -> Any:
    log_pi = log_gate(work, gate)
    responsibilities, log_density = softmax(log_pi, log_prob)
    r = responsibilities * weights[:, None]
    return r, (gate_sums(log_pi, gate, r, weights), reduce.weighted_sum(log_density, weights))


def _respond_by(how: Assign, work: jax.Array, log_prob: jax.Array, weights: jax.Array, gate: jax.Array, row: jax.Array) -> Any:
    log_pi = log_gate(work, gate)
    r, known = assign_rows(how, log_prob + log_pi, weights, row)
    return r, (gate_sums(log_pi, gate, r, weights), known)


def _respond_likelihood(work: jax.Array, log_prob: jax.Array, weights: jax.Array, gate: jax.Array) -> jax.Array:
    return reduce.weighted_sum(softmax(log_gate(work, gate), log_prob)[1], weights)


def _visit(work: jax.Array, which: int, _bound: Any, _cells: Any, log_prob: jax.Array, gate: jax.Array) -> jax.Array:
    return softmax(log_gate(work, gate), log_prob)[which]


def _joint(work: jax.Array, _bound: Any, _cells: Any, log_prob: jax.Array, gate: jax.Array) -> jax.Array:
    return log_prob + log_gate(work, gate)


def _work(params: MixtureOfExpertsParams, rows: Rows) -> tuple[MixtureOfExpertsParams, jax.Array]:
    params = coordinates.cast(params, rows.dtype)
    return params, move_gate(params.gate, rows.gate_origin)


@jax.jit
def _init(model: MixtureOfExperts, key: jax.Array, rows: Rows, way: jax.Array) -> MixtureOfExpertsParams:
    inner = own(rows)
    r = initialize.memberships(key, model.family.embed(inner), rows.pilot_weights, model.n_components, way)
    counts = jnp.log(r.sum(axis=0) + 1)
    gate = GateParams(jnp.zeros((model.n_components, rows.gate_origin.shape[1]), rows.dtype), counts - counts[0])
    start = MixtureOfExpertsParams(gate, model.family.init(inner, r))
    return coordinates.settle(model.domains, start) if isinstance(model.fixed, Restrictions) else start


@jax.jit
def _e_step(model: MixtureOfExperts, params: MixtureOfExpertsParams, rows: Rows) -> Expectation:
    params, work = _work(params, rows)
    components, (sums, log_likelihood) = reduce.fold(model.family, params.components, rows, Partial(_respond, work))
    return Expectation(_finished(model, sums, components, work, rows), log_likelihood)


def _finished(model: MixtureOfExperts, sums: Any, components: Any, work: jax.Array, rows: Rows) -> MixtureOfExpertsStatistics:
    frame = GateFrame(rows.gate_origin, None) if model.frame is None else model.frame
    return MixtureOfExpertsStatistics(GateStatistics.about(sums, work, rows.gate_origin, frame), components)


@jax.jit
def _assign(model: MixtureOfExperts, how: Assign, params: MixtureOfExpertsParams, rows: Rows) -> Assigned:
    params, work = _work(params, rows)
    respond = Partial(_respond_by, how, work)
    components, (sums, known) = reduce.fold(model.family, params.components, rows, respond, rowwise=True)
    return Assigned(_finished(model, sums, components, work, rows), *known)


@jax.jit
def _log_likelihood(model: MixtureOfExperts, params: MixtureOfExpertsParams, rows: Rows) -> jax.Array:
    params, work = _work(params, rows)
    return reduce.tally(model.family, params.components, rows, Partial(_respond_likelihood, work))


@jax.jit
def _log_likelihood_rows(model: MixtureOfExperts, params: MixtureOfExpertsParams, rows: Rows) -> jax.Array:
    params, work = _work(params, rows)
    return reduce.map_rows(model.family, params.components, rows, partial(_visit, work, 1), gated=True)


@jax.jit
def _posterior(model: MixtureOfExperts, params: MixtureOfExpertsParams, rows: Rows) -> jax.Array:
    params, work = _work(params, rows)
    return reduce.map_rows(model.family, params.components, rows, partial(_visit, work, 0), gated=True)
