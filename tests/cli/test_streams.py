"""The streams of a process: who reads them, whether they are a terminal, and what is imported to fill them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.running import CELL, command, environment

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX shells and terminals")
QUIETLY = "import sys; from gradmeter.bench.cli import main; status = main(sys.argv[1:]); sys.stdout.flush(); "
HEAVY = {"torch", "jax", "scipy", "pandas", "sklearn", "matplotlib", "seaborn", "pyarrow"}


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


@posix
@pytest.mark.parametrize(
    ("arguments", "redirection"),
    [
        (("list", "combinations", "--json"), "| head -1"),
        (("run", *CELL, "--json"), "| head -1"),
        (("run", *CELL, "--json"), "| true"),
        (("run", *CELL), ">&-"),
        (("run", *CELL, "--json"), ">&- 2>&-"),
        (("fit", "square", "--estimator", "pathwise", "--steps", "50", "--json"), "| head -1"),
        (("--help",), "| true"),
    ],
)
def test_a_reader_that_went_away_is_no_error(tmp_path: Path, arguments: tuple[str, ...], redirection: str) -> None:
    done = shell(f"{shlex.join(command(*arguments))} {redirection}", tmp_path)
    assert done.returncode == 0
    assert "Error" not in done.stderr
    assert "Exception" not in done.stderr


@posix
def test_messages_never_mix_with_rows(tmp_path: Path) -> None:
    done = shell(f"{shlex.join(command('run', *CELL, '--json'))} 2>&-", tmp_path)
    assert done.returncode == 0
    assert [line[:1] for line in done.stdout.splitlines()] == ["{"] * 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize(
    "arguments", [("list",), ("run", *CELL), ("run", *CELL, "--json"), ("fit", "square", "--steps", "9", "--json")]
)
def test_a_full_disk_behind_standard_output_is_status_three(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = shell(f"{shlex.join(command(*arguments))} > /dev/full", tmp_path)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("gradmeter: error: no room to write")


@posix
@pytest.mark.parametrize(
    ("arguments", "status", "redirection"),
    [
        *((("run", *CELL), 0, taken) for taken in ("2>&-", "2> /dev/full", "2> >(true)")),
        (("check", "no.py"), 2, "2>&-"),
        (("run", "--no"), 2, "2> /dev/full"),
    ],
)
def test_what_standard_error_takes_is_no_matter(
    tmp_path: Path, arguments: tuple[str, ...], status: int, redirection: str
) -> None:
    assert shell(f"{shlex.join(command(*arguments))} {redirection}", tmp_path).returncode == status


def test_any_locale_takes_any_text(tmp_path: Path) -> None:
    ascii_only = {**environment(), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command("list", "problems"), cwd=tmp_path, env=ascii_only, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert "Σ (z − k)²" in done.stdout.decode()


@posix
@pytest.mark.parametrize("columns", ["100", "1"])
def test_progress_on_a_terminal_leaves_rows_on_standard_output(tmp_path: Path, columns: str) -> None:
    status, rows, shown = _on_a_terminal(tmp_path, columns, "run", "--problem", "square[k=2]", *CELL, "--json")
    assert status == 0
    assert [row[:1] for row in rows] == ["{"] * 6
    assert "store: .gradmeter/store.sqlite" in shown
    assert "Traceback" not in shown
    if columns == "100":
        assert "measuring" in shown
        assert "square[k=2]" in shown


@posix
def test_progress_of_a_fit(tmp_path: Path) -> None:
    few = ("--estimator", "pathwise", "--steps", "300", "--replicates", "0", "--json")
    status, rows, shown = _on_a_terminal(tmp_path, "100", "fit", "cosine", *few)
    assert status == 0
    assert {row[:1] for row in rows} == {"{"}
    assert "fitting" in shown
    assert "pathwise" in shown
    assert shown.rstrip().endswith("fit: fit/index.html")


@posix
def test_rows_on_the_terminal_itself_are_one_line_each(tmp_path: Path) -> None:
    status, _, shown = _on_a_terminal(tmp_path, "80", "run", *CELL, "--json", together=True)
    assert status == 0
    assert [line[:1] for line in shown.splitlines()] == ["{"] * 3 + ["s"]


def _on_a_terminal(folder: Path, columns: str, *arguments: str, together: bool = False) -> tuple[int, list[str], str]:
    """Exit status, standard output's lines, and what a terminal shows of standard error (`together`: of both)."""
    import pty

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env={**environment(), "COLUMNS": columns},
        stdout=theirs if together else subprocess.PIPE,
        stderr=theirs,
        encoding="utf-8",
    ) as running:
        os.close(theirs)
        rows = running.stdout.read().splitlines() if running.stdout else []
        shown = b""
        while some := _read(ours):
            shown += some
    os.close(ours)
    return running.returncode, rows, shown.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("list",), ("run", "--in-process", "--problem", "sqare"), ("fit", "square", "--steps", "0")],
)
def test_what_measures_nothing_imports_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert not _imported(tmp_path, *arguments) & HEAVY


def test_a_numpy_cell_imports_no_framework_and_nothing_that_draws(tmp_path: Path) -> None:
    found = _imported(tmp_path, "run", *CELL)
    assert "numpy" in found
    assert not found & (HEAVY - {"scipy"})


def test_the_same_run_again_imports_no_framework(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    again = ("run", "--in-process", *CELL, "--backend", "numpy", "--backend", "jax", "--json")
    assert "jax" in _imported(tmp_path, *again)
    assert not _imported(tmp_path, *again) & HEAVY


def _imported(folder: Path, *arguments: str) -> set[str]:
    code = QUIETLY + "print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    return set(done.stderr.split())


@posix
@pytest.mark.parametrize(
    ("arguments", "delay"),
    [
        *((("run", *CELL), delay) for delay in (0.0, 0.05, 0.15, 0.4, 0.8)),
        *((("list", "combinations"), delay) for delay in (0.0, 0.4)),
        (("report", "--store", "none"), 0.15),
    ],
)
def test_ctrl_c_at_the_start_is_status_130_without_a_traceback(
    tmp_path: Path, arguments: tuple[str, ...], delay: float
) -> None:
    """At whatever it is then: an import, or the command; one that is done by then has its own status, and one that is
    ending is killed by the signal itself, which a shell shows as 130 too."""
    ready = "signal.signal(signal.SIGINT, m._stop); os.write(2, b'!')"
    code = f"import gradmeter.__main__ as m, os, signal; {ready}; m.script()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stderr is not None
        assert os.read(running.stderr.fileno(), 1) == b"!"
        time.sleep(0.01 + delay)
        running.send_signal(signal.SIGINT)
        shown = running.stderr.read().decode()
    assert "Traceback" not in shown
    assert running.returncode == 130 or (delay and running.returncode in (0, 2, -signal.SIGINT))


@posix
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("run --problem cos", {"cosine"}),
        ("run --estimator rloo", {"rloo", "rloo-kl"}),
        ("run --estimator pathw", {"pathwise"}),
        ("run qui", {"quick"}),
        ("fit gaussian-m", {"gaussian-mixture"}),
        ("rep", {"report"}),
    ],
)
def test_names_complete_in_a_shell(tmp_path: Path, words: str, expected: set[str]) -> None:
    asked = {"_GRADMETER_COMPLETE": "complete_bash", "COMP_WORDS": f"gradmeter {words}"}
    done = subprocess.run(
        [sys.executable, "-m", "gradmeter"],
        cwd=tmp_path,
        env={**environment(), **asked, "COMP_CWORD": str(len(words.split()))},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert set(done.stdout.split()) == expected
    assert done.stderr == ""
