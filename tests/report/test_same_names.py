"""Objects of one name that compute different things are told apart in everything that shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.comparison.stores import by_identity
from gradmeter.bench.progress import show_table
from gradmeter.bench.report import write
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import Estimator, Integrand, Requires
from tests.report import stores


def estimator(c: float) -> Estimator:
    class Mine(Estimator):
        name, summary = "mine", "the score function, times c"
        requires = Requires(("score", "score_identity"))

        def estimate_integrand(self, b: Any, e: Any, p: Any, noise: Any, state: Any) -> Any:
            z = e.family.sample(b, p, noise)
            f = c * e.value(b, p, z, noise)
            return {k: b.xp.mean(f[..., None] * s, axis=1) for k, s in e.family.score(b, p, z).items()}

    return Mine()


def problem(c: float) -> gradmeter.Problem:
    class Scaled(Integrand):
        def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
            return c * z[..., 0] ** 2

    @dataclass(frozen=True)
    class Mine(gradmeter.Problem):
        name, summary, differentiate = "own", "c z²", "closed-form"
        dimension = 1
        integrand = Scaled()

        def exact(self) -> gradmeter.Exact:
            return gradmeter.Exact({"loc": np.array([0.0]), "log_scale": np.array([2.0 * c])}, "closed-form")

    return Mine()


def shown(path: Path) -> str:
    with Store.read(path) as store:
        page = write(store, path.parent / "out")
    return page.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_two_objects_of_one_name_are_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Estimators and problems from a factory, over different closures: 2 × 2 cells, each by its own name."""
    path = tmp_path / "s.sqlite"
    rows = gradmeter.measure(
        [problem(1.0), problem(3.0)],
        [estimator(1.0), estimator(2.0), "score-function"],
        timing=False,
        max_replicates=2**10,
        store=path,
    )
    assert rows[rows["block"] == "all"]["content"].nunique() == 6
    twin = shown(path)
    lines = [line for line in twin.splitlines() if line.startswith("|") and "mine#" in line]
    names = sorted(set(re.findall(r"mine#[0-9a-f]{6}", "".join(lines))))
    problems = sorted(set(re.findall(r"own\\?#[0-9a-f]{6}", twin.replace("\\", ""))))
    assert (len(lines), len(names), len(problems)) == (4, 2, 2)
    assert "`score-function`" in twin
    assert "Objects of one name that compute different things are told apart" in twin
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in (*names, *problems))
    with Store.read(path) as store:
        assert len(by_identity(store)) == 6
        show_table(store.rows())
    printed = capsys.readouterr().out
    assert all(printed.count(name) == 2 for name in names)


def test_a_single_object_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    for bound in (0.5, 0.6):  # the second stands for the first
        gradmeter.measure("square", estimator(1.0), timing=False, max_replicates=2**10, bias_bound=bound, store=path)
    twin = shown(path)
    assert "mine#" not in twin
    assert "told apart" not in twin
    assert "1 older results" in twin


def test_digests_are_shown_as_far_as_they_differ(tmp_path: Path) -> None:
    """And names are as they were where a store was written before rows had them."""
    contents = ({"estimator": "abcdef0" + "0" * 57}, {"estimator": "abcdef1" + "0" * 57}, None)
    cells = [(stores.rows(f"{i}", estimator="mine", content=c), stores.series()) for i, c in enumerate(contents)]
    found = stores.results(stores.fill(tmp_path / "s.sqlite", cells))
    assert [r.estimator for r in found] == ["mine#abcdef0", "mine#abcdef1", "mine"]
    assert not any("#" in r.problem for r in found)
