"""The files of a lab's own folder, one function per kind of file: they read, check and name what is
wrong.

Nothing is ever unpickled.
"""

from __future__ import annotations

import csv
import difflib
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from PIL import Image, ImageOps

from phosphene.data.opening import (
    check_grid,
    load_volume,
    open_hdf5,
    open_image,
    read_volume,
    volumes,
)
from phosphene.errors import PhospheneError

BETAS = ("betas.npy", "betas.zarr", "betas.h5", "betas.hdf5", "betas.nii.gz", "betas.nii")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
AXES = ("x", "y", "z")
BLOCK = 1 << 26  # bytes of betas read at once
MEANING = {
    "image_id": "the name of the picture's file without its ending",
    "split": "'test' in every row of the pictures kept for testing, 'train' in all other rows",
    "caption": "a sentence that describes the picture",
    "category": "the name of a thing in the picture",
    **dict.fromkeys(AXES, "the voxel's place along that axis of the volume, from 0"),
}
UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
    SyntaxError,
    zlib.error,
)


def subject_folder(root: Path, subject: str) -> Path:
    """Find ``root/subject``, or `root` itself where it holds no folders of subjects."""
    if (root / subject).is_dir():
        return root / subject
    if not root.is_dir():
        raise PhospheneError(
            f"{root}: no such folder; expected one with betas, trials.csv and images; check "
            "data.root"
        )
    if there := sorted(path.parent.name for path in root.glob("*/trials.csv")):
        raise PhospheneError(
            f"{root}: no subject {subject!r}, only {', '.join(there)}; check data.subjects"
        )
    return root


def only_one(folder: Path, names: Sequence[str]) -> Path:
    """Find the one file that may have several names."""
    found = [name for name in names if (folder / name).exists()]
    if len(found) != 1:
        there = " and ".join(found) or f"no {names[0].partition('.')[0]}"
        raise PhospheneError(f"{folder}: found {there}, expected exactly one of {', '.join(names)}")
    return folder / found[0]


# ---- betas
# --------------------------------------------------------------------------------------------------


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
        self._flat = np.asarray(
            np.ravel_multi_index(tuple(index.T), mask.shape, order="F")
        )  # NIfTI: X fastest
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
            yield np.lib.format.open_memmap(path, mode="r")  # refuses pickled objects
        elif path.suffix == ".zarr":
            yield _open_zarr(path)
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


def _open_zarr(path: Path) -> Any:
    array = zarr.open_array(path, mode="r")
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


# ---- tables
# --------------------------------------------------------------------------------------------------


def read_table(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """Read the known columns of a CSV file as text; the index is the line of the file. Unknown
    columns are ignored.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            lines = [
                (reader.line_num, [field.strip() for field in fields])
                for fields in reader
                if fields
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PhospheneError(
            f"{path}: could not be read as a CSV file in UTF-8 ({error}); save it as one"
        ) from error
    if len(lines) < 2:
        raise PhospheneError(
            f"{path}: has no rows; expected the header {','.join(required)} and a row for each "
            "entry"
        )
    header = lines[0][1]
    _check_header(path, header, required, optional)
    for number, fields in lines[1:]:
        if len(fields) != len(header):
            raise PhospheneError(
                f"{path}: line {number} has {len(fields)} fields where the header has "
                f"{len(header)}; put text that "
                "holds commas in double quotes"
            )
    table = pd.DataFrame(
        [fields for _, fields in lines[1:]], [n for n, _ in lines[1:]], header, dtype=object
    )
    table = table[[name for name in (*required, *optional) if name in header]]
    for name in required:
        if (empty := table[name] == "").any():
            raise PhospheneError(
                f"{path}: line {empty.idxmax()} has no {name}; expected {MEANING[name]}"
            )
    return table


def _check_header(
    path: Path, header: list[str], required: Sequence[str], optional: Sequence[str]
) -> None:
    known = (*required, *optional)
    others = {column.lower(): column for column in header if column not in known}
    for name in known:
        if header.count(name) > 1:
            raise PhospheneError(f"{path}: two columns are called {name!r}; keep one")
        if name in header:
            continue
        if near := difflib.get_close_matches(name, others, 1, 0.75):
            raise PhospheneError(
                f"{path}: found a column {others[near[0]]!r}; did you mean {name!r}?"
            )
        if name in required:
            raise PhospheneError(
                f"{path}: no column {name!r} among {', '.join(header)}; add it, separated by "
                f"commas: {MEANING[name]}"
            )


def _numbers(path: Path, column: pd.Series, low: int) -> NDArray[np.int64]:
    """Read a column of text as whole numbers."""
    values = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = ~(np.isfinite(values) & (values == np.floor(values)) & (values >= low))
    if wrong.any():
        at = wrong.idxmax()
        raise PhospheneError(
            f"{path}: line {at} has {column.name} {column[at]!r}; expected a whole number from "
            f"{low}"
        )
    return np.asarray(values, np.int64)


def read_trials(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read session, run, image, repeat and split of every trial, and the ids of the images as they
    are in the file.
    """
    table = read_table(path, ("image_id", "split"), ("session", "run"))
    if (wrong := ~table["split"].isin(["train", "test"])).any():
        at = wrong.idxmax()
        raise PhospheneError(
            f"{path}: line {at} has split {table['split'][at]!r}; expected 'train' or 'test'"
        )
    splits = table.groupby("image_id")["split"].nunique()
    if (splits > 1).any():
        raise PhospheneError(
            f"{path}: image_id {splits.idxmax()!r} is in both splits; give all its rows the same "
            "one, since a model "
            "that was trained on a picture must not be tested on it"
        )
    if table["split"].nunique() < 2:
        raise PhospheneError(
            f"{path}: every split is {table['split'].iloc[0]!r}; expected 'train' and 'test' images"
        )
    names, image = np.unique(table["image_id"].to_numpy(str), return_inverse=True)
    trials = pd.DataFrame(
        {n: _numbers(path, table[n], 1) if n in table else 1 for n in ("session", "run")},
        index=range(len(table)),
    )
    alone = trials["session"].value_counts()
    if (alone < 2).any():
        raise PhospheneError(
            f"{path}: session {alone.idxmin()} has only 1 trial, and voxels are standardised "
            "within sessions; is its "
            "number right?"
        )
    trials["image"] = image.astype(np.int64)
    trials["repeat"] = trials.groupby("image").cumcount()
    return trials.assign(split=table["split"].to_numpy()), tuple(names.tolist())


def read_words(
    path: Path, column: str, names: Sequence[str], complete: bool
) -> dict[str, list[str]]:
    """Read what is said about each image, {} without the file; `complete`: about every image, else
    about some.
    """
    if not path.is_file():
        return {}
    words: dict[str, list[str]] = (
        read_table(path, ("image_id", column)).groupby("image_id")[column].agg(list).to_dict()
    )
    silent = [name for name in names if name not in words]
    if len(silent) == len(names) or (silent and complete):
        raise PhospheneError(
            f"{path}: no {column} for {len(silent)} of {len(names)} images of trials.csv, such as "
            f"{silent[0]!r}; add "
            "rows with their image_id"
        )
    return words


def read_voxels(path: Path, n_voxels: int, mask: NDArray[np.bool_] | None) -> pd.DataFrame:
    """Describe every voxel: x, y, z, roi, ncsnr; with a mask the places come from it, and the file
    must agree.
    """
    places = (
        np.stack([np.arange(n_voxels), *np.zeros((2, n_voxels), int)], 1)
        if mask is None
        else np.argwhere(mask)
    )
    voxels = pd.DataFrame(places, columns=list(AXES)).assign(roi="", ncsnr=np.float32(np.nan))
    if not path.is_file():
        return voxels
    required, optional = (AXES, ()) if mask is None else ((), AXES)
    table = read_table(path, required, (*optional, "roi", "ncsnr"))
    if len(table) != n_voxels:
        raise PhospheneError(
            f"{path}: has {len(table)} rows; expected one for each of the {n_voxels} voxels of "
            "betas"
        )
    for axis in (axis for axis in AXES if axis in table):
        voxels[axis] = _numbers(path, table[axis], 0)
        if (
            mask is not None
            and (wrong := voxels[axis].to_numpy() != places[:, AXES.index(axis)]).any()
        ):
            at = int(wrong.argmax())
            raise PhospheneError(
                f"{path}: line {table.index[at]} has {axis} {table[axis].iloc[at]}, but voxel "
                f"{at} of the mask has "
                f"{places[at, AXES.index(axis)]}; expected the mask's voxels with x slowest and z "
                "fastest"
            )
    if (twice := voxels.duplicated(list(AXES)).to_numpy()).any():
        at = int(twice.argmax())
        raise PhospheneError(
            f"{path}: line {table.index[at]} is about the same x, y, z as an earlier line; "
            "expected every voxel once"
        )
    if "roi" in table:
        voxels["roi"] = table["roi"].to_numpy()
    if "ncsnr" in table:
        values = pd.to_numeric(table["ncsnr"], errors="coerce").astype(np.float32)
        if (wrong := values.isna() & ~table["ncsnr"].str.lower().isin(["", "nan"])).any():
            at = wrong.idxmax()
            raise PhospheneError(
                f"{path}: line {at} has ncsnr {table['ncsnr'][at]!r}; expected a number or nothing"
            )
        voxels["ncsnr"] = values.to_numpy()
    return voxels


# ---- pictures
# --------------------------------------------------------------------------------------------------


def find_pictures(folder: Path, names: Sequence[str]) -> list[Path]:
    """Find the file ``name.png``, ``.jpg``, ... of every image."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() in PICTURES:
            found.setdefault(path.stem, []).append(path)
    if missing := [name for name in names if name not in found]:
        raise PhospheneError(
            f"{folder}: no picture for {len(missing)} of {len(names)} image_ids of trials.csv, "
            f"such as {missing[0]!r}; "
            f"expected a file with that name and the ending {', '.join(PICTURES)}"
        )
    for name in names:
        if len(found[name]) > 1:
            raise PhospheneError(
                f"{folder}: found {' and '.join(path.name for path in found[name])}; expected one "
                f"picture of {name!r}"
            )
    return [found[name][0] for name in names]


@contextmanager
def _open_picture(path: Path) -> Iterator[Image.Image]:
    try:
        with open_image(path) as picture:
            yield picture
    except PhospheneError:
        raise
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise PhospheneError(
            f"{path}: could not be read as a picture ({error}); save or copy it again"
        ) from error


def picture_side(path: Path) -> int:
    """Shorter side of a picture in pixels, from its header."""
    with _open_picture(path) as picture:
        return min(picture.size)


def read_picture(path: Path, side: int) -> NDArray[np.uint8]:
    """Read a picture as (side, side, 3), cropped to the square at its centre and resized
    (Lanczos).
    """
    with _open_picture(path) as picture:
        if picture.mode.startswith(("I", "F")):
            raise PhospheneError(
                f"{path}: has pixels of type {picture.mode}; save it with 8 bits per channel"
            )
        if (
            picture.has_transparency_data
            and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255
        ):
            raise PhospheneError(
                f"{path}: is transparent in places; save it on the background that was shown"
            )
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        return np.asarray(ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS))
