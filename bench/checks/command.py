"""`gradmeter check`: one line a check, and whether anything is wrong."""

from __future__ import annotations

import sys

from gradmeter.bench.checks.checking import check
from gradmeter.bench.checks.findings import WRONG, Finding
from gradmeter.bench.checks.targets import found


def run(target: str, json: bool) -> int:
    """Print the findings of all that a target names; the exit status, 1 where something is wrong."""
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
