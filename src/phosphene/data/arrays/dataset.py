"""Your own data: a folder of betas, trials.csv, images and captions.csv, written by any program.

docs/own-data.md says what is in the folder and how it is made. Image ids become whole numbers here
and nowhere else: places in the sorted list of distinct ids, :attr:`Arrays.names`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data.arrays import betas as betas_files
from phosphene.data.arrays import files, images, tables
from phosphene.data.dataset import checked_rois
from phosphene.data.keys import PICTURES, check_part, content_key, files_key
from phosphene.data.trials import check_zscore, standardise, varies, warn_uncovered
from phosphene.errors import PhospheneError

LARGEST = 512  # pixels: the side of pictures that are all larger


class Arrays:
    """One subject of a lab's own experiment.

    Parameters
    ----------
    root : path
        The folder, or one that holds a folder named like the subject.
    subject : str
        Any name; the folder ``root/subject`` when there is one, else `root` itself.

    Attributes
    ----------
    trials : DataFrame
        One row per row of trials.csv and of the betas: session, run, image, repeat (earlier rows
        with the same image), split.
    names : tuple of str
        The image_id of every image: image 0, 1, ... in sorted order of the text.

    Raises
    ------
    PhospheneError
        When files are missing or do not fit together. All of them but the values of betas and the
        pixels of pictures are checked at once.

    Notes
    -----
    The folder holds ``betas.npy``, ``.zarr``, ``.h5`` (trials, voxels) or ``.nii.gz`` (X, Y, Z,
    trials) with ``mask.nii.gz``; ``trials.csv`` (image_id, split; session, run);
    ``images/<image_id>.png``, ...; and, if wanted, ``captions.csv`` (image_id, caption),
    ``categories.csv`` (image_id, category), ``voxels.csv`` (x, y, z; roi, ncsnr).
    """

    photographs = True

    options: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def detect(root: Path) -> bool:
        """Whether a folder holds this kind of data."""
        is_haxby = disk.exists(root / "bold.nii.gz")
        return not is_haxby and bool(disk.list_files(root, "**/trials.csv"))

    @staticmethod
    def subjects(root: Path) -> list[str]:
        """Subjects that have a folder."""
        tables = disk.list_files(root, "*/trials.csv")
        return [path.parent.name for path in tables] or ["subj01"]

    def __init__(self, root: str | Path, subject: str = "subj01") -> None:
        self.root = disk.expand_home(root)
        self.subject = subject
        self._folder = files.subject_folder(self.root, subject)
        self._file = files.only_one(self._folder, betas_files.BETAS)
        self._mask = betas_files.read_mask(self._folder) if ".nii" in self._file.suffixes else None
        self.trials, self.names = tables.read_trials(self._folder / "trials.csv")
        n_voxels = betas_files.count_voxels(self._file, self._mask, len(self.trials))
        self._voxels = tables.read_voxels(self._folder / "voxels.csv", n_voxels, self._mask)
        # -1 not known yet, 0 no data in some session, 1 covered
        self._covered = np.full(n_voxels, -1, np.int8)
        self._pictures = images.find_pictures(self._folder / "images", self.names)
        self._captions = tables.read_words(
            self._folder / "captions.csv", "caption", self.names, complete=True
        )
        self._categories = tables.read_words(
            self._folder / "categories.csv", "category", self.names, complete=False
        )

    # ---- voxels
    # ----------------------------------------------------------------------------------------------

    @cached_property
    def _members(self) -> dict[str, NDArray[np.bool_]]:
        """Which voxels belong to each region."""
        members: dict[str, NDArray[np.bool_]] = {}
        for text in self._voxels["roi"].unique():
            for roi in filter(None, (part.strip() for part in text.split(";"))):
                here = np.asarray(self._voxels["roi"] == text)
                members[roi] = members.get(roi, here) | here
        if "all" in members:
            raise PhospheneError(
                f"{self._folder / 'voxels.csv'}: a region is called 'all', the name of all voxels"
            )
        return members

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of the regions: those in voxels.csv, then "all"."""
        return (*self._members, "all")

    def _select(self, rois: str | Sequence[str]) -> NDArray[np.int64]:
        """Columns of a union of regions, ascending."""
        chosen = np.zeros(len(self._voxels), bool)
        for roi in checked_rois(rois, self, self._folder / "voxels.csv"):
            chosen |= roi == "all" or self._members[roi]
        return np.flatnonzero(chosen)

    def _read(self, columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read some columns as they are stored, (n_trials, n_columns), and remember which of them
        have data.
        """
        values = np.empty((len(self.trials), len(columns)), np.float32)
        too_large = np.errstate(over="ignore")  # for float32: infinite, which counts as no data
        with betas_files.open_betas(self._file, self._mask) as betas, too_large:
            for rows, start, stop in betas_files.blocks(betas):
                here = slice(*np.searchsorted(columns, (start, stop)))
                if len(some := columns[here]):
                    values[rows, here] = betas[rows, some[0] : some[-1] + 1][:, some - some[0]]
        self._covered[columns] = np.all([varies(values[rows]) for rows in self._sessions], axis=0)
        return values

    @cached_property
    def _sessions(self) -> list[NDArray[np.bool_]]:
        session = self.trials["session"].to_numpy()
        return [session == number for number in np.unique(session)]

    def _keep(self, columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which columns have data in every session, reading only what is not known yet."""
        if len(unknown := columns[self._covered[columns] < 0]):
            self._read(unknown)
        covered = self._covered[columns] > 0
        warn_uncovered(covered, self.subject, self._file)
        return np.asarray(covered)

    def voxels(self, rois: str | Sequence[str]) -> pd.DataFrame:
        """Describe the columns of :meth:`betas`.

        Returns
        -------
        DataFrame
            x, y, z (0-based), roi (text of voxels.csv, "" without it), ncsnr (NaN where it is not
            given). Without voxels.csv and mask, x is the voxel's column in the file, y and z are 0.
        """
        columns = self._select(rois)
        return self._voxels.iloc[columns[self._keep(columns)]].reset_index(drop=True)

    def betas(self, rois: str | Sequence[str], zscore: str = "session") -> NDArray[np.float32]:
        """Read single-trial responses of some regions; only their columns are read from disk.

        Parameters
        ----------
        rois : str or sequence of str
            Names in :attr:`rois`; several are united.
        zscore : {"session", "train", "none"}
            Standardise every voxel over all trials of each session (common, but its mean and
            deviation have seen the test trials), over all training trials, or leave the values as
            they are.

        Returns
        -------
        ndarray of float32, shape (n_trials, n_voxels)
            Finite; voxels that are constant or not finite in some session are left out with a
            warning.
        """
        check_zscore(zscore)
        columns = self._select(rois)
        betas = self._read(columns)
        keep = self._keep(columns)
        betas = betas if keep.all() else betas[:, keep]
        if zscore == "session":
            for rows in self._sessions:
                betas[rows] = standardise(betas[rows], slice(None))
        elif zscore == "train":
            standardise(betas, np.asarray(self.trials["split"] == "train"))
        return betas

    # ---- pictures
    # ----------------------------------------------------------------------------------------------

    def _checked(self, ids: Sequence[int]) -> list[int]:
        for image in ids:
            if not 0 <= image < len(self.names):
                raise PhospheneError(
                    f"{self._folder}: no image {image}; it has images 0 to {len(self.names) - 1}"
                )
        return [int(image) for image in ids]

    @cached_property
    def side(self) -> int:
        """Side in pixels of what :meth:`images` returns: the shortest side among all pictures, at
        most 512; a picture much smaller than most is refused. Warns of pictures that are not plain
        RGB, once.
        """
        for note in images.conversion_notes(self._pictures):
            warnings.warn(f"{self._folder / 'images'}: {note}", stacklevel=2)
        return images.common_side(self._pictures, LARGEST)

    def images(self, ids: Sequence[int]) -> NDArray[np.uint8]:
        """Return pictures, shape (n, side, side, 3), in the order of `ids`, which may repeat.

        Each is cropped to the square at its centre and resized (Lanczos) to :attr:`side`.
        """
        chosen = self._checked(ids)
        pictures = np.empty((len(chosen), self.side, self.side, 3), np.uint8)
        for place, image in enumerate(chosen):
            pictures[place] = images.read_picture(self._pictures[image], self.side)
        return pictures

    def captions(self, ids: Sequence[int]) -> list[list[str]]:
        """Return the sentences in captions.csv about each picture, in the order of the file."""
        if not self._captions:
            raise PhospheneError(
                f"{self._folder / 'captions.csv'}: no such file, and c is made of captions; write "
                "it (columns image_id "
                'and caption) or set reconstruct.modes = ["z"], which needs none'
            )
        return [list(self._captions[self.names[image]]) for image in self._checked(ids)]

    def categories(self, ids: Sequence[int]) -> list[list[str]]:
        """Return the names in categories.csv of the things in each picture; none without that
        file.
        """
        return [
            list(dict.fromkeys(self._categories.get(self.names[image], [])))
            for image in self._checked(ids)
        ]

    # ---- keys
    # ----------------------------------------------------------------------------------------------

    def key(self, part: str, names: Sequence[str] = ()) -> str:
        """Hash one part of the data (:meth:`phosphene.data.dataset.Dataset.key`).

        Regions are known by the columns of betas, the places of these voxels and the mask's grid.
        """
        check_part(part)
        if part == "trials":
            return content_key(part, self.trials, self.names)
        if part == "regions":
            columns = self._select(names)
            grid = () if self._mask is None else self._mask.shape
            places = self._voxels[list(tables.AXES)].iloc[columns]
            return content_key(part, columns, places, grid)
        if part == "labels":
            return content_key(part, self._voxels[["roi"] if "roi" in names else []])
        if part == "ncsnr":
            return content_key(part, self._voxels["ncsnr"].to_numpy())
        contents = [self.names] if part in PICTURES else []
        return files_key(part, self._folder, self._files_of(part), *contents)

    def _files_of(self, part: str) -> list[Path]:
        if part == "betas":
            masks = [] if self._mask is None else [betas_files.mask_file(self._folder)]
            # a zarr folder; the settings of one in format 2 have a name like a hidden file's
            chunks = [self._file / ".zarray", *disk.list_files(self._file, "**/*")]
            return [self._file, *chunks, *masks]
        if part == "images":
            return self._pictures
        return [self._folder / f"{part}.csv"] if part in ("captions", "categories") else []
