"""A user's code that ends the process, cannot say what went wrong, or writes into what it is given: one plain row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

import gradmeter
from gradmeter.estimators import Estimator, Requires


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


@dataclass(frozen=True)
class Foreign(Estimator):
    """Pathwise, but for one fault."""

    name: ClassVar[str] = "foreign"
    summary: ClassVar[str] = "pathwise with a fault"
    requires: ClassVar[Requires] = Requires(("pathwise",), ("gradient",))
    fault: str = "none"

    def estimate_integrand(self, backend: Any, expectation: Any, parameters: Any, noise: Any, state: Any) -> Any:
        faults = {"exit": SystemExit(0), "generator": GeneratorExit(), "mute": Mute()}
        if self.fault in faults:
            raise faults[self.fault]
        if self.fault == "noise":  # the same values whenever they are written
            noise["base"][...] = 1.0
        if self.fault == "parameters":
            parameters["loc"] += 0.01
        z = expectation.family.sample(backend, parameters, noise)
        slope = expectation.gradient(backend, parameters, z, noise)
        path = expectation.family.pathwise(backend, parameters, noise, z, slope)
        return {name: a[:, 0] for name, a in path.items()}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("exit", "it calls sys.exit (in Foreign.estimate_integrand, line "),
        ("generator", "GeneratorExit: no message (in Foreign.estimate_integrand, line "),
        ("mute", "Mute: its message cannot be read (in Foreign.estimate_integrand, line "),
        ("noise", "foreign changes its noise in place; work on a copy: x = x + 1, not x += 1"),
        ("parameters", "foreign changes its parameters in place; work on a copy: x = x + 1, not x += 1"),
    ],
)
def test_a_fault_becomes_a_row(fault: str, reason: str) -> None:
    rows = gradmeter.measure("square", [Foreign(fault), "pathwise"], max_replicates=64, timing=False)
    foreign = rows[rows.estimator == "foreign"]
    assert set(foreign.status) == {"exception"}
    assert all(each.startswith(reason) for each in foreign.reason)
    assert set(rows[rows.estimator == "pathwise"].status) == {"ok"}  # the other cells are measured
