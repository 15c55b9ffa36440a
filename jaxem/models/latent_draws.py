r"""Continuous latent variables of a `Latent` model, by draws of the user's.

`Latent(log_joint, domains, m, draw=f)` takes for each row m draws of its latent variable z (a number, an array, a tree) from

    f(key, params, row) -> (z, log q(z)),          f(key, params, row, observed) with missing=True,

where q is a density that is positive wherever p(row, z | params) is, and not much narrower (importance sampling): a normal at
the mode made a little wider, a Student t. It must be normalised. `log_joint(params, z, row)` is then the joint log-density of
row and z. The draws stand for states with log-probabilities log_joint - log q - log m, so that what a model has follows as
usual:

- log-likelihood: sum_i w_i log (1/m sum_j p(y_i, z_ij) / q(z_ij)), with a bias of order 1/m downwards; - statistics: averages
under the normalised weights, with a bias of order 1/m that averaging over more calls does not take away: choose m
  so large that the weights' relative variance over m is small beside the error that is wanted.

`e_step` and `log_likelihood` always use the same random numbers (they are functions of params, and EM is then that of the simulated
likelihood); `sample_statistics` draws anew, for `monte_carlo_em` (Booth and Hobert 1999, JRSS-B 61:265). The gradient does not see
that q depends on params, as it should not. A row's draws follow from the key and its number in the input.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.assign import Drawn
from jaxem.checks import is_traced
from jaxem.models.latent_inputs import Cells, Slot
from jaxem.rows import Table


def number_rows(table: Table) -> Table:
    """Rows (row, number) in place of row: what their draws are made from."""
    value, observed = table.cells
    xp: Any = jnp if is_traced(table.pilot) else np
    number = xp.arange(len(table.pilot), dtype=np.int32)[:, None]
    cells = Cells((value, number), None if observed is None else (observed, xp.ones(number.shape, bool)))
    return table._replace(cells=cells, origin=(table.origin, Slot(np.zeros((), np.int32))))


def new_key(how: Any) -> jax.Array:
    """The key of new draws.

    Raises:
        TypeError: an assignment of states otherwise.
    """
    if not isinstance(how, Drawn):
        raise TypeError("algorithm: the latent variable of this model is drawn, and has no states to weigh; take monte_carlo_em().")
    return how.key


def _unpack(row: Any, *observed: Any) -> tuple[jax.Array, tuple[Any, ...]]:
    return row[1], (row[0], *(each[0] for each in observed))


def _drawn(model: Any, params: Any, j: jax.Array, number: jax.Array, told: Any) -> tuple[Any, jax.Array]:
    key = jax.random.fold_in(jax.random.fold_in(model.key, number), j)
    return jax.lax.stop_gradient(model.draw(key, jax.lax.stop_gradient(params), *told))


def weighed_joint(model: Any, params: Any, j: jax.Array, *row: Any) -> jax.Array:
    """Joint log-density of a row and its j-th draw, over the density that it was drawn from."""
    number, told = _unpack(*row)
    z, log_density = _drawn(model, params, j, number, told)
    return model.log_joint(params, z, *told) - log_density - math.log(model.places)


def drawn_statistics(model: Any, params: Any, j: jax.Array, *row: Any) -> Any:
    """The declared statistics of a row and its j-th draw."""
    number, told = _unpack(*row)
    return model.statistics(_drawn(model, params, j, number, told)[0], *told)
