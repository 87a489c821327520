"""Reconstruct: pictures from decoded features."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from phosphene.data.trials import image_ids
from phosphene.errors import PhospheneError
from phosphene.methods import BRAIN, CATEGORY, MEAN, MODE_FEATURES, SHUFFLED
from phosphene.metrics.image_files import opened
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.preparing import resize
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make, part_count, part_slice
from phosphene.pipeline.store import Artefact, Part, Store
from phosphene.steps.decode import decode, decode_recipe
from phosphene.steps.extract import category_context, extract, extract_recipe
from phosphene.steps.noise import latent_seeds, noise_seeds
from phosphene.steps.regression import Rows, mean_features
from phosphene.steps.subject import data_fingerprint, dataset, items, load_model, model_fingerprint
from phosphene.study import Compute, Study

VERSION = 1
ITEMS_PER_PART = 8


def reconstruct_recipe(study: Study, subject: str, mode: str, source: str = BRAIN) -> Recipe:
    """What reconstructions are made from."""
    settings = {"mode": mode, "seed": study.seed, **study.settings("model", "latent_size")}
    settings |= study.settings("reconstruct", "sampler")
    if mode != "z":  # z alone is decoded without drawing any noise
        settings |= study.settings(
            "reconstruct", "samples", "strength", "steps", "guidance", "same_noise"
        )
    if mode == "zc":
        settings |= study.settings("model", "latent")
    inputs = {"model": model_fingerprint(study.model.name)}
    for feature in MODE_FEATURES[mode]:
        if source in (BRAIN, SHUFFLED):
            inputs[feature] = decode_recipe(study, subject, feature, source).hash
        else:
            settings |= study.settings("decode", "leave_out")  # it says which rows there are
            inputs[feature] = extract_recipe(study, subject, feature).hash
    if source in (MEAN, CATEGORY):
        settings["source"], inputs["data"] = source, data_fingerprint(study, subject)
    name = f"{subject}-{mode}" + ("" if source == BRAIN else f"-{source}")
    return Recipe("reconstruct", name, VERSION, settings, inputs)


def reconstruct(
    study: Study, subject: str, mode: str, compute: Compute, source: str = BRAIN
) -> Artefact:
    """Make pictures from decoded features (paper, section C): files ``pictures/item00000_0.png``
    (item, sample).

    Other sources are baselines: "shuffled" (a decoder that was told wrong pictures), "true" (the
    pictures' own features), "mean" (of the training trials, for every item), "category" (mode c:
    names of the things as the prompt).
    """
    if source == CATEGORY and mode != "c":
        raise PhospheneError(
            f"source 'category': found mode {mode!r}, expected 'c'; names say nothing about z."
        )
    for feature in MODE_FEATURES[mode]:
        if source in (BRAIN, SHUFFLED):
            decode(study, subject, feature, compute, source)
        else:
            extract(study, subject, feature, compute)
    n = len(items(study, dataset(study, subject)))
    work = partial(
        _reconstruct_part, study=study, subject=subject, mode=mode, source=source, compute=compute
    )
    return make(
        study,
        reconstruct_recipe(study, subject, mode, source),
        part_count(n, ITEMS_PER_PART),
        work,
        compute,
    )


def _features(study: Study, subject: str, feature: str, source: str, rows: slice) -> Rows:
    """Rows of the features that a reconstruction starts from."""
    if source in (BRAIN, SHUFFLED):
        decoded = Store(study.root).artefact(decode_recipe(study, subject, feature, source))
        return np.asarray(decoded.array("prediction")[rows], np.float32)
    if source == MEAN:
        return _mean_features(study, str(study.root), subject, feature)[rows]
    data = dataset(study, subject)
    true = Store(study.root).artefact(extract_recipe(study, subject, feature))
    wanted = np.searchsorted(image_ids(data), items(study, data)["image"].to_numpy()[rows])
    return np.asarray(true.array("features").oindex[wanted], np.float32)


@cache
def _mean_features(study: Study, root: str, subject: str, feature: str) -> Rows:
    """Rows that know nothing, for all items; a process reads all features once for them (`root` is
    part of the key).
    """
    true = Store(root).artefact(extract_recipe(study, subject, feature))
    return mean_features(study, dataset(study, subject), true.array("features"))


def _reconstruct_part(
    artefact: Artefact,
    index: int,
    *,
    study: Study,
    subject: str,
    mode: str,
    source: str,
    compute: Compute,
) -> None:
    model = load_model(study.model.name, compute.device)
    sampler = study.reconstruct.sampler
    wanted = items(study, dataset(study, subject))
    rows = part_slice(index, ITEMS_PER_PART, len(wanted))
    images = wanted["image"].to_numpy()[rows]
    keys = [
        (subject, int(image), int(run)) for image, run in wanted[["image", "run"]].to_numpy()[rows]
    ]
    z = None
    with artefact.part(index) as part:
        if "z" in MODE_FEATURES[mode]:
            coarse = model.latent_to_image(_features(study, subject, "z", source, rows), sampler)

        def write(made: Callable[[], NDArray[np.uint8]], drawn: Sequence[tuple[int, int]]) -> None:
            for (k, sample), picture in zip(drawn, made(), strict=True):
                name = f"pictures/item{rows.start + k:05d}_{sample}.png"
                _write_picture(part, name, picture, artefact.recipe, int(images[k]))

        if mode == "z":
            write(lambda: resize(coarse, model.size), [(k, 0) for k in range(len(images))])
            return
        if mode == "zc":
            larger = resize(coarse, model.size, Image.Resampling.BICUBIC)
            z = model.image_to_latent(
                larger, sample_seeds=latent_seeds(study, keys, study.reconstruct.same_noise)
            )
        if source == CATEGORY:
            c = category_context(model, dataset(study, subject), images.tolist())
        else:
            c = _features(study, subject, "c", source, rows)
        _sample(model, study, z, c, keys, compute, write)


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
    wanted = [(k, s) for k in range(len(c)) for s in range(settings.samples)]
    if compute.compile:
        model.compile()
    # as many batches, but of equal sizes
    batch = -(-len(wanted) // -(-len(wanted) // model.batch(compute.batch)))
    with ThreadPoolExecutor(1) as writer:
        writing: list[Future[None]] = []
        for start in range(0, len(wanted), batch):
            some = wanted[start : start + batch]
            index = [k for k, _ in some]
            seeds = noise_seeds(study, [(*keys[k], s) for k, s in some], settings.same_noise)
            made = model.denoise_later(
                None if z is None else z[index],
                c[index],
                seeds=seeds,
                sampler=settings.sampler,
                strength=settings.strength,
                steps=settings.steps,
                guidance=settings.guidance,
            )
            for before in writing:
                before.result()  # one batch waits at most; an error ends the part
            writing = [writer.submit(write, made, some)]
        for last in writing:
            last.result()


def _write_picture(
    part: Part, name: str, picture: NDArray[np.uint8], recipe: Recipe, image: int
) -> None:
    """Write a PNG that carries what it was made from."""
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
    count = samples or len(list((artefact.path / "pictures").glob(f"item{rows[0]:05d}_*.png")))
    names = [[f"pictures/item{row:05d}_{sample}.png" for sample in range(count)] for row in rows]
    return np.stack([np.stack([opened(artefact.file(name)) for name in item]) for item in names])
