"""Scores against scipy, scikit-learn and a simulated noise ceiling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from phosphene.errors import PhospheneError
from phosphene.numerics.correlation import (
    as_floats,
    correlation,
    max_correlation,
    merge_ties,
    noise_ceiling,
    r2,
)


def test_correlation_is_scipys_on_either_axis():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 7)) + 100
    np.testing.assert_allclose(
        correlation(a, b), [pearsonr(x, y)[0] for x, y in zip(a.T, b.T, strict=True)]
    )
    np.testing.assert_allclose(
        correlation(a, b, axis=1), [pearsonr(x, y)[0] for x, y in zip(a, b, strict=True)]
    )
    assert correlation(a[:, 0], 3 * a[:, 0] + 1) == pytest.approx(1)


def test_correlation_is_undefined_for_constants_and_nan_only():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 4))
    a[:, 0] = 0.1
    b[:, 1] = 1e9 + 0.1
    a[3, 2] = np.nan
    assert np.isnan(correlation(a, b)).tolist() == [True, True, True, False]
    a = 1e6 + 1e-3 * rng.normal(size=(30, 1))  # small next to its mean, but no constant
    assert correlation(a, a) == pytest.approx(1)


def test_r2_is_scikit_learns():
    rng = np.random.default_rng(0)
    y, predicted = rng.normal(size=(2, 40, 3))
    np.testing.assert_allclose(r2(y, predicted), r2_score(y, predicted, multioutput="raw_values"))
    y[:, 1] = 0.3
    assert np.isnan(r2(y, predicted)).tolist() == [False, True, False]


def test_noise_ceiling_formula_and_median_of_nsd():
    assert noise_ceiling(1.0, 1) == 50 and noise_ceiling(1.0, 3) == 75
    # subject 1, nsdgeneral: a median ncsnr of 0.361 goes with a median ceiling of 28.1 %
    assert noise_ceiling(0.361, 3) == pytest.approx(28.1, abs=0.05)
    assert noise_ceiling(0.7, [3] * 10) == pytest.approx(float(noise_ceiling(0.7, 3)))
    assert noise_ceiling(0.7, [1] * 4) == noise_ceiling(0.7, 1)
    assert noise_ceiling(0.5, [3, 3, 2, 1]) == pytest.approx(
        100 * 0.25 / (0.25 + (2 / 3 + 1 / 2 + 1) / 4)
    )
    np.testing.assert_array_equal(noise_ceiling([0.0, np.nan, np.inf]), [0, np.nan, 100])


@pytest.mark.parametrize(
    ("trials", "percent"),
    [([1, 2, 3, 4, 5, 5], 37.66), ([1, 1, 1, 4, 4, 4], 28.57), ([1, 1, 1, 2, 3, 4], 26.87)],
)
def test_noise_ceiling_of_any_number_of_repeats(trials, percent):
    """The variance of an average is the mean of 1/n, whatever the numbers of trials are."""
    assert noise_ceiling(0.5, trials) == pytest.approx(percent, abs=0.005)
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(60_000, 6))
    measured = signal + rng.normal(size=signal.shape) / np.sqrt(trials) / 0.5
    r = np.corrcoef(signal.ravel(), measured.ravel())[0, 1]
    assert max_correlation(0.5, trials) == pytest.approx(r, abs=0.005)


def test_equal_scores_that_rounding_keeps_apart_become_one():
    values = np.array([3.0, 0.1 + 0.2, 0.3, 0.3 - 2e-16, 0.30001, -5.0])
    merged = merge_ties(values, scale=1.0)
    assert len(np.unique(merged)) == 4
    np.testing.assert_allclose(merged, values, atol=1e-15)
    tie = 0.5**11  # 0.00048828125: decimals would be rounded up or down here
    assert (
        len(np.unique(merge_ties([tie, np.nextafter(tie, 0), np.nextafter(tie, 1)], scale=1.0)))
        == 1
    )


def test_masked_entries_are_missing():
    masked = np.ma.masked_array([1.0, 2.0, 3.0, 99.0], [False, False, False, True])
    assert np.isnan(correlation(masked, np.arange(4.0)))
    np.testing.assert_array_equal(as_floats(masked), [1, 2, 3, np.nan])
    np.testing.assert_array_equal(as_floats(np.ma.masked_array([1, 2], [False, True])), [1, np.nan])


def test_a_perfect_model_reaches_the_maximal_correlation():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=200_000)
    measured = signal + rng.normal(size=(3, 200_000)).mean(axis=0) / 0.5
    assert correlation(signal, measured) == pytest.approx(float(max_correlation(0.5, 3)), abs=0.005)


def test_bad_input_is_refused():
    with pytest.raises(PhospheneError, match="one shape"):
        correlation(np.zeros(3), np.zeros(4))
    with pytest.raises(PhospheneError, match="zero or more, found -1"):
        noise_ceiling([np.nan, -1.0])
    for repeats in (0, (0, 0, 0), (1, 2.5), (), (3, np.nan)):
        with pytest.raises(PhospheneError, match="repeats must be"):
            noise_ceiling(1.0, repeats)
