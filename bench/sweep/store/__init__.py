"""The result store: one SQLite file with one writer; a kill loses nothing, and loading executes nothing.

Tables: `cells` (what was planned, how often it was started, whether it ended, checksums of its rows and series), `rows`
(one JSON object each), `series` (float64 arrays as bytes: group means of Q, timing rounds), `totals` (a checksum over
all cells). WAL with synchronous=FULL while a run writes; one plain file at rest.
"""

from gradmeter.bench.sweep.store.opening import DEFAULT, DiskFull
from gradmeter.bench.sweep.store.store import Store

__all__ = ["DEFAULT", "DiskFull", "Store"]
