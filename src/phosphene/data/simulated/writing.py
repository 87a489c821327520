"""Files of the simulated data in the formats of the Natural Scenes Dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import scipy.io
from numpy.typing import NDArray


def write_nifti(
    path: Path, values: NDArray[Any], affine: NDArray[np.float64], tr: float = 0.0
) -> None:
    """Write a volume with NSD's header: no qform, sform 1, no scaling, TR (seconds) in pixdim[4] of
    4-D volumes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti: Any = nib.nifti1
    image = nifti.Nifti1Image(values, affine)
    image.set_qform(None, 0)
    image.set_sform(affine, 1)
    image.header.set_zooms((*np.diag(affine)[:3], tr)[: values.ndim])
    nib.save(image, path)


def write_hdf5(path: Path, betas: NDArray[np.int16]) -> None:
    """Write betas of shape (n_trials, X, Y, Z) as NSD does: axes (trials, Z, Y, X), one voxel's
    trials per chunk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    n_trials, x, y, z = betas.shape
    with h5py.File(path, "w") as file:
        data = file.create_dataset("betas", (n_trials, z, y, x), "<i2", chunks=(n_trials, 1, 1, 1))
        for slab in range(z):
            data[:, slab] = betas[..., slab].transpose(0, 2, 1)


def write_mgz(path: Path, values: NDArray[Any]) -> None:
    """Write per-vertex values (n_vertices,) or (n_vertices, k) as FreeSurfer does: (n_vertices, 1,
    1[, k]).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.asarray(values, np.float32).reshape(len(values), 1, 1, *values.shape[1:])
    mgh: Any = nib.freesurfer.mghformat
    nib.save(mgh.MGHImage(columns, np.eye(4)), path)


def write_design(path: Path, design: dict[str, NDArray[np.int64]]) -> None:
    """Write ``nsd_expdesign.mat`` (doubles, version 5), the same bytes every time: MATLAB's header
    holds the date.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {name: np.asarray(values, float) for name, values in design.items()})
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file, SIMULATED by phosphene".ljust(116))
