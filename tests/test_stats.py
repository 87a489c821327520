"""Intervals by their coverage, p-values by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from phosphene.errors import PhospheneError
from phosphene.stats import bootstrap_ci, fdr_bh, holm, paired_bootstrap, permutation_p


def test_bootstrap_agrees_with_scipy_and_is_repeatable():
    values = np.random.default_rng(0).exponential(size=200)
    low, high = bootstrap_ci(values, n_bootstrap=4000)
    expected = scipy_stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1)
    np.testing.assert_allclose([low, high], expected.confidence_interval, atol=0.02)
    assert (low, high) == bootstrap_ci(values, n_bootstrap=4000, rng=0)
    assert bootstrap_ci(values, np.median, rng=np.random.default_rng(2))[1] < high


def test_bootstrap_resamples_whole_rows():
    rows = np.repeat(np.arange(20.0)[:, None], 3, axis=1)
    low, high = bootstrap_ci(rows, lambda drawn: float(np.ptp(drawn, axis=1).max()), n_bootstrap=50)
    assert low == high == 0


def test_bootstrap_covers_the_mean():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_ci(rng.normal(size=40), n_bootstrap=200, rng=rng)
        hits += low <= 0 <= high
    assert 175 <= hits <= 199


def test_paired_bootstrap():
    rng = np.random.default_rng(0)
    a = rng.normal(size=100)
    better = paired_bootstrap(a + 0.1 + 0.05 * rng.normal(size=100), a)
    assert better.p < 0.01 and better.ci[0] < better.difference < better.ci[1] and better.ci[0] > 0
    assert paired_bootstrap(a, a).p == 1 and paired_bootstrap(a, a).ci == (0, 0)


def test_permutation_p_counts_ties_and_is_never_zero():
    null = np.arange(99.0)
    assert permutation_p(200, null) == 0.01
    assert permutation_p(98, null) == 0.02
    assert permutation_p(-1, null) == 1
    by_voxel = permutation_p([98.0, np.nan], np.column_stack([null, null]))
    np.testing.assert_array_equal(by_voxel, [0.02, np.nan])


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([[0.01, np.nan], [0.9, 0.8]]), [[0.03, np.nan], [1.0, 1.0]])


def test_fdr_by_hand_with_nan():
    np.testing.assert_allclose(fdr_bh([0.01, np.nan, 0.04, 0.03, 0.005]), [0.02, np.nan, 0.04, 0.04, 0.02])
    assert np.isnan(fdr_bh([np.nan])).all()


def test_bad_input_is_refused():
    for call in (
        lambda: bootstrap_ci([]),
        lambda: bootstrap_ci([1.0], n_bootstrap=0),
        lambda: bootstrap_ci([1.0], level=95),
        lambda: paired_bootstrap([1.0], [1.0, 2.0]),
        lambda: permutation_p([1.0], np.zeros((5, 2))),
        lambda: permutation_p(1.0, []),
        lambda: holm([1.2]),
        lambda: fdr_bh([-0.1]),
    ):
        with pytest.raises(PhospheneError):
            call()
