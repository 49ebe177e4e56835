"""What there is: problems, estimators, families, backends, suites, what fits, and which combinations exist."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from gradmeter.bench.cells import make_estimator
from gradmeter.bench.controls import CONTROLS
from gradmeter.bench.feasibility import refused
from gradmeter.bench.fit.methods import METHODS
from gradmeter.bench.optimisation.optimisers import OPTIMISERS
from gradmeter.bench.problems import PROBLEMS
from gradmeter.bench.rows import COLUMNS, MEANINGS
from gradmeter.bench.sweep import suites
from gradmeter.estimators import ESTIMATORS, NAMED_ALONE, VARIANTS, backends
from gradmeter.estimators.aliases import ALIASES
from gradmeter.estimators.errors import unknown
from gradmeter.estimators.expectation import INTEGRAND
from gradmeter.estimators.families import FAMILIES
from gradmeter.estimators.families.capabilities import missing
from gradmeter.estimators.options import describe
from gradmeter.estimators.plugins import Registry

Entry = dict[str, Any]

#: Choices that the text shows of one option; the rest is in `--json`, and families in a list of their own.
MOST_SHOWN = 10


def _problems() -> Iterator[Entry]:
    for cls in PROBLEMS.values():
        yield {"kind": "problem", "name": cls.name, "summary": cls.summary, "options": describe(cls)}
    yield from _elsewhere("problem", PROBLEMS)


def _elsewhere(kind: str, registry: Registry) -> Iterator[Entry]:
    """Return the entries that other packages offer, without importing their code."""
    for name, package in registry.elsewhere():
        summary = f"of package {package}, which is imported when it is named"
        yield {"kind": kind, "name": name, "summary": summary, "options": {}, "injected": False, "biased": None}


def _estimators() -> Iterator[Entry]:
    for cls in (*ESTIMATORS.values(), *CONTROLS.values()):
        entry = {"kind": "estimator", "name": cls.name, "summary": cls.summary, "options": describe(cls)}
        aliases = {alias: text for alias, text in ALIASES.items() if text.partition("[")[0] == cls.name}
        # With an objective that is regularised, so that each says how it enters.
        said = {alias: make_estimator(alias).follows({"beta": 1.0}) for alias in aliases}
        follows = {alias: text for alias, text in said.items() if text is not None}
        yield {**entry, "aliases": aliases, "injected": cls.injected, "biased": cls.biased, "follows": follows}
    yield from _elsewhere("estimator", ESTIMATORS)


def _families() -> Iterator[Entry]:
    for family in FAMILIES.values():
        entry = {"kind": "family", "name": family.name, "summary": family.summary, "options": describe(family.Config)}
        yield {**entry, "blocks": list(family.blocks), "unsupported": missing(family.Config().family)}
    yield from _elsewhere("family", FAMILIES)


def _backends() -> Iterator[Entry]:
    for name in backends.NAMES:
        entry = {"kind": "backend", "name": name, "summary": backends.REGISTERED[name].summary, "options": {}}
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


def _optimisers() -> Iterator[Entry]:
    for cls in OPTIMISERS.values():
        yield {"kind": "optimiser", "name": cls.name, "summary": cls.summary, "options": describe(cls)}


def _methods() -> Iterator[Entry]:
    for cls in METHODS.values():
        yield {"kind": "method", "name": cls.name, "summary": cls.summary, "options": describe(cls)}


def _combinations() -> Iterator[Entry]:
    """Return an entry for every estimator, family and backend; one that is refused has the reason."""
    for text in (*VARIANTS, *NAMED_ALONE):
        estimator = make_estimator(text)
        entropy = estimator.default_entropy()
        asked = [INTEGRAND[name] for name in estimator.requirements(entropy).integrand]
        for family in FAMILIES.values():
            for backend in backends.NAMES:
                reason = refused(estimator, family.Config().family, backend)
                closed = "in closed form" if backend == "numpy" else "or autodiff"
                yield {
                    "kind": "combination",
                    "name": f"{text} × {family.name} × {backend}",
                    "summary": reason or (f"needs {' and '.join(asked)} {closed}" if asked else "needs values of f"),
                    "options": {},
                    "estimator": text,
                    "family": family.name,
                    "backend": backend,
                    "available": reason is None,
                    "biased": estimator.biased,
                    "reason": reason,
                }


def _columns() -> Iterator[Entry]:
    for name, meaning in MEANINGS.items():
        yield {"kind": "column", "name": name, "summary": meaning, "options": {}, "type": COLUMNS[name]}


KINDS = {
    "problems": _problems,
    "estimators": _estimators,
    "families": _families,
    "backends": _backends,
    "suites": _suites,
    "optimisers": _optimisers,
    "methods": _methods,
    "combinations": _combinations,
    "columns": _columns,
}
#: Listed only where they are asked for.
ASKED_FOR = ("combinations", "columns")


def entries(kind: str | None = None) -> list[Entry]:
    """Return the entries of one kind; by default of all kinds except those that are listed on request only."""
    if kind is not None and kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    kinds = [name for name in KINDS if name not in ASKED_FOR] if kind is None else [kind]
    found = (entry for name in kinds for entry in KINDS[name]())
    return [{"kind": entry["kind"], "name": entry["name"], "aliases": {}, **entry} for entry in found]


def names(kind: str) -> list[str]:
    """Return the names of one kind, aliases among them."""
    return suites.names() if kind == "suites" else [n for e in entries(kind) for n in (e["name"], *e["aliases"])]


def as_json(found: Iterable[Entry]) -> Iterator[str]:
    for entry in found:
        yield json.dumps(entry, ensure_ascii=False)


def _among(choices: list[str]) -> str:
    """Return choices in one line: only the first of them if they are too many to read."""
    shown = choices if len(choices) <= MOST_SHOWN else [*choices[:3], f"… {len(choices) - 3} more"]
    return " | ".join(shown)


def as_text(found: Iterable[Entry]) -> Iterator[str]:
    last = None
    for entry in found:
        if entry["kind"] != last:
            yield f"{'' if last is None else chr(10)}{entry['kind']}"
            last = entry["kind"]
        yield f"  {entry['name']:<34} {entry['summary']}"
        if entry.get("follows") and not entry["biased"]:
            for alias, text in entry["aliases"].items():
                yield f"      also called {alias} ({text})"
                if alias in entry["follows"]:
                    yield f"          biased: {entry['follows'][alias]}"
        elif entry["aliases"]:
            also = (a if text == entry["name"] else f"{a} ({text})" for a, text in entry["aliases"].items())
            yield f"      also called {', '.join(also)}"
        if entry.get("biased") and entry["kind"] == "estimator":
            yield f"      biased by nature: {entry['biased']}"
        if entry.get("missing"):
            yield f"      {entry['missing']}"
        if "score_identity" in entry.get("unsupported", ()):
            yield f"      not for score functions: {entry['unsupported']['score_identity']}"
        for name, about in entry["options"].items():
            choices = f" ({_among(about['choices'])})" if "choices" in about else ""
            several = f" (or a:b:…, one a {about['per']})" if "per" in about else ""
            default = "absent" if about["default"] is None else str(about["default"]).lower()
            yield f"      {name}={default}{choices}{several}: {about['summary']}"
