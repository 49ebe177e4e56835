"""What is in the pictures of a fitted autoencoder: which images, where they stand, and of whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from gradmeter.bench.cells import make_problem
from gradmeter.bench.fit import autoencoders
from tests.cli.running import Run


def test_a_mosaic_holds_every_image_in_its_place() -> None:
    images = np.arange(5 * 4, dtype=float).reshape(5, 4)
    whole = autoencoders.mosaic(images, 2, 3)
    assert whole.shape == (5, 8)
    np.testing.assert_array_equal(whole[3:5, 3:5], images[4].reshape(2, 2))
    np.testing.assert_array_equal(whole[0:2, 6:8], images[2].reshape(2, 2))
    assert np.isnan(whole[2]).all()
    assert np.isnan(whole[3:, 6:]).all()
    assert np.isfinite(whole).sum() == images.size


def test_images_of_every_class_are_chosen_in_turn() -> None:
    labels = np.array([3, 1, 1, 0, 3, 0, 0])
    np.testing.assert_array_equal(autoencoders.chosen(labels, 7, 5), [3, 1, 0, 5, 2])
    np.testing.assert_array_equal(autoencoders.chosen(None, 7, 5), np.arange(5))
    problem: Any = make_problem("vae")
    x, found, which = autoencoders.shown(problem)
    assert which == "test"
    assert sorted(found[autoencoders.chosen(found, len(x), 10)]) == list(range(10))


def test_reconstructions_are_the_decoder_at_the_encoders_loc() -> None:
    """Both networks written out here, of one hidden layer; test images above, the means below."""
    problem: Any = make_problem("vae[size=1790,hidden=5,at=initial]")
    p = problem.parameters()
    x = autoencoders.shown(problem)[0]
    np.testing.assert_array_equal(x, problem.test_inputs())
    x = x[autoencoders.chosen(problem.labels()[1790:], 7, 20)]
    hidden = np.tanh(x @ p["encoder.0.weight"] + p["encoder.0.bias"])
    loc = (hidden @ p["encoder.1.weight"] + p["encoder.1.bias"])[:, : problem.latent]
    hidden = np.tanh(loc @ p["decoder.0.weight"] + p["decoder.0.bias"])
    means = 1.0 / (1.0 + np.exp(-(hidden @ p["decoder.1.weight"] + p["decoder.1.bias"])))
    images, across = autoencoders.reconstructed(problem, p)
    assert across == 7
    np.testing.assert_array_equal(images[:7], x)
    np.testing.assert_allclose(images[7:], means, rtol=1e-12)


def test_generated_images_do_not_depend_on_what_was_encoded() -> None:
    problem: Any = make_problem("vae[size=20,hidden=5,at=initial]")
    p = problem.parameters()
    found = autoencoders.generated(problem, p, 12)
    other = {name: a + 1.0 if name.startswith("encoder") else a for name, a in p.items()}
    np.testing.assert_array_equal(found, autoencoders.generated(problem, other, 12))
    assert len(np.unique(found, axis=0)) == 12
    assert 0.0 < found.min() < found.max() < 1.0


def test_a_plane_is_the_decoder_at_quantiles_of_the_prior() -> None:
    """Written out here: the corners, and that each image stands for one 144th of p(z)."""
    problem: Any = make_problem("vae[size=20,hidden=5,at=initial]")
    p, size = problem.parameters(), autoencoders.PLANE
    found = autoencoders.plane(problem, p)
    assert found.shape == (size * size, problem.columns)
    for place, (across, up) in {0: (0, size - 1), size - 1: (size - 1, size - 1), size * (size - 1): (0, 0)}.items():
        z = norm.ppf((np.array([across, up]) + 0.5) / size)
        hidden = np.tanh(z @ p["decoder.0.weight"] + p["decoder.0.bias"])
        means = 1.0 / (1.0 + np.exp(-(hidden @ p["decoder.1.weight"] + p["decoder.1.bias"])))
        np.testing.assert_allclose(found[place], means, rtol=1e-12)


@pytest.mark.slow
def test_what_is_made_up_can_be_read(run_cli: Run) -> None:
    """At the settings that a fit has where nothing is said: by the five real digits nearest to each image. All ten
    classes are there, and most images have neighbours of one class alone, as most real ones of other writers have."""
    assert run_cli("fit", "vae", "--estimator", "pathwise", "--replicates", "0").status == 0
    problem: Any = make_problem("vae", fitted=True)
    with np.load("fit/pathwise.npz") as file:
        images = autoencoders.plane(problem, dict(file))
    x, labels = problem.all_inputs(), problem.labels()
    nearest = np.argsort(((images[:, None, :] - x) ** 2).sum(axis=-1), axis=1)[:, :5]
    alike = [set(row) for row in labels[nearest]]
    sure = [next(iter(classes)) for classes in alike if len(classes) == 1]
    assert set(sure) == set(range(10))
    assert len(sure) >= 0.6 * len(images)


def test_pictures_of_a_fit(run_cli: Run) -> None:
    words = ("--estimator", "pathwise", "--steps", "2", "--replicates", "0")
    assert run_cli("fit", "vae[size=1780,batch=10,hidden=3,latent=3]", *words).status == 0
    page = Path("fit/index.html").read_text(encoding="utf-8")
    for name, title in (
        ("latent", "The latent space"),
        ("reconstructions", "Reconstructions"),
        ("generated", "Generated images"),
    ):
        assert title in page
        picture = Path(f"fit/{name}.svg").read_text(encoding="utf-8")
        assert picture.startswith("<svg")
        assert ("data:image/png;base64" in picture) is (name != "latent")
    assert "the first two of 3 coordinates" in page


def test_rows_that_are_no_square_images_have_only_a_latent_space(run_cli: Run) -> None:
    np.save("bits.npy", np.random.default_rng(0).integers(0, 2, (30, 6)).astype(float))
    words = ("--estimator", "pathwise", "--steps", "2", "--replicates", "0")
    assert run_cli("fit", "vae[dataset=bits.npy,size=20,hidden=3,latent=3]", *words).status == 0
    assert {p.name for p in Path("fit").glob("*.svg")} == {"latent.svg", "objective.svg", "test.svg"}
