"""The table of what each estimator estimates, from a store that is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradmeter.bench.cells import make_problem
from gradmeter.bench.problems.policy import Policy
from gradmeter.bench.report import directions, write
from gradmeter.bench.report.ranking import rank
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store
from tests.report import stores
from tests.support import make_cell

PROBLEM = "policy[prompts=1,max-tokens=2]"
WORDS = {
    "score-function": "The gradient.",
    "policy-gradient[baseline=group-mean,kl=k1-reward]": (
        "0.5 times the gradient, which a learning rate 2 times as large undoes: the group mean takes off 1/S of the "
        "gradient of the rewards."
    ),
    "policy-gradient[kl=k3-loss]": "along it: the KL term is KL(π_ref ‖ π).",
    "policy-gradient[kl=k1-loss]": "along it: the gradient of the KL term has mean 0.",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = [make_cell(PROBLEM, name, 2, max_replicates=2**14) for name in WORDS]
    cells += [make_cell("three-bernoullis", "score-function", 2, max_replicates=2**14)]
    found = tmp_path_factory.mktemp("directions") / "s.sqlite"
    with Store.create(found) as store:
        run(cells, store, timing=False)
    return found


def test_every_estimator_is_told_by_bias_cosine_scale_and_what_it_follows(path: Path) -> None:
    results = [r for r in stores.results(path) if r["problem"] == "policy"]
    headings, lines = directions.table(rank(results)[0])
    assert headings[-3:] == ["variance × tokens", "seconds", "in words"]
    by_name = {line[0]: dict(zip(headings, line, strict=True)) for line in lines}
    assert next(iter(by_name)) == "score-function"  # the unbiased ones first
    for name, words in WORDS.items():
        assert by_name[name]["in words"].endswith(words)
    scaled = by_name["policy-gradient[baseline=group-mean,kl=k1-reward]"]
    assert (scaled["bias"], scaled["cosine"], scaled["scale"]) == ("✗ biased by 50 %", "1.0000", "0.5000")


def test_tokens_are_those_that_an_estimate_draws(path: Path) -> None:
    problem = make_problem(PROBLEM)
    assert isinstance(problem, Policy)
    (result,) = [r for r in stores.results(path) if r.estimator == "score-function" and r["problem"] == "policy"]
    first = np.exp(problem.parameters()["table"][0, 0])
    end = first[0] / first.sum()
    assert directions.tokens_of(result) == pytest.approx(2.0 * (2.0 - end), rel=1e-12)  # one token, or two


def test_nothing_is_shown_where_nothing_is_biased(path: Path) -> None:
    results = [r for r in stores.results(path) if r["problem"] != "policy"]
    assert directions.table(rank(results)[0]) == ([], [])
    assert results[0]["scale_factor"] is not None


@pytest.mark.slow
def test_pages_have_the_table(path: Path, tmp_path: Path) -> None:
    with Store.read(path) as store:
        page = write(store, tmp_path / "out")
    assert page.read_text(encoding="utf-8").count(f">{directions.TITLE}</h") == 1
    assert page.with_suffix(".md").read_text(encoding="utf-8").count(f"{directions.TITLE}:") == 1
