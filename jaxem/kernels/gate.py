"""The softmax gate of a mixture of experts: probabilities, and a second-order statistic of its multinomial logit.

Covariates come scaled, z (c, g, b); work (K, g + 1) are coefficients on that scale with the intercept last, those of component
0 being 0. About a point p the expected log-probability of the components is, to second order,

    value + gradient . (theta - p) - (theta - p)' information (theta - p) / 2,

gradient_k = sum (r_k - w pi_k) (z, 1), information_kl = sum w pi_k (1{k = l} - pi_l) (z, 1)(z, 1)': sums over rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import HIGHEST, matmul
from jaxem.newton import damped_step


class GateFrame(NamedTuple):
    """Coordinates of the gate's statistics."""

    origin: jax.Array  # (2, g) means and deviations of the covariates
    point: jax.Array | None  # (K, g + 1) expansion point on the scaled covariates; None for 0 in the user's units


class GateStatistics(NamedTuple):
    """The expansion above, in the coordinates of a frame."""

    value: jax.Array  # ()
    gradient: jax.Array  # (K, g + 1)
    information: jax.Array  # (K, K, g + 1, g + 1)

    @staticmethod
    def about(sums: GateStatistics, work: jax.Array, origin: jax.Array, frame: GateFrame) -> GateStatistics:
        """Sums taken at `work`, moved to the frame."""
        if frame.point is not None:
            return sums
        change = _change(origin)
        user = matmul(work, jnp.swapaxes(_inverse(origin), 0, 1))
        gradient = matmul(sums.gradient, change)
        information = matmul(matmul(change.T, sums.information), change)
        pulled = _apply(information, user)
        value = sums.value - (gradient * user).sum() - 0.5 * (user * pulled).sum()
        return GateStatistics(value, gradient + pulled, information)


def _change(origin: jax.Array) -> jax.Array:
    """(g + 1, g + 1) from the user's coefficients to those on scaled covariates."""
    mean, scale = origin
    g = mean.shape[0]
    return jnp.eye(g + 1, dtype=mean.dtype).at[jnp.arange(g), jnp.arange(g)].set(scale).at[g, :g].set(mean)


def _inverse(origin: jax.Array) -> jax.Array:
    mean, scale = origin
    g = mean.shape[0]
    return jnp.eye(g + 1, dtype=mean.dtype).at[jnp.arange(g), jnp.arange(g)].set(1 / scale).at[g, :g].set(-mean / scale)


def _apply(information: jax.Array, theta: jax.Array) -> jax.Array:
    return jnp.einsum("klij,lj->ki", information, theta, precision=HIGHEST)


def _stack(gate: Any) -> jax.Array:
    return jnp.concatenate([gate.coefficients, gate.intercept[:, None]], axis=1)


def move_gate(gate: Any, origin: jax.Array) -> jax.Array:
    """(K, g + 1) coefficients on the scaled covariates from those in the user's units."""
    return matmul(_stack(gate), _change(origin).T)


def log_gate(work: jax.Array, z: jax.Array) -> jax.Array:
    """(c, K, b) log-probabilities of the components."""
    return jax.nn.log_softmax(matmul(work[:, :-1], z) + work[:, -1:], axis=1)


def gate_sums(log_pi: jax.Array, z: jax.Array, r: jax.Array, weights: jax.Array) -> GateStatistics:
    """The statistics of one chunk at the params of `log_pi`; r (c, K, b) holds the weights (c, b) already."""
    pi = jnp.exp(log_pi)
    design = jnp.concatenate([z, jnp.ones_like(z[:, :1])], axis=1)
    mass = weights[:, None] * pi
    gradient = jnp.einsum("ckb,cib->ki", r - mass, design, precision=HIGHEST)
    n_states = pi.shape[1]
    curvature = mass[:, :, None] * (jnp.eye(n_states, dtype=pi.dtype)[:, :, None] - pi[:, None])
    information = jnp.einsum("cklb,cib,cjb->klij", curvature, design, design, precision=HIGHEST)
    return GateStatistics(jnp.where(r > 0, r * log_pi, 0).sum(), gradient, information)


def _coordinates(gate: Any, frame: GateFrame | None) -> tuple[jax.Array, jax.Array]:
    """The gate in the frame's coordinates, and its deviation from the expansion point."""
    if frame is None or frame.point is None:
        return _stack(gate), _stack(gate)
    work = move_gate(gate, frame.origin)
    return work, work - frame.point


def expected_log_gate(gate: Any, statistics: GateStatistics, frame: GateFrame | None) -> jax.Array:
    """The expansion at a gate in the user's units."""
    theta = _coordinates(gate, frame)[1]
    return statistics.value + (statistics.gradient * theta).sum() - 0.5 * (theta * _apply(statistics.information, theta)).sum()


def gate_step(gate: Any, statistics: GateStatistics, frame: GateFrame | None) -> tuple[jax.Array, jax.Array]:
    """Coefficients and intercepts after one Newton step from `gate`, damped where the information is singular."""
    theta, deviation = _coordinates(gate, frame)
    gradient = (statistics.gradient - _apply(statistics.information, deviation))[1:]
    free, width = gradient.shape
    information = jnp.swapaxes(statistics.information[1:, 1:], 1, 2).reshape(free * width, free * width)
    step = damped_step(gradient.reshape(-1), information).reshape(free, width) if free else gradient
    theta = theta.at[1:].add(step)
    if frame is not None and frame.point is not None:
        theta = matmul(theta, _inverse(frame.origin).T)
    return theta[:, :-1], theta[:, -1]
