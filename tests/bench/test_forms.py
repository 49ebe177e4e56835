"""What a user's class leaves out is not needed, or one line says that it is; what is of the wrong kind likewise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.checks.checking import of_any
from gradmeter.bench.checks.findings import Findings
from gradmeter.bench.checks.lab import QUICK
from gradmeter.bench.problems import Exact, Problem
from gradmeter.estimators import Estimator, Expectation, Family, FamilyConfig, Integrand, Requires, UsageError
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.capabilities import has, missing
from gradmeter.estimators.noise import Noise

LOG_2PI = float(np.log(2.0 * np.pi))


class Square(Integrand):
    unsupported: ClassVar[dict[str, str]] = {}

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.sum(z * z, axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return 2.0 * z


@dataclass(frozen=True)
class Mine(Family):
    """A Normal with what it must have and a path, and not a word about what it lacks."""

    name: ClassVar[str] = "mine"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale")

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return {"loc": (dimension,), "log_scale": (dimension,)}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("normal", (*sample_shape, dimension))}

    def discontinuities(self, parameters: Any, dimension: int) -> dict[str, np.ndarray]:
        return {}

    def sample(self, backend: Backend, parameters: Any, noise: Any) -> Any:
        return parameters["loc"] + backend.xp.exp(parameters["log_scale"]) * noise["base"]

    def _standard(self, backend: Backend, parameters: Any, z: Any) -> Any:
        return (z - parameters["loc"]) / backend.xp.exp(parameters["log_scale"])

    def log_density(self, backend: Backend, parameters: Any, z: Any) -> Any:
        e = self._standard(backend, parameters, z)
        return backend.xp.sum(-0.5 * e * e - parameters["log_scale"] - 0.5 * LOG_2PI, axis=-1)

    def score(self, backend: Backend, parameters: Any, z: Any) -> Any:
        e = self._standard(backend, parameters, z)
        return {"loc": e / backend.xp.exp(parameters["log_scale"]), "log_scale": e * e - 1.0}

    def pathwise(self, backend: Backend, parameters: Any, noise: Any, z: Any, cotangent: Any) -> Any:
        return {"loc": cotangent, "log_scale": cotangent * (z - parameters["loc"])}


@dataclass(frozen=True)
class Config(FamilyConfig):
    family: ClassVar[Family] = Mine()  # type: ignore[misc]

    def parameters(self, dimension: int) -> Any:
        return {"loc": np.full(dimension, 0.5), "log_scale": np.zeros(dimension)}


@dataclass(frozen=True)
class Own(Problem):
    """Nothing but what is abstract, a name, q, and the exact gradient; no `differentiate`."""

    name: ClassVar[str] = "own"
    dimension: ClassVar[int] = 2  # type: ignore[misc, assignment]
    q = Config()
    integrand: ClassVar[Integrand] = Square()

    def exact_at(self, parameters: Any) -> Any:
        return Exact(
            {"loc": 2.0 * parameters["loc"], "log_scale": 2.0 * np.exp(2.0 * parameters["log_scale"])}, "closed-form"
        )


@dataclass(frozen=True)
class Scores(Estimator):
    name: ClassVar[str] = "scores"
    requires: ClassVar[Requires] = Requires(("score", "score_identity"))

    def estimate_integrand(self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any) -> Any:
        z = expectation.family.sample(backend, parameters, noise)
        f = expectation.value(backend, parameters, z, noise)
        score = expectation.family.score(backend, parameters, z)
        return {k: backend.xp.mean(f[..., None] * s, axis=1) for k, s in score.items()}


def changed(cls: Any, **attributes: Any) -> Any:
    """The class with attributes in place of its own."""
    made = type(cls.__name__, (cls,), attributes)
    return made if cls is Square else dataclass(frozen=True)(made)


def returning(value: Any) -> Callable[..., Any]:
    return lambda self, *arguments: value


def problem_of(kind: type, name: str, value: Any) -> Problem:
    """A problem whose own, or whose point's, family's or integrand's attribute is that."""
    made: Problem
    if kind is Problem:
        made = changed(Own, **{name: value})()
    elif kind is FamilyConfig:
        made = changed(Own, q=changed(Config, **{name: value})())()
    elif kind is Family:
        made = changed(Own, q=changed(Config, family=changed(Mine, **{name: value})())())()
    else:
        made = changed(Own, integrand=changed(Square, **{name: value})())()
    return made


def said(problem: Any, estimator: Any) -> str:
    """The one line that a measurement ends with."""
    try:
        rows = gradmeter.measure(problem, estimator, timing=False, max_replicates=64)
    except UsageError as error:
        return str(error)
    assert set(rows["status"]) == {"exception"}, rows["verdict"].iloc[-1]
    (reason,) = set(rows["reason"])
    return str(reason)


@pytest.mark.parametrize("estimator", ["pathwise", "score-function", Scores()], ids=str)
def test_what_is_left_out_is_not_needed(estimator: Any) -> None:
    rows = gradmeter.measure(Own(), estimator, timing=False, max_replicates=2**12)
    assert set(rows["status"]) == {"ok"}
    assert "biased" not in set(rows["verdict"])


@pytest.mark.parametrize("estimator", ["measure-valued", "pathwise[sticking-the-landing=true]", "overdispersed"])
def test_where_it_is_needed_the_cell_is_not_applicable(estimator: str) -> None:
    rows = gradmeter.measure(Own(), estimator, timing=False, max_replicates=64)
    assert set(rows["status"]) == {"n/a"}
    assert gradmeter.check(Own()).ok
    assert gradmeter.check(Scores()).ok


def test_what_a_subclass_defines_it_no_longer_lacks() -> None:
    assert missing(Mine(), ["score", "weak_derivatives"]) == {"weak_derivatives": "none are written for it"}
    defined = {"weak_noise": returning({}), "weak_derivatives": returning({})}
    assert has(changed(Mine, **defined)(), "weak_derivatives")
    assert missing(changed(Mine, **defined, unsupported={"weak_derivatives": "why"})()) == missing(Mine()) | {
        "weak_derivatives": "why"
    }


WRONG: list[tuple[type, str, Any, str]] = [
    (Problem, "name", None, "name is None; it must be the text that rows call it by"),
    (Problem, "dimension", "2", "dimension is '2'; it must be D, a whole number of at least 1"),
    (Problem, "dimension", 0, "dimension is 0; it must be D, a whole number of at least 1"),
    (Problem, "dimension", returning(2), "dimension is a method; make it an attribute or a property"),
    (Problem, "q", Mine(), "q is a "),
    (Problem, "q", Config, "q is the class Config; it must be a FamilyConfig (the Config of a family), such as "),
    (Problem, "integrand", None, "integrand is None; it must be an object of a class of Integrand"),
    (Problem, "integrand", Square, "integrand is the class Square; it must be an object of a class of Integrand"),
    (Problem, "encoder", 3, "encoder is 3; it must be None or an Encoder"),
    (Problem, "differentiate", "auto", "differentiate is 'auto'; it must be one of closed-form, autodiff"),
    (Problem, "entropy", "exact", "entropy is 'exact'; it must be one of none, sampled, analytic"),
    (Problem, "framework", "tf", "framework is 'tf'; it must be torch, jax or None"),
    (Problem, "importance_samples", "2", "importance_samples is '2'; it must be a whole number of at least 1"),
    (Problem, "data", returning(None), "data of the Expectation is None; it must be a dict {name: array}"),
    (Problem, "parameters", returning({"loc": [0.5, 0.5], "log_scale": [0.0, 0.0]}), "dict {block: NumPy array of"),
    (Problem, "parameters", returning({"loc": np.zeros(2)}), "parameters has shapes {'loc': (2,)}; family and"),
    (Problem, "exact", returning({"loc": np.zeros(2)}), "it must return None or Exact({block: gradient}, source)"),
    (Problem, "exact_at", lambda self: None, "exact_at takes (); after self it must take (parameters)"),
    (Problem, "exact_at", returning(Exact(None, "x")), "exact has the gradient None"),  # type: ignore[arg-type]
    (Problem, "content", returning(3), "content returns 3; it must return a text or None"),
    (
        FamilyConfig,
        "parameters",
        returning(None),
        "parameters returns None; it must return a dict {block: ",
    ),
    (FamilyConfig, "parameters", lambda self: {}, "parameters takes (); after self it must take (dimension)"),
    (FamilyConfig, "family", Mine, "family is the class Mine"),
    (Family, "name", None, "family Mine: name is None"),
    (Family, "blocks", "loc", "family mine: blocks is 'loc'; it must be a tuple of the names of the parameter blocks"),
    (Family, "blocks", ("loc",), "family mine: shapes returns {'loc': (3,), 'log_scale': (3,)}"),
    (Family, "unsupported", ["a"], "family mine: unsupported is ['a']; it must be a dict {capability: why}"),
    (
        Family,
        "unsupported",
        {"weak": "no"},
        "family mine: unsupported names weak, which is no capability; choose from score, ",
    ),
    (Family, "shapes", returning({"loc": 2, "log_scale": 2}), "each shape a tuple of whole numbers"),
    (Family, "noise", returning(None), "noise returns None; it must return a dict {name: Noise(kind, shape)}"),
    (Family, "noise", returning({}), "KeyError: 'base' (in Mine.sample, line "),
    (Family, "noise", lambda self, s, d: {"base": Noise("normal", (d,))}, "each shape beginning with (2,)"),
    (Family, "noise", lambda self, s, d: {"base": Noise("gauss", (*s, d))}, "unknown kind of noise 'gauss'"),  # type: ignore[arg-type]
    (Family, "discontinuities", returning(None), "family mine: discontinuities returns None; it must return a dict"),
    (Family, "sample", returning(None), "sample returns None; it must return an array of numpy, z [..., D]"),
    (Family, "sample", lambda self, b, p, n: n["base"][..., 0], "it must be [512, 2]; mend sample or noise"),
    (Family, "log_density", returning(None), "log_density: the result is None; it must be an array of numpy"),
    (Family, "log_density", lambda self, p, z: z, "log_density takes (p, z); after self it must take (backend, "),
    (Family, "score", lambda self, b, p, z: (z, z), "score returns a tuple; it must return a dict {block: array}"),
    (Family, "pathwise", lambda self, b, p, n, z, c: {"loc": c}, "pathwise has blocks ['loc'] where they must be"),
    (
        Family,
        "dispersed",
        lambda self, b: {},
        "dispersed takes (b); after self it must take (backend, par",
    ),
    (Family, "logs", returning(()), "log_density takes (backend, parameters, z); after self it must take"),
    (Integrand, "value", returning(None), "value: the result is None; it must be an array of numpy"),
    (Integrand, "value", lambda self, z: z, "value takes (z); after self it must take (xp, data, z, noise)"),
    (Integrand, "value", 3, "integrand Square: value is 3; it must be a method that takes (xp, data, z, noise)"),
    (Integrand, "value", lambda self, xp, data, z, noise: list(z), "value returns a tuple; it must return an array"),
    (Integrand, "value", lambda self, xp, data, z, noise: data["a"], "KeyError: 'a' (in <lambda>, line "),
    (Integrand, "gradient", returning(None), "gradient: the result is None; it must be an array of numpy"),
    (Integrand, "gradient", returning(1.0), "gradient has shape []; it must be an array of shape [16, 1, 2]"),
    (Integrand, "hessian_product", lambda self, z: z, "it must take (xp, data, z, vector, noise)"),
    (Integrand, "replaced", returning(None), "replaced: the result is None; it must be an array of numpy"),
    (Integrand, "local_terms", returning(1.0), "local_terms has shape []; it must be an array of shape [16, 1, 2]"),
    (Integrand, "noise_specs", returning({"a": 3}), "noise_specs returns {'a': 3}; it must return a dict {name: Noise"),
    (Integrand, "width", returning("3"), "width returns '3'; it must return a whole number of at least 1"),
    (Integrand, "model_shapes", returning({"a": 3}), "model_shapes returns {'a': 3}; it must return a dict {block: "),
    (Integrand, "reads", "loc", "reads is 'loc'; it must be a tuple of the names of blocks of λ"),
    (
        Integrand,
        "unsupported",
        {"smooth": "no"},
        "unsupported names smooth, which is no capability; choose from gradient, ",
    ),
    (Integrand, "reads_logs", True, "gradient takes (xp, data, z, noise); after self it must take (xp, data, z, noise"),
]


@pytest.mark.parametrize(("kind", "name", "value", "line"), WRONG, ids=[f"{k.__name__}.{n}" for k, n, *_ in WRONG])
def test_what_is_of_the_wrong_kind_is_one_line(kind: type, name: str, value: Any, line: str) -> None:
    problem = problem_of(kind, name, value)
    message = said(problem, "pathwise" if name == "discontinuities" else Scores())
    assert line in message
    assert "\n" not in message
    assert Findings(of_any(problem, QUICK, 0)).wrong or name in ("data", "discontinuities", "reads", "noise")


ESTIMATORS: list[tuple[str, Any, str]] = [
    ("name", None, "estimator Scores: name is None; it must be the text that rows call it by"),
    ("requires", ("score",), "requires is ('score',); it must be Requires(family=(...), integrand=(...))"),
    ("requires", Requires(("scores",)), "requires names scores, which no family is asked for; choose from score, "),
    ("requires", Requires((), ("hessian",)), "requires names hessian, which no integrand is asked for"),
    ("also_requires", returning(None), "also_requires returns None; it must return Requires("),
    ("noise_specs", returning(None), "noise_specs returns None; it must return a dict {name: Noise(kind, shape)}"),
    ("noise_by_block", returning(None), "noise_by_block returns None; it must return a dict {block: set of names}"),
    (
        "discontinuities",
        returning([]),
        "estimator scores: discontinuities returns []; it must return a dict {name of noise: values}",
    ),
    ("evaluations", returning("3"), "evaluations returns '3'; it must return a whole number"),
    ("smallest_num_samples", returning(1.5), "smallest_num_samples returns 1.5; it must return a whole number"),
    ("fit", returning([1]), "fit returns [1]; it must return a dict {name: NumPy array}, {} where nothing is learnt"),
    ("estimate_integrand", lambda self, e: 1, "it must take (backend, expectation, parameters, noise, state)"),
    ("estimate_integrand", returning(None), "estimator scores returns None; return a dict of arrays"),
    ("estimate_integrand", lambda self, b, e, p, n, s: s["c"], "KeyError: 'c' (in <lambda>, line "),
]


@pytest.mark.parametrize(("name", "value", "line"), ESTIMATORS, ids=[name for name, *_ in ESTIMATORS])
def test_so_it_is_with_estimators(name: str, value: Any, line: str) -> None:
    message = said(Own(), changed(Scores, **{name: value})())
    assert line in message
    assert "\n" not in message


def test_classes_and_other_things_in_place_of_objects() -> None:
    assert said(Own, Scores()) == "Own is a class; give an object of it: Own()"
    assert said(Own(), Scores) == "Scores is a class; give an object of it: Scores()"
    assert said(3, Scores()) == "int is no problem; give a problem, or its name as a text"
    assert said(Own(), None) == "None is no estimator; give an estimator, or its name as a text"
    with pytest.raises(UsageError, match=r"integrand of the Expectation is the class Square; give an object of it"):
        Expectation(Mine(), Square, {})  # type: ignore[arg-type]
    abstract: Any = type("Half", (Problem,), {"dimension": 1})
    with pytest.raises(UsageError, match="Half does not define integrand, without which no object of it can be made"):
        gradmeter.check(abstract)
