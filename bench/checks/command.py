"""The command `gradmeter check`, which prints one line per check."""

from __future__ import annotations

import sys

from gradmeter.bench.checks.checking import check
from gradmeter.bench.checks.findings import WRONG, Finding
from gradmeter.bench.checks.targets import found


def run(target: str, json: bool) -> int:
    """Print the findings for everything that a target names; return the exit status, 1 if anything is wrong."""
    shown: set[Finding] = set()
    for thing in found(target):
        for finding in check(thing):
            if finding not in shown:
                print(finding.as_json if json else finding, flush=True)
            shown.add(finding)
    wrong = sum(finding.status == WRONG for finding in shown)
    if wrong:
        print(f"gradmeter: {wrong} {'check' if wrong == 1 else 'checks'} went wrong", file=sys.stderr)
    return 1 if wrong else 0
