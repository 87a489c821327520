"""The trial list: balanced and blind for any numbers of methods, raters, subjects and pictures, and
reproducible.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phosphene.errors import PhospheneError
from phosphene.ratings.trials.balance import balance
from phosphene.ratings.trials.design import COLUMNS, DISTANCE, FEWEST, Sizes, pictures, plan
from phosphene.ratings.trials.pairing import paired_rows, pairs

KEY = (3, "a1b2c3")
METHODS = ("z", "c", "zc")
SHARED = "shared"
OWN = "own"
MIXED = "mixed"


def pool(n_images: int, n_subjects: int = 1, kind: str = SHARED) -> pd.DataFrame:
    """Test pictures of subjects who saw the same images, each their own, or half and half; ids are
    not rows.
    """
    rows = []
    for subject in range(n_subjects):
        for item in range(n_images):
            own = kind == OWN or (kind == MIXED and item % 2)
            rows.append(
                (f"subj{subject:02d}", item, 7 * item + 11 + (100_000 * subject if own else 0))
            )
    return pd.DataFrame(rows, columns=["subject", "item", "image"])


@st.composite
def studies(draw):
    """A pool of pictures, methods and sizes, small enough to be many."""
    n_subjects = draw(st.integers(1, 4))
    some = pool(
        draw(st.integers(4 * FEWEST, 60)), n_subjects, draw(st.sampled_from([SHARED, OWN, MIXED]))
    )
    sizes = Sizes(
        *(draw(st.integers(low, high)) for low, high in ((1, 9), (4, 50), (0, 15), (0, 15)))
    )
    return some, METHODS[: draw(st.integers(1, 3))], sizes, (draw(st.integers(0, 2**31)), "hash")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(studies())
def test_any_list_is_balanced(study):
    some, methods, sizes, key = study
    found = plan(some, methods, sizes, key)
    asked = sizes.within(len(pairs(some, key)), len(methods))
    measured = balance(found, paired_rows(some, key))
    names = ("twice", "in_a_row", "first", "own", "unswapped", "methods", "partners", "both", "ids")
    faults = {name: measured[name] for name in names}
    assert faults == dict.fromkeys(faults, 0)
    assert measured["sides"] <= 1 and measured["images"] <= 1 and measured["subjects"] <= 1
    assert measured["distractors"] <= 1
    counts = found.groupby(["slot", "kind"]).size().unstack(fill_value=0)
    assert (counts["trial"] == asked.trials * len(methods)).all() and len(counts) == asked.raters
    assert (counts.get("catch", 0) == asked.catch).all() if asked.catch else "catch" not in counts
    longest = len(found) // asked.raters
    assert measured["distance"] >= min(DISTANCE, longest // 4)


@settings(max_examples=20, deadline=None)
@given(studies())
def test_every_trial_can_be_shown(study):
    some, methods, sizes, key = study
    found = plan(some, methods, sizes, key)
    assert list(found.columns) == list(COLUMNS)
    assert (
        found.groupby("slot")["position"].apply(list).map(lambda p: p == list(range(len(p))))
    ).all()
    known = set(zip(some["subject"], some["item"], some["image"], strict=True))
    assert set(zip(found["subject"], found["item"], found["image"], strict=True)) <= known
    assert (
        set(zip(found["subject"], found["distractor_item"], found["distractor_image"], strict=True))
        <= known
    )
    assert (
        set(found["method"]) <= {*methods, "catch"}
        and (found["method"] == "catch").eq(found["kind"] == "catch").all()
    )
    assert (found["repeat_of"] >= 0).eq(found["kind"] == "repeat").all()


@pytest.mark.parametrize(
    ("n_images", "n_subjects", "raters"), [(100, 1, 6), (982, 4, 6), (24, 1, 30)]
)
def test_a_usual_study_has_all_that_was_asked_for(n_images, n_subjects, raters):
    some = pool(n_images, n_subjects)
    found = plan(some, METHODS, Sizes(raters, 100, 10, 10), KEY)
    first = found[found["slot"] == 0]
    catch = min(10, n_images // 10)
    trials = min(100, n_images // 2 - catch)
    assert first["kind"].value_counts().to_dict() == {
        "trial": 3 * trials,
        "catch": catch,
        "repeat": min(10, 3 * trials // 4),
    }
    measured = balance(found, some)
    assert measured["sides"] <= 1 and measured["repeated"] <= 1 and measured["gap"] <= 2.5
    assert measured["distractors"] <= 1 and measured["images"] <= 1
    # methods come early and late alike: the mean place of each is that of the list
    places = first[first["kind"] == "trial"].groupby("method")["position"].mean() / len(first)
    assert (places - 0.5).abs().max() < (0.05 if n_images >= 100 else 0.15)


def test_a_rater_sees_the_same_two_candidates_with_every_method():
    found = plan(pool(982, 4), METHODS, Sizes(6, 100, 10, 10), KEY)
    trials = found[found["kind"] == "trial"]
    for _, own in trials.groupby("slot"):
        sets = [
            set(zip(rows["subject"], rows["item"], strict=True))
            for _, rows in own.groupby("method")
        ]
        assert sets[0] == sets[1] == sets[2] and len(sets[0]) == 100
        assert (own.groupby(["subject", "item"])["distractor_item"].nunique() == 1).all()
    # the same photograph comes again after half a round at least
    place = (
        trials[trials["slot"] == 0]
        .groupby("image")["position"]
        .apply(lambda p: int(np.diff(sorted(p)).min()))
    )
    assert place.min() > 50


def test_the_photographs_of_a_pair_take_turns():
    trials = plan(pool(20), METHODS, Sizes(6, 100, 0, 5), KEY)
    for _, own in trials.groupby("slot"):
        assert own["image"].nunique() == own["distractor_image"].nunique() == 10
        assert set(own["image"]).isdisjoint(own["distractor_image"])
    partner = trials.groupby("image")["distractor_image"].agg(["nunique", "first"])
    assert (partner["nunique"] == 1).all() and len(partner) == 20
    assert (partner["first"].map(partner["first"]) == partner.index).all()
    assert set(trials[trials["kind"] == "trial"].groupby(["method", "image"]).size()) == {3}


def test_a_catch_trial_shows_a_pair_of_its_own():
    trials = plan(pool(20), METHODS, Sizes(30, 100, 10), KEY)
    catch = trials["kind"] == "catch"
    assert set(trials[catch].groupby("slot").size()) == {2}
    for _, own in trials.groupby("slot"):
        images = {
            kind: set(rows[["image", "distractor_image"]].stack())
            for kind, rows in own.groupby("kind")
        }
        assert images["catch"].isdisjoint(images["trial"]) and len(images["catch"]) == 4
    times = trials[catch].groupby("image").size()
    assert len(times) == 20 and times.max() - times.min() <= 1


def test_only_images_of_the_same_subjects_are_paired_and_an_odd_one_is_left_out():
    some = pool(15, 2, MIXED)  # 8 images of both subjects, 7 of each one's own
    ring = pairs(some, KEY)
    subjects = [[tuple(one.subject for one in shown) for shown in pair.images] for pair in ring]
    assert len(ring) == 10 and all(first == second for first, second in subjects)
    kept = paired_rows(some, KEY)
    assert kept["image"].nunique() == 20 and some["image"].nunique() == 22
    trials = plan(some, METHODS, Sizes(6, 100, 1, 5), KEY)
    assert set(trials["image"]) == set(kept["image"])
    assert {pair.images for pair in ring} != {pair.images for pair in pairs(some, (4, KEY[1]))}


def test_subjects_take_turns():
    some = pool(40, 4)
    trials = plan(some, ["zc"], Sizes(16, 20, 0, 0), KEY)
    assert set(trials.groupby(["slot", "subject"]).size()) == {5}
    assert set(trials.groupby(["subject", "image"]).size()) == {2}


def test_the_same_key_gives_the_same_list_and_another_one_another():
    some = pool(12)
    sizes = Sizes(3, 12, 2, 2)
    first = plan(some, METHODS, sizes, KEY)
    pd.testing.assert_frame_equal(first, plan(some, METHODS, sizes, KEY))
    pd.testing.assert_frame_equal(
        first, plan(some.sample(frac=1, random_state=1), METHODS, sizes, KEY)
    )
    for key in ((4, KEY[1]), (KEY[0], "other")):
        other = plan(some, METHODS, sizes, key)
        assert set(other["photo"]).isdisjoint(first["photo"])
        assert not other["image"].equals(first["image"])


def test_an_id_is_of_one_picture_of_one_trial():
    found = plan(pool(24, 2), METHODS, Sizes(4, 12, 2, 2), KEY)
    ids = found[["photo", "left", "right"]]
    assert ids.map(lambda name: bool(re.fullmatch("[0-9a-f]{32}", name))).all(axis=None)
    right = (found["correct"] == "right").to_numpy()
    target = np.where(right, found["right"], found["left"])
    other = np.where(right, found["left"], found["right"])
    assert not ids.stack().duplicated().any()
    table = pictures(found)
    assert table["id"].is_unique and set(table["id"]) == set(ids.to_numpy().ravel())
    of = table.set_index("id")
    assert (of.loc[target, "method"].to_numpy() == found["method"]).all()
    assert (of.loc[target, "item"].to_numpy() == found["item"]).all()
    assert (of.loc[other, "item"].to_numpy() == found["distractor_item"]).all()
    assert (of.loc[found["photo"], "method"] == "").all()
    assert (
        of.loc[[*target, *other], "subject"].to_numpy() == [*found["subject"], *found["subject"]]
    ).all()
    files = table.groupby(["method", "subject", "item"])["file"].agg(["nunique", "first"])
    assert (
        (files["nunique"] == 1).all()
        and files["first"].is_unique
        and set(files["first"]) <= set(table["id"])
    )


def test_sizes_are_cut_to_what_keeps_a_list_blind():
    sizes = Sizes(6, 100, 10, 10)
    assert sizes.within(491, 3) == sizes
    assert sizes.within(50, 3) == Sizes(6, 40, 10, 10)
    assert sizes.within(12, 3) == Sizes(6, 10, 2, 7)
    assert sizes.within(4, 1) == Sizes(6, 4, 0, 1)
    assert Sizes(6, 8, 10, 10).within(491, 1) == Sizes(6, 8, 2, 2)


def test_too_few_pictures_are_refused():
    with pytest.raises(
        PhospheneError, match="3 pairs of test images; expected 4 or more.*8 test images"
    ):
        plan(pool(7), METHODS, Sizes(2, 100), KEY)
    with pytest.raises(PhospheneError, match="2 trials per method"):
        plan(pool(30), METHODS, Sizes(2, 2), KEY)


# the checker finds what it is there to find


@pytest.fixture
def good():
    return plan(pool(50), METHODS, Sizes(4, 20, 5, 5), KEY)


def changed(table: pd.DataFrame, row: int, **values: object) -> pd.DataFrame:
    table = table.copy()
    for name, value in values.items():
        table.loc[row, name] = value
    return table


def test_faults_are_counted(good):
    some = pool(50)
    kinds = good["kind"]
    one, repeat = (int(kinds[kinds == kind].index[3]) for kind in ("trial", "repeat"))
    assert balance(changed(good, one, distractor_image=good.loc[one, "image"]), some)["own"] == 1
    unswapped = {"left": "right", "right": "left"}[good.loc[repeat, "correct"]]
    assert balance(changed(good, repeat, correct=unswapped), some)["unswapped"] == 1
    assert balance(changed(good, repeat, distractor_item=-1), some)["unswapped"] == 1
    assert balance(changed(good, one + 1, image=good.loc[one, "image"]), some)["in_a_row"] >= 1
    twin = good[(good["slot"] == 0) & (good["kind"] == "trial") & (good["method"] == "z")].index
    assert balance(changed(good, twin[1], image=good.loc[twin[0], "image"]), some)["twice"] == 1
    assert balance(changed(good, twin[0], method="c"), some)["methods"] == 2
    assert balance(changed(good, 0, kind="catch"), some)["first"] == 1
    assert balance(good.assign(correct="left"), some)["sides"] == 20
    assert balance(good.assign(distractor_image=18), some)["distractors"] == 80
    assert balance(good[good["image"] != good["image"].iloc[0]], some)["images"] == 2
    assert balance(changed(good, one, distractor_image=-1), some)["partners"] == 1
    assert (
        balance(changed(good, one, distractor_image=good.loc[one + 2, "image"]), some)["both"] == 1
    )
    assert balance(changed(good, one, left=good.loc[repeat, "left"]), some)["ids"] == 1
    assert (
        balance(good[(good["kind"] != "catch") | (good["position"] < 30)], some)["gap"]
        > balance(good, some)["gap"]
    )
    assert (
        balance(changed(good, repeat, repeat_of=good.loc[repeat, "position"] - 1), some)["distance"]
        == 1
    )
