"""Reconstruct: pictures from decoded features."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.data.trials import image_ids
from phosphene.errors import PhospheneError
from phosphene.methods import BRAIN, CATEGORY, MEAN, MODE_FEATURES, SHUFFLED
from phosphene.pipeline.caches import cached
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import Key, Step, part_count, part_slice
from phosphene.pipeline.store import Artefact, Part
from phosphene.steps.decode import Decode
from phosphene.steps.extract import Extract, category_context
from phosphene.steps.noise import latent_seeds, noise_seeds
from phosphene.steps.subject import SubjectStep, configuration, dataset, items, load_model
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from phosphene.models.diffusion.model import LatentDiffusion

    Rows = NDArray[np.float32]

ITEMS_PER_PART = 8
PICTURE = 4e5  # bytes of a PNG of 512 x 512 pixels


@dataclass(frozen=True, eq=False)
class Reconstruct(SubjectStep):
    """Pictures from decoded features (paper, section C).

    Files ``pictures/item00000_0.png`` (item, sample). Sources beside "brain" are baselines:
    "shuffled" (a decoder trained on shuffled image-trial pairs), "true" (the images' own features),
    "mean" (of the training trials, for every item), "category" (mode c: names of the things as the
    prompt).
    """

    stage: ClassVar[str] = "reconstruct"
    sections: ClassVar[tuple[str, ...]] = ("reconstruct", "model", "decode")

    mode: str
    source: str = BRAIN

    @property
    def name(self) -> str:
        """Subject, mode and, for baselines, the source."""
        return f"{self.subject}-{self.mode}" + ("" if self.source == BRAIN else f"-{self.source}")

    @property
    def from_brain(self) -> bool:
        """Whether features are decoded, if only by the control."""
        return self.source in (BRAIN, SHUFFLED)

    @property
    def features(self) -> tuple[str, ...]:
        """The features that pictures are made from."""
        return MODE_FEATURES[self.mode]

    def settings(self) -> dict[str, Any]:
        """Those of sampling."""
        study = self.study
        settings = {"mode": self.mode, "seed": study.seed, **study.settings("model", "latent_size")}
        settings |= study.settings("reconstruct", "sampler") | self.size
        # z alone is decoded without drawing any noise
        if self.mode != "z":
            names = ("samples", "strength", "steps", "guidance", "same_noise")
            settings |= study.settings("reconstruct", *names)
        if self.mode == "zc":
            settings |= study.settings("model", "latent")
        if not self.from_brain:
            # it says which rows there are
            settings |= study.settings("decode", "leave_out")
        if self.source in (MEAN, CATEGORY):
            settings["source"] = self.source
        return settings

    def source_of(self, feature: str) -> Decode | Extract:
        """The step that a feature comes from."""
        if self.from_brain:
            return Decode(self.study, self.subject, feature, self.source)
        return Extract(self.study, self.subject, feature)

    def inputs(self) -> Mapping[str, Step | Key]:
        """Features, and the networks that make pictures of them."""
        inputs: dict[str, Step | Key] = {"vae": self.network("vae")}
        if self.mode != "z":
            for name in ("unet", "scheduler", "text_encoder"):
                inputs[name] = self.network(name)
        for feature in self.features:
            inputs[feature] = self.source_of(feature)
        if not self.from_brain:
            inputs["trials"] = self.key("trials")
        if self.source == CATEGORY:
            inputs["categories"] = self.key("categories")
        return inputs

    @property
    def n_items(self) -> int:
        """Items that pictures are made of."""
        return len(items(self.study, self.data))

    def check(self, compute: Compute) -> None:
        """Refuse a combination that makes no sense, and load the model."""
        if self.source == CATEGORY and self.mode != "c":
            raise PhospheneError(
                f"source 'category': found mode {self.mode!r}, expected 'c'; names say nothing "
                "about z."
            )
        model = load_model(self.study.model.name, compute.device)
        settings = self.study.reconstruct
        schedule = model.schedule.of(settings.sampler)
        if self.mode == "zc":
            schedule.first(settings.steps, settings.strength)
        elif self.mode == "c":
            schedule.timesteps(settings.steps)

    def n_parts(self) -> int:
        """Blocks of items."""
        return part_count(self.n_items, ITEMS_PER_PART)

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Make the pictures of a block of items."""
        from PIL import Image

        from phosphene.models.preparing import resize

        study = self.study
        model = load_model(study.model.name, compute.device)
        sampler = study.reconstruct.sampler
        table = items(study, self.data)
        rows = part_slice(index, ITEMS_PER_PART, len(table))
        images = table["image"].to_numpy()[rows]
        shown = table[["image", "run"]].to_numpy()[rows]
        keys = [(self.subject, int(image), int(run)) for image, run in shown]
        recipe = part.artefact.recipe
        z = None
        if "z" in self.features:
            coarse = model.latent_to_image(self._rows_of("z", rows), sampler)

        def write(made: Callable[[], Any], drawn: Sequence[tuple[int, int]]) -> None:
            for (k, sample), picture in zip(drawn, made(), strict=True):
                name = f"pictures/item{rows.start + k:05d}_{sample}.png"
                _write_picture(part, name, picture, recipe, int(images[k]))

        if self.mode == "z":
            write(lambda: resize(coarse, model.size), [(k, 0) for k in range(len(images))])
            return
        if self.mode == "zc":
            larger = resize(coarse, model.size, Image.Resampling.BICUBIC)
            seeds = latent_seeds(study, keys, study.reconstruct.same_noise)
            z = model.image_to_latent(larger, sample_seeds=seeds)
        if self.source == CATEGORY:
            c = category_context(model, self.data, images.tolist())
        else:
            c = self._rows_of("c", rows)
        _sample(model, study, z, c, keys, compute, write)

    def _rows_of(self, feature: str, rows: slice) -> Rows:
        """Rows of the features that pictures start from."""
        import numpy as np

        step = self.source_of(feature)
        if isinstance(step, Decode):
            return np.asarray(step.artefact.array("prediction")[rows], np.float32)
        if self.source == MEAN:
            root = str(self.study.root)
            return _mean_features(self.study, root, self.subject, feature)[rows]
        images = items(self.study, self.data)["image"].to_numpy()[rows]
        true = np.searchsorted(image_ids(self.data), images)
        return np.asarray(step.artefact.array("features").oindex[true], np.float32)

    @property
    def samples(self) -> int:
        """Pictures of each item."""
        return 1 if self.mode == "z" else self.study.reconstruct.samples

    def cost(self, rates: Rates) -> Cost:
        """Denoising, and passes of the autoencoder."""
        settings = self.study.reconstruct
        share = settings.strength if "z" in self.features else 1.0
        n_steps = 0.0 if self.mode == "z" else settings.steps * share
        passes = 2 if "z" in self.features else 1
        seconds = self.n_items * (self.samples * n_steps * rates.step + passes * rates.latent)
        files = self.n_items * self.samples
        size = PICTURE * (configuration(self.study.model.name).size / 512) ** 2
        return Cost(files, 0.0, files * size / 1e9, rates.drawing_gb, seconds)


@cached
def _mean_features(study: Study, root: str, subject: str, feature: str) -> Rows:
    """Mean features of the training trials for all items; a process reads all features once for
    them (`root` is part of the key).
    """
    from phosphene.steps.regression import mean_features

    true = Extract(study, subject, feature).artefact
    return mean_features(study, dataset(study, subject), true.array("features"))


def _sample(
    model: LatentDiffusion,
    study: Study,
    z: Rows | None,
    c: Rows,
    keys: list[tuple[str, int, int]],
    compute: Compute,
    write: Callable[..., None],
) -> None:
    """Draw all samples of some items, known by their `keys`, and write each batch while the next
    one is made.
    """
    settings = study.reconstruct
    pictures = [(k, s) for k in range(len(c)) for s in range(settings.samples)]
    if compute.compile:
        model.compile()
    # as many batches, but of equal sizes
    batch = -(-len(pictures) // -(-len(pictures) // model.batch(compute.batch)))
    with ThreadPoolExecutor(1) as writer:
        writing: list[Future[None]] = []
        for start in range(0, len(pictures), batch):
            block = pictures[start : start + batch]
            index = [k for k, _ in block]
            seeds = noise_seeds(study, [(*keys[k], s) for k, s in block], settings.same_noise)
            made = model.denoise_later(
                None if z is None else z[index],
                c[index],
                seeds=seeds,
                sampler=settings.sampler,
                strength=settings.strength,
                steps=settings.steps,
                guidance=settings.guidance,
            )
            # one batch waits at most; an error ends the part
            for before in writing:
                before.result()
            writing = [writer.submit(write, made, block)]
        for last in writing:
            last.result()


def _write_picture(
    part: Part, name: str, picture: NDArray[np.uint8], recipe: Recipe, image: int
) -> None:
    """Write a PNG that carries what it was made from."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    stream = io.BytesIO()
    about.add_text(
        "phosphene",
        json.dumps({"recipe": json.loads(recipe.canonical), "hash": recipe.hash, "image": image}),
    )
    Image.fromarray(picture).save(stream, "PNG", pnginfo=about)
    part.file(name, stream.getvalue())


def pictures(
    artefact: Artefact, rows: Sequence[int], samples: int | None = None
) -> NDArray[np.uint8]:
    """Read some items' pictures, uint8 (n_rows, n_samples, height, width, 3); by default all
    samples.
    """
    import numpy as np

    from phosphene.metrics.image_files import opened

    count = samples or len(list((artefact.path / "pictures").glob(f"item{rows[0]:05d}_*.png")))
    names = [[f"pictures/item{row:05d}_{sample}.png" for sample in range(count)] for row in rows]
    return np.stack([np.stack([opened(artefact.file(name)) for name in item]) for item in names])
