"""The store: loses nothing, refuses what it did not write, leaves nothing behind, executes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.rows import Row, row
from gradmeter.bench.sweep.store import DiskFull, Store
from gradmeter.estimators import UsageError
from tests.cli.running import CELL, Run, environment
from tests.sweep.forging import forge

SERIES = {"squared_norm:loc": np.arange(64.0)}


def a_row(**changes: Any) -> Row:
    least: dict[str, Any] = {
        "problem": "square",
        "problem_options": {"k": 1.0},
        "estimator": "pathwise",
        "estimator_options": {},
        "backend": "numpy",
        "num_samples": 1,
        "block": "all",
        "status": "ok",
        "variance": 0.1 + 0.2,
        "finished": "2026-01-01",
    }
    return row(**{**least, **changes})


def filled(path: Path, keys: str = "ab") -> Path:
    with Store.create(path) as store:
        for key in keys:
            store.finish(key, [a_row(cell_key=key)], SERIES)
    return path


def execute(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def test_what_was_stored_is_read_back_and_a_store_at_rest_is_one_file(tmp_path: Path) -> None:
    path = filled(tmp_path / "a" / "b" / "s.sqlite")
    with Store.read(path) as store:
        assert store.rows() == [a_row(cell_key="a"), a_row(cell_key="b")]
        assert store.rows(["b", "a", "missing"])[0]["cell_key"] == "b"
        assert store.series("a")["squared_norm:loc"].tolist() == SERIES["squared_norm:loc"].tolist()
    assert list(path.parent.iterdir()) == [path]


def test_rows_can_be_read_while_a_run_writes(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store.create(path) as store:
        for count in range(3):
            with Store.read(path) as reader:
                assert len(reader.rows()) == count
            store.finish(str(count), [a_row()], {})
    assert list(tmp_path.iterdir()) == [path]


def test_a_cell_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.sqlite", "a")
    with Store.create(path) as store:
        with pytest.raises(ValueError, match="Out of range"):
            store.finish("b", [a_row(), {**a_row(), "variance": float("nan")}], {})
        store.finish("c", [a_row(cell_key="c")], {})  # the refused one left no transaction open
        assert [r["cell_key"] for r in store.rows(["a", "b", "c"])] == ["a", "c"]


def not_stores(folder: Path) -> Iterator[tuple[Path, str]]:
    text = folder / "text"
    text.write_text("not a database, and long enough to be read as one " * 50)
    yield text, "not a database"
    broken = filled(folder / "broken")
    with broken.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(8192))
    yield broken, "malformed"
    other = folder / "other"
    execute(other, "CREATE TABLE visits (url)", "PRAGMA user_version=1")
    yield other, "a database of something else"
    plain = folder / "plain"
    execute(plain, "CREATE TABLE rows (x)")
    yield plain, "a database of something else"
    trigger = filled(folder / "trigger")
    execute(trigger, "CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM cells; END")
    yield trigger, "a database of something else"
    newer = filled(folder / "newer")
    execute(newer, "PRAGMA user_version=3")
    yield newer, "was written by a newer gradmeter (schema 3, this one reads 2); upgrade gradmeter"


@pytest.mark.parametrize("index", range(6))
def test_what_is_no_store_is_refused_and_untouched(run_cli: Run, tmp_path: Path, index: int) -> None:
    path, fragment = list(not_stores(tmp_path))[index]
    before, files = path.read_bytes(), sorted(tmp_path.iterdir())
    for arguments in (("run", *CELL, "--store", str(path)), ("export", str(path))):
        result = run_cli(*arguments)
        assert result.status == 2
        assert result.err.startswith("gradmeter: error: ")
        assert result.err.count("\n") == 1
        if path.name != "broken" or arguments[0] == "export":
            assert fragment in result.err
    assert path.read_bytes() == before or path.name == "broken"
    assert sorted(tmp_path.iterdir()) == files


MALFORMED = [
    ("no JSON", "Expecting value"),
    ("[]", "no JSON object"),
    ("[" * 100_000, "nested too deeply"),
    (json.dumps({**a_row(), "variance": "large"}), "variance is no number"),
    (json.dumps({**a_row(), "variance": float("nan")}), "variance is no number"),
    (json.dumps({**a_row(), "variance": 1}).replace('"variance": 1', '"variance": 1e999'), "variance is no number"),
    (json.dumps({**a_row(), "num_samples": 2**63}), "num_samples is no integer"),
    (json.dumps({**a_row(), "num_samples": True}), "num_samples is no integer"),
    (json.dumps({**a_row(), "status": None}), "status is no string"),
    (json.dumps({**a_row(), "problem_options": []}), "problem_options is no json"),
    (json.dumps({**a_row(), "reason": "x" * 2**21}), "a huge one"),
    (json.dumps({**a_row(), "seed": 7}).replace('"seed": 7', f'"seed": {"9" * 5000}'), "a number of 5,000 digits"),
]


@pytest.mark.parametrize(("text", "fragment"), MALFORMED, ids=[fragment for _, fragment in MALFORMED])
def test_a_malformed_row_is_one_line(run_cli: Run, tmp_path: Path, text: str, fragment: str) -> None:
    path = filled(tmp_path / "s", "a")
    forge(path, "a", rows=[text])
    result = run_cli("export", str(path))
    assert result.status == 2
    assert result.err.startswith(f"gradmeter: error: store {path} holds what gradmeter did not write: ")
    assert result.err.count("\n") == 1
    assert fragment in result.err


def test_unknown_columns_of_a_row_are_left_out_and_a_pickle_is_bytes(tmp_path: Path) -> None:
    path = filled(tmp_path / "s", "a")
    pickled = b"cos\nsystem\n(S'exit 1'\ntR."
    forge(path, "a", [json.dumps({**a_row(), "__class__": "os.system"})], {"squared_norm:loc": pickled})
    with Store.read(path) as store:
        assert store.rows() == [a_row()]
        assert store.series("a") == {}  # not whole float64 numbers


def test_nothing_unpickles() -> None:
    """But a worker process, what the process that started it has sent."""
    for package in ("bench", "estimators"):
        for path in (Path(gradmeter.__file__).parents[1] / package).rglob("*.py"):
            if path.parts[-3:] in (("bench", "sweep", "worker.py"), ("bench", "sweep", "processes.py")):
                continue
            text = path.read_text(encoding="utf-8").replace("allow_pickle=False", "")
            assert not any(word in text for word in ("pickle", "joblib", "marshal", "shelve")), path


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("killed", [False, True])
def test_a_store_in_a_read_only_folder_is_read_and_not_written(open_to_all: Path, killed: bool) -> None:
    """`killed`: copied away while a run had it open, with rows only in the log beside it."""
    made, folder = open_to_all / "made" / "s.sqlite", open_to_all / "read-only"
    with Store.create(made) as store:
        store.finish("a", [a_row(cell_key="a")], {})
        if killed:
            shutil.copytree(made.parent, folder, ignore=shutil.ignore_patterns("*.lock", "*-shm"))
    if not killed:
        shutil.copytree(made.parent, folder)
    folder.chmod(0o555)
    path = str(folder / "s.sqlite")
    exported = _unprivileged(filled(open_to_all / "warm"), "export", path)
    assert exported.stderr.count("\n") == int(killed)
    if killed:
        assert exported.returncode == 2
        assert f"{path} cannot be read" in exported.stderr
    else:
        assert exported.returncode == 0
        assert exported.stdout.count("\n") == 2
    run = _unprivileged(open_to_all / "warm", "run", "--in-process", *CELL, "--store", path)
    assert run.returncode == 2
    assert f"store {path} cannot be written: " in run.stderr
    folder.chmod(0o755)


def _unprivileged(store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`gradmeter` as a user whom permissions bind, who may not be able to read this Python: imports come first."""
    code = """
import os, sys
from gradmeter.bench.cli import main
from gradmeter.estimators.backends import get
get("numpy")
main(["export", sys.argv[1], "--output", os.devnull])
if os.geteuid() == 0:
    os.setuid(65534)
sys.exit(main(sys.argv[2:]))
"""
    return subprocess.run(
        [sys.executable, "-c", code, str(store), *arguments],
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def test_a_full_disk_is_status_three_and_loses_nothing(
    run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Store.create

    def small(path: Path) -> Store:
        store = create(path)
        store._db.execute("PRAGMA max_page_count = 12")
        return store

    monkeypatch.setattr(Store, "create", small)
    run = ("run", *CELL, *(f"--seed={seed}" for seed in range(9)), "--json")
    stopped = run_cli(*run)
    assert stopped.status == 3
    assert stopped.err.startswith("gradmeter: error: ")
    assert stopped.err.count("\n") == 1
    assert "the disk of .gradmeter/store.sqlite is full; what was stored before is kept" in stopped.err
    assert 0 < len(stopped.rows) < 27
    with Store.read(tmp_path / ".gradmeter" / "store.sqlite") as store:
        assert store.rows() == stopped.rows
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    resumed = run_cli(*run)
    assert resumed.status == 0
    assert resumed.out.startswith(stopped.out)


def test_a_disk_too_full_to_begin_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, *_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("sqlite3.connect", Full)
    with pytest.raises(DiskFull):
        Store.create(tmp_path / "a" / "b" / "s.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store.create(path), pytest.raises(UsageError, match="in use by another run"):
        Store.create(path)
    Store.create(path).close()
