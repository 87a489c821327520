"""What the questions of the audit are asked of: one subject's results as plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.auditing import checks
from phosphene.auditing.lines import Line
from phosphene.data import Dataset
from phosphene.data.trials import image_ids, train_trials
from phosphene.models.preparing import Pictures
from phosphene.seeds import rng

Rows = NDArray[np.float32]
Split = tuple[NDArray[np.intp], NDArray[np.intp]]
NO_PHOTOGRAPHS = (
    "it is not known which pictures were seen, or all of them were seen in training and test"
)


@dataclass(frozen=True)
class Decoded:
    """What a decoder predicted of one feature.

    Attributes
    ----------
    prediction : array-like, shape (n_items, d)
    r, best_alphas : array-like, shape (d,)
    """

    prediction: checks.RowsOf
    r: checks.RowsOf
    best_alphas: checks.RowsOf


@dataclass(frozen=True)
class Decoder:
    """How a study decodes.

    Attributes
    ----------
    alphas : ndarray, shape (n_alphas,)
        The grid of penalties.
    paper : bool
        The paper's grid and plain folds over trials.
    leaves_runs_out : bool
        Every run is predicted from all others; there is no test set.
    zscore : str
        "session", "train" or "none".
    folds : callable
        Gives the (training, validation) rows of the training trials that chose the penalties.
    responses : callable
        Gives the voxels that a feature is decoded from, (n_trials, n_voxels).
    fitted : callable
        Of X (n, n_voxels) and targets (n, d): gives a function of training and test rows that
        fits on the first and predicts the second.
    """

    alphas: NDArray[np.float64]
    paper: bool
    leaves_runs_out: bool
    zscore: str
    folds: Callable[[], Sequence[Split]]
    responses: Callable[[str], Rows]
    fitted: Callable[[Rows, NDArray[np.float64]], checks.FitPredict]


@dataclass(frozen=True)
class Scoring:
    """How a study scores pictures.

    Attributes
    ----------
    presets : tuple of str
    n_bootstrap : int
    weights : path or None
        Folder with the weights of perceptual networks; the usual caches are looked into too.
    cache : path
        Folder in which their features are kept.
    device : str
    score : callable
        Of pictures of the items, for every sample: gives scores by the presets.
    """

    presets: tuple[str, ...]
    n_bootstrap: int
    weights: Path | None
    cache: Path
    device: str
    score: Callable[[Sequence[Pictures]], pd.DataFrame]


@dataclass(frozen=True)
class Case:
    """One subject's results.

    Attributes
    ----------
    data : Dataset
    read_items : callable
        Gives what was decoded: rows of predictions (:func:`phosphene.data.trials.items`).
    features : tuple of str
    mode : str
        The mode that uses most features.
    decoder : Decoder
    scoring : Scoring
    decoded : callable
        Gives what was predicted of a feature.
    true : callable
        Gives a feature of all images, (n_images, d), on disk.
    reconstructed : callable
        Gives the pictures of the items by mode and source, for every sample.
    seed : int
    """

    data: Dataset
    read_items: Callable[[], pd.DataFrame]
    features: tuple[str, ...]
    mode: str
    decoder: Decoder
    scoring: Scoring
    decoded: Callable[[str], Decoded]
    true: Callable[[str], checks.RowsOf]
    reconstructed: Callable[[str, str], Sequence[Pictures]]
    seed: int

    @property
    def has_test_images(self) -> bool:
        """Whether there are test pictures that are not training pictures."""
        return self.data.photographs and not self.decoder.leaves_runs_out

    @cached_property
    def items(self) -> pd.DataFrame:
        """What was decoded: image, run, n_trials."""
        return self.read_items()

    @cached_property
    def test_rows(self) -> NDArray[np.intp]:
        """Rows of the items among the features."""
        return np.asarray(np.searchsorted(image_ids(self.data), self.items["image"].to_numpy()))

    @cached_property
    def train_rows(self) -> NDArray[np.intp]:
        """Rows of the training pictures among the features."""
        return np.searchsorted(image_ids(self.data), np.unique(train_trials(self.data)[1]))

    def prediction(self, feature: str) -> Rows:
        """Predicted features of the items, (n_items, d)."""
        return np.asarray(self.decoded(feature).prediction[:], np.float32)

    def rng(self, *keys: str) -> np.random.Generator:
        """Random numbers of the audit that belong to these keys."""
        return rng(self.seed, self.data.subject, "audit", *keys)


@dataclass(frozen=True)
class Answers:
    """Lines, and tables by name."""

    lines: list[Line]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def rows_of(features: checks.RowsOf, chosen: NDArray[np.intp]) -> Rows:
    """Read some rows (n_chosen, d), in blocks whatever is on disk."""
    found = np.empty((len(chosen), features.shape[1]), np.float32)
    for start in range(0, features.shape[0], checks.ROWS):
        here = (chosen >= start) & (chosen < start + checks.ROWS)
        if here.any():
            found[here] = np.asarray(features[start : start + checks.ROWS])[chosen[here] - start]
    return found
