"""What there is: problems, estimators, families, backends, suites, and which combinations exist."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from bench.controls import CONTROLS
from bench.problems import PROBLEMS
from bench.sweep import suites
from bench.sweep.cells import VARIANTS, make_estimator
from estimators import ESTIMATORS, backends
from estimators.errors import unknown
from estimators.families import FAMILIES
from estimators.options import describe

Entry = dict[str, Any]


def _problems() -> Iterator[Entry]:
    for cls in PROBLEMS.values():
        yield {"kind": "problem", "name": cls.name, "summary": cls.summary, "options": describe(cls)}


def _estimators() -> Iterator[Entry]:
    for cls in (*ESTIMATORS.values(), *CONTROLS.values()):
        entry = {"kind": "estimator", "name": cls.name, "summary": cls.summary, "options": describe(cls)}
        yield {**entry, "planted": cls.planted}


def _families() -> Iterator[Entry]:
    for family in FAMILIES.values():
        yield {"kind": "family", "name": family.name, "summary": family.summary, "options": {}}


def _backends() -> Iterator[Entry]:
    for name in backends.NAMES:
        entry = {"kind": "backend", "name": name, "summary": backends.SUMMARIES[name], "options": {}}
        yield {**entry, "missing": backends.missing(name)}


def _suites() -> Iterator[Entry]:
    for name in suites.names():
        suite = suites.load(name)
        yield {
            "kind": "suite",
            "name": name,
            "summary": suite.summary,
            "options": {},
            "cells": len(suite.cells),
        }


def _combinations() -> Iterator[Entry]:
    """Estimator × family × backend; a no carries its reason."""
    for text in VARIANTS:
        estimator = make_estimator(text)
        for family in FAMILIES:
            for backend in backends.NAMES:
                reason = backends.missing(backend)
                requires = "closed-form ∇f" if estimator.needs_gradient and backend == "numpy" else "nothing more"
                yield {
                    "kind": "combination",
                    "name": f"{text} × {family} × {backend}",
                    "summary": f"needs {requires}" if reason is None else reason,
                    "options": {},
                    "estimator": text,
                    "family": family,
                    "backend": backend,
                    "available": reason is None,
                    "reason": reason,
                }


KINDS = {
    "problems": _problems,
    "estimators": _estimators,
    "families": _families,
    "backends": _backends,
    "suites": _suites,
    "combinations": _combinations,
}


def entries(kind: str | None = None) -> list[Entry]:
    """Entries of one kind, or of all but combinations."""
    if kind is None:
        return [entry for name, make in KINDS.items() if name != "combinations" for entry in make()]
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    return list(KINDS[kind]())


def as_json(found: Iterable[Entry]) -> Iterator[str]:
    for entry in found:
        yield json.dumps(entry, ensure_ascii=False)


def as_text(found: Iterable[Entry]) -> Iterator[str]:
    last = None
    for entry in found:
        if entry["kind"] != last:
            yield f"{'' if last is None else chr(10)}{entry['kind']}"
            last = entry["kind"]
        yield f"  {entry['name']:<34} {entry['summary']}"
        for name, about in entry["options"].items():
            choices = f" ({' | '.join(about['choices'])})" if "choices" in about else ""
            default = "absent" if about["default"] is None else str(about["default"]).lower()
            yield f"      {name}={default}{choices}: {about['summary']}"
