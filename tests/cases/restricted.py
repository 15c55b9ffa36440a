"""Params shared by name: the same laws, on the coordinates that are left."""

import numpy as np
from table import K, Row

from cases import gaussian, poisson
from jaxem import Gaussian, Mixture, Poisson


def shared_covariance():
    params = gaussian.start("full")
    return params._replace(covariance=np.broadcast_to(params.covariance.mean(axis=0), params.covariance.shape))


def shared_rate():
    rate = poisson.start().rate
    return poisson.start()._replace(rate=np.column_stack([np.full(K, 4.0), rate[:, 1:]]))


ROWS = [
    Row(
        "mixture-full-by-name-tied", Mixture(Gaussian(), K, tied=("covariance",)), gaussian.simulate, shared_covariance,
        gaussian.oracle("full"), gaussian.marginal("full"), slow=True,
    ),
    Row(
        "mixture-poisson-by-name-tied", Mixture(Poisson(), K, tied={"rate": [0]}), poisson.simulate, shared_rate, poisson.ORACLE,
        None,
    ),
]  # fmt: skip
