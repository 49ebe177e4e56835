"""A case: an estimator, a problem, and the mean of the one and the gradient of the other, both computed here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradmeter import estimators
from gradmeter.bench.problems import Exact, Problem
from gradmeter.estimators import Estimator, Integrand, Noise, Requires
from gradmeter.estimators.backends.backend import Backend

Blocks = dict[str, Any]
Value = Callable[[Any, Any], Any]
Estimate = Callable[["Tools", Blocks], Blocks]


@dataclass(frozen=True)
class Setting:
    """A problem with its f, λ and exact gradient written a second time, here.

    Attributes
    ----------
    problem : the text of a bundled problem, or a Problem of this package.
    value : f(xp, z) at samples [..., D].
    parameters, gradient : λ and ∇_λ E f, {block: [*shape]}.
    """

    problem: str | Problem
    value: Value
    parameters: Blocks
    gradient: Blocks

    @property
    def dimension(self) -> int:
        return next(iter(self.parameters.values())).shape[-1]


@dataclass(frozen=True)
class Tools:
    """What an estimate of this package may use; `loc` and `sigma` are λ of a Normal as arrays [1, 1, D]."""

    xp: Any
    f: Callable[[Any], Any]
    parameters: Blocks

    def row(self, name: str) -> Any:
        block = self.parameters[name]
        return self.xp.reshape(block, (1, 1, block.shape[-1]))

    @property
    def loc(self) -> Any:
        return self.row("loc")

    @property
    def sigma(self) -> Any:
        return self.xp.exp(self.row("log_scale"))

    def where(self, condition: Any, like: Any) -> Any:
        """Return the indicator of `condition` in the dtype of `like`."""
        return self.xp.astype(condition, like.dtype)

    def fixed(self, block: Any, like: Any) -> Any:
        """Return a NumPy array as one of this backend, on the device and in the dtype of `like`."""
        values = self.xp.asarray(np.asarray(block, dtype=np.float64))
        return self.xp.astype(values, like.dtype)


@dataclass(frozen=True)
class Case:
    """One estimator on one problem.

    Attributes
    ----------
    kind : `wrong` or `correct`.
    noise : {name: (kind, shape of one estimate)}.
    mean : E ĝ, {block: [*shape]}.
    caught_by
        What may stand in place of `biased`: `exception`, `dependent` (wrong estimators whose replicates are not
        independent functions of their own noise), `assumption` (`unbiased` beside a stated assumption).
    spike : variance by coordinate that rare events add, which a short simulation may miss.
    simulated
        Whether a short simulation shows mean and variance (not for heavy tails, nor for batch statistics).
    """

    kind: str
    name: str
    setting: Setting
    estimate: Estimate
    noise: Mapping[str, tuple[str, tuple[int, ...]]]
    mean: Blocks
    samples: int = 1
    backend: str = "numpy"
    dtype: str = "float64"
    caught_by: frozenset[str] = frozenset()
    spike: float = 0.0
    simulated: bool = True
    population: int = 0
    family_noise: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def on(self, backend: str = "numpy", dtype: str = "float64") -> Case:
        """Return the same case on another backend, in another precision."""
        return replace(self, backend=backend, dtype=dtype)

    @property
    def key(self) -> str:
        return f"{self.name}-{self.backend}-{self.dtype}"

    @property
    def true_bias(self) -> float:
        """‖E ĝ − g‖ / ‖g‖, or ‖E ĝ − g‖ where g is 0."""
        size = norm(self.setting.gradient)
        return norm(difference(self.mean, self.setting.gradient)) / (size or 1.0)

    def estimator(self) -> Estimator:
        """Return the estimator as a user would bring it: an instance of a class of its own."""
        case = self

        @dataclass(frozen=True)
        class Adversary(Estimator):
            name = f"adversary-{case.name}"
            summary = f"{case.kind}: {case.name}"
            requires = Requires(())

            def noise_specs(self, expectation: Any, num_samples: int, dimension: int) -> dict[str, Noise]:
                inherited = super().noise_specs(expectation, num_samples, dimension) if case.family_noise else {}
                own = {
                    name: Noise(kind, shape, case.population if kind == "rows" else 0)  # type: ignore[arg-type]
                    for name, (kind, shape) in case.noise.items()
                }
                return {**inherited, **own}

            def estimate_integrand(
                self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any
            ) -> Blocks:
                def f(z: Any) -> Any:
                    return expectation.value(backend, parameters, z, noise)

                return case.estimate(Tools(backend.xp, f, parameters), noise)

        return Adversary()

    def simulate(self, replicates: int, seed: int = 1) -> Blocks:
        """Return estimates [R, *shape] from NumPy and a generator of our own, without the project's code."""
        rng = np.random.default_rng(seed)
        noise = {
            name: draw(rng, kind, (replicates, *shape), self.population) for name, (kind, shape) in self.noise.items()
        }
        value = self.setting.value
        tools = Tools(_numpy(), lambda z: value(np, z), self.setting.parameters)
        return self.estimate(tools, noise)


def _numpy() -> Any:
    import array_api_compat.numpy as xp

    return xp


def draw(rng: np.random.Generator, kind: str, shape: tuple[int, ...], population: int = 0) -> np.ndarray:
    """Draw noise of one of the documented kinds."""
    if kind == "normal":
        return rng.standard_normal(shape)
    if kind in ("uniform", "stratum", "sobol"):
        return rng.random(shape)
    if kind == "exponential":
        return rng.standard_exponential(shape)
    if kind == "rayleigh":
        return np.sqrt(2.0 * rng.standard_exponential(shape))
    if kind == "maxwell":
        return np.sqrt(rng.chisquare(3.0, shape)) * rng.choice([-1.0, 1.0], shape)
    if kind == "rademacher":
        return rng.choice([-1.0, 1.0], shape)
    if kind == "rows":
        return np.argsort(rng.random((*shape[:-1], population)), axis=-1)[..., : shape[-1]]
    raise ValueError(kind)


def norm(blocks: Mapping[str, Any]) -> float:
    return math.sqrt(sum(float(np.sum(np.asarray(block) ** 2)) for block in blocks.values()))


def difference(left: Mapping[str, Any], right: Mapping[str, Any]) -> Blocks:
    return {name: np.asarray(left[name]) - np.asarray(right[name]) for name in right}


def times(blocks: Mapping[str, Any], factor: float) -> Blocks:
    return {name: factor * block for name, block in blocks.items()}


def user_problem(
    name: str,
    value: Value,
    parameters: Blocks,
    gradient: Blocks,
    family: str = "normal",
    at: Any = None,
    entropy: str = "none",
) -> Problem:
    """Return a problem as a user would bring it, for f = `value` and q of a named family at `parameters`."""

    class UserIntegrand(Integrand):
        def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
            return value(xp, z)

    size = next(iter(parameters.values())).shape[-1]
    title, q_entropy, given = name, entropy, parameters
    point = at if at is not None else estimators.FAMILIES[family].Config()

    @dataclass(frozen=True)
    class UserProblem(Problem):
        name = title
        summary = f"adversary: {title}"
        dimension = size
        entropy = q_entropy
        q = point
        integrand = UserIntegrand()
        differentiate: str = "closed-form"

        def parameters(self) -> Blocks:
            return {block: np.array(array, dtype=np.float64) for block, array in given.items()}

        def exact(self) -> Exact:
            return Exact({block: np.array(array, dtype=np.float64) for block, array in gradient.items()}, "closed-form")

    return UserProblem()
