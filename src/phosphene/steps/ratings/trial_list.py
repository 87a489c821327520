"""Ratings: the trial list of a study and the pictures that it shows."""

from __future__ import annotations

import io
import warnings
from functools import cache, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from phosphene.data.dataset import Photographs
from phosphene.errors import PhospheneError
from phosphene.models.preparing import Pictures, resize
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact, Store
from phosphene.ratings.trials import design
from phosphene.ratings.trials.pairing import pairs
from phosphene.steps import evaluate
from phosphene.steps.ratings.recipes import (
    methods,
    ratings_recipe,
)
from phosphene.steps.reconstruct import reconstruct
from phosphene.steps.subject import dataset, items
from phosphene.study import Compute, Study

PICTURES_PER_PART = 500
# pixels: pictures up to this side are PNG; larger ones JPEG, or a phone would load a megabyte per
# trial
LOSSLESS = 128
QUALITY = 95  # of the JPEG, with full resolution of colour


def make_list(study: Study, compute: Compute) -> Artefact:
    """Make the trial list of a study and the pictures that it shows, pulling the reconstructions.

    Tables `trials` (:func:`phosphene.ratings.trials.design.plan`) and `picture_ids`
    (:func:`phosphene.ratings.trials.design.pictures`), files ``pictures/<file>.png`` (or ``.jpg``)
    with one width and height and without metadata.
    """
    recipe = ratings_recipe(study)
    if not Store(study.root).artefact(recipe).done:
        _warn_of_cuts(study)
        for subject in study.data.subjects:
            if not dataset(study, subject).photographs:
                raise PhospheneError(
                    f"{study.data_root}: it is not known which photographs {subject} saw, so "
                    "nobody can choose between "
                    "reconstructions of them; the human study needs data with photographs."
                )
            for mode in methods(study):
                reconstruct(study, subject, mode, compute)
    parts = -(-len(_files(planned(study, recipe.digest))) // PICTURES_PER_PART)
    return make(study, recipe, parts, partial(_ratings_part, study=study), compute)


def _warn_of_cuts(study: Study) -> None:
    """Warn where the test images do not suffice for the trials and catch trials of the settings."""
    images = pool(study)
    n_pairs = len(pairs(images, (study.seed, "")))
    rate = study.rate
    settings = design.Sizes(rate.raters, rate.trials, rate.catch, rate.repeats)
    sizes = settings.within(n_pairs, len(methods(study)))
    enough = 5 * (rate.trials + rate.catch)
    if sizes != settings.within(enough, len(methods(study))):
        warnings.warn(
            f"{images['image'].nunique()} test images make {n_pairs} pairs, and a blind list "
            "shows a rater one "
            f"photograph of a pair: {sizes.trials} trials per method (rate.trials: {rate.trials}) "
            f"and {sizes.catch} "
            f"catch trials (rate.catch: {rate.catch}).",
            stacklevel=3,
        )


@cache
def planned(study: Study, digest: str) -> pd.DataFrame:
    """The trial list; `digest` is that of its recipe: it holds a fingerprint of the data, which
    nobody can guess.
    """
    sizes = design.Sizes(study.rate.raters, study.rate.trials, study.rate.catch, study.rate.repeats)
    return design.plan(pool(study), methods(study), sizes, (study.seed, digest))


def pool(study: Study) -> pd.DataFrame:
    """All test pictures: subject, item, image."""
    parts = [
        items(study, dataset(study, subject))[["image"]].assign(subject=subject)
        for subject in study.data.subjects
    ]
    return pd.concat([part.rename_axis("item").reset_index() for part in parts], ignore_index=True)


def _ratings_part(artefact: Artefact, index: int, *, study: Study) -> None:
    trials = planned(study, artefact.recipe.digest)
    files = _files(trials).iloc[index * PICTURES_PER_PART : (index + 1) * PICTURES_PER_PART]
    shown = _Album(study)
    with artefact.part(index) as part:
        for row in files.itertuples():
            ending, data = encoded(shown.picture(row.method, row.subject, row.item))
            part.file(f"pictures/{row.file}.{ending}", data)
        if index == 0:
            part.table("trials", trials)
            part.table("picture_ids", design.pictures(trials))


def _files(trials: pd.DataFrame) -> pd.DataFrame:
    """The picture files of a trial list, one row per file."""
    return design.pictures(trials).drop_duplicates("file")


class _Album:
    """Opens photographs and reconstructions by subject and item, all at the size of the
    reconstructions.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._seen: dict[str, Pictures] = {}
        self._made: dict[tuple[str, str], Pictures] = {}
        self._side = len(self.picture(methods(study)[0], study.data.subjects[0], 0))

    def picture(self, method: str, subject: str, item: int) -> NDArray[np.uint8]:
        """A reconstruction; with method "" the photograph, with "catch" the photograph slightly
        changed.
        """
        if method in ("", design.CATCH):
            if subject not in self._seen:
                data = dataset(self._study, subject)
                self._seen[subject] = Photographs(data, items(self._study, data)["image"].tolist())
            found = resize(np.asarray(self._seen[subject][item])[None], self._side)[0]
            return found if method == "" else changed(found)
        if (method, subject) not in self._made:
            self._made[method, subject] = self._sample(method, subject)
        return np.asarray(self._made[method, subject][item])

    def _sample(self, method: str, subject: str) -> Pictures:
        samples = evaluate.reconstructed(self._study, subject, method)
        sample = 0 if len(samples) == 1 else self._study.rate.sample
        if sample >= len(samples):
            raise PhospheneError(
                f"rate.sample: found {sample}, but {method} of {subject} has {len(samples)} "
                "samples; expected 0 to "
                f"{len(samples) - 1}."
            )
        return samples[sample]


def changed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photograph a little softer and paler: not the same file, but plainly the same
    photograph.
    """
    soft = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(len(picture) / 128))
    return np.asarray(ImageEnhance.Color(soft).enhance(0.8))


def encoded(picture: NDArray[np.uint8]) -> tuple[str, bytes]:
    """Ending and bytes of a picture file without metadata."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    stream = io.BytesIO()
    if max(image.size) <= LOSSLESS:
        image.save(stream, "PNG", optimize=True)
        return "png", stream.getvalue()
    # "optimize" fails on pictures full of noise
    image.save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return "jpg", stream.getvalue()
