"""How well a trial list is balanced, and whether it is blind: measured on the finished list,
whatever made it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

SLOT_METHOD = ["slot", "method"]


def balance(trials: pd.DataFrame, pool: pd.DataFrame) -> dict[str, float]:
    """Measure what should be balanced in a trial list, and count what should not be there.

    Parameters
    ----------
    trials : DataFrame
        As :func:`phosphene.ratings.trials.design.plan` makes it.
    pool : DataFrame
        What can be shown: subject, item, image
        (:func:`phosphene.ratings.trials.pairing.paired_rows`).

    Returns
    -------
    dict
        Differences between the most and the least: `methods` (trials per method of a rater),
        `sides` (answers on the left and on the right, per rater and method), `images` (how often a
        photograph is shown per method, over raters), `subjects` (the same of one subject's version
        of it), `distractors` (how often an image is the wrong candidate per method, over raters),
        `repeated` (repeats per method of a rater). `gap`: the longest stretch without a catch
        trial, in units of an even one. `distance`: the smallest distance between a trial and its
        repeat (inf without repeats). Counts of faults: `twice` (a photograph twice for one rater
        and method), `in_a_row` (the same photograph in two trials in a row), `first` (no plain
        trial at the start), `own` (a picture beside itself), `unswapped` (a repeat that is not its
        trial with sides swapped). Counts of what could reveal correct candidates: `partners`
        (images compared with more than one other image), `both` (trials whose distractor is the
        image of a photograph that the same rater sees), `ids` (picture ids used more than once).
    """
    plain = trials[trials["kind"] == "trial"]
    listed = trials.sort_values(["slot", "position"])
    same = listed["image"] == listed["image"].shift()
    once = trials[trials["kind"] != "repeat"]
    repeats = trials[trials["kind"] == "repeat"]
    return {
        "methods": _apart(plain.groupby(SLOT_METHOD).size().unstack(fill_value=0), axis=1),
        "sides": _sides(once),
        "images": _shown(plain, "image", pool["image"]),
        "subjects": max(
            _shown(plain[plain["image"] == image], "subject", rows["subject"])
            for image, rows in pool.groupby("image")
        ),
        "distractors": _shown(plain, "distractor_image", pool["image"]),
        "repeated": _apart(repeats.groupby(SLOT_METHOD).size().unstack(fill_value=0), axis=1),
        "gap": _longest_gap(trials),
        "distance": float((repeats["position"] - repeats["repeat_of"]).min())
        if len(repeats)
        else np.inf,
        "twice": int(once.duplicated([*SLOT_METHOD, "image"]).sum()),
        "in_a_row": int((same & (listed["slot"] == listed["slot"].shift())).sum()),
        "first": int((trials.loc[trials["position"] == 0, "kind"] != "trial").sum()),
        "own": int((trials["image"] == trials["distractor_image"]).sum()),
        "unswapped": _unswapped(trials, repeats),
        "partners": _with_several_partners(trials),
        "both": sum(
            int(own["distractor_image"].isin(own["image"]).sum())
            for _, own in trials.groupby("slot")
        ),
        "ids": int(trials[["photo", "left", "right"]].stack().duplicated().sum()),
    }


def _apart(counts: pd.DataFrame, axis: int) -> int:
    return int((counts.max(axis=axis) - counts.min(axis=axis)).max()) if counts.size else 0


def _sides(once: pd.DataFrame) -> int:
    sides = once.groupby([*SLOT_METHOD, "correct"]).size().unstack(fill_value=0)
    return _apart(sides.reindex(columns=["left", "right"], fill_value=0), axis=1)


def _shown(plain: pd.DataFrame, column: str, possible: pd.Series) -> int:
    """Most minus least uses of the possible values of a column, over methods; what was never used
    counts as 0.
    """
    if plain.empty:
        return 0
    uses = plain.groupby(["method", column]).size().unstack(fill_value=0)
    return _apart(uses.reindex(columns=sorted(set(possible)), fill_value=0), axis=1)


def _longest_gap(trials: pd.DataFrame) -> float:
    """The longest run of trials of a rater that are no catch trials, over the length of an even
    stretch.
    """
    worst = 0.0
    for _, own in trials.groupby("slot"):
        places = own.loc[own["kind"] == "catch", "position"].sort_values().to_numpy()
        if len(places):
            stretches = np.diff([-1, *places, len(own)])
            worst = max(worst, float(stretches.max()) * (len(places) + 1) / len(own))
    return worst


def _unswapped(trials: pd.DataFrame, repeats: pd.DataFrame) -> int:
    first = trials.set_index(["slot", "position"])
    keys = list(zip(repeats["slot"], repeats["repeat_of"], strict=True))
    before = first.loc[keys] if keys else first.iloc[:0]
    content = ["method", "subject", "item", "distractor_item"]
    same = (before[content].to_numpy() == repeats[content].to_numpy()).all(axis=1)
    same &= (before["kind"] == "trial").to_numpy() & (
        before["correct"].to_numpy() != repeats["correct"].to_numpy()
    )
    return int((~same).sum())


def _with_several_partners(trials: pd.DataFrame) -> int:
    """Images that were compared with more than one other image, in either role."""
    as_target = trials[["image", "distractor_image"]].to_numpy()
    both_ways = pd.DataFrame(
        np.concatenate([as_target, as_target[:, ::-1]]), columns=["image", "partner"]
    )
    return int((both_ways.groupby("image")["partner"].nunique() > 1).sum())
