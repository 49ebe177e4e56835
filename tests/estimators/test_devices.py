"""Every array of an estimate lies on the backend's own device. PyTorch's `meta` device stands for a card."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import Cell, make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement import prepared
from gradmeter.bench.measurement.kernel import evaluator
from gradmeter.bench.problems import PROBLEMS
from gradmeter.estimators import NAMED_ALONE, VARIANTS, NotApplicable
from gradmeter.estimators.noise import DrawnNoise
from tests.families import FAMILY_PROBLEMS

torch = pytest.importorskip("torch")

#: What the fast tests take.
FEW = ("score-function[baseline=leave-one-out]", "pathwise", "measure-valued", "enumeration", "rebar")
QUICK = ("categorical",)
ELSEWHERE = ("square", "logistic-regression", "logistic-regression[batch=8]", *PROBLEMS)


def on_meta() -> Any:
    """Return PyTorch's backend on a device whose arrays have shapes and no numbers."""
    from gradmeter.estimators.backends import get
    from gradmeter.estimators.backends.torch import TorchBackend

    class OnMeta(TorchBackend):
        def asarray(self, values: Any, dtype: str | None) -> Any:
            return get("torch").asarray(values, dtype).to("meta")

        def stream(self, root: int, block: int) -> Any:
            return None  # there are no generators for this device

    return OnMeta("meta")


def estimated_on_one_device(text: str, estimators: tuple[str, ...] = (*VARIANTS, *NAMED_ALONE)) -> int:
    """Estimate with every one of the estimators that the problem takes; return their number."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class OneDevice(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            arrays = [a for a in tree_leaves((args, kwargs or {})) if isinstance(a, torch.Tensor) and a.ndim]
            assert len({a.device.type for a in arrays}) <= 1 or "copy" in str(function), function
            return function(*args, **(kwargs or {}))

    problem, backend, count = make_problem(text), on_meta(), 0
    for name in estimators:
        estimator = make_estimator(name)
        cell = Cell(problem, estimator, "numpy", num_samples=estimator.smallest_num_samples())
        if infeasible(cell) is not None:
            continue
        learnt, _ = prepared.fitted_state(prepared.build_setting(cell), prepared.finite_exact(problem))
        with pytest.MonkeyPatch.context() as patch, OneDevice(), torch.no_grad():
            patch.setattr(prepared, "get", lambda *_: backend)
            s = prepared.build_setting(replace(cell, backend="torch"))
            state, noise = s.to_device(learnt), DrawnNoise(s.noise(s.roots("device"), 0, 4), 4)
            try:
                found = evaluator(s)(s.expectation.data, s.parameters, state, noise)
            except NotApplicable:  # where that shows at λ only
                continue
        assert {a.device.type for a in found.values()} == {"meta"}, name
        assert {b: tuple(a.shape) for b, a in found.items()} == {b: (4, size) for b, size in s.sizes.items()}
        count += 1
    return count


@pytest.mark.parametrize("family", QUICK)
def test_estimates_use_arrays_of_their_device_alone(family: str) -> None:
    assert estimated_on_one_device(FAMILY_PROBLEMS[family], FEW) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("problem", [*ELSEWHERE, *(p for f, p in FAMILY_PROBLEMS.items() if f not in QUICK)])
def test_so_do_those_of_every_problem_and_family(problem: str) -> None:
    assert estimated_on_one_device(problem) >= 1


def test_a_mixture_of_devices_is_found() -> None:
    backend = on_meta()
    assert backend.asarray(np.ones(2), "float64").device.type == "meta"
    with pytest.raises(Exception, match=r"device"):
        backend.asarray(np.ones(2), "float64") + torch.ones(2, dtype=torch.float64)
