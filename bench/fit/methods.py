"""The exact methods of fitting, by the names that `--method` takes."""

from __future__ import annotations

from gradmeter.bench.fit.mixtures import Cavi, Em, Svi
from gradmeter.bench.fit.recipe import Recipe

METHODS: dict[str, type[Recipe]] = {cls.name: cls for cls in (Em, Cavi, Svi)}
