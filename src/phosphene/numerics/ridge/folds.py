"""Which rows are held out together: cross-validation as checked row numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import GroupKFold, KFold

from phosphene.errors import PhospheneError

Rows = NDArray[np.intp]


def checked_labels(groups: ArrayLike | None, n: int) -> NDArray[Any] | None:
    """Check the labels of `n` rows; None where there are none."""
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise PhospheneError(
            f"RidgeCV: groups must hold one label for each of the {n} rows, found {labels.shape}."
        )
    if labels.dtype == object and any(label is None for label in labels):
        raise PhospheneError("RidgeCV: groups must hold a label for every row, found None.")
    return labels


def row_splits(
    n: int, cv: Any, groups: ArrayLike | None = None, least_test: int = 1
) -> list[tuple[Rows, Rows]]:
    """Turn ``cv`` into checked (train, test) row numbers.

    Parameters
    ----------
    n : int
        Number of rows.
    cv : int, splitter or iterable of (train, test)
        As :class:`phosphene.RidgeCV` takes it.
    groups : array_like, (n,), optional
        Rows of one group stay in one fold.
    least_test : int
        Rows that a score needs.
    """
    labels = checked_labels(groups, n)
    if isinstance(cv, (int, np.integer)):
        available, what = (n, "rows") if labels is None else (len(np.unique(labels)), "groups")
        if not 2 <= cv <= available:
            raise PhospheneError(
                f"RidgeCV: cv must lie between 2 and the number of {what}, {available}, found {cv}."
            )
        cv = KFold(cv) if labels is None else GroupKFold(cv)
    try:
        pairs: Iterable[Any] = (
            cv.split(np.empty((n, 1)), None, labels) if hasattr(cv, "split") else cv
        )
        splits = [(np.asarray(train), np.asarray(test)) for train, test in pairs]
    except (TypeError, ValueError) as error:
        raise PhospheneError(
            f"RidgeCV: cv gave no (train, test) splits of {n} rows: {error}"
        ) from error
    if not splits:
        raise PhospheneError("RidgeCV: cv gave no (train, test) splits; give at least one.")
    for number, (train, test) in enumerate(splits, start=1):
        _check_split(n, number, train, test, least_test)
    return splits


def _check_split(n: int, number: int, train: Rows, test: Rows, least_test: int) -> None:
    rows = np.concatenate([train, test])
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(np.unique(rows)) != len(rows):
        raise PhospheneError(
            f"RidgeCV: split {number} of cv must list row numbers, each once, in train or test."
        )
    if len(train) < 2 or len(test) < least_test or rows.min() < 0 or rows.max() >= n:
        raise PhospheneError(
            f"RidgeCV: split {number} of cv needs 2 training and {least_test} test rows or more "
            f"within 0..{n - 1}, "
            f"found {len(train)} and {len(test)}; use fewer folds."
        )
