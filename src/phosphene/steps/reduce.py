"""Reduce: principal components of features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.data import Dataset
from phosphene.data.trials import image_ids
from phosphene.errors import PhospheneError
from phosphene.features.names import Feature, slug
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.step import Key, Step
from phosphene.pipeline.store import Artefact, Part
from phosphene.steps.extract import IMAGES_PER_PART, Extract
from phosphene.steps.features import Features, feature_step, half
from phosphene.steps.subject import SubjectStep
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COMPONENTS = 6400  # principal components (paper, section E)


@dataclass(frozen=True, eq=False)
class Reduce(SubjectStep):
    """Principal components of a feature, fitted on the training images (paper, section E).

    Exact (:func:`phosphene.numerics.pca.principal_components`): float64 inside, the features in
    memory at float16. With 10,000 images of 65,536 numbers that is 5.5 GB.

    Arrays: `features` (n_images, k) float16: scores, not whitened, k at most `components`, numbers
    per image, and training images less one; `mean` (d,), `variance` and `ratio` (k,) over training
    images, float64.
    """

    stage: ClassVar[str] = "reduce"
    sections: ClassVar[tuple[str, ...]] = ("encode",)

    feature: Feature
    components: int = COMPONENTS

    @property
    def name(self) -> str:
        """Subject and feature."""
        return f"{self.subject}-{slug(self.feature)}"

    def settings(self) -> dict[str, Any]:
        """How many components."""
        return {} if self.components == COMPONENTS else {"components": self.components}

    @property
    def source(self) -> Extract | Features:
        """The feature."""
        return feature_step(self.study, self.subject, self.feature)

    def inputs(self) -> Mapping[str, Step | Key]:
        """The feature, and which images are training images."""
        return {"features": self.source, "trials": self.key("trials")}

    def check(self, compute: Compute) -> None:
        """Refuse too few images or components."""
        n_train = int(_training(self.data).sum())
        if n_train < 2 or self.components < 1:
            raise PhospheneError(
                f"reduce: found {n_train} training pictures of {self.subject} and "
                f"{self.components} components, expected at least 2 and 1; use more sessions, or "
                "other settings."
            )

    @property
    def width(self) -> int:
        """Components per image."""
        from phosphene.numerics import pca

        n_train = int(_training(self.data).sum())
        return pca.n_possible(n_train, self.source.width, self.components)

    def declare(self, artefact: Artefact) -> None:
        """Create the arrays."""
        n = self.source.n_images
        k = self.width
        artefact.create_array("features", (n, k), "float16", (min(IMAGES_PER_PART, n), k))
        for name, length in (("mean", self.source.width), ("variance", k), ("ratio", k)):
            artefact.create_array(name, (length,), "float64", (length,))

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Fit and apply the components."""
        import numpy as np

        from phosphene.numerics import pca

        rows = _half_rows(self.source.artefact)
        components = pca.principal_components(rows, _training(self.data), self.components)
        scores = half(components.values)
        if not np.isfinite(scores).all():
            raise PhospheneError(
                f"feature '{self.feature}': found principal components beyond float16's 65504; "
                "leave this feature out."
            )
        part.array("features", slice(0, len(scores)), scores)
        for name in ("mean", "variance", "ratio"):
            values = getattr(components, name)
            part.array(name, slice(0, len(values)), values)

    def cost(self, rates: Rates) -> Cost:
        """A Gram matrix, its eigendecomposition, and scores."""
        n = self.source.n_images
        d = self.source.width
        m = min(int(_training(self.data).sum()), d)
        k = self.width
        seconds = 8.0 * n * d * m * rates.flop + m**3 * rates.eigh
        memory = rates.gb + (2 * n * d + 24 * n * (m + k)) / 1e9
        return Cost(1, 0.0, 2e-9 * n * k, memory, seconds)


def reduced(
    study: Study, subject: str, feature: Feature, components: int
) -> Extract | Features | Reduce:
    """The step that cuts a feature to principal components; the feature itself where it has no more
    numbers than that.
    """
    step = feature_step(study, subject, feature)
    if step.width <= components:
        return step
    return Reduce(study, subject, feature, components)


def _training(data: Dataset) -> NDArray[np.bool_]:
    """Which rows of the features are training images."""
    import numpy as np

    trials = data.trials
    return np.isin(image_ids(data), trials.loc[trials["split"] == "train", "image"])


def _half_rows(artefact: Artefact) -> NDArray[np.float16]:
    """Read features chunk by chunk, at float16 whatever they are on disk."""
    import numpy as np

    array = artefact.array("features")
    rows = np.empty(array.shape, np.float16)
    for start in range(0, len(rows), IMAGES_PER_PART):
        rows[start : start + IMAGES_PER_PART] = array[start : start + IMAGES_PER_PART]
    return rows
