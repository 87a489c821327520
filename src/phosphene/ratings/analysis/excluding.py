"""Who is left out, by rules that are written down before anyone answers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from phosphene.ratings.analysis.crossed import checked

MOST_FAST = 0.1
# A browser's time may exceed the server's by the resolution of its clock and by their drift.
RESOLUTION = 100.0  # ms
DRIFT = 0.01
COLUMNS = [
    "rater",
    "answered",
    "catch_n",
    "catch_hits",
    "catch_share",
    "fast",
    "implausible",
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
      `least_seconds` or are implausible: the browser claims more time than passed on the server
      since the answer before.

    Both limits themselves still pass. Nothing else excludes: no accuracy, no slowness, no
    unfinished list. Where there are no catch trials, no response times or no times of the server
    (an import), that rule is not applied and its column is NaN.

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
        implausible, median_ms, excluded, reason`` ("" for those who stay). `fast` and `implausible`
        are shares.
    """
    checked(answers, ("rater", "kind", "hit"))
    answers = answers.reset_index(drop=True)
    nothing = pd.Series(np.nan, answers.index)
    times = answers.get("milliseconds", nothing).astype(float)
    server = answers.get("elapsed", nothing).astype(float)
    rows = []
    for rater, own in answers.groupby(answers["rater"].astype(str), sort=True):
        caught = own.loc[own["kind"] == "catch", "hit"].astype(bool)
        ms = times[own.index].dropna()
        n = len(caught)
        hits = int(caught.sum())
        # divided, not multiplied: 299.99 / 1000 and 0.3 round alike, so a limit counts as the
        # decimal that was written
        fast = ms / 1000 < least_seconds
        passed = server[ms.index]
        implausible = ms > (1 + DRIFT) * passed + RESOLUTION
        row = {
            "rater": rater,
            "answered": len(own),
            "catch_n": n,
            "catch_hits": hits,
            "catch_share": hits / n if n else np.nan,
            "fast": float(fast.mean()) if len(ms) else np.nan,
            "implausible": float(implausible.mean()) if passed.notna().any() else np.nan,
            "median_ms": float(ms.median()) if len(ms) else np.nan,
        }
        reasons = []
        if row["catch_share"] < least_catch:
            reasons.append(f"{hits} of {n} catch trials right, less than {100 * least_catch:g} %")
        if (fast | implausible).mean() > most_fast:
            limits = (least_seconds, most_fast)
            reasons.append(_too_fast(fast | implausible, implausible, *limits))
        rows.append(row | {"excluded": bool(reasons), "reason": "; ".join(reasons)})
    return pd.DataFrame(rows, columns=COLUMNS)


def _too_fast(
    hasty: pd.Series, implausible: pd.Series, least_seconds: float, most_fast: float
) -> str:
    claimed = (
        f" or claiming more time than passed on the server ({implausible.sum()})"
        if implausible.any()
        else ""
    )
    return (
        f"{hasty.sum()} of {len(hasty)} answers under {least_seconds:g} s{claimed}, more than "
        f"{100 * most_fast:g} %"
    )


def kept(answers: pd.DataFrame, excluded: pd.DataFrame) -> pd.DataFrame:
    """Answers of the raters whom :func:`exclusions` lets stay."""
    out = excluded.loc[excluded["excluded"], "rater"]
    return answers[~answers["rater"].astype(str).isin(out)].reset_index(drop=True)
