"""The file of one part, rewritten whenever a line is added; and the time that the part has left."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Record:
    """The lines of a part.

    Attributes
    ----------
    path
        The file, which holds all that is known at any moment.
    seconds
        Time that the part may take; infinite by default.
    head
        What holds for all lines: part, command, code version, machine, states of the card.
    lines
        One object for each thing measured.
    left_out
        Descriptions of what there was no time for.
    """

    path: Path
    seconds: float = float("inf")
    head: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def say(self, **values: Any) -> None:
        """Add to what holds for all lines."""
        self.head |= values
        self._write()

    def add(self, **line: Any) -> None:
        self.lines.append(line)
        self._write()

    def may(self, what: str) -> bool:
        """Return whether there is time left; if not, note what is left out."""
        if time.monotonic() - self.started < self.seconds:
            return True
        self.left_out.append(what)
        self._write()
        return False

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        document = {**self.head, "lines": self.lines, "left_out": self.left_out}
        beside = self.path.with_suffix(".json.new")
        beside.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        beside.replace(self.path)


def read(path: Path) -> dict[str, Any]:
    """Return the document of a part; without lines if there is no such file, or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    return {"lines": [], "left_out": [], **found} if isinstance(found, dict) else {"lines": [], "left_out": []}
