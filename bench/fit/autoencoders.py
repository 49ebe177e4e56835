"""Figures of a fitted autoencoder: reconstructed images, generated images, and the data in latent space.

Images are means of p(x | z), not samples: at z = loc(x) next to x, and at z ~ N(0, I). If z has two coordinates, the
latter are instead taken at the centres of cells of equal probability, arranged as in the plane, so that neighbours are
similar.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

from gradmeter.bench.drawing import plotting
from gradmeter.bench.drawing.figure import Figure, Panel, identifier
from gradmeter.bench.drawing.style import INK, Style
from gradmeter.bench.fit.run import Fit
from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.problems.vae.autoencoder import Autoencoder
from gradmeter.estimators.noise import stream_root

#: Largest number of fits drawn; images per row, rows of generated images, and pairs of rows of reconstructed images.
MOST_PANELS, ACROSS, DOWN, PAIRS = 6, 10, 6, 2
#: Images along each coordinate of the latent plane, and the latent dimension for which it is drawn.
PLANE, PLANAR = 12, 2
#: Size of an image pixel in page pixels; gap between images in image pixels.
PIXEL, BETWEEN = 4, 1
SIDE = 300.0
#: Colours of the classes 0 to 9, which are also labelled.
COLOURS = (
    "#1f78b8",
    "#d55e00",
    "#9a57c4",
    "#c98500",
    "#d4594f",
    "#2f8fa8",
    "#b5477b",
    "#808a96",
    "#7a4a1e",
    "#5b5fd0",
)


def figures(fits: dict[str, Fit], styles: dict[str, Style], command: str) -> dict[str, Figure | None]:
    """Return the figures by file name; none if the problem is not an autoencoder."""
    problem = next(iter(fits.values())).plan.problem
    fitted = {name: fit.parameters for name, fit in fits.items() if fit.parameters}
    if not isinstance(problem, Autoencoder) or not fitted:
        return {}
    drawn = dict(list(fitted.items())[:MOST_PANELS])
    rest = f" {len(fitted) - len(drawn)} more fits are not drawn." if len(fitted) > len(drawn) else ""
    found: dict[str, Figure | None] = {"latent": _latent(problem, drawn, styles, rest, command)}
    if problem.side is not None:
        found["reconstructions"] = _reconstructions(problem, drawn, rest, command)
        found["generated"] = _generated(problem, drawn, rest, command)
    return found


def shown(problem: Autoencoder) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Return the rows drawn [M, P], their classes and their name: the test data or, without any, the fitted data."""
    inputs, labels = problem.test_inputs(), problem.labels()
    some = slice(problem.rows, problem.rows + len(inputs))
    if not len(inputs):
        inputs, some = problem.inputs(), slice(0, problem.rows)
        return inputs, None if labels is None else labels[some], "fitted"
    return inputs, None if labels is None else labels[some], "test"


def located(problem: Autoencoder, parameters: Vectors, x: np.ndarray) -> np.ndarray:
    """Return loc of q(z | x) for every row [M, L]."""
    return np.asarray(problem.encoder.apply(np, {"inputs": x, **parameters}, None)["loc"][0])


def mosaic(images: np.ndarray, side: int, across: int) -> np.ndarray:
    """Arrange images [M, side²] row by row in one array, with NaN in the gaps and at the end of the last row."""
    down = -(-len(images) // across)
    step = side + BETWEEN
    whole = np.full((down * step - BETWEEN, across * step - BETWEEN), np.nan)
    for i, image in enumerate(images):
        top, left = (i // across) * step, (i % across) * step
        whole[top : top + side, left : left + side] = image.reshape(side, side)
    return whole


def chosen(labels: np.ndarray | None, rows: int, count: int) -> np.ndarray:
    """Return the row numbers of `count` images, from every class in turn, or the first ones without classes."""
    if labels is None:
        return np.arange(min(rows, count))
    rank = np.zeros(rows, dtype=int)
    for label in np.unique(labels):
        rank[labels == label] = np.arange(np.count_nonzero(labels == label))
    return np.lexsort((labels, rank))[:count]


def reconstructed(problem: Autoencoder, parameters: Vectors) -> tuple[np.ndarray, int]:
    """Return rows of originals alternating with rows of their reconstructions [M, side²], and the number per row."""
    x, labels, _ = shown(problem)
    x = x[chosen(labels, len(x), ACROSS * PAIRS)]
    means = problem.integrand.mean(np, parameters, located(problem, parameters, x))
    across = min(ACROSS, len(x))
    rows = [part[first : first + across] for first in range(0, len(x), across) for part in (x, means)]
    blank = np.full((across, x.shape[1]), np.nan)
    return np.concatenate([np.concatenate([row, blank])[:across] for row in rows]), across


def _reconstructions(problem: Autoencoder, fitted: dict[str, Vectors], rest: str, command: str) -> Figure:
    panels = []
    for name, parameters in fitted.items():
        images, across = reconstructed(problem, parameters)
        panels.append(_images("reconstructions", name, problem, images, across, "Images and their reconstructions"))
    caption = f"Odd rows: {shown(problem)[2]} images. Even rows: the mean of p(x | z) at z = loc(x), below each.{rest}"
    return Figure("Reconstructions", caption, panels, command)


def generated(problem: Autoencoder, parameters: Vectors, count: int) -> np.ndarray:
    """Return means of p(x | z) [count, P] at z ~ N(0, I), with the same z for all fits."""
    generator = np.random.Generator(np.random.PCG64(stream_root("generated", problem.latent)))
    z = generator.standard_normal((count, problem.latent))
    return np.asarray(problem.integrand.mean(np, parameters, z))


def plane(problem: Autoencoder, parameters: Vectors) -> np.ndarray:
    """Return means of p(x | z) [PLANE², P] at the midpoint quantiles of N(0, 1) in both coordinates.

    The first coordinate increases from left to right, the second from bottom to top.
    """
    middles = [NormalDist().inv_cdf((i + 0.5) / PLANE) for i in range(PLANE)]
    across, up = np.meshgrid(middles, middles[::-1])
    return np.asarray(problem.integrand.mean(np, parameters, np.stack([across.ravel(), up.ravel()], axis=1)))


def _generated(problem: Autoencoder, fitted: dict[str, Vectors], rest: str, command: str) -> Figure:
    flat = problem.latent == PLANAR
    panels = []
    for name, parameters in fitted.items():
        images = plane(problem, parameters) if flat else generated(problem, parameters, ACROSS * DOWN)
        across = PLANE if flat else ACROSS
        panels.append(_images("generated", name, problem, images, across, "Images that are made up"))
    where = (
        f"over the plane of z, at {PLANE} quantiles of N(0, 1) in each coordinate, so that each image stands for as "
        "much of p(z) as any other; coordinate 1 goes from left to right, 2 from below to above"
        if flat
        else "at z ~ N(0, I), at the same z for all fits"
    )
    return Figure("Generated images", f"The mean of p(x | z) {where}.{rest}", panels, command)


def _images(kind: str, name: str, problem: Autoencoder, images: np.ndarray, across: int, alt: str) -> Panel:
    import matplotlib

    assert problem.side is not None
    whole = mosaic(images, problem.side, across)
    pixels = np.kron(whole, np.ones((PIXEL, PIXEL)))
    canvas, axes = plotting.panel(pixels.shape[1] + 16.0, pixels.shape[0] + 34.0, 8.0, 8.0, bottom=8.0)
    colours = matplotlib.colormaps["gray_r"].with_extremes(bad=(0.0, 0.0, 0.0, 0.0))
    axes.imshow(np.ma.masked_invalid(pixels), cmap=colours, vmin=0.0, vmax=1.0, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    axes.set_title(name, loc="left")
    return Panel(plotting.svg(canvas, identifier(kind, name)), f"{alt}: {name}")


def _latent(
    problem: Autoencoder, fitted: dict[str, Vectors], styles: dict[str, Style], rest: str, command: str
) -> Figure | None:
    if problem.latent < PLANAR:
        return None
    x, labels, which = shown(problem)
    panels = []
    for name, parameters in fitted.items():
        loc = located(problem, parameters, x)[:, :2]
        canvas, axes = plotting.panel(SIDE + 60.0, SIDE + 68.0, 48.0, 12.0)
        if labels is None:
            axes.scatter(loc[:, 0], loc[:, 1], s=9.0, color=styles[name].colour, alpha=0.6, linewidths=0.0)
        else:
            _written(axes, loc, labels)
        axes.set_title(name, loc="left")
        axes.set_xlabel("z, coordinate 1")
        axes.set_ylabel("z, coordinate 2")
        panels.append(Panel(plotting.svg(canvas, identifier("latent", name)), f"{which} data in z: {name}"))
    first = f"the first two of {problem.latent} coordinates of " if problem.latent > 2 else ""
    marks = " A mark is the class of its row, which no fit has seen." if labels is not None else ""
    return Figure("The latent space", f"For the {which} data, {first}loc of q(z | x).{marks}{rest}", panels, command)


def _written(axes: Any, places: np.ndarray, labels: np.ndarray) -> None:
    """Write every row's class as a numeral in the colour of the class."""
    axes.scatter(places[:, 0], places[:, 1], s=0.0)
    for (across, up), label in zip(places, labels, strict=True):
        colour = COLOURS[int(label)] if 0 <= label < len(COLOURS) else INK
        axes.text(across, up, str(label), color=colour, fontsize=8.0, ha="center", va="center", clip_on=True)
