"""Measured: what every encoding model is tested on."""

from __future__ import annotations

from functools import partial

from phosphene.data.trials import images_of
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make, part_count, part_slice
from phosphene.pipeline.store import Artefact
from phosphene.steps.betas import VOXELS_PER_CHUNK, betas, betas_recipe
from phosphene.steps.encode.models import read_voxels
from phosphene.steps.subject import dataset
from phosphene.study import Compute, Study

VERSION = 1


def measured_recipe(study: Study, subject: str) -> Recipe:
    """What the measured responses to the test pictures are made from."""
    betas_hash = betas_recipe(study, subject, study.encode.rois).hash
    return Recipe(
        "measured",
        subject,
        VERSION,
        study.settings("data", "zscore"),
        {"betas": betas_hash},
    )


def measured(study: Study, subject: str, compute: Compute) -> Artefact:
    """Keep what every model is tested on.

    Array `test` (n_test_images, n_voxels) float32: responses averaged over repeats, the mean of the
    training trials taken off; NaN where a voxel has no data in some session.
    """
    table = betas(study, subject, study.encode.rois, compute)
    assert table is not None
    n = len(table.table("voxels"))
    tested = len(images_of(dataset(study, subject))[2])

    def prepare(artefact: Artefact) -> None:
        artefact.create_array("test", (tested, n), "float32", (tested, min(VOXELS_PER_CHUNK, n)))

    work = partial(_measured_part, study=study, subject=subject)
    return make(
        study,
        measured_recipe(study, subject),
        part_count(n, VOXELS_PER_CHUNK),
        work,
        compute,
        prepare,
    )


def _measured_part(artefact: Artefact, index: int, *, study: Study, subject: str) -> None:
    rows, n = artefact.array("test").shape
    columns = part_slice(index, VOXELS_PER_CHUNK, n)
    with artefact.part(index) as part:
        voxels = read_voxels(study, subject, columns)
        part.array("test", (slice(0, rows), columns), voxels.spread(voxels.test))
