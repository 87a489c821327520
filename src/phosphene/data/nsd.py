"""The Natural Scenes Dataset as it lies on disk.

NSD counts images, trials, sessions and runs from 1 in its files; image ids become 0-based here and nowhere else.
Voxels come in C order of (X, Y, Z): X slowest. That is the order of a boolean mask on a NIfTI array, not on the HDF5
betas, whose axes are reversed. :meth:`NSD.voxels` gives the coordinates of every column.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data import atlas, checked_rois
from phosphene.data import nsd_files as files
from phosphene.errors import PhospheneError

SCALE = np.float32(300)  # betas are stored as int16 of percent signal change times 300


class NSD:
    """One subject of NSD (or of a simulated folder of the same layout).

    Parameters
    ----------
    root : path
        The folder that holds ``nsddata``, ``nsddata_betas`` and ``nsddata_stimuli``.
    subject : str
        "subj01" .. "subj08".
    betas, resolution : str
        Folder names under ``nsddata_betas/ppdata/<subject>``.
    sessions : sequence of int
        1-based sessions to use; empty means all whose betas are there.

    Raises
    ------
    PhospheneError
        When a folder, a session or a file is missing.
    """

    photographs = True

    def __init__(
        self,
        root: str | Path,
        subject: str,
        betas: str = "betas_fithrf_GLMdenoise_RR",
        resolution: str = "func1pt8mm",
        sessions: Sequence[int] = (),
    ) -> None:
        self.root, self.subject = Path(root).expanduser(), subject
        if not (self.root / "nsddata").is_dir():
            raise PhospheneError(
                f"{self.root}: no folder 'nsddata' in it; expected the NSD folder that holds nsddata, nsddata_betas "
                "and nsddata_stimuli"
            )
        self._ppdata = self.root / "nsddata" / "ppdata" / subject / resolution
        self._betas = self.root / "nsddata_betas" / "ppdata" / subject / resolution / betas
        if not re.fullmatch(r"subj0[1-8]", subject) or not self._betas.is_dir():
            raise PhospheneError(f"{self._betas}: no such folder; check data.subjects, data.resolution and data.betas")
        self._files = files.find_sessions(self._betas)
        self.sessions = tuple(sorted(set(sessions))) or tuple(sorted(self._files))
        for session in self.sessions:
            if session not in self._files:
                missing = self._betas / f"betas_session{session:02d}.hdf5"
                raise PhospheneError(f"{missing}: no such file (nor .nii.gz), but data.sessions asks for it")
        self._stimuli = self.root / "nsddata_stimuli" / "stimuli" / "nsd"
        self._experiment = self.root / "nsddata" / "experiments" / "nsd"
        self._annotations: dict[tuple[str, str], dict[int, Any]] = {}
        self._covered = np.full(self.shape, -1, np.int8)  # -1 not known yet, 0 no data in some session, 1 covered

    # ---- trials ------------------------------------------------------------------------------------------------

    @cached_property
    def _design(self) -> dict[str, NDArray[np.int64]]:
        return files.read_design(self._experiment / "nsd_expdesign.mat")

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial of the sessions used: session, run, image, repeat, split.

        `repeat` counts earlier presentations over the whole planned experiment, sessions not used included; the test
        images are those shown to every subject.
        """
        order = self._design["masterordering"].ravel()
        own = self._design["subjectim"][int(self.subject[-2:]) - 1]
        runs = self._design["stimpattern"].sum(2)  # trials of every (session, run)
        session, run = (axis.ravel() + 1 for axis in np.indices(runs.shape))
        table = pd.DataFrame({"session": np.repeat(session, runs.ravel()), "run": np.repeat(run, runs.ravel())})
        if len(table) != len(order) or max(self.sessions) > len(runs):
            raise PhospheneError(
                f"{self._experiment / 'nsd_expdesign.mat'}: it plans {len(order)} trials in masterordering and "
                f"{len(table)} in {len(runs)} sessions of stimpattern; expected equal numbers and sessions up to "
                f"{max(self.sessions)}"
            )
        table["image"] = own[order - 1] - 1
        table["repeat"] = table.groupby("image").cumcount()
        table["split"] = np.where(order <= self._design["sharedix"].size, "test", "train")
        table = table[table["session"].isin(self.sessions)].reset_index(drop=True)
        log = self._ppdata.parent / "behav" / "responses.tsv"
        if log.is_file():
            files.check_responses(log, table)
        return table

    # ---- voxels ------------------------------------------------------------------------------------------------

    @cached_property
    def _mask(self) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        path = self._ppdata / "brainmask.nii.gz"
        image = files.load_nifti(path)
        return np.asanyarray(image.dataobj) > 0, np.asarray(image.affine, float)

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid (X, Y, Z) of the functional volumes."""
        return self._mask[0].shape

    @property
    def affine(self) -> NDArray[np.float64]:
        """Header affine (4, 4) of the functional volumes; in NSD it does not register them with any anatomy."""
        return self._mask[1]

    @cached_property
    def _atlases(self) -> dict[str, tuple[NDArray[np.int64], dict[int, str]]]:
        """Label volume and names of every atlas in the subject's roi folder."""
        found = {}
        for name in atlas.ATLASES:
            path = self._ppdata / "roi" / f"{name}.nii.gz"
            if path.is_file():
                volume = np.rint(np.asanyarray(files.load_nifti(path).dataobj)).astype(np.int64)
                if volume.shape != self.shape:
                    raise PhospheneError(f"{path}: its grid is {volume.shape}; the brain mask's is {self.shape}")
                found[name] = volume, atlas.label_names(self.root, self.subject, name)
        return found

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of the regions: the labels of every atlas in the roi folder, then "brain", the whole brain mask."""
        return (*(label for _, names in self._atlases.values() for label in names.values()), "brain")

    def _select(self, rois: str | Sequence[str]) -> NDArray[np.int64]:
        """Coordinates (n_voxels, 3) of a union of regions, C order of (X, Y, Z)."""
        chosen = np.zeros(self.shape, bool)
        for roi in checked_rois(rois, self, self._ppdata / "roi"):
            if roi == "brain":
                chosen |= self._mask[0]
            for volume, names in self._atlases.values():
                for number, label in names.items():
                    if label == roi:
                        chosen |= volume == number
        if not chosen.any():
            raise PhospheneError(f"{self._ppdata / 'roi'}: {rois!r} holds no voxel of {self.subject}; choose another")
        return np.argwhere(chosen)

    def _keep(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which voxels have data in every session used, reading only what is not known yet."""
        unknown = index[self._covered[tuple(index.T)] < 0]
        if len(unknown):
            covered = np.all([_varies(self._read(session, unknown)) for session in self.sessions], axis=0)
            self._covered[tuple(unknown.T)] = covered
        keep = self._covered[tuple(index.T)] > 0
        if not keep.any():
            raise PhospheneError(f"{self._betas}: none of the {len(keep)} voxels asked for has data in every session")
        if not keep.all():
            warnings.warn(
                f"{self.subject}: {np.sum(~keep)} of {len(keep)} voxels have no data in some session used and are "
                "left out",
                stacklevel=3,
            )
        return np.asarray(keep)

    def voxels(self, rois: str | Sequence[str]) -> pd.DataFrame:
        """Describe the columns of :meth:`betas`.

        Returns
        -------
        DataFrame
            x, y, z (0-based, NIfTI order), one column of label names per atlas ("" without a label), ncsnr (NaN where
            the file is missing or the voxel invalid).
        """
        index = self._select(rois)
        index = index[self._keep(index)]
        at = tuple(index.T)
        table = pd.DataFrame(index, columns=["x", "y", "z"])
        for name, (volume, names) in self._atlases.items():
            table[name] = [names.get(int(number), "") for number in volume[at]]
        path = self._betas / "ncsnr.nii.gz"
        table["ncsnr"] = (
            np.asanyarray(files.load_nifti(path).dataobj)[at].astype(np.float32) if path.is_file() else np.nan
        )
        return table

    def betas(self, rois: str | Sequence[str], zscore: str = "session") -> NDArray[np.float32]:
        """Read single-trial responses of some regions.

        Parameters
        ----------
        rois : str or sequence of str
            Names in :attr:`rois`; several are united.
        zscore : {"session", "train", "none"}
            Standardise every voxel over all trials of each session (common, but its mean and deviation have seen
            the test trials), over all training trials, or leave percent signal change.

        Returns
        -------
        ndarray of float32, shape (n_trials, n_voxels)
            Finite; voxels without data in any session used are left out with a warning.
        """
        if zscore not in ("session", "train", "none"):
            raise PhospheneError(f"data.zscore: unknown value {zscore!r}; expected 'session', 'train' or 'none'")
        index = self._select(rois)
        train = np.asarray(self.trials["split"] == "train")
        betas = np.empty((len(train), len(index)), np.float32)
        covered, start = np.ones(len(index), bool), 0
        for session in self.sessions:
            block = self._read(session, index)
            covered &= _varies(block)
            betas[start : start + len(block)] = _standardise(block, slice(None)) if zscore == "session" else block
            start += len(block)
        self._covered[tuple(index.T)] = covered
        keep = self._keep(index)
        betas = betas if keep.all() else betas[:, keep]
        return _standardise(betas, train) if zscore == "train" else betas

    def _read(self, session: int, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Percent signal change of one session's trials, shape (n_trials, n_voxels)."""
        path = self._files[session]
        n_trials = int((self.trials["session"] == session).sum())
        try:
            values = files.read_hdf5(path, index) if path.suffix == ".hdf5" else files.read_nifti(path, index)
        except (OSError, EOFError, KeyError, ValueError, IndexError) as error:
            raise PhospheneError(f"{path}: could not be read ({error}); copy or download it again") from error
        if len(values) != n_trials or values.dtype != np.int16:
            raise PhospheneError(
                f"{path}: {len(values)} trials of type {values.dtype}; expected {n_trials} of int16, as planned in "
                "nsd_expdesign.mat"
            )
        return np.asarray(values / SCALE, np.float32)

    # ---- pictures ----------------------------------------------------------------------------------------------

    def images(self, ids: Sequence[int]) -> NDArray[np.uint8]:
        """Return pictures, shape (n, side, side, 3), in the order of `ids`, which may repeat."""
        path = self._stimuli / "nsd_stimuli.hdf5"
        unique, inverse = np.unique(np.asarray(ids, np.int64), return_inverse=True)
        try:
            with h5py.File(path) as file:
                brick = file["imgBrick"]
                if len(unique) and not 0 <= unique[0] <= unique[-1] < len(brick):
                    raise PhospheneError(f"{path}: image {unique[-1]} asked for; it holds 0 to {len(brick) - 1}")
                pictures = np.empty((len(unique), *brick.shape[1:]), np.uint8)
                for place, image in enumerate(unique):  # increasing, one by one: long index lists are slow in h5py
                    brick.read_direct(pictures, np.s_[image], np.s_[place])
        except (OSError, KeyError) as error:
            raise PhospheneError(f"{path}: could not be read ({error}); copy or download it again") from error
        return pictures[inverse]

    @cached_property
    def _info(self) -> pd.DataFrame:
        path = self._experiment / "nsd_stim_info_merged.csv"
        try:
            table = pd.read_csv(path, index_col=0)
            return table.set_index("nsdId", drop=False)[["cocoId", "cocoSplit", "cropBox"]]
        except (OSError, KeyError, ValueError) as error:
            raise PhospheneError(f"{path}: could not be read as NSD's table of stimuli ({error})") from error

    def _annotation(self, kind: str, image: int) -> Any:
        """What COCO says about one image: its captions, or its size and the boxes of its things."""
        if image not in self._info.index:
            raise PhospheneError(f"{self._experiment / 'nsd_stim_info_merged.csv'}: no image with nsdId {image}")
        coco, split = int(self._info.at[image, "cocoId"]), str(self._info.at[image, "cocoSplit"])
        path = self._stimuli / "annotations" / f"{kind}_{split}.json"
        if (kind, split) not in self._annotations:
            if not path.is_file():
                raise PhospheneError(f"{path}: no such file; unpack COCO's annotations_trainval2017.zip there")
            self._annotations[kind, split] = files.read_coco(path)
        if coco not in self._annotations[kind, split]:
            raise PhospheneError(f"{path}: nothing about COCO image {coco} (nsdId {image})")
        return self._annotations[kind, split][coco]

    def captions(self, ids: Sequence[int]) -> list[list[str]]:
        """Return COCO's captions of each picture, five or a few more."""
        return [list(self._annotation("captions", int(image))["captions"]) for image in ids]

    def categories(self, ids: Sequence[int]) -> list[list[str]]:
        """Return COCO's categories of each picture, largest thing first; things cut off by NSD's crop do not count."""
        named = []
        for image in ids:
            found = self._annotation("instances", int(image))
            top, bottom, left, right = ast.literal_eval(str(self._info.at[image, "cropBox"]))
            width, height = found["size"]
            seen = [
                name
                for _, name, (x, y, w, h) in sorted(found["things"], key=lambda thing: -thing[0])
                if x < (1 - right) * width and x + w > left * width
                if y < (1 - bottom) * height and y + h > top * height
            ]
            named.append(list(dict.fromkeys(seen)))
        return named

    def fingerprint(self) -> str:
        """Hash names, sizes and contents (of large files, both ends) of all that is read: a copy hashes the same."""
        paths = [
            *(self._files[session] for session in self.sessions),
            *(self._betas / "ncsnr.nii.gz", self._ppdata / "brainmask.nii.gz", *(self._ppdata / "roi").glob("*")),
            *(self.root / "nsddata" / "freesurfer").glob("*/label/*.ctab"),
            *(self._ppdata.parent / "behav" / "responses.tsv", *self._experiment.glob("nsd_*")),
            *(self._stimuli / "nsd_stimuli.hdf5", *(self._stimuli / "annotations").glob("*.json")),
        ]
        return disk.fingerprint(self.subject, self.root, paths)


def _varies(block: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Voxels that are not constant: NSD writes 0 for every trial of a session that does not cover the voxel."""
    return np.asarray((block != block[:1]).any(0))


def _standardise(betas: NDArray[np.float32], rows: slice | NDArray[np.bool_]) -> NDArray[np.float32]:
    """Subtract the mean of `rows` and divide by their standard deviation, in place; constant voxels become 0."""
    for start in range(0, betas.shape[1], 512):  # a few columns at a time: sums are in float64
        block = betas[:, start : start + 512]
        block -= block[rows].mean(0, dtype=np.float64).astype(np.float32)
        sd = block[rows].std(0, dtype=np.float64).astype(np.float32)
        block /= np.where(sd > 0, sd, 1)
    return betas


def ncsnr(betas: NDArray[np.floating], images: NDArray[np.integer], repeats: int = 3) -> NDArray[np.float64]:
    """Noise-ceiling signal-to-noise ratio of every voxel, as NSD defines it.

    Parameters
    ----------
    betas : ndarray, shape (n_trials, n_voxels)
        Responses standardised per voxel within each session.
    images : ndarray of int, shape (n_trials,)
        Which image each trial showed.
    repeats : int
        Images with exactly this many trials count (3 in NSD).

    Returns
    -------
    ndarray, shape (n_voxels,)
        ``sqrt(max(0, 1 - v2)) / sqrt(v2)``, `v2` the mean over images of the unbiased variance of their trials.

    References
    ----------
    Allen et al. (2022), Nature Neuroscience 25, Methods: noise ceiling estimation.
    """
    unique, counts = np.unique(images, return_counts=True)
    rows = np.argsort(images, kind="stable")
    rows = rows[np.isin(images[rows], unique[counts == repeats])].reshape(-1, repeats)
    noise = np.mean([betas[group].var(0, ddof=1) for group in rows], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(np.maximum(0, 1 - noise)) / np.sqrt(noise))
