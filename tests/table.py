"""The one table of models: every file of `tests/cases` gives `ROWS`, and each row gets every law."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxem import Mixture, MixtureParams, Single

DTYPES = ("float32", "float64")
K, N = 3, 60
WEIGHTS = np.array([0.3, 0.5, 0.2])  # of the components, where a row starts


@dataclass(frozen=True)
class Row:
    """A model, data for it, params near the truth, and an independent log-density."""

    name: str
    model: Any
    simulate: Callable  # (n, seed) -> float64 data: an array, or a pytree whose leaves lead with rows
    start: Callable  # () -> params as NumPy arrays; for a mixture those of the K components
    oracle: Callable  # (params with a state axis, data) -> (n, K) log-densities of the observed cells, 0 where there are none
    marginal: Callable | None = None  # (params, keep) -> params of the columns kept; None where columns cannot be left out
    total: Callable | None = None  # (params, data) -> (n,) log-likelihood of each row, for models that are no mixture
    core: bool = False  # whether float32 is in the short run too
    slow: bool = False  # whether the row is left to the longer runs
    rare: bool = False  # whether it is left to the thorough one
    shaky: float = 1.0  # what rounding is multiplied by: digits that the family's functions or data lose, said beside it

    def data(self, dtype, n=N, seed=0):
        return cast(self.simulate(n, seed), dtype)

    def weights(self, dtype, n=N):
        """Whole numbers that sum to n, so that rows repeated by them are as many as the rows and share their programs."""
        return np.random.default_rng(9).permutation(np.resize([0, 1, 1, 2, 0, 0, 3, 1], n)).astype(dtype)

    def params(self, dtype):
        """Params near the truth, neither stationary nor extreme; written down, so that no start has to be compiled."""
        states = self.start()
        params = MixtureParams(WEIGHTS, states) if isinstance(self.model, Mixture) else states
        return jax.tree.map(jnp.asarray, cast(params, dtype))

    def oracle_log_likelihood(self, params, data):
        """(n,) log-likelihood of each row by the oracle."""
        if self.total is not None:
            return self.total(cast(params, np.float64), cast(data, np.float64))
        if isinstance(self.model, Mixture):
            joint = self.oracle(params.components, data) + np.log(np.asarray(params.weights, np.float64))
            return np.logaddexp.reduce(joint, axis=1)
        states = jax.tree.map(lambda domain, x: x[None] if domain.state_axes else x, self.model.domains, params)
        return self.oracle(states, data)[:, 0]

    def eps(self, dtype):
        return self.shaky * float(np.finfo(dtype).eps)


def cast(tree, dtype):
    return jax.tree.map(lambda x: np.asarray(x).astype(dtype), tree)


def one_state(states, model):
    """Params of the first of several states, as `Single` takes them."""
    return jax.tree.map(lambda domain, x: x[0] if domain.state_axes else x, model.domains, states)


def take(data, index):
    """Rows `index` of data of any kind."""
    return jax.tree.map(lambda x: x[index], data)


def with_holes(y, share, seed=0):
    """The same cells, a share of them missing."""
    y = np.array(y, np.float64)
    y[np.random.default_rng(seed + 77).random(y.shape) < share] = np.nan
    return y


def cellwise_oracle(log_density):
    """(params, y (n, d)) -> (n, K) from `log_density(params, k, j, column)` of single cells, summed over the observed ones."""

    def oracle(params, y):
        y = np.asarray(y, np.float64)
        states = len(jax.tree.leaves(params)[0])
        params = cast(params, np.float64)
        out = np.zeros((len(y), states))
        for k in range(states):
            for j in range(y.shape[1]):
                seen = ~np.isnan(y[:, j])
                out[seen, k] += log_density(params, k, j, y[seen, j])
        return out

    return oracle


def drop_columns(params, keep):
    """The marginal of families whose leaves are (K, d)."""
    return jax.tree.map(lambda x: x[..., keep], params)


def collect():
    rows = []
    for module in pkgutil.iter_modules([str(Path(__file__).parent / "cases")]):
        rows += importlib.import_module(f"cases.{module.name}").ROWS
    return rows


# laws that compile gradients or whole fits: in the short run for the core alone, for variants in the thorough one
DERIVED = ("test_fisher", "test_m_step_maximises", "test_monotone", "test_stable_types", "test_stationary")
FITTED = ("test_stable_types", "test_stationary")  # which compile several programs: in the long run not at all


def every(test):
    """Runs a law on every row in both precisions; its id names model and dtype."""
    cases = []
    for row in collect():
        for dtype in DTYPES:
            marks = [pytest.mark.xdist_group(row.name)]
            if row.core and dtype == "float64":
                marks.append(pytest.mark.core)
            derived, fitted = test.__name__ in DERIVED, test.__name__ in FITTED
            if row.rare:
                marks.append(pytest.mark.thorough)
            elif row.slow or (dtype == "float32" and not row.core):
                varied = isinstance(row.model, Single) or getattr(row.model, "prior", None) is not None
                rare = derived or dtype == "float32" or varied
                marks.append(pytest.mark.thorough if rare else pytest.mark.slow)
            elif derived and not row.core:
                marks.append(pytest.mark.thorough if fitted else pytest.mark.slow)
            cases.append(pytest.param(row, dtype, id=f"{row.name}-{dtype}", marks=marks))
    return pytest.mark.parametrize(("row", "dtype"), cases)(test)


def some(values, quick, rest=pytest.mark.slow):
    """Test parameters of which those in `quick` are in the short run, the others in the long one, or in that of `rest`."""
    each = [value if isinstance(value, tuple) else (value,) for value in values]
    short = [value if isinstance(value, tuple) else (value,) for value in quick]
    return [pytest.param(*value, marks=[] if value in short else [rest]) for value in each]
