"""The params of any model with names: what reports and pictures read, from domains, shapes and the view of the data.

Nothing here knows a family. A leaf is told by its domain (probabilities, covariances, ...), by which axes of it run over
latent states, and by the lengths of its other axes: as many as columns, coefficients, factors.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem.coordinates import check_structure, no_fit
from jaxem.domains import Domain, Positive, PositiveDefinite, Simplex, Unit
from jaxem.view import View

SPREADS = ("covariance", "variance")  # leaves shown by their square roots


class Axis(NamedTuple):
    """One axis of a leaf besides that of the states."""

    kind: str  # "columns", "coefficients", "gates", "categories", "factors", "states" or "numbers"
    names: tuple[str, ...]


class Leaf(NamedTuple):
    """One array of params, with the states leading."""

    path: tuple[str, ...]  # names from the root of the params, for instance ("components", "mean")
    values: np.ndarray  # (K, *axes) float64; (1, *axes) where all states share it
    shared: bool  # whether all states share it
    domain: Domain
    axes: tuple[Axis, ...]

    @property
    def name(self) -> str:
        """Its own name in the params."""
        return self.path[-1]

    @property
    def title(self) -> str:
        """Its name in words, singular, preceded by that of its group where columns do not tell it."""
        words = singular(self.name).replace("_", " ")
        inner = [part for part in self.path[:-1] if part != "components" and "columns" not in self.kinds]
        return " ".join([*inner, words])

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the axes."""
        return tuple(axis.kind for axis in self.axes)

    @property
    def covariance(self) -> bool:
        """Whether entries are symmetric positive definite matrices."""
        return isinstance(self.domain, PositiveDefinite)

    @property
    def variances(self) -> bool:
        """Whether entries are variances, cell by cell or within covariance matrices."""
        return isinstance(self.domain, (Positive, PositiveDefinite)) and self.name in SPREADS

    @property
    def probability(self) -> bool:
        """Whether entries are probabilities of the data (not of the states)."""
        return isinstance(self.domain, Unit) or (isinstance(self.domain, Simplex) and "categories" in self.kinds)


def singular(name: str) -> str:
    """ "probabilities" -> "probability", "weights" -> "weight", "uniquenesses" -> "uniqueness"."""
    for ending, single in (("ies", "y"), ("sses", "ss"), ("ss", "ss"), ("us", "us"), ("s", "")):
        if name.endswith(ending):
            return name.removesuffix(ending) + single
    return name


def leaves_of(model: Any, params: Any, view: View) -> list[Leaf]:
    """All arrays of params in their order, named."""
    check_structure(model.domains, params)
    params = model.shown(params)
    domains = getattr(model, "free_domains", model.domains)  # a leaf that is held or tied is shown like any other
    found = jax.tree_util.tree_flatten_with_path(domains)[0]
    out = []
    for (keys, domain), value in zip(found, jax.tree.leaves(params), strict=True):
        path = tuple(str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in keys)
        values = np.asarray(value, np.float64)
        stateless = not domain.state_axes
        if stateless or _lacks_state_axis(model):
            values = values[None]
        out.append(Leaf(path, values, stateless, domain, _axes(path, values.shape[1:], domain, view, model)))
    return out


def _lacks_state_axis(model: Any) -> bool:
    """Whether params have no state axis though their domains name one: one state, the family's own params."""
    return model.n_states == 1 and hasattr(model, "_states")


def states_of(model: Any, params: Any) -> tuple[np.ndarray | None, Any]:
    """Weights (K,) of the states where the model has such, and the family's params with a leading state axis."""
    no_fit(params)
    if _lacks_state_axis(model):
        return np.ones(1), model._states(params)
    weights = getattr(params, "weights", None)
    own: Any = jax.tree.structure(model.family.domains)
    for name, domains in zip(model.domains._fields, model.domains, strict=True):
        if jax.tree.structure(domains) == own:
            return None if weights is None else np.asarray(weights, np.float64), getattr(params, name)
    raise TypeError(f"{type(model).__name__}: has no params of its family.")


def _axes(path: tuple[str, ...], shape: tuple[int, ...], domain: Domain, view: View, model: Any) -> tuple[Axis, ...]:
    """Each axis by its length and place. The columns are those of the leaf's group where there are groups."""
    if (own := getattr(model, "axes_of", None)) is not None:  # a model that names its own
        return tuple(Axis(kind, names) for kind, names in own(path[-1], view.columns))
    here = [j for j, part in enumerate(view.parts) if part in path] or list(range(view.d))
    columns = tuple(view.columns[j] for j in here)
    if (further := len(domain.state_axes) - 1) > 0:
        names = [tuple(map(str, range(size))) for size in shape]
        gates = [view.gates if size == len(view.gates) else name for size, name in zip(shape, names, strict=True)]
        return (*(Axis("states", each) for each in names[:further]), *(Axis("gates", each) for each in gates[further:]))
    out: list[Axis] = []
    for place, size in enumerate(shape):
        kinds = [axis.kind for axis in out]
        last = place == len(shape) - 1
        if isinstance(domain, Simplex) and domain.event_ndim == 1 and last and len(shape) > 1:
            out.append(Axis("categories", _categories(view, here, size)))
        elif "gate" in path:
            out.append(Axis("gates", view.gates if size == len(view.gates) else tuple(map(str, range(size)))))
        elif "coefficients" not in kinds and (design := _design(path, view, size)):
            out.append(Axis("coefficients", design))
        elif size == len(columns) and (isinstance(domain, PositiveDefinite) or "columns" not in kinds):
            out.append(Axis("columns", columns))
        elif kinds == ["columns"]:
            out.append(Axis("factors", tuple(f"factor {i}" for i in range(size))))
        else:
            out.append(Axis("numbers", tuple(map(str, range(size)))))
    return tuple(out)


def _design(path: tuple[str, ...], view: View, size: int) -> tuple[str, ...]:
    """Names of as many columns of the design matrix; none where it holds an intercept alone, unless the leaf says so."""
    if not view.regression or not (view.covariates or "coefficients" in path):
        return ()
    return next((names for names in (view.coefficients, view.covariates) if names and len(names) == size), ())


def _categories(view: View, columns: list[int], size: int) -> tuple[str, ...]:
    """Names of categories that all columns share, else numbers."""
    names = {tuple(view.category(j, code) for code in range(size)) for j in columns}
    return names.pop() if len(names) == 1 else tuple(map(str, range(size)))


class Components(NamedTuple):
    """Location and spread of the states in one form, whatever the covariance kind; a single family has K = 1."""

    weights: np.ndarray  # (K,)
    mean: np.ndarray  # (K, d)
    covariance: np.ndarray  # (K, d, d)
    scale: bool = False  # whether `covariance` is that of a normal with the same scale matrix (heavy tails may have none)


def components_of(model: Any, params: Any) -> Components:
    """Weights (K,), means (K, d) and dense covariances (K, d, d) of a model whose family has `moments`.

    A family of location and scale matrix without covariances between columns in its moments gives these two instead.

    Raises:
        TypeError: a family that does not say its moments.
    """
    family = getattr(model, "family", None)
    no_fit(params)
    try:
        weights, inner = states_of(model, params)
        mean, spread = (np.asarray(leaf, np.float64) for leaf in family.moments(inner))  # type: ignore[union-attr]
    except (AttributeError, TypeError, NotImplementedError) as error:
        raise TypeError(f"model: found family {type(family).__name__}, whose rows have no mean and covariance.") from error
    shares = np.ones(len(mean)) / len(mean) if weights is None else weights
    scaled = None if spread.ndim == 3 else _scale_matrices(inner)
    if scaled is not None:
        return Components(shares, np.asarray(inner.mean, np.float64), scaled, scale=True)
    return Components(shares, mean, spread[:, :, None] * np.eye(mean.shape[1]) if spread.ndim == 2 else spread)


def _scale_matrices(params: Any) -> np.ndarray | None:
    """(K, d, d) scale matrices of params with a `mean` (K, d) and a `scale`: matrices, their diagonals, or one number each."""
    if not (hasattr(params, "mean") and hasattr(params, "scale")):
        return None
    mean, scale = np.asarray(params.mean), np.asarray(params.scale, np.float64)
    n_states, d = mean.shape
    if scale.shape in ((n_states, d), (n_states,)):
        scale = scale.reshape(n_states, -1, 1) * np.eye(d)
    return np.broadcast_to(scale, (n_states, d, d))


def has_ellipses(model: Any, params: Any) -> bool:
    """Whether the family has a mean and a covariance (or scale) matrix in every state."""
    try:
        inner = states_of(model, params)[1]
        spread = jax.eval_shape(model.family.moments, inner)[1]
    except (AttributeError, TypeError, NotImplementedError):
        return False
    return len(spread.shape) == 3 or _scale_matrices(inner) is not None


# words that keep their capital
PROPER = ("Gaussian", "Poisson", "Bernoulli", "Student", "Mises", "Fisher", "Markov", "Weibull", "PCA")


def words_of(thing: Any) -> str:
    """The name of a class in words: NegativeBinomial -> "Negative binomial", FactorGaussian -> "Factor Gaussian"."""
    first, *rest = _split(type(thing).__name__)
    return " ".join([first, *(word if word in PROPER else word.lower() for word in rest)])


def kebab(name: str) -> str:
    """NegativeBinomial -> "negative-binomial", StudentT -> "student-t"."""
    return "-".join(_split(name)).lower()


def _split(name: str) -> list[str]:
    return re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]{2,}|[A-Z][a-z0-9]*|[^A-Z]+", name) or [name]
