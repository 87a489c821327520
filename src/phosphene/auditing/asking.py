"""The questions of the audit: a function takes a `Case` and gives lines and tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.auditing import checks, verdicts
from phosphene.auditing.case import NO_PHOTOGRAPHS, Answers, Case, Rows, rows_of
from phosphene.auditing.lines import Score, not_asked
from phosphene.data.dataset import Photographs
from phosphene.data.trials import image_ids, train_trials
from phosphene.errors import without_warnings
from phosphene.numerics.identification import correlations, identify

SAMPLED = 1000  # training pictures that stand for all where pairs of them are compared
# training pictures that clusters are made of: regressions are fitted some twenty times
HELD_OUT = 2000
# principal components of features that clusters are found in and that are decoded from them
COMPONENTS = 100
CLUSTERS = 10
PER_CLUSTER = 20  # pictures at least, on average


# Which trials taught and tested


def leaks(case: Case) -> Answers:
    """Test pictures among the training pictures, by name and by content."""
    check = "leaked test trials"
    if not case.has_test_images:
        return Answers([not_asked(check, NO_PHOTOGRAPHS)])
    ids = image_ids(case.data)
    tested = ids[np.unique(case.test_rows)]
    taught = ids[case.train_rows]
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
    return Answers(
        [verdicts.leaks(check, len(both), len(twins), len(tested))],
        {"leaks": table.astype({"by": str})},
    )


def _each(pictures: Photographs) -> Iterator[NDArray[np.uint8]]:
    return (pictures[k] for k in range(len(pictures)))


def penalties(case: Case) -> Answers:
    """Repeats across the folds that choose penalties, and penalties at the ends of their grid."""
    decoder = case.decoder
    lines = []
    check = "repeats across folds"
    if decoder.leaves_runs_out:
        lines.append(
            not_asked(
                check, "runs are left out in turn, and every picture is in every run on purpose"
            )
        )
    else:
        images = train_trials(case.data)[1]
        torn = checks.split_images(decoder.folds(), images)
        lines.append(verdicts.repeats(check, len(torn), len(case.train_rows), decoder.paper))
    grid = decoder.alphas
    for feature in case.features:
        decoded = case.decoded(feature)
        r = np.asarray(decoded.r[:])
        alphas = np.asarray(decoded.best_alphas[:])
        # what is constant has no best penalty
        low, high = checks.share_at_edges(alphas[np.isfinite(r)], grid)
        lines.append(
            verdicts.edges(
                f"alphas at the edges, {feature}", low, high, (float(grid.min()), float(grid.max()))
            )
        )
    return Answers(lines)


def statistics(case: Case) -> Answers:
    """Predictions rescaled with test statistics, and responses standardised over sessions with test
    trials.
    """
    trials = case.data.trials
    zscore = case.decoder.zscore
    sessions = trials["session"].nunique() if "session" in trials else 0
    if not case.has_test_images:
        why = (
            "there are no test pictures of their own that predictions could have been rescaled over"
        )
        return Answers([not_asked("test-batch rescaling", why)])
    lines = []
    shares = (trials["split"] == "test").groupby(trials["session"]).mean()
    for feature in case.features:
        true = case.true(feature)
        prediction = case.prediction(feature)
        references = {
            "the training pictures": checks.moments(true, case.train_rows),
            "the true test features": checks.moments(true, np.unique(case.test_rows)),
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
    return Answers(lines)


# What predictions look like


def variety(case: Case) -> Answers:
    """Effective dimension of predictions against that of the true features of the same items."""
    lines = []
    rows = []
    for feature in case.features:
        true = rows_of(case.true(feature), case.test_rows)
        prediction = case.prediction(feature)
        ours, most = (checks.effective_dimension(some) for some in (prediction, true))
        _, sd = checks.moments(true, np.arange(len(true)))
        spread = checks.spread(prediction, sd)
        lines.append(verdicts.dimension(f"effective dimension, {feature}", ours, most, spread))
        rows.append(
            {"feature": feature, "predicted": ours, "true": most, "spread": spread, "n": len(true)}
        )
    return Answers(lines, {"dimensions": pd.DataFrame(rows)})


def overlap(case: Case) -> Answers:
    """Nearest training picture of every test picture, against those of training pictures among
    themselves.
    """
    check = "overlap of test and training pictures"
    if not case.has_test_images:
        return Answers([not_asked(check, NO_PHOTOGRAPHS)])
    lines = []
    tables = []
    ids = image_ids(case.data)
    outside = np.ones(len(image_ids(case.data)), bool)
    outside[case.train_rows] = False
    some = np.sort(case.rng("overlap").permutation(case.train_rows)[:SAMPLED])
    for feature in case.features:
        true = case.true(feature)
        for kind, rows in (("test", case.test_rows), ("training", some)):
            r = checks.similarities(rows_of(true, rows), true)
            r[:, outside] = np.nan
            # itself; a test picture is not among them unless it leaked
            best = checks.nearest(r, exclude=rows)
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
    return Answers(lines, {"overlap": pd.concat(tables, ignore_index=True)})


# Clusters held out


def held_out(case: Case) -> Answers:
    """Decode training pictures by models that never saw their cluster, and by models that never saw
    a random set.
    """
    check = "clusters held out"
    n_clusters = min(CLUSTERS, len(case.train_rows) // PER_CLUSTER)
    if not case.has_test_images or n_clusters < 2:
        why = (
            NO_PHOTOGRAPHS
            if not case.has_test_images
            else f"{len(case.train_rows)} training pictures make no clusters"
        )
        return Answers([not_asked(check, why)])
    lines = []
    rows = []
    some = np.sort(case.rng("clusters").permutation(case.train_rows)[:HELD_OUT])
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
    return Answers(lines, {"clusters": pd.DataFrame(rows)})


def _mean_responses(case: Case, feature: str, rows: NDArray[np.intp]) -> Rows:
    """Mean over training trials of the study's voxels, for some training pictures."""
    X = case.decoder.responses(feature)
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
    with without_warnings():
        predicted = checks.held_out(case.decoder.fitted(X, targets), targets, labels)
    asked = np.sort(case.rng("candidates").permutation(len(targets))[:SAMPLED])
    r = correlations(predicted[asked], targets[asked])[0]
    found = identify(
        r,
        direction="braindiffuser",
        n_bootstrap=case.scoring.n_bootstrap,
        n_permutations=0,
        rng=case.rng("identify", feature),
    )
    return Score(found.accuracy, *found.ci)
