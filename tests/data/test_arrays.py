"""A lab's own folder: every format against NSD's reader, sums by hand, every file damaged, the
documented way.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pickle
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from phosphene.cli.app import app
from phosphene.data import Dataset, open_dataset
from phosphene.data.arrays import Arrays
from phosphene.data.arrays import betas as betas_files
from phosphene.data.simulated.simulate import simulate
from phosphene.errors import PhospheneError
from phosphene.pipeline.graph import make
from phosphene.reporting.tables import headline
from phosphene.steps.decode import Decode
from phosphene.study import Compute, Study
from support.environment import REPOSITORY
from support.own_data import RUNS, SESSIONS, SHOWN, save_nifti, write_betas, write_picture

FORMATS = (
    "npy",
    "npy by voxel",
    "zarr 2",
    "zarr 3",
    "zarr sharded",
    "h5",
    "hdf5 chunks",
    "nii.gz",
    "nii",
)


# ---- the same as NSD
# -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = simulate(
        tmp_path_factory.mktemp("nsd") / "nsd",
        images_shared=10,
        images_own=50,
        sessions=3,
        noise=0.2,
        picture_size=32,
        voxel_size=8.0,
    )
    return open_dataset("nsd", root, "subj01")


def test_every_format_gives_what_nsd_gives(
    nsd: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rois = ["early", "ventral"]
    kept = nsd.voxels(["early", "ventral"])
    betas = nsd.betas(rois, "none")
    places = kept[["x", "y", "z"]].to_numpy()
    names = [f"nsd{image:03d}" for image in range(60)]
    nsd.trials.assign(image_id=nsd.trials["image"].map(names.__getitem__)).to_csv(
        tmp_path / "trials.csv"
    )
    kept.rename(columns={"streams": "roi"}).to_csv(tmp_path / "voxels.csv")
    (tmp_path / "images").mkdir()
    for name, picture in zip(names, nsd.images(range(60)), strict=True):
        Image.fromarray(picture).save(tmp_path / "images" / f"{name}.png")
    for kind, words in (
        ("caption", nsd.captions(range(60))),
        ("category", nsd.categories(range(60))),
    ):
        rows = [(name, text) for name, texts in zip(names, words, strict=True) for text in texts]
        file = tmp_path / {"caption": "captions.csv", "category": "categories.csv"}[kind]
        pd.DataFrame(rows, columns=["image_id", kind]).to_csv(file, index=False)
    # so that these small betas, too, are read in several blocks
    monkeypatch.setattr(betas_files, "BLOCK", 20_000)
    for form in FORMATS:
        write_betas(tmp_path, form, betas, places)
        data = open_dataset("arrays", tmp_path, "subj01")
        for zscore in ("session", "train", "none"):
            assert np.array_equal(data.betas("all", zscore), nsd.betas(rois, zscore)), form
            assert np.array_equal(data.betas("early", zscore), nsd.betas("early", zscore)), form
        columns = ["x", "y", "z", "ncsnr"]
        pd.testing.assert_frame_equal(
            data.voxels("ventral")[columns], nsd.voxels("ventral")[columns]
        )
    assert data.rois == tuple(dict.fromkeys(kept["streams"])) + ("all",)
    pd.testing.assert_frame_equal(data.trials, nsd.trials, check_dtype=False)
    ids = [9, 3, 59, 3]
    assert np.array_equal(data.images(ids), nsd.images(ids))
    assert data.captions(ids) == nsd.captions(ids) and data.categories(ids) == nsd.categories(ids)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", ["float16", "float64", "int16", ">f4"])
def test_every_type_of_number(folder: Path, form: str, dtype: str) -> None:
    if form.startswith("nii") and dtype == "float16":
        dtype = "uint8"  # NIfTI has no float16
    values = np.random.default_rng(1).integers(0, 200, (24, 24)).astype(dtype)
    write_betas(folder, form, values)
    betas = Arrays(folder).betas("all", "none")
    assert betas.dtype == np.float32 and np.array_equal(betas, values)


@pytest.mark.parametrize("form", FORMATS)
def test_no_block_is_read_twice_or_grows(
    folder: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_betas(folder, form, np.random.default_rng(0).normal(size=(24, 24)).astype(np.float32))
    data = Arrays(folder)
    limit = 24 * 24  # bytes: a quarter of the betas
    monkeypatch.setattr(betas_files, "BLOCK", limit)
    seen = np.zeros((24, 24), int)
    with betas_files.open_betas(data._file, data._mask) as betas:
        for rows, start, stop in betas_files.blocks(betas):
            seen[rows, start:stop] += 1
            assert seen[rows, start:stop].size * 4 <= limit
    assert (seen == 1).all()


def test_only_wanted_voxels_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Arrays(folder)
    raw = np.load(folder / "betas.npy")
    keys = []

    class Recorder:
        shape = raw.shape
        dtype = raw.dtype
        chunks = (5, 7)

        def __getitem__(self, key: tuple[slice, slice]) -> NDArray[Any]:
            keys.append(key)
            return np.asarray(raw[key])

    monkeypatch.setattr(betas_files, "open_betas", lambda *_: contextlib.nullcontext(Recorder()))
    monkeypatch.setattr(betas_files, "BLOCK", 1)
    assert np.array_equal(data.betas("early", "none"), raw[:, [6, 7, 8, 9, 20, 21, 22, 23]])
    assert {(key[1].start, key[1].stop) for key in keys} == {(6, 7), (7, 10), (20, 21), (21, 24)}


# ---- by hand
# --------------------------------------------------------------------------------------------------


def test_trials_and_names(folder: Path) -> None:
    data = Arrays(folder)
    assert data.names == ("10", "a", "b", "é, 7") and data.photographs
    assert [data.names[image] for image in data.trials["image"]] == SHOWN.tolist()
    assert list(data.trials.columns) == ["session", "run", "image", "repeat", "split"]
    assert (
        data.trials["session"].tolist() == SESSIONS.tolist()
        and data.trials["run"].tolist() == RUNS.tolist()
    )
    assert data.trials["repeat"].tolist() == np.repeat(range(6), 4).tolist()
    assert (data.trials["split"] == "test").tolist() == [name in ("b", "10") for name in SHOWN]
    table = pd.read_csv(folder / "trials.csv")[["split", "image_id"]]
    table.to_csv(folder / "trials.csv", index=False)
    assert (Arrays(folder).trials[["session", "run"]] == 1).all(axis=None)


def test_zscores_by_hand(folder: Path) -> None:
    raw = np.load(folder / "betas.npy").astype(float)
    data = Arrays(folder)
    train = np.isin(SHOWN, ["a", "é, 7"])
    expected = (raw - raw[train].mean(0)) / raw[train].std(0)
    np.testing.assert_allclose(data.betas("all", "train"), expected, atol=1e-4)
    for session in (1, 2):
        part = raw[session == SESSIONS]
        expected = (part - part.mean(0)) / part.std(0)
        np.testing.assert_allclose(data.betas("all")[session == SESSIONS], expected, atol=1e-4)
    with pytest.raises(PhospheneError, match="data.zscore: found 'run'"):
        data.betas("all", "run")


def test_regions(folder: Path) -> None:
    data = Arrays(folder)
    raw = np.load(folder / "betas.npy")
    assert data.rois == ("V1", "early", "all")
    assert np.array_equal(data.betas(["early", "V1"], "none"), raw[:, [*range(10), *range(20, 24)]])
    assert data.voxels("early")["roi"].tolist() == ["V1; early"] * 4 + ["early"] * 4
    assert data.voxels("early")["ncsnr"].isna().sum() == 2 and data.voxels("V1")["ncsnr"].iloc[
        -1
    ] == np.float32(9 / 21)
    with pytest.raises(
        PhospheneError, match="voxels.csv: no region 'eraly' of subj01; did you mean 'early'"
    ):
        data.betas("eraly")
    (folder / "voxels.csv").unlink()
    assert Arrays(folder).rois == ("all",)
    assert Arrays(folder).voxels("all")[["x", "y", "z"]].to_numpy().tolist() == [
        [k, 0, 0] for k in range(24)
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, "constant"])
def test_voxels_without_data_are_left_out_and_counted(folder: Path, value: float | str) -> None:
    raw = np.load(folder / "betas.npy").astype(float)
    raw[SESSIONS == 1, 3] = 5 if value == "constant" else value
    raw[0, 8] = np.nan
    np.save(folder / "betas.npy", raw)
    for first in ("betas", "voxels"):
        data = Arrays(folder)
        with pytest.warns(UserWarning, match="subj01: 2 of 10 voxels have no data"):
            getattr(data, first)("V1")
        with pytest.warns(UserWarning, match="2 of 10"):
            assert data.voxels("V1")["z"].tolist() == [0, 1, 0, 0, 1, 0, 1, 1]
        for zscore in ("session", "train", "none"):
            with pytest.warns(UserWarning, match="2 of 10"):
                betas = data.betas("V1", zscore)
            assert betas.shape == (24, 8) and np.isfinite(betas).all()
    np.testing.assert_array_equal(betas, raw[:, [0, 1, 2, 4, 5, 6, 7, 9]].astype(np.float32))
    np.save(folder / "betas.npy", np.zeros((24, 24)))
    with pytest.raises(PhospheneError, match="betas.npy: none of the 24 voxels asked for has data"):
        Arrays(folder).betas("all")


def test_pictures_are_square_and_of_one_size(folder: Path) -> None:
    data = Arrays(folder)
    pictures = data.images([0, 1, 2, 1])
    assert data.side == 30 and pictures.shape == (4, 30, 30, 3) and pictures.dtype == np.uint8
    whole = np.asarray(Image.open(folder / "images" / "10.png"))
    # 40 x 30: ten columns fall away, nothing is resized
    assert np.array_equal(pictures[0], whole[:, 5:35])
    assert np.array_equal(pictures[1], np.asarray(Image.open(folder / "images" / "a.PNG")))
    expected = Image.open(folder / "images" / "b.tif").resize(
        (30, 30), Image.Resampling.LANCZOS, (0, 8.5, 33, 41.5)
    )
    assert np.array_equal(pictures[2], np.asarray(expected))
    assert data.images([]).shape == (0, 30, 30, 3)
    for path in (folder / "images").iterdir():
        write_picture(path, (600, 700))
    assert Arrays(folder).images([3]).shape == (1, 512, 512, 3)
    for wrong in (-1, 4):
        for call in (data.images, data.captions, data.categories):
            with pytest.raises(PhospheneError, match=f"no image {wrong}; it has images 0 to 3"):
                call([wrong])


def test_kinds_of_pictures(folder: Path) -> None:
    grey = np.arange(900, dtype=np.uint8).reshape(30, 30)
    path = folder / "images" / "a.PNG"
    opaque = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    turned = Image.Exif()
    turned[0x0112] = 8  # a camera held on its side: shown turned by 90 degrees
    for picture, options in (
        (Image.fromarray(grey), {}),
        (Image.fromarray(grey).convert("P"), {}),
        (Image.fromarray(opaque), {}),
        (Image.fromarray(np.rot90(grey, -1).copy()), {"exif": turned}),
    ):
        picture.save(path, **options)  # type: ignore[arg-type]
        assert np.array_equal(Arrays(folder).images([1])[0], np.repeat(grey[..., None], 3, 2)), (
            picture.mode
        )
    opaque[3, 4, 3] = 254
    Image.fromarray(opaque).save(path)
    with pytest.raises(
        PhospheneError, match="a.PNG: is transparent in places; save it on the background"
    ):
        Arrays(folder).images([1])
    Image.fromarray(grey.astype(np.uint16) * 256).save(path)
    with pytest.raises(PhospheneError, match="a.PNG: has pixels of type I;16; save it with 8 bits"):
        Arrays(folder).images([1])


def test_words(folder: Path) -> None:
    data = Arrays(folder)
    assert data.captions([2, 3, 0]) == [
        ["a bird", "a blue bird"],
        ['a "seven"'],
        ["ten, in digits"],
    ]
    assert data.categories([2, 0, 1]) == [["bird", "sky"], [], ["ant"]]
    (folder / "captions.csv").unlink()
    (folder / "categories.csv").unlink()
    assert Arrays(folder).categories([0, 1]) == [[], []]
    with pytest.raises(
        PhospheneError, match=r'captions.csv: no such file.*set reconstruct.modes = \["z"\]'
    ):
        Arrays(folder).captions([0])


def test_subjects(folder: Path, tmp_path: Path) -> None:
    labs = tmp_path / "labs"
    shutil.copytree(folder, labs / "anna")
    shutil.copytree(folder, labs / "bo")
    np.save(labs / "bo" / "betas.npy", -np.load(folder / "betas.npy"))
    assert np.array_equal(
        Arrays(labs, "bo").betas("all", "none"), -Arrays(folder, "x").betas("all", "none")
    )
    with pytest.raises(
        PhospheneError, match="no subject 'subj01', only anna, bo; check data.subjects"
    ):
        Arrays(labs, "subj01")
    with pytest.raises(PhospheneError, match="nowhere: no such folder"):
        Arrays(tmp_path / "nowhere", "anna")


# ---- what goes wrong
# ------------------------------------------------------------------------------------------------


def swap(name: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")

    return damage


def put(name: str, content: bytes | NDArray[Any] | None) -> Callable[[Path], None]:
    """Replace a file; None removes it."""

    def damage(folder: Path) -> None:
        path = folder / name
        if content is None:
            path.unlink()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.save(path, content)

    return damage


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: put(name, (folder / name).read_bytes()[:size])(folder)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (put("betas.npy", None), "found no betas, expected exactly one of betas.npy, betas.zarr"),
        (put("betas.h5", b""), "found betas.npy and betas.h5, expected exactly one"),
        (put("betas.npy", b""), r"betas\.npy: could not be read"),
        (cut("betas.npy", 30), r"betas\.npy: could not be read"),
        (cut("betas.npy", 500), r"betas\.npy: could not be read"),
        (put("betas.npy", pickle.dumps({"betasmd": 1})), r"betas\.npy: could not be read"),
        (put("betas.npy", np.array({"betasmd": 1})), r"betas\.npy: could not be read \(.*objects"),
        (
            put("betas.npy", np.zeros((24, 24), complex)),
            r"betas\.npy: holds values of type complex128; expected numb",
        ),
        (put("betas.npy", np.full((24, 24), "a")), r"betas\.npy: holds values of type <U1"),
        (
            put("betas.npy", np.zeros(24)),
            r"found the shape \(24,\), expected \(trials, voxels\) with 24 trials",
        ),
        (put("betas.npy", np.zeros((23, 24, 1))), r"found the shape \(23, 24, 1\)"),
        (put("betas.npy", np.zeros((24, 0))), r"found the shape \(24, 0\)"),
        (
            put("betas.npy", np.zeros((9, 24))),
            r"\(9, 24\).*last axis fits, so transpose it: betas.reshape\(-1, 24\).T",
        ),
        (put("betas.npy", np.zeros((4, 3, 2, 24))), "last axis fits, so transpose it"),
        (
            put("betas.npy", np.zeros((24, 9))),
            r"voxels\.csv: has 24 rows; expected one for each of the 9 voxels",
        ),
        (put("trials.csv", None), r"trials\.csv: could not be read as a CSV file in UTF-8"),
        (put("trials.csv", b""), r"trials\.csv: has no rows; expected the header image_id,split"),
        (put("trials.csv", b"image_id,split\n"), r"trials\.csv: has no rows"),
        (
            put("trials.csv", "image_id,split\né,train".encode("latin-1")),
            r"trials\.csv: could not be read .* UTF-8",
        ),
        (
            put("trials.csv", b"image_id;split\na;train\n"),
            r"trials\.csv: its columns are separated by semicolons; save it with commas",
        ),
        (
            put("trials.csv", b'image_id,split\n"a,train\n'),
            r"trials\.csv: could not be read as a CSV file",
        ),
        (
            swap("trials.csv", "image_id", "imageid"),
            "found a column 'imageid'; did you mean 'image_id'",
        ),
        (
            swap("trials.csv", "session", "Sesion"),
            "found a column 'Sesion'; did you mean 'session'",
        ),
        (swap("trials.csv", "rt", "run"), "two columns are called 'run'"),
        (
            swap("trials.csv", ",split", ",kind"),
            r"no column 'split' among .*; add it, .*'test' in every row",
        ),
        (
            swap("trials.csv", "a,0.5,2,1,train", "a,0.5,2,1,test"),
            "image_id 'a' is in both splits; give all its rows",
        ),
        (
            swap("trials.csv", "test", "train"),
            "every split is 'train'; expected 'train' and 'test'",
        ),
        (
            swap("trials.csv", "train", "Train"),
            r"trials\.csv: line 3 has split 'Train'; expected 'train' or 'test'",
        ),
        (
            swap("trials.csv", "a,0.5,2", ",0.5,2"),
            "line 3 has no image_id; expected the name of the picture's file",
        ),
        (
            swap("trials.csv", "a,0.5,1", "a,0.5,0"),
            "line 11 has session '0'; expected a whole number from 1",
        ),
        (
            swap("trials.csv", "b,0.5,2,1", "b,0.5,2,1.5"),
            "line 2 has run '1.5'; expected a whole number",
        ),
        (
            swap("trials.csv", "a,0.5,2,1", "a,0.5,2"),
            "line 3 has 4 fields where the header has 5; put text",
        ),
        (
            swap("trials.csv", "b,", "c,"),
            r"images: no picture for 1 of 4 image_ids of trials.csv, such as 'c'",
        ),
        (
            put("images/b.tif", None),
            "no picture for 1 of 4 image_ids of trials.csv, such as 'b'; expected a file",
        ),
        (put("images/b.jpg", b""), r"images: found b\.jpg and b\.tif; expected one picture of 'b'"),
        (
            lambda folder: shutil.rmtree(folder / "images"),
            "images: no picture for 4 of 4 image_ids",
        ),
        (put("images/b.tif", b"none"), r"b\.tif: could not be read as a picture"),
        (cut("images/10.png", 40), r"10\.png: could not be read as a picture"),
        (cut("images/10.png", 1000), r"10\.png: could not be read as a picture"),
        (
            swap("captions.csv", "a,an ant\n", ""),
            r"captions\.csv: no caption for 1 of 4 images .*, such as 'a'",
        ),
        (
            swap("captions.csv", ",a bird", ","),
            r"captions\.csv: line 2 has no caption; expected a sentence",
        ),
        (
            swap("captions.csv", "a bird", "a bird, blue"),
            r"captions\.csv: line 2 has 3 fields where the header has 2",
        ),
        (
            swap("captions.csv", "caption", "captions"),
            "found a column 'captions'; did you mean 'caption'",
        ),
        (
            put("captions.csv", b"\xff\xfea"),
            r"captions\.csv: could not be read as a CSV file in UTF-8",
        ),
        (put("captions.csv", b""), r"captions\.csv: has no rows"),
        (
            put("categories.csv", b"image_id,category\n010,cat\n"),
            r"categories\.csv: no category for 4 of 4 images",
        ),
        (
            put("categories.csv", b"image_id,label\nb,cat\n"),
            "no column 'category' among image_id, label",
        ),
        (
            swap("voxels.csv", "0,0,1", "0,0,0"),
            r"voxels\.csv: line 3 is about the same x, y, z as an earlier line",
        ),
        (
            swap("voxels.csv", "0,0,1", "0,0,one"),
            r"voxels\.csv: line 3 has z 'one'; expected a whole number from 0",
        ),
        (swap("voxels.csv", "x,y,z", "X,y,z"), "found a column 'X'; did you mean 'x'"),
        (swap("voxels.csv", "roi", "rois"), "found a column 'rois'; did you mean 'roi'"),
        (swap("voxels.csv", "early", "all"), r"voxels\.csv: a region is called 'all'"),
        (
            swap("voxels.csv", ",V1,0.0", ",V1,high"),
            r"voxels\.csv: line 2 has ncsnr 'high'; expected a number",
        ),
        (cut("voxels.csv", 60), r"voxels\.csv: "),
        (put("voxels.csv", b""), r"voxels\.csv: has no rows"),
    ],
)
def test_every_damage_is_one_sentence(
    folder: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    damage(folder)
    with pytest.raises(PhospheneError, match=sentence) as raised:
        data = Arrays(folder)
        data.betas("all")
        data.images(range(4))
    assert "\n" not in str(raised.value) and str(folder) in str(raised.value)


def remove_a_chunk(folder: Path) -> None:
    (folder / "betas.zarr" / "c" / "1" / "2").unlink()


def cut_a_chunk(folder: Path) -> None:
    path = folder / "betas.zarr" / "c" / "1" / "2"
    path.write_bytes(path.read_bytes()[:20])


def group_for_array(folder: Path) -> None:
    shutil.rmtree(folder / "betas.zarr")
    zarr.open_group(folder / "betas.zarr", mode="w")


def two_datasets(folder: Path) -> None:
    with h5py.File(folder / "betas.h5", "a") as file:
        file["more"] = np.zeros((24, 24))


def text_dataset(folder: Path) -> None:
    with h5py.File(folder / "betas.h5", "w") as file:
        file["betas"] = np.full((24, 24), "text", object)


def another_grid(folder: Path) -> None:
    save_nifti(folder / "mask.nii.gz", np.ones((4, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("form", "damage", "sentence"),
    [
        (
            "zarr 3",
            remove_a_chunk,
            r"betas\.zarr: 1 of 20 files of chunks are not there; copy it again",
        ),
        ("zarr 3", cut_a_chunk, r"betas\.zarr: could not be read"),
        ("zarr 3", cut("betas.zarr/zarr.json", 100), r"zarr\.json: could not be read"),
        ("zarr 3", put("betas.zarr/zarr.json", None), r"betas\.zarr: could not be read"),
        ("zarr 3", group_for_array, r"betas\.zarr: is a zarr group"),
        ("zarr 2", swap("betas.zarr/.zarray", "<f4", "|O"), r"betas\.zarr: could not be read"),
        ("h5", two_datasets, r"betas\.h5: holds any name, more; expected one dataset called betas"),
        ("h5", text_dataset, r"betas\.h5: holds values of type object"),
        ("h5", cut("betas.h5", 1500), r"betas\.h5: could not be read"),
        ("h5", put("betas.h5", b""), r"betas\.h5: could not be read"),
        ("hdf5 chunks", cut("betas.hdf5", 3000), r"betas\.hdf5: could not be read"),
        (
            "nii.gz",
            put("mask.nii.gz", None),
            r"found no mask, expected exactly one of mask\.nii\.gz",
        ),
        (
            "nii.gz",
            put("mask.nii", b""),
            r"found mask\.nii\.gz and mask\.nii, expected exactly one",
        ),
        (
            "nii.gz",
            another_grid,
            r"betas\.nii\.gz: found the shape \(4, 3, 2, 24\), .* grid \(4, 2, 3\)",
        ),
        ("nii.gz", cut("mask.nii.gz", 60), r"mask\.nii\.gz: could not be read"),
        ("nii.gz", cut("betas.nii.gz", 60), r"betas\.nii\.gz: could not be read"),
        ("nii.gz", cut("betas.nii.gz", 1500), r"betas\.nii\.gz: could not be read"),
        (
            "nii.gz",
            put("betas.nii.gz", gzip.compress(b"nothing")),
            r"betas\.nii\.gz: could not be read",
        ),
        ("nii", cut("betas.nii", 1500), r"betas\.nii: could not be read"),
        ("nii", put("betas.nii", b""), r"betas\.nii: could not be read"),
        (
            "nii",
            swap("voxels.csv", "0,1,0", "0,0,3"),
            r"line 4 has y 0, but voxel 2 of the mask has 1; .* x slowest",
        ),
        (
            "nii",
            swap("trials.csv", "b,0.5,1,2,test\n", ""),
            r"found the shape \(24, 24\), .* with 23 trials",
        ),
    ],
)
def test_every_format_damaged(
    folder: Path, form: str, damage: Callable[[Path], None], sentence: str
) -> None:
    write_betas(folder, form, np.load(folder / "betas.npy"))
    damage(folder)
    with pytest.raises(PhospheneError, match=sentence) as raised:
        Arrays(folder).betas("all")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_pickle_inside_zarr_is_never_loaded(folder: Path, tmp_path: Path, place: str) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    write_betas(folder, "zarr 2", np.load(folder / "betas.npy"))
    described = json.loads((folder / "betas.zarr" / ".zarray").read_text())
    described |= {"filters": None, "compressor": None, "chunks": [24, 24]}
    described[place] = [{"id": "pickle"}] if place == "filters" else {"id": "pickle"}
    shutil.rmtree(folder / "betas.zarr")
    (folder / "betas.zarr").mkdir()
    (folder / "betas.zarr" / ".zarray").write_text(json.dumps(described))
    (folder / "betas.zarr" / "0.0").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(PhospheneError, match="betas.zarr: could not be read"):
        Arrays(folder).betas("all")
    assert not (tmp_path / "exploded").exists()


def test_with_a_mask_regions_alone_are_enough(folder: Path) -> None:
    write_betas(folder, "nii", np.load(folder / "betas.npy"))
    before = Arrays(folder).voxels("all")
    # "" in many rows
    pd.read_csv(folder / "voxels.csv")["roi"].to_csv(folder / "voxels.csv", index=False)
    pd.testing.assert_frame_equal(
        Arrays(folder).voxels("all"), before.assign(ncsnr=np.float32(np.nan))
    )


def test_spreadsheets_write_csv_in_their_own_ways(folder: Path) -> None:
    before = Arrays(folder).trials
    lines = (folder / "trials.csv").read_text(encoding="utf-8").splitlines()
    text = "\r\n".join([lines[0].replace(",", " , "), "", *lines[1:], "", ""])
    (folder / "trials.csv").write_text(text, encoding="utf-8-sig", newline="")
    pd.testing.assert_frame_equal(Arrays(folder).trials, before)


# ---- the study
# --------------------------------------------------------------------------------------------------


def test_the_documented_way_from_glmsingle_to_decoding(tmp_path: Path) -> None:
    """The code blocks of docs/own-data.md, run one after the other, then the study that ships, as
    far as z.
    """
    text = (REPOSITORY / "docs" / "own-data.md").read_text(encoding="utf-8")
    convert, look, makeup = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(None):
        for code in (makeup, convert, look):
            exec(compile(code, "docs/own-data.md", "exec"), {})
    shutil.copy(REPOSITORY / "studies" / "own-data.toml", tmp_path / "mystudy")
    study = Study.load(tmp_path / "mystudy" / "own-data.toml", root=tmp_path / "runs")
    assert study.name == "own-data" and study.replace("data.kind", "arrays") == study
    assert (
        Study().decode
        == study.replace("decode.z.rois", ["early"]).replace("decode.c.rois", ["ventral"]).decode
    )
    assert study.reconstruct == Study().reconstruct and study.evaluate.presets[0] == "pixel"
    steps = [Decode(study, "subj01", "z", source) for source in ("brain", "shuffled")]
    made = make(steps, Compute(progress=False))
    brain, shuffled = (np.asarray(artefact.array("r")) for artefact in made)
    # voxels are mixtures of the pictures' pixels
    assert np.nanmean(brain) > 0.5 and abs(np.nanmean(shuffled)) < 0.25


def test_the_documented_run_prints_the_documented_table(tmp_path: Path) -> None:
    """docs/own-data.md to the letter, on a machine without any weights."""
    text = (REPOSITORY / "docs" / "own-data.md").read_text(encoding="utf-8")
    convert, _, makeup = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    command = re.findall(r"^phosphene (run .*)$", text, re.MULTILINE)[0]
    quick = re.findall(r"For a quick look add `(.*?)`", text)[0]
    rows = [
        line.strip("| ").split(" | ")
        for line in text.splitlines()
        if line.startswith(("| z", "| c |", "| zc"))
    ]
    with contextlib.chdir(tmp_path):
        with contextlib.redirect_stdout(None):
            for code in (makeup, convert):
                exec(compile(code, "docs/own-data.md", "exec"), {})
        runner = CliRunner()
        assert runner.invoke(app, ["init", "mystudy", "--preset", "own-data"]).exit_code == 0
        result = runner.invoke(app, shlex.split(f"{command} {quick} --json"))
    assert result.exit_code == 0, result.output
    assert result.stderr.count("Left out") == 0  # the note is for people
    scores = pd.DataFrame(json.loads(result.stdout)["scores"])
    table = headline(scores, "pixel")
    assert [row[0] for row in rows] == list(table.index)
    expected = np.array([[float(value) for value in row[1:]] for row in rows])
    # two comparisons of ninety
    np.testing.assert_allclose(table.to_numpy(float), expected, atol=2.5)
    with contextlib.chdir(tmp_path):
        printed = runner.invoke(app, shlex.split(f"{command} {quick}"))
    assert printed.stderr.count("their weights are not here") == 1
    assert "preset pixel" in printed.stdout and "alexnet-owt" not in printed.output
