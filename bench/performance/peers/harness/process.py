"""The parent's side of the protocol: one process per peer, which is killed if it misses the deadline for an answer."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
#: One thread everywhere, on the CPU, as in gradmeter's own backends.
SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"), "1")
ENVIRONMENT = {**SINGLE, "JAX_PLATFORMS": "cpu"}
LONGEST_REASON = 300


class PeerFailure(Exception):
    """A peer cannot answer; `status` is the status of its rows."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = " ".join(reason.split())[:LONGEST_REASON]


class PeerProcess:
    """A running adapter. After a failure that ended the process, the next task starts a new one."""

    def __init__(self, python: Path, adapter: Path, deadline: float = 120.0) -> None:
        self.deadline = deadline
        self._command = [str(python), "-I", str(WORKER), str(adapter)]
        self._running: subprocess.Popen[str] | None = None
        self._ended: PeerFailure | None = None
        self._errors: Any = None

    def ask(self, operation: str, **values: Any) -> dict[str, Any]:
        """Send a request and return the peer's answer.

        Raises
        ------
        PeerFailure
            The peer refused, missed the deadline, answered without a JSON object, or died.
        """
        if self._running is None:
            if self._ended is not None and operation != "prepare":
                raise self._ended
            self._start()
        assert self._running is not None
        assert self._running.stdin is not None
        with suppress(OSError):  # the process is dead; reading reports the cause
            self._running.stdin.write(json.dumps({"operation": operation, **values}) + "\n")
            self._running.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Kill the process, and wait until it has ended."""
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._reader.join()
            for stream in (self._running.stdin, self._running.stdout, self._errors):
                with suppress(OSError):  # a request that it never read
                    stream.close()  # type: ignore[union-attr]
            self._running = None

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._running = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **ENVIRONMENT},
            encoding="utf-8",
            errors="replace",
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._follow, args=(self._running, self._lines), daemon=True)
        self._reader.start()
        try:
            self._read()
        except PeerFailure:  # the adapter cannot be imported
            self.close()
            raise

    @staticmethod
    def _follow(running: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
        assert running.stdout is not None
        for line in running.stdout:
            lines.put(line)
        lines.put("")

    def _read(self) -> dict[str, Any]:
        assert self._running is not None
        try:
            line = self._lines.get(timeout=self.deadline)
        except queue.Empty:
            raise self._end("timeout", f"no answer within {self.deadline:g} s") from None
        if not line:
            raise self._end("crashed", f"its process ended with status {self._running.wait()}: {self._last_words()}")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._end("exception", f"an answer that is no JSON object: {line[:100]!r}")
        if "status" in answer:
            raise PeerFailure(str(answer["status"]), str(answer.get("reason")))
        return answer

    def _end(self, status: str, reason: str) -> PeerFailure:
        self.close()
        self._ended = PeerFailure(status, reason)
        return self._ended

    def _last_words(self) -> str:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(said) if line.strip()), "nothing on standard error")
