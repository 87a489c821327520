"""One session's file of betas: voxels of an HDF5 file, or of a NIfTI volume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from phosphene.data.opening import NO_VOLUME, load_volume, open_file, open_hdf5, volumes
from phosphene.errors import PhospheneError

READING = (*NO_VOLUME, IndexError)
CHUNKS_AT_ONCE = 1024
SLAB_BYTES = 32 << 20


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
        except (*READING, AttributeError) as error:
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
        except READING as error:
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
        with open_file(path) as file:
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
