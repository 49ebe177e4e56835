"""Standard gamma variables g ~ Gamma(α, 1) from a fixed amount of noise, and their derivative with respect to α.

The sampler is Marsaglia & Tsang's (2000) rejection with `PROPOSALS` proposals, of which the first accepted one is used.
It returns log g too: at α = 0.001 half of all g are below the smallest float64 number. Its path is discontinuous where
a proposal becomes rejected, so it has no useful derivative at fixed noise. The derivative used here is that of the
inverse CDF's path, dg/dα = −(∂F(g; α)/∂α)/q(g), which depends on g only (implicit reparameterisation, Figurnov et al.
2018). It is computed as ∂ log g/∂α = (dg/dα)/g, which stays finite where g underflows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.noise import Noise

Array = Any

#: Proposals drawn for every variable. Each is rejected with probability at most 0.0484 (at α = 1; less for larger α),
#: all of them with at most 0.0484⁸ = 3.1e-11. In that case x = 0 is used, which biases an expectation by as much.
PROPOSALS = 8

#: Quadrature of the integral in `log_gamma_slope`: its remainder is exp(−REACH), and with NODES Gauss-Legendre nodes
#: the error is 1e-13.
REACH, NODES = 40.0, 40
#: Terms of the series for g ≤ 1: the first omitted one is below 1/22! = 1e-21.
TERMS = 22


def gamma_noise(shape: tuple[int, ...], prefix: str = "") -> dict[str, Noise]:
    """Return the noise of standard gamma variables of the given shape, under names that begin with `prefix`.

    Uniforms u enter as −log u only, so they are drawn as exponentials: neither 0 nor infinite.
    """
    return {
        f"{prefix}proposal": Noise("normal", (*shape, PROPOSALS)),
        f"{prefix}acceptance": Noise("exponential", (*shape, PROPOSALS)),
        f"{prefix}boost": Noise("exponential", shape),
    }


def standard_gamma(backend: Backend, concentration: Array, noise: dict[str, Array], prefix: str = "") -> Array:
    """Return g ~ Gamma(α, 1), of the shape of the noise; 0 where it underflows.

    Parameters
    ----------
    backend
        Array framework.
    concentration
        α, an array that broadcasts with the shape of g.
    noise
        {name: array}, as `gamma_noise` declares.
    prefix
        Prefix of the names of the noise.
    """
    accepted, boost = _boosted(backend, concentration, noise, prefix)
    return accepted * backend.xp.exp(boost)


def log_standard_gamma(backend: Backend, concentration: Array, noise: dict[str, Array], prefix: str = "") -> Array:
    """Return log g.

    Parameters
    ----------
    backend
        Array framework.
    concentration
        α, an array that broadcasts with the shape of g.
    noise
        {name: array}, as `gamma_noise` declares.
    prefix
        Prefix of the names of the noise.
    """
    accepted, boost = _boosted(backend, concentration, noise, prefix)
    return backend.xp.log(accepted) + boost


def _boosted(backend: Backend, concentration: Array, noise: dict[str, Array], prefix: str) -> tuple[Array, Array]:
    """Return a Gamma(α, 1) variable and 0; for α < 1, a Gamma(α + 1, 1) variable and log u^(1/α).

    The second number is to be added to the logarithm of the first.
    """
    xp = backend.xp
    small = concentration < 1.0
    d, c = constants(xp, xp.where(small, concentration + 1.0, concentration))
    root = 1.0 + c * accepted_proposal(backend, concentration, noise, prefix)
    boost = -noise[f"{prefix}boost"] / concentration
    return d * root * root * root, xp.where(small, boost, xp.zeros_like(boost))


def accepted_proposal(backend: Backend, concentration: Array, noise: dict[str, Array], prefix: str = "") -> Array:
    """Return the first accepted x [..., *shape]; 0 if none is accepted."""
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
    backend: Backend, concentration: Array, noise: dict[str, Array], g: Array, prefix: str = ""
) -> tuple[Array, Array]:
    """Return ∂g/∂α at the accepted proposal x, and ∂/∂α of the log-density of x.

    That density is q(h) |∂h/∂x| with h = d (1 + c x)³. For α < 1, h is that of α + 1, and g = h u^(1/α) at fixed u.

    Parameters
    ----------
    backend
        Array framework.
    concentration
        α, an array that broadcasts with the shape of g.
    noise
        {name: array}, as `gamma_noise` declares.
    g
        Gamma variables [..., *shape].
    prefix
        Prefix of the names of the noise.
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
    """Return d and c of the proposals g = d (1 + c x)³, for α ≥ 1."""
    d = concentration - 1.0 / 3.0
    return d, 1.0 / xp.sqrt(9.0 * d)


def proposal(xp: Any, d: Array, c: Array, x: Array) -> tuple[Array, Array]:
    """Return v = (1 + c x)³, and the bound that −log u must exceed for d v to be accepted (where v > 0).

    The bound is −(x²/2 + d − d v + d log v): minus the log-density of g, Jacobian included, plus that of x, up to a
    constant.
    """
    root = 1.0 + c * x
    cubed = root * root * root
    inside = xp.where(cubed > 0.0, cubed, xp.ones_like(cubed))
    return cubed, d * (cubed - 1.0 - xp.log(inside)) - 0.5 * x * x


def log_gamma_slope(backend: Backend, concentration: Array, log_g: Array) -> Array:
    """Return ∂ log g/∂α = −(∂F(g; α)/∂α)/(g q(g)), to a relative 1e-12 for α from 0.001 to 1e5.

    With t = g eʷ, ∂F/∂α = ∫₀ᵍ (log t − ψ(α)) q(t) dt = −∫_g^∞, so for either sign s

        ∂ log g/∂α = s ∫₀^∞ (log g + s w − ψ(α)) exp(s α w − g (e^{s w} − 1)) dw.

    The choice s = 1 for g > α, else −1, makes the exponent decrease from 0, without cancellation. For g ≤ 1 the power
    series of s = −1 is used instead, which is precise for any small α: it begins with −(log g − ψ(α + 1))/α.

    Parameters
    ----------
    backend
        Array framework.
    concentration
        α, an array that broadcasts with the shape of g.
    log_g
        log g [..., *shape].
    """
    xp = backend.xp
    g = xp.exp(log_g)
    away = log_g - backend.special.digamma(concentration)
    sign = xp.where(g > concentration, xp.ones_like(g), -xp.ones_like(g))
    large = xp.where(g > 1.0, g, xp.ones_like(g))
    slow = xp.where(g > 1.0, concentration, xp.ones_like(g))  # keeps the unused branch finite where the series applies
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


def trigamma(backend: Backend, x: Array) -> Array:
    """Return ψ′(x) for x > 0, to rounding: ψ′(x) = ψ′(x + n) + Σ_{k < n} 1/(x + k)², with Stirling's series at x + n.

    The frameworks' own functions are not used: PyTorch's has an error of 4e-10, and SciPy's does not keep the precision
    of x.
    """
    near = sum((1.0 / (x + k) ** 2 for k in range(_SHIFT)), 0.0 * x)
    inverse = 1.0 / (x + _SHIFT)
    square = inverse * inverse
    series = 0.0 * x
    for number in reversed(_BERNOULLI):
        series = (series + number) * square
    return near + inverse * (1.0 + 0.5 * inverse + series)


def tetragamma(backend: Backend, x: Array) -> Array:
    """Return ψ″(x) for x > 0, to rounding, as the derivative of the terms of `trigamma`."""
    near = sum((-2.0 / (x + k) ** 3 for k in range(_SHIFT)), 0.0 * x)
    inverse = 1.0 / (x + _SHIFT)
    square = inverse * inverse
    series = 0.0 * x
    for i, number in reversed(list(enumerate(_BERNOULLI, 1))):
        series = (series + (2 * i + 1) * number) * square
    return near - square * (1.0 + inverse + series)


def standardised_slope(backend: Backend, concentration: Array, log_g: Array) -> tuple[Array, Array]:
    """Return ∂ log g/∂α at fixed ε = (log g − ψ(α))/√ψ′(α), and ∂/∂α of the log-density of ε.

    Parameters
    ----------
    backend
        Array framework.
    concentration
        α, an array that broadcasts with the shape of g.
    log_g
        log g [..., *shape].
    """
    first, second = trigamma(backend, concentration), tetragamma(backend, concentration)
    away, ratio = log_g - backend.special.digamma(concentration), 0.5 * second / first
    slope = first + away * ratio
    return slope, away + (concentration - backend.xp.exp(log_g)) * slope + ratio


#: The shift n, and the Bernoulli numbers B₂, B₄, …: at x + n the first omitted term is below 1e-16.
_SHIFT = 10
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)


_RULE = (0.5 * (np.polynomial.legendre.leggauss(NODES)[0] + 1.0), 0.5 * np.polynomial.legendre.leggauss(NODES)[1])


def digamma_step(backend: Backend, x: Array, step: Array) -> Array:
    """Return ψ(x + step) − ψ(x) without cancellation.

    For large x, the asymptotic series (Abramowitz and Stegun, 6.3.18) is subtracted term by term.

    Parameters
    ----------
    backend
        Array framework.
    x
        Array.
    step
        Array that broadcasts with x.
    """
    xp, digamma = backend.xp, backend.special.digamma
    far = x > 20.0
    low = xp.where(far, x, 20.0 * xp.ones_like(x))
    high = low + step
    series = xp.log1p(step / low) + 0.5 * step / (low * high) + _tail(low) - _tail(high)
    return xp.where(far, series, digamma(x + step) - digamma(x))


def _tail(x: Array) -> Array:
    """Return log x − 1/(2x) − ψ(x), for x of at least 20."""
    t = 1.0 / (x * x)
    return t * (1 / 12 - t * (1 / 120 - t * (1 / 252 - t * (1 / 240 - t / 132))))


def _end(xp: Any, sign: Array, concentration: Array, g: Array) -> Array:
    """Return w where the exponent equals −REACH, by Newton's method from above: the exponent is concave in w."""
    # exp(w) − 1 − w ≥ w²/2 and g > α, so w = √(2 REACH/g) is an upper bound. For g ≤ α, exp(−w) − 1 + w ≥ w²/2/(1 +
    # w/3).
    root = REACH / (3.0 * g)
    below = root + xp.sqrt(root * root + 2.0 * REACH / g)
    w = xp.where(sign > 0.0, xp.sqrt(2.0 * REACH / g), below)
    for _ in range(4):
        fallen = g * xp.expm1(sign * w) - sign * concentration * w
        w = w - (fallen - REACH) / (sign * (g * xp.exp(sign * w) - concentration))
    return w


def _series(xp: Any, concentration: Array, g: Array, lifted: Array) -> Array:
    """Return −eᵍ Σ_n (−g)ⁿ/n! (a/(α + n) − 1/(α + n)²), a = log g − ψ(α) = b + 1/α, b = log g − ψ(α + 1).

    Using b avoids the difference of two numbers near 1/α in the first term.
    """
    first = 1.0 / concentration
    away, total, power = lifted + first, lifted * first, -g
    for n in range(1, TERMS):
        inverse = 1.0 / (concentration + n)
        total = total + power * inverse * (away - inverse)
        power = -power * g / (n + 1)
    return -xp.exp(g) * total
