"""Measured: what every encoding model is tested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.step import Key, Step, part_slice
from phosphene.pipeline.store import Artefact, Part
from phosphene.steps.betas import VOXELS_PER_CHUNK
from phosphene.steps.encode.models import VoxelStep, read_voxels
from phosphene.study import Compute


@dataclass(frozen=True, eq=False)
class Measured(VoxelStep):
    """Measured responses to the test images.

    Array `test` (n_test_images, n_voxels) float32: responses averaged over repeats, the mean of the
    training trials taken off; NaN where a voxel has no data in some session.
    """

    stage: ClassVar[str] = "measured"
    sections: ClassVar[tuple[str, ...]] = ("data",)

    @property
    def name(self) -> str:
        """The subject."""
        return self.subject

    @property
    def transient(self) -> bool:
        """Only statistics and contrasts need it."""
        return True

    def settings(self) -> dict[str, Any]:
        """How responses are standardised."""
        return self.study.settings("data", "zscore")

    def inputs(self) -> Mapping[str, Step | Key]:
        """The responses."""
        return {"betas": self.betas}

    def n_parts(self) -> int:
        """Blocks of voxels."""
        return self.n_blocks()

    def declare(self, artefact: Artefact) -> None:
        """Create the array."""
        n_test = self.n_test
        n = self.n_voxels
        chunks = (n_test, min(VOXELS_PER_CHUNK, n))
        artefact.create_array("test", (n_test, n), "float32", chunks)

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Average the responses of a block of voxels."""
        columns = part_slice(index, VOXELS_PER_CHUNK, self.n_voxels)
        voxels = read_voxels(self, columns)
        part.array("test", (slice(0, self.n_test), columns), voxels.spread(voxels.test))

    def cost(self, rates: Rates) -> Cost:
        """What is written; reading betas again takes seconds."""
        return Cost(1, 0.0, 4e-9 * self.n_test * self.n_voxels, rates.gb, 0.0)
