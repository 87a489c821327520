"""The only place where files of users are opened: HDF5, pictures and compressed volumes.

A file is data and nothing else. It may not name other files to read, start a program, or be damaged
unnoticed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

import h5py
import nibabel as nib
import numpy as np
from isal import igzip, igzip_threaded, isal_zlib
from numpy.typing import NDArray
from PIL import Image

from phosphene.errors import PhospheneError

PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")  # others, such as EPS, start programs
UNZIPPING = (EOFError, zlib.error, cast(type[Exception], isal_zlib.error))
BLOCK = 1 << 20
APART = 0.1  # mm between corners of two grids that are still the same


# HDF5


@contextmanager
def open_hdf5(path: Path, name: str | None = None) -> Iterator[h5py.Dataset]:
    """Open one dataset of an HDF5 file for reading.

    Parameters
    ----------
    path : Path
    name : str, optional
        Its name; without it the file's only dataset.

    Raises
    ------
    PhospheneError
        When the dataset is not stored in this file: behind a soft or external link, in external
        storage, or virtual. A file that somebody else made could put any readable file of this
        machine into results by these means.
    OSError, KeyError
        As h5py raises them.
    """
    with h5py.File(path) as file:
        if name is None:
            names = [key for key in file if isinstance(file.get(key, getlink=True), h5py.HardLink)]
            names = [key for key in names if file.get(key, getclass=True) is h5py.Dataset]
            if "betas" not in names and len(names) != 1:
                there = ", ".join(names) or "no dataset"
                raise PhospheneError(f"{path}: holds {there}; expected one dataset called betas")
            name = "betas" if "betas" in names else names[0]
        if name not in file.keys():  # noqa: SIM118  (`in file` follows links)
            raise KeyError(f"it holds no {name!r}")
        inside = isinstance(file.get(name, getlink=True), h5py.HardLink)
        if inside and file.get(name, getclass=True) is not h5py.Dataset:
            raise KeyError(f"{name!r} is no dataset")
        if not inside or file[name].external is not None or file[name].is_virtual:
            raise PhospheneError(
                f"{path}: {name!r} is not stored in this file but refers to another one; copy the "
                "values into one file "
                "(h5repack does)"
            )
        yield file[name]


# Pictures


@contextmanager
def open_image(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open a picture whose content, not its name, is one of `PICTURE_FORMATS`; errors are
    Pillow's.
    """
    with Image.open(source, formats=PICTURE_FORMATS) as picture:
        yield picture


# Volumes


def open_unzipped(path: Path) -> BufferedReader:
    """Open for reading, decompressed: ISA-L is twice as fast as zlib, and another thread makes it
    ready ahead.
    """
    if path.suffix == ".gz":
        return cast(BufferedReader, igzip_threaded.open(path, "rb", threads=1))  # type: ignore[no-untyped-call]
    return path.open("rb")


def load_volume(path: Path) -> Any:
    """Open a NIfTI or MGZ file without reading its values."""
    try:
        return nib.load(path)
    except (OSError, *UNZIPPING, nib.filebasedimages.ImageFileError) as error:
        raise PhospheneError(
            f"{path}: could not be read as NIfTI ({error}); copy or download it again"
        ) from error


def read_volume(path: Path, like: Any = None) -> NDArray[Any]:
    """Read a volume (X, Y, Z) in the type in which it is stored, after its checksum was compared.

    Parameters
    ----------
    path : Path
    like : nibabel image, optional
        Must have the same grid: shape and, within 0.1 mm at its corners, place.
    """
    image = load_volume(path)
    if like is not None:
        check_grid(path, image, like)
    check_unzipped(path)
    try:
        return np.asanyarray(image.dataobj)
    except (OSError, ValueError, *UNZIPPING) as error:
        raise PhospheneError(
            f"{path}: could not be read as NIfTI ({error}); copy or download it again"
        ) from error


def check_grid(path: Path, image: Any, like: Any) -> None:
    """Refuse a volume that does not lie on the grid of another one."""
    other = Path(like.get_filename() or "the other volume").name
    if image.shape[:3] != like.shape[:3]:
        raise PhospheneError(
            f"{path}: its grid is {image.shape[:3]}; that of {other} is {like.shape[:3]}; take "
            "both from one "
            "preprocessing, or resample one"
        )
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(image.shape[:3]) - 1)
    here, there = (corners @ one.affine[:3, :3].T + one.affine[:3, 3] for one in (image, like))
    apart = float(np.linalg.norm(here - there, axis=1).max())
    if not apart <= APART:
        raise PhospheneError(
            f"{path}: its header puts the grid up to {apart:.1f} mm from where {other} has it "
            "(flipped axes, another "
            "voxel size or a shift); resample one to the other, or correct the wrong header"
        )


def check_unzipped(path: Path) -> None:
    """Read a compressed file to its end, where its checksum is; each file once per process unless
    it changes.
    """
    if path.suffix in (".gz", ".mgz"):
        stat = path.stat()
        _unzipped(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _unzipped(path: Path, _size: int, _modified: int) -> None:
    try:
        with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
            while file.read(BLOCK):
                pass
    except (OSError, *UNZIPPING) as error:
        raise PhospheneError(
            f"{path}: could not be read ({error}); copy or download it again"
        ) from error


def volumes(path: Path, shape: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Read the volumes of a NIfTI file (X, Y, Z, n) one after the other, as they are stored.

    Parameters
    ----------
    path : Path
        ``.nii`` or ``.nii.gz``.
    shape : sequence of int, (X, Y, Z, n)
        What the header must say.

    Yields
    ------
    ndarray, (X * Y * Z,)
        X fastest; overwritten by the next one.

    Raises
    ------
    PhospheneError
        When the file is damaged or not as long as its header says; the checksum at its end is
        compared.
    """
    image = load_volume(path)
    if tuple(image.shape) != tuple(shape):
        raise PhospheneError(
            f"{path}: its shape is {image.shape}; expected {tuple(shape)}; copy or download it "
            "again"
        )
    volume = np.empty(int(np.prod(shape[:3])), image.dataobj.dtype)
    try:
        with open_unzipped(path) as file:
            file.read(image.dataobj.offset)
            for _ in range(shape[3]):
                if file.readinto(volume.data.cast("B")) != volume.nbytes:
                    raise EOFError("it ends too early")
                yield volume
            file.read(1)  # beyond the last volume: the checksum is compared
    except (OSError, *UNZIPPING) as error:
        raise PhospheneError(
            f"{path}: could not be read ({error}); copy or download it again"
        ) from error
