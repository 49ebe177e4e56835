"""Problems whose gradients are written here by hand: sums over coordinates of a Normal, Bernoullis, and others."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from scipy import integrate, special

from gradmeter.estimators import FAMILIES
from tests.adversary.cases import Setting, user_problem


def _normal(loc: float, scale: float, dim: int) -> dict[str, np.ndarray]:
    return {"loc": np.full(dim, float(loc)), "log_scale": np.full(dim, math.log(scale))}


def _both(dloc: float, dlog_scale: float, dim: int) -> dict[str, np.ndarray]:
    return {"loc": np.full(dim, float(dloc)), "log_scale": np.full(dim, float(dlog_scale))}


def _separable(name: str, value: Any, loc: float, scale: float, dim: int, dloc: float, dlog: float) -> Setting:
    parameters, gradient = _normal(loc, scale, dim), _both(dloc, dlog, dim)
    return Setting(user_problem(name, value, parameters, gradient), value, parameters, gradient)


def square(loc: float = 0.0, scale: float = 1.0, k: float = 1.0, dim: int = 1) -> Setting:
    """Σ (z − k)², the bundled problem: ∂loc = 2(μ − k), ∂log σ = 2σ²."""
    text = f"square[loc={loc},scale={scale},k={k},dim={dim}]"
    return Setting(
        text,
        lambda xp, z: xp.sum((z - k) ** 2, axis=-1),
        _normal(loc, scale, dim),
        _both(2.0 * (loc - k), 2.0 * scale**2, dim),
    )


def scaled_square(
    size: float, offset: float = 0.0, loc: float = 0.0, scale: float = 1.0, k: float = 1.0, dim: int = 2
) -> Setting:
    """offset + size · Σ (z − k)²."""

    def value(xp: Any, z: Any) -> Any:
        return offset + size * xp.sum((z - k) ** 2, axis=-1)

    name = f"scaled-square-{size:g}-{offset:g}"
    return _separable(name, value, loc, scale, dim, 2.0 * size * (loc - k), 2.0 * size * scale**2)


def linear(loc: float = 0.5, scale: float = 1.0, dim: int = 1, slope: float = 1.0) -> Setting:
    """slope · Σ z."""
    return _separable(f"linear-{slope:g}", lambda xp, z: slope * xp.sum(z, axis=-1), loc, scale, dim, slope, 0.0)


def quartic(loc: float = 0.0, scale: float = 1.0, dim: int = 1) -> Setting:
    """Σ z⁴, with E z⁴ = μ⁴ + 6μ²σ² + 3σ⁴."""
    m, s = loc, scale
    return _separable(
        "quartic",
        lambda xp, z: xp.sum(z**4, axis=-1),
        m,
        s,
        dim,
        4.0 * m**3 + 12.0 * m * s**2,
        12.0 * m**2 * s**2 + 12.0 * s**4,
    )


def cosine(k: float = 1.0, loc: float = 1.0, scale: float = 1.0, dim: int = 1) -> Setting:
    """Σ cos(kz)."""
    decay = math.exp(-0.5 * (k * scale) ** 2)
    return _separable(
        f"own-cosine-{k:g}",
        lambda xp, z: xp.sum(xp.cos(k * z), axis=-1),
        loc,
        scale,
        dim,
        -k * math.sin(k * loc) * decay,
        -((k * scale) ** 2) * math.cos(k * loc) * decay,
    )


def exponential_moment(a: float, loc: float = 0.0, scale: float = 1.0, dim: int = 1) -> Setting:
    """Σ exp(az): log-normal estimates."""
    mean = math.exp(a * loc + 0.5 * (a * scale) ** 2)
    return _separable(
        f"own-moment-{a:g}",
        lambda xp, z: xp.sum(xp.exp(a * z), axis=-1),
        loc,
        scale,
        dim,
        a * mean,
        (a * scale) ** 2 * mean,
    )


def rare_step(t: float, height: float, loc: float = 0.0, scale: float = 1.0, dim: int = 1) -> Setting:
    """height · Σ 1[z > t]: with u = (μ − t)/σ, ∂loc = φ(u)/σ and ∂log σ = −u φ(u), times the height."""
    u = (loc - t) / scale
    density = math.exp(-0.5 * u * u) / math.sqrt(2.0 * math.pi)

    def value(xp: Any, z: Any) -> Any:
        return height * xp.sum(xp.astype(z > t, z.dtype), axis=-1)

    return _separable(f"rare-step-{t:g}", value, loc, scale, dim, height * density / scale, -height * u * density)


def rare_penalty(t: float, height: float, loc: float = 0.0, dim: int = 4) -> Setting:
    """Σ z² + height · 1[z > t] at σ = 1."""
    u = loc - t
    density = height * math.exp(-0.5 * u * u) / math.sqrt(2.0 * math.pi)

    def value(xp: Any, z: Any) -> Any:
        return xp.sum(z**2 + height * xp.astype(z > t, z.dtype), axis=-1)

    return _separable(f"rare-penalty-{t:g}", value, loc, 1.0, dim, 2.0 * loc + density, 2.0 - u * density)


def product(first: float = 1.0, second: float = 2.0, scale: float = 1.0) -> Setting:
    """z₁z₂ + z₁² + z₂²."""

    def value(xp: Any, z: Any) -> Any:
        return z[..., 0] * z[..., 1] + xp.sum(z**2, axis=-1)

    parameters = {"loc": np.array([first, second]), "log_scale": np.full(2, math.log(scale))}
    gradient = {
        "loc": np.array([second + 2.0 * first, first + 2.0 * second]),
        "log_scale": np.full(2, 2.0 * scale**2),
    }
    return Setting(user_problem("product", value, parameters, gradient), value, parameters, gradient)


def elbo(loc: float = 0.5, scale: float = 0.7, dim: int = 2) -> Setting:
    """ELBO against N(0, I), the entropy sampled: ∂loc = −μ, ∂log σ = 1 − σ². `value` is log p alone."""

    def value(xp: Any, z: Any) -> Any:
        return -0.5 * xp.sum(z**2, axis=-1)

    parameters, gradient = _normal(loc, scale, dim), _both(-loc, 1.0 - scale**2, dim)
    return Setting(
        user_problem("own-elbo", value, parameters, gradient, entropy="sampled"), value, parameters, gradient
    )


def bernoulli(probability: float = 0.3, k: float = 1.0, dim: int = 1) -> Setting:
    """Σ (z − k)², the bundled problem on Bernoullis: ∂logit = p(1 − p)(1 − 2k)."""
    logit = special.logit(probability)
    return Setting(
        f"square[family=bernoulli,probability={probability},k={k},dim={dim}]",
        lambda xp, z: xp.sum((z - k) ** 2, axis=-1),
        {"logits": np.full(dim, logit)},
        {"logits": np.full(dim, probability * (1.0 - probability) * (1.0 - 2.0 * k))},
    )


def bernoulli_pair(p: float = 0.3, q: float = 0.6) -> Setting:
    """3 z₁z₂ + z₁ − 2 z₂ for two Bernoullis."""

    def value(xp: Any, z: Any) -> Any:
        return 3.0 * z[..., 0] * z[..., 1] + z[..., 0] - 2.0 * z[..., 1]

    parameters = {"logits": special.logit(np.array([p, q]))}
    gradient = {"logits": np.array([p * (1 - p) * (3.0 * q + 1.0), q * (1 - q) * (3.0 * p - 2.0)])}
    return Setting(
        user_problem("bernoulli-pair", value, parameters, gradient, "bernoulli"), value, parameters, gradient
    )


TABLE = np.array([1.0, -2.0, 4.0, 0.5, 3.0])
LOGITS = np.array([0.3, -0.4, 0.9, 0.0, -1.0])


def categorical() -> Setting:
    """A table of f over five categories: ∂logit_i = p_i (f_i − E f)."""
    probabilities = special.softmax(LOGITS)

    def value(xp: Any, z: Any) -> Any:
        total = 0.0 * z[..., 0]
        for i, height in enumerate(TABLE):
            total = total + float(height) * z[..., i]
        return total

    gradient = {"logits": (probabilities * (TABLE - probabilities @ TABLE))[None]}
    parameters = {"logits": LOGITS[None]}
    at = FAMILIES["categorical"].Config(categories=5)
    return Setting(
        user_problem("own-table", value, parameters, gradient, "categorical", at=at), value, parameters, gradient
    )


def exponential(rate: float = 1.0, k: float = 1.0, dim: int = 1) -> Setting:
    """Σ (z − k)², the bundled problem on exponentials: ∂log rate = −4/r² + 2k/r."""
    return Setting(
        f"square[family=exponential,rate={rate},k={k},dim={dim}]",
        lambda xp, z: xp.sum((z - k) ** 2, axis=-1),
        {"log_rate": np.full(dim, math.log(rate))},
        {"log_rate": np.full(dim, -4.0 / rate**2 + 2.0 * k / rate)},
    )


def exponential_product(rate: float = 1.0) -> Setting:
    """z₁z₂ of two exponentials: both derivatives are −1/r²."""

    def value(xp: Any, z: Any) -> Any:
        return z[..., 0] * z[..., 1]

    parameters, gradient = {"log_rate": np.full(2, math.log(rate))}, {"log_rate": np.full(2, -1.0 / rate**2)}
    return Setting(
        user_problem("exponential-product", value, parameters, gradient, "exponential"), value, parameters, gradient
    )


def pareto_like(a: float) -> Setting:
    """exp(az) of a unit exponential, a Pareto number of index 1/a: E = r/(r − a), ∂log r = −a r/(r − a)²."""
    parameters = {"log_rate": np.zeros(1)}
    gradient = {"log_rate": np.array([-a / (1.0 - a) ** 2])}

    def value(xp: Any, z: Any) -> Any:
        return xp.sum(xp.exp(a * z), axis=-1)

    return Setting(
        user_problem(f"pareto-like-{a:g}", value, parameters, gradient, "exponential"), value, parameters, gradient
    )


def expect(function: Any, low: float = -np.inf, high: float = np.inf, points: tuple[float, ...] = ()) -> float:
    """E function(ε) for ε ~ N(0, 1), split at `points`."""
    edges = [max(low, -12.0), *points, min(high, 12.0)]
    total = 0.0
    for left, right in itertools.pairwise(edges):
        total += integrate.quad(
            lambda e: function(e) * math.exp(-0.5 * e * e) / math.sqrt(2.0 * math.pi),
            left,
            right,
            epsabs=1e-13,
            epsrel=1e-11,
            limit=400,
        )[0]
    return total
