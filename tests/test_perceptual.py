"""The judge and the perceptual spaces."""

import numpy as np
import pytest

from phosphene import perceptual
from phosphene.data import scenes
from phosphene.errors import PhospheneError


def drawn(n: int) -> list[scenes.Scene]:
    return [scenes.sample_scene(np.random.default_rng([99, i]), 1) for i in range(n)]


@pytest.fixture(scope="module")
def pictures():
    return np.stack([scenes.render(s) for s in drawn(60)])


def test_the_judge_names_fresh_scenes(pictures):
    said = perceptual.judge_labels(pictures)
    truth = drawn(60)
    for name, choices, wanted in (
        ("category", perceptual.CATEGORIES, [s.things[0].category for s in truth]),
        ("colour", perceptual.COLOURS, [s.things[0].colour for s in truth]),
        ("place", perceptual.PLACES, [s.place for s in truth]),
    ):
        right = np.mean([choices[k] == w for k, w in zip(said[name].argmax(1), wanted, strict=True)])
        assert right >= 0.95, name


def test_features_are_rows_and_do_not_depend_on_the_batch(pictures):
    together = perceptual.features(pictures)
    assert set(together) == set(perceptual.SPACES)
    for space, rows in together.items():
        assert rows.shape[0] == 60 and rows.dtype == np.float32
        alone = perceptual.features(pictures[40:41], [space])[space]
        np.testing.assert_allclose(rows[40:41], alone, rtol=1e-3, atol=1e-3)


def test_pixels_are_the_picture(pictures):
    pixels = perceptual.features(pictures[:2], ["pixels"])["pixels"]
    np.testing.assert_allclose(pixels, pictures[:2].transpose(0, 3, 1, 2).reshape(2, -1) / 255, atol=1e-6)


def test_wrong_input_is_refused(pictures):
    with pytest.raises(PhospheneError, match="unknown space 'clip'"):
        perceptual.features(pictures, ["clip"])
    with pytest.raises(PhospheneError, match="expected uint8"):
        perceptual.features(pictures.astype(float))
