"""Of what a compiled function was made for, what modules hold that nobody assigns to is not looked at again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gradmeter.bench.measurement.kernel import StatisticsKernel
from gradmeter.bench.measurement.prepared import prepare
from tests.support import make_cell, needs


@pytest.mark.slow
def test_no_call_looks_at_the_modules_of_gradmeter(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("torch")
    from gradmeter.estimators.backends import torch as backend

    kept: list[str] = []
    choose = backend._may_change

    def watched(guards: Sequence[Any]) -> list[bool]:
        chosen = choose(guards)
        kept.extend(guard.name for guard, stays in zip(guards, chosen, strict=True) if stays)
        return chosen

    monkeypatch.setattr(backend, "_may_change", watched)
    setting = prepare(make_cell("polynomial[dim=7]", "pathwise", 1, backend="torch")).setting
    StatisticsKernel(setting)(setting.roots("timing"), 0, setting.zeros())
    assert kept
    assert [name for name in kept if "gradmeter" in name] == []
