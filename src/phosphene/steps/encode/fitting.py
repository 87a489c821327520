"""Decompositions and voxels -> maps, one block of voxels after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from phosphene.data.scans import Scans
from phosphene.data.trials import average_repeats, train_trials
from phosphene.encoding.models import Floats, Model, mixes
from phosphene.errors import PhospheneError
from phosphene.numerics import correlation, ridge
from phosphene.numerics.ridge import Decomposition, RidgeCV
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make, part_count, part_slice
from phosphene.pipeline.store import Artefact, Store
from phosphene.steps.betas import VOXELS_PER_CHUNK, assembled, betas, betas_recipe
from phosphene.steps.encode.factors import (
    Design,
    design,
    estimator,
    factors,
    factors_recipe,
    images_of,
    model_name,
)
from phosphene.steps.regression import Rows
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


@dataclass(frozen=True)
class Voxels:
    """Responses of a block of voxels that have data in every session.

    Attributes
    ----------
    train : ndarray of float32, (n_train_images, v)
        Averaged over trials, centred on all training trials, rows weighted as :class:`Design`.
    test : ndarray of float64, (n_test_images, v)
        Averaged over trials; the mean of the training trials taken off.
    covered : ndarray of bool, (n_voxels of the block,)
    """

    train: Rows
    test: Floats
    covered: NDArray[np.bool_]

    def spread(self, values: Floats) -> Floats:
        """Put values of the covered voxels, (..., v), at their places among all of the block; NaN
        elsewhere.
        """
        whole = np.full((*values.shape[:-1], len(self.covered)), np.nan)
        whole[..., self.covered] = values
        return whole


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


@dataclass
class _Best:
    """The best mix so far for every voxel, by cross-validation: what it predicts, space by
    space.
    """

    score: Floats
    alpha: Floats
    mix: Floats
    parts: Floats  # (n_spaces, n_test, v)

    @classmethod
    def none(cls, n_spaces: int, n_test: int, v: int) -> _Best:
        return cls(
            np.full(v, -np.inf),
            np.ones(v),
            np.zeros((n_spaces, v)),
            np.zeros((n_spaces, n_test, v)),
        )

    def improve(self, score: Floats, alpha: Floats, mix: Floats, parts: Floats) -> None:
        better = score > self.score
        self.score[better] = score[better]
        self.alpha[better] = alpha[better]
        self.mix[:, better] = mix[:, None]
        self.parts[:, :, better] = parts[:, :, better]


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


def fit_block(
    known: Design,
    voxels: Voxels,
    shares: Floats,
    ridge_cv: RidgeCV,
    decomposed: Callable[[int], Decomposition],
) -> dict[str, Floats]:
    """Choose mix and penalty for every voxel of a block, predict its responses to the test pictures
    and score them.

    Parameters
    ----------
    known : Design
    voxels : Voxels
    shares : ndarray, (n_mixes, n_spaces)
        As :func:`phosphene.encoding.models.mixes` gives them.
    ridge_cv : RidgeCV
        Its settings.
    decomposed : callable
        Gives the decomposition of mix k of ``known.train``.

    Returns
    -------
    dict of str to ndarray
        The arrays of :func:`encode`, without voxels that are not covered.
    """
    b = shares.shape[1]
    (n_test, v) = voxels.test.shape
    best = _Best.none(b, n_test, v)
    without = [_Best.none(b, n_test, v) for _ in range(b if b > 1 else 0)]
    for index, mix in enumerate(shares):
        fitted = clone(ridge_cv).fit(decomposed(index), voxels.train)
        coef = fitted.coef_
        test = known.mixed(mix, known.test)
        parts = np.zeros((b, n_test, v))
        for space, rows in known.parts(mix).items():
            parts[space] = test[:, rows] @ coef[rows]
        found = fitted.cv_scores_.max(axis=0), fitted.best_alphas_, mix, parts
        best.improve(*found)
        for space, left_out in enumerate(without):
            if mix[space] == 0:
                left_out.improve(*found)
    prediction = best.parts.sum(axis=0)
    r = correlation.correlation(voxels.test, prediction)
    r2 = correlation.r2(voxels.test, prediction)
    results = {"r": r, "r2": r2, "alpha": best.alpha, "prediction": prediction}
    if b > 1:
        rest = np.array([left_out.parts.sum(axis=0) for left_out in without])
        lost = [r2 - correlation.r2(voxels.test, predicted) for predicted in rest]
        product = ridge.product_measure(voxels.test, best.parts)
        results |= {"mix": best.mix, "unique": np.array(lost), "product": product, "without": rest}
    return results
