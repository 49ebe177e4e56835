"""User-defined models, written in PyTorch or JAX, as problems to measure.

With an encoder, the model is an autoencoder: L = Σ_n E_{q(z_n | x_n; φ)}[log p(x_n, z_n; θ) − log q], or the bound of K
importance samples. Without one, q(z) is a Normal at a given point, mean-field or full-rank, and L = E_q[log p(x, z; θ)
− log q] or E_q[f(z; θ)].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.intermediate_sizes import MANY, widest
from gradmeter.bench.problems.problem import Exact, Problem
from gradmeter.bench.problems.rqmc import MOST_COORDINATES, exact_by_rqmc
from gradmeter.bench.problems.user_model_check import compared
from gradmeter.bench.problems.user_model_exact import bound_to, exact_of_functions, whole
from gradmeter.estimators import FamilyConfig, Normal, UsageError
from gradmeter.estimators.amortised import ROWS, AmortisedExpectation, AmortisedNormal
from gradmeter.estimators.families.multivariate_normal import MultivariateNormal, pack
from gradmeter.estimators.functions import DataIntegrand, FunctionEncoder, FunctionIntegrand, flatten

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
        f. With an encoder, (θ, x [M, ...], z [M, D]) -> log p(x, z) [M]. Without, (θ, z [M, D]) -> [M], or with
        `inputs` (θ, x, z [M, D]) -> [M]. Rows must not depend on each other: no dropout, no batch normalisation in
        training mode.
    theta
        θ: `dict(module.named_parameters())`, or nested dicts, lists and tuples of arrays; {} if there are none.
    latent : int
        D.
    encode : callable, optional
        The encoder, (φ, x [M, ...]) -> loc and log σ, each [M, D].
    phi
        φ, in the format of `theta`.
    inputs : [N, ...], optional
        x. Without an encoder also nested dicts, lists and tuples of arrays; f gets all of them as they are.
    batch : int, optional
        Minibatch size B; all data if absent. Without an encoder, f then gets B rows of every array for each of the
        samples, [M, B, ...], and has to multiply the sum over rows by N/B itself.
    loc, log_scale : [D], optional
        λ of a mean-field q without an encoder.
    scale_tril : [D, D], optional
        In place of `log_scale`: the Cholesky factor L of the covariance of a full-rank q.
    importance_samples : int
        K of each datum's bound.
    entropy : {"sampled", "none"}
        `sampled` for an ELBO; `none`, allowed only without an encoder, for E f.
    framework : {"torch", "jax"}, optional
        Inferred from the parameters, if these are arrays of one of the two.
    reference : Exact, optional
        The gradient at this point, if you know it; it is not computed then.

    Attributes
    ----------
    summary
        One line for lists of problems.
    differentiate
        How ∇f is computed; automatically, since f is a function of the user's.
    largest
        Elements per row of the largest array that the functions create, found by calling them.

    Raises
    ------
    UsageError
        Arguments do not go together, or a function fails, returns a wrong shape or has rows that depend on each other.

    Notes
    -----
    Block names are `encoder.` and `decoder.` (without an encoder, `model.`) followed by the name of each array. The
    default dtype is float64. The exact gradient is computed by quadrature if z has one or two coordinates and f is
    smooth, also for bounds unless K or the variation of the weights is very large. Without an encoder, it is otherwise
    computed by randomised quasi-Monte Carlo, with a bound on its error.
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
    scale_tril: Any = field(default=None, repr=False)
    importance_samples: int = 1
    entropy: str = "sampled"
    framework: str | None = None
    reference: Exact | None = field(default=None, repr=False)
    differentiate: str = "autodiff"
    #: Elements per row of the largest array that the functions create, found by calling them.
    largest: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        what, amortised = f"model {self.name}", self.encode is not None
        point = [self.log_scale is not None, self.scale_tril is not None]
        if (amortised and self.inputs is None) or amortised == (self.loc is not None) or sum(point) != (not amortised):
            raise UsageError(f"{what}: give encode, phi and inputs, or loc and log_scale (or scale_tril) of q")
        if amortised and self.entropy != "sampled":
            raise UsageError(f"{what}: entropy is {self.entropy}; with an encoder it must be sampled")
        if self.batch is not None and not 1 <= self.batch <= self.rows:
            must = "it must be 1 to the number of inputs" if self.rows else "there are no inputs; leave batch out"
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
        """The family of z that the arguments choose."""
        if self.encode is not None:
            return AmortisedNormal.Config()
        return Normal.Config() if self.scale_tril is None else MultivariateNormal.Config()

    @property
    def rows(self) -> int:
        """The number N of rows of x; 0 if there are none, or the arrays have different first axes."""
        arrays = flatten(self.inputs, "inputs")[1].values() if self.inputs is not None else ()
        lengths = {a.shape[0] if a.ndim else 0 for a in arrays}
        return int(lengths.pop()) if len(lengths) == 1 else 0

    @property
    def dimension(self) -> int:
        return self.latent

    @property
    def integrand(self) -> FunctionIntegrand:
        tree, found = flatten(self.theta, "model" if self.encode is None else "decoder")
        if self.encode is not None or self.inputs is None:
            return FunctionIntegrand(self.log_joint, tree, _sizes(found), self.encode is not None, self.largest)
        inputs, arrays = flatten(self.inputs, "inputs")
        integers = tuple(name for name, a in arrays.items() if to_numpy(a, None).dtype.kind in "iu")
        return DataIntegrand(self.log_joint, tree, _sizes(found), False, self.largest, inputs, integers)

    @property
    def encoder(self) -> FunctionEncoder | None:
        if self.encode is None:
            return None
        tree, found = flatten(self.phi, "encoder")
        return FunctionEncoder(self.encode, tree, _sizes(found), self.latent)

    def data(self) -> Vectors:
        if self.inputs is None:
            return {}
        minibatch = {} if self.batch is None else {"batch": np.zeros(self.batch)}
        return {**{name: to_numpy(a) for name, a in flatten(self.inputs, "inputs")[1].items()}, **minibatch}

    def parameters(self) -> Vectors:
        if self.encode is None:
            full = self.scale_tril is not None
            q = {"cholesky": pack(to_numpy(self.scale_tril))} if full else {"log_scale": self.log_scale}
            return {n: to_numpy(a) for n, a in {"loc": self.loc, **q, **flatten(self.theta, "model")[1]}.items()}
        both = {**flatten(self.phi, "encoder")[1], **flatten(self.theta, "decoder")[1]}
        return {name: to_numpy(a) for name, a in both.items()}

    def check_against(self, trusted: Callable[..., Any], draws: int = 16, seed: int = 0) -> str:
        """Compare f with a second f, in value and gradient, at draws of q on all data; the model has no encoder.

        A constant difference of the values does not count: the gradient of an ELBO is that of an unnormalised density.

        Parameters
        ----------
        trusted : callable
            With the arguments of `log_joint`; of a model by `density_model` with those of `log_density`.
        draws : int
            Number of draws.
        seed : int
            Seed of the draws.

        Returns
        -------
        str
            How well they agree, in one line.

        Raises
        ------
        UsageError
            They differ; the message says where and by how much.
        """
        if self.encode is not None:
            raise UsageError(f"model {self.name}: only models without an encoder can be checked against another f")
        other = self.log_joint.like(trusted) if hasattr(self.log_joint, "like") else trusted
        return compared(self, replace(self, log_joint=other), draws, seed)

    def exact(self) -> Exact | None:
        return self.reference or super().exact()

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values by quadrature, or by randomised quasi-Monte Carlo without an encoder, else None.

        Quadrature is for at most two coordinates, and does not converge for f with corners.
        """
        found = exact_of_functions(self, parameters)
        bound = self.encode is not None or self.importance_samples > 1
        if found is not None or bound or self.latent > MOST_COORDINATES:
            return found
        found = exact_by_rqmc(whole(self), parameters, smooth=False)
        return found if all(np.all(np.isfinite(g)) for g in found.gradient.values()) else None


def to_numpy(array: Any, dtype: Any = np.float64) -> np.ndarray:
    """Convert an array of any framework to this dtype; to its own for None.

    Parameters
    ----------
    array
        An array of any framework.
    dtype
        The dtype to convert to; None for that of the array.

    Returns
    -------
    numpy.ndarray
        A copy.
    """
    return np.array(array.numpy(force=True) if hasattr(array, "detach") else array, dtype=dtype)


def _sizes(arrays: dict[str, Any]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, tuple(int(n) for n in a.shape)) for name, a in arrays.items())


def _try(model: Model) -> int:
    """Check that f and the encoder give the same for three rows jointly and singly; return their elements per row."""
    backend, expectation, parameters = bound_to(model, model.parameters())
    bound, _ = expectation.at(parameters)
    generator = np.random.default_rng(0)
    z = generator.standard_normal((MANY, model.latent))
    drawn = model.batch if model.batch and model.encode is None else 1
    rows = (np.arange(MANY)[:, None] + np.arange(drawn)) % max(model.rows, 1)

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
    for several, *single in zip(together, *alone, strict=True):
        if not np.allclose(several, np.concatenate(single), rtol=ROUNDING, atol=ROUNDING, equal_nan=True):
            raise UsageError(
                f"model {model.name}: rows of a batch depend on each other, or on chance; switch dropout and batch "
                "normalisation off (module.eval()), and draw nothing inside"
            )
    return widest(str(model.framework), evaluate, lambda count: arguments(slice(count)))
