"""Rows of state space models: series of four steps, with the joint normal of all cells of a series as the oracle."""

import numpy as np
from table import Row, with_holes

from jaxem import StateSpace, StateSpaceParams

T = 4
NAN = np.nan


def dense(params, u=None, steps=T):
    """Mean and covariance of (x_1..T, y_1..T) of one series, written down step by step."""
    a, q, c, r = (np.asarray(params[i], np.float64) for i in range(4))
    m0, p0 = np.asarray(params.initial_mean, np.float64), np.asarray(params.initial_covariance, np.float64)
    n, d = len(a), len(c)
    steps = steps if u is None else len(u)
    # each x_t and y_t as a linear map of (x_1, w_1.., v_1..)
    size = n + steps * (n + d)
    noise = np.zeros((size, size))
    noise[:n, :n] = p0
    xs, ys, mean_x, mean_y = [], [], [], []
    state, mean = np.zeros((n, size)), m0.copy()
    state[:, :n] = np.eye(n)
    for t in range(steps):
        w, v = n + t * (n + d), n + t * (n + d) + n
        noise[w : w + n, w : w + n], noise[v : v + d, v : v + d] = q, r
        seen = c @ state
        seen[:, v : v + d] += np.eye(d)
        xs.append(state)
        ys.append(seen)
        mean_x.append(mean)
        mean_y.append(c @ mean + (0 if u is None else params.observation_input @ u[t]))
        state = a @ state
        state[:, w : w + n] += np.eye(n)
        mean = a @ mean + (0 if u is None else params.transition_input @ u[t])
    whole = np.concatenate([*xs, *ys])
    return np.concatenate([*mean_x, *mean_y]), whole @ noise @ whole.T


def normal(y, mean, covariance):
    """log N(y) over the observed cells."""
    seen = ~np.isnan(y)
    if not seen.any():
        return 0.0
    s = covariance[np.ix_(seen, seen)]
    e = (y - mean)[seen]
    return -0.5 * (seen.sum() * np.log(2 * np.pi) + np.linalg.slogdet(s)[1] + e @ np.linalg.solve(s, e))


def total(params, data):
    """(S,) log-likelihoods of series of one length."""
    y, u = getattr(data, "y", data), getattr(data, "u", None)
    out = []
    for i, series in enumerate(y):
        mean, covariance = dense(params, None if u is None else u[i])
        begin = series.shape[0] * len(params.initial_mean)
        out.append(normal(series.ravel(), mean[begin:], covariance[begin:, begin:]))
    return np.array(out)


def simulate(params, holes=0.1):
    """(n, T, d) series of the model itself."""

    def draw(n, seed=0):
        mean, covariance = dense(params)
        begin = T * len(params.initial_mean)
        rng = np.random.default_rng(seed)
        values, vectors = np.linalg.eigh(covariance[begin:, begin:])
        root = vectors * np.sqrt(np.maximum(values, 0))
        flat = mean[begin:] + rng.normal(size=(n, len(root))) @ root.T
        return with_holes(flat, holes, seed).reshape(n, T, -1)

    return draw


FACTORS = StateSpaceParams(
    transition=np.array([[0.7, 0.2], [-0.1, 0.5]]),
    transition_noise=np.eye(2),
    observation=np.array([[1.5, 0.3], [0.4, 1.1]]),
    observation_noise=np.array([[0.8, 0.3], [0.3, 0.6]]),
    initial_mean=np.array([0.5, -0.3]),
    initial_covariance=np.array([[1.5, 0.2], [0.2, 0.9]]),
)
TREND = StateSpaceParams(  # the level has no noise of its own
    transition=np.array([[1.0, 1.0], [0.0, 1.0]]),
    transition_noise=np.diag([0.0, 0.3]),
    observation=np.array([[1.0, 0.0]]),
    observation_noise=np.array([[0.7]]),
    initial_mean=np.array([2.0, 0.5]),
    initial_covariance=np.array([[2.0, 0.1], [0.1, 0.5]]),
)

ROWS = [
    Row(
        "state-space-factors",
        StateSpace(2, 2, fixed={"transition_noise": np.eye(2)}),
        simulate(FACTORS), lambda: FACTORS, None, total=total, slow=True,
    ),
    Row(
        "state-space-trend",
        StateSpace(
            2, 1, fixed={"transition": TREND.transition, "observation": TREND.observation, "transition_noise": [[0, 0], [0, NAN]]}
        ),
        simulate(TREND), lambda: TREND, None, total=total,
    ),
]  # fmt: skip
