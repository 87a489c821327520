"""LAION-fMRI: five people at 7 T, thirty sessions each, 25,052 photographs; folders as its public
bucket has them.

The layout is that of the data set's documentation and of its own Python package (docs/laion-fmri.md
tells the source of every fact). No real file was at hand: this reader was tested on synthetic files
in the documented layout only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data.dataset import checked_rois
from phosphene.data.keys import PICTURES, check_part, content_key, files_key
from phosphene.data.laion import files
from phosphene.data.opening import load_volume, read_volume
from phosphene.data.scans import Scans
from phosphene.data.trials import image_ids
from phosphene.errors import NoDataError, PhospheneError

MAIN_SESSIONS = 30  # later sessions show other pictures, which the table of stimuli does not have
BRAIN = "brain"
REPEATS = 12  # of the pictures behind the noise ceiling that is read


class LaionFMRI(Scans):
    """One subject of LAION-fMRI.

    Tested on synthetic files in the documented layout only.

    Parameters
    ----------
    root : path
        The folder that holds ``derivatives`` and ``stimuli``.
    subject : str
        "sub-01", "sub-03", "sub-05", "sub-06" or "sub-07".
    split : str
        Published list of training and test pictures: "tau", "ood", "random_0" .. "random_4" or
        "cluster_k5_0" .. "cluster_k5_4". It is read from ``<root>/splits/<pool>/<split>.json`` or
        from the installed package laion_fmri. Trials of pictures that the list does not name are
        left out.
    pool : str
        Whose list: "shared" (pictures that every subject saw), or "" for the subject's own.
    sessions : sequence of int
        1-based sessions to use; empty means all of 1 to 30 whose betas are there.

    Raises
    ------
    PhospheneError
        When a folder, a session or a file is missing, or files do not fit together.

    Notes
    -----
    An image id is a 0-based row of ``stimuli/task-images_metadata.csv``. The betas (GLMsingle type
    D) are shrunken by ridge regression, voxel by voxel: not percent signal change.
    """

    scale = 1.0  # stored() has applied the scaling of the NIfTI header
    dtype = "float32"

    options: ClassVar[tuple[str, ...]] = ("split", "pool", "sessions")

    @staticmethod
    def detect(root: Path) -> bool:
        """Whether a folder holds this kind of data."""
        return (root / "derivatives" / "glmsingle-tedana").is_dir()

    @staticmethod
    def subjects(root: Path) -> list[str]:
        """Subjects that have a folder."""
        folder = root / "derivatives" / "glmsingle-tedana"
        return sorted(path.name for path in folder.glob("sub-[0-9][0-9]"))

    def __init__(
        self,
        root: str | Path,
        subject: str,
        split: str = "tau",
        pool: str = "",
        sessions: Sequence[int] = (),
    ) -> None:
        self.root = disk.expand_home(root)
        self.subject = subject
        self._glm = self.root / "derivatives" / "glmsingle-tedana" / subject
        if not re.fullmatch(r"sub-\d\d", subject) or not self._glm.is_dir():
            raise PhospheneError(
                f"{self._glm}: no such folder; check data.root and data.subjects (as 'sub-01')"
            )
        self._stimuli = self.root / "stimuli"
        self._known: dict[Path, NDArray[np.int64]] = {}
        self._split = files.find_split(self.root, pool or subject, split)
        there = [int(path.name[4:]) for path in self._glm.glob("ses-[0-9][0-9]")]
        there = [session for session in there if disk.exists(self._betas(session))]
        main = [session for session in there if session <= MAIN_SESSIONS]
        self.sessions = tuple(sorted(set(sessions) or main))
        for session in self.sessions:
            if session not in there:
                raise PhospheneError(
                    f"{self._betas(session)}: no such file, but data.sessions asks for it"
                )
        if not self.sessions:
            raise PhospheneError(
                f"{self._glm}: no betas in it; expected files such as {self._betas(1).name}"
            )

    def _of_session(self, session: int, name: str) -> Path:
        folder = f"ses-{session:02d}"
        return self._glm / folder / "func" / f"{self.subject}_{folder}_task-images_{name}"

    def _betas(self, session: int) -> Path:
        return self._of_session(
            session, "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
        )

    @property
    def paths(self) -> list[Path]:
        """The files of betas of the sessions used."""
        return [self._betas(session) for session in self.sessions]

    def _trials(self, session: int) -> Path:
        return self._of_session(session, "desc-SingletrialBetas_trials.tsv")

    def _map(self, name: str) -> Path:
        return self._glm / f"{self.subject}_task-images_space-T1w_{name}_statmap.nii.gz"

    @property
    def _ceiling(self) -> Path:
        return self._map(f"desc-Noiseceiling{REPEATS}rep")

    # ---- trials
    # ----------------------------------------------------------------------------------------------

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The file name of every picture: image 0, 1, ..."""
        return files.read_names(self._stimuli / "task-images_metadata.csv")

    @cached_property
    def _all_trials(self) -> pd.DataFrame:
        """Every trial of the sessions used, also those that the split does not name (split "")."""
        train, test = files.read_split(self._split)
        table = pd.concat(
            [files.read_trials(self._trials(session), session) for session in self.sessions],
            ignore_index=True,
        )
        image = pd.Series(range(len(self.names)), self.names).reindex(table["label"])
        if image.isna().any():
            at = int(np.argmax(image.isna()))
            raise PhospheneError(
                f"{self._trials(table['session'].iat[at])}: it shows {image.index[at]!r}, which "
                f"{self._stimuli / 'task-images_metadata.csv'} does not have; download both "
                "again, or set data.sessions"
            )
        table["image"] = image.to_numpy(np.int64)
        table["repeat"] = table.groupby("image").cumcount()
        table["split"] = np.select(
            [table["label"].isin(train), table["label"].isin(test)], ["train", "test"], ""
        )
        for split in ("train", "test"):
            if not (table["split"] == split).any():
                raise PhospheneError(
                    f"{self._split}: none of its {split} pictures was shown to {self.subject} in "
                    "the sessions used; "
                    "choose another split, pool or data.sessions"
                )
        return table.drop(columns="label")

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial that the split names: session, run, image, repeat, split.

        `repeat` counts earlier trials of the same image in the sessions used.
        """
        return self._all_trials[self._all_trials["split"] != ""].reset_index(drop=True)

    # ---- voxels
    # ----------------------------------------------------------------------------------------------

    @cached_property
    def _brain(self) -> NDArray[np.bool_]:
        """Where GLMsingle fitted anything: no other mask lies with the betas."""
        return np.asarray(read_volume(self._map("stat-rsquare_desc-R2mean")) > 0)

    @property
    def _grid(self) -> Any:
        return load_volume(self._map("stat-rsquare_desc-R2mean"))

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid (X, Y, Z) of the volumes, in the space of the subject's T1w."""
        return self._brain.shape

    @property
    def affine(self) -> NDArray[np.float64]:
        """Affine (4, 4) of the volumes."""
        return np.asarray(self._grid.affine, float)

    @cached_property
    def _masks(self) -> dict[str, dict[str, Path]]:
        """Mask file of every region, by folder: face, place, retinotopy, ..."""
        return files.find_masks(self._rois_folder, self.subject)

    @property
    def _rois_folder(self) -> Path:
        return self.root / "derivatives" / "rois" / self.subject

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of regions ("V1v", "FFA1"), of their folders ("retinotopy", "face": all regions in
        it), and "brain".
        """
        return tuple(
            dict.fromkeys(
                [*(name for some in self._masks.values() for name in some), *self._masks, BRAIN]
            )
        )

    def _members(self, path: Path) -> NDArray[np.int64]:
        """Voxels of a region that lie in the brain, as ascending places in the flattened grid (C
        order).
        """
        if path not in self._known:
            self._known[path] = np.flatnonzero(
                (read_volume(path, like=self._grid) > 0) & self._brain
            )
        return self._known[path]

    def select(self, rois: str | Sequence[str]) -> NDArray[np.int64]:
        """Return 0-based coordinates (n_voxels, 3) of a union of regions, C order of (X, Y, Z): X
        slowest.
        """
        where = self._rois_folder
        chosen = [np.empty(0, np.int64)]
        for roi in checked_rois(rois, self, where):
            paths = [some[roi] for some in self._masks.values() if roi in some] or self._masks.get(
                roi, {}
            ).values()
            parts = (
                [np.flatnonzero(self._brain)]
                if roi == BRAIN
                else [self._members(path) for path in paths]
            )
            if not any(map(len, parts)):
                raise NoDataError(
                    f"{where}: {roi!r} holds no voxel with betas; choose another region"
                )
            chosen += parts
        return np.stack(np.unravel_index(np.unique(np.concatenate(chosen)), self.shape), 1)

    @property
    def folder(self) -> Path:
        """Where the files of betas are."""
        return self._glm

    def voxels(self, rois: str | Sequence[str], uncovered: str = "drop") -> pd.DataFrame:
        """Describe the columns of :meth:`betas`.

        Returns
        -------
        DataFrame
            x, y, z (0-based, NIfTI order), one column per folder of regions with the names of those
            the voxel is in ("" for none, "laionEVC;laiongeneral" for two), ncsnr (of the noise
            ceiling over pictures shown 12 times, ``NC = 100 ncsnr² / (ncsnr² + 1/12)``; NaN where
            that file is missing).
        """
        index = self.select(rois)
        index = index[self.covers(index)] if uncovered == "drop" else index
        table = pd.DataFrame(index, columns=["x", "y", "z"])
        place = np.ravel_multi_index(tuple(index.T), self.shape)
        for folder, paths in self._masks.items():
            labels = np.full(len(table), "", object)
            for name, path in paths.items():
                here = np.isin(place, self._members(path))
                labels[here] = [f"{label};{name}".lstrip(";") for label in labels[here]]
            table[folder] = labels
        table["ncsnr"] = np.float32(np.nan)
        if disk.exists(self._ceiling):
            ceiling = read_volume(self._ceiling, like=self._grid)[tuple(index.T)].astype(float)
            table["ncsnr"] = np.sqrt(
                ceiling / np.where(ceiling < 100, 100 - ceiling, np.nan) / REPEATS
            ).astype("f4")
        return table

    def read(self, session: int, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read one session's responses of some voxels, rows as :attr:`trials`; one volume is in
        memory at a time.
        """
        here = self._all_trials[self._all_trials["session"] == session]
        keep = np.asarray(here["split"] != "")
        if not keep.any():
            raise PhospheneError(
                f"{self._split}: it names no picture of session {session}; set data.sessions "
                "without it"
            )
        shape = (*self.shape, len(here))
        return files.read_betas(self._betas(session), shape, index, keep, self._grid)

    # ---- pictures
    # ----------------------------------------------------------------------------------------------

    def _named(self, ids: Sequence[int]) -> list[str]:
        for image in ids:
            if not 0 <= image < len(self.names):
                raise PhospheneError(
                    f"{self._stimuli}: no image {image}; it has images 0 to {len(self.names) - 1}"
                )
        return [self.names[image] for image in ids]

    def images(self, ids: Sequence[int]) -> NDArray[np.uint8]:
        """Return pictures as they were shown, shape (n, height, width, 3): 1000 by 1000,
        transparency over grey.
        """
        self._named(ids)
        return files.read_pictures(self._pictures, self.names, ids)

    @property
    def _pictures(self) -> Path:
        return self._stimuli / "task-images_stimuli.h5"

    @property
    def _captions_path(self) -> Path:
        return self._stimuli / "task-images_desc-captions.csv"

    @cached_property
    def _captions(self) -> dict[str, list[str]]:
        return files.read_captions(self._captions_path)

    @property
    def _nouns_path(self) -> Path:
        return self._stimuli / "task-images_desc-segmentations_metadata.csv"

    @cached_property
    def _nouns(self) -> dict[str, list[str]]:
        return files.read_nouns(self._nouns_path) if disk.exists(self._nouns_path) else {}

    def captions(self, ids: Sequence[int]) -> list[list[str]]:
        """Return what people wrote about each picture, best first: five sentences for shared
        pictures, else three.
        """
        names = self._named(ids)
        for name in names:
            if name not in self._captions:
                raise PhospheneError(
                    f"{self._captions_path}: no human caption of {name!r}; download it again"
                )
        return [list(self._captions[name]) for name in names]

    def categories(self, ids: Sequence[int]) -> list[list[str]]:
        """Return the nouns that a detector localised in each picture; none for pictures that are
        not shared.
        """
        return [list(self._nouns.get(name, [])) for name in self._named(ids)]

    # ---- keys
    # ----------------------------------------------------------------------------------------------

    def key(self, part: str, names: Sequence[str] = ()) -> str:
        """Hash one part of the data (:meth:`phosphene.data.dataset.Dataset.key`).

        Betas are known by their files and by which trials of these the split names.
        """
        check_part(part)
        if part == "trials":
            return content_key(part, self.trials, self._shown)
        if part == "regions":
            return content_key(part, self.select(names), self.shape)
        contents = [self._shown] if part in PICTURES else []
        if part == "betas":
            table = self._all_trials
            contents = [table[["session"]].assign(named=table["split"] != "")]
        return files_key(part, self.root, self._files_of(part, names), *contents)

    def _files_of(self, part: str, names: Sequence[str]) -> list[Path]:
        if part == "labels":
            return [path for name in names for path in self._masks.get(name, {}).values()]
        return {
            "betas": self.paths,
            "ncsnr": [self._ceiling],
            "images": [self._pictures],
            "captions": [self._captions_path],
            "categories": [self._nouns_path],
        }.get(part, [])

    @property
    def _shown(self) -> pd.DataFrame:
        """Id and name of the images shown."""
        images = image_ids(self)
        return pd.DataFrame({"image": images, "name": [self.names[image] for image in images]})
