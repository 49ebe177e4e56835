"""Labels that stay apart."""

import itertools

import numpy as np

from gradmeter.bench.drawing import curves, plotting, standalone, style
from gradmeter.bench.drawing.figure import Figure, Panel
from gradmeter.bench.report import label_layout
from gradmeter.bench.report.figures.cost import frontier
from gradmeter.estimators import BOUNDS, NAMED_ALONE, VARIANTS


def test_spread_keeps_order_and_distance() -> None:
    wanted, sizes = [50.0, 51.0, 10.0, 52.0, 99.0], [12.0, 24.0, 12.0, 12.0, 12.0]
    centres = plotting.spread(wanted, sizes, 0.0, 100.0)
    order = np.argsort(wanted)
    for a, b in itertools.pairwise(order):
        assert centres[b] - centres[a] >= (sizes[a] + sizes[b]) / 2.0 - 1e-9
    assert all(c - s / 2.0 >= 0.0 and c + s / 2.0 <= 100.0 for c, s in zip(centres, sizes, strict=True))
    assert centres[2] == 10.0  # nothing pushes it


def test_placed_names_cover_nothing() -> None:
    generator = np.random.default_rng(0)
    points = [tuple(p) for p in generator.uniform(50.0, 350.0, (12, 2))]
    markers = [(x - 5.0, y - 5.0, x + 5.0, y + 5.0) for x, y in points]
    found = [b for b in label_layout.place(points, [(80.0, 14.0)] * 12, markers, (0.0, 0.0, 400.0, 400.0)) if b]
    assert len(found) >= 10
    for a, b in [*itertools.combinations(found, 2), *itertools.product(found, markers)]:
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_frontier_is_what_nothing_beats() -> None:
    assert frontier([(1.0, 5.0), (2.0, 5.0), (2.0, 3.0), (3.0, 4.0), (4.0, 1.0)]) == [
        (1.0, 5.0),
        (2.0, 3.0),
        (4.0, 1.0),
    ]


def test_every_estimator_looks_different() -> None:
    names = {*VARIANTS, *BOUNDS, *NAMED_ALONE}
    found = style.styles(names).values()
    assert len(set(found)) == len(names)
    assert not {look.marker for look in found} & set("8H")  # circles, at this size


def test_estimator_names_break_before_their_options() -> None:
    assert plotting.wrapped("score-function[baseline=mean]") == "score-function\n[baseline=mean]"
    long = "linear-vae[size=30,latent=1,importance-samples=8]"
    assert plotting.wrapped(long, 200.0) == "linear-vae\n[size=30,latent=1,\nimportance-samples=8]"
    assert plotting.wrapped("pathwise\nslope −1.00 [−1.01, −0.99]") == "pathwise\nslope −1.00 [−1.01, −0.99]"


def curve(label: str, ends: list[float]) -> curves.Curve:
    made = curves.Curve(label, style.Style("#1f78b8", "o"))
    for x, y in enumerate(ends, 1):
        made.add(float(x), y, 0.9 * y, 1.1 * y)
    return made


def drawn(several: list[curves.Curve], width: float = 400.0) -> tuple[str, list[curves.Curve]]:
    with plotting.styled():
        return curves.panel("f", several, "", "k", "variance", log_x=False, width=width)


def test_a_legend_replaces_labels_that_collide() -> None:
    apart = [curve(f"mine-{i}", [1.0, 10.0**i]) for i in range(4)]
    assert drawn(apart)[1] == []
    together = [curve(f"mine-{i}", [10.0**i, 1.0 + 0.001 * i]) for i in range(9)]
    svg, unlabelled = drawn(together)
    assert unlabelled == together
    assert "mine-" not in svg


def test_panels_fill_the_page() -> None:
    for count in (1, 2):
        svg, _ = drawn([curve("mine", [1.0, 2.0])], curves.width_of(count))
        assert f'viewBox="0 0 {curves.width_of(count):g} ' in svg
        assert count * curves.width_of(count) + (count - 1) * curves.GAP == curves.PAGE


def test_backends_that_agree_are_one_line() -> None:
    close, far = curve("mine · jax", [1.05, 2.1]), curve("mine · torch", [5.0, 9.0])
    first = curve("mine · numpy", [1.0, 2.0])
    assert [c.label for c in curves.folded({"mine": [first, close]})] == ["mine"]
    assert curves.folded({"mine": [first, close, far]}) == [first, close, far]


def test_a_figure_of_its_own_has_its_legend() -> None:
    panel = Panel('<svg viewBox="0 0 400 300"></svg>', "")
    svg = standalone.render(Figure("t", "c", [panel], "", [("<mine>", style.Style("#1f78b8", "o"))]))
    assert "&lt;mine&gt;" in svg
    assert 'viewBox="0 0 400 348"' in svg or 'viewBox="0 0 400 357"' in svg
