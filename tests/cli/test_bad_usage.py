"""Bad usage is one plain line that says what was wrong and what would be right, status 2, and nothing created."""

from __future__ import annotations

import errno
import importlib.util
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gradmeter.bench.sweep.store import Store
from tests.cli.running import CELL, CHEAP, Run

P = ("run", "--problem")
SQUARE = (*P, "square")
FIT = ("fit", "square")
LONG = "x" * 100_000

WRONG: list[tuple[tuple[str, ...], str]] = [
    # commands and flags
    (("rum",), "unknown command 'rum'; did you mean 'run'?"),
    (("",), "unknown command ''; choose from: list, run,"),
    (("--versio",), "did you mean '--version'?"),
    (("run", "--problm", "square"), "unknown option '--problm'; did you mean '--problem'?"),
    (("run", "--sample", "3"), "did you mean '--samples'?"),
    (("run", "-x"), "choose from: --problem, --estimator"),
    (("run", "--problem"), "'--problem' requires an argument; see gradmeter run --help"),
    ((*SQUARE, "--json=yes"), "does not take a value"),
    (("run", "quick", "extra"), "unexpected extra argument"),
    ((*SQUARE, "--time-again", "--no-timing"), "--time-again and --no-timing exclude each other; leave one out"),
    (("list", "problms"), "unknown kind 'problms'; did you mean 'problems'?"),
    (("list", LONG), "choose from: problems"),
    # problems and their options
    ((*P, "sqare"), "unknown problem 'sqare'; did you mean 'square'?"),
    ((*P, ""), "problem '' is not of the form name or name[option=value,...]"),
    ((*P, "日本語"), "unknown problem '日本語'; choose from: square"),
    ((*P, "mine"), "choose from: square"),
    ((*P, "z" * 61), f"unknown problem '{'z' * 60}…'; choose from"),
    ((*P, "zzz"), "more; see all with: gradmeter list problems"),
    ((*P, "bernouli"), "unknown problem 'bernouli'; did you mean 'beta-bernoulli' or 'three-bernoullis'?"),
    ((*P, LONG), "choose from: square"),
    ((*P, "square[k"), "is not of the form name or name[option=value,...]"),
    ((*P, "square[k=1]x"), "is not of the form"),
    ((*P, "square[k]"), "'k' is not of the form option=value"),
    ((*P, "square[k=]"), "'k=' is not of the form option=value"),
    ((*P, "square[k=1,k=2]"), "gives option 'k' twice"),
    ((*P, "square[kk=1]"), "unknown option of problem square 'kk'; did you mean 'k'?"),
    ((*P, "square[k=nan]"), "'k' is 'nan'; it must be a finite number"),
    ((*P, "square[k=1e999]"), "it must be a finite number"),
    ((*P, "square[scale=0]"), "'scale' is '0'; it must be a finite number, above 0"),
    ((*P, "square[dim=0]"), "it must be a whole number, at least 1, at most 1000000"),
    ((*P, "square[dim=1.5]"), "it must be a whole number"),
    ((*P, f"square[dim={'9' * 500}]"), "at most 1000000"),
    ((*P, f"square[dim={'9' * 5000}]"), "at most 1000000"),
    ((*P, "square[differentiate=auto]"), "did you mean 'autodiff'?"),
    ((*P, "exponential[k=-1]"), "has no expectation; k must be above"),
    ((*P, "exponential[scale=1e200]"), "overflows"),
    ((*P, "polynomial[family=exponentail]"), "option 'family': 'exponentail'; did you mean 'exponential'?"),
    ((*P, "polynomial[family=exponential,rate=0]"), "option 'rate' is '0'; it must be a finite number, above 0"),
    ((*P, "polynomial[family=exponential,scale=2]"), "option of problem polynomial with family=exponential 'scale'"),
    ((*P, "polynomial[rate=2]"), "unknown option of problem polynomial 'rate'; choose from: degree, family, loc"),
    ((*P, "polynomial[family=multivariate-normal,correlation=-0.5,dim=3]"), "must be above −1/(D − 1) = -0.5"),
    (
        (*P, "polynomial[family=multivariate-normal,correlation=1,dim=3]"),
        "'1'; it must be a finite number, above -1, below 1",
    ),
    ((*P, "polynomial[family=multivariate-normal,dim=2000]"), "takes at most 1000 coordinates, not 2000"),
    ((*P, "polynomial[family=exponential,rate=1e-300]"), "overflows"),
    ((*P, "polynomial[family=uniform,low=2,high=2]"), "family uniform with low=2, high=2: high must be above low"),
    ((*P, "cosine[family=triangular,mode=1]"), "mode=1, high=1: mode must be above low and below high"),
    ((*P, "cosine[family=reciprocal,low=3,high=2]"), "family reciprocal with low=3, high=2: high must be above low"),
    ((*P, "cosine[family=student-t,df=0]"), "option 'df' is '0'; it must be a finite number, at most 1e+12, above 0"),
    ((*P, "cosine[family=weibull,shape=-1]"), "option 'shape' is '-1'; it must be a finite number, above 0"),
    ((*P, "square[family=cauchy]"), "family cauchy has no moments: E |z|^2 diverges"),
    ((*P, "polynomial[family=student-t,df=3,degree=3]"), "student-t with df=3 has E z^n for n below 3 only, not 3"),
    ((*P, "polynomial[family=pareto,shape=3,degree=3]"), "pareto with shape=3 has E z^n for n below 3 only"),
    ((*P, "logistic-regression[family=exponential]"), "'exponential'; choose from: normal"),
    ((*P, "logistic-regression[batch=10000]"), "batch is 10000; there are 569 rows"),
    ((*P, "logistic-regression[dataset=iris]"), "choose from: breast_cancer"),
    ((*P, "logistic-regression[at=fitted,loc=1]"), "at=fitted chooses loc and scale itself"),
    # estimators
    ((*SQUARE, "--estimator", "pathwis"), "unknown estimator 'pathwis'; did you mean 'pathwise'?"),
    ((*SQUARE, "--estimator", "score"), "unknown estimator 'score'; did you mean 'score-function'?"),
    ((*SQUARE, "--estimator", "reparam"), "'generalised-reparameterisation', 'reparameterization' (pathwise) or"),
    ((*SQUARE, "--estimator", "reinfroce"), "did you mean 'reinforce' (score-function)?"),
    ((*SQUARE, "--estimator", "injected"), "See all with: gradmeter list estimators"),
    ((*SQUARE, "--estimator", "zzz"), "more; see all with: gradmeter list estimators"),
    ((*SQUARE, "--estimator", "rloo[baseline=mean]"), "rloo means score-function[baseline=leave-one-out]; for option"),
    ((*SQUARE, "--estimator", "rloo[x=1]"), "unknown option of estimator score-function 'x'"),
    ((*SQUARE, "--estimator", "score-function[baseline=loo]"), "choose from: none, mean, optimal"),
    ((*SQUARE, "--estimator", "pathwise[antithetic=maybe]"), "it must be true or false"),
    (("run", "--estimator", "pathwise"), "--estimator needs a --problem or a SUITE"),
    ((*SQUARE, "--estimator", "importance-sampling[widen=0.9]"), "'widen' is 0.9: a proposal narrower than its target"),
    ((*SQUARE, "--estimator", "overdispersed[dispersion=0.9]"), "it must be at least 1"),
    # every requested cell impossible
    (
        (*P, "square[dim=129]", "--estimator", "price"),
        "price writes a Hessian out, of at most 128 coordinates, not 129",
    ),
    (
        (*P, "cosine[family=cauchy,loc=1e300]", "--estimator", "pathwise"),
        "1e+300 that lie 0 apart; float64 at that size",
    ),
    ((*SQUARE, "--estimator", "score-function[baseline=leave-one-out]", "--samples", "1"), "use --samples 2"),
    ((*SQUARE, "--estimator", "pathwise[antithetic=true]", "--samples", "3"), "samples must be even, not 3"),
    ((*SQUARE, "--estimator", "pathwise[sticking-the-landing=true]"), "needs an ELBO with entropy=sampled"),
    ((*P, "square[differentiate=autodiff]", "--estimator", "pathwise"), "needs the torch or jax backend"),
    ((*P, "polynomial[family=multivariate-normal]", "--estimator", "measure-valued"), "needs weak derivatives; family"),
    (
        (*P, "square[family=uniform]", "--estimator", "score-function"),
        "its support depends on λ and its density is not 0",
    ),
    ((*P, "square[family=exponential]", "--estimator", "injected-opposite-biases"), "for family normal alone"),
    ((*SQUARE, "--device", "cuda"), "'numpy' computes on the CPU only; use --device cpu"),
    # everything else about a run
    ((*SQUARE, "--backend", "tensorflow"), "unknown backend 'tensorflow'; choose from: numpy, torch, jax"),
    ((*SQUARE, "--backend", ""), "unknown backend ''"),
    ((*SQUARE, "--device", "gpu"), "unknown device 'gpu'; did you mean 'cpu'?"),
    ((*SQUARE, "--dtype", "float16"), "did you mean 'float64'?"),
    ((*SQUARE, "--noise", "shred"), "did you mean 'shared'?"),
    ((*SQUARE, "--noise", ""), "unknown noise ''"),
    *(((*SQUARE, "--samples", s), "a whole number, at least 1") for s in ("0", "-1", "1.5", "nan", "", "1e9", "1e30")),
    ((*SQUARE, "--seed", "-1"), "a whole number, at least 0"),
    *(((*SQUARE, "--precision", p), "a finite number, above 0") for p in ("0", "nan", "inf", "five", "")),
    ((*SQUARE, "--bias-bound", "0"), "a finite number, above 0"),
    *(
        ((*SQUARE, "--max-replicates", m), "a whole number, at least 64")
        for m in ("0", "-5", "63", "", "2^", "2^-3", "2^²", "-2^3", "9^9^9", "9999999999^99", "1.5e0", "1e400", "1.5")
    ),
    # suites
    (("run", "quik"), "unknown suite 'quik'; did you mean 'quick'?"),
    (("run", ""), "unknown suite ''; choose from:"),
    (("run", "cosine[k=2]"), "'cosine[k=2]' is a problem, not a suite; use --problem 'cosine[k=2]'"),
    (("run", "missing.toml"), "suite missing.toml cannot be read: No such file"),
    (("run", "./"), "suite ./ cannot be read: Is a directory"),
    (("run", "quick", "--problem", "square[k=77]"), "no cell of suite quick is left by --problem"),
    (("run", "quick", "--problem", "square[k=77]"), "choose among its cells, which have square[k=2], "),
    (("run", "quick", "--samples", "77"), "which have 1, "),
    (("run", "digits.toml"), "suite digits.toml is not TOML: Exceeds the limit"),
    (("run", "quick", "--problem", "square[k=2]", "--samples", "77"), "no cell of suite quick is left by --samples"),
    # fits
    (("fit",), "Missing argument 'PROBLEM'; see gradmeter fit --help"),
    ((*FIT, "--problem", "square"), "unknown option '--problem'"),
    (("fit", "sqare"), "unknown problem 'sqare'; did you mean 'square'?"),
    ((*FIT, "--estimator", "pathwis"), "unknown estimator 'pathwis'; did you mean 'pathwise'?"),
    ((*FIT, "--method", "newton"), "unknown method 'newton'; choose from: "),
    ((*FIT, "--method", "svi[batch=0]"), "'batch' is '0'; it must be a whole number, at least 1"),
    (("fit", "bayesian-gaussian-mixture", "--method", "svi[decay=0.3]"), "and decay above 0.5 and at most 1, or"),
    (
        (*FIT, "--method", "em", "--estimator", "pathwise"),
        "em is for problem gaussian-mixture, not for square; leave out --method em",
    ),
    ((*FIT, "--method", "cavi"), "cavi is for problem bayesian-gaussian-mixture, not for square"),
    ((*FIT, "--optimiser", "adm"), "unknown optimiser 'adm'; did you mean 'adam'?"),
    ((*FIT, "--optimiser", "adam[beta1=1]"), "it must be a finite number, at least 0, below 1"),
    ((*FIT, "--optimiser", "sgd[rate=1]", "--learning-rate", "1"), "leave one out"),
    *(
        ((*FIT, "--learning-rate", r), f"option 'rate' is '{r}'; it must be a finite number, above 0")
        for r in ("0", "-1", "nan", "inf", "x")
    ),
    *(
        ((*FIT, option, value), f"{option} is '{value}'; it must be a whole number, at least {least}")
        for option, value, least in (
            *(("--steps", n, 1) for n in ("0", "-1", "1.5", "")),
            *(("--every", n, 1) for n in ("0", "x")),
            ("--replicates", "-1", 0),
            ("--refit", "0", 1),
        )
    ),
    ((*FIT, "--replicates", "1"), "--replicates is 1; it must be 0, which measures no variance, or at least 2"),
    ((*FIT, "--samples", "0"), "--samples is '0'"),
    ((*FIT, "--seed", "-1"), "--seed is '-1'"),
    ((*FIT, "--backend", "nump"), "unknown backend 'nump'; did you mean 'numpy'?"),
    ((*FIT, "--noise", "loud"), "unknown noise 'loud'"),
    ((*FIT, "--dtype", "float16"), "unknown dtype 'float16'"),
    ((*FIT, "--device", "cuda"), "backend 'numpy' computes on the CPU only"),
    ((*FIT, "--estimator", "pathwise[sticking-the-landing=true]"), "needs an ELBO with entropy=sampled"),
    ((*FIT, "--estimator", "pathwise[antithetic=true]", "--samples", "3"), "samples must be even, not 3"),
    (("fit", "square[family=poisson]", "--estimator", "pathwise"), "family poisson"),
    (("fit", "square[family=laplace]", "--optimiser", "natural"), "natural is for the mean-field Normal, not for"),
    ((*FIT, "--output", ""), "--output is empty; give a folder"),
    (("report", "--output", ""), "--output is empty; give a folder"),
    ((*FIT, "--output", __file__), "cannot be written: File exists; give another --output"),
    ((*FIT, "--output", f"{__file__}/x"), "cannot be written: Not a directory; give another --output"),
    ((*FIT, "--output", "/proc/x"), "/proc/x cannot be written"),
    ((*FIT, "--output", "x" * 300), "File name too long"),
    # stores and files
    ((*SQUARE, "--store", "."), "is a folder; give a file, such as --store store.sqlite"),
    ((*SQUARE, "--store", "/"), "store / is a folder"),
    ((*SQUARE, "--store", "/proc/x"), "store /proc/x cannot be written"),
    ((*SQUARE, "--store", f"{__file__}/x"), "cannot be written: Not a directory"),
    ((*SQUARE, "--store", __file__), "cannot be written: file is not a database"),
    ((*SQUARE, "--store", "x" * 300), "cannot be written: File name too long"),
    ((*SQUARE, "--store", "x/" * 3000), "File name too long"),
    (("export",), "there is no store at .gradmeter/store.sqlite; make one with: gradmeter run"),
    (("export", "x.sqlite"), "there is no store at x.sqlite"),
    (("export", "/"), "/ is a folder, not a gradmeter store"),
    (("export", __file__), "cannot be read as a gradmeter store: file is not a database"),
    (("export", "x" * 300), "File name too long"),
    (("export", "--format", "xml"), "unknown format 'xml'; choose from: csv, parquet"),
    (("export", "--format", "parquet"), "parquet needs --output FILE"),
    (("report", "x.sqlite"), "there is no store at x.sqlite"),
    (("report", "--store", "x.sqlite"), "there is no store at x.sqlite"),
    (("export", "x", "--store", "y"), "STORE and --store both name the store to read, x and y; leave one out"),
    (("compare", "x.sqlite"), "Missing argument 'AFTER'; see gradmeter compare --help"),
]


def refused(run_cli: Run, arguments: tuple[str, ...], fragment: str) -> None:
    before = sorted(Path().rglob("*"))
    result = run_cli(*arguments)
    assert result.status == 2
    assert result.out == ""
    assert result.err.startswith("gradmeter: error: ")
    assert result.err.count("\n") == 1
    assert len(result.err) < 1200
    assert fragment in result.err
    assert sorted(Path().rglob("*")) == before
    assert not Path(f"{__file__}.lock").exists()


@pytest.mark.parametrize(("arguments", "fragment"), WRONG, ids=lambda v: repr(v)[:60] if isinstance(v, tuple) else "")
def test_is_one_line_that_says_what_would_be_right(run_cli: Run, arguments: tuple[str, ...], fragment: str) -> None:
    Path("digits.toml").write_text(f"precision = {'9' * 5000}", encoding="utf-8")
    refused(run_cli, arguments, fragment)


def test_a_missing_framework_is_refused_by_flag_and_a_reason_in_a_suite(
    run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("both.toml").write_text('[[grid]]\nproblem="square"\nestimator="pathwise"\nbackend=["torch", "numpy"]')
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a))
    refused(run_cli, (*SQUARE, "--backend", "numpy", "--backend", "torch"), "pip install 'gradmeter[torch]'")
    result = run_cli("run", "both.toml", "--json", *CHEAP)
    assert result.status == 0
    assert {(row["backend"], row["status"]) for row in result.rows} == {("torch", "n/a"), ("numpy", "ok")}
    (reason,) = {row["reason"] for row in result.rows if row["backend"] == "torch"}
    assert "pip install 'gradmeter[torch]'" in reason
    listed = run_cli("list", "backends").out.splitlines()
    missing = [before.split()[0] for before, line in pairwise(listed) if "pip install" in line]
    assert missing == ["torch"]


def test_a_store_in_use_is_refused_and_left_alone(run_cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store.create(path):
        refused(run_cli, ("run", *CELL, "--store", str(path)), "is in use by another run; wait for it")
    assert [file.name for file in tmp_path.iterdir()] == ["store.sqlite"]


def test_export_to_a_place_that_cannot_be_written(run_cli: Run) -> None:
    assert run_cli("run", *CELL, "--store", "s").status == 0
    refused(run_cli, ("export", "s", "--output", "s"), "is the store itself")
    for format in ("csv", "parquet"):
        refused(run_cli, ("export", "s", "--format", format, "--output", "no/x"), "no/x cannot be written")
        refused(run_cli, ("export", "s", "--format", format, "--output", "."), ". cannot be written")


@pytest.mark.parametrize(
    ("command", "broken"), [("report", "pathlib.Path.write_text"), ("export", "pandas.DataFrame.to_csv")]
)
def test_a_full_disk_leaves_what_was_there(
    run_cli: Run, monkeypatch: pytest.MonkeyPatch, command: str, broken: str
) -> None:
    assert run_cli("run", *CELL, "--store", "s").status == 0
    output = "out" if command == "report" else "out.csv"
    assert run_cli(command, "s", "--output", output).status == 0
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}

    def cut_short(*arguments: Any, **options: Any) -> None:
        path = next(a for a in arguments if isinstance(a, Path))
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(broken, cut_short)
    result = run_cli(command, "s", "--output", output)
    assert (result.status, result.out) == (3, "")
    assert result.err == "gradmeter: error: no room to write: No space left on device\n"
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_device_is_written_to_not_replaced(run_cli: Run) -> None:
    assert run_cli("run", *CELL, "--store", "s").status == 0
    assert run_cli("export", "s", "--output", "/dev/full").status == 3
    assert run_cli("export", "s", "--output", "/dev/null").status == 0
    assert Path("/dev/null").is_char_device()
