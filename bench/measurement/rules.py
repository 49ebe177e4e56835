"""Quadrature rules for one number of noise, at randomly shifted nodes.

Two rules of one kind differ in `shift`, a number in (0, 1) that moves every node by up to the distance of two nodes:
what one grid misses, another may meet. The trapezoid rule is used with many nodes, after a doubly exponential
substitution where the noise has an end or the estimate a corner, so that it tolerates singularities there. With few
nodes the rules are Gauss rules whose Jacobi matrix has its last diagonal element shifted (quasi-Gauss: exact to degree
2n − 2, Peherstorfer 1990).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Fewest nodes of a trapezoid rule for Gaussian noise, and of one that tolerates singular ends.
TRAPEZOID, DOUBLY_EXPONENTIAL = 100, 40
#: For smooth functions of uniform noise, min(n, n/2 + 80) Gauss nodes replace n nodes.
MANY = 80
#: In units of the noise's precision: error of the ends of a subinterval, and distance that random nodes keep from them.
ULPS, MARGIN = 4.0, 16.0
#: Range of the substitution for (0, 1): down to 3e-19 from the ends, beyond a uniform number's precision, or to 2e-26.
END, FARTHER_END = 3.3, 3.65


@dataclass(frozen=True)
class Rule:
    """A quadrature rule for one number of noise.

    Attributes
    ----------
    x, w
        Nodes, and weights that sum to 1 [n].
    lost
        Bound on the error of a weight at the ends of subintervals from the finite precision of the noise [n].
    room
        A node lies anywhere in [x, x + room), drawn anew for every point of a grid [n].
    """

    x: np.ndarray
    w: np.ndarray
    lost: np.ndarray
    room: np.ndarray


def _fixed(x: np.ndarray, w: np.ndarray) -> Rule:
    return Rule(x, w / w.sum(), np.zeros_like(x), np.zeros_like(x))


def rule(kind: str, nodes: int, reach: float, shift: float, precision: float = 2.0**-52, smooth: bool = False) -> Rule:
    """Return the rule for a number without discontinuities.

    Parameters
    ----------
    kind
        Of noise.
    nodes
        Their number.
    reach
        Extent of the nodes where the noise is unbounded, in standard deviations of a Normal, or out to an equally
        improbable value.
    shift
        Offset of the nodes, in (0, 1).
    precision
        Unit in the last place of the arithmetic that the noise is drawn in.
    smooth
        Whether a function of uniform noise is taken to be smooth at its ends, which resolves more in between.
    """
    if kind == "rademacher":
        return _fixed(np.asarray([-1.0, 1.0]), np.asarray([0.5, 0.5]))
    if kind == "uniform" and smooth:
        return _fixed(*_legendre(min(nodes, nodes // 2 + MANY), shift))
    if kind in ("uniform", "stratum"):
        return subintervals(kind, np.zeros(0), nodes, reach, shift, precision)
    if kind == "exponential":
        return _fixed(*_half_line(kind, 0.0, 1.0, nodes, reach, shift))
    if kind == "rayleigh":
        if nodes >= TRAPEZOID:
            return _fixed(*_half_line(kind, 0.0, 1.0, nodes, reach, shift))
        x, w = _legendre(nodes, shift)
        return _fixed(reach * x, w * _density(kind, reach * x))
    if nodes >= TRAPEZOID:  # geometric convergence for analytic integrands against a Gaussian
        x = reach * (2.0 * (np.arange(nodes) + shift) / nodes - 1.0)
        return _fixed(x, _density(kind, x))
    x, w = _quasi_gauss(np.zeros(nodes), np.sqrt(np.arange(1.0, nodes)), math.sqrt(nodes) * (2.0 * shift - 1.0))
    return _fixed(x, w * x * x if kind == "maxwell" else w)


def subintervals(
    kind: str, at: np.ndarray, nodes: int, reach: float, shift: float, precision: float = 2.0**-52
) -> Rule:
    """Return a rule for a number at whose values `at` the estimate has discontinuities or corners.

    The rule is composed of one rule on each subinterval between these values.

    Parameters
    ----------
    at
        The discontinuities and corners.
    nodes
        In each subinterval.
    kind, reach, shift, precision
        As for `rule`.
    """
    bounded, two_sided = kind in ("uniform", "stratum"), kind in ("normal", "maxwell")
    low = -math.inf if two_sided else 0.0
    inner = np.unique(at[(at > low) & (at < (1.0 if bounded else math.inf))])
    if two_sided and len(inner) == 0:
        return rule(kind, nodes, reach, shift)
    ends = np.concatenate([[] if two_sided else [0.0], inner, [1.0] if bounded else []])
    # Stay on the correct side of a discontinuity, and inside bounded noise, where mirror images 1 − u then are as well.
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
    """Return a rule with one node per subinterval of a uniform number, drawn anew for every point.

    One node is enough where an estimate is constant between discontinuities; elsewhere the nodes are random draws.
    """
    ends = np.concatenate([[0.0], np.unique(at[(at > 0.0) & (at < 1.0)]), [1.0]])
    width = np.diff(ends)
    margin = np.minimum(MARGIN * precision, 0.25 * width)
    return Rule(ends[:-1] + margin, width, np.full_like(width, ULPS * precision), width - 2.0 * margin)


def _density(kind: str, x: np.ndarray) -> np.ndarray:
    """Return the density of the noise at x up to a constant factor."""
    if kind in ("uniform", "stratum"):
        return np.ones_like(x)
    if kind == "exponential":
        return np.exp(-x)
    return np.exp(-0.5 * x * x) * {"normal": 1.0, "rayleigh": x, "maxwell": x * x}[kind]


def _half_line(
    kind: str, start: float, sign: float, nodes: int, reach: float, shift: float, margin: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights from `start` to infinity, in the direction of `sign`.

    The trapezoid rule in t with |x − start| = exp(t − exp(−t)) tolerates a singularity at `start`. No node is nearer to
    it than the margin.
    """
    far = 0.5 * reach * reach if kind == "exponential" else reach + abs(start)
    first, last = -math.log(0.5 * reach * reach), math.log(far) + 1.0 / far
    t = first + (last - first) * (np.arange(nodes) + shift) / nodes
    y = np.exp(t - np.exp(-t))
    x = start + sign * np.maximum(y, margin)
    return x, (last - first) / nodes * y * (1.0 + np.exp(-t)) * _density(kind, x)


def _doubly_exponential(nodes: int, shift: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights on (0, 1): the trapezoid rule in t with x = 1/(1 + exp(−π sinh t)).

    The integrand may be singular at either end.
    """
    t = end * (2.0 * (np.arange(nodes) + shift) / nodes - 1.0)
    x = 1.0 / (1.0 + np.exp(-np.pi * np.sinh(t)))
    w = x / (1.0 + np.exp(np.pi * np.sinh(t))) * np.cosh(t)
    return x, w / w.sum()


def _legendre(nodes: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of a quasi-Gauss-Legendre rule on (0, 1).

    All nodes stay inside, and two rules of different shifts need have no node in common.
    """
    k = np.arange(1.0, nodes)
    moved = 0.3 * nodes / (2.0 * nodes - 1.0) * (2.0 * shift - 1.0)
    return _quasi_gauss(np.full(nodes, 0.5), 0.5 * k / np.sqrt(4.0 * k * k - 1.0), moved)


def _quasi_gauss(diagonal: np.ndarray, beside: np.ndarray, moved: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights from the Jacobi matrix with `moved` added to its last diagonal element."""
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
