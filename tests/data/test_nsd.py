"""The reader of NSD against a small simulated folder: what was written in memory must come back,
and nothing else.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import scipy.io

from phosphene.data import open_dataset
from phosphene.data.check import check
from phosphene.data.nsd import NSD, files
from phosphene.data.nsd.betas import Betas
from phosphene.data.simulated.simulate import read_scenes, read_truth, simulate
from phosphene.errors import PhospheneError

pytestmark = pytest.mark.filterwarnings("ignore:.*voxels have no data")
BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
ROI = "nsddata/ppdata/subj01/func1pt8mm/roi"
EXPERIMENT = "nsddata/experiments/nsd"


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(
        tmp_path_factory.mktemp("nsd") / "nsd",
        images_shared=10,
        images_own=50,
        sessions=3,
        noise=0.2,
        nifti=True,
        picture_size=32,
        voxel_size=8.0,
    )


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "nsd"))


def test_betas_follow_the_truth(root: Path) -> None:
    data = open_dataset("nsd", root, "subj01")
    truth = read_truth(root, "subj01")
    assert len(set(data.shape)) == 3
    table = data.voxels(["early", "ventral"])
    assert set(table["streams"]) == {"early", "ventral"}
    x, y, z = table[["x", "y", "z"]].to_numpy().T
    assert (np.diff(np.ravel_multi_index((x, y, z), data.shape)) > 0).all()  # C order of (X, Y, Z)
    known = truth.voxels.reset_index().merge(
        table, on=["x", "y", "z"], suffixes=("_true", ""), how="right"
    )
    assert (known["stream"] == known["streams"]).all()
    row = {image: k for k, image in enumerate(truth.images)}
    expected = truth.responses[[row[image] for image in data.trials["image"]]][
        :, known["index"].to_numpy(int)
    ]
    betas = data.betas(["early", "ventral"])
    assert betas.dtype == np.float32 and betas.shape == expected.shape and np.isfinite(betas).all()
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(betas.T, expected.T, strict=True)]
    assert np.median(r) > 0.8 and np.min(r) > 0.2


def test_every_voxel_against_a_plain_reading(root: Path) -> None:
    data = NSD(root, "subj01")
    table = data.voxels("nsdgeneral")
    betas = data.betas("nsdgeneral", zscore="none")
    with h5py.File(root / BETAS / "betas_session02.hdf5") as file:
        whole = file["betas"][:]
    n = len(whole)
    for column in (0, 17, len(table) - 1):
        x, y, z = table.loc[column, ["x", "y", "z"]].astype(int)
        assert np.array_equal(
            betas[n : 2 * n, column], whole[:, z, y, x].astype(np.float32) / np.float32(300)
        )
    assert 0.5 < betas.std(0).mean() < 3  # percent signal change, not 300 times that


def test_hdf5_nifti_and_slabs_agree(root: Path, copy: Path) -> None:
    for session in (1, 2, 3):
        image = nib.load(root / BETAS / f"betas_session{session:02d}.nii.gz")
        with h5py.File(root / BETAS / f"betas_session{session:02d}.hdf5") as file:
            assert np.array_equal(np.asanyarray(image.dataobj), file["betas"][:].T)
            compressed = file["betas"][:]
        assert image.header["qform_code"] == 0 and image.header["sform_code"] == 1
        assert image.get_data_dtype() == np.int16 and np.isclose(image.header["pixdim"][4], 4 / 3)
        (copy / BETAS / f"betas_session{session:02d}.hdf5").unlink()
        with h5py.File(copy / f"betas_session{session:02d}.hdf5", "w") as file:
            file.create_dataset("betas", data=compressed, compression="gzip")
    expected = NSD(root, "subj01").betas("early")
    assert np.array_equal(NSD(copy, "subj01").betas("early"), expected)
    for session in (1, 2, 3):
        (copy / f"betas_session{session:02d}.hdf5").rename(
            copy / BETAS / f"betas_session{session:02d}.hdf5"
        )
    assert np.array_equal(NSD(copy, "subj01").betas("early"), expected)


def test_chunks_that_were_never_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "betas.hdf5", "w") as file:
        data = file.create_dataset("betas", (5, 2, 3, 4), "<i2", chunks=(5, 1, 1, 1))
        data[:, 1, 2, 3] = np.arange(5)
    read = Betas.open(tmp_path / "betas.hdf5").read(np.array([[0, 0, 0], [3, 2, 1]]))
    assert np.array_equal(read, np.stack([np.zeros(5), np.arange(5)], 1))


def test_trials_are_zero_based_and_log_agrees(root: Path) -> None:
    data = NSD(root, "subj01")
    log = pd.read_csv(root / "nsddata/ppdata/subj01/behav/responses.tsv", sep="\t")
    assert (
        np.array_equal(data.trials["image"], log["73KID"] - 1) and data.trials["image"].min() == 0
    )
    assert np.array_equal(data.trials["run"], log["RUN"]) and data.trials["session"].iloc[0] == 1
    assert np.array_equal(data.trials["split"] == "test", log["10KID"] <= 10)
    assert all(list(repeats) == [0, 1, 2] for _, repeats in data.trials.groupby("image")["repeat"])


def test_small_integers_in_the_design(copy: Path) -> None:
    path = copy / EXPERIMENT / "nsd_expdesign.mat"
    expected = NSD(copy, "subj01").trials
    design = {
        name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")
    }
    assert design["subjectim"].dtype == np.float64
    scipy.io.savemat(path, {name: value.astype(np.uint16) for name, value in design.items()})
    assert scipy.io.loadmat(path)["subjectim"].dtype == np.uint16
    pd.testing.assert_frame_equal(NSD(copy, "subj01").trials, expected)


def test_log_of_other_data_is_refused(copy: Path) -> None:
    path = copy / "nsddata/ppdata/subj01/behav/responses.tsv"
    log = pd.read_csv(path, sep="\t")
    log.loc[61, "73KID"] += 1
    log.to_csv(path, sep="\t", index=False, na_rep="NaN")
    with pytest.raises(PhospheneError, match="responses.tsv: row 63 says"):
        _ = NSD(copy, "subj01").trials
    log.drop(index=5).to_csv(path, sep="\t", index=False, na_rep="NaN")
    with pytest.raises(PhospheneError, match="59 trials of session 1"):
        _ = NSD(copy, "subj01").trials


def test_a_subject_who_did_not_come_to_the_last_session(copy: Path) -> None:
    """As subj03, 04, 06 and 08: the design plans more sessions than there are files and logged
    trials.
    """
    log = copy / "nsddata/ppdata/subj01/behav/responses.tsv"
    table = pd.read_csv(log, sep="\t")
    table[table["SESSION"] < 3].to_csv(log, sep="\t", index=False)
    for path in (copy / BETAS).glob("betas_session03.*"):
        path.unlink()
    data = NSD(copy, "subj01")
    assert (
        data.sessions == (1, 2)
        and len(data.trials) == len(data.betas("early")) == (table["SESSION"] < 3).sum()
    )
    assert set(data.trials["split"]) == {"train", "test"}
    lines = {line.item: line for line in check(copy, "nsd", "subj01", align=False)}
    assert "sessions 1-2 of 3 planned" in lines["betas"].found
    assert all(line.state in ("ok", "note") for line in lines.values())


def test_session_missing_in_the_middle(copy: Path) -> None:
    everything = NSD(copy, "subj01").betas("nsdgeneral", "none")
    known = NSD(copy, "subj01").voxels("nsdgeneral")
    for name in ("betas_session02.hdf5", "betas_session02.nii.gz"):
        (copy / BETAS / name).unlink()
    data = NSD(copy, "subj01")
    assert data.sessions == (1, 3) and set(data.trials["session"]) == {1, 3}
    rest = data.betas("nsdgeneral", "none")
    table = data.voxels("nsdgeneral")
    common = table.reset_index().merge(known, on=["x", "y", "z"])["index"]
    # session 2 is the one that lost some voxels
    assert len(common) == len(known) and len(table) > len(known)
    assert np.array_equal(rest[:, common], np.delete(everything, slice(60, 120), axis=0))
    with pytest.raises(PhospheneError, match=r"betas_session02.hdf5: no such file"):
        NSD(copy, "subj01", sessions=(1, 2, 3))


def test_uncovered_voxels_are_left_out_and_told(root: Path) -> None:
    data = NSD(root, "subj01")
    with pytest.warns(UserWarning, match=r"subj01: \d+ of \d+ voxels have no data"):
        betas = data.betas("brain")
    table = data.voxels("brain")
    valid = np.asanyarray(nib.load(root / "nsddata/ppdata/subj01/func1pt8mm/valid.nii.gz").dataobj)
    assert betas.shape[1] == len(table) == (valid > 0.999).sum() < (valid > 0).sum()
    fresh = NSD(root, "subj01").voxels("brain")  # asked for before any betas were read
    pd.testing.assert_frame_equal(fresh, table)
    assert np.isfinite(table["ncsnr"]).all()
    one = NSD(root, "subj01", sessions=(1,))
    assert one.betas("brain").shape[1] == (valid > 0).sum()


def test_zscore(root: Path) -> None:
    data = NSD(root, "subj01")
    raw = data.betas("ventral", "none").astype(float)
    session = data.trials["session"].to_numpy()
    for number in (1, 2, 3):
        part = raw[session == number]
        expected = (part - part.mean(0)) / part.std(0)
        assert np.allclose(data.betas("ventral", "session")[session == number], expected, atol=1e-4)
    train = (data.trials["split"] == "train").to_numpy()
    expected = (raw - raw[train].mean(0)) / raw[train].std(0)
    assert np.allclose(data.betas("ventral", "train"), expected, atol=1e-4)
    with pytest.raises(PhospheneError, match="found 'run', expected"):
        data.betas("ventral", "run")


def test_regions(root: Path, copy: Path) -> None:
    data = NSD(root, "subj01")
    assert data.rois[:7] == (
        "early",
        "midventral",
        "midlateral",
        "midparietal",
        "ventral",
        "lateral",
        "parietal",
    )
    assert data.rois[7] == "nsdgeneral" and data.rois[-1] == "brain" and "V3d" in data.rois
    sizes = [len(data.voxels(roi)) for roi in ("early", "ventral")]
    assert (
        len(data.voxels(["ventral", "early"]))
        == sum(sizes)
        == len(data.voxels(["early", "ventral", "early"]))
    )
    with pytest.raises(
        PhospheneError, match="no region 'ventrl' of subj01; did you mean 'ventral'"
    ):
        data.betas("ventrl")
    (copy / ROI / "prf-visualrois.nii.gz").unlink()
    assert "V3d" not in NSD(copy, "subj01").rois
    volume = nib.load(copy / ROI / "streams.nii.gz")
    crossed = np.ascontiguousarray(np.asanyarray(volume.dataobj).transpose(2, 1, 0))
    nib.save(nib.Nifti1Image(crossed, volume.affine), copy / ROI / "streams.nii.gz")
    with pytest.raises(PhospheneError, match=r"streams.nii.gz: its grid is"):
        NSD(copy, "subj01").betas("early")


def test_pictures_captions_categories(root: Path) -> None:
    data = NSD(root, "subj01")
    scenes = read_scenes(root)
    pictures = data.images([9, 3, 9, 59])
    assert pictures.shape == (4, 32, 32, 3) and pictures.dtype == np.uint8
    assert np.array_equal(pictures[0], pictures[2]) and not np.array_equal(pictures[0], pictures[1])
    for image, names, said in zip(
        range(60), data.categories(range(60)), data.captions(range(60)), strict=True
    ):
        assert set(names) == {thing.category for thing in scenes[image].things}
        assert len(said) == 5 and all(scenes[image].things[0].colour in text for text in said[:1])
    for wrong in (-1, 60):
        with pytest.raises(PhospheneError, match="nsd_stimuli.hdf5: image .* holds 0 to 59"):
            data.images([0, wrong])
    with pytest.raises(PhospheneError, match="no image with nsdId 60"):
        data.captions([60])


def test_things_outside_the_crop_do_not_count(copy: Path) -> None:
    path = copy / EXPERIMENT / "nsd_stim_info_merged.csv"
    table = pd.read_csv(path, index_col=0)
    table["cropBox"] = "(0, 0, 0.0, 0.99)"  # next to nothing is left
    table.to_csv(path)
    assert all(names == [] for names in NSD(copy, "subj01").categories(range(60)))


def test_what_is_missing_is_named(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(PhospheneError, match="no folder 'nsddata' in it"):
        NSD(tmp_path, "subj01")
    with pytest.raises(
        PhospheneError, match="subj02/func1pt8mm/betas_fithrf_GLMdenoise_RR: no such folder"
    ):
        NSD(copy, "subj02")
    with pytest.raises(PhospheneError, match="expected one of nsd, laion, arrays, haxby"):
        open_dataset("bold5000", copy, "subj01")
    shutil.rmtree(copy / "nsddata_stimuli/stimuli/nsd/annotations")
    with pytest.raises(PhospheneError, match="annotations_trainval2017.zip"):
        NSD(copy, "subj01").captions([1])
    damaged = copy / BETAS / "betas_session03.hdf5"
    damaged.write_bytes(damaged.read_bytes()[:50000])
    with pytest.raises(PhospheneError, match="betas_session03.hdf5: could not be read"):
        NSD(copy, "subj01").betas("early")
    (copy / EXPERIMENT / "nsd_expdesign.mat").write_bytes(b"nothing")
    with pytest.raises(PhospheneError, match="nsd_expdesign.mat: could not be read"):
        _ = NSD(copy, "subj01").trials


def test_counts_of_the_release() -> None:
    def trials(n_sessions: int, n_shared_trials: int) -> pd.DataFrame:
        n = 750 * n_sessions
        split = np.where(np.arange(n) < n_shared_trials, "test", "train")
        own = 1000 + (np.arange(n) - n_shared_trials) % 9000
        image = np.where(split == "test", np.arange(n) % 1000, own)
        return pd.DataFrame({"session": np.arange(n) // 750 + 1, "image": image, "split": split})

    assert files.check_counts("subj01", trials(40, 3000)) == []
    problems = files.check_counts("subj01", trials(40, 2000))
    assert (
        problems[0] == "subj01: 2000 test trials in 40 sessions; NSD has 3000"
        and len(problems) == 2
    )
    assert files.check_counts("subj01", trials(3, 100)) == []  # not a release: nothing to say
