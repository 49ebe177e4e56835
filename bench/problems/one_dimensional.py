"""Exact expectations of Σ_i φ(z_i), and their gradients, by quadrature over one coordinate.

E φ = ∫ φ q dz. Its gradient is ∫ φ q ∇_λ log q dz, plus φ q at each end of the support times the derivative of that end
in λ. So φ may be discontinuous, and of q only the marginal of one coordinate is needed. Each integral is split where φ
or q has a corner, and each subinterval uses a doubly exponential rule (Takahasi & Mori 1974), which is accurate for
endpoints of any kind.

A wave cos(kz) under a tail that decays more slowly than exp(−|z|) oscillates for too long. There the rule of Ooura &
Mori 1999 (J. Comput. Appl. Math. 112, 229) is used: its nodes approach the zeros of the wave doubly exponentially, so q
need not be small where the rule ends.

Steps are halved until two rules agree to rounding. The same nodes check that q integrates to 1 and its score to 0.
Where any of these checks fails, the result is None rather than an inaccurate value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.problem import Exact
from gradmeter.estimators import Family, FamilyConfig, NotApplicable
from gradmeter.estimators.backends import get
from gradmeter.estimators.families.capabilities import has
from gradmeter.estimators.families.logs import Logs
from gradmeter.estimators.families.relaxation import sigmoid
from gradmeter.estimators.families.support_and_tails import Marginals, SupportAndTails

#: (z, log q(z)) -> φ(z) q(z), elementwise.
Weighted = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Number of nodes of the first and of the last rule in each subinterval.
FEWEST, MOST = 256, 2**19
#: Tolerances relative to the sum of absolute values: difference of two rules, error of the known identities, and last
#: term of a rule.
AGREEMENT, SELF_CHECK, NEGLIGIBLE = 1e-13, 1e-10, 1e-15
#: Bound on the rounding error of a sum, relative to the sum of absolute values.
ROUNDING = 2.0**-50
#: Rules end at this |t|, where the distance from an end is 1e-150 of a subinterval.
REACH = 6.1


def exact_sum(
    family: Family, parameters: Vectors, weighted: Weighted, breaks: Sequence[float] = (), wave: float = 0.0
) -> Exact | None:
    """Return E Σ_i φ(z_i) and its ∇_λ, or None where these cannot be computed to rounding.

    Parameters
    ----------
    family
        Family q_λ.
    parameters
        λ, {parameter block: float64 NumPy array [*shape]}.
    weighted : (z, log q) -> φ q
        The product of φ and q, which may be finite where φ overflows and q vanishes. Where q is 0 and the product is
        not finite, it is taken as 0.
    breaks : sequence of float
        Discontinuities and corners of φ.
    wave : float
        k if φ is cos(kz), else 0.
    """
    found_marginals = _marginals(family, parameters)
    if found_marginals is None:
        return None
    one, at, collect, logits = found_marginals
    phi = _Phi(weighted, tuple(breaks), abs(wave))
    if logits:  # z rises from 0 to 1 about the logit 0, possibly far from the mass
        inside = [math.log(b / (1.0 - b)) for b in (*breaks, 0.5) if 0.0 < b < 1.0]
        phi = _Phi(lambda s, log_density: weighted(sigmoid(np, s), log_density), tuple(inside))
    # Integrate coordinates with equal λ, as in most problems, once.
    columns, place = np.unique(np.stack([at[name] for name in one.blocks]), axis=1, return_inverse=True)
    found = [_moments(one, dict(zip(one.blocks, column[:, None], strict=True)), phi) for column in columns.T]
    if any(each is None for each in found):
        return None
    place = np.ravel(place)
    values, gradients, errors = zip(*(each for each in found if each), strict=True)
    gradient: Vectors = {name: np.array([g[name] for g in gradients])[place] for name in one.blocks}
    objective, moved = collect(np.array(values)[place], gradient)
    missed = np.linalg.norm(np.array(errors)[place])
    size = np.linalg.norm(np.stack(list(gradient.values())))
    source = "enumeration" if one.support_and_tails(at).discrete else "quadrature"
    if missed >= size:  # nothing is left but rounding
        return Exact(moved, source, objective, errors={name: np.full_like(a, missed) for name, a in moved.items()})
    return Exact(moved, source, objective, error=float(missed / size))


def _marginals(family: Family, parameters: Vectors) -> Marginals | None:
    """Return the distributions of single coordinates, or None where they or their support and tails are unknown."""
    try:
        found = family.marginals(parameters) if has(family, "marginals") else None
    except NotApplicable:
        return None
    return found if found and has(found.family, "support_and_tails") else None


@dataclass(frozen=True)
class _Phi:
    """φ as its product with a density, its discontinuities and corners, and k if it is cos(kz)."""

    weighted: Weighted
    breaks: tuple[float, ...]
    wave: float = 0.0


def check_growth(
    what: str, q: FamilyConfig, dimension: int, growth: float, power: int, option: str, sign: float = 1.0
) -> None:
    """Check that E exp(growth z_i^power) exists.

    Parameters
    ----------
    what : str
        The problem with its options, for the error message.
    q
        Family with the point λ.
    dimension
        D, the number of coordinates of z.
    growth
        Factor of z_i^power.
    power
        Power of z_i.
    option : str
        Name of the option that determines `growth`.
    sign : float
        1 if this option has the sign of `growth`, else −1.

    Raises
    ------
    NotApplicable
        The expectation does not exist.
    """
    family = q.family
    found = _marginals(family, q.parameters(dimension if q.unequal else 2))
    if found is None:
        return
    support_and_tails = found.family.support_and_tails(found.parameters)
    for tail, pull in ((support_and_tails.below, (-1.0) ** power), (support_and_tails.above, 1.0)):
        if np.all(tail.has_moment(np.asarray(pull * growth), power)):
            continue
        limit = sign * pull * (float(np.min(tail.rate)) if tail.power == power else 0.0)
        least = "above" if sign * pull < 0.0 else "below"
        wanted = f"{least} {limit:g}" if tail.power == power else f"at {'least' if least == 'above' else 'most'} 0"
        heavy = f"under family {family.name}, whose tails are too heavy"
        raise NotApplicable(f"{what} has no expectation {heavy}; {option} must be {wanted}")


@dataclass(frozen=True)
class _Nodes:
    """Nodes and weights of a rule, and the distances from the upper end where only these are precise.

    `part` is `both` for integrals of q and of φ q, `density` for those of q alone, and `wave` for those of φ q alone,
    with φ included in the weights. A rule in v, where the distance from an end is proportional to exp(−v) (or z to
    exp(v)), has weights in dv: `logs` are the logarithms of z, `shift` is log |dz/dv|, to be added to log q, and z
    itself may have been rounded to the end.
    """

    z: np.ndarray
    weights: np.ndarray
    from_high: np.ndarray | None = None
    part: str = "both"
    logs: Logs | None = None
    shift: np.ndarray | None = None


def _between(low: float, high: float, count: int, exact_high: bool) -> _Nodes:
    """Return the tanh-sinh rule between two finite ends; distances from the nearer end are exact."""
    t = np.linspace(-REACH, REACH, count)
    with np.errstate(over="ignore"):
        s = np.pi * np.sinh(t)
        left, right = 1.0 / (1.0 + np.exp(-s)), 1.0 / (1.0 + np.exp(s))
    width = high - low
    z = np.where(t < 0.0, low + width * left, high - width * right)
    return _Nodes(
        z,
        width * left * right * np.pi * np.cosh(t) * (2.0 * REACH / (count - 1)),
        width * right if exact_high else None,
    )


def _beyond(end: float, width: float, direction: float, count: int, part: str) -> _Nodes:
    """Return the exp-sinh rule from `end` to infinity."""
    t = np.linspace(-REACH, REACH, count)
    away = width * np.exp(0.5 * np.pi * np.sinh(t))
    weights = away * 0.5 * np.pi * np.cosh(t) * (2.0 * REACH / (count - 1))
    return _Nodes(end + direction * away, weights, part=part)


def _along_wave(end: float, wave: float, direction: float, count: int) -> _Nodes:
    """Return the rule of Ooura and Mori for cos(kz) from `end` to infinity.

    z = end ± (M/k) φ(t), where φ(t) = t/(1 − exp(−u)), u = 2t + α(1 − exp(−t)) + β(exp(t) − 1) and M = π/h, at the t
    where cos(k end ± M t) is 0.
    """
    h = 12.0 / count
    large, beta = np.pi / h, 0.25
    alpha = beta / np.sqrt(1.0 + large * np.log1p(large) / (4.0 * np.pi))
    phase = float(np.fmod(direction * wave * end, np.pi))
    lowest, highest = -np.log1p(45.0 / alpha), np.log1p(45.0 / beta)
    n = np.arange(np.ceil(lowest / h), np.floor(highest / h) + 1.0)
    zeros = (n + 0.5) * np.pi - phase
    t = zeros / large
    t = np.where(t == 0.0, 1e-30, t)
    u = 2.0 * t - alpha * np.expm1(-t) + beta * np.expm1(t)
    rest, left = -np.expm1(-u), np.exp(-u)  # 1 − E and E = exp(−u)
    # φ′ = (1 − E − t u′ E)/(1 − E)², with the numerator written to avoid cancellation.
    slope = (_remainder(u) + left * (alpha * _remainder(t) - beta * _remainder(-t))) / rest**2
    away = large * t / rest / wave
    beyond = large * t * left / rest  # k times the distance of a node from the zero
    turned = phase + wave * away
    value = np.where(t > 0.5, np.where(n % 2.0 == 0.0, -1.0, 1.0) * np.sin(beyond), np.cos(turned))
    # A shift by 2π leaves cos unchanged; a shift by π changes its sign.
    sign = 1.0 if np.cos(direction * wave * end - phase) > 0.0 else -1.0
    return _Nodes(end + direction * away, sign * np.pi / wave * slope * value, part="wave")


def _remainder(x: np.ndarray) -> np.ndarray:
    """Return 1 − (1 + x) exp(−x) without cancellation."""
    small = np.abs(x) < 0.5
    near = np.where(small, x, 0.0)
    series = sum((-1.0) ** k * near**k / (k * math.factorial(k - 2)) for k in range(2, 20))
    return np.where(small, series, -np.expm1(-x) - x * np.exp(-x))


def _towards(end: float, start: float, bounded: bool, count: int) -> _Nodes:
    """Return the exp-sinh rule in v, with distance (start − end) exp(−v) from the end 0 or 1.

    The rule extends past the smallest floating-point number.
    """
    t = np.linspace(-REACH, REACH, count)
    v = np.exp(0.5 * np.pi * np.sinh(t))
    log = np.log(abs(start - end)) - v
    away = np.exp(log)
    far = np.log1p(-away) if bounded else None
    low, high = (log, far) if end == 0.0 else (far, log)
    z = away if end == 0.0 else 1.0 - away
    weights = v * 0.5 * np.pi * np.cosh(t) * (2.0 * REACH / (count - 1))
    return _Nodes(z, weights, logs=Logs(low, high), shift=log)


def _far_from(start: float, count: int, part: str) -> _Nodes:
    """Return the exp-sinh rule in v, with z = start exp(v), which extends past the largest floating-point number."""
    t = np.linspace(-REACH, REACH, count)
    v = np.exp(0.5 * np.pi * np.sinh(t))
    log = math.log(start) + v
    with np.errstate(over="ignore"):
        z = np.exp(log)
    weights = v * 0.5 * np.pi * np.cosh(t) * (2.0 * REACH / (count - 1))
    return _Nodes(z, weights, part=part, logs=Logs(log), shift=log)


def _pieces(
    points: list[float], support_and_tails: SupportAndTails, count: int, logs: bool, wave: float
) -> list[_Nodes]:
    """Return one rule per subinterval, the outermost of which may be infinite.

    An infinite subinterval has two rules if its tail is too heavy for a wave. `logs` means that the family accepts
    logarithms of z, and also of 1 − z if it has a mirror image.
    """
    inner, mirrored, width = (
        [p for p in points if np.isfinite(p)],
        bool(support_and_tails.mirror),
        float(support_and_tails.width[0]),
    )
    pairs, rules = list(itertools.pairwise(inner)), []
    if logs:
        rules.append(_towards(*pairs.pop(0), mirrored, count))
        if mirrored:
            rules.append(_towards(*pairs.pop()[::-1], mirrored, count))
    rules += [_between(a, b, count, mirrored and b == points[-1]) for a, b in pairs]
    for end, last, direction, tail in (
        (points[0], inner[0], -1.0, support_and_tails.below),
        (points[-1], inner[-1], 1.0, support_and_tails.above),
    ):
        if np.isinf(end):
            waves = wave > 0.0 and tail.power < 1.0
            part = "density" if waves else "both"
            heavy = logs and direction > 0.0 and tail.power == 0.0
            rules.append(_far_from(last, count, part) if heavy else _beyond(last, width, direction, count, part))
            rules += [_along_wave(last, wave, direction, count)] if waves else []
    return rules


def _moments(family: Any, parameters: Vectors, phi: _Phi) -> tuple[float, dict[str, float], float] | None:
    """Return E φ, ∇ E φ and its error for one coordinate with parameters [1], or None without convergence."""
    support_and_tails = family.support_and_tails(parameters)
    low, middle, high = (float(a[0]) for a in (support_and_tails.low, support_and_tails.middle, support_and_tails.high))
    if support_and_tails.discrete:
        counted = _Nodes(np.arange(high + 1.0), np.ones(int(high) + 1))
        sums = _sums(family, parameters, phi.weighted, [counted])
        left = sums.last > NEGLIGIBLE * sums.sizes  # not negligible at the last state, where z is unbounded
        unfinished = np.isfinite(support_and_tails.above.power) and np.any(left)
        return None if unfinished else _settle(family, parameters, phi.weighted, sums, sums, ())
    points = sorted({low, middle, high} | {float(b) for b in phi.breaks if low < b < high})
    count, before = FEWEST, None
    while count <= MOST:
        rules = _pieces(
            points, support_and_tails, count, getattr(type(family), "logs", Family.logs) is not Family.logs, phi.wave
        )
        sums = _sums(family, parameters, phi.weighted, rules)
        if before is not None and np.all(np.abs(sums.terms - before.terms) <= AGREEMENT * sums.sizes):
            ended = np.maximum(sums.first, sums.last) <= NEGLIGIBLE * sums.sizes
            return _settle(family, parameters, phi.weighted, sums, before, (low, high)) if np.all(ended) else None
        count, before = 2 * count, sums
    return None


@dataclass(frozen=True)
class _Sums:
    """Integrals of q and φ q, and of q s and φ q s for the score s of every block, with diagnostics.

    `sizes` are the sums of absolute values; `first` and `last` are the largest first and last terms of a rule.
    """

    terms: np.ndarray
    sizes: np.ndarray
    first: np.ndarray
    last: np.ndarray


def _sums(family: Any, parameters: Vectors, weighted: Weighted, rules: list[_Nodes]) -> _Sums:
    each = []
    for rule in rules:
        with np.errstate(all="ignore"):
            log_density, score = _law(family, parameters, rule)
            density = np.exp(log_density)
            product = density if rule.part == "wave" else weighted(rule.z, log_density)
            # Nodes on or beyond an end of the support by rounding, and nodes where φ overflows and q has vanished.
            gone = ~np.isfinite(log_density) | ((density == 0.0) & ~np.isfinite(product))
            rows = np.where(gone, 0.0, np.stack([density, product]))
            if rule.part != "both":
                rows[0 if rule.part == "wave" else 1] = 0.0
            # Where q has vanished, its score may be infinite.
            rows = np.concatenate([rows, *(np.where(rows == 0.0, 0.0, rows * s) for s in score)])
            rows = np.where(rule.weights == 0.0, 0.0, rows * rule.weights)
        absolute = np.abs(rows)
        each.append([rows.sum(axis=1), absolute.sum(axis=1), absolute[:, 0], absolute[:, -1]])
    terms, sizes, first, last = np.moveaxis(np.array(each), 0, 1)
    return _Sums(terms.sum(axis=0), sizes.sum(axis=0), first.max(axis=0), last.max(axis=0))


def _law(family: Any, parameters: Vectors, rule: _Nodes) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return log q and the scores by block at the nodes."""
    backend, mirror = get("numpy"), family.support_and_tails(parameters).mirror
    z = rule.z[:, None]
    logs = () if rule.logs is None else (Logs(*(a if a is None else a[:, None] for a in rule.logs)),)
    log_density = family.log_densities(backend, parameters, z, *logs)[:, 0]
    score = family.score(backend, parameters, z, *logs)
    if rule.shift is not None:
        log_density = log_density + rule.shift
    if rule.from_high is not None:
        away, there = rule.from_high[:, None], {n: sign * parameters[other] for n, (other, sign) in mirror.items()}
        near = rule.from_high < 0.5 * rule.from_high.max()
        swapped = family.score(backend, there, away)
        log_density = np.where(near, family.log_densities(backend, there, away)[:, 0], log_density)
        swapped = {other: sign * swapped[name] for name, (other, sign) in mirror.items()}
        score = {name: np.where(near[:, None], swapped[name], score[name]) for name in family.blocks}
    return log_density, [np.broadcast_to(score[name], z.shape)[:, 0] for name in family.blocks]


def _settle(
    family: Any, parameters: Vectors, weighted: Weighted, sums: _Sums, before: _Sums, ends: tuple[float, ...]
) -> tuple[float, dict[str, float], float] | None:
    """Return the value, gradient and gradient error that the sums give, or None if the checks fail.

    Contributions of the ends of the support are included. The error is the difference from the previous rule plus
    rounding.
    """
    if not np.all(np.isfinite(sums.terms)):
        return None
    (mass, first), scores = sums.terms[:2], sums.terms[2:].reshape(-1, 2)
    value = first / mass
    gradient = {}
    for i, name in enumerate(family.blocks):
        identity, moved = scores[i]
        boundary = np.zeros(2)  # contributions of the ends to ∇ ∫ q and to ∇ ∫ φ q
        for end, sign, speed in _ends(family, parameters, name, ends):
            at = np.asarray([[end]])
            log_density = family.log_densities(get("numpy"), parameters, at)[0]
            boundary += sign * speed * np.stack([np.exp(log_density), weighted(at[0], log_density)])[:, 0]
        off = identity + boundary[0]
        if abs(off) > SELF_CHECK * max(1.0, sums.sizes[2 + 2 * i]):
            return None
        # ∇ ∫ q = 0 exactly. Its computed deviation from 0, times the mean of φ, corrects the gradient for rounding.
        gradient[name] = float((moved + boundary[1] - value * off) / mass)
    off_by = np.abs(sums.terms - before.terms) + ROUNDING * sums.sizes
    return (float(value), gradient, float(np.linalg.norm(off_by[3::2]))) if abs(mass - 1.0) <= SELF_CHECK else None


def _ends(family: Any, parameters: Vectors, name: str, ends: tuple[float, ...]) -> list[tuple[float, float, float]]:
    """Return the ends at which the density is not 0, each with its sign in ∇ ∫ and its derivative in the block."""
    moving = family.support_and_tails(parameters).moving
    if not ends or name not in moving:
        return []
    pairs = zip(ends, (-1.0, 1.0), moving[name], strict=True)
    return [(end, sign, float(speed[0])) for end, sign, speed in pairs if np.isfinite(end)]
