"""Models that a user writes: with a Newton M-step, exchangeable states and holes, or declared statistics; scipy enumerates."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm, poisson
from scipy import stats
from table import WEIGHTS, K, Row, with_holes

from cases.poisson import RATES
from jaxem import Latent
from jaxem.domains import Positive, Real, Simplex, Unit


def mixed(joint):
    return np.logaddexp.reduce(np.stack(joint), axis=0)


# counts with more zeros than a Poisson has: labels that mean something, params that are single numbers


def zip_joint(params, z, y):
    zero = jnp.log(params["zero"]) + jnp.where(y == 0, 0.0, -jnp.inf)
    count = jnp.log1p(-params["zero"]) + poisson.logpmf(y, params["rate"])
    return jnp.where(z == 0, zero, count)


def zip_simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.4, 0, rng.poisson(3.0, n)).astype(float)


def zip_total(params, y):
    y = np.nan_to_num(y)
    with np.errstate(divide="ignore"):
        zero = np.log(params["zero"]) + np.log(y == 0)
    return mixed([zero, np.log1p(-params["zero"]) + stats.poisson(params["rate"]).logpmf(y)])


# two normal columns with holes in K exchangeable states


class Bumps(NamedTuple):
    weights: Any  # (K,)
    mean: Any  # (K, 2)
    scale: Any  # (K,)


BUMPS = Bumps(WEIGHTS, np.array([[-2.0, 0.0], [2.0, 1.0], [0.0, 4.0]]), np.array([0.8, 1.0, 1.2]))


def bumps_joint(params, z, row, observed):
    each = norm.logpdf(row["y"], params.mean[z], params.scale[z])
    return jnp.log(params.weights[z]) + jnp.where(observed["y"], each, 0.0).sum()


def bumps_simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.choice(K, size=n, p=BUMPS.weights)
    return {"y": with_holes(BUMPS.mean[z] + BUMPS.scale[z, None] * rng.normal(size=(n, 2)), 0.2, seed)}


def bumps_total(params, data):
    each = stats.norm(params.mean[:, None], params.scale[:, None, None]).logpdf(data["y"])
    return mixed(np.log(params.weights)[:, None] + np.nansum(each, axis=-1))


# counts and a category, with the statistics and what is made of them written down


def declared_joint(params, z, row):
    code = row["code"].astype(int)
    return (
        jnp.log(params["weights"][z])
        + jnp.log(params["shares"][z, code])
        + poisson.logpmf(row["count"], params["rate"][z])
    )


def declared_statistics(z, row):
    state = jnp.arange(K) == z
    seen = row["code"].astype(int) == jnp.arange(3)
    base = poisson.logpmf(row["count"], 1.0)
    return {"rows": state, "codes": state[:, None] * seen, "counts": state * row["count"], "base": base}


def declared_maximize(sums):
    rows = sums["rows"]
    return {"weights": rows / rows.sum(), "shares": sums["codes"] / rows[:, None], "rate": sums["counts"] / rows}


def declared_expected(params, sums):
    logs = (sums["rows"] * jnp.log(params["weights"])).sum() + (sums["codes"] * jnp.log(params["shares"])).sum()
    return logs + (sums["counts"] * jnp.log(params["rate"]) - sums["rows"] * (params["rate"] - 1)).sum() + sums["base"]


SHARES = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.3, 0.5, 0.2]])


def declared_start():
    return {"weights": WEIGHTS, "shares": SHARES, "rate": 1.2 * RATES[:, 0]}


def declared_simulate(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.integers(K, size=n)
    code = (rng.random(n)[:, None] > SHARES[z].cumsum(axis=1)).sum(axis=1)
    return {"code": code.astype(float), "count": rng.poisson(RATES[z, 0]).astype(float)}


def declared_total(params, data):
    code, count = np.nan_to_num(data["code"]).astype(int), np.nan_to_num(data["count"])
    joint = np.log(params["weights"])[:, None] + np.log(params["shares"][:, code])
    return mixed(joint + stats.poisson(params["rate"][:, None]).logpmf(count))


ZIP = Latent(zip_joint, {"zero": Unit(), "rate": Positive()}, 2)
BUMPY = Latent(bumps_joint, Bumps(Simplex(), Real(), Positive()), K, start=BUMPS, exchangeable=True, missing=True)
DECLARED = Latent(
    declared_joint, {"weights": Simplex(), "shares": Simplex(), "rate": Positive()}, K, start=declared_start(), exchangeable=True,
    statistics=declared_statistics, maximize=declared_maximize, expected=declared_expected,
)  # fmt: skip
HELD = Latent(
    declared_joint, {"weights": Simplex(), "shares": Simplex(), "rate": Positive()}, K, start=declared_start(), exchangeable=True,
    tied=["shares"],
)  # fmt: skip


def tied_start():
    start = declared_start()
    return start | {"shares": np.broadcast_to(start["shares"].mean(axis=0), (K, 3)).copy()}


ROWS = [
    Row("latent-zip", ZIP, zip_simulate, lambda: {"zero": np.array(0.3), "rate": np.array(2.5)}, None, total=zip_total),
    Row("latent-bumps", BUMPY, bumps_simulate, lambda: BUMPS._replace(scale=1.1 * BUMPS.scale), None, total=bumps_total, slow=True),
    Row("latent-declared", DECLARED, declared_simulate, declared_start, None, total=declared_total),
    Row("latent-tied", HELD, declared_simulate, tied_start, None, total=declared_total, slow=True),
]
