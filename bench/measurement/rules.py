"""Quadrature rules for one number of noise: nodes, and weights that sum to its probability."""

from __future__ import annotations

import math

import numpy as np

Rule = tuple[np.ndarray, np.ndarray]


def rule(kind: str, nodes: int, reach: float) -> Rule:
    """Nodes, none farther out than `reach` where the noise is unbounded, and probability weights for one number."""
    if kind == "rademacher":
        return np.asarray([-1.0, 1.0]), np.asarray([0.5, 0.5])
    if kind == "uniform":
        x, w = np.polynomial.legendre.leggauss(nodes)
        return 0.5 * (x + 1.0), 0.5 * w
    if kind == "stratum":  # uniform, of which a quantile is taken: singular at either end
        return piecewise(np.asarray([0.0, 1.0]), nodes, 0.5)
    if kind == "exponential":  # trapezoid in t with e = exp(t − exp(−t)): doubly exponential, so 0 may be singular
        end = math.log(0.5 * reach * reach)  # as far out in probability as a normal `reach`
        t = np.linspace(-end, end, nodes)
        x = np.exp(t - np.exp(-t))
        weights = np.exp(-x) * x * (1.0 + np.exp(-t))
        return x, weights / weights.sum()
    if kind == "rayleigh":
        x, w = np.polynomial.legendre.leggauss(nodes)
        x = 0.5 * reach * (x + 1.0)
        weights = w * x * np.exp(-0.5 * x * x)
        return x, weights / weights.sum()
    if nodes >= 100:  # trapezoid: converges geometrically for analytic integrands against a Gaussian
        x = np.linspace(-reach, reach, nodes)
        weights = np.exp(-0.5 * x * x) * (x * x if kind == "maxwell" else 1.0)
    else:
        from scipy.special import roots_hermitenorm

        x, weights = roots_hermitenorm(nodes)
        weights = weights * (x * x if kind == "maxwell" else 1.0)
    return x, weights / weights.sum()


def piecewise(ends: np.ndarray, nodes: int, place: float) -> Rule:
    """A rule on every piece between the ends of a uniform number. One node is put at `place` in the piece, so that
    two places tell whether an estimate is constant there; many bear singularities at the ends."""
    if nodes == 1:
        x, w = np.asarray([place]), np.ones(1)
    else:
        x, w = rule("uniform", nodes, 1.0) if nodes < 40 else _tanh_sinh(nodes)
    width = np.diff(ends)[:, None]
    inside = np.clip((ends[:-1, None] + width * x).ravel(), 2.0**-53, 1.0 - 2.0**-53)  # as are mirror images
    return inside, (width * w).ravel()


def _tanh_sinh(nodes: int) -> Rule:
    """The trapezoid rule in t with x = 1/(1 + exp(−π sinh t)): doubly exponential, so either end may be singular."""
    t = np.linspace(-3.3, 3.3, nodes)
    x = 1.0 / (1.0 + np.exp(-np.pi * np.sinh(t)))
    w = x / (1.0 + np.exp(np.pi * np.sinh(t))) * np.cosh(t)
    return x, w / w.sum()


def exponential_pieces(corners: np.ndarray, nodes: int, reach: float) -> Rule:
    """A rule on every piece between corners of an exponential number, and one from the last on."""
    ends, each = np.concatenate([[0.0], np.unique(corners)]), 40 + nodes // 2
    (unit, w), (tail, v) = _tanh_sinh(each), rule("exponential", each, reach)
    width = np.diff(ends)[:, None]
    inside = ends[:-1, None] + width * unit
    weights = width * w * np.exp(-inside)
    return np.concatenate([inside.ravel(), ends[-1] + tail]), np.concatenate([weights.ravel(), v * np.exp(-ends[-1])])
