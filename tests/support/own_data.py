"""A lab's own data, small: 24 trials of 4 pictures in 2 sessions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import zarr
from numpy.typing import NDArray
from PIL import Image

GRID = (4, 3, 2)
# session 1 lies between the trials of session 2
SESSIONS = np.repeat([2, 1, 2], 8)
RUNS = np.repeat([1, 2], 12)
# decodes z from all voxels of such a folder, called "lab"
STUDY = """
name = "lab"
[data]
kind = "arrays"
root = "lab"
[decode]
z = {rois = ["all"]}
c = {rois = ["all"]}
alphas = [1.0, 100.0]
cv = 2
[reconstruct]
modes = ["z"]
baselines = ["shuffled"]
[evaluate]
bootstrap = 20
permutations = 20
"""
SHOWN = np.array(["b", "a", "10", "é, 7"] * 6)  # "b" and "10" are test pictures


def save_nifti(path: Path, values: NDArray[Any]) -> None:
    nib.save(nib.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), path)  # type: ignore[no-untyped-call]


def write_betas(
    folder: Path, form: str, betas: NDArray[Any], places: NDArray[np.int64] | None = None
) -> None:
    """Write betas (trials, voxels) in one of the formats; NIfTI puts them at their places, C order
    in the grid.
    """
    for path in (*folder.glob("betas.*"), *folder.glob("mask.*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if form.startswith("npy"):
        np.save(folder / "betas.npy", np.asfortranarray(betas) if "voxel" in form else betas)
    elif form.startswith("zarr"):
        # (5, 7) of the small folder's (24, 24)
        chunks = (
            len(betas) // 4 - 1,
            betas.shape[1] // 3 - 1,
        )
        shards = (2 * chunks[0], 2 * chunks[1]) if "sharded" in form else None
        zarr.create_array(
            folder / "betas.zarr",
            data=betas,
            chunks=chunks,
            shards=shards,
            zarr_format=2 if "2" in form else 3,
        )
    elif form.startswith("h"):
        with h5py.File(folder / f"betas.{form.split()[0]}", "w") as file:
            chunked = {"chunks": (len(betas) // 3 - 1, betas.shape[1] // 8), "compression": "gzip"}
            options = chunked if "chunks" in form else {}
            file.create_dataset("any name" if form == "h5" else "betas", data=betas, **options)
            if form != "h5":
                file["other"] = np.zeros(3)
    else:
        places = np.argwhere(np.ones(GRID)) if places is None else places
        shape = tuple(places.max(0) + 2) if len(places) != np.prod(GRID) else GRID
        volumes = np.full((*shape, len(betas)), 7, betas.dtype)
        mask = np.zeros(shape, np.uint8)
        volumes[tuple(places.T)] = betas.T
        mask[tuple(places.T)] = 1
        save_nifti(folder / f"betas.{form}", volumes)
        save_nifti(folder / f"mask.{form}", mask)


def write_picture(path: Path, size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete small folder: 24 trials of 4 pictures in 2 sessions, 24 voxels."""
    return write_folder(tmp_path / "lab")


def write_folder(place: Path) -> Path:
    """Write a complete small folder."""
    (place / "images").mkdir(parents=True)
    np.save(place / "betas.npy", np.random.default_rng(0).normal(3, 2, (24, 24)).astype(np.float32))
    split = np.where(np.isin(SHOWN, ["b", "10"]), "test", "train")
    trials = pd.DataFrame(
        {"image_id": SHOWN, "rt": 0.5, "session": SESSIONS, "run": RUNS, "split": split}
    )
    trials.to_csv(place / "trials.csv", index=False)
    sizes = {"10.png": (40, 30), "a.PNG": (30, 30), "b.tif": (33, 50), "é, 7.bmp": (64, 64)}
    for seed, (name, size) in enumerate(sizes.items()):
        write_picture(place / "images" / name, size, seed)
    voxels = pd.DataFrame(np.argwhere(np.ones(GRID)), columns=["x", "y", "z"])
    voxels["roi"] = ["V1"] * 6 + ["V1; early"] * 4 + [""] * 10 + ["early"] * 4
    voxels["ncsnr"] = [*np.linspace(0, 1, 22), np.nan, np.nan]
    voxels.to_csv(place / "voxels.csv", index=False)
    said = [
        ("b", "a bird"),
        ("a", "an ant"),
        ("10", "ten, in digits"),
        ("é, 7", 'a "seven"'),
        ("b", "a blue bird"),
    ]
    pd.DataFrame(said, columns=["image_id", "caption"]).to_csv(place / "captions.csv", index=False)
    (place / "categories.csv").write_text(
        "image_id,category\nb,bird\nb,sky\nb,bird\na,ant\nunseen,cat\n"
    )
    return place
