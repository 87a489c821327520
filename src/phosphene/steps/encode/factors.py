"""Features -> decompositions: all of an encoding model that depends on its features alone."""

from __future__ import annotations

from functools import partial

import numpy as np

from phosphene.data.trials import image_ids, images_of
from phosphene.encoding.design import Design, scaled
from phosphene.encoding.models import Model, mixes
from phosphene.errors import PhospheneError
from phosphene.features.names import Feature, slug
from phosphene.numerics import ridge
from phosphene.numerics.ridge import RidgeCV
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact, Store
from phosphene.steps.features import feature_recipe
from phosphene.steps.reduce import reduce_recipe, reduced
from phosphene.steps.subject import dataset
from phosphene.study import Compute, Study

VERSION = 1


def denoised(study: Study) -> Study:
    """The study as its features are computed: with `encode.denoising` in place of
    `reconstruct.steps`.
    """
    steps = study.encode.denoising
    return study.replace("reconstruct.steps", steps) if steps else study


def design(study: Study, subject: str, model: Model) -> Design:
    """Read the spaces of a model."""
    data = dataset(study, subject)
    images, counts, tested = images_of(data)
    places = [np.searchsorted(image_ids(data), ids) for ids in (images, tested)]
    spaces = []
    for space in model.spaces:
        array = _reduced(study, subject, space).array("features")
        train, test = (np.asarray(array.oindex[rows], np.float32) for rows in places)
        prepared = scaled(train, test, counts)
        if prepared is None:
            raise PhospheneError(
                f"feature '{space}': is the same in all training pictures of {subject}; leave it "
                "out."
            )
        spaces.append(prepared)
    return Design(
        train=[train for train, _ in spaces],
        test=[test for _, test in spaces],
        weights=np.sqrt(counts),
    )


def _reduced(study: Study, subject: str, space: Feature) -> Artefact:
    """The principal components of a feature, or the feature itself where it has no more numbers
    than that.

    Where there are components the feature itself is not needed, and may have been removed.
    """
    store, study, k = Store(study.root), denoised(study), study.encode.components
    components = store.artefact(reduce_recipe(study, subject, space, k))
    return components if components.done else store.artefact(feature_recipe(study, subject, space))


def factors_recipe(study: Study, subject: str, model: Model) -> Recipe:
    """What the decompositions of a model's features are made from."""
    settings = study.settings("encode", "components", "alphas", "cv", "mixes")
    inputs = {
        str(space): feature_recipe(denoised(study), subject, space).hash for space in model.spaces
    }
    return Recipe("factors", model_name(subject, model), VERSION, settings, inputs)


def model_name(subject: str, model: Model) -> str:
    return f"{subject}-{slug(model)}"[:100]


def factors(study: Study, subject: str, model: Model, compute: Compute) -> Artefact:
    """Decompose the features of a model, one file for every mix of its spaces:
    ``mix00.safetensors``, ...
    """
    reduced(denoised(study), subject, model.spaces, compute, study.encode.components)
    work = partial(_factors_part, study=study, subject=subject, model=model)
    n_mixes = len(mixes(len(model.spaces), study.encode.mixes))
    return make(study, factors_recipe(study, subject, model), n_mixes, work, compute)


def estimator(study: Study) -> RidgeCV:
    alphas = np.array(study.encode.alphas)
    return RidgeCV(alphas=alphas, cv=study.encode.cv, fit_intercept=False, standardize=False)


def _factors_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, model: Model
) -> None:
    with artefact.part(index) as part:
        known = design(study, subject, model)
        mix = mixes(len(model.spaces), study.encode.mixes)[index]
        parts = estimator(study).decompose(known.mixed(mix, known.train))
        part.file(f"mix{index:02d}.safetensors", partial(ridge.save, parts))
