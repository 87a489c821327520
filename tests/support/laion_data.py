"""LAION-fMRI, small."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

SUBJECT = "sub-03"
GRID = (5, 4, 3)
SHARED = [f"shared_12rep_LAION_cluster_{k}_i0.jpg" for k in (7, 1)]
UNIQUE = [f"unique_LAION_new_cluster_{k}_i1_p04.jpg" for k in (2, 9)]
OOD = "shared_4rep_OOD_gabor_1.png"
# rows of the table of stimuli: in no particular order
NAMES = [
    UNIQUE[1],
    OOD,
    SHARED[0],
    UNIQUE[0],
    SHARED[1],
]
SHOWN = {  # (run, image) of every trial
    1: [
        (1, SHARED[0]),
        (1, UNIQUE[0]),
        (1, OOD),
        (1, UNIQUE[1]),
        (2, SHARED[1]),
        (2, UNIQUE[0]),
        (2, SHARED[0]),
    ],
    2: [(1, OOD), (1, SHARED[1]), (3, SHARED[0]), (3, UNIQUE[1]), (3, UNIQUE[0])],
}
SPLITS = {
    "tau": ([*UNIQUE, SHARED[0]], [SHARED[1]]),  # names no trial of OOD
    "ood": ([*UNIQUE, *SHARED], [OOD]),
}
BETAS = "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
TRIALS = "desc-SingletrialBetas_trials.tsv"
NAN = (4, 3, 2)
CONSTANT = (1, 2, 1)
OUTSIDE = (0, 0, 2)


def glm(root: Path, name: str, session: int = 0) -> Path:
    folder = root / "derivatives" / "glmsingle-tedana" / SUBJECT
    if session:
        return (
            folder
            / f"ses-{session:02d}"
            / "func"
            / f"{SUBJECT}_ses-{session:02d}_task-images_{name}"
        )
    return folder / f"{SUBJECT}_task-images_space-T1w_{name}_statmap.nii.gz"


def save(path: Path, volume: NDArray[Any], slope: float | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image: Any = nib.Nifti1Image(volume, np.diag([1.778, 1.778, 1.778, 1]))  # type: ignore[no-untyped-call]
    if slope:
        image.header.set_slope_inter(slope, 0.5)
    nib.save(image, path)


def region(root: Path, folder: str, label: str, *voxels: tuple[int, int, int]) -> None:
    mask = np.zeros(GRID, np.uint8)
    mask[tuple(np.transpose(voxels))] = 1
    path = root / "derivatives" / "rois" / SUBJECT / folder
    save(path / f"{SUBJECT}_space-T1w_res-1pt8_label-{label}_mask.nii.gz", mask)


def encoded(picture: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return np.frombuffer(buffer.getvalue(), np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sessions of different lengths; session 2 is stored as scaled integers; three kinds of
    voxels without data.
    """
    rng = np.random.default_rng(0)
    root = tmp_path / "laion"
    brain = np.ones(GRID, np.float32)
    brain[OUTSIDE] = 0
    save(
        glm(root, "stat-rsquare_desc-R2mean"), brain * rng.uniform(0.1, 60, GRID).astype(np.float32)
    )
    ncsnr = brain * rng.uniform(0, 2, GRID)
    save(
        glm(root, "desc-Noiseceiling12rep"),
        (100 * ncsnr**2 / (ncsnr**2 + 1 / 12)).astype(np.float32),
    )
    for session, shown in SHOWN.items():
        betas = rng.normal(0, 3, (*GRID, len(shown))).astype(np.float32)
        betas[OUTSIDE] = 0
        betas[CONSTANT] = 1.5 if session == 2 else betas[CONSTANT]
        if session == 1:
            betas[NAN][2:4] = np.nan
            save(glm(root, BETAS, 1), betas)
        else:
            save(glm(root, BETAS, 2), np.rint(betas * 1000).astype(np.int16), slope=0.001)
        table = pd.DataFrame(shown, columns=["run", "label"])
        table.insert(0, "session", f"ses-{session:02d}")
        table.insert(2, "beta_index", range(len(shown)))
        table.to_csv(glm(root, TRIALS, session), sep="\t", index=False)
    region(root, "retinotopy", "V1v", (0, 0, 0), (0, 3, 1), (4, 0, 2), OUTSIDE)
    region(root, "face", "FFA-1", (3, 1, 0), (0, 3, 1), NAN, CONSTANT)
    region(root, "face", "OFA", (2, 2, 2))
    region(root, "laion", "laiongeneral", (2, 2, 2), (4, 0, 2))
    region(root, "laion", "laion-EVC", (4, 0, 2))
    write_stimuli(root / "stimuli", rng)
    for pool, split in ((SUBJECT, "tau"), (SUBJECT, "ood"), ("shared", "ood")):
        names = [
            [name for name in some if pool == SUBJECT or name.startswith(pool)]
            for some in SPLITS[split]
        ]
        path = root / "splits" / pool / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        variant = {"variant_id": 0, "train_ids": names[0], "test_ids": names[1]}
        path.write_text(
            json.dumps(
                {"name": split, "pool": pool, "n_train": 3, "n_test": 1, "variants": [variant]}
            )
        )
    return root


def write_stimuli(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    about = {"dataset": "LAION", "participant": "", "unique_or_shared": "shared", "n_reps": "12rep"}
    pd.DataFrame({"image_name": NAMES, **about}).to_csv(
        folder / "task-images_metadata.csv", index=False
    )
    with h5py.File(folder / "task-images_stimuli.h5", "w") as file:
        images = file.create_dataset("images", (len(NAMES),), h5py.vlen_dtype(np.uint8))
        for place, name in enumerate(NAMES):
            picture = rng.integers(0, 256, (8, 8, 4 if name == OOD else 3), np.uint8)
            if name == OOD:
                picture[:4, :, 3] = 0
                picture[4:, :, 3] = 255
            images[place] = encoded(picture, "png" if name == OOD else "jpeg")
    rows = [(name, k, "human", f"{name} seen {k}") for k in (3, 1, 2) for name in NAMES]
    captions = pd.DataFrame(
        [*rows, (SHARED[0], 0, "ai", "a machine")],
        columns=["image_name", "caption_idx", "source", "caption"],
    )
    captions.to_csv(folder / "task-images_desc-captions.csv", index=False)
    nouns = [
        (SHARED[0], "hand", 1),
        (SHARED[0], "sky", 0),
        (SHARED[0], "cat", 1),
        (SHARED[0], "hand", 1),
    ]
    table = pd.DataFrame(nouns, columns=["image_name", "noun", "localized"])
    table.to_csv(folder / "task-images_desc-segmentations_metadata.csv", index=False)
