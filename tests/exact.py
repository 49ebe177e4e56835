"""Closed-form variances, written down apart from the packages they check.

q = N(μ, σ²), one estimate; by estimator {parameter block: variance}, log σ throughout (that of σ, times σ²).
"""

from __future__ import annotations

import math

Variances = dict[str, float]


def _blocks(loc: float, sigma_variance: float, scale: float) -> Variances:
    return {"loc": loc, "log_scale": sigma_variance * scale**2}


def square(delta: float, s: float) -> dict[str, Variances]:
    """f = (z − k)², δ = μ − k; the antithetic pair is S = 2, all else S = 1."""
    d2, s2 = delta**2, s**2
    table = {
        "score-function": (d2**2 / s2 + 14 * d2 + 15 * s2, 2 * d2**2 / s2 + 60 * d2 + 74 * s2),
        "score-function[baseline=mean]": (8 * d2 + 10 * s2, 40 * d2 + 56 * s2),
        "score-function[baseline=optimal]": (8 * d2 + 6 * s2, 40 * d2 + 24 * s2),
        "score-function[draws=antithetic]": (8 * d2, 2 * d2**2 / s2 + 20 * d2 + 74 * s2),
        "pathwise": (4 * s2, 4 * d2 + 8 * s2),
        "pathwise[antithetic=true]": (0.0, 8 * s2),
        "measure-valued": (d2 * (16 / math.pi - 4), 4 * d2 + 4 * s2),
        "measure-valued[coupling=false]": (d2 * (8 / math.pi - 2) + 4 * s2 / math.pi, 16 * d2 + 8 * s2),
    }
    return {name: _blocks(loc, sigma, s) for name, (loc, sigma) in table.items()}


def square_score_function(delta: float, s: float, dimension: int, baseline: str) -> Variances:
    """Of one coordinate of D equal ones: what the others, r = Σ f_i, add."""
    d2, s2 = delta**2, s**2
    one = square(delta, s)[f"score-function[baseline={baseline}]" if baseline != "none" else "score-function"]
    variance, mean = (dimension - 1) * (4 * d2 * s2 + 2 * s2**2), (dimension - 1) * (d2 + s2)
    if baseline == "none":
        added = (
            (variance + mean**2) / s2 + 2 * mean * (d2 + 3 * s2) / s2,
            2 * (variance + mean**2) / s2 + 4 * mean * (d2 + 5 * s2) / s2,
        )
    else:
        added = variance / s2, 2 * variance / s2
    more = _blocks(*added, s)
    return {name: one[name] + more[name] for name in one}


def square_importance(delta: float, s: float, widen: float) -> Variances:
    """The score function sampled from N(μ, (widen σ)²) and weighted by w = q/r.

    E_r[(w f s)²] = widen √v E[f² s²] over ε ~ N(0, v), v = 1/(2 − widen⁻²); f = (δ + sε)², scores ε/s and ε² − 1.
    """
    d2, s2, v = delta**2, s**2, 1 / (2 - widen**-2)
    size = widen * math.sqrt(v)
    loc = size * (d2**2 * v + 18 * d2 * s2 * v**2 + 15 * s2**2 * v**3) / s2 - 4 * d2
    even = (3 * v**2 - 2 * v + 1, 15 * v**3 - 6 * v**2 + v, 105 * v**4 - 30 * v**3 + 3 * v**2)
    log_scale = size * (d2**2 * even[0] + 6 * d2 * s2 * even[1] + s2**2 * even[2]) - 4 * s2**2
    return {"loc": loc, "log_scale": log_scale}


def cosine_loc(omega: float, mu: float, s: float) -> dict[str, float]:
    """f = cos(ωz): ∂μ alone."""
    w2 = (omega * s) ** 2
    wave, decay = math.cos(2 * omega * mu), math.exp(-2 * w2)
    g2 = (omega * math.sin(omega * mu)) ** 2 * math.exp(-w2)
    return {
        "score-function": (0.5 + 0.5 * wave * (1 - 4 * w2) * decay) / s**2 - g2,
        "pathwise": omega**2 * (0.5 - 0.5 * wave * decay) - g2,
    }


def exponent_loc(a: float, mu: float, s: float) -> dict[str, float]:
    """f = exp(az): ∂μ alone."""
    g2 = (a * math.exp(a * mu + 0.5 * (a * s) ** 2)) ** 2
    return {
        "score-function": math.exp(2 * a * mu + 2 * (a * s) ** 2) * (s**-2 + 4 * a**2) - g2,
        "pathwise": g2 * math.expm1((a * s) ** 2),
    }


def gaussian_elbo(mu: float, s: float, m: float, prior: float) -> dict[str, Variances]:
    """The ELBO of N(μ, s²) against N(m, prior²), entropy sampled."""
    away, slack = (mu - m) ** 2 / prior**4, (1 / s - s / prior**2) ** 2
    return {
        "pathwise": _blocks(s**2 / prior**4, away + 2 * s**2 / prior**4, s),
        "pathwise[sticking-the-landing=true]": _blocks(slack, away + 2 * slack, s),
    }
