"""Contrast: two encoding models compared voxel by voxel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from phosphene.encoding.models import Model
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.step import Key, Step, part_slice
from phosphene.pipeline.store import Artefact, Part
from phosphene.seeds import rng
from phosphene.steps.betas import VOXELS_PER_CHUNK
from phosphene.steps.encode.factors import model_name
from phosphene.steps.encode.measured import Measured
from phosphene.steps.encode.models import Encode, VoxelStep
from phosphene.study import Compute

CONTRAST = ("difference", "ci_low", "ci_high", "p")


@dataclass(frozen=True, eq=False)
class Contrast(VoxelStep):
    """Two models compared voxel by voxel: paired bootstrap over the test images.

    Arrays over voxels: `difference` (r of `a` minus r of `b`), `ci_low`, `ci_high` (95 %), `p`
    (two-sided, from the bootstrap standard error:
    :func:`phosphene.numerics.stats.difference_of_correlations`).
    """

    stage: ClassVar[str] = "contrast"
    sections: ClassVar[tuple[str, ...]] = ("encode",)

    a: Model
    b: Model

    @property
    def name(self) -> str:
        """Subject and models."""
        return f"{model_name(self.subject, self.a)}-over-{model_name('', self.b).lstrip('-')}"[:100]

    def settings(self) -> dict[str, Any]:
        """The number of draws."""
        return {"seed": self.study.seed, **self.study.settings("encode", "bootstrap")}

    def encode(self, model: Model) -> Encode:
        """One of the fitted models."""
        return Encode(self.study, self.subject, model)

    @property
    def measured(self) -> Measured:
        """What they are tested on."""
        return Measured(self.study, self.subject)

    def inputs(self) -> Mapping[str, Step | Key]:
        """Both models and the measured responses."""
        return {"a": self.encode(self.a), "b": self.encode(self.b), "measured": self.measured}

    def n_parts(self) -> int:
        """Blocks of voxels."""
        return self.n_blocks()

    def declare(self, artefact: Artefact) -> None:
        """Create the arrays."""
        n = self.n_voxels
        for name in CONTRAST:
            artefact.create_array(name, (n,), "float32", (min(VOXELS_PER_CHUNK, n),))

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Compare a block of voxels."""
        from phosphene.numerics import stats

        columns = part_slice(index, VOXELS_PER_CHUNK, self.n_voxels)
        of_a, of_b = (
            self.encode(model).artefact.array("prediction")[:, columns]
            for model in (self.a, self.b)
        )
        compared = stats.difference_of_correlations(
            of_a,
            of_b,
            self.measured.artefact.array("test")[:, columns],
            n_bootstrap=self.study.encode.bootstrap,
            rng=rng(self.study.seed, self.subject, "images"),
        )
        results = (compared.difference, compared.ci_low, compared.ci_high, compared.p_t)
        for name, values in zip(CONTRAST, results, strict=True):
            part.array(name, columns, values)

    def cost(self, rates: Rates) -> Cost:
        """Products of predictions and measurements with resampling counts."""
        products = 8
        flops = 2.0 * self.n_test * self.n_voxels * self.study.encode.bootstrap * products
        return Cost(1, 0.0, 16e-9 * self.n_voxels, rates.gb, flops * rates.flop)
