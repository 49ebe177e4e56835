"""What is audited: one gradient of a library, and what it should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFECTS = Path(__file__).with_name("defects")


@dataclass(frozen=True)
class Regime:
    """A place in a table of one distribution: a row of parameters, a column of f.

    Attributes
    ----------
    distribution, parameters, integrand : what is differentiated, as E f(z).
    """

    distribution: str
    parameters: str
    integrand: str


@dataclass(frozen=True)
class Case:
    """One gradient of a library.

    Attributes
    ----------
    name : the library's object, as its users write it.
    problem : what it differentiates, in words.
    make : () -> (gradient, parameters), as `gradmeter.audit` takes them. It raises `NotImplementedError` for what the
        library does not offer.
    exact : the exact gradient, in the gradient's form.
    samples : S, where the gradient is a mean over S samples.
    replicates : the most gradients that are made.
    defect : name of the script in `defects` that shows that the gradient is wrong; None where none is known to be.
    regime : the place in the table of a distribution; None for an objective.
    options : further arguments of `audit`.
    """

    name: str
    problem: str
    make: Callable[[], tuple[Callable[..., Any], Any]]
    exact: Any
    samples: int | None = None
    replicates: int = 2**16
    defect: str | None = None
    regime: Regime | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
