"""The page of all audits of libraries, as HTML and Markdown, with the rows as CSV."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradmeter.bench.drawing.page import environment_of, style
from gradmeter.bench.files import together, writing
from gradmeter.bench.libraries.case import DEFECTS
from gradmeter.bench.libraries.found import Found
from gradmeter.bench.libraries.worker import BIAS_BOUND
from gradmeter.bench.reading.numbers import bias, bias_interval, interval, percent, seconds, significant
from gradmeter.bench.report.markdown import plain, table
from gradmeter.bench.rows import Row, to_export
from gradmeter.bench.sweep import environment

TEMPLATES = Path(__file__).with_name("templates")
#: Names for readers.
TITLES = {
    "pyro": "Pyro",
    "numpyro": "NumPyro",
    "tfp": "TensorFlow Probability",
    "pymc": "PyMC",
    "optax": "Optax",
    "torch_distributions": "torch.distributions",
    "jax_random": "jax.random",
}
OBJECTIVES = ("gradient", "of", "verdict", "bias", "variance", "S", "seconds")
NOTE = (
    "Each gradient is that of one call, a mean over S samples, and is compared with the exact gradient. Unbiased: the "
    f"bias is certified to be at most {percent(BIAS_BOUND)} of ‖g‖ at 99.9 %. Bias and variance have 95 % intervals; "
    "variance is the trace of the covariance of one gradient; seconds are those of one gradient, in batches where the "
    "library allows them. results.csv has the rows of every part."
)
REGIMES = (
    "Gradients of E f(z) through the sampler, in float32, with respect to the logarithms of the parameters. A bias is "
    "stated relative to ‖g‖, with its 95 % interval; elsewhere the bound on it."
)


@dataclass(frozen=True)
class Table:
    title: str
    headings: tuple[str, ...]
    lines: list[tuple[str, ...]]


@dataclass(frozen=True)
class Defect:
    """A wrong gradient: where it was found, the script that shows it, and what the script printed."""

    title: str
    places: list[str]
    script: str
    output: str


def write(found: Sequence[Found], output: Path) -> Path:
    """Write report.md, report.html and results.csv, and return the path of the page.

    Raises
    ------
    UsageError
        `output` cannot be written; then nothing in it has changed.
    """
    rows: list[Row] = [{**row, "problem": each.problem} for each in found for row in each.rows]
    shown: dict[str, Any] = {
        "headline": _headline(rows),
        "summary": _summary(found),
        "note": NOTE,
        "defects": _defects(found),
        "objectives": _objectives(found),
        "regimes_note": REGIMES,
        "regimes": _regimes(found),
    }
    texts = {
        "results.csv": to_export(rows).to_csv(index=False, lineterminator="\n"),
        "report.md": _markdown(**shown),
        "report.html": _html(shown),
    }
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        with together(output) as scratch:
            for name, text in texts.items():
                (scratch / name).write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return output / "report.html"


def _headline(rows: Sequence[Row]) -> list[str]:
    dates, codes = (sorted({str(row[key])[:n] for row in rows}) for key, n in (("finished", 10), ("code_version", 40)))
    return [" to ".join(dict.fromkeys((dates[0], dates[-1]))), f"commit {', '.join(codes)}", environment.machine()]


def _summary(found: Sequence[Found]) -> str:
    offered = [each for each in found if each.status != "n/a"]
    words = ("unbiased", "inconclusive", "biased")
    counts = {word: sum(each.verdict == word for each in offered) for word in words}
    finite = sum(each.status == "nonfinite" for each in offered)
    parts = (*(f"{n} {word}" for word, n in counts.items()), f"{finite} not finite")
    return f"{len(offered)} gradients of {len({each.library for each in offered})} libraries: {', '.join(parts)}."


def _defects(found: Sequence[Found]) -> list[Defect]:
    defects = []
    for name in dict.fromkeys(each.defect for each in found if each.defect):
        cases = [each for each in found if each.defect == name and each.wrong]
        if not cases:
            continue
        title = f"{_library(cases[0])}: {' and '.join(dict.fromkeys(each.name for each in cases))}"
        places = [f"{each.problem}: {_verdict(each)}{f'; {each.fault}' if each.fault else ''}" for each in cases]
        script = (DEFECTS / f"{name}.py").read_text(encoding="utf-8").rstrip()
        defects.append(Defect(title, places, script, cases[0].output or ""))
    return defects


def _library(found: Found) -> str:
    return f"{TITLES[found.library]} ({', '.join(f'{name} {version}' for name, version in found.versions.items())})"


def _verdict(found: Found) -> str:
    if found.whole is None:
        return found.word if found.status == "nonfinite" else f"{found.word}: {found.reason}"
    return f"{found.word} {_bias(found.whole)}".rstrip()


def _bias(row: Row) -> str:
    if row["verdict"] != "biased":
        return bias(row)
    # One part is biased for certain, and another varies so much that it hides by how much they are together.
    return bias_interval(row) if row["bias_low"] else "by an amount that is not estimable"


def _objectives(found: Sequence[Found]) -> list[Table]:
    tables = []
    for _, group in itertools.groupby((f for f in found if f.regime is None), lambda f: f.library):
        cases = list(group)
        tables.append(Table(_library(cases[0]), OBJECTIVES, [_line(each) for each in cases]))
    return tables


def _line(found: Found) -> tuple[str, ...]:
    row = found.whole
    if row is None:
        return found.name, found.problem, found.word, found.reason or "", "–", str(found.samples), "–"
    flag = "" if row["variance_flag"] == "ok" else f" {row['variance_flag']}"
    variance = f"{significant(row['variance'])} {interval(row['variance_low'], row['variance_high'])}{flag}"
    return found.name, found.problem, found.word, _bias(row), variance, str(found.samples), seconds(row["seconds"])


def _regimes(found: Sequence[Found]) -> list[Table]:
    """Return one table for each distribution of a library: a line for its parameters, a column for each f."""
    tables: dict[tuple[str, str], dict[str, dict[str, Found]]] = {}
    for each in found:
        if each.regime is not None:
            lines = tables.setdefault((_library(each), each.name), {})
            lines.setdefault(each.regime["parameters"], {})[each.regime["integrand"]] = each
    return [
        Table(f"{library}: {name}", ("parameters", *(f"f = {f}" for f in _columns(lines))), list(_cells(lines)))
        for (library, name), lines in tables.items()
    ]


def _columns(lines: dict[str, dict[str, Found]]) -> list[str]:
    return list(dict.fromkeys(f for line in lines.values() for f in line))


def _cells(lines: dict[str, dict[str, Found]]) -> Iterable[tuple[str, ...]]:
    columns = _columns(lines)
    for parameters, line in lines.items():
        yield parameters, *(_verdict(line[f]) if f in line else "–" for f in columns)


def _html(shown: dict[str, Any]) -> str:
    from markupsafe import Markup

    template = environment_of(TEMPLATES).get_template("libraries.html.jinja")
    return str(template.render(**shown, style=Markup(style())))


def _markdown(
    headline: Sequence[str],
    summary: str,
    note: str,
    defects: Sequence[Defect],
    objectives: Sequence[Table],
    regimes_note: str,
    regimes: Sequence[Table],
) -> str:
    lines = [f"**gradmeter** · {' · '.join(plain(part) for part in headline)}", "", "# Gradients of other libraries"]
    lines += ["", plain(summary), "", plain(note), "", "## Wrong gradients"]
    for defect in defects:
        lines += ["", f"### {plain(defect.title)}", "", *(f"- {plain(place)}" for place in defect.places)]
        lines += ["", "```python", defect.script, "```", "", "```", defect.output, "```"]
    for heading, text, tables in (("Objectives", None, objectives), ("Distributions", regimes_note, regimes)):
        lines += ["", f"## {heading}", *(["", plain(text)] if text else [])]
        for each in tables:
            cells = [tuple(map(plain, line)) for line in each.lines]
            lines += ["", f"### {plain(each.title)}", "", *table(tuple(map(plain, each.headings)), cells)]
    return "\n".join(lines) + "\n"
