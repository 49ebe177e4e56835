"""What the audit of one gradient of a library found."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradmeter.bench.reading.numbers import verdict
from gradmeter.bench.rows import Row


@dataclass(frozen=True)
class Found:
    """What the audit of a case found.

    Attributes
    ----------
    library, name, problem, samples, defect, regime : those of the case; the regime as a dict.
    versions : of the library's packages.
    status, reason : `ok`; `n/a` for what the library does not offer; `nonfinite`;
        `exception` for what cannot be audited.
    verdict, fault : those of the audit.
    rows : its rows; empty where there was none.
    output : what the script of the defect printed.
    """

    library: str
    name: str
    problem: str
    samples: int
    defect: str | None
    regime: dict[str, str] | None
    versions: dict[str, str]
    status: str
    reason: str | None = None
    verdict: str | None = None
    fault: str | None = None
    rows: list[Row] = field(default_factory=list)
    output: str | None = None

    @property
    def whole(self) -> Row | None:
        """The row of all parts together."""
        return self.rows[-1] if self.rows else None

    @property
    def wrong(self) -> bool:
        """Whether the gradient is biased, or not finite."""
        return self.verdict == "biased" or self.status == "nonfinite"

    @property
    def word(self) -> str:
        """The verdict, or why there is none, as a symbol and a word."""
        if self.status == "ok":
            return verdict(self.verdict)
        return {"nonfinite": "✗ not finite", "n/a": "– not offered"}.get(self.status, f"– {self.status}")
