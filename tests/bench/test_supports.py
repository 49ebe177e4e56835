"""Bijections onto constrained sets: their inverses, their Jacobians by differences, and wrong supports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradmeter.bench.problems.supports import SUPPORTS, Interval, Layout, Simplex, lay_out, support_of
from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import get
from tests.support import needs

XP = get("numpy").xp
STEP = 1e-5
CASES = {
    "real": ("real", np.asarray([[-1.3, 0.0], [2.0, 7.0]])),
    "positive": ("positive", np.asarray([1e-3, 0.7, 30.0])),
    "unit-interval": ("unit-interval", np.asarray(0.2)),
    "between": ((-2.0, 3.0), np.asarray([-1.9, 0.5, 2.9])),
    "above": ((4.0, None), np.asarray([4.5])),
    "below": ((None, -1.0), np.asarray([-1.2, -8.0])),
    "simplex": ("simplex", np.asarray([0.1, 0.2, 0.7])),
    "simplices": ("simplex", np.asarray([[0.1, 0.2, 0.7], [0.3, 0.6, 0.1]])),
}


def laid_out(case: str) -> tuple[Layout, np.ndarray, np.ndarray]:
    support, x = CASES[case]
    layout, z = lay_out({"x": x}, {"x": support})
    return layout, z, x


@pytest.mark.parametrize("case", CASES)
def test_a_point_is_mapped_back_to_itself(case: str) -> None:
    layout, z, x = laid_out(case)
    found, _ = layout.constrain(XP, z)
    np.testing.assert_allclose(found["x"], x, rtol=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_the_jacobian_is_that_of_differences(case: str) -> None:
    """Of a simplex, the determinant is that of all coordinates but the last."""
    layout, z, _ = laid_out(case)

    def free(z: np.ndarray) -> np.ndarray:
        x = layout.constrain(XP, z)[0]["x"]
        return np.ravel(x[..., :-1] if case.startswith("simpl") else x)

    matrix = np.stack([(free(z + e) - free(z - e)) / (2.0 * STEP) for e in STEP * np.eye(len(z))], axis=1)
    np.testing.assert_allclose(layout.constrain(XP, z)[1], np.linalg.slogdet(matrix)[1], atol=1e-8)


@pytest.mark.parametrize(
    ("support", "ends"), [(Interval(0.0, None), (-30.0, 4.5)), (Interval(-1.0, 2.0), (-40.0, 40.0))]
)
def test_a_density_keeps_its_integral(support: Interval, ends: tuple[float, float]) -> None:
    """∫ p(T(z)) |T'(z)| dz = 1, for an exponential and for a uniform density."""
    z = np.linspace(*ends, 20_001)
    x, logarithm = support.constrain(XP, z[:, None], ())
    density = np.exp(-x) if support.high is None else np.full_like(x, 1.0 / 3.0)
    assert np.trapezoid(density * np.exp(logarithm), z) == pytest.approx(1.0, abs=1e-6)


def test_zero_is_the_middle_of_a_simplex() -> None:
    np.testing.assert_allclose(Simplex().constrain(XP, np.zeros(3), (4,))[0], 0.25, rtol=1e-14)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_frameworks_agree(framework: str) -> None:
    needs(framework)
    backend = get(framework)
    for case in CASES:
        layout, z, _ = laid_out(case)
        given = np.stack([z, z + 0.3])
        arrays, logarithm = layout.constrain(backend.xp, backend.asarray(given, "float64"))
        expected, other = layout.constrain(XP, given)
        np.testing.assert_allclose(backend.to_numpy(arrays["x"]), expected["x"], rtol=1e-13, err_msg=case)
        np.testing.assert_allclose(backend.to_numpy(logarithm), other, rtol=1e-13, err_msg=case)


def test_coordinates_have_names() -> None:
    layout, _ = lay_out({"mu": np.asarray(1.0), "w": np.full(3, 1.0 / 3.0)}, {"w": "simplex"})
    assert [layout.name_of(j) for j in range(layout.dimension)] == ["mu", "w[0]", "w[1]"]


@pytest.mark.parametrize(
    ("supports", "message"),
    [
        ({"tau": "posative"}, "unknown support of tau 'posative'; did you mean 'positive'?"),
        ({"sigma": "positive"}, "unknown supports: parameter 'sigma'; choose from: tau"),
        ({"tau": "positive"}, "parameter tau is -1, which is not inside its support positive"),
        ({"tau": (2.0, 1.0)}, "the support of tau is (2, 1); low must be below high"),
        ({"tau": 3}, f"the support of tau is 3; it must be {', '.join(SUPPORTS)} or (low, high)"),
        ({"tau": "simplex"}, "parameter tau is -1, which is not inside its support simplex"),
    ],
)
def test_wrong_supports(supports: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        lay_out({"tau": np.asarray(-1.0)}, supports)
    assert str(error.value) == message


def test_an_infinite_end_is_none() -> None:
    assert support_of("x", (0.0, np.inf)) == SUPPORTS["positive"]
