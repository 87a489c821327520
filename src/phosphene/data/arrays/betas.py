"""Betas of a lab's own data: .npy, zarr, HDF5 or NIfTI. Nothing is ever unpickled."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from phosphene.data.arrays.files import only_one
from phosphene.data.grids import check_grid
from phosphene.data.opening import (
    load_volume,
    open_hdf5,
    open_zarr,
    read_array,
    read_volume,
    volumes,
)
from phosphene.errors import PhospheneError

BETAS = ("betas.npy", "betas.zarr", "betas.h5", "betas.hdf5", "betas.nii.gz", "betas.nii")
BLOCK = 1 << 26  # bytes of betas read at once
UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
    OverflowError,
    SyntaxError,
    zlib.error,
)


class Volumes:
    """NIfTI betas as an array (trials, voxels of the mask) whose rows are read one after the other,
    by one pass.
    """

    def __init__(self, path: Path, mask: NDArray[np.bool_]) -> None:
        image = load_volume(path)
        if image.ndim != 4 or image.shape[:3] != mask.shape:
            raise PhospheneError(
                f"{path}: found the shape {image.shape}, expected (X, Y, Z, trials) on the mask's "
                f"grid {mask.shape}"
            )
        check_grid(path, image, load_volume(mask_file(path.parent)))
        self._data = image.dataobj
        self._volumes = volumes(path, image.shape)
        index = np.argwhere(mask)
        # NIfTI: X fastest
        self._flat = np.asarray(np.ravel_multi_index(tuple(index.T), mask.shape, order="F"))
        self._next = 0
        self.dtype = image.dataobj.dtype
        self.shape = (image.shape[3], len(index))

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[Any]:
        rows = range(*key[0].indices(self.shape[0]))
        columns = range(*key[1].indices(self.shape[1]))
        assert rows.start == self._next, "volumes are read in their order"
        self._next = rows.stop
        flat = self._flat[columns.start : columns.stop]
        values = np.stack([next(self._volumes)[flat] for _ in rows])
        if rows.stop == self.shape[0]:
            next(self._volumes, None)  # to the end of the file, where its checksum is
        scaled = self._data.slope != 1 or self._data.inter != 0
        return values * self._data.slope + self._data.inter if scaled else values


@contextmanager
def open_betas(path: Path, mask: NDArray[np.bool_] | None) -> Iterator[Any]:
    """Open betas as something of shape (trials, voxels) that is read where it is sliced; `mask`
    only for NIfTI.
    """
    try:
        if path.suffix == ".npy":
            yield read_array(path)
        elif path.suffix == ".zarr":
            yield open_zarr(path)
        elif mask is None:
            with open_hdf5(path) as data:
                yield data
        else:
            yield Volumes(path, mask)
    except PhospheneError:
        raise
    except (*UNREADABLE, nib.filebasedimages.ImageFileError) as error:
        said = " ".join(str(error).split())  # some libraries say it in several lines
        raise PhospheneError(
            f"{path}: could not be read ({said}); write or copy it again"
        ) from error


def count_voxels(path: Path, mask: NDArray[np.bool_] | None, n_trials: int) -> int:
    """Return the number of voxels, after the type and shape of the betas have been checked."""
    with open_betas(path, mask) as betas:
        shape = tuple(betas.shape)
        dtype = np.dtype(betas.dtype)
    if dtype.kind not in "iuf":
        raise PhospheneError(
            f"{path}: holds values of type {dtype}; expected numbers such as float32 or int16"
        )
    if len(shape) == 2 and shape[0] == n_trials and shape[1]:
        return int(shape[1])
    turned = mask is None and len(shape) > 1 and shape[-1] == n_trials
    hint = (
        f"; its last axis fits, so transpose it: betas.reshape(-1, {n_trials}).T" if turned else ""
    )
    raise PhospheneError(
        f"{path}: found the shape {shape}, expected (trials, voxels) with {n_trials} trials, one "
        "for each row of "
        f"trials.csv{hint}"
    )


def blocks(betas: Any) -> Iterator[tuple[slice, int, int]]:
    """Cut betas into blocks of whole chunks, so that none is read twice: rows, first column, end of
    columns.
    """
    (n_rows, n_columns) = betas.shape
    size = np.dtype(betas.dtype).itemsize
    by_column = isinstance(betas, np.ndarray) and betas.flags.f_contiguous
    plain = (n_rows, 1) if by_column else (1, n_columns)
    rows, columns = getattr(betas, "shards", None) or getattr(betas, "chunks", None) or plain
    rows = min(n_rows, rows * max(1, BLOCK // (rows * columns * size)))
    columns = min(n_columns, columns * max(1, BLOCK // (rows * columns * size)))
    for row in range(0, n_rows, rows):
        for start in range(0, n_columns, columns):
            yield slice(row, min(row + rows, n_rows)), start, min(start + columns, n_columns)


def mask_file(folder: Path) -> Path:
    """Find the mask of NIfTI betas."""
    return only_one(folder, ("mask.nii.gz", "mask.nii"))


def read_mask(folder: Path) -> NDArray[np.bool_]:
    """Read which voxels of NIfTI betas count."""
    path = mask_file(folder)
    mask = np.asarray(read_volume(path) > 0)
    if not mask.any():
        raise PhospheneError(f"{path}: holds no voxel; expected values above 0 in the brain")
    return mask
