"""Features -> decompositions: all of an encoding model that depends on its features alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from phosphene.data import Dataset
from phosphene.data.trials import image_ids, train_trials
from phosphene.encoding.models import Floats, Model, denoised, mixes
from phosphene.errors import PhospheneError
from phosphene.features.names import Feature, slug
from phosphene.numerics import ridge
from phosphene.numerics.ridge import RidgeCV
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact, Store
from phosphene.steps.features import feature_recipe, reduce_recipe, reduced
from phosphene.steps.regression import Rows
from phosphene.steps.subject import dataset
from phosphene.study import Compute, Study

VERSION = 1


@dataclass(frozen=True)
class Design:
    """Features of the training pictures, rows weighted, and of the test pictures; one matrix per
    space.

    Attributes
    ----------
    train, test : list of ndarray of float32, (n_train_images, p_b) and (n_test_images, p_b)
        Centred on the training trials; the sum of squares of a column of `train`, over all columns,
        is n_trials.
    weights : ndarray of float64, (n_train_images,)
        Square roots of the numbers of trials.
    """

    train: list[Rows]
    test: list[Rows]
    weights: Floats

    def mixed(self, mix: Floats, rows: Sequence[Rows]) -> Rows:
        """Put the spaces of a mix side by side, (n, p of those with a share)."""
        return np.concatenate(
            [np.float32(np.sqrt(m)) * x for m, x in zip(mix, rows, strict=True) if m > 0], axis=1
        )

    def parts(self, mix: Floats) -> dict[int, slice]:
        """Columns of each space in :meth:`mixed`."""
        ends = np.cumsum(
            [x.shape[1] if m > 0 else 0 for m, x in zip(mix, self.train, strict=True)]
        ).tolist()
        return {
            b: slice(end - x.shape[1], end)
            for b, (m, x, end) in enumerate(zip(mix, self.train, ends, strict=True))
            if m > 0
        }


def images_of(data: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Training images, how many trials each has, and test images; ascending."""
    train, seen = train_trials(data)
    images, counts = np.unique(seen, return_counts=True)
    return images, counts, np.unique(data.trials["image"].to_numpy()[~train])


def design(study: Study, subject: str, model: Model) -> Design:
    """Read the spaces of a model."""
    data = dataset(study, subject)
    images, counts, tested = images_of(data)
    weights = np.sqrt(counts)
    train = []
    test = []
    for space in model.spaces:
        array = _reduced(study, subject, space).array("features")
        rows = [
            np.asarray(array.oindex[np.searchsorted(image_ids(data), ids)], np.float32)
            for ids in (images, tested)
        ]
        mean = np.average(rows[0].astype(np.float64), axis=0, weights=counts).astype(np.float32)
        taught = (rows[0] - mean) * weights[:, None].astype(np.float32)
        scale = np.float32(np.sqrt((taught.astype(np.float64) ** 2).sum() / counts.sum()))
        if not scale > 0:
            raise PhospheneError(
                f"feature '{space}': is the same in all training pictures of {subject}; leave it "
                "out."
            )
        train.append(taught / scale)
        test.append((rows[1] - mean) / scale)
    return Design(train, test, weights)


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
