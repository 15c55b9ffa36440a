"""What is read off a hidden Markov model: states given the data, step by step, and what the transitions imply."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxem import coordinates
from jaxem.assign import uniforms
from jaxem.checks import as_key, check_count
from jaxem.data import as_rows, rows_for
from jaxem.factors import ChainFactors
from jaxem.imputation import as_given, completed_given
from jaxem.kernels import moving_chain
from jaxem.kernels.chain import Chain
from jaxem.kernels.moving_chain import MovingChain
from jaxem.kernels.quantiles import PseudoResiduals
from jaxem.kernels.stationary import stationary
from jaxem.models.markov_forecast import Forecast, forecast, pseudo_residuals
from jaxem.rows import Rows
from jaxem.sequences import read_sequences
from jaxem.steps import lane_weights, states_to_rows, to_rows


class MarkovReadings(ChainFactors):
    """What models whose states form a Markov chain have in common once they are fitted.

    Such a model has `_recursions`, a module of kernels, and `_links(params, rows)`, what they run over.
    """

    sequential = True  # raw data may be several sequences

    def posterior(self, params: Any, data: Any) -> jax.Array:
        """Smoothed probabilities p(z_t | the whole sequence), (n, K) in input order."""
        return self.smooth(params, data)

    def smooth(self, params: Any, data: Any) -> jax.Array:
        """p(z_t | y_1..T) of each step, (n, K) in input order."""
        return _read(self, params, data, _smoothed)

    def filter(self, params: Any, data: Any) -> jax.Array:
        """p(z_t | y_1..t) of each step, (n, K) in input order."""
        return _read(self, params, data, _filtered)

    def predict(self, params: Any, data: Any) -> jax.Array:
        """p(z_t | y_1..t-1) of each step, (n, K) in input order."""
        return _read(self, params, data, _predicted)

    def pairwise(self, params: Any, data: Any, full: bool = False) -> jax.Array:
        """Expected number of steps from state j to state k within sequences, (K, K), under the sequences' weights.

        With `full`, p(z_t-1 = j, z_t = k | the whole sequence) of each step but the first of its sequence: (n - S, K, K) in
        input order, (T - 1, K, K) for one sequence.
        """
        rows = rows_for(self, params, data)
        return (_pairs_in_full if full else _pairs_summed)(self.settle(params, rows), params, rows)  # type: ignore[attr-defined]

    def viterbi(self, params: Any, data: Any) -> jax.Array:
        """(n,) the likeliest path of each sequence (Viterbi 1967), input order."""
        return _read(self, params, data, _likeliest)

    def posterior_sample(self, key: Any, params: Any, data: Any) -> jax.Array:
        """(n,) a path of each sequence drawn from p(z | y), input order."""
        return _read(self, params, data, Partial(_drawn, as_key(key)))

    def impute(self, params: Any, data: Any, covariance: bool = False) -> Any:
        """Conditional means of the missing cells given the whole sequence: (n, d) in input order, observed cells as given.

        E[y_tM | y_1..T] = sum_k p(z_t = k | y_1..T) E[y_tM | y_tO, k]. With `covariance`, also the conditional covariances
        within each step, (n, d, d), zero on observed cells.

        Raises:
            TypeError: a family that does not say.
        """
        rows = rows_for(self, params, data)
        settled = self.settle(params, rows)  # type: ignore[attr-defined]
        mean, spread = _impute(settled, params, rows, covariance)
        if not isinstance(data, Rows):
            mean = as_given(mean, read_sequences(data)[0])
        return (mean, spread) if covariance else mean

    def forecast(
        self, params: Any, data: Any, steps: int, *, levels: Any = (), key: Any = None, draws: int = 10_000, covariates: Any = None,
        gate: Any = None,
    ) -> Forecast:
        """What comes after the end of each of S sequences, for `steps` steps h = 1, 2, ...

        States follow the transitions from the last filtered distribution; rows are a mixture of the states' by the law of
        total variance.

        Args:
            params, data: as for `smooth`.
            steps: how many.
            levels: probabilities of quantiles to give, for instance (0.05, 0.95). Exact where the family has a cumulative
                distribution (`Family.tails`), else of `draws` simulated rows.
            key: an int seed or a JAX key, where quantiles have to be simulated.
            covariates: those of the steps to come, where the family takes covariates: (steps, p), the same for all sequences.
            gate: covariates (steps, g) of their transitions, where transitions have such.

        Raises:
            TypeError: a family with covariates and none given. ValueError: levels outside of (0, 1); no key where it is needed.
        """
        rows = rows_for(self, params, data)
        return forecast(self, params, rows, check_count(steps, "steps"), levels, key, draws, covariates, gate)

    def pseudo_residuals(self, params: Any, data: Any, key: Any = None) -> PseudoResiduals:
        """One-step-ahead normal pseudo-residuals, column by column: standard normal under the true model.

        z_t = Phi^-1(P(Y_t <= y_t | y_1..t-1)), the probability being sum_k p(z_t = k | y_1..t-1) F_k(y_t) (Zucchini,
        MacDonald and Langrock 2016, sec. 6.2). Where cells have positive probability (counts), a residual is the interval
        between the quantiles of P(Y < y) and P(Y <= y); the one number is its middle on the scale of probability or, with a
        key, drawn uniformly from it (Dunn and Smyth 1996).

        Args:
            params: of the model.
            data: raw rows, not prepared ones.
            key: an int seed or a JAX key, or None.

        Raises:
            TypeError: a family whose cumulative distribution is not known; prepared rows.
        """
        if isinstance(data, Rows):
            raise TypeError("data: are prepared, and no longer hold their cells; give the raw data.")
        return pseudo_residuals(self, params, data, key)


class StillReadings:
    """What is read off transitions that are the same at every step."""

    def details(self, params: Any) -> dict[str, Any]:
        """What belongs in a written fit besides the params."""
        return {"stationary": self.stationary(params), "expected_durations": self.expected_durations(params)}

    def expected_durations(self, params: Any) -> jax.Array:
        """(K,) expected number of steps in a row in each state, 1 / (1 - A_kk); infinite where it is never left."""
        return 1 / (1 - jnp.diagonal(params.transition))

    def stationary(self, params: Any) -> jax.Array:
        """(K,) the distribution of states that the transitions leave as it is."""
        return stationary(params.transition)


def _read(model: Any, params: Any, data: Any, what: Any) -> jax.Array:
    rows = as_rows(model, data)
    return _read_rows(model.settle(params, rows), params, rows, what if isinstance(what, Partial) else Partial(what))


@jax.jit
def _read_rows(model: Any, params: Any, rows: Rows, what: Any) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    return what(model._recursions, model._links(params, rows), rows)


def _smoothed(recursions: Any, links: Any, rows: Rows) -> jax.Array:
    return states_to_rows(recursions.smooth(links, lane_weights(rows)).state, rows)


def _filtered(recursions: Any, links: Any, rows: Rows) -> jax.Array:
    return states_to_rows(recursions.filtered(links).state, rows)


def _predicted(recursions: Any, links: Any, rows: Rows) -> jax.Array:
    state = recursions.filtered(links).state
    before = jnp.concatenate([state[:1], state[:-1]])
    moving = _moving(links)
    ahead = jnp.einsum("tjb,tjkb->tkb", before, jnp.exp(moving.log_transition))
    return states_to_rows(jnp.where(links.first[:, None], links.initial[:, None], ahead), rows)


def _likeliest(recursions: Any, links: Any, rows: Rows) -> jax.Array:
    return to_rows(recursions.likeliest(links)[0], rows)


def _drawn(key: jax.Array, recursions: Any, links: Any, rows: Rows) -> jax.Array:
    return to_rows(recursions.draw(uniforms(key, rows.lanes.slot, rows.dtype), links), rows)


@jax.jit
def _pairs_summed(model: Any, params: Any, rows: Rows) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    pairs = model._recursions.smooth(model._links(params, rows), lane_weights(rows)).pairs
    return pairs if pairs.ndim == 2 else jnp.einsum("tjkb,tb->jk", pairs, lane_weights(rows))


@jax.jit
def _pairs_in_full(model: Any, params: Any, rows: Rows) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    pairs = moving_chain.smooth(_moving(model._links(params, rows)), lane_weights(rows)).pairs
    lanes = rows.lanes
    begins = jnp.zeros(rows.n, bool).at[lanes.start].set(True)
    later = jnp.nonzero(~begins, size=rows.n - len(lanes.start))[0]
    return to_rows(jnp.moveaxis(pairs, -1, 1), rows)[later]


def _moving(links: Chain | MovingChain) -> MovingChain:
    """A chain written out step by step."""
    if isinstance(links, MovingChain):
        return links
    k, steps, lanes = len(links.initial), *links.first.shape
    log_transition = jnp.broadcast_to(jnp.log(links.transition)[None, :, :, None], (steps, k, k, lanes))
    return MovingChain(links.emission, links.first, links.initial, log_transition)


@partial(jax.jit, static_argnames="covariance")
def _impute(model: Any, params: Any, rows: Rows, covariance: bool) -> Any:
    params = coordinates.cast(params, rows.dtype)
    state = _smoothed(model._recursions, model._links(params, rows), rows)
    return completed_given(model.family, params.emissions, rows, state, covariance)
