"""User-defined models, written in PyTorch or JAX, as problems to measure.

With an encoder, the model is an autoencoder: L = Σ_n E_{q(z_n | x_n; φ)}[log p(x_n, z_n; θ) − log q], or the bound of K
importance samples. Without one, q(z) is a mean-field Normal at a given point, and L = E_q[log p(x, z; θ) − log q] or
E_q[f(z; θ)].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.intermediate_sizes import MANY, widest
from gradmeter.bench.problems.problem import Exact, Problem
from gradmeter.bench.problems.user_model_exact import bound_to, exact_of_functions
from gradmeter.estimators import FamilyConfig, Normal, UsageError
from gradmeter.estimators.amortised import ROWS, AmortisedExpectation, AmortisedNormal
from gradmeter.estimators.functions import FunctionEncoder, FunctionIntegrand, flatten

FRAMEWORKS = {"torch": "torch", "jax": "jax", "jaxlib": "jax"}
#: Tolerance, relative and absolute, on the change of a row's result with the other rows of its batch.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Model(Problem):
    """A user's model: functions, their parameters, and the point at which gradients are measured.

    Parameters
    ----------
    name : str
        Name in result rows.
    log_joint : callable
        f. With an encoder, (θ, x [M, ...], z [M, D]) -> log p(x, z) [M], else (θ, z [M, D]) -> [M]. Rows must not
        depend on each other: no dropout, no batch normalisation in training mode.
    theta
        θ: `dict(module.named_parameters())`, or nested dicts, lists and tuples of arrays; {} if there are none.
    latent : int
        D.
    encode : callable, optional
        The encoder, (φ, x [M, ...]) -> loc and log σ, each [M, D].
    phi
        φ, in the format of `theta`.
    inputs : [N, ...], optional
        x.
    batch : int, optional
        Minibatch size B; all data if absent.
    loc, log_scale : [D], optional
        λ of q without an encoder.
    importance_samples : int
        K of each datum's bound.
    entropy : {"sampled", "none"}
        `sampled` for an ELBO; `none`, allowed only without an encoder, for E f.
    framework : {"torch", "jax"}, optional
        Inferred from the parameters, if these are arrays of one of the two.

    Raises
    ------
    UsageError
        Arguments do not go together, or a function fails, returns a wrong shape or has rows that depend on each other.

    Notes
    -----
    Block names are `encoder.` and `decoder.` (without an encoder, `model.`) followed by the name of each array. The
    default dtype is float64. The exact gradient is computed by quadrature if z has one or two coordinates and f is
    smooth, also for bounds unless K or the variation of the weights is very large.
    """

    summary: ClassVar[str] = "a model of the user's own"

    # Arrays and functions are not options, so the repr omits them.
    name: str = field(repr=False)  # type: ignore[misc]
    log_joint: Callable[..., Any] = field(repr=False)
    theta: Any = field(repr=False)
    latent: int = 1
    encode: Callable[..., Any] | None = field(default=None, repr=False)
    phi: Any = field(default=None, repr=False)
    inputs: Any = field(default=None, repr=False)
    batch: int | None = None
    loc: Any = field(default=None, repr=False)
    log_scale: Any = field(default=None, repr=False)
    importance_samples: int = 1
    entropy: str = "sampled"
    framework: str | None = None
    differentiate: str = "autodiff"
    #: Elements per row of the largest array that the functions create, found by calling them.
    largest: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        what, amortised = f"model {self.name}", self.encode is not None
        if amortised != (self.inputs is not None) or amortised == (self.loc is not None):
            raise UsageError(f"{what}: give encode, phi and inputs, or loc and log_scale of q")
        if amortised and self.entropy != "sampled":
            raise UsageError(f"{what}: entropy is {self.entropy}; with an encoder it must be sampled")
        if self.batch is not None and not (amortised and 1 <= self.batch <= len(self.inputs)):
            must = "it must be 1 to the number of inputs" if amortised else "there are no inputs; leave batch out"
            raise UsageError(f"{what}: batch is {self.batch}; {must}")
        if self.framework is None:
            arrays = [*flatten(self.theta, "")[1].values(), *flatten(self.phi or {}, "")[1].values()]
            found = {FRAMEWORKS.get(type(a).__module__.partition(".")[0]) for a in arrays} - {None}
            if len(found) != 1:
                raise UsageError(f"{what}: its parameters do not tell one framework; say framework=torch or jax")
            object.__setattr__(self, "framework", found.pop())
        object.__setattr__(self, "largest", _try(self))

    @property
    def q(self) -> FamilyConfig:  # type: ignore[override]
        return Normal.Config() if self.encode is None else AmortisedNormal.Config()

    @property
    def dimension(self) -> int:
        return self.latent

    @property
    def integrand(self) -> FunctionIntegrand:
        tree, found = flatten(self.theta, "model" if self.encode is None else "decoder")
        return FunctionIntegrand(self.log_joint, tree, _sizes(found), self.encode is not None, self.largest)

    @property
    def encoder(self) -> FunctionEncoder | None:
        if self.encode is None:
            return None
        tree, found = flatten(self.phi, "encoder")
        return FunctionEncoder(self.encode, tree, _sizes(found), self.latent)

    def data(self) -> Vectors:
        if self.encode is None:
            return {}
        minibatch = {} if self.batch is None else {"batch": np.zeros(self.batch)}
        return {"inputs": to_numpy(self.inputs), **minibatch}

    def parameters(self) -> Vectors:
        if self.encode is None:
            q = {"loc": self.loc, "log_scale": self.log_scale}
            return {name: to_numpy(a) for name, a in {**q, **flatten(self.theta, "model")[1]}.items()}
        both = {**flatten(self.phi, "encoder")[1], **flatten(self.theta, "decoder")[1]}
        return {name: to_numpy(a) for name, a in both.items()}

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values, or None for too many coordinates or data, or if the quadrature does not converge.

        It does not converge for f with corners. At most two coordinates are supported.
        """
        return exact_of_functions(self, parameters)


def to_numpy(array: Any) -> np.ndarray:
    """Convert an array of any framework to float64."""
    return np.array(array.numpy(force=True) if hasattr(array, "detach") else array, dtype=np.float64)


def _sizes(arrays: dict[str, Any]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, tuple(int(n) for n in a.shape)) for name, a in arrays.items())


def _try(model: Model) -> int:
    """Check that f and the encoder give the same for three rows jointly and singly; return their elements per row."""
    backend, expectation, parameters = bound_to(model, model.parameters())
    bound, _ = expectation.at(parameters)
    generator = np.random.default_rng(0)
    z = generator.standard_normal((MANY, model.latent))
    rows = np.arange(MANY)[:, None] % (1 if model.encode is None else len(model.inputs))

    def evaluate(data: Any, z: Any, rows: Any) -> Any:
        again = bound.bind(data)
        found = [again.integrand.value(backend.xp, data, z[:, None, :], {ROWS: rows})]
        if isinstance(again, AmortisedExpectation):
            found += [a[:, 0, :] for a in again.infer(backend.xp, rows).values()]
        return found

    call = backend.compile_for_few_calls(evaluate)

    def arguments(some: slice) -> tuple[Any, ...]:
        return bound.data, backend.asarray(z[some], "float64"), backend.asarray(rows[some], None)

    def outputs(some: slice) -> list[np.ndarray]:
        return [backend.to_numpy(a) for a in call(*arguments(some))]

    try:
        together, alone = outputs(slice(3)), [outputs(slice(i, i + 1)) for i in range(3)]
    except UsageError as error:
        raise UsageError(f"model {model.name}: {error}") from None
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        hints = {
            "torch": "PyTorch's buffers and constants must be float64 too: module.double()",
            "jax": "JAX calls them on traced arrays: compute with jax.numpy, and let no shape depend on values",
        }
        hint = hints[str(model.framework)]
        raise UsageError(
            f"model {model.name}: its functions fail in float64, {type(error).__name__}: {reason} ({hint})"
        ) from error
    for whole, *single in zip(together, *alone, strict=True):
        if not np.allclose(whole, np.concatenate(single), rtol=ROUNDING, atol=ROUNDING, equal_nan=True):
            raise UsageError(
                f"model {model.name}: rows of a batch depend on each other, or on chance; switch dropout and batch "
                "normalisation off (module.eval()), and draw nothing inside"
            )
    return widest(str(model.framework), evaluate, lambda count: arguments(slice(count)))
