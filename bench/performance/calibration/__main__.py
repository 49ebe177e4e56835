"""`python -m gradmeter.bench.performance.calibration aa | compare | report`; see the package's docstring."""

from __future__ import annotations

import argparse
from pathlib import Path

FOLDER = Path(".gradmeter") / "calibration"
PROCESSES, TIMINGS = 3, 5
IDENTICAL, PLANTED = 20, 8


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m gradmeter.bench.performance.calibration", description="measure the noise of timings"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, default=FOLDER, help="where measurements are kept")
    commands.add_parser("aa", parents=[common], help="A/A pairs")
    commands.add_parser("compare", parents=[common], help="identical and planted runs")
    report = commands.add_parser("report", parents=[common], help="write the results")
    report.add_argument("--output", type=Path, default=Path("results") / "calibration")
    one = commands.add_parser("run", parents=[common], help="one run of the suite, in this process")
    one.add_argument("kind", choices=("identical", "injected"))
    one.add_argument("number", type=int)
    one.add_argument("process", type=int)
    pairs = commands.add_parser("pairs", parents=[common], help="A/A pairs of one process, this one")
    pairs.add_argument("process", type=int)
    pairs.add_argument("--timings", type=int, default=TIMINGS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    from gradmeter.bench.performance.calibration import aa, runs

    if given.command == "aa":
        for process in range(PROCESSES):
            aa.measure_apart(given.folder, process, TIMINGS)
    elif given.command == "pairs":
        aa.measure(given.folder, given.process, given.timings)
    elif given.command == "compare":
        for kind, count in (("identical", IDENTICAL), ("injected", PLANTED)):
            for number in range(count):
                runs.measure_apart(given.folder, kind, number)
    elif given.command == "run":
        runs.measure(given.folder, given.kind, given.number, given.process)
    else:
        from gradmeter.bench.performance.calibration import report as reporting

        print(reporting.write(given.folder, given.output))


if __name__ == "__main__":
    main()
