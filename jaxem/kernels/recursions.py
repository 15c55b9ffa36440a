"""Which recursion runs over a Markov chain: step by step, or parallel in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxem.kernels import chain, parallel_chain
from jaxem.kernels.chain import Chain

RECURSIONS = ("auto", "sequential", "checkpointed", "parallel")
KEPT = 1 << 21  # numbers of a (T, K, B) array from which on "auto" keeps checkpoints alone


class Recursions(NamedTuple):
    """What runs over a `jaxem.kernels.chain.Chain`; see there."""

    smooth: Callable
    log_norms: Callable
    filtered: Callable
    likeliest: Callable
    draw: Callable


def recursions_of(recursion: str) -> Recursions:
    """Those that `recursion` names."""

    def pick(name: str) -> Callable:
        def run(links: Chain, *rest: Any) -> Any:
            module = parallel_chain if runs_parallel(recursion, *links.emission.shape) else chain
            return getattr(module, name)(links, *rest)

        return run

    return Recursions(pick("smooth"), pick("log_norms"), pick("filtered"), chain.likeliest, chain.draw)


def runs_parallel(recursion: str, steps: int, n_states: int, lanes: int) -> bool:
    """Where it is left open: on an accelerator, with many steps and memory for two matrices a step."""
    if recursion != "auto":
        return recursion == "parallel"
    return jax.default_backend() != "cpu" and steps >= 64 and steps * lanes * n_states**2 <= 1 << 27


def keeps_checkpoints(recursion: str, steps: int, n_states: int, lanes: int) -> bool:
    """Whether the forward pass is computed again where it is needed, rather than kept."""
    return recursion == "checkpointed" or (recursion == "auto" and steps * n_states * lanes > KEPT)


def check_recursion(recursion: object) -> None:
    """Raises ValueError unless there is such a recursion."""
    if recursion not in RECURSIONS:
        raise ValueError(f"recursion: found {recursion!r}; give one of {', '.join(map(repr, RECURSIONS))}.")
