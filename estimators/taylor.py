"""Pathwise estimator with a control variate from a Taylor expansion of f.

Approximates   ∇_λ E_{q_λ}[f(z)],     q_λ a Normal
with           pathwise(∇f(z)) − pathwise(g̃(z)) + E pathwise(g̃(z)),     g̃(z) = ∇f(loc) + H (z − loc)
requires       f differentiable, and twice at loc (for hessian=none: once); z = loc + L ε with Gaussian noise.

H is the Hessian at loc, so g̃ equals ∇f if f is quadratic: the estimate of every parameter block is then exact. In
addition to the samples, it costs a gradient at loc and Hessian-vector products, each of which counts as two gradients.

Source: Miller et al. 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.options import option
from gradmeter.estimators.quadratics import bent, centre, check_hessian, finish, hessian

HESSIANS = ("full", "diagonal", "product", "none")


@dataclass(frozen=True)
class Taylor(Estimator):
    """The pathwise estimator with a Taylor control variate; `hessian` chooses H.

    - `full`: the Hessian, from D products at loc.
    - `diagonal`: its diagonal, from the same D products.
    - `product`: one Hessian-vector product per sample. It is used for `loc` only, because the expectation for the other
      block needs the diagonal of the Hessian.
    - `none`: 0. Only ∇f(loc) is used, which has no effect on the estimate for `loc`.
    """

    name: ClassVar[str] = "taylor"
    summary: ClassVar[str] = "pathwise, less a linear model of ∇f at loc whose expectation is known"
    requires: ClassVar[Requires] = Requires(("pathwise", "bonnet_price"), ("gradient",))

    hessian: str = option("full", "how the linear model bends", choices=HESSIANS)

    def also_requires(self, entropy: str) -> Requires:
        bends = () if self.hessian == "none" else ("hessian_product",)
        return Requires(("score",) if entropy == "sampled" else (), bends)

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if self.hessian in ("full", "diagonal"):
            check_hessian(f"{self.name} with hessian={self.hessian}", dimension)

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        products = {"full": dimension, "diagonal": dimension, "product": num_samples, "none": 0}
        return num_samples + 1 + 2 * products[self.hessian]

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        z = family.sample(backend, parameters, noise)
        slope = expectation.integrand_gradient(backend, z, noise)
        at = centre(backend, expectation, parameters, z)
        there = expectation.integrand_gradient(backend, at, noise)
        rest, offset = slope - there, z - parameters["loc"]
        matrix = xp.zeros_like(there[..., :, None] * there[..., None, :])
        if self.hessian in ("full", "diagonal"):
            matrix = hessian(backend, expectation, at, noise)
            if self.hessian == "diagonal":
                places = backend.asarray(range(z.shape[-1]), None)
                matrix = xp.where(places[:, None] == places, matrix, xp.zeros_like(matrix))
            rest = rest - bent(xp, matrix, offset)
        gradients = family.pathwise(backend, parameters, noise, z, rest)
        if self.hessian == "product":
            everywhere = xp.broadcast_to(at, z.shape)
            rest = rest - expectation.integrand_hessian_product(backend, everywhere, offset, noise)
            gradients = {**gradients, "loc": family.pathwise(backend, parameters, noise, z, rest)["loc"]}
        left = finish(backend, expectation, parameters, noise, z, gradients)
        known = family.bonnet_price(backend, parameters, there, matrix)
        return {name: gradient + known[name][:, 0, ...] for name, gradient in left.items()}
