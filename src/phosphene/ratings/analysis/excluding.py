"""Who is left out, by rules that are written down before anyone answers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from phosphene.ratings.analysis.crossed import checked

MOST_FAST = 0.1
COLUMNS = [
    "rater",
    "answered",
    "catch_n",
    "catch_hits",
    "catch_share",
    "fast",
    "median_ms",
    "excluded",
    "reason",
]


def exclusions(
    answers: pd.DataFrame, least_catch: float, least_seconds: float, most_fast: float = MOST_FAST
) -> pd.DataFrame:
    """Apply the preregistered rules to every rater.

    A rater is excluded, with all answers, when

    - less than `least_catch` of their catch trials are right, or
    - more than `most_fast` of all their answers (catch trials and repeats too) took less than
      `least_seconds`.

    Both limits themselves still pass. Nothing else excludes: no accuracy, no slowness, no
    unfinished list. Where there are no catch trials or no response times (an import), that rule is
    not applied and its column is NaN.

    Parameters
    ----------
    answers : DataFrame
        As the export gives it.
    least_catch, most_fast : float
        Shares, 0 to 1.
    least_seconds : float
        Seconds.

    Returns
    -------
    DataFrame
        One row per rater, sorted: ``rater, answered, catch_n, catch_hits, catch_share, fast,
        median_ms, excluded, reason`` ("" for those who stay). `fast` is a share.
    """
    checked(answers, ("rater", "kind", "hit"))
    answers = answers.reset_index(drop=True)
    times = answers.get("milliseconds", pd.Series(np.nan, answers.index)).astype(float)
    rows = []
    for rater, own in answers.groupby(answers["rater"].astype(str), sort=True):
        caught = own.loc[own["kind"] == "catch", "hit"].astype(bool)
        ms = times[own.index].dropna()
        n = len(caught)
        hits = int(caught.sum())
        # divided, not multiplied: 299.99 / 1000 and 0.3 round alike, so a limit counts as the
        # decimal that was written
        fast = ms / 1000 < least_seconds
        row = {
            "rater": rater,
            "answered": len(own),
            "catch_n": n,
            "catch_hits": hits,
            "catch_share": hits / n if n else np.nan,
            "fast": float(fast.mean()) if len(ms) else np.nan,
            "median_ms": float(ms.median()) if len(ms) else np.nan,
        }
        reasons = []
        if row["catch_share"] < least_catch:
            reasons.append(f"{hits} of {n} catch trials right, less than {100 * least_catch:g} %")
        if row["fast"] > most_fast:
            reasons.append(
                f"{fast.sum()} of {len(ms)} answers under {least_seconds:g} s, more than "
                f"{100 * most_fast:g} %"
            )
        rows.append(row | {"excluded": bool(reasons), "reason": "; ".join(reasons)})
    return pd.DataFrame(rows, columns=COLUMNS)


def kept(answers: pd.DataFrame, excluded: pd.DataFrame) -> pd.DataFrame:
    """Answers of the raters whom :func:`exclusions` lets stay."""
    out = excluded.loc[excluded["excluded"], "rater"]
    return answers[~answers["rater"].astype(str).isin(out)].reset_index(drop=True)
