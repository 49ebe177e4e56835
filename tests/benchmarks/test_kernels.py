"""The kernels by pytest-benchmark: `make benchmark`. Ratios to the noise floor are printed and kept in extra_info."""

import pytest

from bench.measurement.cell import measure, prepare
from bench.measurement.cost import timed_calls
from bench.measurement.floor import ratio_to_floor
from bench.measurement.kernel import StatisticsKernel
from bench.sweep.cells import Cell, Goals, make_estimator, make_problem
from bench.tracking.workloads import ESTIMATORS, prepared
from estimators.backends import NAMES, missing

PRESENT = [
    pytest.param(name, marks=pytest.mark.skipif(missing(name) is not None, reason=missing(name) or ""))
    for name in NAMES
]


@pytest.mark.parametrize("backend", PRESENT)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_kernel(benchmark, capsys, backend, estimator):
    """Noise, estimate and statistics of one call, float32, D = 100, S = 1."""
    setting = prepared(backend, estimator)
    kernel, roots, centre = StatisticsKernel(setting), setting.roots("timing"), setting.zeros()
    benchmark.pedantic(lambda: kernel(roots, 0, centre), warmup_rounds=3, rounds=30)
    if benchmark.enabled:
        ratio = ratio_to_floor(setting)
        benchmark.extra_info["ratio_to_floor"] = ratio.ratio
        with capsys.disabled():
            print(f"\n  {backend} {estimator}: {ratio}")


@pytest.mark.parametrize("backend", PRESENT)
@pytest.mark.parametrize("estimator", ["pathwise", "score-function[baseline=mean]"])
def test_latency(benchmark, backend, estimator):
    """One estimate alone on real data, as a training step has it; its variance and bias bound beside it."""
    cell = Cell(make_problem("logistic-regression"), make_estimator(estimator), backend, goals=Goals(max_replicates=1))
    ready = prepare(cell)
    _, one = timed_calls(ready)
    benchmark.pedantic(one.run, warmup_rounds=3, rounds=30, iterations=10)
    found = measure(ready, cell.goals).blocks["all"]
    benchmark.extra_info.update(variance=found["variance"], bias_bound=found["bias_bound"])
    assert found["verdict"] != "biased"


@pytest.mark.parametrize("estimator", ["pathwise", "measure-valued"])
def test_coordinate_replacement_and_its_cost(benchmark, capsys, estimator):
    """Measure-valued gradients of a generalised linear model update the linear predictor: O(N D), not O(N D²)."""
    ready = prepare(Cell(make_problem("linear-regression"), make_estimator(estimator)))
    bulk, _ = timed_calls(ready)
    benchmark.pedantic(bulk.run, warmup_rounds=3, rounds=20)
    benchmark.extra_info["evaluations"] = ready.evaluations
    if benchmark.enabled:
        with capsys.disabled():
            print(f"\n  {estimator}: {1e6 * benchmark.stats['median'] / bulk.replicates:.2f} µs an estimate")
