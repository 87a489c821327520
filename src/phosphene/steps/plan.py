"""Everything that a study makes, in the order in which it is made."""

from __future__ import annotations

from collections.abc import Iterator

from phosphene.data.scans import Scans
from phosphene.methods import SHUFFLED
from phosphene.pipeline.recipe import Recipe
from phosphene.steps.betas import betas_recipe
from phosphene.steps.conditions import compared_rois, conditions, features_of
from phosphene.steps.decode import decode_recipe
from phosphene.steps.decompose import decompose_recipe
from phosphene.steps.evaluate import evaluate_recipe
from phosphene.steps.extract import extract_recipe
from phosphene.steps.reconstruct import reconstruct_recipe
from phosphene.steps.report import report_recipe
from phosphene.steps.subject import dataset
from phosphene.study import Study


def plan(study: Study) -> Iterator[Recipe]:
    """Everything a study makes, each once and in the order in which it is made, without making
    it.
    """
    yield from {recipe.hash: recipe for recipe in _planned(study)}.values()


def _planned(study: Study) -> Iterator[Recipe]:
    for subject in study.data.subjects:
        data = dataset(study, subject)
        features = features_of(study)
        scored = conditions(study)
        yield from (extract_recipe(study, subject, f) for f in features)
        rois = compared_rois(study, data)
        wanted = dict.fromkeys(
            [getattr(study.decode, f).rois for f in features] + [(roi,) for roi in rois]
        )
        if isinstance(data, Scans):
            yield from (betas_recipe(study, subject, some) for some in wanted)
        if study.decode.leave_out != "run":
            yield from (decompose_recipe(study, subject, some) for some in wanted)
        yield from (decode_recipe(study, subject, f) for f in features)
        if any(source == SHUFFLED for _, source in scored):
            yield from (decode_recipe(study, subject, f, SHUFFLED) for f in features)
        yield from (reconstruct_recipe(study, subject, mode, source) for mode, source in scored)
        yield from (decode_recipe(study, subject, f, rois=[roi]) for f in features for roi in rois)
        yield evaluate_recipe(study, subject)
    yield report_recipe(study)
