"""The decoder: ridge regression from voxels to features, as the settings of a study say."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from phosphene.data import Dataset
from phosphene.data.trials import image_ids, train_trials
from phosphene.errors import PhospheneError
from phosphene.numerics.ridge import Decomposition, Repeated, RidgeCV
from phosphene.numerics.ridge.folds import row_splits
from phosphene.numerics.ridge.targets import Columns
from phosphene.numerics.stats import reliability
from phosphene.seeds import rng
from phosphene.steps.subject import items
from phosphene.study import Study

Rows = NDArray[np.float32]


class Predicted(NamedTuple):
    """What :func:`predict` found.

    Attributes
    ----------
    prediction : ndarray of float32, shape (n_items, n_targets)
        Rows as :func:`items`; test pictures are predicted from the mean over their trials (paper,
        section A).
    alphas : ndarray of float64, shape (n_targets,)
    ceiling : ndarray of float64, shape (n_targets,)
        Square root of the reliability of predictions over the repeats of test pictures: the
        correlation with the truth that only noise in the scans would leave. NaN without repeats,
        and where runs are left out in turn: there the repeats of a picture are predicted by
        different models.
    """

    prediction: Rows
    alphas: NDArray[np.float64]
    ceiling: NDArray[np.float64]


def estimator(study: Study) -> RidgeCV:
    """Make the study's ridge, to be fitted on voxels that went through :func:`scaler`.

    The ``paper`` preset is the authors' grid and plain folds over trials.
    """
    settings = study.decode
    return RidgeCV(
        alphas="paper" if settings.preset == "paper" else np.array(settings.alphas),
        cv=settings.cv,
        scoring=settings.scoring,
        fit_intercept=settings.intercept,
        standardize=settings.standardize and settings.intercept,
    )


def scaler(
    study: Study, X: Rows, train: NDArray[np.bool_] | NDArray[np.intp]
) -> Callable[[Rows], Rows]:
    """Prepare to standardise voxels as over the training trials, where the regression has no
    intercept.

    With an intercept voxels stay as they are: the regression standardises them itself, in every
    fold anew.

    Parameters
    ----------
    study : Study
    X : ndarray of float32, shape (n_trials, n_voxels)
    train : ndarray of bool or int
        Rows of the training trials.

    Returns
    -------
    callable
        Takes and gives rows of voxels, ndarray of float32, shape (n, n_voxels).
    """
    if study.decode.intercept or not study.decode.standardize:
        return lambda rows: rows
    fitted = StandardScaler().fit(X[train])
    return lambda rows: np.asarray(fitted.transform(rows), np.float32)


def decompose(study: Study, data: Dataset, X: Rows) -> Decomposition:
    """Do what the regressions of all features from one part of the brain share.

    Parameters
    ----------
    study : Study
    data : Dataset
    X : ndarray of float32, shape (n_trials, n_voxels)

    Returns
    -------
    Decomposition
        Of the training trials; its target rows are the training images, ascending.
    """
    train, images = train_trials(data)
    groups = images if _grouped(study) else None
    rows = np.unique(images, return_inverse=True)[1]
    return estimator(study).decompose(scaler(study, X, train)(X[train]), groups, rows)


def check_folds(study: Study, data: Dataset) -> None:
    """Refuse more folds than there are groups of training trials."""
    if not _grouped(study):
        return
    if study.decode.leave_out == "run":
        kind = "training runs"
        n_groups = data.trials["run"].nunique() - 1  # one is left out
    else:
        kind = "training images"
        n_groups = len(np.unique(train_trials(data)[1]))
    if study.decode.cv > n_groups:
        raise PhospheneError(
            f"decode.cv: found {study.decode.cv} folds for {n_groups} {kind} of {data.subject}, "
            f"expected at most {n_groups}."
        )


def folds(study: Study, data: Dataset) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows of the training trials in the (training, validation) parts that choose the penalties."""
    train, images = train_trials(data)
    return row_splits(int(train.sum()), study.decode.cv, images if _grouped(study) else None)


def predict(
    study: Study,
    data: Dataset,
    X: Rows,
    Y: Rows,
    shuffled: bool,
    parts: Decomposition | None = None,
) -> Predicted:
    """Fit ridge regression on the training trials and predict the items.

    Parameters
    ----------
    study : Study
    data : Dataset
    X : ndarray of float32, shape (n_trials, n_voxels)
    Y : ndarray of float32, shape (n_images, n_targets)
        Rows as :func:`image_ids`.
    shuffled : bool
        Break the pairing of brain and picture in the training trials: the control that must fail.
    parts : Decomposition, optional
        That of :func:`decompose`, made here if it is not given; of no use where runs are left out
        in turn.
    """
    images = data.trials["image"].to_numpy()
    seen = np.searchsorted(image_ids(data), images)
    told = _shuffle(study, data, seen) if shuffled else seen
    if study.decode.leave_out == "run":
        return _predict_left_out(study, X, Y, told, data.trials["run"].to_numpy())
    train, trained = train_trials(data)
    scale = scaler(study, X, train)
    _, first, rows = np.unique(trained, return_index=True, return_inverse=True)
    model = estimator(study).fit(
        parts or decompose(study, data, X), Repeated(Y[told[train][first]], rows)
    )
    wanted = items(study, data)["image"].to_numpy()
    prediction = model.predict(
        scale(np.stack([X[images == image].mean(axis=0) for image in wanted]))
    )
    tested = ~train & np.isin(images, wanted)
    ceiling = np.sqrt(reliability(model.predict(scale(X[tested])), images[tested]))
    return Predicted(prediction, model.best_alphas_, ceiling)


def mean_features(study: Study, data: Dataset, features: Columns) -> Rows:
    """Mean features of the trials that teach, for every item: what ridge with an endless penalty
    predicts.

    Without `decode.intercept` such a ridge would predict 0; the mean is the baseline all the same.

    Parameters
    ----------
    study : Study
    data : Dataset
    features : array-like, shape (n_images, d)
        Rows as :func:`image_ids`; read once, in blocks.

    Returns
    -------
    ndarray of float32, shape (n_items, d)
        Rows as :func:`items`: equal rows, but where runs are left out in turn, equal within each
        run.
    """
    wanted = items(study, data)
    images = data.trials["image"].to_numpy()
    runs = wanted["run"].unique()
    left_out = study.decode.leave_out == "run"
    train = train_trials(data)[0]
    run_of = data.trials["run"].to_numpy()
    teach = [run_of != run if left_out else train for run in runs]
    n, d = features.shape
    counts = np.stack(
        [np.bincount(np.searchsorted(image_ids(data), images[some]), minlength=n) for some in teach]
    )
    total = np.zeros((len(runs), d))
    for start in range(0, n, 256):
        total += counts[:, start : start + 256] @ np.asarray(
            features[start : start + 256], np.float64
        )
    means = (total / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    return np.asarray(means[pd.Index(runs).get_indexer(wanted["run"])])


def _grouped(study: Study) -> bool:
    return study.decode.grouped and study.decode.preset != "paper"


def _predict_left_out(
    study: Study, X: Rows, Y: Rows, told: NDArray[np.int64], runs: NDArray[np.int64]
) -> Predicted:
    """Predict every run from a model fitted on all the others; alphas are the geometric mean over
    those models.
    """
    prediction = np.empty((len(X), Y.shape[1]), np.float32)
    logs = []
    for run in np.unique(runs):
        rest = runs != run
        scale = scaler(study, X, rest)
        model = estimator(study).fit(
            scale(X[rest]), Y[told[rest]], groups=runs[rest] if _grouped(study) else None
        )
        prediction[runs == run] = model.predict(scale(X[runs == run]))
        logs.append(np.log(model.best_alphas_))
    return Predicted(prediction, np.exp(np.mean(logs, axis=0)), np.full(Y.shape[1], np.nan))


def _shuffle(study: Study, data: Dataset, seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tell the regression a wrong picture: training images swapped among themselves, or within each
    left-out run.
    """
    told = seen.copy()
    random = rng(study.seed, data.subject, "shuffled")
    if study.decode.leave_out == "run":
        for run in data.trials["run"].unique():
            rows = np.flatnonzero(data.trials["run"] == run)
            told[rows] = seen[random.permutation(rows)]
        return told
    train = (data.trials["split"] == "train").to_numpy()
    images = np.unique(seen[train])
    told[train] = random.permutation(images)[np.searchsorted(images, seen[train])]
    return told
