"""Gradients of other libraries, audited: `make libraries`, or `python -m gradmeter.bench.libraries`.

There is one file of cases per library in `audited`; `worker` audits them in an environment that has the library. A
gradient that is known to be wrong has a script in `defects`, which needs the library alone.
"""
