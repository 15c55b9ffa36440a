"""Regressions with a location and a scale: Newton's method in coefficients / scale and 1 / scale."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.families.predictor_family import PredictorFamily
from jaxem.family import Remark
from jaxem.kernels import location_scale
from jaxem.kernels.design import Design
from jaxem.rows import Rows


class LocationScaleFamily(PredictorFamily):
    """Params `coefficients`, `intercept` and a last leaf that holds the scale of the errors, or their variance; (K, 0) where the
    scale is 1. `log_density` is told eta / scale and 1 / scale.
    """

    escape = "they lie where hardly any response can, as where nearly all are censored"
    squared: bool = False  # whether the last leaf is a variance

    def scale_of(self, params: Any) -> jax.Array:
        """(K,) or (K, 0) scale of the errors."""
        return jnp.sqrt(params[-1]) if self.squared else params[-1]

    def with_scale(self, coefficients: jax.Array, intercept: jax.Array, scale: jax.Array, like: Any) -> Any:
        """Params of the type of `like`."""
        return type(like)(coefficients, intercept, jnp.square(scale) if self.squared else scale)

    def coordinates(self, params: Any, design: Design) -> jax.Array:
        working, scale = self.working(params, design), self.scale_of(params)
        return working if scale.ndim > 1 else location_scale.to_ratios(working, scale)

    def params_at(self, theta: jax.Array, design: Design, like: Any) -> Any:
        working, scale = (theta, like[-1]) if like[-1].ndim > 1 else location_scale.from_ratios(theta)
        coefficients, intercept = self.given(working, design, like.intercept.ndim == 1)
        return self.with_scale(coefficients, intercept, scale, like)

    def turn(self, design: Design, m: int) -> jax.Array:
        return super().turn(design, m) if m == len(design.lift) else location_scale.turn(design, m)

    def admissible(self, theta: jax.Array, step: jax.Array, design: Design) -> jax.Array:
        if theta.shape[-1] == len(design.lift):
            return jnp.ones_like(theta[:, 0])
        return location_scale.admissible(theta, step)

    def degenerate(self, params: Any, rows: Rows) -> jax.Array:
        """States whose errors are lost in rounding, or whose coefficients run away, as where all responses are censored."""
        away, scale = self.runaway(params, rows), self.scale_of(params)
        return away if scale.ndim > 1 else away | self._exact(params, scale, rows)

    def _exact(self, params: Any, scale: jax.Array, rows: Rows, sooner: float = 1.0) -> jax.Array:
        """(K,) bool: whether the errors are lost in rounding. Second derivatives lose the square of scale / size."""
        reach, eps = self.reach(params, rows), jnp.finfo(rows.dtype).eps
        return ~(scale > sooner * jnp.maximum(4 * jnp.sqrt(eps) * reach, eps * jnp.abs(rows.origin.centre)))

    def remarks(self, params: Any, rows: Rows) -> list[Remark]:
        scale = self.scale_of(params)
        out = super().remarks(params, rows)
        if scale.ndim == 1:
            fitted = np.flatnonzero(np.asarray(self._exact(params, scale, rows, 8.0)))
            sentence = "the responses are fitted exactly: the scale of the errors has no maximum above 0."
            out += [Remark(int(k), sentence) for k in fitted]
        return out

    def magnitude(self, params: Any, rows: Rows) -> jax.Array:
        reach, scale = self.reach(params, rows), self.scale_of(params)
        return 1 + (reach if scale.ndim > 1 else reach / scale).max()
