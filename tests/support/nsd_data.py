"""The Natural Scenes Dataset, simulated and small."""

from __future__ import annotations

from pathlib import Path

from phosphene.data.simulated.simulate import simulate


def small_nsd(root: Path) -> Path:
    """Write four test and twelve training pictures, shown once to one subject."""
    return simulate(
        root,
        images_shared=4,
        images_own=12,
        sessions=1,
        repeats=1,
        noise=0.2,
        nifti=True,
        picture_size=16,
        voxel_size=8.0,
    )
