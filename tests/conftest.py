"""One `backend` fixture runs a test on every framework; a missing one is a visible skip with its reason."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import settings

from gradmeter.estimators import backends
from gradmeter.estimators.backends.backend import Backend
from tests.support import needs

#: A large part of the time of these tests is spent by JAX on compiling: both workers and the next run share what it
#: compiled. `make clean` removes it.
JAX_OPTIONS = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".pytest_cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
os.environ.update({name: value for name, value in JAX_OPTIONS.items() if name not in os.environ})

settings.register_profile("exact", max_examples=20, deadline=None, derandomize=True, database=None)
settings.load_profile("exact")


#: Of tests marked `matrix` the fast tests take one in so many, chosen by their names; `make test-all` takes all.
ONE_IN = 8


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("matrix") and zlib.crc32(item.nodeid.encode()) % ONE_IN:
            item.add_marker(pytest.mark.slow)


def _get(name: str) -> Backend:
    needs(name)
    return backends.get(name)


@pytest.fixture(scope="session", params=backends.NAMES)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    return _get(request.param)


@pytest.fixture(scope="session", params=[name for name in backends.NAMES if name != "numpy"])
def differentiating(request: pytest.FixtureRequest) -> Backend:
    """Each backend that has automatic differentiation and a compiler: what NumPy is compared with."""
    return _get(request.param)


@pytest.fixture(scope="session")
def numpy_backend() -> Backend:
    return backends.get("numpy")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch runs eagerly in this test: the same functions, without the seconds that compiling them takes."""
    from gradmeter.bench.measurement import kernel

    monkeypatch.setattr(kernel, "_COMPILED", {})
    if backends.missing("torch") is None:
        monkeypatch.setattr(
            type(backends.get("torch")), "compile", lambda self, function, expensive_reductions=False: function
        )


@pytest.fixture
def backend_name(backend: Backend, eager: None) -> str:
    """Each backend's name, for cells; PyTorch eager."""
    return str(backend.name)
