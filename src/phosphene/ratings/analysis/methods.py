"""How often people were right with each method, and whether methods differ."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from phosphene.errors import PhospheneError
from phosphene.numerics.stats import bootstrap_ci, holm, signed_rank, subject_summary
from phosphene.ratings.analysis.crossed import Counted, Floats, counted, t_interval

CHANCE = 0.5
UNITS = ("image", "rater", "answer")


def accuracy(
    answers: pd.DataFrame, *, n_bootstrap: int = 2000, rng: np.random.Generator | int = 0
) -> pd.DataFrame:
    """Share of right answers per method, with three intervals that answer three questions.

    Parameters
    ----------
    answers : DataFrame
        As the export gives it, without excluded raters. Catch trials and repeats do not count.
    n_bootstrap : int
        Resamples of the images.
    rng : Generator or int

    Returns
    -------
    DataFrame
        ``method, n_raters, n_images, n_trials, accuracy`` and 95 % intervals: ``ci_low, ci_high``
        for other raters and other images (:func:`crossed_variance`, t): the headline. ``rater_low,
        rater_high`` for other raters on these images (t over raters). ``image_low, image_high`` for
        other images with these raters (bootstrap over images).

    Notes
    -----
    No interval is narrower than Wilson's for as many independent answers: near 100 % raters and
    images hardly differ any more, and an interval from their differences alone would end at no
    width.
    """
    table = counted(answers)
    rows = []
    for number, name in enumerate(table.methods):
        own = table.method == number
        share = table.share(number)
        influence = table.influence(number)
        raters = _linear(table, influence, share, own, "rater")
        images = _linear(table, influence, share, own, "image")
        spread = table.variance(influence, number)
        both = t_interval(share, float(spread.both), float(spread.df))[:2]
        by_image = (
            bootstrap_ci(images, n_bootstrap=n_bootstrap, rng=rng)
            if len(images) > 1
            else (np.nan, np.nan)
        )
        found = [both, subject_summary(raters).ci, by_image]
        least, most = _wilson(table, number)
        ends = np.array(
            [[np.minimum(low, least), np.maximum(high, most)] for low, high in found]
        ).clip(0, 1)
        rows.append((name, len(raters), len(images), int(own.sum()), share, *ends.ravel()))
    columns = [
        "method",
        "n_raters",
        "n_images",
        "n_trials",
        "accuracy",
        "ci_low",
        "ci_high",
        "rater_low",
        "rater_high",
        "image_low",
        "image_high",
    ]
    return pd.DataFrame(rows, columns=columns)


def _linear(table: Counted, influence: Floats, share: float, own: Floats, unit: str) -> Floats:
    """One number per rater or image whose mean is the share; their own shares where all answered
    equally often.
    """
    codes = table.rater if unit == "rater" else table.image
    sums = np.bincount(codes, weights=influence)
    there = np.bincount(codes, weights=own) > 0
    return np.asarray(share + there.sum() * sums[there])


def compare(answers: pd.DataFrame, *, units: Sequence[str] = ("image", "rater")) -> pd.DataFrame:
    """Compare every pair of methods, and every method with chance.

    Parameters
    ----------
    answers : DataFrame
        As the export gives it, without excluded raters.
    units : sequence of {"image", "rater", "answer"}
        What the signed-rank test ranks: the mean difference on each image, of each rater, or the
        difference of each rater on each image. See Notes.

    Returns
    -------
    DataFrame
        ``a, b`` ("chance" last), ``difference`` (of shares); 95 % intervals as in :func:`accuracy`:
        ``ci_low, ci_high`` (raters and images), ``rater_low, rater_high``, ``image_low,
        image_high`` (all t); ``p_both``, two-sided t test of the first; per unit ``n_UNIT`` and
        ``p_UNIT``, two-sided signed-rank; each p with ``..._holm``, corrected over the pairs of
        methods, and over the comparisons with chance by themselves.

    Notes
    -----
    - Six raters reach p = 2 / 2⁶ = 0.031 at best, and 0.094 after Holm over three pairs: over
      raters, six cannot show anything.
    - Over images, the default and first column, differences of these raters are tested: would they
      see it in other pictures? It says nothing about other raters.
    - Over single answers all answers are taken for independent, which answers to one image are not:
      p too small.
    - ``p_both`` allows for other raters and other images, and is the one to conclude from. It can
      be as small with six raters as with sixty, when they agree.
    - Where every answer is the same, intervals are those of independent answers, and ``p_both``
      against chance counts each image once.
    """
    unknown = [unit for unit in units if unit not in UNITS]
    if unknown:
        raise PhospheneError(
            f"compare: units must be among {', '.join(UNITS)}, found {', '.join(unknown)}."
        )
    table = counted(answers)
    pairs: list[tuple[int, int | None]] = list(combinations(range(len(table.methods)), 2))
    alone: list[tuple[int, int | None]] = [(number, None) for number in range(len(table.methods))]
    families = [
        pd.DataFrame([_row(table, a, b, units) for a, b in some]) for some in (pairs, alone) if some
    ]
    for family in families:
        for name in [column for column in family if str(column).startswith("p_")]:
            family.insert(family.columns.get_loc(name) + 1, f"{name}_holm", holm(family[name]))
    return pd.concat(families, ignore_index=True)


def _row(table: Counted, a: int, b: int | None, units: Sequence[str]) -> dict[str, object]:
    other = CHANCE if b is None else table.share(b)
    influence = table.influence(a) - (0 if b is None else table.influence(b))
    methods = [a] if b is None else [a, b]
    difference = table.share(a) - other
    spread = table.variance(influence, *methods)
    n_raters, n_images = (
        len(np.unique(codes[np.isin(table.method, methods)]))
        for codes in (table.rater, table.image)
    )
    low, high, p = _ends(table, a, b, float(spread.both), float(spread.df))
    row: dict[str, object] = {
        "a": table.methods[a],
        "b": "chance" if b is None else table.methods[b],
    }
    row |= {"difference": difference, "ci_low": low, "ci_high": high}
    for name, variance, n in (("rater", spread.rater, n_raters), ("image", spread.image, n_images)):
        ends = _ends(table, a, b, float(variance), n - 1)
        row |= {f"{name}_low": ends[0], f"{name}_high": ends[1]}
    row["p_both"] = (
        p if np.isfinite(p) or min(n_raters, n_images) < 2 else binomtest(n_images, n_images).pvalue
    )
    for unit in units:
        own, others = per_unit(table, a, b, unit)
        row |= {
            f"n_{unit}": len(own),
            f"p_{unit}": signed_rank(own, others) if len(own) else np.nan,
        }
    return row


def _ends(
    table: Counted, a: int, b: int | None, variance: float, df: float
) -> tuple[float, float, float]:
    """Interval of a difference and its p; with a width where nothing varies (Newcombe 1998, as if
    independent).
    """
    share = table.share(a)
    other = CHANCE if b is None else table.share(b)
    low, high, p = t_interval(share - other, variance, df)
    if b is None or variance == 0:
        first = _wilson(table, a)
        second = (CHANCE, CHANCE) if b is None else _wilson(table, b)
        low = float(np.minimum(low, share - other - np.hypot(share - first[0], second[1] - other)))
        high = float(
            np.maximum(high, share - other + np.hypot(first[1] - share, other - second[0]))
        )
    return low, high, p


def _wilson(table: Counted, method: int) -> tuple[float, float]:
    own = table.hit[table.method == method]
    found = binomtest(int(own.sum()), len(own)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def per_unit(table: Counted, a: int, b: int | None, unit: str) -> tuple[Floats, Floats]:
    """Shares of right answers of two methods (or of one and chance) on every unit that has both."""
    n_raters, n_images = table.shape
    codes = {
        "rater": table.rater,
        "image": table.image,
        "answer": table.rater * n_images + table.image,
    }[unit]
    size = {"rater": n_raters, "image": n_images, "answer": n_raters * n_images}[unit]

    def shares(method: int) -> Floats:
        own = table.method == method
        sums = np.bincount(codes[own], weights=table.hit[own], minlength=size)
        with np.errstate(invalid="ignore"):
            return np.asarray(sums / np.bincount(codes[own], minlength=size))

    first = shares(a)
    second = np.full(size, CHANCE) if b is None else shares(b)
    known = np.isfinite(first) & np.isfinite(second)
    return first[known], second[known]
