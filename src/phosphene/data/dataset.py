"""Measured brains and what they saw: the one shape every data source has."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import PhospheneError

if TYPE_CHECKING:
    import pandas as pd


class Dataset(Protocol):
    """One subject's brain activity, trial by trial, and the pictures.

    Attributes
    ----------
    subject : str
    trials : DataFrame
        One row per trial, in order: session and run (1-based), image (0-based id), repeat
        (0-based), split ("train" or "test").
    rois : tuple of str
        Names that :meth:`betas` and :meth:`voxels` take; several at once are their union.
    photographs : bool
        Whether it is known which picture was seen, so that a reconstruction can be compared with
        it.
    """

    subject: str
    photographs: bool

    @property
    def trials(self) -> pd.DataFrame: ...

    @property
    def rois(self) -> tuple[str, ...]: ...

    def betas(self, rois: str | Sequence[str], zscore: str = "session") -> NDArray[np.float32]:
        """Return responses, shape (n_trials, n_voxels), rows as `trials`; `zscore` is session,
        train or none.
        """
        ...

    def voxels(self, rois: str | Sequence[str]) -> pd.DataFrame:
        """Return x, y, z (0-based), label columns and ncsnr of the voxels of :meth:`betas`, in the
        same order.
        """
        ...

    def images(self, ids: Sequence[int]) -> NDArray[np.uint8]:
        """Return pictures, shape (n, height, width, 3)."""
        ...

    def captions(self, ids: Sequence[int]) -> list[list[str]]:
        """Return the sentences that describe each picture."""
        ...

    def categories(self, ids: Sequence[int]) -> list[list[str]]:
        """Return the names of the things in each picture."""
        ...

    def key(self, part: str, names: Sequence[str] = ()) -> str:
        """Hash one part of the data: equal as long as what is read of that part is, and for a copy
        elsewhere.

        Parameters
        ----------
        part : str
            One of :data:`phosphene.data.keys.PARTS`:

            - "trials": the table, and what its images are called where they have names
            - "betas": what the responses of all voxels are read from
            - "regions": the voxels of the union of the regions `names`
            - "labels": what the columns `names` of :meth:`voxels` are made from
            - "ncsnr": the noise ceiling
            - "images", "captions", "categories", "segmentation": what is read about the pictures
              that the trials show
        names : sequence of str
            Regions for "regions", label columns for "labels" (those that do not exist count
            nothing), otherwise not used.

        Returns
        -------
        str
            Hexadecimal. No responses are read for "trials", "regions" and "labels".

        Raises
        ------
        ValueError
            When there is no such part.
        PhospheneError
            When a region does not exist or holds no voxel, or a file that must be read is damaged.
        """
        ...


def checked_rois(rois: str | Sequence[str], data: Dataset, where: Path) -> list[str]:
    """List the regions asked for, or refuse one that the data do not have; `where` is what the
    sentence names.
    """
    asked = [rois] if isinstance(rois, str) else list(rois)
    for roi in asked:
        if roi not in data.rois:
            near = difflib.get_close_matches(roi, data.rois, 1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"expected some of {', '.join(data.rois)}"
            )
            raise PhospheneError(f"{where}: no region {roi!r} of {data.subject}; {hint}")
    return asked


class Photographs(Sequence[NDArray[np.uint8]]):
    """Photographs of some images of a data set, read one at a time.

    Parameters
    ----------
    data : Dataset
    images : sequence of int
        Ids, as in ``data.trials``.
    """

    def __init__(self, data: Dataset, images: Sequence[int]) -> None:
        self._data = data
        self._images = [int(image) for image in images]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        return self._data.images([self._images[index]])[0]
