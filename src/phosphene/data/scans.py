"""Single trials in one file per session, on one grid of voxels: what NSD and LAION-fMRI share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data.dataset import Dataset
from phosphene.data.trials import assemble, varies, warn_uncovered


class Scans(ABC):
    """One subject's files of betas; subclasses know where they are and what they hold.

    Attributes
    ----------
    subject : str
    sessions : tuple of int
        Those used, 1-based.
    scale : float
        What stored values are divided by.
    dtype : str
        Their type.
    photographs : bool
    """

    subject: str
    sessions: tuple[int, ...]
    scale: float
    dtype: str
    photographs = True

    @property
    @abstractmethod
    def paths(self) -> list[Path]:
        """The files of betas of the sessions used."""

    @property
    @abstractmethod
    def rois(self) -> tuple[str, ...]:
        """Names of regions."""

    @abstractmethod
    def voxels(self, rois: str | Sequence[str], uncovered: str = "drop") -> pd.DataFrame:
        """Describe the columns of :meth:`betas`: x, y, z, labels, ncsnr."""

    @property
    @abstractmethod
    def trials(self) -> pd.DataFrame:
        """One row per trial of the sessions used: session, run, image, repeat, split."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Grid (X, Y, Z) of the volumes."""

    @property
    @abstractmethod
    def affine(self) -> NDArray[np.float64]:
        """Header affine (4, 4) of the volumes."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where the files of betas are."""

    @abstractmethod
    def select(self, rois: str | Sequence[str]) -> NDArray[np.int64]:
        """Return 0-based coordinates (n_voxels, 3) of a union of regions, C order of (X, Y, Z): X
        slowest.
        """

    @abstractmethod
    def read(self, session: int, index: NDArray[np.int64]) -> NDArray[Any]:
        """Read one session's responses of the voxels `index` as they lie in the file, (n_trials,
        n_voxels).
        """

    def stored(self, rois: str | Sequence[str], session: int) -> NDArray[Any]:
        """Read one session's responses as they lie in the file, (n_trials, n_voxels), voxels
        without data included.
        """
        return self.read(session, self.select(rois))

    def betas(
        self, rois: str | Sequence[str], zscore: str = "session", uncovered: str = "drop"
    ) -> NDArray[np.float32]:
        """Read single-trial responses of some regions; one session and the voxels asked for are in
        memory.

        Parameters
        ----------
        rois : str or sequence of str
            Regions, as the names in ``rois``; several are united.
        zscore : {"session", "train", "none"}
            Standardise every voxel over all trials of each session (common, but its mean and
            deviation have seen the test trials), over all training trials, or leave the responses
            as they are.
        uncovered : {"drop", "nan"}
            Leave out voxels that are not finite or constant in some session used, with a warning
            that counts them, or keep them and write NaN where there are no data.

        Returns
        -------
        ndarray of float32, shape (n_trials, n_voxels)
            Columns as ``voxels`` with the same `uncovered`.
        """
        index = self.select(rois)
        train = np.asarray(self.trials["split"] == "train")
        sessions = (self.read(session, index) for session in self.sessions)
        shape = len(train), len(index)
        betas, covered = assemble(
            sessions, shape, train, zscore, self.scale, drop=uncovered == "drop"
        )
        self._covered[tuple(index.T)] = covered
        if uncovered == "drop":
            self.covers(index)
        return betas

    @cached_property
    def _covered(self) -> NDArray[np.int8]:
        # -1 not known yet, 0 no data in some session, 1 data in all
        return np.full(self.shape, -1, np.int8)

    def covers(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which voxels have data in every session used, reading only what is not known yet."""
        unknown = index[self._covered[tuple(index.T)] < 0]
        if len(unknown):
            covered = np.all(
                [varies(self.read(session, unknown)) for session in self.sessions], axis=0
            )
            self._covered[tuple(unknown.T)] = covered
        keep = np.asarray(self._covered[tuple(index.T)] > 0)
        warn_uncovered(keep, self.subject, self.folder)
        return keep


def all_voxels(data: Dataset, rois: str | Sequence[str]) -> pd.DataFrame:
    """Describe the voxels of some regions, of scans also those without data, so that no responses
    need be read.
    """
    return data.voxels(rois, uncovered="nan") if isinstance(data, Scans) else data.voxels(rois)
