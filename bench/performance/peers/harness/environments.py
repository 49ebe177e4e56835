"""Environments for the adapters that need one, made once per version of the requirements."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from gradmeter.bench.performance.peers.harness.process import PeerFailure
from gradmeter.bench.reading.peers import Peer

FOLDER = Path(".peers")


def python_of(peer: Peer, folder: Path = FOLDER) -> Path:
    """Return the interpreter that runs a peer's adapter; make its environment if it does not exist.

    Raises
    ------
    PeerFailure
        The environment cannot be made.
    """
    if peer.requirements is None:
        return Path(sys.executable)
    home = (folder / peer.adapter).absolute()
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted, ready = hashlib.sha256(peer.requirements.read_bytes()).hexdigest(), home / "ready"
    if ready.exists() and ready.read_text() == wanted:
        return python
    print(f"peers: making the environment of {peer.adapter} in {home}", file=sys.stderr, flush=True)
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", peer.requirements)
    for command in ((sys.executable, "-m", "venv", "--clear", home), (python, *install)):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=1800)
        except subprocess.CalledProcessError as error:
            said = [line for line in error.stderr.splitlines() if line.strip()] or ["no message"]
            raise PeerFailure("n/a", f"no environment: {said[-1].strip()[:300]}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerFailure("n/a", f"no environment: {error}") from None
    ready.write_text(wanted)
    return python
