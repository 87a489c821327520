"""Verdicts on reconstructions that need no brain: scores in, one line out.

All thresholds are here, each with its reason.
"""

from __future__ import annotations

import numpy as np

from phosphene.auditing.lines import (
    FAULT,
    LOOK,
    OK,
    Line,
    Score,
    not_computed,
    percent,
)

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


def control(check: str, score: Score, knows: str, scatter: float = 0.0) -> Line:
    """Judge pictures that must not be identified, because whoever made them knew nothing.

    `scatter` is the s.d. of the accuracy between controls of that kind, beside the error from few
    images.
    """
    if np.isnan([score.value, score.error]).any():
        return not_computed(check, "50 %")
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
