"""Intervals by their coverage, p-values by hand and against scipy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from phosphene.errors import PhospheneError
from phosphene.numerics.stats import (
    bootstrap_ci,
    compare_methods,
    fdr_bh,
    hierarchical_bootstrap,
    holm,
    paired_bootstrap,
    permutation_p,
    reliability,
    signed_rank,
    subject_summary,
)


def test_bootstrap_agrees_with_scipy_and_is_repeatable():
    values = np.random.default_rng(0).exponential(size=200)
    low, high = bootstrap_ci(values, n_bootstrap=4000)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=1
    )
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
    np.testing.assert_allclose(
        fdr_bh([0.01, np.nan, 0.04, 0.03, 0.005]), [0.02, np.nan, 0.04, 0.04, 0.02]
    )
    assert np.isnan(fdr_bh([np.nan])).all()


def test_corrections_are_their_definitions():
    p = np.random.default_rng(0).uniform(size=30) ** 3
    m = len(p)
    by_holm = [min(1, max((m - (p < q).sum()) * q for q in p[p <= one])) for one in p]
    by_fdr = [min(1, min(m * q / (p <= q).sum() for q in p[p >= one])) for one in p]
    np.testing.assert_allclose(holm(p), by_holm)
    np.testing.assert_allclose(fdr_bh(p), by_fdr)


def test_signed_rank_counts_all_signs():
    difference = np.array([0.3, -0.1, 0.7, 0.9, -0.2, 1.1, 0.45, 0.8])
    ranks = np.argsort(np.argsort(np.abs(difference))) + 1
    observed = ranks[difference > 0].sum()
    sums = np.array([np.dot(signs, ranks) for signs in product([0, 1], repeat=8)])
    expected = 2 * min(np.mean(sums >= observed), np.mean(sums <= observed))
    assert signed_rank(difference, np.zeros(8)) == pytest.approx(expected)
    assert signed_rank(np.zeros(8), difference) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(12))
def test_signed_rank_of_few_ties_and_zeros_is_that_of_scipy(seed):
    random = np.random.default_rng(seed)
    difference = random.integers(-3, 4, size=int(random.integers(2, 10))).astype(float)
    difference[0] = 2.0
    expected = scipy_stats.wilcoxon(difference, zero_method="zsplit").pvalue
    assert signed_rank(difference, np.zeros(len(difference))) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_signed_rank_does_not_depend_on_the_unit(seed):
    """Shares of k/(n-1) have many equal differences; in floating point they are 1e-17 apart."""
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 40, size=(2, int(random.integers(10, 90))))
    a[0] += 1
    expected = signed_rank(a, b)
    assert expected == pytest.approx(scipy_signed_rank(a - b))
    for unit in (9.0, 39.0, 981.0, 1e7, 1e-7):
        assert signed_rank(a / unit, b / unit) == expected
        assert (
            signed_rank(1 - a / unit / 100, 1 - b / unit / 100) == pytest.approx(expected)
            or unit < 1
        )
    assert (
        compare_methods({"a": a / 39, "b": b / 39}, n_bootstrap=10)["p_signed_rank"][0] == expected
    )


def scipy_signed_rank(difference):
    """Exact by scipy's permutations of signs where these are few, else by its normal
    approximation.
    """
    if len(difference) > 50:
        return scipy_stats.wilcoxon(difference, zero_method="zsplit", method="asymptotic").pvalue
    ranks = scipy_stats.rankdata(np.abs(difference))
    own = ranks[difference != 0]
    signs = np.random.default_rng(0).random((400_000, len(own))) < 0.5
    sums = signs @ own
    positive = ranks[difference > 0].sum()
    p = min(1, 2 * min((sums >= positive).mean(), (sums <= positive).mean()))
    return pytest.approx(p, abs=0.005)


def test_signed_rank_is_exact_with_ties_up_to_fifty():
    # 15 images: scipy approximates from 14 on
    difference = np.repeat([3.0, 2.0, -1.0, 0.0], [4, 5, 4, 2])
    ranks = scipy_stats.rankdata(np.abs(difference))
    own = ranks[:13]
    positive = ranks[:9].sum()
    sums = np.array(list(product([0, 1], repeat=13))) @ own
    expected = 2 * min(np.mean(sums >= positive), np.mean(sums <= positive))
    assert signed_rank(difference, np.zeros(15)) == pytest.approx(expected)
    clear = np.ones(50)
    assert signed_rank(clear, np.zeros(50)) == pytest.approx(2 * 0.5**50)


def test_nan_never_gives_a_small_p():
    for call in (
        lambda: paired_bootstrap([1.0, np.nan], [0.0, 1.0]),
        lambda: paired_bootstrap(np.ma.masked_array([1.0, 2.0], [False, True]), [0.0, 1.0]),
        lambda: paired_bootstrap([1.0, np.inf], [0.0, 1.0]),
        lambda: signed_rank(np.ma.masked_array([1.0, 2.0], [False, True]), [0.0, 1.0]),
    ):
        with pytest.raises(PhospheneError, match="1 of 2 images lack a score"):
            call()
    assert np.isnan(permutation_p(1.0, [np.nan] * 99))
    assert np.isnan(permutation_p(1.0, [0.0] * 98 + [np.nan]))
    found = permutation_p([1.0, 1.0, np.nan], [[0.0, 0.0, 0.0], [0.0, np.nan, 0.0]])
    np.testing.assert_array_equal(found, [1 / 3, np.nan, np.nan])
    assert permutation_p(0.3, [0.1 + 0.2, 0.3, 0.3 - 1e-16]) == 1  # equal up to rounding
    with pytest.raises(PhospheneError):
        hierarchical_bootstrap([np.ma.masked_array([1.0, 2.0], [False, True])])


def test_signed_rank_splits_zeros():
    a = np.repeat([0.0, 1.0, -1.0], [20, 25, 10])
    # ranks of the zeros average 10.5 and of the rest 38; their ties are taken off the variance
    positive = 10.5 * 20 / 2 + 25 * 38
    n = 55
    variance = (n * (n + 1) * (2 * n + 1) - ((20**3 - 20) + (35**3 - 35)) / 2) / 24
    z = (positive - n * (n + 1) / 4) / np.sqrt(variance)
    assert signed_rank(a, np.zeros(55)) == pytest.approx(2 * scipy_stats.norm.sf(z))
    assert signed_rank(a, a) == 1


def test_compare_methods():
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    scores = {"A": a, "B": a + 0.5 + 0.3 * rng.normal(size=60), "C": a + 0.3 * rng.normal(size=60)}
    found = compare_methods(scores, n_bootstrap=500)
    columns = "a b difference ci_low ci_high p_bootstrap p_signed_rank p_holm q_fdr"
    assert list(found) == columns.split()
    assert [*zip(found["a"], found["b"], strict=True)] == [("A", "B"), ("A", "C"), ("B", "C")]
    for row in found.itertuples():
        difference = scores[row.a] - scores[row.b]
        half = 1.96 * difference.std(ddof=1) / np.sqrt(60)
        assert row.difference == pytest.approx(difference.mean())
        np.testing.assert_allclose(
            [row.ci_low, row.ci_high], row.difference + np.array([-half, half]), atol=0.02
        )
        assert row.p_signed_rank == pytest.approx(
            scipy_stats.wilcoxon(scores[row.a], scores[row.b]).pvalue
        )
    small = found["p_signed_rank"].iloc[[0, 2]]
    large = found["p_signed_rank"].iloc[1]
    assert small.max() < 1e-6 and large > 0.05
    np.testing.assert_allclose(found["p_holm"], holm(found["p_signed_rank"]))
    np.testing.assert_allclose(found["q_fdr"], fdr_bh(found["p_signed_rank"]))
    pd.testing.assert_frame_equal(found, compare_methods(scores, n_bootstrap=500))


def test_subject_summary():
    values = [0.8, 0.7, 0.9, 0.6]
    found = subject_summary(values)
    assert found.mean == pytest.approx(0.75) and found.n == 4
    # squares of .05, .05, .15, .15 sum to .05
    assert found.sem == pytest.approx(np.sqrt(0.05 / 3) / 2)
    np.testing.assert_allclose(found.ci, 0.75 + np.array([-1, 1]) * 3.182446 * found.sem, rtol=1e-6)
    np.testing.assert_allclose(
        subject_summary(values, level=0.9).ci, scipy_stats.t.interval(0.9, 3, found.mean, found.sem)
    )
    one = subject_summary([0.8])
    assert one.mean == 0.8 and one.n == 1 and np.isnan([one.sem, *one.ci]).all()


@pytest.mark.parametrize("same_images", [False, True])
def test_hierarchical_bootstrap_has_the_variance_of_both_levels(same_images):
    rng = np.random.default_rng(0)
    subjects = 0.1 * rng.normal(size=12)
    images = rng.normal(size=40)
    n = 40
    s = 12
    scores = subjects[:, None] + images + 0.3 * rng.normal(size=(s, n))
    low, high = hierarchical_bootstrap(scores, same_images=same_images, n_bootstrap=3000)
    # resampling rows of a table: variance of row means over rows, and of what is left within rows
    # over columns
    within = scores.var(axis=1).mean() / (n * s)
    if same_images:  # drawn columns are common to all drawn rows
        residual = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
        within = scores.mean(axis=0).var() / n + residual.var() / (n * s)
    expected = np.sqrt(scores.mean(axis=1).var() / s + within)
    assert (high - low) / 3.92 == pytest.approx(expected, rel=0.05)
    assert low < scores.mean() < high
    assert hierarchical_bootstrap([[1.0, 1, 1], [1.0]]) == (1, 1)


def test_reliability_is_that_of_the_analysis_of_variance():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(15), rng.integers(1, 5, 15)))
    values = rng.normal(size=(15, 6))[groups] * [0, 0.3, 1, 2, 5, 1] + rng.normal(
        size=(len(groups), 6)
    )
    f = scipy_stats.f_oneway(*[values[groups == g] for g in range(15)]).statistic
    np.testing.assert_allclose(reliability(values, groups), np.clip(1 - 1 / f, 0, 1))
    values[:, 0] = 0.1
    values[3, 1] = np.nan
    names = np.array([f"image {g}" for g in groups])
    found = reliability(values, names)
    assert np.isnan(found[:2]).all()
    np.testing.assert_allclose(found[2:], np.clip(1 - 1 / f[2:], 0, 1))


def test_reliability_is_the_squared_correlation_with_the_truth():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(500, 40))
    trials = truth + 2 * rng.normal(size=(3, 500, 40))
    found = reliability(trials.reshape(1500, 40), np.tile(np.arange(500), 3))
    assert found.mean() == pytest.approx(1 / (1 + 4 / 3), abs=0.01)
    reached = [np.corrcoef(trials.mean(axis=0)[:, k], truth[:, k])[0, 1] for k in range(40)]
    assert np.mean(np.sqrt(found)) == pytest.approx(np.mean(reached), abs=0.01)


def test_reliability_that_cannot_be_known():
    values = np.random.default_rng(0).normal(size=(6, 2))
    assert np.isnan(reliability(values, np.arange(6))).all()  # no repeats
    assert np.isnan(reliability(values, np.zeros(6))).all()  # one image
    np.testing.assert_array_equal(
        reliability(np.repeat([[1.0], [2]], 3, axis=0), [0, 0, 0, 1, 1, 1]), [1]
    )


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
        lambda: signed_rank([1.0], [1.0, 2.0]),
        lambda: signed_rank([1.0, np.nan], [1.0, 2.0]),
        lambda: signed_rank([], []),
        lambda: compare_methods({"A": [1.0, 2.0]}),
        lambda: compare_methods({"A": [1.0, 2.0], "B": [1.0]}),
        lambda: subject_summary([]),
        lambda: subject_summary([0.5, np.nan]),
        lambda: subject_summary([0.5, 0.6], level=95),
        lambda: hierarchical_bootstrap([]),
        lambda: hierarchical_bootstrap([[1.0], []]),
        lambda: hierarchical_bootstrap([[1.0], [np.nan]]),
        lambda: hierarchical_bootstrap([[1.0], [1.0, 2.0]], same_images=True),
        lambda: hierarchical_bootstrap([[1.0]], n_bootstrap=0),
        lambda: reliability([1.0, 2.0], [0, 0]),
        lambda: reliability([[1.0], [2.0]], [0, 0, 1]),
    ):
        with pytest.raises(PhospheneError):
            call()
