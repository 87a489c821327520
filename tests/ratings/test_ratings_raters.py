"""Simulated raters against the accuracy they were given, and power against the tests themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import integrate
from scipy.special import expit
from scipy.stats import norm

from phosphene.errors import PhospheneError
from phosphene.ratings.analysis import accuracy, compare, consistency
from phosphene.ratings.power import People, average, crossing, expected, intercept, power, simulate

NONE = dict.fromkeys(
    (
        "rater_sd",
        "image_sd",
        "rater_method_sd",
        "image_method_sd",
        "percept_sd",
        "side_sd",
        "lapse",
    ),
    0.0,
)


def with_extras(trials: pd.DataFrame, catch: int = 0, repeats: int = 0) -> pd.DataFrame:
    """Append catch trials and repeats of the first trials, sides swapped, to every rater's list."""
    parts = [trials]
    for _, own in trials.groupby("slot"):
        last = own["position"].max()
        again = own.iloc[:repeats].assign(kind="repeat", repeat_of=own["position"].iloc[:repeats])
        again["correct"] = np.where(again["correct"] == "left", "right", "left")
        again["position"] = last + 1 + np.arange(repeats)
        caught = own.iloc[:catch].assign(kind="catch", method="catch", repeat_of=-1)
        caught["position"] = last + 1 + repeats + np.arange(catch)
        parts += [again, caught]
    return pd.concat(parts, ignore_index=True)


def test_average_is_the_integral():
    for centre, sd in ((0.3, 0.5), (2.0, 1.4), (-1.0, 0.0), (4.0, 2.0)):
        if sd:
            exact = integrate.quad(
                lambda z, c=centre, s=sd: expit(c + s * z) * norm.pdf(z), -10, 10, epsabs=1e-12
            )[0]
        else:
            exact = expit(centre)
        assert average(centre, sd) == pytest.approx(exact, abs=1e-6)
    for skill in (0.02, 0.5, 0.84, 0.995):
        assert average(intercept(skill, 1.1), 1.1) == pytest.approx(skill, abs=1e-9)


def test_raters_have_the_skill_they_were_given():
    trials = crossing(200, 100, ["z", "zc"])
    answers = simulate(trials, {"z": 0.7, "zc": 0.9}, np.random.default_rng(0), lapse=0.1)
    shares = answers.groupby("method")["hit"].mean()
    # 200 raters and 100 images: standard error about 0.012, mostly of the images
    assert shares["z"] == pytest.approx(expected(0.7, 0.1), abs=0.04)
    assert shares["zc"] == pytest.approx(expected(0.9, 0.1), abs=0.04)


def test_effects_spread_raters_and_images_as_asked():
    trials = crossing(300, 300, ["z"])
    answers = simulate(trials, 0.8, np.random.default_rng(1), **{**NONE, "rater_sd": 0.6})
    by_rater, by_image = (answers.groupby(key)["hit"].mean() for key in ("rater", "image"))
    centre = intercept(0.8, 0.6)
    second = integrate.quad(lambda z: expit(centre + 0.6 * z) ** 2 * norm.pdf(z), -9, 9)[0]
    between = second - 0.64
    within = (0.8 - second) / 300
    assert by_rater.var() == pytest.approx(between + within, rel=0.25)
    # raters only: images differ by chance alone
    assert by_image.var() == pytest.approx((0.8 - second) / 300, rel=0.3)
    flipped = simulate(trials, 0.8, np.random.default_rng(1), **{**NONE, "image_sd": 0.6})
    assert flipped.groupby("image")["hit"].mean().var() > 5 * by_image.var()


def test_the_table_is_the_export():
    trials = with_extras(crossing(3, 20, ["z", "c"]), catch=4, repeats=5).sample(
        frac=1, random_state=0
    )
    trials = trials.assign(photo="p", left="l", right="r")
    answers = simulate(trials, 0.8, np.random.default_rng(0))
    columns = {
        "rater",
        "slot",
        "position",
        "kind",
        "method",
        "subject",
        "item",
        "image",
        "distractor_item",
        "distractor_image",
        "repeat_of",
        "correct",
        "choice",
        "hit",
        "milliseconds",
        "elapsed",
        "server_at",
    }
    assert set(answers) == columns
    assert len(answers) == len(trials)
    assert (answers["hit"] == (answers["choice"] == answers["correct"])).all()
    assert answers["rater"].unique().tolist() == ["rater00", "rater01", "rater02"]
    assert all(own["position"].is_monotonic_increasing for _, own in answers.groupby("slot"))
    assert all(own["server_at"].is_monotonic_increasing for _, own in answers.groupby("slot"))
    assert str(answers["server_at"].dt.tz) == "UTC" and (answers["milliseconds"] > 0).all()
    pd.testing.assert_frame_equal(answers, simulate(trials, 0.8, np.random.default_rng(0)))
    assert not answers["hit"].equals(simulate(trials, 0.8, np.random.default_rng(1))["hit"])


def test_careless_raters_are_fast_and_guess():
    trials = with_extras(crossing(40, 50, ["z"]), catch=10)
    answers = simulate(trials, 0.95, np.random.default_rng(0), careless=0.5)
    per = answers.groupby("rater").agg(hit=("hit", "mean"), ms=("milliseconds", "median"))
    fast = per["ms"] < 300
    assert 10 <= fast.sum() <= 30
    assert per.loc[fast, "hit"].mean() == pytest.approx(0.5, abs=0.05)
    assert per.loc[~fast, "hit"].min() > 0.75


def test_what_is_seen_again_is_seen_alike():
    trials = with_extras(crossing(30, 60, ["z"]), repeats=60)
    alike = [
        consistency(simulate(trials, 0.75, np.random.default_rng(2), **{**NONE, "percept_sd": sd}))[
            "alike"
        ].mean()
        for sd in (0.0, 3.0)
    ]
    assert alike[0] == pytest.approx(0.75**2 + 0.25**2, abs=0.03)
    assert alike[1] > alike[0] + 0.1


def test_a_rater_may_lean():
    trials = crossing(20, 300, ["z"])
    straight, leaning = (
        consistency(simulate(trials, 0.7, np.random.default_rng(3), **{**NONE, "side_sd": sd}))
        for sd in (0.0, 1.5)
    )
    assert (straight["p_side"] < 0.001).sum() == 0
    assert (leaning["p_side"] < 0.001).sum() >= 10
    assert leaning["right_side"].mean() == pytest.approx(0.5, abs=0.15)


def test_refusals():
    trials = crossing(2, 5, ["z", "c"])
    with pytest.raises(PhospheneError, match="no skill for method c"):
        simulate(trials, {"z": 0.8}, np.random.default_rng(0))
    with pytest.raises(PhospheneError, match="unknown trait speed"):
        simulate(trials, 0.8, np.random.default_rng(0), speed=3)
    with pytest.raises(PhospheneError, match="skill must lie between 0 and 1"):
        simulate(trials, 1.0, np.random.default_rng(0))
    with pytest.raises(PhospheneError, match="columns correct are missing"):
        simulate(trials.drop(columns="correct"), 0.8, np.random.default_rng(0))
    with pytest.raises(PhospheneError, match="lapse must be a share"):
        People(lapse=1.2)
    with pytest.raises(PhospheneError, match="2 or more raters"):
        power([1], [100])


def test_power_is_the_share_of_simulated_studies_that_compare_finds():
    """The vectorised studies of `power` against simulate and compare, study by study."""
    traits = {"image_sd": 0.5, "image_method_sd": 0.3}
    found = power(
        [14], [40], [0.1], base=0.7, comparisons=1, n_simulations=200, rng=1, **traits
    ).iloc[0]
    trials = crossing(14, 40, ["a", "b"])
    tests = {"image": 0, "rater": 0, "both": 0}
    widths = []
    rng = np.random.default_rng(2)
    n = 60
    for _ in range(n):
        answers = simulate(trials, {"a": 0.8, "b": 0.7}, rng, **traits)
        row = compare(answers).iloc[0]
        widths.append(row["ci_high"] - row["ci_low"])
        for name in tests:
            tests[name] += row[f"p_{name}"] <= 0.05
    for name, k in tests.items():
        share = found[f"power_{name}"]
        assert abs(k / n - share) < 4 * np.sqrt(share * (1 - share) * (1 / n + 1 / 200)) + 0.01, (
            name
        )
        assert found[f"power_{name}_low"] <= share <= found[f"power_{name}_high"]
    assert found["width_difference"] == pytest.approx(np.median(widths), rel=0.1)


def test_six_raters_cannot_win_over_raters():
    found = power([6], [100], [0.0, 0.1], n_simulations=100, rng=0)
    assert (found["power_rater"] == 0).all()
    assert found["power_image"][1] > 0.9 and found["power_both"][1] > 0.5
    assert found["power_image"][0] < 0.1 and found["power_both"][0] < 0.1


def test_more_raters_and_trials_help():
    found = power([4, 30], [30, 200], [0.05], n_simulations=100, rng=0).set_index(
        ["raters", "trials"]
    )
    assert found["power_both"][30, 200] > found["power_both"][4, 30] + 0.3
    widths = found["width_difference"].unstack()
    assert (np.diff(widths, axis=0) < 0).all() and (np.diff(widths, axis=1) < 0).all()
    assert found["width_accuracy"][30, 200] < found["width_accuracy"][4, 30]
    assert (
        accuracy(simulate(crossing(30, 200, ["b"]), 0.75, np.random.default_rng(0)))["accuracy"][0]
        > 0.6
    )
