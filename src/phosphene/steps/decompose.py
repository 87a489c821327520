"""Decompose: what the regressions of all features from some regions share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from phosphene.errors import NoDataError, without_warnings
from phosphene.numerics import ridge
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact
from phosphene.steps import regression
from phosphene.steps.betas import responses, roi_name
from phosphene.steps.subject import data_fingerprint, dataset
from phosphene.study import Compute, Study

VERSION = 1
# fact of results that hold nothing, since their region has no data: the reason
LEFT_OUT = "left_out"


def decompose_recipe(study: Study, subject: str, rois: Sequence[str]) -> Recipe:
    """What the part of the regressions that all features share is made from."""
    settings = study.settings(
        "decode", "preset", "alphas", "cv", "grouped", "standardize", "intercept"
    )
    settings |= {"rois": list(rois), **study.settings("data", "zscore")}
    inputs = {"data": data_fingerprint(study, subject)}
    return Recipe("decompose", roi_name(subject, rois), VERSION, settings, inputs)


def decompose(study: Study, subject: str, rois: Sequence[str], compute: Compute) -> Artefact:
    """Decompose the training trials of some regions: file ``decomposition.safetensors``, which
    workers map.
    """
    work = partial(_decompose_part, study=study, subject=subject, rois=tuple(rois))
    artefact = make(study, decompose_recipe(study, subject, rois), 1, work, compute)
    if LEFT_OUT in artefact.manifest["facts"]:
        raise NoDataError(artefact.manifest["facts"][LEFT_OUT])
    return artefact


def _decompose_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, rois: tuple[str, ...]
) -> None:
    with artefact.part(index) as part:
        with without_warnings(rois not in (study.decode.z.rois, study.decode.c.rois)):
            X = responses(study, subject, rois)
        parts = regression.decompose(study, dataset(study, subject), X)
        part.file("decomposition.safetensors", partial(ridge.save, parts))
