"""The analysis of raters: by hand, against scipy and statsmodels, and by what it does to simulated
raters.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit

from phosphene.errors import PhospheneError
from phosphene.ratings.analysis import (
    accuracy,
    agreement,
    compare,
    consistency,
    exclusions,
    kept,
    mixed,
    predicts,
)
from phosphene.ratings.analysis.crossed import counted, crossed_variance, t_interval
from phosphene.ratings.analysis.logistic import MARGINAL, MIXED
from phosphene.ratings.power import average, crossing, intercept, simulate

sm = pytest.importorskip("statsmodels.api")


METHODS = ("z", "c", "zc")


def table(hits: np.ndarray, methods: tuple[str, ...] = METHODS) -> pd.DataFrame:
    """Answers to every image with every method: hits (n_raters, n_methods, n_images)."""
    n_raters, n_methods, n_images = hits.shape
    rows = crossing(n_raters, n_images, methods[:n_methods])
    hit = hits.reshape(-1).astype(bool)
    choice = np.where(hit, rows["correct"], np.where(rows["correct"] == "left", "right", "left"))
    rater = [f"rater{slot:02d}" for slot in rows["slot"]]
    method = pd.Categorical(rows["method"], methods[:n_methods])
    return rows.assign(rater=rater, method=method, hit=hit, choice=choice, milliseconds=1500.0)


def random_hits(seed: int, n_raters: int = 6, n_images: int = 40, n_methods: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    lin = 0.8 + rng.normal(0, 0.5, (n_raters, 1, 1)) + rng.normal(0, 1, (1, 1, n_images))
    lin = lin + np.arange(n_methods)[:, None] * 0.4
    return rng.random((n_raters, n_methods, n_images)) < expit(lin)


# Variance


def test_complete_table_is_the_analysis_of_variance():
    hits = random_hits(0)[:, 0].astype(float)
    n_raters, n_images = hits.shape
    found = crossed_variance((hits - hits.mean()) / hits.size)
    r, i = (codes.ravel() for codes in np.indices(hits.shape))
    long = pd.DataFrame({"y": hits.ravel(), "r": r, "i": i})
    anova = sm.stats.anova_lm(sm.OLS.from_formula("y ~ C(r) + C(i)", long).fit(), typ=2)
    ms = anova["sum_sq"] / anova["df"]
    assert found.rater == pytest.approx(ms["C(r)"] / hits.size)
    assert found.rater == pytest.approx(stats.sem(hits.mean(1)) ** 2)
    assert found.image == pytest.approx(stats.sem(hits.mean(0)) ** 2)
    assert found.both == pytest.approx((ms["C(r)"] + ms["C(i)"] - ms["Residual"]) / hits.size)


def test_incomplete_table_takes_its_noise_from_an_additive_fit():
    rng = np.random.default_rng(0)
    seen = rng.random((8, 30)) < 0.6
    hits = rng.random((8, 30)) < expit(rng.normal(0, 1, (8, 1)) + rng.normal(0, 1, 30))
    r, i = np.nonzero(seen)
    y = hits[seen].astype(float)
    cells = np.where(seen, hits - y.mean(), 0) / len(y)
    fit = sm.OLS.from_formula("y ~ C(r) + C(i)", pd.DataFrame({"y": y, "r": r, "i": i})).fit()
    found = crossed_variance(cells, seen)
    expected = found.rater + found.image - fit.mse_resid / len(y)
    assert found.both == pytest.approx(max(expected, found.rater, found.image))
    assert found.both >= max(found.rater, found.image)


def test_images_seen_once_leave_only_raters():
    seen = np.kron(np.eye(5, dtype=bool), np.ones((1, 12), bool))
    y = np.where(seen, np.random.default_rng(0).random(seen.shape) < 0.7, 0).astype(float)
    cells = np.where(seen, y - y[seen].mean(), 0) / seen.sum()
    found = crossed_variance(cells, seen)
    assert found.rater == pytest.approx(stats.sem(y.sum(1) / 12) ** 2)
    assert found.both == pytest.approx(max(found.rater, found.image), rel=0.15)


def test_one_rater_says_nothing_about_others():
    found = accuracy(table(random_hits(0, n_raters=1))).iloc[0]
    assert np.isnan(found[["ci_low", "ci_high", "rater_low", "rater_high"]].astype(float)).all()
    assert found["image_low"] < found["accuracy"] < found["image_high"]


# Accuracy


def test_accuracy_by_hand_and_by_scipy():
    hits = random_hits(1)
    answers = table(hits)
    noise = answers.iloc[:50].assign(kind="catch", method="catch", hit=False)
    again = answers.iloc[:50].assign(kind="repeat", hit=False)
    found = accuracy(pd.concat([answers, noise, again])).set_index("method")
    # by name: with catch trials in it, the column has no order
    assert list(found.index) == [
        "c",
        "z",
        "zc",
    ]
    assert list(accuracy(answers)["method"]) == ["z", "c", "zc"]
    for number, name in enumerate(METHODS):
        row = found.loc[name]
        own = hits[:, number].astype(float)
        assert (row["n_raters"], row["n_images"], row["n_trials"]) == (6, 40, 240)
        assert row["accuracy"] == pytest.approx(own.mean())
        by_rater = stats.ttest_1samp(own.mean(1), 0).confidence_interval()
        np.testing.assert_allclose(
            row[["rater_low", "rater_high"]].astype(float), np.clip(by_rater, 0, 1)
        )
        boot = stats.bootstrap(
            (own.mean(0),), np.mean, method="percentile", n_resamples=5000, rng=0
        )
        np.testing.assert_allclose(
            row[["image_low", "image_high"]].astype(float), boot.confidence_interval, atol=0.015
        )
        assert row["ci_high"] - row["ci_low"] >= row["rater_high"] - row["rater_low"] - 0.02


def test_order_and_names_do_not_matter():
    answers = table(random_hits(2))
    shuffled = answers.sample(frac=1, random_state=1)
    names = dict(zip(sorted(answers["rater"].unique()), "fbadec", strict=True))
    shuffled = shuffled.assign(
        rater=shuffled["rater"].map(names), image=shuffled["image"].map(lambda k: f"p{k:03d}")
    )
    one, other = (
        accuracy(some).sort_values("method", ignore_index=True) for some in (answers, shuffled)
    )
    columns = ["accuracy", "ci_low", "ci_high", "rater_low", "rater_high"]
    pd.testing.assert_frame_equal(one[columns], other[columns])


def test_nobody_errs_and_the_interval_still_has_a_width():
    found = accuracy(table(np.ones((6, 1, 100)))).iloc[0]
    wilson = stats.binomtest(600, 600).proportion_ci(method="wilson")
    for name in ("ci", "rater", "image"):
        assert found[f"{name}_low"] == pytest.approx(wilson.low) and found[f"{name}_high"] == 1
    both = compare(table(np.ones((6, 2, 100))))
    ends = sm.stats.confint_proportions_2indep(600, 600, 600, 600, compare="diff", method="newcomb")
    np.testing.assert_allclose(both.loc[0, ["ci_low", "ci_high"]].astype(float), ends, atol=1e-12)
    assert both.loc[0, "p_both"] == both.loc[0, "p_image"] == 1
    np.testing.assert_allclose(
        both.loc[1, ["ci_low", "ci_high"]].astype(float), [wilson.low - 0.5, 0.5]
    )
    assert both.loc[1, "p_both"] == pytest.approx(2 * 0.5**100)


@pytest.mark.parametrize("n_raters", [6, 20])
def test_intervals_cover(n_raters):
    """Studies of 100 trials; each interval against the truth it speaks of, 95 % give or take 4
    standard errors.
    """
    rng = np.random.default_rng(n_raters)
    hits = dict.fromkeys(("rater", "image", "ci"), 0)
    n = 200
    rater_sd = 0.4
    image_sd = 1.0
    centre = intercept(0.8, float(np.hypot(rater_sd, image_sd)))
    for _ in range(n):
        raters = rng.normal(0, rater_sd, n_raters)
        images = rng.normal(0, image_sd, 100)
        answers = table(
            rng.random((n_raters, 1, 100)) < expit(centre + raters[:, None, None] + images)
        )
        row = accuracy(answers, n_bootstrap=200, rng=rng).iloc[0]
        truth = {
            "rater": average(centre + images, rater_sd).mean(),
            "image": average(centre + raters, image_sd).mean(),
            "ci": 0.8,
        }
        for name, value in truth.items():
            hits[name] += row[f"{name}_low"] <= value <= row[f"{name}_high"]
    assert all(0.89 * n <= k <= n for k in hits.values()), hits


# Comparisons


def scipy_signed_rank(counts):
    """Two-sided p of whole numbers, in which equal differences are equal; by drawn signs where
    images are few.
    """
    if len(counts) > 50:
        return pytest.approx(
            stats.wilcoxon(counts, zero_method="zsplit", method="asymptotic").pvalue
        )
    draws = stats.PermutationMethod(n_resamples=20_000, rng=0)
    p = stats.wilcoxon(counts, zero_method="zsplit", method=draws).pvalue
    return pytest.approx(p, abs=10 * np.sqrt(p / 40_000))  # five standard errors


def test_compare_equals_scipy():
    hits = random_hits(3)
    found = compare(table(hits), units=("image", "rater", "answer"))
    assert list(zip(found["a"], found["b"], strict=True)) == [
        ("z", "c"),
        ("z", "zc"),
        ("c", "zc"),
        ("z", "chance"),
        ("c", "chance"),
        ("zc", "chance"),
    ]
    for row, (a, b) in zip(found.itertuples(), [(0, 1), (0, 2), (1, 2)], strict=False):
        d = hits[:, a].astype(float) - hits[:, b]
        assert row.difference == pytest.approx(d.mean())
        assert row.p_image == scipy_signed_rank(d.sum(0))
        assert row.p_rater == scipy_signed_rank(d.sum(1))
        assert row.p_answer == scipy_signed_rank(d.ravel())
        assert (row.n_image, row.n_rater, row.n_answer) == (40, 6, 240)
        ends = stats.ttest_1samp(d.mean(1), 0).confidence_interval()
        np.testing.assert_allclose([row.rater_low, row.rater_high], ends)
    for name in ("image", "rater", "answer", "both"):
        for rows in (found[:3], found[3:]):
            corrected = sm.stats.multipletests(rows[f"p_{name}"], method="holm")[1]
            np.testing.assert_allclose(rows[f"p_{name}_holm"], corrected)
    assert found["p_rater"].iloc[5] == scipy_signed_rank(hits[:, 2].sum(1) - 20.0)


def test_six_raters_reach_no_more_than_this():
    hits = np.zeros((6, 3, 100), bool)
    for rater, (method, right) in product(range(6), enumerate((50, 70, 90))):
        hits[rater, method, : right + rater * (method + 1)] = True
    found = compare(table(hits))[:3]
    np.testing.assert_allclose(found["p_rater"], 2 / 2**6)
    np.testing.assert_allclose(found["p_rater_holm"], 6 / 2**6)
    assert (found["p_image_holm"] < 0.01).all() and (found["p_both_holm"] < 0.01).all()


def test_raters_who_saw_other_images():
    rng = np.random.default_rng(0)
    answers = table(rng.random((12, 2, 200)) < np.array([0.7, 0.85])[:, None], ("z", "zc"))
    some = answers.sample(frac=0.25, random_state=0)
    found = compare(some).iloc[0]
    both = some.pivot_table(index="image", columns="method", values="hit").dropna()
    assert found["n_image"] == len(both) < 200
    whole = (
        27_720 * (both["z"] - both["zc"])
    ).round()  # shares of up to 12 raters in whole numbers
    assert found["p_image"] == scipy_signed_rank(whole)
    shares = some.groupby("method")["hit"].mean()
    assert found["difference"] == pytest.approx(shares["z"] - shares["zc"])
    assert found["ci_low"] < -0.15 < found["ci_high"] and found["p_both"] < 0.01


def test_tests_keep_their_level():
    """Equal methods; images differ in which method did them well. Raters then are no unit, answers
    neither.
    """
    rng = np.random.default_rng(0)
    n = 150
    trials = crossing(6, 60, ["a", "b"])
    studies = (
        simulate(trials, 0.8, rng, image_method_sd=1.0, rater_method_sd=0.0) for _ in range(n)
    )
    found = pd.concat([compare(study, units=("image",)).iloc[:1] for study in studies])
    most = stats.binom.ppf(0.9999, n, 0.05)
    assert (found["p_image"] <= 0.05).sum() <= most
    assert (found["p_both"] <= 0.05).sum() <= most
    assert 0.9 <= ((found["ci_low"] <= 0) & (found["ci_high"] >= 0)).mean()


def test_what_compare_refuses():
    with pytest.raises(
        PhospheneError, match="units must be among image, rater, answer, found trial"
    ):
        compare(table(random_hits(0)), units=("trial",))
    with pytest.raises(PhospheneError, match="columns hit are missing"):
        accuracy(table(random_hits(0)).drop(columns="hit"))
    with pytest.raises(PhospheneError, match="none of the 240 rows counts"):
        accuracy(table(random_hits(0, n_methods=1)).assign(kind="catch"))


# Odds


def test_marginal_odds_equal_statsmodels_clustered_by_rater_and_by_image():
    hits = random_hits(4, n_raters=9, n_methods=2)
    answers = table(hits, ("z", "zc"))
    y = answers["hit"].astype(float)
    x = sm.add_constant((answers["method"] == "z").astype(float))
    found = counted(answers)
    row = mixed(answers).iloc[0]
    shares = [found.share(0), found.share(1)]
    parts = [found.influence(m) / (p * (1 - p)) for m, p in enumerate(shares)]
    spread = found.variance(parts[0] - parts[1], 0, 1)
    for groups, ours in ((answers["slot"], spread.rater), (answers["image"], spread.image)):
        fit = sm.GEE(y, x, groups=groups, family=sm.families.Binomial()).fit()
        n = groups.nunique()
        assert row["log_odds"] == pytest.approx(fit.params["method"], abs=1e-8)
        assert ours == pytest.approx(fit.bse["method"] ** 2 * n / (n - 1), rel=1e-6)
    low, high, p = t_interval(row["log_odds"], float(spread.both), float(spread.df))
    assert row["or_low"] == pytest.approx(np.exp(low)) and row["or_high"] == pytest.approx(
        np.exp(high)
    )
    assert row["p"] == pytest.approx(p) and row["headline"] and row["model"] == MARGINAL


def test_odds_against_chance_and_holm():
    answers = table(random_hits(5))
    found = mixed(answers)
    alone = found[found["b"] == "chance"]
    assert list(alone["a"]) == ["z", "c", "zc"] and (alone["model"] == MARGINAL).all()
    np.testing.assert_allclose(
        alone["log_odds"], logit(answers.groupby("method", sort=False)["hit"].mean())
    )
    for model in (MARGINAL, MIXED):
        rows = found[(found["model"] == model) & (found["b"] != "chance")]
        np.testing.assert_allclose(
            rows["p_holm"].astype(float), sm.stats.multipletests(rows["p"], method="holm")[1]
        )
        assert len(rows) == 3 and rows["converged"].all()


def test_mixed_model_finds_what_is_there():
    rng = np.random.default_rng(0)
    lin = (
        np.array([0.5, 1.7])[:, None]
        + rng.normal(0, 0.6, (30, 1, 1))
        + rng.normal(0, 1, (1, 1, 150))
    )
    found = mixed(table(rng.random((30, 2, 150)) < expit(lin), ("z", "zc")))
    row = found[found["model"] == MIXED].iloc[0]
    assert row["log_odds"] == pytest.approx(-1.2, abs=0.2) and row["p"] < 1e-6
    assert row["rater_sd"] == pytest.approx(0.6, abs=0.25) and row["image_sd"] == pytest.approx(
        1, abs=0.3
    )
    # within a rater and image odds differ more than on average
    assert abs(row["log_odds"]) > abs(found[found["model"] == MARGINAL].iloc[0]["log_odds"])


def test_a_method_that_is_never_wrong_has_no_odds():
    hits = random_hits(6)
    hits[:, 2] = True
    found = mixed(table(hits))
    odd = found[(found["model"] == MARGINAL) & ((found["a"] == "zc") | (found["b"] == "zc"))]
    assert (
        len(odd) == 3
        and np.isinf(odd["log_odds"]).all()
        and odd["p"].isna().all()
        and not odd["converged"].any()
    )
    assert found.loc[(found["a"] == "z") & (found["b"] == "c"), "p"].notna().all()


# Exclusions


def one_rater(rater: str, catch: list[bool], ms: list[float]) -> pd.DataFrame:
    n = len(ms)
    kind = ["catch"] * len(catch) + ["trial"] * (n - len(catch))
    return pd.DataFrame(
        {"rater": rater, "kind": kind, "hit": catch + [True] * (n - len(catch)), "milliseconds": ms}
    )


def test_exclusions_are_the_rules():
    answers = pd.concat(
        [
            # both limits pass
            one_rater("edge", [True] * 8 + [False] * 2, [299.99] * 2 + [300.0] * 18),
            one_rater("blind", [True] * 7 + [False] * 3, [1500.0] * 20),
            one_rater("fast", [True] * 10, [299.99] * 3 + [1500.0] * 17),
            one_rater("worst", [False] * 10, [100.0] * 20),
            # slow and always wrong is no ground
            one_rater("wrong", [True] * 10, [60000.0] * 20).assign(
                hit=lambda t: t["kind"] == "catch"
            ),
        ]
    )
    found = exclusions(answers, least_catch=0.8, least_seconds=0.3).set_index("rater")
    assert found["excluded"].to_dict() == {
        "blind": True,
        "edge": False,
        "fast": True,
        "worst": True,
        "wrong": False,
    }
    assert found.loc["edge", ["answered", "catch_n", "catch_hits"]].tolist() == [20, 10, 8]
    assert found.loc["edge", "fast"] == 0.1 and found.loc["edge", "median_ms"] == 300
    assert found.loc["blind", "reason"] == "7 of 10 catch trials right, less than 80 %"
    assert found.loc["fast", "reason"] == "3 of 20 answers under 0.3 s, more than 10 %"
    assert found.loc["worst", "reason"].count(";") == 1 and found.loc["edge", "reason"] == ""
    left = kept(answers, found.reset_index())
    assert set(left["rater"]) == {"edge", "wrong"} and len(left) == 40


@pytest.mark.parametrize("k", range(11))
def test_the_catch_limit_is_a_decimal(k):
    found = exclusions(one_rater("a", [True] * k + [False] * (10 - k), [999.0] * 10), k / 10, 0.3)
    assert not found["excluded"][0]
    assert exclusions(
        one_rater("a", [True] * k + [False] * (10 - k), [999.0] * 10), k / 10 + 1e-9, 0.3
    )["excluded"][0]


def test_rules_without_their_data_are_not_applied():
    answers = one_rater("a", [], [np.nan] * 5)
    found = exclusions(answers, 0.8, 0.3).iloc[0]
    assert (
        not found["excluded"]
        and found["catch_n"] == 0
        and np.isnan(found["fast"])
        and np.isnan(found["catch_share"])
    )
    assert not exclusions(answers.drop(columns="milliseconds"), 0.8, 0.3)["excluded"][0]


# Agreement


def test_consistency_by_hand():
    trials = pd.DataFrame(
        {
            "rater": "a",
            "position": range(6),
            "kind": ["trial"] * 3 + ["repeat"] * 3,
            "method": "z",
            "image": [0, 1, 2] * 2,
            "repeat_of": [-1, -1, -1, 0, 1, 9],
            "correct": ["left", "left", "right", "right", "right", "left"],
            "choice": ["left", "right", "right", "right", "right", "left"],
        }
    )
    found = consistency(trials.assign(hit=trials["choice"] == trials["correct"])).iloc[0]
    # first alike (both right), second not; third has no first
    assert found["n_repeats"] == 2 and found["alike"] == 0.5
    assert found["n_trials"] == 3 and found["right_side"] == pytest.approx(2 / 3)
    assert found["p_side"] == stats.binomtest(2, 3, 1 / 3).pvalue


def test_agreement_is_fleiss_kappa():
    from statsmodels.stats.inter_rater import fleiss_kappa

    hits = random_hits(7)
    found = agreement(table(hits)).set_index("method")
    for number, name in enumerate(found.index):
        right = hits[:, number].sum(0)
        row = found.loc[name]
        assert row["kappa"] == pytest.approx(fleiss_kappa(np.column_stack([right, 6 - right])))
        pairs = [(hits[a, number] == hits[b, number]).mean() for a in range(6) for b in range(a)]
        assert row["agreement"] == pytest.approx(np.mean(pairs)) and row["n_pairs"] == 40 * 15
        assert row["kappa_low"] < row["kappa"] < row["kappa_high"]


def test_agreement_where_there_is_none_to_find():
    all_right = agreement(table(np.ones((4, 1, 20)))).iloc[0]
    assert all_right["agreement"] == 1 and np.isnan(all_right["kappa"])
    assert agreement(table(random_hits(0, n_raters=1, n_methods=1)))["n_images"][0] == 0


# Metrics


def scores(values: dict[str, np.ndarray], mode: str = "z", **more: object) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "preset": "p",
                "metric": name,
                "direction": "takagi2023",
                "selection": "single",
                "value": value,
                "image": range(len(value)),
                "item": range(len(value)),
                "subject": "subj01",
                "mode": mode,
                "source": "brain",
                **more,
            }
        )
        for name, value in values.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_predicts_is_spearman_over_images_that_were_shown():
    hits = random_hits(8)
    people = hits[:, 0].mean(0)
    rng = np.random.default_rng(0)
    metrics = {
        "good": people + rng.normal(0, 0.1, 40),
        "bad": rng.normal(size=40),
        "Eff": -people,
        "flat": np.ones(40),
    }
    table_of = pd.concat(
        [
            scores(metrics),
            scores({"good": rng.normal(size=40)}, source="shuffled"),
            scores({"good": rng.normal(size=40)}, selection="mean"),
        ]
    )
    found = predicts(
        table(hits).assign(image=lambda t: t["image"].astype(str)), table_of
    ).set_index("metric")
    assert list(found.index)[:3] == ["Eff", "good", "bad"] and (found["method"] == "z").all()
    for name in ("good", "bad"):
        assert found.loc[name, "r"] == pytest.approx(
            stats.spearmanr(people, metrics[name]).statistic
        )
        assert found.loc[name, "ci_low"] < found.loc[name, "r"] < found.loc[name, "ci_high"]
    nameless = predicts(table(hits).assign(subject=""), scores(metrics)).set_index("metric")
    assert nameless.loc["good", "r"] == found.loc["good", "r"]
    assert found.loc["Eff", "r"] == pytest.approx(1) and found.loc["Eff", "best"] > 0.99
    assert (
        np.isnan(found.loc["flat", "r"])
        and np.isnan(found.loc["flat", "ci_low"])
        and found.loc["flat", "best"] == 0
    )
    assert found["best"].sum() == pytest.approx(1) and (found["n_images"] == 40).all()


def test_a_mode_with_one_sample_has_its_scores_under_mean():
    hits = random_hits(8)
    rng = np.random.default_rng(0)
    one = scores({"q": hits[:, 0].mean(0)}, mode="z", selection="mean")
    two = [
        scores({"q": rng.normal(size=40)}, mode="c", selection=name) for name in ("mean", "single")
    ]
    found = predicts(table(hits), pd.concat([one, *two])).set_index("method")
    assert found.loc["z", "r"] == pytest.approx(1)
    assert found.loc["c", "r"] == pytest.approx(
        stats.spearmanr(two[1]["value"], hits[:, 1].mean(0)).statistic
    )


def test_interval_of_a_metric_covers():
    rng = np.random.default_rng(0)
    n = 60
    inside = 0
    wide = rng.normal(size=200_000)
    truth = stats.spearmanr(wide, stats.binom.rvs(6, expit(1 + wide), random_state=1)).statistic
    for _ in range(n):
        quality = rng.normal(size=100)
        hits = rng.random((6, 1, 100)) < expit(1 + quality)
        row = predicts(table(hits, ("z",)), scores({"q": quality}), n_bootstrap=200, rng=rng).iloc[
            0
        ]
        inside += row["ci_low"] <= truth <= row["ci_high"]
    assert 0.85 * n <= inside <= n


def test_ceiling_is_what_the_true_easiness_of_images_reaches():
    rng = np.random.default_rng(0)
    easy = rng.normal(0, 1.5, 1500)
    hits = rng.random((8, 1, 1500)) < expit(0.3 + easy + rng.normal(0, 1, (8, 1, 1)))
    found = predicts(table(hits, ("z",)), scores({"truth": easy}), n_bootstrap=10).iloc[0]
    assert found["ceiling"] == pytest.approx(found["r"], abs=0.04)
    halves = []
    for _ in range(200):
        order = rng.permutation(8)
        r = np.corrcoef(hits[order[:4], 0].mean(0), hits[order[4:], 0].mean(0))[0, 1]
        halves.append(2 * r / (1 + r))
    assert found["ceiling"] == pytest.approx(np.sqrt(np.mean(halves)), abs=0.01)
    alone = predicts(table(hits[:1], ("z",)), scores({"truth": easy}), n_bootstrap=10)
    assert np.isnan(alone["ceiling"][0])


def test_predicts_says_when_nothing_matches():
    with pytest.raises(PhospheneError, match="answers are about z, c, zc, scores about other"):
        predicts(table(random_hits(0)), scores({"a": np.arange(40.0)}, mode="other"))
    with pytest.raises(PhospheneError, match="lack columns value"):
        predicts(table(random_hits(0)), scores({"a": np.arange(40.0)}).drop(columns="value"))
