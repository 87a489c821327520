"""The files of the Natural Scenes Dataset, one function per kind of file: they read, check and name
what is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data.opening import read_mat, read_table
from phosphene.errors import PhospheneError

# sessions 1..n -> trials, test trials, test images, train trials, train images (nsd_format: counts
# of the release)
RELEASE_COUNTS = {
    37: (27750, 2770, 982, 24980, 8859),
    40: (30000, 3000, 1000, 27000, 9000),
    32: (24000, 2371, 930, 21629, 8481),
    30: (22500, 2188, 907, 20312, 8302),
}


@dataclass(frozen=True)
class Layout:
    """Where the files of one subject lie under the NSD folder `root`, for one version of the
    betas.
    """

    root: Path
    subject: str
    version: str
    resolution: str

    @property
    def betas(self) -> Path:
        """Folder of ``betas_sessionNN.hdf5`` or ``.nii.gz``."""
        return (
            self.root / "nsddata_betas" / "ppdata" / self.subject / self.resolution / self.version
        )

    @property
    def ncsnr(self) -> Path:
        """Noise-ceiling signal-to-noise ratio, a volume."""
        return self.betas / "ncsnr.nii.gz"

    @property
    def _ppdata(self) -> Path:
        return self.root / "nsddata" / "ppdata" / self.subject

    @property
    def mask(self) -> Path:
        """The brain mask, a volume."""
        return self._ppdata / self.resolution / "brainmask.nii.gz"

    @property
    def roi(self) -> Path:
        """Folder of atlases."""
        return self._ppdata / self.resolution / "roi"

    @property
    def responses(self) -> Path:
        """What the subject pressed, and which pictures were shown."""
        return self._ppdata / "behav" / "responses.tsv"

    @property
    def transforms(self) -> Path:
        """Folder of the files that lead from volumes to surfaces."""
        return self._ppdata / "transforms"

    @property
    def design(self) -> Path:
        """The experiment's design."""
        return self.root / "nsddata" / "experiments" / "nsd" / "nsd_expdesign.mat"

    @property
    def stimulus_table(self) -> Path:
        """What is known about each of the 73,000 pictures."""
        return self.design.with_name("nsd_stim_info_merged.csv")

    @property
    def stimuli(self) -> Path:
        """The pictures."""
        return self.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"

    @property
    def annotations(self) -> Path:
        """Folder of COCO's captions and instances."""
        return self.stimuli.with_name("annotations")


def find_sessions(folder: Path) -> dict[int, Path]:
    """Return the betas file of every session there; HDF5 before NIfTI, since it can be read in
    part.
    """
    found: dict[int, Path] = {}
    for suffix in ("nii.gz", "hdf5"):
        for path in disk.list_files(folder, f"betas_session*.{suffix}"):
            if match := re.fullmatch(r"betas_session(\d+)", path.name.removesuffix(f".{suffix}")):
                found[int(match[1])] = path
    if not found:
        raise PhospheneError(
            f"{folder}: no betas_sessionNN.hdf5 or .nii.gz in it; expected at least one"
        )
    return found


def read_design(path: Path) -> dict[str, NDArray[np.int64]]:
    """Read ``nsd_expdesign.mat``: masterordering, subjectim, sharedix, stimpattern, 1-based as they
    are.
    """
    names = ("masterordering", "subjectim", "sharedix", "stimpattern")
    try:
        design = read_mat(path, names)
    except FileNotFoundError as error:
        raise PhospheneError(
            f"{path}: could not be read as NSD's experiment design ({error})"
        ) from error
    order = design["masterordering"]
    subjects = design["subjectim"]
    n_images = design["subjectim"].shape[-1]
    if subjects.ndim != 2 or design["stimpattern"].ndim != 3 or not order.size:
        raise PhospheneError(
            f"{path}: subjectim or stimpattern has the wrong shape; download it again"
        )
    if order.min() < 1 or order.max() > n_images or design["sharedix"].min() < 1:
        raise PhospheneError(
            f"{path}: masterordering counts from {order.min()} to {order.max()}; expected 1 to "
            f"{n_images}, as in NSD"
        )
    return design


def planned_trials(path: Path, design: dict[str, NDArray[np.int64]], subject: str) -> pd.DataFrame:
    """Return all trials that the design plans for a subject: session and run (1-based), image
    (0-based), repeat, split.

    `repeat` counts earlier presentations; the test images are those shown to every subject. `path`
    is what errors name.
    """
    order = design["masterordering"].ravel()
    number = int(subject[-2:])
    if len(design["subjectim"]) < number:
        raise PhospheneError(
            f"{path}: subjectim has {len(design['subjectim'])} subjects; {subject} is not among "
            "them"
        )
    own = design["subjectim"][number - 1]
    if own.min() < 1:
        raise PhospheneError(
            f"{path}: subjectim holds {own.min()} for {subject}; expected 73k ids counted from 1"
        )
    runs = design["stimpattern"].sum(2)  # trials of every (session, run)
    session, run = (axis.ravel() + 1 for axis in np.indices(runs.shape))
    table = pd.DataFrame(
        {"session": np.repeat(session, runs.ravel()), "run": np.repeat(run, runs.ravel())}
    )
    if len(table) != len(order):
        raise PhospheneError(
            f"{path}: it plans {len(order)} trials in masterordering and {len(table)} in "
            f"{len(runs)} sessions of "
            "stimpattern; expected equal numbers"
        )
    table["image"] = own[order - 1] - 1
    table["repeat"] = table.groupby("image").cumcount()
    table["split"] = np.where(order <= design["sharedix"].size, "test", "train")
    return table


def read_stimuli(path: Path) -> pd.DataFrame:
    """Read ``nsd_stim_info_merged.csv``, indexed by nsdId (0-based)."""
    try:
        table = read_table(path, index_col=0).set_index("nsdId", drop=False)
        return table.astype({"cocoId": np.int64, "cocoSplit": str, "cropBox": str})
    except PhospheneError:
        raise
    except (OSError, KeyError, ValueError) as error:
        raise PhospheneError(
            f"{path}: could not be read as NSD's table of stimuli ({error})"
        ) from error


def check_stimuli(path: Path, stimuli: pd.DataFrame, trials: pd.DataFrame, subject: str) -> None:
    """Compare planned trials with the stimulus table, which tells for each image in which trials it
    was planned.
    """
    columns = [
        name for name in stimuli if re.fullmatch(rf"subject{int(subject[-2:])}_rep\d+", name)
    ]
    when = stimuli[columns].melt(ignore_index=False, value_name="trial").query("trial > 0")["trial"]
    told = pd.Series(when.index.to_numpy(), index=when.to_numpy() - 1).reindex(range(len(trials)))
    wrong = (
        (told.to_numpy() != trials["image"].to_numpy()) if columns else np.zeros(len(trials), bool)
    )
    if wrong.any():
        at = int(np.argmax(wrong))
        found = "no image" if pd.isna(told[at]) else f"nsdId {told[at]:.0f}"
        raise PhospheneError(
            f"{path}: it tells {found} for trial {at + 1} of {subject}; nsd_expdesign.mat plans "
            "nsdId "
            f"{trials['image'].iloc[at]}: they belong to different data"
        )


def check_responses(path: Path, trials: pd.DataFrame) -> None:
    """Compare planned trials (session, run, image) with those that the subject's log says were
    shown.
    """
    try:
        log = read_table(path, "\t", usecols=["SESSION", "RUN", "73KID"])
    except PhospheneError:
        raise
    except (OSError, ValueError) as error:
        raise PhospheneError(
            f"{path}: could not be read as NSD's log of responses ({error})"
        ) from error
    for session, planned in trials.groupby("session"):
        logged = log[log["SESSION"] == session]
        if len(planned) != len(logged):
            raise PhospheneError(
                f"{path}: {len(logged)} trials of session {session}; nsd_expdesign.mat plans "
                f"{len(planned)}"
            )
        wrong = planned["image"].to_numpy() + 1 != logged["73KID"].to_numpy()
        wrong |= planned["run"].to_numpy() != logged["RUN"].to_numpy()
        if wrong.any():
            at = int(np.argmax(wrong))
            seen = logged.iloc[at]
            plan = planned.iloc[at]
            raise PhospheneError(
                f"{path}: row {logged.index[at] + 2} says run {seen['RUN']:.0f}, 73KID "
                f"{seen['73KID']:.0f}; "
                f"nsd_expdesign.mat plans run {plan['run']}, 73KID {plan['image'] + 1}: they "
                "belong to different data"
            )


def check_counts(subject: str, trials: pd.DataFrame) -> list[str]:
    """Compare the numbers of trials and images with the published ones; one sentence per mismatch.

    Only for real NSD with sessions 1 to n complete: anything else gives no sentence.
    """
    sessions = tuple(trials["session"].unique())
    n = len(sessions)
    if sessions != tuple(range(1, n + 1)) or n not in RELEASE_COUNTS or len(trials) != 750 * n:
        return []
    test, train = (trials.loc[trials["split"] == split, "image"] for split in ("test", "train"))
    counts = (len(trials), len(test), test.nunique(), len(train), train.nunique())
    names = ("trials", "test trials", "test images", "training trials", "training images")
    return [
        f"{subject}: {found} {name} in {n} sessions; NSD has {expected}"
        for name, found, expected in zip(names, counts, RELEASE_COUNTS[n], strict=True)
        if found != expected
    ]
