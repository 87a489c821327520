"""Decode: z and c predicted from brain activity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from phosphene.data.trials import image_ids
from phosphene.errors import without_warnings
from phosphene.methods import BRAIN, SHUFFLED
from phosphene.numerics import ridge
from phosphene.numerics.correlation import correlation
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make, part_count, part_slice
from phosphene.pipeline.store import Artefact, Store
from phosphene.steps.betas import betas, responses, roi_name
from phosphene.steps.decompose import decompose, decompose_recipe
from phosphene.steps.extract import extract, extract_recipe
from phosphene.steps.regression import predict
from phosphene.steps.subject import data_fingerprint, dataset, items
from phosphene.study import Compute, Study

VERSION = 3
TARGETS_PER_PART = 4096


def decode_recipe(
    study: Study, subject: str, feature: str, source: str = BRAIN, rois: Sequence[str] = ()
) -> Recipe:
    """What predicted features are made from; `rois` in place of the study's own answers "which part
    knows it?".
    """
    own = getattr(study.decode, feature).rois
    # the study's own regions are one artefact, whoever asks
    rois = () if tuple(rois) == own else tuple(rois)
    settings = study.settings(
        "decode",
        "preset",
        "alphas",
        "cv",
        "grouped",
        "standardize",
        "intercept",
        "scoring",
        "leave_out",
    )
    settings |= {"rois": list(rois or own), **study.settings("data", "zscore")}
    if source == SHUFFLED:
        settings |= {"shuffled": study.seed}
    name = roi_name(f"{subject}-{feature}" + ("-shuffled" if source == SHUFFLED else ""), rois)
    inputs = {
        "features": extract_recipe(study, subject, feature).hash,
        "data": data_fingerprint(study, subject),
    }
    return Recipe("decode", name, VERSION, settings, inputs)


def decode(
    study: Study,
    subject: str,
    feature: str,
    compute: Compute,
    source: str = BRAIN,
    rois: Sequence[str] = (),
) -> Artefact:
    """Predict features from brain activity with ridge regression (paper, section C).

    Arrays: `prediction` (n_items, d), `best_alphas` (d,), `r` (d,), the correlation over items
    between predicted and true features, and `ceiling` (d,), what r would be if only the scans were
    noisy. Rows are those of :func:`items`. With `source` "shuffled" the pairing of brain and
    picture is broken in the training data: the control that must fail.
    """
    recipe = decode_recipe(study, subject, feature, source, rois)
    chosen = rois or getattr(study.decode, feature).rois
    n = len(items(study, dataset(study, subject)))
    if not Store(study.root).artefact(recipe).done:
        # first, so that a region is refused before anything is written
        betas(study, subject, chosen, compute)
    features = extract(study, subject, feature, compute)
    if study.decode.leave_out != "run" and not Store(study.root).artefact(recipe).done:
        decompose(study, subject, chosen, compute)
    width = features.array("features").shape[1]

    def prepare(artefact: Artefact) -> None:
        block = min(TARGETS_PER_PART, width)
        artefact.create_array("prediction", (n, width), "float32", (n, block))
        for name in ("best_alphas", "r", "ceiling"):
            artefact.create_array(name, (width,), "float64", (block,))

    work = partial(
        _decode_part, study=study, subject=subject, feature=feature, source=source, rois=tuple(rois)
    )
    return make(study, recipe, part_count(width, TARGETS_PER_PART), work, compute, prepare)


def _decode_part(
    artefact: Artefact,
    index: int,
    *,
    study: Study,
    subject: str,
    feature: str,
    source: str,
    rois: tuple[str, ...],
) -> None:
    data = dataset(study, subject)
    wanted = items(study, dataset(study, subject))
    features = Store(study.root).artefact(extract_recipe(study, subject, feature)).array("features")
    columns = part_slice(index, TARGETS_PER_PART, features.shape[1])
    Y = np.asarray(features[:, columns], np.float32)
    chosen = rois or getattr(study.decode, feature).rois
    parts = None
    truth = Y[np.searchsorted(image_ids(data), wanted["image"].to_numpy())]
    with artefact.part(index) as part:
        if study.decode.leave_out != "run":
            decomposed = Store(study.root).artefact(decompose_recipe(study, subject, chosen))
            parts = ridge.load(decomposed.file("decomposition.safetensors"))
        # the decomposition said it
        with without_warnings(bool(rois) or source == SHUFFLED or parts is not None):
            X = responses(study, subject, chosen)
        with without_warnings(bool(rois) or source == SHUFFLED):
            found = predict(study, data, X, Y, source == SHUFFLED, parts)
        part.array("prediction", (slice(0, len(wanted)), columns), found.prediction)
        part.array("best_alphas", columns, found.alphas)
        part.array("ceiling", columns, found.ceiling)
        part.array("r", columns, correlation(truth, found.prediction, axis=0))
