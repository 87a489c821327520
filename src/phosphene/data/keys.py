"""Keys: hashes that tell whether a part of a data set is still what a result was made from.

A part is known by as little as decides what is read: by contents where that is cheap (the table of
trials, the voxels of a region), else by files, whose hashes are remembered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import disk

PARTS = (
    "trials",
    "betas",
    "regions",
    "labels",
    "ncsnr",
    "images",
    "captions",
    "categories",
    "segmentation",
)
PICTURES = PARTS[PARTS.index("images") :]
"""The parts that are about the pictures that the trials show."""

Content: TypeAlias = pd.DataFrame | NDArray[Any] | Sequence[Any]
"""A table, an array, or nested sequences of equal lengths; of numbers or of texts."""


def check_part(part: str) -> None:
    """Refuse a part that no data set has."""
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}; expected one of {', '.join(PARTS)}")


def content_key(start: str, *contents: Content) -> str:
    """Hash contents by value: not by their types, nor by the index of a table.

    Parameters
    ----------
    start : str
        Hashed first, so that different things with equal contents have different keys.
    *contents : DataFrame, ndarray or sequence
        Of any shape.
    """
    digest = hashlib.blake2b(start.encode(), digest_size=16)
    for content in contents:
        if isinstance(content, pd.DataFrame):
            columns = [content[name].to_numpy() for name in content]
            part = content_key("table", list(content), *columns).encode()
        else:
            part = _array_bytes(np.asarray(content))
        digest.update(part)
    return digest.hexdigest()


def _array_bytes(array: NDArray[Any]) -> bytes:
    """Shape and values of an array."""
    if array.dtype.kind == "f":
        values = array.astype("<f8").tobytes()
    elif array.dtype.kind in "biu":
        values = array.astype("<i8").tobytes()
    else:
        values = json.dumps(array.tolist()).encode()
    return f"\0{array.shape} {len(values)}\0".encode() + values


def files_key(part: str, root: Path, paths: Iterable[Path], *contents: Content) -> str:
    """Hash files, and contents that decide how they are read.

    Parameters
    ----------
    part : str
    root : Path
        Names of files count from here on.
    paths : iterable of Path
        Files that are not there count as not listed.
    *contents : DataFrame, ndarray or sequence
        As for :func:`content_key`.
    """
    return content_key(disk.fingerprint(part, root, paths), *contents)
