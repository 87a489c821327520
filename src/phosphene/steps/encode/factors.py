"""Factors: all of an encoding model that depends on its features alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.data.trials import image_ids, images_of
from phosphene.encoding.models import Model, mixes
from phosphene.errors import PhospheneError
from phosphene.features.names import Feature, slug
from phosphene.pipeline.cost import Cost, Rates, total
from phosphene.pipeline.step import Key, Step
from phosphene.pipeline.store import Part
from phosphene.steps.extract import Extract
from phosphene.steps.features import Features
from phosphene.steps.reduce import Reduce, reduced
from phosphene.steps.subject import SubjectStep
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from phosphene.encoding.design import Design
    from phosphene.numerics.ridge import RidgeCV


@dataclass(frozen=True, eq=False)
class Factors(SubjectStep):
    """Decompositions of the features of a model, one file for every mix of its spaces:
    ``mix00.safetensors``, ...
    """

    stage: ClassVar[str] = "factors"
    sections: ClassVar[tuple[str, ...]] = ("encode",)

    model: Model

    @property
    def name(self) -> str:
        """Subject and model."""
        return model_name(self.subject, self.model)

    @property
    def transient(self) -> bool:
        """Only fits need them."""
        return True

    def settings(self) -> dict[str, Any]:
        """Those of the regression, and the order of the spaces."""
        spaces = [str(feature) for feature in self.model.spaces]
        return {**self.study.settings("encode", "alphas", "cv", "mixes"), "spaces": spaces}

    def space(self, feature: Feature) -> Extract | Features | Reduce:
        """The step that gives one feature space."""
        return reduced(denoised(self.study), self.subject, feature, self.study.encode.components)

    def inputs(self) -> Mapping[str, Step | Key]:
        """The feature spaces, and which images are training images."""
        spaces = {str(feature): self.space(feature) for feature in self.model.spaces}
        return {**spaces, "trials": self.key("trials")}

    @property
    def mixes(self) -> NDArray[np.float64]:
        """Shares of the spaces that are tried, (n_mixes, n_spaces)."""
        return mixes(len(self.model.spaces), self.study.encode.mixes)

    def check(self, compute: Compute) -> None:
        """Refuse more folds than there are training images."""
        trials = self.data.trials
        n_images = trials.loc[trials["split"] == "train", "image"].nunique()
        if self.study.encode.cv > n_images:
            raise PhospheneError(
                f"encode.cv: found {self.study.encode.cv} folds for {n_images} training images of "
                f"{self.subject}, expected at most {n_images}."
            )

    def n_parts(self) -> int:
        """One for each mix."""
        return len(self.mixes)

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Decompose one mix."""
        from phosphene.numerics import ridge

        known = design(self)
        parts = estimator(self.study).decompose(known.mixed(self.mixes[index], known.train))
        part.file(f"mix{index:02d}.safetensors", partial(ridge.save, parts))

    def widths(self) -> list[int]:
        """Numbers per image of every mix."""
        spaces = [self.space(feature).width for feature in self.model.spaces]
        return [
            sum(width for width, share in zip(spaces, mix, strict=True) if share > 0)
            for mix in self.mixes
        ]

    def cost(self, rates: Rates) -> Cost:
        """Gram matrices and eigendecompositions."""
        from phosphene.steps.cost import decomposition

        trials = self.data.trials
        n_train = trials.loc[trials["split"] == "train", "image"].nunique()
        folds = self.study.encode.cv
        return total(decomposition(p, n_train, folds, rates) for p in self.widths())


def denoised(study: Study) -> Study:
    """The study as its features are computed: with `encode.denoising` in place of
    `reconstruct.steps`.
    """
    steps = study.encode.denoising
    return replace(study, reconstruct=replace(study.reconstruct, steps=steps)) if steps else study


def design(step: Factors) -> Design:
    """Read the spaces of a model."""
    import numpy as np

    from phosphene.encoding.design import Design, scaled

    data = step.data
    images, counts, tested = images_of(data)
    places = [np.searchsorted(image_ids(data), ids) for ids in (images, tested)]
    spaces = []
    for feature in step.model.spaces:
        array = step.space(feature).artefact.array("features")
        train, test = (np.asarray(array.oindex[rows], np.float32) for rows in places)
        prepared = scaled(train, test, counts)
        if prepared is None:
            raise PhospheneError(
                f"feature '{feature}': is the same in all training pictures of {step.subject}; "
                "leave it out."
            )
        spaces.append(prepared)
    return Design(
        train=[train for train, _ in spaces],
        test=[test for _, test in spaces],
        weights=np.sqrt(counts),
    )


def model_name(subject: str, model: Model) -> str:
    """Subject and model as the name of a folder."""
    return f"{subject}-{slug(model)}"[:100]


def estimator(study: Study) -> RidgeCV:
    """The ridge of encoding models."""
    import numpy as np

    from phosphene.numerics.ridge import RidgeCV

    alphas = np.array(study.encode.alphas)
    return RidgeCV(alphas=alphas, cv=study.encode.cv, fit_intercept=False, standardize=False)
