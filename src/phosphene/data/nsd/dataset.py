"""The Natural Scenes Dataset as it lies on disk.

NSD counts images, trials, sessions and runs from 1 in its files; image ids become 0-based here and
nowhere else. Voxels come in C order of (X, Y, Z): X slowest. That is the order of a boolean mask on
a NIfTI array, not on the HDF5 betas, whose axes are reversed. :meth:`NSD.voxels` gives the
coordinates of every column.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data.coco import ANNOTATIONS, SPLITS, Coco, Crop
from phosphene.data.grids import check_grid
from phosphene.data.keys import check_part, content_key, files_key
from phosphene.data.nsd import files
from phosphene.data.nsd.betas import Betas
from phosphene.data.opening import load_volume, open_hdf5, read_volume
from phosphene.data.regions import Regions
from phosphene.data.scans import Scans
from phosphene.data.trials import image_ids
from phosphene.errors import PhospheneError


class NSD(Scans):
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

    scale = 300.0  # betas are stored as percent signal change times 300
    dtype = "int16"

    options: ClassVar[tuple[str, ...]] = ("betas", "resolution", "sessions")

    @staticmethod
    def detect(root: Path) -> bool:
        """Whether a folder holds this kind of data."""
        return (root / "nsddata").is_dir()

    @staticmethod
    def subjects(root: Path) -> list[str]:
        """Subjects that have a folder."""
        return sorted(path.name for path in root.glob("nsddata_betas/ppdata/subj0[1-8]"))

    def __init__(
        self,
        root: str | Path,
        subject: str,
        betas: str = "betas_fithrf_GLMdenoise_RR",
        resolution: str = "func1pt8mm",
        sessions: Sequence[int] = (),
    ) -> None:
        self.layout = layout = files.Layout(disk.expand_home(root), subject, betas, resolution)
        self.subject = subject
        if not (layout.root / "nsddata").is_dir():
            raise PhospheneError(
                f"{layout.root}: no folder 'nsddata' in it; expected the NSD folder that holds "
                "nsddata, nsddata_betas "
                "and nsddata_stimuli"
            )
        if not re.fullmatch(r"subj0[1-8]", subject) or not layout.betas.is_dir():
            raise PhospheneError(
                f"{layout.betas}: no such folder; check data.subjects, data.resolution and "
                "data.betas"
            )
        self._files = files.find_sessions(layout.betas)
        self.sessions = tuple(sorted(set(sessions))) or tuple(sorted(self._files))
        for session in self.sessions:
            if session not in self._files:
                missing = layout.betas / f"betas_session{session:02d}.hdf5"
                raise PhospheneError(
                    f"{missing}: no such file (nor .nii.gz), but data.sessions asks for it"
                )

    # ---- trials
    # ----------------------------------------------------------------------------------------------

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial of the sessions used: session, run, image, repeat, split.

        `repeat` counts earlier presentations over the whole planned experiment, sessions not used
        included; the test images are those shown to every subject. What the design plans is
        compared with the log of responses and with the table of stimuli, where these are there.
        """
        layout = self.layout
        planned = files.planned_trials(
            layout.design, files.read_design(layout.design), self.subject
        )
        if max(self.sessions) > planned["session"].max():
            raise PhospheneError(
                f"{self._files[max(self.sessions)]}: {layout.design.name} plans "
                f"{planned['session'].max()} sessions; "
                "set data.sessions, or move the file away"
            )
        if disk.exists(layout.stimulus_table):
            files.check_stimuli(layout.stimulus_table, self._info, planned, self.subject)
        table = planned[planned["session"].isin(self.sessions)].reset_index(drop=True)
        if disk.exists(layout.responses):
            files.check_responses(layout.responses, table)
        return table

    # ---- voxels
    # ----------------------------------------------------------------------------------------------

    @cached_property
    def _mask(self) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        path = self.layout.mask
        return np.asarray(read_volume(path) > 0), np.asarray(load_volume(path).affine, float)

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid (X, Y, Z) of the functional volumes."""
        return self._mask[0].shape

    @property
    def affine(self) -> NDArray[np.float64]:
        """Header affine (4, 4) of the functional volumes; in NSD it does not register them with any
        anatomy.
        """
        return self._mask[1]

    @cached_property
    def regions(self) -> Regions:
        """The atlases in the subject's roi folder."""
        return Regions(
            self.layout.roi, self.layout.root, self.subject, self._mask[0], self.layout.mask
        )

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of regions: labels, atlases, "brain"; :mod:`phosphene.data.regions` tells what else
        can be asked.
        """
        return self.regions.names

    @property
    def folder(self) -> Path:
        """Where the files of betas are."""
        return self.layout.betas

    def select(self, rois: str | Sequence[str]) -> NDArray[np.int64]:
        """Return 0-based coordinates (n_voxels, 3) of a union of regions
        (:mod:`phosphene.data.regions`).
        """
        return self.regions.select(rois)

    def voxels(self, rois: str | Sequence[str], uncovered: str = "drop") -> pd.DataFrame:
        """Describe the columns of :meth:`betas`.

        Returns
        -------
        DataFrame
            x, y, z (0-based, NIfTI order), one column of label names per atlas ("" without a
            label), ncsnr (NaN where the file is missing or the voxel invalid).
        """
        index = self.select(rois)
        index = index[self.covers(index)] if uncovered == "drop" else index
        table = pd.DataFrame(index, columns=["x", "y", "z"])
        for name in self.regions.atlases:
            table[name] = self.regions.labels(name, index)
        table["ncsnr"] = np.float32(np.nan)
        if disk.exists(self.layout.ncsnr):
            ncsnr = read_volume(self.layout.ncsnr, like=load_volume(self.layout.mask))
            table["ncsnr"] = ncsnr[tuple(index.T)].astype(np.float32)
        return table

    @property
    def paths(self) -> list[Path]:
        """The files of betas of the sessions used."""
        return [self._files[session] for session in self.sessions]

    def session_file(self, session: int) -> Betas:
        """Open one session's file of betas, and check that it fits the design and the brain
        mask.
        """
        betas = Betas.open(self._files[session])
        betas.check(int((self.trials["session"] == session).sum()), self.shape)
        if betas.path.suffix != ".hdf5":  # HDF5 does not say where its grid lies
            check_grid(betas.path, load_volume(betas.path), load_volume(self.layout.mask))
        return betas

    def read(self, session: int, index: NDArray[np.int64]) -> NDArray[np.int16]:
        """Read one session's responses of some voxels, int16, (n_trials, n_voxels)."""
        return self.session_file(session).read(index)

    # ---- pictures
    # ----------------------------------------------------------------------------------------------

    def images(self, ids: Sequence[int]) -> NDArray[np.uint8]:
        """Return pictures, shape (n, side, side, 3), in the order of `ids`, which may repeat."""
        path = self.layout.stimuli
        unique, inverse = np.unique(np.asarray(ids, np.int64), return_inverse=True)
        try:
            with open_hdf5(path, "imgBrick") as brick:
                if len(unique) and not 0 <= unique[0] <= unique[-1] < len(brick):
                    raise PhospheneError(
                        f"{path}: image {unique[-1]} asked for; it holds 0 to {len(brick) - 1}"
                    )
                pictures = np.empty((len(unique), *brick.shape[1:]), np.uint8)
                # increasing, one by one: long index lists are slow in h5py
                for place, image in enumerate(unique):
                    brick.read_direct(pictures, np.s_[image], np.s_[place])
        except (OSError, KeyError) as error:
            raise PhospheneError(
                f"{path}: could not be read ({error}); copy or download it again"
            ) from error
        return pictures[inverse]

    @cached_property
    def _info(self) -> pd.DataFrame:
        return files.read_stimuli(self.layout.stimulus_table)

    @cached_property
    def _coco(self) -> Coco:
        return Coco(self.layout.annotations)

    def _shown(self, image: int) -> tuple[int, str, Crop]:
        """COCO id, COCO split and crop of one image."""
        if image not in self._info.index:
            raise PhospheneError(f"{self.layout.stimulus_table}: no image with nsdId {image}")
        coco_id, split, crop = self._info.loc[image, ["cocoId", "cocoSplit", "cropBox"]]
        try:
            top, bottom, left, right = map(float, ast.literal_eval(str(crop)))
        except (ValueError, SyntaxError, TypeError) as error:
            raise PhospheneError(
                f"{self.layout.stimulus_table}: cropBox of nsdId {image} is {crop!r}; expected "
                "four fractions"
            ) from error
        if split not in SPLITS:  # it becomes part of a file's name
            raise PhospheneError(
                f"{self.layout.stimulus_table}: cocoSplit of nsdId {image} is {split!r}; expected "
                f"{' or '.join(SPLITS)}"
            )
        return int(coco_id), str(split), (top, bottom, left, right)

    def captions(self, ids: Sequence[int]) -> list[list[str]]:
        """Return COCO's captions of each picture, five or a few more."""
        return [self._coco.captions(*self._shown(int(image))[:2]) for image in ids]

    def categories(self, ids: Sequence[int]) -> list[list[str]]:
        """Return COCO's categories of each picture, largest thing first; things cut off by NSD's
        crop do not count.
        """
        return [self._coco.categories(*self._shown(int(image))) for image in ids]

    def segmentation(self, ids: Sequence[int], side: int) -> NDArray[np.uint8]:
        """Return COCO's semantic map of each picture, shape (n, side, side, 3): every category has
        its own colour.
        """
        maps = [self._coco.segmentation(*self._shown(int(image)), side) for image in ids]
        return np.array(maps, np.uint8).reshape(-1, side, side, 3)

    # ---- keys
    # ----------------------------------------------------------------------------------------------

    def key(self, part: str, names: Sequence[str] = ()) -> str:
        """Hash one part of the data (:meth:`phosphene.data.dataset.Dataset.key`).

        Captions, categories and semantic maps are known by the files of COCO's splits that the
        trials show, and by what the stimulus table says of the images shown.
        """
        check_part(part)
        if part == "trials":
            return content_key(part, self.trials)
        if part == "regions":
            return content_key(part, self.select(names), self.shape)
        contents = [self._shown_info] if part in ANNOTATIONS else []
        return files_key(part, self.layout.root, self._files_of(part, names), *contents)

    def _files_of(self, part: str, names: Sequence[str]) -> list[Path]:
        layout = self.layout
        if part == "labels":
            return self.regions.label_files(names)
        if part in ANNOTATIONS:
            splits = set(self._shown_info["cocoSplit"]).intersection(SPLITS)
            return [layout.annotations / f"{ANNOTATIONS[part]}_{split}.json" for split in splits]
        return {"betas": self.paths, "ncsnr": [layout.ncsnr], "images": [layout.stimuli]}[part]

    @cached_property
    def _shown_info(self) -> pd.DataFrame:
        """Where in COCO the images shown come from; empty without the stimulus table."""
        columns = ["nsdId", "cocoId", "cocoSplit", "cropBox"]
        if not disk.exists(self.layout.stimulus_table):
            return pd.DataFrame(columns=columns)
        shown = self._info.index.isin(image_ids(self))
        return self._info.loc[shown, columns].sort_index()
