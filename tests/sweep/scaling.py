"""How far sweeps on a cluster scale: `python -m tests.sweep.scaling results/quick/results.csv`.

The costs of one cell in the three places that do not multiply with workers are measured here: the process that sends
cells and unpacks results, its store, and Dask's scheduler. Then a sweep is replayed event by event, with the times of
recorded cells drawn at random: each cell waits for the sender, the scheduler and a worker, and its result for the
writer.
"""

from __future__ import annotations

import argparse
import heapq
import pickle
import sys
import tempfile
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd

from gradmeter.bench.rows import ALL
from gradmeter.bench.sweep.cluster import AHEAD
from gradmeter.bench.sweep.measuring import measure_cell
from gradmeter.bench.sweep.store import Store
from tests.sweep.throughput import grid


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
    begun = time.perf_counter()
    for cell in sent:
        _ = cell.key
        cloudpickle.dumps((cell,))
        pickle.loads(packed)
    handling = (time.perf_counter() - begun) / cells
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with Store.create(path) as store:
            begun = time.perf_counter()
            for i in range(0, cells, 100):
                store.finish_many([(c.key, outcome.rows, outcome.series, c.description()) for c in sent[i : i + 100]])
            storing = (time.perf_counter() - begun) / cells
        return handling, storing, path.stat().st_size // cells


def scheduler_cost(tasks: int = 2000) -> float:
    """Return the seconds that Dask takes for a task that does nothing, client and scheduler together."""
    import distributed

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=False) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.gather(client.map(abs, range(100)))
        begun = time.perf_counter()
        client.gather(client.map(abs, range(1000, 1000 + tasks)))
        return (time.perf_counter() - begun) / tasks


def replay(times: np.ndarray, workers: int, cells: int, sending: float, scheduling: float, writing: float) -> float:
    """Return the share of their time that workers spend on cells."""
    drawn = np.random.default_rng(0).choice(times, cells)
    free = [0.0] * workers
    heapq.heapify(free)
    client = scheduler = end = 0.0
    ended: list[float] = []  # of cells whose results are not handled yet
    for number, seconds in enumerate(drawn):
        if number >= AHEAD * workers:  # a cell is sent once another has ended and its result is stored
            client = max(client, heapq.heappop(ended)) + writing
        client += sending
        scheduler = max(scheduler, client) + scheduling
        end = max(heapq.heappop(free), scheduler) + seconds
        heapq.heappush(free, end)
        heapq.heappush(ended, end)
    while ended:
        client = max(client, heapq.heappop(ended)) + writing
    return float(drawn.sum() / (workers * max(client, end)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sweep.scaling", description=__doc__)
    parser.add_argument("export", type=Path, help="results.csv of a report")
    parser.add_argument("--cells", type=int, default=1_000_000)
    given = parser.parse_args()
    times = recorded(given.export)
    handling, storing, size = own_costs()
    scheduling = scheduler_cost()
    print(f"{len(times)} recorded cells: mean {times.mean():.2f} s, median {np.median(times):.2f} s")
    print(
        f"a cell costs {1e3 * handling:.2f} ms to send and unpack, {1e3 * scheduling:.2f} ms in Dask, "
        f"{1e3 * storing:.2f} ms to store, and {size:,} bytes on disk"
    )
    for workers in (10, 100, 300, 1000, 3000):
        share = replay(times, workers, given.cells, handling / 2, scheduling, handling / 2 + storing)
        print(f"{workers:>6,} workers: {100 * share:.0f} % of their time is spent on cells")
    return 0


if __name__ == "__main__":
    sys.exit(main())
