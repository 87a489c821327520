"""The keys of a data set's parts: every change of a file changes the parts that are read from it,
and no other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data import Dataset
from phosphene.data.arrays import Arrays
from phosphene.data.check import check
from phosphene.data.haxby import Haxby, dataset
from phosphene.data.keys import PARTS, content_key
from phosphene.data.laion.dataset import LaionFMRI
from phosphene.data.nsd import NSD
from phosphene.data.simulated.simulate import simulate
from phosphene.errors import NoDataError, PhospheneError
from support import haxby_data, laion_data
from support.own_data import write_betas, write_picture

SCANS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
ROI = "nsddata/ppdata/subj01/func1pt8mm/roi"
LABELS = "nsddata/freesurfer/subj01/label"
EXPERIMENT = "nsddata/experiments/nsd"
STIMULI = "nsddata_stimuli/stimuli/nsd"
COCO = f"{STIMULI}/annotations"
ROIS = f"derivatives/rois/{laion_data.SUBJECT}"
FOREIGN = (".DS_Store", "._x", "Thumbs.db", "THUMBS.DB", "desktop.ini")

Change = Callable[[Path], object]


def keys(data: Dataset, regions: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """The key of every part, and of regions and labels one for each name."""
    parts = {part: data.key(part) for part in PARTS if part not in ("regions", "labels")}
    parts |= {f"regions {name}": data.key("regions", [name]) for name in regions}
    parts |= {f"labels {name}": data.key("labels", [name]) for name in labels}
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in parts.values())
    return parts


def nsd_keys(root: Path, **options: Any) -> dict[str, str]:
    data = NSD(root, "subj01", **options)
    return keys(data, ("early", "ventral", "lh.early", "V1v"), ("streams", "prf-visualrois"))


def own_keys(root: Path) -> dict[str, str]:
    return keys(Arrays(root), ("V1", "early", "all"), ("roi",))


def haxby_keys(root: Path) -> dict[str, str]:
    return keys(Haxby(root, "subj1"), ("brain", "vt", "face"), ("brain", "vt", "face"))


def laion_keys(root: Path, **options: Any) -> dict[str, str]:
    data = LaionFMRI(root, laion_data.SUBJECT, **options)
    return keys(data, ("V1v", "OFA", "face", "laion"), ("face", "retinotopy", "laion"))


def differing(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {part for part in before if before[part] != after[part]}


# ---- changes
# ------------------------------------------------------------------------------------------------


def flip(path: str) -> Change:
    """Change the last byte of a file."""

    def change(root: Path) -> None:
        content = (root / path).read_bytes()
        (root / path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    return change


def append(path: str, text: str) -> Change:
    def change(root: Path) -> None:
        with (root / path).open("a") as file:
            file.write(text)

    return change


def replace(path: str, old: str, new: str) -> Change:
    def change(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new))

    return change


def edit_volume(path: str, edit: Callable[[NDArray[Any]], object]) -> Change:
    def change(root: Path) -> None:
        image: Any = nib.load(root / path)
        values = np.asanyarray(image.dataobj).copy()
        edit(values)
        nib.save(nib.Nifti1Image(values, image.affine), root / path)  # type: ignore[no-untyped-call]

    return change


def put(value: float, old: float) -> Callable[[NDArray[Any]], object]:
    """Give the first voxel with the value `old` another one."""

    def edit(values: NDArray[Any]) -> None:
        values[tuple(np.argwhere(values == old)[0])] = value

    return edit


def edit_table(path: str, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Change:
    def change(root: Path) -> None:
        edit(pd.read_csv(root / path)).to_csv(root / path, index=False)

    return change


def touch(root: Path) -> None:
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))


def move_to_links(root: Path) -> None:
    """As git-annex keeps them: every file is a link to one elsewhere."""
    for path in [path for path in root.rglob("*") if path.is_file()]:
        target = root.parent / "annex" / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        path.symlink_to(target)


def litter(root: Path) -> None:
    """Hidden and foreign files in every folder, and one beside each file as macOS makes them."""
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    files = [path for path in root.rglob("*") if path.is_file()]
    for folder in folders:
        for name in FOREIGN:
            (folder / name).write_bytes(b"\0\5\26\7")
        for name in ("__MACOSX", ".Trashes"):
            (folder / name).mkdir()
            (folder / name / "copy.jpg").write_bytes(b"\0\5\26\7")
            (folder / name / "copy.nii.gz").write_bytes(b"\0\5\26\7")
    for path in files:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")


COMMON: list[tuple[Change, set[str]]] = [(touch, set()), (move_to_links, set()), (litter, set())]


# ---- NSD
# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("keys") / "nsd"
    return simulate(
        place, images_shared=10, images_own=50, sessions=2, picture_size=32, voxel_size=8.0
    )


@pytest.fixture
def nsd(simulated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(simulated, tmp_path / "elsewhere"))


def add_region(root: Path) -> None:
    shutil.copy(root / ROI / "nsdgeneral.nii.gz", root / ROI / "mymask.nii.gz")


def only_training_pictures_of_coco(root: Path) -> None:
    path = root / EXPERIMENT / "nsd_stim_info_merged.csv"
    table = pd.read_csv(path, index_col=0)
    table.assign(cocoSplit="train2017").to_csv(path)


NSD_CHANGES: list[tuple[Change, set[str]]] = [
    *COMMON,
    (flip(f"{SCANS}/betas_session02.hdf5"), {"betas"}),
    (flip(f"{SCANS}/ncsnr.nii.gz"), {"ncsnr"}),
    # label 1 is "early", 5 "ventral", 7 "parietal"
    (
        edit_volume(f"{ROI}/streams.nii.gz", put(0, old=1)),
        {"regions early", "labels streams"},
    ),
    (
        edit_volume(f"{ROI}/streams.nii.gz", put(5, old=1)),
        {"regions early", "regions ventral", "labels streams"},
    ),
    (edit_volume(f"{ROI}/streams.nii.gz", put(0, old=7)), {"labels streams"}),
    (edit_volume(f"{ROI}/lh.streams.nii.gz", put(0, old=1)), {"regions lh.early"}),
    (
        edit_volume(f"{ROI}/prf-visualrois.nii.gz", put(0, old=1)),
        {"regions V1v", "labels prf-visualrois"},
    ),
    (replace(f"{LABELS}/streams.mgz.ctab", "midventral", "mid"), {"labels streams"}),
    (edit_volume(f"{ROI}/nsdgeneral.nii.gz", put(0, old=1)), set()),
    (add_region, set()),
    (flip(f"{STIMULI}/nsd_stimuli.hdf5"), {"images"}),
    (append(f"{COCO}/captions_train2017.json", "\n"), {"captions"}),
    (append(f"{COCO}/instances_val2017.json", "\n"), {"categories", "segmentation"}),
    (append(f"{COCO}/person_keypoints_val2017.json", "{}"), set()),
    (only_training_pictures_of_coco, {"captions", "categories", "segmentation"}),
    # a column that is not read
    (edit_table(f"{EXPERIMENT}/nsd_stim_info_merged.csv", lambda t: t.assign(loss=0.2)), set()),
    (append(f"{EXPERIMENT}/nsd_notes.txt", "read this"), set()),
    (lambda root: (root / "nsddata/ppdata/subj01/behav/responses.tsv").unlink(), set()),
]


@pytest.mark.parametrize(("change", "parts"), NSD_CHANGES)
def test_nsd(simulated: Path, nsd: Path, change: Change, parts: set[str]) -> None:
    before = nsd_keys(simulated)
    assert nsd_keys(nsd) == before
    change(nsd)
    assert differing(before, nsd_keys(nsd)) == parts


def test_sessions_of_nsd(simulated: Path, nsd: Path) -> None:
    fewer = {"trials", "betas", "captions", "categories", "segmentation"}
    assert differing(nsd_keys(simulated), nsd_keys(simulated, sessions=(1,))) >= {"trials", "betas"}
    assert differing(nsd_keys(simulated), nsd_keys(simulated, sessions=(1,))) <= fewer
    before = nsd_keys(nsd, sessions=(1,))
    flip(f"{SCANS}/betas_session02.hdf5")(nsd)
    assert nsd_keys(nsd, sessions=(1,)) == before


def test_annotations_of_a_split_that_is_not_shown(nsd: Path) -> None:
    only_training_pictures_of_coco(nsd)
    before = nsd_keys(nsd)
    for kind in ("captions", "instances"):
        append(f"{COCO}/{kind}_val2017.json", "\n")(nsd)
    assert nsd_keys(nsd) == before


def test_unions_and_unknown_names(simulated: Path, nsd: Path) -> None:
    data = NSD(simulated, "subj01")
    union = data.key("regions", ["early", "ventral"])
    assert union == data.key("regions", ["ventral", "early", "early"])
    assert len({union, data.key("regions", ["early"]), data.key("regions", ["ventral"])}) == 3
    assert data.key("labels", ["streams", "nothing"]) == data.key("labels", ["streams"])
    assert data.key("labels", ["nothing"]) == data.key("labels")
    with pytest.raises(PhospheneError, match="no region 'erly' of subj01; did you mean 'early'"):
        data.key("regions", ["erly"])
    with pytest.raises(ValueError, match="unknown part 'behaviour'; expected one of trials, betas"):
        data.key("behaviour")
    volume = f"{ROI}/nsdgeneral.nii.gz"
    edit_volume(volume, lambda values: values.fill(0))(nsd)
    with pytest.raises(NoDataError, match="'nsdgeneral' holds no voxel of subj01"):
        NSD(nsd, "subj01").key("regions", ["nsdgeneral"])


def test_files_that_are_not_there(simulated: Path, nsd: Path) -> None:
    """A part without files has a key: what misses them is the step that reads them."""
    before = nsd_keys(simulated)
    shutil.rmtree(nsd / "nsddata_stimuli")
    (nsd / SCANS / "ncsnr.nii.gz").unlink()
    pictures = {"images", "captions", "categories", "segmentation"}
    assert differing(before, nsd_keys(nsd)) == {"ncsnr", *pictures}
    (nsd / EXPERIMENT / "nsd_stim_info_merged.csv").unlink()
    assert differing(before, nsd_keys(nsd)) == {"ncsnr", *pictures}


def test_no_responses_are_read_for_regions(nsd: Path) -> None:
    before = nsd_keys(nsd)
    (nsd / SCANS / "betas_session01.hdf5").write_bytes(b"no HDF5")
    assert differing(before, nsd_keys(nsd)) == {"betas"}


def test_check_does_not_see_hidden_files(simulated: Path, nsd: Path) -> None:
    before = check(simulated, "nsd", "subj01", align=False)
    litter(nsd)
    assert [line.state for line in check(nsd, "nsd", "subj01", align=False)] == [
        line.state for line in before
    ]


# ---- a lab's own folder
# ------------------------------------------------------------------------------------------------


def swap_splits(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(split=table["split"].map({"train": "test", "test": "train"}))


def set_entry(column: str, row: int, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def edit(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(
            **{column: [value if k == row else old for k, old in enumerate(table[column])]}
        )

    return edit


def rename_picture(root: Path) -> None:
    (root / "images" / "a.PNG").rename(root / "images" / "a new name.png")
    for name in ("trials", "captions", "categories"):
        path = root / f"{name}.csv"
        table = pd.read_csv(path)
        table.assign(image_id=table["image_id"].replace("a", "a new name")).to_csv(
            path, index=False
        )


OWN_CHANGES: list[tuple[Change, set[str]]] = [
    *COMMON,
    (flip("betas.npy"), {"betas"}),
    (edit_table("trials.csv", swap_splits), {"trials"}),
    (edit_table("trials.csv", set_entry("rt", 3, 0.7)), set()),  # a column that is not read
    (rename_picture, {"trials", "images", "captions", "categories", "segmentation"}),
    # voxel 0 is in V1, 7 in both, 12 in none, 20 in "early"
    (
        edit_table("voxels.csv", set_entry("roi", 0, "")),
        {"regions V1", "labels roi"},
    ),
    (
        edit_table("voxels.csv", set_entry("roi", 7, "early; V1")),
        {"labels roi"},
    ),
    (
        edit_table("voxels.csv", set_entry("roi", 12, "new region")),
        {"labels roi"},
    ),
    (
        edit_table("voxels.csv", set_entry("x", 20, 77)),
        {"regions early", "regions all"},
    ),
    (edit_table("voxels.csv", set_entry("ncsnr", 5, 0.9)), {"ncsnr"}),
    (
        lambda root: (
            (root / "images" / "b.tif").unlink()
            or write_picture(root / "images" / "b.tif", (33, 50), 9)
        ),
        {"images"},
    ),
    (lambda root: write_picture(root / "images" / "not shown.png", (20, 20)), set()),
    (append("captions.csv", "b,a third sentence\n"), {"captions"}),
    (append("categories.csv", "b,tree\n"), {"categories"}),
    (append("notes.txt", "not read"), set()),
]


@pytest.mark.parametrize(("change", "parts"), OWN_CHANGES)
def test_own_data(folder: Path, tmp_path: Path, change: Change, parts: set[str]) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = own_keys(folder)
    assert own_keys(copy) == before
    change(copy)
    assert differing(before, own_keys(copy)) == parts


@pytest.mark.parametrize("form", ["npy", "zarr 2", "zarr 3", "h5", "nii.gz"])
def test_every_file_of_own_betas(folder: Path, form: str) -> None:
    write_betas(folder, form, np.load(folder / "betas.npy"))
    data = Arrays(folder)
    files = [path for path in folder.glob("betas.*") if path.is_file()]
    files += [path for path in folder.glob("betas.*/**/*") if path.is_file()]
    files += folder.glob("mask.*")
    # attributes of the user, which are not read
    files = [path for path in files if path.name != ".zattrs"]
    before = data.key("betas")
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert data.key("betas") != before, path
        path.write_bytes(content)
    assert data.key("betas") == before
    litter(folder)
    assert Arrays(folder).key("betas") == before
    assert np.isfinite(Arrays(folder).betas("all")).all()


def test_the_folder_of_a_subject_may_have_any_name(folder: Path) -> None:
    before = own_keys(folder)
    folder.rename(folder.with_name("other"))
    assert own_keys(folder.with_name("other")) == before


# ---- Haxby et al.
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def haxby(full: Path) -> Path:
    for shade, name in enumerate(dataset.STIMULI):
        for file in ("a.jpg", "b.jpg"):
            path = full / "stimuli" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            write_picture(path, (20, 20), shade)
    return full


HAXBY_CHANGES: list[tuple[Change, set[str]]] = [
    *COMMON,
    (flip("subj1/bold.nii.gz"), {"betas"}),
    (replace("subj1/labels.txt", "rest 0", "rest  0"), {"betas"}),
    (replace("subj1/labels.txt", "shoe 0", "cat 0"), {"trials", "betas"}),
    (
        edit_volume("mask.nii.gz", put(0, old=1)),
        {"regions brain"},
    ),
    (
        edit_volume("subj1/mask4_vt.nii.gz", put(0, old=1)),
        {"regions vt", "labels vt"},
    ),
    (
        lambda root: haxby_data.save(
            root / "subj1" / "mask8_house_vt.nii.gz", np.ones(haxby_data.GRID, np.int16)
        ),
        set(),
    ),
    (flip("stimuli/cats/a.jpg"), {"images"}),
    (flip("stimuli/cats/b.jpg"), set()),  # the first one is shown
]


@pytest.mark.parametrize(("change", "parts"), HAXBY_CHANGES)
def test_haxby(haxby: Path, tmp_path: Path, change: Change, parts: set[str]) -> None:
    copy = Path(shutil.copytree(haxby, tmp_path / "elsewhere" / "haxby2001"))
    before = haxby_keys(haxby)
    assert haxby_keys(copy) == before
    change(copy)
    assert differing(before, haxby_keys(copy)) == parts
    if change is litter:
        assert np.array_equal(Haxby(copy).images([0, 1]), Haxby(haxby).images([0, 1]))


def test_an_empty_region_of_haxby(full: Path) -> None:
    haxby_data.save(full / "subj1" / "mask8_face_vt.nii.gz", np.zeros(haxby_data.GRID, np.int16))
    data = Haxby(full, "subj1")
    with pytest.raises(NoDataError, match="'face'.* holds no voxel with data"):
        data.key("regions", ["face"])
    with pytest.raises(PhospheneError, match="no region 'fase' of subj1; did you mean 'face'"):
        data.key("regions", ["fase"])


# ---- LAION-fMRI
# ------------------------------------------------------------------------------------------------


def laion_path(name: str, session: int = 0) -> str:
    return str(laion_data.glm(Path(), name, session))


def mask_path(folder: str, label: str) -> str:
    return f"{ROIS}/{folder}/{laion_data.SUBJECT}_space-T1w_res-1pt8_label-{label}_mask.nii.gz"


def swap_trials(root: Path) -> None:
    """Exchange what two trials of session 1 and run 1 showed: one of a training picture, one of a
    picture that the split "tau" does not name.
    """
    path = root / laion_path(laion_data.TRIALS, 1)
    table = pd.read_csv(path, sep="\t")
    labels = table["label"].tolist()
    labels[2], labels[3] = labels[3], labels[2]
    table.assign(label=labels).to_csv(path, sep="\t", index=False)


LAION_CHANGES: list[tuple[Change, set[str]]] = [
    *COMMON,
    (flip(laion_path(laion_data.BETAS, 2)), {"betas"}),
    (append(laion_path(laion_data.TRIALS, 2), "\n"), set()),
    # the table of trials stays as it is, but other rows of the file of betas belong to it
    (swap_trials, {"betas"}),
    (flip(laion_path("desc-Noiseceiling12rep")), {"ncsnr"}),
    (
        edit_volume(mask_path("face", "OFA"), put(1, old=0)),
        {"regions OFA", "regions face", "labels face"},
    ),
    # outside of the brain
    (
        edit_volume(mask_path("retinotopy", "V1v"), lambda v: v.__setitem__(laion_data.OUTSIDE, 0)),
        {"labels retinotopy"},
    ),
    (lambda root: laion_data.region(root, "place", "OPA", (1, 1, 1)), set()),
    (flip("stimuli/task-images_stimuli.h5"), {"images"}),
    (append("stimuli/task-images_desc-captions.csv", "x,1,human,y\n"), {"captions"}),
    (append("stimuli/task-images_desc-segmentations_metadata.csv", "x,y,1\n"), {"categories"}),
    (append("stimuli/task-images_metadata.csv", "not shown.jpg,LAION,,shared,12rep\n"), set()),
    (replace(f"splits/{laion_data.SUBJECT}/tau.json", '"n_train": 3', '"n_train": 4'), set()),
]


@pytest.mark.parametrize(("change", "parts"), LAION_CHANGES)
def test_laion(root: Path, tmp_path: Path, change: Change, parts: set[str]) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    before = laion_keys(root)
    assert laion_keys(copy) == before
    change(copy)
    assert differing(before, laion_keys(copy)) == parts


def test_splits_and_sessions_of_laion(root: Path) -> None:
    before = laion_keys(root)
    # "ood" also names a picture that "tau" leaves out
    pictures = {"images", "captions", "categories", "segmentation"}
    assert differing(before, laion_keys(root, split="ood")) == {"trials", "betas", *pictures}
    assert differing(before, laion_keys(root, sessions=[1])) == {"trials", "betas"}


# ---- contents and files
# ------------------------------------------------------------------------------------------------


def test_contents_are_known_by_value() -> None:
    table = pd.DataFrame({"run": [1, 2], "split": ["train", "test"]})
    key = content_key("a", table)
    for same in (
        table.astype({"run": np.int16, "split": object}),
        table.set_index(pd.Index([7, 8])),
        pd.DataFrame({"run": np.array([1, 2], np.uint32), "split": ["train", "test"]}),
    ):
        assert content_key("a", same) == key
    for other in (table[::-1], table[["split", "run"]], table.rename(columns={"run": "x"})):
        assert content_key("a", other) != key
    assert content_key("b", table) != key
    assert content_key("a", ["b", "c"]) != content_key("a", ["bc"]) != content_key("a", ["b"], "c")
    assert content_key("a", np.zeros((2, 3))) != content_key("a", np.zeros((3, 2)))


def test_listed_files(tmp_path: Path) -> None:
    names = ("b.txt", "a.txt", "deep/c.txt", "deep/.d.txt", ".deep/e.txt", "__macosx/f.txt")
    for name in (*names, *FOREIGN, "deep/Desktop.INI"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    (tmp_path / "annexed").symlink_to(tmp_path / "not here")

    def listed(pattern: str) -> list[str]:
        paths = disk.list_files(tmp_path, pattern)
        return [path.relative_to(tmp_path).as_posix() for path in paths]

    assert listed("*") == ["a.txt", "annexed", "b.txt", "link"]
    assert listed("**/*.txt") == ["a.txt", "b.txt", "deep/c.txt"]
    assert listed("*/c.txt") == ["deep/c.txt"]
    assert disk.list_files(tmp_path / "absent") == []
    hidden = tmp_path / ".cache"
    hidden.mkdir()
    (hidden / "x").touch()
    assert disk.list_files(hidden) == [hidden / "x"]  # the folder itself may be hidden
