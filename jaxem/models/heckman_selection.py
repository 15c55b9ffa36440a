"""Heckman's sample selection model: responses that are missing because of what they would have been."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax

from jaxem.data import rows_for
from jaxem.families.selected_regression import SelectedRegression
from jaxem.models.single import Single, _e_step, _log_likelihood

__all__ = ["HeckmanSelection", "_e_step", "_log_likelihood"]


@dataclasses.dataclass(frozen=True)
class HeckmanSelection(Single):
    r"""y = coefficients . x + intercept + e, seen only where selection . (z, 1) + v > 0, (e, v) normal with correlation rho.

    A model of missing *not* at random: where rho is not 0, a regression of the responses that are there is biased, and so is
    every method that ignores why the others are not. Params: coefficients (p,), intercept (), variance (), correlation (),
    selection.coefficients (g,), selection.intercept (). With correlation held at 0 (`fixed={"correlation": 0.0}`) it is the
    ignorable model, against which a likelihood ratio tests it; so close to not identified does it become without a column in z
    that is not in x that the intervals tell little.

    EM takes the latent selection as missing data (Heckman 1979, Econometrica 47:153; the M-step maximises both equations
    together). It is slow where little is told of the correlation; `squarem()` or `lbfgs()` come to the same maximum sooner.

    Data: `Regression(y, x, gate=z)`, y NaN where nothing was selected, or (n, 2) beside an indicator: see
    `jaxem.SelectedRegression`, of which this is the `Single`.

    Args:
        fixed: as for `Single`.

    Example:
        >>> model = HeckmanSelection()
        >>> found = fit(model, Regression(wage, schooling, gate=reasons), algorithm=squarem())
        >>> found.params.correlation
    """

    family: Any = dataclasses.field(default_factory=SelectedRegression, kw_only=True, repr=False)

    names_itself: ClassVar[bool] = True  # in reports, which then leave the family out

    def impute(self, params: Any, data: Any, covariance: bool = False) -> Any:
        """E[y] of every row, (n, 1), given that it was selected or not; responses as they are."""
        return super().impute(params, rows_for(self, params, data), covariance)


jax.tree_util.register_dataclass(HeckmanSelection, data_fields=("family", "prior", "fixed"), meta_fields=())
