"""The files of the Natural Scenes Dataset, one function per kind of file: they read, check and name what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import scipy.io
from numpy.typing import NDArray

from phosphene.errors import PhospheneError

# sessions 1..n -> trials, test trials, test images, train trials, train images (nsd_format: counts of the release)
RELEASE_COUNTS = {
    37: (27750, 2770, 982, 24980, 8859),
    40: (30000, 3000, 1000, 27000, 9000),
    32: (24000, 2371, 930, 21629, 8481),
    30: (22500, 2188, 907, 20312, 8302),
}


def find_sessions(folder: Path) -> dict[int, Path]:
    """Return the betas file of every session there; HDF5 before NIfTI, since it can be read in part."""
    found: dict[int, Path] = {}
    for suffix in ("nii.gz", "hdf5"):
        for path in folder.glob(f"betas_session*.{suffix}"):
            if match := re.fullmatch(r"betas_session(\d+)", path.name.removesuffix(f".{suffix}")):
                found[int(match[1])] = path
    if not found:
        raise PhospheneError(f"{folder}: no betas_sessionNN.hdf5 or .nii.gz in it; expected at least one")
    return found


def read_design(path: Path) -> dict[str, NDArray[np.int64]]:
    """Read ``nsd_expdesign.mat``: masterordering, subjectim, sharedix, stimpattern, 1-based as they are."""
    try:
        mat = scipy.io.loadmat(path)
        # loadmat may give uint16 or double for the same numbers, and uint16(0) - 1 is 65535: int64 at once
        names = ("masterordering", "subjectim", "sharedix", "stimpattern")
        return {name: np.asarray(mat[name]).astype(np.int64) for name in names}
    except (OSError, KeyError, ValueError, TypeError, NotImplementedError, scipy.io.matlab.MatReadError) as error:
        raise PhospheneError(f"{path}: could not be read as NSD's experiment design ({error})") from error


def check_responses(path: Path, trials: pd.DataFrame) -> None:
    """Compare planned trials (session, run, image) with those that the subject's log says were shown."""
    try:
        log = pd.read_csv(path, sep="\t", usecols=["SESSION", "RUN", "73KID"])
    except (OSError, ValueError) as error:
        raise PhospheneError(f"{path}: could not be read as NSD's log of responses ({error})") from error
    for session, planned in trials.groupby("session"):
        logged = log[log["SESSION"] == session]
        if len(planned) != len(logged):
            raise PhospheneError(
                f"{path}: {len(logged)} trials of session {session}; nsd_expdesign.mat plans {len(planned)}"
            )
        wrong = planned["image"].to_numpy() + 1 != logged["73KID"].to_numpy()
        wrong |= planned["run"].to_numpy() != logged["RUN"].to_numpy()
        if wrong.any():
            at = int(np.argmax(wrong))
            seen, plan = logged.iloc[at], planned.iloc[at]
            raise PhospheneError(
                f"{path}: row {logged.index[at] + 2} says run {seen['RUN']:.0f}, 73KID {seen['73KID']:.0f}; "
                f"nsd_expdesign.mat plans run {plan['run']}, 73KID {plan['image'] + 1}: they belong to different data"
            )


def load_nifti(path: Path) -> Any:
    """Open a volume without reading its values."""
    try:
        return nib.load(path)
    except (OSError, nib.filebasedimages.ImageFileError) as error:
        raise PhospheneError(f"{path}: could not be read as NIfTI ({error}); copy or download it again") from error


def read_nifti(path: Path, index: NDArray[np.int64]) -> NDArray[Any]:
    """Read voxels from betas of shape (X, Y, Z, trials); returns (n_trials, n_voxels) as stored."""
    volume = np.asanyarray(load_nifti(path).dataobj)  # int16: get_fdata() would make it four times larger
    return np.ascontiguousarray(volume[tuple(index.T)].T)


def read_hdf5(path: Path, index: NDArray[np.int64]) -> NDArray[Any]:
    """Read voxels from betas of h5py shape (trials, Z, Y, X).

    NSD's chunks hold all trials of one voxel, uncompressed: taking those chunks as they are is many times faster than
    slicing. Files chunked otherwise are read slab by slab.
    """
    with h5py.File(path) as file:
        data = file["betas"]
        values = np.empty((len(data), len(index)), data.dtype)
        plain = data.id.get_create_plist().get_nfilters() == 0 and data.dtype == np.dtype("<i2")
        if plain and data.chunks == (len(data), 1, 1, 1):
            try:
                for column, (x, y, z) in enumerate(index):
                    values[:, column] = np.frombuffer(data.id.read_direct_chunk((0, z, y, x))[1], "<i2")
                return values
            except (OSError, RuntimeError, ValueError):
                pass  # a chunk that was never written holds only zeros and has no bytes: slices know that
        for z in np.unique(index[:, 2]):
            here = index[:, 2] == z
            x, y = index[here, 0], index[here, 1]
            slab = data[:, z, y.min() : y.max() + 1, x.min() : x.max() + 1]
            values[:, here] = slab[:, y - y.min(), x - x.min()]
        return values


def read_coco(path: Path) -> dict[int, Any]:
    """Reduce a COCO annotation file to what is used: per image its size, captions and (area, name, box) of things."""
    try:
        content = json.loads(path.read_bytes())
        names = {entry["id"]: entry["name"] for entry in content.get("categories", ())}
        found: dict[int, Any] = {
            entry["id"]: {"size": (entry["width"], entry["height"]), "captions": [], "things": []}
            for entry in content["images"]
        }
        for entry in content["annotations"]:
            if "caption" in entry:
                found[entry["image_id"]]["captions"].append(entry["caption"].strip())
            else:
                thing = entry["area"], names[entry["category_id"]], entry["bbox"]
                found[entry["image_id"]]["things"].append(thing)
    except (OSError, ValueError, KeyError) as error:
        raise PhospheneError(f"{path}: could not be read as COCO annotations ({error!r})") from error
    return found


def check_counts(subject: str, trials: pd.DataFrame) -> list[str]:
    """Compare the numbers of trials and images with the published ones; one sentence per mismatch.

    Only for real NSD with sessions 1 to n complete: anything else gives no sentence.
    """
    sessions = tuple(trials["session"].unique())
    n = len(sessions)
    if sessions != tuple(range(1, n + 1)) or n not in RELEASE_COUNTS or len(trials) != 750 * n:
        return []
    test, train = (trials.loc[trials["split"] == split, "image"] for split in ("test", "train"))
    counts = (len(trials), len(test), test.nunique(), len(train), train.nunique())
    names = ("trials", "test trials", "test images", "training trials", "training images")
    return [
        f"{subject}: {found} {name} in {n} sessions; NSD has {expected}"
        for name, found, expected in zip(names, counts, RELEASE_COUNTS[n], strict=True)
        if found != expected
    ]


def write_nifti(path: Path, values: NDArray[Any], affine: NDArray[np.float64], tr: float = 0.0) -> None:
    """Write a volume with NSD's header: no qform, sform 1, no scaling, TR (seconds) in pixdim[4] of 4-D volumes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti: Any = nib.nifti1
    image = nifti.Nifti1Image(values, affine)
    image.set_qform(None, 0)
    image.set_sform(affine, 1)
    image.header.set_zooms((*np.diag(affine)[:3], tr)[: values.ndim])
    nib.save(image, path)


def write_hdf5(path: Path, betas: NDArray[np.int16]) -> None:
    """Write betas of shape (n_trials, X, Y, Z) as NSD does: axes (trials, Z, Y, X), one voxel's trials per chunk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n_trials, x, y, z = betas.shape
    with h5py.File(path, "w") as file:
        data = file.create_dataset("betas", (n_trials, z, y, x), "<i2", chunks=(n_trials, 1, 1, 1))
        for slab in range(z):
            data[:, slab] = betas[..., slab].transpose(0, 2, 1)


def write_mgz(path: Path, values: NDArray[Any]) -> None:
    """Write per-vertex values (n_vertices,) or (n_vertices, k) as FreeSurfer does: (n_vertices, 1, 1[, k])."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.asarray(values, np.float32).reshape(len(values), 1, 1, *values.shape[1:])
    mgh: Any = nib.freesurfer.mghformat
    nib.save(mgh.MGHImage(columns, np.eye(4)), path)


def write_design(path: Path, design: dict[str, NDArray[np.int64]]) -> None:
    """Write ``nsd_expdesign.mat`` (doubles, version 5), the same bytes every time: MATLAB's header holds the date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {name: np.asarray(values, float) for name, values in design.items()})
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file, SIMULATED by phosphene".ljust(116))
