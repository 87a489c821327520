"""What the audit says of given numbers: every verdict of every line, and nothing else than numbers
decides.
"""

import numpy as np
import pytest

from phosphene.auditing import verdicts
from phosphene.auditing.baseline_verdicts import (
    caption,
    ceiling,
    control,
    half,
    oracle,
    retrieved,
    within_category,
    without_brain,
)
from phosphene.auditing.checks import Rescaling
from phosphene.auditing.lines import Score

BRAIN = Score(0.8, 0.76, 0.84)


@pytest.mark.parametrize(
    ("value", "half_width", "verdict"),
    [
        (0.51, 0.05, "ok"),
        (0.52, 0.002, "ok"),  # many errors off, but by nothing that anyone would care about
        (0.56, 0.04, "look"),  # 2.9 standard errors
        (0.44, 0.04, "look"),
        (0.60, 0.04, "fault"),  # 4.9
        (0.40, 0.04, "look"),  # below chance gives nothing away
        (0.50, 0.0, "ok"),
    ],
)
def test_a_control_must_sit_at_chance(value, half_width, verdict):
    assert (
        control("x", Score(value, value - half_width, value + half_width), "nobody").verdict
        == verdict
    )


def test_a_control_without_any_error_is_judged_by_its_distance():
    assert control("x", Score(0.7, 0.7, 0.7), "nobody").verdict == "fault"
    assert control("x", Score(0.3, 0.3, 0.3), "nobody").verdict == "look"


def test_controls_that_scatter_are_given_more_room():
    assert control("x", Score(0.6, 0.56, 0.64), "nobody", scatter=0.06).verdict == "ok"
    assert control("x", Score(0.7, 0.66, 0.74), "nobody", scatter=0.06).verdict == "look"
    assert control("x", Score(0.9, 0.88, 0.92), "nobody", scatter=0.06).verdict == "fault"


def test_halves_of_a_decoder():
    assert half("z", Score(0.6, 0.55, 0.65), BRAIN, "zc").verdict == "ok"
    assert half("z", Score(0.52, 0.48, 0.56), BRAIN, "zc").verdict == "look"
    assert half("z", Score(0.86, 0.8, 0.9), BRAIN, "zc").verdict == "look"


def test_pictures_without_a_brain_must_be_worse():
    below = Score(0.7, 0.65, 0.75)
    equal = Score(0.79, 0.75, 0.83)
    assert without_brain("x", below, BRAIN, "names").verdict == "ok"
    assert without_brain("x", equal, BRAIN, "names").verdict == "look"
    assert retrieved("x", below, BRAIN, 30, 40).verdict == "ok"
    assert retrieved("x", equal, BRAIN, 30, 40).verdict == "look"
    assert ceiling("x", Score(0.95, 0.9, 1), BRAIN).verdict == "ok"
    assert ceiling("x", equal, BRAIN).verdict == "look"
    assert caption("x", Score(0.9, 0.88, 0.92), equal, BRAIN).verdict == "ok"
    assert caption("x", Score(0.6, 0.55, 0.65), equal, BRAIN).verdict == "look"


def test_same_category():
    assert within_category("x", Score(0.6, 0.52, 0.68), BRAIN, 40).verdict == "ok"
    assert within_category("x", Score(0.55, 0.47, 0.63), BRAIN, 40).verdict == "look"


def test_the_oracle_is_never_a_result():
    line = oracle("x", Score(0.9, 0.8, 1), BRAIN, Score(0.75, 0.7, 0.8), 5)
    assert line.verdict == "ok" and "never a result" in line.sentence and "90.0 %" in line.found


def test_leaks_and_repeats_are_faults():
    assert verdicts.leaks("x", 0, 0, 100).verdict == "ok"
    assert (
        verdicts.leaks("x", 1, 0, 100).verdict == verdicts.leaks("x", 0, 1, 100).verdict == "fault"
    )
    assert verdicts.repeats("x", 0, 100, False).verdict == "ok"
    assert verdicts.repeats("x", 3, 100, False).verdict == "fault"
    assert "paper's own" in verdicts.repeats("x", 100, 100, True).sentence


def test_edges_say_which_way_to_go():
    assert verdicts.edges("x", 0.3, 0.5, (1, 100)).verdict == "ok"
    assert "larger" in verdicts.edges("x", 0.1, 0.6, (1, 100)).sentence
    assert "smaller" in verdicts.edges("x", 0.6, 0.1, (1, 100)).sentence


HONEST = Rescaling(mean_off=0.7, sd_uneven=0.2, sd_ratio=0.5)


@pytest.mark.parametrize(
    ("found", "test_only", "verdict", "said"),
    [
        (HONEST, False, "ok", "honest"),
        (HONEST, True, "ok", "honest"),
        (Rescaling(1e-6, 1e-7, 1.0), False, "fault", "mean and standard deviation of training"),
        (Rescaling(0.7, 1e-7, 0.995), False, "fault", "exactly the standard deviation"),
        (Rescaling(1e-6, 0.2, 0.5), False, "fault", "exactly the mean"),
        (Rescaling(1e-6, 0.2, 0.5), True, "look", "z-scored"),
        (Rescaling(1e-6, 1e-7, 1.0), True, "fault", "mean and standard deviation"),
        (
            Rescaling(np.nan, np.nan, np.nan),  # constant predictions
            False,
            "look",
            "could not be computed",
        ),
    ],
)
def test_rescaling(found, test_only, verdict, said):
    line = verdicts.rescaled("x", {"training": found, "other": HONEST}, 100, test_only)
    assert line.verdict == verdict and said in line.sentence


def test_rescaling_to_a_later_reference_is_found_too():
    line = verdicts.rescaled(
        "x", {"training": HONEST, "the true test features": Rescaling(0.7, 1e-7, 1)}, 100, False
    )
    assert line.verdict == "fault" and "true test features" in line.sentence


def test_sessions_of_test_trials_are_noted():
    assert "A note" in verdicts.zscored("x", "session", 9, 9).sentence
    assert (
        "A note"
        not in verdicts.zscored("x", "train", 9, 9).sentence
        + verdicts.zscored("x", "session", 0, 9).sentence
    )


@pytest.mark.parametrize(
    ("ours", "true", "spread", "verdict"),
    [
        (6, 10, 0.5, "ok"),
        (2, 10, 0.5, "look"),
        (6, 10, 0.1, "look"),
        (0.9, 10, 0.5, "fault"),
        (1.2, 6, 0.5, "fault"),  # one line, although a fifth of all dimensions
        (6, 10, 0.003, "fault"),
        (0, 10, 0, "fault"),
        (1.2, 2, 0.5, "ok"),  # the truth has no more
        (0, 10, np.nan, "fault"),
    ],
)
def test_collapse(ours, true, spread, verdict):
    assert verdicts.dimension("x", ours, true, spread).verdict == verdict


def test_near_doubles_are_looked_at():
    assert verdicts.overlap("x", 0.8, 0.8, 0.01).verdict == "ok"
    assert verdicts.overlap("x", 0.8, 0.8, 0.06).verdict == "look"


def test_clusters():
    random = Score(0.9, 0.88, 0.92)
    assert verdicts.held_out("x", Score(0.75, 0.7, 0.8), random, 10, 500).verdict == "ok"
    assert verdicts.held_out("x", Score(0.65, 0.6, 0.7), random, 10, 500).verdict == "look"
    assert (
        verdicts.held_out("x", Score(0.52, 0.48, 0.56), Score(0.53, 0.51, 0.55), 10, 500).verdict
        == "look"
    )
    assert verdicts.held_out("x", random, Score(0.52, 0.48, 0.56), 10, 500).verdict == "look"
