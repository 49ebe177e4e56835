"""What rows say about a graphics card. A fake driver and a fake framework stand for it."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gradmeter.bench.measurement import cost
from gradmeter.bench.measurement.cost import Cost
from gradmeter.bench.measurement.kernel import TimedCall
from gradmeter.bench.rows import COLUMNS, to_json
from gradmeter.bench.sweep import devices, environment, measuring
from gradmeter.bench.sweep.devices import REASONS, FromFramework, Nvml, State, reasons, slowed, with_states
from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import get
from tests.support import make_cell


class NotSupported(Exception):
    pass


def driver(**answers: Any) -> Any:
    """Return a module with the functions of NVML that are asked, which answers with these values."""
    asked: dict[str, Any] = {
        "nvmlInit": None,
        "nvmlSystemGetDriverVersion": b"575.57.08",
        "nvmlSystemGetCudaDriverVersion_v2": 12090,
        "nvmlDeviceGetName": "NVIDIA H200",
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
        "nvmlDeviceGetMemoryInfo": types.SimpleNamespace(total=150_754_820_096),
        "nvmlDeviceGetPowerUsage": 123_456,
        "nvmlDeviceGetTemperature": 41,
        "nvmlDeviceGetCurrentClocksEventReasons": 0x4 | 0x40,
        **answers,
    }
    module: Any = types.SimpleNamespace(
        NVMLError=NotSupported, NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2, NVML_TEMPERATURE_GPU=0
    )

    def answer(name: str) -> Any:
        def function(*_: Any) -> Any:
            if asked[name] is NotSupported:
                raise NotSupported
            return asked[name]

        return function

    for name in asked:
        setattr(module, name, answer(name))
    module.nvmlDeviceGetClockInfo = lambda _, kind: {1: 1980, 2: 3201}[kind]
    module.nvmlDeviceGetHandleByIndex = lambda index: ("index", index)
    module.nvmlDeviceGetHandleByUUID = lambda uuid: ("uuid", uuid)
    return module


def test_the_driver_names_the_card() -> None:
    card = Nvml(driver())
    assert str(card.facts()) == "NVIDIA H200, driver 575.57.08, CUDA 12.9, power limit 700 W"
    assert card.facts().memory == 150_754_820_096
    found = ["power cap", "thermal slowdown by the hardware"]
    assert card.state() == State(sm_clock=1980, memory_clock=3201, temperature=41, power=123.456, reasons=found)


def test_what_a_card_does_not_support_is_unknown() -> None:
    names = ("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetTemperature")
    card = Nvml(driver(**dict.fromkeys(names, NotSupported)))
    assert str(card.facts()) == "NVIDIA H200, driver 575.57.08, CUDA 12.9"
    assert (card.state().power, card.state().temperature, card.state().sm_clock) == (None, None, 1980)


def test_older_drivers_have_the_reasons_under_another_name() -> None:
    old = driver(nvmlDeviceGetCurrentClocksEventReasons=NotSupported, nvmlDeviceGetCurrentClocksThrottleReasons=0x1)
    assert Nvml(old).state().reasons == ["idle"]
    del old.nvmlDeviceGetCurrentClocksThrottleReasons
    assert Nvml(old).state().reasons is None


@pytest.mark.parametrize(
    ("visible", "handle"),
    [(None, ("index", 0)), ("", ("index", 0)), ("3,1", ("index", 3)), ("GPU-8f3a,GPU-1", ("uuid", "GPU-8f3a"))],
)
def test_the_card_is_the_first_visible_one(visible: str | None, handle: tuple[str, Any]) -> None:
    assert Nvml(driver(), visible)._card == handle


def test_reasons_are_decoded_bit_by_bit() -> None:
    assert reasons(0) == []
    assert [reasons(bit) for bit in REASONS] == [[name] for name in REASONS.values()]
    assert reasons(0x1 | 0x2 | 0x2000) == ["idle", "clocks set by the user", "reason 0x2000"]


def test_a_slowed_card_is_remarked_once() -> None:
    cold, hot = (
        {"reasons": found} for found in (["idle", "sync boost"], ["thermal slowdown by the driver", "power cap"])
    )
    said = "the card's clocks were lowered: thermal slowdown by the driver, power cap"
    assert slowed(None) is slowed({"before": cold, "after": {"reasons": None}}) is None
    assert slowed({"before": hot, "after": hot}) == said
    row: Any = {"reason": "x", "device_state": None}
    first = with_states(row, {"before": cold, "after": hot})
    again = with_states(first, {"timing_before": hot, "timing_after": hot})
    assert first["reason"] == again["reason"] == f"x; {said}"
    assert list(again["device_state"]) == ["before", "after", "timing_before", "timing_after"]
    assert with_states(row, None) is row


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fake card under the CPU's arithmetic."""
    environment.machine.cache_clear()
    fake = Nvml(driver())
    monkeypatch.setattr(devices, "of", lambda backend, device: fake)
    yield
    environment.machine.cache_clear()


@pytest.mark.usefixtures("card")
def test_rows_name_the_card_and_its_states() -> None:
    cell = make_cell("square", "pathwise", 1)
    rows = measuring.measure_cell(cell).rows
    for row in rows:
        assert row["machine"].endswith("; NVIDIA H200, driver 575.57.08, CUDA 12.9, power limit 700 W")
        assert list(row["device_state"]) == ["before", "after"]
        assert row["device_state"]["after"]["sm_clock"] == 1980
        assert "clocks were lowered: power cap, thermal slowdown by the hardware" in row["reason"]
        assert json.loads(to_json(row))["device_state"] == row["device_state"]


def test_a_cell_on_the_cpu_names_no_card() -> None:
    assert devices.of("numpy", "cpu") is devices.state("numpy", "cpu") is devices.between(None, None) is None
    assert ";" not in environment.machine()
    assert COLUMNS["device_state"] == "json"
    cell = replace(make_cell("square", "pathwise", 1), device="cuda")
    row = measuring.failed_rows(cell, "n/a", "no", "now")[0]
    assert (row["machine"], row["device_state"]) == (environment.machine(), None)


def test_without_the_extra_the_framework_names_the_card() -> None:
    card = FromFramework(lambda: ("NVIDIA H200", "12.8"), "NVML does not answer: no library")
    assert str(card.facts()) == "NVIDIA H200, CUDA 12.8, NVML does not answer: no library"
    assert card.state() == State()
    described = FromFramework(get("numpy").describe_device, "why")
    assert str(described.facts()) == "cpu, why"


class Clock:
    """A backend whose device takes 3 s a call, and 7 bytes."""

    launched = 0

    def device_seconds(self, launch: Any, repeats: int) -> float:
        for _ in range(repeats):
            launch()
        return 3.0 * repeats

    def peak_memory(self, run: Any) -> int:
        run()
        return 7


def test_time_and_memory_of_a_device_stand_beside_wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bulk call makes 2 estimates, so each takes the device 1.5 s."""
    clock: Any = Clock()

    def launch() -> None:
        clock.launched += 1

    def make() -> list[Any]:
        call = TimedCall(lambda: sum(range(1000)), 2, launch, clock)
        return [(call, TimedCall(lambda: sum(range(500)), 1))]

    monkeypatch.setattr(cost, "calibrate", lambda call: (4, 0.0))
    contenders = cost.Contenders()
    contenders.add("a", cost.Contender(make))
    contenders.add("host", cost.Contender(lambda: [(TimedCall(lambda: sum(range(9)), 1), TimedCall(lambda: 0, 1))]))
    costs, _ = cost.time_calls(contenders)
    found = costs["a"]
    assert isinstance(found, Cost)
    columns = found.columns(None)
    assert (columns["device_seconds"], columns["peak_memory"]) == (1.5, 7)
    assert columns["seconds"] is not None
    assert columns["seconds"] < 1.0
    assert len(found.series["device_seconds"]) == len(found.series["seconds"])
    assert clock.launched == 1 + 4 * len(found.series["seconds"])
    again = found.after({name: values for name, values in found.series.items() if name != "process"}, None)
    assert len(again.series["device_seconds"]) == 2 * len(found.series["seconds"])
    assert again.peak_memory == 7
    other = costs["host"]
    assert isinstance(other, Cost)
    assert (other.columns(None)["device_seconds"], other.columns(None)["peak_memory"]) == (None, None)
    assert "device_seconds" not in other.series


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_the_cpu_is_no_device_of_its_own(name: str) -> None:
    backend = get(name)
    assert backend.device_seconds(lambda: 0, 1) is backend.peak_memory(lambda: 0) is None
    assert backend.describe_device()[1] is None
    with pytest.raises(UsageError, match="no CUDA device"):
        get(name, "cuda")


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_where_there_is_no_card_the_machine_is_the_processor(name: str) -> None:
    assert environment.machine(name, "cuda") == environment.machine()


#: Imports what worker processes are forked with, and prints each question to CUDA and each client of JAX.
FORKED = """
import importlib, torch
def asked(name):
    return lambda *a, **k: print(name) or 0
for name in ("is_available", "device_count", "_lazy_init", "init", "current_device", "get_device_properties"):
    setattr(torch.cuda, name, asked(name))
from gradmeter.bench.sweep.server import IMPORTED
for modules in IMPORTED.values():
    for module in modules:
        importlib.import_module(module)
from jax._src import xla_bridge
print(*xla_bridge._backends)
"""


@pytest.mark.slow
def test_the_server_asks_nothing_of_cuda_before_it_forks() -> None:
    """CUDA cannot be used in a process that was forked after its first use."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
