"""Backends: the operations that the Python array API does not cover, one small record per framework.

A backend is one file, with a class that has what `backend.Backend` lists, and one `Registration` below.

Requirements on this folder
---------------------------
- A framework is imported by `get` only, and only the one asked for.
- A backend is passed as an argument; there is no current backend.
- Arithmetic does not belong here: it is written once, against `backend.xp`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from dataclasses import dataclass

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError, unknown


@dataclass(frozen=True)
class Registration:
    """The location of a backend.

    Attributes
    ----------
    place
        `module:Class`; the class is called with a device.
    framework
        The package that has to be installed, by its import name.
    summary
        A description for users.
    """

    place: str
    framework: str
    summary: str


_HERE = "gradmeter.estimators.backends"
REGISTERED = {
    "numpy": Registration(f"{_HERE}.numpy:NumpyBackend", "numpy", "NumPy on the CPU; closed-form gradients only"),
    "torch": Registration(f"{_HERE}.torch:TorchBackend", "torch", "PyTorch, compiled with torch.compile"),
    "jax": Registration(
        f"{_HERE}.jax:JaxBackend",
        "jax",
        "JAX, compiled with jax.jit; noise drawn inside the compiled function",
    ),
}
NAMES = tuple(REGISTERED)
DEVICES = ("cpu", "cuda")


def missing(name: str) -> str | None:
    """Return why a backend cannot be used here, without importing it; None if it can."""
    if name not in REGISTERED:
        raise unknown("backend", name, REGISTERED)
    if importlib.util.find_spec(REGISTERED[name].framework) is None:
        return f"backend '{name}' is not installed; pip install 'gradmeter[{name}]'"
    return None


def get(name: str, device: str = "cpu") -> Backend:
    """Return the backend `name` on `device`, always the same object, and import its framework.

    Raises
    ------
    UsageError
        The framework is not installed, or has no such device.
    """
    reason = missing(name)
    if reason:
        raise UsageError(reason)
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    return _load(REGISTERED[name].place, device)


@functools.cache
def _load(place: str, device: str) -> Backend:
    module, _, cls = place.partition(":")
    backend: Backend = getattr(importlib.import_module(module), cls)(device)
    return backend
