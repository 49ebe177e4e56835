"""Form checks of what the methods of user-defined objects return."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradmeter.bench.forms.objects import (
    ARRAYS,
    NOISE,
    Right,
    WrongForm,
    count,
    mapping,
    numbers,
    require_form,
    shown,
    some_numbers,
    wrong_result,
)
from gradmeter.bench.identity.owner import of_the_catalogue
from gradmeter.bench.problems import Exact
from gradmeter.estimators import Family, Integrand, Noise
from gradmeter.estimators.backends.backend import Backend


def expectation_of(problem: Any) -> Any:
    """Return the problem's expectation, after checking the form of its user-defined parts.

    Raises
    ------
    WrongForm
        One line that says what is wrong.
    """
    expectation = problem.expectation()
    require_form(expectation.family, Family)
    require_form(expectation.integrand, Integrand)
    integrand, data = expectation.integrand, expectation.data
    if not of_the_catalogue(type(integrand)):
        must: list[tuple[str, tuple[Any, ...], Right, str]] = [
            ("noise_specs", (data,), mapping(lambda v: isinstance(v, Noise)), NOISE),
            ("width", (data, problem.dimension), count, "a whole number of at least 1"),
        ]
        _require(integrand, must)
    return expectation


def _require(thing: Any, results: list[tuple[str, tuple[Any, ...], Right, str]]) -> None:
    for each in results:
        for message in wrong_result(thing, *each):
            raise WrongForm(thing, message)


def parameters_of(problem: Any, expectation: Any) -> dict[str, np.ndarray]:
    """Return the problem's λ.

    Raises
    ------
    WrongForm
        It is not a dict of arrays with the shapes of the family and the integrand.
    """
    found: Any = problem.parameters()
    if not mapping(numbers)(found):
        raise WrongForm(problem, f"parameters returns {shown(found)}; it must return {ARRAYS}")
    right = {name: tuple(each) for name, each in expectation.shapes(problem.dimension).items()}
    given = {name: tuple(a.shape) for name, a in found.items()}
    if given != right:
        raise WrongForm(problem, f"parameters has shapes {given}; family and integrand have {right}; mend q or them")
    return dict(found)


def point_of(point: Any, dimension: int) -> dict[str, np.ndarray]:
    """Return λ of a family at a point, in D coordinates.

    Raises
    ------
    WrongForm
        It is not a dict of arrays with the family's shapes.
    """
    found = point.parameters(dimension)
    if of_the_catalogue(type(point)):
        return dict(found)
    if not mapping(numbers)(found):
        raise WrongForm(point, f"parameters returns {shown(found)}; it must return {ARRAYS}")
    given = {name: tuple(a.shape) for name, a in found.items()}
    right = {name: tuple(each) for name, each in point.family.shapes(dimension).items()}
    if given != right:
        raise WrongForm(point, f"parameters has shapes {given}; its family has {right}; mend one of them")
    return dict(found)


def sample_of(family: Any, backend: Backend, parameters: Any, noise: Any, right: tuple[int, ...]) -> np.ndarray:
    """Return samples on NumPy.

    Parameters
    ----------
    family
        The user's family.
    backend
        NumPy backend.
    parameters
        λ, {parameter block: [*shape]}.
    noise
        Drawn noise, {name: array}.
    right
        Right shape of the samples.

    Raises
    ------
    WrongForm
        They are not an array of shape `right`, or `logs` does not return a tuple.
    """
    found = family.sample(backend, parameters, noise)
    if of_the_catalogue(type(family)):
        return np.asarray(found)
    if not isinstance(found, np.ndarray):
        raise WrongForm(family, f"sample returns {shown(found)}; it must return an array of {backend.name}, z [..., D]")
    if found.shape != right:
        raise WrongForm(
            family, f"sample has shape {list(found.shape)} where it must be {list(right)}; mend sample or noise"
        )
    if not isinstance(logs := family.logs(backend, parameters, noise), tuple):
        raise WrongForm(family, f"logs returns {shown(logs)}; it must return a tuple, () where there are none")
    return found


def exact_of(problem: Any) -> Exact | None:
    """Return the problem's exact values.

    Raises
    ------
    WrongForm
        They are neither None nor an `Exact` of real arrays.
    """
    found: Any = problem.exact()
    if found is None:
        return None
    if not isinstance(found, Exact):
        raise WrongForm(
            problem, f"exact returns {shown(found)}; it must return None or Exact({{block: gradient}}, source)"
        )
    if not mapping(some_numbers)(found.gradient):
        raise WrongForm(problem, f"exact has the gradient {shown(found.gradient)}; it must be {ARRAYS}")
    for name, gradient in found.gradient.items():
        if np.iscomplexobj(gradient):
            raise WrongForm(problem, f"exact has a complex gradient of {name}; gradients are real")
        if np.any(np.isnan(gradient)) and not of_the_catalogue(type(problem)):
            raise WrongForm(problem, f"exact has a gradient of {name} that is not a number")
    error: Any = found.error
    if error is not None and not (isinstance(error, int | float | np.number) and 0.0 <= error < math.inf):
        raise WrongForm(
            problem, f"exact has the error {shown(error)}; it must be None or a number that is not negative"
        )
    return found


def require_results(estimator: Any, expectation: Any, num_samples: int, dimension: int) -> None:
    """Check what a user-defined estimator reports about its estimates.

    Parameters
    ----------
    estimator
        The user's estimator.
    expectation
        The expectation that is differentiated.
    num_samples
        S.
    dimension
        D, the number of coordinates of z.

    Raises
    ------
    WrongForm
        One line that says what is wrong.
    """
    if not of_the_catalogue(type(estimator)):
        at = (expectation, num_samples, dimension)
        sets = mapping(lambda v: isinstance(v, set | frozenset))
        _require(
            estimator,
            [
                ("noise_specs", at, mapping(lambda v: isinstance(v, Noise)), NOISE),
                ("evaluations", at, lambda v: count(v, 0), "a whole number"),
                (
                    "noise_by_block",
                    at,
                    sets,
                    "a dict {block: set of names}",
                ),
            ],
        )


def state_of(estimator: Any, found: Any) -> dict[str, np.ndarray]:
    """Return the state that an estimator's `fit` learnt.

    Raises
    ------
    WrongForm
        It is not a dict of arrays.
    """
    return _arrays(estimator, found, "fit", "{name: NumPy array}, {} where nothing is learnt")


def jumps_of(thing: Any, found: Any) -> dict[str, np.ndarray]:
    """Return the discontinuities that `discontinuities` reports.

    Raises
    ------
    WrongForm
        They are not a dict of arrays.
    """
    return _arrays(thing, found, "discontinuities", "{name of noise: values}, {} where nothing jumps")


def _arrays(thing: Any, found: Any, method: str, must: str) -> dict[str, np.ndarray]:
    if not mapping(some_numbers)(found):
        raise WrongForm(thing, f"{method} returns {shown(found)}; it must return a dict {must}")
    return dict(found)
