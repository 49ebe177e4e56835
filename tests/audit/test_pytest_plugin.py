"""The pytest plugin in sessions of its own, whose audits cost nothing: the gradient is a constant plus its noise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gradmeter.bench.sweep.store import Store

ROOT = Path(__file__).resolve().parents[2]
#: Four audits: two by the fixture's assertions, one by `audit`, and one that finds a bias.
TESTS = """
import pytest

OPTIONS = {"exact": 1.0, "replicates": 2**9, "seconds": 60.0}

def right(rng):
    return 1.0 + 1e-3 * rng.standard_normal()

def wrong(rng):
    return 2.0 + 1e-3 * rng.standard_normal()

@pytest.mark.parametrize("number", range(2))
def test_right(gradmeter, number):
    gradmeter.assert_unbiased(right, name=f"right-{number}", **OPTIONS)

def test_audited(gradmeter):
    assert gradmeter.audit(right, name="audited", **OPTIONS).verdict == "unbiased"

def test_wrong(gradmeter):
    with pytest.raises(AssertionError, match="is not certified"):
        gradmeter.assert_unbiased(wrong, name="wrong", **OPTIONS)
"""


def session(folder: Path, *options: str) -> str:
    """Run the tests in a process of their own, and return the report's section of the plugin."""
    (folder / "test_gradients.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *options]
    plugin = [] if _installed() else ["-p", "gradmeter.bench.audit.pytest_plugin"]
    done = subprocess.run([*command, *plugin, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _installed() -> bool:
    from importlib import metadata

    return any(each.name == "gradmeter" for each in metadata.entry_points(group="pytest11"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "2", "--dist", "load")], ids=["one process", "two workers"])
def test_all_audits_of_a_session_are_in_one_report(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """The budget is that of the session, whose four audits have a rate of 4e-7 together."""
    store = tmp_path / "audits.sqlite"
    said = session(tmp_path, "--gradmeter-budget", "3e-7", "--gradmeter-store", str(store), *workers)
    names = re.findall(r"^test_gradients\.py::\S+: (\S+): ", said, flags=re.MULTILINE)
    assert sorted(names) == ["audited", "right-0", "right-1", "wrong"]
    assert len(re.findall("● unbiased", said)) == 3
    assert "✗ biased by 100 %" in said
    assert "4 audits; the probability of a false alarm is 4e-07, above the budget of 3e-07" in said
    with Store.read(store) as opened:
        assert sorted({row["estimator"] for row in opened.rows()}) == sorted(names)


@pytest.mark.slow
def test_a_session_within_its_budget_does_not_speak_of_it(tmp_path: Path) -> None:
    assert "the probability of a false alarm is 4e-07\n" in session(tmp_path)
