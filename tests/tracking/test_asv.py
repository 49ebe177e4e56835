"""asv finds and accepts the benchmarks; running them is `make track`."""

import subprocess
import sys
from pathlib import Path


def test_asv_accepts_the_benchmarks():
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "asv", "check", "-E", "existing:same"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No problems found" in done.stdout + done.stderr
