"""From an estimator to `jaxem.fit` and back: precision, seeds, what is read from X, what is left on the estimator."""

from __future__ import annotations

import importlib
import numbers
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

import jaxem
from jaxem.checks import check_weights
from jaxem.inputs import count_rows
from jaxem.result import Status, Stop


@contextmanager
def double() -> Iterator[None]:
    """float64 within, as users of scikit-learn expect; a setting of this thread alone, which ends with the block."""
    if hasattr(jax, "enable_x64"):
        switch: Any = jax.enable_x64
    else:  # before JAX 0.8
        switch = importlib.import_module("jax.experimental").enable_x64
    with switch(True):
        yield


def as_numpy(tree: Any) -> Any:
    """The same tree with NumPy arrays."""
    return jax.tree.map(np.asarray, tree)


def seed_of(random_state: Any) -> int:
    """A seed for JAX from what scikit-learn takes: None, a whole number or a RandomState."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def read(estimator: Any, X: Any, *, reset: bool = False, y: Any = "no_validation", holes: bool = True) -> Any:
    """X (n, d) as floats, NaN where missing, by scikit-learn's own checks; at least two rows to fit. With y, both."""
    given = {"y": y} if y is None or isinstance(y, str) else {"y": y, "y_numeric": True}
    finite: Any = "allow-nan" if holes else True
    least = 2 if reset else 1
    kinds = [np.float64, np.float32]
    return validate_data(estimator, X, reset=reset, ensure_all_finite=finite, dtype=kinds, ensure_min_samples=least, **given)


def weights_of(sample_weight: Any, X: Any) -> Any:
    """(n,) weights as numbers of the kind of X, or None.

    Raises:
        ValueError: as `jaxem.checks.check_weights`, under scikit-learn's name.
    """
    if sample_weight is None:
        return None
    values = np.asarray(sample_weight, X.dtype)
    try:
        check_weights(values, len(X), values.dtype)
    except ValueError as error:
        raise ValueError(str(error).replace("weights:", "sample_weight:", 1)) from error
    return values


def roomy(n: int) -> int:
    """A number of rows, at least n, of few: what is compiled for one then serves all folds of a cross-validation."""
    step = 1 << max(n.bit_length() - 3, 4) if n > 4096 else max(1 << (n - 1).bit_length(), 16)
    return -(-n // step) * step


def pad(data: Any, n: int) -> Any:
    """Data of n rows with copies of the first one behind them, `roomy(n)` in all."""
    index = np.concatenate([np.arange(n), np.zeros(roomy(n) - n, int)])
    return jax.tree.map(lambda leaf: leaf[index], data)


def row_by_row(read_off: Callable[[Any], Any], data: Any) -> np.ndarray:
    """What `read_off` says of each row of the data, whose rows say nothing of each other."""
    n = count_rows(data)
    with double():
        return np.asarray(read_off(pad(data, n)))[:n]


def check_rows(X: np.ndarray, n_components: int) -> None:
    """Raises ValueError where fewer rows than components say anything."""
    told = int((~np.isnan(X)).any(axis=1).sum())
    if isinstance(n_components, numbers.Integral) and told < n_components:
        raise ValueError(f"X: found {told} sample(s) with an observed cell for {n_components} components; ask for fewer.")


def fit(
    estimator: Any,
    model: Any,
    data: Any,
    *,
    weights: Any = None,
    separate: bool = True,
    start: Callable[[Any, int], Any] | None = None,
    tolerance: float,
    max_steps: int,
    algorithm: Any = None,
) -> None:
    """Fits and leaves the result on the estimator: model_, params_, result_, converged_, n_iter_, log_likelihood_, n_parameters_.

    Args:
        separate: whether rows stand for themselves, so that rows of weight 0 can be put behind them (see `roomy`).
        start: (prepared rows, seed) -> params to begin from, or None for starts of the model's own; either way there are
            `estimator.n_init`, of which the best is kept.
        tolerance: gain of the objective in a step below which a fit ends.

    A fit that has not converged warns once, in the words of `Fit.explain`.
    """
    stop = Stop(tolerance, "absolute", max_steps=max_steps)
    seed, restarts = seed_of(getattr(estimator, "random_state", None)), getattr(estimator, "n_init", 1)
    if separate:
        n = count_rows(data)
        weights = np.concatenate([np.ones(n) if weights is None else weights, np.zeros(roomy(n) - n)])
        data = pad(data, n)
    with double():
        rows = jaxem.prepare(model, data, weights)
        if start is None:
            restarts = restarts if model.needs_key else 1
            result = jaxem.fit(model, rows, key=seed, restarts=restarts, stop=stop, algorithm=algorithm)
        else:
            each = [jaxem.fit(model, rows, params=start(rows, seed + i), stop=stop, algorithm=algorithm) for i in range(restarts)]
            result = max(each, key=lambda one: (int(one.status) != Status.DEGENERATE, float(one.objective)))
        estimator.n_parameters_ = int(model.n_parameters(rows))
        said = result.explain()
    estimator.model_, estimator.params_, estimator.result_ = as_numpy(model), as_numpy(result.params), as_numpy(result)
    estimator.converged_ = int(result.status) == Status.CONVERGED
    estimator.n_iter_ = max(int(result.steps), 1)
    estimator.log_likelihood_ = float(result.log_likelihood)
    if not estimator.converged_:
        warnings.warn(f"{type(estimator).__name__}: {said}", ConvergenceWarning, stacklevel=3)


def can_go_on(estimator: Any, shape: tuple[int, ...], name: str) -> bool:
    """Whether `warm_start` is asked for and there are params, whose leaf `name` has this shape, to begin from."""
    found = getattr(estimator, name, None)
    return bool(estimator.warm_start and found is not None and np.shape(found) == shape)
