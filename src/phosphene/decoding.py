"""From brain activity to features: which trials teach the regression, and what it predicts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data import Dataset
from phosphene.errors import PhospheneError
from phosphene.ridge import Decomposition, Repeated, RidgeCV
from phosphene.study import Study, rng

Rows = NDArray[np.float32]


def image_ids(data: Dataset) -> NDArray[np.int64]:
    """Ids of every picture that was seen, ascending: the rows of the extracted features."""
    return np.unique(data.trials["image"].to_numpy())


def items(study: Study, data: Dataset) -> pd.DataFrame:
    """What is decoded: one row per test image, or per row of `trials` when runs are left out in turn."""
    trials = data.trials
    if study.decode.leave_out == "run":
        if data.photographs:
            raise PhospheneError(
                "decode.leave_out: found 'run' for data with test pictures of their own, whose repeats would be in "
                "other runs; expected ''."
            )
        return pd.DataFrame({"image": trials["image"], "run": trials["run"], "n_trials": 1}).reset_index(drop=True)
    counts = trials.loc[trials["split"] == "test", "image"].value_counts().sort_index()
    if counts.empty:
        raise PhospheneError(
            f"{study.data_root}: found no test trials for {data.subject}, expected images of the shared set; "
            "use more sessions."
        )
    return pd.DataFrame({"image": counts.index.to_numpy(), "run": 0, "n_trials": counts.to_numpy()})


def estimator(study: Study) -> RidgeCV:
    """Make the study's ridge; the ``paper`` preset is the authors' grid and plain folds over trials."""
    settings = study.decode
    alphas = "paper" if settings.preset == "paper" else np.array(settings.alphas)
    return RidgeCV(alphas=alphas, cv=settings.cv, standardize=settings.standardize)


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
    train, images = _train(data)
    groups = images if _grouped(study) else None
    return estimator(study).decompose(X[train], groups, rows=np.unique(images, return_inverse=True)[1])


def predict(
    study: Study, data: Dataset, X: Rows, Y: Rows, shuffled: bool, parts: Decomposition | None = None
) -> tuple[Rows, NDArray[np.float64]]:
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
        That of :func:`decompose`, made here if it is not given; of no use where runs are left out in turn.

    Returns
    -------
    prediction : ndarray of float32, shape (n_items, n_targets)
        Rows as :func:`items`; test pictures are predicted from the mean over their trials (paper, section A).
    alphas : ndarray of float64, shape (n_targets,)
    """
    images = data.trials["image"].to_numpy()
    seen = np.searchsorted(image_ids(data), images)
    told = _shuffle(study, data, seen) if shuffled else seen
    if study.decode.leave_out == "run":
        return _predict_left_out(study, X, Y, told, data.trials["run"].to_numpy())
    train, trained = _train(data)
    _, first, rows = np.unique(trained, return_index=True, return_inverse=True)
    model = estimator(study).fit(parts or decompose(study, data, X), Repeated(Y[told[train][first]], rows))
    averages = np.stack([X[images == image].mean(axis=0) for image in items(study, data)["image"]])
    return model.predict(averages), model.best_alphas_


def _train(data: Dataset) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which trials teach, and their images."""
    train = (data.trials["split"] == "train").to_numpy()
    return train, data.trials["image"].to_numpy()[train]


def _grouped(study: Study) -> bool:
    return study.decode.grouped and study.decode.preset != "paper"


def _predict_left_out(study: Study, X: Rows, Y: Rows, told: NDArray[np.int64],
                      runs: NDArray[np.int64]) -> tuple[Rows, NDArray[np.float64]]:  # fmt: skip
    """Predict every run from a model fitted on all the others; alphas are the geometric mean over those models."""
    prediction, logs = np.empty((len(X), Y.shape[1]), np.float32), []
    for run in np.unique(runs):
        rest = runs != run
        model = estimator(study).fit(X[rest], Y[told[rest]], groups=runs[rest] if _grouped(study) else None)
        prediction[runs == run] = model.predict(X[runs == run])
        logs.append(np.log(model.best_alphas_))
    return prediction, np.exp(np.mean(logs, axis=0))


def _shuffle(study: Study, data: Dataset, seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tell the regression a wrong picture: training images swapped among themselves, or within each left-out run."""
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
