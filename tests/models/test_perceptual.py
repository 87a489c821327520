"""The judge, spaces that need no weights, measures of pixels, and what is kept on disk."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from phosphene.data.simulated import scenes
from phosphene.errors import PhospheneError
from phosphene.metrics import low_level
from phosphene.metrics.presets import PRESETS
from phosphene.models.judge.labels import CATEGORIES, COLOURS, PLACES
from phosphene.models.judge.network import judge_labels, load_judge
from phosphene.models.perceptual.cache import Shelf
from phosphene.models.perceptual.extraction import features
from phosphene.models.perceptual.stamps import missing, stamp

SPACES = {m.name: m.space for name in ("scenes", "pixel") for m in PRESETS[name].metrics if m.space}


def drawn(n: int) -> list[scenes.Scene]:
    return [scenes.sample_scene(np.random.default_rng([99, i]), 1) for i in range(n)]


@pytest.fixture(scope="module")
def pictures():
    return np.stack([scenes.render(s) for s in drawn(60)])


@pytest.fixture(autouse=True)
def no_weights_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.delenv("PHOSPHENE_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def of(name: str, pictures, **settings) -> np.ndarray:
    return features(pictures, [SPACES[name]], **settings)[SPACES[name]].astype(np.float64)


def alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_the_judge_names_fresh_scenes(pictures):
    said = judge_labels(pictures)
    truth = drawn(60)
    for name, choices, wanted in (
        ("category", CATEGORIES, [s.things[0].category for s in truth]),
        ("colour", COLOURS, [s.things[0].colour for s in truth]),
        ("place", PLACES, [s.place for s in truth]),
    ):
        right = np.mean(
            [choices[k] == w for k, w in zip(said[name].argmax(1), wanted, strict=True)]
        )
        assert right >= 0.95, name


def test_features_are_rows_and_do_not_depend_on_the_batch(pictures):
    together = features(pictures, list(SPACES.values()))
    assert set(together) == set(SPACES.values())
    alone = features(pictures[40:41], list(SPACES.values()))
    for space, rows in together.items():
        assert rows.shape[0] == 60 and rows.dtype == np.float16
        np.testing.assert_array_equal(rows[40:41], alone[space])


def test_judge_features_are_the_layers_of_the_judge(pictures):
    with torch.inference_mode():
        x = torch.from_numpy(pictures[:16]).permute(0, 3, 1, 2).float() / 255
        layers = load_judge().layers(x)
    for name, layer in layers.items():
        np.testing.assert_allclose(
            of(name, pictures[:16]), layer.flatten(1).numpy(), rtol=1e-3, atol=1e-4
        )


def test_pixels_are_the_picture(pictures):
    wanted = pictures[:2].transpose(0, 3, 1, 2).reshape(2, -1) / 255
    np.testing.assert_allclose(of("pixels", pictures[:2]), wanted, atol=5e-4)


def test_wrong_input_is_refused(pictures):
    with pytest.raises(PhospheneError, match="picture 0: found .* expected uint8"):
        features(pictures.astype(float), [SPACES["pixels"]])
    with pytest.raises(PhospheneError, match="picture 1: found values from 0 to 2"):
        features([pictures[0], np.full((4, 4, 3), [0, 1, 2], np.float32)], [SPACES["pixels"]])
    with pytest.raises(PhospheneError, match="found 3 reconstructions and 2 originals"):
        low_level.pixcorr(pictures[:3], pictures[:2], PRESETS["pixel"].metrics[0])


def test_pictures_of_several_sizes_are_read_one_at_a_time():
    held = []

    class Lazy:
        def __len__(self):
            return 40

        def __getitem__(self, k):
            held.append(k)
            return np.full((60 + k, 80, 3), 5 * k, np.uint8)

    rows = of("pixels", Lazy())
    assert held == list(range(40))
    np.testing.assert_allclose(rows[:, 0], 5 * np.arange(40) / 255, atol=5e-4)


# Gabor energy and colour


def grating(
    cycles: float, degrees: float, contrast: float = 0.4, offset: float = 0.5, side: int = 128
) -> np.ndarray:
    y, x = np.mgrid[:side, :side] / side
    angle = np.deg2rad(degrees)
    wave = np.sin(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)))
    return np.repeat((offset + contrast * wave)[..., None], 3, axis=2).astype(np.float32)


@pytest.mark.parametrize(("level", "cycles"), [(0, 32), (1, 16), (2, 8)])
@pytest.mark.parametrize("orientation", [0, 2, 4, 7])
def test_gabor_energy_tells_scale_and_orientation(level, cycles, orientation):
    energy = of("gabor", [grating(cycles, 22.5 * orientation)]).reshape(4, 8, 8, 8)
    middle = energy[:, :, 2:6, 2:6].mean((2, 3))
    assert np.unravel_index(middle.argmax(), middle.shape) == (level, orientation)


def test_gabor_energy_ignores_brightness_and_follows_contrast():
    rows = of(
        "gabor", [grating(8, 45, 0.2, 0.3), grating(8, 45, 0.2, 0.7), grating(8, 45, 0.1, 0.5)]
    )
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-3 * rows[0].max())
    np.testing.assert_allclose(rows[0], 2 * rows[2], atol=2e-3 * rows[0].max())
    assert of("gabor", [np.full((50, 70, 3), 99, np.uint8)]).max() < 1e-5


def test_gabor_energy_bears_a_small_shift_and_notices_another_scene(pictures):
    big = [np.asarray(Image.fromarray(p).resize((128, 128))) for p in pictures[:2]]
    shifted = np.roll(big[0], 2, axis=1)
    rows = of("gabor", [big[0], shifted, big[1]])
    assert alike(rows[0], rows[1]) > 0.95 > alike(rows[0], rows[2])
    assert alike(rows[0], rows[1]) > alike(*(of("pixels", [p])[0] for p in (big[0], shifted)))


def test_colour_is_what_there_is_not_where(pictures):
    first = pictures[0]
    rng = np.random.default_rng(0)
    elsewhere = rng.permutation(first.reshape(-1, 3)).reshape(first.shape)
    rows = of("colour", [first, elsewhere, first[:, ::-1], first[..., ::-1], pictures[1]])
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])
    assert alike(rows[0], rows[3]) < 0.9 and alike(rows[0], rows[4]) < 0.9
    np.testing.assert_allclose((rows**2).sum(1), 1, atol=1e-3)  # shares of the picture


def test_near_colours_are_near():
    red, orange, blue = (
        [np.full((8, 8, 3), c, np.uint8)] for c in ((200, 30, 30), (200, 60, 30), (30, 30, 200))
    )
    assert alike(of("colour", red), of("colour", orange)) > alike(
        of("colour", red), of("colour", blue)
    )


# Pixels


@pytest.mark.parametrize("preset", ["braindiffuser", "mindeye", "pixel"])
def test_a_picture_is_like_itself_and_undefined_is_nan(pictures, preset):
    pixcorr, ssim = PRESETS[preset].metrics[:2]
    np.testing.assert_allclose(low_level.pixcorr(pictures[:2], pictures[:2], pixcorr), 1)
    np.testing.assert_allclose(
        low_level.pixcorr(255 - pictures[:2], pictures[:2], pixcorr), -1, atol=1e-5
    )
    np.testing.assert_allclose(low_level.ssim(pictures[:2], pictures[:2], ssim), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(
            low_level.pixcorr([np.zeros((9, 9, 3), np.uint8)], pictures[:1], pixcorr)
        ).all()


# Kept on disk


@pytest.fixture
def counted(monkeypatch):
    """How many pictures were prepared, that is: not found in the cache."""
    from phosphene.models.perceptual import extraction

    count = []
    prepare = extraction.prepare
    monkeypatch.setattr(extraction, "prepare", lambda *given: count.append(1) or prepare(*given))
    return count


def test_kept_features_are_the_same_bits_and_found_by_content(pictures, tmp_path, counted):
    spaces = [SPACES["judge-late"], SPACES["gabor"]]
    fresh = features(pictures, spaces)
    counted.clear()
    features(pictures[:50], spaces, cache=tmp_path)
    assert len(counted) == 100  # for each space
    mixed = features(pictures[::-1], spaces, cache=tmp_path)
    assert len(counted) == 120
    for space in spaces:
        np.testing.assert_array_equal(mixed[space][::-1], fresh[space])
    counted.clear()
    features(pictures, spaces, cache=tmp_path)
    assert not counted
    # another type or shape is another picture although the bytes are the same
    features(pictures.reshape(-1, 32, 128, 3), spaces[:1], cache=tmp_path)
    assert len(counted) == 60


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_named_and_made_again(pictures, tmp_path, counted, damage):
    space = SPACES["judge-late"]
    fresh = features(pictures, [space], cache=tmp_path)[space]
    file = next(tmp_path.rglob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes({"cut": data[:-9], "flipped": data, "empty": b""}[damage])
    counted.clear()
    with pytest.warns(UserWarning, match=f"{file.name}: damaged"):
        again = features(pictures, [space], cache=tmp_path)[space]
    assert len(counted) == 60
    np.testing.assert_array_equal(again, fresh)
    counted.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features(pictures, [space], cache=tmp_path)
    assert not counted


def test_two_writers_at_once_do_no_harm(tmp_path):
    rows = {f"{k:032x}": np.full(5, k, np.float16) for k in range(100)}
    both = [Shelf(tmp_path, {}), Shelf(tmp_path, {})]  # each opened before the other has written
    for digest, row in rows.items():
        for shelf in both:
            shelf.put(digest, row)
    for shelf in both:
        shelf.close()
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".safetensors"]
    third = Shelf(tmp_path, {})
    for digest, row in rows.items():
        np.testing.assert_array_equal(third.get(digest), row)


def test_a_cache_that_cannot_be_written_is_named(pictures, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PhospheneError, match="features cannot be written"):
        features(pictures[:1], [SPACES["pixels"]], cache=tmp_path / "file")


def test_large_numbers_stay_float32():
    from phosphene.models.perceptual.extraction import _rounded, _Rows

    rows = _Rows(2)
    rows.put(0, _rounded(np.array([1 / 3, 2.0], np.float32)))
    assert rows.array.dtype == np.float16
    rows.put(1, _rounded(np.array([1 / 3, 1e5], np.float32)))
    third = np.float32(1 / 3)
    wanted = np.array([[np.float16(1 / 3), 2], [third, 1e5]], np.float32)
    np.testing.assert_array_equal(rows.array, wanted)


# Weights that are not there


@pytest.mark.parametrize(
    ("preset", "metric", "file", "address"),
    [
        ("takagi2023", 0, "alexnet-owt-7be5be79.pth", "models/alexnet-owt-7be5be79.pth"),
        (
            "mindeye",
            4,
            "inception_v3_google-0cc3c7bd.pth",
            "models/inception_v3_google-0cc3c7bd.pth",
        ),
        (
            "braindiffuser",
            6,
            "efficientnet_b1_rwightman-bac287d4.pth",
            "bac287d4.pth",
        ),  # first weights
        ("mindeye", 6, "efficientnet_b1-c27df63c.pth", "c27df63c.pth"),  # second weights
        ("mindeye", 7, "swav_800ep_pretrain.pth.tar", "deepcluster/swav_800ep_pretrain.pth.tar"),
        ("mindeye", 5, "clip-vit-large-patch14/model.safetensors", "openai/clip-vit-large-patch14"),
    ],
)
def test_missing_weights_are_one_sentence(
    pictures, tmp_path, monkeypatch, preset, metric, file, address
):
    monkeypatch.setattr("phosphene.models.perceptual.weights._in_hugging_face_cache", lambda: None)
    space = PRESETS[preset].metrics[metric].space
    sentence = missing(space, tmp_path / "mine")
    for said in (
        file,
        address,
        str(tmp_path / "mine"),
        str(tmp_path / "hub" / "checkpoints"),
        "PHOSPHENE_WEIGHTS",
    ):
        assert said in sentence
    assert "\n" not in sentence and sentence.endswith(".")
    with pytest.raises(PhospheneError) as refused:
        features(pictures[:1], [space], weights=tmp_path / "mine")
    assert str(refused.value) == sentence
    with pytest.raises(PhospheneError, match="found no"):
        stamp(space, tmp_path / "mine")


def test_clip_is_found_in_the_cache_of_hugging_face(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    space = PRESETS["mindeye"].metrics[5].space
    assert "nor in the cache of Hugging Face" in missing(space)
    repository = tmp_path / "models--openai--clip-vit-large-patch14"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc" / "config.json").write_text("{}")
    assert missing(space) is not None  # half of it
    (repository / "snapshots" / "abc" / "model.safetensors").write_text("")
    assert missing(space) is None


def test_what_ships_is_never_missing():
    assert all(missing(space) is None for space in SPACES.values())
    assert len({stamp(space) for space in SPACES.values()}) == len(SPACES)
