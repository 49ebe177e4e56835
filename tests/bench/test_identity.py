"""Two objects are the same only if they compute the same thing, whatever they are called."""

from __future__ import annotations

import enum
import functools
import importlib
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.controls import CONTROLS
from gradmeter.bench.identity.content import Same, Unhashable, digest
from gradmeter.bench.identity.owner import brought
from gradmeter.bench.measurement.prepared import build_setting, prepare
from gradmeter.bench.problems import PROBLEMS, Exact, Problem
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import ESTIMATORS, FAMILIES, Estimator, Integrand, Requires
from gradmeter.estimators.backends.backend import Backend
from tests.support import make_cell, needs

ONCE = StoppingCriteria(max_replicates=64)
#: JAX compiles what it sees once: whatever it closes over is a constant.
BACKENDS = pytest.mark.parametrize("backend", ["numpy", pytest.param("jax", marks=pytest.mark.slow)])

HELPER = """
FACTOR = 2.0
TABLE = {"a": [1.0, 2.0]}

def scaled(x):
    "Twice x."
    return FACTOR * x  # by a global

def untouched(x):
    return x

class Base:
    weight = 1.0
"""
MINE = """
from dataclasses import dataclass
import numpy as np
import helper
from helper import Base
from gradmeter.estimators import Estimator, Requires

NAMES = {"one", "two", "three"}


def also(x):
    return helper.scaled(x) if "one" in {"one", "two", "three"} else recursive(x)


def recursive(x):
    return also(x)


@dataclass(frozen=True)
class Mine(Base, Estimator):
    "An estimator."
    name = "mine"
    summary = "the score function"
    requires = Requires(("score", "score_identity"))
    factor: float = 1.0

    def estimate_integrand(self, backend, expectation, parameters, noise, state):
        "The estimate."
        def inner(f):
            "Of f."
            return self.factor * also(f)
        z = expectation.family.sample(backend, parameters, noise)
        f = inner(expectation.value(backend, parameters, z, noise))
        try:
            names = NAMES | helper.TABLE.keys()
        except TypeError:
            raise
        score = expectation.family.score(backend, parameters, z)
        return {name: backend.xp.mean(f[..., None] * s, axis=1) for name, s in score.items()}
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Write modules of a user's, and import `mine` from them anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def loaded(mine: str = MINE, helper: str = HELPER) -> Any:
        (tmp_path / "mine.py").write_text(mine, encoding="utf-8")
        (tmp_path / "helper.py").write_text(helper, encoding="utf-8")
        for name in ("mine", "helper"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("mine")

    yield loaded
    for name in ("mine", "helper"):
        sys.modules.pop(name, None)


def of(value: Any) -> str:
    return digest(value, "x")


def key(estimator: Estimator, problem: str | Problem = "square") -> str:
    at = make_problem(problem) if isinstance(problem, str) else problem
    return Cell(at, estimator, goals=ONCE).key


EDITS = {
    "a comment": ("    return also(x)", "    # a comment\n\n    return also(x)  # another", True),
    "a class's docstring": ('    "An estimator."', '    """Another\n    text."""', True),
    "no class's docstring": ('    "An estimator."\n', "", True),
    "a method's docstring": ('        "The estimate."', '        "Something else."', True),
    "no method's docstring": ('        "The estimate."\n', "", True),
    "an inner function's docstring": ('            "Of f."\n', "", True),
    "a function that nothing calls": ("def recursive", "def idle(x):\n    return x\n\n\ndef recursive", True),
    "a layout": ("return helper.scaled(x) if", "return helper.scaled(\n        x\n    ) if", True),
    "a constant": ("self.factor * also(f)", "self.factor * also(f) * 2.0", False),
    "a sign": ("self.factor * also(f)", "-self.factor * also(f)", False),
    "an operation": ("self.factor * also(f)", "self.factor + also(f)", False),
    "a default": ("factor: float = 1.0", "factor: float = 2.0", False),
    "a global": ('"two", "three"}\n\n', '"two", "four"}\n\n', False),
    "a handler": ("except TypeError", "except ValueError", False),
    "a function that a function calls": ("    return also(x)", "    return also(2.0 * x)", False),
    "an attribute of the class": ('summary = "the', 'scale = 2.0\n    summary = "the', False),
    "a base": ("Mine(Base, Estimator)", "Mine(Estimator)", False),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_what_is_computed_makes_another_cell(edit: str, load: Callable[..., Any]) -> None:
    before, after, same = EDITS[edit]
    assert MINE.count(before) == 1
    first = key(load().Mine())
    assert (key(load(MINE.replace(before, after)).Mine()) == first) == same


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ('    "Twice x."', '    "Two times x."', True),
        ("  # by a global", "", True),
        ("def untouched(x):\n    return x", "def untouched(x):\n    return -x", True),
        ("FACTOR = 2.0", "FACTOR = 3.0", False),
        ("FACTOR * x", "FACTOR + x", False),
        ("weight = 1.0", "weight = 2.0", False),
        ("[1.0, 2.0]", "[1.0, 3.0]", False),
    ],
)
def test_so_does_an_edit_of_a_helper(before: str, after: str, same: bool, load: Callable[..., Any]) -> None:
    assert HELPER.count(before) == 1
    first = key(load().Mine())
    assert (key(load(helper=HELPER.replace(before, after)).Mine()) == first) == same


def test_a_file_edited_after_its_import_changes_nothing(load: Callable[..., Any], tmp_path: Path) -> None:
    mine = load()
    first = key(mine.Mine())
    (tmp_path / "helper.py").write_text(HELPER.replace("2.0", "5.0"), encoding="utf-8")
    assert key(mine.Mine()) == first


def test_a_module_used_as_an_object_counts_as_a_whole(load: Callable[..., Any]) -> None:
    by_name = MINE.replace("helper.scaled(x)", 'getattr(helper, "scal" + "ed")(x)')
    edited = HELPER.replace("def untouched(x):\n    return x", "def untouched(x):\n    return -x")
    assert key(load(by_name).Mine()) != key(load(by_name, edited).Mine())


@pytest.mark.parametrize(
    "statement", ["import helper as h; x = h.scaled(x)", "from helper import scaled; x = scaled(x)"]
)
def test_a_module_imported_by_a_function_counts(statement: str, load: Callable[..., Any]) -> None:
    inside = "def f(x):\n    " + statement.replace("; ", "\n    ") + "\n    return x\n"
    first = of(load(inside).f)
    assert of(load(inside, HELPER + "\n# a comment\n").f) == first
    assert of(load(inside, HELPER.replace("FACTOR = 2.0", "FACTOR = 3.0")).f) != first


def test_a_key_is_the_same_in_every_process(load: Callable[..., Any], tmp_path: Path) -> None:
    mine = load()
    here = key(mine.Mine())
    root = Path(gradmeter.__file__).parents[1]
    text = (
        "import mine; from gradmeter.bench.cells import *; "
        "print(Cell(make_problem('square'), mine.Mine(), goals=StoppingCriteria(max_replicates=64)).key)"
    )
    for seed in ("1", "2"):  # the order of sets of strings
        paths = os.pathsep.join([str(tmp_path), str(root)])
        there = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
        found = subprocess.run([sys.executable, "-c", text], env=there, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == here


class Colour(enum.Enum):
    RED = 1.0
    BLUE = 2.0


class Slotted:
    __slots__ = ("__hidden",)

    def __init__(self, value: float) -> None:
        self.__hidden = value


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value

    def method(self, x: float) -> Any:
        return x * self.value

    def __getstate__(self) -> None:  # what copies leave out counts
        return None


class Numbers(list[float]):
    pass


def closure(c: Any) -> Any:
    return lambda x: c * x


def default(c: Any) -> Any:
    def f(x: Any, y: Any = c) -> Any:
        return x * y

    return f


def keyword(c: Any) -> Any:
    def f(x: Any, *, y: Any = c) -> Any:
        return x * y

    return f


def wrapped(c: Any) -> Any:
    @functools.wraps(np.sin)
    def f(x: Any) -> Any:
        return c * x

    return f


def nested(c: Any) -> Any:
    def f(x: Any) -> Any:
        def g(y: Any) -> Any:
            return c * y

        return g(x)

    return f


def of_a_class(c: Any) -> Any:
    class Made:
        value = c

    return Made


def with_a_property(c: Any) -> Any:
    return type("Made", (), {"value": property(lambda self: c), "other": staticmethod(closure(1.0))})


def with_a_metaclass(c: Any) -> Any:
    class Meta(type):
        def value(cls) -> Any:
            return c

    return Meta("Made", (), {})


def cyclic(c: Any) -> Any:
    parts: list[Any] = [c]
    parts.append({"self": parts})
    return parts


def calling_itself(c: Any) -> Any:
    def f(n: int) -> Any:
        return c if n == 0 else g(n)

    def g(n: int) -> Any:
        return f(n - 1)

    return f


def with_attribute(c: Any) -> Any:
    def f() -> Any:
        return f.value  # type: ignore[attr-defined]

    f.value = c  # type: ignore[attr-defined]
    return f


MAKERS: dict[str, Callable[[float], Any]] = {
    "number": lambda c: c,
    "closure": closure,
    "default": default,
    "keyword": keyword,
    "wrapped": wrapped,
    "nested": nested,
    "class": of_a_class,
    "instance of it": lambda c: of_a_class(c)(),
    "property": with_a_property,
    "metaclass": with_a_metaclass,
    "cycle": cyclic,
    "mutual recursion": calling_itself,
    "attribute of a function": with_attribute,
    "partial": lambda c: functools.partial(max, c),
    "partial of a closure": lambda c: functools.partial(closure(c), 1.0),
    "bound method": lambda c: Plain(c).method,
    "what copies leave out": Plain,
    "slots": Slotted,
    "cached": lambda c: functools.lru_cache(closure(c)),
    "list": lambda c: [1.0, c],
    "tuple of a dict": lambda c: ({"a": {"b": c}},),
    "set": lambda c: {1.0, c, "a"},
    "list's subclass": lambda c: Numbers([c]),
    "enumeration": lambda c: Colour(c),
    "array": lambda c: np.asarray([1.0, c]),
    "array in a closure": lambda c: closure(np.asarray([1.0, c])),
    "array of objects": lambda c: np.asarray([None, closure(c)], dtype=object),
    "masked array": lambda c: np.ma.array([1.0, 2.0], mask=[False, c == 1.0]),
    "NumPy's number": np.float32,
    "generator of random numbers": lambda c: np.random.default_rng(int(c)),
    "namespace": lambda c: types.SimpleNamespace(value=c),
    "vectorised": lambda c: np.vectorize(closure(c)),
    "integrand": lambda c: scaled_square(c),
}


def scaled_square(c: Any) -> Integrand:
    class Scaled(Integrand):
        def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
            return c * xp.sum(z**2, axis=-1)

        def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
            return 2.0 * c * z

    return Scaled()


@pytest.mark.parametrize("maker", MAKERS)
def test_what_is_reached_counts(maker: str) -> None:
    """An object made again of the same number has the same content, and of another number another."""
    make = MAKERS[maker]
    one, again, other = make(1.0), make(1.0), make(2.0)
    assert of(one) == of(again)
    assert of(one) != of(other)
    assert Same(one) == Same(again)
    assert Same(one) != Same(other)


def test_kinds_are_told_apart() -> None:
    values: list[Any] = [1, 1.0, True, "1", b"1", 1 + 0j, None, [1], (1,), {1}, frozenset({1}), {1: 1}, -0.0, 0.0]
    values += [np.asarray(1), np.asarray(1.0), np.zeros(2), np.zeros((1, 2)), np.zeros(2, "float32"), [[1], 1]]
    values += [
        lambda x: x,
        lambda x: -x,
        max,
        min,
        np.sin,
        np.cos,
        np.linalg.det,
        Plain,
        Slotted,
        ["a", "bc"],
        ["ab", "c"],
    ]
    assert len({of(v) for v in values}) == len(values)


def test_classes_that_call_themselves_equal_are_told_apart() -> None:
    class Meta(type):
        def __eq__(cls, other: object) -> bool:
            return True

        def __hash__(cls) -> int:
            return 1

    assert of(Meta("A", (), {"c": 1})) != of(Meta("A", (), {"c": 2}))
    assert of(Meta("A", (), {"__module__": "numpy"})) != of(Meta("A", (), {"c": 2}))


def test_two_lambdas_of_one_line() -> None:
    one, other = (lambda x: x + 1), (lambda x: x + 2)  # fmt: skip
    assert of(one) != of(other)


def test_one_that_was_typed_in_counts_by_its_code() -> None:
    def typed(source: str) -> Any:
        scope: dict[str, Any] = {"__name__": "typed"}
        exec(source, scope)
        return scope["f"]

    assert of(typed("k = 1\ndef f(x): return k * x")) == of(typed("k = 1\n\ndef f(x):\n  'doc'\n  return k * x  # k"))
    assert of(typed("k = 1\ndef f(x): return k * x")) != of(typed("k = 2\ndef f(x): return k * x"))


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (lambda: (i for i in ()), "x is a generator"),
        (lambda: threading.Lock(), "x is a lock"),
        (lambda: memoryview(b"a"), "x is a memoryview"),
        (lambda: np.frompyfunc(lambda a: a, 1, 1), "x is a ufunc"),
        (lambda: Plain(threading.Lock()), "x.value is a lock"),
        (lambda: closure(threading.Lock()), "x → c is a lock"),
        (lambda: {"a": [threading.Lock()]}, "x['a'][0] is a lock"),
        (lambda: Plain(Plain(closure(memoryview(b"a")))), "x.value.value → c is a memoryview"),
    ],
)
def test_what_has_no_content(value: Callable[[], Any], where: str) -> None:
    made = value()
    with pytest.raises(Unhashable) as caught:
        of(made)
    assert str(caught.value) == f"{where}, which has no content that can be hashed"
    assert Same(made) == Same(made)
    assert Same(made) != Same(value())


def test_an_open_file_has_no_content(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as stream, pytest.raises(Unhashable, match=r"x\.value is a TextIOWrapper"):
        of(Plain(stream))


def test_functions_found_by_a_text_have_no_content() -> None:
    with pytest.raises(Unhashable, match="uses eval: what that finds by name cannot be hashed"):
        of(lambda text: eval(text))


def test_what_is_nested_too_deeply_has_no_content() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(Unhashable, match="nested too deeply"):
        of(deep)
    assert Same(deep) == Same(deep)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_arrays_of_a_framework(framework: str) -> None:
    needs(framework)
    if framework == "torch":
        import torch

        made = [torch.tensor([1.0, c], dtype=torch.float64) for c in (1.0, 1.0, 2.0)]
        made.append(made[0].float())
    else:
        import jax.numpy as jnp

        made = [jnp.asarray([1.0, c], dtype="float32") for c in (1.0, 1.0, 2.0)]
        made.append(made[0].astype("float16"))
    one, again, *others = map(of, made)
    assert one == again
    assert len({one, *others, of(np.asarray(made[0]))}) == 4


def test_a_module_of_torch_counts_with_all_of_its_state() -> None:
    needs("torch")
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, c: float, hidden: float, slope: float = 1.0) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)
            nn.init.constant_(self.layer.weight, c)
            nn.init.constant_(self.layer.bias, 0.0)
            self.register_buffer("hidden", torch.tensor(hidden), persistent=False)
            self.slope = slope

        def forward(self, x: Any) -> Any:
            return self.slope * self.layer(x) + self.hidden

    first = of(Net(1.0, 1.0))
    assert of(Net(1.0, 1.0)) == first
    others = [Net(2.0, 1.0), Net(1.0, 2.0), Net(1.0, 1.0, 2.0)]
    assert len({first, *map(of, others)}) == 4
    compiled = [torch.compile(Net(c, 1.0), backend="eager") for c in (1.0, 1.0, 2.0)]
    assert [of(net) == of(compiled[0]) for net in compiled] == [True, True, False]
    changed = Net(1.0, 1.0)
    with torch.no_grad():
        changed.layer.weight.add_(1.0)
    assert of(changed) == of(others[0])


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_transformed_functions_count_by_what_they_transform(framework: str) -> None:
    needs(framework)
    if framework == "torch":
        import torch

        transforms = [torch.func.vmap, torch.func.grad, torch.no_grad(), lambda f: torch.compile(f, backend="eager")]
    else:
        import jax

        transforms = [jax.jit, jax.vmap, jax.grad, lambda f: jax.jit(jax.vmap(jax.grad(f)))]
    for transform in transforms:
        made = [transform(closure(c)) for c in (1.0, 1.0, 2.0)]
        one, again, other = map(of, made)
        assert one == again
        assert one != other


@pytest.mark.parametrize("kind", ["estimators", "problems"])
def test_the_catalogue_counts_by_name_and_options(kind: str) -> None:
    """Nothing of it is walked through, and measuring changes no key."""
    known = {**ESTIMATORS, **CONTROLS} if kind == "estimators" else PROBLEMS
    make: Any = make_estimator if kind == "estimators" else make_problem
    one, again = [make(name) for name in known], [make(name) for name in known]
    assert not any(map(brought, one))
    digests = [of(made) for made in one]
    assert digests == [of(made) for made in again]
    assert len(set(digests)) == len(digests)


def test_families_of_the_catalogue_are_told_apart() -> None:
    assert len({of(family.Config()) for family in FAMILIES.values()}) == len(FAMILIES)


def test_a_cell_has_the_same_key_after_it_was_measured() -> None:
    cell = make_cell("logistic-regression[at=fitted]", "pathwise", max_replicates=64)
    before = cell.key
    prepare(cell)
    assert make_cell("logistic-regression[at=fitted]", "pathwise", max_replicates=64).key == before
    assert of(cell.problem) == of(make_problem("logistic-regression[at=fitted]"))


# Within a run.


def estimator(c: Any) -> Estimator:
    @dataclass(frozen=True)
    class Mine(Estimator):
        name = "mine"
        summary = "c times the score function"
        requires = Requires(("score", "score_identity"))

        def estimate_integrand(
            self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any
        ) -> Any:
            z = expectation.family.sample(backend, parameters, noise)
            f = getattr(c, "factor", c) * expectation.value(backend, parameters, z, noise)
            score = expectation.family.score(backend, parameters, z)
            return {name: backend.xp.mean(f[..., None] * s, axis=1) for name, s in score.items()}

    return Mine()


def problem(c: float, made: Integrand | None = None) -> Problem:
    integrand_of = made or scaled_square(c)

    @dataclass(frozen=True)
    class Own(Problem):
        name = "own"
        summary = "c Σ z²"
        dimension = 2
        integrand = integrand_of
        differentiate: str = "closed-form"

        def parameters(self) -> Any:
            return {"loc": np.ones(2), "log_scale": np.zeros(2)}

        def exact(self) -> Exact:
            return Exact({"loc": np.full(2, 2.0 * c), "log_scale": np.full(2, 2.0 * c)}, "closed-form")

    return Own()


class Weighted(Integrand):
    """Numbers in the instance: against the advice, and no reason to confuse two."""

    def __init__(self, c: Any) -> None:
        self.c = c

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return self.c * xp.sum(z**2, axis=-1)


#: Standard deviations of two cells whose estimates differ by a factor of 3 are that far from it: where a tail is heavy,
#: one may be of plain replicates and the other of defensive draws.
LIKE = 0.2


def norms(*args: Any, **more: Any) -> np.ndarray:
    rows = gradmeter.measure(*args, **{"timing": False, "max_replicates": 2**14, **more})
    whole = rows[rows["block"] == "all"]
    assert set(whole["status"]) == {"ok"}, list(whole["reason"])
    return np.sqrt(whole["variance"].to_numpy())


@BACKENDS
def test_two_classes_of_one_name_are_two_cells(backend: str) -> None:
    needs(backend)
    one, other, again = norms("square", [estimator(1.0), estimator(3.0), estimator(1.0)], backend)
    assert other == pytest.approx(3.0 * one, rel=LIKE)
    assert again == one


@BACKENDS
def test_two_problems_of_one_name_are_two_cells(backend: str) -> None:
    needs(backend)
    rows = gradmeter.measure([problem(1.0), problem(3.0)], "pathwise", backend, timing=False, max_replicates=2**14)
    whole = rows[rows["block"] == "all"]
    assert "biased" not in set(whole["verdict"])  # each against its own exact gradient
    one, other = np.sqrt(whole["variance"])
    assert other == pytest.approx(3.0 * one, rel=LIKE)


@BACKENDS
def test_two_integrands_of_one_class_are_two_cells(backend: str) -> None:
    needs(backend)
    made = [problem(c, Weighted(c)) for c in (1.0, 3.0)]
    one, other = norms(made, "score-function", backend)
    assert other == pytest.approx(3.0 * one, rel=LIKE)
    assert Weighted(1.0) != Weighted(1.0)
    assert scaled_square(1.0) != scaled_square(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_two_models_of_one_name_are_two_cells(framework: str) -> None:
    needs(framework)
    if framework == "torch":
        import torch

        theta: Any = {"a": torch.ones(1, dtype=torch.float64)}
    else:
        theta = {"a": get_jax_array()}

    def model(c: float) -> Any:
        def f(theta: Any, z: Any) -> Any:
            return c * (theta["a"] * z * z).sum(-1)

        return gradmeter.Model("m", f, theta, latent=1, loc=[1.0], log_scale=[0.0], entropy="none", framework=framework)

    models = [model(1.0), model(3.0)]
    one, other = norms(models, "pathwise", framework, max_replicates=2**10)
    assert other == pytest.approx(3.0 * one, rel=1e-9)
    exact = [m.exact().gradient["loc"][0] for m in models]
    assert exact == pytest.approx([2.0, 6.0], rel=1e-9)


def get_jax_array() -> Any:
    from gradmeter.estimators.backends import get

    return get("jax").asarray(np.ones(1), "float64")


class Factor:
    def __init__(self, factor: float) -> None:
        self.factor = factor


@BACKENDS
def test_state_that_changes_is_seen(backend: str) -> None:
    """A function compiled before holds what the state was then."""
    needs(backend)
    factor = Factor(1.0)
    mine = estimator(factor)
    (one,) = norms("square", mine, backend)
    factor.factor = 3.0
    (other,) = norms("square", mine, backend)
    assert other == pytest.approx(3.0 * one, rel=LIKE)


def test_a_model_whose_function_changes_has_another_exact_gradient() -> None:
    needs("torch")
    import torch

    factor = Factor(1.0)

    def f(theta: Any, z: Any) -> Any:
        return factor.factor * (theta["a"] * z * z).sum(-1)

    theta = {"a": torch.ones(1, dtype=torch.float64)}
    model = gradmeter.Model("m", f, theta, latent=1, loc=[1.0], log_scale=[0.0], entropy="none")
    before = model.exact().gradient["loc"][0]
    factor.factor = 3.0
    assert model.exact().gradient["loc"][0] == pytest.approx(3.0 * before, rel=1e-9)


def test_compiled_functions_are_shared_by_content_alone() -> None:
    def structure(made: Problem, by: Estimator) -> Any:
        return build_setting(Cell(made, by, goals=ONCE)).structure

    pathwise = make_estimator("pathwise")
    for one, again, other in (
        [structure(make_problem("square"), estimator(c)) for c in (1.0, 1.0, 3.0)],
        [structure(problem(c), pathwise) for c in (1.0, 1.0, 3.0)],
        [structure(problem(1.0, Weighted(c)), pathwise) for c in (1.0, 1.0, 3.0)],
    ):
        assert one == again
        assert one != other
    assert structure(make_problem("square[k=2]"), pathwise) == structure(make_problem("square[k=3]"), pathwise)


# With a store.


def test_a_store_answers_for_the_same_content_alone(tmp_path: Path) -> None:
    store = tmp_path / "a.sqlite"
    (one,) = norms("square", estimator(1.0), store=store)
    (other,) = norms("square", estimator(3.0), store=store)
    assert other == pytest.approx(3.0 * one, rel=LIKE)
    with Store.read(store) as opened:
        keys = {row["cell_key"] for row in opened.rows()}
    assert keys == {
        Cell(make_problem("square"), estimator(c), goals=StoppingCriteria(max_replicates=2**14)).key for c in (1.0, 3.0)
    }
    rows = gradmeter.measure("square", estimator(1.0), timing=False, max_replicates=2**14, store=store)
    assert np.sqrt(rows["variance"].iloc[-1]) == one


def test_what_has_no_content_is_measured_and_not_stored(tmp_path: Path) -> None:
    class Locked(Factor):
        def __init__(self, factor: float) -> None:
            super().__init__(factor)
            self.lock = threading.Lock()

    store = tmp_path / "a.sqlite"
    two = [estimator(Locked(1.0)), estimator(Locked(3.0)), estimator(1.0)]
    rows = gradmeter.measure("square", two, timing=True, max_replicates=2**14, store=store)
    whole = rows[rows["block"] == "all"]
    assert list(whole["status"]) == ["ok"] * 3
    assert (whole["seconds"] > 0.0).all()
    said = "not stored: estimator.estimate_integrand → c.lock is a lock, which has no content that can be hashed"
    assert [said in reason for reason in whole["reason"].fillna("")] == [True, True, False]
    one, other, plain = np.sqrt(whole["variance"])
    assert other == pytest.approx(3.0 * one, rel=LIKE)
    assert plain == one
    with Store.read(store) as opened:
        assert {row["cell_key"] for row in opened.rows()} == {whole["cell_key"].iloc[2]}
