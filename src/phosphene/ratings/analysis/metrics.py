"""Which perceptual metric tells what people will see?"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from phosphene.data.trials import same_text
from phosphene.errors import PhospheneError
from phosphene.numerics.correlation import correlation, merge_ties
from phosphene.numerics.stats import reliability
from phosphene.ratings.analysis.crossed import Floats, checked, methods_of, trials_of

METRIC = ["preset", "metric", "direction"]
FEWEST = 5  # images below which no correlation is given
COLUMNS = ["method", *METRIC, "n_images", "r", "ci_low", "ci_high", "best", "ceiling"]


def predicts(
    answers: pd.DataFrame,
    per_image: pd.DataFrame,
    *,
    selection: str = "single",
    lower: Collection[str] = ("Eff", "SwAV"),
    n_bootstrap: int = 2000,
    rng: np.random.Generator | int = 0,
) -> pd.DataFrame:
    """Correlate people's share of right answers with every metric, over images.

    Parameters
    ----------
    answers : DataFrame
        As the export gives it, without excluded raters.
    per_image : DataFrame
        Of the stage "evaluate": ``preset, metric, direction, selection, value, image, subject,
        mode`` and, if there, ``source``, of which "brain" is kept. Methods are modes. Answers
        without a subject belong to the only one.
    selection : str
        Which of the samples was scored: "single", the first one, is the picture that people saw.
        Where a mode has one sample only, its scores are called "mean", and these are taken.
    lower : collection of str
        Metrics that are better when lower: their sign is turned, so that a positive r always means
        agreement.
    n_bootstrap : int
        Resamples of the images, the same for all metrics of a method.
    rng : Generator or int

    Returns
    -------
    DataFrame
        One row per method and metric, best first: ``method, preset, metric, direction, n_images,
        r`` (Spearman), ``ci_low, ci_high`` (95 %, bootstrap over images), ``best`` (share of
        resamples in which this metric is the best of its method, ties shared), ``ceiling`` (the r
        that a metric knowing what raters agree on would have: square root of the reliability of
        people's shares). r is NaN where a metric or people are the same for all images; the ceiling
        is NaN with one rater.

    Raises
    ------
    PhospheneError
        When no image of a method was both answered and scored.

    Notes
    -----
    Methods are never pooled: any metric that ranks methods rightly would seem to know images.
    """
    _check_scores(per_image)
    seed = int(np.random.default_rng(rng).integers(2**32))
    trials = _named(answers, per_image)
    wide = _wide(per_image, selection, lower)
    rows = []
    for method in methods_of(trials):
        own = trials[trials["method"] == method]
        people = own.groupby(["subject", "image"])["hit"].mean()
        scores = wide.loc[wide.index.get_level_values("mode") == method].droplevel("mode")
        both = scores.index.intersection(people.index)
        if len(both) < FEWEST:
            continue
        found = _correlated(
            people.loc[both].to_numpy(np.float64),
            scores.loc[both].to_numpy(np.float64),
            n_bootstrap,
            seed,
        )
        ceiling = _ceiling(own, both)
        counts = scores.loc[both].notna().sum()
        for key, n, *values in zip(wide.columns, counts, *found, strict=True):
            if n:
                rows.append((method, *key, int(n), *values, ceiling))
    if not rows:
        modes = sorted(set(wide.index.get_level_values("mode")))
        raise PhospheneError(
            f"predicts: no method has {FEWEST} images that were both answered and scored with "
            f"selection {selection!r}; answers are about {', '.join(methods_of(trials))}, scores "
            f"about {', '.join(modes) or 'nothing'}: evaluate the same study, and see that images "
            "have the same names."
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    order = {name: number for number, name in enumerate(dict.fromkeys(table["method"]))}
    table = table.assign(order=table["method"].map(order))
    table = table.sort_values(["order", "r"], ascending=[True, False])
    return table.drop(columns="order").reset_index(drop=True)


def _check_scores(per_image: pd.DataFrame) -> None:
    needed = [*METRIC, "selection", "value", "image", "subject", "mode"]
    missing = [name for name in needed if name not in per_image]
    if missing:
        raise PhospheneError(
            f"predicts: the scores lack columns {', '.join(missing)}; expected per_image of the "
            "stage evaluate."
        )


def _named(answers: pd.DataFrame, per_image: pd.DataFrame) -> pd.DataFrame:
    """Trials with names as text; an import may leave out the only subject."""
    trials = trials_of(answers)
    checked(trials, ("subject",))
    methods = methods_of(trials)
    trials = trials.assign(
        **{name: _names(trials[name]) for name in ("subject", "image", "method", "rater")}
    )
    trials["method"] = pd.Categorical(trials["method"], categories=methods)
    subjects = _names(per_image["subject"]).unique()
    if len(subjects) == 1 and (trials["subject"] == "").all():
        trials["subject"] = subjects[0]
    return trials


def _names(values: pd.Series) -> pd.Series:
    """Names as text in the composed form: `é` has two spellings in Unicode."""
    return values.astype(str).map(same_text)


def _wide(per_image: pd.DataFrame, selection: str, lower: Collection[str]) -> pd.DataFrame:
    """Scores of reconstructions by (mode, subject, image), one column per metric, higher is
    better.
    """
    own = per_image[per_image["source"] == "brain"] if "source" in per_image else per_image
    asked = own["selection"] == selection
    there = asked.groupby([own["mode"], own["subject"]]).transform("any")
    own = own[asked | (~there & (own["selection"] == "mean"))]
    sign = np.where(own["metric"].isin(list(lower)), -1.0, 1.0)
    names = {name: _names(own[name].fillna("")) for name in [*METRIC, "mode", "subject", "image"]}
    own = own.assign(value=own["value"] * sign, **names)
    index = ["mode", "subject", "image"]
    return own.pivot_table(index=index, columns=METRIC, values="value", aggfunc="mean", sort=False)


def _correlated(
    people: Floats, scores: Floats, n_bootstrap: int, seed: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Spearman r of each column of scores with people, its interval, and how often it is the
    best.
    """
    n, m = scores.shape
    drawn = np.random.default_rng(seed).integers(0, n, (n_bootstrap, n))
    people = merge_ties(people, scale=1.0)
    r = np.empty(m)
    draws = np.empty((n_bootstrap, m))
    for column in range(m):
        known = np.isfinite(scores[:, column])
        values = np.full(n, np.nan)
        values[known] = merge_ties(
            scores[known, column], scale=float(np.abs(scores[known, column]).max(initial=0))
        )
        r[column] = _spearman(people[known][None], values[known][None])[0]
        at = (
            drawn
            if known.all()
            else np.flatnonzero(known)[drawn % known.sum()]
            if known.any()
            else drawn
        )
        draws[:, column] = _spearman(people[at], values[at])
    low = np.full(m, np.nan)
    high = np.full(m, np.nan)
    # else: nearly constant, no interval
    usable = np.isfinite(r) & (np.isfinite(draws).mean(axis=0) >= 0.9)
    if usable.any():
        low[usable], high[usable] = np.nanquantile(draws[:, usable], [0.025, 0.975], axis=0)
    lowest = np.where(np.isfinite(draws), draws, -np.inf)
    first = (lowest == lowest.max(axis=1, keepdims=True)) & np.isfinite(draws)
    best = (first / np.maximum(first.sum(axis=1, keepdims=True), 1)).mean(axis=0)
    return r, low, high, best


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> Floats:
    """Rank correlation row by row."""
    if not a.shape[1]:
        return np.full(len(a), np.nan)
    return correlation(rankdata(a, axis=1), rankdata(b, axis=1), axis=1)


def _ceiling(own: pd.DataFrame, both: pd.MultiIndex) -> float:
    """Square root of the reliability of people's shares, after what raters differ in as a whole."""
    key = pd.MultiIndex.from_frame(own[["subject", "image"]])
    own = own[key.isin(both)]
    hits = own["hit"].astype(float)
    level = hits - hits.groupby(own["rater"]).transform("mean")
    groups = own["subject"] + "\n" + own["image"]
    return float(np.sqrt(reliability(level.to_numpy()[:, None], groups.to_numpy())[0]))
