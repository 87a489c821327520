"""Betas: responses of some regions, taken out of the scans of all sessions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from phosphene.data.scans import Scans
from phosphene.data.trials import assemble, warn_uncovered
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact, Store
from phosphene.steps.regression import Rows
from phosphene.steps.subject import data_fingerprint, dataset
from phosphene.study import Compute, Study

VERSION = 1
VOXELS_PER_CHUNK = 4096


def betas_recipe(study: Study, subject: str, rois: Sequence[str]) -> Recipe:
    """What the responses of some regions are made from."""
    inputs = {"data": data_fingerprint(study, subject)}
    return Recipe("betas", roi_name(subject, rois), VERSION, {"rois": list(rois)}, inputs)


def roi_name(subject: str, rois: Sequence[str]) -> str:
    return "-".join([subject, *(roi.replace("/", "_").replace("+", "plus") for roi in rois)])[:100]


def betas(study: Study, subject: str, rois: Sequence[str], compute: Compute) -> Artefact | None:
    """Take the responses of some regions out of the files of all sessions, once; None where data
    are small.

    Arrays `betas/session01`, ... (n_trials of the session, n_voxels) as stored: in NSD int16, 300
    times percent signal change. Table `voxels`: where every column lies.
    """
    data = dataset(study, subject)
    if not isinstance(data, Scans):
        return None
    n_voxels = len(data.voxels(rois, uncovered="nan"))

    def prepare(artefact: Artefact) -> None:
        for session, n in data.trials["session"].value_counts().items():
            chunks = (n, min(VOXELS_PER_CHUNK, n_voxels))
            artefact.create_array(session_array(session), (n, n_voxels), data.dtype, chunks)

    work = partial(_betas_part, study=study, subject=subject, rois=tuple(rois))
    return make(
        study, betas_recipe(study, subject, rois), len(data.sessions), work, compute, prepare
    )


def _betas_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, rois: tuple[str, ...]
) -> None:
    data = dataset(study, subject)
    assert isinstance(data, Scans)
    session = data.sessions[index]
    with artefact.part(index) as part:
        values = data.stored(rois, session)
        part.array(session_array(session), slice(0, len(values)), values)
        if index == 0:
            part.table("voxels", data.voxels(rois, uncovered="nan"))


def session_array(number: int) -> str:
    """Name of the array of one session's responses in the stage betas."""
    return f"betas/session{number:02d}"


def responses(study: Study, subject: str, rois: Sequence[str]) -> Rows:
    """Read what :func:`betas` took: z-scored, (n_trials, n_voxels with data in every session)."""
    data = dataset(study, subject)
    if not isinstance(data, Scans):
        return data.betas(rois, zscore=study.data.zscore)
    found, covered = assembled(study, data, rois)
    warn_uncovered(covered, subject, study.data_root)
    return found


def assembled(
    study: Study, data: Scans, rois: Sequence[str], columns: slice = slice(None)
) -> tuple[Rows, NDArray[np.bool_]]:
    """Read some voxels of what :func:`betas` took, one session after the other, standardised.

    Returns
    -------
    responses : ndarray of float32, (n_trials, n_voxels with data in every session)
    covered : ndarray of bool, (n_voxels,)
    """
    artefact = Store(study.root).artefact(betas_recipe(study, data.subject, rois))
    arrays = [artefact.array(session_array(number)) for number in data.sessions]
    train = data.trials["split"] == "train"
    n_voxels = len(range(*columns.indices(arrays[0].shape[1])))
    blocks = (np.asarray(array[:, columns]) for array in arrays)
    return assemble(blocks, (len(train), n_voxels), train.to_numpy(), study.data.zscore, data.scale)
