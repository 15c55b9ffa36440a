"""Every algorithm on every model: what it guarantees holds, or it says why it cannot be.

The short run takes one model, the long one a model for each algorithm in turn, the thorough one all of them.
"""

import jax
import numpy as np
import pytest
from algorithms import TABLE
from table import N, collect

from jaxem import Status, Stop, fit, prepare

FIRST = "mixture-poisson"


def cases():
    rows = collect()
    core = [row for row in rows if row.core and row.name != FIRST]
    for number, entry in enumerate(TABLE):
        turn = core[number % len(core)].name
        for row in rows:
            mark = pytest.mark.slow if row.name == turn else pytest.mark.thorough
            if row.name == FIRST and entry.quick:
                mark = ()
            yield pytest.param(entry, row, id=f"{entry.name}-{row.name}", marks=mark)


@pytest.mark.parametrize(("entry", "row"), list(cases()))
def test_guarantee(entry, row):
    y, params = row.data("float64"), row.params("float64")
    stop = Stop(tolerance=0.0, max_steps=entry.steps)
    why = entry.refuses(row.model)
    if why is not None:
        with pytest.raises((TypeError, ValueError), match=why):
            fit(row.model, y, params=params, algorithm=entry.algorithm, stop=stop)
        return
    found = fit(row.model, y, params=params, algorithm=entry.algorithm, stop=stop, key=5)
    assert found.status in (Status.CONVERGED, Status.MAX_STEPS), found.explain()
    assert np.isfinite(found.objective)
    history = np.asarray(found.history)
    history = history[~np.isnan(history)]
    assert len(history) >= 2
    if entry.guarantee == "monotone":
        magnitude = float(row.model.magnitude(params, prepare(row.model, y)))
        slack = 32 * row.eps("float64") * (np.abs(history[-1]) + N * magnitude)
        assert (np.diff(history) >= -slack).all()
    else:
        again = fit(row.model, y, params=params, algorithm=entry.algorithm, stop=stop, key=5)
        jax.tree.map(np.testing.assert_array_equal, found.params, again.params)
