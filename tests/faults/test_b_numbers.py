"""Section B: numbers that are none never become a result."""

from __future__ import annotations

import numpy as np
import pytest

import phosphene as ph
from phosphene.auditing.baseline_verdicts import control
from phosphene.auditing.checks import Rescaling
from phosphene.auditing.lines import LOOK, OK, Score
from phosphene.auditing.verdicts import overlap, rescaled
from phosphene.encoding.models import asked
from phosphene.errors import PhospheneError
from phosphene.features.names import parsed
from phosphene.numerics.ridge import RidgeCV

NAN = float("nan")


def rows(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_b4_masked_entries_of_a_regression_are_refused():
    X = rows(0, 40, 5)
    Y = rows(1, 40, 3)
    hidden = np.zeros(X.shape, bool)
    hidden[3, 2] = True
    with pytest.raises(PhospheneError, match="X holds NaN"):
        RidgeCV(alphas=[1.0], cv=2).fit(np.ma.masked_array(X, hidden), Y)
    with pytest.raises(PhospheneError, match="NaN"):
        RidgeCV(alphas=[1.0], cv=2).fit(X, np.ma.masked_array(Y, hidden[:, :3]))
    nothing = np.ma.masked_array(X, np.zeros(X.shape, bool))
    fitted = RidgeCV(alphas=[1.0], cv=2).fit(nothing, Y)
    assert np.array_equal(fitted.coef_, RidgeCV(alphas=[1.0], cv=2).fit(X, Y).coef_)


@pytest.mark.parametrize(
    "line",
    [
        control("a control", Score(NAN, NAN, NAN), "nobody"),
        control("a control", Score(0.5, NAN, NAN), "nobody"),
        rescaled("rescaled", {"all": Rescaling(NAN, 0.2, 0.5)}, 100, False),
        rescaled("rescaled", {"all": Rescaling(0.7, NAN, 0.5)}, 100, False),
        overlap("overlap", 0.3, 0.3, NAN),
    ],
)
def test_b4_no_verdict_of_the_audit_is_good_where_the_number_is_none(line):
    assert line.verdict == LOOK and "could not be computed" in line.sentence


def test_b4_verdicts_of_numbers_are_as_before():
    assert control("a control", Score(0.5, 0.48, 0.52), "nobody").verdict == OK
    assert overlap("overlap", 0.3, 0.3, 0.0).verdict == OK


def test_b5_a_text_is_not_read_letter_by_letter(tmp_path):
    for function in (parsed, lambda names: asked(names, joint=False)):
        with pytest.raises(PhospheneError, match=r"expected a list: \['zc'\]"):
            function("zc")
    with pytest.raises(PhospheneError, match="expected a list"):
        ph.encode(ph.Study.from_dict({}, root=tmp_path), "zc")
