"""Numbers that no measurement gives, in a store whose checksums agree: reports and comparisons do without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gradmeter.bench.reading.results import cleaned
from tests.cli.running import Run
from tests.cli.running import run_cli as run_cli
from tests.report import stores
from tests.sweep.forging import forge

HOSTILE: tuple[dict[str, Any], ...] = (
    {"variance_low": -1.0, "seconds_low": 5e-324},
    {"seconds": 5e-324, "seconds_low": 0.0},
    {"variance": 5e-324, "latency_high": -1e308},
    {"variance_low": 3.0, "variance_high": 1.0},
    {"variance_high": 1.797e308, "seconds_high": 1e308},
)


def test_reports_and_comparisons_go_on_without_them(run_cli: Run, tmp_path: Path) -> None:
    keys = [str(i) for i in range(len(HOSTILE))]
    path = stores.fill(tmp_path / "s", [(stores.rows(key, seed=i), {}) for i, key in enumerate((*keys, "plain"))])
    for i, key in enumerate(keys):
        forge(path, key, [json.dumps({**row, **HOSTILE[i]}) for row in stores.rows(key, seed=i)])
    for arguments in (("report", "s", "--output", "r"), ("compare", "s", "s")):
        assert run_cli(*arguments).status == 0


LEFT_OUT = (
    {"variance_low", "variance_high", "seconds_low", "seconds_high"},
    {"seconds", "seconds_low", "seconds_high"},
    {"variance", "variance_low", "variance_high", "latency_high"},
    {"variance_low", "variance_high"},
    set(),
)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_an_interval_that_is_none_is_left_out(number: int) -> None:
    row = cleaned({**stores.rows("a")[0], "variance_low": 1.0, "variance_high": 3.0})
    given = {**row, **HOSTILE[number]}
    assert cleaned(row) == row
    assert cleaned(given) == {name: None if name in LEFT_OUT[number] else value for name, value in given.items()}
