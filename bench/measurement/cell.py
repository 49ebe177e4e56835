"""Measure one cell: gather what is known beside its replicates, and run the analyses of these."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradmeter.bench.cells import StoppingCriteria
from gradmeter.bench.measurement.analyses import UNMEASURED, Measurement, measure_source
from gradmeter.bench.measurement.controls.fit import fit
from gradmeter.bench.measurement.controls.frozen import Controls
from gradmeter.bench.measurement.controls.relieved import Relieved
from gradmeter.bench.measurement.controls.slopes import objective
from gradmeter.bench.measurement.declared import all_of_the_catalogue, undeclared
from gradmeter.bench.measurement.defensive import DefensiveDraws, Mixture
from gradmeter.bench.measurement.grids import few_numbers
from gradmeter.bench.measurement.grids_of_f import grids_meet_mean
from gradmeter.bench.measurement.kernel import BELOW_ONE, Setting, StatisticsKernel, block_size
from gradmeter.bench.measurement.prepared import Prepared
from gradmeter.bench.measurement.replicates import Unchanged, check_estimates, check_largest, check_whole
from gradmeter.bench.measurement.stream import Source
from gradmeter.bench.measurement.verdict import Evidence
from gradmeter.estimators import NotApplicable, draw
from gradmeter.estimators.backends import get
from gradmeter.estimators.noise import stream_root

#: Kernel calls of a cell that run uncompiled where compilation takes seconds and saves a millisecond or two per call.
UNCOMPILED = 512
#: Samples of f used to test whether its mean rests on events that draws miss: the sampled mean has to be off by more
#: than this many standard errors.
OF_F, CERTAIN = 4096, 5.0
#: The most samples of f of such a test, how many numbers of noise are drawn at a time, and how many samples have to
#: carry what f adds to its median.
MOST_OF_F, AT_A_TIME, CARRIERS = 2**17, 2**20, 16.0


def measure(
    prepared: Prepared,
    goals: StoppingCriteria,
    each: Any = None,
    controlled: bool = True,
    stop_at: int | None = None,
    kernel: Callable[[Setting, int], Source] = StatisticsKernel,
) -> Measurement:
    """Draw replicates until precision and bias bound hold for every row, or the cap is reached.

    Parameters
    ----------
    prepared
        From `prepare`.
    goals
        Stopping criteria: precision, bias_bound, max_replicates.
    each
        Callback that receives the number of replicates so far.
    controlled
        Whether control variates of known mean may be used.
    stop_at
        Number of replicates after which no more are drawn, though the criteria do not hold.
    kernel
        Function that makes the source of block sums, from a setting and the number of calls that run uncompiled.
    """
    setting, exact = prepared.setting, prepared.exact
    if not prepared.checked:
        check_estimates(setting)
    objective_of_f = None if exact is None or setting.expectation.importance_samples > 1 else exact.objective
    brought = not all_of_the_catalogue(setting)
    unchanged = None
    if brought:
        unchanged = Unchanged(setting)
        width = setting.expectation.width(setting.dimension)
        check_whole(setting, min(block_size(width, setting.num_samples), goals.max_replicates))
    again = DefensiveDraws(setting)
    evidence = Evidence(
        prepared.tolerance,
        None if prepared.checked else functools.partial(check_largest, setting),
        integrals=lambda: prepared.integrals,
        again=again if again.widened else None,
        rare=setting.expectation.family.discrete,
        controls=functools.partial(_controlled, setting, again.widened) if controlled else None,
        searched=brought,
        sampled=undeclared(setting) if setting.users_parts and few_numbers(setting) else None,
        unmet=lambda: _rests_on_unmet(setting, objective_of_f),
        met=functools.cache(functools.partial(_met, setting, objective_of_f, tuple(again.widened))),
        grids_meet=functools.cache(functools.partial(grids_meet_mean, setting, objective_of_f)),
        rare_samples=functools.partial(_rare_samples, prepared),
        reference_rounding=lambda: prepared.reference_rounding,
        stop_at=math.inf if stop_at is None else stop_at,
    )
    found = measure_source(kernel(setting, UNCOMPILED), exact, goals, evidence, each)
    if unchanged is not None:
        unchanged.check()
    prepared.checked = not setting.users_parts
    return found


def _controlled(
    setting: Setting, widened: list[str], centre: dict[str, np.ndarray]
) -> tuple[Controls, Relieved] | None:
    try:
        controls = fit(setting, centre, widened)
    except np.linalg.LinAlgError:  # features are collinear in this pilot
        controls = None
    return None if controls is None else (controls, Relieved(setting, controls))


@np.errstate(over="ignore", divide="ignore", invalid="ignore")
def _rests_on_unmet(setting: Setting, mean: float | None) -> bool:
    """Return whether f, at samples of its own noise, misses its known mean by more than chance and rounding."""
    if mean is None:
        return False
    specs = setting.expectation.sample_specs(setting.dimension)
    roots = {name: stream_root(*setting.path, "f", name) for name in specs}
    values = objective(setting, draw(get("numpy"), specs, roots, 0, OF_F, "float64"))
    error = values.std() / math.sqrt(len(values)) + UNMEASURED * np.finfo(np.float64).eps * abs(mean)
    return not abs(values.mean() - mean) <= CERTAIN * error


@np.errstate(over="ignore", divide="ignore", invalid="ignore")
def _met(setting: Setting, mean: float | None, widened: tuple[str, ...], count: int, defensive: bool) -> bool:
    """Return whether as many draws as a verdict rests on meet what the known mean of f rests on.

    Parameters
    ----------
    mean : E f; where it is unknown, the draws count as meeting it.
    widened : names of noise that have tails to visit.
    count : draws of the verdict, at most `MOST_OF_F` of which are repeated here.
    defensive : whether they are defensive ones.
    """
    if mean is None:
        return True
    specs = setting.expectation.sample_specs(setting.dimension)
    roots = {name: stream_root(*setting.path, "f met", name) for name in specs}
    generator = np.random.default_rng(stream_root(*setting.path, "f met", "mixture"))
    names = [name for name in specs if name in widened] if defensive else []
    mixture = Mixture(specs, setting.dtype, names, {})
    number = max(OF_F, min(count, MOST_OF_F))
    together = max(1, min(number, AT_A_TIME // max(1, sum(math.prod(spec.shape) for spec in specs.values()))))
    parts = []
    for i in range(-(-number // together)):
        noise, weight = mixture.draw(draw(get("numpy"), specs, roots, i, together, setting.dtype), generator)
        parts.append((weight, objective(setting, noise)))
    weight, values = (np.concatenate(each) for each in zip(*parts, strict=True))
    off, away = weight * (values - mean), np.abs(weight * (values - np.median(values)))
    error = off.std() / math.sqrt(len(off)) + UNMEASURED * float(np.finfo(setting.dtype).eps) * abs(mean)
    carriers = away.sum() ** 2 / (away @ away) if away.any() else math.inf
    return bool(abs(off.mean()) <= CERTAIN * error and carriers >= CARRIERS)


def _rare_samples(prepared: Prepared, rarest: float, bias: float) -> str | None:
    """Return why samples that the draws miss may explain a bias; None where they do not.

    Parameters
    ----------
    rarest : probability, in an estimate, at or below which the draws miss an event.
    bias : ‖E ĝ − g‖/‖g‖.
    """
    setting, precision = prepared.setting, float(np.finfo(prepared.setting.dtype).epsneg)
    rarest = max(rarest / setting.num_samples, precision)
    share = prepared.unmet_share(rarest)
    if share is not None and share >= bias:
        return (
            f"samples that are drawn with a probability below {rarest:.1g} hold up to {min(1.0, share):.2g} of the "
            "gradient, and may never have been met: raise max replicates, or give less extreme options"
        )
    if share is None and _always_one_state(setting, precision):
        return "z always has the same state: every other one is rarer than uniform noise resolves"
    return None


def _always_one_state(setting: Setting, precision: float) -> bool:
    """Return whether uniform noise of this precision gives every coordinate of a discrete z one state only."""
    try:
        declared = setting.discontinuities()
    except NotApplicable:
        return False
    drawn = {name: np.asarray(at) for name, at in declared.items() if name in setting.specs}
    found = [at for name, at in drawn.items() if setting.specs[name].kind in BELOW_ONE]
    return bool(found) and all(at.size and np.all((at <= precision) | (at >= 1.0 - precision)) for at in found)
