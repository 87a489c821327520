"""What the audit says: numbers in, one line with a verdict and a plain sentence out.

All thresholds are here, each with its reason. "fault": the result cannot be published like this.
"look": right or wrong, a reader will ask. "ok": as it should be. "not asked": these data or
settings have no answer, and it is said why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from phosphene.auditing.checks import Rescaling

Verdict = Literal["ok", "look", "fault", "not asked"]
OK: Verdict = "ok"
LOOK: Verdict = "look"
FAULT: Verdict = "fault"
NOT_ASKED: Verdict = "not asked"

# Controls are judged in standard errors of their mean accuracy (from its interval). Two controls,
# each measured once: beyond 2.5 errors happens by luck in one audit of eighty, beyond 4 in one of
# fifteen thousand.
CHANCE_LOOK = 2.5
CHANCE_FAULT = 4.0
# And a control must be off by as much as anyone would care about; intervals of few pictures can be
# far too narrow.
CHANCE_LEAST = 0.03
# A decoder that was told wrong pictures still turns differences between brains into differences
# between pictures, in a random way: measured over 24 such decoders of the demo's brain, accuracies
# where reconstructions are the distractors scattered by 0.055 to 0.073 around 0.50 (docs/log.md).
# One of them is judged with that in mind.
SHUFFLE_SCATTER = 0.06
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


@dataclass(frozen=True)
class Line:
    """One line of the audit."""

    check: str
    found: str
    expected: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Score:
    """Identification accuracy, 0 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.value)} ({100 * self.low:.1f} to {100 * self.high:.1f})"

    @property
    def error(self) -> float:
        """Standard error of the accuracy: a 95 % interval reaches 1.96 to either side."""
        return (self.high - self.low) / 3.92

    @property
    def above(self) -> bool:
        """Whether it is above chance."""
        return self.low > 0.5


def percent(share: float) -> str:
    """Write a share for people."""
    return f"{100 * share:.1f} %"


def not_asked(check: str, why: str) -> Line:
    """Say that a question has no answer here."""
    return Line(check, "–", "–", NOT_ASKED, f"Cannot be asked: {why}.")


# Baselines


def control(check: str, score: Score, knows: str, scatter: float = 0.0) -> Line:
    """Judge pictures that must not be identified, because whoever made them knew nothing.

    `scatter` is the s.d. of the accuracy between controls of that kind, beside the error from few
    images.
    """
    off = score.value - 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.nan_to_num(
            np.divide(off, np.hypot(score.error, scatter)), posinf=np.inf, neginf=-np.inf
        )
    fault = off > CHANCE_LEAST and errors > CHANCE_FAULT
    look = abs(off) > CHANCE_LEAST and abs(errors) > CHANCE_LOOK
    if fault:
        said = (
            f"Pictures by {knows} are identified above chance: something other than the brain "
            "gives the answer away."
        )
    elif look:
        said = (
            f"Pictures by {knows} are not quite at chance; with these few pictures it may be "
            "luck, look at it."
        )
    else:
        said = (
            f"Pictures by {knows} cannot be told apart, as it must be: the scores measure the "
            "brain."
        )
    return Line(check, str(score), "50 %", FAULT if fault else LOOK if look else OK, said)


def half(check: str, score: Score, both: Score, mode: str) -> Line:
    """Judge reconstructions from one feature alone against those from both."""
    expected = f"above 50 %, at most {percent(both.value)} (from {mode})"
    if not score.above:
        return Line(
            check, str(score), expected, LOOK, "This half of the decoder alone is not above chance."
        )
    if score.value > both.high:
        said = (
            "This half alone is better than both together: the other half costs more than it gives."
        )
        return Line(check, str(score), expected, LOOK, said)
    return Line(
        check,
        str(score),
        expected,
        OK,
        "This half alone is above chance and no better than both together.",
    )


def without_brain(check: str, score: Score, brain: Score, given: str) -> Line:
    """Judge pictures made from little that is known about the seen picture, without any brain."""
    expected = f"below {percent(brain.value)} (from the brain)"
    if score.value < brain.low:
        said = f"The brain gives more than {given} alone would."
        return Line(check, str(score), expected, OK, said)
    said = (
        f"Pictures from {given} alone score as well: these scores do not show that more was "
        "decoded than that."
    )
    return Line(check, str(score), expected, LOOK, said)


def caption(check: str, score: Score, half: Score, brain: Score) -> Line:
    """Judge pictures from the true caption: what a perfect decoder of c would reach without z."""
    expected = f"above {percent(half.value)} (c from the brain)"
    if score.high < half.value:
        said = (
            "Decoded text makes better pictures than the true caption: it is not the words "
            "that carry the scores."
        )
        return Line(check, str(score), expected, LOOK, said)
    if score.value >= brain.low:
        said = (
            "Words alone, if all were decoded, would reach what the brain reaches "
            f"({percent(brain.value)})."
        )
    else:
        said = (
            f"Even all the words would not reach what the brain reaches ({percent(brain.value)})."
        )
    return Line(check, str(score), expected, OK, said)


def ceiling(check: str, score: Score, brain: Score) -> Line:
    """Judge pictures from the true features: the best that this generator can do."""
    expected = f"above {percent(brain.value)} (from the brain)"
    if score.value > brain.value:
        said = (
            "The generator can do better than the decoder, so decoding is what limits the scores."
        )
        return Line(check, str(score), expected, OK, said)
    said = (
        "Even true features score no better than decoded ones: the generator or the measure is "
        "the limit."
    )
    return Line(check, str(score), expected, LOOK, said)


def retrieved(check: str, score: Score, brain: Score, distinct: int, n: int) -> Line:
    """Judge photographs of the training set, picked by decoded features, against
    reconstructions.
    """
    found = f"{score}; {distinct} different photographs for {n} pictures"
    expected = f"below {percent(brain.value)} (reconstructed)"
    if score.value < brain.low:
        said = (
            "Reconstructions show more than the most fitting photograph of the training set does."
        )
        return Line(check, found, expected, OK, said)
    said = (
        "Picking an old photograph scores as well as making a new picture: the scores alone do "
        "not show that anything "
        "was reconstructed rather than recognised."
    )
    return Line(check, found, expected, LOOK, said)


def within_category(check: str, same: Score, everyone: Score, n: int) -> Line:
    """Judge identification among pictures of one category against that among all."""
    found = f"{same}, among all {percent(everyone.value)}; {n} pictures"
    expected = "above 50 %, below that among all"
    if same.above:
        said = (
            "Pictures are told apart from others of the same category: more than the category "
            "was decoded."
        )
        return Line(check, found, expected, OK, said)
    said = (
        "Among pictures of the same category it is at chance: the decoder may know the "
        "category and no more."
    )
    return Line(check, found, expected, LOOK, said)


def oracle(check: str, best: Score, own: Score, single: Score, n: int) -> Line:
    """Say what choosing the best sample by looking at the answer would give. Never a result."""
    found = (
        f"oracle {percent(best.value)}, the preset's rule {percent(own.value)}, first sample "
        f"{percent(single.value)}"
    )
    said = (
        f"Choosing the best of {n} needs the seen picture, so it is an upper bound and never a "
        "result."
    )
    return Line(check, found, "not reported as a result", OK, said)


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
