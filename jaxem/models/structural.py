"""State space models that have names: `StateSpace` with blocks held."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxem.checks import check_count
from jaxem.models.state_space import StateSpace

NAN = np.nan


def local_level(*, initial: str = "diffuse", fixed: Any = None, parallel: bool | None = None) -> StateSpace:
    """A level that wanders, seen through noise: y_t = level_t + v_t, level_{t+1} = level_t + w_t (a random walk plus noise).

    Free are the variances of w (`transition_noise`) and v (`observation_noise`); the start is diffuse.

    Args:
        initial: "diffuse", or "free".
        fixed: further params to hold, as for `StateSpace`, for instance a given start with initial="free".
        parallel: as for `StateSpace`.

    Example:
        >>> found = fit(local_level(), nile)
        >>> level = local_level().smooth(found.params, nile)
    """
    own = {"transition": 1.0, "observation": 1.0}
    return StateSpace(1, 1, initial=initial, fixed=own | dict(fixed or {}), parallel=parallel)


def local_linear_trend(
    *, smooth: bool = False, initial: str = "diffuse", fixed: Any = None, parallel: bool | None = None
) -> StateSpace:
    """A level whose slope wanders too: level_{t+1} = level_t + slope_t + w_1t, slope_{t+1} = slope_t + w_2t (Harvey 1989, ch. 2).

    States are level and slope. Free are the variances of both noises and of the observation's.

    Args:
        smooth: hold the level's own noise at 0 (the integrated random walk, whose smoothed level is a cubic spline).
        initial, fixed, parallel: as for `local_level`.
    """
    own = {
        "transition": [[1.0, 1.0], [0.0, 1.0]],
        "transition_noise": [[0.0 if smooth else NAN, 0.0], [0.0, NAN]],
        "observation": [[1.0, 0.0]],
    }
    return StateSpace(2, 1, initial=initial, fixed=own | dict(fixed or {}), parallel=parallel)


def dynamic_factor(n_outputs: int, factors: int, *, fixed: Any = None, parallel: bool | None = None) -> StateSpace:
    """d outputs moved by q factors that follow a vector autoregression, each with a noise of its own:

        y_t = C f_t + v_t, f_{t+1} = A f_t + w_t, with w ~ N(0, I), v ~ N(0, diag(R)), f_1 ~ N(0, I).

    Data should have mean 0 by column, or nearly. What is left of the factors' coordinates is settled by a lower triangular top
    of C (Geweke 1977); the signs of its diagonal stay as the start has them.

    Args:
        n_outputs: d.
        factors: 1 <= q <= d.
        fixed, parallel: as for `local_level`.
    """
    d, q = check_count(n_outputs, "n_outputs"), check_count(factors, "factors")
    if q > d:
        raise ValueError(f"factors: found {q} for {d} outputs; give at most {d}.")
    own = {
        "transition_noise": np.eye(q),
        "observation": np.where(np.triu(np.ones((d, q)), 1) > 0, 0.0, NAN),
        "observation_noise": np.where(np.eye(d) > 0, NAN, 0.0),
        "initial_mean": 0.0,
        "initial_covariance": np.eye(q),
    }
    return StateSpace(q, d, fixed=own | dict(fixed or {}), parallel=parallel)
