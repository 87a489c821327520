"""Features of one model as the regression sees them: centred, scaled as a whole, rows weighted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Design:
    """Features of the training pictures, rows weighted, and of the test pictures; one matrix per
    space.

    Attributes
    ----------
    train, test : list of ndarray of float32, (n_train_images, p_b) and (n_test_images, p_b)
        Centred on the training trials; the sum of squares of a column of `train`, over all columns,
        is n_trials.
    weights : ndarray of float64, (n_train_images,)
        Square roots of the numbers of trials.
    """

    train: list[Rows]
    test: list[Rows]
    weights: Floats

    def mixed(self, mix: Floats, rows: Sequence[Rows]) -> Rows:
        """Put the spaces of a mix side by side, (n, p of those with a share)."""
        return np.concatenate(
            [np.float32(np.sqrt(m)) * x for m, x in zip(mix, rows, strict=True) if m > 0], axis=1
        )

    def parts(self, mix: Floats) -> dict[int, slice]:
        """Columns of each space in :meth:`mixed`."""
        ends = np.cumsum(
            [x.shape[1] if m > 0 else 0 for m, x in zip(mix, self.train, strict=True)]
        ).tolist()
        return {
            b: slice(end - x.shape[1], end)
            for b, (m, x, end) in enumerate(zip(mix, self.train, ends, strict=True))
            if m > 0
        }


def scaled(train: Rows, test: Rows, counts: NDArray[np.int64]) -> tuple[Rows, Rows] | None:
    """Prepare one feature space.

    Parameters
    ----------
    train, test : ndarray of float32, (n_train_images, p) and (n_test_images, p)
    counts : ndarray of int, (n_train_images,)
        Numbers of trials.

    Returns
    -------
    train, test : ndarray of float32
        As :class:`Design` holds them; None where all training images are the same.
    """
    mean = np.average(train.astype(np.float64), axis=0, weights=counts).astype(np.float32)
    weighted = (train - mean) * np.sqrt(counts)[:, None].astype(np.float32)
    scale = np.float32(np.sqrt((weighted.astype(np.float64) ** 2).sum() / counts.sum()))
    if not scale > 0:
        return None
    return weighted / scale, (test - mean) / scale
