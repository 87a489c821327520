"""The audit's pictures: reconstructions beside those that needed no brain, in the study's own
measure.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.auditing import checks
from phosphene.auditing.baseline_verdicts import (
    SHUFFLE_SCATTER,
    caption,
    ceiling,
    control,
    half,
    oracle,
    retrieved,
    within_category,
    without_brain,
)
from phosphene.auditing.case import NO_PHOTOGRAPHS, Answers, Case
from phosphene.auditing.conditions import Condition, compared_conditions
from phosphene.auditing.lines import Line, Score, not_asked
from phosphene.data.dataset import Photographs
from phosphene.data.trials import image_ids
from phosphene.methods import BRAIN, CATEGORY, MEAN, MODE_FEATURES, SHUFFLED, TRUE
from phosphene.metrics.presets import PRESETS, Metric, own_selection
from phosphene.models.diffusion.batching import own_device
from phosphene.models.perceptual.extraction import features
from phosphene.models.perceptual.stamps import missing
from phosphene.numerics.identification import choose, correlations, identify

NEAREST = "nearest training picture"
CHECKS = (
    "mean-feature prediction",
    "shuffled brain",
    "z only",
    "c only",
    "caption with random noise",
    "category with random noise",
    "true features",
    NEAREST,
    "same category",
    "best of several samples",
)
Scores = dict[tuple[str, str], Score]


def conditions(case: Case) -> list[Condition]:
    """Every kind of picture that is compared; nothing where no photograph is known to compare
    with.
    """
    if not case.has_test_images:
        return []
    return compared_conditions(case.mode, case.features, _has_categories(case))


def _has_categories(case: Case) -> bool:
    return any(case.data.categories(case.items["image"].tolist()))


def compared(case: Case) -> Answers:
    """Score all conditions, and judge each against what it must be."""
    if not case.has_test_images:
        return Answers([not_asked(check, NO_PHOTOGRAPHS) for check in CHECKS])
    tables = {key: case.scoring.score(case.reconstructed(*key)) for key in conditions(case)}
    photographs = nearest_photographs(case)
    tables[case.mode, NEAREST] = case.scoring.score([Photographs(case.data, photographs.tolist())])
    all_scores = pd.concat(
        [table.assign(mode=mode, source=source) for (mode, source), table in tables.items()],
        ignore_index=True,
    )
    preset = measured(case, all_scores)
    if not preset:
        why = "no two-way measure of evaluate.presets has its weights here"
        return Answers([not_asked(check, why) for check in CHECKS], {"scores": all_scores})
    found = {key: headline(table, preset) for key, table in tables.items()}
    ask: list[Callable[[], Line]] = [
        lambda: control(
            CHECKS[0], found[case.mode, MEAN], "a decoder that always predicts the mean"
        ),
        lambda: control(
            CHECKS[1],
            found[case.mode, SHUFFLED],
            "a decoder that was told wrong pictures",
            SHUFFLE_SCATTER,
        ),
        lambda: _half(case, found, "z"),
        lambda: _half(case, found, "c"),
        lambda: _words(case, found, TRUE, CHECKS[4]),
        lambda: _words(case, found, CATEGORY, CHECKS[5]),
        lambda: ceiling(CHECKS[6], found[case.mode, TRUE], found[case.mode, BRAIN]),
        lambda: retrieved(
            NEAREST,
            found[case.mode, NEAREST],
            found[case.mode, BRAIN],
            len(np.unique(photographs)),
            len(photographs),
        ),
        lambda: same_category(case, preset, CHECKS[8]),
        lambda: _oracle(tables[case.mode, BRAIN], preset, CHECKS[9]),
    ]
    nearest = pd.DataFrame({"image": case.items["image"].to_numpy(), "nearest": photographs})
    return Answers([line() for line in ask], {"scores": all_scores, "nearest": nearest})


# One number for each kind of picture


def measured(case: Case, scores: pd.DataFrame) -> str:
    """Name the study's first preset that has a two-way measure; "" where none has its weights."""
    there = set(scores.loc[scores["kind"] == "two-way", "preset"])
    return next((name for name in case.scoring.presets if name in there), "")


def headline(scores: pd.DataFrame, preset: str, selection: str | None = None) -> Score:
    """Mean over a preset's two-way measures of accuracy and interval: as the report's headline.

    In the preset's first direction, by its own rule for choosing among samples. Measures of one set
    of pictures rise and fall together, so that the mean of intervals is about the mean's interval.
    """
    rows = scores[(scores["preset"] == preset) & (scores["kind"] == "two-way")]
    rows = rows[rows["direction"] == rows["direction"].iloc[0]]
    rows = own_selection(rows) if selection is None else rows[rows["selection"] == selection]
    value, low, high = rows[["value", "ci_low", "ci_high"]].mean()
    return Score(float(value), float(low), float(high))


# Lines


def _half(case: Case, found: Scores, mode: str) -> Line:
    check = f"{mode} only"
    if mode == case.mode or (mode, BRAIN) not in found:
        return not_asked(
            check, f"the study makes pictures from {' and '.join(case.features)} alone"
        )
    return half(check, found[mode, BRAIN], found[case.mode, BRAIN], case.mode)


def _words(case: Case, found: Scores, source: str, check: str) -> Line:
    if ("c", source) not in found:
        why = (
            "the study decodes no c"
            if "c" not in case.features
            else "no things are named in the test pictures"
        )
        return not_asked(check, why)
    words = found["c", source]
    brain = found[case.mode, BRAIN]
    if source == TRUE:
        return caption(check, words, found["c", BRAIN], brain)
    return without_brain(check, words, brain, "the names of the things in them")


def _oracle(scores: pd.DataFrame, preset: str, check: str) -> Line:
    rows = scores[(scores["preset"] == preset) & (scores["kind"] == "two-way")]
    if "oracle" not in set(rows["selection"]):
        return not_asked(check, "there is one sample of every picture")
    best, single = (headline(scores, preset, rule) for rule in ("oracle", "single"))
    return oracle(check, best, headline(scores, preset), single, int(rows["samples"].max()))


def nearest_photographs(case: Case) -> NDArray[np.int64]:
    """Training picture whose true features are nearest to the decoded ones, by mean correlation
    over features: ids.
    """
    ids = image_ids(case.data)
    total = np.zeros((len(case.items), len(image_ids(case.data))))
    for feature in MODE_FEATURES[case.mode]:
        total += np.nan_to_num(
            checks.similarities(case.prediction(feature), case.true(feature)), nan=-1.0
        )
    return np.asarray(ids[case.train_rows[checks.nearest(total[:, case.train_rows]).row]])


def same_category(case: Case, preset: str, check: str) -> Line:
    """Identification among pictures whose largest thing is the same, in a preset's own measures."""
    among = checks.first_names(case.data.categories(case.items["image"].tolist()))
    n = int((among.sum(axis=1) > among.diagonal()).sum())
    if n < 2:
        return not_asked(
            check, "no two test pictures have the same category, or categories are not known"
        )
    made = case.reconstructed(case.mode, BRAIN)
    shown = Photographs(case.data, case.items["image"].tolist())
    options = {"weights": case.scoring.weights, "cache": case.scoring.cache}
    metrics = [
        m
        for m in PRESETS[preset].metrics
        if m.kind == "two-way"
        and m.space is not None
        and missing(m.space, case.scoring.weights) is None
    ]
    metrics = [m for m in metrics if m.direction == metrics[0].direction]
    spaces = list(dict.fromkeys(m.space for m in metrics if m.space is not None))
    device = own_device(case.scoring.device)
    seen = features(shown, spaces, device=device, **options)
    samples = [features(sample, spaces, device=device, **options) for sample in made]
    rule = PRESETS[preset].selection
    r = {
        s: choose(np.stack([correlations(some[s], seen[s])[0] for some in samples]), rule)
        for s in spaces
    }

    def score(mask: NDArray[np.bool_] | None) -> Score:
        found = [_identified(case, r[m.space], m, mask) for m in metrics if m.space is not None]
        return Score(*np.mean(found, axis=0).tolist())

    return within_category(check, score(among), score(None), n)


def _identified(
    case: Case, r: NDArray[np.float64], metric: Metric, among: NDArray[np.bool_] | None
) -> list[float]:
    assert metric.direction is not None
    found = identify(
        r,
        direction=metric.direction,
        among=among,
        n_bootstrap=case.scoring.n_bootstrap,
        n_permutations=0,
        rng=case.rng("category", metric.name, metric.direction),
    )
    return [found.accuracy, *found.ci]
