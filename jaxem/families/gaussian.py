"""Gaussian rows: covariances that are full, tied, diagonal, spherical or share parts, any pattern of missing cells."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_matrix, check_weights, is_traced
from jaxem.conjugate import NormalInverseWisharts
from jaxem.coordinates import cast
from jaxem.data import moments_of
from jaxem.domains import Real
from jaxem.families import interval_gaussian
from jaxem.families.drawn_cells import DrawnCells
from jaxem.families.expected_family import shifted
from jaxem.families.gaussian_shapes import WORDS, Decomposition, Kind, decompose, kind_of
from jaxem.family import NOT_CONJUGATE, Family
from jaxem.inputs import Interval
from jaxem.kernels import cellwise, censored, dense
from jaxem.kernels.conditional import complete_draw
from jaxem.kernels.linalg import HIGHEST, apply, cholesky, invert_lower, matmul, outer
from jaxem.kernels.moments import Frame, Kernel, Moments, about, centre
from jaxem.kernels.quantiles import Tails, normal_tails
from jaxem.layout import WIDE, find_patterns
from jaxem.priors import NormalInverseWishart
from jaxem.rows import Rows, Table

COVARIANCES = tuple(WORDS)  # full, tied, diagonal, spherical
KERNELS = ("auto", "quadratic", "whitened")
LARGE_D = 64  # from here the F = d (d + 3) / 2 + 1 features of a block no longer fit the cache
GUARD = 1e-4  # largest relative rounding error of a squared distance that the quadratic kernel may make


class GaussianParams(NamedTuple):
    """Params of K Gaussian states in the user's units."""

    mean: jax.Array  # (K, d)
    covariance: jax.Array  # full (K, d, d), tied (d, d), diagonal (K, d), spherical (K,); see `Kind` for the other shapes


@dataclasses.dataclass(frozen=True)
class Gaussian(Family):
    r"""N(y; mu_k, S_k), with missing (NaN) cells marginalised exactly, and cells of an `Interval` integrated over.

    Statistics: sums of r, r x, r x x' over rows (squares alone for diagonal and spherical), completed for missing cells by
    their conditional mean and covariance given the row's observed cells and the state (Little and Rubin 2019, sec. 11.2).
    A censored cell is completed by its mean and covariance given its interval and the row's exact cells: for diagonal and
    spherical covariances in closed form, for full and tied by quadrature over up to 5 censored cells of a row, to a relative
    error of the probability of 1e-8 for two or three, 1e-6 for four and 1e-4 for five (`jaxem.kernels.rectangle`).
    M-step: mean = first / weight, covariance = second / weight - mean mean'; tied pools over states, spherical over columns;
    shared volumes, shapes and orientations as in `jaxem.kernels.shared_shapes`. With a `NormalInverseWishart` prior, the posterior
    mode; where states share parts of their covariances, each covariance has the prior's density, up to a constant.

    Args:
        covariance: "full", "tied", "diagonal" or "spherical", or one of mclust's fourteen names, EII to VVV: three letters for
            volume, shape and orientation of S_k = v_k D_k A_k D_k', equal for all states (E), varying (V) or the identity (I).
            VVV is full, EEE tied, VVI diagonal, VII spherical.
        kernel: "quadratic" (fast), "whitened" (accurate for means many standard deviations from the data's centre), or
            "auto": quadratic in float64 and, where a check of the rounding error at concrete params allows, in float32.
        frame: coordinates of the statistics; None for the user's. Set by `localize`.
        censored: whether cells are intervals. Set by `settle`.

    Raises:
        ValueError: unknown covariance or kernel; intervals that are none, with left truncation, or more than 5 in a row of a full
            or tied covariance.
    """

    covariance: str = "full"
    kernel: str = "auto"
    frame: Frame | None = None
    censored: bool = False

    prior_type = NormalInverseWishart

    def __post_init__(self):
        kind_of(self.covariance)
        if not isinstance(self.kernel, str) or self.kernel not in KERNELS:
            raise ValueError(f"kernel: unknown kind {self.kernel!r}; use one of {', '.join(KERNELS)}.")

    @property
    def _kind(self) -> Kind:
        return kind_of(self.covariance)

    @property
    def _cellwise(self) -> bool:
        return self._kind.cellwise

    @property
    def domains(self) -> GaussianParams:
        return GaussianParams(Real(event_ndim=1), self._kind.domain)  # type: ignore[arg-type]

    def structure(self, n_states: int, size: int) -> GaussianParams:
        return GaussianParams((n_states, size), self._kind.structure(n_states, size))  # type: ignore[arg-type]

    # data

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        if isinstance(data, Interval):
            found = interval_gaussian.read(data, weights, missing, self._cellwise)
            if isinstance(found, Table):
                return found
            y, columns = found
        else:
            y, columns = check_matrix(data)
        n, d = y.shape
        if is_traced(y):
            mass = check_weights(weights, n, y.dtype)
            origin = jax.lax.stop_gradient(mass @ y / mass.sum())
            centred = y - origin
            cells = cellwise.Cells(centred, None) if self._cellwise else centred
            return Table(cells, centred, origin, d, d)
        origin = moments_of(y, weights)[0].astype(y.dtype)
        centred, observed = y - origin, ~np.isnan(y)
        has_missing = not observed.all() if missing is None else missing
        value: Any = np.where(observed, centred, 0).astype(y.dtype)
        present: Any = observed.astype(y.dtype) if has_missing else None
        cells = cellwise.Cells(value, present) if self._cellwise else value
        patterns = None if self._cellwise else find_patterns(observed)
        return Table(cells, centred, origin, d, d, observed.any(axis=1), has_missing, None, patterns, columns)

    def width(self, size: int) -> int:
        """Rows a block, so that its features stay within the second-level cache."""
        features = 3 * size if self._cellwise else (size + 1) * (size + 2) // 2
        return int(np.clip(2 ** int(np.log2((1 << 17) / features)), 64, WIDE))

    # coordinates

    def settle(self, params: GaussianParams | None, rows: Rows) -> Gaussian:
        """The same family with `kernel="auto"` decided.

        The quadratic kernel rounds squared distances by about eps |L_k^-1 (mu_k - origin)|^2. Where that is below 1e-4 at
        concrete params it is taken; where params cannot be looked at (None, traced), in float64. Large d takes the other.
        Intervals have a kernel of their own, as accurate as the whitened one.
        """
        if isinstance(rows.pilot_cells, censored.Cells):
            return dataclasses.replace(self, kernel="whitened", censored=True)
        if self.kernel != "auto":
            return self
        if not self._cellwise and rows.d > LARGE_D:
            kernel = "whitened"
        elif params is None or is_traced((params, rows)):
            kernel = "quadratic" if rows.dtype == np.float64 else "whitened"
        else:
            error = np.finfo(rows.dtype).eps * float(_reach(self, cast(params, rows.dtype), rows.origin))
            kernel = "quadratic" if error < GUARD else "whitened"
        return dataclasses.replace(self, kernel=kernel)

    def localize(self, params: GaussianParams, rows: Rows, shared: bool = False) -> Gaussian:
        settled = self.settle(params, rows)
        if shared or settled.kernel == "quadratic":
            frame = Frame(rows.origin, None)
        elif self._cellwise:
            frame = Frame(params.mean, jnp.sqrt(self._spread(params)))
        else:
            frame = Frame(params.mean, self._per_state(cholesky(self._spread(params)), params))
        return dataclasses.replace(settled, frame=frame)

    def _spread(self, params: GaussianParams) -> jax.Array:
        """What the kernels take: covariances (K, d, d), (1, d, d) where tied, or variances (K, d)."""
        return self._kind.spread(params.covariance, *params.mean.shape)

    @staticmethod
    def _per_state(matrices: jax.Array, params: GaussianParams) -> jax.Array:
        return jnp.broadcast_to(matrices, (params.mean.shape[0], *matrices.shape[1:]))

    @property
    def _kernel(self) -> Kernel:
        if self.censored:
            return censored.CELLWISE if self._cellwise else censored.DENSE
        kind = cellwise if self._cellwise else dense
        return kind.WHITENED if self.kernel == "whitened" else kind.QUADRATIC

    # E-step

    def bind(self, params: GaussianParams, mask: jax.Array, origin: jax.Array) -> Any:
        return self._kernel.bind(params.mean, self._spread(params), mask, origin)

    def log_prob(self, bound: Any, cells: Any) -> jax.Array:
        return self._kernel.log_prob(bound, cells)

    def sums(self, bound: Any, cells: Any, r: jax.Array) -> Any:
        return self._kernel.sums(bound, cells, r)

    def finish(self, bound: Any, raw: Any, origin: jax.Array) -> Moments:
        frame = Frame(jnp.zeros_like(origin), None) if self.frame is None else self.frame
        return self._kernel.finish(bound, raw, origin, frame)

    def complete(self, bound: Any, cells: Any, origin: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        mean, covariance, observed = self._kernel.complete(bound, cells)
        return mean + origin[:, None], covariance, observed

    # M-step

    def maximize(self, params: GaussianParams, statistics: Moments, prior: NormalInverseWishart | None = None) -> GaussianParams:
        weight, mean, scatter = centre(statistics, self.frame)
        counted = weight if self._cellwise else weight[:, None]  # (K, d) or (K, 1)
        extra: Any = 0.0
        if prior is not None:
            shrinkage = jnp.asarray(prior.shrinkage, mean.dtype)
            total = jnp.where(counted + shrinkage > 0, counted + shrinkage, 1)
            deviation = mean - prior.mean
            pull = shrinkage * counted / total
            scatter = scatter + (pull * deviation * deviation if self._cellwise else pull[..., None] * outer(deviation, deviation))
            mean = jnp.where(counted > 0, mean, prior.mean) - shrinkage / total * jnp.where(counted > 0, deviation, 0)
            extra = self.prior_exponent(prior, *mean.shape)
        else:
            mean = jnp.where(counted > 0, mean, params.mean)
        scatter, mass = self._kind.pool(scatter, weight)
        own = 0.0 if prior is None else self.prior_scale(prior)
        return GaussianParams(mean, self._kind.solve(scatter + own, mass + extra, params.covariance))

    def expected_log_prob(self, params: GaussianParams, statistics: Moments) -> jax.Array:
        weight, spread = statistics.weight, self._spread(params)
        deviations = about(statistics, self.frame, params.mean)
        factor = None if self.frame is None else self.frame.factor
        if self._cellwise:
            scale = 1 if factor is None else factor * factor
            return -0.5 * (deviations * scale / spread + weight * (jnp.log(spread) + dense.LOG_2PI)).sum()
        root = cholesky(spread)
        whitener = invert_lower(root) if factor is None else matmul(invert_lower(root), factor)
        squared = (matmul(whitener, deviations) * whitener).sum((-2, -1))
        return -0.5 * (squared + weight * (_log_determinant(root) + params.mean.shape[1] * dense.LOG_2PI)).sum()

    # prior

    def log_prior(self, params: GaussianParams, prior: NormalInverseWishart) -> jax.Array:
        """Log-density of the normal inverse Wishart (or inverse gamma) prior, up to a constant in the params."""
        shrinkage = jnp.asarray(prior.shrinkage, params.mean.dtype)
        n_states, d = params.mean.shape
        deviation = params.mean - prior.mean
        if self._cellwise:
            log_scale, scaled = jnp.log(params.covariance), self.prior_scale(prior) / params.covariance
            pulled = (deviation * deviation / self._spread(params)).sum()
        else:
            root = cholesky(params.covariance)
            whitener = invert_lower(root)
            log_scale = _log_determinant(root)
            scaled = (matmul(whitener, self.prior_scale(prior)) * whitener).sum((-2, -1))
            whitened = apply(whitener, deviation)
            pulled = (whitened * whitened).sum()
        exponent = self.prior_exponent(prior, n_states, d)
        return -0.5 * (exponent * log_scale + scaled).sum() - 0.5 * shrinkage * pulled

    def prior_exponent(self, prior: NormalInverseWishart, n_states: int, d: int) -> jax.Array:
        """Twice the exponent of 1 / |S| in the prior density: what it adds to the rows of one covariance."""
        shrinkage = jnp.asarray(prior.shrinkage)
        return prior.dof + self._prior_rank(d) + self._prior_means(shrinkage, n_states, d)

    def _prior_rank(self, d: int) -> int:
        """What the inverse Wishart (d + 1) or inverse gamma (2) adds to its degrees of freedom in the exponent."""
        return 2 if self._cellwise else d + 1

    def _prior_means(self, shrinkage: jax.Array, n_states: int, d: int) -> jax.Array:
        """Factors |S|^{-1/2} that the prior of the means brings to one covariance."""
        return jnp.where(shrinkage > 0, self._kind.shares(n_states, d), 0)

    def prior_scale(self, prior: NormalInverseWishart) -> jax.Array:
        """The prior's scale in the form of the covariance."""
        if not self._cellwise:
            return prior.scale
        diagonal = jnp.diagonal(prior.scale)
        return diagonal.mean() if self._kind.spherical else diagonal

    # conjugate posterior

    def conjugate(self, prior: NormalInverseWishart, params: GaussianParams) -> NormalInverseWisharts:
        if self._kind.name not in WORDS.values():
            raise TypeError(NOT_CONJUGATE.format(f"Gaussian({self.covariance!r})"))
        return NormalInverseWisharts.at(params, self._cellwise, prior._replace(scale=self.prior_scale(prior)))

    def update(self, distribution: NormalInverseWisharts, statistics: Moments) -> NormalInverseWisharts:
        return distribution.update(*centre(statistics, self.frame))

    def under(self, distribution: NormalInverseWisharts) -> tuple[Any, Any]:
        return shifted(self, distribution.mean(), distribution.shift())

    def seen(self, cells: Any) -> jax.Array | None:
        return cells.seen if self.censored else getattr(cells, "present", None)

    def integrates(self, rows: Rows) -> bool:
        return self.censored or (rows.has_missing and not self._cellwise)

    def drawing(self, key: jax.Array) -> Any:
        return super().drawing(key) if self.censored else DrawnCells(self, key)

    # the rest

    def degenerate(self, params: GaussianParams, rows: Rows) -> jax.Array:
        """A state has collapsed where the variance of a column given the ones before it is lost in rounding.

        What may be lost: the pivot of the covariance, eps^(3/4) of the column's variance in the state; the square of a cell's
        own rounding, relative to the column's variance over all rows; and in the quadratic kernel, which subtracts the squared
        distance of the mean from the origin, 64 eps of that.
        """
        eps = np.finfo(rows.dtype).eps
        spread = self._spread(params)
        shift = params.mean - rows.origin
        floor = (8 * eps) ** 2 * (rows.spread + shift * shift)
        if self.kernel != "whitened":
            floor = floor + 64 * eps * shift * shift
        if self._cellwise:
            pivots = spread
        else:
            root = jnp.diagonal(cholesky(spread), axis1=-2, axis2=-1)
            pivots = root * root
            floor = floor + eps**0.75 * jnp.diagonal(spread, axis1=-2, axis2=-1)
        return ~(pivots > floor).all(-1)

    def magnitude(self, params: GaussianParams, rows: Rows) -> jax.Array:
        """d times the conditioning of the covariances, plus what the kernel cancels: |L_k^-1 (mu_k - origin)|^2 or its root."""
        reach = _reach(self, params, rows.origin)
        if self.kernel == "whitened":
            reach = jnp.sqrt(rows.d * reach)
        if self._cellwise:
            return rows.d + reach
        spread = self._spread(params)
        root = jnp.diagonal(cholesky(spread), axis1=-2, axis2=-1)
        return rows.d * (jnp.diagonal(spread, axis1=-2, axis2=-1) / (root * root)).max() + reach

    def moments(self, params: GaussianParams) -> tuple[jax.Array, jax.Array]:
        """Means, and covariances (K, d, d) whatever the kind."""
        spread, d = self._spread(params), params.mean.shape[1]
        if self._cellwise:
            spread = spread[:, :, None] * jnp.eye(d, dtype=spread.dtype)
        return params.mean, self._per_state(spread, params)

    def decompose(self, params: GaussianParams) -> Decomposition:
        """Volume (K,), shape (K, d) and orientation (K, d, d) of the states' covariances, of whatever kind. Host."""
        return decompose(self.covariance, self.moments(params)[1])

    def tails(self, params: GaussianParams, y: jax.Array, x: None = None) -> Tails:
        del x
        mean, spread = self.moments(params)
        return normal_tails(y[:, None], mean, jnp.sqrt(jnp.diagonal(spread, axis1=-2, axis2=-1)))

    def rank(self, params: GaussianParams) -> jax.Array:
        return params.mean

    def sample(self, key: jax.Array, params: GaussianParams, states: jax.Array) -> jax.Array:
        noise = jax.random.normal(key, (states.shape[0], params.mean.shape[1]), params.mean.dtype)
        if self._cellwise:
            return params.mean[states] + jnp.sqrt(self._spread(params))[states] * noise
        root = self._per_state(cholesky(self._spread(params)), params)
        return params.mean[states] + apply(root[states], noise)

    def draw_missing(self, key: jax.Array, params: GaussianParams, states: jax.Array, y: jax.Array, x: None = None) -> jax.Array:
        if self._cellwise:
            return super().draw_missing(key, params, states, y, x)
        return complete_draw(self.moments(params)[1], states, y, self.sample(key, params, states))

    def init(self, rows: Rows, r: jax.Array) -> GaussianParams:
        """Weighted mean and spread of each state's pilot rows.

        The covariance is pulled towards the pooled one by d + 1 rows, so that a state of few rows starts sound.
        """
        present = ~jnp.isnan(rows.pilot)
        y = jnp.where(present, rows.pilot, 0)
        counts = matmul(r.T, present.astype(y.dtype))  # (K, d)
        mean = matmul(r.T, y) / jnp.where(counts > 0, counts, 1)
        deviation = jnp.where(present[:, None], y[:, None] - mean, 0)  # (n, K, d)
        pull = rows.d + 1.0
        if self._cellwise:
            scatter = jnp.einsum("nk,nkj->kj", r, deviation * deviation, precision=HIGHEST)
            pooled = scatter.sum(0) / counts.sum(0)
            variance = (scatter + pull * pooled) / (counts + pull)
            return GaussianParams(mean + rows.origin, self._kind.nearest(variance, counts))
        scatter = jnp.einsum("nk,nki,nkj->kij", r, deviation, deviation, precision=HIGHEST)
        pooled = _over_counts(scatter.sum(0), counts.sum(0))
        pooled = 0.9 * pooled + 0.1 * jnp.diag(jnp.diagonal(pooled))
        if self._kind.one:
            return GaussianParams(mean + rows.origin, pooled)
        mass = r.sum(0)[:, None, None]
        own = _over_counts(scatter, jnp.where(counts > 0, counts, 1))
        return GaussianParams(mean + rows.origin, self._kind.nearest((mass * own + pull * pooled) / (mass + pull), r.sum(0)))


jax.tree_util.register_dataclass(Gaussian, data_fields=("frame",), meta_fields=("covariance", "kernel", "censored"))


@jax.jit
def _reach(family: Gaussian, params: GaussianParams, origin: jax.Array) -> jax.Array:
    """Largest squared distance of a mean from the origin, in its own standard deviations."""
    shift, spread = params.mean - origin, family._spread(params)
    if family._cellwise:
        return (shift * shift / spread).sum(-1).max()
    whitened = apply(invert_lower(cholesky(spread)), shift)
    return (whitened * whitened).sum(-1).max()


def _log_determinant(root: jax.Array) -> jax.Array:
    return 2 * jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)).sum(-1)


def _over_counts(scatter: jax.Array, counts: jax.Array) -> jax.Array:
    """Sums of products of observed deviations over the cells' counts: positive semidefinite whatever is missing."""
    root = jnp.sqrt(counts)
    return scatter / outer(root, root)
