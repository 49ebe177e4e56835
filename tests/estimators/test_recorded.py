"""NumPy's recorded functions: what the functions themselves return, to the last bit, on the arguments of any call."""

from __future__ import annotations

import dis
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.measurement.prepared import prepare
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.recorded import OTHER, record, recorded
from gradmeter.estimators.backends.tape import Unrecordable
from gradmeter.estimators.noise import DrawnNoise
from tests.estimators.test_matrix import YES, covering, problem_for
from tests.support import make_cell

XP = get("numpy").xp
Arrays = dict[str, np.ndarray]


def held_against_itself(estimator: str, family: str) -> None:
    """One estimate and a few: recorded on some noise, compared on other."""
    setting = prepare(make_cell(problem_for(estimator, family), estimator)).setting
    made = setting.estimator

    def evaluate(data: Any, parameters: Any, state: Any, noise: Any) -> Any:
        drawn = DrawnNoise(noise, next(iter(noise.values())).shape[0])
        return made.estimate(setting.backend, setting.expectation.bind(data), parameters, drawn, state)

    for replicates in (1, 5):
        first, second = (setting.noise(setting.roots("recorded"), block, replicates) for block in (0, 1))
        arguments = setting.expectation.data, setting.parameters, setting.state
        replay = record(evaluate, (*arguments, first))
        noise = {name: values.copy(order="K") for name, values in second.items()}
        wanted, found = evaluate(*arguments, second), replay(*arguments, second)
        assert wanted.keys() == found.keys()
        for name, values in wanted.items():
            assert np.array_equal(values, found[name], equal_nan=True)
            assert values.dtype == found[name].dtype
        assert all(np.array_equal(noise[name], second[name]) for name in noise)


#: They look up numbers that are drawn in arrays that are not.
UNRECORDABLE = ("partial-summation", "unordered-set")


@pytest.mark.parametrize(("estimator", "family"), sorted(p for p in covering() if not p[0].startswith(UNRECORDABLE)))
def test_an_estimator_recorded_is_the_estimator(estimator: str, family: str) -> None:
    held_against_itself(estimator, family)


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "family"), [pair for pair in YES if not pair[0].startswith(UNRECORDABLE)])
def test_every_estimator_recorded_is_the_estimator(estimator: str, family: str) -> None:
    held_against_itself(estimator, family)


def test_what_takes_its_output_by_name() -> None:
    """NumPy warns of a third positional argument of these two."""

    def clipped(given: Arrays) -> Any:
        return np.minimum(np.maximum(2.0 * given["a"], -1.0), 1.0)

    given = {"a": np.linspace(-2.0, 2.0, 7)}
    np.testing.assert_array_equal(record(clipped, (given,))(given), clipped(given))


def chain(given: Arrays) -> Any:
    """Steps on one array in whose memory each could write, and views of it."""
    doubled = given["x"] * 2.0
    view = doubled[:1]
    moved = doubled + 1.0
    squared = moved * moved
    rows = XP.matrix_transpose(squared)
    return {
        "sum": XP.sum(rows, axis=0),
        "view": view,
        "moved": moved,
        "root": XP.sqrt(squared) + squared,
        "x": given["x"],
    }


@pytest.mark.parametrize(
    "function",
    [
        chain,
        lambda given: (given["x"] ** 2, given["x"] ** 0.5, 2.0 ** given["x"], given["x"] ** given["x"]),
        lambda given: XP.where(given["x"] > 0.3, given["x"], 1.0 - given["x"]),
        lambda given: XP.stack(list(given["x"]))[..., None],
        lambda given: tuple(np.linalg.slogdet(given["x"] @ given["x"].T)),
        lambda given: XP.astype(given["x"] >= 0.5, XP.float32) + XP.zeros_like(given["x"]),
        lambda given: np.arange(3) + np.ones(1, dtype=np.float32) * given["x"][0, 0],
        lambda given: {"given": np.arange(3.0), "number": 1.0, "nested": (given["x"] + 0, [given["x"] - given["x"]])},
        lambda given: get("numpy").map(lambda row: row * given["x"][0], given["x"]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_function_recorded_is_the_function(function: Callable[[Arrays], Any], dtype: str) -> None:
    x = np.linspace(0.1, 0.9, 6).reshape(2, 3).astype(dtype)
    replay = record(function, ({"x": x},))
    for at in (x, x[::-1] + 0.05, np.asfortranarray(x)):
        kept = at.copy()
        wanted, found = function({"x": at}), replay({"x": at})
        np.testing.assert_equal(found, wanted)
        assert str(found) == str(wanted)  # dtypes, which assert_equal overlooks
        assert np.array_equal(at, kept)


def test_a_call_of_other_shapes_is_recorded_anew() -> None:
    calls = []

    def function(given: Arrays) -> Any:
        calls.append(given["x"].shape)
        return given["x"] * len(given["x"])

    x = np.arange(6.0)
    replay = record(function, ({"x": x},))
    for other in ({"x": x[:4]}, {"x": x.astype(np.float32)}, {"x": x, "y": x}, {"y": x}, {}, {"x": 3.0}, x):
        assert replay(other) is OTHER
    call = recorded(function)
    for size in (4, 6, 4, 6):
        assert np.array_equal(call({"x": x[:size]}), x[:size] * size)
    assert calls == [(6,), (4,), (6,)]


@pytest.mark.parametrize(
    "function",
    [
        lambda given: given["x"] if given["x"][0] > 0.0 else -given["x"],
        lambda given: given["x"] * float(given["x"][0]),
        lambda given: np.arange(3.0)[given["x"].shape[0] - 3 :] * np.asarray(given["x"]),
        lambda given: np.add(given["x"], 1.0, out=np.empty(3)),
        lambda given: given["x"].tolist(),
    ],
)
def test_what_cannot_be_recorded_is_called_as_it_is(function: Callable[[Arrays], Any]) -> None:
    x = np.asarray([-0.5, 0.25, 1.0])
    with pytest.raises(Unrecordable):
        record(function, ({"x": x},))
    call = recorded(function)
    for at in (x, -x):
        assert np.array_equal(call({"x": at}), function({"x": at}))


def test_a_call_that_is_made_twice_is_recorded_once() -> None:
    """And one whose result nothing reads, not at all: seen by what the recorded function reads."""

    def function(given: Arrays) -> Any:
        XP.exp(given["x"])
        return XP.sqrt(given["x"]) + XP.sqrt(given["x"])

    replay = record(function, ({"x": np.ones(3)},))
    named = (replay.__globals__.get(name) for name in replay.__code__.co_names)
    assert [value for value in named if isinstance(value, np.ufunc)] == [np.sqrt, np.add]
    instructions = dis.get_instructions(replay)
    assert (
        sum(replay.__globals__.get(each.argval) is np.sqrt for each in instructions if each.opname == "LOAD_GLOBAL")
        == 1
    )
