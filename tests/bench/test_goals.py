"""Goals: what is within its limits, how a line reads. What they measure is for `make goals`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gradmeter.bench.performance.goals import kernels, scaling
from gradmeter.bench.performance.goals.goal import Goal, Measured, ratio, show, write
from gradmeter.estimators import backends


@pytest.mark.parametrize(
    ("value", "least", "most", "met"),
    [(1.5, None, 1.5, True), (1.51, None, 1.5, False), (0.94, 0.95, 1.05, False), (1.0, 0.95, 1.05, True)],
)
def test_a_goal_is_met_within_its_limits(value: float, least: float | None, most: float, met: bool) -> None:
    assert Goal("x", Measured(value, value, value), least=least, most=most).met is met


@pytest.mark.parametrize(("low", "high", "met"), [(-0.1, 0.2, True), (-0.11, 0.2, False), (-0.1, 0.21, False)])
def test_where_it_must_be_certain_the_whole_interval_is_within_them(low: float, high: float, met: bool) -> None:
    measured = Measured(0.0, low, high)
    assert Goal("x", measured, least=-0.1, most=0.2, certain=True).met is met
    assert Goal("x", measured, least=-0.1, most=0.2).met


def test_goals_are_printed_as_they_come_and_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    goals = [Goal("kernel", Measured(1.234, 1.2, 1.3), most=1.25), Goal("slope", Measured(1.0, 1.0, 1.0), 0.95, 1.05)]
    passed = list(show(goals))
    assert passed == goals
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["met", "met"]
    text = write(goals, tmp_path / "new", "floor").read_text(encoding="utf-8")
    assert "| kernel | 1.23 | [1.2, 1.3] | ≤ 1.25 | met |" in text
    assert "| slope | 1 |  | ≥ 0.95, ≤ 1.05 | met |" in text
    assert "python -m gradmeter.bench.performance.goals floor" in text


def test_a_ratio_is_of_the_first_to_the_second() -> None:
    """Work counted, not timed: the first call does as much as the second, and a hundred times more."""
    counts = {"a": 0, "b": 0}

    def work(name: str, times: int) -> None:
        counts[name] += times
        sum(range(1000 * times))

    found = ratio(lambda: work("a", 100), lambda: work("b", 1), rounds=5)
    assert counts["a"] > counts["b"] / 100
    assert found.low <= found.value <= found.high
    assert found.value > 1.0


def test_what_grows_makes_the_draws_it_says() -> None:
    for sizes in scaling.AXES.values():
        for draws in scaling.DRAWS:
            dimension, samples, replicates = sizes(draws)
            assert dimension * samples * replicates == draws
    assert kernels.present() == [name for name in backends.NAMES if backends.missing(name) is None]


def test_a_part_that_is_not_there_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gradmeter.bench.performance.goals", "flor"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there is no part 'flor'" in done.stderr
