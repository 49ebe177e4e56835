"""Checkpoints: what is resumed gives the numbers of what was not interrupted; what cannot be read is said."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.fit import command, objective
from gradmeter.bench.fit.checkpoint import Checkpoints, previous
from gradmeter.bench.fit.run import OVERFLOWED, Checkpoint, Fit, Plan, Schedule, Watcher, run
from gradmeter.bench.optimisation.optimisers import Adam
from gradmeter.bench.rows import Row
from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import NAMES
from tests.cli.running import Run
from tests.support import needs

VAE = "vae[size=1790,batch=10,hidden=3,latent=3]"
STEPS, STOP = 40, 25


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objectives by few samples: what is compared is that they are the same."""
    monkeypatch.setattr(objective, "TERMS", 1)
    monkeypatch.setattr(objective, "LEAST", 2)


class Keeper(Watcher):
    def __init__(self, folder: Path) -> None:
        self.saved, self.count = Checkpoints(folder), 0
        self.saved.make()

    def keep(self, plan: Plan, found: Checkpoint) -> None:
        self.saved.save(plan, found)
        self.count += 1


def timeless(rows: list[Row]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def only(problem: str, **more: Any) -> Plan:
    (plan,) = command.plans(problem, **{"steps": str(STEPS), "replicates": "64", **more})
    return plan


def after(count: int) -> Callable[[], bool]:
    asked = itertools.count(1)
    return lambda: next(asked) == count


@pytest.mark.parametrize(
    ("problem", "more"),
    [
        (VAE, {"estimator": ["pathwise"]}),
        (VAE, {"estimator": ["score-function[baseline=moving-average]"], "refit": "7"}),
        ("bayesian-gaussian-mixture[size=200,at=start]", {"method": ["svi[batch=20]"]}),
        ("bayesian-gaussian-mixture[size=200,at=start]", {"method": ["cavi"]}),
    ],
)
@pytest.mark.parametrize("stop", [STOP, 16])
def test_resumed_gives_the_numbers_of_the_uninterrupted(
    problem: str, more: dict[str, Any], stop: int, tmp_path: Path
) -> None:
    """Where there is no row (25) and where there is one (16), which also had the variance."""
    plan = only(problem, **more)
    assert (STOP in plan.schedule, 16 in plan.measured) == (False, True)
    interrupted_and_whole(plan, stop, tmp_path)


@pytest.mark.parametrize(
    ("problem", "more"),
    [
        (VAE, {"estimator": ["pathwise"], "dtype": "float32"}),
        ("cosine[dim=2]", {"estimator": ["score-function[baseline=moving-average]"], "refit": "27"}),
    ],
)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "numpy"])
def test_so_it_does_where_states_are_on_a_device(
    name: str, problem: str, more: dict[str, Any], tmp_path: Path, eager: None
) -> None:
    """In their precision, and with what an estimator has learnt."""
    needs(name)
    interrupted_and_whole(only(problem, backend=[name], replicates="0", **more), STOP, tmp_path)


def interrupted_and_whole(plan: Plan, stop: int, tmp_path: Path) -> None:
    """A fit stopped after so many steps and gone on with is the fit that was never stopped."""
    whole, part, rest, keeper = Fit(plan), Fit(plan), Fit(plan), Keeper(tmp_path)
    run(plan, whole, Watcher())
    run(plan, part, keeper, after(stop))
    ended = part.rows[-1]["reason"] == "converged"  # CAVI may be done by then
    assert part.rows[-1]["iteration"] == (part.rows[-1]["iteration"] if ended else stop)
    found = keeper.saved.load(plan)
    assert found is not None
    assert found.complaint is None
    run(plan, rest, Watcher(), begin=found.checkpoint)
    assert timeless(rest.rows) == timeless(whole.rows)
    for name, values in whole.parameters.items():
        np.testing.assert_array_equal(rest.parameters[name], values, err_msg=name)
    assert rest.rows[-1]["seconds"] >= found.checkpoint.seconds > 0.0


def test_of_a_finished_fit_more_steps_can_be_taken(tmp_path: Path) -> None:
    short, long = only(VAE, estimator=["pathwise"], steps="20"), only(VAE, estimator=["pathwise"])
    keeper, whole, rest = Keeper(tmp_path), Fit(long), Fit(long)
    run(short, Fit(short), keeper)
    assert keeper.count == 10
    found = keeper.saved.load(long)
    assert found is not None
    assert found.checkpoint.iteration == 20
    run(long, rest, Watcher(), begin=found.checkpoint)
    run(long, whole, Watcher())
    assert timeless(rest.rows)[-1] == timeless(whole.rows)[-1]
    back = Fit(only(VAE, estimator=["pathwise"], steps="10"))
    run(back.plan, back, Watcher(), begin=found.checkpoint)
    assert back.failed == "the checkpoint is of iteration 20; give --steps 20 or more"


def test_another_fit_has_another_checkpoint(tmp_path: Path) -> None:
    saved = Checkpoints(tmp_path)
    plans = [
        only(VAE, estimator=["pathwise"]),
        only(VAE, estimator=["pathwise"], seed=["1"]),
        only(VAE, estimator=["pathwise"], refit="7"),
        only(VAE, estimator=["pathwise"], learning_rate=["0.02"]),
        only(VAE.replace("batch=10", "batch=15"), estimator=["pathwise"]),
    ]
    assert len({saved.path(plan) for plan in plans}) == len(plans)
    assert saved.path(only(VAE, estimator=["pathwise"], steps="99", every="3")) == saved.path(plans[0])


def test_one_cut_short_at_any_place_is_refused_and_the_one_before_it_used(tmp_path: Path) -> None:
    plan, keeper = only(VAE, estimator=["pathwise"]), Keeper(tmp_path)
    run(plan, Fit(plan), keeper, after(STOP))
    path = keeper.saved.path(plan)
    whole = path.read_bytes()
    for share in (0.0, 0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        found = keeper.saved.load(plan)
        assert found is not None
        assert found.checkpoint.iteration == 24
        assert found.complaint == f"{path} cannot be read (cut short or damaged); the one before it is used"
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])  # checksums notice
    found = keeper.saved.load(plan)
    assert found is not None
    assert found.checkpoint.iteration == 24
    previous(path).write_bytes(b"")
    with pytest.raises(UsageError, match=r"npz and .*npz cannot be read .*; leave out --resume to begin anew$"):
        keeper.saved.load(plan)


def test_killed_while_one_is_written_the_one_before_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever moment it is: nothing has the checkpoint's name that is not whole."""
    plan, keeper = only(VAE, estimator=["pathwise"]), Keeper(tmp_path)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gradmeter.bench.fit.checkpoint.os.fsync", lambda _: None if keeper.count < 3 else killed())
    with pytest.raises(KeyboardInterrupt):
        run(plan, Fit(plan), keeper)
    found = keeper.saved.load(plan)
    assert found is not None
    assert (found.checkpoint.iteration, found.complaint) == (12, None)


def command_line(*more: str, problem: str = VAE) -> tuple[str, ...]:
    words = ("--estimator", "pathwise", "--steps", str(STEPS), "--replicates", "64", "--checkpoint", "10", "--json")
    return ("fit", problem, *words, *more)


def test_command_line(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two Ctrl-C in the middle of step 25; then a checkpoint that was cut short."""
    nothing = run_cli(*command_line("--resume"))
    assert nothing.status == 2
    assert nothing.err.splitlines()[-1].endswith(
        "fit/checkpoints holds no checkpoint of these fits; leave out --resume to begin anew"
    )
    whole = timeless(run_cli(*command_line()).rows)
    other = run_cli(*command_line("--resume", "--learning-rate", "0.3"))
    assert (other.status, other.out) == (2, "")
    assert ", but of one with optimiser rate 0.0" in other.err
    for path in Path("fit/checkpoints").iterdir():
        path.unlink()
    numbers = Adam.numbers

    def stopped(self: Adam, t: int) -> tuple[float, ...]:
        if t == STOP:
            raise KeyboardInterrupt
        return numbers(self, t)

    with monkeypatch.context() as patched:
        patched.setattr(Adam, "numbers", stopped)
        assert run_cli(*command_line()).status == 130
    resumed = run_cli(*command_line("--resume"))
    assert resumed.status == 0
    assert resumed.err.splitlines()[0] == "gradmeter: pathwise goes on from iteration 20"
    assert timeless(resumed.rows) == whole
    assert Path("fit/rows.jsonl").read_text(encoding="utf-8") == resumed.out
    newest = max(Path("fit/checkpoints").glob("*.npz"), key=lambda p: p.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:1000])
    again = run_cli(*command_line("--resume"))
    assert again.status == 0
    assert again.err.splitlines()[:2] == [
        f"gradmeter: pathwise: {newest} cannot be read (cut short or damaged); the one before it is used",
        "gradmeter: pathwise goes on from iteration 30",
    ]
    assert timeless(again.rows) == whole


@pytest.mark.parametrize(("name", "problem"), [("numpy", VAE), ("torch", "cosine[dim=2]"), ("jax", "cosine[dim=2]")])
def test_nan_in_training_is_one_line_and_keeps_the_last_good_state(
    name: str, problem: str, run_cli: Run, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    """Whether every step is looked at, as on NumPy, or only the next one that has a row or a checkpoint."""
    needs(name)
    numbers = Adam.numbers

    def broken(self: Adam, t: int) -> tuple[float, ...]:
        return tuple(np.nan * n for n in numbers(self, t)) if t == 15 else numbers(self, t)

    with monkeypatch.context() as patched:
        patched.setattr(Adam, "numbers", broken)
        result = run_cli(*command_line("--backend", name, problem=problem))
    assert result.status == 1
    reason = f"a number of step 15 is not finite; kept as it was before that step; {OVERFLOWED}"
    assert result.err.splitlines() == [f"gradmeter: pathwise: {reason}", "fit: fit/index.html"]
    assert (result.rows[-1]["status"], result.rows[-1]["reason"]) == ("nonfinite", reason)
    assert [row["iteration"] for row in result.rows] == [t for t in range(15) if t in Schedule(STEPS, 0)] + [15]
    (path,) = Path("fit/checkpoints").iterdir()
    for file in (path, Path("fit/pathwise.npz")):
        with np.load(file) as arrays:
            assert all(np.all(np.isfinite(a)) for a in arrays.values())
    short = Fit(only(problem, estimator=["pathwise"], backend=[name], steps="14"))
    run(short.plan, short, Watcher())
    with np.load("fit/pathwise.npz") as kept:
        for block, values in short.parameters.items():
            np.testing.assert_array_equal(kept[block], values, err_msg=block)
    resumed = run_cli(*command_line("--backend", name, "--resume", problem=problem))
    assert resumed.err.splitlines()[0] == "gradmeter: pathwise goes on from iteration 10"


def test_what_cannot_be_fitted_leaves_what_was(run_cli: Run) -> None:
    """No coordinate of z, and images that are no rows: one line, and the folder as it was."""
    assert run_cli(*command_line()).status == 0
    before = {p: p.read_bytes() for p in Path("fit").rglob("*") if p.is_file()}
    np.save("images.npy", np.zeros((20, 8, 8)))
    for problem, said in (
        ("vae[latent=0]", "latent"),
        ("vae[dataset=images.npy]", "images.npy has shape [20, 8, 8]; it must be [rows, columns]"),
    ):
        result = run_cli("fit", problem, "--estimator", "pathwise", "--resume")
        assert result.status == 2
        assert said in result.err
        assert "Traceback" not in result.err
    assert {p: p.read_bytes() for p in Path("fit").rglob("*") if p.is_file()} == before
