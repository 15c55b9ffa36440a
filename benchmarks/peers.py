"""One E-step and one M-step of other libraries, from the same start. Each maker returns a call that gives the log-likelihood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from common import Problem, optional
from sklearn.mixture import GaussianMixture

TINY = 1e-12  # scikit-learn's reg_covar


def scikit_learn(given: Problem, dtype: Any = np.float64) -> Callable[[], float]:
    """Its own private E-step and M-step, without the checks around them."""
    y = np.ascontiguousarray(given.y, dtype)
    weights, means, covariances = (np.asarray(leaf, dtype) for leaf in given[1:])
    model = GaussianMixture(len(weights), reg_covar=TINY)
    whiteners = np.linalg.inv(np.linalg.cholesky(covariances.astype(np.float64))).transpose(0, 2, 1).astype(dtype)

    def call() -> float:
        model.weights_, model.means_, model.covariances_, model.precisions_cholesky_ = weights, means, covariances, whiteners
        mean, log_responsibilities = model._e_step(y)
        model._m_step(y, log_responsibilities)
        return float(mean) * len(y)

    return call


def scikit_learn_fit(given: Problem, steps: int) -> Callable[[], int]:
    """A public fit of so many iterations from the same start."""
    precisions = np.linalg.inv(given.covariances)
    start = {"weights_init": given.weights, "means_init": given.means, "precisions_init": precisions}
    model = GaussianMixture(len(given.weights), tol=0, reg_covar=TINY, max_iter=steps, **start)
    return lambda: model.fit(given.y).n_iter_


def gmmx(given: Problem) -> Callable[[], float] | None:
    """JAX, float32 only, on the default device."""
    module = optional("gmmx")
    if module is None:
        return None
    with jax.enable_x64(False):
        start = module.GaussianMixtureModelJax.from_squeezed(
            weights=np.asarray(given.weights, np.float32),
            means=np.asarray(given.means, np.float32),
            covariances=np.asarray(given.covariances, np.float32),
        )
        y = jax.numpy.asarray(given.y, np.float32)
        fitter = module.EMFitter(reg_covar=TINY)

        @jax.jit
        def move(y: Any, start: Any) -> tuple[Any, Any]:
            mean, log_responsibilities = fitter.e_step(y, start)
            return mean, fitter.m_step(y, start, log_responsibilities)

    def call() -> float:
        with jax.enable_x64(False):
            mean, _ = jax.block_until_ready(move(y, start))
        return float(mean) * len(given.y)

    return call


def pomegranate(given: Problem) -> Callable[[], float] | None:
    """PyTorch, float32, on the CPU. Its model moves on at each call."""
    torch = optional("torch")
    if torch is None or optional("pomegranate") is None:
        return None
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    y, weights, means, covariances = (torch.tensor(np.asarray(leaf, np.float32)) for leaf in given)
    states = [Normal(mean, covariance, "full") for mean, covariance in zip(means, covariances, strict=True)]
    model = GeneralMixtureModel(states, priors=weights)

    def call() -> float:
        log_likelihood = model.summarize(y)
        model.from_summaries()
        return float(log_likelihood)

    return call
