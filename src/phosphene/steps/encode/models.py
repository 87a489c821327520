"""Encode: a model fitted to every voxel, one block of voxels after the other."""

from __future__ import annotations

from functools import partial

import numpy as np

from phosphene.data.scans import Scans
from phosphene.data.trials import average_repeats, images_of, train_trials
from phosphene.encoding.fitting import Voxels, fit_block
from phosphene.encoding.models import Model, mixes
from phosphene.errors import PhospheneError
from phosphene.numerics import ridge
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make, part_count, part_slice
from phosphene.pipeline.store import Artefact, Store
from phosphene.steps.betas import VOXELS_PER_CHUNK, assembled, betas, betas_recipe
from phosphene.steps.encode.factors import design, estimator, factors, factors_recipe, model_name
from phosphene.steps.subject import dataset
from phosphene.study import Compute, Study

VERSION = 1  # of models of one space
VERSION_OF_SEVERAL = 2
PREDICTIONS = ("prediction", "without")  # arrays that are kept in float16


def encode_recipe(study: Study, subject: str, model: Model) -> Recipe:
    """What the maps of a model are made from."""
    settings = {"rois": list(study.encode.rois), **study.settings("data", "zscore")}
    inputs = {
        "factors": factors_recipe(study, subject, model).hash,
        "betas": betas_recipe(study, subject, study.encode.rois).hash,
    }
    version = VERSION if len(model.spaces) == 1 else VERSION_OF_SEVERAL
    return Recipe("encode", model_name(subject, model), version, settings, inputs)


def encode(study: Study, subject: str, model: Model, compute: Compute) -> Artefact:
    """Fit a model to every voxel and test it on the averaged responses to the test pictures.

    Arrays over voxels (rows of the table `voxels` of the artefact of the betas): `r`, `r2`, `alpha`
    (n_voxels,); for several spaces `mix`, `unique` (R² lost without the space), `product` (its part
    of R²: product measure), all (n_spaces, n_voxels); `prediction` (n_test_images, n_voxels)
    float16, and for several spaces `without` (n_spaces, n_test_images, n_voxels), what is predicted
    without each. NaN where a voxel has no data in some session. Memory of a part: the responses of
    `VOXELS_PER_CHUNK` voxels, one decomposition, one block of coefficients.
    """
    data = dataset(study, subject)
    if not isinstance(data, Scans):
        raise PhospheneError(
            f"encode: data.kind is {study.data.kind!r}, expected scans of a whole brain (nsd, "
            "laion)."
        )
    artefact = Store(study.root).artefact(encode_recipe(study, subject, model))
    if artefact.done:
        return artefact
    table = betas(study, subject, study.encode.rois, compute)
    assert table is not None
    factors(study, subject, model, compute)
    n = len(table.table("voxels"))
    b = len(model.spaces)
    tested = len(images_of(data)[2])
    block = min(VOXELS_PER_CHUNK, n)

    def prepare(artefact: Artefact) -> None:
        for name in ("r", "r2", "alpha"):
            artefact.create_array(name, (n,), "float32", (block,))
        for name in ("mix", "unique", "product") if b > 1 else ():
            artefact.create_array(name, (b, n), "float32", (b, block))
        artefact.create_array("prediction", (tested, n), "float16", (tested, block))
        if b > 1:
            artefact.create_array("without", (b, tested, n), "float16", (1, tested, block))

    work = partial(_encode_part, study=study, subject=subject, model=model)
    return make(study, artefact.recipe, part_count(n, VOXELS_PER_CHUNK), work, compute, prepare)


def read_voxels(study: Study, subject: str, columns: slice) -> Voxels:
    """Read a block of voxels out of the stage betas, one session after the other."""
    data = dataset(study, subject)
    assert isinstance(data, Scans)
    taught, _ = train_trials(data)
    found, covered = assembled(study, data, study.encode.rois, columns)
    counts = images_of(data)[1]
    shown = data.trials["image"].to_numpy()
    mean = found[taught].mean(axis=0, dtype=np.float64)
    train = (average_repeats(found[taught], shown[taught]).betas - mean) * np.sqrt(counts)[:, None]
    test = average_repeats(found[~taught], shown[~taught]).betas - mean
    return Voxels(train.astype(np.float32), test, covered)


def _encode_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, model: Model
) -> None:
    n = artefact.array("r").shape[0]
    columns = part_slice(index, VOXELS_PER_CHUNK, n)
    store = Store(study.root).artefact(factors_recipe(study, subject, model))
    with artefact.part(index) as part:
        voxels = read_voxels(study, subject, columns)
        known = design(study, subject, model)
        shares = mixes(len(model.spaces), study.encode.mixes)
        found = fit_block(
            known,
            voxels,
            shares,
            estimator(study),
            lambda k: ridge.load(store.file(f"mix{k:02d}.safetensors")),
        )
        for name, values in found.items():
            whole = voxels.spread(values)
            where = (*(slice(0, length) for length in values.shape[:-1]), columns)
            part.array(name, where, whole.astype("float16" if name in PREDICTIONS else "float32"))
