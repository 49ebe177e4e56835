"""Does asv name what became worse? Commits of a scratch clone, two of them planted: `make track-injected`.

Four commits, the same but for a few lines at the end of one file: the code as it stands; a comment more; estimates
that do their work twice; antithetic pairs that are not pairs. asv measures each in the present environment,
and `asv compare` says what changed from the first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLANTED_IN = Path("estimators/pathwise.py")
#: Variance and bias bound repeat to the last digits; a smaller change of time is not called.
FACTOR = 1.2

COMMENT = """
# A comment more.
"""

SLOWER = """

_once = Pathwise.estimate_integrand


def _twice(self, backend, expectation, parameters, noise, state):
    near_by = {name: 1.001 * value for name, value in parameters.items()}  # what is the same is not computed again
    nothing = {name: 0.0 * g for name, g in _once(self, backend, expectation, near_by, noise, state).items()}
    found = _once(self, backend, expectation, parameters, noise, state)
    return {name: g + nothing[name] for name, g in found.items()}


Pathwise.estimate_integrand = _twice
"""

NOISIER = """

import dataclasses

_noise, _estimate = Pathwise.noise_specs, Pathwise.estimate_integrand


def _unpaired(method):
    return lambda self, *arguments: method(dataclasses.replace(self, antithetic=False), *arguments)


Pathwise.noise_specs, Pathwise.estimate_integrand = _unpaired(_noise), _unpaired(_estimate)
"""

PLANTED = {"base": "", "comment": COMMENT, "slower": SLOWER, "noisier": NOISIER}


@dataclass(frozen=True)
class Change:
    """One line of `asv compare`: how a benchmark at one combination of parameters changed."""

    worse: bool
    before: str
    after: str
    ratio: float
    benchmark: str

    def __str__(self) -> str:
        return f"{'worse ' if self.worse else 'better'} {self.ratio:5.2f} ×  {self.benchmark}"


def run(command: list[str], folder: Path, **environment: str) -> str:
    """What a program prints; its whole output in the error if it fails."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def environment(code: Path, home: Path, backends: str) -> dict[str, str]:
    """Variables for asv: the code to measure before the installed one, and a home of its own to name a machine in."""
    home.mkdir(parents=True, exist_ok=True)
    settings = Path.home() / ".gitconfig"
    return {
        "ASV_PYTHONPATH": str(code),
        "PYTHONPATH": str(code),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GRADMETER_TRACK": backends,
        "HOME": str(home),
        **({"GIT_CONFIG_GLOBAL": str(settings)} if settings.is_file() else {}),
    }


class Clone:
    """A scratch clone of this checkout, with what has changed since its last commit, and asv's results of it."""

    def __init__(self, folder: Path, backends: str = "numpy") -> None:
        self.folder, self.environment = folder, environment(folder, folder.with_name("home"), backends)
        run(["git", "clone", "--quiet", str(ROOT), str(folder)], ROOT)
        listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
        self.source = (folder / PLANTED_IN).read_text(encoding="utf-8")
        self.asv("machine", "--yes", "--machine", "canary")

    def asv(self, *arguments: str) -> str:
        """asv in this environment, on the clone's code."""
        return run([sys.executable, "-m", "asv", *arguments], self.folder, **self.environment)

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=gradmeter", "-c", "user.email=gradmeter@localhost", "-c", "commit.gpgsign=false")
        return run(["git", *who, *arguments], self.folder).strip()

    def commit(self, message: str, plant: str) -> str:
        """A commit with lines planted at the end of one file; its hash."""
        (self.folder / PLANTED_IN).write_text(self.source + plant, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--no-verify", "-m", message)
        return self.git("rev-parse", "HEAD")

    def measure(self, commit: str, benchmarks: str) -> None:
        """Run asv's benchmarks on what is checked out, and file the results under that commit."""
        spec = ("-E", f"existing:{sys.executable}", "--set-commit-hash", commit, "--machine", "canary")
        self.asv("run", *spec, "--no-pull", "--show-stderr", "--bench", benchmarks)

    def compare(self, before: str, after: str, factor: float = FACTOR) -> list[Change]:
        """What `asv compare` calls changed."""
        options = ("--machine", "canary", "--factor", str(factor), "--only-changed")
        return parse(self.asv("compare", *options, before, after))


def parse(table: str) -> list[Change]:
    """The rows of `asv compare` that it marks `+` or `-`."""
    changes = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 5 and cells[0] in ("+", "-"):
            mark, before, after, ratio, benchmark = cells
            changes.append(Change(mark == "+", before, after, float(ratio), benchmark))
    return changes


def main(folder: Path, benchmarks: str = "RealData") -> tuple[Clone, dict[str, list[Change]]]:
    """The clone, and by planted commit what asv says changed."""
    clone = Clone(folder)
    commits = {}
    for name, plant in PLANTED.items():
        commits[name] = clone.commit(name, plant)
        clone.measure(commits[name], benchmarks)
    return clone, {name: clone.compare(commits["base"], commits[name]) for name in PLANTED if name != "base"}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for name, changes in main(Path(scratch) / "clone")[1].items():
            print(f"\n{name}: asv names {len(changes) or 'nothing'}")
            for change in changes:
                print(f"  {change}")
