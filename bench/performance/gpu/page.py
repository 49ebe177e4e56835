"""The report of `make gpu`: a page and a figure, from the files of the parts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gradmeter.bench.drawing import curves, plotting, standalone
from gradmeter.bench.drawing.curves import Curve
from gradmeter.bench.drawing.figure import Figure, Panel, identifier
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.performance.gpu import agreement, crossover, noise_floor, record
from gradmeter.bench.reading import numbers
from gradmeter.bench.sweep.devices import slowed

Lines = list[dict[str, Any]]
#: Appearance of each form in the figure, by device, backend and form.
STYLES = {
    ("cpu", "numpy", "eager"): Style("#8c8c94", "o"),
    ("cpu", "torch", "eager"): Style("#857446", "s"),
    ("cpu", "jax", "compiled"): Style("#5a8fd0", "D"),
    ("cuda", "torch", "eager"): Style("#d55e00", "v"),
    ("cuda", "torch", "compiled"): Style("#1f78b8", "P"),
    ("cuda", "torch", "graph"): Style("#9a57c4", "*"),
    ("cuda", "jax", "compiled"): Style("#c98500", "^"),
}


def write(folder: Path, parts: Iterable[str]) -> Path:
    """Write `report.md` and `crossover.svg` from the parts' files in a folder; return the path of the page."""
    found = {part: record.read(folder / f"{part}.json") for part in parts}
    points = _lines(found, "crossover")
    drawn = figure(points)
    if drawn is not None:
        (folder / "crossover.svg").write_text(standalone.render(drawn), encoding="utf-8")
    sections = (
        _head(found),
        _agreement(_lines(found, "agreement")),
        _crossover(points, drawn is not None),
        _floor(_lines(found, "floor")),
        _incomplete(found),
    )
    path = folder / "report.md"
    path.write_text("\n\n".join("\n".join(section) for section in sections if section) + "\n", encoding="utf-8")
    return path


def _lines(found: dict[str, dict[str, Any]], start: str) -> Lines:
    return [line for part, document in found.items() if part.startswith(start) for line in document["lines"]]


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (headings, ("---",) * len(headings), *rows)]


def _head(found: dict[str, dict[str, Any]]) -> list[str]:
    facts = found.get("facts", {})
    page = [
        "# Graphics card",
        "",
        f"Made by `make gpu` at commit {facts.get('code_version', 'unknown')}, {facts.get('started', 'unknown')[:10]}.",
        "",
    ]
    for line in facts.get("lines", []):
        page.append(f"- {line['backend']} {line.get('version') or ''}: {line.get('machine') or line.get('reason')}")
    rows = []
    for part, document in found.items():
        for when, state in (document.get("device_state") or {}).items():
            reasons = "unknown" if state["reasons"] is None else ", ".join(state["reasons"]) or "none"
            shown = (state[name] for name in ("sm_clock", "memory_clock", "temperature", "power"))
            rows.append((part, when, *("–" if value is None else f"{value:,.0f}" for value in shown), reasons))
    headings = ("part", "", "SM clock, MHz", "memory clock, MHz", "°C", "W", "why clocks are below the highest")
    page += ["", *_table(headings, rows)] if rows else []
    hot = [(part, remark) for part, d in found.items() if (remark := slowed(d.get("device_state"))) is not None]
    return page + [line for part, remark in hot for line in ("", f"**{part}: {remark}.**")]


def _agreement(lines: Lines) -> list[str]:
    if not lines:
        return []
    agree = sum(bool(line.get("agrees")) for line in lines)
    rows = []
    for line in lines:
        what = (line["problem"], line["estimator"], line["dtype"], f"{line['backend']} {line.get('form', '')}".strip())
        if "reason" in line:
            rows.append((*what, f"not compared: {line['reason']}", "–"))
        elif line["kind"] == "gradients":
            rows.append((*what, f"gradients differ by {line['difference']:.1e}, at most {line['limit']:g}", _met(line)))
        else:
            rows.append((*what, f"{_statistics(line['device'])}; CPU {_statistics(line['cpu'])}", _met(line)))
    return [
        "## Agreement with the CPU",
        "",
        f"{agree} of {len(lines)} comparisons agree. Gradients are of the same {agreement.REPLICATES} replicates of "
        "noise, drawn by NumPy, and differ relative to their largest entry. Verdicts have to be equal, and variances "
        f"within {agreement.DEVIATIONS:g} standard errors of their ratio; each side draws its own noise.",
        "",
        *_table(("problem", "estimator", "dtype", "on the card", "found", "agrees"), rows),
    ]


def _met(line: dict[str, Any]) -> str:
    return "yes" if line["agrees"] else "**no**"


def _statistics(found: dict[str, Any]) -> str:
    interval = numbers.interval(found["variance_low"], found["variance_high"])
    return f"{numbers.verdict(found['verdict'])}, variance {numbers.significant(found['variance'])} {interval}".rstrip()


def _groups(lines: Lines) -> dict[tuple[str, str, str], Lines]:
    groups: dict[tuple[str, str, str], Lines] = {}
    for line in lines:
        groups.setdefault((line["problem"], line["estimator"], line["dtype"]), []).append(line)
    return groups


def _crossover(lines: Lines, drawn: bool) -> list[str]:
    if not lines:
        return []
    rows, times = [], []
    for what, members in _groups(lines).items():
        cpu = crossover.best(line for line in members if line["device"] == "cpu")
        cards = [line for line in members if line["device"] != "cpu"]
        rows.append((*what, *_overtaking(cpu, crossover.best(cards))))
        times += [(*what, *_time(line)) for line in members]
    headings = ("problem", "estimator", "dtype", "the card overtakes from", "CPU / card there", "largest size of both")
    columns = ("problem", "estimator", "dtype", "where", "replicates", "a call", "on the card", "compilation", "memory")
    stale = [line for line in lines if line.get("fresh_noise") is False]
    return [
        "## From how many replicates a call the card is faster",
        "",
        "The fastest form on the card against the fastest on the CPU with one thread, both with the noise: medians of "
        f"{crossover.ROUNDS} rounds of one call, which waits for the result.",
        "",
        *(["![time of a call against replicates a call](crossover.svg)", ""] if drawn else []),
        *_table(headings, rows),
        "",
        *([f"**{len(stale)} graphs replayed the same noise.**", ""] if stale else []),
        "`on the card` is the time between CUDA events around several calls that do not wait for each other.",
        "",
        *_table(columns, times),
    ]


def _overtaking(cpu: dict[int, float], card: dict[int, float]) -> tuple[str, str, str]:
    both = sorted(cpu.keys() & card.keys())
    if not both:
        return "not measured", "–", "–"
    size = crossover.overtakes(cpu, card)
    last = f"{numbers.times(cpu[both[-1]] / card[both[-1]])} at {both[-1]:,}"
    if size is None:
        return f"never, up to {both[-1]:,}", "–", last
    return f"{size:,}" + (" or fewer" if size == both[0] else ""), numbers.times(cpu[size] / card[size]), last


def _time(line: dict[str, Any]) -> tuple[str, ...]:
    where = f"{'CPU' if line['device'] == 'cpu' else 'card'}, {line['backend']} {line['form']}"
    if "reason" in line:
        return where, f"{line['replicates']:,}", f"not timed: {line['reason']}", "–", "–", "–"
    memory = line["peak_memory"]
    return (
        where,
        f"{line['replicates']:,}",
        *(numbers.seconds(line[name]) for name in ("seconds", "device_seconds", "compile_seconds")),
        "–" if memory is None else f"{memory / 2**20:,.1f} MiB",
    )


def figure(lines: Lines) -> Figure | None:
    """Return seconds of a call against replicates a call, a panel for each workload in float32 or the only dtype."""
    panels, key = [], {}
    groups = {what: found for what, found in _groups(lines).items() if any("seconds" in line for line in found)}
    shown = {what: found for what, found in groups.items() if what[2] == "float32"} or groups
    for what, members in shown.items():
        drawn = [
            _curve(place, found)
            for place, found in _by_place(members).items()
            if any(line.get("seconds") for line in found)
        ]
        name = identifier("gpu", *what)
        title, width = f"{what[0]}, {what[1]}", curves.width_of(2)
        with plotting.styled():
            svg, unlabelled = curves.panel(
                name, drawn, title, "replicates in a call", "seconds of a call", log_x=True, width=width
            )
        key.update({curve.label: curve.look for curve in unlabelled})
        panels.append(Panel(svg, f"Seconds of a call against replicates in it: {', '.join(what)}"))
    if not panels:
        return None
    dtypes = " and ".join(dict.fromkeys(what[2] for what in shown))
    return Figure(f"Time of a call, {dtypes}", "", panels, "make gpu", list(key.items()))


def _by_place(lines: Lines) -> dict[tuple[str, str, str], Lines]:
    ordered = sorted(lines, key=lambda line: (_place(line), line["replicates"]))
    return {place: list(found) for place, found in itertools.groupby(ordered, key=_place)}


def _place(line: dict[str, Any]) -> tuple[str, str, str]:
    return line["device"], line["backend"], line["form"]


def _curve(place: tuple[str, str, str], lines: Lines) -> Curve:
    device, backend, form = place
    curve = Curve(f"{'CPU' if device == 'cpu' else 'card'}, {backend} {form}", STYLES[place])
    for line in lines:
        if line.get("seconds"):
            curve.add(float(line["replicates"]), line["seconds"], None, None)
    return curve


def _floor(lines: Lines) -> list[str]:
    if not lines:
        return []
    rows = []
    for line in lines:
        what = (line["problem"], line["estimator"], line["dtype"], f"{line['backend']} {line['form']}")
        if "reason" in line:
            rows.append((*what, f"not timed: {line['reason']}", "–", "–", "–"))
            continue
        noise = numbers.seconds(line["noise_seconds"])
        ratios = (numbers.times(*line[name]) if line[name] else "–" for name in ("ratio", "device_ratio"))
        rows.append((*what, *ratios, noise, "met" if line["met"] else "not met"))
    goal = f"at most {noise_floor.GOAL:g}"
    return [
        "## Kernel over its noise alone",
        "",
        f"Randomised interleaved pairs on the card, {goal} by the wall clock. `statistics` is the kernel of every "
        "measurement, with all block sums copied to the host; the other forms average the estimates on the card.",
        "",
        *_table(("problem", "estimator", "dtype", "form", "ratio", "by CUDA events", "the noise", goal), rows),
    ]


def _incomplete(found: dict[str, dict[str, Any]]) -> list[str]:
    failed = [f"- {part} ended early: {d['failure']}" for part, d in found.items() if d.get("failure")]
    left = [f"- {part}: {what}" for part, d in found.items() for what in d["left_out"]]
    return ["## What is missing", "", *failed, *left] if failed or left else []
