"""Models from the log density of one draw of named, constrained latent variables.

f(z) = log p(T(z), x) + log |det ∂T/∂z| for the bijection T of `supports`. A density that is a sum over rows of x is
given as two functions, log p(latents) and log p(row | latents); with a minibatch the second is multiplied by N/B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradmeter.bench.problems.supports import Layout, Part, lay_out
from gradmeter.bench.problems.user_model import Model, to_numpy
from gradmeter.bench.problems.user_model_check import derivatives
from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.errors import unknown
from gradmeter.estimators.functions import flatten

#: σ of every coordinate of q where none is given.
SCALE = 0.1


def density_model(
    log_density: Any,
    parameters: Mapping[str, Any],
    data: Any = None,
    *,
    framework: str,
    supports: Mapping[str, Any] | None = None,
    scale: Any = None,
    full_rank: bool = False,
    batch: int | None = None,
    local: Sequence[str] = (),
) -> Model:
    """Return the ELBO of a log density under a Normal q of the unconstrained latent variables.

    Parameters
    ----------
    log_density, parameters, data
        As in `gradmeter.advise`.
    framework
        `torch` or `jax`: the framework that the functions are written in.
    supports, scale, full_rank, batch, local
        As in `gradmeter.advise`.

    Returns
    -------
    Model
        Its `loc` is the image of `parameters` in the unconstrained space.

    Raises
    ------
    UsageError
        Arguments do not go together, or a function fails, does not return one number, or is not finite at the point.
    """
    prior, likelihood = _functions(log_density)
    point = _point(parameters)
    layout, loc = lay_out(point, supports or {})
    inputs = None if data is None else arrays_of(data)
    _check_rows(inputs, likelihood, batch, local, point)
    leaves = [] if inputs is None else list(flatten(inputs, "data")[1].values())
    rows, axes = (len(leaves[0]), leaves[0].ndim) if likelihood is not None else (0, 0)
    if local:
        inputs = {"data": inputs, "row": np.arange(rows)}
    joint = LogDensity(prior, likelihood, layout, framework, rows, axes, tuple(local))
    model = Model(
        _name_of(prior) if likelihood is None else "model",
        joint,
        {},
        latent=layout.dimension,
        inputs=inputs,
        batch=batch,
        loc=loc,
        framework=framework,
        **_scale(layout, scale, full_rank),
    )
    value = float(derivatives(model, loc[None])[0][0])
    if not math.isfinite(value):
        raise UsageError(f"the log density is {value:g} at the given parameters; give a point where it is finite")
    return model


@dataclass(frozen=True)
class LogDensity:
    """f of a `Model`, from functions of one draw.

    Attributes
    ----------
    log_density : callable
        (parameters, data) -> log p; without data, or with `log_likelihood`, a function of the parameters alone.
    log_likelihood : callable or None
        (parameters, row) -> log p(row | parameters).
    layout : Layout
        The places of the parameters in z.
    rows, axes : int
        N, and the number of axes of the first array of data, where there is a `log_likelihood`.
    local : tuple of str
        Names of parameters of which every row has its own, along their first axis.
    framework
        `torch` or `jax`.
    """

    log_density: Callable[..., Any]
    log_likelihood: Callable[..., Any] | None
    layout: Layout
    framework: str
    rows: int = 0
    axes: int = 0
    local: tuple[str, ...] = ()

    def __call__(self, theta: Any, *given: Any) -> Any:
        """Return f [M] of (θ, z [M, D]) or (θ, x, z [M, D]); θ is empty."""
        *x, z = given
        xp, vmap = get(self.framework).xp, _vmap(self.framework)
        parameters, logarithm = self.layout.constrain(xp, z)
        if self.log_likelihood is None:
            return logarithm + vmap(lambda p: _one("log_density", self.log_density(p, *x)))(parameters)
        shared = {name: a for name, a in parameters.items() if name not in self.local}
        prior = vmap(lambda p: _one("log_prior", self.log_density(p)))(shared)
        first = next(iter(flatten(self._data(x[0]), "data")[1].values()))
        drawn = first.ndim > self.axes
        weight = self.rows / first.shape[1] if drawn else 1.0
        terms = vmap(lambda p, some: xp.sum(self._terms(p, some)), (0, 0 if drawn else None))
        return logarithm + prior + weight * terms(parameters, x[0])

    def like(self, trusted: Any) -> LogDensity:
        """Return f of other functions of the same latent variables and data, or that of another such model."""
        own = getattr(trusted, "log_joint", None)
        if isinstance(own, LogDensity):
            trusted = own.log_density if own.log_likelihood is None else (own.log_density, own.log_likelihood)
        prior, likelihood = _functions(trusted)
        if (likelihood is None) != (self.log_likelihood is None):
            raise UsageError("the trusted log density must be a function, or a pair, as that of the model is")
        return replace(self, log_density=prior, log_likelihood=likelihood)

    def _data(self, x: Any) -> Any:
        return x["data"] if self.local else x

    def _terms(self, parameters: dict[str, Any], x: Any) -> Any:
        """Return log p of every row of x, at one draw."""
        xp, vmap = get(self.framework).xp, _vmap(self.framework)
        shared = {name: a for name, a in parameters.items() if name not in self.local}
        own = {name: xp.take(parameters[name], x["row"], axis=0) for name in self.local}
        assert self.log_likelihood is not None
        likelihood = self.log_likelihood
        return vmap(lambda mine, row: _one("log_likelihood", likelihood({**shared, **mine}, row)))(own, self._data(x))


def arrays_of(data: Any) -> Any:
    """Return data as NumPy arrays: a data frame as a dict of its columns; dicts, lists and tuples of arrays as such.

    Numbers become float64, but whole numbers stay such, for use as indices.

    Parameters
    ----------
    data
        As in `gradmeter.advise`.

    Returns
    -------
    dict

    Raises
    ------
    UsageError
        A part holds no numbers, or NaN.
    """

    def array(value: Any, name: str) -> np.ndarray:
        found = to_numpy(value, None)
        if found.dtype.kind not in "biuf":
            raise UsageError(f"{name} holds {_kind(found)}, not numbers; leave it out, or encode it as numbers")
        if not np.all(np.isfinite(found)):
            raise UsageError(f"{name} holds NaN or infinite values; drop or replace these rows")
        return found.astype(np.int64 if found.dtype.kind in "iu" else np.float64)

    def walk(value: Any, name: str) -> Any:
        if hasattr(value, "columns") and hasattr(value, "to_numpy"):
            return {str(column): array(value[column], f"column {column}") for column in value.columns}
        if isinstance(value, Mapping):
            return {str(key): walk(part, f"{name}: {key}") for key, part in value.items()}
        if isinstance(value, tuple) or (isinstance(value, list) and any(hasattr(part, "shape") for part in value)):
            return type(value)(walk(part, f"{name} {i}") for i, part in enumerate(value))
        return array(value, name)

    return walk(data, "data")


def _kind(array: np.ndarray) -> str:
    return "text" if any(isinstance(value, str) for value in array.flat) else f"values of type {array.dtype}"


def _name_of(function: Any) -> str:
    name = str(getattr(function, "__name__", type(function).__name__))
    return "model" if name == "<lambda>" else name.strip("_").replace("_", "-")


def _functions(given: Any) -> tuple[Any, Any]:
    pair = isinstance(given, tuple | list) and len(given) == 2
    prior, likelihood = given if pair else (given, None)
    if not callable(prior) or (pair and not callable(likelihood)):
        raise UsageError(
            f"log_density is of type {type(given).__name__}; it must be a function of (parameters, data), or a pair of "
            "functions: log_prior(parameters) and log_likelihood(parameters, row)"
        )
    return prior, likelihood


def _point(parameters: Any) -> dict[str, np.ndarray]:
    if not isinstance(parameters, Mapping) or not parameters:
        raise UsageError(f"parameters is {parameters!r:.60}; it must be a dict of arrays or numbers by name")
    found = {}
    for name, value in parameters.items():
        try:
            found[str(name)] = to_numpy(value)
        except (TypeError, ValueError):
            raise UsageError(f"parameter {name} is {value!r:.60}; it must be an array or a number") from None
        if not np.all(np.isfinite(found[name])):
            raise UsageError(f"parameter {name} is not finite")
    return found


def _check_rows(
    inputs: Any, likelihood: Any, batch: int | None, local: Sequence[str], point: Mapping[str, np.ndarray]
) -> None:
    if isinstance(local, str):
        raise UsageError(f"local is {local!r}; it must be a list of names of parameters")
    if likelihood is None:
        for what, value in (("batch", batch), ("local", local or None)):
            if value is not None:
                raise UsageError(
                    f"{what} needs log_density as a pair: log_prior(parameters), log_likelihood(parameters, row)"
                )
        return
    if inputs is None:
        raise UsageError("log_likelihood is a function of (parameters, row); give data=...")
    lengths = {name: len(a) if a.ndim else 0 for name, a in flatten(inputs, "data")[1].items()}
    lengths |= {f"local parameter {name}": len(point[name]) if point[name].ndim else 0 for name in _named(local, point)}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        shown = ", ".join(f"{name} has {n or 'none'}" for name, n in lengths.items())
        raise UsageError(f"every array of data, and every local parameter, needs one entry a row: {shown}")
    if len(local) == len(point):
        raise UsageError("every parameter is local; give log_prior one that the rows share")


def _named(local: Sequence[str], point: Mapping[str, np.ndarray]) -> Sequence[str]:
    for name in local:
        if name not in point:
            raise unknown("local: parameter", name, point)
    return local


def _scale(layout: Layout, given: Any, full_rank: bool) -> dict[str, Any]:
    """Return `log_scale` of a mean-field q, or `scale_tril` of a full-rank one."""
    size = layout.dimension
    matrix = given is not None and not isinstance(given, Mapping) and np.ndim(given) == 2
    if matrix:
        factor = to_numpy(given)
        if not full_rank or factor.shape != (size, size) or np.any(np.triu(factor, 1)) or np.any(np.diag(factor) <= 0):
            raise UsageError(
                f"scale is a matrix; with full_rank=True it must be lower triangular [{size}, {size}], of positive "
                "diagonal"
            )
        return {"scale_tril": factor}
    scale = np.concatenate([_scale_of(part, given) for part in layout.parts])
    return {"scale_tril": np.diag(scale)} if full_rank else {"log_scale": np.log(scale)}


def _scale_of(part: Part, given: Any) -> np.ndarray:
    value = given.get(part.name, SCALE) if isinstance(given, Mapping) else SCALE if given is None else given
    try:
        array = to_numpy(value)
        scale = np.full(part.size, array) if array.ndim == 0 else np.reshape(array, (part.size,))
    except (TypeError, ValueError):
        raise UsageError(
            f"scale of {part.name} is {value!r:.60}; it must be a number, or {part.size} numbers"
        ) from None
    if not np.all(np.isfinite(scale) & (scale > 0.0)):
        raise UsageError(f"scale of {part.name} must be positive and finite: σ of the unconstrained variable")
    return scale


def _vmap(framework: str) -> Any:
    if framework == "jax":
        import jax

        return jax.vmap
    import torch

    return torch.func.vmap


def _one(what: str, value: Any) -> Any:
    """Return the value of a function of one draw, if it is one number."""
    shape = tuple(getattr(value, "shape", ()))
    if math.prod(shape) != 1:
        raise UsageError(f"{what} returned an array of shape {shape}; it must return one number: sum over the rows")
    return value.reshape(()) if shape else value
