"""How numbers are written."""

import pytest

from gradmeter.bench.drawing import plotting
from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.results import cleaned
from gradmeter.bench.reading.slopes import Slope


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0"),
        (12.345, "12.3"),
        (0.00123456, "0.00123"),
        (999.6, "1,000"),
        (123456.0, "123,000"),
        (1.234e6, "1.23e6"),
        (1.2e-7, "1.20e-7"),
        (-0.5, "-0.500"),
    ],
)
def test_significant(value: float | None, text: str) -> None:
    assert numbers.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0 s"), (1.5, "1.50 s"), (1.234e-6, "1.23 µs"), (9.48e-9, "9.48 ns"), (0.012, "12.0 ms")],
)
def test_seconds(value: float | None, text: str) -> None:
    assert numbers.seconds(value) == text


def test_ratios_and_intervals() -> None:
    assert numbers.times(2.1, 1.9, 2.3) == "2.10× [1.90, 2.30]"
    assert numbers.times(2.1) == "2.10×"
    assert numbers.times(None) == "–"
    assert numbers.interval(None, 1.0) == ""
    assert numbers.slope_text(Slope(-1.0, -1.1, -0.9, 0.0)) == "slope −1.00 [−1.10, −0.90]"
    assert numbers.slope_text(Slope(-1.0, -1.002, -0.998, 0.0)) == "slope −1.000 [−1.002, −0.998]"


def test_every_verdict_has_a_shape_and_a_word_of_its_own() -> None:
    texts = [numbers.verdict(name) for name in ("unbiased", "inconclusive", "biased")]
    assert len({text.split()[0] for text in texts}) == 3
    assert [text.split()[1] for text in texts] == ["unbiased", "inconclusive", "biased"]


def test_bias_of_a_biased_cell_is_its_size_and_else_a_bound() -> None:
    row = {"verdict": "biased", "bias": 0.12, "bias_low": 0.1, "bias_high": 0.14, "bias_bound": 0.2}
    row |= {"certificate": "sampling", "bias_scale": "gradient"}
    assert numbers.bias(row) == "by 12 %"
    assert numbers.bias({**row, "verdict": "inconclusive"}) == "≤ 20 %"
    assert numbers.bias({**row, "bias_scale": "deviation"}) == "by 12 % of s.d."
    assert numbers.bias({**row, "verdict": None, "bias_bound": None}) == ""
    assert numbers.bias({**row, "verdict": "unbiased", "bias_bound": 1e-15}) == "exact"
    assert numbers.bias({**row, "verdict": "inconclusive", "bias_bound": 1e-15}) == "≤ 1.0e-9 %"
    assert [numbers.bias_shown({**row, "verdict": name}) for name in ("biased", "unbiased")] == [0.12, 0.2]
    assert numbers.bias_interval(row) == "12 % [10.0, 14.0]"
    row = {**row, "certificate": "integration"}
    assert numbers.bias_interval(row) == "exactly 12.0 %"
    assert numbers.bias_interval({**row, "verdict": "unbiased"}) == ""
    assert numbers.bias_interval({**row, "bias": None}) == ""


@pytest.mark.parametrize(
    ("value", "write", "text"),
    [
        (1e-6, numbers.seconds, "1 µs"),
        (0.5, numbers.times, "0.5×"),
        (1000.0, numbers.significant, "1,000"),
        (-1.5, numbers.significant, "−1.5"),
        (1e-9, numbers.significant, "1e-9"),
    ],
)
def test_ticks_have_no_idle_zeros(value: float, write: object, text: str) -> None:
    assert plotting.tick_text(value, write) == text


def test_strings_from_a_store_become_printable() -> None:
    shown = cleaned({"reason": "a\ud800\u202e\nb", "problem_options": {"k\x00": ["\u2028"]}, "variance": -1.0})
    assert shown == {"reason": "a   b", "problem_options": {"k ": "['\\u2028']"}, "variance": None}
    assert numbers.interval(1.0, 1.7e308) == "[1.00, ∞]"
