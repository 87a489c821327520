"""Features of images and captions for encoding models, beside the z and c of decoding.

All features of one strength come out of one pass over the pictures, an artefact for each name
(:mod:`phosphene.features.names`).

Never more than `KEEP` numbers per picture are kept of a U-Net layer
(:func:`phosphene.models.diffusion.activations.narrow`): 1.3 GB for 10,000 pictures, on disk, and in
memory only while its principal components are taken. A layer as wide as Stable Diffusion's up2
would be 52 GB. Layers that are not wider are kept as they are, and their components are exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.data import Dataset
from phosphene.data.trials import image_ids
from phosphene.errors import PhospheneError
from phosphene.features.names import EMPTY, OTHER, OWN_NOISE, Feature, parsed, slug
from phosphene.models.diffusion.activations import Denoising, record
from phosphene.models.diffusion.configuration import LATENT
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.pipeline.parallel import run_parts
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.store import Artefact, Store
from phosphene.steps.extract import IMAGES_PER_PART, category_context, extract, extract_recipe
from phosphene.steps.noise import latent_seeds, noise_seeds
from phosphene.steps.regression import Rows
from phosphene.steps.subject import (
    configuration,
    data_fingerprint,
    dataset,
    load_model,
    model_fingerprint,
)
from phosphene.study import Compute, Study

VERSION = 1
KEEP = 65536  # numbers of a U-Net layer that are kept; SD 1.4's narrowest has 81,920
READ_AT_ONCE = 25  # pictures and captions; the model cuts them into its own blocks

_EXTRACTED = ("z", "c")  # by the stage that makes them for decoding


# Pictures and captions -> features


def feature_recipe(study: Study, subject: str, feature: Feature) -> Recipe:
    """What a feature of all seen pictures is made from; ``z`` and ``c`` are those that decoding
    predicts.
    """
    if feature.kind in _EXTRACTED:
        return extract_recipe(study, subject, feature.kind)
    inputs = {
        "data": data_fingerprint(study, subject),
        "model": model_fingerprint(study.model.name),
    }
    settings: dict[str, Any] = {"feature": str(feature)}
    if feature.kind != "c:category" and study.model.latent != "mean":
        settings |= {"seed": study.seed, **study.settings("model", "latent")}
    if feature.kind == "z:segmentation":
        settings |= study.settings("model", "latent_size")
    if feature.strength is not None:
        settings |= {"seed": study.seed, **study.settings("reconstruct", "steps", "sampler")}
        settings |= {"noise": "same"} if same_noise(study, feature) else {}
    if feature.strength is not None and feature.kind != EMPTY:
        settings |= study.settings("reconstruct", "guidance")
        inputs["c"] = extract_recipe(study, subject, "c").hash
    return Recipe("features", f"{subject}-{slug(feature)}", VERSION, settings, inputs)


def same_noise(study: Study, feature: Feature) -> bool:
    """Whether this feature of all pictures starts from the same noise."""
    return study.encode.same_noise and feature.kind != OWN_NOISE


def features(
    study: Study, subject: str, names: Sequence[str | Feature], compute: Compute
) -> list[Artefact]:
    """Compute features of every seen picture, those of one strength in one pass.

    - ``c:category``: the context of the names of the things in a picture, largest first, as one
      prompt: "cat, house".
    - ``z:segmentation``: the latent of the picture's semantic map; only for data that have such
      maps.
    - ``zc@s``: the latent of the photograph at the model's own size, noised to strength s and
      denoised with c; ``/step=k``: as it is after k steps. The noise is the same for all pictures,
      or separate for each where `encode.same_noise` is false: that of the first sample of
      :func:`phosphene.steps.reconstruct.reconstruct`.
    - ``zc:empty@s``, ``zc:other@s``, ``zc:own-noise@s``: the same with the empty text in place of c
      and without guidance, which would change nothing; with the c of another picture; with separate
      noise for each picture.
    - ``unet/layer@s/step=k``: what a block gives in step k for the context (not for the empty
      prompt), before guidance.

    Memory beside the model's own: `IMAGES_PER_PART` x `KEEP` x 2 bytes (33 MB) for each feature of
    a pass, and a batch.

    Returns
    -------
    list of Artefact
        One for each name, with the array `features` (n_images, d), rows as :func:`image_ids`:
        float16, but ``z`` and ``c``, which :func:`phosphene.steps.extract.extract` makes in
        float32. The manifest's facts tell a layer's full width.
    """
    asked = parsed(names)
    store = Store(study.root)
    artefacts = {
        feature: store.artefact(feature_recipe(study, subject, feature)) for feature in asked
    }
    todo = [f for f in artefacts if f.kind not in _EXTRACTED and not artefacts[f].done]
    if todo:
        _check(study, dataset(study, subject), todo)
    for feature in artefacts:
        if feature.kind in _EXTRACTED:
            extract(study, subject, feature.kind, compute)
    for group in passes(todo):
        _run_pass(study, subject, group, compute)
    return [artefacts[feature] for feature in asked]


def passes(wanted: Sequence[Feature]) -> list[list[Feature]]:
    """Group features by what is computed together."""
    groups: dict[object, list[Feature]] = defaultdict(list)
    for feature in wanted:
        # layers of the U-Net are those of zc
        groups[feature.strength, feature.kind.replace("unet", "zc")].append(feature)
    return list(groups.values())


def _place(feature: Feature) -> str:
    return feature.layer or LATENT


def _n_steps(study: Study, strength: float) -> int:
    return configuration(study.model.name).n_steps(study.reconstruct.steps, strength)


def _check(study: Study, data: Dataset, asked: Sequence[Feature]) -> None:
    """Refuse, before anything is computed, what this model, these settings or these data do not
    have.
    """
    layers = configuration(study.model.name).layers
    for feature in asked:
        if feature.kind == "z:segmentation" and not hasattr(data, "segmentation"):
            raise PhospheneError(
                f"feature 'z:segmentation': {study.data_root} (data.kind {study.data.kind!r}) has "
                "no semantic maps; "
                "leave it out, or use data of kind 'nsd'."
            )
        if feature.layer and feature.layer not in layers:
            raise PhospheneError(
                f"feature '{feature}': model {study.model.name!r} has no layer {feature.layer!r}; "
                f"choose one of {', '.join(layers)}."
            )
        if feature.strength is not None:
            made = _n_steps(study, feature.strength)
            if not (feature.step or 1) <= made:
                raise PhospheneError(
                    f"feature '{feature}': strength {feature.strength} of reconstruct.steps = "
                    f"{study.reconstruct.steps} makes {made} steps; choose a step among them, or "
                    "another strength."
                )


def _run_pass(study: Study, subject: str, group: Sequence[Feature], compute: Compute) -> None:
    """Make the parts that are missing of features that are computed together, and finish them."""
    if group[0].strength is not None and group[0].kind != EMPTY:
        extract(study, subject, "c", compute)
    load_model(study.model.name, compute.device)  # refused before anything is written
    n = len(image_ids(dataset(study, subject)))
    full = _widths(study, group)
    kept = kept_widths(study, group)
    artefacts = {
        feature: Store(study.root).artefact(feature_recipe(study, subject, feature))
        for feature in group
    }
    todo: dict[int, list[Feature]] = defaultdict(list)
    for feature, artefact in artefacts.items():
        artefact.create_array(
            "features", (n, kept[feature]), "float16", (min(IMAGES_PER_PART, n), kept[feature])
        )
        for index in artefact.missing(-(-n // IMAGES_PER_PART)):
            todo[index].append(feature)
    work = partial(_features_part, study=study, subject=subject, todo=dict(todo), compute=compute)
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    run_parts(work, sorted(todo), compute, f"features {subject} {group[0]}{more}")
    for feature, artefact in artefacts.items():
        artefact.finish(facts={"full_width": full[feature]})


def _widths(study: Study, features: Sequence[Feature]) -> dict[Feature, int]:
    """Numbers per picture before anything is narrowed."""
    model = configuration(study.model.name)
    latent = prod(model.latent_shape(study.model.latent_size))
    context = prod(model.context_shape)
    plain = {"c": context, "c:category": context, "z": latent, "z:segmentation": latent}
    return {
        feature: model.widths[_place(feature)]
        if feature.strength is not None
        else plain[feature.kind]
        for feature in features
    }


def kept_widths(study: Study, features: Sequence[Feature]) -> dict[Feature, int]:
    """Numbers per picture of each feature as it is on disk."""
    full = _widths(study, features)
    return {
        feature: min(full[feature], KEEP) if feature.strength else full[feature]
        for feature in features
    }


def _features_part(
    index: int,
    *,
    study: Study,
    subject: str,
    todo: Mapping[int, Sequence[Feature]],
    compute: Compute,
) -> None:
    data = dataset(study, subject)
    wanted = todo[index]
    rows = slice(index * IMAGES_PER_PART, min((index + 1) * IMAGES_PER_PART, len(image_ids(data))))
    with ExitStack() as stack:
        parts = {}
        for feature in wanted:
            artefact = Store(study.root).artefact(feature_recipe(study, subject, feature))
            parts[feature] = stack.enter_context(artefact.part(index))
        for feature, values in _computed(study, data, rows, wanted, compute).items():
            if not np.isfinite(values).all():
                raise PhospheneError(
                    f"feature '{feature}': found numbers that are not finite or beyond float16's "
                    "65504 in pictures "
                    f"{rows.start} to {rows.stop - 1} of {subject}; try --device cpu, or leave "
                    "this feature out."
                )
            parts[feature].array("features", rows, values)


def _computed(
    study: Study, data: Dataset, rows: slice, wanted: Sequence[Feature], compute: Compute
) -> dict[Feature, NDArray[np.float16]]:
    """Features of some rows; float16, with infinity for what does not fit."""
    model = load_model(study.model.name, compute.device)
    ids = image_ids(data)[rows]
    kind = wanted[0].kind
    if wanted[0].strength is not None:
        return _denoised(study, data, rows, wanted, compute)
    values = []
    for some in _cut(ids, READ_AT_ONCE):
        if kind == "c:category":
            values.append(category_context(model, data, some.tolist()))
        else:
            side = study.model.latent_size or model.size
            maps = data.segmentation(some.tolist(), side)  # type: ignore[attr-defined]
            values.append(model.image_to_latent(maps, side, _latent_seeds(study, data, some)))
    return {wanted[0]: half(np.concatenate(values))}


def _latent_seeds(study: Study, data: Dataset, ids: NDArray[np.int64]) -> list[int] | None:
    return latent_seeds(study, [(data.subject, int(image)) for image in ids])


def _denoised(
    study: Study, data: Dataset, rows: slice, wanted: Sequence[Feature], compute: Compute
) -> dict[Feature, NDArray[np.float16]]:
    model = load_model(study.model.name, compute.device)
    ids = image_ids(data)[rows]
    strength = wanted[0].strength
    assert strength is not None
    last = _n_steps(study, strength)
    moments = {feature: (_place(feature), feature.step or last) for feature in wanted}
    kind = wanted[0].kind
    c = _contexts(study, data, rows, kind, model)
    z = np.concatenate(
        [
            model.image_to_latent(data.images(some.tolist()), 0, _latent_seeds(study, data, some))
            for some in _cut(ids, READ_AT_ONCE)
        ]
    )
    seeds = noise_seeds(
        study, [(data.subject, int(image), 0, 0) for image in ids], same_noise(study, wanted[0])
    )
    settings = study.reconstruct
    how = Denoising(
        strength, settings.steps, 1.0 if kind == EMPTY else settings.guidance, settings.sampler
    )
    found: dict[Feature, list[NDArray[np.float16]]] = {feature: [] for feature in wanted}
    for some in _cut(np.arange(len(ids)), model.batch(compute.batch)):
        seen = record(
            model, z[some], c[some], [seeds[k] for k in some], how, set(moments.values()), KEEP
        )
        for feature, moment in moments.items():
            found[feature].append(half(seen[moment]))
    return {feature: np.concatenate(values) for feature, values in found.items()}


def _contexts(study: Study, data: Dataset, rows: slice, kind: str, model: LatentDiffusion) -> Rows:
    """Contexts that some pictures are denoised with: their own, the empty text's, or those of other
    pictures.
    """
    if kind == EMPTY:
        return np.repeat(model.text_to_context([[""]]), rows.stop - rows.start, axis=0)
    contexts = (
        Store(study.root).artefact(extract_recipe(study, data.subject, "c")).array("features")
    )
    if kind != OTHER:
        return np.asarray(contexts[rows], np.float32)
    n = contexts.shape[0]
    half_way_round = (
        np.arange(rows.start, rows.stop) + n // 2
    ) % n  # neighbours stay neighbours: few chunks are read
    return np.asarray(contexts.oindex[half_way_round], np.float32)


def _cut(indices: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return np.split(indices, range(size, len(indices), size))


def half(values: NDArray[np.floating]) -> NDArray[np.float16]:
    """Values at float16; infinity for what does not fit."""
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
        return np.asarray(values, np.float16)
