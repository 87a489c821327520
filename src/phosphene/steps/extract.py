"""Extract: z and c of every image that was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.data import Dataset
from phosphene.data.trials import image_ids
from phosphene.errors import without_warnings
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.step import Key, Step, part_count, part_slice
from phosphene.pipeline.store import Artefact, Part
from phosphene.steps.noise import latent_seeds
from phosphene.steps.subject import SubjectStep, configuration, load_model
from phosphene.study import Compute

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from phosphene.models.diffusion.model import LatentDiffusion

IMAGES_PER_PART = 250
EXTRACTED_AT_ONCE = 48  # pictures that are read together; the model cuts them into its own blocks
CAPTIONS = 5  # of an image, about: for the estimate


@dataclass(frozen=True, eq=False)
class Extract(SubjectStep):
    """``z`` or ``c`` of every image that was seen.

    Array `features` (n_images, d) float32, rows as :func:`phosphene.data.trials.image_ids`.
    """

    stage: ClassVar[str] = "extract"
    sections: ClassVar[tuple[str, ...]] = ("model",)

    feature: str

    @property
    def name(self) -> str:
        """Subject and feature."""
        return f"{self.subject}-{self.feature}"

    def settings(self) -> dict[str, Any]:
        """The side of images for z, and what of the posterior is taken."""
        if self.feature == "c":
            return {}
        settings = self.study.settings("model", "latent_size", "latent") | self.size
        return settings | ({"seed": self.study.seed} if self.study.model.latent == "sample" else {})

    def inputs(self) -> Mapping[str, Step | Key]:
        """Images and the autoencoder, or captions and the text encoder."""
        trials = self.key("trials")
        if self.feature == "z":
            return {"images": self.key("images"), "trials": trials, "vae": self.network("vae")}
        text_encoder = self.network("text_encoder")
        return {"captions": self.key("captions"), "trials": trials, "text_encoder": text_encoder}

    @property
    def width(self) -> int:
        """Numbers per image."""
        sizes = configuration(self.study.model.name)
        latent = sizes.latent_shape(self.study.model.latent_size)
        return prod(latent if self.feature == "z" else sizes.context_shape)

    @property
    def n_images(self) -> int:
        """Images that were seen."""
        return len(image_ids(self.data))

    def check(self, compute: Compute) -> None:
        """Load the model, and count captions that it would cut."""
        from phosphene.models.diffusion.captions import check_captions

        model = load_model(self.study.model.name, compute.device)
        if self.feature == "c":
            data = self.data
            ids = image_ids(data).tolist()
            # of data whose images have names
            names = getattr(data, "names", None)
            check_captions(model, data.captions(ids), [names[k] if names else k for k in ids])

    def n_parts(self) -> int:
        """Blocks of images."""
        return part_count(self.n_images, IMAGES_PER_PART)

    def declare(self, artefact: Artefact) -> None:
        """Create the array of features."""
        n = self.n_images
        chunks = (min(IMAGES_PER_PART, n), self.width)
        artefact.create_array("features", (n, self.width), "float32", chunks)

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Compute the features of a block of images."""
        import numpy as np

        data = self.data
        model = load_model(self.study.model.name, compute.device)
        ids = image_ids(data)
        rows = part_slice(index, IMAGES_PER_PART, len(ids))
        values = []
        blocks = np.split(ids[rows], range(EXTRACTED_AT_ONCE, len(ids[rows]), EXTRACTED_AT_ONCE))
        for block in blocks:
            images = block.tolist()
            if self.feature == "z":
                seeds = latent_seeds(self.study, [(self.subject, image) for image in images])
                side = self.study.model.latent_size
                values.append(model.image_to_latent(data.images(images), side, seeds))
            else:
                with without_warnings():  # `check` has counted the captions that are cut
                    values.append(model.text_to_context(data.captions(images)))
        part.array("features", rows, np.concatenate(values))

    def cost(self, rates: Rates) -> Cost:
        """Passes of the autoencoder or the text encoder."""
        per_image = rates.latent if self.feature == "z" else CAPTIONS * rates.context
        gb = 4e-9 * self.n_images * self.width
        return Cost(1, 0.0, gb, rates.encoding_gb, self.n_images * per_image)


def category_context(
    model: LatentDiffusion, data: Dataset, images: Sequence[int]
) -> NDArray[np.float32]:
    """Context of the names of the things in pictures as one prompt, largest first, each once: "cat,
    house".
    """
    return model.text_to_context(
        [[", ".join(dict.fromkeys(found))] for found in data.categories(images)]
    )
