"""The drawn scenes: seeded, described truthfully, masked where things are seen."""

from dataclasses import replace

import numpy as np
import pytest

from phosphene.data.simulated import scenes
from phosphene.models.judge.labels import CATEGORIES, COLOURS, PLACES


def scene(seed: int, n_objects: int | None = None) -> scenes.Scene:
    return scenes.sample_scene(np.random.default_rng(seed), n_objects)


def test_the_world_is_as_large_as_promised():
    assert len(scenes.CATEGORIES) >= 16 and len(scenes.COLOURS) >= 8 and len(scenes.PLACES) >= 8
    assert {"face", "house", "cat", "bottle", "scissors", "shoe", "chair", "scrambled"} <= set(
        scenes.CATEGORIES
    )


def test_the_judge_and_the_scenes_speak_of_the_same_things():
    assert CATEGORIES == scenes.CATEGORIES
    assert COLOURS == scenes.COLOURS
    assert PLACES == scenes.PLACES


def test_a_seed_gives_one_scene_and_one_picture():
    assert scene(7) == scene(7) != scene(8)
    assert np.array_equal(scenes.render(scene(7)), scenes.render(scene(7)))


@pytest.mark.parametrize("size", [32, 64, 100])
def test_pictures_have_the_size_asked_for(size):
    picture = scenes.render(scene(1), size)
    assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
    assert scenes.masks(scene(1, 2), size).shape == (2, size, size)


def test_every_category_and_place_can_be_drawn():
    for category in scenes.CATEGORIES:
        for k, place in enumerate(scenes.PLACES):
            thing = scenes.Thing(category, scenes.COLOURS[k % len(scenes.COLOURS)], 0.5, 0.6, 0.6)
            picture = scenes.render(scenes.Scene(place, (thing,)))
            assert picture.std() > 10


def test_masks_are_where_removing_the_thing_changes_the_picture():
    for seed in range(10):
        whole = scene(seed, 1)
        empty = replace(whole, things=())
        changed = (scenes.render(whole) != scenes.render(empty)).any(2)
        mask = scenes.masks(whole)[0]
        assert mask.sum() > 100
        assert changed[mask].mean() > 0.97
        # beyond the thing only its shadow and its soft edge change anything
        assert (changed & ~mask).sum() < 0.6 * mask.sum() + 200


def test_nearer_things_hide_farther_ones():
    near = scenes.Thing("ball", "red", 0.5, 0.6, 0.5)
    far = scenes.Thing("ball", "blue", 0.5, 0.58, 0.5)
    far_mask, near_mask = scenes.masks(scenes.Scene("beach", (far, near)))
    assert not (far_mask & near_mask).any() and near_mask.sum() > 10 * far_mask.sum()


def test_five_captions_in_different_words_say_what_is_there():
    for seed in range(40):
        drawn = scene(seed)
        said = scenes.captions(drawn)
        assert len(set(said)) == 5
        for thing in drawn.things:
            for sentence in said:
                assert any(word in sentence for word in scenes.CATEGORY_WORDS[thing.category])
            for sentence in said[:4]:
                assert any(word in sentence for word in scenes.COLOUR_WORDS[thing.colour])
        for sentence in said[:4]:
            assert any(words in sentence for words in scenes.PLACE_WORDS[drawn.place])


def test_one_or_two_things_never_of_one_kind():
    drawn = [scene(seed) for seed in range(300)]
    two = [d for d in drawn if len(d.things) == 2]
    assert 0.25 < len(two) / len(drawn) < 0.45
    assert all(d.things[0].category != d.things[1].category for d in two)
