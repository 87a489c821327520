"""The data set of Haxby et al. (2001), small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from phosphene.data.haxby.files import CATEGORIES

# as in the published files
FULL_NAMES = [name.replace("scrambled", "scrambledpix") for name in CATEGORIES]
GRID = (4, 3, 2)
PER_BLOCK = 3
N_RUNS = 3


def save(path: Path, volume: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image: Any = nib.Nifti1Image(volume, np.diag([3.5, 3.75, 3.75, 1]))  # type: ignore[no-untyped-call, unused-ignore]
    nib.save(image, path)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """The folder that nilearn leaves, tiny: 3 runs, the last without scissors; voxel (0, 0, 0) is
    constant in run 2.
    """
    rng = np.random.default_rng(0)
    lines = []
    for run in range(N_RUNS):
        for name in rng.permutation(FULL_NAMES):
            lines += [f"rest {run}"] * 2
            lines += [f"{'rest' if run == 2 and name == 'scissors' else name} {run}"] * PER_BLOCK
    base = tmp_path / "haxby2001"
    bold = rng.integers(800, 1200, (*GRID, len(lines))).astype(np.int16)
    bold[0, 0, 0, np.array([line.endswith("1") for line in lines])] = 900
    save(base / "subj1" / "bold.nii.gz", bold)
    brain, vt, face = (np.zeros(GRID, np.int16) for _ in range(3))
    brain[:3] = 1
    vt[1:, 0] = 1
    face[1, 0, 0] = 1
    save(base / "mask.nii.gz", brain)
    save(base / "subj1" / "mask4_vt.nii.gz", vt[..., None])
    save(base / "subj1" / "mask8_face_vt.nii.gz", face)
    (base / "subj1" / "labels.txt").write_text("labels chunks\n" + "\n".join(lines) + "\n")
    return base
