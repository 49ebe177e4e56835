"""The server of worker processes: when it starts, and what it imports."""

from __future__ import annotations

import sys

import pytest

from gradmeter.bench.sweep import server

PROBLEM = ("--problem", "square")


@pytest.mark.parametrize(
    ("arguments", "backends"),
    [
        (PROBLEM, []),
        (("--problem=square", "--backend=torch", "--backend", "jax"), ["torch", "jax"]),
        ((), None),  # the suite `quick`
        (("quick", *PROBLEM), None),
        ((*PROBLEM, "--in-process"), None),
        ((*PROBLEM, "--plan"), None),
        ((*PROBLEM, "--backend", "theano"), None),
        ((*PROBLEM, "--backend"), None),
    ],
)
def test_the_server_starts_early_where_the_backends_are_known(
    arguments: tuple[str, ...], backends: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(server, "start_server", started.append)
    server.start_early(arguments)
    assert started == ([] if backends is None else [backends])
    monkeypatch.setattr(sys, "stdout", None)
    server.start_early(arguments)
    assert len(started) == (backends is not None)
