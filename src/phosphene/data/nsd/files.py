"""The files of the Natural Scenes Dataset, one function per kind of file: they read, check and name
what is wrong.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import scipy.io
from numpy.typing import NDArray

from phosphene.data.opening import load_volume, open_hdf5, volumes
from phosphene.errors import PhospheneError

READING = (
    OSError,
    EOFError,
    ValueError,
    IndexError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
)
CHUNKS_AT_ONCE = 1024
SLAB_BYTES = 32 << 20
# sessions 1..n -> trials, test trials, test images, train trials, train images (nsd_format: counts
# of the release)
RELEASE_COUNTS = {
    37: (27750, 2770, 982, 24980, 8859),
    40: (30000, 3000, 1000, 27000, 9000),
    32: (24000, 2371, 930, 21629, 8481),
    30: (22500, 2188, 907, 20312, 8302),
}


@dataclass(frozen=True)
class Layout:
    """Where the files of one subject lie under the NSD folder `root`, for one version of the
    betas.
    """

    root: Path
    subject: str
    version: str
    resolution: str

    @property
    def betas(self) -> Path:
        """Folder of ``betas_sessionNN.hdf5`` or ``.nii.gz``."""
        return (
            self.root / "nsddata_betas" / "ppdata" / self.subject / self.resolution / self.version
        )

    @property
    def ncsnr(self) -> Path:
        """Noise-ceiling signal-to-noise ratio, a volume."""
        return self.betas / "ncsnr.nii.gz"

    @property
    def _ppdata(self) -> Path:
        return self.root / "nsddata" / "ppdata" / self.subject

    @property
    def mask(self) -> Path:
        """The brain mask, a volume."""
        return self._ppdata / self.resolution / "brainmask.nii.gz"

    @property
    def roi(self) -> Path:
        """Folder of atlases."""
        return self._ppdata / self.resolution / "roi"

    @property
    def responses(self) -> Path:
        """What the subject pressed, and which pictures were shown."""
        return self._ppdata / "behav" / "responses.tsv"

    @property
    def transforms(self) -> Path:
        """Folder of the files that lead from volumes to surfaces."""
        return self._ppdata / "transforms"

    @property
    def design(self) -> Path:
        """The experiment's design."""
        return self.root / "nsddata" / "experiments" / "nsd" / "nsd_expdesign.mat"

    @property
    def stimulus_table(self) -> Path:
        """What is known about each of the 73,000 pictures."""
        return self.design.with_name("nsd_stim_info_merged.csv")

    @property
    def stimuli(self) -> Path:
        """The pictures."""
        return self.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"

    @property
    def annotations(self) -> Path:
        """Folder of COCO's captions and instances."""
        return self.stimuli.with_name("annotations")


def find_sessions(folder: Path) -> dict[int, Path]:
    """Return the betas file of every session there; HDF5 before NIfTI, since it can be read in
    part.
    """
    found: dict[int, Path] = {}
    for suffix in ("nii.gz", "hdf5"):
        for path in folder.glob(f"betas_session*.{suffix}"):
            if match := re.fullmatch(r"betas_session(\d+)", path.name.removesuffix(f".{suffix}")):
                found[int(match[1])] = path
    if not found:
        raise PhospheneError(
            f"{folder}: no betas_sessionNN.hdf5 or .nii.gz in it; expected at least one"
        )
    return found


def read_design(path: Path) -> dict[str, NDArray[np.int64]]:
    """Read ``nsd_expdesign.mat``: masterordering, subjectim, sharedix, stimpattern, 1-based as they
    are.
    """
    names = ("masterordering", "subjectim", "sharedix", "stimpattern")
    try:
        mat = scipy.io.loadmat(path)
        # loadmat may give uint16 or double for the same numbers, and uint16(0) - 1 is 65535: int64
        # at once
        design = {name: np.asarray(mat[name]).astype(np.int64) for name in names}
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        NotImplementedError,
        scipy.io.matlab.MatReadError,
    ) as error:
        raise PhospheneError(
            f"{path}: could not be read as NSD's experiment design ({error})"
        ) from error
    order = design["masterordering"]
    subjects = design["subjectim"]
    n_images = design["subjectim"].shape[-1]
    if subjects.ndim != 2 or design["stimpattern"].ndim != 3 or not order.size:
        raise PhospheneError(
            f"{path}: subjectim or stimpattern has the wrong shape; download it again"
        )
    if order.min() < 1 or order.max() > n_images or design["sharedix"].min() < 1:
        raise PhospheneError(
            f"{path}: masterordering counts from {order.min()} to {order.max()}; expected 1 to "
            f"{n_images}, as in NSD"
        )
    return design


def planned_trials(path: Path, design: dict[str, NDArray[np.int64]], subject: str) -> pd.DataFrame:
    """Return all trials that the design plans for a subject: session and run (1-based), image
    (0-based), repeat, split.

    `repeat` counts earlier presentations; the test images are those shown to every subject. `path`
    is what errors name.
    """
    order = design["masterordering"].ravel()
    number = int(subject[-2:])
    if len(design["subjectim"]) < number:
        raise PhospheneError(
            f"{path}: subjectim has {len(design['subjectim'])} subjects; {subject} is not among "
            "them"
        )
    own = design["subjectim"][number - 1]
    if own.min() < 1:
        raise PhospheneError(
            f"{path}: subjectim holds {own.min()} for {subject}; expected 73k ids counted from 1"
        )
    runs = design["stimpattern"].sum(2)  # trials of every (session, run)
    session, run = (axis.ravel() + 1 for axis in np.indices(runs.shape))
    table = pd.DataFrame(
        {"session": np.repeat(session, runs.ravel()), "run": np.repeat(run, runs.ravel())}
    )
    if len(table) != len(order):
        raise PhospheneError(
            f"{path}: it plans {len(order)} trials in masterordering and {len(table)} in "
            f"{len(runs)} sessions of "
            "stimpattern; expected equal numbers"
        )
    table["image"] = own[order - 1] - 1
    table["repeat"] = table.groupby("image").cumcount()
    table["split"] = np.where(order <= design["sharedix"].size, "test", "train")
    return table


def read_stimuli(path: Path) -> pd.DataFrame:
    """Read ``nsd_stim_info_merged.csv``, indexed by nsdId (0-based)."""
    try:
        table = pd.read_csv(path, index_col=0).set_index("nsdId", drop=False)
        return table.astype({"cocoId": np.int64, "cocoSplit": str, "cropBox": str})
    except (OSError, KeyError, ValueError) as error:
        raise PhospheneError(
            f"{path}: could not be read as NSD's table of stimuli ({error})"
        ) from error


def check_stimuli(path: Path, stimuli: pd.DataFrame, trials: pd.DataFrame, subject: str) -> None:
    """Compare planned trials with the stimulus table, which tells for each image in which trials it
    was planned.
    """
    columns = [
        name for name in stimuli if re.fullmatch(rf"subject{int(subject[-2:])}_rep\d+", name)
    ]
    when = stimuli[columns].melt(ignore_index=False, value_name="trial").query("trial > 0")["trial"]
    told = pd.Series(when.index.to_numpy(), index=when.to_numpy() - 1).reindex(range(len(trials)))
    wrong = (
        (told.to_numpy() != trials["image"].to_numpy()) if columns else np.zeros(len(trials), bool)
    )
    if wrong.any():
        at = int(np.argmax(wrong))
        found = "no image" if pd.isna(told[at]) else f"nsdId {told[at]:.0f}"
        raise PhospheneError(
            f"{path}: it tells {found} for trial {at + 1} of {subject}; nsd_expdesign.mat plans "
            "nsdId "
            f"{trials['image'].iloc[at]}: they belong to different data"
        )


def check_responses(path: Path, trials: pd.DataFrame) -> None:
    """Compare planned trials (session, run, image) with those that the subject's log says were
    shown.
    """
    try:
        log = pd.read_csv(path, sep="\t", usecols=["SESSION", "RUN", "73KID"])
    except (OSError, ValueError) as error:
        raise PhospheneError(
            f"{path}: could not be read as NSD's log of responses ({error})"
        ) from error
    for session, planned in trials.groupby("session"):
        logged = log[log["SESSION"] == session]
        if len(planned) != len(logged):
            raise PhospheneError(
                f"{path}: {len(logged)} trials of session {session}; nsd_expdesign.mat plans "
                f"{len(planned)}"
            )
        wrong = planned["image"].to_numpy() + 1 != logged["73KID"].to_numpy()
        wrong |= planned["run"].to_numpy() != logged["RUN"].to_numpy()
        if wrong.any():
            at = int(np.argmax(wrong))
            seen = logged.iloc[at]
            plan = planned.iloc[at]
            raise PhospheneError(
                f"{path}: row {logged.index[at] + 2} says run {seen['RUN']:.0f}, 73KID "
                f"{seen['73KID']:.0f}; "
                f"nsd_expdesign.mat plans run {plan['run']}, 73KID {plan['image'] + 1}: they "
                "belong to different data"
            )


@dataclass(frozen=True)
class Betas:
    """What the header of a file of single-trial betas says: trials, grid (X, Y, Z), type, and its
    layout.

    ``by_voxel`` is true of HDF5 whose chunks hold all trials of one voxel, uncompressed, as NSD's
    do: they can be taken as they lie in the file, many times faster than slices.
    """

    path: Path
    n_trials: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_voxel: bool = False

    @classmethod
    def open(cls, path: Path) -> Betas:
        """Read the header of one session's HDF5 or NIfTI file, and check that the file is whole as
        far as it tells.
        """
        try:
            if path.suffix == ".hdf5":
                with open_hdf5(path, "betas") as data:  # refuses a truncated file
                    plain = data.id.get_create_plist().get_nfilters() == 0 and data.chunks == (
                        len(data),
                        1,
                        1,
                        1,
                    )
                    return cls(path, data.shape[0], data.shape[:0:-1], data.dtype, plain)
            image = load_volume(path)
            *shape, n_trials = image.shape
            scaled = image.dataobj.slope != 1 or image.dataobj.inter != 0
            dtype = np.dtype(np.float64) if scaled else image.get_data_dtype()
            _check_length(path, image.dataobj.offset + int(np.prod(image.shape)) * dtype.itemsize)
            return cls(path, n_trials, tuple(shape), dtype)
        except PhospheneError:
            raise
        except (*READING, KeyError, AttributeError) as error:
            raise PhospheneError(
                f"{path}: could not be read ({error}); copy or download it again"
            ) from error

    def check(self, n_trials: int, shape: tuple[int, ...]) -> None:
        """Refuse a file of other trials, of another grid or of another type than int16
        (little-endian).
        """
        if (self.n_trials, self.shape, self.dtype) != (n_trials, shape, np.dtype("<i2")):
            raise PhospheneError(
                f"{self.path}: {self.n_trials} trials of type {self.dtype} on a grid of "
                f"{self.shape}; expected "
                f"{n_trials} of int16 (nsd_expdesign.mat) on {shape} (brainmask.nii.gz); download "
                "it again"
            )

    def read(self, index: NDArray[np.int64]) -> NDArray[np.int16]:
        """Read voxels, (n_voxels, 3) 0-based coordinates; returns (n_trials, n_voxels) as
        stored.
        """
        values = np.empty((self.n_trials, len(index)), np.int16)
        try:
            (self._read_hdf5 if self.path.suffix == ".hdf5" else self._read_nifti)(index, values)
        except PhospheneError:
            raise
        except (*READING, KeyError) as error:
            raise PhospheneError(
                f"{self.path}: could not be read ({error}); copy or download it again"
            ) from error
        return values

    def _read_hdf5(self, index: NDArray[np.int64], values: NDArray[np.int16]) -> None:
        """Take h5py's (trials, Z, Y, X) by chunks as they lie in the file, or slab by slab."""
        with open_hdf5(self.path, "betas") as data:
            if not (self.by_voxel and _read_chunks(data.id, index, values)):
                _read_slabs(data, index, values)

    def _read_nifti(self, index: NDArray[np.int64], values: NDArray[np.int16]) -> None:
        """Decompress one volume after the other; only one is in memory at a time."""
        flat = np.ravel_multi_index(tuple(index.T), self.shape, order="F")  # NIfTI: X fastest
        for row, volume in enumerate(volumes(self.path, (*self.shape, self.n_trials))):
            np.take(volume, flat, out=values[row])


def _check_length(path: Path, size: int) -> None:
    """Compare `size` with the length that the end of a gzip file tells (modulo 4 GiB), or with that
    of a plain file.
    """
    found = path.stat().st_size
    expected = size
    if path.suffix == ".gz":
        with path.open("rb") as file:
            file.seek(-4, 2)
            found = int.from_bytes(file.read(), "little")
            expected = size % (1 << 32)
    if found != expected:
        raise EOFError(f"it does not hold the {size} bytes that its header tells")


def _read_chunks(
    data: h5py.h5d.DatasetID, index: NDArray[np.int64], values: NDArray[np.int16]
) -> bool:
    """Read one chunk per voxel; False if some chunk was never written and so has no bytes."""
    block = np.empty((CHUNKS_AT_ONCE, len(values)), "<i2")
    for start in range(0, len(index), len(block)):
        some = index[start : start + len(block), ::-1].tolist()
        try:
            for row, (z, y, x) in zip(block, some, strict=False):
                row[:] = np.frombuffer(data.read_direct_chunk((0, z, y, x))[1], "<i2")
        except (OSError, RuntimeError, ValueError):
            return False
        values[:, start : start + len(some)] = block[: len(some)].T
    return True


def _read_slabs(data: h5py.Dataset, index: NDArray[np.int64], values: NDArray[np.int16]) -> None:
    """Read a box in every plane z, at most SLAB_BYTES of it at a time."""
    for z in np.unique(index[:, 2]):
        here = np.flatnonzero(index[:, 2] == z)
        x = index[here, 0]
        y = index[here, 1]
        low = x.min()
        high = x.max() + 1
        rows = max(1, SLAB_BYTES // (2 * len(values) * int(high - low)))
        for start in range(y.min(), y.max() + 1, rows):
            some = (y >= start) & (y < start + rows)
            if some.any():
                slab = data[:, z, start : min(start + rows, y.max() + 1), low:high]
                values[:, here[some]] = slab[:, y[some] - start, x[some] - low]


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
