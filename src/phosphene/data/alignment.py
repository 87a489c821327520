"""Do pictures and brain activity belong together? A test of a minute, before days of work on
shifted trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import stats
from skimage.feature import hog
from sklearn.model_selection import GroupKFold

from phosphene.data.dataset import Dataset
from phosphene.data.scans import Scans, all_voxels
from phosphene.data.trials import assemble, warn_uncovered
from phosphene.errors import PhospheneError
from phosphene.numerics.correlation import correlation
from phosphene.numerics.ridge import RidgeCV

TRIALS = 2250
VOXELS = 2000
PERMUTATIONS = 199
SHIFTS = (-2, -1, 1, 2)
SIDE = 64
CELL = 8
ORIENTATIONS = 6
COLOUR = 4
ALPHAS = np.logspace(1, 6, 6)


@dataclass(frozen=True)
class Alignment:
    """How well simple features of the pictures predict held-out responses.

    Attributes
    ----------
    region : str
        The region that was tested.
    n_trials, n_voxels : int
    r : float
        Median over voxels of the correlation between responses and their prediction.
    chance : float
        95th percentile of `r` when pictures and responses are paired at random.
    p : float
        Share of random pairings that do as well.
    elsewhere : float or None
        `r` of as many voxels of the brain mask outside the region, None if the data have no brain
        mask.
    p_elsewhere : float
        One-sided Mann-Whitney test that the region's voxels are predicted no better than those
        elsewhere.
    shift : int or None
        By how many trials the responses must be moved to fit the pictures, searched where they do
        not fit as they are.
    """

    region: str
    n_trials: int
    n_voxels: int
    r: float
    chance: float
    p: float
    elsewhere: float | None
    p_elsewhere: float
    shift: int | None

    @property
    def fits(self) -> bool:
        """Pictures predict the region above chance, and better than they predict the rest of the
        brain.
        """
        return self.p < 0.01 and (self.elsewhere is None or self.p_elsewhere < 0.01)


def alignment(data: Dataset, seed: int = 0) -> Alignment:
    """Test whether picture identity predicts early visual voxels.

    Oriented energy (histograms of gradients) and colour of each picture, cross-validated ridge with
    all trials of a picture in one fold, at most `TRIALS` trials of the first sessions and `VOXELS`
    voxels.

    Parameters
    ----------
    data : Dataset
        With photographs; of NSD, one opened with a few sessions is read fastest.
    seed : int
        Of the choice of voxels and of the random pairings.

    Raises
    ------
    PhospheneError
        When pictures or responses cannot be read, or there are too few of them.
    """
    random = np.random.default_rng(seed)
    region = next((roi for roi in ("early", "nsdgeneral") if roi in data.rois), data.rois[-1])
    trials = data.trials.iloc[:TRIALS]
    if trials["image"].nunique() < 20:
        raise PhospheneError(
            f"{data.subject}: {trials['image'].nunique()} pictures are too few to test; expected 20"
        )
    betas = _some_voxels(data, region, np.arange(len(all_voxels(data, region))), random)[
        : len(trials)
    ]
    features = picture_features(data, trials["image"].to_numpy())
    predicted = _held_out(features, betas, trials)
    r = correlation(betas, predicted, axis=0)
    chance = _random_pairings(betas, predicted, trials["image"].to_numpy(), random)
    if not np.isfinite(r).any():
        raise PhospheneError(
            f"{data.subject}: the pictures predict no voxel of {region} at all, expected responses "
            "and pictures that vary"
        )
    median = np.nanmedian(r)
    p = float((1 + np.sum(chance >= median)) / (1 + len(chance)))
    elsewhere = None
    p_elsewhere = 0.0
    if "brain" in data.rois and region != "brain":
        others = _some_voxels(data, "brain", _outside(data, region), random)[: len(trials)]
        control = correlation(others, _held_out(features, others, trials), axis=0)
        elsewhere = float(np.nanmedian(control))
        p_elsewhere = float(
            stats.mannwhitneyu(r, control, alternative="greater", nan_policy="omit").pvalue
        )
    shift = None if p < 0.01 else _fitting_shift(features, betas, trials)
    return Alignment(
        region,
        len(trials),
        betas.shape[1],
        float(median),
        float(np.percentile(chance, 95)),
        p,
        elsewhere,
        p_elsewhere,
        shift,
    )


def picture_features(
    data: Dataset, images: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.float32]:
    """Oriented gradients and colours on a grid, (n_images, n_features), of pictures given by id;
    ids may repeat.
    """
    unique, inverse = np.unique(images, return_inverse=True)
    rows = []
    for start in range(0, len(unique), 100):
        for picture in data.images(unique[start : start + 100].tolist()):
            small = (
                Image.fromarray(picture).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
            )
            edges = hog(
                np.asarray(small.convert("L")),
                ORIENTATIONS,
                (CELL, CELL),
                (1, 1),
                block_norm="L2",
                transform_sqrt=True,
            )
            colours = (
                np.asarray(small.resize((COLOUR, COLOUR), Image.Resampling.BOX), np.float32) / 255
            )
            rows.append(np.concatenate([edges, colours.ravel()]))
    return np.asarray(rows, np.float32)[inverse]


def _held_out(
    features: NDArray[np.float32], betas: NDArray[np.float32], trials: pd.DataFrame
) -> NDArray[np.float32]:
    """Predict every trial from the trials of other pictures."""
    images = trials["image"].to_numpy()
    predicted = np.empty_like(betas)
    for train, test in GroupKFold(3).split(features, groups=images):
        model = RidgeCV(ALPHAS, cv=3).fit(features[train], betas[train], groups=images[train])
        predicted[test] = model.predict(features[test])
    return predicted


def _random_pairings(
    betas: NDArray[np.float32],
    predicted: NDArray[np.float32],
    images: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Median correlations when whole pictures are exchanged: repeats stay together."""
    unique, first, inverse = np.unique(images, return_index=True, return_inverse=True)
    betas, predicted = (stats.zscore(values, axis=0) for values in (betas, predicted))
    found = []
    for _ in range(PERMUTATIONS):
        swapped = predicted[first[random.permutation(len(unique))][inverse]]
        found.append(np.nanmedian(np.einsum("ij,ij->j", betas, swapped) / len(betas)))
    return np.array(found)


def _outside(data: Dataset, region: str) -> NDArray[np.int64]:
    """Columns of the brain's voxels that are not in a region."""
    brain, inside = (all_voxels(data, roi)[["x", "y", "z"]] for roi in ("brain", region))
    merged = brain.merge(inside, how="left", indicator=True)
    return np.flatnonzero(merged["_merge"] == "left_only")


def _some_voxels(
    data: Dataset, region: str, columns: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.float32]:
    """Responses of at most `VOXELS` of some columns of a region, z-scored; one session at a time is
    in memory.
    """
    chosen = np.sort(random.permutation(columns)[:VOXELS])
    if not isinstance(data, Scans):
        return data.betas(region)[:, chosen]
    index = data.select(region)[chosen]
    train = np.ones(len(data.trials), bool)
    sessions = (data.read(session, index) for session in data.sessions)
    found, covered = assemble(sessions, (len(train), len(chosen)), train, "session", data.scale)
    warn_uncovered(covered, data.subject, region)
    return found


def _fitting_shift(
    features: NDArray[np.float32], betas: NDArray[np.float32], trials: pd.DataFrame
) -> int | None:
    """The shift of trials, if any, at which pictures do predict responses: their medians stand out
    from each other.
    """
    found = {}
    for shift in SHIFTS:
        moved = np.roll(betas, shift, axis=0)
        found[shift] = float(
            np.median(correlation(moved, _held_out(features, moved, trials), axis=0))
        )
    best = max(found, key=lambda shift: found[shift])
    rest = [value for shift, value in found.items() if shift != best]
    return best if found[best] > 0.02 + 3 * max(*map(abs, rest)) else None
