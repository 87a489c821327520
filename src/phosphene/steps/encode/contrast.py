"""Contrast: two encoding models compared voxel by voxel."""

from __future__ import annotations

from functools import partial

from phosphene.encoding.models import Model
from phosphene.numerics import stats
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make, part_count, part_slice
from phosphene.pipeline.store import Artefact, Store
from phosphene.seeds import rng
from phosphene.steps.betas import VOXELS_PER_CHUNK
from phosphene.steps.encode.factors import model_name
from phosphene.steps.encode.measured import measured, measured_recipe
from phosphene.steps.encode.models import encode, encode_recipe
from phosphene.study import Compute, Study

VERSION = 1
CONTRAST = ("difference", "ci_low", "ci_high", "p")


def contrast_recipe(study: Study, subject: str, a: Model, b: Model) -> Recipe:
    """What the difference of two models is made from."""
    settings = {"seed": study.seed, **study.settings("encode", "bootstrap")}
    inputs = {
        "a": encode_recipe(study, subject, a).hash,
        "b": encode_recipe(study, subject, b).hash,
        "measured": measured_recipe(study, subject).hash,
    }
    name = f"{model_name(subject, a)}-over-{model_name('', b).lstrip('-')}"[:100]
    return Recipe("contrast", name, VERSION, settings, inputs)


def contrast(study: Study, subject: str, a: Model, b: Model, compute: Compute) -> Artefact:
    """Compare two models voxel by voxel: paired bootstrap over the test images.

    Arrays over voxels: `difference` (r of `a` minus r of `b`), `ci_low`, `ci_high` (95 %), `p`
    (two-sided, from the bootstrap standard error:
    :func:`phosphene.numerics.stats.difference_of_correlations`).
    """
    n = encode(study, subject, a, compute).array("r").shape[0]
    encode(study, subject, b, compute)
    measured(study, subject, compute)

    def prepare(artefact: Artefact) -> None:
        for name in CONTRAST:
            artefact.create_array(name, (n,), "float32", (min(VOXELS_PER_CHUNK, n),))

    work = partial(_contrast_part, study=study, subject=subject, a=a, b=b)
    return make(
        study,
        contrast_recipe(study, subject, a, b),
        part_count(n, VOXELS_PER_CHUNK),
        work,
        compute,
        prepare,
    )


def _contrast_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, a: Model, b: Model
) -> None:
    columns = part_slice(index, VOXELS_PER_CHUNK, artefact.array("p").shape[0])
    with artefact.part(index) as part:
        store = Store(study.root)
        of_a, of_b = (
            store.artefact(encode_recipe(study, subject, m)).array("prediction")[:, columns]
            for m in (a, b)
        )
        truth = store.artefact(measured_recipe(study, subject)).array("test")[:, columns]
        random = rng(study.seed, subject, "images")
        found = stats.difference_of_correlations(
            of_a, of_b, truth, n_bootstrap=study.encode.bootstrap, rng=random
        )
        for name, values in zip(
            CONTRAST, (found.difference, found.ci_low, found.ci_high, found.p_t), strict=True
        ):
            part.array(name, columns, values)
