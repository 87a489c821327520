"""Scores against scipy, scikit-learn and a simulated noise ceiling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from phosphene.errors import PhospheneError
from phosphene.scoring import correlation, max_correlation, noise_ceiling, r2


def test_correlation_is_scipys_on_either_axis():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 7)) + 100
    np.testing.assert_allclose(correlation(a, b), [pearsonr(x, y)[0] for x, y in zip(a.T, b.T, strict=True)])
    np.testing.assert_allclose(correlation(a, b, axis=1), [pearsonr(x, y)[0] for x, y in zip(a, b, strict=True)])
    assert correlation(a[:, 0], 3 * a[:, 0] + 1) == pytest.approx(1)


def test_correlation_is_undefined_for_constants_and_nan_only():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 4))
    a[:, 0], b[:, 1], a[3, 2] = 0.1, 1e9 + 0.1, np.nan
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
    assert noise_ceiling(0.7, (10, 0, 0)) == pytest.approx(float(noise_ceiling(0.7, 3)))
    assert noise_ceiling(0.7, (0, 0, 4)) == noise_ceiling(0.7, 1)
    assert noise_ceiling(0.5, (2, 1, 1)) == pytest.approx(100 * 0.25 / (0.25 + (2 / 3 + 1 / 2 + 1) / 4))
    np.testing.assert_array_equal(noise_ceiling([0.0, np.nan, np.inf]), [0, np.nan, 100])


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
    for repeats in (0, (0, 0, 0), (1, 2)):
        with pytest.raises(PhospheneError, match="repeats must be"):
            noise_ceiling(1.0, repeats)
