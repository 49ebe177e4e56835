"""Claims and regimes of a suite file: what is wrong in one is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradmeter.bench.sweep import suites
from gradmeter.bench.sweep.claims import spelled
from gradmeter.estimators import UsageError

GRID = '[[grid]]\nproblem = ["square"]\nestimator = ["pathwise"]\n'
SAYS = 'says = "It is so."\n'
OF = 'of = { estimator = "pathwise" }\n'
FITTED = "kind = 'fit'\nproblem = 'square'\nmethod = 'svi'\nagainst = 'cavi'\nbelow = 1\n"
ASKS = '[[regime]]\nquestion = "Which?"\nproblem = "square"\nx = "k"\n'

WRONG = [
    ("paper = 1\n" + GRID, "paper must be a text"),
    ("claim = 1\n" + GRID, "claim must be written [[claim]]"),
    ("claim = [1]\n" + GRID, "a claim needs the key says"),
    (f"{GRID}[[claim]]\nkind = 'zero'\n{OF}", "a claim needs the key says"),
    (f"{GRID}[[claim]]\n{SAYS}kind = 'zeros'\n{OF}", "did you mean 'zero'?"),
    (f"{GRID}[[claim]]\n{SAYS}kind = 'zero'", "a claim of kind zero needs the key of"),
    (f"{GRID}[[claim]]\n{SAYS}kind = 'zero'\n{OF}below = 1.0", "unknown key of a claim of kind zero 'below'"),
    (f"{GRID}[[claim]]\n{SAYS}kind = 'value'\n{OF}", "needs above, below or both"),
    (f"{GRID}[[claim]]\n{SAYS}kind = 'value'\n{OF}below = 'x'", "below of a claim must be a number"),
    (f"{GRID}[[claim]]\n{SAYS}kind = 'value'\n{OF}below = 1\ncolumn = 'bais'", "did you mean 'bias'?"),
    (f"{GRID}[[claim]]\n{SAYS}kind = 'slope'\n{OF}below = 1", "a claim of kind slope needs the key along"),
    (f"{GRID}[[claim]]\n{SAYS}kind = 'verdict'\n{OF}verdict = 'unbias'", "did you mean 'unbiased'?"),
    (f"{GRID}[[claim]]\n{SAYS}kind = 'zero'\nof = {{ estimator = 'pathwis' }}", "did you mean 'pathwise'?"),
    (f"{GRID}[[claim]]\n{SAYS}kind = 'zero'\nof = {{ samples = '1' }}", "samples of of must be whole numbers"),
    (f"{GRID}[[claim]]\n{SAYS}kind = 'zero'\nof = 1", "of must be a table of problem"),
    (f"{GRID}[[claim]]\n{SAYS}needs = 'data'\nkind = 'zero'", "unknown key of a claim with needs 'kind'"),
    (f"{GRID}[[claim]]\n{SAYS}{FITTED}seeds = 0\nwithin = 0.1\n", "seeds of a claim must be a whole number"),
    (f"{GRID}[[claim]]\n{SAYS}{FITTED}seeds = 1\nwithin = '1'\n", "within of a claim must be a number"),
    (f"{GRID}[[claim]]\n{SAYS}{FITTED}seeds = 1\n", "a claim of kind fit needs the key within"),
    (f"{GRID}{ASKS}{OF}", "a regime needs the key y"),
    (f"{GRID}{ASKS}y = 'dim'\n{OF}boundary = true", "boundary of a regime must be a number"),
    (f"{GRID}{ASKS}y = 'dim'\n{OF}by = 'eror'", "did you mean 'error'?"),
    (f"{GRID}{ASKS}y = 'dim'\n{OF}z = 'dim'", "unknown key of a regime 'z'"),
]


@pytest.mark.parametrize(("content", "fragment"), WRONG, ids=[fragment for _, fragment in WRONG])
def test_wrong_claims_are_refused(tmp_path: Path, content: str, fragment: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as refusal:
        suites.load(str(path))
    assert str(refusal.value).startswith(f"suite {path}: ")
    assert fragment in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_names_of_a_selection_are_spelled_as_rows_spell_them(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    of = "of = { problem = 'square[dim=2,k=2.0]', estimator = ['rloo', 'pathwise'], samples = 2 }\n"
    path.write_text(f"{GRID}[[claim]]\n{SAYS}kind = 'zero'\n{of}", encoding="utf-8")
    (claim,) = suites.load(str(path)).claims
    assert claim.of.problem == ("square[k=2,dim=2]",)
    assert claim.of.estimator == ("score-function[baseline=leave-one-out]", "pathwise")
    assert claim.of.samples == (2,)


@pytest.mark.parametrize("name", suites.papers())
def test_claims_of_papers_choose_cells_of_their_own_suite(name: str) -> None:
    """Each name that a claim chooses by is that of a cell, or the claim would never be judged."""
    suite = suites.load(name)
    cells = {kind: {spelled(getattr(cell, kind)) for cell in suite.cells} for kind in ("problem", "estimator")}
    samples = {cell.num_samples for cell in suite.cells}
    assert suite.paper
    assert suite.claims or suite.regimes
    for claim in suite.claims:
        for chosen in (claim.of, claim.to):
            assert set(chosen.problem) <= cells["problem"]
            assert set(chosen.estimator) <= cells["estimator"]
            assert set(chosen.samples) <= samples


def test_twenty_papers_have_claims() -> None:
    named = [name for name in suites.papers() if any(claim.kind for claim in suites.load(name).claims)]
    assert len(named) >= 20
