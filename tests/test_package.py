"""What is installed: one import package, light, whose modules have one name each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gradmeter

ROOT = Path(__file__).resolve().parents[1]
MEASURED = "import gradmeter; rows = gradmeter.measure('square', 'pathwise', timing=False, max_replicates=4096); "


def python(code: str, cwd: Path, path: Path = ROOT) -> str:
    """Run code in a process of its own in a folder that is first on its path, and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_listed_and_there() -> None:
    assert dir(gradmeter) == sorted(gradmeter.__all__)
    assert all(getattr(gradmeter, name) is not None for name in gradmeter.__all__)
    with pytest.raises(AttributeError, match="module 'gradmeter' has no attribute 'mesure'"):
        _ = gradmeter.mesure


def test_importing_it_imports_no_framework(tmp_path: Path) -> None:
    heavy = {"numpy", "scipy", "pandas", "pyarrow", "sklearn", "seaborn", "matplotlib", "torch", "jax", "typer"}
    assert python(f"import gradmeter, sys; print(sorted({heavy} & set(sys.modules)))", tmp_path) == "[]"


def test_no_module_is_loaded_under_two_names(tmp_path: Path) -> None:
    code = (
        MEASURED + "import sys, collections; from pathlib import Path; "
        "files = [Path(m.__file__).resolve() for m in list(sys.modules.values()) if getattr(m, '__file__', None)]; "
        f"ours = [f for f in files if f.is_relative_to({str(ROOT)!r}) and '.venv' not in f.parts]; "
        "print(len(ours) > 100, [f for f, n in collections.Counter(ours).items() if n > 1])"
    )
    assert python(code, tmp_path) == "True []"


def test_other_packages_named_bench_and_estimators_do_not_matter(tmp_path: Path) -> None:
    for name in ("bench", "estimators"):
        tmp_path.joinpath(name).mkdir()
        tmp_path.joinpath(name, "__init__.py").write_text("OWN = True\n", encoding="utf-8")
    code = MEASURED + "import bench, estimators; print(bench.OWN and estimators.OWN, set(rows['verdict']))"
    assert python(code, tmp_path) == "True {'unbiased'}"


def test_the_citation_names_the_version() -> None:
    versions = {
        re.findall(pattern, (ROOT / file).read_text(encoding="utf-8"))[0]
        for file, pattern in (("pyproject.toml", r'(?m)^version = "(.*)"$'), ("CITATION.cff", r"(?m)^version: (.*)$"))
    }
    assert len(versions) == 1


@pytest.mark.slow
def test_the_wheel_installs_one_name_that_works(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    source, wheels, target = tmp_path / "source", tmp_path / "wheels", tmp_path / "target"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source)], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), *map(str, wheels.iterdir())], check=True)
    installed = {path.name for path in target.iterdir() if not path.name.endswith(".dist-info")} - {"bin"}
    assert installed == {"gradmeter"}
    code = MEASURED + "print(gradmeter.__file__, set(rows['verdict']))"
    assert python(code, tmp_path, target) == f"{target / 'gradmeter' / '__init__.py'} {{'unbiased'}}"
    assert python("import subprocess, sys; subprocess.run([sys.executable, '-m', 'gradmeter', '--version'])", tmp_path)
