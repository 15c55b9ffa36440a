"""A fixed point is one: from the maximum that EM found every deterministic algorithm stays there and says so at once."""

import jax
import numpy as np
import pytest
from algorithms import TABLE
from cases import poisson

from jaxem import Status, Stop, em, fit

ROW = next(row for row in poisson.ROWS if row.name == "mixture-poisson")
QUICK = ("squarem", "accelerated", "ecm")
STEPS = 10  # of an algorithm until it sees that nothing moves: three objectives for Aitken's estimate, three stalls
OTHERS = ("classification_em", "variational")  # what they maximise is not the likelihood
MONOTONE = [entry for entry in TABLE if entry.guarantee == "monotone" and entry.name not in OTHERS]


@pytest.fixture(scope="module")
def maximum():
    """The maximum near the row's params, to the last digits."""
    y = ROW.data("float64")
    found = fit(ROW.model, y, params=ROW.params("float64"), algorithm=em(), stop=Stop(tolerance=0.0, max_steps=20000))
    return y, found


@pytest.mark.parametrize(
    "entry", [pytest.param(entry, id=entry.name, marks=[] if entry.name in QUICK else pytest.mark.slow) for entry in MONOTONE]
)
def test_stays_at_the_maximum(entry, maximum):
    y, at = maximum
    found = fit(ROW.model, y, params=at.params, algorithm=entry.algorithm, stop=Stop(tolerance=1e-8, max_steps=100), key=1)
    assert found.status == Status.CONVERGED, found.explain()
    assert found.steps <= STEPS
    np.testing.assert_allclose(found.objective, at.objective, atol=1e-8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-8), found.params, at.params)
