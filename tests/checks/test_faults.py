"""One fault after another, planted in classes that are right otherwise; each is found by the check for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from gradmeter.bench.checks.checking import family_findings, problem_findings
from gradmeter.bench.checks.lab import QUICK
from gradmeter.bench.problems import Exact
from gradmeter.estimators import Family, FamilyConfig
from gradmeter.estimators.families.states import States
from gradmeter.estimators.families.support_and_tails import SupportAndTails
from tests.checks.users import Coin, CoinProblem, Form, FormProblem, Mine, Rejected


def wrong(findings: Any) -> set[str]:
    return {each.check for each in findings if each.status == "wrong"}


def with_method(base: type[Family], name: str, method: Callable[..., Any]) -> Family:
    """The family with one method replaced; the method takes the family it replaces one of first."""
    right = base()

    def replaced(self: Any, *arguments: Any) -> Any:
        return method(right, *arguments)

    return dataclass(frozen=True)(type(base.__name__, (base,), {name: replaced}))()


def of_family(base: type[Any], family: Family) -> set[str]:
    return wrong(family_findings(family, base.Config(), None, QUICK, 0))


def halved(q: Family, *arguments: Any) -> Any:
    found = q.score(*arguments)
    first = np.where(np.arange(found["loc"].shape[-1]) == 0, 0.5, 1.0)
    return {**found, "loc": found["loc"] * first}


def times(name: str, block: str, factor: float) -> Callable[..., Any]:
    """The method's result, one block of it multiplied."""

    def method(q: Family, *arguments: Any) -> Any:
        found = getattr(q, name)(*arguments)
        return {**found, block: found[block] * factor}

    return method


def scaled(name: str, factor: float) -> Callable[..., Any]:
    return lambda q, *arguments: getattr(q, name)(*arguments) * factor


def weak_constant(q: Family, *arguments: Any) -> Any:
    constant, above, below = (found := q.weak_derivatives(*arguments))["loc"]
    return {**found, "loc": (2.0 * constant, above, below)}


def flipped(q: Any, b: Any, p: Any, z: Any) -> Any:
    return b.xp.flip(q.log_densities(b, p, b.xp.flip(z, axis=-1)), axis=-1)


MINE: dict[str, tuple[str, Callable[..., Any], str]] = {
    "one entry of score is halved": ("score", halved, "score"),
    "score is 1 too large": ("score", lambda q, *a: {k: s + 1.0 for k, s in q.score(*a).items()}, "score"),
    "score of log σ has no −1": (
        "score",
        lambda q, *a: {**q.score(*a), "log_scale": q.score(*a)["log_scale"] + 1.0},
        "score",
    ),
    "score depends on other samples": (
        "score",
        lambda q, b, p, z: q.score(b, p, z - 0.01 * z.mean(axis=0)),
        "shapes",
    ),
    "sign of pathwise": ("pathwise", times("pathwise", "loc", -1.0), "pathwise"),
    "pathwise is doubled": ("pathwise", times("pathwise", "loc", 2.0), "pathwise"),
    "pathwise of several samples is doubled": (
        "pathwise",
        lambda q, b, p, n, z, c: {k: a * (z.ndim - 1.0) for k, a in q.pathwise(b, p, n, z, c).items()},
        "shapes",
    ),
    "pathwise is 0.1 % off": ("pathwise", times("pathwise", "log_scale", 1.001), "pathwise"),
    "the slope's sign": ("log_density_gradient", scaled("log_density_gradient", -1.0), "log_density_gradient"),
    "the curvature's factor": (
        "log_density_hessian_product",
        scaled("log_density_hessian_product", 0.5),
        "log_density_hessian_product",
    ),
    "the density is not normalised": (
        "log_densities",
        lambda q, *a: q.log_densities(*a) + 0.2,
        "samples against log_density",
    ),
    "parameters of another coordinate": ("log_densities", flipped, "samples against log_density"),
    "log q replaces the wrong coordinate": (
        "log_density_replaced",
        lambda q, b, p, z, r: b.xp.flip(q.log_density_replaced(b, p, z, r), axis=-1),
        "log_density_replaced",
    ),
    "samples of wrong scale": (
        "sample",
        lambda q, b, p, noise: q.sample(b, p, {"base": 1.1 * noise["base"]}),
        "samples against log_density",
    ),
    "coordinates share their noise": (
        "sample",
        lambda q, b, p, noise: q.sample(b, p, {"base": noise["base"][..., :1] + 0.0 * noise["base"]}),
        "samples against log_density",
    ),
    "a mirror image of another distribution": (
        "mirrored",
        lambda q, b, noise: {"base": 1.0 - noise["base"]},
        "samples of mirrored noise",
    ),
    "a mirror image that is none": ("mirrored", lambda q, b, noise: {"base": 0.5 * noise["base"]}, "mirrored"),
    "entropy_gradient": ("entropy_gradient", times("entropy_gradient", "log_scale", 1.2), "entropy_gradient"),
    "entropy_pathwise": ("entropy_pathwise", lambda q, *a: {"log_scale": 1.01}, "entropy_pathwise"),
    "dispersed by the square": ("dispersed", lambda q, b, p, d: q.dispersed(b, p, d * d), "dispersed"),
    "weak derivatives' constant": ("weak_derivatives", weak_constant, "weak_derivatives"),
    "a moment is 2 % off": (
        "power_moment",
        lambda q, p, n: (q.power_moment(p, n)[0] * 1.02, q.power_moment(p, n)[1]),
        "power_moment",
    ),
    "Price without the square of σ": (
        "bonnet_price",
        lambda q, b, p, slope, hessian: {**q.bonnet_price(b, p, slope, hessian), "log_scale": slope * 0.0},
        "bonnet_price",
    ),
    "an outline that ends": (
        "support_and_tails",
        lambda q, p: replace(q.support_and_tails(p), low=p["loc"]),
        "support_and_tails",
    ),
}


@pytest.mark.parametrize("fault", MINE)
def test_faults_of_a_continuous_family(fault: str) -> None:
    name, method, check = MINE[fault]
    assert check in of_family(Mine, with_method(Mine, name, method))


COIN: dict[str, tuple[str, Callable[..., Any], str]] = {
    "score is halved": ("score", times("score", "logits", 0.5), "score"),
    "p and 1 − p": (
        "sample",
        lambda q, b, p, noise: q.sample(b, {"logits": -p["logits"]}, noise),
        "samples against log_density",
    ),
    "logits' sign": ("logits", scaled("logits", -1.0), "logits"),
    "from_logits": ("from_logits", times("from_logits", "logits", 2.0), "from_logits"),
    "a state is missing": ("states", lambda q, dimension: States(((1.0,),), dimension), "states"),
    "the mean": ("expected", scaled("expected", 1.05), "expected"),
    "the mean's path": ("expected_pathwise", times("expected_pathwise", "logits", 1.01), "expected_pathwise"),
    "entropy_gradient": ("entropy_gradient", times("entropy_gradient", "logits", 1.001), "entropy_gradient"),
}


@pytest.mark.parametrize("fault", COIN)
def test_faults_of_a_discrete_family(fault: str) -> None:
    name, method, check = COIN[fault]
    assert check in of_family(Coin, with_method(Coin, name, method))


def test_an_implicit_path_is_held_to_its_identity() -> None:
    family = with_method(Rejected, "pathwise", times("pathwise", "log_rate", 2.0))
    assert "pathwise" in of_family(Rejected, family)


@dataclass(frozen=True)
class Shifted(Mine):
    """loc + e, exponential e: E score is 1, which it does not say."""

    name: ClassVar[str] = "shifted"
    blocks: ClassVar[tuple[str, ...]] = ("loc",)
    unsupported: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            *("log_density_gradient", "weak_derivatives", "mirrored", "entropy_gradient", "power_moment"),
            *("dispersed", "bonnet_price", "support_and_tails", "marginals"),
        ),
        "it is left out",
    )

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        @property
        def family(self) -> Family:
            return Shifted()

        def parameters(self, dimension: int) -> dict[str, np.ndarray]:
            return {"loc": np.zeros(dimension)}

    def sample(self, b: Any, p: Any, noise: Any) -> Any:
        return p["loc"] - b.xp.log(0.5 + 0.5 * b.special.erf(noise["base"] / 2.0**0.5))

    def log_densities(self, b: Any, p: Any, z: Any) -> Any:
        return p["loc"] - z

    def score(self, b: Any, p: Any, z: Any) -> Any:
        return {"loc": b.xp.ones_like(z)}

    def pathwise(self, b: Any, p: Any, noise: Any, z: Any, cotangent: Any) -> Any:
        return {"loc": cotangent}


def test_a_score_whose_mean_is_not_0() -> None:
    findings = list(family_findings(Shifted(), Shifted.Config(), None, QUICK, 0))
    assert wrong(findings) == {"E score = 0"}
    (message,) = [each.message for each in findings if each.status == "wrong"]
    assert message.startswith("E score of loc[0] is 1 ± ")
    assert "declare score_identity in unsupported" in message


def form(name: str, method: Callable[..., Any]) -> FormProblem:
    """The problem, of an integrand with one method replaced."""
    right = Form()
    faulty = type("Form", (Form,), {name: lambda self, *a: method(right, *a)})()

    class Faulty(FormProblem):
        integrand = faulty

    return Faulty()


def lower(xp: Any, data: Any) -> Any:
    return 2.0 * data["a"]


FORM: dict[str, tuple[str, Callable[..., Any], str]] = {
    "gradient without the cubes": (
        "gradient",
        lambda f, xp, d, z, n: f.gradient(xp, d, z, n) - 3.0 * z * z,
        "gradient",
    ),
    "gradient of 2 A": ("gradient", lambda f, xp, d, z, n: z @ lower(xp, d) + 3.0 * z * z, "gradient"),
    "product with A twice, not with A and Aᵀ": (
        "hessian_product",
        lambda f, xp, d, z, v, n: v @ lower(xp, d) + 6.0 * z * v,
        "hessian_product",
    ),
    "a Hessian's diagonal alone": ("hessian", lambda f, b, d, z, n: f.hessian(b, d, z, n) * np.eye(3), "hessian"),
    "a Hessian transposed": (
        "hessian",
        lambda f, b, d, z, n: lower(b.xp, d) + 6.0 * z[..., None] * np.eye(3),
        "hessian",
    ),
    "another coordinate is replaced": (
        "replaced",
        lambda f, b, d, z, r, n: b.xp.flip(f.replaced(b, d, z, r, n), axis=-1),
        "replaced",
    ),
    "local terms without couplings": (
        "local_terms",
        lambda f, xp, d, z, n: z**3 + z**2 * np.diag(d["a"]),
        "local_terms",
    ),
    "∂f/∂A transposed": (
        "model_pullback",
        lambda f, xp, d, z, c, n: {"a": xp.matrix_transpose(f.model_pullback(xp, d, z, c, n)["a"])},
        None,
    ),
    "∂f/∂A doubled": (
        "model_pullback",
        lambda f, xp, d, z, c, n: {"a": 2.0 * f.model_pullback(xp, d, z, c, n)["a"]},
        "model_pullback",
    ),
    "samples that depend on each other": (
        "value",
        lambda f, xp, d, z, n: f.value(xp, d, z, n) - f.value(xp, d, z, n).mean(),
        "shapes",
    ),
    "a value too many axes": ("value", lambda f, xp, d, z, n: f.value(xp, d, z, n)[..., None], "shapes"),
}
del FORM["∂f/∂A transposed"]  # z zᵀ is symmetric


@pytest.mark.parametrize("fault", FORM)
def test_faults_of_an_integrand(fault: str) -> None:
    name, method, check = FORM[fault]
    assert check in wrong(problem_findings(form(name, method), QUICK, 0, None))


def changed(**more: Any) -> Callable[[Exact], Exact]:
    return lambda exact: replace(exact, **{name: change(getattr(exact, name)) for name, change in more.items()})


EXACT: dict[str, tuple[Callable[[Exact], Exact], str]] = {
    "loc is 1 % off": (changed(gradient=lambda g: {**g, "loc": 1.01 * g["loc"]}), "exact"),
    "one entry of log σ is 1 % off": (
        changed(gradient=lambda g: {**g, "log_scale": g["log_scale"] * [1.0, 1.01, 1.0]}),
        "exact",
    ),
    "θ is 1 % off": (changed(gradient=lambda g: {**g, "a": 1.01 * g["a"]}), "exact"),
    "the sign": (changed(gradient=lambda g: {name: -a for name, a in g.items()}), "exact"),
    "the objective is 1 % off": (changed(objective=lambda value: 1.01 * value), "exact.objective"),
    "a block is missing": (changed(gradient=lambda g: {"loc": g["loc"]}), "exact"),
    "a shape": (changed(gradient=lambda g: {**g, "loc": g["loc"][:2]}), "exact"),
}


@pytest.mark.parametrize("fault", EXACT)
def test_faults_of_an_exact_answer(fault: str) -> None:
    change, check = EXACT[fault]

    class Faulty(FormProblem):
        def exact_at(self, parameters: dict[str, np.ndarray]) -> Exact | None:
            right = super().exact_at(parameters)
            assert right is not None
            return change(right)

    assert wrong(problem_findings(Faulty(), QUICK, 0, None)) == {check}


@pytest.mark.parametrize(("factor", "found"), [(1.0, set()), (1.001, {"exact"})])
def test_an_exact_answer_by_enumeration(factor: float, found: set[str]) -> None:
    class Faulty(CoinProblem):
        def exact_at(self, parameters: dict[str, np.ndarray]) -> Exact | None:
            right = super().exact_at(parameters)
            assert right is not None
            return replace(right, gradient={"logits": factor * right.gradient["logits"]})

    assert wrong(problem_findings(Faulty(), QUICK, 0, None)) == found


def test_parameters_of_another_family() -> None:
    class Faulty(CoinProblem):
        def parameters(self) -> dict[str, np.ndarray]:
            return {"loc": np.zeros(3), "log_scale": np.zeros(3)}

    assert wrong(problem_findings(Faulty(), QUICK, 0, None)) == {"parameters"}


def test_an_elbo_without_its_entropy() -> None:
    """The exact gradient of E log p alone, where f is log p − log q."""

    class Faulty(FormProblem):
        entropy: ClassVar[str] = "sampled"  # type: ignore[misc]

    assert wrong(problem_findings(Faulty(), QUICK, 0, None)) == {"exact", "exact.objective"}


def test_outlines_are_those_of_the_family() -> None:
    """(So that the fault above is one.)"""
    right: SupportAndTails = Mine().support_and_tails({"loc": np.zeros(1), "log_scale": np.zeros(1)})
    assert right.low[0] == -np.inf


@pytest.mark.parametrize("block", ["loc", "log_scale"])
def test_a_doubled_path_from_which_the_exact_gradient_was_made(block: str) -> None:
    """The estimate agrees with what it is compared with; the family and the exact gradient are each found wrong."""
    method = times("pathwise", block, 2.0)
    family = with_method(Mine, "pathwise", method)

    @dataclass(frozen=True)
    class Config(Mine.Config):
        @property
        def family(self) -> Family:
            return family

    class Doubled(FormProblem):
        q = Config(loc=0.7, scale=0.6)

        def exact_at(self, parameters: dict[str, np.ndarray]) -> Exact | None:
            right = super().exact_at(parameters)
            assert right is not None
            return replace(right, gradient={**right.gradient, block: 2.0 * right.gradient[block]})

    assert {"pathwise", "exact"} <= wrong(problem_findings(Doubled(), QUICK, 0, None))
