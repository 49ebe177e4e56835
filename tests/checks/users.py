"""Classes as users write them, right ones; tests plant faults in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems import Exact, Problem
from gradmeter.bench.problems.enumerated import exact_enumerated
from gradmeter.estimators import Family, Integrand, Normal
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families import Bernoulli, Gamma


@dataclass(frozen=True)
class Mine(Normal):
    """A Normal under a name of its own; whatever is overridden below it is looked at as its own."""

    name: ClassVar[str] = "mine"

    @dataclass(frozen=True)
    class Config(Normal.Config):
        @property
        def family(self) -> Family:
            return Mine()


@dataclass(frozen=True)
class Coin(Bernoulli):
    name: ClassVar[str] = "coin"

    @dataclass(frozen=True)
    class Config(Bernoulli.Config):
        @property
        def family(self) -> Family:
            return Coin()


@dataclass(frozen=True)
class Rejected(Gamma):
    """A sampler that jumps as λ moves: its path is implicit."""

    name: ClassVar[str] = "rejected"

    @dataclass(frozen=True)
    class Config(Gamma.Config):
        @property
        def family(self) -> Family:
            return Rejected()


class Form(Integrand):
    """zᵀ A z + Σ z³, A not symmetric; with everything that an integrand may offer, θ = A included."""

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.sum(z * xp.matmul(z, xp.matrix_transpose(data["a"])), axis=-1) + xp.sum(z**3, axis=-1)

    def model_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"a": (3, 3)}

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.matmul(z, data["a"] + xp.matrix_transpose(data["a"])) + 3.0 * z * z

    def hessian_product(self, xp: Any, data: Any, z: Any, vector: Any, noise: Any) -> Any:
        return xp.matmul(vector, data["a"] + xp.matrix_transpose(data["a"])) + 6.0 * z * vector

    def hessian(self, backend: Backend, data: Any, z: Any, noise: Any) -> Any:
        xp = backend.xp
        return data["a"] + xp.matrix_transpose(data["a"]) + 6.0 * z[..., None] * xp.eye(3)

    def replaced(self, backend: Backend, data: Any, z: Any, replacement: Any, noise: Any) -> Any:
        xp = backend.xp
        step = replacement - z
        moved = step * xp.matmul(z, data["a"] + xp.matrix_transpose(data["a"])) + step**2 * xp.linalg.diagonal(
            data["a"]
        )
        return self.value(xp, data, z, noise)[..., None] + moved + replacement**3 - z**3

    def local_terms(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        coupled = z * xp.matmul(z, data["a"] + xp.matrix_transpose(data["a"]))
        return coupled - z**2 * xp.linalg.diagonal(data["a"]) + z**3

    def model_pullback(self, xp: Any, data: Any, z: Any, cotangent: Any, noise: Any) -> Any:
        return {"a": xp.matmul(xp.matrix_transpose(z * cotangent[..., None]), z)}


A = np.asarray([[0.4, -1.1, 0.3], [0.2, 0.9, -0.5], [1.3, 0.6, -0.2]])


@dataclass(frozen=True)
class FormProblem(Problem):
    """E f = Σ_ij A_ij loc_i loc_j + Σ A_ii σ_i² + Σ (loc³ + 3 loc σ²)."""

    name: ClassVar[str] = "form"
    summary: ClassVar[str] = "a quadratic form and cubes"
    integrand: ClassVar[Integrand] = Form()
    dimension: ClassVar[int] = 3  # type: ignore[assignment]
    differentiate: str = "closed-form"
    q = Normal.Config(loc=0.7, scale=0.6)

    def parameters(self) -> dict[str, np.ndarray]:
        return {"loc": np.asarray([0.7, -0.2, 0.4]), "log_scale": np.log([0.6, 1.1, 0.8]), "a": A}

    def exact_at(self, parameters: dict[str, np.ndarray]) -> Exact | None:
        loc, square, a = parameters["loc"], np.exp(2.0 * parameters["log_scale"]), parameters["a"]
        gradient = {
            "loc": (a + a.T) @ loc + 3.0 * loc**2 + 3.0 * square,
            "log_scale": 2.0 * np.diag(a) * square + 6.0 * loc * square,
            "a": np.outer(loc, loc) + np.diag(square),
        }
        objective = loc @ a @ loc + np.diag(a) @ square + np.sum(loc**3 + 3.0 * loc * square)
        return Exact(gradient, "closed-form", float(objective))


class Bumps(Integrand):
    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.sum((z - 0.3) ** 2, axis=-1) + z[..., 0] * z[..., 1]


@dataclass(frozen=True)
class CoinProblem(Problem):
    name: ClassVar[str] = "coins"
    summary: ClassVar[str] = "a square and a product of coins"
    dimension: ClassVar[int] = 3  # type: ignore[assignment]
    differentiate: str = "autodiff"
    q = Coin.Config(probability=0.3)
    integrand = Bumps()

    def exact_at(self, parameters: dict[str, np.ndarray]) -> Exact | None:
        return exact_enumerated(self.expectation(), parameters, 3)


class Spike(Integrand):
    """Σ z² and a spike that no replicate meets; where it jumps it does not say."""

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.sum(z**2 + 2e4 * xp.astype(z > 5.5, z.dtype), axis=-1)


@dataclass(frozen=True)
class SpikeProblem(Problem):
    name: ClassVar[str] = "spike"
    summary: ClassVar[str] = "a square and a spike"
    dimension: ClassVar[int] = 4  # type: ignore[assignment]
    differentiate: str = "autodiff"
    q = Normal.Config(loc=0.5)
    integrand = Spike()

    def exact_at(self, parameters: dict[str, np.ndarray]) -> Exact | None:
        from scipy.special import ndtr

        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        edge = (5.5 - loc) / scale
        density = np.exp(-0.5 * edge**2) / np.sqrt(2.0 * np.pi)
        gradient = {
            "loc": 2.0 * loc + 2e4 * density / scale,
            "log_scale": 2.0 * scale**2 + 2e4 * density * edge,
        }
        return Exact(gradient, "closed-form", float(np.sum(loc**2 + scale**2 + 2e4 * ndtr(-edge))))
