"""Answers of other platforms: what comes in, and what is refused with its line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_ratings_raters import with_extras

from phosphene.errors import PhospheneError
from phosphene.ratings.analysis import accuracy, agreement, compare, consistency, mixed
from phosphene.ratings.importing import read_csv
from phosphene.ratings.power import crossing, simulate

pytest.importorskip("statsmodels")

CSV = """Participant;Cond;Stim;Distractor;Answer;Truth;RT
ann;z;nsd1;nsd2;left;Left;1200
ann;zc;nsd1;nsd3;right;left;900.5
bob;z;nsd1;nsd2;RIGHT;right;800
"""
MAPPING = {
    "rater": "Participant",
    "method": "Cond",
    "image": "Stim",
    "distractor_image": "Distractor",
    "choice": "Answer",
    "correct": "Truth",
    "milliseconds": "RT",
}


def written(folder, text, name="answers.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_read_csv_of_another_platform(tmp_path):
    found = read_csv(written(tmp_path, "\ufeff" + CSV), MAPPING)
    assert found["rater"].tolist() == ["ann", "ann", "bob"] and found["hit"].tolist() == [
        True,
        False,
        True,
    ]
    assert found["position"].tolist() == [0, 1, 0] and (found["kind"] == "trial").all()
    assert found["milliseconds"].tolist() == [1200, 900.5, 800] and (found["repeat_of"] == -1).all()
    assert found["image"].tolist() == ["nsd1"] * 3
    assert accuracy(found)["accuracy"].tolist() == [1, 0]
    swapped = "rater,image,method,hit\na,1,z,yes\na,2,z,0\n"
    assert read_csv(written(tmp_path, swapped))["hit"].tolist() == [True, False]


def test_the_export_comes_back_as_it_was(tmp_path):
    trials = with_extras(crossing(3, 25, ["z", "c"]), catch=5, repeats=6)
    answers = simulate(trials, 0.8, np.random.default_rng(0))
    answers.to_csv(tmp_path / "answers.csv", index=False)
    found = read_csv(tmp_path / "answers.csv")
    as_text = {name: str for name in ("image", "distractor_image", "item", "distractor_item")}
    pd.testing.assert_frame_equal(
        found.astype({"item": int, "distractor_item": int}).astype(as_text),
        answers[list(found)].astype(as_text),
        check_dtype=False,
    )
    for measure in (accuracy, compare, consistency, agreement, mixed):
        pd.testing.assert_frame_equal(measure(found), measure(answers), check_dtype=False)
    lost = read_csv(
        written(tmp_path, answers.drop(columns="repeat_of").to_csv(index=False), "lost.csv")
    )
    assert lost["repeat_of"].tolist() == found["repeat_of"].tolist()


def test_several_files(tmp_path):
    one = CSV.replace("bob", "ann").replace("ann;z;nsd1;nsd2;RIGHT", "ann;z;nsd9;nsd2;RIGHT")
    other = CSV.splitlines()
    paths = [
        written(tmp_path, one, "1.csv"),
        written(tmp_path, "\n".join([other[0], other[3]]), "2.csv"),
    ]
    found = read_csv(paths, MAPPING)
    assert found["rater"].tolist() == ["ann"] * 3 + ["bob"] and found["slot"].tolist() == [
        0,
        0,
        0,
        1,
    ]
    with pytest.raises(PhospheneError, match=r"2.csv: rater 'bob' is also in .*1.csv"):
        read_csv([written(tmp_path, CSV, "1.csv"), paths[1]], MAPPING)
    with pytest.raises(PhospheneError, match="is also in"):
        read_csv([paths[1], paths[1]], MAPPING)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("Cond", "Condition"),
            "no column 'Cond' .for method.*did you mean 'Condition'",
        ),
        (
            lambda text: text.replace("RIGHT", "middle"),
            "choice is 'middle' on line 4; expected left, right",
        ),
        (
            lambda text: text + "ann;z;nsd1;nsd2;right;left;70\n",
            "rater 'ann' answered image nsd1 of method z twice.*5",
        ),
        (
            lambda text: text.replace("800", "soon"),
            "milliseconds is 'soon' on line 4; expected a number, 0 or more",
        ),
        (lambda text: text.replace("800", "-1"), "milliseconds is '-1' on line 4"),
        (lambda text: text.replace("bob", ""), "rater is empty on line 4"),
        (lambda text: text + "ann;z\n", "line 5 has 2 cells, the line of names has 7"),
        (lambda text: text.splitlines()[0], "holds no answers"),
        (lambda text: text.replace("Distractor", "Cond"), "column Cond is there twice"),
    ],
)
def test_read_csv_refuses(tmp_path, change, message):
    with pytest.raises(PhospheneError, match=message):
        read_csv(written(tmp_path, change(CSV)), MAPPING)


def test_read_csv_refuses_what_contradicts_itself(tmp_path):
    with pytest.raises(
        PhospheneError, match="columns method, hit .or choice and correct. are missing, found rater"
    ):
        read_csv(written(tmp_path, "rater,image\na,1\n"))
    with pytest.raises(
        PhospheneError, match="hit does not agree with choice and correct on line 2"
    ):
        read_csv(written(tmp_path, "rater,image,method,hit,choice,correct\na,1,z,1,left,right\n"))
    with pytest.raises(PhospheneError, match="answered position 3 twice, again on line 3"):
        read_csv(written(tmp_path, "rater,image,method,hit,position\na,1,z,1,3\na,2,z,1,3\n"))
    with pytest.raises(PhospheneError, match="colour is no column of answers"):
        read_csv(written(tmp_path, "rater,image,method,hit\na,1,z,1\n"), {"colour": "hit"})
    with pytest.raises(
        PhospheneError, match="kind is 'attention' on line 2; expected trial, catch, repeat"
    ):
        read_csv(written(tmp_path, "rater,image,method,hit,kind\na,1,z,1,attention\n"))
    with pytest.raises(PhospheneError, match="cannot be read as CSV"):
        read_csv(tmp_path / "none.csv")
