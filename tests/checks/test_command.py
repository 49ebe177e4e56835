"""`gradmeter check`, `gradmeter.check`, and the check before a first measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.cells import make_problem
from gradmeter.bench.checks import checking, session
from gradmeter.bench.checks.differences import derivative
from gradmeter.bench.checks.lab import QUICK
from gradmeter.bench.problems import Exact
from gradmeter.estimators import Normal, ScoreFunction, UsageError
from tests.checks.users import Coin, CoinProblem, Form, FormProblem
from tests.cli.running import Run, run_cli  # noqa: F401
from tests.support import needs

FILE = """
from dataclasses import dataclass
from typing import ClassVar

from gradmeter.bench.problems import Problem
from gradmeter.estimators import Expectation, Integrand, Normal

@dataclass(frozen=True)
class Mine(Normal):
    name: ClassVar[str] = "mine"
    @dataclass(frozen=True)
    class Config(Normal.Config):
        @property
        def family(self):
            return Mine()
    def score(self, b, p, z):
        found = super().score(b, p, z)
        return {**found, "loc": FACTOR * found["loc"]}

FACTOR = 1.0

class Square(Integrand):
    def value(self, xp, data, z, noise):
        return xp.sum(z * z, axis=-1)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `check` draws here is as little as before a measurement."""
    monkeypatch.setattr(checking, "FULL", QUICK)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_right_class(run_cli: Run, file: Path) -> None:  # noqa: F811
    result = run_cli("check", f"{file}:Mine")
    assert result.status == 0
    assert "ok           family mine: score\n" in result.out
    assert result.err == ""


def test_a_wrong_class(run_cli: Run, file: Path) -> None:  # noqa: F811
    file.write_text(FILE.replace("FACTOR = 1.0", "FACTOR = 0.5"))
    result = run_cli("check", f"{file}:Mine")
    assert result.status == 1
    (line,) = [line for line in result.out.splitlines() if line.startswith("wrong")]
    assert line.startswith("wrong        family mine: score of loc[0] is ")
    assert line.endswith("; mend score or log_density")
    assert result.err == "gradmeter: 1 check went wrong\n"


def test_json(run_cli: Run, file: Path) -> None:  # noqa: F811
    result = run_cli("check", f"{file}:Mine", "--json")
    assert all(
        list(json.loads(line)) == ["kind", "name", "check", "status", "message"] for line in result.out.splitlines()
    )


def test_a_whole_file_and_an_integrand_alone(run_cli: Run, file: Path) -> None:  # noqa: F811
    result = run_cli("check", str(file))
    assert result.status == 0
    assert "family mine: score" in result.out
    assert (
        "not checked  integrand Square: value: an integrand alone has no data and no q; check a Problem that uses it"
        in result.out
    )


def test_a_module(run_cli: Run) -> None:  # noqa: F811
    result = run_cli("check", "gradmeter.estimators.families.bernoulli:Bernoulli")
    assert result.status == 0
    assert "ok           family bernoulli: states" in result.out


SEVERAL = """
import sys
from dataclasses import dataclass
from gradmeter import Estimator, Family, FamilyConfig, Requires

print("what the user's file prints")

class Wrong(Family):
    name = "wrong"
    class Config:
        pass
    def shapes(self, dimension): ...
    def noise(self, sample_shape, dimension): ...
    def sample(self, backend, parameters, noise): ...
    def log_density(self, backend, parameters, z): ...

@dataclass(frozen=True)
class Scaled(Estimator):
    factor: float
    name = "scaled"
    requires = Requires(("score",))
    def estimate_integrand(self, backend, expectation, parameters, noise, state): ...

class Exits(Scaled):
    def __init__(self):
        sys.exit(0)

class Right(Scaled):
    name = "right"
    factor = 1.0
    def __init__(self):
        print("made")
"""


def test_one_wrong_class_of_a_file(run_cli: Run, tmp_path: Path) -> None:  # noqa: F811
    """It is named, the others are checked all the same, and what the file prints is no row."""
    path = tmp_path / "several.py"
    path.write_text(SEVERAL)
    result = run_cli("check", str(path), "--json")
    found = {(row["name"], row["status"]): row["message"] for row in map(json.loads, result.out.splitlines())}
    assert result.status == 1
    assert found["Wrong", "wrong"].startswith("Wrong.Config is no FamilyConfig; write `class Config(FamilyConfig)`")
    assert "Scaled cannot be made without options" in found["Scaled", "not checked"]
    assert found["Exits", "wrong"] == "Exits cannot be made: it calls sys.exit"
    assert ("right", "ok") in found
    assert result.err == "what the user's file prints\nmade\ngradmeter: 2 checks went wrong\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit(0)", "it calls sys.exit"),
        ("raise GeneratorExit", "GeneratorExit: no message"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E: its message cannot be read"),
    ],
)
def test_a_file_that_ends_its_import(run_cli: Run, tmp_path: Path, code: str, said: str) -> None:  # noqa: F811
    path = tmp_path / "exits.py"
    path.write_text(code)
    result = run_cli("check", str(path))
    assert (result.status, result.out) == (2, "")
    assert result.err == f"gradmeter: error: {path} cannot be imported: {said}\n"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (".", "'.' is not of the form"),
        ("mine", "'mine' is not of the form module:Class, path.py:Class or path.py"),
        ("none.py", "there is no file none.py"),
        ("no_such_module:Mine", "module no_such_module cannot be imported: ModuleNotFoundError"),
        ("estimators:Norml", "unknown name in estimators 'Norml'; did you mean 'Normal'?"),
        ("estimators:draw", "function is no family, integrand, problem or estimator"),
        ("gradmeter.bench.problems.user_model:Model", "Model cannot be made without options"),
    ],
)
def test_bad_usage(run_cli: Run, target: str, message: str) -> None:  # noqa: F811
    result = run_cli("check", target)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"gradmeter: error: {message}")
    assert result.err.count("\n") == 1


def test_findings_print_themselves() -> None:
    found = gradmeter.check(ScoreFunction)
    assert found.ok
    assert str(found).splitlines()[0] == "ok           estimator score-function: requires"
    with pytest.raises(UsageError, match="int is no family"):
        gradmeter.check(3)


class Halved(Coin):
    """FAULTS B5: half a score, and the exact gradient from the same."""

    name = "halved"

    class Config(Coin.Config):
        @property
        def family(self) -> Any:
            return Halved()

    def score(self, b: Any, p: Any, z: Any) -> Any:
        return {"logits": super().score(b, p, z)["logits"] * np.asarray([0.5, 1.0, 1.0][: z.shape[-1]])}


class HalvedProblem(CoinProblem):
    q = Halved.Config(probability=0.3)


def test_a_wrong_score_is_not_measured() -> None:
    rows = gradmeter.measure(HalvedProblem(), "score-function", timing=False, max_replicates=64)
    assert set(rows["status"]) == {"exception"}
    (reason,) = set(rows["reason"])
    assert reason.startswith("family halved: score of logits[0] is ")
    assert reason.endswith("; mend score or log_density")
    assert set(rows["verdict"].isna()) == {True}


class Wrong(FormProblem):
    def exact_at(self, parameters: dict[str, np.ndarray]) -> Exact | None:
        right = super().exact_at(parameters)
        assert right is not None
        return Exact({**right.gradient, "loc": 1.01 * right.gradient["loc"]}, "closed-form")


def test_a_wrong_exact_gradient_is_not_measured() -> None:
    rows = gradmeter.measure(Wrong(), "pathwise", timing=False, max_replicates=64)
    (reason,) = set(rows["reason"])
    assert reason.startswith("problem form: the exact gradient of loc[")
    assert "but the derivative of E f is" in reason


def test_once_in_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    first_wrong = session._first_wrong
    monkeypatch.setattr(session, "_KNOWN", {})
    monkeypatch.setattr(session, "_first_wrong", lambda *a: asked.append(a) or first_wrong(*a))
    for _ in range(2):
        session.require_right(FormProblem(), "numpy")
        session.require_right(make_problem("square"), "numpy")
    assert len(asked) == 1
    with pytest.raises(UsageError):
        session.require_right(Wrong(), "numpy")
    assert len(asked) == 2


class InTorch(Form):
    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        import torch

        return torch.einsum("...i,ij,...j->...", z, data["a"], z) + torch.sum(z**3, dim=-1)


class TorchProblem(FormProblem):
    integrand = InTorch()


def test_a_class_in_the_layers_of_a_framework() -> None:
    needs("torch")
    found = gradmeter.check(TorchProblem())
    assert found.ok, str(found)
    assert {"gradient", "hessian", "exact"} <= {each.check for each in found if each.status == "ok"}


def test_a_class_that_raises_says_so() -> None:
    class Raising(Form):
        def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
            raise ZeroDivisionError("never divide")

    class RaisingProblem(FormProblem):
        integrand = Raising()

    (found,) = gradmeter.check(RaisingProblem()).wrong
    assert found.message == "gradient raises ZeroDivisionError: never divide"


def test_differences_know_their_error() -> None:
    """Smooth functions to 1e-9; at a corner the error is as large as the derivative's jump."""
    value, error = derivative(lambda t: np.asarray([np.exp(2.0 + t), np.sin(30.0 * (1.0 + t)), abs(t - 1e-5)]))
    right = [np.exp(2.0), 30.0 * np.cos(30.0)]
    np.testing.assert_allclose(value[:2], right, rtol=1e-8)
    assert np.all(error[:2] < 1e-5)
    assert error[2] > 0.1


def test_q_may_be_made_by_the_problem_alone() -> None:
    """A family without a point of its own is checked at λ of its shapes."""
    assert gradmeter.check(Normal()).ok
