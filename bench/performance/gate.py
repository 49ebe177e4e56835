"""The benchmark gate: fail if a benchmark is slower or more variable than its baseline. `make benchmark-gate`.

    python -m gradmeter.bench.performance.gate [--baseline FILE] [--present FILE] [--threshold 1.25]

Compares two files of `--benchmark-json`, id by id: the time as a ratio to the workload timed beside it, never seconds,
and the variance, which a fixed seed reproduces. An id fails if its whole interval is worse than the difference of
identical code, and the ratio itself reaches the threshold. Without `--present` the benchmarks are run, and failing ones
a second time: an unlucky minute is unlikely to recur. New ids pass; `make benchmark-baseline` makes the baseline.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradmeter.bench.reading.ratios import Ratio

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "results" / "benchmarks" / "baseline.json"
THRESHOLD = 1.25
#: Identical code, timed in two processes, differs by up to this factor after division by the workload beside it.
SWING = 1.10
#: Threshold if the baseline comes from another machine: another processor changes the ratio of two kinds of work.
OTHER_MACHINE = 2.0

Run = dict[str, dict[str, Any]]


class Unreadable(Exception):
    """A file is missing, or was not written by pytest-benchmark."""


@dataclass(frozen=True)
class Change:
    """The change of one metric of an id in both runs: the ratio of the present run to the baseline."""

    name: str
    metric: str
    ratio: Ratio

    def fails(self, threshold: float) -> bool:
        return self.ratio.low > SWING and self.ratio.value >= threshold

    def __str__(self) -> str:
        r = self.ratio
        interval = "" if r.low == r.high else f" [{r.low:.2f}, {r.high:.2f}]"
        return f"{self.name}: {self.metric} is {r.value:.2f}{interval} times the baseline's"


def read(path: Path) -> tuple[Run, str]:
    """Return the `extra_info` of each benchmark that has a ratio, by full name; and the machine in words."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        run = {b["fullname"]: b["extra_info"] for b in document["benchmarks"] if "ratio" in b["extra_info"]}
        return run, str(document["machine_info"]["machine"])
    except FileNotFoundError:
        raise Unreadable(f"there is no {path}; make it: make benchmark-baseline") from None
    except (ValueError, KeyError, TypeError):
        raise Unreadable(f"{path} is not a file of pytest --benchmark-json; make it: make benchmark-baseline") from None


def changes(baseline: Run, present: Run) -> list[Change]:
    """Return the changes of the ids in both runs, worst first."""
    found = []
    for name in sorted(baseline.keys() & present.keys()):
        before, after = baseline[name], present[name]
        if before.get("ratio_to") == after.get("ratio_to"):
            value, low, high = before["ratio"]
            found.append(Change(name, "time", Ratio(*after["ratio"]) * Ratio(1 / value, 1 / high, 1 / low)))
        if before.get("variance") and after.get("variance"):
            ratio = after["variance"] / before["variance"]
            found.append(Change(name, "variance", Ratio(ratio, ratio, ratio)))
    return sorted(found, key=lambda change: -change.ratio.value)


def measure(names: Iterable[str] = ()) -> Run:
    """Run the benchmarks, or those named, and read their results."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "present.json"
        options = ["--benchmark-enable", "--benchmark-only", "-q", f"--benchmark-json={file}"]
        done = subprocess.run([sys.executable, "-m", "pytest", *(names or ["tests/benchmarks"]), *options], cwd=ROOT)
        if done.returncode:
            raise Unreadable("the benchmarks themselves failed; see above")
        return read(file)[0]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gradmeter.bench.performance.gate", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="what to compare with")
    parser.add_argument("--present", type=Path, help="a finished run; without it the benchmarks run now")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="the ratio that fails (1.25)")
    given = parser.parse_args(arguments)
    try:
        baseline, machine = read(given.baseline)
        present, here = read(given.present) if given.present else (measure(), _machine())
        threshold = given.threshold
        if here != machine:
            threshold = max(threshold, OTHER_MACHINE)
            print(f"The baseline is of another machine ({machine}): only ratios of {threshold:g} and more fail.")
        found = changes(baseline, present)
        failed = [change for change in found if change.fails(threshold)]
        if failed and not given.present:
            print(f"{len(failed)} to be timed again")
            present |= measure(sorted({change.name for change in failed}))
            found = changes(baseline, present)
            failed = [change for change in found if change.fails(threshold)]
    except Unreadable as error:
        print(f"gate: error: {error}", file=sys.stderr)
        return 2
    common = len(baseline.keys() & present.keys())
    print(f"{common} benchmarks compared with {given.baseline.name}, threshold {threshold:g}")
    other = [n for n in baseline.keys() & present.keys() if baseline[n].get("ratio_to") != present[n].get("ratio_to")]
    if other:
        print(f"{len(other)} not compared in time: the baseline was timed beside other work; make benchmark-baseline")
    for words, names in (("new", present.keys() - baseline.keys()), ("not run", baseline.keys() - present.keys())):
        if names:
            print(f"{len(names)} {words}: {', '.join(sorted(names))}")
    if found and not failed:
        print(f"none fails; the most changed: {found[0]}")
    for change in failed:
        print(f"FAILED {change}")
    return 1 if failed else 0


def _machine() -> str:
    from gradmeter.bench.sweep import environment

    return environment.machine()


if __name__ == "__main__":
    sys.exit(main())
