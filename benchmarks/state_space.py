"""Kalman smoother of one series of 10,000 steps and 4 states against dynamax and statsmodels, on the same data.

    python benchmarks/state_space.py [--steps 10000] [--parallel]

Peers that are not installed are left out. Every figure is the median of repeated calls after the first; all in float64.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

import jaxem
from jaxem import StateSpace, StateSpaceParams

REPEATS = 9


def truth() -> StateSpaceParams:
    """Four states that last differently long, seen through two outputs."""
    rng = np.random.default_rng(0)
    return StateSpaceParams(
        transition=np.diag([0.95, 0.8, 0.6, 0.3]) + 0.05 * rng.normal(size=(4, 4)),
        transition_noise=np.eye(4),
        observation=rng.normal(size=(2, 4)),
        observation_noise=np.array([[0.8, 0.2], [0.2, 0.5]]),
        initial_mean=np.zeros(4),
        initial_covariance=np.eye(4),
    )


def median(call: Callable[[], Any]) -> float:
    """Milliseconds of a call, the first one left out."""
    jax.block_until_ready(call())
    spent = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(call())
        spent.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(spent))


def peers(params: StateSpaceParams, y: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Smoothers of what is installed."""
    found: dict[str, Callable[[], Any]] = {}
    try:
        from dynamax.linear_gaussian_ssm import LinearGaussianSSM, lgssm_smoother

        model = LinearGaussianSSM(4, 2)
        theirs, _ = model.initialize(
            jax.random.key(0), initial_mean=params.initial_mean, initial_covariance=params.initial_covariance,
            dynamics_weights=params.transition, dynamics_covariance=params.transition_noise,
            emission_weights=params.observation, emission_covariance=params.observation_noise,
        )  # fmt: skip
        found["dynamax"] = partial(jax.jit(lgssm_smoother), theirs, y)
    except ImportError:
        pass
    try:
        from statsmodels.tsa.statespace.mlemodel import MLEModel

        other = MLEModel(y, k_states=4)
        names = {
            "transition": "transition",
            "state_cov": "transition_noise",
            "design": "observation",
            "obs_cov": "observation_noise",
        }
        for theirs, ours in names.items():
            other[theirs] = getattr(params, ours)
        other["selection"] = np.eye(4)
        other.initialize_known(params.initial_mean, params.initial_covariance)
        found["statsmodels"] = other.ssm.smooth
    except ImportError:
        pass
    return found


def main() -> None:
    """Prints one line a smoother."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--parallel", action="store_true")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    params, model = truth(), StateSpace(4, 2, parallel=options.parallel)
    y = np.asarray(model.sample(0, params, options.steps))
    rows = jaxem.prepare(model, y)
    ours = {"jaxem smooth": lambda: model.smooth(params, rows), "jaxem E-step": lambda: model.e_step(params, rows)}
    for name, call in {**ours, **peers(params, y)}.items():
        print(f"{name:14s} {median(call):9.1f} ms", flush=True)


if __name__ == "__main__":
    main()
