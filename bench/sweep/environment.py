"""The provenance of a result: versions, machine, code version."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from gradmeter.bench.sweep import devices
from gradmeter.estimators import UsageError

_ALWAYS = ("gradmeter", "numpy", "scipy", "array-api-compat")


def versions(backend: str) -> dict[str, str]:
    """Return the versions of the software that computes a row."""
    names = (*_ALWAYS, backend, *(["jaxlib"] if backend == "jax" else []))
    found = {name: version for name in names if (version := _version(name)) is not None}
    return {"python": platform.python_version(), **found}


@functools.cache
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def machine(backend: str = "numpy", device: str = "cpu") -> str:
    """Return architecture, processor and number of cores, in words, and the card where a backend computes on one."""
    card = devices.of(backend, device)
    try:
        return _processor() if card is None else f"{_processor()}; {card.facts()}"
    except UsageError:  # there is no such device, and nothing was measured
        return _processor()


@functools.cache
def _processor() -> str:
    processor = platform.processor() or "unknown processor"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{platform.system()} {platform.machine()}, {processor}, {os.cpu_count()} cores"


@functools.cache
def code_version() -> str:
    """Return the commit of the checkout that runs (`-dirty` if changed since), else the version of the package."""
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        try:
            described = subprocess.run(
                ["git", "describe", "--always", "--dirty", "--abbrev=12"],
                cwd=root,
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
            return described.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    return _version("gradmeter") or "unknown"
