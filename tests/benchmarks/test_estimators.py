"""What score functions, pathwise and measure-valued gradients cost on every backend, by pytest-benchmark.

The names of these tests are the ids by which runs are compared: keep them.
"""

from __future__ import annotations

import pytest

from gradmeter.bench.measurement.cost import timed_calls
from gradmeter.bench.measurement.kernel import StatisticsKernel
from gradmeter.bench.performance.floor import draw_noise_alone
from gradmeter.bench.tracking.workloads import ELBO_ESTIMATORS, ESTIMATORS, REAL_DATA, SLOW_TO_COMPILE, prepared
from tests.benchmarks.reference import cases, ready, statistics, timed

ON_REAL_DATA = cases(ELBO_ESTIMATORS, leave_out=(SLOW_TO_COMPILE[1:],))
assert SLOW_TO_COMPILE[0] == REAL_DATA


@pytest.fixture(autouse=True)
def quick(request, benchmark):
    """Where nothing is timed nothing need be compiled."""
    if not benchmark.enabled:
        request.getfixturevalue("eager")


@pytest.mark.parametrize(("backend", "estimator"), ON_REAL_DATA)
@pytest.mark.matrix
def test_throughput(benchmark, backend, estimator):
    """A block of estimates on real data; variance and bias bound beside it."""
    bulk, _ = timed_calls(ready(backend, estimator))
    timed(benchmark, bulk.run)
    if benchmark.enabled:
        found = statistics(backend, estimator)
        benchmark.extra_info.update(found, estimates=bulk.replicates)
        assert found["verdict"] != "biased"


@pytest.mark.parametrize(("backend", "estimator"), ON_REAL_DATA)
@pytest.mark.matrix
def test_latency(benchmark, backend, estimator):
    """One estimate alone on real data, as a training step has it; variance and bias bound beside it."""
    _, one = timed_calls(ready(backend, estimator))
    timed(benchmark, one.run)
    if benchmark.enabled:
        benchmark.extra_info.update(statistics(backend, estimator), estimates=1)


@pytest.mark.parametrize(("backend", "estimator"), cases(ESTIMATORS))
@pytest.mark.matrix
def test_kernel(benchmark, backend, estimator):
    """Noise, estimates and statistics of one call, float32, D = 100, over the noise alone."""
    setting = prepared(backend, estimator)
    kernel, roots, centre = StatisticsKernel(setting), setting.roots("timing"), setting.zeros()
    noise = draw_noise_alone(setting, kernel.chunk)
    timed(benchmark, lambda: kernel(roots, 0, centre), noise, "the noise alone")
    benchmark.extra_info.update(estimates=setting.replicates * kernel.chunk)
