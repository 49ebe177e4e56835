"""What goes wrong in a user's own code, or at the ends of options, is one line: what is wrong, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.measurement import cell
from gradmeter.bench.problems import Problem
from gradmeter.bench.problems.problem import DERIVED
from gradmeter.estimators import FAMILIES, Estimator, FamilyConfig, Integrand, Requires, UsageError
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.combined_control_variates import CombinedControlVariates
from gradmeter.estimators.quadratic_surrogate import QuadraticSurrogate
from tests.support import needs

Gamma = FAMILIES["gamma"]


class Square(Integrand):
    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.sum(z**2, axis=-1)


class Huge(Integrand):
    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.sum(z, axis=-1) * float("inf")

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return z * float("inf")

    def hessian_product(self, xp: Any, data: Any, z: Any, vector: Any, noise: Any) -> Any:
        return vector * float("inf")


@dataclass(frozen=True)
class Own(Problem):
    name = "own"
    summary = "Σ z²"
    dimension = 2
    integrand = Square()
    differentiate: str = "closed-form"


@dataclass(frozen=True)
class WithField(Own):
    q: FamilyConfig = field(default_factory=lambda: Gamma.Config(concentration=2.0))


@dataclass(frozen=True)
class WithArray(Own):
    weights: Any = None
    limit: float = float("inf")


@dataclass(frozen=True)
class Overflowing(Own):
    integrand = Huge()  # type: ignore[assignment]


def reason(problem: Any, estimator: Any, backend: str = "numpy", status: str = "exception") -> str:
    rows = gradmeter.measure(problem, estimator, backend, timing=False, max_replicates=64)
    assert set(rows["status"]) == {status}
    (said,) = set(rows["reason"])
    assert "\n" not in said
    return str(said)


@pytest.mark.parametrize("estimator", ["rebar", "relax"])
def test_a_control_variate_that_is_not_finite(estimator: str, capfd: pytest.CaptureFixture[str]) -> None:
    said = reason("categorical-square[categories=5,tilt=800]", estimator, status="nonfinite")
    assert said == (
        f"{estimator} fits its control variate to a warm-up with NaN or infinite values; give less extreme options"
    )
    assert capfd.readouterr() == ("", "")  # nothing of LAPACK's


@pytest.mark.parametrize("estimator", [CombinedControlVariates(), QuadraticSurrogate()])
def test_so_it_is_of_others_that_fit_one(estimator: Estimator, capfd: pytest.CaptureFixture[str]) -> None:
    said = reason(Overflowing(), estimator, status="nonfinite")
    assert said.startswith(f"{estimator.name} fits its control variate to a warm-up with NaN or infinite values")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", DERIVED)
def test_what_follows_from_other_attributes_cannot_be_stated_again(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^Twice defines {name}, which follows from .*; leave it out$"):
        type("Twice", (Own,), {name: None})
    with pytest.raises(UsageError, match=rf"^Twice defines {name}"):
        type("Twice", (type("Mixed", (), {name: None}), Own), {})


def test_q_as_a_field_is_an_option_like_that_of_bundled_problems() -> None:
    rows = gradmeter.measure(
        [WithField(), WithField(q=Gamma.Config(rate=3.0))], "score-function", timing=False, max_replicates=64
    )
    options = list(dict.fromkeys(rows["problem_options"]))
    assert options == [
        '{"concentration": 2.0, "differentiate": "closed-form", "family": "gamma", "rate": 1.0}',
        '{"concentration": 1.0, "differentiate": "closed-form", "family": "gamma", "rate": 3.0}',
    ]
    assert set(rows["status"]) == {"ok"}


def test_fields_that_are_no_options_are_named(tmp_path: Any) -> None:
    problems = [WithArray("closed-form", np.ones(3)), WithArray("closed-form", len)]
    rows = gradmeter.measure(problems, "score-function", timing=False, max_replicates=64, store=tmp_path / "a.sqlite")
    assert list(dict.fromkeys(rows["problem_options"])) == [
        '{"differentiate": "closed-form", "limit": "inf", "weights": "ndarray [3]"}',
        '{"differentiate": "closed-form", "limit": "inf", "weights": "len"}',
    ]


@dataclass(frozen=True)
class Differentiating(Estimator):
    name = "differentiating"
    summary = "what PyTorch's compiler cannot trace"
    requires = Requires(("score", "score_identity"))
    by: str = "backward"

    def estimate_integrand(self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any) -> Any:
        import torch

        family = expectation.family
        count = len(noise["base"])
        free = {name: a.expand(count, 1, *a.shape).clone().requires_grad_(True) for name, a in parameters.items()}
        if self.by in ("backward", "grad"):
            total = expectation.value(backend, free, family.sample(backend, free, noise), noise).sum()
            if self.by == "backward":
                total.backward()
                return {name: a.grad[:, 0] for name, a in free.items()}
            found = torch.autograd.grad(total, list(free.values()))
            return {name: a[:, 0] for name, a in zip(free, found, strict=True)}
        z = family.sample(backend, parameters, noise)
        if self.by == "print":
            print(z.shape)
        if self.by == "branch" and z.sum() > 0.0:
            z = -z
        return {name: s[:, 0] for name, s in family.score(backend, parameters, z).items()}


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("backward", "cannot trace loss.backward() or torch.autograd.grad; differentiate by backend.gradient, "),
        ("grad", "cannot trace loss.backward() or torch.autograd.grad; differentiate by backend.gradient, "),
        ("print", "print"),
        ("branch", "as one graph: it branches on a value; use array operations alone (backend.xp.where for branches)"),
    ],
)
def test_what_is_not_traced_says_what_to_use(by: str, message: str) -> None:
    """It is measured as it is, and not timed."""
    needs("torch")
    rows = gradmeter.measure("square", Differentiating(by), "torch", max_replicates=64)
    assert set(rows["status"]) == {"ok"}
    assert rows["seconds"].isna().all()
    said = rows["reason"].iloc[-1].rpartition("not timed: ")[2]
    assert message in said
    assert said.startswith("torch.compile cannot trace")
    assert len(said) < 300


def test_what_is_not_traced_is_measured_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("torch")
    monkeypatch.setattr(cell, "UNCOMPILED", 8)
    rows = gradmeter.measure("square", Differentiating("grad"), "torch", timing=False, max_replicates=4096)
    assert set(rows["status"]) == {"ok"}
