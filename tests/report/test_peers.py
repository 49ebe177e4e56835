"""The peers' part of the report, on invented rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradmeter.bench.reading.ratios import Ratio
from gradmeter.bench.report import peers, write
from gradmeter.bench.sweep.store import Store
from tests.report.stores import failed, fill, results, rows, series

OURS: dict[str, Any] = {"backend": "jax", "dtype": "float32", "dimension": 10}


def store(folder: Path) -> Path:
    """Ours takes 1 µs; NumPyro 3 times that, TFP 1.1 times, and Optax could not run."""
    return fill(
        folder / "store.sqlite",
        [
            (rows("ours", **OURS), series(own=1)),
            (rows("numpyro", **{**OURS, "backend": "numpyro", "seconds": 3e-6}), series(seconds=3e-6, own=2)),
            (rows("tfp", **{**OURS, "backend": "tfp", "seconds": 1.1e-6}), series(seconds=1.1e-6, own=3)),
            (rows("pyro", **{**OURS, "backend": "pyro-plate", "seconds": None, "reason": "not timed: gone"}), {}),
            (failed("optax", **{**OURS, "backend": "optax", "reason": "no <environment>"}), {}),
        ],
    )


def test_ratios_stand_beside_goals(tmp_path: Path) -> None:
    ours, theirs = peers.split(results(store(tmp_path)))
    assert [r["backend"] for r in ours] == ["jax"]
    found = peers.compare(ours, theirs)
    assert found is not None
    [(title, lines)] = found.tables
    assert title == "square · pathwise"
    by_peer = {line[0]: dict(zip(peers.HEADINGS, line, strict=True)) for line in lines}
    assert by_peer["NumPyro"]["its time over ours"].startswith(("3.0", "2.9"))
    assert by_peer["NumPyro"]["goal"] == "≥ 1.20: met"
    assert by_peer["TensorFlow Probability"]["goal"] == "≥ 1.20: missed"
    assert by_peer["NumPyro"]["bias"] == "● unbiased ≤ 0.40 %"
    assert found.unmeasured == [("Optax monte_carlo", "square[k=2] pathwise", "n/a", "no <environment>")]
    assert by_peer["Pyro, plate"]["its seconds"] == by_peer["Pyro, plate"]["ours"] == "–"
    assert by_peer["Pyro, plate"]["goal"] == "≥ 5.00: not timed"
    assert by_peer["Pyro, plate"]["note"] == "not timed: gone"
    assert found.summary == "Goals: 1 met, 1 missed."


@pytest.mark.parametrize(
    ("ratio", "goal", "word"),
    [
        (Ratio(3.0, 2.0, 4.0), 2.0, "met"),
        (Ratio(3.0, 2.0, 4.0), 2.5, "not told"),
        (Ratio(3.0, 2.0, 4.0), 4.5, "missed"),
        (Ratio(3.0, 2.0, 4.0, sure=False), 1.0, "not told"),
        (Ratio(3.0, 2.0, 4.0), None, ""),
        (None, 1.0, ""),
    ],
)
def test_a_goal_is_met_only_by_the_whole_interval(ratio: Ratio | None, goal: float | None, word: str) -> None:
    assert peers.met(ratio, goal) == word


def test_page_and_twin_show_peers_and_rank_only_ours(tmp_path: Path) -> None:
    with Store.read(store(tmp_path)) as opened:
        page = write(opened, tmp_path / "report")
    html, markdown = page.read_text(encoding="utf-8"), page.with_name("report.md").read_text(encoding="utf-8")
    for text in (html, markdown):
        before, _, after = text.partition("Beside other libraries")
        assert "NumPyro" not in before
        assert "NumPyro" in after
        assert "<environment>" not in after
        assert "Goals: 1 met, 1 missed." in after
    assert "1 cells" in html
    assert len(page.with_name("results.csv").read_text(encoding="utf-8").splitlines()) == 1 + 10


def test_a_store_without_peers_does_not_speak_of_them(tmp_path: Path) -> None:
    path = fill(tmp_path / "store.sqlite", [(rows("ours", **OURS), series())])
    with Store.read(path) as opened:
        page = write(opened, tmp_path / "report")
    assert "Beside other libraries" not in page.read_text(encoding="utf-8")
    assert "Beside other libraries" not in page.with_name("report.md").read_text(encoding="utf-8")


def test_a_store_of_peers_alone_is_ranked_as_any_other(tmp_path: Path) -> None:
    path = fill(tmp_path / "store.sqlite", [(rows("tfp", **{**OURS, "backend": "tfp"}), series())])
    with Store.read(path) as opened:
        page = write(opened, tmp_path / "report")
    assert "Beside other libraries" not in page.read_text(encoding="utf-8")
