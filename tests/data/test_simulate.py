"""The known brain and its folder: facts that must hold whatever the seed, on a small experiment."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import scipy.io
from sklearn.linear_model import Ridge

from phosphene.data.keys import PARTS
from phosphene.data.nsd import NSD
from phosphene.data.simulated.brain import draw_anatomy, draw_brain
from phosphene.data.simulated.experiment import Settings, draw_design, draw_world
from phosphene.data.simulated.scenes import render, sample_scene
from phosphene.data.simulated.simulate import BETAS, read_scenes, read_truth, simulate
from phosphene.data.trials import ncsnr
from phosphene.errors import PhospheneError
from phosphene.seeds import rng

SMALL = dict(
    images_shared=6, images_own=24, repeats=3, sessions=3, picture_size=32, voxel_size=9.0, seed=5
)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("two") / "nsd", subjects=("subj01", "subj02"), **SMALL)


@pytest.fixture(scope="module")
def brain():
    anatomy = draw_anatomy(0, "subj01", 4.0)
    return draw_brain(anatomy, 0, "subj01")


def some_scenes(n: int):
    draw = rng(1, "test scenes")
    scenes = [sample_scene(draw) for _ in range(n)]
    return scenes, np.array([render(scene) for scene in scenes])


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_same_seed_same_bytes_other_seed_other_data(two: Path, tmp_path: Path) -> None:
    again = simulate(tmp_path / "again", subjects=("subj01", "subj02"), **SMALL)
    first = contents(two)
    second = contents(again)
    assert first == second
    for part in PARTS:
        assert NSD(two, "subj01").key(part) == NSD(again, "subj01").key(part)
    one, other = (Settings(("subj01",), 2, 4, 3, 1, 1.0, False, seed, 16, 9.0) for seed in (5, 6))
    assert draw_world(one).scenes != draw_world(other).scenes
    assert not np.array_equal(
        draw_design(one)["masterordering"], draw_design(other)["masterordering"]
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_repeated_call_and_other_settings(two: Path, tmp_path: Path) -> None:
    before = (two / "SIMULATED.json").stat().st_mtime_ns
    simulate(two, subjects=("subj01", "subj02"), **SMALL)
    assert (two / "SIMULATED.json").stat().st_mtime_ns == before
    with pytest.raises(PhospheneError, match=r"noise = 1.0 \(asked: 2.0\)"):
        simulate(two, subjects=("subj01", "subj02"), noise=2.0, **SMALL)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(PhospheneError, match="did not simulate"):
        simulate(tmp_path, **SMALL)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_trials_must_fill_the_sessions(tmp_path: Path) -> None:
    with pytest.raises(PhospheneError, match="do not fill 7 equal sessions; try sessions = 6"):
        simulate(tmp_path / "x", **(SMALL | {"sessions": 7}))
    with pytest.raises(PhospheneError, match="subj01 to subj08"):
        simulate(tmp_path / "x", subjects=("bert",), **SMALL)
    assert not (tmp_path / "x").exists()


def test_subjects_share_the_test_images_only(two: Path) -> None:
    one, other = (NSD(two, subject).trials for subject in ("subj01", "subj02"))
    assert set(one.image[one.split == "test"]) == set(other.image[other.split == "test"])
    assert not set(one.image[one.split == "train"]) & set(other.image[other.split == "train"])
    assert not np.array_equal(read_truth(two, "subj01").voxels, read_truth(two, "subj02").voxels)


def test_tables_have_nsd_form(two: Path) -> None:
    table = pd.read_csv(two / "nsddata/experiments/nsd/nsd_stim_info_merged.csv")
    assert table.shape == (6 + 2 * 24, 41) and table.columns[0] == "Unnamed: 0"
    log = pd.read_csv(two / "nsddata/ppdata/subj01/behav/responses.tsv", sep="\t")
    assert (
        log.shape == (90, 19)
        and log["MEMORYRECENT"].isna().sum() == 30
        and log["BUTTON"].isna().any()
    )
    design = scipy.io.loadmat(two / "nsddata/experiments/nsd/nsd_expdesign.mat")
    order, own = (design[name].astype(int) for name in ("masterordering", "subjectim"))
    assert (np.bincount(order.ravel())[1:] == 3).all()
    assert np.array_equal(log["73KID"], own[0, order.ravel() - 1])
    for (
        trial,
        row,
    ) in log.iterrows():  # a stimulus table that names the 1-based trial of every presentation
        at = table.set_index("nsdId").loc[row["73KID"] - 1]
        assert trial + 1 in [at[f"subject1_rep{repeat}"] for repeat in range(3)]
    assert (
        design["basiccnt"] * np.array([[1], [2], [3]])
    ).sum() == 90  # every trial is counted once
    assert design["stimpattern"].sum() == 90 and design["stimpattern"].shape == (3, 12, 75)


def test_some_shared_images_come_in_the_last_session_only(two: Path) -> None:
    trials = NSD(two, "subj01", sessions=(1, 2)).trials
    assert trials.image[trials.split == "test"].nunique() < 6


def test_coco_masks_lie_where_the_scene_says(two: Path) -> None:
    content = json.loads(
        (two / "nsddata_stimuli/stimuli/nsd/annotations/instances_train2017.json").read_text()
    )
    for entry in content["annotations"]:
        run = entry["segmentation"]
        height, width = run["size"]
        flat = np.repeat(np.arange(len(run["counts"])) % 2, run["counts"])
        mask = flat.reshape(width, height).T
        assert mask.sum() == entry["area"]
        x, y, w, h = map(int, entry["bbox"])
        assert mask[y : y + h, x : x + w].sum() == entry["area"]


def test_transforms_lead_to_the_labels(two: Path) -> None:
    streams = np.asanyarray(
        nib.load(two / "nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz").dataobj
    )
    folder = two / "nsddata/ppdata/subj01/transforms"
    label = nib.load(two / "nsddata/freesurfer/subj01/label/lh.streams.mgz").get_fdata().squeeze()
    points = nib.load(folder / "lh.func1pt8-to-layerB2.mgz").get_fdata().squeeze()
    inside = (points != 9999).all(1)
    assert inside.any() and not inside.all()
    voxel = streams[tuple(np.rint(points[inside] - 1).astype(int).T)]
    assert np.mean(voxel[voxel > 0] == label[inside][voxel > 0]) > 0.7  # voxels are 9 mm
    index = nib.load(folder / "lh.white-to-fsaverage.mgz").get_fdata().squeeze()
    assert index[0] == 1 and index[-1] == 10242


def test_ncsnr_against_slow_oracle_and_truth(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = draw.permutation(np.repeat(np.arange(400), 3))
    true = np.array([0.2, 0.5, 1.0, 2.0])
    betas = (true * draw.normal(size=(400, 4)))[images] + draw.normal(size=(1200, 4))
    betas = (betas - betas.mean(0)) / betas.std(0, ddof=1)
    slow = []
    for voxel in betas.T:
        variances = [np.var(voxel[images == image], ddof=1) for image in range(400)]
        noise = np.sqrt(np.mean(variances))
        slow.append(np.sqrt(max(0, 1 - noise**2)) / noise)
    assert np.allclose(ncsnr(betas, images), slow)
    assert np.allclose(ncsnr(betas, images), true, rtol=0.1, atol=0.06)
    extra = np.append(images, [500, 500])  # an image shown twice does not count
    assert np.allclose(ncsnr(np.vstack([betas, np.full((2, 4), 9.0)]), extra), slow)


def test_ncsnr_file_follows_the_true_noise(tmp_path: Path) -> None:
    settings = {"sessions": 4, "voxel_size": 8.0, "picture_size": 32, "seed": 5}
    root = simulate(tmp_path / "nsd", images_shared=20, images_own=180, **settings)
    truth = read_truth(root, "subj01")
    path = root / "nsddata_betas/ppdata/subj01/func1pt8mm" / BETAS / "ncsnr.nii.gz"
    found = np.asanyarray(nib.load(path).dataobj)[tuple(truth.voxels[["x", "y", "z"]].to_numpy().T)]
    good = np.isfinite(found)
    assert 0 < (~good).sum() < 0.02 * len(good)  # voxels without coverage in one session
    assert np.corrcoef(found[good], truth.voxels["ncsnr"][good])[0, 1] > 0.85
    assert abs(np.median(found[good]) - np.median(truth.voxels["ncsnr"][good])) < 0.06
    assert 0.25 < np.median(found[good]) < 0.5  # NSD's subjects: 0.226 to 0.415 in nsdgeneral


def test_truth_is_what_was_shown(two: Path) -> None:
    scenes = read_scenes(two)
    data = NSD(two, "subj02")
    for image in (0, 7, 30):
        assert np.array_equal(data.images([image])[0], render(scenes[image], 32))
    truth = read_truth(two, "subj02")
    assert set(truth.images) == set(data.trials.image) and truth.responses.shape == (
        30,
        len(truth.voxels),
    )
    again = draw_brain(draw_anatomy(5, "subj02", 9.0), 5, "subj02")
    answers = again.respond(
        [scenes[i] for i in truth.images[::-1]], data.images(truth.images[::-1])
    )
    # a picture's answer depends on that picture alone
    assert np.allclose(answers[::-1], truth.responses, atol=1e-4)


def test_early_voxels_tell_colours_apart_and_are_retinotopic(brain) -> None:
    scenes, pictures = some_scenes(400)
    answers = brain.respond(scenes, pictures)
    streams = brain.voxels["stream"][brain.active].to_numpy()
    early = answers[:, streams == "early"]
    assert 600 <= early.shape[1] <= 900 and 600 <= (streams == "ventral").sum() <= 1000
    blocks = pictures.reshape(400, 8, 8, 8, 8, 3).mean((2, 4)).reshape(400, -1)
    predicted = Ridge(3.0).fit(early[:320], blocks[:320]).predict(early[320:])
    error = ((blocks[320:] - predicted) ** 2).sum(0) / (
        (blocks[320:] - blocks[320:].mean(0)) ** 2
    ).sum(0)
    assert 1 - error.mean() > 0.8
    left = brain.voxels["x"][brain.active].to_numpy() < 18
    x = brain.fields[:, 0]
    assert (
        x[(streams == "early") & left].mean() > 0.6 and x[(streams == "early") & ~left].mean() < 0.4
    )
    assert 0.7 < np.std(answers, axis=0).mean() < 1.3


def test_ventral_voxels_care_for_what_and_early_for_pixels(brain) -> None:
    scenes, pictures = some_scenes(60)
    streams = brain.voxels["stream"][brain.active].to_numpy()
    # same things in the same places, other pixels
    mirrored = brain.respond(scenes, pictures[:, :, ::-1])
    change = ((mirrored - brain.respond(scenes, pictures)) ** 2).mean(0)
    assert change[streams == "early"].mean() > 3 * change[streams == "ventral"].mean()
