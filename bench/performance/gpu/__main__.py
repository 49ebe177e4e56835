"""`python -m gradmeter.bench.performance.gpu`: measure on a graphics card, and write a page. `make gpu`.

Exit status: 0 if every part ended for which a framework has the card, 1 if one failed or found that the card
disagrees with the CPU, 2 if there is no card: then nothing is measured, and a script that asked for it must not take
that for a success.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gradmeter.bench.performance.gpu.record import Record, read
from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import get

#: Seconds of the whole run, and those kept for the page.
LIMIT, PAGE = 480.0, 15.0
#: Seconds before its end at which a part begins nothing more.
MARGIN = 8.0
BACKENDS = ("torch", "jax")


@dataclass(frozen=True)
class Part:
    """A part: the seconds that it may take, and its work, (record, device, backends)."""

    seconds: float
    work: Callable[[Record, str, tuple[str, ...]], None]
    device: str = "cuda"
    backends: tuple[str, ...] = BACKENDS


def _facts(record: Record, device: str, backends: tuple[str, ...]) -> None:
    """Name the card as each framework sees it."""
    from gradmeter.bench.sweep import environment

    for backend in backends:
        try:
            get(backend, device)
        except UsageError as error:
            record.add(backend=backend, reason=str(error))
            continue
        version = environment.versions(backend).get(backend)
        record.add(backend=backend, version=version, machine=environment.machine(backend, device))


def _agreement(record: Record, device: str, backends: tuple[str, ...]) -> None:
    from gradmeter.bench.performance.gpu import agreement

    agreement.run(record, device, backends)


def _crossover(record: Record, device: str, backends: tuple[str, ...]) -> None:
    from gradmeter.bench.performance.gpu import crossover

    crossover.run(record, device, backends)


def _floor(record: Record, device: str, backends: tuple[str, ...]) -> None:
    from gradmeter.bench.performance.gpu import noise_floor

    noise_floor.run(record, device, backends)


#: In the order in which they run. A part that ends early leaves its time unused, so the sum is the longest run.
PARTS = {
    "facts": Part(30.0, _facts),
    "agreement-torch": Part(110.0, _agreement, backends=("torch",)),
    "agreement-jax": Part(45.0, _agreement, backends=("jax",)),
    "crossover-torch": Part(90.0, _crossover, backends=("torch",)),
    "crossover-jax": Part(35.0, _crossover, backends=("jax",)),
    "crossover-cpu": Part(35.0, _crossover, "cpu", ("numpy", "jax", "torch")),
    "floor-torch": Part(80.0, _floor, backends=("torch",)),
    "floor-jax": Part(40.0, _floor, backends=("jax",)),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gradmeter.bench.performance.gpu", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output", type=Path, default=Path("results/gpu"), help="folder of the report")
    parser.add_argument("--part", choices=PARTS, help="only this part, in this process")
    given = parser.parse_args(arguments)
    if given.part is not None:
        return perform(given.part, given.output)
    return conduct(given.output, in_a_process)


def perform(name: str, output: Path, device: str | None = None) -> int:
    """Do the work of one part in this process, and write its file."""
    from gradmeter.bench.sweep import devices, environment
    from gradmeter.bench.sweep.measuring import now

    part = PARTS[name]
    where = device or part.device
    record = Record(output / f"{name}.json", part.seconds - MARGIN)
    command = f"python -m gradmeter.bench.performance.gpu --part {name}"
    before = devices.state(part.backends[0], where)
    record.say(part=name, command=command, code_version=environment.code_version(), started=now(), finished=None)
    if before is not None:
        record.say(device_state={"before": before})
    part.work(record, where, part.backends)
    record.say(finished=now(), device_state=devices.between(before, devices.state(part.backends[0], where)))
    return 0


def in_a_process(name: str, output: Path, seconds: float) -> str | None:
    """Run one part in a process of its own; return why it ended early, or None."""
    command = [sys.executable, "-m", "gradmeter.bench.performance.gpu", "--part", name, "--output", str(output)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"it was ended after {seconds:.0f} s"
        finally:  # PyTorch's compiler has processes of its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        lines = said.read().strip().splitlines()
    if status == 0:
        return None
    return f"exit status {status}" + (f": {lines[-1]}" if lines else "")


def conduct(output: Path, run: Callable[[str, Path, float], str | None]) -> int:
    """Run all parts one after another, then write the page.

    Parameters
    ----------
    output
        Folder of the report.
    run
        Runs one part, (name, folder, seconds), and returns why it ended early, or None.
    """
    from gradmeter.bench.performance.gpu import page

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:  # an earlier report stays where there is no card
        failure = run("facts", Path(scratch), PARTS["facts"].seconds)
        facts = read(Path(scratch) / "facts.json")
        usable = {line["backend"] for line in facts["lines"] if "reason" not in line}
        if not usable:
            reasons = "; ".join(line["reason"].partition(";")[0] for line in facts["lines"])
            print(f"gpu: nothing was measured: {failure or reasons}", file=sys.stderr)
            return 2
        output.mkdir(parents=True, exist_ok=True)
        for name in PARTS:
            (output / f"{name}.json").unlink(missing_ok=True)
        shutil.move(Path(scratch) / "facts.json", output / "facts.json")
    failures = {"facts": failure}
    for name, part in PARTS.items():
        if part.device != "cpu" and not usable.intersection(part.backends):
            continue
        if name != "facts":
            seconds = min(part.seconds, LIMIT - PAGE - (time.monotonic() - started))
            failures[name] = run(name, output, seconds) if seconds > MARGIN else "there was no time left"
        _note(output / f"{name}.json", failures[name])
        print(f"{time.monotonic() - started:4.0f} s  {name}: {failures[name] or 'done'}", flush=True)
    print(page.write(output, PARTS))
    lines = [line for name in PARTS for line in read(output / f"{name}.json")["lines"]]
    disagreeing = sum(line.get("agrees") is False for line in lines)
    if disagreeing:
        print(f"gpu: {disagreeing} comparisons with the CPU disagree; see the page", file=sys.stderr)
    return 1 if disagreeing or any(failures.values()) else 0


def _note(path: Path, failure: str | None) -> None:
    """Write to the file of a part why it ended early."""
    if failure is not None:
        document = read(path)
        lines, left_out = document.pop("lines"), document.pop("left_out")
        Record(path, head=document, lines=lines, left_out=left_out).say(failure=failure)


if __name__ == "__main__":
    sys.exit(main())
