"""What is read off a state space model: states given the data, steps to come, draws, missing cells."""

from __future__ import annotations


class StateSpaceReadings:
    """Methods of a fitted model."""
