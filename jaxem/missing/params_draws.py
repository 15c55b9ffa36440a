"""Params at random, as likely as the data leave them: what makes multiple imputations proper (Rubin 1987)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.algorithms import gibbs
from jaxem.fit import fit, fit_weighted
from jaxem.inference.point import look_at
from jaxem.result import Status
from jaxem.rows import Rows

METHODS = ("bootstrap", "posterior", "data_augmentation")
DRAWS, BURN_IN, CHAINS = 250, 500, 4  # of Gibbs sampling, from which imputations are taken far apart


def draw_params(
    model: Any, params: Any, rows: Rows, draws: int, method: str, key: jax.Array, progress: Any = None
) -> tuple[Any, tuple[str, ...]]:
    """Params whose leaves lead with `draws`, and remarks for a person; `progress` is told of what takes long."""
    if method == "bootstrap":
        return bootstrap_params(model, params, rows, draws, key, progress)
    if method == "posterior":
        return posterior_params(model, params, rows, draws, key), ()
    return augmented_params(model, params, rows, draws, key, progress)


def bootstrap_params(
    model: Any, params: Any, rows: Rows, draws: int, key: jax.Array, progress: Any = None
) -> tuple[Any, tuple[str, ...]]:
    """Fits to rows drawn with replacement (whole sequences, where rows follow one another), each started at `params`.

    A row drawn c times has c times its weight (Efron 1994, JASA 89:463; Honaker and King 2010, Am. J. Pol. Sci. 54:561).

    Raises:
        ValueError: one sequence, which cannot be drawn again.
    """
    if rows.lanes is None:
        weights, what = np.asarray(rows.weights, np.float64), "rows"
    else:
        weights, what = np.asarray(rows.weights, np.float64)[np.asarray(rows.lanes.start)], "sequences"
    present = np.flatnonzero(weights > 0)
    if len(present) < 2:
        raise ValueError(f"method: 'bootstrap' draws {what} with replacement, and there is {len(present)}; take 'posterior'.")
    chosen = np.asarray(jax.random.choice(key, present, (draws, len(present))))
    counts = np.stack([np.bincount(own, minlength=len(weights)) for own in chosen])
    fitted = fit_weighted(model, rows, counts * weights, params, progress=progress)
    found, status = fitted.params, fitted.status
    bad = [Status(int(each)) for each in np.asarray(status) if int(each) != Status.CONVERGED]
    if not bad:
        return found, ()
    named = ", ".join(sorted({each.name for each in bad}))
    return found, (f"{len(bad)} of {draws} bootstrap fits did not converge ({named}).",)


def posterior_params(model: Any, params: Any, rows: Rows, draws: int, key: jax.Array) -> Any:
    """N(params, information^-1) in unconstrained coordinates, the posterior of many rows (Gelman et al. 2013, sec. 4.1).

    The information is that of log-likelihood + log prior, as `jaxem.standard_errors` has it. Params on the edge stay there.

    Raises:
        ValueError: information that is not positive definite, so that `params` are no maximum or not identified.
    """
    point = look_at(model, params, rows)
    inside, u = ~point.edge, point.u
    covariance = point.covariance()[np.ix_(inside, inside)]
    if not np.isfinite(covariance).all():
        eigenvalues, directions = point.spectrum()
        known = np.isfinite(eigenvalues).all()
        where = f", least along {point.told(directions[:, 0])}" if known and len(eigenvalues) else ""
        raise ValueError(
            f"params: the information matrix is not positive definite there{where}: fit until convergence, take a simpler model or "
            "a prior, or method='bootstrap'."
        )
    noise = np.asarray(jax.random.normal(key, (draws, len(covariance))), np.float64)
    moved = np.tile(u, (draws, 1))
    moved[:, inside] += noise @ np.linalg.cholesky(covariance).T
    return _params_at(model, params, jnp.asarray(moved, rows.dtype))


@jax.jit
def _params_at(model: Any, like: Any, vectors: jax.Array) -> Any:
    """Params at each of several vectors of unconstrained coordinates."""
    return jax.vmap(lambda each: model.from_unconstrained(each, like=like))(vectors)


def augmented_params(
    model: Any, params: Any, rows: Rows, draws: int, key: jax.Array, progress: Any = None
) -> tuple[Any, tuple[str, ...]]:
    """Draws from the posterior by data augmentation (Tanner and Wong 1987, JASA 82:528; Schafer 1997), far apart in the chains.

    Raises:
        TypeError, ValueError: as `jaxem.gibbs`, which needs a proper conjugate prior.
    """
    each = max(DRAWS, -(-draws // CHAINS))
    algorithm = gibbs(draws=each, burn_in=BURN_IN, chains=CHAINS)
    found = fit(model, rows, params=params, key=key, algorithm=algorithm, progress=progress)
    chains = found.detail
    place = np.linspace(0, CHAINS * each - 1, draws).round().astype(int)
    taken = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[place], chains.params)
    worst = chains.worst()[0]
    mixed = int(found.status) == Status.CONVERGED
    return taken, () if mixed else (f"The chains of data augmentation have not mixed: largest R-hat {worst:.3f}.",)
