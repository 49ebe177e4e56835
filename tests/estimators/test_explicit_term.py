"""f that reads λ: every estimator adds E ∂f_λ/∂λ at fixed z, so that its mean is ∇_λ E f_λ.

Means are integrated over the noise, or enumerated; single estimates are held against what they are made of.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.integrate import integrate
from gradmeter.bench.problems import Exact, Problem
from gradmeter.bench.problems.enumerated import exact_enumerated
from gradmeter.bench.problems.tilted import TiltedSquareIntegrand
from gradmeter.estimators import (
    NAMED_ALONE,
    VARIANTS,
    Estimator,
    Expectation,
    Integrand,
    Noise,
    Normal,
    NotApplicable,
    Pathwise,
    Requires,
    UsageError,
    enumeration,
)
from gradmeter.estimators.amortised import AmortisedExpectation, AmortisedNormal
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families import FAMILIES
from tests.estimators.test_matrix import COVERING, numbers, unresolved
from tests.families import FAMILY_PROBLEMS
from tests.support import (
    ON_NORMAL,
    Blocks,
    draws,
    estimate,
    gauss,
    integrated,
    make_cell,
    measured,
    needs,
    setting_of,
    single,
    state_of,
)

TILTED = "tilted-square[a=0.4,loc=-0.6,scale=0.83{}]"
#: Estimators that the Normal takes, without those that need an ELBO or rows of data.
OF_NORMAL = tuple(
    e
    for e in (*ON_NORMAL, "vargrad", "self-normalised", "evolution-strategies", "spsa")
    if infeasible(make_cell(TILTED.format(""), e)) is None
)
#: Estimators whose noise a Gauss rule integrates over, with what it asks for.
BY_RULE = tuple(e for e in OF_NORMAL if "sobol" not in e and "stratified" not in e and "self-" not in e)


class SquareLessLoc(Integrand):
    """A user's f(z) = Σ z² − loc², from nothing but its value: E f = Σ σ²."""

    unsupported: ClassVar[Any] = {}
    reads = ("loc",)

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.sum(z * z - data["loc"] * data["loc"], axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return 2.0 * z


class SquareLessLocOnNumpy(SquareLessLoc):
    def explicit_pullback(self, xp: Any, data: Any, z: Any, cotangent: Any, noise: Any) -> Any:
        return {"loc": -2.0 * xp.sum(cotangent, axis=1)[:, None] * data["loc"]}


@pytest.mark.parametrize("name", ["score-function", "pathwise", "measure-valued"])
def test_a_users_own_integrand(backend: Backend, name: str) -> None:
    integrand = SquareLessLocOnNumpy() if backend.name == "numpy" else SquareLessLoc()
    at = single(0.7, 1.3)
    found = integrated(backend, make_estimator(name), Expectation(Normal(), integrand, {}), at, 1, nodes=40)
    for block, expected in {"loc": 0.0, "log_scale": 2.0 * 1.3**2}.items():
        mean, _, size = found[block]
        assert abs(mean[0] - expected) <= 1e-12 * max(1.0, size.max()), block


def test_numpy_says_what_to_add(numpy_backend: Backend) -> None:
    estimator, expectation = make_estimator("score-function"), Expectation(Normal(), SquareLessLoc(), {})
    noise = draws(estimator.noise_specs(expectation, 1, 1), 2)
    message = "give the integrand an `explicit_pullback` method, or use the torch or jax backend"
    with pytest.raises(NotApplicable, match=re.escape(message)):
        estimate(numpy_backend, estimator, expectation, single(0.7, 1.3), noise)


@pytest.mark.parametrize("name", BY_RULE)
def test_unbiased_by_a_rule(numpy_backend: Backend, name: str) -> None:
    """E ĝ is 2 (1 − a)² loc and 2σ². Zero-order estimators are right in loc, in which L is quadratic."""
    cell = make_cell(TILTED.format(""), name)
    at, state = cell.problem.parameters(), state_of(cell.problem, name, cell.num_samples)
    nodes = 96 if "importance" in name or "overdispersed" in name else 40 if "measure" in name else 12
    found = integrated(
        numpy_backend,
        cell.estimator,
        cell.problem.expectation(),
        at,
        cell.num_samples,
        state=state,
        nodes=nodes,
    )
    expected = {"loc": 2.0 * 0.6**2 * at["loc"], "log_scale": 2.0 * np.exp(2.0 * at["log_scale"])}
    for block in ("loc",) if cell.estimator.biased else expected:
        mean, _, size = found[block]
        assert np.abs(mean - expected[block]).max() <= 1e-12 * max(1.0, size.max()), block


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("name", "samples"),
    [(e, s) for e in OF_NORMAL for s in (1, 4) if s >= make_estimator(e).smallest_num_samples()],
)
def test_it_is_a_mean_over_the_samples(numpy_backend: Backend, name: str, samples: int) -> None:
    """ĝ is that of f with loc a constant, plus the mean of −2a (z − a loc) over samples that the noise makes."""
    estimator = make_estimator(name)
    problem: Any = make_cell(TILTED.format(",dim=3"), name, samples).problem
    whole, at = problem.expectation(), {n: a + np.asarray([0.0, 0.3, -0.2]) for n, a in problem.parameters().items()}
    state = state_of(problem, name, samples)
    noise = draws(estimator.noise_specs(whole, samples, 3), 5)
    found = estimate(numpy_backend, estimator, whole, at, noise, state)

    class Frozen(TiltedSquareIntegrand):
        reads = ()

    frozen = Expectation(Normal(), Frozen(), {**whole.data, "loc": at["loc"]})
    plain = estimate(numpy_backend, estimator, frozen, at, noise, state)
    np.testing.assert_array_equal(found["log_scale"], plain["log_scale"])
    made = estimator.family_noise(numpy_backend, Normal(), noise)
    z = Normal().sample(numpy_backend, at, made).reshape(5, samples, 3)
    term = -2.0 * 0.4 * (z - 0.4 * at["loc"]).mean(axis=1)
    np.testing.assert_allclose(found["loc"], plain["loc"] + term, rtol=0.0, atol=1e-12 * np.abs(plain["loc"]).max())


@dataclass(frozen=True)
class Scaled(Integrand):
    """Another f, times c(λ) = 1 + Σ mean sin λ over all blocks: whatever the family, ∂/∂λ is f cos λ / size."""

    unsupported: ClassVar[Any] = {}

    of: Integrand
    names: tuple[str, ...]
    reads: tuple[str, ...] = ()

    def _factor(self, xp: Any, data: Any) -> Any:
        return 1.0 + sum(xp.mean(xp.sin(data[name])) for name in self.names)

    def noise_specs(self, data: Any) -> Any:
        return self.of.noise_specs(data)

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return self._factor(xp, data) * self.of.value(xp, data, z, noise)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return self._factor(xp, data) * self.of.gradient(xp, data, z, noise)

    def hessian_product(self, xp: Any, data: Any, z: Any, vector: Any, noise: Any) -> Any:
        return self._factor(xp, data) * self.of.hessian_product(xp, data, z, vector, noise)

    def local_terms(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        terms = self.of.local_terms
        found = self.of.value(xp, data, z, noise)[..., None] + 0.0 * z if terms is None else terms(xp, data, z, noise)
        return self._factor(xp, data) * found


class ScaledOnNumpy(Scaled):
    unsupported: ClassVar[Any] = {}

    def explicit_pullback(self, xp: Any, data: Any, z: Any, cotangent: Any, noise: Any) -> Any:
        weighted = cotangent * self.of.value(xp, data, z, noise)
        each = xp.sum(weighted, axis=1)
        slopes = {name: xp.cos(data[name]) / data[name].size for name in self.names}
        return {name: xp.reshape(each, (-1, *(1,) * slope.ndim)) * slope for name, slope in slopes.items()}


@dataclass(frozen=True)
class ScaledProblem(Problem):
    """A family's problem, f times c(λ); `frozen`, times that number."""

    name: ClassVar[str] = "scaled"
    summary: ClassVar[str] = "for the tests"
    of: str
    frozen: bool = False
    differentiate: str = "closed-form"

    @functools.cached_property
    def plain(self) -> Problem:
        return make_problem(self.of)

    @property
    def q(self) -> Any:  # type: ignore[override]
        return self.plain.q

    @property
    def dimension(self) -> int:
        return self.plain.dimension

    @property
    def integrand(self) -> Integrand:
        plain, blocks = self.plain.integrand, self.family.blocks
        return Scaled(plain, blocks) if self.frozen else ScaledOnNumpy(plain, blocks, blocks)

    def data(self) -> Blocks:
        return {**self.plain.data(), **(self.parameters() if self.frozen else {})}

    def exact_at(self, parameters: Blocks) -> Exact | None:
        """∇(c L) = c ∇L + L ∇c; the second term is the explicit one."""
        exact = self.plain.exact_at(parameters)
        if exact is None or exact.objective is None:
            return None
        factor = 1.0 + sum(np.mean(np.sin(a)) for a in parameters.values())
        explicit = explicit_term(exact.objective, parameters)
        gradient = {n: factor * g + (0.0 if self.frozen else explicit[n]) for n, g in exact.gradient.items()}
        return Exact(gradient, exact.source, float(factor * exact.objective))


def explicit_term(objective: float, parameters: Blocks) -> Blocks:
    """L ∇c."""
    return {name: objective * np.cos(a) / a.size for name, a in parameters.items()}


def scaled(estimator: str, family: str, dimension: int = 1, **more: Any) -> ScaledProblem | None:
    """The problem in that many coordinates, if both take it."""
    try:
        of = FAMILY_PROBLEMS[family].replace("dim=3", f"dim={dimension}")
        problem = ScaledProblem(of, **more)
        samples = make_estimator(estimator).smallest_num_samples()
        return problem if infeasible(make_cell(problem, estimator, samples)) is None else None
    except UsageError:
        return None


#: Every estimator on each kind of family, where E f is wanted and f has no rows.
PAIRS = [
    (e, f)
    for e, f in sorted({*COVERING, *((f"score-function[draws={d}]", "normal") for d in ("antithetic", "stratified"))})
    if make_estimator(e).default_entropy() == "none"
    and "input-dependent" not in e
    and (problem := scaled(e, f, 2)) is not None
    and problem.exact() is not None
]


def test_the_pairs_have_every_estimator() -> None:
    without = {"score-function[baseline=input-dependent]", "pathwise[sticking-the-landing=true]"}
    bounds = {e for e in (*VARIANTS, *NAMED_ALONE) if make_estimator(e).bounds}
    assert {e for e, _ in PAIRS} == {*VARIANTS, *NAMED_ALONE} - without - bounds
    assert len({f for _, f in PAIRS}) > 0.75 * len(FAMILIES)


def grid(most: int) -> list[tuple[str, str]]:
    """The pairs that, in one coordinate, have so few numbers of noise that they can be integrated over."""
    return [(e, f) for e, f in PAIRS if scaled(e, f) is not None and numbers(e, f) <= most and unresolved(e, f) is None]


FEW = grid(2)
#: With more numbers, estimators that have no others; and those that have none that few.
MORE = list({e: (e, f) for e, f in grid(4) if e not in {few for few, _ in FEW}}.values())
REST = [(e, f) for e, f in PAIRS if e not in {few for few, _ in (*FEW, *MORE)}]


@pytest.mark.matrix
@pytest.mark.parametrize(("estimator", "family"), [*FEW, *MORE])
def test_unbiased_by_integration(estimator: str, family: str) -> None:
    """Whatever the family and the estimator's identity; of one that is biased by nature, the explicit term."""
    problem, frozen = scaled(estimator, family), scaled(estimator, family, frozen=True)
    assert problem is not None
    assert frozen is not None
    exact, found = problem.exact(), integrate(setting_of(problem, estimator, "numpy"))
    assert exact is not None
    if family == "student-t" and found is None:
        assert "score" in make_estimator(estimator).requires.family  # whose tails no grid settles on
        return
    assert found is not None
    expected = exact.flat().gradient
    if make_estimator(estimator).biased:
        plain, whole = integrate(setting_of(frozen, estimator, "numpy")), problem.plain.exact()
        assert plain is not None
        assert whole is not None
        term = explicit_term(whole.objective or 0.0, problem.parameters())
        expected = {name: plain[name].mean + np.ravel(added) for name, added in term.items()}
    for name, gradient in expected.items():
        assert np.abs(found[name].mean - gradient).max() <= 1e-10 * max(1.0, np.abs(gradient).max()), name


@pytest.mark.parametrize(("estimator", "family"), REST)
def test_unbiased_by_sampling(numpy_backend: Backend, estimator: str, family: str) -> None:
    """Means of 2^16 estimates within six standard errors, at fixed seeds: with others, right code fails with
    probability 1e-7 in all. Without the explicit term they would be off by twelve."""
    problem = scaled(estimator, family, 2)
    assert problem is not None
    exact, plain = problem.exact(), problem.plain.exact()
    assert exact is not None
    assert plain is not None
    made, expectation, at = make_estimator(estimator), problem.expectation(), problem.parameters()
    noise = draws(made.noise_specs(expectation, 4, problem.dimension), 2**16)
    found = estimate(numpy_backend, made, expectation, at, noise, state_of(problem, estimator, 4))
    term, seen = explicit_term(plain.objective or 0.0, at), False
    for name, values in found.items():
        error = values.std(axis=0) / np.sqrt(len(values))
        assert np.all(np.abs(values.mean(axis=0) - exact.gradient[name]) <= 6.0 * error + 1e-12), name
        seen |= bool(np.any(np.abs(term[name]) > 12.0 * error))
    assert seen


@pytest.mark.matrix
@pytest.mark.parametrize("backend", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("estimator", "family"), PAIRS)
def test_automatic_derivatives_are_the_closed_form(
    numpy_backend: Backend, backend: str, estimator: str, family: str
) -> None:
    """On the same noise, two coordinates; an expectation that is `closed-form` takes f's gradient, but not the missing
    derivative in λ, from its methods."""
    needs(backend)
    problem = scaled(estimator, family, 2)
    assert problem is not None
    made, whole, at = make_estimator(estimator), problem.expectation(), problem.parameters()
    plain = problem.plain.expectation().integrand
    blocks = whole.family.blocks
    automatic = Expectation(whole.family, Scaled(plain, blocks, blocks), whole.data)
    noise, state = draws(made.noise_specs(whole, 4, problem.dimension), 6), state_of(problem, estimator, 4)
    expected = estimate(numpy_backend, made, whole, at, noise, state)
    found = estimate(get(backend), made, automatic, at, noise, state)
    for name, values in expected.items():
        assert found[name].shape == values.shape
        assert np.abs(found[name] - values).max() <= 1e-10 * max(1.0, np.abs(values).max()), name


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("replicates", [1, 5])
def test_backends_agree(differentiating: Backend, numpy_backend: Backend, samples: int, replicates: int) -> None:
    """To 1e-12 on the bundled problem, from its method and by automatic derivatives, for one replicate and for more."""
    closed, automatic = (
        make_cell(TILTED.format(f",dim=3{d}"), "pathwise").problem for d in ("", ",differentiate=autodiff")
    )
    estimator, at = make_estimator("score-function"), closed.parameters()
    noise = draws(estimator.noise_specs(closed.expectation(), samples, 3), replicates)
    expected = estimate(numpy_backend, estimator, closed.expectation(), at, noise)
    for problem, compiled in ((automatic, differentiating.name == "jax"), (closed, False)):
        found = estimate(differentiating, estimator, problem.expectation(), at, noise, compiled=compiled)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=0.0, atol=1e-12 * max(1.0, np.abs(values).max()))


@pytest.mark.slow
def test_it_compiles(differentiating: Backend, numpy_backend: Backend) -> None:
    for name in ("pathwise", "measure-valued", "score-function[baseline=leave-one-out]"):
        automatic = make_cell(TILTED.format(",dim=3,differentiate=autodiff"), name).problem
        estimator, at = make_estimator(name), automatic.parameters()
        noise = draws(estimator.noise_specs(automatic.expectation(), 4, 3), 6)
        closed = make_cell(TILTED.format(",dim=3"), name).problem.expectation()
        expected = estimate(numpy_backend, estimator, closed, at, noise)
        found = estimate(differentiating, estimator, automatic.expectation(), at, noise, compiled=True)
        for block, values in expected.items():
            np.testing.assert_allclose(found[block], values, rtol=0.0, atol=1e-12 * max(1.0, np.abs(values).max()))


class Chosen(Integrand):
    """(Σ w z − Σ tanh l)², of binary z with logits l: all coordinates are coupled, and z and l."""

    unsupported: ClassVar[Any] = {}
    reads = ("logits",)

    def away(self, xp: Any, data: Any, z: Any) -> Any:
        return xp.sum(data["w"] * z, axis=-1) - xp.sum(xp.tanh(data["logits"]))

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return self.away(xp, data, z) ** 2

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return 2.0 * self.away(xp, data, z)[..., None] * data["w"]

    def explicit_pullback(self, xp: Any, data: Any, z: Any, cotangent: Any, noise: Any) -> Any:
        slope = cotangent * -2.0 * self.away(xp, data, z)
        return {"logits": xp.sum(slope, axis=1)[:, None] * (1.0 - xp.tanh(data["logits"]) ** 2)}


@dataclass(frozen=True)
class ChosenProblem(Problem):
    name: ClassVar[str] = "chosen"
    summary: ClassVar[str] = "for the tests"
    integrand = Chosen()
    dimension: int = 2
    differentiate: str = "closed-form"

    @property
    def q(self) -> Any:  # type: ignore[override]
        return FAMILIES["bernoulli"].Config()

    def parameters(self) -> Blocks:
        return {"logits": np.asarray([0.7, -0.4, 0.2])[: self.dimension]}

    def data(self) -> Blocks:
        return {"w": np.asarray([1.0, -2.0, 0.5])[: self.dimension]}

    def exact_at(self, parameters: Blocks) -> Exact | None:
        return exact_enumerated(self.expectation(), parameters, self.dimension)


def test_enumeration_has_the_explicit_term() -> None:
    """The exact gradient by enumeration, against complex steps of E f as a function of every logit."""
    problem = ChosenProblem(3, "autodiff")
    at, exact = problem.parameters()["logits"], problem.exact()
    assert exact is not None
    states = np.stack([a.ravel() for a in np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij")], axis=1)
    for i in range(3):
        logits = at + 1e-30j * (np.arange(3) == i)
        probability = np.prod(np.exp(states * logits) / (1.0 + np.exp(logits)), axis=1)
        f = (states @ problem.expectation().data["w"] - np.sum(np.tanh(logits))) ** 2
        assert exact.objective == pytest.approx((probability @ f).real, rel=1e-14)
        assert exact.gradient["logits"][i] == pytest.approx((probability @ f).imag / 1e-30, rel=1e-13)


BINARY = [
    (e, d)
    for e in (*VARIANTS, *NAMED_ALONE)
    for d in (2, 1)
    if make_estimator(e).biased is None
    and infeasible(make_cell(ChosenProblem(d), e, make_estimator(e).smallest_num_samples())) is None
]


@pytest.mark.parametrize("estimator", sorted({e for e, _ in BINARY}))
def test_discrete_by_integration(estimator: str) -> None:
    """Every estimator for binary z, enumerated over its noise: with two coordinates where a grid is small, else one."""
    for dimension in (d for e, d in BINARY if e == estimator):
        problem = ChosenProblem(dimension)
        found = integrate(setting_of(problem, estimator, "numpy"))
        if found is None:
            continue
        exact: Any = problem.exact()
        off = np.abs(found["logits"].mean - exact.gradient["logits"]).max()
        assert off <= 1e-12 * max(1.0, np.abs(exact.gradient["logits"]).max())
        return
    assert any(part in estimator for part in ("sobol", "cross-fitted", "stratified", "arms"))


def test_enumeration_in_parts(numpy_backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many replicates the states are evaluated in parts, the explicit term too."""
    problem, estimator = ChosenProblem(3), make_estimator("enumeration")
    exact: Any = problem.exact()
    noise = draws(estimator.noise_specs(problem.expectation(), 1, 3), 4)
    for at_once in (2**22, 16):
        monkeypatch.setattr(enumeration, "AT_ONCE", at_once)
        found = estimate(numpy_backend, estimator, problem.expectation(), problem.parameters(), noise)["logits"]
        np.testing.assert_allclose(found, np.tile(exact.gradient["logits"], (4, 1)), rtol=1e-13)


class Bent(Integrand):
    """log p(x, z) = −(z − a loc)²/2 − z⁴/10, which reads loc."""

    unsupported: ClassVar[Any] = {}
    reads = ("loc",)

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        away = z - 0.4 * data["loc"]
        return xp.sum(-0.5 * away * away - 0.1 * z**4, axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return -(z - 0.4 * data["loc"]) - 0.4 * z**3

    def explicit_pullback(self, xp: Any, data: Any, z: Any, cotangent: Any, noise: Any) -> Any:
        slope = 0.4 * cotangent[..., None] * (z - 0.4 * data["loc"])
        return {"loc": xp.sum(slope, axis=1)}


@pytest.mark.parametrize("name", ["iwae", "dreg", "vimco"])
@pytest.mark.parametrize("size", [1, 2])
def test_bounds(numpy_backend: Backend, name: str, size: int) -> None:
    """∇L_K by complex steps of L_K on the same nodes, z = loc + σε."""
    at = single(0.5, 0.6)
    expectation = Expectation(Normal(), Bent(), {}, "sampled", importance_samples=size)
    found = integrated(numpy_backend, make_estimator(name), expectation, at, 1, nodes=64)
    x, w = gauss("normal", 64)
    nodes = np.stack([a.ravel() for a in np.meshgrid(*[x] * size, indexing="ij")], axis=1)
    weights = np.prod(np.stack([a.ravel() for a in np.meshgrid(*[w] * size, indexing="ij")], axis=1), axis=1)
    for block in ("loc", "log_scale"):
        loc, log_scale = (at[b][0] + 1e-30j * (b == block) for b in ("loc", "log_scale"))
        z = loc + np.exp(log_scale) * nodes
        log_q = -0.5 * nodes**2 - log_scale - 0.5 * np.log(2.0 * np.pi)
        ratio = np.exp(-0.5 * (z - 0.4 * loc) ** 2 - 0.1 * z**4 - log_q)
        expected = float((weights @ np.log(ratio.mean(axis=1))).imag) / 1e-30
        assert abs(found[block][0][0] - expected) <= 1e-9 * max(1.0, found[block][2].max()), block


class Following(Integrand):
    """−Σ (z − loc)²/2: E ∂f/∂loc = 0."""

    reads = ("loc",)

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        away = z - data["loc"]
        return -0.5 * xp.sum(away * away, axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return data["loc"] - z


class FollowingAsConstant(Following):
    explicit_term_is_zero = True


@pytest.mark.parametrize("name", ["score-function", "pathwise"])
def test_a_term_declared_zero_is_left_out(backend: Backend, name: str) -> None:
    """To the last bit, on NumPy without a method; and nothing is lost."""
    estimator, at = make_estimator(name), single([0.4, -0.3, 1.1], [0.7, 1.2, 0.3])

    class Frozen(Following):
        reads = ()

    constant, frozen = (
        Expectation(Normal(), f, d) for f, d in ((FollowingAsConstant(), {}), (Frozen(), {"loc": at["loc"]}))
    )
    noise = draws(estimator.noise_specs(frozen, 2, 3), 5)
    assert constant.explicit_blocks == ()
    assert estimator.noise_specs(constant, 2, 3).keys() == noise.keys()
    found, expected = (estimate(backend, estimator, e, at, noise) for e in (constant, frozen))
    for block in expected:
        np.testing.assert_array_equal(found[block], expected[block])


@pytest.mark.parametrize("name", ["score-function", "pathwise"])
def test_its_mean_is_zero(backend: Backend, name: str) -> None:
    at = single(0.4, 0.7)
    found = integrated(backend, make_estimator(name), Expectation(Normal(), FollowingAsConstant(), {}), at, 1)
    np.testing.assert_allclose(found["loc"][0], 0.0, atol=1e-12)
    np.testing.assert_allclose(found["log_scale"][0], -np.exp(2.0 * at["log_scale"]), atol=1e-12)


@dataclass(frozen=True)
class Forgetful(Pathwise):
    """Pathwise without the explicit term."""

    name: ClassVar[str] = "forgetful"

    def estimate(self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any) -> Any:
        return self.estimate_integrand(backend, *expectation.at(parameters), noise, state)


def test_the_verdict(numpy_backend: Backend) -> None:
    """What has the term is certified by integration; what leaves it out is biased in loc, and nowhere else."""
    problem = TILTED.format("")
    rows = measured(make_cell(problem, "pathwise"))
    assert {row["verdict"] for row in rows.values()} == {"unbiased"}
    assert {row["certificate"] for row in rows.values()} == {"integration"}
    cell = replace(make_cell(problem, "pathwise", max_replicates=2**14), estimator=Forgetful())
    rows = measured(cell)
    assert rows["loc"]["verdict"] == "biased"
    assert rows["log_scale"]["verdict"] != "biased"


@dataclass(frozen=True)
class NoSamples(Estimator):
    """An estimator of a user's, whose noise makes no samples of q that anyone else knows of."""

    name: ClassVar[str] = "no-samples"
    summary: ClassVar[str] = "for the tests"
    requires: ClassVar[Requires] = Requires()

    def noise_specs(self, expectation: Any, num_samples: int, dimension: int) -> dict[str, Noise]:
        return {"own": Noise("normal", (dimension,))}

    def estimate_integrand(self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any) -> Any:
        return dict.fromkeys(parameters, noise["own"])


def test_without_samples_it_is_refused(numpy_backend: Backend) -> None:
    expectation = make_cell(TILTED.format(""), "pathwise").problem.expectation()
    noise = draws(NoSamples().noise_specs(expectation, 1, 1), 3)
    with pytest.raises(NotApplicable, match="no-samples draws no samples of q"):
        estimate(numpy_backend, NoSamples(), expectation, single(0.1, 1.0), noise)


def test_only_blocks_of_q_are_read() -> None:
    with pytest.raises(UsageError, match="SquareLessLoc reads loc, which family bernoulli has not got") as caught:
        Expectation(FAMILIES["bernoulli"].Config().family, SquareLessLoc(), {})
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="SquareLessLoc reads loc of λ, which an encoder makes anew"):
        AmortisedExpectation(AmortisedNormal(), SquareLessLoc(), None, {})  # type: ignore[arg-type]


FAMILY_TEXTS = (
    "laplace,loc=-0.6,scale=0.83",
    "logistic,loc=-0.6,scale=0.83",
    "gumbel,loc=-0.6,scale=0.83",
    "student-t,loc=-0.6,scale=0.83,df=9",
    "uniform,low=-0.6,high=1.3",
    "triangular,low=-0.6,mode=0.2,high=1.3",
    "multivariate-normal,loc=-0.6,scale=0.83,correlation=0.4,dim=2",
    "low-rank-normal,loc=-0.6,scale=0.83",
)


@pytest.mark.parametrize("family", FAMILY_TEXTS)
def test_exact_for_other_families(family: str) -> None:
    """The pathwise estimate, integrated over its noise."""
    problem = make_problem(f"tilted-square[a=0.4,family={family}]")
    found, exact = integrate(setting_of(problem, "pathwise", "numpy")), problem.exact()
    assert found is not None
    assert exact is not None
    for name, gradient in exact.gradient.items():
        np.testing.assert_allclose(found[name].mean, gradient.ravel(), rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("family", [*FAMILY_TEXTS, "elliptical,loc=-0.6,scale=0.83,dim=3", "normal,loc=0.3,dim=3"])
def test_exact_is_the_gradient_of_the_objective(family: str) -> None:
    """Central differences, extrapolated, away from the options' λ."""
    problem: Any = make_problem(f"tilted-square[a=0.4,family={family}]")
    generator = np.random.default_rng(5)
    here = {n: a + 0.2 * generator.standard_normal(a.shape) for n, a in problem.parameters().items()}
    step = {n: generator.standard_normal(a.shape) for n, a in here.items()}
    objective = lambda t: problem.exact_at({n: a + t * step[n] for n, a in here.items()}).objective  # noqa: E731
    wide, narrow = ((objective(h) - objective(-h)) / (2.0 * h) for h in (2e-3, 1e-3))
    slope = sum(float(np.sum(problem.exact_at(here).gradient[n] * step[n])) for n in here)
    assert (4.0 * narrow - wide) / 3.0 == pytest.approx(slope, rel=1e-8)


def test_exact_in_closed_form() -> None:
    """Σ (1 − a)² loc² + σ², its derivatives, and E[f s²]/E[s²] by quadrature."""
    problem: Any = make_problem("tilted-square[a=0.4,dim=3]")
    loc, scale = np.asarray([0.3, -0.6, 1.9]), np.asarray([0.4, 1.3, 0.6])
    exact = problem.exact_at(single(loc, scale))
    assert exact.source == "closed-form"
    assert exact.objective == pytest.approx(np.sum(0.36 * loc**2 + scale**2), rel=1e-14)
    np.testing.assert_allclose(exact.gradient["loc"], 0.72 * loc, rtol=1e-14)
    np.testing.assert_allclose(exact.gradient["log_scale"], 2.0 * scale**2, rtol=1e-14)
    x, w = gauss("normal", 12)
    others = exact.objective - 0.36 * loc**2 - scale**2
    f = (0.6 * loc[:, None] + scale[:, None] * x) ** 2 + others[:, None]
    np.testing.assert_allclose(exact.optimal_baseline["loc"], f @ (w * x**2), rtol=1e-12)
    np.testing.assert_allclose(exact.optimal_baseline["log_scale"], f @ (w * (x**2 - 1) ** 2) / 2.0, rtol=1e-12)
