"""Bad input raises before anything compiles, and names the argument, what was found and what to do."""

import jax
import numpy as np
import pandas as pd
import pytest

import jaxem
from jaxem import Gaussian, Mixture, Single, Stop

GOOD = np.random.default_rng(0).normal(size=(20, 2))


def fit(y=GOOD, k=2, key=0, **kwargs):
    return jaxem.fit(Mixture(Gaussian(), k), y, key=key, **kwargs)


def with_cell(value):
    y = GOOD.copy()
    y[3, 1] = value
    return y


def start():
    return Mixture(Gaussian(), 2).init(0, GOOD)


CASES = {
    "empty": (lambda: fit(np.zeros((0, 2))), ValueError, "y: is empty"),
    "no columns": (lambda: fit(np.zeros((5, 0))), ValueError, "y: is empty"),
    "text": (lambda: fit(np.array([["a", "b"], ["c", "d"]])), TypeError, "y: found dtype"),
    "objects": (lambda: fit(np.array([[1, "x"], [2, 3]], object)), TypeError, "y: found cells that are not numbers"),
    "ragged": (lambda: fit([[1.0, 2.0], [3.0]]), ValueError, "y: rows of different lengths"),
    "3-D": (lambda: fit(np.zeros((4, 3, 2))), ValueError, "y: found 3 dimensions"),
    "infinite": (lambda: fit(with_cell(np.inf)), ValueError, "row 3, column 1"),
    "all missing column": (lambda: fit(np.column_stack([GOOD, np.full(20, np.nan)])), ValueError, "column 2 is missing"),
    "named missing column": (lambda: fit(pd.DataFrame({"a": [1.0, 2], "b": [np.nan] * 2})), ValueError, "column 'b'"),
    "text column": (lambda: fit(pd.DataFrame({"a": [1.0, 2], "b": ["x", "y"]})), TypeError, "column 'b' is not numeric"),
    "complex": (lambda: fit(GOOD + 1j), TypeError, "y: found dtype complex128"),
    "fewer rows": (lambda: fit(GOOD[:3], 4), ValueError, "3 rows with an observed cell for 4 components"),
    "weights length": (lambda: fit(weights=np.ones(3)), ValueError, r"weights: found shape \(3,\) for 20 rows"),
    "weights negative": (lambda: fit(weights=-np.ones(20)), ValueError, "weights: 20 are negative"),
    "weights nan": (lambda: fit(weights=np.full(20, np.nan)), ValueError, "weights: 20 are negative, NaN"),
    "weights zero": (lambda: fit(weights=np.zeros(20)), ValueError, "weights: all are zero"),
    "weights text": (lambda: fit(weights=np.array(["x"] * 20)), TypeError, "weights"),
    "covariance": (lambda: Gaussian("ful"), ValueError, "covariance: unknown kind 'ful'"),
    "kernel": (lambda: Gaussian(kernel="fast"), ValueError, "kernel: unknown kind 'fast'"),
    "rule": (lambda: Stop(rule="abs"), ValueError, "rule: unknown stop rule 'abs'"),
    "tolerance": (lambda: Stop(tolerance=-1.0), ValueError, "tolerance: found -1.0"),
    "tolerance nan": (lambda: Stop(tolerance=float("nan")), ValueError, "tolerance: found nan"),
    "max_steps": (lambda: Stop(max_steps=0), ValueError, "max_steps: found 0"),
    "n_components 0": (lambda: Mixture(Gaussian(), 0), ValueError, "n_components: found 0"),
    "n_components float": (lambda: Mixture(Gaussian(), 2.5), TypeError, "n_components: found 2.5"),
    "family class": (lambda: Mixture(Gaussian, 2), TypeError, r"give an instance, Gaussian\(\)"),
    "family text": (lambda: Single("gaussian"), TypeError, "family: found 'gaussian'"),
    "restarts": (lambda: fit(restarts=0), ValueError, "restarts: found 0"),
    "restarts and params": (lambda: fit(params=start(), restarts=3), ValueError, "restarts: found 3 beside params"),
    "no key": (lambda: fit(key=None), ValueError, "key: starts are drawn at random"),
    "bad key": (lambda: fit(key="seed"), TypeError, "key: found str"),
    "algorithm": (lambda: fit(algorithm=jaxem.em), TypeError, r"algorithm: found em; give an Algorithm, for instance em\(\)"),
    "stop": (lambda: fit(stop=1e-6), TypeError, "stop: found float"),
    "params structure": (lambda: fit(params=(1, 2)), TypeError, "params: found"),
    "params shape": (
        lambda: fit(params=start()._replace(weights=np.ones(3) / 3)), ValueError, r"params.weights: found shape \(3,\)",
    ),
    "params sum": (lambda: fit(params=start()._replace(weights=np.ones(2))), ValueError, "params.weights: must hold numbers >= 0"),
    "params not PD": (
        lambda: fit(params=start()._replace(components=start().components._replace(covariance=-np.stack([np.eye(2)] * 2)))),
        ValueError, "params.components.covariance: must hold symmetric positive definite",
    ),
    "batch empty": (lambda: jaxem.fit_batch(Mixture(Gaussian(), 2), [], key=0), ValueError, "datasets: give a sequence"),
    "batch columns": (
        lambda: jaxem.fit_batch(Mixture(Gaussian(), 2), [GOOD, GOOD[:, :1]], key=0), ValueError, r"datasets\[1\]: found 1 columns",
    ),
    "batch bad set": (
        lambda: jaxem.fit_batch(Mixture(Gaussian(), 2), [GOOD, with_cell(np.inf)], key=0), ValueError, r"datasets\[1\]: 1 infinite",
    ),
    "batch weights": (
        lambda: jaxem.fit_batch(Mixture(Gaussian(), 2), [GOOD, GOOD], key=0, weights=[np.ones(20)]),
        ValueError, "weights: found 1 for 2",
    ),
    "vector": (lambda: Mixture(Gaussian(), 2).from_unconstrained(np.zeros(7)), ValueError, "vector: 7 coordinates"),
    "sample n": (lambda: Mixture(Gaussian(), 2).sample(0, start(), 0), ValueError, "n: found 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message(name, monkeypatch):
    call, error, message = CASES[name]
    if "params" in name or name == "sample n":
        start()
    with pytest.raises(error, match=message):
        call()


def test_nothing_compiles_before_the_error():
    segment = jaxem.lanes.segment
    before = segment._cache_size()
    with pytest.raises(ValueError, match="weights"):
        fit(np.random.default_rng(0).normal(size=(33, 5)), weights=np.zeros(33))
    assert segment._cache_size() == before


def test_frames_lists_and_columns_are_taken():
    model = Mixture(Gaussian(), 2)
    frame = pd.DataFrame(GOOD, columns=["a", "b"])
    frame.loc[2, "a"] = None
    data = jaxem.prepare(model, frame)
    assert data.columns == ("a", "b")
    assert data.has_missing
    params = model.init(0, data)
    array = frame.to_numpy()
    for other in (array, array.tolist(), jax.numpy.asarray(array), frame.convert_dtypes()):
        assert model.log_likelihood(params, other) == model.log_likelihood(params, data)
    column = Mixture(Gaussian(), 2)
    one = column.init(0, GOOD[:, 0])
    assert one.components.mean.shape == (2, 1)
    assert column.log_likelihood(one, GOOD[:, 0]) == column.log_likelihood(one, GOOD[:, :1])


def test_integers_and_booleans_become_floats():
    counts = np.random.default_rng(0).integers(0, 9, size=(30, 2))
    assert jaxem.prepare(Single(Gaussian()), counts).dtype == np.float64
