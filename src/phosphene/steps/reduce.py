"""Reduce: principal components of features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from phosphene.data import Dataset
from phosphene.data.trials import image_ids
from phosphene.errors import PhospheneError
from phosphene.features.names import Feature, parsed, slug
from phosphene.numerics import pca
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact, Store
from phosphene.steps.extract import IMAGES_PER_PART
from phosphene.steps.features import feature_recipe, features, half
from phosphene.steps.regression import Rows
from phosphene.steps.subject import data_fingerprint, dataset
from phosphene.study import Compute, Study

VERSION = 1
COMPONENTS = 6400  # principal components (paper, section E)


def reduce_recipe(
    study: Study, subject: str, feature: Feature, components: int = COMPONENTS
) -> Recipe:
    """What the principal components of a feature are made from."""
    inputs = {
        "features": feature_recipe(study, subject, feature).hash,
        "data": data_fingerprint(study, subject),
    }
    settings = {} if components == COMPONENTS else {"components": components}
    return Recipe("reduce", f"{subject}-{slug(feature)}", VERSION, settings, inputs)


def reduced(
    study: Study,
    subject: str,
    names: Sequence[str | Feature],
    compute: Compute,
    components: int = COMPONENTS,
) -> list[Artefact]:
    """Cut features to principal components that are fitted on the training pictures (paper, section
    E).

    Exact (:func:`phosphene.numerics.pca.principal_components`): float64 inside, the features in
    memory at float16. With 10,000 pictures of 65,536 numbers that is 5.5 GB. What is reduced needs
    the features no more: their folders may be removed.

    Returns
    -------
    list of Artefact
        One for each name, with the arrays `features` (n_images, k) float16: scores, not whitened, k
        at most `components`, numbers per picture, and training pictures less one; `mean` (d,),
        `variance` and `ratio` (k,) over training pictures, float64. A feature of at most
        `components` numbers is given back as :func:`features` made it.
    """
    asked = parsed(names)
    fitted = _training(dataset(study, subject))
    if fitted.sum() < 2 or components < 1:
        raise PhospheneError(
            f"reduce: found {fitted.sum()} training pictures of {subject} and {components} "
            "components, expected at "
            "least 2 and 1; use more sessions, or other settings."
        )
    found = {
        f: Store(study.root).artefact(reduce_recipe(study, subject, f, components)) for f in asked
    }
    todo = [feature for feature, artefact in found.items() if not artefact.done]
    for feature, source in zip(todo, features(study, subject, todo, compute), strict=True):
        n, d = source.array("features").shape
        if d <= components:
            found[feature] = source
            continue
        prepare = partial(
            _declare_reduced, n=n, d=d, k=pca.n_possible(int(fitted.sum()), d, components)
        )
        work = partial(
            _reduce_part, study=study, subject=subject, feature=feature, components=components
        )
        make(study, found[feature].recipe, 1, work, compute, prepare)
    return [found[feature] for feature in asked]


def _declare_reduced(artefact: Artefact, n: int, d: int, k: int) -> None:
    artefact.create_array("features", (n, k), "float16", (min(IMAGES_PER_PART, n), k))
    for name, length in (("mean", d), ("variance", k), ("ratio", k)):
        artefact.create_array(name, (length,), "float64", (length,))


def _training(data: Dataset) -> NDArray[np.bool_]:
    """Which rows of the features are training pictures."""
    trials = data.trials
    return np.isin(image_ids(data), trials.loc[trials["split"] == "train", "image"])


def _reduce_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, feature: Feature, components: int
) -> None:
    with artefact.part(index) as part:
        rows = _half_rows(Store(study.root).artefact(feature_recipe(study, subject, feature)))
        found = pca.principal_components(rows, _training(dataset(study, subject)), components)
        scores = half(found.values)
        if not np.isfinite(scores).all():
            raise PhospheneError(
                f"feature '{feature}': found principal components beyond float16's 65504; leave "
                "this feature out."
            )
        part.array("features", slice(0, len(scores)), scores)
        for name in ("mean", "variance", "ratio"):
            part.array(name, slice(0, len(getattr(found, name))), getattr(found, name))


def _half_rows(artefact: Artefact) -> Rows | NDArray[np.float16]:
    """Read features chunk by chunk, at float16 whatever they are on disk."""
    array = artefact.array("features")
    rows = np.empty(array.shape, np.float16)
    for start in range(0, len(rows), IMAGES_PER_PART):
        rows[start : start + IMAGES_PER_PART] = array[start : start + IMAGES_PER_PART]
    return rows
