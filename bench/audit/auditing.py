"""`gradmeter.audit`: is a gradient of yours, or of a library, unbiased, and how large is its variance?"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gradmeter.bench.audit import references
from gradmeter.bench.audit.calls import (
    MOST_NUMBERS,
    STREAMS,
    Called,
    Caller,
    Endless,
    Loop,
    Raised,
    Watch,
    batched,
    changed,
    global_generators_kept,
    kept,
    quiet,
    raised,
    randomness,
    root_of,
)
from gradmeter.bench.audit.faults import Means, likely_fault
from gradmeter.bench.audit.findings import advice, beside, coordinates_of, entropy_of, means_beside, means_of, rows_of
from gradmeter.bench.audit.inference import KINDS, arguments_of, as_arrays, backend_of, kinds_of, name_of
from gradmeter.bench.audit.parts import Form
from gradmeter.bench.audit.result import Audit
from gradmeter.bench.audit.source import Blocks, Described, Replicates
from gradmeter.bench.cells import FEWEST, StoppingCriteria, make_problem, values_of
from gradmeter.bench.measurement.analyses import NOT_OURS, Measurement, measure_source
from gradmeter.bench.measurement.columns import SCALE
from gradmeter.bench.measurement.plan import capped
from gradmeter.bench.measurement.stream import NonFinite
from gradmeter.bench.measurement.verdict import Evidence
from gradmeter.bench.problems import Exact, Problem
from gradmeter.bench.rows import ALL, Row
from gradmeter.bench.sweep.measuring import now
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import unknown
from gradmeter.estimators.options import number

#: Replicates that are looked at before the measurement: the same seeds twice, and different ones.
TRIED = 8
#: Relative difference of two gradients of one seed that rounding may make.
SAME = 1e-5
#: Most replicates in one block.
LARGEST_BLOCK = 4096
#: Share of the budget for the mean of the other gradient with `against`, and for the variance of the first.
FOR_THE_OTHER = 0.125
#: The plan allows for this many times the replicates that a first timing promises, since calls become faster.
SURPLUS = 8
#: Share of the time that is left for which further replicates are planned.
SAFELY = 0.8
#: Columns about the variance of one gradient.
OF_VARIANCE = ("variance", "variance_low", "variance_high", "variance_flag", "skewness", "kurtosis", "tail_k")


def audit(
    gradient: Callable[..., Any],
    parameters: Any = None,
    *,
    exact: Any = None,
    objective: Callable[..., Any] | None = None,
    problem: str | Problem | None = None,
    log_density: Callable[..., Any] | None = None,
    integrand: Callable[..., Any] | None = None,
    against: Callable[..., Any] | None = None,
    backend: str = "auto",
    rng: str = "auto",
    samples: int | None = None,
    replicates: int = 2**20,
    seconds: float = 30.0,
    seed: int = 0,
    bias_bound: float = StoppingCriteria.bias_bound,
    precision: float = StoppingCriteria.precision,
    vectorize: str | bool = "auto",
    name: str | None = None,
) -> Audit:
    """Measure the bias and the variance of any function that estimates a gradient.

    Parameters
    ----------
    gradient
        Called as `gradient(parameters, rng)`, or `gradient(rng)` without parameters. It returns an array, or a dict,
        list, tuple or other tree of arrays; the parts of the result are named after it. With a `torch.nn.Module` as
        parameters it may return the loss, or have called `backward()`.
    parameters
        First argument of the gradient: arrays, a tree of arrays, or a `torch.nn.Module`. The gradient must not change
        it.
    exact
        Reference: the exact gradient, in the form that the gradient returns, or a function of the parameters to it.
    objective
        Reference: a deterministic function of the parameters. It is differentiated in float64, automatically on JAX and
        PyTorch, numerically on NumPy.
    problem
        Reference: a problem of the catalogue with its exact gradient, such as `"square[dim=3]"`. Parts are `loc` and
        `log_scale` (derivatives in log σ), or what the problem's family has; without `parameters`, a gradient of two
        arguments gets those of the problem, {block: array}.
    log_density, integrand
        Reference: ∇_λ ∫ q_λ(z) f_λ(z) dz with `log_density(parameters, z)` for log q and `integrand(parameters, z)` or
        `integrand(z)` for f, z an array [D]. Integrated by quadrature for D of at most 2, else by RQMC, with the error
        that is stated.
    against
        Reference: another gradient, called in the same way. The verdict is then `agrees` or `disagrees`.
    backend
        `numpy`, `torch` or `jax`; `auto` tells it from the parameters and from the code.
    rng
        What the gradient takes: `key` (of JAX), `generator` (a `numpy.random.Generator` or a `torch.Generator`), `seed`
        (a whole number), or `global` (nothing: the global generators of Python, NumPy and PyTorch are seeded before).
    samples
        S, passed on as `num_samples` to a gradient that takes it; also used to name the fault.
    replicates
        The most gradients that are made, at least 64.
    seconds
        The most time that is spent, in seconds; one call may go on for a little longer.
    seed
        Seed of all randomness.
    bias_bound
        Certified relative bias to reach: a part of ‖g‖, below 1.
    precision
        Half-width of the 95 % interval of log variance to reach.
    vectorize
        Whether gradients are made in batches, by `jax.vmap` or `torch.func.vmap`; `auto` does so where it gives the
        same gradients as single calls.
    name
        Name of the gradient in the result.

    Returns
    -------
    Audit
        Verdict, bias, variance, likely fault. Without a reference the verdict is `no-reference`.

    Raises
    ------
    UsageError
        The gradient raises, returns something that is no gradient, does not return, or an argument is wrong.
    """
    if not callable(gradient):
        raise UsageError(f"{gradient!r:.60} is no function; audit(gradient) takes one that returns a gradient")
    references_given = {
        "exact": exact,
        "problem": problem,
        "objective": objective,
        "integrand": integrand,
        "against": against,
    }
    chosen = [key for key, value in references_given.items() if value is not None]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(f'{key}=' for key in chosen)} are two references; give one of them")
    if (log_density is None) != (integrand is None):
        raise UsageError("log_density= and integrand= belong together; give both")
    for key, value in (("objective", objective), ("log_density", log_density), ("integrand", integrand)):
        if value is not None and not callable(value):
            raise UsageError(f"{key} is {value!r:.60}; it must be a function")
    if rng not in ("auto", *KINDS):
        raise unknown("rng", str(rng), ("auto", *KINDS))
    if vectorize not in ("auto", True, False):
        raise UsageError(f"vectorize is {vectorize!r}; it must be 'auto', True or False")
    goals = StoppingCriteria(precision, bias_bound, replicates)
    seconds = number("seconds", seconds, above=0.0)
    num_samples = None if samples is None else values_of("samples", samples)[0]
    bundled = make_problem(problem) if isinstance(problem, str) else problem
    session = _Session(
        name or name_of(gradient),
        backend,
        rng,
        num_samples,
        values_of("seed", seed)[0],
        goals,
        Watch(seconds),
        vectorize,
    )
    with global_generators_kept():
        if against is not None:
            return session.compare(gradient, against, parameters)
        return session.audit(
            gradient, parameters, chosen[0] if chosen else None, references_given, log_density, bundled
        )


class _Session:
    """One audit: its options, its deadline, and what it found so far."""

    def __init__(
        self,
        name: str,
        backend: str,
        rng: str,
        num_samples: int | None,
        seed: int,
        goals: StoppingCriteria,
        watch: Watch,
        vectorize: str | bool,
    ) -> None:
        self.name, self.backend, self.rng, self.num_samples = name, backend, rng, num_samples
        self.seed, self.goals, self.watch, self.vectorize = seed, goals, watch, vectorize
        self.started = now()
        self.remarks: list[str] = []
        self.repeats: str | None = None

    def audit(
        self,
        gradient: Callable[..., Any],
        parameters: Any,
        kind: str | None,
        given: Mapping[str, Any],
        log_density: Any,
        problem: Problem | None,
    ) -> Audit:
        """Audit a gradient against the reference of this kind, or against none."""
        source = self._prepared(gradient, parameters, problem, self.name)
        called = source.caller.called
        with self.watch.spending("the reference"), self.watch.call("the reference"):
            reference = functools.partial(self._reference, kind, given, log_density, problem, source.caller)
            exact = self._guarded("the reference", reference)
        measured = self._measured(source, exact)
        self._unchanged(called)
        means = None if exact is None else means_beside(measured, exact)
        entropy = entropy_of(problem, source.caller.form)
        fault = None
        if means is not None and measured.blocks[ALL]["verdict"] == "biased":
            fault = likely_fault(means, called.parameters, self.num_samples, entropy)
        rows = self._rows(measured, source, problem)
        if self.repeats and measured.blocks[ALL]["verdict"] in ("biased", "inconclusive"):
            rows = [
                {**r, "verdict": "inconclusive", "variance_flag": "dependent", "reason": self.repeats} for r in rows
            ]
            fault = "draws repeat"
        said = None if problem is None else beside(problem, rows[-1], self.watch, self.num_samples)
        return self._result(rows, source, measured, means, fault, said)

    def compare(self, gradient: Callable[..., Any], other: Callable[..., Any], parameters: Any) -> Audit:
        """Audit whether two gradients have the same mean."""
        if not callable(other):
            raise UsageError(f"against is {other!r:.60}; it must be a function that returns a gradient")
        source = self._prepared(gradient, parameters, None, self.name)
        reference = self._prepared(other, parameters, None, name_of(other))
        forms = source.caller.form, reference.caller.form
        if forms[0].sizes != forms[1].sizes:
            raise UsageError(
                f"{self.name} returns {_form(forms[0])}, and against= {_form(forms[1])}; they must have the same form"
            )
        rough = means_of(self._measured(reference, None, FOR_THE_OTHER))
        variance = self._measured(source, None, FOR_THE_OTHER)
        mean = {name: m for name, (m, _) in rough.items()}
        norm = math.sqrt(sum(float(m @ m) for m in mean.values()))
        error = math.sqrt(sum(float(e @ e) for _, e in rough.values()))
        if error > 0.2 * norm:
            self.remarks.append("the mean of against= is not known well, and bias is relative to it")
        # Differences of replicates that share their seeds, which vary less where the gradients draw alike.
        source.minus = reference, mean
        exact = Exact(mean, "estimator", error=1e-13)
        measured = self._measured(source, exact)
        called = source.caller.called
        self._unchanged(called)
        words = {"unbiased": "agrees", "biased": "disagrees"}
        for block, columns in measured.blocks.items():
            columns |= {key: variance.blocks[block][key] for key in OF_VARIANCE} | {"snr": None}
            columns["verdict"] = words.get(columns["verdict"], columns["verdict"])
        means = means_beside(measured, exact)
        whole = measured.blocks[ALL]["verdict"]
        fault = likely_fault(means, called.parameters, self.num_samples, {}) if whole == "disagrees" else None
        rows = self._rows(measured, source, None)
        return self._result(rows, source, measured, means, fault, None)

    # Before the measurement.

    def _prepared(
        self, gradient: Callable[..., Any], parameters: Any, problem: Problem | None, name: str
    ) -> Replicates:
        """Find out how a gradient is called, call it, and check what it does with its seeds."""
        framework = backend_of(gradient, parameters, self.backend, self.rng)
        if parameters is None and problem is not None and _takes_two(gradient):
            parameters = as_arrays(problem.parameters(), framework)
        arguments = arguments_of(gradient, parameters is not None, self.rng)
        root, first = root_of(self.name, self.seed), None  # gradients that are compared share their seeds
        kinds = [(kind, framework) for kind in kinds_of(arguments, self.rng, framework)]
        if (
            framework != "numpy"
            and self.backend == "auto"
            and self.rng in ("auto", "generator")
            and arguments.randomness
        ):
            kinds.append(("generator", "numpy"))  # it may name two frameworks, and draw with NumPy
        for kind, framework in kinds:
            called = Called(gradient, parameters, arguments, kind, framework, root, self.num_samples, name)
            before = kept(parameters)
            try:
                form = self._tried(called)
            except Raised as error:
                first = first or Raised(
                    f"{error}; it was given {_given(kind, framework)}: backend= and rng= change that"
                )
                continue
            name_changed = changed(before, parameters)
            if name_changed is not None:
                raise UsageError(f"{name} changes its parameters: {name_changed} differs after a call; copy it first")
            self.before = before
            with self.watch.call(name), quiet():
                caller = self._guarded(name, functools.partial(batched, called, form, self.vectorize))
            source = Replicates(caller, self.watch, spent=called.made)
            with self.watch.spending("the first calls, compilation included,"):
                try:
                    self._seeds(source)
                except Raised:
                    if not caller.vectorised or self.vectorize is True:
                        raise
                    called.remarks.append("called once a replicate: batches raise an error")
                    source = Replicates(Loop(called, form), self.watch, spent=called.made)
                    self._seeds(source)
            return source
        assert first is not None
        raise first

    def _guarded(self, name: str, run: Callable[[], Any]) -> Any:
        """Run something that calls a user's function of this name, and turn what it raises into one line."""
        try:
            return run()
        except (UsageError, KeyboardInterrupt, Endless):
            raise
        except BaseException as error:
            raise raised(name, error) from error

    def _tried(self, called: Called) -> Form:
        """Call the gradient twice and return the form of what it returns."""

        def once(place: int) -> Form:
            return Form.of(called(next(randomness(called, 0, place, 1))), called.name)

        with self.watch.call(called.name), quiet():
            first, second = (self._guarded(called.name, functools.partial(once, place)) for place in range(2))
        if first != second:
            raise UsageError(f"{called.name} returned {_form(first)}, then {_form(second)}; its form must not change")
        return first

    def _seeds(self, source: Replicates) -> None:
        """Check that a seed gives the same gradient every time, and other seeds give others."""
        called = source.caller.called
        try:
            found, again = source(0, 0, TRIED), source(0, 0, TRIED)
        except NonFinite as error:
            raise UsageError(f"{error}; a gradient must be finite") from None
        for name, a in found.items():
            size = float(np.max(np.abs(a), initial=0.0))
            off = np.abs(a - again[name]) > SAME * size
            if off.any():
                place, j = (int(i) for i in np.argwhere(off)[0])
                hint = "" if called.kind != "global" else ", all through the global generators"
                hint += "" if called.backend != "torch" else ", set .grad to None before backward()"
                raise UsageError(
                    f"{called.name} is not a function of its randomness: the same {_said(called.kind)} gave "
                    f"{a[place, j]:.6g}, then {again[name][place, j]:.6g} for {name}[{j}]; draw everything from what "
                    f"it is given{hint}, and keep nothing between calls"
                )
        if all(np.all(a == a[0]) for a in found.values()):
            self.repeats = (
                f"{TRIED} different {_said(called.kind)}s gave the same gradient: it does not vary, or it ignores the "
                f"{_said(called.kind)} that it is given"
            )

    def _reference(
        self,
        kind: str | None,
        given: Mapping[str, Any],
        log_density: Any,
        problem: Problem | None,
        caller: Caller,
    ) -> Exact | None:
        form, parameters = caller.form, caller.called.parameters
        with quiet():
            if kind == "exact":
                return references.given(given["exact"], parameters, form)
            if kind == "problem":
                assert problem is not None
                return references.of_problem(problem, form)
            if kind == "objective":
                return references.of_objective(given["objective"], parameters, form)
            if kind == "integrand":
                return references.of_density(log_density, given["integrand"], parameters, form)
        return None

    # The measurement.

    def _measured(self, source: Replicates, exact: Exact | None, share: float = 1.0) -> Measurement:
        """Measure replicates until the goals hold, or this share of the budget is spent.

        Raises
        ------
        UsageError
            There is no time for 64 replicates, or one is not finite.
        """
        allowed = min(self.goals.max_replicates - source.spent, int(self.goals.max_replicates * share))
        form, until = source.caller.form, share * self.watch.left
        size = max(1, min(LARGEST_BLOCK, MOST_NUMBERS // max(1, sum(form.sizes.values()))))
        if source.caller.vectorised:
            with self.watch.spending("the first calls, compilation included,"):
                for _ in range(2):  # the first call compiles
                    source(STREAMS.index("again"), 0, capped(size, max(FEWEST, allowed)))
        found = min(allowed, int(source.affords() * share))
        if found < FEWEST:
            if (
                self.watch.before
                and found < FEWEST <= allowed
                and sum(self.watch.before.values()) > 0.5 * self.watch.seconds
            ):
                took = " and ".join(f"{what} took {s:.2g} s" for what, s in self.watch.before.items())
                raise UsageError(f"{took} of the {self.watch.seconds:.3g} s, and none is left; give more seconds=")
            raise UsageError(
                f"there is time for {max(found, 0)} more gradients, of {1.0 / source.rate:.3g} s each, and a verdict "
                f"needs at least {FEWEST}: give more seconds= or replicates="
            )
        deadline = self.watch.left - until
        evidence = Evidence(
            assumption=NOT_OURS, affords=lambda: SAFELY * max(0.0, self.watch.left - deadline) * source.rate
        )
        goals = replace(self.goals, max_replicates=max(FEWEST, min(allowed, SURPLUS * found)))
        try:
            # The number of replicates doubles, for the last time at three quarters of what there is time for.
            block = capped(size, min(allowed, int(1.5 * found)))
            return measure_source(Blocks(source, Described(form.sizes, block, form.dtype)), exact, goals, evidence)
        except NonFinite as error:
            raise UsageError(f"{error}; a gradient must be finite") from None

    def _unchanged(self, called: Called) -> None:
        later = changed(self.before, called.parameters)
        if later is not None:
            raise UsageError(f"{called.name} changes its parameters: {later} differs after the calls; copy it first")

    # Afterwards.

    def _rows(self, measured: Measurement, source: Replicates, problem: Problem | None) -> list[Row]:
        about: Any = {"name": self.name, "num_samples": self.num_samples, "seed": self.seed, "started": self.started}
        return rows_of(measured, source, problem, **about)

    def _result(
        self,
        rows: list[Row],
        source: Replicates,
        measured: Measurement,
        means: Means | None,
        fault: str | None,
        comparison: str | None,
    ) -> Audit:
        whole = rows[-1]
        return Audit(
            name=self.name,
            verdict=str(whole["verdict"]),
            rows=rows,
            coordinates=coordinates_of(measured, means),
            cosine=whole["cosine"],
            scale_factor=None if whole["scale_factor"] is None else tuple(whole[name] for name in SCALE),
            fault=fault,
            comparison=comparison,
            remarks=(*source.caller.called.remarks, *self.remarks),
            advice=advice(whole, source, self.goals.bias_bound),
            seconds=self.watch.seconds - self.watch.left,
        )


def _said(kind: str) -> str:
    return "seed" if kind == "global" else kind


def _form(form: Form) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in list(form.shapes.items())[:8])


def _takes_two(gradient: Callable[..., Any]) -> bool:
    """Return whether a gradient demands two arguments: parameters and randomness."""
    try:
        arguments_of(gradient, False, "auto")
    except UsageError:
        return True
    return False


def _given(kind: str, framework: str) -> str:
    """Return what a gradient was given as randomness, in words."""
    if kind == "generator":
        return "a torch.Generator" if framework == "torch" else "a numpy.random.Generator"
    return {"key": "a JAX key", "seed": "a whole number", "global": "no randomness"}[kind]
