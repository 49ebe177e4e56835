"""The result of `gradmeter.advise`, as numbers, text and HTML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.tables import as_html, as_text
from gradmeter.bench.report.ranking import Ranking
from gradmeter.bench.rows import Row, to_frame

HEADINGS = ("estimator", "S", "bias", "variance", "seconds", "variance × seconds", "over the best")


@dataclass(frozen=True)
class Advice:
    """What to use on a model.

    Attributes
    ----------
    name
        Name of the model.
    best
        The estimator with the least variance × seconds, `name[k=v]`; None where nothing can be recommended.
    num_samples
        Its S.
    sentence
        Which estimator to use, by how much it is better than the others, and how sure that is.
    certain
        Whether the best is significantly better than every other one (95 % each), or as good as equal to it.
    rows
        Result rows of all estimators measured; the columns of docs/results.md.
    remarks
        What could not be measured.
    seconds
        Time that the advice took.
    ranking
        The estimators in order of variance × seconds.
    """

    name: str
    best: str | None
    num_samples: int | None
    sentence: str
    certain: bool
    rows: list[Row] = field(repr=False)
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0
    ranking: Ranking = field(default_factory=lambda: Ranking(""), repr=False)

    @property
    def table(self) -> Any:
        """The rows, a `pandas.DataFrame`."""
        return to_frame(self.rows)

    def _lines(self) -> Iterator[tuple[str, ...]]:
        yield HEADINGS
        ranking = self.ranking
        for result in [*ranking.ranked, *ranking.unranked]:
            ratio = ranking.against_best(result) if result in ranking.ranked else None
            variance = numbers.interval(result["variance_low"], result["variance_high"])
            yield (
                result.estimator,
                str(result["num_samples"]),
                f"{numbers.verdict(result['verdict'])} {numbers.bias(result.row)}".rstrip(),
                f"{numbers.significant(result['variance'])}  {variance}",
                numbers.seconds(result["seconds"]),
                numbers.significant(result["work_normalised_variance"]),
                "" if ratio is None else numbers.times(ratio.value, ratio.low, ratio.high),
            )
        for result in ranking.failed:
            yield (
                result.estimator,
                str(result["num_samples"]),
                str(result["status"]),
                result["reason"] or "",
                "",
                "",
                "",
            )

    def _head(self) -> str:
        return f"{self.name}: {self.sentence}"

    def _notes(self) -> list[tuple[str, str]]:
        return [("note", remark) for remark in self.remarks]

    def __str__(self) -> str:
        return as_text(self._head(), self._lines(), self._notes())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self._head(), self._lines(), self._notes())
