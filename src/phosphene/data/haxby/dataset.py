"""Haxby et al. (2001): measured brain activity of six people who looked at eight categories of grey
photographs.

Which photograph was on the screen when is not published, only the category of every block. A row of
the data is therefore one run and category, and an "image" is a category.
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
from PIL import ImageOps

from phosphene import disk
from phosphene.data.dataset import checked_rois
from phosphene.data.haxby.files import (
    CATEGORIES,
    FETCH,
    REGIONS,
    detrend,
    read_labels,
    read_part,
    subject_folder,
)
from phosphene.data.keys import check_part, content_key, files_key
from phosphene.data.opening import (
    NO_PICTURE,
    check_unzipped,
    load_volume,
    open_image,
    read_volume,
)
from phosphene.data.simulated.scenes import CATEGORY_WORDS
from phosphene.data.trials import check_zscore, image_ids
from phosphene.errors import NoDataError, PhospheneError

# folders of photographs
STIMULI = (
    "bottles",
    "cats",
    "chairs",
    "faces",
    "houses",
    "scissors",
    "controls",
    "shoes",
)
SIDE = 400  # pixels of a photograph


class Haxby:
    """One subject of Haxby et al. (2001), one row per run and category.

    Two layouts are read: the folder that ``nilearn.datasets.fetch_haxby`` leaves
    (``haxby2001/mask.nii.gz``, ``haxby2001/subj1/bold.nii.gz``, ``labels.txt``,
    ``mask4_vt.nii.gz``, ...), and a single folder that holds ``bold.nii.gz``, ``mask.nii.gz`` and
    ``labels.txt`` or ``attributes_literal.txt``.

    Parameters
    ----------
    root : path
        The folder ``haxby2001``, its parent, or the single folder.
    subject : str
        "subj1" .. "subj6" ("subj01" means the same); any name for a single folder.

    Raises
    ------
    PhospheneError
        When the folder, the subject or a file is missing.

    Notes
    -----
    Preprocessing, the same for every voxel: in each run subtract the least-squares line, divide by
    the standard deviation over all volumes of the run, rest included (`zscore` "session": the runs
    take the place of sessions), and average the nine volumes of each category. No other run enters,
    so a run that is left out stays unseen. The labels are not shifted by the haemodynamic lag: on
    the published slice the correlation of voxels with "any picture or rest", blind to categories,
    is largest for a shift of 0 volumes (of 2.5 s).

    All rows have the split "train": there is no fixed test set. A study sets ``decode.leave_out =
    "run"``, which tests every run once.

    References
    ----------
    Haxby et al. (2001), Science 293:2425.
    """

    photographs = False  # only the category of what was on the screen is published

    options: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def detect(root: Path) -> bool:
        """Whether a folder holds this kind of data."""
        return (
            disk.exists(root / "bold.nii.gz")
            or (root / "haxby2001").is_dir()
            or bool(disk.list_files(root, "subj*/bold.nii.gz"))
        )

    @staticmethod
    def subjects(root: Path) -> list[str]:
        """Subjects that have a folder."""
        folders = [path.relative_to(root) for path in root.glob("**/subj[1-6]")]
        return sorted(path.name for path in folders if not disk.is_foreign(path)) or ["subj1"]

    def __init__(self, root: str | Path, subject: str = "subj1") -> None:
        self.root = disk.expand_home(root)
        self.subject = subject
        self._folder = subject_folder(self.root, subject)
        self._base = self.root if self._folder == self.root else self._folder.parent
        names = ("labels.txt", "attributes_literal.txt")
        self._labels_file = next(
            (p for n in names if disk.exists(p := self._folder / n)), self._folder / names[0]
        )
        self._masks = {"brain": self._base / "mask.nii.gz"}
        self._masks |= {
            name: path for name, file in REGIONS.items() if disk.exists(path := self._folder / file)
        }
        self._bold = self._folder / "bold.nii.gz"
        for path in (self._bold, self._labels_file, self._masks["brain"]):
            if not disk.exists(path):
                raise PhospheneError(f"{path}: no such file; {FETCH}")

    # ---- trials
    # ----------------------------------------------------------------------------------------------

    @cached_property
    def _labels(self) -> pd.DataFrame:
        """What every volume showed: category ("rest" between blocks) and run (1-based)."""
        return read_labels(self._labels_file, self._bold)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per run and category, in the order of runs, then image ids: session, run, image,
        repeat, split.

        `session` is 1 and `split` "train" everywhere; `image` is the category's place in
        :data:`CATEGORIES`; `repeat` counts the earlier runs that showed it. A run without labels
        (the ninth of subject 5) has no rows.
        """
        shown = self._labels[self._labels["category"] != "rest"].drop_duplicates()
        image = shown["category"].map(CATEGORIES.index).astype(np.int64)
        table = pd.DataFrame({"session": 1, "run": shown["run"], "image": image})
        if table.empty:
            raise PhospheneError(
                f"{self._labels_file}: every volume is labelled rest; expected blocks of categories"
            )
        table = table.sort_values(["run", "image"]).reset_index(drop=True)
        table["repeat"] = table.groupby("image").cumcount()
        return table.assign(split="train")

    # ---- voxels
    # ----------------------------------------------------------------------------------------------

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of the regions: "brain", and "vt", "face" and "house" (ventral temporal) where
        their masks exist.
        """
        return tuple(self._masks)

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid (X, Y, Z) of the functional volumes."""
        return tuple(load_volume(self._bold).shape[:3])

    @property
    def affine(self) -> NDArray[np.float64]:
        """Header affine (4, 4) of the functional volumes."""
        return np.asarray(load_volume(self._bold).affine, float)

    @cached_property
    def _regions(self) -> dict[str, NDArray[np.bool_]]:
        found = {}
        for name, path in self._masks.items():
            # the whole-brain mask of the release is one for all subjects: its place is not compared
            volume = read_volume(path, like=None if name == "brain" else load_volume(self._bold))
            volume = volume[..., 0] if volume.ndim == 4 and volume.shape[3] == 1 else volume
            if volume.shape != self.shape:
                raise PhospheneError(
                    f"{path}: its grid is {volume.shape}; that of {self._bold.name} is {self.shape}"
                )
            found[name] = volume > 0
        return found

    @cached_property
    def _responses(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Read the scans once, one run at a time, for every voxel of every region.

        Returns coordinates (n_voxels, 3) in C order of (X, Y, Z), means of detrended volumes
        (n_rows, n_voxels) and the standard deviation of every row's run, of the same shape. Means
        and deviations give all three settings of `zscore`, because the mean of z-scores is the
        z-score of the mean.
        """
        index = np.argwhere(np.any(list(self._regions.values()), axis=0))
        means = np.empty((len(self.trials), len(index)), np.float32)
        deviations = np.empty_like(means)
        varies = np.ones(len(index), bool)
        category, run_of = (self._labels[name].to_numpy() for name in ("category", "run"))
        check_unzipped(self._bold)
        # one pass over the compressed file, not one for each run
        scans = load_volume(self._bold, keep_file_open=True)
        for run, rows in self.trials.groupby("run"):
            volumes = np.flatnonzero(run_of == run)
            first, last = volumes[[0, -1]]
            block = read_part(self._bold, scans, np.s_[..., first : last + 1])
            series = block[tuple(index.T)].T[volumes - first].astype(float)
            detrended = detrend(series)
            sd = detrended.std(0)
            # a rounding error is left of a constant; comparisons with NaN are False, so NaN counts
            # as no data
            varies &= sd > 1e-6 * np.abs(series).max(0)
            for row, image in rows["image"].items():
                means[row] = detrended[category[volumes] == CATEGORIES[image]].mean(0)
                deviations[row] = sd
        if not varies.any():
            raise PhospheneError(
                f"{self._bold}: no voxel of the masks varies in every run; download it again"
            )
        if not varies.all():
            warnings.warn(
                f"{self.subject}: {np.sum(~varies)} of {len(varies)} voxels are constant in some "
                "run and are left out",
                stacklevel=4,
            )
        return index[varies], means[:, varies], deviations[:, varies]

    def _union(self, rois: str | Sequence[str]) -> NDArray[np.bool_]:
        """A union of regions as a mask (X, Y, Z)."""
        chosen = np.zeros(self.shape, bool)
        for roi in checked_rois(rois, self, self._folder):
            chosen |= self._regions[roi]
        if not chosen.any():
            raise self._empty(rois)
        return chosen

    def _empty(self, rois: str | Sequence[str]) -> NoDataError:
        return NoDataError(
            f"{self._folder}: {rois!r} holds no voxel with data; choose another region"
        )

    def _columns(self, rois: str | Sequence[str]) -> NDArray[np.int64]:
        """Columns of the responses that belong to a union of regions."""
        columns = np.flatnonzero(self._union(rois)[tuple(self._responses[0].T)])
        if not len(columns):
            raise self._empty(rois)
        return columns

    def voxels(self, rois: str | Sequence[str]) -> pd.DataFrame:
        """Describe the columns of :meth:`betas`.

        Returns
        -------
        DataFrame
            x, y, z (0-based, NIfTI order), one column per region but "brain" with its name or "",
            ncsnr (NaN: it is defined for repeated photographs).
        """
        index = self._responses[0][self._columns(rois)]
        table = pd.DataFrame(index, columns=["x", "y", "z"])
        for name, region in self._regions.items():
            if name != "brain":
                table[name] = np.where(region[tuple(index.T)], name, "")
        return table.assign(ncsnr=np.nan)

    def betas(self, rois: str | Sequence[str], zscore: str = "session") -> NDArray[np.float32]:
        """Return the mean response to each category in each run.

        Parameters
        ----------
        rois : str or sequence of str
            Names in :attr:`rois`; several are united.
        zscore : {"session", "train", "none"}
            "session": volumes are z-scored within their run before they are averaged. "none": only
            detrended, in the scanner's units. "train": the rows of "none", z-scored over all rows
            (their split is "train"), hence also over a run that is later left out.

        Returns
        -------
        ndarray of float32, shape (n_rows, n_voxels)
            Finite; voxels that are constant in some run are left out with a warning.
        """
        check_zscore(zscore)
        columns = self._columns(rois)
        _, means, deviations = self._responses
        rows = means[:, columns]
        if zscore == "session":
            rows /= deviations[:, columns]
        elif zscore == "train":
            sd = rows.std(0)
            rows = (rows - rows.mean(0)) / np.where(sd > 0, sd, 1)
        return rows

    # ---- pictures
    # ----------------------------------------------------------------------------------------------

    def _photograph(self, image: int) -> Path | None:
        """The first photograph of a category, when the stimuli are there."""
        folder = self._base / "stimuli" / STIMULI[image]
        return next(iter(disk.list_files(folder, "**/*.jpg")), None)

    def images(self, ids: Sequence[int]) -> NDArray[np.uint8]:
        """Return one photograph of each category as an example, shape (n, 400, 400, 3), cropped and
        scaled to fit.

        Raises
        ------
        PhospheneError
            When the photographs are not on disk.
        """
        pictures = np.empty((len(ids), SIDE, SIDE, 3), np.uint8)
        for place, image in enumerate(_checked(ids)):
            path = self._photograph(image)
            if path is None:
                raise PhospheneError(
                    f"{self._base / 'stimuli' / STIMULI[image]}: no photographs of Haxby et al. "
                    "here; "
                    "nilearn.datasets.fetch_haxby(data_dir=..., fetch_stimuli=True) downloads them"
                )
            try:
                with open_image(path) as photograph:
                    pictures[place] = np.asarray(
                        ImageOps.fit(photograph.convert("RGB"), (SIDE, SIDE))
                    )
            except NO_PICTURE as error:
                raise PhospheneError(
                    f"{path}: could not be read as a picture ({error}); download it again"
                ) from error
        return pictures

    def captions(self, ids: Sequence[int]) -> list[list[str]]:
        """Return five sentences that name the category and nothing else: the photographs were grey,
        without a place.
        """
        named = [CATEGORY_WORDS[CATEGORIES[image]] for image in _checked(ids)]
        return [
            [
                f"a picture of a {one}",
                f"a {one}",
                f"a picture of a {other}",
                f"there is a {one}",
                f"a {other}",
            ]
            for one, other in named
        ]

    def categories(self, ids: Sequence[int]) -> list[list[str]]:
        """Return the one category of each image, named as in
        :mod:`phosphene.data.simulated.scenes`.
        """
        return [[CATEGORIES[image]] for image in _checked(ids)]

    # ---- keys
    # ----------------------------------------------------------------------------------------------

    def key(self, part: str, names: Sequence[str] = ()) -> str:
        """Hash one part of the data (:meth:`phosphene.data.dataset.Dataset.key`).

        Captions and categories are known by their words, which stand in this package.
        """
        check_part(part)
        if part == "trials":
            return content_key(part, self.trials)
        if part == "regions":
            return content_key(part, np.argwhere(self._union(names)), self.shape)
        if part in ("captions", "categories"):
            tell = self.captions if part == "captions" else self.categories
            return content_key(part, tell(range(len(CATEGORIES))))
        return files_key(part, self._base, self._files_of(part, names))

    def _files_of(self, part: str, names: Sequence[str]) -> list[Path]:
        if part == "betas":
            return [self._bold, self._labels_file]
        if part == "labels":
            return [path for name, path in self._masks.items() if name in names and name != "brain"]
        if part == "images":
            photographs = map(self._photograph, image_ids(self))
            return [path for path in photographs if path]
        return []


def _checked(ids: Sequence[int]) -> list[int]:
    """Image ids as plain ints, each of them one of the eight."""
    for image in ids:
        if not 0 <= image < len(CATEGORIES):
            raise PhospheneError(
                f"Haxby has no image {image}; expected 0 to {len(CATEGORIES) - 1}, one per category"
            )
    return [int(image) for image in ids]
