"""Whether two volumes lie on one grid of voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from phosphene.errors import PhospheneError

APART = 0.1  # mm between corners of two grids that are still the same


def check_grid(path: Path, image: Any, like: Any) -> None:
    """Refuse a volume that does not lie on the grid of another one."""
    other = Path(like.get_filename() or "the other volume").name
    if image.shape[:3] != like.shape[:3]:
        raise PhospheneError(
            f"{path}: its grid is {image.shape[:3]}; that of {other} is {like.shape[:3]}; take "
            "both from one preprocessing, or resample one"
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
