"""Claims judged by rows whose numbers are known, regime maps, and the page of all claims."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gradmeter.bench import papers as command
from gradmeter.bench.drawing import plotting
from gradmeter.bench.fit import claimed
from gradmeter.bench.reading.judging import judge
from gradmeter.bench.reading.regimes import chart
from gradmeter.bench.reading.results import Result
from gradmeter.bench.report import papers, papers_page
from gradmeter.bench.report.figures import regimes
from gradmeter.bench.rows import Row
from gradmeter.bench.sweep import suites
from gradmeter.bench.sweep.claims import Claim, Regime, Selection
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store
from tests.report import stores

PATHWISE, SCORE = Selection(estimator=("pathwise",)), Selection(estimator=("score-function",))


def measured(tmp_path: Path, *cells: dict[str, Any]) -> list[Result]:
    """Results of cells with these columns; `k` is an option of the problem."""
    rows = []
    for i, given in enumerate(cells):
        options = {"k": given.pop("k", 2.0), "dim": given.pop("dim", 1)}
        rows.append(stores.rows(f"cell {i}", problem_options=options, **given))
    return loaded(tmp_path, *rows)


def loaded(tmp_path: Path, *rows: list[Row]) -> list[Result]:
    """Results without series, whose ratios come from the intervals of the rows."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
    return stores.results(stores.fill(path, ((found, {}) for found in rows)))


def ratio(**given: Any) -> Claim:
    return Claim("It is so.", kind="ratio", of=PATHWISE, to=SCORE, **given)


@pytest.mark.parametrize(
    ("below", "outcome"), [(0.6, "reproduced"), (0.5, "undecided"), (0.4, "contradicted"), (0.51, "undecided")]
)
def test_a_ratio_is_placed_by_its_interval(tmp_path: Path, below: float, outcome: str) -> None:
    """Variances 1 and 2, each within 2 %: a ratio of 0.5 within 2.8 %."""
    found = measured(tmp_path, {"variance": 1.0}, {"variance": 2.0, "estimator": "score-function"})
    judged = judge(ratio(below=below), found)
    assert (judged.status, judged.count) == (outcome, 1)
    assert judged.measured.startswith("0.500× [0.486")


def test_a_claim_about_several_cells_needs_each_of_them(tmp_path: Path) -> None:
    cells = [{"k": k, "variance": v} for k, v in ((1.0, 1.0), (2.0, 4.0))]
    found = measured(tmp_path, *cells, *({"k": k, "variance": 2.0, "estimator": "score-function"} for k in (1.0, 2.0)))
    judged = judge(ratio(below=1.0), found)
    assert judged.status == "contradicted"
    assert judged.measured.startswith("2.00×")
    assert judged.measured.endswith("1 of 2")


def test_a_flagged_variance_and_a_failed_cell_decide_nothing(tmp_path: Path) -> None:
    pair: list[dict[str, Any]] = [{"variance": 1.0}, {"variance": 9.0, "estimator": "score-function"}]
    pair[1]["variance_flag"] = "unreliable"
    assert judge(ratio(below=1.0), measured(tmp_path, *pair)).status == "undecided"
    broken = loaded(tmp_path, stores.failed("broken"))
    assert judge(ratio(below=1.0), broken).status == "undecided"
    assert judge(ratio(below=1.0), []).status == "not run"
    assert judge(Claim("It is so.", needs="data", nearest="toys"), []).status == "not measured"


def test_no_variance_is_exactly_zero_times_any_other(tmp_path: Path) -> None:
    none = {"variance": 0.0, "variance_low": 0.0, "variance_high": 0.0}
    found = measured(tmp_path, none, {"variance": 2.0, "estimator": "score-function"})
    assert judge(ratio(below=1e-15), found).status == "reproduced"
    assert judge(Claim("It is so.", kind="zero", of=PATHWISE), found).status == "reproduced"
    assert judge(Claim("It is so.", kind="zero", of=SCORE), found).status == "contradicted"
    turned = Claim("It is so.", kind="ratio", of=SCORE, to=PATHWISE, below=1.0)
    assert judge(turned, found).status == "contradicted"


@pytest.mark.parametrize(("at", "outcome"), [(2.5, "reproduced"), (1.5, "contradicted"), (3.5, "contradicted")])
def test_a_crossing_lies_between_two_certain_values(tmp_path: Path, at: float, outcome: str) -> None:
    """Variances k² and 6.25, each within 2 %: they cross at k = 2.5."""
    grid = (1.0, 2.0, 3.0, 4.0)
    of = [{"k": k, "variance": k * k} for k in grid]
    found = measured(tmp_path, *of, *({"k": k, "variance": 6.25, "estimator": "score-function"} for k in grid))
    claim = Claim("It is so.", kind="crossing", of=PATHWISE, to=SCORE, along="k", at=at)
    judged = judge(claim, found)
    assert judged.status == outcome
    assert judged.measured == "crosses 1 between k = 2 and 3"


def test_a_slope_and_a_direction(tmp_path: Path) -> None:
    found = measured(tmp_path, *({"num_samples": s, "variance": 8.0 / s} for s in (1, 2, 4, 8)))
    line = Claim("It is so.", kind="slope", of=PATHWISE, along="samples", above=-1.1, below=-0.9)
    assert judge(line, found).status == "reproduced"
    for direction, outcome in (("falls", "reproduced"), ("rises", "contradicted")):
        claim = Claim("It is so.", kind="monotone", of=PATHWISE, along="samples", direction=direction)
        assert judge(claim, found).status == outcome
        assert judge(claim, found).count == 3


def test_the_signal_to_noise_ratio_has_the_interval_of_the_variance(tmp_path: Path) -> None:
    found = measured(tmp_path, {"variance": 4.0, "exact_norm": 1.0})
    claim = Claim("It is so.", kind="value", of=PATHWISE, column="snr", above=0.49, below=0.51)
    assert judge(claim, found).status == "reproduced"
    assert judge(claim, found).measured == "0.500 [0.495, 0.505]"


@pytest.mark.parametrize(
    ("given", "outcome", "text"),
    [
        ({"within": 1e-3, "below": 1.0}, "contradicted", r"[23].\d\d×"),
        (
            {"within": 1e-3, "above": 1.0, "seeds": 2},
            "reproduced",
            r"[23].\d\d× \(seed 0\) … [23].\d\d× \(seed 1\), all 2",
        ),
        (
            {"within": 1e-9, "below": 1.0},
            "contradicted",
            r"svi never in 200 evaluations, cavi after \d\d\.0",
        ),
        ({"within": 1.0, "below": 1.0}, "undecided", "cavi starts there"),
    ],
)
def test_two_fits_are_compared_by_their_evaluations(given: dict[str, Any], outcome: str, text: str) -> None:
    """Of 500 points CAVI needs three sweeps, SVI more than twice as many evaluations."""
    problem = "bayesian-gaussian-mixture[dataset=synthetic,size=500,bound=mean-field]"
    claim = Claim("It is so.", kind="fit", problem=problem, method="svi", against="cavi", **given)
    judged = judge(claim, [], claimed.evidence)
    assert judged.status == outcome
    assert re.fullmatch(text, judged.measured), judged.measured
    assert judge(claim, []).status == "not measured"


def test_a_map_names_the_winner_and_hatches_what_is_not_certain(tmp_path: Path) -> None:
    cells = [
        {"k": k, "dim": d, "variance": v, "estimator": e}
        for d in (1, 2)
        for k, one, two in ((1.0, 1.0, 2.0), (2.0, 2.0, 2.01), (3.0, 3.0, 2.0))
        for e, v in (("pathwise", one), ("score-function", two))
    ]
    regime = Regime("Which?", "square", "k", "dim", Selection(), boundary=2.0, formula="k = 2")
    found = chart(regime, measured(tmp_path, *cells))
    assert found is not None
    assert (found.xs, found.ys) == ([1.0, 2.0, 3.0], [1.0, 2.0])
    row = [found.winners[k, 1.0] for k in found.xs]
    assert [(w.label, w.certain) for w in row] == [("pathwise", True), ("pathwise", False), ("score-function", True)]
    assert row[0].lead == pytest.approx(2.0)
    with plotting.styled():
        drawn = regimes.figure(found, {})
    assert drawn.panels[0].svg.count("<pattern") == 1  # hatched: two cells of one pattern
    assert "k = 2" in drawn.panels[0].svg
    assert chart(Regime("Which?", "square", "k", "loc", Selection()), found.results) is None


def test_a_map_by_error_has_bias_and_variance(tmp_path: Path) -> None:
    """g = 2, a bias of 50 %: an error of 1 + variance; what has no temperature competes at every temperature."""
    unbiased = {"bias": 0.0, "bias_low": 0.0, "bias_high": 0.01}
    relaxed = {"bias": 0.5, "bias_low": 0.49, "bias_high": 0.51, "estimator": "gumbel-softmax"}
    cells = [
        {
            **given,
            "num_samples": s,
            "variance": v / s,
            "exact_norm": 2.0,
            "bias_scale": "gradient",
            "estimator_options": o,
        }
        for s in (1, 4)
        for given, v, o in (
            (unbiased, 8.0, {}),
            (relaxed, 4.0, {"temperature": 1.0}),
            (relaxed, 1.0, {"temperature": 2.0}),
        )
    ]
    found = chart(
        Regime("Which?", "square", "temperature", "samples", Selection(), by="error"), measured(tmp_path, *cells)
    )
    assert found is not None
    winners = {place: (w.label, w.certain, pytest.approx(w.lead)) for place, w in found.winners.items()}
    assert winners == {
        (1.0, 1.0): ("gumbel-softmax", True, 8.0 / 5.0),
        (2.0, 1.0): ("gumbel-softmax", True, 8.0 / 2.0),
        (1.0, 4.0): ("pathwise", False, 2.0 / 2.0),
        (2.0, 4.0): ("gumbel-softmax", True, 2.0 / 1.25),
    }
    assert len(found.results) == 6
    with plotting.styled():
        assert "lowest mean squared error" in regimes.figure(found, {}).caption
    unknown = measured(tmp_path, *({**c, "exact_norm": None} for c in cells))
    assert chart(found.regime, unknown) is None


def test_a_boundary_stands_between_the_ticks_around_it() -> None:
    assert regimes.position(2.0, [1.0, 2.0, 4.0]) == 1.5
    assert regimes.position(3.0, [1.0, 2.0, 4.0]) == 2.0
    assert regimes.position(0.9, [1.0, 2.0, 4.0]) == pytest.approx(0.4)


def test_papers_are_judged_and_shown_on_one_page(tmp_path: Path) -> None:
    """Yin & Zhou 2019 by exact variances: the ratio at p = 0.9 and equal evaluations is 71.9."""
    suite = suites.load("papers/yin2019")
    with Store.create(tmp_path / "store.sqlite") as store:
        rows = run(suite.cells, store, timing=False)
        composed = papers_page.write(store, rows, [suite], tmp_path)
    assert [j.status for j in composed[0].judged] == ["reproduced"] * 3 + ["contradicted"]
    shown = re.match(r"([\d.]+)×", composed[0].judged[-1].measured)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(exact_arm(0.1, 0.9) / (0.9 * 0.1**3 / 2.0), rel=0.03)
    assert command.unsettled(composed) == []
    assert papers.summary(composed) == "1 paper: 3 reproduced, 1 contradicted."
    for name in ("papers.html", "papers.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "Augment-REINFORCE-Merge" in text
        assert "because: for f(b) = b²" in text


def exact_arm(q: float, p: float) -> float:
    """Return the variance of ARM for Δ = 1, by one pair."""
    least = min(p, q)
    return 2.0 / 3.0 * (0.125 - (0.5 - least) ** 3) - (p * q) ** 2
