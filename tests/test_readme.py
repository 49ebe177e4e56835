"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from tests.support import needs

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda text: text.split()[1])
def test_programs(program: str, tmp_path: Path) -> None:
    needs("jax")
    file = tmp_path / "readme.py"
    file.write_text(re.sub(r"(?m)^(bench\.measure)", r"rows = \1", program), encoding="utf-8")
    names: dict[str, Any] = runpy.run_path(str(file), run_name="readme")
    assert set(names["rows"]["status"]) == {"ok"}
    assert "biased" not in set(names["rows"]["verdict"])


def test_files_it_links_to_are_there() -> None:
    root = Path(__file__).parents[1]
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert all((root / link).is_file() for link in links)


def test_commands_it_lists_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    for command in set(re.findall(r"(?m)^gradvar ([a-z]+)", README)):
        assert main([command, "--help"]) == 0
        assert "Usage" in capsys.readouterr().out
