"""What the regimes of a series are like, as a table."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxem.parameters import number, text_table


class RegimeTable(NamedTuple):
    """K regimes side by side."""

    level: Any  # (K,) mean of y in the regime
    deviation: Any  # (K,) standard deviation of the shocks
    duration: Any  # (K,) expected number of steps in a row
    share: Any  # (K,) mean smoothed probability over the steps of the data
    stationary: Any  # (K,) long-run probability

    def __str__(self):
        names = {
            "level": "level",
            "deviation": "sd of shocks",
            "duration": "expected duration",
            "share": "share of steps",
            "stationary": "long-run probability",
        }
        rows = [[title, *(number(float(value)) for value in getattr(self, name))] for name, title in names.items()]
        return text_table(["regime", *(str(k) for k in range(len(self.level)))], rows)
