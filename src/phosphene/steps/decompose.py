"""Decompose: what the regressions of all features from some regions share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from phosphene.errors import NoDataError, without_warnings
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.step import Key, Step
from phosphene.pipeline.store import Artefact, Part
from phosphene.steps.betas import response_inputs, responses, roi_name
from phosphene.steps.conditions import is_optional_region
from phosphene.steps.subject import SubjectStep
from phosphene.study import Compute, Study

# file of a result that holds nothing else, since its region has no data: the reason
LEFT_OUT = "left_out.txt"


@dataclass(frozen=True, eq=False)
class Decompose(SubjectStep):
    """The decomposition of the training trials of some regions.

    File ``decomposition.safetensors``, which workers map; or ``left_out.txt``, where nobody chose
    the region and it has no data.
    """

    stage: ClassVar[str] = "decompose"
    sections: ClassVar[tuple[str, ...]] = ("decode", "data")

    rois: tuple[str, ...]

    @property
    def name(self) -> str:
        """Subject and regions."""
        return roi_name(self.subject, self.rois)

    @property
    def transient(self) -> bool:
        """Only regressions need it."""
        return True

    def settings(self) -> dict[str, Any]:
        """The regions and what the decomposition depends on."""
        names = ("preset", "alphas", "cv", "grouped", "standardize", "intercept")
        decode = self.study.settings("decode", *names)
        return {**decode, "rois": list(self.rois), **self.study.settings("data", "zscore")}

    def inputs(self) -> Mapping[str, Step | Key]:
        """The responses."""
        return response_inputs(self.study, self.subject, self.rois)

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Decompose the responses."""
        from phosphene.numerics import ridge
        from phosphene.steps import regression

        own = (self.study.decode.z.rois, self.study.decode.c.rois)
        try:
            with without_warnings(self.rois not in own):
                X = responses(self.study, self.subject, self.rois)
        except NoDataError as error:
            left_out_or_raise(self.study, self.rois, part, error)
            return
        parts = regression.decompose(self.study, self.data, X)
        part.file("decomposition.safetensors", partial(ridge.save, parts))

    def cost(self, rates: Rates) -> Cost:
        """Gram matrices and eigendecompositions."""
        from phosphene.data.scans import all_voxels
        from phosphene.steps.cost import decomposition

        n_train = int((self.data.trials["split"] == "train").sum())
        n_voxels = len(all_voxels(self.data, self.rois))
        return decomposition(n_voxels, n_train, self.study.decode.cv, rates)


def left_out_or_raise(study: Study, rois: tuple[str, ...], part: Part, error: NoDataError) -> None:
    """Keep as the result that a region has no data, unless somebody chose it: then raise the
    error.
    """
    if not is_optional_region(study, rois):
        raise error
    part.file(LEFT_OUT, str(error).encode())


def reason_left_out(artefact: Artefact) -> str:
    """Why a finished result holds nothing, "" where it holds something."""
    path = artefact.path / LEFT_OUT
    return path.read_text(encoding="utf-8") if path.exists() else ""
