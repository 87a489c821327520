"""Regions of the atlases that voxels of a table have."""

from __future__ import annotations

import pandas as pd

ELSEWHERE = "elsewhere"  # voxels that the first atlas does not name


def labelled(table: pd.DataFrame, atlases: tuple[str, ...]) -> list[tuple[str, pd.Series]]:
    """Find the atlases of a study that its voxels have, with the region of every voxel, "" for
    none.

    In the first one all voxels have a region: those that it does not name are `ELSEWHERE`. A table
    without any of them gives one atlas of that single region.
    """
    known = [name for name in atlases if name in table]
    if not known:
        return [("brain", pd.Series(ELSEWHERE, index=table.index))]
    return [
        (name, table[name].replace("", ELSEWHERE) if name == known[0] else table[name])
        for name in known
    ]
