"""The base of families whose samples are made from a standard distribution of ε, which a subclass provides.

It provides the map from noise to ε, and the log-density g of ε with its first two derivatives.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, MeanField


@dataclass(frozen=True)
class Standard(MeanField):
    """A family of independent coordinates, each made from one ε."""

    @abstractmethod
    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return ε [..., D]."""

    @abstractmethod
    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        """Return g(x) of every coordinate."""

    @abstractmethod
    def standard_slope(self, backend: Backend, x: Array) -> Array:
        """Return g'(x)."""

    @abstractmethod
    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        """Return g''(x)."""
