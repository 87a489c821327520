"""What is done to single trials wherever they come from: coverage, z-scores, averages over repeats,
noise ceilings.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data.dataset import Dataset
from phosphene.errors import NoDataError, PhospheneError

ZSCORES = ("session", "train", "none")


def same_text(text: str) -> str:
    """Spell the accents of a name in one way (Unicode NFC): file systems and editors differ."""
    return unicodedata.normalize("NFC", text)


def check_zscore(zscore: str) -> None:
    """Refuse ways of standardising that do not exist."""
    if zscore not in ZSCORES:
        raise PhospheneError(
            f"data.zscore: found {zscore!r}, expected 'session', 'train' or 'none'"
        )


def varies(block: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which voxels are finite and not constant: NSD writes 0 for all trials of a session that
    misses a voxel.
    """
    return np.asarray((block != block[:1]).any(0) & np.isfinite(block).all(0))


def standardise(betas: NDArray[np.float32], rows: slice | NDArray[np.bool_]) -> NDArray[np.float32]:
    """Subtract the mean of `rows` and divide by their standard deviation, in place; constant voxels
    become 0.
    """
    for start in range(0, betas.shape[1], 512):  # a few columns at a time: sums are in float64
        block = betas[:, start : start + 512]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # columns of nothing but NaN stay NaN
            block -= np.nanmean(block[rows], 0, dtype=np.float64).astype(np.float32)
            sd = np.nanstd(block[rows], 0, dtype=np.float64).astype(np.float32)
        block /= np.where(sd > 0, sd, 1)
    return betas


def assemble(
    sessions: Iterable[NDArray[Any]],
    shape: tuple[int, int],
    train: NDArray[np.bool_],
    zscore: str,
    scale: float = 1.0,
    drop: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Make single-trial responses of what is stored, one session after the other.

    Parameters
    ----------
    sessions : iterable of ndarray, (n_trials of the session, n_voxels)
        As stored, in the order of the trials.
    shape : (n_trials, n_voxels)
    train : ndarray of bool, (n_trials,)
    zscore : {"session", "train", "none"}
        Standardise every voxel over all trials of each session, over all training trials, or not at
        all.
    scale : float
        What stored values are divided by.
    drop : bool
        Leave out voxels that are constant or not finite in any session; otherwise they are NaN in
        that session.

    Returns
    -------
    betas : ndarray of float32, (n_trials, n_voxels or those kept)
    covered : ndarray of bool, (n_voxels,)
        Whether a voxel has data in every session.
    """
    check_zscore(zscore)
    betas = np.empty(shape, np.float32)
    covered = np.ones(shape[1], bool)
    start = 0
    for stored in sessions:
        block = betas[start : start + len(stored)]
        np.divide(stored, np.float32(scale), out=block, casting="same_kind")
        here = varies(block)
        covered &= here
        if zscore == "session":
            standardise(block, slice(None))
        block[:, ~here] = np.nan
        start += len(stored)
    if drop and not covered.all():
        betas = betas[:, covered]
    return standardise(betas, train) if zscore == "train" else betas, covered


def warn_uncovered(covered: NDArray[np.bool_], subject: str, where: object) -> None:
    """Say how many voxels lack data in some session; refuse when all do."""
    if not covered.any():
        raise NoDataError(
            f"{where}: none of the {len(covered)} voxels asked for has data in every session"
        )
    if not covered.all():
        missing = np.sum(~covered)
        warnings.warn(
            f"{subject}: {missing} of {len(covered)} voxels have no data in some session used and "
            "are left out",
            stacklevel=4,
        )


@dataclass(frozen=True)
class Averages:
    """Responses averaged over repeats.

    Attributes
    ----------
    images : ndarray of int, (n_images,)
        Ascending.
    betas : ndarray of float32, (n_images, n_voxels)
        NaN where no trial of the image has data.
    counts : ndarray of int, (n_images, n_voxels)
        How many trials each average is of; fewer where a session does not cover a voxel.
    """

    images: NDArray[np.int64]
    betas: NDArray[np.float32]
    counts: NDArray[np.int16]


def average_repeats(betas: NDArray[np.floating], images: NDArray[np.integer]) -> Averages:
    """Average the trials (n_trials, n_voxels) of every image; NaN is not counted."""
    unique, counts = np.unique(images, return_counts=True)
    rows = np.split(np.argsort(images, kind="stable"), np.cumsum(counts)[:-1])
    means = np.empty((len(unique), betas.shape[1]), np.float32)
    found = np.empty(means.shape, np.int16)
    for k, some in enumerate(rows):
        trials = betas[some]
        found[k] = np.isfinite(trials).sum(0)
        means[k] = np.nansum(trials, axis=0, dtype=np.float64) / np.where(
            found[k], found[k], np.nan
        )
    return Averages(unique.astype(np.int64), means, found)


def ncsnr(
    betas: NDArray[np.floating], images: NDArray[np.integer], repeats: int = 3
) -> NDArray[np.float64]:
    """Noise-ceiling signal-to-noise ratio of every voxel, as NSD defines it.

    Parameters
    ----------
    betas : ndarray, shape (n_trials, n_voxels)
        Responses standardised per voxel within each session.
    images : ndarray of int, shape (n_trials,)
        Which image each trial showed.
    repeats : int
        Images with exactly this many trials count (3 in NSD).

    Returns
    -------
    ndarray, shape (n_voxels,)
        ``sqrt(max(0, 1 - v2)) / sqrt(v2)``, `v2` the mean over images of the unbiased variance of
        their trials.

    References
    ----------
    Allen et al. (2022), Nature Neuroscience 25, Methods: noise ceiling estimation.
    """
    unique, counts = np.unique(images, return_counts=True)
    rows = np.argsort(images, kind="stable")
    rows = rows[np.isin(images[rows], unique[counts == repeats])].reshape(-1, repeats)
    noise = np.mean([betas[group].var(0, ddof=1) for group in rows], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(np.maximum(0, 1 - noise)) / np.sqrt(noise))


# Images: which were seen, trained on, and are decoded


def image_ids(data: Dataset) -> NDArray[np.int64]:
    """Ids of every picture that was seen, ascending: the rows of the extracted features."""
    return np.unique(data.trials["image"].to_numpy())


def train_trials(data: Dataset) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which trials are training trials (n_trials,), and the images of those."""
    train = (data.trials["split"] == "train").to_numpy()
    return train, data.trials["image"].to_numpy()[train]


def images_of(data: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Training images, how many trials each has, and test images; ascending."""
    train, seen = train_trials(data)
    images, counts = np.unique(seen, return_counts=True)
    return images, counts, np.unique(data.trials["image"].to_numpy()[~train])


def items(data: Dataset, by_trial: bool = False) -> pd.DataFrame:
    """List what is decoded: test images, or every trial where runs are left out in turn.

    Parameters
    ----------
    data : Dataset
    by_trial : bool
        One row per row of ``data.trials`` instead of one per test image.

    Returns
    -------
    DataFrame
        image, run (0 for test images), n_trials; empty without test trials.
    """
    trials = data.trials
    if by_trial:
        return pd.DataFrame(
            {"image": trials["image"], "run": trials["run"], "n_trials": 1}
        ).reset_index(drop=True)
    counts = trials.loc[trials["split"] == "test", "image"].value_counts().sort_index()
    return pd.DataFrame({"image": counts.index.to_numpy(), "run": 0, "n_trials": counts.to_numpy()})
