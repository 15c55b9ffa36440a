"""How statistics are gathered and params moved: one file an algorithm."""

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.em import em

__all__ = ["Algorithm", "Info", "em"]
