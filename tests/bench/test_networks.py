"""Networks' backward passes, written out for NumPy, against automatic differentiation; false alarms: none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradmeter.bench.problems.vae.network import Perceptron
from gradmeter.estimators.backends.backend import Backend

SIZES = ((3, 2), (4, 5, 3), (2, 6, 5, 4))


def case(sizes: tuple[int, ...], shared: bool) -> tuple[Perceptron, dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """A network with its parameters, inputs [2 or 1, 7, in] and cotangents [2, 7, out]."""
    network, generator = Perceptron("net", sizes), np.random.default_rng(len(sizes))
    x = generator.standard_normal((1 if shared else 2, 7, sizes[0]))
    return network, network.initial(), x, generator.standard_normal((2, 7, sizes[-1]))


def test_blocks() -> None:
    network = Perceptron("net", (4, 5, 3))
    assert network.shapes() == {
        "net.0.weight": (4, 5),
        "net.0.bias": (5,),
        "net.1.weight": (5, 3),
        "net.1.bias": (3,),
    }
    at, again = network.initial(), network.initial()
    assert {name: a.shape for name, a in at.items()} == network.shapes()
    assert all(np.array_equal(a, again[name]) for name, a in at.items())


def test_forward() -> None:
    network, at, x, _ = case((4, 5, 3), shared=False)
    hidden = np.tanh(np.einsum("rmi,io->rmo", x, at["net.0.weight"]) + at["net.0.bias"])
    expected = np.einsum("rmi,io->rmo", hidden, at["net.1.weight"]) + at["net.1.bias"]
    layers = network.forward(np, at, x)
    assert len(layers) == 3
    np.testing.assert_allclose(layers[1], hidden, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(layers[-1], expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_backward_is_that_of_autodiff(differentiating: Backend, sizes: tuple[int, ...], shared: bool) -> None:
    network, at, x, cotangent = case(sizes, shared)
    xp = differentiating.xp
    put = lambda a: differentiating.asarray(a, "float64")  # noqa: E731
    every = np.broadcast_to(x, (2, 7, sizes[0]))

    def total(parameters: Any, x: Any, cotangent: Any) -> Any:
        return xp.sum(cotangent * network.forward(xp, parameters, x)[-1])

    layers = network.forward(np, at, x)
    moved = {n: put(a) for n, a in at.items()}
    compiled = differentiating.compile if differentiating.name == "jax" else lambda f: f  # eager, it compiles in pieces
    expected = compiled(differentiating.pullback(total))(moved, put(every), put(cotangent))
    found = network.pullback(np, at, layers, cotangent)
    assert found.keys() == at.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], differentiating.to_numpy(values), rtol=1e-10, atol=1e-10)
    slope = compiled(differentiating.gradient(lambda x: total(moved, x, put(cotangent))))(put(every))
    along = network.input_gradient(np, at, network.forward(np, at, every), cotangent)
    np.testing.assert_allclose(along, differentiating.to_numpy(slope), rtol=1e-10, atol=1e-10)
