"""Maps as files that other programs read: NIfTI in the space of the scan, GIFTI on fsaverage."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.gifti.gifti import GiftiDataArray, GiftiImage, GiftiMetaData
from numpy.typing import NDArray

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.maps import flatmap
from phosphene.maps.places import Grid, resolution

STRUCTURES = {"lh": "CortexLeft", "rh": "CortexRight"}


def write_volume(values: NDArray[Any], voxels: pd.DataFrame, data: Grid, path: str | Path) -> Path:
    """Write one value per voxel as NIfTI in the space of the scan.

    Parameters
    ----------
    values : ndarray, shape (n_voxels,)
    voxels : DataFrame
        x, y, z, as :func:`phosphene.steps.encode.maps` gives.
    data : Scans
        The subject: its grid, and the affine of its own files.
    path : path
        Ends in .nii or .nii.gz.

    Returns
    -------
    Path
        Of the file: float32, NaN where there is no voxel.
    """
    path = disk.expand_home(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise PhospheneError(f"{path}: found the suffix {path.suffix!r}; expected .nii or .nii.gz")
    volume = flatmap.to_volume(np.asarray(values), voxels, data.shape).astype(np.float32)
    image = nib.Nifti1Image(volume, data.affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    # the name tells nibabel whether to compress
    end = ".nii.gz" if path.name.endswith(".gz") else ".nii"
    return _whole(path, end, partial(nib.save, image))


def write_surface(
    values: NDArray[Any],
    voxels: pd.DataFrame,
    data: Grid,
    folder_of_transforms: str | Path,
    path_stem: str | Path,
) -> tuple[Path, Path]:
    """Write one value per voxel as GIFTI on fsaverage: ``STEM.lh.func.gii`` and
    ``STEM.rh.func.gii``.

    Values are sampled at three depths of the subject's cortex, as for flat maps
    (:mod:`phosphene.maps.flatmap`), NaN where a vertex has none. A hemisphere has the vertices that
    the transforms lead to: 163842, or 10242 (fsaverage5) for the simulated subject.
    """
    transforms = flatmap.read_transforms(folder_of_transforms, resolution(data))
    native = flatmap.to_native(
        flatmap.to_volume(np.asarray(values), voxels, data.shape), transforms
    )
    stem = disk.expand_home(path_stem)
    written = []
    for hemisphere, found in flatmap.to_fsaverage(native, transforms).items():
        path = stem.with_name(f"{stem.name}.{hemisphere}.func.gii")
        image = _gifti(found.astype(np.float32), STRUCTURES[hemisphere], stem.name)
        written.append(_whole(path, ".func.gii", partial(nib.save, image)))
    return written[0], written[1]


def _gifti(values: NDArray[np.float32], structure: str, name: str) -> GiftiImage:
    array = GiftiDataArray(values, "NIFTI_INTENT_SHAPE", "NIFTI_TYPE_FLOAT32")  # type: ignore[no-untyped-call]
    about = GiftiMetaData({"AnatomicalStructurePrimary": structure, "Name": name})  # type: ignore[no-untyped-call]
    return GiftiImage(meta=about, darrays=[array])  # type: ignore[no-untyped-call]


def _whole(path: Path, end: str, write: Callable[[Path], object]) -> Path:
    """Write the whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}{end}")
    try:
        write(half)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
    return path
