"""The `threads` column holds what the frameworks themselves report, in a process of its own for each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import gradmeter
from tests.support import needs

SCRIPT = """
import json, sys
from pathlib import Path

import threadpoolctl

from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.measurement.cost import timed_calls
from gradmeter.bench.cells import Cell, make_estimator, make_problem

backend = sys.argv[1]
problem = "logistic-regression" if backend == "numpy" else "square"  # one that multiplies matrices where BLAS does
ready = prepare(Cell(make_problem(problem), make_estimator("pathwise"), backend))
timed_calls(ready)[0].run()
if backend == "numpy":
    pools = threadpoolctl.threadpool_info()
    own = [p for p in pools if p["user_api"] == "blas" and "numpy" in Path(p["filepath"]).parent.name]
    reported = [p["num_threads"] for p in own]
elif backend == "torch":
    import torch

    reported = [torch.get_num_threads()]
else:  # XLA's own pool, which JAX has no function to ask for
    names = [Path(task, "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    reported = [sum("XLAEigen" in name for name in names)]
print(json.dumps([ready.setting.backend.threads, reported]))
"""


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_one_thread_is_pinned_and_recorded(backend: str) -> None:
    needs(backend)
    if backend == "jax" and not Path("/proc/self/task").exists():
        pytest.skip("JAX's threads are counted in /proc")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, backend],
        cwd=Path(gradmeter.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    recorded, reported = json.loads(done.stdout)
    assert recorded == 1
    assert reported
    assert set(reported) == {1}
