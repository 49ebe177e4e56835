"""A hash of the source files on which a measured number depends."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
from pathlib import Path

#: Folders below `gradmeter.estimators` and `gradmeter.bench` with the code that computes the rows.
FOLDERS = {"estimators": ("",), "bench": ("optimisation", "problems", "feasibility", "measurement", "controls")}
#: A string or a comment, whichever begins first.
_QUOTED = re.compile(
    r'"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"""|"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'
    r"'[^'\\\n]*(?:\\.[^'\\\n]*)*'|#[^\n]*",
    re.DOTALL,
)


def _without_docstring(match: re.Match[str]) -> str:
    """Return a string literal unchanged, and nothing for a comment or a string that is a statement of its own."""
    text, found = match.string, match[0]
    if found.startswith("#"):
        return ""
    line_start = text.rfind("\n", 0, match.start()) + 1
    alone = not text[line_start : match.start()].strip() and text[match.end() : match.end() + 1] in ("\n", "")
    return "" if alone and found.startswith('"""') else found


def without_prose(source: str) -> str:
    """Return Python source without docstrings, comments and blank lines."""
    kept = _QUOTED.sub(_without_docstring, source)
    return "".join(line.rstrip() + "\n" for line in kept.splitlines() if line.strip())


@functools.cache
def source_hash() -> str:
    """Return the SHA-256 of the source files on which a measured number depends, without their prose."""
    digest = hashlib.sha256()
    for package, folders in FOLDERS.items():
        spec = importlib.util.find_spec(f"gradmeter.{package}")
        root = Path(str(spec and spec.origin)).parent
        for path in sorted(p for folder in folders for p in (root / folder).rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(root).as_posix()}\n".encode())
            digest.update(without_prose(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()
