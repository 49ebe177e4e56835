"""Docstrings: public names describe their parameters, attributes and results; estimators also name their source."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import gradmeter
from gradmeter import testing
from gradmeter.estimators import ESTIMATORS, FAMILIES
from gradmeter.estimators.families.capabilities import CAPABILITIES

ROOT = Path(__file__).resolve().parents[1]
#: What users, and authors of estimators, families, problems and backends, meet: modules, or some names of a module.
PUBLIC: dict[str, str] = {
    "bench/advising/advising.py": "advise",
    "bench/advising/result.py": "Advice",
    "bench/api.py": "measure minibatch_split",
    "bench/audit/assertions.py": "assert_agrees assert_unbiased assert_variance_below",
    "bench/audit/auditing.py": "audit",
    "bench/audit/result.py": "Audit",
    "bench/checks/checking.py": "check",
    "bench/checks/findings.py": "Finding Findings",
    "bench/problems/log_density.py": "density_model",
    "bench/problems/problem.py": "",
    "bench/problems/user_model.py": "Model",
    "estimators/backends/backend.py": "",
    "estimators/errors.py": "NotApplicable UsageError",
    "estimators/estimator.py": "",
    "estimators/expectation.py": "",
    "estimators/families/capabilities.py": "",
    "estimators/families/family.py": "",
    "estimators/families/normal.py": "Normal",
    "estimators/families/relaxation.py": "",
    "estimators/families/states.py": "",
    "estimators/families/support_and_tails.py": "",
    "estimators/noise.py": "",
    "estimators/options.py": "alternative option",
    **{path.relative_to(ROOT).as_posix(): "" for path in (ROOT / "gradmeter" / "adapters").glob("[a-z]*.py")},
}
#: A function that other modules import describes its parameters in a section if it has at least this many.
MANY = 3
Definition = ast.FunctionDef | ast.ClassDef


class Named(NamedTuple):
    """A definition, its name, and the class that it is a member of."""

    node: Definition
    name: str
    owner: ast.ClassDef | None

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""

    @property
    def inherits(self) -> bool:
        """Whether it is a member of a class that has a base class of the project."""
        bases = [] if self.owner is None else [ast.unparse(base) for base in self.owner.bases]
        return not {*bases} <= {"ABC", "Protocol"}

    @property
    def decorators(self) -> set[str]:
        return {ast.unparse(decorator).partition("(")[0] for decorator in self.node.decorator_list}

    def section(self, title: str) -> dict[str, str]:
        """Return the text below each name of a section; names that share a line share the text."""
        _, _, rest = f"\n{self.doc}\n".partition(f"\n{title}\n{'-' * len(title)}\n")
        body = re.split(r"\n\n\w+\n-+\n", rest)[0] + "\n"
        entries = re.findall(r"^(\S.*)\n((?: +.*\n|\n(?= ))*)", body, flags=re.MULTILINE)
        return {name.strip("* "): text for head, text in entries for name in head.partition(" : ")[0].split(",")}


def definitions(file: str) -> Iterator[Named]:
    """Yield the public functions, classes and methods of a module."""
    for node in ast.parse((ROOT / file).read_text("utf-8")).body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield Named(node, node.name, None)
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    yield Named(member, f"{node.name}.{member.name}", node if isinstance(node, ast.ClassDef) else None)


def public(file: str) -> list[Named]:
    names = PUBLIC[file].split()
    return [named for named in definitions(file) if not names or named.name.partition(".")[0] in names]


def parameters(function: ast.FunctionDef) -> set[str]:
    given = function.args
    several = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {argument.arg for argument in several if argument is not None} - {"self", "cls"}


def attributes(owner: ast.ClassDef) -> set[str]:
    targets = [item.target for item in owner.body if isinstance(item, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name) and not target.id.startswith("_")}


def undescribed(named: Named) -> set[str]:
    """Return the parameters that a section leaves out or leaves without a text, and those it invents."""
    assert isinstance(named.node, ast.FunctionDef)
    section = named.section("Parameters")
    return (parameters(named.node) ^ set(section)) | {name for name, text in section.items() if not text.strip()}


#: The methods and properties that base classes and protocols describe, by name.
CONTRACTS = {
    named.node.name
    for file in PUBLIC
    for named in public(file)
    if not named.inherits and ("property" in named.decorators or "\n---" in named.doc)
}


def faults(named: Named) -> Iterator[str]:
    """Yield what the docstring of a public name leaves out; a method need not repeat what its base class says."""
    node, inherited = named.node, named.inherits and named.node.name in CONTRACTS
    if not named.doc:
        if not inherited and "capability" not in named.decorators:
            yield "has no docstring"
    elif isinstance(node, ast.ClassDef):
        constant = {"name", "summary", "blocks"} if named.name == "Normal" else set()  # described by Family
        left_out = attributes(node) - constant - {*named.section("Parameters"), *named.section("Attributes")}
        yield from (f"does not describe the attribute {name}" for name in sorted(left_out))
    elif "property" not in named.decorators and not inherited:
        yield from (f"does not describe exactly the parameter {name}" for name in sorted(undescribed(named)))
        returns_nothing = node.returns is None or ast.unparse(node.returns) == "None"
        if returns_nothing == bool(named.section("Returns") or named.section("Yields")):
            yield "has a section Returns and returns nothing, or the reverse"


@pytest.mark.parametrize("file", PUBLIC)
def test_public_names_are_described(file: str) -> None:
    named = public(file)
    assert named
    assert [f"{each.name} {fault}" for each in named for fault in faults(each)] == []


def test_the_public_api_is_covered() -> None:
    api = [getattr(gradmeter, name) for name in gradmeter.__all__] + [getattr(testing, n) for n in testing.__all__]
    protocols = [each.methods for each in CAPABILITIES.values() if each.methods is not object]
    for thing in (*api, *protocols):
        file = Path(inspect.getfile(thing)).resolve().relative_to(ROOT).as_posix()
        assert thing.__name__ in {named.name for named in public(file)}, thing


def test_what_a_docstring_leaves_out_is_found() -> None:
    code = '''def f(a, *, b=1) -> int:
    """Return a.

    Parameters
    ----------
    a
        A number.
    c : int

    Returns
    -------
    int
    """'''
    node = ast.parse(code).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert undescribed(Named(node, "f", None)) == {"b", "c"}


def _imported() -> dict[str, set[str]]:
    """Return the names that modules of the packages import from one another, by file."""
    found: dict[str, set[str]] = {}
    for path in (p for folder in ("bench", "estimators", "gradmeter/adapters") for p in (ROOT / folder).rglob("*.py")):
        for module, names in re.findall(r"from gradmeter\.([\w.]+) import (\([^)]*\)|.+)", path.read_text("utf-8")):
            file = module.replace(".", "/") + ".py"
            if (ROOT / file).is_file():
                found.setdefault(file, set()).update(re.findall(r"\w+", names))
    return found


def test_functions_that_other_modules_import_are_described() -> None:
    shared = _imported()
    named = [(file, each) for file in sorted(shared) for each in definitions(file) if each.name in shared[file]]
    functions = [(file, each) for file, each in named if isinstance(each.node, ast.FunctionDef)]
    assert len(functions) > 400
    assert [f"{file} {each.name}" for file, each in named if not each.doc and "capability" not in each.decorators] == []
    many = [(file, each) for file, each in functions if len(parameters(each.node)) >= MANY]  # type: ignore[arg-type]
    assert [
        f"{file} {each.name}: {', '.join(sorted(undescribed(each)))}" for file, each in many if undescribed(each)
    ] == []


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_estimators_name_their_source(name: str) -> None:
    said = f"{inspect.getdoc(ESTIMATORS[name])} {sys.modules[ESTIMATORS[name].__module__].__doc__}"
    assert re.search(r"\b(19|20)\d\d\b", said) or name == "enumeration"  # which is a definition


@pytest.mark.parametrize("name", list(FAMILIES))
def test_families_describe_their_parameter_blocks(name: str) -> None:
    owner = FAMILIES[name]
    assert [block for block in owner.blocks if f"`{block}`" not in (inspect.getdoc(owner) or "")] == []
