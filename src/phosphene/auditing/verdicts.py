"""What the audit says: numbers in, one line with a verdict and a plain sentence out.

All thresholds are here, each with its reason. "fault": the result cannot be published like this.
"look": right or wrong, a reader will ask. "ok": as it should be. "not asked": these data or
settings have no answer, and it is said why.
"""

from __future__ import annotations

import numpy as np

from phosphene.auditing.checks import Rescaling
from phosphene.auditing.lines import (
    FAULT,
    LOOK,
    OK,
    Line,
    Score,
    not_computed,
    percent,
)

# A score is above chance when half is outside its 95 % interval.
# An honest ridge on noisy scans shrinks predictions to 0.2 to 0.7 of the true s.d.; one told wrong
# pictures to 0.003.
SPREAD_LOOK = 0.15
SPREAD_FAULT = 0.05
# Share of the true features' effective dimension. Honest decoders keep 0.3 to 0.8 of it; below a
# tenth, or on hardly more than one line, all pictures are variations of one.
DIMENSION_LOOK = 0.3
DIMENSION_FAULT = 0.1
ONE_LINE = 1.5
# As RidgeCV itself warns: with half of the features at an end of the grid, the grid ends too early.
EDGE_LOOK = 0.5
# Means over n test items lie about 0.7 standard errors from the training means (median of |t|).
# Even if all features were one, 0.02 would be a coincidence of 1 in 60; with several independent
# ones it does not happen.
MEAN_FAULT = 0.02
# Standard deviations over n items scatter by 1 / sqrt(2 n) whatever was decoded. A tenth of that in
# every feature at once is not measured but made; honest ratios scatter by 0.1 or more, because
# features differ in how well they decode.
SD_FAULT = 0.1
# One training picture in a hundred is this close to another one. Five times as many test pictures
# is more than luck.
OVERLAP_PERCENTILE = 99.0
OVERLAP_LOOK = 0.05
# With whole clusters held out some loss is natural; a decoder that loses half of what it had above
# chance mostly recognises kinds of pictures that it was taught.
CLUSTER_LOOK = 0.5


# Baselines


# Leaks


def leaks(check: str, by_id: int, by_content: int, n: int) -> Line:
    """Judge test pictures that are in the training data under the same name or another."""
    found = f"{by_id} of {n} by name, {by_content} more by content"
    if by_id or by_content:
        said = (
            "Test pictures were used for training: every score is too high. Take their trials "
            "out of the training set."
        )
        return Line(check, found, "none", FAULT, said)
    return Line(
        check,
        found,
        "none",
        OK,
        "No test picture was used for training, neither by name nor pixel by pixel.",
    )


def repeats(check: str, torn: int, n: int, paper: bool) -> Line:
    """Judge folds that hold repeats of one picture on both sides."""
    found = f"{torn} of {n} training pictures ({percent(torn / n)})"
    if not torn:
        said = (
            "All repeats of a picture are in one fold, so the penalty is chosen on pictures "
            "that are new to the model."
        )
        return Line(check, found, "none", OK, said)
    own = "This is the paper's own setting. " if paper else ""
    said = (
        f"{own}Repeats of a picture are in the fitted and in the validation part: the penalty "
        "(alpha) comes out too "
        "small. Test scores are honest but could be better: decode.preset = 'default', "
        "decode.grouped = true."
    )
    return Line(check, found, "none", FAULT, said)


def edges(check: str, low: float, high: float, grid: tuple[float, float]) -> Line:
    """Judge penalties at the ends of their grid."""
    found = f"{percent(low)} at {grid[0]:g}, {percent(high)} at {grid[1]:g}"
    expected = f"below {percent(EDGE_LOOK)} at either end"
    if max(low, high) <= EDGE_LOOK:
        return Line(check, found, expected, OK, "The grid of penalties is wide enough.")
    which = "smaller" if low > high else "larger"
    said = (
        "Most features chose an end of the grid, so the best penalty may lie beyond it; add "
        f"{which} ones."
    )
    return Line(check, found, expected, LOOK, said)


def rescaled(check: str, found: dict[str, Rescaling], n: int, test_only: bool) -> Line:
    """Judge whether predictions carry the mean or the s.d. of some reference to more digits than
    chance allows.

    `found` by name of the reference; `test_only` says that some sessions hold nothing but test
    trials and were standardised by themselves, which gives predictions the training mean.
    """
    scatter = SD_FAULT / np.sqrt(2 * n)
    means = [name for name, r in found.items() if r.mean_off < MEAN_FAULT]
    sds = [name for name, r in found.items() if r.sd_uneven < scatter]
    first = next(iter(found.values()))
    text = (
        f"means {first.mean_off:.2g} s.e. off, s.d. ratio {first.sd_ratio:.2f}, uneven by "
        f"{first.sd_uneven:.2g}"
    )
    expected = f"about 0.7 s.e., ratio below 1, uneven by more than {scatter:.2g}"
    if np.isnan([(r.mean_off, r.sd_uneven) for r in found.values()]).any():
        return not_computed(check, expected)
    if not means and not sds:
        said = (
            "Predictions are as an honest ridge leaves them: shrunk, each feature by its own "
            "amount."
        )
        return Line(check, text, expected, OK, said)
    if not sds and test_only:
        said = (
            "Predictions have exactly the training mean, because sessions of nothing but test "
            "trials were z-scored by "
            "themselves: statistics of the test set were used. data.zscore = 'train' avoids it."
        )
        return Line(check, text, expected, LOOK, said)
    what = " and ".join((["mean"] if means else []) + (["standard deviation"] if sds else []))
    said = (
        f"Over test pictures predictions have exactly the {what} of {(sds or means)[0]}, which no "
        "decoder produces. "
        "They were rescaled with statistics of the test set. Use statistics of the training set "
        "only."
    )
    return Line(check, text, expected, FAULT, said)


def zscored(check: str, zscore: str, spanning: int, sessions: int) -> Line:
    """Note that responses were standardised over sessions that hold test trials: mild, and
    common.
    """
    found = f"data.zscore = '{zscore}'; {spanning} of {sessions} sessions hold test trials"
    if zscore != "session" or not spanning:
        return Line(
            check, found, "training trials only", OK, "No statistics of test trials were used."
        )
    said = (
        "A note: each session's mean and deviation include its test trials. It is common and "
        "mild, because no picture "
        "is looked at, but say it; data.zscore = 'train' avoids it."
    )
    return Line(check, found, "training trials only, or a word about it", OK, said)


# Collapse, overlap, clusters


def dimension(check: str, ours: float, true: float, spread: float) -> Line:
    """Judge how much of the variety of true features predictions have."""
    share = ours / true if true > 0 else float("nan")
    found = (
        f"{ours:.1f} of {true:.1f} dimensions ({percent(share)}), s.d. {spread:.2g} of the true one"
    )
    expected = f"above {percent(DIMENSION_LOOK)}, s.d. above {SPREAD_LOOK:g}"
    fault = (
        not (share >= DIMENSION_FAULT and spread >= SPREAD_FAULT)
        or ours < ONE_LINE <= DIMENSION_LOOK * true
    )
    if fault:
        said = (
            "The decoder has collapsed: it predicts nearly the same for every picture, or "
            "variations of one."
        )
        return Line(check, found, expected, FAULT, said)
    if share < DIMENSION_LOOK or spread < SPREAD_LOOK:
        said = "Predictions vary in far fewer ways than true features do; pictures will look alike."
        return Line(check, found, expected, LOOK, said)
    return Line(
        check,
        found,
        expected,
        OK,
        "Predictions vary in many ways; where in fewer than true features do, ridge shrank what "
        "it cannot decode.",
    )


def overlap(check: str, test: float, train: float, beyond: float) -> Line:
    """Judge how close test pictures are to training pictures (medians of nearest r), against
    training ones' own.
    """
    found = (
        f"nearest r {test:.3f}, among training pictures {train:.3f}; {percent(beyond)} beyond "
        "their 99th percentile"
    )
    expected = f"equal medians, at most {percent(OVERLAP_LOOK)} beyond"
    if np.isnan([test, train, beyond]).any():
        return not_computed(check, expected)
    if beyond > OVERLAP_LOOK:
        said = (
            "Some test pictures have near doubles in the training set: recognising old "
            "pictures is enough for them."
        )
        return Line(check, found, expected, LOOK, said)
    said = (
        "Test pictures are no closer to training pictures than these are to one another: scores "
        "hold for new pictures "
        "of the same kind. For new kinds see the clusters."
    )
    return Line(check, found, expected, OK, said)


def held_out(check: str, cluster: Score, random: Score, n_clusters: int, n: int) -> Line:
    """Judge identification of pictures from clusters that were held out, against random sets of the
    same sizes.
    """
    found = f"{cluster}, random sets {random}; {n_clusters} clusters of {n} pictures"
    expected = f"at least {percent(0.5 + CLUSTER_LOOK * (random.value - 0.5))}"
    if not random.above:
        return Line(
            check,
            found,
            expected,
            LOOK,
            "Not even pictures of random sets are identified; nothing was decoded.",
        )
    if not cluster.above or cluster.value - 0.5 < CLUSTER_LOOK * (random.value - 0.5):
        said = (
            "With whole kinds of pictures held out, most of it is lost: the decoder mostly "
            "recognises kinds that it "
            "was taught. Do not call it zero-shot."
        )
        return Line(check, found, expected, LOOK, said)
    return Line(
        check, found, expected, OK, "Kinds of pictures that were never taught are decoded too."
    )
