"""`gradvar check`: one line a check, and whether anything is wrong."""

from __future__ import annotations

import sys

from bench.checks.checking import check
from bench.checks.targets import found


def run(target: str, json: bool) -> int:
    """Print the findings of all that a target names; the exit status, 1 where something is wrong."""
    wrong = 0
    for thing in found(target):
        findings = check(thing)
        for finding in findings:
            print(finding.as_json if json else finding, flush=True)
        wrong += len(findings.wrong)
    if wrong:
        print(f"gradvar: {wrong} {'check' if wrong == 1 else 'checks'} went wrong", file=sys.stderr)
    return 1 if wrong else 0
