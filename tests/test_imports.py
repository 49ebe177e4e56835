"""Imports go one way: no cycles between modules, and packages only import what stands below them."""

from __future__ import annotations

import ast
import functools
import graphlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: From the bottom up; those on one line do not import each other.
LAYERS = (
    ("estimators", "adapters"),
    (
        "bench.identity",
        "bench.sources",
        "bench.files",
        "bench.durations",
        "bench.rows",
        "bench.optimisation",
        "bench.controls",
    ),
    ("bench.problems",),
    ("bench.forms",),
    ("bench.checks",),
    ("bench.cells", "bench.plugin_files"),
    ("bench.feasibility",),
    ("bench.measurement",),
    ("bench.sweep",),
    ("bench.reading", "bench.terminal"),
    ("bench.drawing", "bench.comparison"),
    ("bench.report", "bench.fit"),
    ("bench.api", "bench.catalogue", "bench.progress", "bench.planning", "bench.scaffold"),
    ("bench.audit",),
    ("bench.advising",),
    ("bench.commands",),
    ("bench.subcommands",),
    ("bench.cli",),
    ("bench.performance", "bench.papers"),
    ("bench.libraries",),
    ("bench.tracking",),
)
HEIGHT = {package: height for height, layer in enumerate(LAYERS) for package in layer}
#: Each file runs in an environment of its own, where gradmeter is not installed.
ADAPTERS = (Path("bench/performance/peers"), Path("bench/libraries/defects"))


def sources() -> dict[str, Path]:
    """Return the file of every module, by its name below `gradmeter`."""
    files = sorted(path for top in ("estimators", "bench") for path in (ROOT / top).rglob("*.py"))
    relative = {path: path.relative_to(ROOT) for path in files}
    return {
        ".".join(short.with_suffix("").parts).removesuffix(".__init__"): path
        for path, short in relative.items()
        if short.parent not in ADAPTERS or short.name.startswith("__")
    }


def imported(path: Path, modules: dict[str, Path]) -> set[str]:
    """Return the modules that a file imports anywhere: at its top, in functions, for type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradmeter."):
            base = str(node.module).removeprefix("gradmeter.")
            found |= {name if (name := f"{base}.{alias.name}") in modules else base for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("gradmeter.") for alias in node.names if "gradmeter." in alias.name}
    return found


def package(module: str) -> str:
    parts = module.split(".")
    return "estimators" if parts[0] == "estimators" else ".".join(parts[:2])


@functools.cache
def graph() -> dict[str, set[str]]:
    """Return what every module imports of the others."""
    modules = sources()
    return {module: imported(path, modules) - {module} for module, path in modules.items()}


def test_no_module_imports_itself_in_a_circle() -> None:
    graphlib.TopologicalSorter(graph()).prepare()  # raises CycleError


def test_packages_import_only_what_stands_below_them() -> None:
    upward = {
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in others
        if package(module) != package(other) and module != "bench"
        if HEIGHT[package(other)] >= HEIGHT[package(module)]
    }
    assert upward == set()
