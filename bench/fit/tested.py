"""Figure and text about held-out data on a fit's page: the ELBO against steps and seconds."""

from __future__ import annotations

from gradmeter.bench.drawing import curves
from gradmeter.bench.drawing.figure import Figure, Panel, identifier
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.fit.figures import WIDE, Interval, curve_of
from gradmeter.bench.fit.run import Fit
from gradmeter.bench.reading.numbers import seconds, significant
from gradmeter.bench.rows import Row

COSTS = {"iteration": "iterations", "seconds": "seconds in steps"}


def figure(fits: dict[str, Fit], styles: dict[str, Style], command: str) -> Figure | None:
    """Draw the test ELBO against iterations and seconds, log-linear; return None if no fit has test data."""
    panels: list[Panel] = []
    key: dict[str, Style] = {}
    for column, words in COSTS.items():
        found = [curve_of(name, styles[name], fit, column, _elbo) for name, fit in fits.items()]
        found = [curve for curve in found if curve.x]
        if not found:
            return None
        drawn, unlabelled = curves.panel(
            identifier("fit-test", column, *fits),
            found,
            "",
            words,
            "nats a datum",
            log_x=True,
            log_y=False,
            named=column == "seconds",
            left=WIDE,
            write_x=seconds if column == "seconds" else significant,
        )
        panels.append(Panel(drawn, f"ELBO of the test data against {words}"))
        key |= {curve.label: curve.look for curve in unlabelled}
    size = next(r["test_size"] for fit in fits.values() for r in fit.rows if r["test_size"])
    caption = f"The mean ELBO of {size} data that nothing was fitted to, those that come after the fitted ones."
    return Figure("The ELBO of test data", caption, panels, command, list(key.items()))


def _elbo(r: Row) -> Interval | None:
    return None if r["test_elbo"] is None else (r["test_elbo"], None, None)


def words(fits: dict[str, Fit]) -> str:
    """Return a sentence on how the table's test columns were computed; empty without test data."""
    last = next((r for fit in fits.values() for r in fit.rows if r["test_log_likelihood"] is not None), None)
    if last is None:
        return ""
    return (
        f"Test columns are means over {last['test_size']} data that nothing was fitted to, in nats a datum; the "
        f"log-likelihood is that of {last['importance_samples']:,} importance samples from q for each, on the low "
        "side of the true one; ± is 95 % of the sampling, not of which data they are."
    )
