"""Peer libraries, each timed and judged on the same problems in an environment of its own.

There is one adapter per file, with its requirements beside it; `harness` runs them: `make peers`, or
`python -m gradmeter.bench.performance.peers`.
"""
