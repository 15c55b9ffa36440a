"""Mixed tables: Gaussian, Poisson and categorical columns side by side, with holes; the oracle adds up those of the families."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from table import K, Row, one_state

from cases import categorical, gaussian, poisson
from jaxem import Categorical, GammaPrior, Gaussian, Mixture, MixturePrior, NormalInverseWishart, Poisson, Product, Single


def simulate(n, seed=0):
    """Each group has holes of its own; groups are independent, so that states overlap."""
    return {
        "size": gaussian.simulate(n, seed)[:, :2],
        "visits": poisson.simulate(n, seed + 1)[:, :2],
        "ward": categorical.simulate(n, seed + 2)[:, :3],
    }


def start():
    return {
        "size": gaussian.marginal("full")(gaussian.start("full"), np.arange(2)),
        "visits": poisson.drop_columns(poisson.start(), np.arange(2)),
        "ward": categorical.marginal(categorical.start(), np.arange(3)),
    }


def oracle(params, data):
    parts = {"size": gaussian.oracle("full"), "visits": poisson.ORACLE, "ward": categorical.ORACLE}
    return sum(parts[name](params[name], data[name]) for name in parts)


FAMILY = Product(size=Gaussian(), visits=Poisson(), ward=Categorical((3, 2, 3)))
WISHART = NormalInverseWishart(jnp.asarray([5.0, 6.0]), jnp.asarray(0.3), jnp.asarray(5.0), jnp.asarray([[2.0, 0.3], [0.3, 1.0]]))
PRIOR = MixturePrior(jnp.asarray(1.5), {"size": WISHART, "visits": GammaPrior(jnp.asarray(2.0), jnp.asarray(0.4))})
SINGLE = Single(FAMILY)
BASE = Row("mixture-product", Mixture(FAMILY, K), simulate, start, oracle, None, core=True)

ROWS = [
    BASE,
    replace(BASE, name="mixture-product-prior", model=Mixture(FAMILY, K, prior=PRIOR), core=False, slow=True),
    replace(BASE, name="single-product", model=SINGLE, start=lambda: one_state(start(), SINGLE), core=False, slow=True),
]
