"""Maps: p by simulation, scipy and enumeration; intervals by their coverage and against a plain
loop.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from phosphene.errors import PhospheneError
from phosphene.numerics import correlation
from phosphene.numerics.ridge import RidgeCV
from phosphene.numerics.stats import (
    correlation_map,
    correlation_p,
    difference_of_correlations,
    fdr_bh,
    maps,
    normalised_correlation,
    permuted_correlation_p,
    roi_draws,
    roi_summary,
    unique_draws,
)

Rng = np.random.Generator


def pairs(n: int, v: int, rng: Rng) -> np.ndarray:
    """Correlations of independent Gaussian vectors, as the paper simulates them."""
    return correlation.correlation(rng.normal(size=(n, v)), rng.normal(size=(n, v)))


def correlated(y: np.ndarray, r: float, rng: Rng) -> np.ndarray:
    return r * y + np.sqrt(1 - r**2) * rng.normal(size=y.shape)


@pytest.mark.parametrize(("n", "v"), [(30, 300_000), (982, 10_000)])
def test_correlation_p_is_the_simulation_of_gaussian_pairs(n, v):
    rng = np.random.default_rng(0)
    null = pairs(n, v, rng)
    assert scipy_stats.kstest(correlation_p(null, n), "uniform").pvalue > 0.05
    assert scipy_stats.kstest(correlation_p(null, n, two_sided=True), "uniform").pvalue > 0.05
    # observed values, and how many of the simulated ones reach them
    found = np.quantile(null, [0.5, 0.9, 0.99])
    simulated = (null >= found[:, None]).mean(axis=1)
    np.testing.assert_allclose(correlation_p(found, n), simulated, atol=4 * np.sqrt(0.25 / v))


def test_correlation_p_is_that_of_scipy():
    rng = np.random.default_rng(0)
    for n in (3, 4, 30, 982):
        x = rng.normal(size=n)
        for y in (rng.normal(size=n), x + rng.normal(size=n), 0.1 * rng.normal(size=n) - x):
            r = np.corrcoef(x, y)[0, 1]
            for two_sided, alternative in ((False, "greater"), (True, "two-sided")):
                expected = scipy_stats.pearsonr(x, y, alternative=alternative).pvalue
                np.testing.assert_allclose(
                    correlation_p(r, n, two_sided=two_sided), expected, rtol=1e-6
                )
    found = correlation_p([[np.nan, 1.0], [0.0, -1.0]], 982)
    np.testing.assert_allclose(found, [[np.nan, 0.0], [0.5, 1.0]], rtol=1e-12)
    # far tails keep their digits: Student's t
    r = 0.9
    n = 982
    np.testing.assert_allclose(
        correlation_p(r, n), scipy_stats.t.sf(r * np.sqrt((n - 2) / (1 - r**2)), n - 2), rtol=1e-8
    )


@pytest.mark.filterwarnings("ignore:RidgeCV. .* largest alpha")
def test_p_is_uniform_after_a_whole_fit_to_noise():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(260, 30))
    Y = rng.normal(size=(260, 3000))
    predicted = RidgeCV(np.logspace(0, 3, 4)).fit(X[:200], Y[:200]).predict(X[200:])
    p = correlation_p(correlation_map(predicted, Y[200:]), 60)
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.05


def test_false_discoveries_over_a_hundred_null_maps():
    """About 5 % of maps without any effect have a discovery, also where neighbours share their
    noise (fewer do).
    """
    rng = np.random.default_rng(0)
    any_found = {0.0: 0, 0.8: 0}
    for smooth in any_found:
        for _ in range(100):
            shared = np.repeat(rng.normal(size=(50, 40)), 10, axis=1)
            truth = (
                correlated(shared, np.sqrt(1 - smooth), rng)
                if smooth
                else rng.normal(size=(50, 400))
            )
            q = fdr_bh(correlation_p(correlation_map(rng.normal(size=(50, 400)), truth), 50))
            any_found[smooth] += bool((q <= 0.05).any())
    low, high = scipy_stats.binom.ppf([0.001, 0.999], 100, 0.05)
    assert low <= any_found[0.0] <= high and any_found[0.8] <= high


def test_false_discovery_rate_where_some_voxels_are_driven():
    rng = np.random.default_rng(1)
    rates = []
    power = []
    for _ in range(100):
        truth = rng.normal(size=(100, 300))
        prediction = rng.normal(size=(100, 300))
        prediction[:, :60] = correlated(truth[:, :60], 0.4, rng)
        found = fdr_bh(correlation_p(correlation_map(prediction, truth), 100)) <= 0.05
        rates.append(found[60:].sum() / max(1, found.sum()))
        power.append(found[:60].mean())
    expected = 0.05 * 240 / 300  # of Benjamini-Hochberg: times the share of true null hypotheses
    assert abs(np.mean(rates) - expected) < 4 * np.std(rates) / 10 and np.mean(power) > 0.9


def test_permuted_p_against_all_permutations():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(6, 5))
    prediction = truth + rng.normal(size=(6, 5))
    prediction[:, 3] = [0, 0, 1, 1, 1, 0]  # many permutations tie with the observed order
    prediction[:, 4] = 0.1
    observed = correlation_map(prediction, truth)
    every = np.array(
        [correlation_map(prediction[list(order)], truth) for order in permutations(range(6))]
    )
    exact = np.where(np.isnan(observed), np.nan, (every >= observed - 1e-9).mean(axis=0))
    found = permuted_correlation_p(prediction, truth, n_permutations=4000, rng=1)
    np.testing.assert_allclose(found, exact, atol=4 * np.sqrt(0.25 / 4000))
    assert np.isnan(found[4]) and not np.isnan(found[:4]).any()


def test_permuted_p_agrees_with_the_exact_null_and_is_never_zero():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(40, 60))
    prediction = correlated(truth, 0.2, rng)
    prediction[:, 0] = truth[:, 0]
    found = permuted_correlation_p(prediction, truth, n_permutations=1999)
    exact = correlation_p(correlation_map(prediction, truth), 40)
    np.testing.assert_allclose(found, exact, atol=0.05)
    assert found[0] == 1 / 2000
    np.testing.assert_array_equal(
        found, permuted_correlation_p(prediction, truth, n_permutations=1999, rng=0)
    )


def test_difference_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(25, 7)) + 1e4
    a = correlated(truth, 0.7, rng)
    b = 5 * correlated(truth, 0.3, rng)
    found = difference_of_correlations(a, b, truth, n_bootstrap=99, rng=3)
    counts = np.random.default_rng(3).multinomial(25, np.full(25, 1 / 25), size=99)
    draws = []
    for count in counts:
        rows = np.repeat(np.arange(25), count)
        draws.append(
            correlation.correlation(a[rows], truth[rows])
            - correlation.correlation(b[rows], truth[rows])
        )
    draws = np.array(draws)
    difference = correlation.correlation(a, truth) - correlation.correlation(b, truth)
    np.testing.assert_allclose(found.difference, difference, atol=1e-9)
    np.testing.assert_allclose(
        [found.ci_low, found.ci_high], np.quantile(draws, [0.025, 0.975], axis=0), atol=1e-9
    )
    smaller = [min((one <= 0).sum(), (one >= 0).sum()) for one in draws.T]
    np.testing.assert_allclose(found.p, [min(1, 2 * (1 + k) / 100) for k in smaller])
    t = np.abs(difference) / draws.std(axis=0, ddof=1) * np.sqrt(24 / 25)
    np.testing.assert_allclose(found.p_t, 2 * scipy_stats.t.sf(t, 24), rtol=1e-6)


def test_difference_covers_and_finds_nothing_where_there_is_nothing():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(150, 1500))
    a = correlated(truth, 0.6, rng)
    b = correlated(truth, 0.4, rng)
    c = correlated(truth, 0.4, rng)
    other = difference_of_correlations(a, b, truth, n_bootstrap=400)
    covered = np.mean((other.ci_low <= 0.2) & (other.ci_high >= 0.2))
    assert 0.92 < covered < 0.97
    same = difference_of_correlations(b, c, truth, n_bootstrap=400)
    for p in (same.p, same.p_t):
        assert 0.03 < np.mean(p <= 0.05) < 0.075
    assert np.mean(other.p_t < 0.05) > 0.5
    equal = difference_of_correlations(b, b, truth, n_bootstrap=10)
    assert (equal.p == 1).all() and (equal.p_t == 1).all() and not equal.difference.any()


def test_voxels_without_a_correlation_are_nan_and_spoil_no_other():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(20, 6))
    prediction = rng.normal(size=(20, 6))
    whole = difference_of_correlations(prediction, -prediction, truth, n_bootstrap=50)
    truth[:, 1] = 0.1
    prediction[3, 2] = np.nan
    truth[4, 3] = np.inf
    found = difference_of_correlations(prediction, -prediction, truth, n_bootstrap=50)
    for name in ("difference", "ci_low", "ci_high", "p", "p_t"):
        values = getattr(found, name)
        assert np.isnan(values[1:4]).all()
        np.testing.assert_allclose(values[[0, 4, 5]], getattr(whole, name)[[0, 4, 5]])
    assert np.isnan(permuted_correlation_p(prediction, truth, n_permutations=5)[1:4]).all()


class OnDisk:
    """Columns of float16 that only come in slices, like a zarr array; notes how many were asked for
    at once.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values.astype(np.float16)
        self.shape = values.shape
        self.widest = 0

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        part = self.values[key]
        self.widest = max(self.widest, part.shape[1])
        return part


def test_blocks_of_stored_columns_give_what_whole_arrays_give(monkeypatch):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(30, 50))
    a, b, y = (
        OnDisk(values) for values in (correlated(truth, 0.5, rng), rng.normal(size=(30, 50)), truth)
    )
    labels = np.repeat(["V1", "FFA"], 25)

    def everything():
        summary = roi_draws(a, y, labels, n_bootstrap=20).to_numpy()
        difference = difference_of_correlations(a, b, y, n_bootstrap=20)
        return (
            correlation_map(a, y),
            permuted_correlation_p(a, y, n_permutations=20),
            difference.ci_low,
            summary,
        )

    whole = everything()
    np.testing.assert_allclose(whole[0], correlation.correlation(a.values, y.values), rtol=1e-12)
    for array in (a, b, y):
        array.widest = 0
    monkeypatch.setattr(maps, "READ", 16)
    monkeypatch.setattr(maps, "WORK", 5)
    for one, other in zip(whole, everything(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert max(a.widest, b.widest, y.widest) == 16


def test_normalised_correlation():
    ncsnr = np.array([0.0, 0.05, 0.5, 2.0, np.nan])
    found = normalised_correlation([0.3, 0.3, 0.3, np.nan, 0.3], ncsnr, 3)
    assert np.isnan(found[[0, 1, 3, 4]]).all()  # no signal; a ceiling of 0.09; no r; no ncsnr
    assert found[2] == pytest.approx(0.3 / np.sqrt(0.25 / (0.25 + 1 / 3)))
    assert normalised_correlation([0.3], [0.05], floor=0.05)[0] > 1
    mixed = normalised_correlation([0.3], [0.5], np.repeat([3, 2, 1], [10, 5, 5]))
    assert mixed[0] == pytest.approx(0.3 / np.sqrt(0.25 / (0.25 + (10 / 3 + 5 / 2 + 5) / 20)))


def test_normalised_correlation_is_that_with_the_signal():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(5000, 40))
    measured = signal + rng.normal(size=(3, 5000, 40)).mean(axis=0) * 2  # ncsnr 0.5
    prediction = correlated(signal, 0.6, rng)
    found = normalised_correlation(correlation_map(prediction, measured), np.full(40, 0.5), 3)
    assert found.mean() == pytest.approx(0.6, abs=0.01)


def test_roi_summary_by_hand():
    values = np.array([1.0, 2.0, 6.0, np.nan, 5.0, 7.0, np.nan])
    labels = np.array(["b", "b", "b", "b", "a", "", "c"])
    found = roi_summary(values, labels, q=[0.01, 0.2, 0.05, np.nan, 0.9, 0.0, np.nan]).set_index(
        "roi"
    )
    assert list(found.index) == ["a", "b", "c"]  # "" is no region
    assert found.loc["b", ["mean", "median", "n_voxels"]].tolist() == [3, 2, 3]
    assert (
        found.loc["b", "significant"] == pytest.approx(2 / 3) and found.loc["a", "significant"] == 0
    )
    assert found.loc["a", ["ci_low", "ci_high"]].tolist() == [5, 5]
    assert (
        found.loc["c", "n_voxels"] == 0
        and np.isnan(found.loc["c", "mean"])
        and np.isnan(found.loc["c", "ci_low"])
    )
    expected = scipy_stats.bootstrap(
        (values[:3],), np.mean, n_resamples=5000, method="percentile", rng=0
    )
    np.testing.assert_allclose(
        found.loc["b", ["ci_low", "ci_high"]].astype(float), expected.confidence_interval, atol=0.35
    )
    numbers = roi_summary(values, [2, 2, 2, 2, 1, 0, -1])
    assert numbers["roi"].tolist() == [1, 2] and "significant" not in numbers
    assert (numbers["resampled"] == "voxels").all()
    assert roi_summary(values, [0] * 7, q=values / 10)["roi"].tolist() == []


def test_only_resampled_images_cover_where_voxels_share_their_noise():
    rng = np.random.default_rng(0)
    hits = {"voxels": 0, "images": 0}
    tried = 150
    labels = np.full(30, "V1")
    for _ in range(tried):
        common = rng.normal(size=(60, 1))
        truth = 0.9 * common + np.sqrt(1 - 0.81) * rng.normal(size=(60, 30))
        # true r: 0.45 in every voxel
        prediction = np.repeat(correlated(common, 0.5, rng), 30, axis=1)
        r = correlation_map(prediction, truth)
        draws = roi_draws(prediction, truth, labels, n_bootstrap=200, rng=rng)
        for table in (roi_summary(r, labels, n_bootstrap=200), roi_summary(r, labels, draws=draws)):
            row = table.iloc[0]
            hits[row["resampled"]] += row["ci_low"] <= 0.45 <= row["ci_high"]
    assert hits["images"] / tried > 0.88 and hits["voxels"] / tried < 0.4


def test_draws_of_regions_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(20, 9))
    prediction = correlated(truth, 0.5, rng)
    prediction[:, 4] = 1.0
    labels = np.array(["x", "y", "", "x", "x", "y", "y", "", "z"])
    found = roi_draws(prediction, truth, labels, n_bootstrap=8, rng=5)
    assert list(found) == ["x", "y", "z"]
    for k, count in enumerate(
        np.random.default_rng(5).multinomial(20, np.full(20, 1 / 20), size=8)
    ):
        rows = np.repeat(np.arange(20), count)
        r = correlation.correlation(prediction[rows], truth[rows])
        for name in found:
            assert found[name][k] == pytest.approx(np.nanmean(r[labels == name]))


def test_bad_input_is_refused_in_one_sentence():
    good = np.random.default_rng(0).normal(size=(10, 4))
    wide = np.zeros((10, 5))
    for call in (
        lambda: correlation_p(0.5, 2),
        lambda: correlation_p(1.5, 10),
        lambda: correlation_map(good, wide),
        lambda: correlation_map(good[0], good[0]),
        lambda: permuted_correlation_p(good, good[:5]),
        lambda: permuted_correlation_p(good, good, n_permutations=0),
        lambda: difference_of_correlations(good, good, wide),
        lambda: difference_of_correlations(good, good, good, n_bootstrap=1),
        lambda: difference_of_correlations(good[:2], good[:2], good[:2]),
        lambda: normalised_correlation([0.1, 0.2], [1.0]),
        lambda: normalised_correlation([0.1], [1.0], floor=0),
        lambda: normalised_correlation([0.1], [-1.0]),
        lambda: roi_draws(good, good, ["a"] * 5),
        lambda: roi_summary(good[0], ["a"] * 5),
        lambda: roi_summary(good[0], ["a"] * 4, q=[0.1]),
        lambda: roi_summary(
            good[0], ["a"] * 4, draws=roi_draws(good, good, ["b"] * 4, n_bootstrap=3)
        ),
    ):
        with pytest.raises(PhospheneError) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_draws_of_unique_variance_are_those_of_a_plain_loop():
    draw = np.random.default_rng(3)
    # more voxels than are worked on at a time
    n = 12
    v = 300
    y = draw.standard_normal((n, v))
    p = y + draw.standard_normal((n, v))
    without = y + 2 * draw.standard_normal((2, n, v))
    y[:, 7] = np.nan
    members = np.array([np.arange(v) < 40, np.arange(v) >= 20, np.arange(v) == 7])
    ours = unique_draws(p, without, y, members, n_bootstrap=15, rng=4)
    counts = np.random.default_rng(4).multinomial(n, np.full(n, 1 / n), size=15)
    assert ours.shape == (2, 15, 3) and np.isnan(ours[:, :, 2]).all()
    for k, count in enumerate(counts):
        images = np.repeat(np.arange(n), count)
        for space in range(2):
            lost = correlation.r2(y[images], p[images]) - correlation.r2(
                y[images], without[space][images]
            )
            expected = [np.nanmean(lost[some]) for some in members[:2]]
            np.testing.assert_allclose(ours[space, k, :2], expected)
    with pytest.raises(PhospheneError, match="unique_draws: found without"):
        unique_draws(p, without[:, :, 1:], y, members)
