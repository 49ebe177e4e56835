"""Optimisers: the update of λ from a gradient estimate, on any backend.

Objectives are maximised. The step size at iteration t = 1, 2, … is ρ_t = rate · (1 + (t − 1)/delay)^(−forgetting). For
½ < forgetting ≤ 1 it is a Robbins-Monro sequence (Σρ = ∞, Σρ² < ∞); for 0 it is constant.

All numbers are passed as arguments, in float64 until they are cast to the working precision, so that one compiled
function serves every iteration and every set of options.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from gradmeter.estimators import Family, Normal, NotApplicable, UsageError
from gradmeter.estimators.errors import unknown
from gradmeter.estimators.families import MultivariateNormal
from gradmeter.estimators.families.multivariate_normal import triangle, unpacked
from gradmeter.estimators.options import construct, option, parse

Array = Any
Blocks = dict[str, Array]
#: An optimiser's state by name, each entry with the blocks of λ.
Memory = dict[str, Blocks]

#: The smallest factor by which one natural-gradient step multiplies a precision.
LEAST_PRECISION = 0.5


@dataclass(frozen=True)
class Optimiser(ABC):
    """Base class of optimisers, whose options are fields; `rate` is ρ_1.

    Attributes
    ----------
    memories : tuple of str
        Names of the entries of the optimiser's state, which start as zeros.
    elementwise : bool
        Whether each element of λ is updated independently. λ may then be passed as one flat array.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    memories: ClassVar[tuple[str, ...]] = ()
    elementwise: ClassVar[bool] = True

    rate: float
    delay: float = option(100.0, "iterations over which the step size stays near the rate", above=0.0)
    forgetting: float = option(0.0, "power at which the step size falls, 0 not at all", minimum=0.0, maximum=1.0)

    def check(self, family: Family, blocks: Sequence[str]) -> None:  # noqa: B027  (most optimisers accept any λ)
        """Check that the optimiser applies to λ of this family, in these blocks.

        Raises
        ------
        NotApplicable
            It does not; the message gives the reason.
        """

    def step_size(self, t: int) -> float:
        """Return ρ_t."""
        return float(self.rate * (1.0 + (t - 1) / self.delay) ** -self.forgetting)

    def numbers(self, t: int) -> tuple[float, ...]:
        """Return the numbers that `step` needs at iteration t."""
        return (self.step_size(t),)

    def initial(self, xp: Any, parameters: Blocks) -> Memory:
        """Return the optimiser's state before the first step."""
        return {kind: {name: xp.zeros_like(a) for name, a in parameters.items()} for kind in self.memories}

    @staticmethod
    @abstractmethod
    def step(xp: Any, parameters: Blocks, gradient: Blocks, memory: Memory, numbers: Any) -> tuple[Blocks, Memory]:
        """Return the next λ and the optimiser's next state; a pure function of arrays.

        Parameters
        ----------
        xp : module
            Array namespace.
        parameters, gradient : {block: array}
            λ and its gradient estimate.
        memory : {name: {block: array}}
            The optimiser's state.
        numbers : [count] or tuple
            Result of `numbers(t)`.
        """


@dataclass(frozen=True)
class Sgd(Optimiser):
    """Stochastic gradient ascent, λ + ρ_t ĝ (Robbins & Monro 1951)."""

    name: ClassVar[str] = "sgd"
    summary: ClassVar[str] = "stochastic gradient ascent with Robbins-Monro steps"

    rate: float = option(5e-4, "the first step size", above=0.0)
    forgetting: float = option(0.6, "power at which the step size falls, 0 not at all", minimum=0.0, maximum=1.0)

    @staticmethod
    def step(xp: Any, parameters: Blocks, gradient: Blocks, memory: Memory, numbers: Any) -> tuple[Blocks, Memory]:
        return {name: old + numbers[0] * gradient[name] for name, old in parameters.items()}, memory


@dataclass(frozen=True)
class Adam(Optimiser):
    """Adam for maximisation (Kingma & Ba 2015, algorithm 1)."""

    name: ClassVar[str] = "adam"
    summary: ClassVar[str] = "steps of about the rate in every coordinate, by running moments of the gradient"
    memories: ClassVar[tuple[str, ...]] = ("mean", "square")

    rate: float = option(0.05, "the first step size", above=0.0)
    beta1: float = option(0.9, "memory of the mean", minimum=0.0, below=1.0)
    beta2: float = option(0.999, "memory of the mean square", minimum=0.0, below=1.0)
    epsilon: float = option(1e-8, "added to the root mean square", above=0.0)

    def numbers(self, t: int) -> tuple[float, ...]:
        """Return 1 − β1, 1 − β2, ρ_t/(1 − β1^t), 1/(1 − β2^t) and ε."""
        size, correction = self.step_size(t) / (1.0 - self.beta1**t), 1.0 / (1.0 - self.beta2**t)
        return 1.0 - self.beta1, 1.0 - self.beta2, size, correction, self.epsilon

    @staticmethod
    def step(xp: Any, parameters: Blocks, gradient: Blocks, memory: Memory, numbers: Any) -> tuple[Blocks, Memory]:
        new1, new2, size, correction, epsilon = (numbers[i] for i in range(5))
        found: Blocks = {}
        kept: Memory = {"mean": {}, "square": {}}
        for name, old in parameters.items():
            g, mean, square = gradient[name], memory["mean"][name], memory["square"][name]
            kept["mean"][name] = mean = mean + new1 * (g - mean)
            kept["square"][name] = square = square + new2 * (g * g - square)
            found[name] = old + size * mean / (xp.sqrt(correction * square) + epsilon)
        return found, kept


@dataclass(frozen=True)
class Natural(Optimiser):
    """Natural-gradient ascent in the natural parameters of a mean-field Normal, (μ/σ², −1/(2σ²)).

    The natural gradient is the gradient with respect to the mean parameters, so that

        1/σ² ← (1/σ²) (1 − ρ ∂L/∂log σ),    μ ← μ + ρ σ² ∂L/∂μ    with the new σ²

    (Khan & Nielsen 2018). If log p(x, z) is quadratic with a diagonal Hessian, one step with the exact gradient and ρ =
    1 reaches the optimum, unless a limit applies. There are two, against noisy estimates: ρ is reduced so that the step
    is at most `clip` long in the Fisher metric (as in Wu et al. 2017), and no precision falls by more than half.
    """

    name: ClassVar[str] = "natural"
    summary: ClassVar[str] = "natural gradient of the mean-field Normal, in its natural parameters"
    elementwise: ClassVar[bool] = False

    rate: float = option(0.1, "the first step size", above=0.0)
    forgetting: float = option(0.6, "power at which the step size falls, 0 not at all", minimum=0.0, maximum=1.0)
    clip: float = option(1.0, "the longest step in the Fisher metric, about √(2 KL)", above=0.0)

    def check(self, family: Family, blocks: Sequence[str]) -> None:
        if family != Normal():
            raise NotApplicable(f"optimiser natural is for the mean-field Normal, not for family {family.name}")
        others = ", ".join(blocks[len(Normal.blocks) :])
        if others:
            raise NotApplicable(f"optimiser natural moves loc and log_scale, and knows no metric for {others}")

    def numbers(self, t: int) -> tuple[float, ...]:
        """Return ρ_t and the longest step."""
        return self.step_size(t), self.clip

    @staticmethod
    def step(xp: Any, parameters: Blocks, gradient: Blocks, memory: Memory, numbers: Any) -> tuple[Blocks, Memory]:
        variance = xp.exp(2.0 * parameters["log_scale"])
        squares = xp.sum(variance * gradient["loc"] ** 2) + 0.5 * xp.sum(gradient["log_scale"] ** 2)
        length = xp.sqrt(squares + xp.finfo(variance.dtype).tiny)
        held = numbers[1] / length
        rate = xp.where(held < numbers[0], held, numbers[0])
        kept = 1.0 - rate * gradient["log_scale"]
        factor = xp.maximum(kept, xp.full_like(kept, LEAST_PRECISION))
        loc = parameters["loc"] + rate * variance / factor * gradient["loc"]
        return {"loc": loc, "log_scale": parameters["log_scale"] - 0.5 * xp.log(factor)}, memory


@dataclass(frozen=True)
class OnlineNewton(Natural):
    """Natural-gradient ascent of a full-rank Normal in its natural parameters: variational online Newton (VON).

    With G = ∂L/∂Σ, which the gradient with respect to the Cholesky factor determines,

        Σ⁻¹ ← Σ⁻¹ − 2ρ G,    μ ← μ + ρ Σ ∂L/∂μ    with the new Σ

    (Khan & Lin 2017; Khan et al. 2018). In one dimension it is `natural`, and the limits are the same: the step is at
    most `clip` long in the Fisher metric, and no precision along an eigenvector of −2 Lᵀ G L falls by more than half.
    """

    name: ClassVar[str] = "von"
    summary: ClassVar[str] = "variational online Newton: natural gradient of the full-rank Normal"

    def check(self, family: Family, blocks: Sequence[str]) -> None:
        if family != MultivariateNormal():
            raise NotApplicable(f"optimiser {self.name} is for the full-rank Normal, not for family {family.name}")
        others = ", ".join(blocks[len(MultivariateNormal.blocks) :])
        if others:
            raise NotApplicable(f"optimiser {self.name} moves loc and cholesky, and knows no metric for {others}")

    @staticmethod
    def step(xp: Any, parameters: Blocks, gradient: Blocks, memory: Memory, numbers: Any) -> tuple[Blocks, Memory]:
        lower, values, vectors, rate = _whitened(xp, parameters, gradient, numbers)
        kept = 1.0 + rate * values
        wider = _multiplied(xp, lower, xp.maximum(kept, xp.full_like(kept, LEAST_PRECISION)), vectors)
        return _moved(xp, parameters, rate, gradient["loc"], wider, wider), memory


@dataclass(frozen=True)
class ImprovedLearningRule(OnlineNewton):
    """The improved Bayesian learning rule (iBLR) of a full-rank Normal: precisions stay positive at any step size.

    With g = −2 ∂L/∂Σ,

        Σ⁻¹ ← Σ⁻¹ + ρ g + ½ρ² g Σ g,    μ ← μ + ρ Σ ∂L/∂μ    with the old Σ

    (Lin, Schmidt & Khan 2020, figure 1), where Σ⁻¹ falls by half at most. The step is at most `clip` long, as for
    `von`.
    """

    name: ClassVar[str] = "iblr"
    summary: ClassVar[str] = "improved Bayesian learning rule of the full-rank Normal: precisions stay positive"

    @staticmethod
    def step(xp: Any, parameters: Blocks, gradient: Blocks, memory: Memory, numbers: Any) -> tuple[Blocks, Memory]:
        lower, values, vectors, rate = _whitened(xp, parameters, gradient, numbers)
        wider = _multiplied(xp, lower, 0.5 + 0.5 * (1.0 + rate * values) ** 2, vectors)
        return _moved(xp, parameters, rate, gradient["loc"], lower, wider), memory


def _places(xp: Any, like: Array) -> Array:
    """Return 0, 1, … for the elements of an array [N], on its device."""
    return xp.astype(xp.cumulative_sum(xp.ones_like(like), axis=0) - 1.0, xp.int64)


def _whitened(xp: Any, parameters: Blocks, gradient: Blocks, numbers: Any) -> tuple[Array, Array, Array, Array]:
    """Return L, the eigenvalues and eigenvectors of −2 Lᵀ (∂L/∂Σ) L, and ρ limited by the longest step.

    tril(Lᵀ ∂/∂L) = 2 tril(Lᵀ (∂/∂Σ) L), because ∂/∂L is the lower triangle of 2 (∂/∂Σ) L.
    """
    places = _places(xp, parameters["loc"])
    diagonal = places[:, None] == places
    lower = unpacked(xp, parameters["cholesky"], places)
    by_factor = triangle(xp, gradient["cholesky"], places)
    by_factor = xp.where(diagonal, by_factor / xp.where(diagonal, lower, xp.ones_like(lower)), by_factor)
    half = -xp.tril(xp.matmul(xp.matrix_transpose(lower), by_factor))
    symmetric = half + xp.matrix_transpose(xp.where(diagonal, xp.zeros_like(half), half))
    values, vectors = xp.linalg.eigh(symmetric)
    along = xp.matmul(xp.matrix_transpose(lower), gradient["loc"])
    length = xp.sqrt(xp.sum(along * along) + 0.5 * xp.sum(values * values) + xp.finfo(values.dtype).tiny)
    held = numbers[1] / length
    return lower, values, vectors, xp.where(held < numbers[0], held, numbers[0])


def _multiplied(xp: Any, lower: Array, factors: Array, vectors: Array) -> Array:
    """Return the Cholesky factor of Σ once Lᵀ Σ⁻¹ L = I has become U diag(factors) Uᵀ."""
    return xp.matmul(lower, xp.linalg.cholesky(xp.matmul(vectors / factors, xp.matrix_transpose(vectors))))


def _moved(xp: Any, parameters: Blocks, rate: Array, by_loc: Array, metric: Array, wider: Array) -> Blocks:
    """Return λ with μ moved by ρ Σ ∂L/∂μ, where `metric` is a factor of Σ, and with the factor `wider`."""
    loc = parameters["loc"] + rate * xp.matmul(metric, xp.matmul(xp.matrix_transpose(metric), by_loc))
    places = _places(xp, loc)
    diagonal = places[:, None] == places
    logs = xp.where(diagonal, xp.log(xp.where(diagonal, wider, xp.ones_like(wider))), wider)
    number = _places(xp, parameters["cholesky"])
    row = xp.astype(0.5 * (xp.sqrt(8.0 * xp.astype(number, loc.dtype) + 1.0) - 1.0), xp.int64)
    inside = row * loc.shape[0] + number - row * (row + 1) // 2
    return {"loc": loc, "cholesky": xp.take(xp.reshape(logs, (-1,)), inside, axis=0)}


OPTIMISERS: dict[str, type[Optimiser]] = {
    cls.name: cls for cls in (Sgd, Adam, Natural, OnlineNewton, ImprovedLearningRule)
}


def make_optimiser(text: str, rate: str | float | None = None) -> Optimiser:
    """Construct an optimiser from `name[k=v,...]`, and from `rate` if given separately.

    Raises
    ------
    UsageError
        The text is not a valid optimiser, or the rate is given twice.
    """
    name, given = parse(text, "optimiser")
    if name not in OPTIMISERS:
        raise unknown("optimiser", name, OPTIMISERS)
    if rate is not None:
        if "rate" in given:
            raise UsageError(f"optimiser '{text}' has a rate, and --learning-rate another; leave one out")
        given["rate"] = str(rate)
    return construct(OPTIMISERS[name], given, f"optimiser {name}")
