"""Who is first, and who is never recommended."""

from pathlib import Path

import numpy as np
import pytest

from gradmeter.bench.drawing.style import styles
from gradmeter.bench.reading.ratios import Ratio
from gradmeter.bench.reading.results import cleaned, load
from gradmeter.bench.report import sweeps
from gradmeter.bench.report.advice import UNTIMED, AdviceLine, advise
from gradmeter.bench.report.document import compose, ranged
from gradmeter.bench.report.ranking import rank
from gradmeter.bench.report.reproduce import commands
from gradmeter.bench.report.tables import details, table
from gradmeter.bench.sweep.store import Store
from tests.report import stores

BASELINE = {"baseline": "mean", "decay": 0.9}


def ranking_of(path: Path, *cells: list) -> object:
    made = []
    for i, cell in enumerate(cells):
        row = cell[-1]
        arrays = stores.series(row["variance"], row["seconds"] or 1e-6, own=i) if row["variance"] else {}
        made.append((cell, arrays if row["seconds"] else {k: v for k, v in arrays.items() if ":" in k}))
    (ranking,) = rank(stores.results(stores.fill(path, made)))
    return ranking


def test_work_normalised_variance_decides(tmp_path: Path) -> None:
    ranking = ranking_of(
        tmp_path / "s.sqlite",
        stores.rows("a", estimator="score-function", variance=9.0, seconds=1e-6),
        stores.rows("b", estimator="pathwise", variance=1.0, seconds=2e-6),
        stores.rows("c", estimator="measure-valued", variance=0.5, seconds=40e-6),
    )
    assert [r.estimator for r in ranking.ranked] == ["pathwise", "score-function", "measure-valued"]
    advice = advise(ranking)
    assert advice.use == "pathwise"
    assert [c.other for c in advice.comparisons] == ["score-function", "measure-valued"]
    assert advice.comparisons[0].ratio.startswith("4.5")
    assert [c.words for c in advice.comparisons] == [
        "less variance × seconds than the next,",
        "less variance × seconds than",
    ]


def test_without_any_variance_the_cheaper_one_is_first(tmp_path: Path) -> None:
    ranking = ranking_of(
        tmp_path / "s.sqlite",
        stores.rows("a", estimator="disarm", variance=0.0, seconds=3e-6),
        stores.rows("b", estimator="measure-valued", variance=0.0, seconds=1e-6),
        stores.rows("c", estimator="arm", variance=1.0, seconds=1e-7),
    )
    assert [r.estimator for r in ranking.ranked] == ["measure-valued", "disarm", "arm"]
    advice = advise(ranking)
    assert [(c.words, c.other, c.setting) for c in advice.comparisons] == [
        ("less seconds than the next,", "disarm", "of variance 0 too")
    ]
    assert advice.comparisons[0].ratio.startswith(("3.0", "2.9"))
    assert advice.caveats[0] == "its variance is 0; of the others arm is the best"


def test_biased_planted_and_inestimable_are_not_recommended(tmp_path: Path) -> None:
    ranking = ranking_of(
        tmp_path / "s.sqlite",
        stores.rows("a", estimator="score-function", variance=0.1, verdict="biased"),
        stores.rows("b", estimator="injected-naive-exchange", variance=0.2, verdict="unbiased"),
        stores.rows("c", estimator="measure-valued", variance=0.3, variance_flag="not-estimable"),
        stores.rows("d", estimator="pathwise", variance=5.0, verdict="inconclusive", bias_bound=0.06),
        stores.failed("e", estimator="score-function", estimator_options=BASELINE, status="exception", reason="oh"),
    )
    assert [r.estimator for r in ranking.ranked] == ["pathwise"]
    assert [r.estimator for r in ranking.unranked] == ["score-function", "measure-valued"]
    assert [r.estimator for r in ranking.controls] == ["injected-naive-exchange"]
    assert [r["reason"] for r in ranking.failed] == ["oh"]
    advice = advise(ranking)
    assert advice.use == "pathwise"
    assert any("inconclusive: up to 6.0 %" in caveat for caveat in advice.caveats)


def test_biased_by_nature_is_not_recommended(tmp_path: Path) -> None:
    """Whatever its verdict; and it is no control: nobody planted anything."""
    ranking = ranking_of(
        tmp_path / "s.sqlite",
        stores.rows("a", estimator="spsa", variance=0.1, verdict="inconclusive"),
        stores.rows("b", estimator="pathwise", variance=5.0),
    )
    assert [r.estimator for r in ranking.ranked] == ["pathwise"]
    assert [r.estimator for r in ranking.unranked] == ["spsa"]
    assert ranking.controls == []
    assert advise(ranking).use == "pathwise"
    (entry,) = table(ranking, styles(r.estimator for r in ranking.results)).unranked
    assert entry.biased
    assert entry.note.startswith("by nature: central differences")


def test_no_significant_difference_is_said(tmp_path: Path) -> None:
    ranking = ranking_of(
        tmp_path / "s.sqlite",
        stores.rows("a", variance=2.0),
        stores.rows("b", estimator="measure-valued", variance=2.001),
    )
    (comparison,) = advise(ranking).comparisons
    assert not comparison.settled
    assert comparison.words == "no significant difference from"
    assert comparison.ratio.startswith(("1.00 [", "0.99"))


def paired(number: int, estimator: str, backend: str, seconds: np.ndarray) -> tuple[list, dict]:
    """A cell of variance 2 whose rounds took these seconds; all were timed together."""
    arrays = {**stores.series(own=0), "seconds": seconds}
    value = float(np.median(seconds))
    return stores.rows(f"{number:02d}", estimator=estimator, backend=backend, seconds=value), arrays


def test_the_order_is_that_of_the_ratios_shown(tmp_path: Path) -> None:
    """Rounds paired with the best: the median of ratios is not the ratio of medians."""
    generator = np.random.default_rng(0)
    drift = np.exp(0.5 * generator.standard_normal(stores.ROUNDS))
    cells = [paired(0, "pathwise", "numpy", 1e-6 * drift)]
    for i in range(1, 9):
        factor = np.exp(0.3 * generator.standard_normal(stores.ROUNDS))
        cells.append(paired(i, f"mine-{i}", "numpy", (3e-6 + 1e-7 * i) * drift * factor))
    (ranking,) = rank(stores.results(stores.fill(tmp_path / "s.sqlite", cells)))
    ratios = [ranking.against_best(r).value for r in ranking.ranked[1:]]
    assert ratios == sorted(ratios)
    assert min(ratios) >= 1.0
    products = [ranking.work(r) for r in ranking.ranked]
    assert products != sorted(products)  # the store would not tell otherwise
    shown = table(ranking, styles(r.estimator for r in ranking.results)).ranked
    assert [float(e.ratio.partition("×")[0]) for e in shown[1:]] == [float(f"{r:.3g}") for r in ratios]
    assert [e.rank for e in shown] == [str(i) for i in range(1, 10)]


def test_estimators_are_compared_on_one_backend_and_backends_apart(tmp_path: Path) -> None:
    cells = [
        (stores.rows("a", variance=2.0, seconds=2e-6), stores.series(2.0, 2e-6, own=1)),
        (stores.rows("b", backend="jax", variance=2.0, seconds=1e-6), stores.series(2.0, 1e-6, own=2)),
        (stores.rows("c", estimator="arm", variance=9.0, seconds=2e-6), stores.series(9.0, 2e-6, own=3)),
        (stores.rows("d", estimator="arm", backend="jax", variance=9.0), stores.series(9.0, 1e-6, own=4)),
        (stores.rows("e", estimator="price", variance=1.0, seconds=3e-6), stores.series(1.0, 3e-6, own=5)),
    ]
    (ranking,) = rank(stores.results(stores.fill(tmp_path / "s.sqlite", cells)))
    assert [(r["backend"], r.estimator) for r in ranking.ranked] == [
        *(("jax", "pathwise"), ("jax", "arm")),
        *(("numpy", "price"), ("numpy", "pathwise"), ("numpy", "arm")),
    ]
    advice = advise(ranking)
    assert (advice.use, advice.setting) == ("pathwise", "S\u00a0=\u00a01, jax")
    assert [(c.other, c.setting) for c in advice.comparisons] == [("arm", "")]
    assert [(c.words, c.other) for c in advice.backends] == [("less variance × seconds than on", "numpy")]
    assert advice.backends[0].ratio.startswith(("2.0", "1.9"))
    assert "on numpy the best is price" in advice.caveats
    found = table(ranking, styles(r.estimator for r in ranking.results))
    assert [e.rank for e in found.ranked] == ["1", "2", "1", "2", "3"]
    assert [words for words, _ in found.sides] == ["on jax", "on numpy"]


def test_an_estimator_gets_one_line_in_a_sweep_with_its_effect_size(tmp_path: Path) -> None:
    options = stores.rows("x")[0]["problem_options"]
    cells = []
    for k, better in ((1.0, 2.0), (2.0, 4.0), (3.0, 0.5), (4.0, 3.0)):
        for name, variance in (("pathwise", 1.0), ("arm", better)):
            made = stores.rows(f"{name}{k}", estimator=name, problem_options={**options, "k": k}, variance=variance)
            cells.append((made, stores.series(variance)))
    with Store.read(stores.fill(tmp_path / "s.sqlite", cells)) as store:
        chapter = compose(*load(store, [cleaned(r) for r in store.rows()])).chapters[0]
    assert [(span, a.use) for span, a in chapter.answers] == [("k = 1 to 2, 4", "pathwise"), ("k = 3", "arm")]
    (comparison,) = chapter.answers[0][1].comparisons
    assert comparison.ratio == "2.00× to 4.00×"
    assert (comparison.words, comparison.other) == ("less variance × seconds than the next,", "arm")


def test_the_runner_up_of_several_values_is_one_or_the_next_best() -> None:
    one = AdviceLine("2.00×", "less than the next,", "arm", "", True, Ratio(2.0, 1.9, 2.1))
    two = AdviceLine("3.00×", "less than the next,", "price", "", True, Ratio(3.0, 2.9, 3.1))
    tie = AdviceLine("1.00 [0.90, 1.10]", "no significant difference from", "arm", "", False, Ratio(1.0, 0.9, 1.1))
    (found,) = ranged([(1.0, one), (2.0, two), (3.0, tie)])
    assert (found.ratio, found.words, found.other) == ("2.00× to 3.00×", "less than the next best", "")
    assert found.setting == "no significant difference at 3"
    (found,) = ranged([(1.0, tie), (2.0, tie)])
    assert (found.ratio, found.words, found.other) == ("1.00×", "no significant difference from", "arm")


def test_without_times_equal_evaluations_decide(tmp_path: Path) -> None:
    untimed = {"seconds": None, "seconds_low": None, "seconds_high": None}
    ranking = ranking_of(
        tmp_path / "s.sqlite",
        stores.rows("a", estimator="measure-valued", variance=1.0, evaluations=4, **untimed),
        stores.rows("b", variance=2.0, evaluations=1, **untimed),
    )
    assert not ranking.timed
    assert [r.estimator for r in ranking.ranked] == ["pathwise", "measure-valued"]
    advice = advise(ranking)
    assert UNTIMED in advice.caveats
    assert advice.comparisons[0].ratio.startswith("2.00×")


def test_machines_are_ranked_apart_and_backends_named(tmp_path: Path) -> None:
    cells = [
        (stores.rows("a"), stores.series()),
        (stores.rows("b", backend="jax", variance=1.0), stores.series(1.0)),
        (stores.rows("c", machine="another"), stores.series()),
    ]
    first, second = rank(stores.results(stores.fill(tmp_path / "s.sqlite", cells)))
    assert advise(first).setting == "S\u00a0=\u00a01, jax"
    assert second.machine == "another"


def test_a_cell_measured_again_replaces_the_old_result(tmp_path: Path) -> None:
    old = stores.rows("a", variance=1.0)
    new = stores.rows("b", variance=3.0, finished="2026-11-21T10:00:00.000+00:00")
    (result,) = stores.results(stores.fill(tmp_path / "s.sqlite", [(new, {}), (old, {})]))
    assert result["variance"] == 3.0


@pytest.mark.parametrize(("values", "count"), [((0.5, 1.0), 0), ((3.0, 0.5, 1.0), 1)])
def test_three_values_make_a_sweep(tmp_path: Path, values: tuple[float, ...], count: int) -> None:
    options = stores.rows("x")[0]["problem_options"]
    cells = [(stores.rows(str(k), problem_options={**options, "k": k}), {}) for k in values]
    found = sweeps.find(rank(stores.results(stores.fill(tmp_path / "s.sqlite", cells))))
    assert len(found) == count
    if found:
        assert [value for value, _ in found[0].points] == sorted(values)


def test_cost_is_a_multiple_of_plain_pathwise(tmp_path: Path) -> None:
    """On the same backend; of the same S, or else of the smallest, which is then named; a dash without one."""
    ranking = ranking_of(
        tmp_path / "s.sqlite",
        stores.rows("a", variance=4.0, seconds=1e-6),
        stores.rows("b", variance=1.0, seconds=3.5e-6, num_samples=4),
        stores.rows("c", estimator="measure-valued", variance=2.0, seconds=7e-6, num_samples=4),
        stores.rows("d", estimator="score-function", variance=9.0, seconds=2e-6, num_samples=2),
        stores.rows("e", estimator="score-function", variance=9.0, seconds=1e-7, backend="jax"),
        stores.rows("f", estimator="taylor", variance=9.0, seconds=None, seconds_low=None, seconds_high=None),
    )
    found = table(ranking, styles(r.estimator for r in ranking.results))
    cost = {(e.estimator, e.samples, *e.context): e.cost for e in (*found.ranked, *found.unranked)}
    assert cost.pop(("pathwise", "1", "numpy")) == cost.pop(("pathwise", "4", "numpy")) == "1"
    assert cost["measure-valued", "4", "numpy"].startswith(("2.00× [1.9", "1.99× [1.9"))
    assert cost["score-function", "2", "numpy"].endswith("] of\u00a0S\u00a0=\u00a01")
    assert cost["score-function", "1", "jax"] == cost["taylor", "1", "numpy"] == "–"
    ratio, plain = ranking.against_reference(next(r for r in ranking.results if r.estimator == "measure-valued"))
    assert plain["num_samples"] == 4
    assert ratio.sure
    assert ratio.low < 2.0 < ratio.high


def test_without_pathwise_cost_is_a_multiple_of_a_score_function(tmp_path: Path) -> None:
    """Where z is discrete; the plain one, or else leave-one-out, and the table says which."""
    loo = {"estimator_options": {"baseline": "leave-one-out"}}
    cells = [
        stores.rows("a", estimator="arm", variance=4.0, seconds=2e-6, num_samples=2),
        stores.rows("b", estimator="score-function", variance=1.0, seconds=4e-6, num_samples=2, **loo),
        stores.failed("c", estimator="pathwise"),
        stores.rows("d", estimator="score-function", variance=9.0, seconds=1e-6, num_samples=2),
    ]
    for name, given, cost in (("plain", cells, 2.0), ("other", cells[:3], 0.5)):
        ranking = ranking_of(tmp_path / f"{name}.sqlite", *given)
        found = table(ranking, styles(r.estimator for r in ranking.results))
        assert found.reference == "score-function" + ("" if name == "plain" else "[baseline=leave-one-out]")
        costs = {e.estimator: e.cost for e in found.ranked}
        assert costs[found.reference] == "1"
        assert float(costs["arm"].partition("×")[0]) == pytest.approx(cost, rel=0.02)


def test_commands_hold_exactly_the_cells(tmp_path: Path) -> None:
    cells = [
        (stores.rows("a"), {}),
        (stores.rows("b", num_samples=4), {}),
        (stores.rows("c", estimator="measure-valued", backend="jax"), {}),
    ]
    lines = commands(stores.results(stores.fill(tmp_path / "s.sqlite", cells))).splitlines()
    assert lines == [
        "gradmeter run --problem 'square[k=2]' --estimator pathwise --samples 1 --samples 4",
        "gradmeter run --problem 'square[k=2]' --estimator measure-valued --backend jax --samples 1",
    ]


def test_details_have_the_variance_against_pathwise(tmp_path: Path) -> None:
    """In every parameter block, with an interval; of the same S, else a dash."""
    ranking = ranking_of(
        tmp_path / "s.sqlite",
        stores.rows("a", variance=4.0),
        stores.rows("b", estimator="score-function", variance=12.0),
        stores.rows("c", estimator="measure-valued", variance=2.0, num_samples=4),
    )
    headings, lines = details(ranking)
    assert headings[-1] == "variance (pathwise = 1)"
    found = {(line[0], line[headings.index("block")]): line[-1] for line in lines}
    assert {text for (name, _), text in found.items() if name == "pathwise"} == {"1"}
    assert {text for (name, _), text in found.items() if name == "measure-valued"} == {"–"}
    assert found["score-function", "all"].startswith("3.00× [")
    assert all(text.endswith("]") for (name, _), text in found.items() if name == "score-function")
