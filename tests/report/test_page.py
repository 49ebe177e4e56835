"""The files: safe, self-contained, the same each time, and there for any store."""

from __future__ import annotations

import base64
import csv
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from markupsafe import escape

from gradmeter.bench.cells import StoppingCriteria, grid, make_estimator, make_problem
from gradmeter.bench.problems import PROBLEMS
from gradmeter.bench.report import write
from gradmeter.bench.rows import ALWAYS, MEANINGS
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import UsageError
from tests.report import stores

SCRIPT = Path(__file__).parents[2] / "gradmeter/bench/report/templates/tables.js"
EVIL = "<script>alert(1)</script> & \"'|`$x^2$ @you \u2028\u202e"


def report(path: Path, cells: list) -> tuple[str, str]:
    stores.fill(path / "store.sqlite", cells)
    with Store.read(path / "store.sqlite") as store:
        page = write(store, path / "out")
    assert page == path / "out" / "report.html"
    return page.read_text(encoding="utf-8"), page.with_suffix(".md").read_text(encoding="utf-8")


def many() -> list:
    """Two estimators on two backends, three S and three k; a control, a failure."""
    options = stores.rows("x")[0]["problem_options"]
    cells, number = [], 0
    for estimator, variance in (("pathwise", 2.0), ("score-function", 30.0)):
        for backend, seconds in (("numpy", 1e-6), ("jax", 5e-7)):
            for k, size in ((2.0, 1), (2.0, 4), (2.0, 16), (3.0, 1), (4.0, 1)):
                number += 1
                made = stores.rows(
                    f"{number:03d}",
                    estimator=estimator,
                    backend=backend,
                    problem_options={**options, "k": k},
                    num_samples=size,
                    variance=variance * k / size,
                    seconds=seconds * size,
                    verdict="unbiased" if estimator == "pathwise" else "inconclusive",
                )
                cells.append((made, stores.series(variance * k / size, seconds * size, own=number)))
    injected = stores.rows("p", estimator="injected-naive-exchange", verdict="biased", bias_norm=1.0)
    return [*cells, (injected, stores.series()), (stores.failed("f", estimator="measure-valued"), {})]


class Ids(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.append(str(value))
            elif name in ("href", "xlink:href") and str(value).startswith("#"):
                self.references.append(str(value)[1:])
            self.references += re.findall(r"url\(#([^)]+)\)", value or "")


def test_everything_is_shown(tmp_path: Path) -> None:
    page, twin = report(tmp_path, many())
    for title in ("All problems at a glance", "Variance against k", "Variance against S", "Backends side by side"):
        assert title in page
    assert "slope −1.0" in page
    assert "cannot be" in page
    assert "cannot be" in twin
    assert "injected-naive-exchange" in twin
    assert "gradmeter run --problem" in page
    assert all(f"<td><code>{name}</code></td>" in page and escape(text) in page for name, text in MEANINGS.items())
    for shape, word in (("●", "unbiased"), ("○", "inconclusive"), ("✗", "biased")):
        assert f'<span class="v v-{word}">{shape} {word}</span>' in page
    with (tmp_path / "out" / "results.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 1 + 2 * len(many())


def test_inconclusive_is_never_green() -> None:
    style = Path(__file__).parents[2].joinpath("bench/drawing/templates/report.css").read_text(encoding="utf-8")
    colours = re.findall(r"--inconclusive: #(\w\w)(\w\w)(\w\w)", style)
    assert colours
    for colour in colours:
        red, green, _ = (int(part, 16) for part in colour)
        assert red > green


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page, _ = report(tmp_path, many())
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-"
    assert f'content="{policy}' in page
    bare = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    for forbidden in ("http:", "https:", "src=", "@import", "<link", "javascript:", "<!DOCTYPE svg"):
        assert forbidden not in bare


def test_numbers_are_sorted_by_value(tmp_path: Path) -> None:
    """In the script's own words, as far as they need no page."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    texts = ["12.3 ns", "1.00 µs", "1,000", "−2.5", "1.20e-7", "≤ 0.4 %", "2.10× [1.90, 2.30]", "–", "jax"]
    functions = SCRIPT.read_text(encoding="utf-8").partition("for (const table of document")[0]
    call = f"console.log(JSON.stringify({texts}.map(t => valueOf({{dataset: {{}}, textContent: t}}))"
    call += '.concat(["0.004", ""].map(v => valueOf({dataset: {value: v}, textContent: "● unbiased"})))))'
    (tmp_path / "t.js").write_text(functions + call, encoding="utf-8")
    done = subprocess.run([node, tmp_path / "t.js"], capture_output=True, encoding="utf-8", check=True)
    found = json.loads(done.stdout)
    assert found[:7] == pytest.approx([12.3e-9, 1e-6, 1000.0, -2.5, 1.2e-7, 0.4, 2.1])
    assert found[7:] == [None, "jax", 0.004, None]


def test_cells_of_the_bias_hold_their_numbers(tmp_path: Path) -> None:
    """In the ranking and in the details; of a biased cell it is the bias, of others the bound."""
    cells = [
        (stores.rows("a", verdict="unbiased", bias_bound=0.00041), stores.series()),
        (stores.rows("b", estimator="spsa", verdict="biased", bias=0.12, bias_bound=0.2), stores.series(own=1)),
    ]
    page, _ = report(tmp_path, cells)
    assert re.search(r'<td data-value="0.00041">● unbiased ≤ 0.041 %</td>', page)
    assert re.search(r'<td class="bias" data-value="0.12">', page)


def test_the_overview_names_what_it_draws(tmp_path: Path) -> None:
    """A problem of a single estimator has no place in it, so the title does not speak of all."""
    lone = stores.rows("z", problem="cosine", estimator="vargrad")
    page, _ = report(tmp_path, [*many()[:10], *many()[10:20], (lone, stores.series(own=99))])
    start = page.index(" problems at a glance")
    assert page[start - 6 : start].endswith("3 of 4")
    key = page[start : page.index("</figure>", start)].partition('<ul class="key">')[2].partition("</ul>")[0]
    assert "pathwise" in key
    assert "vargrad" not in key


def test_every_point_of_cost_against_variance_has_a_name(tmp_path: Path) -> None:
    """Beside it or, where there is no room, in the key."""
    cells, names = [], [f"estimator-{i:02d}-of-many" for i in range(40)]
    for i, name in enumerate(names):
        at = 1.0 + 0.01 * i
        made = stores.rows(f"{i:03d}", estimator=name, variance=at, seconds=1e-6 * at)
        cells.append((made, stores.series(at, 1e-6 * at, own=i)))
    page, _ = report(tmp_path, cells)
    figure = page[page.index("Cost against variance") :].partition("</figure>")[0]
    beside, _, key = figure.partition('<ul class="key">')
    assert "</ul>" in key
    assert all((f">{name}<" in beside) != (name in key.partition("</ul>")[0]) for name in names)


def test_ids_are_unique_and_references_lead_somewhere(tmp_path: Path) -> None:
    page, _ = report(tmp_path, many())
    found = Ids()
    found.feed(page)
    assert len(found.ids) == len(set(found.ids))
    assert set(found.references) <= set(found.ids)


def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    first = report(tmp_path, many())
    with Store.read(tmp_path / "store.sqlite") as store:
        again = write(store, tmp_path / "again")
    assert again.read_text(encoding="utf-8") == first[0]
    assert again.with_suffix(".md").read_text(encoding="utf-8") == first[1]


def test_nothing_from_the_store_is_markup(tmp_path: Path) -> None:
    texts = ("problem", "estimator", "backend", "device", "dtype", "reason", "machine", "code_version", "verdict")
    hostile = dict.fromkeys((*texts, "variance_flag", "certificate", "exact_source", "noise"), EVIL)
    hostile |= {"problem_options": {EVIL: EVIL}, "estimator_options": {"x": [EVIL]}, "versions": {EVIL: EVIL}}
    cells = [(stores.rows("a", **{**hostile, "finished": EVIL}), stores.series())]
    for i, column in enumerate(hostile):
        made = stores.rows(f"b{i}", **{column: hostile[column]}, num_samples=i + 1, variance=2.0 / (i + 1))
        cells.append((made, stores.series(2.0 / (i + 1), own=i)))
    cells += [(stores.failed("c", reason=EVIL, status=EVIL), {})]
    page, twin = report(tmp_path, cells)
    assert page.count("<script") == 1
    script = SCRIPT.read_text(encoding="utf-8")
    assert page.endswith(f"<script>{script}</script>\n</body>\n</html>")  # the file as it is: nothing from the store
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\"" in page
    assert "<script" not in twin
    assert "@you" not in twin
    assert "&lt;script&gt;alert(1)" in page
    assert not set(page) & set("\u2028\u202e")
    tables = [re.sub(r"`[^`]*`|\\.", "", line) for line in twin.splitlines() if line.startswith("|")]
    blocks: dict[int, int] = {}
    for line in tables:
        blocks[line.count("|")] = blocks.get(line.count("|"), 0) + 1
    assert all(count >= 3 for count in blocks.values())  # no line has columns of its own


@pytest.mark.parametrize("what", ["one", "failures", "untimed", "nulls", "absurd sizes", "single precision on a gpu"])
def test_any_store_has_a_report(tmp_path: Path, what: str) -> None:
    nothing = {"seconds": None, "seconds_low": None, "seconds_high": None}
    cells = {
        "one": [(stores.rows("a"), stores.series())],
        "failures": [(stores.failed("a"), {}), (stores.failed("b", status="crashed", reason=None), {})],
        "untimed": [(stores.rows("a", **nothing), {}), (stores.rows("b", estimator="measure-valued", **nothing), {})],
        "nulls": [
            ([dict.fromkeys(r) | {c: r[c] for c in (*ALWAYS, "cell_key")} for r in stores.rows("a")], {}),
            (stores.rows("b", variance=None, work_normalised_variance=None), {}),
            (stores.rows("c", variance=0.0, num_samples=3), {}),
            (stores.rows("d", num_samples=2), stores.series()),
        ],
        "absurd sizes": [
            (stores.rows("a", variance=-1.0, seconds=1e300), {}),
            (stores.rows("b", variance=2.0, variance_low=0.0, variance_high=1.7e308, variance_flag="unreliable"), {}),
            (stores.rows("c", estimator="mine", num_samples=-4, seconds_low=5e-324), stores.series()),
            (stores.rows("d", estimator="yours", num_samples=2, seconds=2e-6), stores.series(own=4)),
        ],
        "single precision on a gpu": [
            (stores.rows("a", backend="jax"), stores.series(own=1)),
            (
                stores.rows("b", backend="jax", device="cuda", dtype="float32", seconds=1e-8),
                stores.series(2.0, 1e-8, own=2),
            ),
            (stores.rows("c", backend="jax", seed=1), stores.series(own=3)),
        ],
    }[what]
    cells = [(found, arrays) for found, arrays in cells]
    for found, _ in cells:
        found[0]["finished"] = found[0]["finished"] or "2026-11-20T10:00:01.000+00:00"
    page, twin = report(tmp_path, cells)
    assert "</html>" in page
    assert "None" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    assert twin.strip()
    if what == "single precision on a gpu":
        assert "cuda, float32, seed 0" in page
    if what == "untimed":
        assert "Nothing here was timed" in page


@pytest.mark.slow
def test_hundreds_of_cells_stay_quick_and_drawn(tmp_path: Path) -> None:
    estimators = [f"mine-{i}" for i in range(20)]
    cells = [
        (stores.rows(f"{name}{size}", estimator=name, num_samples=size, variance=(i + 1.0) / size), {})
        for i, name in enumerate(estimators)
        for size in range(1, 13)
    ]
    page, _ = report(tmp_path, cells)
    assert 'class="key"' in page  # too many to label: a key instead


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    stores.fill(tmp_path / "s.sqlite", [])
    with Store.read(tmp_path / "s.sqlite") as store, pytest.raises(UsageError, match="gradmeter run") as caught:
        write(store, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    stores.fill(tmp_path / "s.sqlite", [(stores.rows("a"), {})])
    (tmp_path / "file").write_text("in the way")
    with Store.read(tmp_path / "s.sqlite") as store, pytest.raises(UsageError, match="cannot be written") as caught:
        write(store, tmp_path / "file")
    assert "\n" not in str(caught.value)
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    with Store.read(tmp_path / "s.sqlite") as store, pytest.raises(UsageError, match="cannot be written"):
        write(store, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")] == []


def test_from_a_real_run(tmp_path: Path) -> None:
    names = ("pathwise", "score-function", "injected-self-included-baseline", "pathwise[sticking-the-landing=true]")
    cells = grid(
        [make_problem("square[k=2]")],
        [make_estimator(name) for name in names],
        samples=[2],
        goals=StoppingCriteria(precision=0.5, bias_bound=0.5, max_replicates=4096),
    )
    assert "square" in PROBLEMS
    with Store.create(tmp_path / "s.sqlite") as store:
        run(cells, store)
        page = write(store, tmp_path / "out").read_text(encoding="utf-8")
    assert re.search(r"Use <b><code><span class=\"whole\">pathwise</span></code></b>", page)
    assert "less variance × seconds than" in page
    assert "controls: injected bugs" in page
    assert "sticking-the-landing needs an ELBO" in page
