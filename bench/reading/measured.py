"""The data frame that `gradmeter.measure` returns, which prints itself as the table of `gradmeter run`."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from gradmeter.bench.reading import compact
from gradmeter.bench.reading.tables import html_table
from gradmeter.bench.rows import COLUMNS, Row


class Measured(pd.DataFrame):
    """A pandas.DataFrame of result rows. What is made from it is an ordinary DataFrame."""

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    @property
    def _table(self) -> list[tuple[str, ...]] | None:
        """The compact table; None where columns were added or taken away."""
        return compact.lines(_rows(self)) if list(self.columns) == list(COLUMNS) else None

    def __repr__(self) -> str:
        table = self._table
        if table is None:
            return super().__repr__()
        whole = [compact.HEADINGS, *table]
        widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
        aligned = [
            "  ".join(
                cell.rjust(width) if heading in compact.RIGHT else cell.ljust(width)
                for heading, cell, width in zip(compact.HEADINGS, line, widths, strict=True)
            ).rstrip()
            for line in whole
        ]
        return "\n".join([*aligned, f"[{len(self)} rows × {len(self.columns)} columns, a pandas.DataFrame]"])

    def _repr_html_(self) -> str:
        table = self._table
        if table is None:
            return str(pd.DataFrame(self)._repr_html_())  # type: ignore[operator]
        shape = f"{len(self)} rows × {len(self.columns)} columns, a pandas.DataFrame"
        return f"{html_table([compact.HEADINGS, *table])}<p>{shape}</p>"


def _rows(frame: pd.DataFrame) -> list[Row]:
    """Return the rows that a frame was made of."""
    rows = []
    for record in frame.to_dict("records"):
        values = {str(k): None if v is None or v is pd.NA or v != v else v for k, v in record.items()}
        options = {k: json.loads(str(values[k])) for k, kind in COLUMNS.items() if kind == "json" and values[k]}
        rows.append(values | options)
    return rows
