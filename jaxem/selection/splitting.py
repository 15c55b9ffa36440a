"""Params of a model with fewer states as starts of the same model with more: components that are split."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxem import initialize
from jaxem.coordinates import settle
from jaxem.domains import Derived, Simplex
from jaxem.restrict import Restrictions
from jaxem.rows import Rows


def check_nested(small: Any, large: Any) -> None:
    """Raises where `large` is not `small` with more states.

    Raises:
        TypeError, ValueError: other classes or settings, no more states, a prior.
    """
    if type(small) is not type(large) or getattr(small, "family", None) is None or getattr(large, "family", None) is None:
        found = f"{type(small).__name__} and {type(large).__name__}"
        raise TypeError(f"large: found {found}; give two models of one class and family, as Mixture(Gaussian(), 2) and of 3.")
    if not large.n_states > small.n_states >= 1:
        raise ValueError(f"large: found {large.n_states} states beside {small.n_states} of small; give more.")
    if getattr(small, "prior", None) is not None or getattr(large, "prior", None) is not None:
        raise ValueError("prior: a likelihood ratio is one of maximum likelihood; give both models without priors.")
    counts = [field.name for field in dataclasses.fields(small) if field.name in ("n_components", "n_states")]
    if not counts:
        raise TypeError(f"small: the states of {type(small).__name__} cannot be split; give mixtures or hidden Markov models.")
    alike: Any = jax.tree.structure(dataclasses.replace(small, **{counts[0]: large.n_states}))
    if isinstance(getattr(small, "fixed", None), Restrictions) or alike != jax.tree.structure(large):
        raise ValueError("large: differs from small in more than the number of states; give the same family and settings.")


def nested_starts(small: Any, params: Any, large: Any, rows: Rows, key: jax.Array, first: jax.Array) -> Any:
    """A start of `large` from params of `small`: component `first` is split, and as many after it as there are to add.

    All params but the family's are those of a model in which the new components are copies, whose likelihood is that of
    `small` exactly; the family's are of the posterior memberships with those of the split components dealt by k-means.
    """
    k, more = small.n_states, large.n_states - small.n_states
    index = jnp.concatenate([jnp.arange(k), (first + jnp.arange(more)) % k])
    copies = (index[:, None] == index).sum(axis=1)

    def widen(domain: Any, leaf: jax.Array) -> jax.Array:
        for axis in domain.state_axes:
            leaf = jnp.take(leaf, index, axis=axis)
        shared = isinstance(domain, (Simplex, Derived)) and leaf.ndim - 1 in domain.state_axes
        return leaf / copies.astype(leaf.dtype) if shared else leaf

    wide = jax.tree.map(widen, small.free_domains, params)
    pilot = jnp.minimum(rows.pilot_index, rows.n - 1)
    r = small.posterior(params, rows)[pilot] * rows.pilot_weights[:, None]
    points = large.family.embed(rows)
    for number in range(more):
        place = index[k + number]
        parts = initialize.memberships(jax.random.fold_in(key, number), points, r[:, place], 2)
        r = jnp.concatenate([r.at[:, place].set(parts[:, 0]), parts[:, 1:]], axis=1)
    own: Any = jax.tree.structure(large.family.domains)
    name = next(name for name, domains in zip(wide._fields, large.free_domains, strict=True) if jax.tree.structure(domains) == own)
    start = wide._replace(**{name: large.family.init(rows, r)})
    return settle(large.domains, start) if isinstance(getattr(large, "fixed", None), Restrictions) else start
