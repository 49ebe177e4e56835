"""What the replicates of an audit say: rows, coordinates, advice, and a comparison with the catalogue."""

from __future__ import annotations

import math
import uuid
from typing import Any

import numpy as np

from gradmeter.bench.audit.calls import Watch, device_of
from gradmeter.bench.audit.faults import Means
from gradmeter.bench.audit.parts import SCALES, Form
from gradmeter.bench.audit.source import Replicates
from gradmeter.bench.cells import Cell
from gradmeter.bench.measurement.analyses import Measurement
from gradmeter.bench.problems import Exact, Problem
from gradmeter.bench.reading.numbers import percent, significant
from gradmeter.bench.rows import ALL, Row, row
from gradmeter.bench.sweep import environment
from gradmeter.bench.sweep.measuring import now
from gradmeter.estimators import ESTIMATORS
from gradmeter.estimators.families.capabilities import has

#: Estimators of the catalogue that a gradient of a bundled problem is compared with, replicates of each, and the most
#: seconds for all of them.
CATALOGUE = ("pathwise", "score-function[baseline=leave-one-out]", "score-function[baseline=optimal]", "measure-valued")
COMPARED, PRECISION = 2**14, 0.2


def rows_of(
    measured: Measurement,
    source: Replicates,
    problem: Problem | None,
    *,
    name: str,
    num_samples: int | None,
    seed: int,
    started: str,
) -> list[Row]:
    """Return the result rows of an audit, that of all parts last.

    Parameters
    ----------
    measured
        What was measured.
    source
        What made the replicates.
    problem
        Problem of the catalogue that is the reference, if one is.
    name
        Name of the gradient.
    num_samples
        S, if it is known.
    seed
        Seed of the audit.
    started
        When the audit began, as `now` returns it.
    """
    form, backend = source.caller.form, source.caller.called.backend
    described: dict[str, Any] = {
        "problem": "audit",
        "problem_options": {},
        "estimator": name,
        "estimator_options": {},
        "dimension": sum(form.sizes.values()),
    }
    if problem is not None:
        cell = Cell(problem, ESTIMATORS["pathwise"]()).description()
        described |= {key: cell[key] for key in ("problem", "problem_options", "dimension", "family")}
    device = device_of(source.caller.called)
    common = {
        **described,
        "backend": backend,
        "device": device,
        "dtype": form.dtype,
        "num_samples": num_samples or 1,
        "seed": seed,
        "noise": "native",
        "replicates": measured.replicates,
        "status": "ok",
        "seconds": 1.0 / source.rate,
        "versions": environment.versions(backend),
        "machine": environment.machine(backend, device),
        "code_version": environment.code_version(),
        "cell_key": f"audit-{uuid.uuid4().hex}",
        "started": started,
        "finished": now(),
    }
    rows = []
    for block, columns in measured.blocks.items():
        variance = columns.get("variance")
        work = None if variance is None else variance * common["seconds"]
        rows.append(row(**common, **columns, block=block, work_normalised_variance=work))
    return rows


def advice(whole: Row, source: Replicates, asked: float) -> str | None:
    """Return how many replicates, and how much time, would certify the bound that was asked for.

    Parameters
    ----------
    whole
        Row of all parts together.
    source
        What made the replicates.
    asked
        The bound that was asked for, relative to ‖g‖.
    """
    bound = whole["bias_bound"]
    if whole["verdict"] != "inconclusive" or bound is None or whole["variance_flag"] == "dependent":
        return None
    if bound <= asked or (whole["bias_low"] or 0.0) >= asked:
        return None
    wanted = int(whole["replicates"] * (bound / asked) ** 2)
    lasting = wanted / source.rate + sum(source.watch.before.values())
    arguments = f"seconds={math.ceil(1.5 * lasting + 2.0)}, replicates={2 ** math.ceil(math.log2(2 * wanted))}"
    return (
        f"about {significant(float(wanted))} gradients, {significant(lasting)} s, would certify {percent(asked)}: "
        f"{arguments}"
    )


def beside(problem: Problem, whole: Row, watch: Watch, num_samples: int | None) -> str | None:
    """Return how the catalogue's best estimator on this problem varies beside this gradient.

    Parameters
    ----------
    problem
        Problem of the catalogue that is the reference, if one is.
    whole
        Row of all parts together.
    watch
        The deadline of the audit.
    num_samples
        S, if it is known.
    """
    from gradmeter.bench.api import measure

    if whole["variance"] is None or watch.left < 0.1 * watch.seconds:
        return None
    best: tuple[float, str] | None = None
    for estimator in CATALOGUE:
        if watch.left < 0.05 * watch.seconds:
            break
        table = measure(
            problem,
            estimator,
            samples=() if num_samples is None else num_samples,
            precision=PRECISION,
            max_replicates=COMPARED,
            timing=False,
        )
        found = table[(table.block == ALL) & (table.status == "ok") & (table.verdict != "biased")]
        if len(found) and (best is None or float(found.variance.iloc[0]) < best[0]):
            best = float(found.variance.iloc[0]), estimator
    if best is None or not best[0] > 0.0:
        return None
    ratio = float(whole["variance"]) / best[0]
    if ratio >= 1.0:
        return f"{best[1]} has {significant(ratio)} times less variance ({significant(best[0])})"
    return f"the best tried, {best[1]}, has {significant(1.0 / ratio)} times more variance ({significant(best[0])})"


def means_of(measured: Measurement) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the mean and its standard error [P] by part."""
    assert measured.stream is not None
    stream = measured.stream
    return {
        name: (stream.centre[name] + moments.shift(), np.sqrt(moments.variances() / moments.count))
        for name, moments in stream.moments.items()
    }


def means_beside(measured: Measurement, exact: Exact) -> Means:
    """Return mean, error and exact gradient of every part.

    Parameters
    ----------
    measured
        What was measured.
    exact
        The reference.
    """
    found, stream = means_of(measured), measured.stream
    assert stream is not None
    return Means(
        {name: mean for name, (mean, _) in found.items()},
        {name: error for name, (_, error) in found.items()},
        {name: exact.gradient[name] for name in found},
        {name: stream.centre[name] + moments.group_means() for name, moments in stream.moments.items()},
    )


def coordinates_of(measured: Measurement, means: Means | None) -> list[dict[str, Any]]:
    """Return one dict for each coordinate, as `Audit.coordinates` holds them.

    Parameters
    ----------
    measured
        What was measured.
    means
        Mean, error and exact gradient of every part; None without a reference.
    """
    found: list[dict[str, Any]] = []
    for name, (mean, error) in means_of(measured).items():
        for j, (m, e) in enumerate(zip(mean.tolist(), error.tolist(), strict=True)):
            line: dict[str, Any] = {"block": name, "coordinate": j, "mean": m}
            if means is not None:
                g = float(means.exact[name][j])
                line |= {"exact": g, "bias": m - g, "bias_low": m - g - 1.96 * e, "bias_high": m - g + 1.96 * e}
            found.append(line)
    return found


def entropy_of(problem: Problem | None, form: Form) -> dict[str, np.ndarray]:
    """Return the gradient of the entropy of q for an ELBO of the catalogue.

    Without a problem, it is that of a Normal where a part is named after log σ; elsewhere the dict is empty.
    """
    if problem is None:
        scales = [name for name in form.shapes if SCALES.get(name.rpartition(".")[2], False)]
        return {n: np.full(size, float(n in scales)) for n, size in form.sizes.items()} if scales else {}
    if problem.entropy == "none" or not has(problem.family, "entropy_gradient"):
        return {}
    from gradmeter.estimators.backends import get

    found = problem.family.entropy_gradient(get("numpy"), problem.parameters())
    return {name: np.ravel(a) for name, a in found.items() if name in form.shapes}
