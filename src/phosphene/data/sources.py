"""The table of data sources: how each is opened, and how its folder is recognised."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from phosphene.data.dataset import Dataset
from phosphene.errors import PhospheneError

# Kind -> module and class; folders are looked at in this order.
SOURCES = {
    "nsd": ("phosphene.data.nsd", "NSD"),
    "laion": ("phosphene.data.laion", "LaionFMRI"),
    "arrays": ("phosphene.data.arrays", "Arrays"),
    "haxby": ("phosphene.data.haxby", "Haxby"),
}


def source(kind: str) -> Any:
    """The class of a kind of data: its options, how it detects a folder, how it opens one."""
    if kind not in SOURCES:
        raise PhospheneError(
            f"data.kind: unknown kind of data {kind!r}; expected one of {', '.join(SOURCES)}"
        )
    module, name = SOURCES[kind]
    return getattr(importlib.import_module(module), name)


def open_dataset(kind: str, root: str | Path, subject: str, **options: Any) -> Dataset:
    """Open one subject's data.

    Parameters
    ----------
    kind : {"nsd", "laion", "arrays", "haxby"}
    root : path
        The data's folder.
    subject : str
        For example "subj01".
    **options
        For "nsd": `betas`, `resolution`, `sessions` (see :class:`phosphene.data.nsd.NSD`); for
        "laion": `split`, `pool`, `sessions` (see :class:`phosphene.data.laion.LaionFMRI`).

    Raises
    ------
    PhospheneError
        When the kind is unknown or its files are not there.

    Examples
    --------
    >>> data = open_dataset("nsd", "nsd", "subj01")  # doctest: +SKIP
    """
    opened: Dataset = source(kind)(root, subject, **options)
    return opened


def kind_of(root: Path) -> str:
    """Tell which kind of data lies in a folder by its names."""
    for kind in SOURCES:
        if source(kind).detect(root):
            return kind
    raise PhospheneError(
        f"{root}: no data that phosphene knows; expected nsddata (NSD), "
        "derivatives/glmsingle-tedana (LAION-fMRI), trials.csv (your own, docs/own-data.md) or "
        "bold.nii.gz (Haxby et al. 2001)"
    )


def subjects_of(root: Path, kind: str) -> list[str]:
    """Subjects that have a folder."""
    found: list[str] = source(kind).subjects(root)
    return found
