"""Measuring one cell: pilot, doubling replicates until the goals hold, verdicts, and the rows' numbers."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from bench.measurement import bias as bias_module
from bench.measurement.bias import Difference, Suspicion
from bench.measurement.integrate import Integral, integrate
from bench.measurement.kernel import BlockSums, Setting, StatisticsKernel, block_size
from bench.measurement.moments import GROUPS, Moments
from bench.measurement.variance import VarianceEstimate, estimate_variance, share_of_largest, tail_index
from bench.problems import Exact
from bench.rows import ALL
from estimators import Normal, UsageError
from estimators.backends import get
from estimators.estimator import Knowledge, values_and_scores
from estimators.options import effective

PILOT_BLOCKS = 4
WARM_UP = 1024


class NonFinite(ArithmeticError):
    """An estimate is NaN or infinite."""


@dataclass(frozen=True)
class Prepared:
    """A cell ready to be measured or timed."""

    setting: Setting
    exact: Exact | None
    evaluations: int
    remarks: list[str] = field(default_factory=list)


@dataclass
class Measurement:
    """What a cell's statistics came to.

    Attributes
    ----------
    blocks : columns by parameter block, `all` last.
    replicates : n.
    squared_norms : mean of Q in each of the 64 groups of replicates, by parameter block.
    """

    blocks: dict[str, dict[str, Any]]
    replicates: int
    squared_norms: dict[str, np.ndarray] = field(default_factory=dict)


def prepare(cell: Any) -> Prepared:
    """Build the problem on the cell's backend and freeze the estimator's state."""
    setting, exact = unfitted(cell), cell.problem.exact()
    learnt, drew = fitted_state(setting, exact)
    remarks = ["conditional on a state fitted once, on noise of its own, then frozen"] if drew else []
    remarks += [] if setting.backend.compiles else ["no C++ compiler: PyTorch ran eagerly"]
    evaluations = cell.estimator.evaluations(setting.expectation, cell.num_samples, cell.problem.dimension)
    return Prepared(replace(setting, state=setting.to_device(learnt)), exact and exact.flat(), evaluations, remarks)


def unfitted(cell: Any) -> Setting:
    """The cell's problem at its λ, on its backend; the estimator has no state yet."""
    backend, problem = get(cell.backend, cell.device), cell.problem
    expectation, parameters = problem.expectation(), problem.parameters()
    if expectation.family != problem.family:
        raise UsageError(f"problem {problem.name} has q of {problem.family} and an expectation of {expectation.family}")
    path = (problem.name, json.dumps(_options(problem), sort_keys=True), cell.seed, cell.num_samples)
    on_device = expectation.bind({name: backend.asarray(a, cell.dtype) for name, a in expectation.data.items()})
    width = expectation.width(problem.dimension)
    return Setting(
        backend=backend,
        dtype=cell.dtype,
        estimator=cell.estimator,
        expectation=on_device,
        parameters={name: backend.asarray(a, cell.dtype) for name, a in parameters.items()},
        state={},
        dimension=problem.dimension,
        num_samples=cell.num_samples,
        replicates=block_size(width, cell.num_samples),
        path=path,
        shared=cell.noise == "shared",
    )


def fitted_state(setting: Setting, exact: Exact | None, block: int = 0) -> tuple[dict[str, np.ndarray], bool]:
    """The estimator's state at the setting's λ, and whether a warm-up was drawn for it.

    Parameters
    ----------
    exact : what the estimator may know without drawing; None if nothing.
    block : which block of the warm-up's noise it learns from.
    """
    drew = False

    def pilot() -> Any:
        nonlocal drew
        drew = True
        noise = setting.noise(setting.roots("warm-up"), block, warm_up_replicates(setting.num_samples))
        return setting.backend, *setting.expectation.at(setting.parameters), noise

    def warm_up() -> Any:
        return values_and_scores(*pilot())

    objective, baseline = (exact.objective, exact.optimal_baseline) if exact is not None else (None, None)
    known = Knowledge(objective, baseline, warm_up, pilot)
    return setting.estimator.fit(known), drew


def warm_up_replicates(num_samples: int) -> int:
    """How many estimates of S samples an estimator with memory learns from."""
    return max(64, WARM_UP // num_samples)


def _options(problem: Any) -> dict[str, Any]:
    """The options that name a problem's noise streams: not the default family, which was once the only one."""
    options = effective(problem)
    return {name: value for name, value in options.items() if (name, value) != ("family", Normal.name)}


class Described(Protocol):
    """What the statistics need to know of whatever makes the estimates: a `Setting`, or less."""

    @property
    def sizes(self) -> dict[str, int]: ...
    @property
    def blocks(self) -> tuple[str, ...]: ...
    @property
    def replicates(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    def roots(self, stream: str) -> Any: ...
    def zeros(self) -> dict[str, Any]: ...
    def to_device(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]: ...


class Source(Protocol):
    """Where block sums of estimates come from: a `StatisticsKernel`, or another library's process."""

    @property
    def setting(self) -> Described: ...
    @property
    def chunk(self) -> int: ...
    @property
    def cubed(self) -> int: ...
    def __call__(self, roots: Any, first: int, centre: dict[str, Any]) -> BlockSums: ...


class Stream:
    """Replicates of one noise stream, gathered in doubling looks."""

    def __init__(self, kernel: Source, stream: str, centre: dict[str, np.ndarray]) -> None:
        setting = kernel.setting
        self.kernel, self.centre = kernel, centre
        self.moments = {name: Moments(p, setting.replicates, kernel.cubed) for name, p in setting.sizes.items()}
        self.total = Moments(0, setting.replicates)
        self._roots = setting.roots(stream)
        self._centre = setting.to_device(centre)

    def extend(self, blocks: int, each: Any = None) -> None:
        """Up to that many blocks in all, a power of two times 64."""
        while self.total.blocks < blocks:
            if self.total.blocks == GROUPS * self.total.blocks_per_group:
                for moments in (*self.moments.values(), self.total):
                    moments.double()
            first = self.total.blocks
            sums = self.kernel(self._roots, first, self._centre)
            with np.errstate(invalid="ignore", over="ignore"):
                squared = {name: q.astype(np.float64, copy=False) for name, q in sums.squared_norm.items()}
                for name, moments in self.moments.items():
                    moments.add(sums.power[name], squared[name])
                    if not np.all(np.isfinite(moments.norms)):
                        low, high = first * moments.block_replicates, moments.count
                        raise NonFinite(f"estimate of {name} is not finite within replicates {low} to {high - 1}")
                total = np.sum(list(squared.values()), axis=0)
                nothing = np.zeros((len(total), 0))
                self.total.add((nothing, nothing, nothing), total)
            if each is not None:
                each(self.total.count)


def pilot_mean(kernel: Source) -> dict[str, np.ndarray]:
    """A rough mean of the estimates [P], to centre sums at; from a stream of its own."""
    setting = kernel.setting
    centre = setting.zeros()
    found = [kernel(setting.roots("pilot"), first, centre) for first in range(0, PILOT_BLOCKS, kernel.chunk)]
    count = setting.replicates * PILOT_BLOCKS
    means = {}
    for name in setting.blocks:
        # A kernel may have summed more blocks in one call; they are left out, so that its chunk changes nothing.
        sums = np.concatenate([each.power[name][0].astype(np.float64) for each in found])[:PILOT_BLOCKS]
        means[name] = sums.sum(axis=0) / count
    for name, mean in means.items():
        if not np.all(np.isfinite(mean)):
            raise NonFinite(f"estimate of {name} is not finite in the pilot run of {count} replicates")
    # Rounded to the working precision, so that the centre subtracted is exactly the centre added back.
    return {name: np.asarray(mean).astype(setting.dtype).astype(np.float64) for name, mean in means.items()}


def measure(prepared: Prepared, goals: Any, each: Any = None) -> Measurement:
    """Draw until precision and bias bound hold for every row, or the cap is reached.

    Parameters
    ----------
    prepared : from `prepare`.
    goals : precision, bias_bound, max_replicates.
    each : called with the number of replicates so far.
    """
    setting, exact = prepared.setting, prepared.exact
    return measure_source(
        StatisticsKernel(setting),
        exact,
        lambda: integrate(setting) if exact is not None else None,
        goals,
        value_based=not setting.estimator.requirements(setting.expectation.entropy).integrand,
        each=each,
    )


def measure_source(
    kernel: Source,
    exact: Exact | None,
    integrals: Callable[[], dict[str, Integral] | None],
    goals: Any,
    value_based: bool,
    each: Any = None,
) -> Measurement:
    """`measure`, of estimates from anywhere.

    Parameters
    ----------
    integrals : integrates the estimator over its noise, if that can be done; called once estimates were seen finite.
    value_based : whether estimates are differences of values of f, whose rounding is that of f.
    """
    setting = kernel.setting
    centre = pilot_mean(kernel)
    main, confirm = Stream(kernel, "main", centre), None
    looks = 1 + max(0, int(math.log2(max(1, goals.max_replicates // (GROUPS * setting.replicates)))))
    judge = Judge(setting, exact, integrals(), looks, goals.bias_bound, value_based)
    result: dict[str, dict[str, Any]] = {}
    for look in range(looks):
        blocks = GROUPS << look
        main.extend(blocks, each)
        for name, suspicion in judge.suspects(main).items():
            if confirm is None or confirm.total.blocks != blocks:
                confirm = confirm or Stream(kernel, "confirm", centre)
                confirm.extend(blocks)
            judge.confirm(name, suspicion, confirm)
        result = judge.rows(main)
        if all(_good_enough(columns, goals) for columns in result.values()):
            break
    squared = {name: moments.group_squared_norms() for name, moments in main.moments.items()}
    squared[ALL] = sum(squared.values(), np.zeros(GROUPS))
    for columns in result.values():
        columns.pop("half_width")
    return Measurement(result, main.total.count, squared)


def _good_enough(columns: dict[str, Any], goals: Any) -> bool:
    precise = columns["half_width"] <= goals.precision and columns["variance_flag"] == "ok"
    return precise and columns["verdict"] != "inconclusive"


class Judge:
    """Turns streamed moments into verdicts and the row's numbers."""

    def __init__(
        self,
        setting: Described,
        exact: Exact | None,
        integrals: dict[str, Integral] | None,
        looks: int,
        bias_bound: float,
        value_based: bool,
    ) -> None:
        self.setting, self.exact, self.integrals = setting, exact, integrals
        self.looks, self.bias_bound, self.value_based = looks, bias_bound, value_based
        self.confirmed: set[str] = set()
        self._epsilon = float(np.finfo(setting.dtype).eps)

    def tolerance(self, name: str, mean_square: np.ndarray) -> np.ndarray:
        """τ [D]: what rounding may do to an average of terms of this size."""
        size = np.maximum(1.0, np.sqrt(mean_square))
        if self.exact is not None:
            size = np.maximum(size, np.abs(self.exact.gradient[name]))
            if self.value_based and self.exact.objective is not None:  # differences of values of this size
                size = np.maximum(size, abs(self.exact.objective))
        return 1e3 * self._epsilon * size

    def _difference(self, name: str, stream: Stream) -> Difference:
        moments, centre = stream.moments[name], stream.centre[name]
        exact = np.zeros_like(centre) if self.exact is None else self.exact.gradient[name]
        return bias_module.difference(moments, centre, exact, self.tolerance(name, moments.mean_squares(centre)))

    def suspects(self, stream: Stream) -> dict[str, Suspicion]:
        """Parameter blocks that stage one wants confirmed."""
        if self.exact is None:
            return {}
        open_blocks = [name for name in self.setting.blocks if name not in self.confirmed]
        level = bias_module.STAGE_LEVEL / (self.looks * len(self.setting.blocks))
        found = {name: bias_module.stage_one(self._difference(name, stream), level) for name in open_blocks}
        return {name: suspicion for name, suspicion in found.items() if suspicion is not None}

    def confirm(self, name: str, suspicion: Suspicion, fresh: Stream) -> None:
        if bias_module.stage_two(self._difference(name, fresh), suspicion):
            self.confirmed.add(name)

    def rows(self, stream: Stream) -> dict[str, dict[str, Any]]:
        """The statistical columns of every parameter block, and of `all`."""
        names = self.setting.blocks
        differences = {name: self._difference(name, stream) for name in names}
        rows = {name: self._row((name,), [differences[name]], stream, stream.moments[name]) for name in names}
        rows[ALL] = self._row(names, list(differences.values()), stream, stream.total)
        return rows

    def _row(self, names: tuple[str, ...], parts: list[Difference], stream: Stream, norms: Moments) -> dict[str, Any]:
        d = bias_module.combine(parts)
        tolerances = [self.tolerance(n, stream.moments[n].mean_squares(stream.centre[n])) for n in names]
        variances = [np.where(part.deviation > 0.0, part.deviation**2, 0.0) for part in parts]
        variance = float(sum(v.sum() for v in variances))
        tail = tail_index(norms.largest, norms.count) if variance > 0.0 else math.nan
        squared = sum((stream.moments[n].group_squared_norms() for n in names), np.zeros(GROUPS))
        spread: VarianceEstimate = estimate_variance(
            variance,
            count=d.count,
            kurtosis=norms.kurtosis(),
            tail=tail,
            share=share_of_largest(norms.largest, float(norms.norms[:, 0].sum()), 1),
            square_share=share_of_largest(norms.largest, float(norms.norms[:, 1].sum()), 2),
            group_means=squared,
            zero_below=0.0,
        )
        columns = {
            "variance": spread.variance,
            "variance_low": min(spread.low, sys.float_info.max),
            "variance_high": min(spread.high, sys.float_info.max),
            "variance_flag": spread.flag,
            "half_width": spread.half_width,
            "skewness": float(d.skewness[np.argmax(np.abs(d.skewness))]),
            "kurtosis": norms.kurtosis() if variance > 0.0 else None,
            "tail_k": tail if variance > 0.0 else None,
            "mean_norm": float(
                np.linalg.norm(np.concatenate([stream.moments[n].shift() + stream.centre[n] for n in names]))
            ),
        }
        if self.exact is None:
            return {**columns, "verdict": "no-reference", "exact_source": "none"}
        exact = np.concatenate([self.exact.gradient[name] for name in names])
        raw = np.concatenate([stream.moments[n].shift() + stream.centre[n] - self.exact.gradient[n] for n in names])
        return {
            **columns,
            **self._verdict(names, d, exact, variance, tolerances),
            "exact_norm": float(np.linalg.norm(exact)),
            "exact_source": self.exact.source,
            "bias_norm": float(np.linalg.norm(raw)),
            "bias_z": float(d.z[np.argmax(np.abs(d.z))]),
            "snr": float(np.linalg.norm(exact) / math.sqrt(variance)) if variance > 0.0 else None,
        }

    def _verdict(
        self, names: tuple[str, ...], d: Difference, exact: np.ndarray, variance: float, tolerances: list[np.ndarray]
    ) -> dict[str, Any]:
        tolerance = np.concatenate(tolerances)
        biased = any(name in self.confirmed for name in names)
        if self.integrals is not None:
            found = [self.integrals[name] for name in names]
            error = np.concatenate([i.error for i in found])
            bias = np.concatenate([i.mean for i in found]) - exact
            exact_variance = float(sum(i.variance.sum() for i in found))
            bound = bias_module.integrated_bound(
                np.abs(bias) + error, exact, max(exact_variance, 0.0), float(tolerance.max())
            )
            biased = biased or bool(np.any(np.abs(bias) > tolerance + error))
        else:
            level = bias_module.BOUND_LEVEL / self.looks
            bound = bias_module.sampled_bound(d, exact, variance, float(tolerance.max()), level)
        unbiased = bound.certain and bound.value <= self.bias_bound
        worst = float(d.skewness[np.argmax(np.abs(d.skewness))])
        return {
            "verdict": "biased" if biased else "unbiased" if unbiased else "inconclusive",
            "reason": None if bound.certain else f"the bias bound is not certain: skewness {worst:.3g}",
            "bias_bound": bound.value,
            "bias_scale": bound.scale,
            "certificate": "sampling" if self.integrals is None else "integration",
        }
