r"""Probability that a Gaussian vector lies in a rectangle, and its mean and covariance given that it does.

x = L w, w ~ N(0, I), lower <= x <= upper, for m <= `MOST` cells. Integrated one cell after the other (Genz 1992, J. Comput.
Graph. Statist. 1:141), each by Gauss-Legendre rules on the window that holds all but a negligible part of the mass:

    f_j(w_j) = phi(w_j) P(cells after j lie in their intervals | w_1, ..., w_j),

which is log-concave with curvature >= 1, so that a window follows from the mode and two Newton iterations from outside, and the
nodes are where the mass is, however far out in the tail the rectangle lies. All terms are positive and summed as logarithms:
nothing cancels, and moments are sums of the same terms. Relative error of the probability with the `NODES` below: rounding for
one cell; see tests/test_interval_gaussian.py for more.

Cells that are not there ("padded") come first, have no bounds, a unit diagonal and zeros beside it: they are exact.
Everything runs along the batch: bounds are lists of m arrays, the factor m x m nested lists.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, logsumexp

MOST = 5  # cells of one rectangle; the work is NODES ** m
NODES = {1: 44, 2: 72, 3: 40, 4: 20, 5: 14}  # of each of m integrals
DROP = {1: 37.0, 2: 37.0, 3: 30.0, 4: 20.0, 5: 14.0}  # logarithm by which the integrand has fallen where a window ends
LEAST = 0.12  # share of a window that has half of the nodes
BISECTIONS = 20  # towards the mode of an integrand: it only places the window
NEWTON = 6  # towards the ends of a window: each is outside of the last
FAR = 1e9  # stands for an infinite bound, in standard deviations
HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


class Box(NamedTuple):
    """Bounds of m cells about the mean, each a list of arrays that broadcast against one another."""

    lower: Any  # -inf where there is none
    upper: Any  # inf where there is none
    width: Any  # upper - lower, known better than by subtraction where the mean is far away


class Truncated(NamedTuple):
    """What is known of w given that x = L w lies in the box."""

    log_probability: jax.Array
    mean: list[jax.Array]  # m
    covariance: list[list[jax.Array]]  # m x m


def moments(box: Box, factor: Any) -> Truncated:
    """Logarithm of P(L w in box), mean and covariance of w given that. `factor` is lower triangular, m x m lists."""
    return _integrate(len(box.lower), box, factor)


@jax.custom_jvp
def log_probability(box: Box, factor: Any) -> jax.Array:
    """log P(L w in box). Its derivative is by the moments of w, so that it agrees with what an E-step sums up to rounding:
    d log P = -E[w]' L^-1 d(bounds) + tr((E[w w'] - I) L^-1 dL), the bounds moving together."""
    return moments(box, factor).log_probability


@log_probability.defjvp
def _log_probability_jvp(primals: Any, tangents: Any) -> Any:
    (box, factor), (moved, turned) = primals, tangents
    m = len(factor)
    found = moments(box, factor)
    shift = [jnp.where(jnp.isfinite(box.lower[j]), moved.lower[j], moved.upper[j]) for j in range(m)]
    shift = [jnp.where(jnp.isfinite(box.lower[j]) | jnp.isfinite(box.upper[j]), shift[j], 0) for j in range(m)]
    solved = _solve(factor, shift)
    total = -sum(found.mean[j] * solved[j] for j in range(m))
    for k in range(m):
        column = _solve(factor, [turned[i][k] if k <= i else jnp.zeros_like(turned[i][i]) for i in range(m)])
        for i in range(k, m):
            second = found.covariance[i][k] + found.mean[i] * found.mean[k] - (1 if i == k else 0)
            total = total + second * column[i]
    return found.log_probability, total


def _solve(factor: Any, right: list[jax.Array]) -> list[jax.Array]:
    """L^-1 right by forward substitution."""
    out: list[jax.Array] = []
    for i, value in enumerate(right):
        for j, done in enumerate(out):
            value = value - factor[i][j] * done
        out.append(value / factor[i][i])
    return out


def _integrate(m: int, box: Box, factor: Any) -> Truncated:
    """The integral over the cells of `box`, of m that there were at first."""
    lower, upper = _scaled(box.lower[0], factor[0][0], -FAR), _scaled(box.upper[0], factor[0][0], FAR)
    width = jnp.minimum(box.width[0] / factor[0][0], 2 * FAR)
    later = len(box.lower) - 1
    dtype = jnp.result_type(box.lower[0], factor[0][0])
    drop = min(DROP[m], 1 - float(np.log(jnp.finfo(dtype).eps)))
    mode, before, after = _window(lower, upper, width, Box(*(part[1:] for part in box)), factor, drop)
    offset, log_weight = _nodes(m, before, after)
    node = mode + offset
    log_weight = log_weight - 0.5 * node * node - HALF_LOG_2PI
    padded = jnp.isinf(box.lower[0]) & jnp.isinf(box.upper[0])
    if not later:
        total = logsumexp(log_weight, axis=0)
        mass = jnp.exp(log_weight - total)
        centre = (mass * offset).sum(0)
        spread = (mass * jnp.square(offset - centre)).sum(0)
        return Truncated(jnp.where(padded, 0, total), [jnp.where(padded, 0, mode + centre)], [[jnp.where(padded, 1, spread)]])

    def beyond(node: jax.Array) -> Truncated:
        """The rest of the cells, given this one."""
        moved = [factor[k][0] * node for k in range(1, later + 1)]
        rest = Box(
            [bound - by for bound, by in zip(box.lower[1:], moved, strict=True)],
            [bound - by for bound, by in zip(box.upper[1:], moved, strict=True)],
            box.width[1:],
        )
        return _integrate(m, rest, [row[1:] for row in factor[1:]])

    # all nodes at once, unless there are so many that memory would be short
    inner = jax.lax.map(beyond, node) if later == m - 1 and m >= 4 else beyond(node)
    log_mass = log_weight + inner.log_probability
    total = logsumexp(log_mass, axis=0)
    mass = jnp.exp(log_mass - total)
    centre = (mass * offset).sum(0)
    means = [(mass * part).sum(0) for part in inner.mean]
    apart = [offset - centre, *(part - mean for part, mean in zip(inner.mean, means, strict=True))]
    covariance = [[(mass * apart[i] * apart[j]).sum(0) for j in range(later + 1)] for i in range(later + 1)]
    for i in range(later):
        for j in range(later):
            covariance[i + 1][j + 1] = covariance[i + 1][j + 1] + (mass * inner.covariance[i][j]).sum(0)
    covariance[0][0] = jnp.where(padded, 1, covariance[0][0])
    for j in range(1, later + 1):
        covariance[0][j] = covariance[j][0] = jnp.where(padded, 0, covariance[0][j])
    whole = jnp.where(padded, inner.log_probability[0], total)
    return Truncated(whole, [jnp.where(padded, 0, mode + centre), *means], covariance)


def _nodes(m: int, before: jax.Array, after: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Nodes as offsets from the mode and logarithms of their weights, (NODES[m], ...): half of them on either side of the mode,
    so that a steep edge on one side has nodes enough of its own."""
    rule, scale = np.polynomial.legendre.leggauss(NODES[m] // 2)
    shape = (len(rule),) + (1,) * before.ndim
    share = jnp.asarray(0.5 * (1 + rule), before.dtype).reshape(shape)
    log_scale = jnp.asarray(np.log(0.5 * scale), before.dtype).reshape(shape)
    least = LEAST * (before + after)
    middle = jnp.clip(0, least - before, after - least)
    left, right = middle + before, after - middle
    offset = jnp.concatenate([left * share - before, right * share + middle])
    return offset, jnp.concatenate([log_scale + jnp.log(left), log_scale + jnp.log(right)])


def _scaled(bound: jax.Array, scale: jax.Array, infinite: float) -> jax.Array:
    finite = jnp.isfinite(bound)
    return jnp.where(finite, jnp.where(finite, bound, 0) / scale, infinite)


def _window(
    lower: jax.Array, upper: jax.Array, width: jax.Array, rest: Box, factor: Any, drop: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The mode of phi(w) P(rest | w) on [lower, upper], and how far the window goes before and after it.

    Where several cells remain, their joint probability is taken as the product of the single ones, which places the window well
    enough. Constants of differentiation, but for ends that are bounds.
    """
    fixed = jax.lax.stop_gradient((lower, upper, width, rest, factor))
    mode, before, after = _mode_and_ends(*fixed, drop)
    low, high, _, _, _ = fixed
    at_lower, at_upper = mode <= low, mode >= high
    cut_before, cut_after = before >= mode - low, after >= high - mode
    # differentiable again where the window ends at a bound
    anchor = jnp.where(at_lower, lower, jnp.where(at_upper, upper, mode))
    before = jnp.where(at_upper & (before >= width), width, jnp.where(cut_before, anchor - lower, before))
    after = jnp.where(at_lower & (after >= width), width, jnp.where(cut_after, upper - anchor, after))
    before, after = jnp.where(at_lower, 0, before), jnp.where(at_upper & ~at_lower, 0, after)
    return anchor, before, after


def _mode_and_ends(lower: Any, upper: Any, width: Any, rest: Box, factor: Any, drop: float) -> tuple[Any, Any, Any]:
    reach = float(np.sqrt(2 * drop))
    nearest = jnp.clip(jnp.zeros_like(lower), lower, upper)
    if not rest.lower:  # the standard normal itself
        out = 2 * drop / (jnp.abs(nearest) + jnp.sqrt(nearest * nearest + 2 * drop))
        back = jnp.where(nearest == 0, jnp.minimum(reach, nearest - lower), jnp.where(nearest < 0, jnp.minimum(out, width), 0))
        forth = jnp.where(nearest == 0, jnp.minimum(reach, upper - nearest), jnp.where(nearest > 0, jnp.minimum(out, width), 0))
        return nearest, back, forth

    def at(w: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The logarithm of the integrand and its derivative."""
        value, slope = -0.5 * w * w, -w
        for k in range(len(rest.lower)):
            scale = jnp.sqrt(sum(factor[k + 1][i] * factor[k + 1][i] for i in range(1, k + 2)))
            moved = factor[k + 1][0] * w
            inside, hazard = _interval((rest.lower[k] - moved) / scale, (rest.upper[k] - moved) / scale)
            value, slope = value + inside, slope + factor[k + 1][0] / scale * hazard
        return value, slope

    # the slope falls at least as fast as -w, so the mode is no farther away than the slope says
    slope = at(nearest)[1]
    bracket = [jnp.clip(nearest + part, lower, upper) for part in (jnp.minimum(slope, 0), jnp.maximum(slope, 0))]

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        middle = 0.5 * (bracket[0] + bracket[1])
        rising = at(middle)[1] > 0
        return jnp.where(rising, middle, bracket[0]), jnp.where(rising, bracket[1], middle)

    shape = jnp.broadcast_shapes(*(jnp.shape(leaf) for leaf in (bracket[0], at(nearest)[0])))
    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, tuple(jnp.broadcast_to(b, shape) for b in bracket))
    mode = jnp.where(low <= lower, lower, jnp.where(high >= upper, upper, 0.5 * (low + high)))
    top = at(mode)[0]

    def end(start: jax.Array, sign: int) -> jax.Array:
        """Distance from the mode at which the integrand has fallen by `drop`, or of the bound; from outside, never inside."""

        def closer(_: int, w: jax.Array) -> jax.Array:
            value, slope = at(w)
            excess = top - value - drop
            step = excess / jnp.where(slope == 0, 1, slope)
            sound = (excess > 0) & (sign * slope < 0) & jnp.isfinite(step)
            return jnp.where(sound, w + step, w)

        return sign * (jax.lax.fori_loop(0, NEWTON, closer, jnp.broadcast_to(start, shape)) - mode)

    before = end(jnp.maximum(lower, mode - reach), -1)
    after = end(jnp.minimum(upper, mode + reach), 1)
    return mode, jnp.maximum(before, 0), jnp.maximum(after, 0)


def _interval(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log(Phi(b) - Phi(a)) and (phi(a) - phi(b)) / (Phi(b) - Phi(a)), to the few digits that a window needs."""
    flip = a + b > 0
    a, b = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
    a, b = jnp.clip(a, -FAR, FAR), jnp.clip(b, -FAR, FAR)
    top, gap = log_ndtr(b), jnp.maximum(log_ndtr(b) - log_ndtr(a), 1e-7)
    value = top + jnp.log(-jnp.expm1(-gap))
    hazard = jnp.exp(-0.5 * a * a - HALF_LOG_2PI - value) - jnp.exp(-0.5 * b * b - HALF_LOG_2PI - value)
    hazard = jnp.clip(hazard, a, b)
    return value, jnp.where(flip, -hazard, hazard)
