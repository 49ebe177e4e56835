"""The report's words and tables as GitHub-flavoured Markdown, for a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gradmeter.bench.report import directions, papers, peers
from gradmeter.bench.report.advice import sentence
from gradmeter.bench.report.document import Chapter, Document, Section
from gradmeter.bench.report.papers import Paper
from gradmeter.bench.report.tables import Entry

NETWORKS = "By network, over all of its layers"
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~!$])")


def plain(text: object) -> str:
    """Return a text on one line, escaped so that Markdown and HTML show it as it is."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return _SPECIAL.sub(r"\\\1", line)


def code(text: object) -> str:
    """Return a code span; plain text where a span in a table cannot hold the text."""
    line = " ".join(str(text).split())
    return f"`{line}`" if line and not set(line) & set("`|<>&\\") else plain(line)


def strong(text: str) -> str:
    return f"**{text}**"


def render(document: Document) -> str:
    """Return the report in Markdown."""
    lines = [f"**gradmeter** · {' · '.join(plain(part) for part in document.provenance.headline)}", ""]
    lines += [f"> {plain(w)}" for w in document.provenance.warnings]
    lines += ["", "## Which estimator to use", ""]
    for chapter in document.chapters:
        lines += _answer(chapter)
    if document.findings:
        lines += ["", "## What else it shows", "", *(f"- {plain(sentence)}" for sentence in document.findings)]
    if document.papers:
        lines += ["", "## Claims of papers", "", plain(papers.NOTE)]
    for paper in document.papers:
        lines += ["", *claims(paper, 3)]
    for chapter in document.chapters:
        for section in chapter.sections:
            lines += _section(section)
    lines += _peers(document)
    failures = [(s.title, *failure) for c in document.chapters for s in c.sections for failure in s.failures]
    if failures:
        lines += ["", "## Not run", ""]
        lines += table(
            ("problem", "cell", "status", "reason"),
            ((code(p), plain(c), plain(s), plain(r)) for p, c, s, r in failures),
        )
    lines += ["", "## Machine and versions", ""]
    lines += table(
        ("what", "value", "cells"), ((plain(w), plain(v), str(n)) for w, v, n in document.provenance.origins)
    )
    lines += [
        "",
        "Variance is the trace of the covariance of one estimate of S samples, with its 95 % interval; seconds are per "
        "estimate, in bulk, noise included; the cost is a multiple of those of plain `pathwise` on the same backend. ● "
        "unbiased: the bias is certified to be at most the bound. ○ inconclusive: "
        "neither shown nor excluded. ✗ biased: shown twice, on independent noise.",
    ]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _answer(chapter: Chapter) -> list[str]:
    if chapter.sweep is None:
        return [f"- {code(chapter.title)}: {sentence(chapter.sections[0].advice, code, plain, strong)}"]
    return [
        f"- {code(chapter.title)}",
        *(f"  - {plain(span)}: {sentence(advice, code, plain, strong)}" for span, advice in chapter.answers),
    ]


def _section(section: Section) -> list[str]:
    ranking = section.table
    entries = [*ranking.ranked, *ranking.unranked, *ranking.controls]
    if not entries:
        return []
    headings = (
        "",
        "estimator",
        *ranking.context,
        "S",
        "bias",
        "variance",
        "seconds",
        *([f"cost ({code(ranking.reference)} = 1)"] if ranking.costs else []),
        ranking.work_name,
        ranking.best_name,
    )
    lines = ["", f"### {plain(section.title)}", "", plain(section.about), ""]
    injected = {id(e) for e in ranking.controls}
    lines += table(headings, (_cells(e, id(e) in injected, ranking.costs) for e in entries))
    found, each = section.directions
    if each:
        lines += ["", f"{directions.TITLE}:", ""]
        lines += table(map(plain, found), ([code(line[0]), *map(plain, line[1:])] for line in each))
    found, several = section.networks
    if several:
        lines += ["", f"{NETWORKS}:", ""]
        lines += table(map(plain, found), ([code(line[0]), *map(plain, line[1:])] for line in several))
    found, parts = section.parts
    if parts:
        lines += ["", "Sampling and minibatch parts of the variance:", ""]
        lines += table(found, ([code(line[0]), *map(plain, line[1:])] for line in parts))
    return lines


def _peers(document: Document) -> list[str]:
    if document.peers is None:
        return []
    lines = ["", "## Beside other libraries", "", f"{plain(document.peers.summary)} {plain(peers.NOTE)}"]
    for title, found in document.peers.tables:
        lines += ["", f"### {plain(title)}", ""]
        lines += table(peers.HEADINGS, (map(plain, line) for line in found))
    if document.peers.unmeasured:
        lines += ["", "### Peers without numbers", ""]
        lines += table(("peer", "cell", "status", "reason"), (map(plain, each) for each in document.peers.unmeasured))
    return lines


def _cells(entry: Entry, injected: bool, costs: bool) -> list[str]:
    return [
        entry.rank,
        code(entry.estimator) + (" (control)" if injected else "") + (" (biased by nature)" if entry.biased else ""),
        *(plain(c) for c in entry.context),
        entry.samples,
        f"{entry.symbol} {plain(entry.verdict)} {entry.bias}".strip(),
        f"{entry.variance} {entry.interval} {plain(entry.flag)}".strip(),
        entry.seconds,
        *([entry.cost] if costs else []),
        entry.work,
        entry.ratio,
    ]


def claims(paper: Paper, level: int) -> list[str]:
    """Return the lines of Markdown about one paper."""
    cells = ((f"{papers.SYMBOLS[s]} {s}", plain(says), "; ".join(map(plain, notes))) for s, says, notes in paper.lines)
    lines = [f"{'#' * level} {plain(paper.title)} ({code(paper.suite)})", ""]
    lines += table(papers.HEADINGS, cells) if paper.judged else []
    for figure in paper.maps:
        lines += ["", f"{plain(figure.title)} {plain(figure.caption)}"]
    return lines


def table(titles: Iterable[str], lines: Iterable[Iterable[str]]) -> list[str]:
    """Return a table of cells that are Markdown already."""
    headings = list(titles)
    return [
        f"| {' | '.join(headings)} |",
        f"| {' | '.join('---' for _ in headings)} |",
        *(f"| {' | '.join(line)} |" for line in lines),
    ]
