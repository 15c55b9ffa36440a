"""Which restarts of a fit reached what was returned."""

from __future__ import annotations

import numpy as np

from jaxem.result import Fit, Status

SAME = 1e-3  # log-likelihoods that differ by less stand for the same maximum


def reached_best(fit: Fit) -> np.ndarray:
    """(R,) bool: restarts whose status and log-likelihood (within 0.001 or rounding) are those of the one returned."""
    values, best = np.asarray(fit.restart_log_likelihoods), float(fit.log_likelihood)
    with np.errstate(invalid="ignore"):  # of two that are infinite nothing is said
        apart = np.abs(values - best)
    close = apart <= max(SAME, 32 * float(np.finfo(values.dtype).eps) * abs(best))
    ended_well = np.isin(np.asarray(fit.restart_statuses), (Status.CONVERGED, Status.MAX_STEPS))
    return close & (ended_well | (np.asarray(fit.restart_statuses) == int(fit.status)))


def returned_restart(fit: Fit) -> int:
    """Which restart was returned: the first of exactly its status and log-likelihood, or -1 where that was improved upon."""
    same = np.asarray(fit.restart_log_likelihoods) == np.asarray(fit.log_likelihood)
    same &= np.asarray(fit.restart_statuses) == int(fit.status)
    return int(np.argmax(same)) if same.any() else -1
