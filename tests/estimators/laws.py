"""Laws that are not made from one number of noise: SciPy's, and integration over z itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special, stats

Blocks = dict[str, np.ndarray]


class VonMises:
    """SciPy's on [−π, π], where its quantiles are not."""

    def __init__(self, kappa: np.ndarray, loc: np.ndarray) -> None:
        self.law = stats.vonmises(kappa, loc)

    def pdf(self, z: Any) -> Any:
        return self.law.pdf(z)

    def logpdf(self, z: Any) -> Any:
        return self.law.logpdf(z)

    def sf(self, z: float) -> Any:
        return 1.0 - self.cdf(z)

    def cdf(self, z: float) -> Any:
        return self.law.cdf(z) - self.law.cdf(-np.pi)

    def support(self) -> tuple[float, float]:
        return -np.pi, np.pi

    def ppf(self, u: float) -> float:
        return -np.pi + 2.0 * np.pi * u

    def isf(self, u: float) -> float:
        return self.ppf(1.0 - u)


class Kumaraswamy:
    """SciPy has none."""

    def __init__(self, a: np.ndarray, b: np.ndarray) -> None:
        self.a, self.b = a, b

    def logpdf(self, z: Any) -> Any:
        return np.log(self.a * self.b) + (self.a - 1.0) * np.log(z) + (self.b - 1.0) * np.log1p(-(z**self.a))

    def pdf(self, z: Any) -> Any:
        return np.exp(self.logpdf(z))

    def sf(self, z: Any) -> Any:
        return (1.0 - z**self.a) ** self.b

    def cdf(self, z: Any) -> Any:
        return 1.0 - self.sf(z)

    def isf(self, u: Any) -> Any:
        return (-np.expm1(np.log(u) / self.b)) ** (1.0 / self.a)

    def ppf(self, u: Any) -> Any:
        return (-np.expm1(np.log1p(-u) / self.b)) ** (1.0 / self.a)


class LogitNormal:
    """SciPy has none: the law of 1/(1 + exp(−y)) with Normal y."""

    def __init__(self, loc: np.ndarray, scale: np.ndarray) -> None:
        self.law = stats.norm(loc, scale)

    def logpdf(self, z: Any) -> Any:
        return self.law.logpdf(special.logit(z)) - np.log(z) - np.log1p(-z)

    def pdf(self, z: Any) -> Any:
        return np.exp(self.logpdf(z))

    def sf(self, z: Any) -> Any:
        return self.law.sf(special.logit(z))

    def ppf(self, u: Any) -> Any:
        return special.expit(self.law.ppf(u))

    def isf(self, u: Any) -> Any:
        return special.expit(self.law.isf(u))


#: The law of one coordinate, or of every one.
ONE: dict[str, Callable[[Blocks], Any]] = {
    "gamma": lambda p: stats.gamma(np.exp(p["log_concentration"]), scale=np.exp(-p["log_rate"])),
    "inverse-gamma": lambda p: stats.invgamma(np.exp(p["log_concentration"]), scale=np.exp(p["log_scale"])),
    "von-mises": lambda p: VonMises(np.exp(p["log_concentration"]), p["loc"]),
    "transformed-normal": lambda p: LogitNormal(p["loc"], np.exp(p["log_scale"])),
    "erlang": lambda p: stats.erlang(2, scale=np.exp(-p["log_rate"])),
    "chi-squared": lambda p: stats.chi2(np.exp(p["log_degrees"])),
    "beta": lambda p: stats.beta(np.exp(p["log_alpha"]), np.exp(p["log_beta"])),
    "f": lambda p: stats.f(np.exp(p["log_numerator"]), np.exp(p["log_denominator"])),
    "poisson": lambda p: stats.poisson(np.exp(p["log_rate"])),
    "binomial": lambda p: stats.binom(5, special.expit(p["logits"])),
    "negative-binomial": lambda p: stats.nbinom(np.exp(p["log_successes"]), special.expit(p["logits"])),
    "bernoulli": lambda p: stats.bernoulli(special.expit(p["logits"])),
    "tied-bernoulli": lambda p: stats.bernoulli(special.expit(p["logits"])),
    "geometric": lambda p: stats.geom(special.expit(p["logits"]), loc=-1),
}
#: How many values of a discrete one hold all but 1e-16 of its probability.
VALUES = {"poisson": 60, "binomial": 6, "negative-binomial": 250, "bernoulli": 2, "tied-bernoulli": 2, "geometric": 400}
#: Families whose sample path is a rejection, so that its derivative is not that of the path.
REJECTED = ("gamma", "inverse-gamma", "chi-squared", "beta", "f", "dirichlet", "elliptical")
#: Families whose sample jumps where λ moves it, for this reason or another: their pathwise derivative is implicit.
IMPLICIT = (*REJECTED, "mixture-of-normals", "von-mises")


def log_density(name: str, parameters: Blocks, z: np.ndarray) -> np.ndarray:
    law = ONE[name](parameters)
    return (law.logpmf(z) if name in VALUES else law.logpdf(z)).sum(axis=-1)


def half_line(nodes: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for an integral over z > 0: trapezoid in t with z = exp(π/2 sinh t)."""
    t = np.linspace(-4.0, 4.0, nodes)
    z = np.exp(0.5 * np.pi * np.sinh(t))
    return z, z * 0.5 * np.pi * np.cosh(t) * (t[1] - t[0])


def unit_interval(nodes: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """The same over (0, 1), as far as 1 − z can be told from 0: z = 1/(1 + exp(−π sinh t))."""
    t = np.linspace(-3.0, 3.0, nodes)
    z = 1.0 / (1.0 + np.exp(-np.pi * np.sinh(t)))
    fine = 1.0 - z > 1e-15
    return z[fine], (z / (1.0 + np.exp(np.pi * np.sinh(t))) * np.pi * np.cosh(t) * (t[1] - t[0]))[fine]


def circle(nodes: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """The same over (−π, π), by Gauss and Legendre."""
    node, weight = np.polynomial.legendre.leggauss(nodes)
    return np.pi * node, np.pi * weight


def pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """All pairs of two [N] [N², 2]."""
    return np.stack([a.ravel() for a in np.meshgrid(first, second, indexing="ij")], axis=-1)


def _independent(name: str, parameters: Blocks) -> tuple[np.ndarray, np.ndarray]:
    rules = {"beta": unit_interval, "transformed-normal": unit_interval, "von-mises": circle}
    x, w = half_line(240) if name == "inverse-gamma" else rules.get(name, half_line)()
    densities = ONE[name](parameters).pdf(x[:, None]) * w[:, None]
    return pair(x, x), np.prod(pair(densities[:, 0], densities[:, 1]), axis=-1)


def _dirichlet(parameters: Blocks) -> tuple[np.ndarray, np.ndarray]:
    x, w = unit_interval(600)
    first, second = np.exp(parameters["log_concentration"])
    return np.stack([x, 1.0 - x], axis=-1), w * stats.beta(first, second).pdf(x)


def _discrete(name: str, parameters: Blocks) -> tuple[np.ndarray, np.ndarray]:
    k = np.arange(float(VALUES[name]))
    first, second = (np.broadcast_to(ONE[name](parameters).pmf(k[:, None]), (len(k), 2))).T
    return pair(k, k), np.prod(pair(first, second), axis=-1)


def _categorical(parameters: Blocks) -> tuple[np.ndarray, np.ndarray]:
    return np.eye(2), special.softmax(parameters["logits"].ravel())


def low_rank(p: Blocks) -> np.ndarray:
    """Σ."""
    return p["factor"] @ p["factor"].T + np.diag(np.exp(2.0 * p["log_diagonal"]))


def mixture(p: Blocks, z: np.ndarray) -> np.ndarray:
    """log q."""
    each = stats.norm(p["loc"], np.exp(p["log_scale"])).logpdf(z[..., None, :]).sum(axis=-1)
    return special.logsumexp(each + special.log_softmax(p["logits"]), axis=-1)


def relaxed_bernoulli(p: Blocks, z: np.ndarray) -> np.ndarray:
    """log q of each coordinate: that of a logistic number of scale 1/T, taken to (0, 1)."""
    law = stats.logistic(p["logits"] * np.exp(-p["log_temperature"]), np.exp(-p["log_temperature"]))
    return law.logpdf(special.logit(z)) - np.log(z) - np.log1p(-z)


def concrete(p: Blocks, z: np.ndarray) -> np.ndarray:
    """log q of one choice, from its Gumbel numbers of scale 1/T: their common shift is integrated over, which leaves
    Γ(K) Tᴷ⁻¹ Π e^(l_k) z_k^(−T−1)/(Σ e^(l_k) z_k^(−T))ᴷ; here by trapezoid in that shift."""
    temperature = np.exp(p["log_temperature"][0])
    law = stats.gumbel_r(p["logits"][0] / temperature, 1.0 / temperature)
    shift = np.linspace(-80.0, 80.0, 4001)
    each = law.logpdf(np.log(z)[:, None, :] + shift[:, None]).sum(axis=-1)
    return special.logsumexp(each, axis=-1) + np.log(shift[1] - shift[0]) - np.log(z).sum(axis=-1)


def stick(p: Blocks, z: np.ndarray) -> np.ndarray:
    """log q of z₁ and z₂ of three: of v₁ = z₁ and v₂ = z₂/(1 − z₁), whose logits are Normals less log 2 and log 1."""
    laws = [LogitNormal(p["loc"][k] - np.log(2 - k), np.exp(p["log_scale"][k])) for k in range(2)]
    left = 1.0 - z[:, 0]
    found: np.ndarray = laws[0].logpdf(z[:, 0]) + laws[1].logpdf(z[:, 1] / left) - np.log(left)
    return found


def _stick(parameters: Blocks) -> tuple[np.ndarray, np.ndarray]:
    x, w = unit_interval(600)
    law = LogitNormal(parameters["loc"], np.exp(parameters["log_scale"]))
    return np.stack([x, 1.0 - x], axis=-1), w * law.pdf(x)


def lkj(p: Blocks, z: np.ndarray) -> np.ndarray:
    """log q of L₂₁, L₃₁, L₃₂, from partial correlations of SciPy's beta laws: w₃₂ = L₃₂/√(1 − L₃₁²)."""
    eta, rest = np.exp(p["log_concentration"][0]), np.sqrt(1.0 - z[:, 1] ** 2)
    first, last = (stats.beta(b, b, loc=-1.0, scale=2.0) for b in (eta + 0.5, eta))
    return first.logpdf(z[:, 0]) + first.logpdf(z[:, 1]) + last.logpdf(z[:, 2] / rest) - np.log(rest)


def _relaxed_bernoulli(parameters: Blocks) -> tuple[np.ndarray, np.ndarray]:
    x, w = unit_interval(400)
    densities = np.exp(relaxed_bernoulli(parameters, x[:, None])) * w[:, None]
    return pair(x, x), np.prod(pair(densities[:, 0], densities[:, 1]), axis=-1)


def _concrete(parameters: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Of two categories, the second is a relaxed Bernoulli."""
    x, w = unit_interval(600)
    logit = parameters["logits"][:, 1] - parameters["logits"][:, 0]
    density = relaxed_bernoulli({"logits": logit, "log_temperature": parameters["log_temperature"]}, x[:, None])
    return np.stack([1.0 - x, x], axis=-1), w * np.exp(density[:, 0])


def _low_rank(p: Blocks) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(-9.0, 9.0, 120)
    w = stats.norm.pdf(x) * (x[1] - x[0])
    return p["loc"] + pair(x, x) @ np.linalg.cholesky(low_rank(p)).T, np.prod(pair(w, w), axis=-1)


def _elliptical(p: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """In polar coordinates: r²/2 over ν is a ratio of gamma numbers, the angle is uniform (trapezoid)."""
    degrees, (first, below, second) = np.exp(p["log_degrees"][0]), p["cholesky"]
    radius, w = half_line(400)
    w = w * (1.0 + radius**2 / degrees) ** (-0.5 * degrees - 1.0) * radius
    kept = w > 1e-40
    radius, w = radius[kept], w[kept]
    angle = 2.0 * np.pi * np.arange(24) / 24
    lower = np.asarray([[np.exp(first), 0.0], [below, np.exp(second)]])
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1) @ lower.T
    return (p["loc"] + radius[:, None, None] * circle).reshape(-1, 2), np.repeat(w / 24, 24)


def _mixture(p: Blocks) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(-14.0, 14.0, 260)
    z = pair(x, x)
    return z, np.exp(mixture(p, z)) * (x[1] - x[0]) ** 2


#: λ of two coordinates to z [N, 2] and probabilities.
GRIDS: dict[str, Callable[[Blocks], tuple[np.ndarray, np.ndarray]]] = {
    **{name: lambda p, name=name: _independent(name, p) for name in ONE if name not in VALUES},  # type: ignore[misc]
    **{name: lambda p, name=name: _discrete(name, p) for name in VALUES},  # type: ignore[misc]
    "categorical": _categorical,
    "relaxed-bernoulli": _relaxed_bernoulli,
    "concrete": _concrete,
    "dirichlet": _dirichlet,
    "stick-breaking-normal": _stick,
    "low-rank-normal": _low_rank,
    "elliptical": _elliptical,
    "mixture-of-normals": _mixture,
}


def grid(name: str, parameters: Blocks) -> tuple[np.ndarray, np.ndarray]:
    return GRIDS[name](parameters)
