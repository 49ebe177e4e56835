"""Text for numbers and verdicts: three significant figures, engineering units, words."""

from __future__ import annotations

import math
from typing import Any

VERDICTS = {"unbiased": "●", "inconclusive": "○", "biased": "✗", "no-reference": "–", "agrees": "●", "disagrees": "✗"}
#: An end of an interval beyond this is infinite.
HIGHEST = 1e200
#: A fraction below this is rounding.
NOTHING = 1e-11
_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: ""}


def significant(value: float | None, digits: int = 3) -> str:
    """Format a number with three significant figures: 12.3, 0.00123, 1.23e6."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0.0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -4 <= exponent < 6:
        decimals = max(0, digits - 1 - exponent)
        rounded = round(value, digits - 1 - exponent)
        return f"{rounded:,.{decimals}f}"
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(power)}"


def seconds(value: float | None) -> str:
    """Format seconds in engineering units: 1.23 µs."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0.0:
        return "0 s"
    power = min(0, max(-15, 3 * math.floor(math.log10(abs(value)) / 3)))
    return f"{significant(value / 10.0**power)} {_PREFIXES[power]}s"


def percent(value: float | None) -> str:
    """Format a fraction as a percentage with two figures; anything below 1e-9 % is 0 %."""
    if value is None or not math.isfinite(value):
        return "–"
    return "0 %" if value < NOTHING else f"{significant(100.0 * value, 2)} %"


def verdict(name: str | None) -> str:
    """Format a verdict as a symbol and a word, so that it never depends on colour alone."""
    return f"{VERDICTS.get(name or '', '?')} {name}" if name else "–"


def bound(row: dict[str, Any]) -> str:
    """Format the bound: `≤ 0.4 %`, `≤ 0.4 % of s.d.`, or `exact` where it is certified and only rounding."""
    value = row["bias_bound"]
    if value is None:
        return ""
    if value < (1e-9 if row["certificate"] == "integration" else NOTHING) and row["verdict"] == "unbiased":
        return "exact"
    return f"≤ {percent(max(value, NOTHING))}{_of(row)}"


def interval(low: float | None, high: float | None) -> str:
    """Format an interval: `[1.90, 2.30]`; empty where it is unknown."""
    if low is None or high is None:
        return ""
    return f"[{significant(low)}, {'∞' if high > HIGHEST else significant(high)}]"


def times(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Format a ratio with its interval: `2.10× [1.90, 2.30]`.

    Parameters
    ----------
    value
        The ratio.
    low
        Lower end of its interval, if there is one.
    high
        Upper end.
    """
    if value is None:
        return "–"
    return f"{significant(value)}× {interval(low, high)}".rstrip()


def bias(row: dict[str, Any]) -> str:
    """Format a row's bias: the estimate where the verdict is `biased`, the certified bound elsewhere."""
    if row["verdict"] in ("biased", "disagrees") and row["bias"] is not None:
        return f"by {percent(row['bias'])}{_of(row)}"
    return bound(row)


def bias_shown(row: dict[str, Any]) -> float | None:
    """Return the number that `bias` formats, to sort by."""
    return row["bias"] if row["verdict"] == "biased" and row["bias"] is not None else row["bias_bound"]


def bias_interval(row: dict[str, Any]) -> str:
    """Format the bias, less sampling noise, with its 95 % interval: `0.4 % [0.2, 0.6]`.

    With a certificate by integration it is `exactly 0.4 %` if the verdict is `biased`, and empty otherwise.
    """
    value, low, high = row["bias"], row["bias_low"], row["bias_high"]
    if value is None or low is None or high is None:
        return ""
    if row["certificate"] == "integration":
        return f"exactly {significant(100.0 * value)} %{_of(row)}" if row["verdict"] == "biased" else ""
    return f"{percent(value)} {interval(100.0 * low, 100.0 * high)}{_of(row)}"


def _of(row: dict[str, Any]) -> str:
    return " of s.d." if _deviation(row) else ""


def _deviation(row: dict[str, Any]) -> bool:
    return row["bias_scale"] == "deviation"


def slope_text(slope: Any) -> str:
    """Format a slope with its interval: `slope −1.00 [−1.01, −0.99]`."""
    decimals = 2 if slope.high - slope.low >= 0.01 else 3
    value, low, high = (f"{v:.{decimals}f}".replace("-", "−") for v in (slope.value, slope.low, slope.high))
    return f"slope {value} [{low}, {high}]"


def count(value: int | None) -> str:
    """Format a whole number with separated thousands."""
    return "–" if value is None else f"{value:,}"


def seconds_interval(low: float | None, high: float | None) -> str:
    """Format an interval of times: `[1.20 µs, 1.30 µs]`; empty where it is unknown."""
    return "" if low is None or high is None else f"[{seconds(low)}, {seconds(high)}]"
