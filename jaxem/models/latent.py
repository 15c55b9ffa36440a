"""A model of one's own: the joint log-density of a row and its discrete state, and all else follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxem import coordinates, reduce
from jaxem.assign import Assign, Assigned, assign_rows
from jaxem.checks import as_key, check_count
from jaxem.data import as_rows, cut_batch, cut_rows, rows_for
from jaxem.factors import row_evidence
from jaxem.layout import WIDE
from jaxem.model import Expectation, Model
from jaxem.models.latent_draws import new_key, number_rows
from jaxem.models.latent_inputs import best_start, check_functions, plain_domains, read_rows, shapes_of, told
from jaxem.models.latent_sums import Bound, LatentStatistics, declared_sums, expansion_of, joint
from jaxem.models.mixture import softmax
from jaxem.restrict import Restrictions, paths_of, restrict, restrictions
from jaxem.restrict import m_step as restricted_m_step
from jaxem.rows import Rows, Table
from jaxem.working import Expansion, from_working, move, newton_step, working, working_size

BLOCK = 1 << 19  # numbers that a block of second derivatives may hold
STATIC = (
    "log_joint", "statistics", "maximize", "expected", "prior", "simulate", "draw", "exchangeable", "missing", "n_states", "places",
)  # fmt: skip


class Latent(Model):
    r"""p(y) = sum_z exp(log_joint(params, z, y)): any model with one discrete latent state a row.

    E-step: posterior probabilities r_iz of the states. M-step: where `statistics` and `maximize` are declared, params =
    maximize(sum_iz w_i r_iz statistics(z, y_i)). Where they are not, one Newton step on sum_iz w_i r_iz log p(y_i, z | params)
    in unconstrained coordinates, by automatic differentiation, which the algorithm halves until the likelihood does not fall;
    near the maximum this is as fast as the exact M-step (Lange 1995, JRSS-B 57:425). Gradient and curvature are sums over
    rows, so that weights, blocks and devices are taken care of.

    Args:
        log_joint: `log_joint(params, z, row)` -> (), log p(row, z | params), -inf where impossible. It is traced: `z` is a
            whole number 0..n_states-1 that cannot be looked at; write `jnp.where(z == 0, a, b)` or `jnp.stack([a, b])[z]`.
            `row` is one row of the data, without the leading axis.
        domains: a tree of `jaxem.domains.Domain` parallel to params (a dict, a NamedTuple, one domain).
        n_states: number of states; with `draw`, of draws of the latent variable for each row.
        start: params from which a fit begins unless told otherwise, and whose shapes all params have; restarts begin around it
            at random. Without it every leaf is one number (one for each state where `exchangeable`), and starts are random.
        statistics: `statistics(z, row)` -> tree of numbers or arrays whose sums are all that `maximize` needs.
        maximize: `maximize(sums)` -> params, the maximiser of the expected `log_joint` (plus `prior`).
        expected: `expected(params, sums)` -> (), the expected `log_joint` given those sums, if it is known; otherwise its
            second-order expansion about the params of the E-step serves.
        prior: `prior(params)` -> (), the log-density of a prior.
        simulate: `simulate(key, params)` -> row, for `sample`.
        draw: for a latent variable that is continuous: see `jaxem.models.latent_draws`.
        exchangeable: whether the numbering of the states is arbitrary. Leaves whose domain has `state_axes` then run over the
            states, and are put in the order of the first of them.
        missing: whether cells may be missing (NaN). `log_joint` (and `statistics`) then take one argument more, `observed`, a
            tree like `row` of booleans; missing cells of `row` are 0, and `log_joint` has to marginalise them. Without it only
            rows with nothing observed may be there; they say nothing, and their states count as equally probable.
        fixed, tied: as for `Mixture`.

    Data: an array (n, ...) or a tree of such (a dict, a `Regression`), or a data frame, whose rows are dicts of its columns.
    Whole numbers stay whole.

    Raises:
        TypeError, ValueError: arguments of another kind; `log_joint` that branches on `z` or returns no single number; params
            of unknown shape; missing cells without `missing=True`.
    """

    observed_blocks = ()
    n_states: int = 0  # the protocol's property gives way to a plain attribute
    def __init__(
        self,
        log_joint: Callable[..., Any],
        domains: Any,
        n_states: int,
        *,
        start: Any = None,
        statistics: Callable[..., Any] | None = None,
        maximize: Callable[[Any], Any] | None = None,
        expected: Callable[[Any, Any], Any] | None = None,
        prior: Callable[[Any], Any] | None = None,
        simulate: Callable[[Any, Any], Any] | None = None,
        draw: Callable[..., Any] | None = None,
        exchangeable: bool = False,
        missing: bool = False,
        fixed: Any = None,
        tied: Any = None,
    ):
        named = {"log_joint": log_joint, "statistics": statistics, "maximize": maximize, "expected": expected}
        named |= {"prior": prior, "simulate": simulate, "draw": draw}
        for name, function in named.items():
            if not callable(function) and (function is not None or name == "log_joint"):
                raise TypeError(f"{name}: found {type(function).__name__}; give a function.")
        if (statistics is None) != (maximize is None) or (expected is not None and statistics is None):
            raise ValueError("statistics, maximize: the sums and what is made of them belong together; give both or neither.")
        self.log_joint, self.statistics, self.maximize, self.expected = log_joint, statistics, maximize, expected
        self.prior, self.simulate, self.draw, self.exchangeable, self.missing = prior, simulate, draw, exchangeable, missing
        self.places = check_count(n_states, "n_states")  # states or draws that a row's probability is spread over
        self.n_states = self.places if draw is None else 1
        self.free_domains = plain_domains(domains, exchangeable)
        self.shapes = shapes_of(self.free_domains, start, self.n_states)
        if start is not None:
            coordinates.check_params(self.free_domains, self.shapes, start, "start")
        self.start = None if start is None else jax.tree.map(np.asarray, start)
        self.fixed = restrictions(fixed, tied, paths_of(self.free_domains))
        self.frame: Any = None  # (m,) point about which expansions are taken; None for 0. Set by `localize`
        self.key: Any = None if draw is None else jax.random.key(0)  # of the draws, always the same but in `sample_statistics`

    # as a pytree: functions, domains and shapes are static

    def _flatten(self) -> tuple[Any, Any]:
        tree: Any = jax.tree.structure(self.free_domains)
        named = (tree, tuple(jax.tree.leaves(self.free_domains)), tuple(tree.flatten_up_to(self.shapes)))
        return (self.start, self.fixed, self.frame, self.key), (*named, *(getattr(self, name) for name in STATIC))

    @classmethod
    def _unflatten(cls, static: Any, children: Any) -> Latent:
        new = object.__new__(cls)
        new.start, new.fixed, new.frame, new.key = children
        tree, leaves, shapes = static[:3]
        new.free_domains, new.shapes = tree.unflatten(leaves), tree.unflatten(shapes)
        for name, value in zip(STATIC, static[3:], strict=True):
            setattr(new, name, value)
        return new

    @property
    def domains(self) -> Any:
        return restrict(self.free_domains, self.fixed)

    @property
    def needs_key(self) -> bool:
        return self.start is None

    @property
    def closed(self) -> bool:
        return self.maximize is not None and (self.fixed is None or self.expected is not None)

    # data and starts

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        return cut_rows(self, self._read(y, weights), weights, self.n_states, sharding)

    def prepare_batch(self, datasets: Sequence[Any], weights: Sequence[Any] | None = None) -> Rows:
        return cut_batch(self, self._read, datasets, weights, self.n_states)

    def _read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        del weights, missing
        table = read_rows(data, self.missing)
        check_functions(self, table)
        return table if self.draw is None else number_rows(table)

    def width(self, size: Any) -> int:
        """Rows a block, so that their second derivatives stay small."""
        del size
        each = self.places * max(1, working_size(self.domains, self.shapes)) ** 2
        return int(np.clip(2 ** int(np.log2(max(BLOCK // each, 1))), 16, WIDE))

    def init(self, key: Any, data: Any, way: Any = 0) -> Any:
        """`start` itself for `way` 0; else the best of a few random points about it, by the pilot rows."""
        return _init(self, as_key(key), as_rows(self, data), jnp.asarray(way))

    def settle(self, params: Any, data: Rows) -> Latent:
        del params, data
        return self

    def localize(self, params: Any, data: Rows, shared: bool = False) -> Latent:
        del shared  # declared statistics have no coordinates, and others cannot be added up
        vector = working(self.domains, coordinates.cast(params, data.dtype))
        return self._with(frame=jnp.where(jnp.isfinite(vector), vector, 0))

    def _with(self, **changes: Any) -> Latent:
        new = self._unflatten(*self._flatten()[::-1])
        vars(new).update(changes)
        return new

    # a block of rows, as `reduce` sees it

    def bind(self, params: Any, mask: jax.Array, origin: Any) -> Bound:
        """Params and coordinates, shared by all rows."""
        del mask
        vector = working(self.domains, params)
        edge = ~jnp.isfinite(vector)
        return jax.tree.map(lambda leaf: leaf[None], Bound(params, jnp.where(edge, 0, vector), edge, origin))

    def log_prob(self, bound: Bound, cells: Any) -> jax.Array:
        """(c, K, b) joint log-densities."""
        params = jax.tree.map(lambda leaf: leaf[0], bound.params)
        c, _, b = jax.tree.leaves(cells)[0].shape
        found = joint(self, params, bound.vector.dtype, told(bound.slots, cells))
        return jnp.moveaxis(found.reshape(self.places, c, b), 0, 1)

    def sums(self, bound: Bound, cells: Any, r: jax.Array) -> LatentStatistics:
        """Declared statistics, and the expansion about the bound params, of all groups together; leaves lead with 1."""
        rows = told(bound.slots, cells)
        r = jnp.moveaxis(r, 1, 0).reshape(self.places, -1)
        declared = None if self.statistics is None else declared_sums(self, bound, r, rows)
        expansion = expansion_of(self, bound, r, rows) if self.expected is None else None
        return jax.tree.map(lambda leaf: leaf[None], LatentStatistics(declared, expansion))

    def finish(self, bound: Bound, raw: LatentStatistics, origin: Any) -> LatentStatistics:
        """Sums over groups, expanded about the frame."""
        del origin
        total = jax.tree.map(lambda leaf: leaf.sum(axis=0), raw)
        if total.expansion is None:
            return total
        point = jnp.zeros_like(bound.vector[0]) if self.frame is None else self.frame
        return total._replace(expansion=move(total.expansion, point - bound.vector[0]))

    # EM

    def e_step(self, params: Any, data: Any) -> Expectation:
        return _e_step(self, params, rows_for(self, params, data))

    @property
    def draws(self) -> int:
        return self.places if self.draw is not None else super().draws

    def assign(self, how: Assign, params: Any, data: Any) -> Assigned:
        if self.draw is None:
            return _assign(self, how, params, rows_for(self, params, data))
        statistics, log_likelihood = self._with(key=new_key(how)).e_step(params, data)
        return Assigned(statistics, log_likelihood, log_likelihood)

    def m_step(self, params: Any, statistics: LatentStatistics) -> Any:
        if self.maximize is not None and self.fixed is None:
            found = self.maximize(statistics.declared)
            return jax.tree.map(lambda old, new: jnp.asarray(new, jnp.result_type(old)), params, found)
        if isinstance(self.fixed, Restrictions) and self.expected is not None:
            return restricted_m_step(self, params, statistics)
        return _newton(self, params, statistics.expansion)

    def m_step_expanded(self, params: Any, statistics: LatentStatistics) -> Any:
        return self.m_step(params, statistics)

    def between(self, a: Any, b: Any, fraction: jax.Array) -> Any:
        """Along a line in working coordinates, in which the Newton step points upwards."""
        here, there = working(self.domains, a), working(self.domains, b)
        inside = jnp.isfinite(here) & jnp.isfinite(there)
        moved = jnp.where(inside, here, 0) + fraction * jnp.where(inside, there - here, 0)
        found = from_working(self.domains, self.shapes, jnp.where(inside, moved, there))
        return jax.tree.map(lambda end, way: jnp.where(fraction == 1, end, way), b, found)

    def expected_log_joint(self, params: Any, statistics: LatentStatistics) -> jax.Array:
        """Exact where `expected` is declared, else to second order about the params of the E-step."""
        if self.expected is not None:
            return jnp.asarray(self.expected(params, statistics.declared))
        vector = working(self.domains, params)
        point = jnp.zeros_like(vector) if self.frame is None else self.frame
        inside = jnp.isfinite(vector)
        moved = move(statistics.expansion, jnp.where(inside, jnp.where(inside, vector, 0) - point, 0))  # type: ignore[arg-type]
        return moved.value

    def log_likelihood(self, params: Any, data: Any, per_row: bool = False) -> jax.Array:
        return (_log_likelihood_rows if per_row else _log_likelihood)(self, params, rows_for(self, params, data))

    def factors(self, params: Any, data: Rows) -> jax.Array:
        """(n, places) log p(y_i, z)."""
        return reduce.map_rows(self, coordinates.cast(params, data.dtype), data, _joint)

    def evidence(self, factors: jax.Array, data: Rows) -> jax.Array:
        return row_evidence(factors, data)

    def log_prior(self, params: Any) -> jax.Array:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return jnp.zeros((), dtype) if self.prior is None else jnp.asarray(self.prior(params), dtype)

    # what follows from domains

    def structure(self, size: Any) -> Any:
        """Leaf shapes of params, whatever the data."""
        del size
        return self.shapes

    def n_parameters(self, size: Any) -> int:
        """Number of free parameters, whatever the data."""
        del size
        return coordinates.count(self.domains, self.shapes)

    def to_unconstrained(self, params: Any) -> jax.Array:
        return coordinates.to_unconstrained(self.domains, params)

    def from_unconstrained(self, vector: jax.Array, like: Any = None) -> Any:
        del like
        return coordinates.from_unconstrained(self.domains, self.shapes, vector)

    def canonical_order(self, params: Any) -> jax.Array:
        """By the first leaf that runs over exchangeable states; as they are otherwise."""
        running = [
            leaf for domain, leaf in zip(jax.tree.leaves(self.domains), jax.tree.leaves(params), strict=True) if domain.state_axes
        ]
        if not self.exchangeable or not running:
            return jnp.arange(self.n_states)
        return jnp.lexsort(tuple(jnp.reshape(running[0], (self.n_states, -1)).T[::-1]))

    def relabel(self, params: Any, order: jax.Array) -> Any:
        return coordinates.relabel(self.free_domains, params, order)

    def degenerate(self, params: Any, data: Rows) -> jax.Array:
        """(K,) False: what collapses cannot be told in general. A likelihood that grows without bound ends as NONFINITE."""
        del params, data
        return jnp.zeros(self.n_states, bool)

    def magnitude(self, params: Any, data: Rows) -> jax.Array:
        """Columns of a row plus the sizes of its cells: with what `log_joint` multiplies them is not known."""
        del params
        return jnp.asarray(data.typical).reshape(())

    def remarks(self, params: Any, data: Any) -> list[str]:
        """Params at the edge of their domain."""
        del data
        out = []
        found = jax.tree.leaves(self.free_domains), jax.tree.leaves(params)
        for name, domain, leaf in zip(paths_of(self.free_domains), *found, strict=True):
            if not np.isfinite(np.asarray(domain.flatten(jnp.asarray(leaf)))).all():
                out.append(f"{name or 'params'} ended at the edge of its domain; it has no standard error there.")
        return out

    # what is read off a fit

    def posterior(self, params: Any, data: Any) -> jax.Array:
        """(n, K) posterior probabilities of the states, input order."""
        return _posterior(self, params, rows_for(self, params, data))

    def sample_states(self, key: Any, params: Any, data: Any) -> jax.Array:
        """(n,) a state of each row drawn from its posterior probabilities."""
        return jax.random.categorical(as_key(key), jnp.log(self.posterior(params, data)), axis=-1)

    def sample(self, key: Any, params: Any, n: int) -> Any:
        """n rows by `simulate`, leaves (n, ...).

        Raises:
            TypeError: `simulate` was not given.
        """
        coordinates.no_fit(params)
        if self.simulate is None:
            raise TypeError("sample: this model does not say how rows are drawn; give Latent(..., simulate=f).")
        return jax.vmap(self.simulate, (0, None))(jax.random.split(as_key(key), check_count(n, "n")), params)


jax.tree_util.register_pytree_node(Latent, Latent._flatten, Latent._unflatten)


def _respond(log_prob: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    responsibilities, log_density = softmax(jnp.zeros((), log_prob.dtype), log_prob)
    return responsibilities * weights[:, None], reduce.weighted_sum(log_density, weights)


def _respond_likelihood(log_prob: jax.Array, weights: jax.Array) -> jax.Array:
    return reduce.weighted_sum(softmax(jnp.zeros((), log_prob.dtype), log_prob)[1], weights)


def _joint(_bound: Any, _cells: Any, log_prob: jax.Array) -> jax.Array:
    return log_prob


def _visit(which: int, _bound: Any, _cells: Any, log_prob: jax.Array) -> jax.Array:
    return softmax(jnp.zeros((), log_prob.dtype), log_prob)[which]


_init = jax.jit(best_start)


@jax.jit
def _e_step(model: Latent, params: Any, rows: Rows) -> Expectation:
    return Expectation(*reduce.fold(model, coordinates.cast(params, rows.dtype), rows, Partial(_respond)))


@jax.jit
def _assign(model: Latent, how: Assign, params: Any, rows: Rows) -> Assigned:
    statistics, known = reduce.fold(model, coordinates.cast(params, rows.dtype), rows, Partial(assign_rows, how), rowwise=True)
    return Assigned(statistics, *known)


@jax.jit
def _log_likelihood(model: Latent, params: Any, rows: Rows) -> jax.Array:
    return reduce.tally(model, coordinates.cast(params, rows.dtype), rows, Partial(_respond_likelihood))


@jax.jit
def _log_likelihood_rows(model: Latent, params: Any, rows: Rows) -> jax.Array:
    found = reduce.map_rows(model, coordinates.cast(params, rows.dtype), rows, partial(_visit, 1))
    return found if model.missing else jnp.where(rows.informative, found, 0)


@jax.jit
def _posterior(model: Latent, params: Any, rows: Rows) -> jax.Array:
    found = reduce.map_rows(model, coordinates.cast(params, rows.dtype), rows, partial(_visit, 0))
    found = found if model.draw is None else found.sum(axis=1, keepdims=True)
    return found if model.missing else jnp.where(rows.informative[:, None], found, 1 / model.n_states)


@jax.jit
def _newton(model: Latent, params: Any, expansion: Expansion) -> Any:
    return newton_step(model.domains, model.shapes, params, expansion, model.frame, model.prior)
