"""A fourth backend, `array-api-strict`: every estimator and family is written against the array API alone."""

from __future__ import annotations

import pytest

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.measurement.cell import measure
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.estimators import backends
from gradmeter.estimators.backends import Registration
from tests.estimators.test_matrix import YES, covering, problem_for
from tests.parity import Case

COVERING = covering()


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> backends.Backend:
    registration = Registration("tests.strict_backend:StrictBackend", "array_api_strict", "the standard alone")
    monkeypatch.setitem(backends.REGISTERED, "array-api-strict", registration)
    return backends.get("array-api-strict")


@pytest.mark.parametrize(
    ("estimator", "family"),
    [pytest.param(*pair, marks=[] if pair in COVERING else [pytest.mark.matrix]) for pair in YES],
)
def test_estimates_are_those_of_numpy(strict: backends.Backend, estimator: str, family: str) -> None:
    case = Case(problem_for(estimator, family), estimator, make_estimator(estimator).smallest_num_samples())
    case.check(case.on(strict), 1e-12)


@pytest.mark.parametrize("estimator", ["pathwise", "score-function[baseline=mean]", "measure-valued"])
def test_it_is_measured_as_the_others_are(strict: backends.Backend, estimator: str) -> None:
    goals = StoppingCriteria(max_replicates=2**13)
    rows = {
        backend: measure(
            prepare(Cell(make_problem("square[dim=2]"), make_estimator(estimator), backend, goals=goals)), goals
        ).blocks["all"]
        for backend in ("numpy", strict.name)
    }
    assert rows[strict.name]["verdict"] == rows["numpy"]["verdict"] != "biased"
    for column in ("bias_bound", "variance", "variance_high"):
        assert rows[strict.name][column] == pytest.approx(rows["numpy"][column], rel=1e-9), column
