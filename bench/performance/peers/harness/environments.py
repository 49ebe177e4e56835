"""Environments for the adapters that need one, made once per version of the requirements."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from gradmeter.bench.performance.peers.harness.process import PeerFailure

FOLDER = Path(".peers")
ROOT = Path(__file__).resolve().parents[4]


def python_of(name: str, requirements: Path | None, folder: Path = FOLDER) -> Path:
    """Return the interpreter of an environment; make the environment if it does not exist.

    Parameters
    ----------
    name : of its folder inside `folder`.
    requirements : the file of packages to install; None for gradmeter's own environment. `--editable .` in it is this
        project.

    Raises
    ------
    PeerFailure
        The environment cannot be made.
    """
    if requirements is None:
        return Path(sys.executable)
    home = (folder / name).absolute()
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted, ready = hashlib.sha256(requirements.read_bytes()).hexdigest(), home / "ready"
    if ready.exists() and ready.read_text() == wanted:
        return python
    print(f"making the environment {name} in {home}", file=sys.stderr, flush=True)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    install = (*pip, "--requirement", requirements.resolve())
    for command in ((sys.executable, "-m", "venv", "--clear", home), (python, *install)):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=1800, cwd=ROOT)
        except subprocess.CalledProcessError as error:
            said = [line for line in error.stderr.splitlines() if line.strip()] or ["no message"]
            raise PeerFailure("n/a", f"no environment: {said[-1].strip()[:300]}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerFailure("n/a", f"no environment: {error}") from None
    ready.write_text(wanted)
    return python
