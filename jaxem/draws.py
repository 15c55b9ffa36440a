"""What chains of draws say of a posterior, and whether they have mixed."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from jaxem.restrict import paths_of

MIXED = 1.01  # largest R-hat of chains that have mixed (Vehtari et al. 2021)


class Draws(NamedTuple):
    """Params drawn from a posterior by several chains.

    R-hat compares chains, and their halves, with each other, near 1 where all tell the same; the effective sample size is the
    number of independent draws that would tell as much of the middle (bulk) or of the 5 % and 95 % quantiles (tail). Both are
    those of Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021, Bayesian Analysis 16:667), on ranks; NaN for a coordinate
    that never moves, and for chains that were ended before they were full.
    """

    params: Any  # leaves (chains, draws, ...); NaN where the chains were ended before they were full
    log_joint: jax.Array  # (chains, draws) log-likelihood + log prior, likewise
    r_hat: Any  # tree of the params
    ess_bulk: Any  # tree of the params
    ess_tail: Any  # tree of the params
    diverging: Any = None  # (chains, draws) bool, of `nuts`: trajectories that went astray

    def worst(self) -> tuple[float, float]:
        """Largest R-hat and smallest effective sample size, bulk or tail. Host."""
        sizes = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves((self.ess_bulk, self.ess_tail))]
        largest = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(self.r_hat)])
        smallest = np.concatenate(sizes)
        known = not np.isnan(largest).all()
        return (float(np.nanmax(largest)), float(np.nanmin(smallest))) if known else (float("nan"), float("nan"))

    def remarks(self) -> list[str]:
        """Sentences for a person. Host."""
        r_hat, size = self.worst()
        if np.isnan(r_hat):
            return ["The chains were ended before all draws were made; give more steps or passes."]
        chains, draws = self.log_joint.shape
        text = f"{chains} chains of {draws} draws: largest R-hat {r_hat:.3f}, smallest effective sample size {size:.0f}."
        if r_hat > MIXED:
            text += " They have not mixed well: make more draws, or burn in longer."
        astray = 0 if self.diverging is None else int(np.asarray(self.diverging).sum())
        return [text, f"{astray} trajectories diverged: parts of the posterior may be missing."] if astray else [text]

    def table(self, domains: Any) -> dict[str, np.ndarray]:
        """Columns name, mean, sd, 5 %, median, 95 %, r_hat, ess_bulk, ess_tail, one row a coordinate. Host.

        Args:
            domains: of the model, for the names.
        """
        columns: dict[str, list[Any]] = {
            name: [] for name in ("name", "mean", "sd", "5%", "50%", "95%", "r_hat", "ess_bulk", "ess_tail")
        }
        leaves = [jax.tree.leaves(tree) for tree in (self.params, self.r_hat, self.ess_bulk, self.ess_tail)]
        for path, values, r_hat, bulk, tail in zip(paths_of(domains), *leaves, strict=True):
            drawn = np.asarray(values).reshape(values.shape[0] * values.shape[1], *values.shape[2:])
            for index in np.ndindex(drawn.shape[1:]):
                own = drawn[(slice(None), *index)]
                columns["name"].append(f"{path}[{', '.join(map(str, index))}]" if index else path)
                numbers = [own.mean(), own.std(), *np.quantile(own, [0.05, 0.5, 0.95]), r_hat[index], bulk[index], tail[index]]
                for name, number in zip(list(columns)[1:], numbers, strict=True):
                    columns[name].append(float(number))
        return {name: np.array(values) for name, values in columns.items()}


def draws_of(params: Any, log_joint: jax.Array) -> Draws:
    """Draws with what they say of themselves; leaves lead with (chains, draws)."""

    return Draws(params, log_joint, *(over_entries(measure, params) for measure in (r_hat, ess_bulk, ess_tail)))


def over_entries(measure: Any, params: Any) -> Any:
    """`measure` of the draws (chains, draws) of each entry of params whose leaves are (chains, draws, ...)."""
    leaves, tree = jax.tree.flatten(params)
    flat = jnp.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1)
    sizes = np.cumsum([math.prod(leaf.shape[2:]) for leaf in leaves])[:-1]
    parts = jnp.split(jax.vmap(measure, in_axes=-1)(flat), sizes)
    return jax.tree.unflatten(tree, [part.reshape(leaf.shape[2:]) for part, leaf in zip(parts, leaves, strict=True)])


def r_hat(x: jax.Array) -> jax.Array:
    """Rank-normalised split R-hat of draws (chains, draws), the larger one of that of location and of scale.

    NaN where nothing moves, or fewer than 4 draws a chain.
    """
    halves = _split(x)
    folded = jnp.abs(halves - jnp.median(halves))
    return jnp.where(_moves(x), jnp.maximum(_between(_normal_scores(halves)), _between(_normal_scores(folded))), jnp.nan)


def ess_bulk(x: jax.Array) -> jax.Array:
    """Effective sample size of draws (chains, draws) for the middle of the distribution."""
    return jnp.where(_moves(x), _effective(_normal_scores(_split(x))), jnp.nan)


def ess_tail(x: jax.Array) -> jax.Array:
    """Effective sample size of draws (chains, draws) for the 5 % and 95 % quantiles, the smaller one."""
    halves = _split(x)
    sizes = [_effective((halves <= jnp.quantile(halves, q)).astype(x.dtype)) for q in (0.05, 0.95)]
    return jnp.where(_moves(x), jnp.minimum(*sizes), jnp.nan)


def _moves(x: jax.Array) -> jax.Array:
    return jnp.isfinite(x).all() & (x.max() > x.min())


def _split(x: jax.Array) -> jax.Array:
    """(chains, draws) -> (2 chains, draws // 2), the one in the middle left out."""
    half = x.shape[1] // 2
    return jnp.concatenate([x[:, :half], x[:, x.shape[1] - half :]])


def _normal_scores(x: jax.Array) -> jax.Array:
    """Normal quantiles of the average ranks among all entries (Blom 1958)."""
    ordered = jnp.sort(x.ravel())
    below, above = (jnp.searchsorted(ordered, x.ravel(), side=side) for side in ("left", "right"))
    rank = (0.5 * (below + above + 1)).astype(x.dtype)
    return ndtri((rank - 0.375) / (x.size + 0.25)).reshape(x.shape)


def _between(x: jax.Array) -> jax.Array:
    """Potential scale reduction of chains (m, n)."""
    n = x.shape[1]
    within = x.var(axis=1, ddof=1).mean()
    means = x.mean(axis=1).var(ddof=1)
    return jnp.sqrt((n - 1) / n + means / within)


def _effective(x: jax.Array) -> jax.Array:
    """m n / tau for chains (m, n): autocorrelations summed in pairs as long as they are positive, and made to fall (Geyer 1992)."""
    m, n = x.shape
    centred = x - x.mean(axis=1, keepdims=True)
    padded = jnp.fft.rfft(centred, n=2 * n, axis=1)
    covariance = jnp.fft.irfft(padded * jnp.conj(padded), n=2 * n, axis=1)[:, :n] / n
    within = covariance[:, 0].mean() * n / (n - 1)
    total = within * (n - 1) / n + x.mean(axis=1).var(ddof=1)
    rho = (1 - (within - covariance.mean(axis=0)) / total).at[0].set(1)
    pairs = rho[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    kept = jnp.cumprod((pairs > 0).astype(x.dtype))
    falling = jax.lax.cummin(pairs) * kept
    # the first autocorrelation of the pair that is left out still counts, where it is positive (Stan's estimate)
    last = kept.sum().astype(int)
    beyond = jnp.where(2 * last < n, jnp.maximum(rho[jnp.minimum(2 * last, n - 1)], 0), 0)
    tau = jnp.maximum(2 * falling.sum() - 1 + beyond, 1 / jnp.log10(float(m * n)))
    return m * n / tau
