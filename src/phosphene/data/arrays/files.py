"""Find the files of a lab's own folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phosphene import disk
from phosphene.errors import PhospheneError


def subject_folder(root: Path, subject: str) -> Path:
    """Find ``root/subject``, or `root` itself where it holds no folders of subjects."""
    if (root / subject).is_dir():
        return root / subject
    if not root.is_dir():
        raise PhospheneError(
            f"{root}: no such folder; expected one with betas, trials.csv and images; check "
            "data.root"
        )
    if there := [path.parent.name for path in disk.list_files(root, "*/trials.csv")]:
        raise PhospheneError(
            f"{root}: no subject {subject!r}, only {', '.join(there)}; check data.subjects"
        )
    return root


def only_one(folder: Path, names: Sequence[str]) -> Path:
    """Find the one file that may have several names."""
    present = [name for name in names if disk.exists(folder / name)]
    if len(present) != 1:
        stem = names[0].partition(".")[0]
        others = [path.name for path in folder.glob(f"{stem}.*")]
        hint = f", but {', '.join(sorted(others))}" if others else ""
        there = " and ".join(present) or f"no {stem}{hint}"
        raise PhospheneError(f"{folder}: found {there}, expected exactly one of {', '.join(names)}")
    return folder / present[0]
