"""What becomes of cells: failures are rows, what changed is measured again, what is known is not."""

from __future__ import annotations

import importlib.util
import io
import shutil
import tokenize
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import gradmeter
from gradmeter.bench import cells as cells_module
from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.problems.test_functions import Square, SquareIntegrand
from gradmeter.bench.rows import to_json
from gradmeter.bench.sources import FOLDERS, source_hash, without_prose
from gradmeter.bench.sweep.executors import InThisProcess
from gradmeter.bench.sweep.listener import Listener, Stop
from gradmeter.bench.sweep.measuring import Outcome
from gradmeter.bench.sweep.run import run, sweep
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import Integrand
from tests.cli.running import measured

ONCE = StoppingCriteria(max_replicates=2**12)


class Raising(SquareIntegrand):
    def derivative(self, xp: Any, data: Any, z: Any) -> Any:
        raise ValueError("two\nlines")


class Overflowing(SquareIntegrand):
    def derivative(self, xp: Any, data: Any, z: Any) -> Any:
        return xp.where(z > 3.0, xp.inf, 2.0 * (z - data["k"]))


class Greedy(SquareIntegrand):
    def derivative(self, xp: Any, data: Any, z: Any) -> Any:
        return np.ones(2**55)


class GreedyOnADevice(SquareIntegrand):
    def derivative(self, xp: Any, data: Any, z: Any) -> Any:
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")


def own(made_of: Integrand) -> Square:
    @dataclass(frozen=True)
    class Own(Square):
        integrand: ClassVar[Integrand] = made_of

    return Own()


def cell(problem: str | Square = "square", estimator: str = "pathwise", **changes: Any) -> Cell:
    given = make_problem(problem) if isinstance(problem, str) else problem
    return Cell(given, make_estimator(estimator), **{"goals": ONCE, **changes})


@pytest.mark.parametrize(
    ("integrand", "status", "reason"),
    [
        (Raising(), "exception", "ValueError: two lines"),
        (Overflowing(), "nonfinite", "estimate of loc is not finite"),
        (Greedy(), "out-of-memory", "Unable to allocate"),
        (GreedyOnADevice(), "out-of-memory", "RESOURCE_EXHAUSTED"),
    ],
)
def test_a_failure_is_a_row_and_the_others_finish(integrand: Integrand, status: str, reason: str) -> None:
    frame = gradmeter.measure([own(integrand), "square"], "pathwise", max_replicates=2**12, timing=True)
    assert frame["status"].tolist() == [status] * 3 + ["ok"] * 3
    assert frame["block"].tolist() == ["loc", "log_scale", "all"] * 2
    assert all(frame["reason"][:3].str.contains(reason))
    assert frame["variance"][:3].isna().all()
    assert frame["seconds"][:3].isna().all()
    assert (frame["seconds"][3:] > 0).all()


def test_a_cell_that_could_not_run_gets_another_try_once_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [cell(backend="jax"), cell()]
    if infeasible(wanted[0]):
        pytest.skip("needs JAX to come back")
    find: Any = importlib.util.find_spec
    with Store.create(tmp_path / "s") as store:
        with monkeypatch.context() as without:
            without.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "jax" else find(name, *a))
            before = run(wanted, store, timing=False)
            assert [r["status"] for r in before] == ["n/a"] * 3 + ["ok"] * 3
            assert run(wanted, store, timing=False) == before
        after = run(wanted, store, timing=False)
        assert [r["status"] for r in after] == ["ok"] * 6
        assert after[3:] == before[3:]
        assert store.rows() != before
        with monkeypatch.context() as without:  # gone again: what is known stays, and cannot be timed
            without.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "jax" else find(name, *a))
            timed = run(wanted, store, timing=True)
        assert [r["status"] for r in timed] == ["ok"] * 6
        assert [r["seconds"] is None for r in timed] == [True] * 3 + [False] * 3


def test_the_key_is_of_everything_that_a_number_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    different = [
        cell(),
        cell("square[k=2]"),
        cell("square[differentiate=autodiff]"),
        cell("cosine"),
        cell(estimator="pathwise[antithetic=true]"),
        cell(estimator="score-function"),
        cell(backend="jax"),
        cell(device="cuda"),
        cell(dtype="float32"),
        cell(num_samples=2),
        cell(seed=1),
        cell(noise="shared"),
        cell(goals=StoppingCriteria(max_replicates=2**13)),
        cell(goals=StoppingCriteria(max_replicates=2**12, precision=0.1)),
        cell(goals=StoppingCriteria(max_replicates=2**12, bias_bound=0.1)),
        cell(own(SquareIntegrand())),
    ]
    keys = [c.key for c in different]
    assert len(set(keys)) == len(keys)
    assert cell("square[k=1.0,loc=0]").key == cell().key
    monkeypatch.setattr(cells_module, "source_hash", lambda: "changed")
    assert not {cell().key, cell("cosine").key} & set(keys)


def test_the_key_sees_a_changed_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(gradmeter.__file__).parents[1]
    for package in ("estimators", "bench"):
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    class Spec:
        def __init__(self, package: str) -> None:
            self.origin = str(tmp_path / package.removeprefix("gradmeter.") / "__init__.py")

    monkeypatch.setattr(importlib.util, "find_spec", Spec)
    compute = source_hash.__wrapped__
    assert compute() == source_hash()
    for name, seen in (("bench/measurement/moments.py", True), ("estimators/noise.py", True), ("bench/cli.py", False)):
        path = tmp_path / name
        text = path.read_text(encoding="utf-8")
        for addition, changes in (("CHANGED = 1\n", True), ("# a comment\n", False), ('"""A docstring."""\n', False)):
            path.write_text(text + addition, encoding="utf-8")
            assert (compute() != source_hash()) == (seen and changes), (name, addition)
        path.write_text(text, encoding="utf-8")


def _tokens(source: str) -> list[str]:
    """Names, numbers, operators and strings, without the strings that are statements of their own."""
    aside = {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    found = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in aside]
    ends = [tokenize.NEWLINE, *(t.type for t in found)]
    alone = [
        t.type == tokenize.STRING and before == tokenize.NEWLINE and after.type == tokenize.NEWLINE
        for t, before, after in zip(found, ends, [*found[1:], *found[-1:]], strict=False)
    ]
    return [t.string for t, prose in zip(found, alone, strict=True) if not prose and t.type != tokenize.NEWLINE]


def test_prose_alone_is_left_out_of_what_is_hashed() -> None:
    root = Path(gradmeter.__file__).parents[1]
    folders = [root / package / folder for package, some in FOLDERS.items() for folder in some]
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        assert _tokens(without_prose(source)) == _tokens(source), path


def test_a_stop_keeps_what_is_finished_and_resuming_completes_it(tmp_path: Path) -> None:
    wanted = [cell(seed=seed) for seed in range(4)]
    whole = run(wanted, timing=False)
    with Store.create(tmp_path / "s") as store:
        asked: list[None] = []

        def after_two() -> bool:
            asked.append(None)
            return len(asked) > 2

        some = run(wanted, store, timing=True, stop=Asked(after_two))
        assert measured(some) == measured(whole[:6])
        assert store.rows() == some
        resumed = run(wanted, store, timing=False)
    assert resumed[:6] == some
    assert measured(resumed) == measured(whole)


class Asked(Stop):
    """Asked to stop, as by Ctrl-C, once something is true; an interrupt comes at the next round of timing."""

    def __init__(self, when: Callable[[], bool]) -> None:
        self.when = when

    def __call__(self) -> bool:
        return self.when()


def test_a_stop_between_timing_rounds_leaves_the_statistics() -> None:
    class Watching(Listener):
        rounds = 0

        def timing_round(self, number: int) -> None:
            self.rounds = number
            if number == 2:
                raise KeyboardInterrupt

    watching = Watching()
    rows = run([cell()], listener=watching, stop=Asked(lambda: watching.rounds >= 2))
    assert watching.rounds == 2
    assert [(row["status"], row["seconds"]) for row in rows] == [("ok", None)] * 3


def test_an_interrupt_within_a_cell_leaves_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with Store.create(tmp_path / "s") as store:
        with monkeypatch.context() as patch:
            patch.setattr("gradmeter.bench.sweep.executors.measure_cell", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run([cell()], store, timing=False)
        assert store.rows() == []
        assert run([cell()], store, timing=False)[0]["status"] == "ok"


def test_rows_come_back_byte_for_byte(tmp_path: Path) -> None:
    wanted = [cell(), cell("square[k=1e200]"), cell(estimator="pathwise[sticking-the-landing=true]")]
    with Store.create(tmp_path / "s") as store:
        first = [to_json(row) for row in run(wanted, store)]
    with Store.create(tmp_path / "s") as store:
        assert [to_json(row) for row in run(wanted, store)] == first


class Held(list[Any]):
    """Rows that can be referred to weakly."""


class Replaying(InThisProcess):
    """Ends each cell at once, with rows that were measured before, and refers to them weakly."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows, self.made = rows, list[weakref.ref[Held]]()

    def measure(self, cells: Iterable[Cell], listener: Listener, stop: Stop) -> Iterator[Any]:
        for each in cells:
            rows = Held({**row, "cell_key": each.key, "seed": each.seed} for row in self.rows)
            self.made.append(weakref.ref(rows))
            yield each, Outcome(rows)
            del rows


def test_rows_that_are_in_the_store_are_not_in_memory(tmp_path: Path) -> None:
    cells = [cell(seed=seed) for seed in range(300)]
    replaying = Replaying(run(cells[:1], timing=False))
    with Store.create(tmp_path / "s") as store:
        found = sweep(cells, store, timing=False, executor=replaying)
        assert len(replaying.made) == 300
        assert sum(rows() is not None for rows in replaying.made) <= 1
        assert [row["seed"] for row in found][::3] == list(range(300))
        assert [row["seed"] for row in found][::3] == list(range(300))  # and once more
        assert found.status == dict.fromkeys((each.key for each in cells), "ok")


def test_a_cell_whose_row_is_too_long_is_not_stored_and_says_so(tmp_path: Path) -> None:
    (row, *_) = run([cell()], timing=False)
    with Store.create(tmp_path / "s") as store:
        (found,) = run([cell()], store, timing=False, executor=Replaying([{**row, "machine": "x" * 2**20}]))
        assert found["reason"].startswith("not stored: its row has 1,0")
        assert store.empty
