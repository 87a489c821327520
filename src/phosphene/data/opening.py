"""The only place where scans, pictures, arrays and tables of users are opened.

A file is data and nothing else. It may not name other files to read, start a program, be damaged
unnoticed, or take far more memory than what it holds. Text, JSON and TOML are read in
:mod:`phosphene.reading`.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
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
import pandas as pd
import scipy.io
import zarr
from isal import igzip, igzip_threaded, isal_zlib
from numpy.typing import NDArray
from PIL import Image

from phosphene import disk
from phosphene.data.chunks import check_chunks, check_compressed
from phosphene.data.grids import check_grid
from phosphene.errors import PhospheneError
from phosphene.reading import BLANK, check_separator, read_json, read_text

PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")  # others, such as EPS, start programs
UNZIPPING = (EOFError, zlib.error, cast(type[Exception], isal_zlib.error))
NO_PICTURE = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for files that are no picture."""
NO_VOLUME = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    *UNZIPPING,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
)
"""What nibabel raises for files that are no volume."""
BLOCK = 1 << 20
LARGEST_OFFSET = 1 << 26  # bytes before the values of a volume: header and notes
LARGEST_DESIGN = 1 << 28  # numbers of one variable of a .mat file


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
    with _open_file(path) as file:
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
        data = file[name]
        check_chunks(path, data.chunks, data.shape, data.dtype)
        yield data


def _open_file(path: Path) -> h5py.File:
    disk.check_file(path)
    try:
        return h5py.File(path)
    except BlockingIOError as error:
        raise PhospheneError(
            f"{path}: is locked by a program that has it open for writing; close it there and try "
            "again"
        ) from error


# Arrays and tables


def read_array(path: Path) -> NDArray[Any]:
    """Map a ``.npy`` file into memory; objects in it, which could run code, are never unpickled."""
    disk.check_file(path)
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        SyntaxError,
        EOFError,
        OverflowError,
        tokenize.TokenError,
        RecursionError,
        MemoryError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PhospheneError(
            f"{path}: could not be read ({reason}); write or copy it again"
        ) from error
    return array


def open_zarr(path: Path) -> zarr.Array[Any]:
    """Open one zarr array, after its chunks were found to be there and of a sensible size."""
    if not path.is_dir():
        raise PhospheneError(
            f"{path}: is a file; expected the folder of a zarr array: unpack it, if it is a zip"
        )
    files = [file for file in path.rglob("*") if not file.is_dir()]
    for file in files:
        disk.check_file(file)
    named = [path / name for name in ("zarr.json", ".zarray") if (path / name).is_file()]
    kinds = [value.get("node_type") for value in map(read_json, named) if isinstance(value, dict)]
    if "group" in kinds or (path / ".zgroup").is_file():
        raise PhospheneError(
            f"{path}: is a zarr group; write the one array itself there, as zarr.save_array does"
        )
    array: zarr.Array[Any] = zarr.open_array(path, mode="r")
    for chunks in (array.chunks, array.shards):
        check_chunks(path, chunks, array.shape, array.dtype)
    if array.shards is None and len(array.compressors) == 1:
        chunk = math.prod(array.chunks) * array.dtype.itemsize
        parts = [file for file in files if not disk.is_foreign(file.relative_to(path))]
        parts = [file for file in parts if file.suffix != ".json"]
        check_compressed(parts, chunk, type(array.compressors[0]).__name__)
    stored = array.shards or array.chunks  # what lies in one file
    n_files = math.prod(-(-size // step) for size, step in zip(array.shape, stored, strict=True))
    lost = n_files - array.nchunks_initialized // (math.prod(stored) // math.prod(array.chunks))
    if lost:  # they would read as zeros
        raise PhospheneError(
            f"{path}: {lost} of {n_files} files of chunks are not there; copy it again or, if "
            "they hold only zeros, "
            "write it without those voxels or with zarr's write_empty_chunks"
        )
    return array


def read_table(path: Path, separator: str = ",", **options: Any) -> pd.DataFrame:
    """Read a CSV or TSV file; `options` are those of :func:`pandas.read_csv`.

    Last lines that hold nothing but blanks and separators are left out.

    Raises
    ------
    PhospheneError
        When it is no text, or separated by something else.
    FileNotFoundError, ValueError
        When it is not there; as pandas raises it.
    """
    text = read_text(path, kind="a table")
    check_separator(path, text, separator)
    line_end = text.find("\n", len(text.rstrip(BLANK + separator)))
    filled = text if line_end < 0 else text[: line_end + 1]
    return pd.read_csv(io.StringIO(filled), sep=separator, **options)


def read_mat(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Read whole numbers from a MATLAB file, whatever type they have in it.

    Parameters
    ----------
    path : Path
    names : sequence of str
        Variables; what else the file holds is not read.
    """
    disk.check_file(path)
    try:
        sizes = {name: math.prod(shape) for name, shape, _ in scipy.io.whosmat(path)}
        large = [name for name in names if sizes[name] > LARGEST_DESIGN]
        if large:
            raise ValueError(f"{large[0]} has {sizes[large[0]]} numbers")
        mat = scipy.io.loadmat(path, variable_names=list(names))
        # uint16 or double for the same numbers, and uint16(0) - 1 is 65535: int64 at once
        return {name: np.asarray(mat[name]).astype(np.int64) for name in names}
    except (
        OSError,
        LookupError,
        ValueError,
        TypeError,
        OverflowError,
        MemoryError,
        NotImplementedError,
        struct.error,
        zlib.error,
        scipy.io.matlab.MatReadError,
    ) as error:
        reason = str(error) or type(error).__name__
        raise PhospheneError(
            f"{path}: could not be read as a MATLAB file with {', '.join(names)} ({reason}); copy "
            "or download it again"
        ) from error


# Pictures


@contextmanager
def open_image(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open a picture whose content, not its name, is one of `PICTURE_FORMATS`; errors are
    Pillow's (`NO_PICTURE`).
    """
    if isinstance(source, Path):
        disk.check_file(source)
    with Image.open(source, formats=PICTURE_FORMATS) as picture:
        yield picture


# Volumes


def open_file(path: Path) -> BufferedReader:
    """Open a file of bytes."""
    disk.check_file(path)
    return path.open("rb")


def open_unzipped(path: Path) -> BufferedReader:
    """Open for reading, decompressed: ISA-L is twice as fast as zlib, and another thread makes it
    ready ahead.
    """
    if path.suffix == ".gz":
        disk.check_file(path)
        return cast(BufferedReader, igzip_threaded.open(path, "rb", threads=1))  # type: ignore[no-untyped-call]
    return open_file(path)


def load_volume(path: Path, **options: Any) -> Any:
    """Open a NIfTI or MGZ file without reading its values; `options` are nibabel's."""
    try:
        disk.check_file(path)
        image: Any = nib.load(path, **options)
        offset = getattr(image.dataobj, "offset", 0)
        if not 0 <= offset <= LARGEST_OFFSET:
            raise ValueError(f"its values would begin at byte {offset:.3g}")
        return image
    except PhospheneError:
        raise
    except NO_VOLUME as error:
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
    except NO_VOLUME as error:
        raise PhospheneError(
            f"{path}: could not be read as NIfTI ({error}); copy or download it again"
        ) from error


def check_unzipped(path: Path) -> None:
    """Read a compressed file to its end, where its checksum is; each file once per process unless
    it changes.
    """
    if path.suffix in (".gz", ".mgz"):
        disk.check_file(path)
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
