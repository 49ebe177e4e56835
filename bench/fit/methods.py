"""The exact methods, by the names that `--method` takes."""

from __future__ import annotations

from gradmeter.bench.fit.method import Recipe
from gradmeter.bench.fit.mixtures import Cavi, Em, Svi

METHODS: dict[str, type[Recipe]] = {cls.name: cls for cls in (Em, Cavi, Svi)}
