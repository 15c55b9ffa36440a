"""Eight devices give the numbers of one."""

import jax
import numpy as np
import pytest
from cases.gaussian import ROWS, simulate
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from table import some

import jaxem
from jaxem import Gaussian, Mixture, Stop


def sharding():
    return NamedSharding(Mesh(np.array(jax.devices("cpu")[:8]), ("rows",)), PartitionSpec("rows"))


def close(a, b, rtol=1e-12):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * max(np.abs(y).max(), 1e-300))


@pytest.mark.parametrize("row", [r for r in ROWS if "prior" not in r.name], ids=lambda r: r.name)
def test_e_step(row):
    y, params, w = row.data("float64"), row.params("float64"), row.weights("float64")
    one = jaxem.prepare(row.model, y, weights=w)
    many = jaxem.prepare(row.model, y, weights=w, sharding=sharding())
    close(row.model.e_step(params, many), row.model.e_step(params, one))
    close(row.model.log_likelihood(params, many), row.model.log_likelihood(params, one))
    close(row.model.log_likelihood(params, many, per_row=True), row.model.log_likelihood(params, one, per_row=True))


@pytest.mark.parametrize("holes", some([0.0, 0.3], [0.3]))
def test_fit(holes):
    """Wide and narrow blocks, all dealt over the devices; weights given afterwards."""
    y = simulate(6000, holes=holes)
    model, w = Mixture(Gaussian(), 3), np.random.default_rng(0).random(6000)
    start = model.init(0, y)
    fits = [
        jaxem.fit(model, jaxem.prepare(model, y, sharding=s), params=start, weights=w, stop=Stop(max_steps=8))
        for s in (None, sharding())
    ]
    assert int(fits[0].steps) == int(fits[1].steps)
    close(fits[1].params, fits[0].params, 1e-11)
    close(fits[1].log_likelihood, fits[0].log_likelihood)


def test_explicit_mesh_is_taken():
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Explicit,), devices=jax.devices("cpu")[:4])
    y = simulate(100)
    model = Mixture(Gaussian(), 3)
    data = jaxem.prepare(model, y, sharding=NamedSharding(mesh, PartitionSpec("rows")))
    params = model.init(0, y)
    close(model.e_step(params, data), model.e_step(params, y))


@pytest.mark.parametrize(
    ("bad", "error"),
    [("rows", TypeError), (NamedSharding(Mesh(np.array(jax.devices("cpu")[:2]), ("rows",)), PartitionSpec()), ValueError)],
)
def test_bad_sharding(bad, error):
    with pytest.raises(error, match="sharding"):
        jaxem.prepare(Mixture(Gaussian(), 3), simulate(50), sharding=bad)
