"""The peer's side of the protocol, run in the peer's own environment.

It needs only the standard library and NumPy, since gradmeter is not installed there.

    python -I worker.py ADAPTER.py

Each request is one line with a JSON object, and so is each answer. An adapter is a file with

    PACKAGES = ("name", ...)            whose versions the rows record
    def prepare(task): ...              (batch, estimates) for a `PeerTask`; NotImplementedError where it does not apply
        batch(samples) -> call          `call()` makes this many gradient samples and blocks until they are done
        estimates(seed, replicates)     {"loc": [R, D], "log_scale": [R, D]}, each the mean of task.num_samples

What a library prints goes to standard error, so that it is not mistaken for an answer.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class PeerTask:
    """A task for a peer.

    Attributes
    ----------
    problem, estimator, options
        Names, and effective options of the estimator, as in gradmeter's rows.
    num_samples
        S, samples per estimate.
    loc, log_scale
        λ, float32 [D].
    data
        Arrays of the integrand, float32.
    settings
        Which way the adapter uses the library, where it knows several.
    """

    problem: str
    estimator: str
    num_samples: int
    loc: np.ndarray
    log_scale: np.ndarray
    options: dict[str, Any] = field(default_factory=dict)
    data: dict[str, np.ndarray] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def elbo(self) -> bool:
        """Whether f is log p(x, z), from which log q(z) has to be subtracted."""
        return self.problem == "logistic-regression"

    def integrand(self, asarray: Callable[[np.ndarray], Any], softplus: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return f(z) for z [..., D] in the peer's own arrays, as its user would write it, without a gradient."""
        data = {name: asarray(values) for name, values in self.data.items()}
        if self.problem == "square":
            return lambda z: ((z - data["k"]) ** 2).sum(-1)
        if not self.elbo:
            raise NotImplementedError(f"no integrand for {self.problem}")
        constant = -0.5 * len(self.loc) * math.log(2.0 * math.pi)

        def log_joint(z: Any) -> Any:
            predictor = z @ data["design"].T
            likelihood = (data["response"] * predictor - softplus(predictor)).sum(-1)
            return likelihood - 0.5 * (z * z).sum(-1) + constant

        return log_joint


def decode(values: dict[str, Any]) -> np.ndarray:
    """Return an array from its JSON form."""
    flat = np.frombuffer(base64.b64decode(values["base64"]), dtype=values["dtype"])
    return flat.reshape(values["shape"]).copy()  # writable, since some frameworks require it


def encode(array: np.ndarray) -> dict[str, Any]:
    """Return the JSON form of an array, in little-endian bytes."""
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return {"dtype": array.dtype.str, "shape": array.shape, "base64": base64.b64encode(array.tobytes()).decode()}


class Session:
    """A session that answers the requests for one adapter, with one method per operation."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter
        self._calls: dict[int, Callable[[], Any]] = {}

    def prepare(self, task: dict[str, Any]) -> dict[str, Any]:
        arrays = {name: decode(task[name]) for name in ("loc", "log_scale")}
        data = {name: decode(values) for name, values in task["data"].items()}
        self._calls.clear()
        self._batch, self._estimates = self.adapter.prepare(PeerTask(**{**task, **arrays, "data": data}))
        return {"versions": {name: metadata.version(name) for name in self.adapter.PACKAGES}}

    def estimates(self, seed: int, replicates: int) -> dict[str, Any]:
        found = self._estimates(seed, replicates)
        return {"estimates": {name: encode(np.asarray(values)) for name, values in found.items()}}

    def time(self, samples: int, repeats: int) -> dict[str, Any]:
        if samples not in self._calls:
            self._calls[samples] = self._batch(samples)
        call = self._calls[samples]
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return {"seconds": time.perf_counter() - start}


def answer(session: Session, line: str) -> dict[str, Any]:
    """Return the answer to a request; an error becomes an answer too."""
    try:
        request = json.loads(line)
        operation = request.pop("operation")
        return getattr(session, operation)(**request)
    except NotImplementedError as error:
        return {"status": "n/a", "reason": str(error)}
    except MemoryError as error:
        return {"status": "out-of-memory", "reason": str(error) or "out of memory"}
    except Exception as error:
        return {"status": "exception", "reason": f"{type(error).__name__}: {error}"}


def main(path: str) -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.path.append(str(Path(__file__).parent))  # for modules that adapters share
    spec = importlib.util.spec_from_file_location("adapter", path)
    assert spec is not None
    assert spec.loader is not None
    adapter = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(adapter)
        session, first = Session(adapter), {"ready": "yes"}
    except Exception as error:
        session, first = None, {"status": "exception", "reason": f"{type(error).__name__}: {error}"}
    print(json.dumps(first), file=answers, flush=True)
    for line in sys.stdin:
        if session is None:
            break
        print(json.dumps(answer(session, line)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
