"""How much of a measurement repeats."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phosphene.errors import PhospheneError
from phosphene.numerics.correlation import as_floats


def reliability(values: ArrayLike, groups: ArrayLike) -> NDArray[np.float64]:
    """Reliability of the mean over repeats, from how much repeats of one image differ: 1 - MSW /
    MSB.

    The intraclass correlation ICC(1, k) of the one-way analysis of variance (Shrout & Fleiss 1979):
    the share of the variance between means that is not noise. Its square root bounds the
    correlation that means can reach with the truth.

    Parameters
    ----------
    values : array_like, (n_trials, d)
        One row per trial.
    groups : array_like, (n_trials,)
        What was shown in each trial; trials with one label are repeats.

    Returns
    -------
    ndarray of float64, (d,)
        0 to 1, of the mean over as many repeats as groups have on average. NaN where it cannot be
        known: no group has repeats, there is one group, or a column is constant or holds a NaN.

    Raises
    ------
    PhospheneError
        When the shapes do not match.
    """
    x = as_floats(values)
    labels = np.asarray(groups)
    if x.ndim != 2 or labels.shape != x.shape[:1] or not len(x):
        raise PhospheneError(
            f"reliability: values must be (n_trials, d) and groups (n_trials,), found {x.shape} "
            f"and {labels.shape}."
        )
    _, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    n_groups = len(sizes)
    if n_groups < 2 or n_groups == len(x):
        return np.full(x.shape[1], np.nan)
    order = np.argsort(index, kind="stable")
    starts = np.append(0, np.cumsum(sizes)[:-1])
    means = np.add.reduceat(x[order], starts, axis=0) / sizes[:, None]
    within = ((x - means[index]) ** 2).sum(axis=0) / (len(x) - n_groups)
    between = (sizes[:, None] * (means - x.mean(axis=0)) ** 2).sum(axis=0) / (n_groups - 1)
    varies = np.ptp(x, axis=0) > 0
    ratio = np.divide(within, between, out=np.full(x.shape[1], np.inf), where=between > 0)
    return np.where(varies, np.clip(1 - ratio, 0, 1), np.nan)
