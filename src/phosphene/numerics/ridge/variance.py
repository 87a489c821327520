"""What each feature space explains of measurements that it was not fitted to, in two ways that have
names.

``leave_one_out``: R² that is lost without a space, what no other space can give.
``product_measure``: the R² of the joint model split among its spaces, what they share divided
between them.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from phosphene.errors import PhospheneError
from phosphene.numerics import correlation
from phosphene.numerics.ridge.banded import BandedRidgeCV, Spaces
from phosphene.numerics.ridge.solving import Floats

Measure = Literal["r2", "correlation", "squared_correlation"]
BLOCK = 512  # targets predicted at a time


def leave_one_out(
    model: BandedRidgeCV,
    train: Spaces,
    Y: Any,
    test: Spaces,
    Y_test: ArrayLike,
    groups: ArrayLike | None = None,
) -> dict[str, Floats]:
    """Measure what each space alone explains: R² of all spaces minus R² of a model fitted without
    it.

    What two spaces both could explain counts for neither. Values below zero are noise: the model
    did better without.

    Parameters
    ----------
    model : BandedRidgeCV
        Its settings are used; explicit `mixes` lose the column of the space that is left out.
    train, test : mapping of str to array_like, (n, p_b)
    Y, Y_test : array_like, (n, t)
    groups : array_like, (n,), optional
        Of the training rows.

    Returns
    -------
    dict of str to ndarray, (t,)
        "all" is the R² of the joint model on the test rows, every other name the unique variance of
        that space.
    """
    truth = np.asarray(Y_test, dtype=np.float64)

    def r2(spaces: list[str]) -> Floats:
        one = clone(model)
        if not isinstance(model.mixes, (int, np.integer)):
            kept = np.atleast_2d(np.asarray(model.mixes, float))[
                :, [list(train).index(name) for name in spaces]
            ]
            one.set_params(mixes=kept[kept.sum(axis=1) > 0])
        one.fit({name: train[name] for name in spaces}, Y, groups)
        return correlation.r2(truth, one.predict({name: test[name] for name in spaces}))

    if len(train) < 2:
        raise PhospheneError(
            "leave_one_out: one space alone has nothing to be compared with; give two or more."
        )
    joint = r2(list(train))
    return {"all": joint} | {
        name: joint - r2([other for other in train if other != name]) for name in train
    }


def product_measure(truth: ArrayLike, parts: ArrayLike, measure: Measure = "r2") -> Floats:
    """Split what a joint model explains among its spaces (Pratt 1987; Dupré la Tour et al. 2022).

    With y the measurements, p_b what space b adds to the prediction and p = Σ p_b, all centred over
    the test rows:

    - "r2": share ``Σ p_b (2 y - p) / Σ y²``, total ``R² = 1 - Σ (y - p)² / Σ y²``; himalaya's
      ``r2_score_split``.
    - "correlation": share ``Σ p_b y / sqrt(Σ p² Σ y²)``, total Pearson's r; himalaya's
      ``correlation_score_split``.
    - "squared_correlation": these shares times r, total r².

    The shares add up to the total. What spaces have in common is divided between them by how much
    each contributes, and a share can be negative where a space corrects another.

    Parameters
    ----------
    truth : array_like, (n, t)
        Of rows that were not fitted.
    parts : array_like, (n_spaces, n, t)
        What every space adds to the prediction, as from :meth:`BandedRidgeCV.predict_spaces`.
    measure : "r2", "correlation" or "squared_correlation"

    Returns
    -------
    ndarray, (n_spaces, t)
        As means are taken off, "r2" adds up to the R² without the error of the predicted mean,
        which belongs to no space (:func:`variance_by_space` names it). NaN where the truth is
        constant, or for correlations the prediction.
    """
    if measure not in get_args(Measure):
        raise PhospheneError(
            f"product_measure: measure must be one of {get_args(Measure)}, found {measure!r}."
        )
    y = np.asarray(truth, dtype=np.float64)
    each = np.asarray(parts, dtype=np.float64)
    if y.ndim != 2 or each.ndim != 3 or each.shape[1:] != y.shape or not each.size:
        raise PhospheneError(
            "product_measure: truth (n, t) and parts (n_spaces, n, t) are needed, found "
            f"{y.shape} and {each.shape}."
        )
    constant = (y == y[0]).all(axis=0)
    y = y - y.mean(axis=0)
    each = each - each.mean(axis=1, keepdims=True)
    whole = each.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.where(constant, np.nan, (y * y).sum(axis=0))
        if measure == "r2":
            return np.asarray(np.einsum("bij,ij->bj", each, (2 * y - whole) / spread))
        shares = np.einsum("bij,ij->bj", each, y / np.sqrt(spread * (whole * whole).sum(axis=0)))
        return np.asarray(shares if measure == "correlation" else shares * shares.sum(axis=0))


def variance_by_space(
    model: BandedRidgeCV, test: Spaces, Y_test: Any, measure: Measure = "r2"
) -> dict[str, Floats]:
    """Split what a fitted model explains of new rows among its spaces: :func:`product_measure` in
    blocks of targets.

    Nothing is fitted again, unlike in :func:`leave_one_out`.

    Parameters
    ----------
    model : BandedRidgeCV
        Fitted.
    test : mapping of str to array_like, (n, p_b)
    Y_test : array, memory map or zarr array, (n, t)
        Read in blocks of targets.
    measure : "r2", "correlation" or "squared_correlation"

    Returns
    -------
    dict of str to ndarray, (t,)
        "all", the R² (as ``scoring.r2``), r or r² of the predictions; every space; and for "r2"
        "mean": minus the squared error of the predicted mean in units of variance, which no space
        is to blame for. The others add up to "all".
    """
    model.check_spaces(test)
    X = {name: np.asarray(test[name], dtype=np.float64) for name in model.spaces_}
    n = len(next(iter(X.values())))
    t = model.coef_.shape[1]
    if (
        np.shape(Y_test) != (n, t)
        or {len(part) for part in X.values()} != {n}
        or {"all", "mean"} & set(X)
    ):
        raise PhospheneError(
            f"variance_by_space: {n} rows in every space, targets ({n}, {t}) and other names than "
            "all and mean are "
            f"needed, found targets {np.shape(Y_test)} and "
            f"{', '.join(f'{name} {x.shape}' for name, x in X.items())}."
        )
    center = {name: part.mean(axis=0) for name, part in X.items()}
    # so that large means cost no digits
    X = {name: part - center[name] for name, part in X.items()}
    shares = np.empty((len(X), t))
    means = np.zeros(t)
    for start in range(0, t, BLOCK):
        some = slice(start, start + BLOCK)
        coef = {
            name: model.coef_[rows, some].astype(np.float64) for name, rows in model.spaces_.items()
        }
        y = np.asarray(Y_test[:, some], dtype=np.float64)
        shares[:, some] = product_measure(
            y, np.stack([X[name] @ coef[name] for name in X]), measure
        )
        mean = model.intercept_[some] + np.sum([center[name] @ coef[name] for name in X], axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            means[some] = -((y.mean(axis=0) - mean) ** 2) / y.var(axis=0)
    total = shares.sum(axis=0)
    named = dict(zip(X, shares, strict=True))
    return (
        {"all": total + means} | named | {"mean": means}
        if measure == "r2"
        else {"all": total} | named
    )
