"""What pytest-benchmark writes says which processor and which versions, and nothing of whose machine it was."""

from __future__ import annotations

from typing import Any

from gradmeter.bench.sweep import environment
from gradmeter.estimators.backends import NAMES
from tests.benchmarks.reference import PRINTED

COMMIT = ("id", "time", "dirty")


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    machine_info.clear()
    versions = {name: version for backend in NAMES for name, version in environment.versions(backend).items()}
    machine_info.update(machine=environment.machine(), versions=versions)


def pytest_benchmark_update_commit_info(config: Any, commit_info: dict[str, Any]) -> None:
    for name in set(commit_info) - set(COMMIT):
        del commit_info[name]


def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """The summary of the rounds without the rounds, in the order of their names."""
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)
    output_json["benchmarks"].sort(key=lambda benchmark: benchmark["fullname"])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if PRINTED:
        terminalreporter.section("time over that of what ran beside it")
        width = max(len(name) for name, _ in PRINTED)
        for name, ratio in PRINTED:
            terminalreporter.write_line(f"{name:<{width}}  {ratio}")
