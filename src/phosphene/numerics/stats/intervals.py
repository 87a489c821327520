"""Intervals: over images, over subjects, over both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from phosphene.errors import PhospheneError
from phosphene.numerics.correlation import as_floats

Statistic = Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True)
class SubjectSummary:
    """Mean over subjects, its standard error and t interval (low, high), NaN for one subject;
    number of subjects.
    """

    mean: float
    sem: float
    ci: tuple[float, float]
    n: int


def bootstrap_ci(
    values: ArrayLike,
    statistic: Statistic | None = None,
    *,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    rng: np.random.Generator | int = 0,
) -> tuple[float, float]:
    """Percentile confidence interval by resampling images.

    Parameters
    ----------
    values : array_like, (n_images, ...)
        One row per image; rows are resampled whole, with replacement.
    statistic : callable, optional
        Maps a resampled array to one number; the mean when not given.
    n_bootstrap : int
        Number of resamples.
    level : float
        Coverage, between 0 and 1.
    rng : Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    (float, float)
        Low and high end.

    Raises
    ------
    PhospheneError
        When there is no image, ``n_bootstrap`` is below 1 or ``level`` lies outside (0, 1).
    """
    if not 0 < level < 1:
        raise PhospheneError(f"bootstrap_ci: level must lie between 0 and 1, found {level}.")
    draws = resampled(rows_of(values), statistic, n_bootstrap, np.random.default_rng(rng))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def subject_summary(values: ArrayLike, *, level: float = 0.95) -> SubjectSummary:
    """Mean over subjects with its standard error and t interval.

    Parameters
    ----------
    values : array_like, (n_subjects,)
        One number per subject, such as an accuracy.
    level : float
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    SubjectSummary
        Subjects are a sample of all subjects: with one of them only the mean is known, the rest is
        NaN.

    Raises
    ------
    PhospheneError
        When there is no subject, a value is missing, or ``level`` lies outside (0, 1).
    """
    x = as_floats(values)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all() or not 0 < level < 1:
        raise PhospheneError(
            "subject_summary: one number per subject and a level between 0 and 1 are needed, "
            f"found {x} and {level}."
        )
    mean = float(x.mean())
    n = len(x)
    if n == 1:
        return SubjectSummary(mean, float("nan"), (float("nan"), float("nan")), 1)
    sem = float(x.std(ddof=1) / np.sqrt(n))
    half = float(student_t.ppf((1 + level) / 2, n - 1)) * sem
    return SubjectSummary(mean, sem, (mean - half, mean + half), n)


def hierarchical_bootstrap(
    scores: Sequence[ArrayLike],
    *,
    same_images: bool = False,
    n_bootstrap: int = 2000,
    rng: np.random.Generator | int = 0,
) -> tuple[float, float]:
    """95 % interval of the mean over subjects: subjects are resampled, and within them their
    images.

    Parameters
    ----------
    scores : sequence of array_like, (n_images of the subject,)
        Scores of each subject's images.
    same_images : bool
        All subjects saw the same images in the same order, as NSD's test images: in each resample
        all get the same draw of images, as an image that is hard for one is hard for all.
    n_bootstrap : int
        Number of resamples.
    rng : Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    (float, float)
        Percentiles. With few subjects too narrow by about sqrt((n - 1) / n), and more for its
        normal tails: :func:`subject_summary` is the interval to print for four subjects.

    Raises
    ------
    PhospheneError
        When a subject has no image or a missing score, or `same_images` finds different numbers of
        images.
    """
    rows = [rows_of(one) for one in scores]
    if (
        not rows
        or n_bootstrap < 1
        or any(one.ndim != 1 or not np.isfinite(one).all() for one in rows)
    ):
        raise PhospheneError(
            "hierarchical_bootstrap: subjects with one known score per image and 1 or more "
            "resamples are needed, found "
            f"shapes {[one.shape for one in rows]} and n_bootstrap {n_bootstrap}."
        )
    if same_images and len({len(one) for one in rows}) > 1:
        raise PhospheneError(
            "hierarchical_bootstrap: same_images needs one number of images, found "
            f"{[len(one) for one in rows]}."
        )
    generator = np.random.default_rng(rng)
    draws = np.empty(n_bootstrap)
    for k in range(n_bootstrap):
        shared = generator.integers(0, len(rows[0]), len(rows[0]))
        means = []
        for subject in generator.integers(0, len(rows), len(rows)):
            own = rows[subject]
            means.append(
                own[shared if same_images else generator.integers(0, len(own), len(own))].mean()
            )
        draws[k] = np.mean(means)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def rows_of(values: ArrayLike) -> NDArray[np.float64]:
    rows = as_floats(values)
    if rows.ndim == 0 or len(rows) == 0:
        raise PhospheneError("A bootstrap needs at least one image, found none.")
    return rows


def resampled(
    rows: NDArray[np.float64],
    statistic: Statistic | None,
    n_bootstrap: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    if n_bootstrap < 1:
        raise PhospheneError(f"n_bootstrap must be 1 or more, found {n_bootstrap}.")
    n = len(rows)
    compute = np.mean if statistic is None else statistic
    return np.array(
        [compute(rows[generator.integers(0, n, n)]) for _ in range(n_bootstrap)], dtype=np.float64
    )
