"""The graphics card that a result was computed on: its facts, and its clocks at a moment.

The driver knows more than PyTorch and JAX do: power limit, clocks, and why clocks are lower than they could be. It is
asked through NVML, whose Python package is the extra `gpu`. No CUDA context is created for that.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from gradmeter.bench.rows import Row
from gradmeter.estimators.backends import get

#: Why a card's clocks are below the highest, by the bits of NVML's `nvmlClocksEventReasons`.
REASONS = {
    0x1: "idle",
    0x2: "clocks set by the user",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown by the driver",
    0x40: "thermal slowdown by the hardware",
    0x80: "power brake",
    0x100: "display clocks",
}
#: Those that slow a measurement down.
SLOWING = tuple(REASONS[bit] for bit in (0x4, 0x8, 0x20, 0x40, 0x80))


def reasons(mask: int) -> list[str]:
    """Return the reasons in a bit mask; bits of newer drivers are given as numbers."""
    bits = [1 << place for place in range(mask.bit_length()) if mask >> place & 1]
    return [REASONS.get(bit, f"reason {bit:#x}") for bit in bits]


@dataclass(frozen=True)
class Facts:
    """What stays the same about a card.

    Attributes
    ----------
    model
        Name of the product.
    driver, cuda
        Versions of the driver, and of the CUDA that it supports or the framework was built for.
    power_limit
        Watts.
    memory
        Bytes.
    remark
        Why something is unknown.
    """

    model: str
    driver: str | None = None
    cuda: str | None = None
    power_limit: float | None = None
    memory: int | None = None
    remark: str | None = None

    def __str__(self) -> str:
        watts = None if self.power_limit is None else f"{self.power_limit:g} W"
        known = (("driver", self.driver), ("CUDA", self.cuda), ("power limit", watts))
        found = (self.model, *(f"{name} {value}" for name, value in known if value is not None), self.remark)
        return ", ".join(filter(None, found))


@dataclass(frozen=True)
class State:
    """A card at one moment: clocks in MHz, degrees Celsius, watts, and why clocks are low. Unknown is None."""

    sm_clock: int | None = None
    memory_clock: int | None = None
    temperature: int | None = None
    power: float | None = None
    reasons: list[str] | None = None


class Device(Protocol):
    """A source of facts about one card."""

    def facts(self) -> Facts: ...

    def state(self) -> State: ...


class Nvml:
    """The card as its driver describes it.

    Parameters
    ----------
    nvml
        The module `pynvml` of the package nvidia-ml-py.
    visible
        Value of CUDA_VISIBLE_DEVICES, by which frameworks choose their first card: numbers, or `GPU-...` names.

    Raises
    ------
    Exception
        There is no driver, or no such card; NVML says so in errors of its own.
    """

    def __init__(self, nvml: Any, visible: str | None = None) -> None:
        self._nvml = nvml
        nvml.nvmlInit()
        first = (visible or "0").split(",")[0].strip()
        if first.isdigit():
            self._card = nvml.nvmlDeviceGetHandleByIndex(int(first))
        else:
            self._card = nvml.nvmlDeviceGetHandleByUUID(first)

    def _ask(self, name: str, *more: Any) -> Any:
        """Return what a function of NVML says about the card, None where card or driver do not support it."""
        try:
            return getattr(self._nvml, name)(self._card, *more)
        except (self._nvml.NVMLError, AttributeError):
            return None

    def facts(self) -> Facts:
        n = self._nvml
        cuda = n.nvmlSystemGetCudaDriverVersion_v2()
        limit, memory = self._ask("nvmlDeviceGetEnforcedPowerLimit"), self._ask("nvmlDeviceGetMemoryInfo")
        return Facts(
            model=_text(n.nvmlDeviceGetName(self._card)),
            driver=_text(n.nvmlSystemGetDriverVersion()),
            cuda=f"{cuda // 1000}.{cuda % 1000 // 10}",
            power_limit=None if limit is None else limit / 1000.0,  # NVML's unit is milliwatts
            memory=None if memory is None else int(memory.total),
        )

    def state(self) -> State:
        n = self._nvml
        power = self._ask("nvmlDeviceGetPowerUsage")
        mask = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if mask is None:  # the name before driver 535
            mask = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return State(
            sm_clock=self._ask("nvmlDeviceGetClockInfo", n.NVML_CLOCK_SM),
            memory_clock=self._ask("nvmlDeviceGetClockInfo", n.NVML_CLOCK_MEM),
            temperature=self._ask("nvmlDeviceGetTemperature", n.NVML_TEMPERATURE_GPU),
            power=None if power is None else power / 1000.0,
            reasons=None if mask is None else reasons(mask),
        )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class FromFramework:
    """The card as PyTorch or JAX describes it: its model, and with PyTorch the version of CUDA.

    Parameters
    ----------
    describe
        Returns model and version of CUDA.
    why
        Why the driver is not asked.
    """

    def __init__(self, describe: Callable[[], tuple[str, str | None]], why: str) -> None:
        self._describe, self._why = describe, why

    def facts(self) -> Facts:
        model, cuda = self._describe()
        return Facts(model, cuda=cuda, remark=self._why)

    def state(self) -> State:
        return State()


@functools.cache
def of(backend: str, device: str) -> Device | None:
    """Return the card that a backend computes on; None on the CPU."""
    if device == "cpu":
        return None
    try:
        import pynvml
    except ImportError:
        why = "power limit, clocks and driver unknown without pip install 'gradmeter[gpu]'"
    else:
        try:
            card = Nvml(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
            card.facts()
            return card
        except Exception as error:  # NVML names no base class before it is loaded
            why = f"NVML does not answer: {error}"
    return FromFramework(lambda: get(backend, device).describe_device(), why)


def state(backend: str, device: str) -> dict[str, Any] | None:
    """Return the state of the card at this moment as a JSON object; None on the CPU."""
    card = of(backend, device)
    return None if card is None else asdict(card.state())


def between(
    before: dict[str, Any] | None, after: dict[str, Any] | None, prefix: str = ""
) -> dict[str, dict[str, Any]] | None:
    """Return two states as one JSON object, under `before` and `after` with a prefix; None on the CPU."""
    return None if before is None or after is None else {f"{prefix}before": before, f"{prefix}after": after}


def slowed(states: dict[str, dict[str, Any]] | None) -> str | None:
    """Return a remark that names what slowed the card down before or after a measurement; None if nothing did."""
    found = [r for each in (states or {}).values() for r in each["reasons"] or () if r in SLOWING]
    return f"the card's clocks were lowered: {', '.join(dict.fromkeys(found))}" if found else None


def with_states(row: Row, states: dict[str, dict[str, Any]] | None) -> Row:
    """Return a row with further states of the card; its reason says what slowed the card down, once."""
    if states is None:
        return row
    remark, reason = slowed(states), row["reason"]
    if remark is not None and remark not in (reason or ""):
        reason = "; ".join(filter(None, (reason, remark)))
    return {**row, "device_state": {**(row["device_state"] or {}), **states}, "reason": reason}
