"""The pytest plugin: a fixture `gradmeter`, and one report of all audits of a session.

pytest imports this module whenever gradmeter is installed, so it imports nothing that takes time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

SENT = "gradmeter_audits"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gradmeter", "audits of gradients")
    group.addoption(
        "--gradmeter-budget",
        type=float,
        default=1e-4,
        metavar="ALPHA",
        help="the most that the false-alarm rates of all audits of a session may add up to (default 1e-4)",
    )
    group.addoption("--gradmeter-store", metavar="PATH", help="store to add the rows of all audits to")


class Gradmeter:
    """The fixture `gradmeter`: `audit` and the assertions of `gradmeter.testing`."""

    def __init__(self, record: Any) -> None:
        self._record = record

    def __getattr__(self, name: str) -> Any:
        from gradmeter import testing

        if name not in testing.__all__:
            raise AttributeError(f"the fixture gradmeter has no '{name}'; it has {', '.join(testing.__all__)}")
        return getattr(testing, name)

    def audit(self, gradient: Any, parameters: Any = None, **options: Any) -> Any:
        """Audit a gradient, and put it into the report of the session."""
        import gradmeter

        found = gradmeter.audit(gradient, parameters, **options)
        self._record(found)
        return found


class Session:
    """The audits of a session, those of other processes included."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.audits: list[dict[str, Any]] = []
        self.test = ""
        self.benchmark: Any = None

    def record(self, found: Any) -> None:
        """Keep what an audit found; a benchmark of the same test gets the variance."""
        values = json.loads(found.as_json())
        self.audits.append({"test": self.test, **{key: values[key] for key in ("name", "verdict", "rows")}})
        if self.benchmark is not None:
            whole = found.whole
            keys = ("verdict", "bias_bound", "variance", "variance_low", "variance_high")
            self.benchmark.extra_info.update({f"gradmeter_{key}": whole[key] for key in keys})

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.test = item.nodeid
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        import sys

        self.benchmark = getattr(item, "funcargs", {}).get("benchmark")
        # Whoever imports gradmeter.testing is listened to; nobody is made to import it.
        found = sys.modules.get("gradmeter.bench.audit.assertions")
        if found is not None and self.record not in found.listeners:
            found.listeners.append(self.record)
        return (yield)

    def pytest_sessionfinish(self) -> None:
        sent = getattr(self.config, "workeroutput", None)
        if sent is not None:  # a worker of pytest-xdist sends its audits to the process that reports
            sent[SENT] = json.dumps(self.audits)
            return
        store = self.config.getoption("--gradmeter-store")
        if store and self.audits:
            from pathlib import Path

            from gradmeter.bench.audit.result import save

            for each in self.audits:
                save(Path(store), each["name"], each["rows"])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.audits += json.loads(getattr(node, "workeroutput", {}).get(SENT, "[]"))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.audits or hasattr(self.config, "workeroutput"):
            return
        from gradmeter.bench.audit.assertions import FALSE_ALARM
        from gradmeter.bench.reading.numbers import bias, significant, verdict

        terminalreporter.section("gradmeter")
        for each in self.audits:
            whole = each["rows"][-1]
            said = f"{verdict(each['verdict'])} {bias(whole)}".rstrip()
            flag = "" if whole["variance_flag"] == "ok" else f" {whole['variance_flag']}"
            terminalreporter.write_line(
                f"{each['test']}: {each['name']}: {said}; variance {significant(whole['variance'])}{flag}"
            )
        rate, budget = FALSE_ALARM * len(self.audits), self.config.getoption("--gradmeter-budget")
        over = f", above the budget of {budget:.1g}" if rate > budget else ""
        terminalreporter.write_line(f"{len(self.audits)} audits; the probability of a false alarm is {rate:.1g}{over}")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Session(config), "gradmeter-session")


@pytest.fixture
def gradmeter(request: pytest.FixtureRequest) -> Gradmeter:
    """Provide `gradmeter.audit` and the assertions of `gradmeter.testing`.

    The end of the session reports their audits.
    """
    from gradmeter.bench.audit import assertions

    session = request.config.pluginmanager.get_plugin("gradmeter-session")
    assert isinstance(session, Session)
    if session.record not in assertions.listeners:
        assertions.listeners.append(session.record)
    return Gradmeter(session.record)
