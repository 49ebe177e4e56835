"""Layers put together as networks, in a store that is measured; and what a report says of them in words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_problem
from gradmeter.bench.reading.results import Result
from gradmeter.bench.report import networks, sweeps, write
from gradmeter.bench.report.findings import findings
from gradmeter.bench.report.ranking import rank
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store
from tests.report import stores
from tests.support import make_cell

PROBLEM = "linear-vae[dataset=digits,size=40,latent=1,batch=20]"
ESTIMATORS = ("pathwise", "score-function", "injected-naive-exchange")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three estimators, their variance split."""
    cells = [make_cell(PROBLEM, name, 2, max_replicates=2**14) for name in ESTIMATORS]
    found = tmp_path_factory.mktemp("networks") / "s.sqlite"
    with Store.create(found) as store:
        run(cells, store, timing=False, minibatch_parts=True)
    return found


@pytest.fixture
def measured(path: Path) -> dict[str, Result]:
    return {r.estimator: r for r in stores.results(path)}


def test_networks_are_the_sums_of_their_layers(measured: dict[str, Result]) -> None:
    exact: Any = make_problem(PROBLEM).exact()
    for result in measured.values():
        found = networks.of(result)
        assert [n.name for n in found] == ["encoder", "decoder"]
        assert [layer for n in found for layer in n.layers] == [block for block in result.blocks if block != "all"]
        assert sum(n["variance"] for n in found) == pytest.approx(result["variance"], rel=1e-12)
        for network in found:
            layers = [result.blocks[layer] for layer in network.layers]
            norm = math.sqrt(sum(float(np.sum(exact.gradient[layer] ** 2)) for layer in network.layers))
            assert network["exact_norm"] == pytest.approx(norm, rel=1e-12)
            bound = math.hypot(*(r["bias_bound"] * r["exact_norm"] for r in layers))
            assert network["bias_bound"] == pytest.approx(bound / norm, rel=1e-12)
            low, high = network.interval
            assert low is not None
            assert high is not None
            assert low < network["variance"] < high < 2.0 * low
            parts = network.parts
            assert parts is not None
            assert parts.add_up
        together = [n.parts for n in found]
        assert sum(p.minibatch.value for p in together if p) == pytest.approx(
            float(result.series["parts:all"][4]), rel=1e-9
        )


def test_the_decoder_is_estimated_alike_and_the_encoder_is_not(measured: dict[str, Result]) -> None:
    """At the same z all have the same ∇θ, so that its ratio is 1 without an interval; ∇φ differs by much."""
    plain, score = measured["pathwise"], measured["score-function"]
    ratios = {n.name: networks.against(n, plain) for n in networks.of(score)}
    assert ratios["decoder"] is not None
    assert (ratios["decoder"].low, ratios["decoder"].high) == pytest.approx((1.0, 1.0), abs=1e-9)
    assert ratios["encoder"] is not None
    assert ratios["encoder"].low > 20.0
    direct = [sum(r.blocks[b]["variance"] for b in r.blocks if b.startswith("encoder")) for r in (score, plain)]
    assert ratios["encoder"].value == pytest.approx(direct[0] / direct[1], rel=1e-9)


def test_what_a_report_says_of_them(path: Path, measured: dict[str, Result]) -> None:
    verdicts = {name: [n["verdict"] for n in networks.of(r)] for name, r in measured.items()}
    assert verdicts["injected-naive-exchange"][0] == "biased"
    assert verdicts["injected-naive-exchange"][1] != "biased"
    for row in measured["pathwise"].blocks.values():
        row.update(bias_bound=1e-4, verdict="unbiased", reason=None)
    ratio, certified, rest, caught = findings(rank(list(measured.values())), [])
    assert ratio.startswith(f"{PROBLEM} (S = 2, numpy): the score function's variance is ")
    assert "for the encoder, 1.00× [1.00, 1.00] for the decoder." in ratio
    assert "3 cells with exact gradients (encoder, decoder): certified within 1.0 %" in certified
    assert "pathwise (1 cell, at most 0.0" in certified
    assert certified.endswith("measured at S = 2; batches of 20; numpy.")
    assert f"score-function (S = 2, numpy) for the encoder of {PROBLEM}, ≤ " in rest
    assert caught == "linear-vae, caught as biased: injected-naive-exchange (1 cell)."
    with Store.read(path) as store:
        page = write(store, path.parent / "report")
    for file in (page, page.with_suffix(".md")):
        text = file.read_text(encoding="utf-8")
        assert text.index("What else it shows") < text.index("By network, over all of its layers")
        assert "caught as biased: injected" in text


def test_without_networks_nothing_is_put_together(tmp_path: Path) -> None:
    results = stores.results(stores.fill(tmp_path / "s.sqlite", [(stores.rows("a"), stores.series())]))
    (ranking,) = rank(results)
    assert networks.of(results[0]) == []
    assert networks.table(ranking)[1] == []
    assert findings([ranking], []) == []


def test_slopes_are_said(tmp_path: Path) -> None:
    cells = []
    for k in (1, 4, 16, 64, 256, 1024):
        for name, exponent in (("iwae", -0.5), ("dreg", 0.5)):
            given = {"problem": "linear-gaussian", "problem_options": {"importance-samples": k}, "estimator": name}
            row = stores.rows(f"{name}{k}", **given, snr=0.3 * k**exponent, variance=2.0 / k)
            cells.append((row, stores.series(own=len(cells))))
    rankings = rank(stores.results(stores.fill(tmp_path / "s.sqlite", cells)))
    (line,) = findings(rankings, sweeps.find(rankings))
    assert line.startswith("linear-gaussian, signal-to-noise ratio of ∂loc against K: ")
    for said in ("iwae falls, slope −0.50 [", "dreg rises, slope 0.50 ["):
        assert said in line
