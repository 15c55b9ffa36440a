"""States of a fitted model of time as a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxem.parameters import number, text_table


def state_table(model: Any, params: Any, data: Any) -> str:
    """Each state's share of the steps (smoothed), how many it takes on the likeliest paths, how long it lasts, where it is left to.

    Where transitions change from step to step, their average over the steps is told.
    """
    share = np.asarray(model.smooth(params, data)).mean(axis=0)
    path = np.asarray(model.viterbi(params, data))
    transition = average_transition(model, params, data)
    rows = []
    for k in range(model.n_states):
        moves = transition[k].copy()
        stay = moves[k]
        moves[k] = -1
        to = int(moves.argmax())
        onward = f"{to} ({moves[to] / (1 - stay):.2f})" if model.n_states > 1 and stay < 1 else "none"
        lasts = number(1 / (1 - stay)) if stay < 1 else "for ever"
        rows.append([str(k), f"{share[k]:.3f}", str(int((path == k).sum())), lasts, onward])
    return text_table(["state", "share of steps", "steps of the likeliest path", "expected duration", "mostly left to"], rows)


def average_transition(model: Any, params: Any, data: Any) -> np.ndarray:
    """(K, K) probabilities of the transitions; where they change, expected pairs of states, brought to sum to 1 by row."""
    if hasattr(params, "transition"):
        return np.asarray(params.transition, np.float64)
    pairs = np.asarray(model.pairwise(params, data), np.float64)
    total = pairs.sum(axis=1, keepdims=True)
    return np.where(total > 0, pairs / np.where(total > 0, total, 1), np.eye(len(pairs)))
