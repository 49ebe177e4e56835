"""How many functions of the project a measurement goes through: what has to be read to follow one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: Functions of our own on the path of the ordinary measurement, comprehensions apart: a new one is worth a thought.
#: (At commit daecdcf they were 470, comprehensions included.)
MOST = 224

SCRIPT = """
import sys, gradmeter
gradmeter.measure("square", "pathwise", timing=False)
seen = set()

def profile(frame, event, argument):
    code = frame.f_code
    if event == "call" and frame.f_globals.get("__name__", "").startswith("gradmeter."):
        seen.add((code.co_filename, code.co_qualname))

sys.setprofile(profile)
gradmeter.measure("square", "pathwise", timing=False)
sys.setprofile(None)
for file, name in sorted(seen):
    print(file, name)
"""


def test_functions_of_the_second_measurement(tmp_path: Path) -> None:
    """Comprehensions are left out, since some versions of Python inline them; the second excludes imports."""
    there = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=there, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    path = [line for line in run.stdout.splitlines() if not line.endswith("comp>") and not line.endswith("genexpr>")]
    assert len(path) <= MOST, "\n".join(path)
