"""Tables of a lab's own data: trials, voxels, captions, categories."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data.trials import same_text
from phosphene.errors import PhospheneError
from phosphene.reading import read_rows

AXES = ("x", "y", "z")
MEANING = {
    "image_id": "the name of the picture's file without its ending",
    "split": "'test' in every row of the pictures kept for testing, 'train' in all other rows",
    "caption": "a sentence that describes the picture",
    "category": "the name of a thing in the picture",
    **dict.fromkeys(AXES, "the voxel's place along that axis of the volume, from 0"),
}


def read_table(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """Read the known columns of a CSV file as text; the index is the line of the file. Unknown
    columns are ignored.
    """
    lines = read_rows(path)
    while required and lines and not any(lines[-1][1]):  # commas and nothing else
        lines.pop()
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
    if "image_id" in table:
        table["image_id"] = table["image_id"].map(same_text)
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
    if not disk.exists(path):
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


def _check_places(
    path: Path, column: pd.Series, found: NDArray[np.int64], expected: NDArray[np.int64]
) -> None:
    """Refuse a coordinate that is not the mask's."""
    wrong = found != expected
    if wrong.any():
        at = int(wrong.argmax())
        raise PhospheneError(
            f"{path}: line {column.index[at]} has {column.name} {column.iloc[at]}, but voxel {at} "
            f"of the mask has {expected[at]}; expected the mask's voxels with x slowest and z "
            "fastest"
        )


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
    if not disk.exists(path):
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
        if mask is not None:
            _check_places(path, table[axis], voxels[axis].to_numpy(), places[:, AXES.index(axis)])
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
