"""The commands of the command line, with their options: parsing, and nothing else. They register with `app.app`.

They are imported in the order in which the help shows them.
"""

from gradmeter.bench.subcommands import listing, running, results, fitting, own  # isort: skip

__all__ = ["fitting", "listing", "own", "results", "running"]
