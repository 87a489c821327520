"""Extract: z and c of every image that was seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod

import numpy as np

from phosphene.data import Dataset
from phosphene.data.trials import image_ids
from phosphene.errors import without_warnings
from phosphene.models.diffusion.captions import check_captions
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make, part_count, part_slice
from phosphene.pipeline.store import Artefact
from phosphene.steps.noise import latent_seeds
from phosphene.steps.regression import Rows
from phosphene.steps.subject import (
    configuration,
    data_fingerprint,
    dataset,
    load_model,
    model_fingerprint,
)
from phosphene.study import Compute, Study

VERSION = 1
IMAGES_PER_PART = 250
EXTRACTED_AT_ONCE = 48  # pictures that are read together; the model cuts them into its own blocks


def extract_recipe(study: Study, subject: str, feature: str) -> Recipe:
    """What the features of all seen pictures are made from."""
    inputs = {
        "data": data_fingerprint(study, subject),
        "model": model_fingerprint(study.model.name),
    }
    settings = study.settings("model", "latent_size", *(["latent"] if feature == "z" else []))
    if feature == "z" and study.model.latent == "sample":
        settings |= {"seed": study.seed}
    return Recipe("extract", f"{subject}-{feature}", VERSION, settings, inputs)


def extract(study: Study, subject: str, feature: str, compute: Compute) -> Artefact:
    """Compute ``z`` or ``c`` of every picture; array `features` (n_images, d), rows as
    :func:`image_ids`.
    """
    data = dataset(study, subject)
    ids = image_ids(data)
    sizes = configuration(study.model.name)
    shape = sizes.latent_shape(study.model.latent_size) if feature == "z" else sizes.context_shape
    width = prod(shape)

    def prepare(artefact: Artefact) -> None:
        model = load_model(study.model.name, compute.device)  # refused before anything is written
        if feature == "c":
            names = getattr(data, "names", None)  # of data whose images have names
            check_captions(
                model, data.captions(ids.tolist()), [names[k] if names else k for k in ids.tolist()]
            )
        artefact.create_array(
            "features", (len(ids), width), "float32", (min(IMAGES_PER_PART, len(ids)), width)
        )

    work = partial(_extract_part, study=study, subject=subject, feature=feature, compute=compute)
    return make(
        study,
        extract_recipe(study, subject, feature),
        part_count(len(ids), IMAGES_PER_PART),
        work,
        compute,
        prepare,
    )


def _extract_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, feature: str, compute: Compute
) -> None:
    data = dataset(study, subject)
    model = load_model(study.model.name, compute.device)
    ids = image_ids(data)
    rows = part_slice(index, IMAGES_PER_PART, len(ids))
    values = []
    with artefact.part(index) as part:
        for some in np.split(
            ids[rows], range(EXTRACTED_AT_ONCE, len(ids[rows]), EXTRACTED_AT_ONCE)
        ):
            if feature == "z":
                seeds = latent_seeds(study, [(subject, int(image)) for image in some])
                values.append(
                    model.image_to_latent(
                        data.images(some.tolist()), study.model.latent_size, seeds
                    )
                )
            else:
                with without_warnings():  # of captions that are cut: `extract` has counted them
                    values.append(model.text_to_context(data.captions(some.tolist())))
        part.array("features", rows, np.concatenate(values))


def category_context(model: LatentDiffusion, data: Dataset, images: Sequence[int]) -> Rows:
    """Context of the names of the things in pictures as one prompt, largest first, each once: "cat,
    house".
    """
    return model.text_to_context(
        [[", ".join(dict.fromkeys(found))] for found in data.categories(images)]
    )
