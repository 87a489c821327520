"""Decode: z and c predicted from brain activity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from phosphene.data.trials import image_ids
from phosphene.errors import NoDataError, without_warnings
from phosphene.methods import BRAIN, SHUFFLED
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.step import Key, Step, part_count, part_slice
from phosphene.pipeline.store import Artefact, Part
from phosphene.steps.betas import response_inputs, responses, roi_name
from phosphene.steps.conditions import is_optional_region
from phosphene.steps.decompose import Decompose, left_out_or_raise, reason_left_out
from phosphene.steps.extract import Extract
from phosphene.steps.subject import SubjectStep, items
from phosphene.study import Compute

TARGETS_PER_PART = 4096


@dataclass(frozen=True, eq=False)
class Decode(SubjectStep):
    """A feature predicted from brain activity with ridge regression (paper, section C).

    Arrays: `prediction` (n_items, d), `best_alphas` (d,), `r` (d,), the correlation over items
    between predicted and true features, and `ceiling` (d,), what r would be if only the scans were
    noisy. Rows are those of :func:`phosphene.steps.subject.items`. With the source "shuffled" the
    pairing of brain and image is broken in the training data: the control that must fail.
    ``left_out.txt`` in place of all that where nobody chose the region and it has no data.

    Attributes
    ----------
    source : {"brain", "shuffled"}
    other_rois : tuple of str
        Regions in place of the study's own.
    """

    stage: ClassVar[str] = "decode"
    version: ClassVar[int] = 3
    sections: ClassVar[tuple[str, ...]] = ("decode", "data")

    feature: str
    source: str = BRAIN
    other_rois: tuple[str, ...] = ()

    @property
    def own(self) -> tuple[str, ...]:
        """The study's regions for this feature."""
        rois: tuple[str, ...] = getattr(self.study.decode, self.feature).rois
        return rois

    @property
    def rois(self) -> tuple[str, ...]:
        """The regions that the feature is predicted from."""
        return self.other_rois or self.own

    @property
    def name(self) -> str:
        """Subject, feature, the control, and regions that are not the study's own."""
        shuffled = "-shuffled" if self.source == SHUFFLED else ""
        # the study's own regions are one result, whoever asks
        rois = () if self.rois == self.own else self.rois
        return roi_name(f"{self.subject}-{self.feature}{shuffled}", rois)

    def settings(self) -> dict[str, Any]:
        """Those of the regression, the regions, and the seed of the control."""
        names = ("preset", "alphas", "cv", "grouped", "standardize", "intercept", "scoring")
        settings = self.study.settings("decode", *names, "leave_out")
        settings |= {"rois": list(self.rois), **self.study.settings("data", "zscore")}
        return settings | ({"shuffled": self.study.seed} if self.source == SHUFFLED else {})

    @property
    def extract(self) -> Extract:
        """The true features."""
        return Extract(self.study, self.subject, self.feature)

    @property
    def decompose(self) -> Decompose | None:
        """What the regressions from these regions share; None where runs are left out in turn."""
        if self.study.decode.leave_out == "run":
            return None
        return Decompose(self.study, self.subject, self.rois)

    def inputs(self) -> Mapping[str, Step | Key]:
        """The responses and the true features."""
        responses = response_inputs(self.study, self.subject, self.rois)
        return {"features": self.extract, **responses}

    def requires(self) -> Sequence[Step]:
        """The decomposition."""
        return () if self.decompose is None else (self.decompose,)

    @property
    def n_items(self) -> int:
        """Rows of the prediction."""
        return len(items(self.study, self.data))

    def check(self, compute: Compute) -> None:
        """Refuse data without test trials, and more folds than there are groups."""
        from phosphene.steps.regression import check_folds

        self.n_items  # noqa: B018  (asking for the items refuses data without any)
        check_folds(self.study, self.data)

    def n_parts(self) -> int:
        """Blocks of targets."""
        return part_count(self.extract.width, TARGETS_PER_PART)

    def declare(self, artefact: Artefact) -> None:
        """Create the arrays."""
        n = self.n_items
        width = self.extract.width
        block = min(TARGETS_PER_PART, width)
        artefact.create_array("prediction", (n, width), "float32", (n, block))
        for name in ("best_alphas", "r", "ceiling"):
            artefact.create_array(name, (width,), "float64", (block,))

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Predict a block of targets."""
        import numpy as np

        from phosphene.numerics import ridge
        from phosphene.numerics.correlation import correlation
        from phosphene.steps.regression import predict

        decomposed = None if self.decompose is None else self.decompose.artefact
        try:
            if decomposed is not None and (reason := reason_left_out(decomposed)):
                raise NoDataError(reason)
            known = self.source == SHUFFLED or self.rois != self.own
            # the decomposition has warned of voxels that are left out
            with without_warnings(known or decomposed is not None):
                X = responses(self.study, self.subject, self.rois)
        except NoDataError as error:
            if index == 0 or not is_optional_region(self.study, self.rois):
                left_out_or_raise(self.study, self.rois, part, error)
            return
        data = self.data
        rows = items(self.study, data)
        columns = part_slice(index, TARGETS_PER_PART, self.extract.width)
        Y = np.asarray(self.extract.artefact.array("features")[:, columns], np.float32)
        parts = None
        if decomposed is not None:
            parts = ridge.load(decomposed.file("decomposition.safetensors"))
        with without_warnings(known):
            predicted = predict(self.study, data, X, Y, self.source == SHUFFLED, parts)
        truth = Y[np.searchsorted(image_ids(data), rows["image"].to_numpy())]
        part.array("prediction", (slice(0, len(rows)), columns), predicted.prediction)
        part.array("best_alphas", columns, predicted.alphas)
        part.array("ceiling", columns, predicted.ceiling)
        part.array("r", columns, correlation(truth, predicted.prediction, axis=0))

    def cost(self, rates: Rates) -> Cost:
        """The regressions of all targets."""
        from phosphene.data.scans import all_voxels
        from phosphene.steps.cost import target_flops

        trials = self.data.trials
        n_voxels = len(all_voxels(self.data, self.rois))
        width = self.extract.width
        train = trials[trials["split"] == "train"]
        n_train = len(train)
        n_distinct = train["image"].nunique()
        n_models = 1
        # one model for every run
        if self.study.decode.leave_out == "run":
            n_distinct = n_train
            n_models = trials["run"].nunique()
        folds = self.study.decode.cv
        flops = n_models * target_flops(n_train, n_distinct, n_voxels, width, folds)
        m = min(n_voxels, n_train)
        held = 8 * len(trials) * n_voxels + 8 * folds * m * m + 12 * n_distinct * TARGETS_PER_PART
        gb = 4e-9 * self.n_items * width
        return Cost(1, 0.0, gb, rates.gb + held / 1e9, flops * rates.flop)
