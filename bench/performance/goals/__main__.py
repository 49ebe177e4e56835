"""`python -m gradmeter.bench.performance.goals [PART ...]`: measure budgets, print them, and write a page per part."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gradmeter.bench.performance.goals import certificates, cost, kernels, program, scaling, training
from gradmeter.bench.performance.goals.goal import show, write

PARTS = {
    "floor": kernels.floor,
    "profile": kernels.profile,
    "autodiff": kernels.autodiff,
    "latency": kernels.latency,
    "cost": cost.predicted,
    "overhead": program.overhead,
    "quick": program.quick_suite,
    "linear": scaling.linear,
    "memory": scaling.memory,
    "vae": training.vae,
    "certificates": certificates.replicates,
    "power": certificates.power,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gradmeter.bench.performance.goals", description="what this suite costs, against its goals"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--output", type=Path, help="folder to write PART.md to")
    given = parser.parse_args()
    wrong = [part for part in given.parts if part not in PARTS]
    if wrong:
        parser.error(f"there is no part {wrong[0]!r}; choose from: {', '.join(PARTS)}")
    for part in given.parts or PARTS:
        found = list(show(PARTS[part]()))
        if given.output is not None:
            print(write(found, given.output, part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
