"""Data as it lies on real disks: links to files that were not fetched, locked files, tables from
spreadsheets, grids that do not agree.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import zarr

from phosphene import disk
from phosphene.data import open_dataset
from phosphene.data.arrays import Arrays
from phosphene.data.laion.files import read_trials
from phosphene.data.nsd.files import check_responses
from phosphene.data.opening import read_table
from phosphene.errors import PhospheneError
from phosphene.metrics.image_files import read as read_pictures_to_score
from phosphene.models.diffusion import sources
from phosphene.models.perceptual import weights
from support.environment import ENVIRONMENT
from support.laion_data import SUBJECT
from support.nsd_data import small_nsd
from support.own_data import write_betas, write_picture

LINK = "is a link to a file that is not here; get it .`datalad get {}`.* or remove the link"


def refused(match: str) -> Any:
    return pytest.raises(PhospheneError, match=match)


def dangle(path: Path) -> Path:
    """Leave what DataLad leaves of a file that was not fetched."""
    path.unlink(missing_ok=True)
    path.symlink_to(".git/annex/objects/xx/yy/MD5E-s1--0")
    return path


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_nsd(tmp_path_factory.mktemp("nsd") / "nsd")


@pytest.fixture
def nsd(simulated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(simulated, tmp_path / "nsd"))


# Links to files that were not fetched


@pytest.mark.parametrize(
    "name",
    [
        "captions.csv",
        "categories.csv",
        "voxels.csv",
        "trials.csv",
        "betas.npy",
        "images/10.png",
    ],
)
def test_d8_links_in_a_folder_of_ones_own(folder: Path, name: str) -> None:
    if name == "images/10.png":
        for path in (folder / "images").glob("10.*"):
            path.unlink()
    dangle(folder / name)
    with refused(rf"{name}: {LINK.format(Path(name).name)}"):
        data = Arrays(folder)
        data.images([0, 1, 2, 3])


def test_d8_links_to_masks_and_chunks(folder: Path) -> None:
    values = np.load(folder / "betas.npy")
    write_betas(folder, "nii.gz", values.astype(np.int16))
    dangle(folder / "mask.nii.gz")
    with refused(rf"mask\.nii\.gz: {LINK.format('mask.nii.gz')}"):
        Arrays(folder)
    write_betas(folder, "zarr 3", values)
    dangle(folder / "betas.zarr" / "c" / "0" / "0")
    with refused(f"betas.zarr/c/0/0: {LINK.format('0')}"):
        Arrays(folder)


@pytest.mark.parametrize(
    ("pattern", "use"),
    [
        ("**/nsd_stim_info_merged.csv", lambda data: data.trials),
        ("**/nsd_stim_info_merged.csv", lambda data: data.key("captions")),
        ("**/responses.tsv", lambda data: data.trials),
        ("**/nsd_expdesign.mat", lambda data: data.trials),
        ("**/ncsnr.nii.gz", lambda data: data.voxels("early")),
        ("**/ncsnr.nii.gz", lambda data: data.key("ncsnr")),
        ("**/subj01/label/streams.mgz.ctab", lambda data: data.rois),
        ("**/brainmask.nii.gz", lambda data: data.betas("early")),
        ("**/nsd_stimuli.hdf5", lambda data: data.images([0])),
        ("**/captions_train2017.json", lambda data: data.captions(range(16))),
    ],
)
def test_d8_links_in_nsd(nsd: Path, pattern: str, use: Any) -> None:
    path = dangle(next(nsd.glob(pattern)))
    with refused(f"{path.name}: {LINK.format(path.name)}"):
        use(open_dataset("nsd", nsd, "subj01"))


@pytest.mark.parametrize(
    ("pattern", "use"),
    [
        ("**/*segmentations_metadata.csv", lambda data: data.categories([0])),
        ("**/*captions.csv", lambda data: data.captions([0])),
        ("**/*Noiseceiling12rep_statmap.nii.gz", lambda data: data.voxels("brain")),
        ("**/*stimuli.h5", lambda data: data.images([0])),
        ("splits/**/tau.json", lambda data: data.trials),
        ("**/ses-01/**/*Betas_statmap.nii.gz", lambda data: data.betas("brain")),
    ],
)
def test_d8_links_in_laion(root: Path, pattern: str, use: Any) -> None:
    path = dangle(next(root.glob(pattern)))
    with refused(f"{path.name}: {LINK.format(path.name)}"):
        use(open_dataset("laion", root, SUBJECT))


@pytest.mark.parametrize("name", ["labels.txt", "bold.nii.gz", "mask4_vt.nii.gz"])
def test_d8_links_in_haxby(full: Path, name: str) -> None:
    dangle(full / "subj1" / name)
    with refused(f"{name}: {LINK.format(name)}"):
        open_dataset("haxby", full, "subj1")


def test_d8_links_to_models_and_pictures(tmp_path: Path) -> None:
    dangle(tmp_path / "model.safetensors")
    with refused(f"model.safetensors: {LINK.format('model.safetensors')}"):
        sources.find(tmp_path / "model.safetensors")
    dangle(tmp_path / weights.FILES["alexnet"])
    with refused(LINK.format(weights.FILES["alexnet"])):
        weights.find("alexnet", tmp_path)
    dangle(tmp_path / "pictures.pt")
    with refused(LINK.format("pictures.pt")):
        read_pictures_to_score(tmp_path / "pictures.pt")


def test_d8_a_fingerprint_leaves_no_link_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    assert disk.fingerprint("x", tmp_path, [tmp_path / "a", tmp_path / "absent"])
    with refused(LINK.format("b")):
        disk.fingerprint("x", tmp_path, [tmp_path / "a", dangle(tmp_path / "b")])


# Locked and other HDF5, zarr


LOCK = """
import sys, h5py
file = h5py.File(sys.argv[1], "a")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["betas.h5", "betas_session01.hdf5", "nsd_stimuli.hdf5"])
def test_d14_a_locked_file_is_called_locked(folder: Path, nsd: Path, name: str) -> None:
    if name == "betas.h5":
        write_betas(folder, "h5", np.load(folder / "betas.npy"))
        path = folder / name
    else:
        path = next(nsd.glob(f"**/{name}"))
    command = [sys.executable, "-c", LOCK, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=ENVIRONMENT) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with refused(f"{name}: is locked by a program that has it open for writing; close it"):
            if name == "betas.h5":
                Arrays(folder)
            elif name == "nsd_stimuli.hdf5":
                open_dataset("nsd", nsd, "subj01").images([0])
            else:
                open_dataset("nsd", nsd, "subj01").betas("early")
        other.communicate("")


def test_d14_zarr_groups_and_zips(folder: Path) -> None:
    values = np.load(folder / "betas.npy")
    for version in (2, 3):
        write_betas(folder, "npy", values)
        (folder / "betas.npy").unlink()
        group = zarr.open_group(folder / "betas.zarr", mode="w", zarr_format=version)
        group.create_array("betas", data=values)
        with refused(r"betas\.zarr: is a zarr group; write the one array itself there"):
            Arrays(folder)
    shutil.make_archive(str(folder / "betas.zarr"), "zip", folder / "betas.zarr")
    shutil.rmtree(folder / "betas.zarr")
    with refused(r"found no betas, but betas\.zarr\.zip, expected exactly one of"):
        Arrays(folder)
    (folder / "betas.zarr.zip").rename(folder / "betas.zarr")
    with refused(r"betas\.zarr: is a file; expected the folder of a zarr array: unpack it"):
        Arrays(folder)


# Tables from spreadsheets


@pytest.mark.parametrize("ending", ["\n\n", "   \n", " \t \n\n", ",,,,\n", ",,,,\n,,,,\n \n"])
def test_d14_blank_last_lines_are_ignored(folder: Path, ending: str) -> None:
    expected = Arrays(folder).trials
    for name in ("trials.csv", "captions.csv"):
        text = (folder / name).read_text()
        columns = text.partition("\n")[0].count(",")
        (folder / name).write_text(text + ending.replace(",,,,", "," * columns))
    pd.testing.assert_frame_equal(Arrays(folder).trials, expected)


def test_d14_voxels_without_anything_to_say_are_no_blank_lines(folder: Path) -> None:
    write_betas(folder, "nii.gz", np.ones((24, 24), np.int16))
    (folder / "voxels.csv").write_text("roi,ncsnr\n" + "V1,1\n" * 20 + ",\n" * 4)
    assert (Arrays(folder)._voxels["roi"] == "").sum() == 4


@pytest.mark.parametrize(
    "content", ['image_id;split\n"a";train\n', "image_id;split\na;train\n", "\nimage_id;x\n"]
)
def test_d14_semicolons_are_named(folder: Path, content: str) -> None:
    (folder / "trials.csv").write_text(content)
    with refused(r"trials\.csv: its columns are separated by semicolons; save it with commas"):
        Arrays(folder)


def test_d14_tables_of_nsd_and_laion(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("SESSION;RUN;73KID\n1;1;5\n")
    with refused(r"x\.tsv: its columns are separated by semicolons; save it with tabs"):
        check_responses(path, pd.DataFrame({"session": [1], "run": [1], "image": [4]}))
    path.write_text("session,run,beta_index,label\n")
    with refused(r"x\.tsv: its columns are separated by commas; save it with tabs"):
        read_trials(path, 1)
    path.write_bytes(b"\xef\xbb\xbfa\tb\n1\t\n2\t3\n\t\n  \n")
    table = read_table(path, "\t")
    assert list(table.columns) == ["a", "b"] and table["a"].tolist() == [1, 2]


# Grids


SHIFTED = np.array([[1.0, 0, 0, 50], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def shift(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), SHIFTED @ image.affine), path)


def test_d4_betas_of_nsd_lie_where_the_brain_mask_lies(nsd: Path) -> None:
    next(nsd.glob("**/betas_session01.hdf5")).unlink()
    open_dataset("nsd", nsd, "subj01").betas("early")
    shift(next(nsd.glob("**/betas_session01.nii.gz")))
    with refused(r"betas_session01\.nii\.gz: its header puts the grid up to 50\.0 mm from"):
        open_dataset("nsd", nsd, "subj01").betas("early")


def test_d4_betas_of_laion_lie_where_their_fit_lies(root: Path) -> None:
    path = next(root.glob("**/ses-01/**/*Betas_statmap.nii.gz"))
    shift(path)
    with refused(r"Betas_statmap\.nii\.gz: its header puts the grid up to 50\.0 mm from"):
        open_dataset("laion", root, SUBJECT).betas("brain")


# Pictures to be scored


def test_d8_a_picture_that_was_not_fetched_is_not_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_picture(tmp_path / f"{name}.png", (16, 16))
    dangle(tmp_path / "c.png")
    with refused(rf"c\.png: {LINK.format('c.png')}"):
        read_pictures_to_score(tmp_path)


def test_d8_hdf5_is_found_by_its_name_alone(folder: Path) -> None:
    with h5py.File(folder / "betas.h5", "w") as file:
        file["betas"] = np.zeros((24, 24))
    dangle(folder / "betas.npy")
    with refused(rf"betas\.npy: {LINK.format('betas.npy')}"):
        Arrays(folder)
