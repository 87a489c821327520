"""Encode: a model fitted to every voxel, one block of voxels after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.data.scans import Scans
from phosphene.data.trials import average_repeats, images_of, train_trials
from phosphene.encoding.models import Model
from phosphene.errors import PhospheneError
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.step import Key, Step, part_count, part_slice
from phosphene.pipeline.store import Artefact, Part
from phosphene.steps.betas import VOXELS_PER_CHUNK, Betas, assembled
from phosphene.steps.encode.factors import Factors, design, estimator, model_name
from phosphene.steps.subject import SubjectStep
from phosphene.study import Compute

if TYPE_CHECKING:
    from phosphene.encoding.fitting import Voxels

PREDICTIONS = ("prediction", "without")  # arrays that are kept in float16


@dataclass(frozen=True, eq=False)
class VoxelStep(SubjectStep):
    """A step about all voxels of the study's encoding models."""

    @property
    def betas(self) -> Betas:
        """Their responses."""
        if not isinstance(self.data, Scans):
            raise PhospheneError(
                f"encode: data.kind is {self.study.data.kind!r}, expected scans of a whole brain "
                "(nsd, laion)."
            )
        return Betas(self.study, self.subject, self.study.encode.rois)

    @property
    def n_voxels(self) -> int:
        """Voxels, those without data included."""
        return self.betas.n_voxels

    @property
    def n_test(self) -> int:
        """Test images."""
        return len(images_of(self.data)[2])

    def n_blocks(self) -> int:
        """Blocks of voxels."""
        return part_count(self.n_voxels, VOXELS_PER_CHUNK)


@dataclass(frozen=True, eq=False)
class Encode(VoxelStep):
    """A model fitted to every voxel and tested on the averaged responses to the test images.

    Arrays over voxels (rows of the table `voxels` of the betas): `r`, `r2`, `alpha` (n_voxels,);
    for several spaces `mix`, `unique` (R² lost without the space), `product` (its part of R²:
    product measure), all (n_spaces, n_voxels); `prediction` (n_test_images, n_voxels) float16, and
    for several spaces `without` (n_spaces, n_test_images, n_voxels), what is predicted without
    each. NaN where a voxel has no data in some session. Memory of a part: the responses of
    `VOXELS_PER_CHUNK` voxels, one decomposition, one block of coefficients.
    """

    stage: ClassVar[str] = "encode"
    version: ClassVar[int] = 2
    sections: ClassVar[tuple[str, ...]] = ("data",)

    model: Model

    @property
    def name(self) -> str:
        """Subject and model."""
        return model_name(self.subject, self.model)

    def settings(self) -> dict[str, Any]:
        """How responses are standardised."""
        return self.study.settings("data", "zscore")

    @property
    def factors(self) -> Factors:
        """The decompositions of the features."""
        return Factors(self.study, self.subject, self.model)

    def inputs(self) -> Mapping[str, Step | Key]:
        """Decompositions and responses."""
        return {"factors": self.factors, "betas": self.betas}

    def requires(self) -> Sequence[Step]:
        """The feature spaces, which are read again."""
        return [self.factors.space(feature) for feature in self.model.spaces]

    def n_parts(self) -> int:
        """Blocks of voxels."""
        return self.n_blocks()

    def declare(self, artefact: Artefact) -> None:
        """Create the arrays."""
        n = self.n_voxels
        b = len(self.model.spaces)
        block = min(VOXELS_PER_CHUNK, n)
        n_test = self.n_test
        for name in ("r", "r2", "alpha"):
            artefact.create_array(name, (n,), "float32", (block,))
        artefact.create_array("prediction", (n_test, n), "float16", (n_test, block))
        if b > 1:
            for name in ("mix", "unique", "product"):
                artefact.create_array(name, (b, n), "float32", (b, block))
            artefact.create_array("without", (b, n_test, n), "float16", (1, n_test, block))

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Fit a block of voxels."""
        from phosphene.encoding.fitting import fit_block
        from phosphene.numerics import ridge

        columns = part_slice(index, VOXELS_PER_CHUNK, self.n_voxels)
        factors = self.factors.artefact
        voxels = read_voxels(self, columns)
        fitted = fit_block(
            design(self.factors),
            voxels,
            self.factors.mixes,
            estimator(self.study),
            lambda k: ridge.load(factors.file(f"mix{k:02d}.safetensors")),
        )
        for name, values in fitted.items():
            whole = voxels.spread(values)
            where = (*(slice(0, length) for length in values.shape[:-1]), columns)
            part.array(name, where, whole.astype("float16" if name in PREDICTIONS else "float32"))

    def cost(self, rates: Rates) -> Cost:
        """Regressions of all voxels, and predictions that are kept."""
        from phosphene.steps.cost import target_flops

        trials = self.data.trials
        n_train = trials.loc[trials["split"] == "train", "image"].nunique()
        n_voxels = self.n_voxels
        widths = self.factors.widths()
        folds = self.study.encode.cv
        flops = sum(target_flops(n_train, n_train, p, n_voxels, folds) for p in widths)
        widest = max(widths)
        block = 4 * min(VOXELS_PER_CHUNK, n_voxels)
        memory = rates.gb + (block * (len(trials) + 3 * widest) + 12 * n_train * widest) / 1e9
        n_spaces = len(self.model.spaces)
        kept = 1 if n_spaces == 1 else 1 + n_spaces
        return Cost(1, 0.0, 2e-9 * self.n_test * n_voxels * kept, memory, flops * rates.flop)


def read_voxels(step: VoxelStep, columns: slice) -> Voxels:
    """Read a block of voxels out of the betas, one session after the other."""
    import numpy as np

    from phosphene.encoding.fitting import Voxels

    data = step.data
    is_training, _ = train_trials(data)
    values, covered = assembled(step.betas, columns)
    counts = images_of(data)[1]
    shown = data.trials["image"].to_numpy()
    mean = values[is_training].mean(axis=0, dtype=np.float64)
    averages = average_repeats(values[is_training], shown[is_training]).betas
    train = (averages - mean) * np.sqrt(counts)[:, None]
    test = average_repeats(values[~is_training], shown[~is_training]).betas - mean
    return Voxels(train.astype(np.float32), test, covered)
