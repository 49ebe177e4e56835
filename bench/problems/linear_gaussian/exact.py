"""Exact importance-weighted bound and its gradients for every K.

This specialises `bounds` to q = N(loc, σ² I). Let Δ be the distance of loc from the posterior mean and u the direction
from the posterior mean to loc. With ε_u = ε·u and ρ² = |ε|² − ε_u²,

    log w = const − (Δ + σ ε_u)² − σ² ρ² + ½ (ε_u² + ρ²)

so that every expectation is an integral over one Normal variable, one χ² variable with D − 1 degrees of freedom, and
t; any other dependence of ψ on ε averages out by symmetry about u. Each integral uses a trapezoidal rule in a variable
in which the integrand is analytic and decays at least doubly exponentially. Hence convergence is geometric, to about
1e-12 for D up to 200 and σ from 0.6 to 1. Integrals of known value detect failures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.problems.bounds import Weights
from gradmeter.bench.problems.problem import LOG_2PI, Exact

#: Step of the rule for ε_u; number of nodes of the rule for ρ².
NORMAL_STEP, CHI_NODES = 0.14, 160
#: How far the rule for ε_u extends beyond the largest weights.
REACH = 11.0
#: Tolerated deviation of three integrals from their known values.
MOST_ERROR = 1e-9
#: Largest supported Δ: beyond it these deviations exceed the tolerance for σ from 0.6 to 1. Cost grows with Δ.
FARTHEST = 10.0


@dataclass(frozen=True, kw_only=True)
class NormalWeights(Weights):
    """The distribution of the importance weight under this q, as a quadrature over (ε_u, ρ²).

    Attributes
    ----------
    dimension, distance, scale
        D, Δ and σ.
    along, across : [N]
        ε_u and ρ² at the nodes.
    missed : float
        Error of the quadrature on log E w, whose exact value is log p(x).
    """

    dimension: int
    distance: float
    scale: float
    along: np.ndarray
    across: np.ndarray
    missed: float

    def error(self) -> float:
        """Return the error on the known values: E w = p(x), and those checked by `Weights.error`."""
        return float(np.max([self.missed, super().error()])) if self.missed <= MOST_ERROR else self.missed


def law(count: int, dimension: int, distance: float, scale: float, log_mean: float = 0.0) -> NormalWeights:
    """Return the distribution of w for q = N(loc, σ² I), with loc at distance Δ from the posterior mean."""
    along, probability = _normal(REACH + distance / scale)
    if dimension > 1:
        across, of_across = _chi_squared(dimension - 1, CHI_NODES)
        along, across = (a.ravel() for a in np.meshgrid(along, across, indexing="ij"))
        probability = np.multiply.outer(probability, of_across).ravel()
    else:
        across = np.zeros_like(along)
    log_weight = -((distance + scale * along) ** 2) - scale**2 * across + 0.5 * (along**2 + across)
    weight = np.exp(log_weight - log_weight.max())
    mean = float(probability @ weight)
    # E exp(log_weight) = (√2 σ)^−D exactly.
    missed = abs(math.log(mean) + float(log_weight.max()) + dimension * math.log(math.sqrt(2.0) * scale))
    return NormalWeights(
        count=count,
        probability=probability,
        weight=weight / mean,
        log_mean=log_mean,
        dimension=dimension,
        distance=distance,
        scale=scale,
        along=along,
        across=across,
        missed=missed,
    )


def _normal(reach: float) -> tuple[np.ndarray, np.ndarray]:
    x = NORMAL_STEP * np.arange(-math.ceil(reach / NORMAL_STEP), math.ceil(reach / NORMAL_STEP) + 1)
    density = np.exp(-0.5 * x * x)
    return x, density / density.sum()


def _chi_squared(degrees: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights for ρ² = 2 exp(s), by the trapezoidal rule in v with s = v − exp(−v).

    The substitution makes the decay at 0 doubly exponential.
    """
    shape = 0.5 * degrees
    v = np.linspace(
        -math.log(45.0 / min(shape, 20.0)), math.log(shape + REACH * math.sqrt(2.0 * shape) + 0.5 * REACH**2), nodes
    )
    half = np.exp(v - np.exp(-v))
    log_density = shape * np.log(half) - half + np.log1p(np.exp(-v))
    density = np.exp(log_density - log_density.max())
    return 2.0 * half, density / density.sum()


def exact_bound(
    count: int, loc: np.ndarray, scale: float, prior_mean: np.ndarray, observed: np.ndarray
) -> Exact | None:
    """Return L_K and its gradients, or None where the quadrature's error exceeds `MOST_ERROR` or Δ exceeds `FARTHEST`.

    Gradients of loc and log σ are doubly reparameterised, which avoids cancellation between large terms. The gradient
    of
    the model parameter is E Σ w̃_k (z_k − μ).

    Parameters
    ----------
    count : int
        K.
    loc, prior_mean, observed : [D]
        Mean of q, μ and x.
    scale : float
        σ, common to all coordinates.
    """
    dimension = len(loc)
    posterior = 0.5 * (prior_mean + observed)
    away = loc - posterior
    distance = float(np.linalg.norm(away))
    if not distance <= FARTHEST:
        return None
    direction = away / distance if distance > 0.0 else np.eye(dimension)[0]
    evidence = -0.25 * float(np.sum((observed - prior_mean) ** 2)) - 0.5 * dimension * (LOG_2PI + math.log(2.0))
    w = law(count, dimension, distance, scale, evidence)
    if not w.error() <= MOST_ERROR:
        return None
    bend = 1.0 / scale - 2.0 * scale  # ∂ log w/∂z is −2 Δ u + bend ε
    slope = -2.0 * distance + bend * w.along
    moved, along, across = w.normalised(2, np.stack([slope, w.along * slope, w.across]))
    shares = direction**2
    gradient = {
        "loc": moved * direction,
        "log_scale": scale * (along * shares + bend * across / max(1, dimension - 1) * (1.0 - shares)),
        "prior_mean": loc - prior_mean + scale * w.normalised(1, w.along) * direction,
    }
    return Exact(gradient, "quadrature", w.bound())
