"""What an audit found, as numbers, text, HTML and rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradmeter.bench.reading.numbers import bias, bias_interval, count, interval, significant, verdict
from gradmeter.bench.reading.tables import as_html, as_text
from gradmeter.bench.rows import ALL, Row, to_frame

HEADINGS = ("part", "verdict", "bias", "variance")
#: Most parts that are printed.
SHOWN = 12


@dataclass(frozen=True)
class Audit:
    """The result of `gradmeter.audit`.

    Attributes
    ----------
    name
        Name of the gradient.
    verdict
        `unbiased` (certified to `bias_bound`), `biased`, `inconclusive`, or `no-reference`; with `against=` `agrees`,
        `disagrees` or `inconclusive`.
    rows
        One result row for each part of the gradient, and one for `all`; the columns of docs/results.md.
    coordinates
        One dict for each coordinate: `block`, `coordinate`, `mean`, `exact`, and with a reference `bias`, `bias_low`
        and `bias_high`, which is a 95 % interval for this coordinate alone.
    cosine
        Cosine of E ĝ to g; None where it has none.
    scale_factor
        (a, low, high): the factor with which a g is nearest to E ĝ, and its 95 % interval; None where g = 0.
    fault
        What the bias looks like, in words; None where there is none, or where it has no simple form.
    comparison
        The estimator of the catalogue that has the least variance on the same problem, in words.
    remarks
        How the gradient was called, and what the verdict assumes.
    advice
        What more replicates would tell, and how long they take.
    seconds
        Time that the audit took.
    """

    name: str
    verdict: str
    rows: list[Row]
    coordinates: list[dict[str, Any]] = field(repr=False)
    cosine: float | None = None
    scale_factor: tuple[float, float, float] | None = None
    fault: str | None = None
    comparison: str | None = None
    remarks: tuple[str, ...] = ()
    advice: str | None = None
    seconds: float = 0.0

    @property
    def whole(self) -> Row:
        """The row of all parts together."""
        return next(row for row in self.rows if row["block"] == ALL)

    @property
    def bias_bound(self) -> float | None:
        """Certified bound on ‖E ĝ − g‖ / ‖g‖ at 99.9 % confidence."""
        found: float | None = self.whole["bias_bound"]
        return found

    @property
    def replicates(self) -> int:
        """Gradients that bias and variance rest on."""
        return int(self.whole["replicates"] or 0)

    @property
    def table(self) -> Any:
        """The rows, a `pandas.DataFrame`."""
        return to_frame(self.rows)

    @property
    def bias(self) -> Any:
        """The coordinates, a `pandas.DataFrame`."""
        import pandas as pd

        return pd.DataFrame(self.coordinates)

    def as_json(self) -> str:
        """Return one JSON object: the findings, and the rows under `rows`.

        Returns
        -------
        str
        """
        values = {
            "name": self.name,
            "verdict": self.verdict,
            "bias_bound": self.bias_bound,
            "cosine": self.cosine,
            "scale_factor": None if self.scale_factor is None else self.scale_factor[0],
            "scale_low": None if self.scale_factor is None else self.scale_factor[1],
            "scale_high": None if self.scale_factor is None else self.scale_factor[2],
            "fault": self.fault,
            "comparison": self.comparison,
            "remarks": list(self.remarks),
            "advice": self.advice,
            "replicates": self.replicates,
            "seconds": self.seconds,
            "coordinates": self.coordinates,
            "rows": self.rows,
        }
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    def save(self, store: str | Path) -> None:
        """Add the rows to a store, which `gradmeter report` and `gradmeter export` read.

        Parameters
        ----------
        store
            Path of the store, which is created if there is none.

        Raises
        ------
        UsageError
            The file is no store, or another process has it open.
        """
        save(Path(store), self.name, self.rows)

    def _head(self) -> str:
        row = self.whole
        said = f"{verdict(self.verdict)} {bias(row)}".rstrip()
        return f"{self.name}: {said}, from {count(self.replicates)} gradients in {self.seconds:.1f} s"

    def _lines(self) -> Iterator[tuple[str, ...]]:
        yield HEADINGS
        parts = [row for row in self.rows if row["block"] != ALL]
        shown = parts if len(parts) <= SHOWN else parts[: SHOWN - 1]
        for row in [*shown, self.whole] if len(parts) > 1 else parts:
            flag = "" if row["variance_flag"] in ("ok", None) else f" {row['variance_flag']}"
            known = bias_interval(row) or bias(row)
            yield (
                str(row["block"]),
                verdict(row["verdict"]),
                known,
                f"{significant(row['variance'])}  {interval(row['variance_low'], row['variance_high'])}{flag}",
            )

    def _facts(self) -> list[tuple[str, str]]:
        facts = []
        if self.fault:
            facts.append(("likely fault", self.fault))
        if self.scale_factor is not None and self.whole["verdict"] not in ("no-reference",):
            factor, low, high = self.scale_factor
            cosine = "–" if self.cosine is None else f"{self.cosine:.6g}"
            facts.append(("best scale factor", f"{factor:.5g} [{low:.5g}, {high:.5g}], cosine {cosine}"))
        if self.comparison:
            facts.append(("beside the catalogue", self.comparison))
        if self.advice:
            facts.append(("with more time", self.advice))
        if self.whole["reason"]:
            facts.append(("reason", self.whole["reason"]))
        if self.whole["assumption"]:
            facts.append(("assumes", self.whole["assumption"]))
        return facts + [("note", remark) for remark in self.remarks]

    def __str__(self) -> str:
        return as_text(self._head(), self._lines(), self._facts())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self._head(), self._lines(), self._facts())


def save(store: Path, name: str, rows: list[Row]) -> None:
    """Add the rows of an audit to a store, which is created if there is none.

    Parameters
    ----------
    store
        Path of the store.
    name
        Name of the gradient.
    rows
        The result rows of the audit.
    """
    from gradmeter.bench.sweep.store import Store

    key = str(rows[0]["cell_key"])
    with Store.create(store) as opened:
        opened.finish(key, rows, {}, {"audit": name})
