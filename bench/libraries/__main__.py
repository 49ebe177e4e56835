"""`python -m gradmeter.bench.libraries`: audit gradients of other libraries, and write a page of what was found."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from gradmeter.bench.libraries import page
from gradmeter.bench.libraries.case import DEFECTS
from gradmeter.bench.libraries.found import Found
from gradmeter.bench.performance.peers.harness import environments
from gradmeter.bench.performance.peers.harness.process import PeerFailure
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import unknown

#: Each library's environment: the name of a file in `environments`, or gradmeter's own.
LIBRARIES = {
    "pyro": "libraries",
    "numpyro": "libraries",
    "tfp": "libraries",
    "pymc": "libraries",
    "optax": "optax",
    "torch_distributions": None,
    "jax_random": None,
}
FOLDER = Path(".libraries")
ROOT = environments.ROOT
#: The most seconds that a script of a defect may take.
SECONDS = 120


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gradmeter.bench.libraries", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(LIBRARIES)} (default: all)")
    parser.add_argument("--kept", type=Path, default=Path(".gradmeter/libraries"), help="where audits are kept")
    parser.add_argument("--output", type=Path, default=Path("report/libraries"), help="folder of the page")
    parser.add_argument("--environments", type=Path, default=FOLDER, help="folder of the environments")
    parser.add_argument("--install", action="store_true", help="only make the environments")
    given = parser.parse_args()
    try:
        for name in given.names:
            if name not in LIBRARIES:
                raise unknown("library", name, LIBRARIES)
        pythons = {name: _python(name, given.environments) for name in given.names or LIBRARIES}
        if given.install:
            return 0
        for name, python in pythons.items():
            _audit(name, python, given.kept)
        found = _kept(given.kept)
        print(page.write(found, given.output))
    except (UsageError, OSError, PeerFailure) as error:
        print(f"libraries: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("libraries: interrupted; the libraries that were finished are kept", file=sys.stderr)
        return 130
    surprises = list(unexpected(found))
    for line in surprises:
        print(f"libraries: {line}", file=sys.stderr)
    return 1 if surprises else 0


def unexpected(found: Iterable[Found]) -> Iterable[str]:
    """Yield wrong gradients without a script, and scripts whose gradient was found unbiased.

    A gradient with a script may come out inconclusive, since a slower machine makes fewer of them.
    """
    for each in found:
        if each.status == "exception":
            yield f"{each.library}: {each.name}, {each.problem}: {each.reason}"
        elif each.wrong and each.defect is None:
            yield f"{each.library}: {each.name}, {each.problem} is wrong, and no script shows it"
        elif each.defect is not None and each.verdict == "unbiased":
            yield f"{each.library}: {each.name}, {each.problem} is unbiased, and {each.defect}.py says that it is wrong"


def _python(name: str, folder: Path) -> Path:
    environment = LIBRARIES[name]
    requirements = Path(__file__).with_name("environments") / f"{environment}.txt"
    return environments.python_of(environment or "", requirements if environment else None, folder)


def _audit(name: str, python: Path, kept: Path) -> None:
    """Audit the cases of a library, run the scripts of its defects, and keep what was found in one file."""
    command = [str(python), "-m", "gradmeter.bench.libraries.worker", name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment())
    lines: list[Found] = []
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        for line in process.stdout:
            lines.append(Found(**json.loads(line)))
            print(f"{name}: {lines[-1].name}, {lines[-1].problem}: {lines[-1].word}", file=sys.stderr, flush=True)
        said = process.stderr.read()
    finally:
        process.kill()
    if process.wait() > 0:
        raise UsageError(f"the audits of {name} ended early: {said.strip().splitlines()[-1][:300]}")
    outputs = {defect: _output(defect, python) for defect in dict.fromkeys(f.defect for f in lines) if defect}
    kept.mkdir(parents=True, exist_ok=True)
    document = [{**asdict(f), "output": outputs.get(f.defect or "")} for f in lines]
    (kept / f"{name}.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def _output(defect: str, python: Path) -> str:
    """Return what the script of a defect prints."""
    script = [str(python), str(DEFECTS / f"{defect}.py")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=SECONDS, env=_environment())
    return done.stdout.strip() if done.returncode == 0 else f"failed: {done.stderr.strip().splitlines()[-1]}"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}


def _kept(folder: Path) -> list[Found]:
    files = [folder / f"{name}.json" for name in LIBRARIES]
    return [Found(**each) for file in files if file.exists() for each in json.loads(file.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    sys.exit(main())
