"""Factor analysis and probabilistic principal components: one Gaussian of few factors, rotations of them, and their scores."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc

from jaxem import reduce
from jaxem.checks import is_traced
from jaxem.data import cut_rows, rows_for
from jaxem.families.factor_gaussian import FactorGaussian
from jaxem.kernels import factor
from jaxem.kernels.linalg import apply, matmul, transpose
from jaxem.kernels.moments import centre
from jaxem.models.single import Single
from jaxem.rotation import Rotation, check_rotation, rotate
from jaxem.rows import Rows, Table


class FactorScores(NamedTuple):
    """Posterior of the factors of each row given its observed cells: a normal."""

    mean: Any  # (n, q), known as regression or Thomson's scores
    covariance: Any  # (n, q, q); the same in every row without missing cells


class FactorTest(NamedTuple):
    """Likelihood ratio of the factors against any covariance."""

    statistic: float  # chi-squared with df degrees of freedom, if the factors suffice and rows are many
    df: int
    p: float  # tail probability; NaN where df is 0
    discrepancy: float  # log|Sigma| + tr(Sigma^-1 S) - log|S| - d, what the statistic is n (corrected) times of
    n: float  # sum of weights

    def __str__(self):
        text = f"chi-squared {self.statistic:.4f} on {self.df} degrees of freedom"
        return f"{text}, p = {self.p:.4g} (small where the factors do not suffice)" if self.df else text


@dataclasses.dataclass(frozen=True)
class FactorAnalysis(Single):
    r"""y = mean + L f + e with q independent standard normal factors f and independent e_j ~ N(0, psi_j) (Lawley 1940).

    Params: mean (d,), loadings (d, q), uniquenesses (d,). A fit that finds its own start gives the loadings in their canonical
    rotation, L' Psi^-1 L diagonal, largest first; `rotate` gives others. Data, missing cells, cost, bounds and Heywood cases:
    see `FactorGaussian`, of which this is the `Single`.

    Args:
        q: factors, at most as many as d columns identify: (d - q)^2 >= d + q (Ledermann 1937).
        rotation: None, or the name of one in `jaxem.rotation` ("varimax", "quartimax", "promax", "oblimin"), in which reports,
            pictures, `rotate` and `scores` show the factors. Params and the fit do not depend on it.
        fixed: as for `Single`.

    Raises:
        TypeError, ValueError: q not a whole number >= 1, an unknown rotation; and with the data, too many factors for them.

    Example:
        >>> model = FactorAnalysis(2, rotation="oblimin")
        >>> found = fit(model, y)
        >>> print(model.rotate(found.params))
        >>> mean, covariance = model.scores(found.params, y)
    """

    q: int
    rotation: str | None = None
    family: Any = dataclasses.field(default=None, kw_only=True, repr=False)

    isotropic: ClassVar[bool] = False
    names_itself: ClassVar[bool] = True  # in reports, which then leave the family out

    def __post_init__(self):
        check_rotation(self.rotation)
        if self.family is None:
            object.__setattr__(self, "family", FactorGaussian(self.q, self.isotropic))
        super().__post_init__()

    def rotate(self, params: Any, method: str | None = None, *, names: Any = None, **options: Any) -> Rotation:
        """The loadings of `params` rotated, with the rotation and the correlations of the factors.

        Args:
            params: of a fit.
            method: as `rotation` of the model, which is the default; "none" leaves the loadings as they are.
            names: of the d columns, for the table that `print` shows.
            options: of that function in `jaxem.rotation`, for instance normalize=True.

        Raises:
            TypeError, ValueError: as `jaxem.rotation.rotate`.
        """
        found = rotate(params.loadings, method or self.rotation or "none", **options)
        return found if names is None else found._replace(names=tuple(map(str, names)))

    def shown(self, params: Any) -> Any:
        return params if self.rotation is None else params._replace(loadings=self.rotate(params).loadings)

    def details(self, params: Any) -> dict[str, Any]:
        if self.rotation is None:
            return {}
        found = self.rotate(params)
        kept = {name: getattr(found, name) for name in ("loadings", "rotation", "correlations")}
        return {"rotated": {"method": found.method, **kept}}

    def scores(self, params: Any, data: Any) -> FactorScores:
        """Mean (n, q) and covariance (n, q, q) of the factors given the observed cells of each row.

        E[f | y] = G L' Psi^-1 (y - mean) and cov(f | y) = G = (I + L' Psi^-1 L)^-1 over the observed columns; a row without any
        has mean 0 and covariance I. The factors are those of `rotate(params)`.

        Raises:
            TypeError, ValueError: as the family's checks of its data; traced params or data where the model has a rotation.
        """
        rows = rows_for(self, params, data)
        mean, covariance = _scores(self.settle(params, rows), params, rows)
        if self.rotation is None:
            return FactorScores(mean, covariance)
        back = jnp.asarray(np.linalg.inv(np.asarray(self.rotate(params).rotation, np.float64)), mean.dtype)
        return FactorScores(matmul(mean, back.T), matmul(matmul(back, covariance), back.T))

    def test(self, params: Any, data: Any) -> FactorTest:
        """Whether q factors suffice: the likelihood ratio against a covariance of any form, of a fit to rows without holes.

        The statistic of factor analysis has Bartlett's correction, (n - 1 - (2 d + 5) / 6 - 2 q / 3) times the discrepancy
        (Bartlett 1950, as R's factanal); that of principal components is n times it.

        Raises:
            ValueError: missing cells, or a singular covariance.
        """
        rows = rows_for(self, params, data)
        if rows.has_missing:
            raise ValueError("data: have missing cells; fit Single(Gaussian()) too, and compare the log-likelihoods.")
        local = self.localize(params, rows)
        statistics, log_likelihood = local.e_step(params, rows)
        weight, _, scatter = centre(statistics, local.family.gaussian.frame)
        n, spread = float(weight[0]), np.asarray(scatter[0], np.float64) / float(weight[0])
        sign, volume = np.linalg.slogdet(spread)
        if sign <= 0 or not np.isfinite(volume):
            raise ValueError("data: have a singular covariance, against which there is no likelihood ratio.")
        d = rows.d
        discrepancy = -2 * float(log_likelihood) / n - d * math.log(2 * math.pi) - float(volume) - d
        df = d * (d + 1) // 2 + d - self.n_parameters(rows)
        times = n if self.isotropic else n - 1 - (2 * d + 5) / 6 - 2 * self.q / 3
        statistic = times * discrepancy
        p = float(gammaincc(df / 2, max(statistic, 0.0) / 2)) if df else math.nan
        return FactorTest(statistic, df, p, discrepancy, n)


@dataclasses.dataclass(frozen=True)
class ProbabilisticPCA(FactorAnalysis):
    r"""y = mean + L f + e with q factors and e ~ N(0, variance I): principal components with a likelihood.

    The columns of L span the q principal axes; `variance` is the mean of the other eigenvalues of the covariance (Tipping and
    Bishop 1999, JRSS-B 61:611). Params: mean (d,), loadings (d, q), variance (). In the canonical rotation, that of a fit which
    finds its own start, the columns of L are the axes themselves, each times the root of its eigenvalue less `variance`.

    Args:
        q: components, fewer than columns.
        rotation, fixed: as for `FactorAnalysis`.

    Raises:
        TypeError, ValueError: as `FactorAnalysis`; with the data, q >= d; in a fit, data without holes that are isotropic.
    """

    isotropic: ClassVar[bool] = True

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        table = self.family.read(y, weights)
        return cut_rows(self.family, table._replace(flaw=_isotropy(table, weights, self.q)), weights, 1, sharding)


for _kind in (FactorAnalysis, ProbabilisticPCA):
    jax.tree_util.register_dataclass(_kind, data_fields=("family", "prior", "fixed"), meta_fields=("q", "rotation"))


def _isotropy(table: Table, weights: Any, q: int) -> str | None:
    """What is wrong with concrete complete rows whose covariance singles out fewer than q directions, to rounding."""
    if is_traced((table, weights)) or table.has_missing:
        return table.flaw
    y = np.asarray(table.pilot, np.float64)
    mass = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    y = (y - mass @ y / mass.sum()) * np.sqrt(mass / mass.sum())[:, None]
    roots = np.linalg.eigvalsh(y.T @ y)[::-1]
    slack = 1e3 * float(np.finfo(table.pilot.dtype).eps) * roots[0]
    found = next((r for r in range(q) if roots[r] - roots[r:].mean() <= slack), q)
    if found == q:
        return table.flaw
    if found == 0:
        return "y: is isotropic, of the same variance in every direction, so that there are no axes; take Gaussian('spherical')."
    more = f"{found} direction{'s' * (found > 1)}"
    return f"y: has the same variance in every direction but {more}, which leave nothing for {q} components; give q <= {found}."


@jax.jit
def _scores(model: FactorAnalysis, params: Any, rows: Rows) -> tuple[jax.Array, jax.Array]:
    """The tower rule on the factors given all cells and the cells given the observed ones."""
    states = model._states(jax.tree.map(lambda leaf: jnp.asarray(leaf, rows.dtype), params))
    own = jnp.broadcast_to(model.family._uniquenesses(states), states.mean.shape)
    back, spread = (leaf[0] for leaf in factor.project(states.loadings, own))

    def visit(bound: Any, cells: Any, log_prob: jax.Array) -> Any:
        del log_prob
        mean, covariance, _ = model.family.complete(bound, cells, rows.origin)
        deviation = jnp.moveaxis(mean[:, 0] - states.mean[0][:, None], 1, -1)  # (c, b, d)
        covariance = covariance[:, 0] if covariance.ndim == 5 else covariance[:, 0][:, None]  # (c, b, d, d), or one for all b
        total = spread + matmul(matmul(back, covariance), transpose(back))
        total = jnp.broadcast_to(total, (*deviation.shape[:2], *spread.shape))
        return jnp.moveaxis(apply(back, deviation), 1, -1), jnp.moveaxis(total, 1, -1)

    return reduce.map_rows(model.family, states, rows, visit)
