"""`python -m gradmeter.bench.performance.peers`: measure and time the peer libraries, and write a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gradmeter.bench import report
from gradmeter.bench.performance.peers.harness import environments
from gradmeter.bench.performance.peers.harness.process import PeerFailure
from gradmeter.bench.performance.peers.harness.run import run
from gradmeter.bench.performance.peers.harness.tasks import TASKS
from gradmeter.bench.reading.peers import PEERS
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import UsageError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gradmeter.bench.performance.peers", description=__doc__)
    parser.add_argument("--store", type=Path, default=Path(".gradmeter/peers.sqlite"), help="where results are kept")
    parser.add_argument("--output", type=Path, default=Path("report/peers"), help="folder of the report")
    parser.add_argument("--environments", type=Path, default=environments.FOLDER, help="folder of the environments")
    parser.add_argument("--install", action="store_true", help="only make the environments")
    parser.add_argument("--task", metavar="TEXT", default="", help="only tasks whose name holds this text")
    given = parser.parse_args()
    if given.install:
        return _install(given.environments)
    tasks = [task for task in TASKS if given.task in task.name]
    if not tasks:
        parser.error(f"no task holds {given.task!r}; there are: {', '.join(task.name for task in TASKS)}")
    try:
        with Store.create(given.store) as store:
            run(tasks, store, lambda peer: environments.python_of(peer.adapter, peer.requirements, given.environments))
            print(report.write(store, given.output))
    except (UsageError, OSError) as error:
        print(f"peers: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("peers: interrupted; finished rows are kept, the same command goes on from there", file=sys.stderr)
        return 130
    return 0


def _install(folder: Path) -> int:
    """Make every environment; one that cannot be made gives a line here, and `n/a` rows later."""
    for peer in PEERS.values():
        try:
            environments.python_of(peer.adapter, peer.requirements, folder)
        except PeerFailure as error:
            print(f"peers: {peer.name}: {error.reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
