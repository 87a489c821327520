"""Whether raters agree, with themselves and with each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from phosphene.numerics.stats.intervals import resampled
from phosphene.ratings.analysis.crossed import Floats, checked, methods_of, trials_of


def consistency(answers: pd.DataFrame) -> pd.DataFrame:
    """What each rater did when a trial came again, and whether they leaned to one side.

    Parameters
    ----------
    answers : DataFrame
        As the export gives it; excluded raters may stay in, to be looked at.

    Returns
    -------
    DataFrame
        One row per rater, sorted: ``rater, n_repeats, alike, alike_low, alike_high`` (share of
        repeats on which the same picture was chosen as before, Wilson 95 %), ``n_trials,
        right_side`` (share of counted trials answered on the right), ``p_side`` (two-sided binomial
        against the share of trials whose answer is on the right).

    Notes
    -----
    A repeat shows the same two pictures with sides swapped, so the same picture was chosen when
    both answers are right or both wrong. Repeats whose original was not answered are not counted.
    """
    checked(answers, ("rater", "kind", "position", "repeat_of", "hit", "choice", "correct"))
    originals = answers.set_index([answers["rater"].astype(str), "position"])["hit"]
    rows = []
    for rater, own in answers.groupby(answers["rater"].astype(str), sort=True):
        repeats = own[own["kind"] == "repeat"]
        counts = own[own["kind"] == "trial"]
        before = originals.reindex([(rater, place) for place in repeats["repeat_of"]])
        there = before.notna().to_numpy()
        alike = repeats["hit"].to_numpy(bool)[there] == before[there].to_numpy(bool)
        low, high = _wilson(int(alike.sum()), len(alike))
        sides = counts.loc[
            counts["choice"].isin(("left", "right")) & counts["correct"].isin(("left", "right"))
        ]
        right = int((sides["choice"] == "right").sum())
        n = len(sides)
        on_right = float((sides["correct"] == "right").mean()) if n else np.nan
        p_side = float(binomtest(right, n, on_right).pvalue) if n else np.nan
        rows.append(
            (
                rater,
                len(alike),
                alike.mean() if len(alike) else np.nan,
                low,
                high,
                len(counts),
                right / n if n else np.nan,
                p_side,
            )
        )
    columns = [
        "rater",
        "n_repeats",
        "alike",
        "alike_low",
        "alike_high",
        "n_trials",
        "right_side",
        "p_side",
    ]
    return pd.DataFrame(rows, columns=columns)


def _wilson(k: int, n: int) -> tuple[float, float]:
    if not n:
        return np.nan, np.nan
    found = binomtest(k, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def agreement(
    answers: pd.DataFrame, *, n_bootstrap: int = 2000, rng: np.random.Generator | int = 0
) -> pd.DataFrame:
    """How often two raters were both right or both wrong about the same image and method.

    Parameters
    ----------
    answers : DataFrame
        As the export gives it, without excluded raters.
    n_bootstrap : int
        Resamples of the images.
    rng : Generator or int

    Returns
    -------
    DataFrame
        One row per method: ``method, n_images`` (answered by two or more), ``n_pairs`` (of
        answers), ``agreement`` (share of pairs that agree, each image counting alike), ``expected``
        (by raters who are right as often but never about the same images), ``kappa`` (Fleiss 1971),
        ``kappa_low, kappa_high`` (95 %, bootstrap over images; NaN where everything is right).

    Notes
    -----
    Pairs of raters saw the same reconstruction, mostly beside different distractors. Near 100 %
    kappa is small though nearly all pairs agree: read both.
    """
    rows = []
    generator = np.random.default_rng(rng)
    trials = trials_of(answers)
    for method in methods_of(trials):
        own = trials[trials["method"].astype(str) == method]
        keys = [name for name in ("subject", "image") if name in own]
        per = own.groupby(keys, sort=False)["hit"].agg(["size", "sum"])
        per = per[per["size"] >= 2]
        if per.empty:
            rows.append((method, 0, 0, *[np.nan] * 5))
            continue
        n = per["size"].to_numpy(np.float64)
        right = per["sum"].to_numpy(np.float64)
        same = (right * (right - 1) + (n - right) * (n - right - 1)) / (n * (n - 1))
        images = np.column_stack([same, right, n])
        agreed, chance, kappa = _fleiss(images)
        draws = resampled(images, lambda drawn: float(_fleiss(drawn)[2]), n_bootstrap, generator)
        known = bool(np.isfinite(kappa)) and bool(np.isfinite(draws).any())
        low, high = np.nanquantile(draws, [0.025, 0.975]) if known else (np.nan, np.nan)
        rows.append(
            (method, len(per), int((n * (n - 1) / 2).sum()), agreed, chance, kappa, low, high)
        )
    columns = [
        "method",
        "n_images",
        "n_pairs",
        "agreement",
        "expected",
        "kappa",
        "kappa_low",
        "kappa_high",
    ]
    return pd.DataFrame(rows, columns=columns)


def _fleiss(images: Floats) -> tuple[float, float, float]:
    """Agreement, what chance gives, and kappa, of (n_images, 3): pairs alike, right answers,
    answers.
    """
    agreed = float(images[:, 0].mean())
    share = float(images[:, 1].sum() / images[:, 2].sum())
    chance = share**2 + (1 - share) ** 2
    return agreed, chance, (agreed - chance) / (1 - chance) if chance < 1 else np.nan
