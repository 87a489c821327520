"""A whole brain that was never measured: pictures, their principal components, and responses of
every voxel.

Drawn with fixed seeds, so that every process sees the same. It takes the place of a subject of NSD
below the stages; everything above, from the files of responses to maps, is what a study runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data.scans import Scans

SUBJECT = "subj01"
SPACE = "z"
SIGNAL = 100  # components that voxels respond to


@dataclass(frozen=True)
class Size:
    """Pictures and trials that teach and that test, sessions, principal components, voxels, voxels
    of a block.
    """

    images: int
    trials: int
    test_images: int
    test_trials: int
    sessions: int
    components: int
    voxels: int
    block: int


# subj01 of NSD, features as in the paper
FULL = Size(8859, 24980, 982, 2770, 37, 6400, 200_000, 5000)
SMALL = Size(1107, 3122, 123, 346, 37, 800, 25_000, 625)  # everything but sessions an eighth


class WholeBrain(Scans):
    """One subject whose responses are a linear function of the features, and noise that differs
    between voxels.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self.subject = SUBJECT
        self.sessions = tuple(range(1, size.sessions + 1))
        self.scale = 1.0
        self.dtype = "float16"

    @cached_property
    def trials(self) -> pd.DataFrame:
        """Every picture up to three times, in random order."""
        rng = np.random.default_rng(0)
        size = self.size
        shown = []
        for first, images, trials in (
            (0, size.images, size.trials),
            (size.images, size.test_images, size.test_trials),
        ):
            again = rng.choice(2 * images, trials - images, replace=False) % images
            shown.append(first + np.concatenate([np.arange(images), again]))
        image = rng.permutation(np.concatenate(shown))
        session = np.repeat(
            self.sessions, [len(part) for part in np.array_split(image, size.sessions)]
        )
        split = np.where(image < size.images, "train", "test")
        return pd.DataFrame({"session": session, "image": image, "split": split})

    @cached_property
    def components(self) -> NDArray[np.float32]:
        """Principal components of the pictures, (n_images, p): variance falls as one over the
        rank.
        """
        size = self.size
        shape = size.images + size.test_images, size.components
        rank = np.arange(1, size.components + 1, dtype=np.float32)
        return np.random.default_rng(1).standard_normal(shape, dtype=np.float32) / np.sqrt(rank)

    def stored(self, rois: str | Sequence[str], session: int) -> NDArray[Any]:
        """Draw one session's responses of all voxels, (n_trials, n_voxels) float16."""
        size = self.size
        single = np.float32
        shown = self.trials["image"].to_numpy()[self.trials["session"].to_numpy() == session]
        known = self.components[shown, :SIGNAL] * np.sqrt(
            np.arange(1, SIGNAL + 1, dtype=single) / SIGNAL
        )
        noise = np.random.default_rng([2, session])
        responses = np.empty((len(shown), size.voxels), np.float16)
        for start in range(0, size.voxels, size.block):
            rng = np.random.default_rng([3, start])
            columns = slice(start, start + size.block)
            weights = rng.standard_normal((SIGNAL, size.block), dtype=single)
            # signal over noise of a trial
            weights *= 10 ** rng.uniform(-1.5, 0, size.block).astype(single)
            responses[:, columns] = known @ weights + noise.standard_normal(
                (len(shown), size.block), dtype=single
            )
        return responses

    def voxels(self, rois: str | Sequence[str], uncovered: str = "drop") -> pd.DataFrame:
        """Number the voxels."""
        return pd.DataFrame({"x": np.arange(self.size.voxels), "y": 0, "z": 0, "ncsnr": np.nan})

    def key(self, part: str, names: Sequence[str] = ()) -> str:
        """Name the size, of which all else follows."""
        return f"{part} {self.size!r}"

    @property
    def kind(self) -> str:
        """Kind of data that this stands for."""
        return "nsd"

    @property
    def paths(self) -> list[Path]:
        """No files."""
        return []

    @property
    def rois(self) -> tuple[str, ...]:
        """Only the whole brain."""
        return ("brain",)

    @property
    def shape(self) -> tuple[int, ...]:
        """A grid of one line."""
        return (self.size.voxels, 1, 1)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel numbers are millimetres."""
        return np.eye(4)

    @property
    def folder(self) -> Path:
        """No folder."""
        return Path()

    def select(self, rois: str | Sequence[str]) -> NDArray[np.int64]:
        """All voxels."""
        return np.stack(np.indices(self.shape), -1).reshape(-1, 3)

    def read(self, session: int, index: NDArray[np.int64]) -> NDArray[Any]:
        """Read some voxels of a session."""
        return np.asarray(self.stored("brain", session)[:, index[:, 0]])
