"""How the discrete states are tied together: one file a model."""

from jaxem.models.mixture import Mixture, MixtureParams
from jaxem.models.single import Single

__all__ = ["Mixture", "MixtureParams", "Single"]
