"""The peer libraries: what each can do, and by which factor gradmeter aims to be faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "performance" / "peers"


@dataclass(frozen=True)
class Peer:
    """One library, used in one way.

    Attributes
    ----------
    name
        Value of the rows' `backend` column.
    title
        Name for readers.
    framework
        Gradmeter's backend that it is compared with.
    adapter, folder
        File name without suffix, and its folder. Requirements of the same name, if there are any, define an
        environment.
    settings
        Passed to the adapter.
    loops
        Whether more samples per call are no faster, so that a batch is one estimate.
    replicates, elements
        Limits on the estimates for its bias and variance, and on the numbers drawn for them.
    goal
        (problem, estimator, D) -> least ratio of the peer's time to gradmeter's that is aimed at, or None.
    """

    name: str
    title: str
    framework: str
    adapter: str
    settings: dict[str, str] = field(default_factory=dict)
    loops: bool = False
    replicates: int = 2**18
    elements: int = 2**24
    goal: Callable[[str, str, int], float | None] = lambda problem, estimator, dimension: None
    folder: Path = FOLDER

    @property
    def path(self) -> Path:
        return self.folder / f"{self.adapter}.py"

    @property
    def requirements(self) -> Path | None:
        """The file of packages to install; None for a peer that runs in gradmeter's own environment."""
        path = self.folder / f"{self.adapter}.txt"
        return path if path.exists() else None


def _at_least(ratio: float, most_dimensions: float = float("inf")) -> Callable[[str, str, int], float | None]:
    return lambda problem, estimator, dimension: ratio if dimension <= most_dimensions else None


def _on_jax(problem: str, estimator: str, dimension: int) -> float:
    if problem == "logistic-regression":  # dominated by the same matrix products in every library
        return 1.0
    return 1.2 if dimension >= 10 else 4.0


def _optax(problem: str, estimator: str, dimension: int) -> float | None:
    return {("pathwise", 10): 9.0, ("pathwise", 100): 40.0, ("measure-valued", 100): 30.0}.get((estimator, dimension))


PEERS = {
    peer.name: peer
    for peer in (
        Peer("optax", "Optax monte_carlo", "jax", "optax", replicates=2**16, elements=2**20, goal=_optax),
        Peer("tfp", "TensorFlow Probability", "jax", "tfp", goal=_on_jax),
        Peer("numpyro", "NumPyro", "jax", "numpyro", goal=_on_jax),
        Peer("distrax", "Distrax", "jax", "distrax", goal=_on_jax),
        Peer("jax-vmap-grad", "jax.vmap(jax.grad)", "jax", "jax_vmap", goal=_on_jax),
        Peer(
            "pyro-loop",
            "Pyro, loop",
            "torch",
            "pyro",
            settings={"particles": "loop"},
            loops=True,
            replicates=2**14,
            goal=_at_least(1000.0, most_dimensions=100),
        ),
        Peer(
            "pyro-plate",
            "Pyro, plate",
            "torch",
            "pyro",
            settings={"particles": "plate"},
            replicates=2**14,
            goal=_at_least(5.0),
        ),
        Peer("storchastic", "Storchastic", "torch", "storchastic", replicates=2**14, goal=_at_least(3.0)),
        Peer("torch-vmap-grad", "torch.func.vmap(grad)", "torch", "torch_func"),
        Peer("native-numpy", "by hand, NumPy", "numpy", "native_numpy", goal=_at_least(1.0 / 1.05)),
        Peer("native-torch", "by hand, torch.compile", "torch", "native_torch", goal=_at_least(1.0 / 1.05)),
        Peer("native-jax", "by hand, jax.jit", "jax", "native_jax", goal=_at_least(1.0 / 1.05)),
    )
}
