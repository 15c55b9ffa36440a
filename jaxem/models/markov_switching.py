"""Markov-switching autoregressions: series whose mean, coefficients or variance change with an unseen regime."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates, reduce
from jaxem.assign import Assign, Assigned, assign_paths
from jaxem.checks import as_key, check_count
from jaxem.data import as_rows, rows_for
from jaxem.domains import Derived, Positive, Real, Simplex
from jaxem.kernels import autoregression, chain, structured_chain
from jaxem.kernels.autoregression import Autoregression, Moments
from jaxem.kernels.chain import Chain
from jaxem.kernels.lag_chain import LagChain
from jaxem.kernels.stationary import stationary
from jaxem.layout import WIDE
from jaxem.model import Expectation, Model
from jaxem.models.markov_checks import check_initial, shares
from jaxem.models.path_readings import PathReadings, present
from jaxem.models.stationary_step import maximize_stationary
from jaxem.models.switching_inputs import check_series, foretold, lagged, read_series, simulate, start
from jaxem.priors import dot_log
from jaxem.regimes import RegimeTable
from jaxem.rows import Rows, Table
from jaxem.sequence_rows import prepare_sequence_batch, prepare_sequences
from jaxem.steps import lane_weights, sequence_sums, states_to_rows, step_weights, to_rows

SWITCHING = ("mean", "coefficients", "variance")
PARAMETRISATIONS = ("mean", "intercept")


class SwitchingMeanParams(NamedTuple):
    """Params of K regimes, each lag measured from the mean of its own regime."""

    initial: jax.Array  # (K,) probabilities of the first regime
    transition: jax.Array  # (K, K) probabilities from row to column; rows sum to 1
    mean: jax.Array  # (K,), or () where regimes share it
    coefficients: jax.Array  # (K, p) or (p,)
    variance: jax.Array  # (K,) or ()


class SwitchingInterceptParams(NamedTuple):
    """Params of K regimes, each with an intercept."""

    initial: jax.Array  # (K,)
    transition: jax.Array  # (K, K)
    intercept: jax.Array  # (K,) or ()
    coefficients: jax.Array  # (K, p) or (p,)
    variance: jax.Array  # (K,) or ()


class MarkovSwitchingStatistics(NamedTuple):
    """Sums over sequences."""

    initial: jax.Array  # (K,) expected number of sequences that begin in each regime
    transition: jax.Array  # (K, K) expected number of steps between regimes, within sequences
    rows: Moments  # of y_t and its lags, from the (p + 1)-th step on


@dataclasses.dataclass(frozen=True)
class MarkovSwitching(PathReadings, Model):
    r"""An autoregression of order p in which a Markov chain of regimes s moves some of the params (Hamilton 1989, Econometrica
    57:357). With parametrisation "mean", e_t normal with variance variance[s_t],

        y_t - mean[s_t] = sum_i coefficients[s_t, i] (y_{t-i} - mean[s_{t-i}]) + e_t,

    where a change of regime moves y at once; with "intercept", where it moves y gradually (Krolzig 1997), a Markov-switching
    regression on p lags,

        y_t = intercept[s_t] + sum_i coefficients[s_t, i] y_{t-i} + e_t.

    The likelihood is conditional on the first p values of a sequence, as Hamilton's; the chain begins with the sequence, so that
    these have regimes too. With switching means its states are the tuples of the last p + 1 regimes: K^(p+1) of them, of which
    each leads to K, and so K^(p+1) K operations a step. E-step: Kim's (1994, J. Econometrics 60:1) smoother, exact over tuples.
    M-step: shares for the transitions; where the chain begins in its stationary distribution, Newton's method, since that depends
    on them; conditional maximisation and Newton's method for the autoregression (`jaxem.kernels.autoregression.maximize`).

    Data: one series (n,), a list of series, an (S, T, 1) array or `Sequences`; weights are one number a series. A missing (NaN)
    value would leave steps without a lag, which is refused; at the end of a series missing values only let time pass.

    Args:
        order: p >= 1. (Without lags this is `HiddenMarkov(Gaussian(), K)`.)
        switching: which params have a value for each regime, some of "mean" (or "intercept", the same), "coefficients",
            "variance".
        n_regimes: K.
        parametrisation: "mean" or "intercept".
        initial: "stationary", "free", or K probabilities to keep.

    Raises:
        TypeError, ValueError: numbers that are not whole and large enough; nothing that switches, or what is not known; initial
            of another kind. With the data: more than one column, missing values that are lags, series of at most p steps.
    """

    order: int
    switching: tuple[str, ...] = ("mean",)
    n_regimes: int = 2
    parametrisation: str = "mean"
    _: dataclasses.KW_ONLY
    initial: Any = "stationary"
    frame: Any = None  # what statistics are taken from; `localize` moves it to the data

    closed = True
    observed_blocks = ()

    def __post_init__(self):
        check_count(self.order, "order")
        check_count(self.n_regimes, "n_regimes")
        if self.parametrisation not in PARAMETRISATIONS:
            raise ValueError(f"parametrisation: found {self.parametrisation!r}; give 'mean' or 'intercept'.")
        names = (self.switching,) if isinstance(self.switching, str) else tuple(self.switching)
        names = tuple("mean" if name == "intercept" else name for name in names)
        unknown = [name for name in names if name not in SWITCHING]
        if unknown or not names:
            found = repr(unknown[0]) if unknown else "nothing"
            raise ValueError(f"switching: found {found}; give some of {', '.join(map(repr, SWITCHING))}.")
        object.__setattr__(self, "switching", tuple(name for name in SWITCHING if name in names))
        object.__setattr__(self, "initial", check_initial(self.initial, self.n_regimes))

    @property
    def n_states(self) -> int:
        """The regimes."""
        return self.n_regimes

    @property
    def needs_key(self) -> bool:
        return self.n_regimes > 1

    @property
    def domains(self) -> Any:
        def own(name: str) -> tuple[int, ...]:
            return (0,) if name in self.switching else ()

        initial = Simplex() if self.initial == "free" else Derived()
        rest = Real(own("mean")), Real(own("coefficients")), Positive(own("variance"))
        return self._params(initial, Simplex(state_axes=(0, 1)), *rest)  # type: ignore[arg-type]

    @property
    def _params(self) -> Any:
        return SwitchingMeanParams if self.parametrisation == "mean" else SwitchingInterceptParams

    @property
    def _lags(self) -> bool:
        """Whether states are tuples of regimes."""
        return self.parametrisation == "mean" and "mean" in self.switching

    # data and starts

    def width(self, size: Any) -> int:
        """Rows a block."""
        del size
        return WIDE

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        """Series one after another as one column."""
        del weights, missing
        return read_series(data)

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        rows = prepare_sequences(self, y, weights, self.n_regimes, sharding)
        check_series(y, self.order)
        return rows

    def prepare_batch(self, datasets: Sequence[Any], weights: Sequence[Any] | None = None) -> Rows:
        """Many data sets, each of one or several series; every leaf has a leading axis."""
        rows = prepare_sequence_batch(self, datasets, weights, self.n_regimes)
        for number, data in enumerate(datasets):
            check_series(data, self.order, f"datasets[{number}]")
        return rows

    def init(self, key: Any, data: Any, way: Any = 0) -> Any:
        """Regimes from what switches: clusters of the values, of products with the value before, of the sizes of residuals."""
        return _begin(self, as_key(key), as_rows(self, data), jnp.asarray(way))

    def settle(self, params: Any, data: Rows) -> MarkovSwitching:
        del params, data
        return self

    def localize(self, params: Any, data: Rows, shared: bool = False) -> MarkovSwitching:
        """Statistics are taken from the mean of the data."""
        del params, shared
        return dataclasses.replace(self, frame=data.origin[0])

    @property
    def _frame(self) -> Any:
        return 0.0 if self.frame is None else self.frame

    def _links(self, params: Any, rows: Rows) -> Chain | LagChain:
        """What the recursions run over; steps that are conditioned upon, or missing, only let time pass."""
        v, counted = lagged(self, rows, rows.origin[0])
        own = Autoregression(*params[2:])
        density = autoregression.log_densities(own, v, self.n_regimes, self._lags, rows.origin[0])
        density = jnp.where(counted[:, None], density, 0)
        kind: Any = LagChain if self._lags else Chain
        return kind(density, rows.lanes.first, params.initial, params.transition)

    # EM

    def e_step(self, params: Any, data: Any) -> Expectation:
        return _e_step(self, params, rows_for(self, params, data))

    def assign(self, how: Assign, params: Any, data: Any) -> Assigned:
        return _assign(self, how, params, rows_for(self, params, data))

    def m_step(self, params: Any, statistics: MarkovSwitchingStatistics) -> Any:
        firsts, pairs = statistics.initial, statistics.transition
        transition, initial = shares(pairs, params.transition), params.initial
        if self.initial == "stationary":
            at_old, at_new = (dot_log(pairs, a) + dot_log(firsts, stationary(a)) for a in (params.transition, transition))
            transition = maximize_stationary(pairs, firsts, jnp.where(at_new > at_old, transition, params.transition))
            initial = stationary(transition)
        elif self.initial == "free":
            initial = shares(firsts, params.initial)
        own = Autoregression(*params[2:])
        found = autoregression.maximize(own, statistics.rows, self.n_regimes, self._lags, self._frame)
        return self._params(initial, transition, *found)

    def m_step_expanded(self, params: Any, statistics: MarkovSwitchingStatistics) -> Any:
        return self.m_step(params, statistics)

    def expected_log_joint(self, params: Any, statistics: MarkovSwitchingStatistics) -> jax.Array:
        chain_part = dot_log(statistics.initial, params.initial) + dot_log(statistics.transition, params.transition)
        own = Autoregression(*params[2:])
        rows = autoregression.expected_log_prob(own, statistics.rows, self.n_regimes, self._lags, self._frame)
        return chain_part + rows

    def log_likelihood(self, params: Any, data: Any, per_row: bool = False) -> jax.Array:
        """Of all series together, given the first p values of each; (S,) unweighted, one a series, with per_row."""
        rows = rows_for(self, params, data)
        return (_log_likelihood_sequences if per_row else _log_likelihood)(self, params, rows)

    def log_prior(self, params: Any) -> jax.Array:
        """0: there is none."""
        return jnp.zeros((), params.transition.dtype)

    # what follows from domains

    def structure(self, size: Any) -> Any:
        del size
        k, p = self.n_regimes, self.order
        shapes = ((), (p,), ())
        own = [(k, *shape) if name in self.switching else shape for name, shape in zip(SWITCHING, shapes, strict=True)]
        return self._params((k,), (k, k), *own)

    def n_parameters(self, size: Any) -> int:
        return coordinates.count(self.domains, self.structure(size))

    def to_unconstrained(self, params: Any) -> jax.Array:
        return coordinates.to_unconstrained(self.domains, params)

    def from_unconstrained(self, vector: jax.Array, like: Any = None) -> Any:
        params = coordinates.from_unconstrained(self.domains, coordinates.shapes_for(self, vector, like), vector)
        if self.initial == "free":
            return params
        known = stationary(params.transition) if self.initial == "stationary" else jnp.asarray(self.initial, vector.dtype)
        return params._replace(initial=known)

    def canonical_order(self, params: Any) -> jax.Array:
        """Order of the regimes by what switches: mean or intercept, else variance, else the first coefficient; as given where
        the first regime's probabilities are."""
        if isinstance(self.initial, tuple):
            return jnp.arange(self.n_regimes)
        centre, coefficients, variance = params[2:]
        if "mean" in self.switching:
            return jnp.argsort(centre)
        return jnp.argsort(variance if "variance" in self.switching else coefficients[:, 0])

    def relabel(self, params: Any, order: jax.Array) -> Any:
        return coordinates.relabel(self.domains, params, order)._replace(initial=jnp.take(params.initial, order))

    def degenerate(self, params: Any, data: Rows) -> jax.Array:
        """A regime has collapsed where its variance is lost in the rounding of the residuals."""
        k = self.n_regimes
        reach = jnp.abs(autoregression.weights_of(params.coefficients, k)).sum(axis=1)
        floor = (8 * np.finfo(data.dtype).eps * reach) ** 2 * data.spread[0]
        return ~(jnp.broadcast_to(params.variance, (k,)) > floor)

    def magnitude(self, params: Any, data: Rows) -> jax.Array:
        """1 + the size of values and lags in standard deviations of the residual, which is what their difference rounds like."""
        k = self.n_regimes
        reach = jnp.abs(autoregression.weights_of(params.coefficients, k)).sum(axis=1)
        return 1 + (reach * jnp.sqrt(data.spread[0] / jnp.broadcast_to(params.variance, (k,)))).max()

    # what is read off a fit

    def sample(self, key: Any, params: Any, n: int, *, states: bool = False) -> Any:
        """One series of n steps (n, 1); with `states`, also its regimes (n,).

        The first p values, of which the model says nothing, are drawn from their regimes' levels (`levels`) and variances.
        """
        coordinates.no_fit(params)
        params = jax.tree.map(jnp.asarray, params)
        y, path = simulate(self, as_key(key), params, max(check_count(n, "n"), self.order))
        return (y[:n, None], path[:n]) if states else y[:n, None]

    def residuals(self, params: Any, data: Any) -> jax.Array:
        """(n, 1) Phi^-1(sum_s p(s | y_1..t-1) Phi(e_t(s) / sigma(s))), standard normal under the true model; NaN where a value is
        missing or, as the first p are, conditioned on."""
        return foretold(self, params, rows_for(self, params, data))

    def levels(self, params: Any) -> jax.Array:
        """(K,) the mean of y in each regime if it lasted: the mean, or intercept / (1 - sum of coefficients)."""
        centre = jnp.broadcast_to(params[2], (self.n_regimes,))
        if self.parametrisation == "mean":
            return centre
        return centre / autoregression.weights_of(params.coefficients, self.n_regimes).sum(axis=1)

    def expected_durations(self, params: Any) -> jax.Array:
        """(K,) expected number of steps in a row in each regime, 1 / (1 - A_kk); infinite where it is never left."""
        return 1 / (1 - jnp.diagonal(params.transition))

    def stationary(self, params: Any) -> jax.Array:
        """(K,) the distribution of regimes that the transitions leave as it is."""
        return stationary(jnp.asarray(params.transition))

    def regimes(self, params: Any, data: Any) -> RegimeTable:
        """Level, standard deviation, expected duration and probabilities of each regime, as a table that prints."""
        deviation = jnp.sqrt(jnp.broadcast_to(params.variance, (self.n_regimes,)))
        found = self.smooth(params, data).mean(axis=0), self.stationary(params), self.expected_durations(params)
        return RegimeTable(*(np.asarray(each) for each in (self.levels(params), deviation, found[2], *found[:2])))


jax.tree_util.register_dataclass(
    MarkovSwitching,
    data_fields=("frame",),
    meta_fields=("order", "switching", "n_regimes", "parametrisation", "initial"),
)


@jax.jit
def _begin(model: MarkovSwitching, key: jax.Array, rows: Rows, way: jax.Array) -> Any:
    transition, often, found = start(model, key, rows, way)
    initial = often
    if model.initial != "free":
        initial = stationary(transition) if model.initial == "stationary" else jnp.asarray(model.initial, rows.dtype)
    return model._params(initial, transition, *found)


def _recursions(links: Chain | LagChain) -> Any:
    return chain if isinstance(links, Chain) else structured_chain


@jax.jit
def _e_step(model: MarkovSwitching, params: Any, rows: Rows) -> Expectation:
    params = coordinates.cast(params, rows.dtype)
    links, weights = model._links(params, rows), lane_weights(rows)
    found = _recursions(links).smooth(links, weights)
    return Expectation(_finished(model, rows, links, found), reduce.weighted_sum(found.log_norm, weights))


@jax.jit
def _assign(model: MarkovSwitching, how: Assign, params: Any, rows: Rows) -> Assigned:
    links = model._links(coordinates.cast(params, rows.dtype), rows)
    found, *known = assign_paths(how, _recursions(links), links, rows)
    return Assigned(_finished(model, rows, links, found), *known)


def _finished(model: MarkovSwitching, rows: Rows, links: Chain | LagChain, found: Any) -> MarkovSwitchingStatistics:
    """Statistics from what the recursions tell of regimes, or of tuples of them."""
    k, weights = model.n_regimes, lane_weights(rows)
    if isinstance(links, Chain):
        state, pairs = found.state, found.pairs
    else:
        state, moved = found.told, jnp.where(links.first, 0, weights)
        pairs = (state * moved[:, None]).sum(axis=(0, 2)).reshape(k, k, -1).sum(axis=-1).T
    v, counted = lagged(model, rows, model._frame)
    own = autoregression.moments(v, state * jnp.where(counted, weights, 0)[:, None], k)
    regime = states_to_rows(present(state, k), rows)
    begin = rows.lanes.start
    known = step_weights(rows).at[begin].get(mode="fill", fill_value=0)  # 0 for a sequence that only pads
    return MarkovSwitchingStatistics((regime[begin] * known[:, None]).sum(axis=0), pairs, own)


def _log_norms(model: MarkovSwitching, params: Any, rows: Rows) -> jax.Array:
    links = model._links(coordinates.cast(params, rows.dtype), rows)
    return _recursions(links).log_norms(links)


@jax.jit
def _log_likelihood(model: MarkovSwitching, params: Any, rows: Rows) -> jax.Array:
    return reduce.weighted_sum(_log_norms(model, params, rows), lane_weights(rows))


@jax.jit
def _log_likelihood_sequences(model: MarkovSwitching, params: Any, rows: Rows) -> jax.Array:
    return sequence_sums(to_rows(_log_norms(model, params, rows), rows), rows)
