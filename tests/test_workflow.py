"""The workflow of continuous integration asks for what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflow(file):
    yaml = pytest.importorskip("yaml")  # comes with asv
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert set(workflow) == {"name", True, "permissions", "concurrency", "jobs"}  # YAML reads `on` as true
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    called = set(re.findall(r"\bmake (?:-C \S+ )?([a-z-]+)", commands))
    assert called <= targets
    if file.stem == "checks":
        assert {"test", "benchmark-gate", "report"} <= called
    trusted = r"actions/[a-z-]+@v\d+|pypa/gh-action-pypi-publish@release/v1"
    assert all(re.fullmatch(trusted, step["uses"]) for step in steps if "uses" in step)
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())


def test_there_is_one():
    assert WORKFLOWS
