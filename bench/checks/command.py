"""The command `gradmeter check`, which prints one line per check."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from typing import Any

from gradmeter.bench.checks.checking import NeedsOptions, check
from gradmeter.bench.checks.findings import WRONG, About, Finding
from gradmeter.bench.checks.targets import found
from gradmeter.bench.forms.objects import KINDS
from gradmeter.estimators import UsageError


def run(target: str, json: bool) -> int:
    """Print the findings for everything that a target names; return the exit status, 1 if anything is wrong."""
    shown: set[Finding] = set()
    rows = sys.stdout
    with redirect_stdout(sys.stderr):  # for what the user's code prints
        things = found(target)
        for thing in things:
            for finding in check(thing) if len(things) == 1 else _of_several(thing):
                if finding not in shown:
                    print(finding.as_json if json else finding, file=rows, flush=True)
                shown.add(finding)
    wrong = sum(finding.status == WRONG for finding in shown)
    if wrong:
        print(f"gradmeter: {wrong} {'check' if wrong == 1 else 'checks'} went wrong", file=sys.stderr)
    return 1 if wrong else 0


def _of_several(cls: type[Any]) -> Iterable[Finding]:
    """Return the findings for one class of a file; that it cannot be made is a finding."""
    try:
        return check(cls)
    except UsageError as error:
        about = About(next(kind for base, kind in KINDS.items() if issubclass(cls, base)), cls.__qualname__)
        options = isinstance(error, NeedsOptions)
        return [(about.not_checked if options else about.wrong)("everything", str(error))]
