"""Betas: responses of some regions, taken out of the scans of all sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.data.scans import Scans
from phosphene.data.trials import assemble, warn_uncovered
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.step import Key, Step
from phosphene.pipeline.store import Artefact, Part
from phosphene.steps.subject import SubjectStep, data_key, dataset
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

VOXELS_PER_CHUNK = 4096
PLACE = ["x", "y", "z", "ncsnr"]


@dataclass(frozen=True, eq=False)
class Betas(SubjectStep):
    """Responses of some regions, taken out of the files of all sessions once.

    Arrays `betas/session01`, ... (n_trials of the session, n_voxels) as stored: in NSD int16, 300
    times percent signal change. Table `voxels`: x, y, z (0-based) and ncsnr of every column.
    """

    stage: ClassVar[str] = "betas"

    rois: tuple[str, ...]

    @property
    def name(self) -> str:
        """Subject and regions."""
        return roi_name(self.subject, self.rois)

    def settings(self) -> dict[str, Any]:
        """The regions."""
        return {"rois": list(self.rois)}

    def inputs(self) -> Mapping[str, Step | Key]:
        """Scans, sessions, where the regions lie, and noise ceilings."""
        return {
            "betas": self.key("betas"),
            "trials": self.key("trials"),
            "regions": self.key("regions", self.rois),
            "ncsnr": self.key("ncsnr"),
        }

    @property
    def scans(self) -> Scans:
        """The subject's data, which are scans."""
        data = self.data
        assert isinstance(data, Scans)
        return data

    @property
    def n_voxels(self) -> int:
        """Voxels of the regions, those without data included."""
        return len(self.scans.select(self.rois))

    def n_parts(self) -> int:
        """One for each session."""
        return len(self.scans.sessions)

    def declare(self, artefact: Artefact) -> None:
        """Create an array for each session."""
        data = self.scans
        n_voxels = self.n_voxels
        for session, n in data.trials["session"].value_counts().items():
            chunks = (n, min(VOXELS_PER_CHUNK, n_voxels))
            artefact.create_array(session_array(session), (n, n_voxels), data.dtype, chunks)

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Read one session."""
        data = self.scans
        session = data.sessions[index]
        values = data.stored(self.rois, session)
        part.array(session_array(session), slice(0, len(values)), values)
        if index == 0:
            part.table("voxels", data.voxels(self.rois, uncovered="nan")[PLACE])

    def cost(self, rates: Rates) -> Cost:
        """Reading the files of all sessions."""
        from phosphene.steps.cost import betas_cost

        return betas_cost(self.scans, self.n_voxels, rates)


def betas_of(study: Study, subject: str, rois: Sequence[str]) -> Betas | None:
    """The step that takes these responses out of the scans; None where data are small and are read
    where they are used.
    """
    data = dataset(study, subject)
    return Betas(study, subject, tuple(rois)) if isinstance(data, Scans) else None


def response_inputs(study: Study, subject: str, rois: Sequence[str]) -> dict[str, Step | Key]:
    """What the responses of some regions are made from, as inputs of a step."""
    step = betas_of(study, subject, rois)
    trials = data_key(study, subject, "trials")
    if step is not None:
        return {"betas": step, "trials": trials}
    keys = {"betas": (), "regions": tuple(rois)}
    found = {part: data_key(study, subject, part, names) for part, names in keys.items()}
    return {**found, "trials": trials}


def roi_name(subject: str, rois: Sequence[str]) -> str:
    """Subject and regions as the name of a folder."""
    return "-".join([subject, *(roi.replace("/", "_").replace("+", "plus") for roi in rois)])[:100]


def session_array(number: int) -> str:
    """Name of the array of one session's responses in the stage betas."""
    return f"betas/session{number:02d}"


def responses(study: Study, subject: str, rois: Sequence[str]) -> NDArray[np.float32]:
    """Read the responses of some regions: z-scored, (n_trials, n_voxels with data in every
    session).
    """
    step = betas_of(study, subject, rois)
    if step is None:
        return dataset(study, subject).betas(rois, zscore=study.data.zscore)
    values, covered = assembled(step)
    warn_uncovered(covered, subject, study.data_root)
    return values


def assembled(
    step: Betas, columns: slice = slice(None)
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read some voxels of finished betas, one session after the other, standardised.

    Returns
    -------
    responses : ndarray of float32, (n_trials, n_voxels with data in every session)
    covered : ndarray of bool, (n_voxels,)
    """
    import numpy as np

    data = step.scans
    arrays = [step.artefact.array(session_array(number)) for number in data.sessions]
    train = data.trials["split"] == "train"
    n_voxels = len(range(*columns.indices(arrays[0].shape[1])))
    blocks = (np.asarray(array[:, columns]) for array in arrays)
    shape = (len(train), n_voxels)
    return assemble(blocks, shape, train.to_numpy(), step.study.data.zscore, data.scale)


def voxel_table(step: Betas) -> pd.DataFrame:
    """Describe the columns of some betas, with the labels that the regions' files give today.

    Returns
    -------
    DataFrame
        x, y, z (0-based), one column of labels per atlas, ncsnr; voxels without data included.
    """
    return step.scans.voxels(step.rois, uncovered="nan")
