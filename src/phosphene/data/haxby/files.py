"""The files of Haxby et al. (2001)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data.opening import NO_VOLUME, load_volume
from phosphene.errors import PhospheneError
from phosphene.reading import read_text

# image id -> category, named as in phosphene.data.simulated.scenes; the files say "scrambledpix"
CATEGORIES = ("bottle", "cat", "chair", "face", "house", "scissors", "scrambled", "shoe")
REGIONS = {
    "vt": "mask4_vt.nii.gz",
    "face": "mask8_face_vt.nii.gz",
    "house": "mask8_house_vt.nii.gz",
}
DIGITS = 10  # of the number of a run, at most
FETCH = "nilearn.datasets.fetch_haxby(data_dir=..., subjects=[1]) downloads the data set"


def subject_folder(root: Path, subject: str) -> Path:
    """Find the folder with the subject's scans in either layout."""
    if disk.exists(root / "bold.nii.gz"):
        return root
    name = re.sub(r"^subj0+", "subj", subject)
    bases = [base for base in (root, root / "haxby2001") if base.is_dir()]
    there = sorted(path for base in bases for path in base.glob("subj*") if path.is_dir())
    for path in there:
        if path.name == name:
            return path
    if there:
        found = ", ".join(path.name for path in there)
        raise PhospheneError(
            f"{there[0].parent}: no subject {subject!r}, only {found}; check data.subjects"
        )
    raise PhospheneError(
        f"{root}: neither bold.nii.gz nor a folder {name} in it; expected the folder 'haxby2001' "
        f"or its parent; {FETCH}"
    )


def read_part(path: Path, image: Any, part: Any = ...) -> NDArray[Any]:
    """Read a part of an open image."""
    try:
        return np.asarray(image.dataobj[part])
    except NO_VOLUME as error:
        raise PhospheneError(
            f"{path}: could not be read ({error}); copy or download it again"
        ) from error


def detrend(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract the least-squares line of every column."""
    time = np.arange(len(series)) - (len(series) - 1) / 2
    centred = series - series.mean(0)
    return np.asarray(centred - np.outer(time, time @ centred) / (time @ time))


def read_labels(path: Path, bold: Path) -> pd.DataFrame:
    """Read what every volume showed: category ("rest" between blocks) and run (1-based).

    Parameters
    ----------
    path : Path
        A line "category run" for each volume.
    bold : Path
        The volumes.
    """
    text = read_text(path, "download it again", "a table of labels")
    lines = [line.split() for line in text.splitlines()]
    rows = [line for line in lines if line and line != ["labels", "chunks"]]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or not (row[1].isdecimal() and len(row[1]) < DIGITS):
            raise PhospheneError(
                f"{path}: volume {number} is {' '.join(row)!r}; expected a category and a run"
            )
        if row[0] == "scrambledpix":
            row[0] = "scrambled"
        if row[0] not in (*CATEGORIES, "rest"):
            raise PhospheneError(
                f"{path}: volume {number} has the unknown category {row[0]!r}; expected rest "
                "or one of "
                f"{', '.join(CATEGORIES)}"
            )
    shape = load_volume(bold).shape
    if len(shape) != 4 or shape[3] != len(rows):
        raise PhospheneError(
            f"{path}: {len(rows)} volumes are labelled, but {bold.name} has shape "
            f"{shape}; expected a label "
            "for each of its volumes"
        )
    return pd.DataFrame(
        {"category": [row[0] for row in rows], "run": [int(row[1]) + 1 for row in rows]}
    )
