"""Check that replicates are what the statistics assume: each a function of its own noise, and of nothing else.

All measurements rest on this. An estimate that depends on the other replicates of its call (batch statistics, clipping,
a wrong axis) has no variance of its own, and a verdict on it means nothing.

One violation escapes the checks: a generator that an estimator seeds alike inside every call, so that all replicates
share its numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.bench.identity.owner import of_the_catalogue
from gradmeter.bench.measurement.evaluate import estimates_of
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.bench.measurement.moved import Arrays, FewEstimates
from gradmeter.estimators import UsageError
from gradmeter.estimators.noise import DrawnNoise, sample_axis

#: Relative differences beyond ε to this power are examined; smaller ones are rounding.
SUSPECT = 0.5
#: Two calls may differ by this many times the effect of units in the last place of all inputs.
MULTIPLE = 64.0
MOVEMENTS = 8
ADVICE = "every estimate must be made from its own noise: check the axes of mean, std, sort"

_checked: dict[Any, Any] = {}


def check_estimates(setting: Setting) -> None:
    """Check the form of estimates, and that each depends on its own noise alone; once per estimator and shapes.

    Eight replicates are evaluated twice; one by one (except on JAX, which would compile this anew); and at other places
    in a call, among other replicates. A difference beyond rounding is refused if it occurs on two draws of noise: a
    discrete choice that rounding reverses is rare, whereas a dependence shows every time.

    Raises
    ------
    UsageError
        Estimates have the wrong form, differ on the same noise, or depend on other replicates.
    """
    _check_names(setting)
    own = setting.users_parts
    key = (setting.structure, setting.num_samples, setting.replicates, tuple(map(id, own)))
    if key in _checked:
        return
    estimate = FewEstimates(setting)
    if own and (changed := estimate.changed(setting.host_noise("purity", 0, estimate.size))):
        raise UsageError(
            f"{setting.estimator.name} changes its {' and its '.join(changed)} in place; work on a copy: "
            "x = x + 1, not x += 1"
        )
    if _impurity(estimate, 0) is not None and (complaint := _impurity(estimate, 1)) is not None:
        raise UsageError(complaint)
    _checked[key] = own  # kept, so that no other object takes its id


def _check_names(setting: Setting) -> None:
    """Check that an estimator's own noise does not reuse a name of the family's or f's noise for a different kind."""
    if of_the_catalogue(type(setting.estimator)):
        return
    for name, spec in setting.expectation.sample_specs(setting.dimension).items():
        own = setting.specs.get(name)
        if own is not None and own.kind == spec.kind and sample_axis(own.shape, spec.shape) == -1:
            raise UsageError(
                f"{setting.estimator.name} declares noise {name!r} of shape {own.shape}, in place of noise of shape "
                f"{spec.shape} a sample that samples are made of; give it another name"
            )
        if own is not None and own.kind != spec.kind:
            raise UsageError(
                f"{setting.estimator.name} declares noise {name!r} of kind {own.kind}, in place of noise of kind "
                f"{spec.kind} that samples are made of; give it another name"
            )


class Unchanged:
    """Estimates of a few replicates, kept for comparison with a later evaluation."""

    def __init__(self, setting: Setting) -> None:
        self._estimate = FewEstimates(setting)
        self._noise = setting.host_noise("purity", 0, self._estimate.size)
        self._found = self._estimate(self._noise)

    def check(self) -> None:
        """Raise UsageError if the same noise now gives different estimates."""
        rounds = self._estimate.setting.backend.device != "cpu"
        later = _first_difference(self._estimate, self._noise, self._found, self._estimate(self._noise), rounds)
        if later is not None:
            raise UsageError(_impure(*later))


def _impure(block: str, place: int, one: float, other: float) -> str:
    return (
        f"estimate of {block} is not a function of its noise: the same noise gave {one:.6g}, then {other:.6g} "
        f"(replicate {place}); declare everything random in `noise_specs`, and keep nothing between calls"
    )


def _impurity(estimate: FewEstimates, attempt: int) -> str | None:
    """Return what is wrong on this draw of noise; None if nothing is."""
    size = estimate.size
    first, second = (estimate.setting.host_noise("purity", 2 * attempt + i, size) for i in range(2))
    found = estimate(first)
    # A CPU sums in the same order every time; a GPU need not.
    again = _first_difference(estimate, first, found, estimate(first), estimate.setting.backend.device != "cpu")
    if again is not None:
        return _impure(*again)
    if size == 1:
        return None
    # Move replicates to other places among other neighbours: every second one comes from the second draw.
    places = np.arange(size)[::-1]
    kept = places % 2 == 1
    mixed = {name: np.where(_along(kept, a), a[places], second[name][places]) for name, a in first.items()}
    among = estimate(DrawnNoise(mixed, size))
    at = np.flatnonzero(kept)
    moved = {name: np.array(values) for name, values in found.items()}
    for name, values in among.items():
        moved[name][places[at]] = values[at]
    elsewhere = _first_difference(estimate, first, found, moved)
    if elsewhere is not None:
        block, place, one, other = elsewhere
        return _dependence(block, f"replicate {place} is {one:.6g} among some and {other:.6g} among others")
    if estimate.setting.backend.name == "jax":
        return None
    singles = [estimate(first.at(np.array([i]))) for i in range(size)]
    alone = {name: np.concatenate([single[name] for single in singles]) for name in found}
    apart = _first_difference(estimate, first, found, alone)
    if apart is not None:
        block, place, one, other = apart
        return _dependence(block, f"replicate {place} is {one:.6g} among {size} and {other:.6g} alone")
    return None


def _along(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
    return chosen.reshape(-1, *(1,) * (values.ndim - 1))


def _dependence(block: str, what: str) -> str:
    return f"estimate of {block} depends on the other replicates of its call: {what}; {ADVICE}"


@np.errstate(all="ignore")
def _first_difference(
    estimate: FewEstimates, noise: DrawnNoise, found: Arrays, again: Arrays, rounds: bool = True
) -> tuple[str, int, float, float] | None:
    """Find where estimates of the same replicates differ by more than rounding: (block, replicate, both numbers).

    Parameters
    ----------
    found
        Estimates from this noise in a call of its own.
    again
        Estimates of the same replicates from any other call.
    rounds
        Whether the second call may round differently.
    """
    suspect = {name: _suspect(values, again[name], estimate.setting.dtype) for name, values in found.items()}
    if not any(each.any() for each in suspect.values()):
        return None
    reach = _reach(estimate, noise, found) if rounds else {name: np.zeros(a.shape) for name, a in found.items()}
    for name, values in found.items():
        difference = _difference(values, again[name])
        beyond = suspect[name] & ~(difference <= MULTIPLE * reach[name])
        if beyond.any():
            place, j = np.unravel_index(np.argmax(np.where(beyond, difference, -1.0)), beyond.shape)
            return name, int(place), float(values[place, j]), float(again[name][place, j])
    return None


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return |one − other|: 0 where both are the same infinity or both NaN, infinite where only one is NaN."""
    difference = np.abs(one.astype(np.float64) - other.astype(np.float64))
    alike = (one == other) | (np.isnan(one) & np.isnan(other))
    return np.where(alike, 0.0, np.where(np.isnan(difference), np.inf, difference))


def _suspect(one: np.ndarray, other: np.ndarray, dtype: str) -> np.ndarray:
    size = np.max(np.abs(one), axis=0, where=np.isfinite(one), initial=0.0)
    return _difference(one, other) > float(np.finfo(dtype).eps) ** SUSPECT * size


@np.errstate(all="ignore")
def _reach(estimate: FewEstimates, noise: DrawnNoise, found: Arrays) -> Arrays:
    """Return how far perturbations by units in the last place move each estimate [R, P].

    It is at least the median of the coordinate, and at least a unit in the last place of the largest coordinate: where
    terms cancel, one call may round them and another not.
    """
    generator = np.random.default_rng(0)
    farthest = {name: np.zeros(values.shape) for name, values in found.items()}
    for _ in range(MOVEMENTS):
        moved = estimate(estimate.moved_noise(noise, generator), estimate.moved(generator))
        for name, values in moved.items():
            farthest[name] = np.fmax(farthest[name], _difference(found[name], values))
    eps = float(np.finfo(estimate.setting.dtype).eps)
    unit = eps * max(float(np.sqrt(np.mean(np.square(a, dtype=np.float64), axis=0)).max()) for a in found.values())
    return {name: np.fmax(np.fmax(values, np.median(values, axis=0)), unit) for name, values in farthest.items()}


@np.errstate(all="ignore")
def check_largest(
    setting: Setting, roots: dict[str, Any], block: int, centre: dict[str, Any], squared_norms: dict[str, np.ndarray]
) -> None:
    """Check that the estimates farthest from the centre in a whole block are the same in a small call.

    This reveals what eight replicates alone do not: clipping at many batch standard deviations, or a rule for the first
    rows only. Where the kernel draws its noise inside (JAX), drawing it again would need a compilation; there a block
    of NumPy's noise is evaluated instead.

    Parameters
    ----------
    setting
        The cell that is measured.
    roots, block
        The stream and the number of the block.
    centre
        {block name: [P]}, as passed to the kernel, on the device or not.
    squared_norms
        {block name: Q = ‖ĝ − centre‖² [replicates]} of that block from the kernel.

    Raises
    ------
    UsageError
        The estimates differ; the message says where.
    """
    estimate, s = FewEstimates(setting), setting
    if s.replicates == 1:
        return
    middle = {name: s.backend.to_numpy(c).astype(s.dtype) for name, c in centre.items()}
    if s.draws_inside:
        check_whole(setting, s.replicates, middle)
        return
    norms = {name: np.asarray(q, np.float64).reshape(-1) for name, q in squared_norms.items()}
    rows = _largest(norms, estimate.size)
    whole = DrawnNoise(s.noise(roots, block, s.replicates), s.replicates)
    few = whole.each(s.backend.to_numpy).at(rows)
    far = _moved_away(estimate, few, middle, {name: np.sqrt(q[rows]) for name, q in norms.items()})
    if far is not None:
        name, i, one, other = far
        what = (
            f"replicate {rows[i]} lies {one:.6g} from the mean among {s.replicates} and {other:.6g} among {len(rows)}"
        )
        raise UsageError(_dependence(name, what))


@np.errstate(all="ignore")
def check_whole(setting: Setting, replicates: int, middle: Arrays | None = None) -> None:
    """Check the farthest estimates of one call, with NumPy's noise, against a small call.

    They are the farthest from `middle` [P], or from the mean of the estimates if it is absent.

    Parameters
    ----------
    setting
        The cell that is measured.
    replicates
        Number of estimates in the call.
    middle
        Centre of the estimates by parameter block [P]; their mean if absent.
    """
    estimate = FewEstimates(setting)
    noise = setting.host_noise("largest", 0, replicates)
    whole = estimates_of(setting, noise)
    about = {name: values.mean(axis=0) for name, values in whole.items()} if middle is None else middle
    rows = _largest({name: _distance(values, about[name]) ** 2 for name, values in whole.items()}, estimate.size)
    few = noise.at(rows)
    difference = _first_difference(estimate, few, estimate(few), {n: a[rows] for n, a in whole.items()})
    if difference is not None:
        name, i, other, one = difference
        what = f"replicate {rows[i]} is {one:.6g} among {replicates} and {other:.6g} among {len(rows)}"
        raise UsageError(_dependence(name, what))


def _moved_away(
    estimate: FewEstimates, noise: DrawnNoise, centre: Arrays, given: Arrays
) -> tuple[str, int, float, float] | None:
    """Find where ‖ĝ − centre‖ [R] differs from the given values by more than rounding: (block, replicate, both)."""
    found, eps = estimate(noise), float(np.finfo(estimate.setting.dtype).eps)
    distance = {name: _distance(values, centre[name]) for name, values in found.items()}
    apart = {name: _difference(given[name], distance[name]) for name in found}
    if all(np.all(apart[name] <= eps**SUSPECT * distance[name]) for name in found):
        return None
    reach = _reach(estimate, noise, found)
    for name, values in found.items():
        # ‖ĝ − c‖ changes by no more than ĝ does; the subtraction itself is rounded too.
        sizes = [np.linalg.norm(a.astype(np.float64), axis=-1) for a in (values, centre[name])]
        allowed = MULTIPLE * (np.linalg.norm(reach[name], axis=1) + eps * sum(sizes))
        beyond = ~(apart[name] <= np.fmax(eps**SUSPECT * distance[name], allowed))
        if beyond.any():
            i = int(np.argmax(np.where(beyond, apart[name], -1.0)))
            return name, i, float(given[name][i]), float(distance[name][i])
    return None


def _largest(norms: Arrays, count: int) -> np.ndarray:
    """Return the rows with the largest Σ Q / mean Q over parameter blocks."""
    total = np.zeros(len(next(iter(norms.values()))))
    for q in norms.values():
        finite = np.where(np.isfinite(q), q, 0.0)
        mean = finite.mean()
        total += finite / mean if mean > 0.0 else 0.0
    return np.argsort(-total, kind="stable")[:count]


def _distance(values: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return ‖ĝ − centre‖ [R], with the squares in the working precision, as in the kernel."""
    d = values - centre
    return np.sqrt(np.sum((d * d).astype(np.float64), axis=1))
