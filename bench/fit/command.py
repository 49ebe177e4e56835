"""The command `gradmeter fit` after parsing: plan the fits, run them with a progress bar, and write the results."""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradmeter.bench.cells import CHOICES, NOISES, check_choice, make_estimator, make_problem, values_of
from gradmeter.bench.fit import output, page
from gradmeter.bench.fit.checkpoint import Checkpoints
from gradmeter.bench.fit.figures import level
from gradmeter.bench.fit.methods import METHODS
from gradmeter.bench.fit.recipe import Gradient, Recipe
from gradmeter.bench.fit.run import FAILED, RISES, Checkpoint, Fit, Plan, Watcher, names, run
from gradmeter.bench.optimisation.optimisers import make_optimiser
from gradmeter.bench.rows import Row, to_json
from gradmeter.bench.terminal import Interrupts, bars, print_table
from gradmeter.estimators import UsageError, backends
from gradmeter.estimators.errors import unknown
from gradmeter.estimators.options import construct, number, parse

Texts = Sequence[str] | None

#: Default estimators, of which those that apply are used.
USUAL = ("pathwise", "score-function[baseline=leave-one-out]")
USUAL_OF_BOUNDS = ("iwae", "dreg")
MOST_STEPS = 10**9
#: Largest default number of steps between checkpoints.
MOST_BETWEEN = 1000


def make_method(text: str) -> Recipe:
    """Construct an exact method from `name[k=v,...]`."""
    name, given = parse(text, "method")
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return construct(METHODS[name], given, f"method {name}")


def plans(
    problem: str,
    *,
    estimator: Texts = None,
    method: Texts = None,
    optimiser: Texts = None,
    learning_rate: Texts = None,
    samples: Texts = None,
    backend: Texts = None,
    device: str | None = None,
    dtype: str | None = None,
    noise: str | None = None,
    seed: Texts = None,
    steps: str | None = None,
    every: str | None = None,
    replicates: str | None = None,
    refit: str | None = None,
    checkpoint: str | None = None,
) -> list[Plan]:
    """Return the fits that a command specifies: all combinations, exact methods last.

    Raises
    ------
    UsageError
        A name or value is wrong, or no fit can run.
    """
    fitted = make_problem(problem, fitted=True)
    where = {
        "device": check_choice("device", "cpu" if device is None else device, CHOICES["device"]),
        "dtype": check_choice("dtype", "float64" if dtype is None else dtype, CHOICES["dtype"]),
        "noise": check_choice("noise", "native" if noise is None else noise, NOISES),
    }
    names_of_backends = values_of("backend", backend or ("numpy",))
    for reason in filter(None, map(backends.missing, names_of_backends)):
        raise UsageError(reason)
    usual = USUAL_OF_BOUNDS if fitted.importance_samples > 1 else USUAL
    chosen = [make_estimator(text) for text in estimator or (() if method else usual)]
    followers = [
        make_optimiser(text, rate)
        for text in optimiser or ("adam",)
        for rate in learning_rate or (fitted.learning_rate if text == "adam" else None,)
    ]
    sizes = values_of("samples", samples or (10,), "--samples")
    again = _whole("--refit", refit, 100, minimum=1)
    recipes: list[Recipe] = [
        Gradient(e, o, s, backend=b, refit=again, **where)
        for e, o, b, s in itertools.product(chosen, followers, names_of_backends, sizes)
    ]
    recipes += [make_method(text) for text in method or ()]
    count = _whole("--steps", steps, fitted.steps, minimum=1, maximum=MOST_STEPS)
    often = max(1, min(count // 10, MOST_BETWEEN))
    length: dict[str, Any] = {
        "steps": count,
        "checkpoint": _whole("--checkpoint", checkpoint, often, minimum=1, maximum=MOST_STEPS),
        "every": _whole("--every", every, 0, minimum=1),
        "replicates": _whole("--replicates", replicates, 1024, minimum=0, maximum=2**24),
    }
    if length["replicates"] == 1:
        raise UsageError("--replicates is 1; it must be 0, which measures no variance, or at least 2")
    seeds = values_of("seed", seed or (0,), "--seed")
    found = [Plan(fitted, recipe, s, **length) for recipe in dict.fromkeys(recipes) for s in dict.fromkeys(seeds)]
    reasons = [plan.impossible() for plan in found]
    if all(reasons):
        raise UsageError(str(reasons[0]))
    for plan, why in zip(found, reasons, strict=True):  # an exact method is for one problem; an estimator gets a row
        if why is not None and not isinstance(plan.recipe, Gradient):
            raise UsageError(f"{why}; leave out --method {plan.recipe.parts()['method']}")
    if not estimator and not method:  # default estimators that do not apply are dropped silently
        found = [plan for plan, reason in zip(found, reasons, strict=True) if reason is None]
    return found


def _whole(what: str, text: str | None, default: int, **bounds: int) -> int:
    return default if text is None else int(number(what, text, int, **bounds))


class _Shown(Watcher):
    """A watcher that writes rows to disk, prints them if asked, and updates the progress bar."""

    def __init__(
        self, kept: output.Output, saved: Checkpoints, shown: Any, printing: bool, titles: dict[int, str]
    ) -> None:
        self._kept, self._saved, self._shown, self._printing, self._titles = kept, saved, shown, printing, titles
        self._task: Any = None
        self._title = ""

    def started(self, plan: Plan) -> None:
        if self._shown is not None:
            self._title = self._titles[id(plan)]
            self._task = self._shown.add_task("fitting", total=plan.steps, detail=self._title)

    def stepped(self, t: int) -> None:
        if self._shown is not None and (t < 100 or t % 100 == 0):
            self._shown.update(self._task, completed=t)

    def logged(self, found: Row) -> None:
        self._kept.add(found)
        if self._printing:
            print(to_json(found), flush=True)
        if self._task is not None and found["objective"] is not None:
            reached = f"{self._title} · {level(found['objective'])}"
            self._shown.update(self._task, completed=found["iteration"], detail=reached)

    def keep(self, plan: Plan, found: Checkpoint) -> None:
        self._saved.save(plan, found)


def resumed(found: Sequence[Plan], titles: Sequence[str], saved: Checkpoints) -> list[Checkpoint | None]:
    """Return the checkpoint of each fit, or None for fits that had not started, and report them on standard error.

    Raises
    ------
    UsageError
        No fit has a checkpoint, or no checkpoint of some fit can be read.
    """
    loaded = [saved.load(plan) for plan in found]
    if not any(loaded):
        why = saved.difference(found[0])
        raise UsageError(f"{saved.folder} holds no checkpoint of these fits{why}; leave out --resume to begin anew")
    for title, each in zip(titles, loaded, strict=True):
        if each is not None and each.complaint:
            print(f"gradmeter: {title}: {each.complaint}", file=sys.stderr)
        goes_on = "begins" if each is None else f"goes on from iteration {each.checkpoint.iteration:,}"
        print(f"gradmeter: {title} {goes_on}", file=sys.stderr)
    return [None if each is None else each.checkpoint for each in loaded]


def fit(found: Sequence[Plan], folder: Path, json: bool, given: Sequence[str], resume: bool = False) -> int:
    """Run plans one after another, write the results and return the exit status.

    Parameters
    ----------
    given : sequence of str
        The command's arguments.
    resume : bool
        Whether to continue from the checkpoints in the folder.
    """
    titles = names(found)
    fits = {title: Fit(plan) for title, plan in zip(titles, found, strict=True)}
    by_plan = {id(plan): title for title, plan in zip(titles, found, strict=True)}
    saved, broken = Checkpoints(folder), False
    begins = resumed(found, titles, saved) if resume else [None] * len(titles)
    with output.opened(folder) as kept, Interrupts("step").heard() as interrupted:
        saved.make()
        with bars(json) as shown:
            watcher = _Shown(kept, saved, shown, json, by_plan)
            try:
                for each, begin in zip(fits.values(), begins, strict=True):
                    if interrupted():
                        break
                    run(each.plan, each, watcher, interrupted, begin)
            except KeyboardInterrupt:
                broken = True
        done = {title: each for title, each in fits.items() if each.rows}
        where = kept.finish(done, shlex.join(["gradmeter", *given])) if done else None
    if not json:
        shown = page.headings(done)
        begun = [(n, *page.cells(f, shown)) for n, f in done.items() if not f.impossible]
        print_table(("method", *shown), begun, right=shown)
    for title, each in done.items():
        if each.rows[-1]["status"] != "ok":
            print(f"gradmeter: {title}: {page.note(each)}", file=sys.stderr)
    print(f"fit: {where or folder}", file=sys.stderr)
    for title, each in done.items():
        if each.rises:
            print(f"gradmeter: {title}: {RISES}", file=sys.stderr)
    if broken or interrupted():
        goes_on = "the same command with --resume goes on from there"
        anew = "no checkpoint was written yet, so the same command begins anew"
        there = any(saved.path(plan).exists() for plan in found)
        print(f"gradmeter: stopped; what was fitted is kept, {goes_on if there else anew}", file=sys.stderr)
        return 130
    failed = any(r["status"] in FAILED for each in done.values() for r in each.rows)
    return 1 if failed or all(each.impossible for each in done.values()) else 0
