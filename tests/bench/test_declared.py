"""What is integrated rests on declared jumps: of a user's classes, on what they declare themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy import stats

from gradmeter.bench.cells import Cell, StoppingCriteria, make_problem
from gradmeter.bench.measurement.declared import undeclared
from gradmeter.bench.measurement.integrate import Integral, integrate
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.problems import Exact, Problem
from gradmeter.bench.problems.user_model import Model
from gradmeter.estimators import Estimator, Integrand, Noise, Normal, Pathwise, Requires, ScoreFunction
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.bernoulli import Bernoulli
from gradmeter.estimators.families.relaxation import sigmoid
from tests.support import make_cell, measured, needs

Blocks = dict[str, Any]
BERNOULLI = "square[family=bernoulli,probability=0.3]"
PROBLEMS = (BERNOULLI, "square[family=bernoulli,probability=0.3,dim=4]", "square", "square[family=exponential]")


@dataclass(frozen=True)
class Weighted(Estimator):
    """Score function times a weight w(u) of a uniform number of its own."""

    name: ClassVar[str] = "weighted"
    summary: ClassVar[str] = "f w(u) ∇ log q"
    requires: ClassVar[Requires] = Requires(("score", "score_identity"))

    above: float = 0.1
    weight: float = 1.0
    otherwise: float = 0.0

    @property
    def expected(self) -> float:
        return self.weight * (1.0 - self.above) + self.otherwise * self.above

    def noise_specs(self, expectation: Any, num_samples: int, dimension: int) -> dict[str, Noise]:
        return {**super().noise_specs(expectation, num_samples, dimension), "coin": Noise("uniform", ())}

    def estimate_integrand(self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any) -> Blocks:
        xp, z = backend.xp, expectation.family.sample(backend, parameters, noise)
        kept = xp.astype(noise["coin"] > self.above, z.dtype)
        weight = (self.otherwise + (self.weight - self.otherwise) * kept)[:, None]
        f = expectation.value(backend, parameters, z, noise) * weight
        score = expectation.family.score(backend, parameters, z)
        return {name: xp.mean(f[..., None] * s, axis=1) for name, s in score.items()}


class Declared(Weighted):
    def discontinuities(
        self, expectation: Any, parameters: Any, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        found = super().discontinuities(expectation, parameters, num_samples, dimension)
        return {**found, "coin": np.asarray([self.above])}


class LeftOut(Weighted):
    def discontinuities(
        self, expectation: Any, parameters: Any, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        return super().discontinuities(expectation, parameters, num_samples, dimension)


@dataclass(frozen=True)
class ByHand(Estimator):
    """DisARM, or a Bernoulli estimated from draws at ½ with weights."""

    name: ClassVar[str] = "by-hand"
    summary: ClassVar[str] = "by hand"
    requires: ClassVar[Requires] = Requires(("logits", "score", "score_identity"))

    pairs: bool = True

    def noise_specs(self, expectation: Any, num_samples: int, dimension: int) -> dict[str, Noise]:
        return {"mine": Noise("uniform", (dimension,))}

    def estimate_integrand(self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any) -> Blocks:
        xp, q, u, logits = backend.xp, expectation.family, noise["mine"], parameters["logits"]

        def f(z: Any) -> Any:
            return expectation.value(backend, parameters, z[:, None, :], noise)

        if not self.pairs:
            z = xp.astype(u > 0.5, u.dtype)
            ratio = xp.exp(q.log_density(backend, parameters, z))[:, None] * 2.0 ** z.shape[-1]
            return {name: ratio * f(z) * s for name, s in q.score(backend, parameters, z).items()}
        p = sigmoid(xp, logits)
        first, second = xp.astype(u > 1.0 - p, u.dtype), xp.astype(u < p, u.dtype)
        slope = 0.5 * (f(first) - f(second)) * (first - second) * sigmoid(xp, xp.abs(logits))
        return {"logits": slope}


class ByHandDeclared(ByHand):
    def discontinuities(
        self, expectation: Any, parameters: Any, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        p = sigmoid(np, parameters["logits"])[:, None]
        return {"mine": np.concatenate([p, 1.0 - p], axis=-1) if self.pairs else np.full((1, 1), 0.5)}


class HalfDeclared(ByHand):
    def discontinuities(
        self, expectation: Any, parameters: Any, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        return {"mine": sigmoid(np, parameters["logits"])[:, None]}


def prepared(problem: str | Problem, estimator: Estimator, samples: int = 1) -> tuple[Setting, Blocks]:
    made = problem if isinstance(problem, Problem) else make_problem(problem)
    ready = prepare(Cell(made, estimator, "numpy", num_samples=samples))
    assert ready.exact is not None
    return ready.setting, dict(ready.exact.gradient)


def assert_means(found: dict[str, Integral] | None, expected: Blocks, error: float = 1e-11) -> None:
    assert found is not None
    for name, gradient in expected.items():
        size = max(1e-300, float(np.abs(gradient).max()))
        np.testing.assert_allclose(found[name].mean, gradient, rtol=0.0, atol=1e-12 * size)
        assert np.all(found[name].error <= error * size)


#: Losing one estimate in ten; Russian roulette with the right weight; spikes; a rare event; anywhere.
COINS = (
    (0.1, 1.0, 0.0),
    (0.5, 2.0, 0.0),
    (1e-4, 1.0, 500.0),
    (1e-6, 1.0, 1e5),
    (1.0 - 1e-6, 1e6, 0.0),
    (0.437, 1.3, 0.2),
)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("coin", COINS)
def test_a_coin_of_ones_own(problem: str, coin: tuple[float, float, float]) -> None:
    """Without a word it is sampled; with the right one integrated; with the jump left out it is refused."""
    setting, _ = prepared(problem, Weighted(*coin))
    assert integrate(setting) is None
    reason = undeclared(setting)
    assert reason is not None
    assert "Weighted" in reason
    assert "discontinuities" in reason
    estimator = Declared(*coin)
    setting, gradient = prepared(problem, estimator)
    assert undeclared(setting) is None
    # A jump is known as precisely as the noise, whatever the height: that is part of the error.
    means = {name: estimator.expected * g for name, g in gradient.items()}
    assert_means(integrate(setting), means, 1e-11 + 1e-14 * max(estimator.weight, estimator.otherwise))
    assert integrate(prepared(problem, LeftOut(*coin))[0]) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_jump_left_out_is_seen_at_any_seed(seed: int) -> None:
    for cut in np.random.default_rng(seed).uniform(size=5):
        ready = prepare(Cell(make_problem(BERNOULLI), LeftOut(float(cut)), "numpy", num_samples=1, seed=seed))
        assert integrate(ready.setting) is None


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("problem", PROBLEMS[:2])
def test_written_by_hand(problem: str, pairs: bool) -> None:
    assert integrate(prepared(problem, ByHand(pairs))[0]) is None
    setting, gradient = prepared(problem, ByHandDeclared(pairs))
    assert_means(integrate(setting), gradient)
    assert integrate(prepared(problem, HalfDeclared(pairs))[0]) is None


def test_who_has_declared() -> None:
    """A class that computes declares, or one derived from it; what is inherited from the catalogue does not count."""

    class Options(ScoreFunction):
        summary: ClassVar[str] = "of the catalogue but for its name"

    class Mixin:
        def family_noise(self, backend: Backend, family: Any, noise: Any) -> Any:
            return noise

    class Mixed(ScoreFunction, Mixin):  # the catalogue's `discontinuities` stand before the mixin
        pass

    class Below(Mixed):
        discontinuities = ScoreFunction.discontinuities

    class Further(Below):
        def noise_by_block(self, expectation: Any, num_samples: int, dimension: int) -> dict[str, set[str]]:
            return super().noise_by_block(expectation, num_samples, dimension)

    assert [undeclared(prepared("square", make())[0]) is None for make in (Options, Mixed, Below, Further)] == [
        True,
        False,
        True,
        False,
    ]


def test_noise_that_is_read_without_a_word() -> None:
    """Which noise a block reads is the estimator's word too: other numbers of it show that it is wrong."""

    class Hidden(Declared):
        def noise_by_block(self, expectation: Any, num_samples: int, dimension: int) -> dict[str, set[str]]:
            return {block: {"base"} for block in expectation.blocks}

        discontinuities = Declared.discontinuities

    setting, _ = prepared("square", Hidden())
    assert undeclared(setting) is None
    assert integrate(setting) is None


class Power(Integrand):
    """c Σ z²."""

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return data["c"] * xp.sum(z * z, axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return 2.0 * data["c"] * z


class SmoothPower(Power):
    unsupported: Mapping[str, str] = {}


class Bent(SmoothPower):
    """Derived from what is declared, and bent: it must say so anew."""

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return data["c"] * xp.sum(xp.abs(z), axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return data["c"] * xp.sign(z)


@dataclass(frozen=True)
class Own(Problem):
    name: ClassVar[str] = "own"
    summary: ClassVar[str] = "c Σ z² at q = N(0.7, 0.6²)"
    integrand: ClassVar[Integrand] = SmoothPower()
    c: float = 1.0
    differentiate: str = "closed-form"
    q: ClassVar[Any] = Normal.Config(loc=0.7, scale=0.6)

    @property
    def dimension(self) -> int:
        return 1

    def data(self) -> Blocks:
        return {"c": np.asarray(self.c)}

    def exact_at(self, parameters: Blocks) -> Exact:
        scale = np.exp(parameters["log_scale"])
        return Exact({"loc": 2.0 * self.c * parameters["loc"], "log_scale": 2.0 * self.c * scale**2}, "closed-form")


class OwnSilent(Own):
    integrand: ClassVar[Integrand] = Power()


class OwnBent(Own):
    integrand: ClassVar[Integrand] = Bent()

    def exact_at(self, parameters: Blocks) -> Exact:
        """Of E |z| for a Normal."""
        scale = np.exp(parameters["log_scale"])
        law = stats.norm(parameters["loc"], scale)
        gradient = {"loc": 1.0 - 2.0 * law.cdf(0.0), "log_scale": 2.0 * scale**2 * law.pdf(0.0)}
        return Exact({name: self.c * g for name, g in gradient.items()}, "closed-form")


@pytest.mark.parametrize("estimator", [Pathwise(), ScoreFunction()])
def test_integrands_say_whether_they_are_smooth(estimator: Estimator) -> None:
    setting, gradient = prepared(Own(), estimator)
    assert_means(integrate(setting), gradient)
    for problem in (OwnSilent(), OwnBent()):
        setting, _ = prepared(problem, estimator)
        reason = undeclared(setting)
        assert reason is not None
        assert "unsupported = {}" in reason
        assert integrate(setting) is None


@pytest.mark.parametrize("c", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("estimator", [Pathwise(), ScoreFunction()])
def test_errors_scale_with_estimates(c: float, estimator: Estimator) -> None:
    """No floor: gradients of size 1e-12 and 1e12 are known alike."""
    setting, gradient = prepared(Own(c=c), estimator)
    found = integrate(setting)
    assert_means(found, gradient)
    assert found is not None
    assert all(np.all((1e-15 * c < each.error) & (each.error < 1e-12 * c)) for each in found.values())


def test_families_of_ones_own() -> None:
    @dataclass(frozen=True)
    class Tilted(Bernoulli):
        name: ClassVar[str] = "tilted"

        def sample(self, backend: Backend, parameters: Any, noise: Any) -> Any:
            return super().sample(backend, parameters, {"base": 1.0 - noise["base"]})

    @dataclass(frozen=True)
    class Said(Tilted):
        def discontinuities(self, parameters: Any, dimension: int) -> dict[str, np.ndarray]:
            return {"base": 1.0 - super().discontinuities(parameters, dimension)["base"]}

    at: Any = make_problem(BERNOULLI)

    class Config(Bernoulli.Config):
        made: ClassVar[Any] = Tilted

        @property
        def family(self) -> Any:
            return self.made()

    class ConfigSaid(Config):
        made: ClassVar[Any] = Said

    silent, said = (replace(at, q=kind(**vars(at.q)), k=0.4) for kind in (Config, ConfigSaid))
    reason = undeclared(prepared(silent, ScoreFunction())[0])
    assert reason is not None
    assert "Tilted" in reason
    setting, gradient = prepared(said, ScoreFunction())
    assert_means(integrate(setting), gradient)


def test_functions_of_ones_own_are_sampled() -> None:
    needs("jax")
    import jax.numpy as jnp

    model = Model(
        "mine", lambda theta, z: -jnp.sum(z**2, axis=-1) * theta["a"], {"a": jnp.ones(())}, loc=[0.3], log_scale=[0.0]
    )
    setting = prepare(Cell(model, Pathwise(), "jax", num_samples=1)).setting
    assert integrate(setting) is None
    reason = undeclared(setting)
    assert reason is not None
    assert "function" in reason


@pytest.mark.parametrize("problem", ["square", "logistic-regression", BERNOULLI])
def test_the_catalogue_is_trusted(problem: str) -> None:
    assert undeclared(prepare(make_cell(problem, "score-function")).setting) is None


def test_an_inconclusive_row_says_what_would_have_to_be_declared() -> None:
    """Only there, and only of what could be integrated: 64 replicates certify nothing."""
    once = StoppingCriteria(max_replicates=64)
    row = measured(Cell(make_problem("square"), Weighted(0.5, 2.0), goals=once))["all"]
    assert (row["verdict"], row["certificate"]) == ("inconclusive", "sampling")
    assert "not integrated over the noise: Weighted defines expected, and does not say where" in row["reason"]
    assert "define `discontinuities` there too" in row["reason"]
    many = measured(Cell(make_problem("square[dim=100]"), Weighted(0.5, 2.0), goals=once))["all"]
    assert many["verdict"] == "inconclusive"
    assert "not integrated" not in (many["reason"] or "")
    declared = measured(Cell(make_problem("square"), Declared(0.5, 2.0), goals=once))["all"]
    assert "not integrated" not in (declared["reason"] or "")
