"""`python -m gradmeter.bench.papers`: run the suites of papers, judge their claims, and write one page of all."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gradmeter.bench.cells import Cell
from gradmeter.bench.fit import claimed
from gradmeter.bench.reading.judging import CONTRADICTED, NOT_MEASURED, REPRODUCED
from gradmeter.bench.report import papers as composing
from gradmeter.bench.report import papers_page
from gradmeter.bench.report.papers import Paper
from gradmeter.bench.sweep import choosing, suites
from gradmeter.bench.sweep.listener import Listener
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store
from gradmeter.bench.terminal import Interrupts, progress
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import unknown


def main() -> int:
    known = [name.removeprefix(f"{suites.PAPERS}/") for name in suites.papers()]
    parser = argparse.ArgumentParser(prog="python -m gradmeter.bench.papers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(known)} (default: all)")
    parser.add_argument("--store", type=Path, default=Path(".gradmeter/papers.sqlite"), help="where results are kept")
    parser.add_argument("--output", type=Path, default=Path("report/papers"), help="folder of the page")
    parser.add_argument("--workers", metavar="N", help="processes that measure at the same time")
    given = parser.parse_args()
    try:
        for name in given.names:
            if name not in known:
                raise unknown("paper", name, known)
        found = [suites.load(f"{suites.PAPERS}/{name}") for name in given.names or known]
        cells = list(dict.fromkeys(cell for suite in found for cell in suite.cells))
        composed = _measured(cells, found, given.store, given.workers, given.output)
    except UsageError as error:
        print(f"papers: error: {error}", file=sys.stderr)
        return 2
    if composed is None:
        print("papers: interrupted; finished rows are kept, the same command goes on from there", file=sys.stderr)
        return 130
    print(composing.summary(composed))
    print(given.output / "papers.html")
    open_ = unsettled(composed)
    for line in open_:
        print(f"papers: {line}", file=sys.stderr)
    return 1 if open_ else 0


def _measured(
    cells: list[Cell], found: list[suites.Suite], path: Path, workers: str | None, output: Path
) -> list[Paper] | None:
    """Return the papers with their claims judged; None where the run was interrupted. Nothing is timed."""
    executor = choosing.executor(workers=workers, cells=len(cells))
    with Store.create(path) as store, Interrupts().heard() as interrupted, executor:
        with progress(cells, Listener(), False) as listener:
            rows = run(cells, store, False, listener, interrupted, executor)
        return None if interrupted() else papers_page.write(store, rows, found, output, claimed.evidence)


def unsettled(composed: list[Paper]) -> list[str]:
    """Return the claims that are undecided, or contradicted without an explanation."""
    return [
        f"{paper.suite}: {judged.status}: {judged.claim.says}"
        for paper in composed
        for judged in paper.judged
        if judged.status not in (REPRODUCED, NOT_MEASURED)
        if not (judged.status == CONTRADICTED and judged.claim.explained)
    ]


if __name__ == "__main__":
    sys.exit(main())
