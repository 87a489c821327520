"""The trial list of the human study: what is shown to whom, and the pictures for it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.data.dataset import Photographs
from phosphene.errors import PhospheneError
from phosphene.methods import MODE_FEATURES
from phosphene.pipeline.step import Key, Step, part_count, part_slice
from phosphene.pipeline.store import Part
from phosphene.steps import evaluate
from phosphene.steps.reconstruct import Reconstruct
from phosphene.steps.subject import data_key, dataset, items
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from phosphene.models.preparing import Pictures

PICTURES_PER_PART = 500
# pixels: pictures up to this side are PNG; larger ones JPEG, or a phone would load a megabyte per
# trial
LOSSLESS = 128
QUALITY = 95  # of the JPEG, with full resolution of colour


@dataclass(frozen=True, eq=False)
class Ratings(Step):
    """The trial list of a study and the pictures that it shows.

    Tables `trials` (:func:`phosphene.ratings.trials.design.plan`) and `picture_ids`
    (:func:`phosphene.ratings.trials.design.pictures`), files ``pictures/<file>.png`` (or ``.jpg``)
    with one width and height and without metadata.
    """

    stage: ClassVar[str] = "ratings"
    version: ClassVar[int] = 2
    sections: ClassVar[tuple[str, ...]] = ("rate", "decode")
    private: ClassVar[bool] = True  # the tables and the recipe are the answer key

    @property
    def name(self) -> str:
        """The study."""
        return self.study.name

    def settings(self) -> dict[str, Any]:
        """Who rates what, how often."""
        study = self.study
        settings = study.settings("rate", "raters", "trials", "catch", "repeats", "sample")
        settings |= study.settings("decode", "leave_out")
        subjects = list(study.data.subjects)
        return {**settings, "methods": methods(study), "subjects": subjects, "seed": study.seed}

    def inputs(self) -> Mapping[str, Step | Key]:
        """Photographs and reconstructions of all subjects."""
        inputs: dict[str, Step | Key] = {}
        for subject in self.study.data.subjects:
            for part in ("images", "trials"):
                inputs[f"{subject}-{part}"] = data_key(self.study, subject, part)
            for mode in methods(self.study):
                inputs[f"{subject}-{mode}"] = Reconstruct(self.study, subject, mode)
        return inputs

    def check(self, compute: Compute) -> None:
        """Refuse data without photographs; warn where there are too few for the settings."""
        for subject in self.study.data.subjects:
            if not dataset(self.study, subject).photographs:
                raise PhospheneError(
                    f"{self.study.data_root}: it is not known which photographs {subject} saw, so "
                    "nobody can choose between reconstructions of them; the human study needs "
                    "data with photographs."
                )
            for mode in methods(self.study):
                _chosen_sample(self.study, Reconstruct(self.study, subject, mode))
        _warn_of_cuts(self.study)

    @property
    def trials(self) -> pd.DataFrame:
        """The trial list. It follows from the whole recipe, which holds keys of the data that
        nobody can guess.
        """
        return _planned(self.study, self.recipe.digest)

    def n_parts(self) -> int:
        """Blocks of pictures."""
        return part_count(len(_files(self.trials)), PICTURES_PER_PART)

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Write a block of pictures."""
        from phosphene.ratings.trials import design

        trials = self.trials
        files = _files(trials)
        files = files.iloc[part_slice(index, PICTURES_PER_PART, len(files))]
        shown = _Album(self.study)
        for row in files.itertuples():
            ending, data = encoded(shown.picture(row.method, row.subject, row.item))
            part.file(f"pictures/{row.file}.{ending}", data)
        if index == 0:
            part.table("trials", trials)
            part.table("picture_ids", design.pictures(trials))


def methods(study: Study) -> list[str]:
    """The kinds of reconstruction that people compare, in the order of
    :data:`phosphene.methods.MODE_FEATURES`.
    """
    chosen = study.rate.methods or study.reconstruct.modes
    return [mode for mode in MODE_FEATURES if mode in chosen]


def _warn_of_cuts(study: Study) -> None:
    """Warn where the test images do not suffice for the trials and catch trials of the settings."""
    from phosphene.ratings.trials import design
    from phosphene.ratings.trials.pairing import pairs

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
def _planned(study: Study, digest: str) -> pd.DataFrame:
    from phosphene.ratings.trials import design

    sizes = design.Sizes(study.rate.raters, study.rate.trials, study.rate.catch, study.rate.repeats)
    return design.plan(pool(study), methods(study), sizes, (study.seed, digest))


def pool(study: Study) -> pd.DataFrame:
    """All test pictures: subject, item, image."""
    import pandas as pd

    parts = [
        items(study, dataset(study, subject))[["image"]].assign(subject=subject)
        for subject in study.data.subjects
    ]
    return pd.concat([part.rename_axis("item").reset_index() for part in parts], ignore_index=True)


def _files(trials: pd.DataFrame) -> pd.DataFrame:
    """The picture files of a trial list, one row per file."""
    from phosphene.ratings.trials import design

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
        import numpy as np

        from phosphene.models.preparing import resize
        from phosphene.ratings.trials import design

        if method in ("", design.CATCH):
            if subject not in self._seen:
                data = dataset(self._study, subject)
                self._seen[subject] = Photographs(data, items(self._study, data)["image"].tolist())
            photograph = resize(np.asarray(self._seen[subject][item])[None], self._side)[0]
            return photograph if method == "" else changed(photograph)
        if (method, subject) not in self._made:
            self._made[method, subject] = self._sample(method, subject)
        return np.asarray(self._made[method, subject][item])

    def _sample(self, method: str, subject: str) -> Pictures:
        samples = evaluate.reconstructed(self._study, subject, method)
        return samples[_chosen_sample(self._study, Reconstruct(self._study, subject, method))]


def _chosen_sample(study: Study, step: Reconstruct) -> int:
    """Number of the sample that is shown; a kind of picture with one sample shows that one."""
    sample = 0 if step.samples == 1 else study.rate.sample
    if sample >= step.samples:
        raise PhospheneError(
            f"rate.sample: found {sample}, but {step.mode} of {step.subject} has {step.samples} "
            f"samples; expected 0 to {step.samples - 1}."
        )
    return sample


def changed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photograph a little softer and paler: not the same file, but plainly the same
    photograph.
    """
    import numpy as np
    from PIL import Image, ImageEnhance, ImageFilter

    soft = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(len(picture) / 128))
    return np.asarray(ImageEnhance.Color(soft).enhance(0.8))


def encoded(picture: NDArray[np.uint8]) -> tuple[str, bytes]:
    """Ending and bytes of a picture file without metadata."""
    import numpy as np
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    stream = io.BytesIO()
    if max(image.size) <= LOSSLESS:
        image.save(stream, "PNG", optimize=True)
        return "png", stream.getvalue()
    # "optimize" fails on pictures full of noise
    image.save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return "jpg", stream.getvalue()
