"""A store's file: damage, older versions, what a kill left, the lock of all its names, and text that is inert."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.rows import from_json
from gradmeter.bench.sweep.store import Store, log, opening, schema
from gradmeter.estimators import UsageError
from tests.cli.running import CHEAP, Run, environment
from tests.report import stores
from tests.sweep import corruption

FROZEN = Path(__file__).parent / "frozen" / "version-1.sqlite.gz"
ABOUT = {"problem": "square", "estimator": "pathwise", "backend": "numpy", "num_samples": 1}


def filled(path: Path) -> Path:
    with Store.create(path) as store:
        store.finish_many((key, stores.rows(key), stores.series(own=i), ABOUT) for i, key in enumerate("abc"))
        store.put_series("timing 1", {"reference": np.ones(3)})
    return path


def frozen(path: Path) -> Path:
    """A store of two cells, with timing, that the program wrote before it had checksums (commit 318a392)."""
    path.write_bytes(gzip.decompress(FROZEN.read_bytes()))
    return path


def execute(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as refusal:
        corruption.contents(path)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


REMEDY = "; restore a copy of the file, or measure anew into another --store"
DAMAGE = [
    (
        "UPDATE rows SET row = replace(row, '\"variance\": 2.0', '\"variance\": 2.5') WHERE cell_key = 'b'",
        "cell b (square · pathwise · numpy · S=1) is damaged: its rows do not agree with their checksum",
    ),
    ("DELETE FROM rows WHERE cell_key = 'b' AND position = 1", "is damaged: of its 2 rows, 1 are left"),
    ("UPDATE series SET data = zeroblob(160) WHERE cell_key = 'b' AND name = 'seconds'", "its series do not agree"),
    ("INSERT INTO series VALUES ('b', 'more', zeroblob(8))", "it has more than its 4 series"),
    ("DELETE FROM series WHERE cell_key = 'timing 1'", "cell timing 1 is damaged: of its 1 series, 0 are left"),
    ("UPDATE cells SET finished = '2020' WHERE key = 'b'", "its entry does not agree with its checksum"),
    ("UPDATE cells SET finished = 'then' WHERE key = 'b'", "its entry does not agree with its checksum"),
    ("DELETE FROM cells WHERE key = 'b'", "is damaged: of 4 cells, 3 are left in its list"),
    ("UPDATE totals SET checksum = 1", "is damaged: some cells are older ones in its list"),
    ("DELETE FROM totals", "its table of totals is not as gradmeter wrote it"),
    ("UPDATE rows SET row = CAST(x'ff22' AS TEXT)", "cannot be read as a gradmeter store: Could not decode to UTF-8"),
    ("UPDATE cells SET key = x'00' WHERE key = 'b'", "is damaged"),
]


@pytest.mark.parametrize(("statement", "said"), DAMAGE, ids=[said[:40] for _, said in DAMAGE])
def test_what_is_not_as_it_was_written_is_told(tmp_path: Path, statement: str, said: str) -> None:
    path = filled(tmp_path / "s")
    execute(path, statement)
    message = refused(path)
    assert said in message
    assert message.startswith((f"store {path}", f"{path} cannot"))
    assert message.endswith(REMEDY) == ("decode" not in said)


def test_a_schema_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = filled(tmp_path / "s")
    execute(path, "PRAGMA writable_schema=1", "UPDATE sqlite_master SET sql = CAST(x'ff' AS TEXT) WHERE name = 'rows'")
    assert "\n" not in refused(path)


def test_a_writer_refuses_a_damaged_store(tmp_path: Path) -> None:
    path = filled(tmp_path / "s")
    execute(path, "DELETE FROM cells WHERE key = 'b'")
    before = path.read_bytes()
    with pytest.raises(UsageError, match="of 4 cells, 3 are left"):
        Store.create(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_random_corruptions_are_told_or_harmless() -> None:
    table, wrong = corruption.run(60, seed=3)
    assert wrong == []
    assert sum(table.values()) == 90
    assert sum(number for (what, _, outcome), number in table.items() if (what, outcome) == ("store", "told")) > 30


def test_memory_that_ends_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> None:
        raise MemoryError

    path = filled(tmp_path / "s")
    monkeypatch.setattr("gradmeter.bench.sweep.store.store.from_json", exhausted)
    assert refused(path) == f"store {path} cannot be read: not enough memory; give the process more"


def test_a_replaced_cell_keeps_nothing_of_its_earlier_rows(tmp_path: Path) -> None:
    path = filled(tmp_path / "s")
    with Store.create(path) as store:
        store.finish("a", stores.failed("a")[:1], {"seconds": np.ones(2)}, ABOUT)
        with pytest.raises(ValueError, match="Out of range"):
            store.finish_many(
                [("b", stores.failed("b"), {}, ABOUT), ("c", [{**stores.rows("c")[0], "bias": np.nan}], {}, ABOUT)]
            )
    with Store.read(path) as store:
        assert store.rows_of("a") == stores.failed("a")[:1]
        assert store.series("a")["seconds"].tolist() == [1.0, 1.0]
        assert store.series("a")["reference"].tolist() == stores.series(own=0)["reference"].tolist()
        assert store.rows_of("b") == stores.rows("b")
    with Store.create(path) as store:
        store.forget("a")
        store.forget("never known")
    with Store.read(path) as store:
        assert store.rows_of("a") == []
        assert store.series("a") == {}
        assert store.rows() == [*stores.rows("b"), *stores.rows("c")]


# Older versions


def test_a_store_of_version_1_is_read_and_upgraded_by_the_first_writer(tmp_path: Path) -> None:
    path = frozen(tmp_path / "s")
    with contextlib.closing(sqlite3.connect(path)) as db:
        texts = [text for (text,) in db.execute("SELECT row FROM rows JOIN cells ON key = cell_key ORDER BY finished")]
        series = {(key, name): data for key, name, data in db.execute("SELECT * FROM series")}
    before = path.read_bytes()
    rows, arrays, runs = corruption.contents(path)
    assert path.read_bytes() == before
    assert [row["estimator"] for row in rows] == ["pathwise"] * 3 + ["score-function"] * 3
    assert rows == [from_json(text) for text in texts]
    stored = {(key, name): np.array(values).tobytes() for key, each in arrays.items() for name, values in each.items()}
    stored |= {
        (key, n): np.array(v).tobytes() for key, _ in series if key.startswith("timing") for n, v in runs[0].items()
    }
    assert stored == series
    Store.create(path).close()
    assert corruption.contents(path) == (rows, arrays, runs)
    assert list(tmp_path.iterdir()) == [path]
    execute(path, "DELETE FROM series WHERE cell_key LIKE 'timing %'")
    assert "of its 7 series, 0 are left" in refused(path)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_kill_during_the_upgrade_leaves_the_older_store(tmp_path: Path) -> None:
    path = frozen(tmp_path / "s")
    known = corruption.contents(path)
    code = """
import os, signal
from pathlib import Path
from gradmeter.bench.sweep.store import Store, entries
entries.Totals.save = lambda self: os.kill(os.getpid(), signal.SIGKILL)
Store.create(Path("s"))
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment())
    assert killed.returncode == -signal.SIGKILL
    assert corruption.contents(path) == known
    Store.create(path).close()
    assert corruption.contents(path) == known
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA,)


# What a kill left


def left_by_a_kill(folder: Path, journal: str) -> Path:
    """A store, copied with what was beside it while it was written."""
    path = filled(folder.parent / "whole")

    def copy() -> None:
        folder.mkdir()
        for name in ("whole", f"whole-{journal}"):
            shutil.copy(path.with_name(name), folder / name)

    if journal == "wal":
        with Store.create(path) as store:
            store.finish("d", stores.rows("d"), {})
            copy()
        return folder / "whole"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA cache_size=1")  # so that the file changes before the end of the transaction
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE rows SET row = replace(row, 'square', 'cosine')")
        db.execute("UPDATE series SET data = zeroblob(9000)")
        copy()
        db.execute("ROLLBACK")
    return folder / "whole"


@pytest.mark.parametrize("journal", ["journal", "wal"])
def test_what_a_kill_left_beside_a_store_is_recovered(tmp_path: Path, journal: str) -> None:
    path = left_by_a_kill(tmp_path / "copy", journal)
    assert path.with_name(f"whole-{journal}").stat().st_size > 0
    alone = shutil.copy(path, tmp_path / "alone")  # which is not as it was written, or older
    if journal == "wal":
        assert corruption.contents(alone) != corruption.contents(tmp_path / "whole")
    else:
        refused(alone)
    assert corruption.contents(path) == corruption.contents(tmp_path / "whole")
    Store.create(path).close()
    assert list(path.parent.iterdir()) == [path]
    assert corruption.contents(path) == corruption.contents(tmp_path / "whole")


def test_a_journal_in_a_read_only_folder_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = left_by_a_kill(tmp_path / "copy", "journal")
    before = path.read_bytes()
    monkeypatch.setattr(opening.os, "access", lambda _, mode: mode != os.W_OK)
    assert f"left results in {path.name}-journal beside it, and its folder is read-only; copy both" in refused(path)
    assert path.read_bytes() == before


def test_a_report_sees_one_moment_while_another_process_writes(tmp_path: Path) -> None:
    """The writer finishes two cells in each transaction, and goes on while a reader is open."""
    path = filled(tmp_path / "s")
    code = """
import sys
from pathlib import Path
from gradmeter.bench.sweep.store import Store
from tests.report import stores
with Store.create(Path("s")) as store:
    for number in range(60):
        keys = f"new {number:02d} a", f"new {number:02d} b"
        then = f"2026-12-{number:02d}"
        store.finish_many((key, stores.rows(key, finished=then), stores.series(), {}) for key in keys)
        print(number, flush=True)
        if number == 20:
            sys.stdin.readline()
"""
    counts = []
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for _ in range(21):
            writer.stdout.readline()
            rows, series, _ = corruption.contents(path)
            counts.append(len(series))
            assert len(rows) == 2 * len(series)
        with Store.read(path) as store:
            before = store.rows()
            writer.stdin.write("\n")
            writer.stdin.flush()
            for _ in range(20):
                writer.stdout.readline()
            assert store.rows() == before
        with Store.read(path) as store:
            assert len(store.rows()) > len(before)
        writer.stdout.read()
    assert writer.returncode == 0
    assert counts == sorted(counts)
    assert all(count % 2 == 1 for count in counts)  # three, and two for each transaction
    assert len(corruption.contents(path)[1]) == 123


# The lock


@pytest.mark.skipif(sys.platform != "linux", reason="locks of open files")
def test_all_names_of_a_file_have_one_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    path = filled(tmp_path / "a" / "s")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").symlink_to(tmp_path / "a")
    os.link(path, tmp_path / "b" / "hard")
    os.link(path, tmp_path / "a" / "beside")
    monkeypatch.chdir(tmp_path / "b")
    names = [str(tmp_path / "link"), str(tmp_path / "folder" / "s"), "hard", "../a/beside", "../a/s", "../a/../a/s"]
    files = sorted(tmp_path.rglob("*"))
    code = """
import sys
from pathlib import Path
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import UsageError
for name in sys.argv[1:]:
    try:
        Store.create(Path(name)).close()
        print(name, "was opened")
    except UsageError as error:
        print(error)
"""
    with Store.create(path):
        for name in names:
            with pytest.raises(UsageError, match="in use by another run"):
                Store.create(Path(name))
        other = subprocess.run(
            [sys.executable, "-c", code, *names], env=environment(), capture_output=True, encoding="utf-8"
        )
        said = "store {} is in use by another run; wait for it, or give another --store"
        assert other.stdout.splitlines() == [said.format(name) for name in names]
    for name in names:
        Store.create(Path(name)).close()
    assert sorted(tmp_path.rglob("*")) == files


# Text


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-1")


def test_exported_text_is_no_formula_and_no_escape_code(run_cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "s"
    texts = (*FORMULAS, "'quoted'", "a\x1b[31m\x9b\u202eb", "\udc80", "-")
    rows = [stores.rows(str(i), reason=text, bias=-1.5)[0] for i, text in enumerate(texts)]
    stores.fill(path, [([row], {}) for row in rows])
    with Store.read(path) as store:
        assert store.rows() == sorted(rows, key=lambda row: row["cell_key"])
    import pandas as pd

    for format in ("csv", "parquet"):
        assert run_cli("export", "s", "--format", format, "--output", f"out.{format}").status == 0
    frame = pd.read_csv("out.csv", dtype={"cell_key": int}).sort_values("cell_key")
    assert frame["bias"].tolist() == [-1.5] * len(texts)
    shown = [text.replace("\t", " ").replace("\r", " ") for text in FORMULAS]
    safe = ["'quoted'", "a [31m  b", " "]
    assert frame["reason"].tolist() == [*(f"'{text}" for text in shown), *safe, "'-"]
    plain = pd.read_parquet("out.parquet").assign(cell_key=lambda f: f["cell_key"].astype(int)).sort_values("cell_key")
    assert plain["reason"].tolist() == [*shown, *safe, "-"]
    printed = run_cli("export", "s").out
    assert not any(code in printed for code in ("\x1b", "\x9b", "\u202e"))


def test_escape_codes_are_inert_in_tables_and_errors(run_cli: Run, tmp_path: Path) -> None:
    hostile = "evil\x1b]0;title\x07\u202e\x9b2J"
    stores.fill(tmp_path / "s", [(stores.rows("a", estimator=hostile), {}), (stores.failed("b", reason=hostile), {})])
    (tmp_path / "s.toml").write_text(f'"{json.dumps(hostile)[1:-1]}" = 1\n', encoding="utf-8")
    for arguments in (("compare", "s", "s"), ("run", "./s.toml"), ("run", hostile), ("export", hostile)):
        result = run_cli(*arguments)
        assert "evil" in result.out + result.err
        assert not any(code in result.out + result.err for code in ("\x1b", "\x07", "\u202e", "\x9b"))


def left_behind(folder: Path, cells: int = 6) -> tuple[Path, list[str]]:
    """A store as a killed run leaves it, with all its cells in the log beside it, and their keys."""
    keys = [f"{i}" for i in range(cells)]
    with Store.create(folder / "running") as store:
        for key in keys:
            store.finish(key, stores.rows(key), stores.series(), ABOUT)
        for suffix in ("", "-wal"):
            shutil.copy(folder / f"running{suffix}", folder / f"left{suffix}")
    return folder / "left", keys


def keys_of(path: Path) -> list[str]:
    with Store.read(path) as store:
        return list(dict.fromkeys(row["cell_key"] for row in store.rows()))


@pytest.mark.parametrize("place", [0.001, 0.2, 0.5, 0.8])
def test_a_changed_bit_in_what_a_killed_run_left_is_told(tmp_path: Path, place: float) -> None:
    path, _ = left_behind(tmp_path)
    file = log.of(path)
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 4
    file.write_bytes(data)
    for open_ in (Store.read, Store.create):
        with pytest.raises(UsageError, match=r"results in left-wal are not as they were written; restore") as caught:
            open_(path)
        assert "\n" not in str(caught.value)
    assert file.read_bytes() == data


def test_a_log_of_which_the_end_was_not_written_is_read_up_to_there(tmp_path: Path) -> None:
    path, keys = left_behind(tmp_path)
    data = log.of(path).read_bytes()
    found = []
    for part in range(20, 0, -1):
        log.of(path).write_bytes(data[: part * len(data) // 20])
        assert not log.lost(path)
        with contextlib.suppress(UsageError):  # before the tables were there
            found.append(keys_of(path))
        Path(f"{path}-shm").unlink(missing_ok=True)
    assert found[0] == keys
    assert all(some == keys[: len(some)] for some in found)
    assert len({len(some) for some in found}) > 3


def test_a_store_that_was_cut_to_nothing_is_told(tmp_path: Path, run_cli: Run) -> None:
    path, _ = left_behind(tmp_path)
    path.write_bytes(b"")
    for open_ in (Store.read, Store.create):
        with pytest.raises(UsageError, match=r"it is empty, and results that belong to it are in left-wal; restore"):
            open_(path)
    log.of(path).unlink()
    result = run_cli("run", "--problem", "square", "--estimator", "pathwise", *CHEAP, "--store", str(path))
    assert result.status == 0
    assert result.err.splitlines()[0] == f"gradmeter: {path} was an empty file, so a new store begins there"


def test_a_row_that_is_too_long_to_be_read_is_not_stored(tmp_path: Path) -> None:
    long = [{**row, "reason": "x" * 2**20} for row in stores.rows("long")]
    with Store.create(tmp_path / "s") as store:
        left_out = store.finish_many((key, rows, {}, ABOUT) for key, rows in (("long", long), ("a", stores.rows("a"))))
        assert list(left_out) == ["long"]
        assert "characters, more than 1,048,576" in left_out["long"]
        with pytest.raises(UsageError, match=r"a result cannot be stored in .*: its row has"):
            store.finish("long", long, {})
        store.add_timing([("a", long, {})])
    assert keys_of(tmp_path / "s") == ["a"]
