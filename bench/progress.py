"""What a person sees at the end: tables on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gradmeter.bench.rows import ALL, Row
from gradmeter.bench.terminal import print_table

#: Smallest ratio that would be called a change, above which a table shows it.
NOISY = 2.0

if TYPE_CHECKING:
    from gradmeter.bench.comparison import Change, Comparison
    from gradmeter.bench.sweep.claims import Claim
    from gradmeter.bench.sweep.store import Store


def show_table(rows: list[Row]) -> None:
    """Print the rows of `all` as a table on standard output."""
    from gradmeter.bench.reading import compact

    print_table(compact.HEADINGS, compact.lines(rows))


def show_parts(rows: Iterable[Row], store: Store) -> None:
    """Print a table of the parts of the variance that come from the samples of z and from the minibatch."""
    from gradmeter.bench.measurement.decomposition import from_series
    from gradmeter.bench.reading.names import telling_apart
    from gradmeter.bench.report.minibatch_table import HEADINGS, cells

    table, named = [], telling_apart(rows)
    for row in rows:
        parts = from_series(store.series(row["cell_key"])) if row["block"] == ALL else None
        if parts is not None:
            cell = (*named(row), row["backend"], str(row["num_samples"]))
            table.append((*cell, *cells(parts)))
    if table:
        print("\nvariance in parts")
        print_table(("problem", "estimator", "backend", *HEADINGS[1:]), table)


def show_claims(claims: Sequence[Claim], rows: Iterable[Row], store: Store) -> None:
    """Print what becomes of the claims of a suite by these rows; nothing of a suite without claims.

    Parameters
    ----------
    claims
        Claims of the suite.
    rows
        Rows that were measured.
    store
        Store that holds the series of the rows.
    """
    from gradmeter.bench.fit import claimed
    from gradmeter.bench.reading import judging, results

    found, _ = results.load(store, [results.cleaned(row) for row in rows])
    for claim in claims:
        judged = judging.judge(claim, found, claimed.evidence)
        print(f"\n{judged.status}: {claim.says}" + (f" ({claim.place})" if claim.place else ""))
        for word, text in judging.notes(judged):
            print(f"  {word}: {text}")


def show_comparison(comparison: Comparison) -> None:
    """Print a table of the changes of every cell that two stores share, and what follows from them."""
    from gradmeter.bench.comparison import METRICS, WORDS
    from gradmeter.bench.reading.numbers import times

    def told(change: Change, metric: str) -> str:
        ratio = change.ratios.get(metric)
        if ratio is None:
            return "" if change in comparison.backends else change.word(metric)
        flag = "" if ratio.sure else " (flagged)"
        if change.word(metric) == "same" and change.least(metric) > NOISY:
            flag += f" (nothing below {times(change.least(metric))} is called)"
        return f"{change.word(metric)} {times(ratio.value, ratio.low, ratio.high)}{flag}"

    changes = (*comparison.cells, *comparison.backends)
    print_table(("cell", *METRICS), [(c.label, *(told(c, metric) for metric in METRICS)) for c in changes])
    counts = ", ".join(
        f"{sum(c.word(metric) == word for c in comparison.cells)} {word}{' variable' if metric == 'variance' else ''}"
        for metric, words in WORDS.items()
        for word in words
    )
    print(f"{len(comparison.cells)} cells: {counts}")
    for sentence in (*comparison.floors, *comparison.remarks):
        print(sentence)
    for which, cells in zip(("before", "after"), comparison.alone, strict=True):
        for cell in cells:
            print(f"measured only {which}: {cell}")
    for cell in comparison.failed:
        print(f"failed after: {cell}")
