"""CAVI against SVI at equal seconds: what the benchmark prints, and when it says who is ahead."""

from __future__ import annotations

import pytest

from gradmeter.bench.fit import race
from gradmeter.bench.fit.race import Curve, crossing


def test_who_is_ahead_is_said_of_the_rest_of_the_time() -> None:
    cavi = Curve([0.0, 1.0, 2.0, 3.0], [-9.0, -5.0, -2.0, -1.0], [0, 1, 2, 3])
    early = Curve([0.0, 0.5, 2.5], [-9.0, -3.0, -1.5], [0, 5, 25])
    assert crossing(cavi, early) == 3.0  # it is ahead at 2.0 too, and then not
    assert crossing(cavi, Curve([0.0, 0.5], [-9.0, -0.5], [0, 5])) is None
    assert crossing(cavi, Curve([0.0, 0.5], [-9.0, -9.0], [0, 5])) == 1.0


def test_both_curves_are_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["race", "--size", "2e3", "--components", "3", "--batch", "100"])
    race.main()
    cavi, svi = capsys.readouterr().out.split("SVI, 100 rows a step")
    gaps = [[float(line.split()[-1]) for line in part.splitlines() if line.startswith("   ")] for part in (cavi, svi)]
    assert gaps[0] == sorted(gaps[0], reverse=True)  # CAVI never falls
    assert gaps[0][-1] == 0.0
    assert gaps[0][0] == gaps[1][0] > 0.0  # from the same start
    assert any(words in svi for words in ("CAVI is ahead from", "SVI is ahead, or level"))
