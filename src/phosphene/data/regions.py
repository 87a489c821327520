"""Regions of one NSD subject by name, as masks on the grid of the functional volumes.

A region is written ``early`` (a label), ``streams/early`` or ``HCP_MMP1/4`` (atlas and label, by
name or number), ``floc-faces`` (all labels of an atlas) or ``brain`` (the brain mask); ``lh.`` or
``rh.`` before any of the first three takes one hemisphere. Several regions are united.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data import atlas
from phosphene.data.opening import load_volume, read_volume
from phosphene.errors import NoDataError, PhospheneError

BRAIN = "brain"
SIDES = ("lh.", "rh.")
SHOWN = 20


class Regions:
    """The atlases in a subject's ``roi`` folder.

    Parameters
    ----------
    folder : path
        ``nsddata/ppdata/<subject>/<resolution>/roi``.
    root : path
        The NSD folder, for label tables.
    subject : str
    mask : ndarray of bool, (X, Y, Z)
        The brain mask.
    mask_file : path
        Its file, on whose grid the atlases must lie.
    """

    def __init__(
        self, folder: Path, root: Path, subject: str, mask: NDArray[np.bool_], mask_file: Path
    ) -> None:
        self.folder = folder
        self.root = root
        self.subject = subject
        self.brain = mask
        self.mask_file = mask_file
        self._volumes: dict[str, NDArray[np.int16]] = {}
        self._unreadable: dict[str, PhospheneError] = {}

    @cached_property
    def atlases(self) -> dict[str, dict[int, str]]:
        """Number and name of every label, for every atlas with a volume of both hemispheres; NSD's
        usual ones first.
        """
        volumes = disk.list_files(self.folder, "*.nii.gz")
        there = {path.name.removesuffix(".nii.gz") for path in volumes}
        names = [name for name in atlas.ATLASES if name in there]
        names += sorted(name for name in there - set(names) if not name.startswith(SIDES))
        found = {}
        for name in names:
            table = atlas.label_names(self.root, self.subject, name)
            try:
                found[name] = table or {
                    int(k): str(k) for k in np.unique(self.volume(name)) if k > 0
                }
            except PhospheneError as error:  # refused when somebody asks for it
                warnings.warn(f"{error}; its regions are left out", stacklevel=2)
                self._unreadable[name] = error
        return found

    @cached_property
    def owners(self) -> dict[str, list[str]]:
        """The atlases that have each label."""
        found: dict[str, list[str]] = {}
        for name, table in self.atlases.items():
            for label in table.values():
                found.setdefault(label, []).append(name)
        return found

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Labels that one atlas alone has, the atlases, and "brain"."""
        labels = [
            label
            for label, owners in self.owners.items()
            if len(owners) == 1 and not label.isdigit()
        ]
        return tuple(dict.fromkeys((*labels, *self.atlases, BRAIN)))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.nii.gz"

    def label_files(self, names: Sequence[str]) -> list[Path]:
        """List the volumes and tables of labels of those of `names` that are atlases."""
        known = [name for name in names if name in self.atlases]
        tables = [atlas.label_table(self.root, self.subject, name) for name in known]
        return [*map(self._file, known), *(table for table in tables if table)]

    def volume(self, name: str) -> NDArray[np.int16]:
        """Labels (X, Y, Z) of an atlas: -1 outside cortex, 0 unlabelled; `name` may begin with
        ``lh.`` or ``rh.``.
        """
        if name not in self._volumes:
            path = self._file(name)
            # float64 in NSD
            values = np.nan_to_num(read_volume(path, like=load_volume(self.mask_file)), nan=-1)
            self._volumes[name] = np.rint(values).astype(np.int16)
        return self._volumes[name]

    def labels(self, name: str, index: NDArray[np.int64]) -> NDArray[np.object_]:
        """Label names (n_voxels,) of an atlas at some voxels; "" without a label."""
        numbers = self.volume(name)[tuple(index.T)]
        # last: -1
        table = np.full(max(int(numbers.max(initial=0)), *self.atlases[name], 0) + 2, "", object)
        for number, label in self.atlases[name].items():
            table[number] = label
        return np.asarray(table[numbers])

    def select(self, rois: str | Sequence[str]) -> NDArray[np.int64]:
        """Return 0-based coordinates (n_voxels, 3) of a union of regions, C order of (X, Y, Z): X
        slowest.
        """
        asked = [rois] if isinstance(rois, str) else list(rois)
        chosen = np.zeros(self.brain.shape, bool)
        for roi in asked:
            mask = self.mask(roi)
            if not mask.any():
                raise NoDataError(
                    f"{self.folder}: {roi!r} holds no voxel of {self.subject}; choose another "
                    "region"
                )
            chosen |= mask
        return np.argwhere(chosen)

    def mask(self, roi: str) -> NDArray[np.bool_]:
        """One region as a mask (X, Y, Z)."""
        if roi == BRAIN:
            return self.brain
        side = roi[:3] if roi.startswith(SIDES) else ""
        name, _, label = roi[len(side) :].partition("/")
        if not label and name not in self.atlases:
            name, label = self._owner(roi, name), name
        if name not in self.atlases:
            raise self._unknown(roi)
        volume = self.volume(side + name)
        if not label:
            return np.asarray(volume > 0)
        numbers = [
            number for number, known in self.atlases[name].items() if label in (known, str(number))
        ]
        if not numbers:
            raise self._unknown(roi)
        return np.isin(volume, numbers)

    def _owner(self, roi: str, label: str) -> str:
        owners = self.owners.get(label, [])
        if len(owners) > 1:
            ways = " or ".join(f"{owner}/{label}" for owner in owners)
            raise PhospheneError(
                f"{self.folder}: {roi!r} is a region of {' and of '.join(owners)}; write {ways}"
            )
        if not owners:
            raise self._unknown(roi)
        return owners[0]

    def _unknown(self, roi: str) -> PhospheneError:
        name = roi.removeprefix("lh.").removeprefix("rh.").partition("/")[0]
        if name in self._unreadable:
            return self._unreadable[name]
        side = roi[:3] if roi.startswith(SIDES) else ""
        full = [
            f"{name}/{label}" for name, table in self.atlases.items() for label in table.values()
        ]
        near = difflib.get_close_matches(roi[len(side) :], [*self.names, *full], 1)
        some = ", ".join(self.names[:SHOWN]) + (
            f" and {len(self.names) - SHOWN} more" * (len(self.names) > SHOWN)
        )
        hint = f"did you mean {side + near[0]!r}?" if near else f"expected some of {some}"
        return PhospheneError(f"{self.folder}: no region {roi!r} of {self.subject}; {hint}")
