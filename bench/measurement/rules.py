"""Quadrature rules for one number of noise, each at a place of its own.

Two rules of one kind differ in `shift`, a number in (0, 1) that moves every node by up to the distance of two: what one
grid does not meet, another may. The trapezoid rule, after a substitution that is doubly exponential where the noise has
an end or the estimate a corner, bears singularities there; few nodes are Gauss rules with the last diagonal number of
their Jacobi matrix moved (quasi-Gauss: exact to degree 2n − 2, Peherstorfer 1990).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Fewest nodes of a trapezoid rule for Gaussian noise, and of one that bears singular ends.
TRAPEZOID, DOUBLY_EXPONENTIAL = 100, 40
#: Of as many nodes and more, Gauss rules of every other one will do.
MANY = 80
#: In units of the noise's precision: by how much the ends of a piece may be off, and how far from them to stay.
ULPS, MARGIN = 4.0, 16.0
#: How far the substitution for (0, 1) goes: to 3e-19 from the ends, beyond a uniform number's precision, or to 2e-26.
END, FARTHER_END = 3.3, 3.65


@dataclass(frozen=True)
class Rule:
    """Nodes for one number of noise.

    Attributes
    ----------
    x, w : nodes, and weights that sum to 1 [n].
    lost : by how much a weight may be off because the noise is no more precise, at the ends of pieces [n].
    room : a node stands anywhere in [x, x + room), drawn anew for every point [n].
    """

    x: np.ndarray
    w: np.ndarray
    lost: np.ndarray
    room: np.ndarray


def _fixed(x: np.ndarray, w: np.ndarray) -> Rule:
    return Rule(x, w / w.sum(), np.zeros_like(x), np.zeros_like(x))


def rule(kind: str, nodes: int, reach: float, shift: float, precision: float = 2.0**-52, smooth: bool = False) -> Rule:
    """For one number without jumps.

    Parameters
    ----------
    nodes : how many.
    reach : where the noise is unbounded, how far out they go: standard deviations of a Normal, or what is as
        improbable.
    shift : in (0, 1), where they stand.
    precision : of the noise's arithmetic.
    smooth : whether what is made of uniform noise is taken to be smooth at its ends, which resolves more in between.
    """
    if kind == "rademacher":
        return _fixed(np.asarray([-1.0, 1.0]), np.asarray([0.5, 0.5]))
    if kind == "uniform" and smooth:
        return _fixed(*_legendre(min(nodes, nodes // 2 + MANY), shift))
    if kind in ("uniform", "stratum"):
        return pieces(kind, np.zeros(0), nodes, reach, shift, precision)
    if kind == "exponential":
        return _fixed(*_half_line(kind, 0.0, 1.0, nodes, reach, shift))
    if kind == "rayleigh":
        if nodes >= TRAPEZOID:
            return _fixed(*_half_line(kind, 0.0, 1.0, nodes, reach, shift))
        x, w = _legendre(nodes, shift)
        return _fixed(reach * x, w * _density(kind, reach * x))
    if nodes >= TRAPEZOID:  # converges geometrically for analytic integrands against a Gaussian
        x = reach * (2.0 * (np.arange(nodes) + shift) / nodes - 1.0)
        return _fixed(x, _density(kind, x))
    x, w = _quasi_gauss(np.zeros(nodes), np.sqrt(np.arange(1.0, nodes)), math.sqrt(nodes) * (2.0 * shift - 1.0))
    return _fixed(x, w * x * x if kind == "maxwell" else w)


def pieces(kind: str, at: np.ndarray, nodes: int, reach: float, shift: float, precision: float = 2.0**-52) -> Rule:
    """The same for a number at whose values `at` the estimate jumps or has a corner: a rule between each two.

    Parameters
    ----------
    nodes : in each piece.
    """
    bounded, two_sided = kind in ("uniform", "stratum"), kind in ("normal", "maxwell")
    low = -math.inf if two_sided else 0.0
    inner = np.unique(at[(at > low) & (at < (1.0 if bounded else math.inf))])
    if two_sided and len(inner) == 0:
        return rule(kind, nodes, reach, shift)
    ends = np.concatenate([[] if two_sided else [0.0], inner, [1.0] if bounded else []])
    # On the right side of a jump; and where noise has ends, inside, as are mirror images.
    margin = np.where(np.isin(ends, inner), 2.0 * precision * np.maximum(1.0, np.abs(ends)), 0.5 * precision * bounded)
    end = END if bounded else FARTHER_END
    unit, w = _doubly_exponential(nodes, shift, end) if nodes >= DOUBLY_EXPONENTIAL else _legendre(nodes, shift)
    width = np.diff(ends)[:, None]
    x, w = ends[:-1, None] + width * unit, width * w
    least, most = (np.minimum(each[:, None], 0.25 * width) for each in (margin[:-1], margin[1:]))
    x = np.clip(x, ends[:-1, None] + least, ends[1:, None] - most)
    parts = [(x.ravel(), (w * _density(kind, x)).ravel())]
    if two_sided:
        below, v = _half_line(kind, float(ends[0]), -1.0, nodes, reach, shift, float(margin[0]))
        parts.insert(0, (below[::-1], v[::-1]))
    if not bounded:
        parts.append(_half_line(kind, float(ends[-1]), 1.0, nodes, reach, shift, float(margin[-1])))
    x, w = (np.concatenate(each) for each in zip(*parts, strict=True))
    lost = np.zeros((len(x) // nodes, nodes))
    lost[1:, 0] = lost[:-1, -1] = ULPS * precision * _density(kind, inner)
    if bounded:
        lost[0, 0] = lost[-1, -1] = ULPS * precision
    return Rule(x, w / w.sum(), lost.ravel() / (1.0 if bounded else w.sum()), np.zeros_like(x))


def anywhere(at: np.ndarray, precision: float) -> Rule:
    """One node a piece of a uniform number, drawn anew for every point: enough where an estimate is constant between
    jumps, and random draws where it is not."""
    ends = np.concatenate([[0.0], np.unique(at[(at > 0.0) & (at < 1.0)]), [1.0]])
    width = np.diff(ends)
    margin = np.minimum(MARGIN * precision, 0.25 * width)
    return Rule(ends[:-1] + margin, width, np.full_like(width, ULPS * precision), width - 2.0 * margin)


def _density(kind: str, x: np.ndarray) -> np.ndarray:
    """Up to a factor."""
    if kind in ("uniform", "stratum"):
        return np.ones_like(x)
    if kind == "exponential":
        return np.exp(-x)
    return np.exp(-0.5 * x * x) * {"normal": 1.0, "rayleigh": x, "maxwell": x * x}[kind]


def _half_line(
    kind: str, start: float, sign: float, nodes: int, reach: float, shift: float, margin: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """From `start` on, upwards or downwards: the trapezoid rule in t with |x − start| = exp(t − exp(−t)), so that it
    may be singular at `start`; no node is nearer than the margin."""
    far = 0.5 * reach * reach if kind == "exponential" else reach + abs(start)
    first, last = -math.log(0.5 * reach * reach), math.log(far) + 1.0 / far
    t = first + (last - first) * (np.arange(nodes) + shift) / nodes
    y = np.exp(t - np.exp(-t))
    x = start + sign * np.maximum(y, margin)
    return x, (last - first) / nodes * y * (1.0 + np.exp(-t)) * _density(kind, x)


def _doubly_exponential(nodes: int, shift: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """On (0, 1), the trapezoid rule in t with x = 1/(1 + exp(−π sinh t)), so that either end may be singular."""
    t = end * (2.0 * (np.arange(nodes) + shift) / nodes - 1.0)
    x = 1.0 / (1.0 + np.exp(-np.pi * np.sinh(t)))
    w = x / (1.0 + np.exp(np.pi * np.sinh(t))) * np.cosh(t)
    return x, w / w.sum()


def _legendre(nodes: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """On (0, 1); all nodes stay inside, and none of two rules need be the same."""
    k = np.arange(1.0, nodes)
    moved = 0.3 * nodes / (2.0 * nodes - 1.0) * (2.0 * shift - 1.0)
    return _quasi_gauss(np.full(nodes, 0.5), 0.5 * k / np.sqrt(4.0 * k * k - 1.0), moved)


def _quasi_gauss(diagonal: np.ndarray, beside: np.ndarray, moved: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the Jacobi matrix with `moved` added to its last diagonal number."""
    nodes = len(diagonal)
    matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    matrix[-1, -1] += moved
    x = np.linalg.eigvalsh(matrix)
    before, now, total = np.zeros_like(x), np.ones_like(x), np.ones_like(x)  # orthonormal polynomials
    for k in range(nodes - 1):
        last = beside[k - 1] if k else 0.0
        before, now = now, ((x - diagonal[k]) * now - last * before) / beside[k]
        total += now * now
    return x, 1.0 / total
