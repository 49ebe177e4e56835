"""What a person's data may hold, through `gradmeter fit`: handled, or refused in one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradmeter.bench.problems.mixtures.gaussian import match
from tests.cli.running import Run

#: Twenty points on a stretch and one far away, onto which a component may collapse.
FAR = np.concatenate([np.linspace(0.0, 1.0, 20), [50.0]])[:, None]
WAVY = np.stack([np.sin(np.arange(30.0)), np.cos(3.0 * np.arange(30.0))], axis=1)


def holding(value: float) -> np.ndarray:
    points = WAVY.copy()
    points[3, 1] = value
    return points


#: Points, options, exit status, and the line: 2 where nothing is begun, 1 where a method cannot go on.
REFUSED = [
    (holding(np.nan), "", 2, "points.csv holds nan at row 3, column 1; every number must be finite"),
    (holding(np.inf), "", 2, "points.csv holds inf at row 3, column 1; every number must be finite"),
    (holding(1e200), "", 2, "points.csv holds a number of size 1e+200; give units in which none is above 1e+100"),
    (WAVY[:3], ",components=5", 2, "5 components need at least as many points; there are 3"),
    (np.repeat(WAVY[:2], 9, axis=0), "", 1, "3 components need as many distinct points; the data has 2"),
]


@pytest.mark.parametrize(("points", "options", "status", "message"), REFUSED)
@pytest.mark.parametrize("problem", ["gaussian-mixture[", "bayesian-gaussian-mixture[at=start,"])
def test_refused_in_one_line(
    run_cli: Run, problem: str, points: np.ndarray, options: str, status: int, message: str
) -> None:
    np.savetxt("points.csv", points, delimiter=",")
    method = "cavi" if problem.startswith("bayesian") else "em"
    result = run_cli("fit", f"{problem}dataset=points.csv{options}]", "--method", method, "--json")
    said = [line for line in result.err.splitlines() if line.startswith("gradmeter: ")]
    assert result.status == status
    assert len(said) == 1
    assert message in said[0]
    assert Path("fit").exists() == (status == 1)


def test_units_are_no_matter(run_cli: Run) -> None:
    """Squares of such numbers are 0."""
    found = []
    for name, unit in (("points.csv", 1.0), ("tiny.csv", 1e-200)):
        np.savetxt(name, WAVY * unit, delimiter=",")
        result = run_cli("fit", f"gaussian-mixture[dataset={name}]", "--method", "em", "--json")
        assert result.status == 0
        found.append(result.rows[-1]["objective"])
    assert found[1] == pytest.approx(found[0], rel=1e-9)


def test_a_singular_covariance_is_refused_and_a_floor_is_the_way_out(run_cli: Run) -> None:
    np.savetxt("points.csv", FAR)
    np.savetxt("flat.csv", np.concatenate([FAR, np.ones_like(FAR)], axis=1), delimiter=",")
    flat = run_cli("fit", "gaussian-mixture[dataset=flat.csv]", "--method", "em")
    assert flat.status == 1
    assert "every point has the same coordinate 1: leave it out" in flat.err
    fit = ("fit", "gaussian-mixture[dataset=points.csv,components=2,dim=1]", "--json", "--method")
    refused = run_cli(*fit, "em")
    assert refused.status == 1
    assert "component 1 has no variance left in coordinate 0" in refused.err
    assert "set floor, use fewer components or another seed" in refused.err
    assert run_cli(*fit, "em[floor=1e-3]").status == 0


def test_an_empty_component_is_back_at_its_prior(run_cli: Run) -> None:
    """With weights learned it has none left; the others fit the data all the same."""
    np.savetxt("points.csv", FAR)
    options = "at=start,bound=mean-field,dataset=points.csv,components=5,dim=1,hyperparameters=learned"
    result = run_cli("fit", f"bayesian-gaussian-mixture[{options}]", "--method", "cavi", "--json")
    assert result.status == 0
    assert np.all(np.diff([row["objective"] for row in result.rows]) >= -1e-9)
    with np.load("fit/cavi.npz") as kept:
        weights, means, scale = np.exp(kept["weight_logits"]), kept["loc"], kept["log_scale"]
        tau = float(kept["log_tau"][0])
    empty = weights == 0.0
    assert empty.sum() == 3
    np.testing.assert_allclose(weights.sum(), 1.0)
    np.testing.assert_allclose(means[empty], 0.0, atol=1e-12)
    np.testing.assert_allclose(scale[empty], tau)


def test_labels_switch_and_mean_nothing(run_cli: Run) -> None:
    """From other starts the same mixture, under other labels."""
    ends, means = [], []
    for start in (0, 1, 2):
        result = run_cli("fit", f"gaussian-mixture[start={start}]", "--method", "em", "--json")
        ends.append(result.rows[-1]["objective"])
        with np.load("fit/em.npz") as kept:
            means.append(kept["means"])
    assert ends[1:] == pytest.approx([ends[0]] * 2, rel=1e-12)
    orders = [tuple(match(found, means[0])) for found in means]
    assert len(set(orders)) == 3
    for found, order in zip(means, orders, strict=True):
        np.testing.assert_allclose(found[list(order)], means[0], atol=1e-6)


def test_files_that_are_no_rows_of_real_numbers(run_cli: Run) -> None:
    np.save("images.npy", np.zeros((20, 8, 8)))
    np.save("complex.npy", np.ones((20, 9)) + 1j)
    Path("ragged.csv").write_text("1,0\n0,1\n1\n")
    for file, message in (
        ("images.npy", "has shape [20, 8, 8]; it must be [rows, columns], none of them 0; flatten each image"),
        ("complex.npy", "holds complex numbers; they must be real"),
        ("ragged.csv", "row 2 has 1 of them, row 0 has 2"),
    ):
        result = run_cli("fit", f"vae[dataset={file},likelihood=gaussian]")
        assert result.status == 2
        assert result.err.count("\n") == 1
        assert message in result.err
    assert not Path("fit").exists()
