"""What the report says, before it becomes HTML or Markdown: answers, sections, figures, provenance."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field

from gradmeter.bench.drawing import plotting
from gradmeter.bench.drawing.figure import Figure, identifier
from gradmeter.bench.drawing.style import Style, styles
from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.names import problem_in_words
from gradmeter.bench.reading.results import Result
from gradmeter.bench.report import directions, minibatch_table, networks, peers, sweeps, tables
from gradmeter.bench.report.advice import UNTIMED, AdviceLine, Recommendation, advise
from gradmeter.bench.report.figures import (
    against_parameter,
    against_samples,
    backends,
    cost,
    minibatch,
    overview,
    signal_to_noise,
)
from gradmeter.bench.report.findings import findings
from gradmeter.bench.report.papers import Paper, papers
from gradmeter.bench.report.peers import Peers
from gradmeter.bench.report.provenance import Provenance, provenance
from gradmeter.bench.report.ranking import Ranking, rank
from gradmeter.bench.report.sweeps import Sweep
from gradmeter.bench.report.tables import Table

MOST_FIGURES = 40
#: Verdicts of what can be recommended, the strongest first.
CERTAINTY = ("unbiased", "inconclusive", "no-reference")
UNKNOWN = "a machine that is not named"
UNTIMED_REPORT = "Nothing here was timed: estimators are ranked by variance × integrand evaluations."


@dataclass
class Section:
    """One problem."""

    id: str
    title: str
    ranking: Ranking
    advice: Recommendation
    table: Table
    figures: list[Figure] = field(default_factory=list)

    @property
    def about(self) -> str:
        return problem_in_words(next((r.row for r in self.ranking.results if r.measured), self.ranking.results[0].row))

    @property
    def details(self) -> tuple[list[str], list[list[str]]]:
        return tables.details(self.ranking)

    @property
    def parts(self) -> tuple[list[str], list[list[str]]]:
        return minibatch_table.table(self.ranking)

    @property
    def directions(self) -> tuple[list[str], list[list[str]]]:
        return directions.table(self.ranking)

    @property
    def networks(self) -> tuple[list[str], list[list[str]]]:
        return networks.table(self.ranking)

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        return tables.failures(self.ranking)


@dataclass
class Chapter:
    """One problem, or a sweep of one over a parameter.

    Attributes
    ----------
    answers
        For a sweep, (values, advice), one an estimator.
    figure
        Variance against the parameter, or signal-to-noise ratio against K.
    """

    id: str
    title: str
    sections: list[Section]
    sweep: Sweep | None = None
    answers: list[tuple[str, Recommendation]] = field(default_factory=list)
    figure: Figure | None = None


@dataclass
class Document:
    """Everything that both renderings show."""

    chapters: list[Chapter]
    overview: Figure | None
    provenance: Provenance
    styles: dict[str, Style]
    cells: int
    figures_left_out: int = 0
    peers: Peers | None = None
    findings: list[str] = field(default_factory=list)
    papers: list[Paper] = field(default_factory=list)

    @property
    def leading(self) -> dict[str, Figure]:
        """The figures that stand for whole chapters, by a name for their file."""
        found = {} if self.overview is None else {"overview": self.overview}
        for chapter in self.chapters:
            if chapter.figure is not None and chapter.sweep is not None:
                name = re.sub(r"[^a-z0-9]+", "-", f"{chapter.sweep.problem} against {chapter.sweep.option}".lower())
                found[name if name not in found else f"{name}-{len(found)}"] = chapter.figure
        return found

    @property
    def failed(self) -> int:
        return sum(len(s.ranking.failed) for c in self.chapters for s in c.sections)


def compose(results: list[Result], superseded: int) -> Document:
    """Rank, advise and draw."""
    ours, theirs = peers.split(results)
    rankings = rank(ours)
    look = styles(r.estimator for r in ours)
    several = len({r.machine for r in rankings}) > 1
    found = sweeps.find(rankings)
    sections = {id(r): _section(r, look, several) for r in rankings}
    chapters, seen = [], set()
    for ranking in rankings:
        sweep = next((s for s in found if any(r is ranking for _, r in s.points)), None)
        if sweep is None:
            section = sections[id(ranking)]
            chapters.append(Chapter(section.id, section.title, [section]))
        elif id(sweep) not in seen:
            seen.add(id(sweep))
            members = [sections[id(r)] for _, r in sweep.points]
            title = sweep.title + (f" · {sweep.machine or UNKNOWN}" if several else "")
            chapters.append(Chapter(identifier("chapter", title), title, members, sweep, _answers(sweep, members)))
    document = Document(chapters, None, provenance(results, superseded), look, len(ours))
    document.peers = peers.compare(ours, theirs)
    document.findings = findings(rankings, found)
    _say_once(document)
    with plotting.styled():
        document.papers = papers(ours, look)
        _draw(document, several)
    return document


def _say_once(document: Document) -> None:
    """Remove from the answers the caveats that hold for the whole report, which states them once."""
    if any(r.timed for c in document.chapters for s in c.sections for r in s.ranking.results):
        return
    document.provenance.warnings.append(UNTIMED_REPORT)
    for chapter in document.chapters:
        for section in chapter.sections:
            section.advice = section.advice.without(UNTIMED)
        chapter.answers = [(span, advice.without(UNTIMED)) for span, advice in chapter.answers]


def _section(ranking: Ranking, look: dict[str, Style], several_machines: bool) -> Section:
    title = ranking.problem + (f" · {ranking.machine or UNKNOWN}" if several_machines else "")
    return Section(identifier("section", title), title, ranking, advise(ranking), tables.table(ranking, look))


def _answers(sweep: Sweep, sections: list[Section]) -> list[tuple[str, Recommendation]]:
    """Return an answer for each estimator that is recommended at some values.

    It consists of these values, and of the smallest and largest ratio there.
    """
    values = [value for value, _ in sweep.points]
    groups: dict[str | None, list[int]] = {}
    for i, section in enumerate(sections):
        groups.setdefault(section.advice.use, []).append(i)
    return [
        (f"{sweep.option} = {_spans(values, places)}", _together([(values[i], sections[i].advice) for i in places]))
        for places in groups.values()
    ]


def _spans(values: list[float], places: list[int]) -> str:
    """Return values as text, with neighbours as one span: `0.5 to 2, 4`."""
    spans: list[list[int]] = []
    for i in places:
        if spans and spans[-1][-1] == i - 1:
            spans[-1].append(i)
        else:
            spans.append([i])
    ends = [(values[span[0]], values[span[-1]]) for span in spans]
    return ", ".join(f"{first:g}" + (f" to {last:g}" if last != first else "") for first, last in ends)


def _together(found: list[tuple[float, Recommendation]]) -> Recommendation:
    """Return one recommendation from those that one estimator gets at several values."""
    several = [advice for _, advice in found]
    first = several[0]
    if len(found) == 1 or first.use is None:
        return first
    common = [c for c in first.caveats if all(c in a.caveats for a in several)]
    verdict = max((a.verdict for a in several), key=CERTAINTY.index)
    weaker = [f"{value:g}" for value, advice in found if advice.verdict == verdict]
    if len(weaker) < len(found):
        common.append(f"{verdict} only at {', '.join(weaker)}")
    setting = first.setting if all(a.setting == first.setting for a in several) else ""
    compared = [(value, a.comparisons[0]) for value, a in found if a.comparisons]
    return Recommendation(first.use, verdict, "", setting, ranged(compared), (), tuple(common))


def ranged(compared: list[tuple[float, AdviceLine]]) -> tuple[AdviceLine, ...]:
    """Return the ratios to the runner-up, from the smallest to the largest, as one comparison.

    Where they are not significant, the comparison says so.
    """
    shown = [c for _, c in compared if c.settled] or [c for _, c in compared]
    if not shown or len({c.words for c in shown}) > 1:
        return tuple(c for _, c in compared[:1])
    least, most = (choose(c.size.value for c in shown) for choose in (min, max))
    text, last = numbers.times(least), numbers.times(most)
    text += f" to {last}" if last != text else ""
    first, others = shown[0], {c.other for c in shown}
    other, words = (
        (first.other, first.words)
        if len(others) == 1
        else ("", f"{first.words.removesuffix(',')} best" if first.settled else f"{first.words} the next best")
    )
    unsettled = ", ".join(f"{value:g}" for value, c in compared if not c.settled)
    setting = f"no significant difference at {unsettled}" if unsettled and first.settled else ""
    return (dataclasses.replace(first, ratio=text, words=words, other=other, setting=setting, note=""),)


def _draw(document: Document, several_machines: bool) -> None:
    """Add figures, the most telling first where there are too many."""
    ordered = [section.ranking for chapter in document.chapters for section in chapter.sections]
    document.overview = overview.figure(ordered, document.styles, several_machines) if len(ordered) > 1 else None
    drawn = 0
    for chapter in document.chapters:
        if chapter.sweep is not None:
            ratio = signal_to_noise.figure(chapter.sweep, document.styles)
            chapter.figure = ratio or against_parameter.figure(chapter.sweep, document.styles)
            drawn += 1
    for make in (against_samples.figure, minibatch.figure, backends.figure, cost.figure):
        for chapter in document.chapters:
            if make is cost.figure and chapter.sweep is not None:
                continue
            for section in chapter.sections:
                if drawn >= MOST_FIGURES:
                    document.figures_left_out += 1
                    continue
                figure = make(section.ranking, document.styles)
                if figure is not None:
                    section.figures.append(figure)
                    drawn += len(figure.panels)
