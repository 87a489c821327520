"""Numbers for the audit out of a study's artefacts: one function per group of questions, each a
part of the stage.

A function takes a `Case` and gives lines and tables. Nothing is pulled here but what an earlier
stage has finished.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.auditing import checks, verdicts
from phosphene.auditing.verdicts import Line, Score
from phosphene.data import Dataset
from phosphene.data.dataset import Photographs
from phosphene.data.trials import image_ids, train_trials
from phosphene.errors import without_warnings
from phosphene.numerics.identification import correlations, identify
from phosphene.numerics.ridge import PAPER_ALPHAS
from phosphene.pipeline.store import Artefact, Store
from phosphene.seeds import rng
from phosphene.steps.betas import responses
from phosphene.steps.conditions import features_of, richest_mode
from phosphene.steps.decode import decode_recipe
from phosphene.steps.extract import extract_recipe
from phosphene.steps.regression import Rows, estimator, folds, scaler
from phosphene.steps.subject import dataset, items
from phosphene.study import Compute, Study

NO_PHOTOGRAPHS = (
    "it is not known which pictures were seen, or all of them were seen in training and test"
)
SAMPLED = 1000  # training pictures that stand for all where pairs of them are compared
HELD_OUT = (
    2000  # training pictures that clusters are made of: regressions are fitted some twenty times
)
# principal components of features that clusters are found in and that are decoded from them
COMPONENTS = 100
CLUSTERS = 10
PER_CLUSTER = 20  # pictures at least, on average


@dataclass(frozen=True)
class Case:
    """One subject of a study, as every question needs it."""

    study: Study
    subject: str
    compute: Compute

    @cached_property
    def data(self) -> Dataset:
        return dataset(self.study, self.subject)

    @cached_property
    def wanted(self) -> pd.DataFrame:
        """What was decoded: rows of predictions."""
        return items(self.study, self.data)

    @property
    def features(self) -> list[str]:
        return features_of(self.study)

    @property
    def mode(self) -> str:
        return richest_mode(self.study)

    @property
    def split(self) -> bool:
        """Whether there are test pictures that are not training pictures."""
        return self.data.photographs and self.study.decode.leave_out != "run"

    @cached_property
    def tested(self) -> NDArray[np.intp]:
        """Rows of the items among the features."""
        return np.asarray(np.searchsorted(image_ids(self.data), self.wanted["image"].to_numpy()))

    @cached_property
    def taught(self) -> NDArray[np.intp]:
        """Rows of the training pictures among the features."""
        return np.searchsorted(image_ids(self.data), np.unique(train_trials(self.data)[1]))

    def decoded(self, feature: str) -> Artefact:
        return Store(self.study.root).artefact(decode_recipe(self.study, self.subject, feature))

    def prediction(self, feature: str) -> Rows:
        return np.asarray(self.decoded(feature).array("prediction")[:], np.float32)

    def true(self, feature: str) -> checks.RowsOf:
        """Features of all pictures, on disk."""
        array: checks.RowsOf = (
            Store(self.study.root)
            .artefact(extract_recipe(self.study, self.subject, feature))
            .array("features")
        )
        return array

    def rng(self, *keys: str) -> np.random.Generator:
        return rng(self.study.seed, self.subject, "audit", *keys)


@dataclass(frozen=True)
class Found:
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


# Which trials taught and tested


def leaks(case: Case) -> Found:
    """Test pictures among the training pictures, by name and by content."""
    check = "leaked test trials"
    if not case.split:
        return Found([verdicts.not_asked(check, NO_PHOTOGRAPHS)])
    ids = image_ids(case.data)
    tested = ids[np.unique(case.tested)]
    taught = ids[case.taught]
    both = np.intersect1d(tested, taught)
    shown = [Photographs(case.data, some.tolist()) for some in (tested, taught)]
    pairs = checks.same_contents(*(_each(pictures) for pictures in shown))
    twins = {int(tested[i]) for i, j in pairs if tested[i] != taught[j]} - set(both.tolist())
    table = pd.DataFrame(
        {
            "image": [*both.tolist(), *sorted(twins)],
            "by": ["name"] * len(both) + ["content"] * len(twins),
        }
    )
    return Found(
        [verdicts.leaks(check, len(both), len(twins), len(tested))],
        {"leaks": table.astype({"by": str})},
    )


def _each(pictures: Photographs) -> Iterator[NDArray[np.uint8]]:
    return (pictures[k] for k in range(len(pictures)))


def penalties(case: Case) -> Found:
    """Repeats across the folds that choose penalties, and penalties at the ends of their grid."""
    study = case.study
    lines = []
    check = "repeats across folds"
    if study.decode.leave_out == "run":
        lines.append(
            verdicts.not_asked(
                check, "runs are left out in turn, and every picture is in every run on purpose"
            )
        )
    else:
        images = train_trials(case.data)[1]
        torn = checks.split_images(folds(study, case.data), images)
        lines.append(
            verdicts.repeats(check, len(torn), len(case.taught), study.decode.preset == "paper")
        )
    grid = np.array(PAPER_ALPHAS if study.decode.preset == "paper" else study.decode.alphas)
    for feature in case.features:
        decoded = case.decoded(feature)
        r, alphas = (np.asarray(decoded.array(name)[:]) for name in ("r", "best_alphas"))
        low, high = checks.share_at_edges(
            alphas[np.isfinite(r)], grid
        )  # what is constant has no best penalty
        lines.append(
            verdicts.edges(
                f"alphas at the edges, {feature}", low, high, (float(grid.min()), float(grid.max()))
            )
        )
    return Found(lines)


def statistics(case: Case) -> Found:
    """Predictions rescaled with test statistics, and responses standardised over sessions with test
    trials.
    """
    trials = case.data.trials
    zscore = case.study.data.zscore
    sessions = trials["session"].nunique() if "session" in trials else 0
    if not case.split:
        why = (
            "there are no test pictures of their own that predictions could have been rescaled over"
        )
        return Found([verdicts.not_asked("test-batch rescaling", why)])
    lines = []
    shares = (trials["split"] == "test").groupby(trials["session"]).mean()
    for feature in case.features:
        true = case.true(feature)
        prediction = case.prediction(feature)
        references = {
            "the training pictures": checks.moments(true, case.taught),
            "the true test features": checks.moments(true, np.unique(case.tested)),
        }
        width = prediction.shape[1]
        references["a standard score"] = (
            np.zeros(width),
            (references["the training pictures"][1] > 0).astype(float),
        )
        found = {
            name: checks.rescaling(prediction, *moments) for name, moments in references.items()
        }
        test_only = zscore == "session" and bool((shares == 1).any())
        lines.append(
            verdicts.rescaled(f"test-batch rescaling, {feature}", found, len(prediction), test_only)
        )
    lines.append(
        verdicts.zscored("z-scores of sessions", zscore, int((shares > 0).sum()), sessions)
    )
    return Found(lines)


# What predictions look like


def variety(case: Case) -> Found:
    """Effective dimension of predictions against that of the true features of the same items."""
    lines = []
    rows = []
    for feature in case.features:
        true = rows_of(case.true(feature), case.tested)
        prediction = case.prediction(feature)
        ours, most = (checks.effective_dimension(some) for some in (prediction, true))
        _, sd = checks.moments(true, np.arange(len(true)))
        spread = checks.spread(prediction, sd)
        lines.append(verdicts.dimension(f"effective dimension, {feature}", ours, most, spread))
        rows.append(
            {"feature": feature, "predicted": ours, "true": most, "spread": spread, "n": len(true)}
        )
    return Found(lines, {"dimensions": pd.DataFrame(rows)})


def overlap(case: Case) -> Found:
    """Nearest training picture of every test picture, against those of training pictures among
    themselves.
    """
    check = "overlap of test and training pictures"
    if not case.split:
        return Found([verdicts.not_asked(check, NO_PHOTOGRAPHS)])
    lines = []
    tables = []
    ids = image_ids(case.data)
    outside = np.ones(len(image_ids(case.data)), bool)
    outside[case.taught] = False
    some = np.sort(case.rng("overlap").permutation(case.taught)[:SAMPLED])
    for feature in case.features:
        true = case.true(feature)
        for kind, rows in (("test", case.tested), ("training", some)):
            r = checks.similarities(rows_of(true, rows), true)
            r[:, outside] = np.nan
            best = checks.nearest(
                r, exclude=rows
            )  # itself; a test picture is not among them unless it leaked
            tables.append(
                pd.DataFrame(
                    {
                        "feature": feature,
                        "kind": kind,
                        "image": ids[rows],
                        "nearest": ids[best.row],
                        "r": best.r,
                    }
                )
            )
        test, train = (table["r"].to_numpy() for table in tables[-2:])
        beyond = checks.share_beyond(test, train, verdicts.OVERLAP_PERCENTILE)
        medians = float(np.nanmedian(test)), float(np.nanmedian(train))
        lines.append(verdicts.overlap(f"{check}, {feature}", *medians, beyond))
    return Found(lines, {"overlap": pd.concat(tables, ignore_index=True)})


# Clusters held out


def held_out(case: Case) -> Found:
    """Decode training pictures by models that never saw their cluster, and by models that never saw
    a random set.
    """
    check = "clusters held out"
    n_clusters = min(CLUSTERS, len(case.taught) // PER_CLUSTER)
    if not case.split or n_clusters < 2:
        why = (
            NO_PHOTOGRAPHS
            if not case.split
            else f"{len(case.taught)} training pictures make no clusters"
        )
        return Found([verdicts.not_asked(check, why)])
    lines = []
    rows = []
    some = np.sort(case.rng("clusters").permutation(case.taught)[:HELD_OUT])
    for feature in case.features:
        seed = int(case.rng("clusters", feature).integers(2**31))
        targets, labels = checks.clusters(
            rows_of(case.true(feature), some), n_clusters, COMPONENTS, seed
        )
        with without_warnings():
            X = _mean_responses(case, feature, some)
        found = {}
        for split, sets in (
            ("clusters", labels),
            ("random", checks.same_sizes(labels, case.rng("sets", feature))),
        ):
            found[split] = _identified(case, X, targets, sets, feature)
            score = found[split]
            rows.append(
                {
                    "feature": feature,
                    "split": split,
                    "accuracy": score.value,
                    "ci_low": score.low,
                    "ci_high": score.high,
                    "n": len(some),
                    "clusters": n_clusters,
                }
            )
        line = verdicts.held_out(
            f"{check}, {feature}", found["clusters"], found["random"], n_clusters, len(some)
        )
        lines.append(line)
    return Found(lines, {"clusters": pd.DataFrame(rows)})


def _mean_responses(case: Case, feature: str, rows: NDArray[np.intp]) -> Rows:
    """Mean over training trials of the study's voxels, for some training pictures."""
    X = responses(case.study, case.subject, getattr(case.study.decode, feature).rois)
    train, images = train_trials(case.data)
    trials = np.flatnonzero(train)
    ids = image_ids(case.data)
    return np.stack([X[trials[images == image]].mean(axis=0) for image in ids[rows]])


def _identified(
    case: Case, X: Rows, targets: NDArray[np.float64], labels: NDArray[np.int64], feature: str
) -> Score:
    """Two-way identification among the same at most `SAMPLED` pictures, whatever sets were held
    out.
    """

    def fit_predict(train: NDArray[np.intp], test: NDArray[np.intp]) -> NDArray[np.float64]:
        scale = scaler(case.study, X, train)
        model = estimator(case.study).fit(scale(X[train]), targets[train].astype(np.float32))
        # without an intercept predictions lack the mean, which `held_out` takes off
        mean = 0.0 if case.study.decode.intercept else targets[train].mean(axis=0)
        return np.asarray(model.predict(scale(X[test])), np.float64) + mean

    with without_warnings():
        predicted = checks.held_out(fit_predict, targets, labels)
    asked = np.sort(case.rng("candidates").permutation(len(targets))[:SAMPLED])
    r = correlations(predicted[asked], targets[asked])[0]
    found = identify(
        r,
        direction="braindiffuser",
        n_bootstrap=case.study.evaluate.bootstrap,
        n_permutations=0,
        rng=case.rng("identify", feature),
    )
    return Score(found.accuracy, *found.ci)
