"""Haxby et al. (2001): the published slice against its known accuracy, and nilearn's layout as a
tiny folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import detrend
from sklearn.linear_model import RidgeClassifier

from phosphene.data import Dataset, open_dataset
from phosphene.data.haxby import Haxby, dataset
from phosphene.data.haxby.files import CATEGORIES
from phosphene.data.keys import PARTS
from phosphene.data.simulated import scenes
from phosphene.errors import PhospheneError
from phosphene.study import Study
from support.environment import REPOSITORY, SHARED
from support.haxby_data import FULL_NAMES, GRID, N_RUNS, save

SLICE = SHARED / "data" / "haxby2001_slice"


@pytest.fixture(scope="module")
def published() -> Haxby:
    if not (SLICE / "bold.nii.gz").is_file():
        pytest.skip(
            "PyMVPA's slice of Haxby 2001 is missing: expected in ../shared/data/haxby2001_slice, "
            "seen from here"
        )
    return Haxby(SLICE, "slice")


def load(path: Path) -> NDArray[Any]:
    image: Any = nib.load(path)
    return np.asarray(image.dataobj).copy()


def by_hand(
    data: Path, run: int, category: str, voxel: tuple[int, int, int], z: bool = True
) -> float:
    """One entry of betas, with scipy and pandas and from the whole volume."""
    table = pd.read_csv(data / "subj1" / "labels.txt", sep=" ")
    here = np.asarray(table["chunks"] == run - 1)
    series = detrend(load(data / "subj1" / "bold.nii.gz")[voxel][here].astype(float))
    series = series / series.std() if z else series
    return float(series[np.asarray(table["labels"][here] == category)].mean())


# ---- the published slice
# --------------------------------------------------------------------------------------------


def test_slice_reproduces_its_known_accuracy(published: Haxby) -> None:
    """A plain ridge classifier, leaving one run out, is right in 83 % of rows (README of the
    slice).
    """
    betas = published.betas("brain")
    trials = published.trials
    assert betas.shape == (96, 530) and betas.dtype == np.float32 and np.isfinite(betas).all()
    right = []
    for run in range(1, 13):
        test = np.asarray(trials["run"] == run)
        model = RidgeClassifier().fit(betas[~test], trials["image"][~test])
        right.extend(model.predict(betas[test]) == trials["image"][test])
    assert np.mean(right) == pytest.approx(0.83, abs=0.03)


def test_slice_trials_and_voxels(published: Haxby) -> None:
    trials = published.trials
    voxels = published.voxels("brain")
    assert list(trials.columns) == ["session", "run", "image", "repeat", "split"]
    assert (trials["repeat"] == trials["run"] - 1).all() and set(trials["split"]) == {"train"}
    assert trials["image"].tolist() == list(range(8)) * 12 and set(trials["session"]) == {1}
    mask = load(SLICE / "mask.nii.gz") > 0
    assert (
        np.array_equal(voxels[["x", "y", "z"]], np.argwhere(mask)) and voxels["ncsnr"].isna().all()
    )
    assert published.rois == ("brain",) and published.shape == (40, 20, 1)
    with pytest.raises(PhospheneError, match="no photographs of Haxby"):
        published.images([0])


# ---- nilearn's layout
# -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*constant in some run")
def test_full_layout_against_scipy(full: Path) -> None:
    data: Dataset = open_dataset("haxby", root=full, subject="subj1")
    assert data.rois == ("brain", "vt", "face") and len(data.trials) == 23
    assert data.trials.iloc[-1].to_dict() == {
        "session": 1,
        "run": 3,
        "image": 7,
        "repeat": 2,
        "split": "train",
    }
    both = data.voxels(["brain", "vt"])
    # the constant voxel is left out, two voxels of vt lie outside the brain mask
    assert len(both) == 18 - 1 + 2
    assert len(data.voxels("vt")) == 6 and data.voxels("face")["face"].tolist() == ["face"]
    assert both["vt"].tolist() == [
        "vt" if x > 0 and y == 0 else "" for x, y in zip(both["x"], both["y"], strict=True)
    ]
    for zscore in ("session", "none"):
        betas = data.betas(["brain", "vt"], zscore)
        assert (
            betas.dtype == np.float32
            and betas.shape == (23, len(both))
            and np.isfinite(betas).all()
        )
        for row, column in ((0, 0), (9, 4), (22, 18)):
            trial = data.trials.iloc[row]
            at = both.iloc[column]
            name = FULL_NAMES[trial["image"]]
            voxel = (at["x"], at["y"], at["z"])
            expected = by_hand(full, trial["run"], name, voxel, zscore == "session")
            assert betas[row, column] == pytest.approx(expected, rel=1e-5)
    trained = data.betas("vt", "train")
    np.testing.assert_allclose(
        [trained.mean(0), trained.std(0)], [np.zeros(6), np.ones(6)], atol=1e-5
    )


def test_constant_voxels_are_reported(full: Path) -> None:
    with pytest.warns(UserWarning, match="subj1: 1 of 20 voxels are constant"):
        Haxby(full, "subj1").betas("brain")


@pytest.mark.filterwarnings("ignore:.*constant in some run")
def test_a_run_does_not_depend_on_the_others(full: Path) -> None:
    before = Haxby(full, "subj1").betas("vt")
    path = full / "subj1" / "bold.nii.gz"
    bold = load(path)
    bold[..., : bold.shape[3] // N_RUNS] += (
        np.random.default_rng(1).integers(0, 99, GRID)[..., None].astype(np.int16)
    )
    bold[..., : bold.shape[3] // N_RUNS] *= 2
    save(path, bold)
    after = Haxby(full, "subj1").betas("vt")
    np.testing.assert_array_equal(after[8:], before[8:])
    np.testing.assert_allclose(after, before, atol=1e-4)  # nor on the scale of its own


def test_parent_folder_spelling_and_copies_are_the_same_data(full: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(full, tmp_path / "elsewhere" / "haxby2001")
    places = ((full, "subj1"), (full.parent, "subj01"), (copy, "subj1"))
    for part in PARTS:
        assert len({Haxby(*place).key(part, ["vt"]) for place in places}) == 1


# ---- pictures and words
# ---------------------------------------------------------------------------------------------


def test_photographs_when_they_are_there(full: Path) -> None:
    for shade, folder in enumerate(dataset.STIMULI):
        path = full / "stimuli" / folder / "deeper" / "a.jpg"
        path.parent.mkdir(parents=True)
        Image.new("L", (500, 400), 30 * shade).save(path)
    pictures = Haxby(full, "subj1").images([4, 0, 4])
    assert pictures.shape == (3, 400, 400, 3) and pictures.dtype == np.uint8
    assert [int(picture.mean()) for picture in pictures] == [120, 0, 120]
    assert Haxby(full, "subj1").images([]).shape == (0, 400, 400, 3)
    (full / "stimuli" / "cats" / "deeper" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(PhospheneError, match=r"a\.jpg: could not be read as a picture"):
        Haxby(full, "subj1").images([1])


def test_words_are_those_of_the_scenes(full: Path) -> None:
    data = Haxby(full, "subj1")
    assert data.categories([3, 6]) == [["face"], ["scrambled"]]
    assert set(CATEGORIES) <= set(scenes.CATEGORIES) and CATEGORIES == tuple(sorted(CATEGORIES))
    assert data.captions([4])[0][:3] == [
        "a picture of a house",
        "a house",
        "a picture of a cottage",
    ]
    said = scenes.COLOUR_WORDS | scenes.PLACE_WORDS
    for category, captions in zip(CATEGORIES, data.captions(range(8)), strict=True):
        assert len(set(captions)) == 5
        words = scenes.CATEGORY_WORDS[category]
        assert not any(word[0] in "aeiou" for word in words)  # "a", never "an"
        assert all(any(word in caption for word in words) for caption in captions)
        assert not any(
            f" {phrase} " in f" {caption} "
            for caption in captions
            for pair in said.values()
            for phrase in pair
        )
    for wrong in (-1, 8):
        with pytest.raises(PhospheneError, match=f"no image {wrong}; expected 0 to 7"):
            data.captions([wrong])


# ---- what goes wrong
# ------------------------------------------------------------------------------------------------


def test_wrong_folders_and_missing_files(full: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PhospheneError, match="neither bold.nii.gz nor a folder subj1 in it; .*fetch_haxby"
    ):
        Haxby(tmp_path / "nowhere", "subj01")
    with pytest.raises(PhospheneError, match="no subject 'subj2', only subj1; check data.subjects"):
        Haxby(full, "subj2")
    for missing in ("mask.nii.gz", "subj1/labels.txt", "subj1/bold.nii.gz"):
        (full / missing).unlink()
        with pytest.raises(PhospheneError, match=f"{missing}: no such file"):
            Haxby(full, "subj1")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda text: text + "rest 2\n",
            r"labels\.txt: 121 volumes are labelled, but bold\.nii\.gz has shape",
        ),
        (
            lambda text: text.replace("cat", "dog"),
            r"has the unknown category 'dog'; expected rest or one of bottle",
        ),
        (
            lambda text: text.replace("cat 0", "cat"),
            r"volume \d+ is 'cat'; expected a category and a run",
        ),
        (
            lambda text: "\n".join(f"rest {line[-1]}" for line in text.splitlines()[1:]),
            "every volume is labelled rest",
        ),
    ],
)
def test_wrong_labels(full: Path, change: object, sentence: str) -> None:
    path = full / "subj1" / "labels.txt"
    assert callable(change)
    path.write_text(change(path.read_text()))
    with pytest.raises(PhospheneError, match=sentence):
        Haxby(full, "subj1").trials  # noqa: B018


@pytest.mark.filterwarnings("ignore:.*constant in some run")
def test_wrong_regions_settings_and_volumes(full: Path) -> None:
    data = Haxby(full, "subj1")
    with pytest.raises(PhospheneError, match="no region 'fase' of subj1; did you mean 'face'"):
        data.betas("fase")
    with pytest.raises(PhospheneError, match="data.zscore: found 'run'"):
        data.betas("brain", "run")
    save(full / "subj1" / "mask8_house_vt.nii.gz", np.ones((2, 2, 2), np.int16))
    with pytest.raises(
        PhospheneError, match=r"house_vt\.nii\.gz: its grid is \(2, 2, 2\); that of bold"
    ):
        Haxby(full, "subj1").voxels("brain")
    save(full / "subj1" / "mask8_house_vt.nii.gz", np.zeros(GRID, np.int16))
    with pytest.raises(PhospheneError, match="'house' holds no voxel with data"):
        Haxby(full, "subj1").voxels("house")
    bold = full / "subj1" / "bold.nii.gz"
    bold.write_bytes(bold.read_bytes()[:2000])
    with pytest.raises(PhospheneError, match=r"bold\.nii\.gz: could not be read"):
        Haxby(full, "subj1").betas("brain")


# ---- the study
# --------------------------------------------------------------------------------------------------


def test_the_study_loads(tmp_path: Path) -> None:
    study = Study.load(REPOSITORY / "studies" / "haxby.toml", root=tmp_path)
    assert (study.name, study.data.kind, study.decode.leave_out) == ("haxby", "haxby", "run")
    assert (
        study.decode.c.rois == ("brain",)
        and study.reconstruct.modes == ("c",)
        and study.decode.grouped
    )
    assert study.decode.alphas == Study().decode.alphas
    with pytest.raises(PhospheneError, match="'data.root' is not set"):
        study.data_root  # noqa: B018
