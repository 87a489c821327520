"""Features of images and captions for encoding models, beside the z and c of decoding.

All features of one strength come out of one pass over the pictures, an artefact for each name
(:mod:`phosphene.features.names`).

Never more than `KEEP` numbers per picture are kept of a U-Net layer
(:func:`phosphene.models.diffusion.activations.narrow`): 1.3 GB for 10,000 pictures, on disk, and in
memory only while its principal components are taken. A layer as wide as Stable Diffusion's up2
would be 52 GB. Layers that are not wider are kept as they are, and their components are exact.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.data import Dataset
from phosphene.data.trials import image_ids
from phosphene.errors import PhospheneError
from phosphene.features.names import EMPTY, OTHER, OWN_NOISE, Feature, parsed, slug
from phosphene.models.diffusion.configuration import LATENT
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.step import Key, Step, part_count, part_slice
from phosphene.pipeline.store import Artefact, Part
from phosphene.steps.extract import CAPTIONS, IMAGES_PER_PART, Extract, category_context
from phosphene.steps.noise import latent_seeds, noise_seeds
from phosphene.steps.subject import SubjectStep, configuration, load_model
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from phosphene.models.diffusion.model import LatentDiffusion

    Rows = NDArray[np.float32]

KEEP = 65536  # numbers of a U-Net layer that are kept; SD 1.4's narrowest has 81,920
READ_AT_ONCE = 25  # pictures and captions; the model cuts them into its own blocks

_EXTRACTED = ("z", "c")  # by the step that makes them for decoding


@dataclass(frozen=True, eq=False)
class Features(SubjectStep):
    """A feature of every image that was seen; those of one strength come out of one pass.

    - ``c:category``: the context of the names of the things in a picture, largest first, as one
      prompt: "cat, house".
    - ``z:segmentation``: the latent of the picture's semantic map; only for data that have such
      maps.
    - ``zc@s``: the latent of the photograph at the model's own size, noised to strength s and
      denoised with c; ``/step=k``: as it is after k steps. The noise is the same for all pictures,
      or separate for each where `encode.same_noise` is false: that of the first sample of
      :class:`phosphene.steps.reconstruct.Reconstruct`.
    - ``zc:empty@s``, ``zc:other@s``, ``zc:own-noise@s``: the same with the empty text in place of c
      and without guidance, which would change nothing; with the c of another picture; with separate
      noise for each picture.
    - ``unet/layer@s/step=k``: what a block gives in step k for the context (not for the empty
      prompt), before guidance.

    Array `features` (n_images, d) float16, rows as :func:`phosphene.data.trials.image_ids`. The
    manifest's facts tell a layer's full width. Memory beside the model's own: `IMAGES_PER_PART` x
    `KEEP` x 2 bytes (33 MB) for each feature of a pass, and a batch.
    """

    stage: ClassVar[str] = "features"
    sections: ClassVar[tuple[str, ...]] = ("reconstruct", "model")

    feature: Feature

    @property
    def name(self) -> str:
        """Subject and feature."""
        return f"{self.subject}-{slug(self.feature)}"

    @property
    def transient(self) -> bool:
        """A wide feature is needed until its principal components are there."""
        return self.width > self.study.encode.components

    @property
    def denoises(self) -> bool:
        """Whether the U-Net runs."""
        return self.feature.strength is not None

    def settings(self) -> dict[str, Any]:
        """The feature's name, and those of the pass."""
        study = self.study
        settings: dict[str, Any] = {"feature": str(self.feature)}
        if self.feature.kind != "c:category" and study.model.latent != "mean":
            settings |= {"seed": study.seed, **study.settings("model", "latent")}
        if self.feature.kind == "z:segmentation":
            settings |= study.settings("model", "latent_size") | self.size
        if self.denoises:
            settings |= {"seed": study.seed, **study.settings("reconstruct", "steps", "sampler")}
            settings |= {"noise": "same"} if same_noise(study, self.feature) else {}
            if self.feature.kind != EMPTY:
                settings |= study.settings("reconstruct", "guidance")
        return settings

    def inputs(self) -> Mapping[str, Step | Key]:
        """What the pass reads, and its networks."""
        kind = self.feature.kind
        trials = self.key("trials")
        text_encoder = self.network("text_encoder")
        if kind == "c:category":
            categories = self.key("categories")
            return {"categories": categories, "trials": trials, "text_encoder": text_encoder}
        vae = self.network("vae")
        if kind == "z:segmentation":
            return {"segmentation": self.key("segmentation"), "trials": trials, "vae": vae}
        inputs: dict[str, Step | Key] = {
            "images": self.key("images"),
            "trials": trials,
            "vae": vae,
            "unet": self.network("unet"),
            "scheduler": self.network("scheduler"),
            "text_encoder": text_encoder,
        }
        return inputs if kind == EMPTY else {**inputs, "c": self.context}

    @property
    def context(self) -> Extract:
        """The c of all images."""
        return Extract(self.study, self.subject, "c")

    def group(self) -> Hashable:
        """Features of one strength and kind, made with the same settings from the same inputs."""
        settings = {k: v for k, v in self.recipe.settings.items() if k != "feature"}
        # layers of the U-Net are those of zc
        kind = self.feature.kind.replace("unet", "zc")
        inputs = tuple(sorted(self.recipe.inputs.items()))
        own = (self.stage, self.subject, self.feature.strength, kind)
        return (*own, repr(sorted(settings.items())), inputs)

    def check(self, compute: Compute) -> None:
        """Refuse what this model, these settings or these data do not have."""
        feature = self.feature
        study = self.study
        if feature.kind == "z:segmentation" and not hasattr(self.data, "segmentation"):
            raise PhospheneError(
                f"feature 'z:segmentation': {study.data_root} (data.kind {study.data.kind!r}) has "
                "no semantic maps; leave it out, or use data of kind 'nsd'."
            )
        self._check_layer()
        if feature.strength is not None:
            n_steps = _n_steps(study, feature.strength)
            if not (feature.step or 1) <= n_steps:
                raise PhospheneError(
                    f"feature '{feature}': strength {feature.strength} of reconstruct.steps = "
                    f"{study.reconstruct.steps} makes {n_steps} steps; choose a step among them, "
                    "or another strength."
                )
        load_model(study.model.name, compute.device)

    def _check_layer(self) -> None:
        layers = configuration(self.study.model.name).layers
        layer = self.feature.layer
        if layer and layer not in layers:
            raise PhospheneError(
                f"feature '{self.feature}': model {self.study.model.name!r} has no layer "
                f"{layer!r}; choose one of {', '.join(layers)}."
            )

    @property
    def full_width(self) -> int:
        """Numbers per picture before anything is narrowed."""
        model = configuration(self.study.model.name)
        self._check_layer()
        if self.denoises:
            return model.widths[_place(self.feature)]
        if self.feature.kind == "c:category":
            return prod(model.context_shape)
        return prod(model.latent_shape(self.study.model.latent_size))

    @property
    def width(self) -> int:
        """Numbers per picture on disk."""
        return min(self.full_width, KEEP) if self.denoises else self.full_width

    @property
    def n_images(self) -> int:
        """Images that were seen."""
        return len(image_ids(self.data))

    def n_parts(self) -> int:
        """Blocks of images."""
        return part_count(self.n_images, IMAGES_PER_PART)

    def declare(self, artefact: Artefact) -> None:
        """Create the array of features."""
        n = self.n_images
        chunks = (min(IMAGES_PER_PART, n), self.width)
        artefact.create_array("features", (n, self.width), "float16", chunks)

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Make this feature alone."""
        self.make_parts({self: part}, index, compute)

    def make_parts(self, parts: Mapping[Any, Part], index: int, compute: Compute) -> None:
        """Make several features of some images in one pass."""
        import numpy as np

        rows = part_slice(index, IMAGES_PER_PART, self.n_images)
        features = {step.feature: part for step, part in parts.items()}
        for feature, values in _computed(self, rows, list(features), compute).items():
            if not np.isfinite(values).all():
                raise PhospheneError(
                    f"feature '{feature}': found numbers that are not finite or beyond float16's "
                    f"65504 in pictures {rows.start} to {rows.stop - 1} of {self.subject}; try "
                    "--device cpu, or leave this feature out."
                )
            features[feature].array("features", rows, values)

    def facts(self) -> dict[str, Any]:
        """The width before anything was narrowed."""
        return {"full_width": self.full_width}

    def cost(self, rates: Rates) -> Cost:
        """The pass, and this feature's numbers."""
        n = self.n_images
        gb = 2e-9 * n * self.width
        memory = rates.drawing_gb + gb * min(1, IMAGES_PER_PART / n)
        return Cost(1, 0.0, gb, memory, n * self._seconds_of_pass(rates))

    def _seconds_of_pass(self, rates: Rates) -> float:
        """Seconds per picture of a whole pass."""
        if self.feature.strength is None:
            is_context = self.feature.kind == "c:category"
            return CAPTIONS * rates.context if is_context else rates.latent
        n_steps = _n_steps(self.study, self.feature.strength)
        # without guidance: half the rows
        share = 0.5 if self.feature.kind == EMPTY else 1.0
        return rates.latent + n_steps * rates.step * share


def feature_step(study: Study, subject: str, feature: Feature) -> Extract | Features:
    """The step that makes a feature; ``z`` and ``c`` are those that decoding predicts."""
    if feature.kind in _EXTRACTED:
        return Extract(study, subject, feature.kind)
    return Features(study, subject, feature)


def feature_steps(
    study: Study, subject: str, names: Sequence[str | Feature]
) -> list[Extract | Features]:
    """The steps that make some features, one for each name."""
    return [feature_step(study, subject, feature) for feature in parsed(names)]


def same_noise(study: Study, feature: Feature) -> bool:
    """Whether this feature of all pictures starts from the same noise."""
    return study.encode.same_noise and feature.kind != OWN_NOISE


def _place(feature: Feature) -> str:
    return feature.layer or LATENT


def _n_steps(study: Study, strength: float) -> int:
    return configuration(study.model.name).n_steps(study.reconstruct.steps, strength)


def _computed(
    step: Features, rows: slice, features: Sequence[Feature], compute: Compute
) -> dict[Feature, NDArray[np.float16]]:
    """Features of some rows; float16, with infinity for what does not fit."""
    import numpy as np

    if step.denoises:
        return _denoised(step, rows, features, compute)
    data = step.data
    model = load_model(step.study.model.name, compute.device)
    values = []
    for block in _cut(image_ids(data)[rows], READ_AT_ONCE):
        if step.feature.kind == "c:category":
            values.append(category_context(model, data, block.tolist()))
        else:
            side = step.study.model.latent_size or model.size
            maps = data.segmentation(block.tolist(), side)  # type: ignore[attr-defined]
            values.append(model.image_to_latent(maps, side, _latent_seeds(step.study, data, block)))
    return {step.feature: half(np.concatenate(values))}


def _latent_seeds(study: Study, data: Dataset, ids: NDArray[np.int64]) -> list[int] | None:
    return latent_seeds(study, [(data.subject, int(image)) for image in ids])


def _denoised(
    step: Features, rows: slice, features: Sequence[Feature], compute: Compute
) -> dict[Feature, NDArray[np.float16]]:
    import numpy as np

    from phosphene.models.diffusion.activations import Denoising, record

    study = step.study
    data = step.data
    model = load_model(study.model.name, compute.device)
    ids = image_ids(data)[rows]
    strength = step.feature.strength
    assert strength is not None
    last = _n_steps(study, strength)
    moments = {feature: (_place(feature), feature.step or last) for feature in features}
    kind = step.feature.kind
    c = _contexts(step, rows, model)
    z = np.concatenate(
        [
            model.image_to_latent(data.images(block.tolist()), 0, _latent_seeds(study, data, block))
            for block in _cut(ids, READ_AT_ONCE)
        ]
    )
    seeds = noise_seeds(
        study, [(data.subject, int(image), 0, 0) for image in ids], same_noise(study, step.feature)
    )
    settings = study.reconstruct
    guidance = 1.0 if kind == EMPTY else settings.guidance
    how = Denoising(strength, settings.steps, guidance, settings.sampler)
    values: dict[Feature, list[NDArray[np.float16]]] = {feature: [] for feature in features}
    for block in _cut(np.arange(len(ids)), model.batch(compute.batch)):
        block_seeds = [seeds[k] for k in block]
        recorded = record(model, z[block], c[block], block_seeds, how, set(moments.values()), KEEP)
        for feature, moment in moments.items():
            values[feature].append(half(recorded[moment]))
    return {feature: np.concatenate(blocks) for feature, blocks in values.items()}


def _contexts(step: Features, rows: slice, model: LatentDiffusion) -> Rows:
    """Contexts that some pictures are denoised with: their own, the empty text's, or those of other
    pictures.
    """
    import numpy as np

    kind = step.feature.kind
    if kind == EMPTY:
        return np.repeat(model.text_to_context([[""]]), rows.stop - rows.start, axis=0)
    contexts = step.context.artefact.array("features")
    if kind != OTHER:
        return np.asarray(contexts[rows], np.float32)
    n = contexts.shape[0]
    # neighbours stay neighbours: few chunks are read
    half_way_round = (np.arange(rows.start, rows.stop) + n // 2) % n
    return np.asarray(contexts.oindex[half_way_round], np.float32)


def _cut(indices: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    import numpy as np

    return np.split(indices, range(size, len(indices), size))


def half(values: NDArray[np.floating]) -> NDArray[np.float16]:
    """Values at float16; infinity for what does not fit."""
    import numpy as np

    # what does not fit becomes infinite, and is refused
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float16)
