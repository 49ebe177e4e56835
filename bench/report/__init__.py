"""The variance report: which estimator to use on each problem, and what that answer rests on."""

from __future__ import annotations

from pathlib import Path

from gradmeter.bench.files import together, writing
from gradmeter.bench.rows import to_export
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import UsageError


def write(store: Store, output: Path) -> Path:
    """Write report.html, report.md, results.csv and the leading figures as SVG into `output`; the page's path.

    Raises
    ------
    UsageError
        The store holds no results, or `output` cannot be written; then nothing in it has changed.
    """
    from gradmeter.bench.drawing import standalone
    from gradmeter.bench.reading import results
    from gradmeter.bench.report import document, markdown, page

    rows = store.rows()
    if not rows:
        raise UsageError(f"store {store.path} holds no results; measure some with: gradmeter run --store {store.path}")
    composed = document.compose(*results.load(store, [results.cleaned(row) for row in rows]))
    texts = {
        "results.csv": to_export(rows).to_csv(index=False, lineterminator="\n"),
        "report.md": markdown.render(composed),
        "report.html": page.render(composed),
    }
    texts |= {f"{name}.svg": standalone.render(figure) for name, figure in composed.leading.items()}
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        with together(output) as scratch:
            for name, text in texts.items():
                (scratch / name).write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return output / "report.html"
