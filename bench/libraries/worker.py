"""Audit the cases of one library, in an environment that has it: `python -m gradmeter.bench.libraries.worker NAME`.

Each case gives one line of JSON, a `Found`. What a library prints goes to standard error.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import warnings
from importlib import metadata

import gradmeter
from gradmeter.bench.libraries.case import Case
from gradmeter.bench.libraries.found import Found
from gradmeter.bench.measurement.stream import NonFinite
from gradmeter.estimators import UsageError

#: The most seconds that a case may take. What should stop it before is its number of replicates.
SECONDS = 100.0
#: The relative bias that is to be excluded.
BIAS_BOUND = 0.05


def audited(library: str, case: Case, versions: dict[str, str]) -> Found:
    """Audit a case."""
    regime = None if case.regime is None else dataclasses.asdict(case.regime)
    found = Found(library, case.name, case.problem, case.samples or 1, case.defect, regime, versions, "ok")
    try:
        gradient, parameters = case.make()
        audit = gradmeter.audit(
            gradient,
            parameters,
            exact=case.exact,
            samples=case.samples,
            replicates=case.replicates,
            seconds=SECONDS,
            bias_bound=BIAS_BOUND,
            name=case.name,
            **case.options,
        )
    except NotImplementedError as error:
        return dataclasses.replace(found, status="n/a", reason=str(error) or "not implemented")
    except UsageError as error:
        status = "nonfinite" if isinstance(error.__context__, NonFinite) else "exception"
        return dataclasses.replace(found, status=status, reason=str(error))
    return dataclasses.replace(found, verdict=audit.verdict, fault=audit.fault, rows=audit.rows)


def main(library: str) -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")  # the libraries' own
    module = importlib.import_module(f"gradmeter.bench.libraries.audited.{library}")
    versions = {name: metadata.version(name) for name in module.PACKAGES}
    for case in module.cases():
        print(json.dumps(dataclasses.asdict(audited(library, case, versions))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
