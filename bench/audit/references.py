"""The gradient that an audit compares with: given, of a bundled problem, or derived from a function."""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from gradmeter.bench.audit.calls import raised
from gradmeter.bench.audit.inference import backend_of, is_module
from gradmeter.bench.audit.parts import ALONE, SCALES, Form, mapped, named, numbers
from gradmeter.bench.problems import Exact, Problem
from gradmeter.bench.problems.rqmc import NETS, exact_of_nets, normal_net
from gradmeter.estimators import UsageError

#: Relative size of a step in a numerical derivative, about the fifth root of ε, as the rule's error is of fourth order.
STEP = 1e-3
#: Nodes a coordinate of the two grids that integrate a density, by the number of coordinates; and the ends of the grid
#: in the variable t of z = location + scale · sinh(t).
NODES, ENDS = {1: (201, 257), 2: (45, 57)}, 6.0
#: Points of each scrambled Sobol net that integrates over three or more coordinates.
POINTS = 2**12
#: Names of the location of q among the parameters, for the place of the grid.
LOCATIONS = ("loc", "mu", "mean", "location")
#: By how much the integral of a density may differ from 1.
TOTAL = 1e-6


def given(exact: Any, parameters: Any, form: Form) -> Exact:
    """Return the exact gradient that the user gave: arrays, or a function of the parameters (of nothing without any).

    Raises
    ------
    UsageError
        Its parts or shapes are not those of the gradient.
    """
    if callable(exact):
        try:
            exact = exact(parameters) if parameters is not None else exact()
        except Exception as error:
            raise raised("exact", error) from error
    return Exact(_matched(exact, form, "exact"), "given")


def of_problem(problem: Problem, form: Form) -> Exact:
    """Return the exact gradient of a bundled problem."""
    from gradmeter.bench.measurement.prepared import finite_exact

    exact = finite_exact(problem)
    if exact is None:
        raise UsageError(f"problem {problem.name} has no exact gradient with these options; give exact= or against=")
    gradient = _matched(exact.gradient, form, f"problem {problem.name}")
    return Exact(gradient, exact.source, exact.objective, None, exact.error)


def _matched(found: Any, form: Form, what: str) -> dict[str, np.ndarray]:
    """Return a reference in float64 as [P] by part of the gradient.

    Parts are matched by name; by place, if the gradient is a single array or a list.

    Raises
    ------
    UsageError
        The reference has other parts or shapes.
    """
    parts = {name: numbers(leaf, f"{what}: {name}").astype(np.float64) for name, leaf in named(found).items()}
    if parts.keys() != form.shapes.keys():
        if len(parts) != len(form.shapes) or not form.unnamed:
            raise UsageError(
                f"{what} has parts {', '.join(parts)}; the gradient has {', '.join(form.shapes)}: return a dict with "
                "the same names"
            )
        parts = dict(zip(form.shapes, parts.values(), strict=True))
    for name, shape in form.shapes.items():
        if parts[name].shape != shape and parts[name].size != math.prod(shape):
            raise UsageError(f"{what}: {name} has shape {parts[name].shape}; the gradient's is {shape}")
        if not np.all(np.isfinite(parts[name])):
            raise UsageError(f"{what}: {name} is not finite")
    return {name: np.ravel(parts[name]) for name in form.shapes}


# Derivatives of a deterministic function, in float64.


def of_objective(objective: Callable[..., Any], parameters: Any, form: Form, backend: str = "auto") -> Exact:
    """Return the gradient of a deterministic function of the parameters, differentiated in float64.

    JAX and PyTorch differentiate automatically; a function on NumPy is differentiated numerically, and the error that
    two steps show is stated.

    Raises
    ------
    UsageError
        There are no parameters, or the function is not deterministic or not a scalar.
    """
    if parameters is None:
        raise UsageError("objective= is a function of the parameters; give parameters=...")
    framework = backend_of(objective, parameters, backend, "auto")
    try:
        found, error = _DERIVATIVES[framework](objective, parameters)
    except UsageError:
        raise
    except Exception as problem:
        raise raised("objective", problem) from problem
    source = "given" if framework != "numpy" else "quadrature"
    return Exact(_matched(found, form, "objective"), source, error=error)


def _scalar(value: Any) -> None:
    if getattr(value, "shape", ()) != () and math.prod(value.shape) != 1:
        raise UsageError(f"objective returned an array of shape {tuple(value.shape)}; it must return one number")


def _by_jax(objective: Callable[..., Any], parameters: Any) -> tuple[Any, float | None]:
    import jax
    import jax.numpy as jnp

    with _jax_in_double():
        double = jax.tree_util.tree_map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), parameters)
        derive = jax.value_and_grad(lambda p: _of_one(objective(p), jnp.reshape))
        compiled = jax.jit(derive)
        try:
            first, found = compiled(double)
            again, _ = compiled(double)
        except Exception:  # it cannot be compiled
            (first, found), (again, _) = derive(double), derive(double)
        _deterministic(float(first), float(again))
        return jax.tree_util.tree_map(np.asarray, found), None


def _of_one(value: Any, reshape: Any) -> Any:
    _scalar(value)
    return reshape(value, ())


def _jax_in_double() -> Any:
    import jax

    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # before JAX 0.8

    return enable_x64()


def _by_torch(objective: Callable[..., Any], parameters: Any) -> tuple[Any, float | None]:
    import copy

    import torch

    if is_module(parameters):
        double = copy.deepcopy(parameters).double()
        leaves = {name: p for name, p in double.named_parameters() if p.requires_grad}
        found = leaves
    else:
        double = mapped(parameters, lambda a: torch.as_tensor(a).detach().double().clone().requires_grad_())
        leaves, found = named(double), double
    value = objective(double)
    _scalar(value)
    grads = torch.autograd.grad(value.reshape(()), list(leaves.values()), allow_unused=True)
    _deterministic(float(value.detach()), float(objective(double).detach()))
    by_name = {
        name: np.zeros(tuple(leaf.shape)) if g is None else g.cpu().numpy()
        for (name, leaf), g in zip(leaves.items(), grads, strict=True)
    }
    return (by_name if isinstance(found, Mapping) else by_name.get(ALONE, list(by_name.values()))), None


def _by_differences(objective: Callable[..., Any], parameters: Any) -> tuple[Any, float | None]:
    """Differentiate by the five-point rule with two steps; the error is what the steps differ by."""
    parts = {
        name: np.array(numbers(leaf, f"parameters: {name}"), np.float64) for name, leaf in named(parameters).items()
    }

    def at(name: str, j: int, step: float) -> float:
        moved = {n: a.copy() for n, a in parts.items()}
        moved[name].reshape(-1)[j] += step
        value = np.asarray(objective(_rebuilt(parameters, moved)), np.float64)
        _scalar(value)
        return float(value.reshape(()))

    name = next(iter(parts))
    _deterministic(at(name, 0, 0.0), at(name, 0, 0.0))
    found, error = {}, 0.0
    for name, a in parts.items():
        found[name] = np.zeros(a.shape)
        for j, x in enumerate(a.reshape(-1)):
            both = []
            for h in (STEP * max(1.0, abs(float(x))), 0.5 * STEP * max(1.0, abs(float(x)))):
                one, two, three, four = (at(name, j, k * h) for k in (1.0, -1.0, 2.0, -2.0))
                both.append((8.0 * (one - two) - (three - four)) / (12.0 * h))
            found[name].reshape(-1)[j] = both[1]
            error = math.hypot(error, both[1] - both[0])
    size = math.sqrt(sum(float((a**2).sum()) for a in found.values()))
    return found, error / size if size > 0.0 else None


def _rebuilt(like: Any, parts: dict[str, np.ndarray]) -> Any:
    """Return a structure like the given one with the leaves from `parts`, in order."""
    leaves = iter(parts.values())
    return mapped(like, lambda _: next(leaves))


def _deterministic(first: float, again: float) -> None:
    if first != again and not (math.isnan(first) and math.isnan(again)):
        raise UsageError(
            f"objective gave {first:.8g}, then {again:.8g} at the same parameters; it must be deterministic: the value "
            "whose gradient is estimated, not an estimate of it"
        )


_DERIVATIVES = {"jax": _by_jax, "torch": _by_torch, "numpy": _by_differences}


# Integrals over z.


def of_density(
    log_density: Callable[..., Any], integrand: Callable[..., Any], parameters: Any, form: Form, backend: str = "auto"
) -> Exact:
    """Return ∇_λ ∫ q_λ(z) f_λ(z) dz by integration over z in R^D, with a stated error.

    For one or two coordinates the grid is a tensor product of trapezoidal rules in t, z = location + scale · sinh(t);
    its error is what two grids differ by. For more, scrambled Sobol nets are mapped to a Normal at the location with
    one and a half times the scale; the error comes from the spread over nets. Location and scale are taken from the
    parameters, by name (`loc`, `scale`, `log_scale`), else 0 and 1.

    Parameters
    ----------
    log_density
        (parameters, z [D]) -> log q_λ(z).
    integrand
        (parameters, z [D]) -> f_λ(z), or a function of z alone.

    Raises
    ------
    UsageError
        The density does not integrate to 1 on the grid.
    """
    if parameters is None or is_module(parameters):
        raise UsageError("log_density= and integrand= are functions of (parameters, z); give parameters=... as arrays")
    location, scale = _place(parameters)
    dimension = len(location)
    framework = backend_of(integrand, parameters, backend, "auto")
    takes_both = _takes_two(integrand)
    wide = dimension not in NODES
    found = []
    for level in range(NETS if wide else 2):
        z, log_weight = _nodes(location, scale, level)
        density = _on_nodes(log_density, z, framework)
        total = _total(density, parameters, log_weight, framework)
        if not abs(total - 1.0) <= (0.05 if wide else TOTAL):
            raise UsageError(
                f"exp(log_density) integrates to {total:.6g} over {dimension} coordinates, not to 1; is it normalised, "
                f"and are {' and '.join((LOCATIONS[0], 'scale or log_scale'))} in the parameters?"
            )
        f = _on_nodes(integrand if takes_both else lambda _, x: integrand(x), z, framework)
        if framework == "numpy" and not takes_both:  # it need not be computed again for every derivative
            f = functools.partial(_constant, f(parameters))
        value = _summed(density, f, log_weight)
        found.append(of_objective(value, parameters, form, framework).gradient)
    if wide:
        return exact_of_nets(found)
    mean = found[1]
    error = 4.0 * math.sqrt(sum(float(((found[1][n] - found[0][n]) ** 2).sum()) for n in form.shapes))
    size = math.sqrt(sum(float((a**2).sum()) for a in mean.values()))
    return Exact(mean, "quadrature", error=max(error / size, 1e-13) if size > 0.0 else None)


def _place(parameters: Any) -> tuple[np.ndarray, np.ndarray]:
    parts = {name: np.ravel(numbers(leaf, name)).astype(np.float64) for name, leaf in named(parameters).items()}
    location = next((parts[name] for name in LOCATIONS if name in parts), None)
    scale = next((np.exp(parts[n]) if log else parts[n] for n, log in SCALES.items() if n in parts), None)
    dimension = len(location) if location is not None else len(scale) if scale is not None else 1
    location = np.zeros(dimension) if location is None else location
    return location, np.broadcast_to(np.ones(1) if scale is None else scale, (dimension,))


def _total(density: Callable[[Any], Any], parameters: Any, log_weight: np.ndarray, framework: str) -> float:
    try:
        with _jax_in_double() if framework == "jax" else nullcontext():
            log_q = density(mapped(parameters, lambda a: _double(a, framework)))
            return float(np.exp(np.asarray(log_q, np.float64) + log_weight).sum())
    except Exception as error:
        raise raised("log_density", error) from error


def _double(leaf: Any, framework: str) -> Any:
    """Return a leaf of the parameters in float64, as an array of the framework."""
    array = np.array(numbers(leaf, "parameters"), np.float64)
    if framework == "jax":
        import jax.numpy as jnp

        return jnp.asarray(array)
    return array if framework == "numpy" else sys.modules["torch"].as_tensor(array)


def _takes_two(integrand: Callable[..., Any]) -> bool:
    try:
        placed = [p for p in inspect.signature(integrand).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError):
        return False
    return len(placed) >= 2


def _nodes(location: np.ndarray, scale: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes [n, D] and the logarithms of their weights [n]."""
    dimension = len(location)
    if dimension in NODES:
        t = np.linspace(-ENDS, ENDS, NODES[dimension][level])
        axis, weight = np.sinh(t), np.log(t[1] - t[0]) + np.log(np.cosh(t))
        grids = np.meshgrid(*([axis] * dimension), indexing="ij")
        weights = np.meshgrid(*([weight] * dimension), indexing="ij")
        z = location + scale * np.stack([g.reshape(-1) for g in grids], axis=1)
        return z, sum(w.reshape(-1) for w in weights) + np.log(scale).sum()
    normal = normal_net(dimension, level, POINTS)
    wider = 1.5 * scale
    log_q = -0.5 * (normal**2).sum(axis=1) - np.log(wider).sum() - 0.5 * dimension * math.log(2.0 * math.pi)
    return location + wider * normal, -log_q - math.log(POINTS)


def _on_nodes(function: Callable[..., Any], z: np.ndarray, framework: str) -> Callable[[Any], Any]:
    """Return (parameters) -> values of a function of (parameters, z [D]) on all nodes [n]."""
    if framework == "jax":
        import jax

        return lambda parameters: jax.vmap(lambda x: function(parameters, x).reshape(()))(z)
    if framework == "torch":
        import torch

        nodes = torch.as_tensor(z)
        return lambda parameters: torch.func.vmap(lambda x: function(parameters, x).reshape(()))(nodes)
    return lambda parameters: np.asarray([np.asarray(function(parameters, x)).reshape(()) for x in z])


def _constant(values: Any, _: Any) -> Any:
    return values


def _summed(density: Callable[[Any], Any], f: Callable[[Any], Any], log_weight: np.ndarray) -> Callable[[Any], Any]:
    """Return (parameters) -> Σ w q_λ f_λ over the nodes, as a function that can be differentiated."""

    def value(parameters: Any) -> Any:
        log_q, values = density(parameters), f(parameters)
        if type(log_q).__module__.partition(".")[0] == "torch":
            import torch

            return (torch.exp(log_q + torch.as_tensor(log_weight)) * values).sum()
        weighted = log_q + log_weight
        if isinstance(weighted, np.ndarray):
            return float((np.exp(weighted) * values).sum())
        import jax.numpy as jnp

        return (jnp.exp(weighted) * values).sum()

    return value
