"""COCO's annotations against what was written, the scenes' own masks, PIL, and a cache that is
missing, old or torn.
"""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ijson
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as pycoco
from scipy import ndimage
from skimage.color import rgb2lab

from phosphene.data.coco import BACKGROUND, Coco, colour
from phosphene.data.simulated.scenes import CATEGORIES, masks
from phosphene.data.simulated.simulate import read_scenes, simulate
from phosphene.errors import PhospheneError

# pycocotools 2.0.11 with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SPLIT = "train2017"
SIDE = 48
WHOLE = (0.0, 0.0, 0.0, 0.0)
HEIGHT = 30
WIDTH = 40
CONTENT: dict[str, Any] = {
    "images": [
        {"id": 9, "width": WIDTH, "height": HEIGHT},
        {"id": 4, "width": WIDTH, "height": HEIGHT},
    ],
    "categories": [
        {"id": 1, "name": "person"},
        {"id": 18, "name": "dog"},
        {"id": 90, "name": "toothbrush"},
    ],
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "phosphene" / "coco"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco") / "nsd"
    return simulate(
        folder, images_shared=4, images_own=20, sessions=3, picture_size=SIDE, voxel_size=16.0
    )


def thing(
    segmentation: Any, category: int = 1, area: float = 1.0, box: Any = (0, 0, 9, 9)
) -> dict[str, Any]:
    return {
        "image_id": 4,
        "category_id": category,
        "area": area,
        "bbox": list(box),
        "segmentation": segmentation,
    }


def square(row: int, column: int, side: int) -> list[list[int]]:
    return [[column, row, column + side, row, column + side, row + side, column, row + side]]


def write(folder: Path, *things: dict[str, Any]) -> Coco:
    folder.mkdir(exist_ok=True)
    said = [
        {"image_id": image, "caption": text}
        for image, text in ((4, " two \n"), (9, "nine"), (4, "one"))
    ]
    (folder / "captions_train2017.json").write_text(
        json.dumps({"images": CONTENT["images"], "annotations": said})
    )
    entire = {**CONTENT, "annotations": things or [thing(square(2, 3, 4), area=16)]}
    (folder / "instances_train2017.json").write_text(json.dumps(entire))
    return Coco(folder)


def crop_of(text: str) -> tuple[float, float, float, float]:
    top, bottom, left, right = map(float, text.strip("()").split(","))
    return top, bottom, left, right


def test_maps_are_the_masks_of_the_scenes(simulated: Path) -> None:
    coco = Coco(simulated / "nsddata_stimuli/stimuli/nsd/annotations")
    table = pd.read_csv(simulated / "nsddata/experiments/nsd/nsd_stim_info_merged.csv", index_col=0)
    scenes = read_scenes(simulated)
    cropped = 0
    for image, row in table.iterrows():
        where = (int(row["cocoId"]), row["cocoSplit"], crop_of(row["cropBox"]))
        expected = np.zeros((SIDE, SIDE), int)
        for kind, mask in zip(scenes[image].things, masks(scenes[image], SIDE), strict=True):
            expected[mask] = CATEGORIES.index(kind.category) + 1
        assert np.array_equal(coco.labels(*where, SIDE), expected)
        half = coco.labels(*where, SIDE // 2)
        # nearest neighbour: the pixel right of and below the middle
        assert np.array_equal(half, expected[1::2, 1::2])
        picture = coco.segmentation(*where, SIDE)
        assert picture.dtype == np.uint8 and picture.shape == (SIDE, SIDE, 3)
        assert (picture[expected == 0] == BACKGROUND).all()
        for category in set(expected[expected > 0]):
            assert (picture[expected == category] == colour(category)).all()
        assert set(coco.categories(*where)) == {kind.category for kind in scenes[image].things}
        cropped += any(where[2])
    assert cropped > 10 and len(table) == 24


def test_captions_in_the_order_of_the_file(tmp_path: Path) -> None:
    coco = write(tmp_path / "coco")
    assert coco.captions(4, SPLIT) == ["two", "one"] and coco.captions(9, SPLIT) == ["nine"]


def test_rows_of_many_images(tmp_path: Path) -> None:
    coco = write(tmp_path / "coco")  # more images than a row group holds, in no order
    ids = np.random.default_rng(0).permutation(1000)[:400]
    images = [{"id": int(image), "width": 20, "height": 20} for image in ids]
    things = [
        thing(square(0, 0, 1 + int(image) % 13), box=(0, 0, 9, 9)) | {"image_id": int(image)}
        for image in ids
    ]
    content = {**CONTENT, "images": images, "annotations": things[::-1]}
    (coco.folder / "instances_train2017.json").write_text(json.dumps(content))
    for image in ids[::7]:
        assert coco.labels(int(image), SPLIT, WHOLE, 20).sum() == (1 + image % 13) ** 2


def test_polygons_against_pil(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    for number in range(5):
        angles = np.sort(draw.uniform(0, 2 * np.pi, 9))
        radius = draw.uniform(5, 13, 9)
        shape = np.stack([20 + radius * np.cos(angles), 15 + radius * np.sin(angles)], 1)
        coco = write(
            tmp_path / f"coco{number}",
            thing([shape.ravel().round(2).tolist(), square(0, 0, 4)[0]], 18),
        )
        mask = coco.labels(4, SPLIT, (0, 0, 0, 0.25), HEIGHT) == 18  # the left 30 of 40 columns
        # PIL's pixel edges do not matter on a fine canvas
        drawn = Image.new("1", (10 * WIDTH, 10 * HEIGHT))
        ImageDraw.Draw(drawn).polygon([tuple(10 * point) for point in shape], fill=1)
        ImageDraw.Draw(drawn).rectangle((0, 0, 39, 39), fill=1)
        share = np.asarray(drawn, float).reshape(HEIGHT, 10, WIDTH, 10).mean((1, 3))[:, :HEIGHT]
        inside = ndimage.binary_erosion(share > 0.99, iterations=1, border_value=1)
        assert (
            mask[inside].all()
            and not mask[~ndimage.binary_dilation(share > 0.01)].any()
            and inside.sum() > 50
        )
        assert abs(mask.sum() - share.sum()) < 0.12 * share.sum()


def test_every_kind_of_outline_gives_the_same(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[4:9, 3:20] = 1
    mask[20:, 39] = 1
    flat = mask.T.ravel()
    plain = {
        "size": [HEIGHT, WIDTH],
        "counts": [len(list(run)) for _, run in itertools.groupby(flat)],
    }
    packed = pycoco.encode(np.asfortranarray(mask))
    polygons = [[3, 4, 20, 4, 20, 9, 3, 9], [39, 20, 40, 20, 40, 30, 39, 30]]
    for number, outline in enumerate(
        (plain, {**packed, "counts": packed["counts"].decode()}, polygons)
    ):
        coco = write(tmp_path / f"coco{number}", thing(outline, 90))
        found = coco.labels(4, SPLIT, (0, 0, 0.25, 0), HEIGHT)
        assert np.array_equal(found, 90 * mask[:, 10:].astype(int))


def test_small_things_before_large_ones_crowds_included(tmp_path: Path) -> None:
    # everywhere, and later in the file
    crowd = {
        "size": [HEIGHT, WIDTH],
        "counts": [0, HEIGHT * WIDTH],
    }
    things = [
        thing(square(5, 5, 4), 18, 16),
        thing(crowd, 1, 1200) | {"iscrowd": 1},
        thing(square(5, 5, 9), 90, 81),
    ]
    labels = write(tmp_path / "coco", *things).labels(4, SPLIT, (0, 0, 0, 0.25), HEIGHT)
    assert [(labels == category).sum() for category in (18, 90, 1)] == [16, 81 - 16, 900 - 81]
    assert labels[5, 5] == 18 and labels[9, 9] == 90 and labels[0, 0] == 1


def test_crop_by_hand(tmp_path: Path) -> None:
    # row, column, category; one pixel each
    dots = [
        (0, 5, 1),
        (29, 34, 18),
        (10, 4, 90),
        (11, 35, 90),
    ]
    things = [thing(square(y, x, 1), kind, 1, (x, y, 1, 1)) for y, x, kind in dots]
    coco = write(tmp_path / "coco", *things)
    crop = (0.0, 0.0, 0.125, 0.125)  # columns 5 to 34 of 40 are left
    expected = np.zeros((30, 30), int)
    expected[0, 0] = 1
    expected[29, 29] = 18
    assert np.array_equal(coco.labels(4, SPLIT, crop, 30), expected)
    assert coco.categories(4, SPLIT, crop) == ["person", "dog"]
    assert coco.categories(4, SPLIT) == ["person", "dog", "toothbrush"]
    low = coco.labels(4, SPLIT, (0.1, 0.2, 0.0, 0.475), 21)  # rows 3 to 23, columns 0 to 20
    assert low.shape == (21, 21) and low[10 - 3, 4] == 90 and low.sum() == 90
    assert np.array_equal(coco.labels(4, SPLIT, crop, 90), expected.repeat(3, 0).repeat(3, 1))
    assert coco.labels(9, SPLIT, WHOLE, 8).sum() == 0 and coco.categories(9, SPLIT) == []
    for nothing in ((0, 0, 0.99, 0.005), (0.5, 0.6, 0, 0), (-0.1, 0, 0, 0)):
        with pytest.raises(PhospheneError, match=r"of COCO image 4 leaves nothing of its 40 x 30"):
            coco.labels(4, SPLIT, nothing, 8)


def test_categories_by_area_once_each(tmp_path: Path) -> None:
    boxes = [
        (18, 5, (0, 0, 10, 30)),
        (1, 50, (10, 0, 5, 5)),
        (18, 80, (20, 0, 5, 5)),
        (90, 7, (9.5, 3, 1, 1)),
    ]
    coco = write(
        tmp_path / "coco", *(thing(square(0, 0, 1), kind, area, box) for kind, area, box in boxes)
    )
    assert coco.categories(4, SPLIT) == ["dog", "person", "toothbrush"]
    # columns 10 to 19
    assert coco.categories(4, SPLIT, (0, 0, 0.25, 0.5)) == [
        "person",
        "toothbrush",
    ]


def test_colours_can_be_told_apart() -> None:
    colours = np.array([*map(colour, range(1, 91)), BACKGROUND]) / 255
    lab = rgb2lab(colours[None])[0]
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000 * np.eye(len(lab))
    assert distance.min() > 18 and distance[-1].min() > 20  # 2.3 is just noticeable
    assert len({colour(category) for category in range(256)}) == 256
    assert colour(0) == BACKGROUND and len(set(map(colour, range(1, 19)))) == 18


# ---- the cache
# --------------------------------------------------------------------------------------------------


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("the JSON is parsed again")


def test_parsed_once_and_again_when_changed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path / "coco")
    expected = first.labels(4, SPLIT, WHOLE, 20)
    assert first.captions(4, SPLIT) and len(list(cache.glob("*.parquet"))) == 2
    shutil.copytree(tmp_path / "coco", tmp_path / "copy")
    with monkeypatch.context() as patch:
        patch.setattr(ijson, "items", refuse)
        for folder in ("coco", "copy"):  # the copy is known by its contents
            again = Coco(tmp_path / folder)
            assert again.captions(4, SPLIT) == ["two", "one"] and again.categories(4, SPLIT) == [
                "person"
            ]
            assert np.array_equal(again.labels(4, SPLIT, WHOLE, 20), expected)
        with pytest.raises(AssertionError, match="parsed again"):
            Coco(tmp_path / "coco", cache=tmp_path / "elsewhere").captions(4, SPLIT)
    text = (tmp_path / "coco/captions_train2017.json").read_text()
    # the same size
    (tmp_path / "coco/captions_train2017.json").write_text(text.replace("nine", "NINE"))
    assert Coco(tmp_path / "coco").captions(9, SPLIT) == ["NINE"]


def test_damaged_cache_is_made_again(tmp_path: Path, cache: Path) -> None:
    coco = write(tmp_path / "coco")
    expected = coco.labels(4, SPLIT, WHOLE, 20)
    (path,) = cache.glob("*.parquet")
    good = path.read_bytes()
    draw = np.random.default_rng(0)
    flips = [
        bytes([*good[:at], good[at] ^ (1 << draw.integers(8)), *good[at + 1 :]])
        for at in range(4, len(good), 29)
    ]
    captions = Coco(tmp_path / "coco", tmp_path / "other")
    captions.captions(4, SPLIT)
    other = next((tmp_path / "other").glob("captions*")).read_bytes()
    repaired = 0
    for bad in (b"", good[:-1], good[: len(good) // 2], b"x" * len(good), other, *flips):
        path.write_bytes(bad)
        assert np.array_equal(Coco(tmp_path / "coco").labels(4, SPLIT, WHOLE, 20), expected)
        assert Coco(tmp_path / "coco").categories(4, SPLIT) == ["person"]
        repaired += path.read_bytes() == good
    assert repaired > 5 and not list(cache.glob("*+*"))


def test_unwritable_cache_only_costs_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = write(tmp_path / "coco").folder
    coco = Coco(folder, tmp_path / "file" / "below")
    with caplog.at_level(logging.WARNING, "phosphene"):
        expected = coco.labels(4, SPLIT, WHOLE, 20)
    assert "could not be written" in caplog.text and (expected == 1).any()
    monkeypatch.setattr(ijson, "items", refuse)
    assert coco.categories(4, SPLIT) == ["person"]  # kept in memory
    assert np.array_equal(coco.labels(4, SPLIT, WHOLE, 20), expected)


def test_two_processes_at_once(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = write(tmp_path / "coco").folder
    shared = tmp_path / "shared"
    code = """
import sys
from pathlib import Path
from phosphene.data.coco import Coco
for _ in range(60):
    coco = Coco(sys.argv[1], sys.argv[2])
    labels = coco.labels(4, "train2017", (0, 0, 0, 0.25), 30)
    print(labels.sum(), len(coco.captions(4, "train2017")))
    # the other process may be about to read it
    for path in Path(sys.argv[2]).glob("[ci]*_train2017-*.parquet"):
        path.unlink(missing_ok=True)
Coco(sys.argv[1], sys.argv[2]).captions(4, "train2017")
"""
    processes = [start_python(code, folder, shared) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and out.splitlines() == 60 * ["16 2"], err
        assert "could not be written" not in err
    assert [path.suffix for path in shared.iterdir()].count(".parquet") <= 2 and not list(
        shared.glob("*+*")
    )
    Coco(folder, shared).captions(4, SPLIT)
    assert len(list(shared.glob("captions*"))) == 1


# ---- errors
# --------------------------------------------------------------------------------------------------


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    coco = write(tmp_path / "coco")
    with pytest.raises(
        PhospheneError, match=r"captions_val2017.json: no such file.*annotations_trainval2017.zip"
    ):
        coco.captions(4, "val2017")
    with pytest.raises(
        PhospheneError, match=r"instances_train2017.json: nothing about COCO image 5;"
    ):
        coco.labels(5, SPLIT, WHOLE, 8)


@pytest.mark.parametrize("method", ["captions", "categories"])
def test_damaged_json_gives_a_sentence_and_no_cache(
    tmp_path: Path, cache: Path, method: str
) -> None:
    folder = write(tmp_path / "coco").folder
    path = folder / f"{'captions' if method == 'captions' else 'instances'}_train2017.json"
    whole = path.read_text()
    content = json.loads(whole)
    damaged = [whole[: len(whole) * part // 10] for part in range(10)]
    damaged += [
        json.dumps({**content, "annotations": value})
        for value in ([], [5], {}, None, [{"image_id": 4}])
    ]
    keys = ["annotations"] if method == "captions" else ["annotations", "images", "categories"]
    damaged += [
        json.dumps({key: value for key, value in content.items() if key != left_out})
        for left_out in keys
    ]
    for text in damaged:
        path.write_text(text)
        with pytest.raises(
            PhospheneError, match=rf"{path.name}: could not be read as COCO annotations"
        ) as caught:
            getattr(Coco(folder), method)(4, SPLIT)
        assert "\n" not in str(caught.value) and "unpack COCO's" in str(caught.value)
    assert not list(cache.glob("*"))


PACKED = pycoco.encode(
    np.asfortranarray(np.random.default_rng(2).random((HEIGHT, WIDTH)) < 0.5).astype(np.uint8)
)


@pytest.mark.parametrize(
    "outline",
    [
        {"size": [WIDTH, HEIGHT], "counts": [0, HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": [3, 4]},
        {"size": [HEIGHT, WIDTH], "counts": [3, 4 * HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": [-3, HEIGHT * WIDTH + 3]},
        {"size": [HEIGHT, WIDTH], "counts": [0.5, HEIGHT * WIDTH - 0.5]},
        {"size": [HEIGHT, WIDTH], "counts": ""},
        {"size": [HEIGHT, WIDTH], "counts": "zz"},
        {"size": [HEIGHT, WIDTH], "counts": "o"},
        {"size": [HEIGHT, WIDTH], "counts": PACKED["counts"].decode()[:-40]},
        {"size": [HEIGHT, WIDTH], "counts": PACKED["counts"].decode() * 2},
        {"counts": [0, HEIGHT * WIDTH]},
        [[0, 0, 1e12, 0, 5, 5]],
        [["a", 0, 5, 0, 5, 5]],
        [5],
        5,
        None,
    ],
)
def test_damaged_outlines_give_a_sentence(tmp_path: Path, outline: Any) -> None:
    coco = write(tmp_path / "coco", thing(outline, 18))
    with pytest.raises(
        PhospheneError, match=r"instances_train2017.json: the segmentation of a dog in image 4 is"
    ):
        coco.labels(4, SPLIT, WHOLE, 8)
    assert coco.categories(4, SPLIT) == ["dog"]


def test_outlines_of_nothing(tmp_path: Path) -> None:
    assert (
        write(tmp_path / "coco", thing([]), thing([[1, 1, 5, 5]])).labels(4, SPLIT, WHOLE, 8).sum()
        == 0
    )
