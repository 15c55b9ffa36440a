"""How statistics are gathered and params moved: one file an algorithm."""

from typing import Any

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.em import em

__all__ = ["Algorithm", "Info", "algorithm_for", "em"]


def algorithm_for(model: Any) -> Algorithm:
    """What `fit` runs where no algorithm is asked for: `em()`."""
    del model
    return em()
