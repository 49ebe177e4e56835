"""Names of rows: `problem[k=v]`, `estimator[k=v]`, and a digest where these do not distinguish rows of one table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from gradmeter.bench.rows import Row
from gradmeter.estimators.options import construct, spell, written

#: Fewest characters of a digest that are shown.
SHORTEST = 6


def problem_text(row: Row) -> str:
    """Return `name[k=v]` with the options that are not defaults, as the command line takes it."""
    from gradmeter.bench.problems import PROBLEMS

    return _spelled(row["problem"], row["problem_options"], dict(PROBLEMS))


def problem_in_words(row: Row) -> str:
    """Describe a problem with every option in effect: `Σ (z − k)² · D = 1 · q: normal · k=2, loc=0, scale=1`."""
    from gradmeter.bench.problems import PROBLEMS

    name, options = row["problem"], row["problem_options"]
    known = PROBLEMS.get(name)
    parts = [] if known is None else [known.summary]
    parts += [] if row["dimension"] is None else [f"D = {row['dimension']:,}"]
    parts += [f"q: {row['family']}"] if row["family"] else []
    parts += [f"exact gradient: {row['exact_source'].replace('-', ' ')}"] if row["exact_source"] else []
    parts += [", ".join(f"{k}={written(v)}" for k, v in options.items())] if isinstance(options, Mapping) else []
    return " · ".join(filter(None, parts))


def estimator_text(row: Row, without: Collection[str] = ()) -> str:
    """Return `name[k=v]` with the options that are not defaults, as the command line takes it.

    Parameters
    ----------
    without
        Options that are left out.
    """
    from gradmeter.bench.controls import CONTROLS
    from gradmeter.estimators import ESTIMATORS

    options = row["estimator_options"]
    if without:
        options = {name: value for name, value in options.items() if name not in without}
    return _spelled(row["estimator"], options, {**ESTIMATORS, **CONTROLS})


def telling_apart(rows: Iterable[Row]) -> Callable[[Row], tuple[str, str]]:
    """Return a function that names a row's problem and estimator so that all these rows are distinguished.

    Where one text stands for objects of different content, `#` and the start of the object's digest follow it:
    `mine#3fa2b1`.
    """
    digests: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        for kind, text in _texts(row).items():
            digests.setdefault((kind, text), set()).add(_content(row, kind))

    def named(row: Row) -> tuple[str, str]:
        found = []
        for kind, text in _texts(row).items():
            own, others = _content(row, kind), digests[kind, text]
            length = next(n for n in range(SHORTEST, 65) if n == 64 or len({d[:n] for d in others}) == len(others))
            found.append(f"{text}#{own[:length]}" if own and len(others) > 1 else text)
        return found[0], found[1]

    return named


TEXTS: dict[str, Callable[[Row], str]] = {"problem": problem_text, "estimator": estimator_text}


def _texts(row: Row) -> dict[str, str]:
    return {kind: text(row) for kind, text in TEXTS.items()}


def _content(row: Row, kind: str) -> str:
    return str((row["content"] or {}).get(kind, ""))


def injected(name: str | None) -> bool:
    """Return whether an estimator of this name has an injected bug."""
    from gradmeter.bench.controls import CONTROLS

    return name in CONTROLS


def biased(name: str | None) -> str | None:
    """Return why an estimator of this name is biased by design; None where it is not."""
    from gradmeter.estimators import ESTIMATORS

    known = ESTIMATORS.get(name or "")  # which imports nothing: a store names no code
    return None if known is None else known.biased


def follows(row: Row) -> str | None:
    """Return what an estimator of the catalogue says of its own bias, with its options; None where it says nothing."""
    from gradmeter.estimators import ESTIMATORS, UsageError

    known, options = dict(ESTIMATORS).get(row["estimator"] or ""), row["estimator_options"]
    try:
        made = None if known is None else construct(known, options or {}, f"estimator {known.name}")
        return None if made is None else made.follows(row["problem_options"] or {})
    except UsageError:  # options of another version
        return None


def _spelled(name: Any, options: Any, known: Mapping[str, type]) -> str:
    options = options if isinstance(options, Mapping) else {}
    if name in known:
        return spell(name, options, known[name])
    parts = ",".join(f"{k}={v}" for k, v in options.items())
    return f"{name}[{parts}]" if parts else str(name)
