"""The command `gradmeter audit`, which prints what it finds about each gradient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.audit.auditing import audit
from gradmeter.bench.audit.parts import ALONE
from gradmeter.bench.checks.targets import found
from gradmeter.estimators import UsageError
from gradmeter.estimators.options import number

#: Verdicts with exit status 1, and the further one with --strict.
WRONG, OPEN = ("biased", "disagrees"), "inconclusive"


def run(
    targets: Sequence[str],
    *,
    exact: str | None,
    problem: str | None,
    objective: str | None,
    against: str | None,
    parameters: str | None,
    store: Path | None,
    strict: bool,
    json: bool,
    replicates: str | None,
    seconds: str | None,
    **options: Any,
) -> int:
    """Audit every target; return 1 if one is biased or disagrees or, with `strict`, is inconclusive."""
    given = {key: value for key, value in options.items() if value is not None}
    given |= {} if replicates is None else {"replicates": number("replicates", replicates, int, minimum=1)}
    given |= {} if seconds is None else {"seconds": number("seconds", seconds, above=0.0)}
    references: dict[str, Any] = {
        "exact": None if exact is None else _arrays("exact", exact),
        "problem": problem,
        "objective": None if objective is None else thing(objective),
        "against": None if against is None else thing(against),
    }
    point = None if parameters is None else _arrays("parameters", parameters)
    failed = False
    for gradient in [thing(target) for target in targets]:
        result = audit(gradient, point, **references, **given)
        print(result.as_json() if json else result, flush=True)
        if store is not None:
            result.save(store)
        failed |= result.verdict in WRONG or (strict and result.verdict == OPEN)
    return 1 if failed else 0


def thing(target: str) -> Any:
    """Return what `module:name` or `path.py:name` names.

    Raises
    ------
    UsageError
        There is no such thing, or the name is missing.
    """
    if ":" not in target:
        raise UsageError(f"'{target}' names no function; write module:function or path.py:function")
    return found(target)[0]


def _arrays(what: str, target: str) -> Any:
    """Return the arrays of an .npz or .npy file, or what a target names."""
    if not target.endswith((".npz", ".npy")):
        return thing(target)
    path = Path(target)
    if not path.is_file():
        raise UsageError(f"{what}: there is no file {path}")
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(f"{what}: {path} is no file of NumPy arrays ({error})") from None
    if isinstance(loaded, np.ndarray):
        return loaded
    arrays = {name: loaded[name] for name in loaded.files}
    return arrays[ALONE] if list(arrays) == [ALONE] else arrays
