"""LAION-fMRI: a tiny synthetic folder in the documented layout, read back against nibabel, pandas
and PIL.
"""

from __future__ import annotations

import io
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from phosphene.data.laion.dataset import LaionFMRI
from phosphene.data.scans import Scans
from phosphene.errors import PhospheneError
from support.laion_data import (
    BETAS,
    CONSTANT,
    GRID,
    NAMES,
    NAN,
    OOD,
    SHARED,
    SHOWN,
    SPLITS,
    SUBJECT,
    TRIALS,
    UNIQUE,
    encoded,
    glm,
    save,
)


def by_hand(root: Path, mask: NDArray[np.bool_], split: str) -> list[NDArray[np.float64]]:
    """Betas of each session, with nibabel's masks and pandas."""
    found = []
    for session in SHOWN:
        image: Any = nib.load(glm(root, BETAS, session))
        shown = pd.read_csv(glm(root, TRIALS, session), sep="\t")["label"]
        found.append(image.get_fdata()[mask].T[shown.isin(sum(SPLITS[split], []))])
    return found


# ---- trials and betas
# -----------------------------------------------------------------------------------------------


def test_trials(root: Path) -> None:
    data = LaionFMRI(root, SUBJECT)
    rows = [(s, run, name) for s, shown in SHOWN.items() for run, name in shown if name != OOD]
    assert list(data.trials.columns) == ["session", "run", "image", "repeat", "split"]
    assert list(zip(data.trials["session"], data.trials["run"], strict=True)) == [
        row[:2] for row in rows
    ]
    assert [NAMES[image] for image in data.trials["image"]] == [name for *_, name in rows]
    assert data.trials["repeat"].tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 1, 2]
    assert data.trials["split"].tolist() == [
        "test" if name == SHARED[1] else "train" for *_, name in rows
    ]
    everything = LaionFMRI(root, SUBJECT, split="ood").trials
    assert everything["split"].tolist() == [
        "test" if name == OOD else "train" for shown in SHOWN.values() for _, name in shown
    ]
    shared = LaionFMRI(root, SUBJECT, split="ood", pool="shared").trials
    assert sorted(set(shared["image"])) == [1, 2, 4]


@pytest.mark.filterwarnings("error")  # voxels outside the brain are not even mentioned
@pytest.mark.parametrize("split", ["tau", "ood"])
@pytest.mark.parametrize("rois", ["V1v", ["OFA", "V1v"], "laion"])
def test_betas(root: Path, rois: str | list[str], split: str) -> None:
    data = LaionFMRI(root, SUBJECT, split=split)
    voxels = {
        "V1v": [(0, 0, 0), (0, 3, 1), (4, 0, 2)],
        "OFA": [(2, 2, 2)],
        "laion": [(2, 2, 2), (4, 0, 2)],
    }
    mask = np.zeros(GRID, bool)
    for roi in [rois] if isinstance(rois, str) else rois:
        mask[tuple(np.transpose(voxels[roi]))] = True
    sessions = by_hand(root, mask, split)
    train = (data.trials["split"] == "train").to_numpy()
    raw = np.concatenate(sessions)
    expected = {
        "none": raw,
        "session": np.concatenate([(block - block.mean(0)) / block.std(0) for block in sessions]),
        "train": (raw - raw[train].mean(0)) / raw[train].std(0),
    }
    for zscore, wanted in expected.items():
        found = data.betas(rois, zscore)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert data.voxels(rois)[["x", "y", "z"]].to_numpy().tolist() == np.argwhere(mask).tolist()


def test_voxels_without_data(root: Path) -> None:
    data = LaionFMRI(root, SUBJECT, split="ood")
    with pytest.warns(UserWarning, match="2 of 4 voxels have no data"):
        betas = data.betas("FFA1")
    with pytest.warns(UserWarning, match="2 of 4"):
        # knows it without betas() as well
        voxels = LaionFMRI(root, SUBJECT, split="ood").voxels("FFA1")
    assert np.isfinite(betas).all() and betas.shape == (12, 2)
    assert voxels[["x", "y", "z"]].to_numpy().tolist() == [[0, 3, 1], [3, 1, 0]]
    kept = data.betas("FFA1", uncovered="nan")
    assert data.voxels("FFA1", uncovered="nan")[["x", "y", "z"]].to_numpy().tolist() == [
        [0, 3, 1],
        list(CONSTANT),
        [3, 1, 0],
        list(NAN),
    ]
    np.testing.assert_array_equal(np.isnan(kept[:7]), np.tile([False, False, False, True], (7, 1)))
    np.testing.assert_array_equal(np.isnan(kept[7:]), np.tile([False, True, False, False], (5, 1)))


def test_nan_in_a_trial_that_is_left_out_does_no_harm(root: Path) -> None:
    image: Any = nib.load(glm(root, BETAS, 1))
    betas = image.get_fdata().astype(np.float32)
    betas[NAN][3] = 1.0  # NaN remains in the trial of OOD alone, which "tau" does not name
    save(glm(root, BETAS, 1), betas)
    with pytest.warns(UserWarning, match="1 of 5"):
        assert (
            list(NAN)
            in LaionFMRI(root, SUBJECT).voxels("face")[["x", "y", "z"]].to_numpy().tolist()
        )


def test_stored(root: Path) -> None:
    data = LaionFMRI(root, SUBJECT)
    assert isinstance(data, Scans)
    for session, wanted in zip(
        data.sessions, by_hand(root, np.ones(GRID, bool), "tau"), strict=True
    ):
        found = data.stored("brain", session)
        brain = np.ravel_multi_index(
            tuple(data.voxels("brain", uncovered="nan")[["x", "y", "z"]].to_numpy().T), GRID
        )
        assert len(brain) == np.prod(GRID) - 1 and found.dtype == data.dtype
        np.testing.assert_allclose(found, wanted[:, brain], rtol=1e-5)


def test_memory_is_a_few_volumes(root: Path) -> None:
    """One session takes 71 MB when it is whole; reading ahead takes about 10 MB, whatever its
    size.
    """
    shape = (48, 40, 44)
    n_trials = len(SHOWN[1]) * 30
    save(glm(root, BETAS, 1), np.ones((*shape, n_trials), np.float32))
    save(glm(root, "stat-rsquare_desc-R2mean"), np.ones(shape, np.float32))
    path = glm(root, TRIALS, 1)
    table = pd.concat([pd.read_csv(path, sep="\t")] * 30, ignore_index=True)
    table.assign(beta_index=range(n_trials)).to_csv(path, sep="\t", index=False)
    mask = np.zeros(shape, np.uint8)
    mask[3, :, 7] = 1
    save(
        root
        / "derivatives"
        / "rois"
        / SUBJECT
        / "face"
        / f"{SUBJECT}_space-T1w_res-1pt8_label-big_mask.nii.gz",
        mask,
    )
    data = LaionFMRI(root, SUBJECT, sessions=[1])
    assert len(data.trials) == 180
    tracemalloc.start()
    betas = data.stored("big", 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert betas.shape == (180, 40)
    assert peak < 20e6


# ---- regions
# --------------------------------------------------------------------------------------------------


def test_regions(root: Path) -> None:
    data = LaionFMRI(root, SUBJECT)
    assert data.rois == (
        "FFA1",
        "OFA",
        "laionEVC",
        "laiongeneral",
        "V1v",
        "face",
        "laion",
        "retinotopy",
        "brain",
    )
    assert data.shape == GRID and data.affine[0, 0] == pytest.approx(1.778)
    table = data.voxels(["V1v", "OFA"])
    assert table["retinotopy"].tolist() == ["V1v", "V1v", "", "V1v"]
    assert table["face"].tolist() == ["", "FFA1", "OFA", ""]
    assert table["laion"].tolist() == ["", "", "laiongeneral", "laionEVC;laiongeneral"]
    image: Any = nib.load(glm(root, "desc-Noiseceiling12rep"))
    ceiling = image.get_fdata()[tuple(table[["x", "y", "z"]].to_numpy().T)]
    squared = table["ncsnr"] ** 2
    np.testing.assert_allclose(100 * squared / (squared + 1 / 12), ceiling, rtol=1e-4)
    glm(root, "desc-Noiseceiling12rep").unlink()
    assert data.voxels("OFA")["ncsnr"].isna().all()


def test_sessions(root: Path) -> None:
    extra = glm(root, BETAS, 31)
    extra.parent.mkdir(parents=True)
    shutil.copy(glm(root, BETAS, 1), extra)
    assert LaionFMRI(root, SUBJECT).sessions == (1, 2)
    assert LaionFMRI(root, SUBJECT, sessions=[2]).trials["session"].unique().tolist() == [2]
    with pytest.raises(PhospheneError, match=r"ses-31.*trials\.tsv: no such file"):
        _ = LaionFMRI(root, SUBJECT, sessions=[1, 31]).trials


# ---- pictures
# --------------------------------------------------------------------------------------------------


def test_pictures(root: Path) -> None:
    data = LaionFMRI(root, SUBJECT)
    with h5py.File(root / "stimuli" / "task-images_stimuli.h5") as file:
        raw = [Image.open(io.BytesIO(file["images"][k].tobytes())) for k in range(len(NAMES))]
        decoded = [np.asarray(picture) for picture in raw]
    pictures = data.images([4, 1, 4])
    assert pictures.shape == (3, 8, 8, 3) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures[0], decoded[4])
    np.testing.assert_array_equal(pictures[2], decoded[4])
    np.testing.assert_array_equal(pictures[1][4:], decoded[1][4:, :, :3])  # opaque
    assert (pictures[1][:4] == 128).all()  # transparent
    assert data.captions([3, 2]) == [
        [f"{NAMES[k]} seen {rank}" for rank in (1, 2, 3)] for k in (3, 2)
    ]
    assert data.categories([2, 3]) == [["hand", "cat"], []]
    with pytest.raises(PhospheneError, match="no image 5; it has images 0 to 4"):
        data.images([5])


def test_splits_of_the_installed_package(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "site" / "laion_fmri"
    shutil.move(root / "splits", package / "splits" / "data")
    (package / "__init__.py").write_text("raise ImportError('it is only looked at')")
    with pytest.raises(
        PhospheneError, match=r"splits/sub-03/tau\.json: no such file .* copy the folder"
    ):
        LaionFMRI(root, SUBJECT)
    monkeypatch.syspath_prepend(str(package.parent))
    assert len(LaionFMRI(root, SUBJECT).trials) == 10


# ---- damage
# --------------------------------------------------------------------------------------------------


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum
    path.write_bytes(content)


def other_size(root: Path) -> None:
    with h5py.File(root / "stimuli" / "task-images_stimuli.h5", "a") as file:
        file["images"][0] = encoded(np.zeros((4, 8, 3), np.uint8), "jpeg")


STIMULI = "stimuli/task-images_{}"
TAU = f"splits/{SUBJECT}/tau.json"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no betas": (
        lambda r: [glm(r, BETAS, s).rename(r / f"{s}.nii.gz") for s in SHOWN],
        "no betas in it; expected files such as",
    ),
    "cut R2": (
        lambda r: truncate(glm(r, "stat-rsquare_desc-R2mean")),
        "R2mean.*could not be read as NIfTI",
    ),
    "cut betas": (
        lambda r: truncate(glm(r, BETAS, 2)),
        "ses-02.*could not be read .*download it again",
    ),
    "changed betas": (
        lambda r: flip(glm(r, BETAS, 1)),
        "ses-01.*could not be read .*download it again",
    ),
    "other grid": (
        lambda r: save(glm(r, BETAS, 1), np.zeros((*GRID[::-1], 7), np.float32)),
        r"its shape is \(3, 4, 5, 7\); expected \(5, 4, 3, 7\)",
    ),
    "fewer trials": (
        lambda r: rewrite(glm(r, TRIALS, 2), f"ses-02\t3\t4\t{UNIQUE[0]}\n", ""),
        r"3, 5\); .*3, 4\)",
    ),
    "order": (
        lambda r: rewrite(glm(r, TRIALS, 2), "ses-02\t3\t4", "ses-02\t3\t9"),
        "beta_index does not count",
    ),
    "session": (lambda r: shutil.copy(glm(r, TRIALS, 1), glm(r, TRIALS, 2)), "expected ses-02"),
    "run": (
        lambda r: rewrite(glm(r, TRIALS, 1), "ses-01\t1\t0", "ses-01\tone\t0"),
        "could not be read as a table",
    ),
    "column": (
        lambda r: rewrite(glm(r, TRIALS, 1), "label", "stimulus_id"),
        "session, run, beta_index, label",
    ),
    "unknown": (
        lambda r: rewrite(glm(r, TRIALS, 1), UNIQUE[1], "new.jpg"),
        "ses-01.*it shows 'new.jpg', which",
    ),
    "no table": (
        lambda r: (r / STIMULI.format("metadata.csv")).unlink(),
        "metadata.csv: no such file; download",
    ),
    "twice": (
        lambda r: rewrite(r / STIMULI.format("metadata.csv"), NAMES[0], NAMES[2]),
        "has two rows",
    ),
    "split": (lambda r: (r / TAU).write_text("{"), "tau.json: could not be read as JSON"),
    "both": (lambda r: rewrite(r / TAU, UNIQUE[0], SHARED[1]), "is a training and a test picture"),
    "not shown": (
        lambda r: rewrite(r / TAU, SHARED[1], "other.jpg"),
        "none of its test pictures was shown to sub-03",
    ),
    "no pictures": (
        lambda r: (r / STIMULI.format("stimuli.h5")).unlink(),
        "sign the data use agreement",
    ),
    "cut pictures": (
        lambda r: truncate(r / STIMULI.format("stimuli.h5")),
        "stimuli.h5: could not be read",
    ),
    "picture": (other_size, r"pictures of the shapes \[\(4, 8, 3\), \(8, 8, 3\)\]"),
    "no captions": (
        lambda r: (r / STIMULI.format("desc-captions.csv")).unlink(),
        "captions.csv: no such file",
    ),
    "caption": (
        lambda r: rewrite(r / STIMULI.format("desc-captions.csv"), NAMES[1], "x.png"),
        "no human caption of",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage(root: Path, name: str) -> None:
    damage, sentence = DAMAGE[name]
    damage(root)
    with pytest.raises(PhospheneError, match=sentence):
        data = LaionFMRI(root, SUBJECT)
        data.betas("V1v")
        data.images([0, 1])
        data.captions([0, 1])


def test_pictures_and_table_of_different_lengths(root: Path) -> None:
    path = root / "stimuli" / "task-images_metadata.csv"
    pd.read_csv(path).iloc[:3].to_csv(path, index=False)
    with pytest.raises(PhospheneError, match=r"5 pictures; task-images_metadata\.csv lists 3"):
        LaionFMRI(root, SUBJECT).images([0])


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda r: LaionFMRI(r, "subj01"), "subj01: no such folder; check data.root"),
        (lambda r: LaionFMRI(r, "sub-01"), "sub-01: no such folder; check data.root"),
        (lambda r: LaionFMRI(r, SUBJECT, split="taux"), "taux.json: no such file"),
        (
            lambda r: LaionFMRI(r, SUBJECT, sessions=[3]),
            "ses-03.*no such file, but data.sessions asks for it",
        ),
        (
            lambda r: LaionFMRI(r, SUBJECT).betas("FFA"),
            "no region 'FFA' of sub-03; did you mean 'FFA1'",
        ),
        (lambda r: LaionFMRI(r, SUBJECT).betas("V1v", "z"), "data.zscore: found 'z'"),
    ],
)
def test_bad_questions(root: Path, ask: Callable[[Path], object], sentence: str) -> None:
    with pytest.raises(PhospheneError, match=sentence):
        ask(root)
