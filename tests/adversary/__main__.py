"""Run the adversary suite: `python -m tests.adversary [--only faults,wrong,...]`; exit status 1 if a rule fails."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from tests.adversary import autodiff, correct, dependent, wrong, wrong_discrete
from tests.adversary.cases import Case
from tests.adversary.judging import DEFAULT_CAP, HEADER, Result, judge, summary, timed

PARTS = ("faults", "wrong", "correct", "laws", "controls", "vector", "null")


def chosen(kind: str, backends: list[str]) -> Iterator[Case]:
    """Yield the wrong or the correct cases of these backends."""
    if "numpy" in backends:
        for case in [*wrong.cases(), *wrong_discrete.cases(), *dependent.cases(), *correct.cases()]:
            if case.kind == kind:
                yield case
    for backend in backends:
        if backend != "numpy":
            yield from (case for case in autodiff.cases(backend) if case.kind == kind)


def results(part: str, options: argparse.Namespace) -> Iterator[Result]:
    """Yield the results of one part."""
    if part in ("wrong", "correct"):
        for case in list(chosen(part, options.backend))[: options.limit]:
            yield judge(case, options.max_replicates, options.seed)
    elif part == "faults":
        from tests.adversary import faults

        yield from faults.run(options.limit)
    elif part == "laws":
        from tests.adversary import laws

        yield from laws.run(options.runs or 300, options.limit)
    elif part == "controls":
        from tests.adversary import controls

        yield from controls.run(options.max_replicates, options.limit, options.backend)
    elif part == "vector":
        from tests.adversary import vector

        yield from vector.run(options.runs or 2000, options.limit)
    else:
        from tests.adversary import null

        yield from null.run(options.verdicts, options.backend, options.seed, options.limit)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.adversary", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to run, of {', '.join(PARTS)}")
    parser.add_argument("--backend", default="numpy,torch,jax", help="backends, separated by commas")
    parser.add_argument("--limit", type=int, default=None, help="at most this many cases of each part")
    parser.add_argument("--max-replicates", type=int, default=DEFAULT_CAP, help="cap of wrong, correct and controls")
    parser.add_argument("--runs", type=int, default=None, help="runs of each law (300) and each vector (2000)")
    parser.add_argument("--verdicts", type=int, default=10_000, help="verdicts of the null sweep")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.backend = options.backend.split(",")
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    found: list[Result] = []
    print(HEADER)
    for part in parts:
        with timed(part):
            for result in results(part, options):
                found.append(result)
                print(result.line(), flush=True)
    lines, good = summary(found)
    print("\n".join(lines))
    wrong_ones = [result for result in found if not result.right]
    if wrong_ones:
        print(f"\n{len(wrong_ones)} wrong:")
        print("\n".join(result.line() for result in wrong_ones))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
