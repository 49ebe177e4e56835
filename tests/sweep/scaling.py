"""How far sweeps on a cluster scale: `python -m tests.sweep.scaling results/quick/results.csv`.

The costs of one cell in the three places that do not multiply with workers are measured here: the process that sends
cells and unpacks results, its store, and Dask's scheduler. Then a sweep is replayed event by event, with the times of
recorded cells drawn at random: each task waits for the sender, the scheduler and a worker, and its results for the
writer. Tasks have the sizes that a run gives them; `--shorter 10` makes each cell take a tenth of its time.

Costs are processor seconds, the least of several measurements, so other programs hardly change them. Waiting for the
disk is left out: that is one wait for all cells that end within a tenth of a second.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import math
import pickle
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd

from gradmeter.bench.rows import ALL
from gradmeter.bench.sweep.cluster import AHEAD, Batches
from gradmeter.bench.sweep.measuring import measure_cell
from gradmeter.bench.sweep.store import Store
from tests.sweep.throughput import grid

#: Measurements of each cost.
REPETITIONS = 5


def recorded(path: Path) -> np.ndarray:
    """Return the seconds that the cells of an export took."""
    rows = pd.read_csv(path)
    rows = rows[(rows["block"] == ALL) & (rows["status"] == "ok")]
    took = pd.to_datetime(rows["finished"]) - pd.to_datetime(rows["started"])
    return took.dt.total_seconds().to_numpy()


def own_costs(cells: int = 300) -> tuple[float, float, int]:
    """Return seconds to send a cell and unpack its result, seconds to store it, and bytes of it in the store."""
    sent = grid(cells, 64)
    outcome = measure_cell(sent[0])
    outcome.prepared = None
    packed = pickle.dumps(outcome)
    handling = storing = math.inf
    for _ in range(REPETITIONS):
        begun = time.process_time()
        for cell in map(dataclasses.replace, sent):  # without keys
            _ = cell.key
            cloudpickle.dumps((cell,))
            pickle.loads(packed)
        handling = min(handling, (time.process_time() - begun) / cells)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "s"
            with Store.create(path) as store:
                begun = time.process_time()
                for i in range(0, cells, 100):
                    batch = sent[i : i + 100]
                    store.finish_many([(c.key, outcome.rows, outcome.series, c.description()) for c in batch])
                storing = min(storing, (time.process_time() - begun) / cells)
            size = path.stat().st_size // cells
    return handling, storing, size


def scheduler_cost(tasks: int = 1000) -> float:
    """Return the seconds that Dask takes for a task that does nothing: client, scheduler and worker together."""
    import distributed

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=False) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.gather(client.map(abs, range(100)))
        least = math.inf
        for repetition in range(1, 1 + REPETITIONS):
            begun = time.process_time()
            client.gather(client.map(abs, range(repetition * tasks, (repetition + 1) * tasks)))
            least = min(least, (time.process_time() - begun) / tasks)
        return least


def replay(
    times: np.ndarray, workers: int, cells: int, sending: float, scheduling: float, writing: float, batches: bool = True
) -> float:
    """Return the share of their time that workers spend on cells.

    Parameters
    ----------
    sending, writing
        Seconds for a cell, of the one process that does both.
    scheduling
        Seconds for a task.
    batches
        Whether a task has the cells that a run would give it, and not one.
    """
    drawn = np.random.default_rng(0).choice(times, cells)
    left, sizes = deque(drawn.tolist()), Batches()
    free = [0.0] * workers
    client = scheduler = 0.0
    ended: list[tuple[float, int, float]] = []  # end, cells and seconds of tasks whose results are not handled yet
    while left or ended:
        if ended and (not left or len(ended) >= AHEAD * workers):  # a task is sent once another has ended
            end, count, seconds = heapq.heappop(ended)
            client = max(client, end) + count * writing
            sizes.took(count, seconds)
            continue
        size = min(len(left), sizes.size(workers, len(left)) if batches else 1)
        count, seconds = 0, 0.0
        while count < size and seconds <= 2.0 * sizes.seconds(workers):  # the rest is sent in a further task
            count, seconds = count + 1, seconds + left.popleft()
        client += size * sending
        scheduler = max(scheduler, client) + scheduling
        end = max(heapq.heappop(free), scheduler) + seconds
        heapq.heappush(free, end)
        heapq.heappush(ended, (end, count, seconds))
    return float(drawn.sum() / (workers * client))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sweep.scaling", description=__doc__)
    parser.add_argument("export", type=Path, help="results.csv of a report")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--shorter", type=float, default=1.0)
    given = parser.parse_args()
    times = recorded(given.export) / given.shorter
    handling, storing, size = own_costs()
    scheduling = scheduler_cost()
    print(f"{len(times)} recorded cells: mean {times.mean():.2f} s, median {np.median(times):.2f} s")
    print(
        f"a cell costs {1e3 * handling:.2f} ms to send and unpack, {1e3 * scheduling:.2f} ms in Dask, "
        f"{1e3 * storing:.2f} ms to store, and {size:,} bytes on disk"
    )
    print(f"{given.cells:,} cells are {1e-9 * size * given.cells:.1f} GB")
    for workers in (10, 100, 300, 1000, 3000):
        costs = handling / 2, scheduling, handling / 2 + storing
        one, several = (replay(times, workers, given.cells, *costs, batches) for batches in (False, True))
        print(f"{workers:>6,} workers spend {several:.0%} of their time on cells; {one:.0%} with one cell a task")
    return 0


if __name__ == "__main__":
    sys.exit(main())
