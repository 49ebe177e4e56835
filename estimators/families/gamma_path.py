"""Standard gamma numbers g ~ Gamma(α, 1) from a fixed amount of noise, and their derivative in α.

The sampler is Marsaglia & Tsang's (2000) rejection with `PROPOSALS` proposals, the first accepted one of which is
used. It gives log g too: at α = 0.001 half of all g are below the smallest float64 number. Its path jumps where a
proposal comes to be refused, so it has no useful derivative at fixed noise; the path that has one is the inverse CDF's,
dg/dα = −(∂F(g; α)/∂α)/q(g), which needs g alone (implicit reparameterisation, Figurnov et al. 2018). It is computed as
∂ log g/∂α = (dg/dα)/g, which stays finite where g underflows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.estimators.noise import Noise

Array = Any

#: Proposals drawn for every number. One is refused with probability at most 0.0484 (at α = 1; less for larger α), all
#: of them with at most 0.0484⁸ = 3.1e-11; then x = 0 stands in, which moves an expectation by as much.
PROPOSALS = 8

#: How far the sum below is from an integral whose rest is exp(−REACH), with so many Gauss-Legendre nodes: 1e-13.
REACH, NODES = 40.0, 40
#: Terms of the series for g ≤ 1: the first left out is below 1/22! = 1e-21.
TERMS = 22


def gamma_noise(shape: tuple[int, ...], prefix: str = "") -> dict[str, Noise]:
    """The noise of one standard gamma number for every place of `shape`, under names that begin with `prefix`.

    Uniforms u enter by −log u only, so they are drawn as exponentials: neither 0 nor infinite.
    """
    return {
        f"{prefix}proposal": Noise("normal", (*shape, PROPOSALS)),
        f"{prefix}acceptance": Noise("exponential", (*shape, PROPOSALS)),
        f"{prefix}boost": Noise("exponential", shape),
    }


def standard_gamma(backend: Any, concentration: Array, noise: dict[str, Array], prefix: str = "") -> Array:
    """g [..., *shape] ~ Gamma(α, 1), for α that broadcasts with it; 0 where it underflows."""
    accepted, boost = _boosted(backend, concentration, noise, prefix)
    return accepted * backend.xp.exp(boost)


def log_standard_gamma(backend: Any, concentration: Array, noise: dict[str, Array], prefix: str = "") -> Array:
    """log g."""
    accepted, boost = _boosted(backend, concentration, noise, prefix)
    return backend.xp.log(accepted) + boost


def _boosted(backend: Any, concentration: Array, noise: dict[str, Array], prefix: str) -> tuple[Array, Array]:
    """A number of Gamma(α, 1), and 0; where α < 1 one of Gamma(α + 1, 1), and log u^(1/α), by which it is boosted."""
    xp = backend.xp
    small = concentration < 1.0
    d, c = constants(xp, xp.where(small, concentration + 1.0, concentration))
    root = 1.0 + c * accepted_proposal(backend, concentration, noise, prefix)
    boost = -noise[f"{prefix}boost"] / concentration
    return d * root * root * root, xp.where(small, boost, xp.zeros_like(boost))


def accepted_proposal(backend: Any, concentration: Array, noise: dict[str, Array], prefix: str = "") -> Array:
    """The first x [..., *shape] that is accepted; 0 if none is."""
    xp = backend.xp
    d, c = constants(xp, xp.where(concentration < 1.0, concentration + 1.0, concentration))
    x, cost = noise[f"{prefix}proposal"], noise[f"{prefix}acceptance"]
    cubed, limit = proposal(xp, d[..., None], c[..., None], x)
    accepted = (cubed > 0.0) & (cost > limit)
    chosen = xp.zeros_like(noise[f"{prefix}boost"])
    for k in range(PROPOSALS - 1, -1, -1):
        chosen = xp.where(accepted[..., k], x[..., k], chosen)
    return chosen


def accepted_slope(
    backend: Any, concentration: Array, noise: dict[str, Array], g: Array, prefix: str = ""
) -> tuple[Array, Array]:
    """∂g/∂α at the accepted proposal x, and ∂/∂α of the log-density of x, q(h) |∂h/∂x| with h = d (1 + c x)³.

    Where α < 1, h is of α + 1, and g = h u^(1/α) at fixed u.
    """
    xp = backend.xp
    small = concentration < 1.0
    raised = xp.where(small, concentration + 1.0, concentration)
    d, c = constants(xp, raised)
    root = 1.0 + c * accepted_proposal(backend, concentration, noise, prefix)
    shift = (root - 1.0) / (d * root)  # −2 ∂(log root)/∂α
    relative = 1.0 / d - 1.5 * shift
    h = d * root * root * root
    score = xp.log(h) - backend.special.digamma(raised) + (raised - 1.0 - h) * relative + 0.5 / d - shift
    boost = noise[f"{prefix}boost"] / (concentration * concentration)
    return g * (relative + xp.where(small, boost, xp.zeros_like(boost))), score


def constants(xp: Any, concentration: Array) -> tuple[Array, Array]:
    """d and c of the proposals g = d (1 + c x)³, for α ≥ 1."""
    d = concentration - 1.0 / 3.0
    return d, 1.0 / xp.sqrt(9.0 * d)


def proposal(xp: Any, d: Array, c: Array, x: Array) -> tuple[Array, Array]:
    """v = (1 + c x)³, and what −log u must exceed for d v to be accepted, where v > 0.

    It is −(x²/2 + d − d v + d log v): minus the log-density of g, Jacobian included, over that of x, up to a constant.
    """
    root = 1.0 + c * x
    cubed = root * root * root
    inside = xp.where(cubed > 0.0, cubed, xp.ones_like(cubed))
    return cubed, d * (cubed - 1.0 - xp.log(inside)) - 0.5 * x * x


def log_gamma_slope(backend: Any, concentration: Array, log_g: Array) -> Array:
    """∂ log g/∂α = −(∂F(g; α)/∂α)/(g q(g)), to 1e-12 of itself for α from 0.001 to 1e5.

    With t = g eʷ, ∂F/∂α = ∫₀ᵍ (log t − ψ(α)) q(t) dt = −∫_g^∞, so for either sign s

        ∂ log g/∂α = s ∫₀^∞ (log g + s w − ψ(α)) exp(s α w − g (e^{s w} − 1)) dw,

    where s = 1 for g > α, else −1, makes the exponent fall from 0 and leaves no cancellation. g ≤ 1 has instead the
    power series of s = −1, which is good to any small α: it begins with −(log g − ψ(α + 1))/α.
    """
    xp = backend.xp
    g = xp.exp(log_g)
    away = log_g - backend.special.digamma(concentration)
    sign = xp.where(g > concentration, xp.ones_like(g), -xp.ones_like(g))
    large = xp.where(g > 1.0, g, xp.ones_like(g))
    slow = xp.where(g > 1.0, concentration, xp.ones_like(g))  # the series' part is not read; it stays finite
    end = _end(xp, sign, slow, large)
    nodes, weights = (backend.asarray(a, None) for a in _RULE)
    nodes, weights = xp.astype(nodes, g.dtype), xp.astype(weights, g.dtype)
    w = end[..., None] * nodes
    signed = sign[..., None] * w
    exponent = slow[..., None] * signed - large[..., None] * xp.expm1(signed)
    integral = end * xp.sum(weights * (away[..., None] + signed) * xp.exp(exponent), axis=-1)
    below = xp.where(g > 1.0, xp.ones_like(g), g)
    lifted = log_g - backend.special.digamma(concentration + 1.0)
    return xp.where(g > 1.0, sign * integral, _series(xp, concentration, below, lifted))


def trigamma(backend: Any, x: Array) -> Array:
    """ψ′(x) of x > 0, to rounding: ψ′(x) = ψ′(x + n) + Σ_{k < n} 1/(x + k)², and Stirling's series far out.

    Not the frameworks' own: PyTorch's errs by 4e-10, and SciPy's does not keep the precision of x.
    """
    near = sum((1.0 / (x + k) ** 2 for k in range(_SHIFT)), 0.0 * x)
    inverse = 1.0 / (x + _SHIFT)
    square = inverse * inverse
    series = 0.0 * x
    for number in reversed(_BERNOULLI):
        series = (series + number) * square
    return near + inverse * (1.0 + 0.5 * inverse + series)


#: How far x is moved up, and B₂, B₄, …: the first that is left out is below 1e-16 there.
_SHIFT = 10
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)


_RULE = (0.5 * (np.polynomial.legendre.leggauss(NODES)[0] + 1.0), 0.5 * np.polynomial.legendre.leggauss(NODES)[1])


def digamma_step(backend: Any, x: Array, step: Array) -> Array:
    """ψ(x + step) − ψ(x), which stays precise where x is large and the difference small: there, of the asymptotic
    series (Abramowitz and Stegun, 6.3.18) term by term."""
    xp, digamma = backend.xp, backend.special.digamma
    far = x > 20.0
    low = xp.where(far, x, 20.0 * xp.ones_like(x))
    high = low + step
    series = xp.log1p(step / low) + 0.5 * step / (low * high) + _tail(low) - _tail(high)
    return xp.where(far, series, digamma(x + step) - digamma(x))


def _tail(x: Array) -> Array:
    """log x − 1/(2x) − ψ(x), for x of at least 20."""
    t = 1.0 / (x * x)
    return t * (1 / 12 - t * (1 / 120 - t * (1 / 252 - t * (1 / 240 - t / 132))))


def _end(xp: Any, sign: Array, concentration: Array, g: Array) -> Array:
    """w where the exponent has fallen to −REACH, by Newton from above: the exponent is concave in w."""
    # exp(w) − 1 − w ≥ w²/2, and g > α: w = √(2 REACH/g) is too far. exp(−w) − 1 + w ≥ w²/2/(1 + w/3), and g ≤ α.
    root = REACH / (3.0 * g)
    below = root + xp.sqrt(root * root + 2.0 * REACH / g)
    w = xp.where(sign > 0.0, xp.sqrt(2.0 * REACH / g), below)
    for _ in range(4):
        fallen = g * xp.expm1(sign * w) - sign * concentration * w
        w = w - (fallen - REACH) / (sign * (g * xp.exp(sign * w) - concentration))
    return w


def _series(xp: Any, concentration: Array, g: Array, lifted: Array) -> Array:
    """−eᵍ Σ_n (−g)ⁿ/n! (a/(α + n) − 1/(α + n)²), a = log g − ψ(α) = b + 1/α, b = log g − ψ(α + 1): without the
    difference of two numbers near 1/α that the first term would be."""
    first = 1.0 / concentration
    away, total, power = lifted + first, lifted * first, -g
    for n in range(1, TERMS):
        inverse = 1.0 / (concentration + n)
        total = total + power * inverse * (away - inverse)
        power = -power * g / (n + 1)
    return -xp.exp(g) * total
