"""Banded ridge against a textbook loop, against himalaya, and where the truth is known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold, PredefinedSplit
from sklearn.preprocessing import StandardScaler

from phosphene.errors import PhospheneError
from phosphene.numerics import correlation
from phosphene.numerics.ridge import (
    BandedRidgeCV,
    RidgeCV,
    leave_one_out,
    product_measure,
    variance_by_space,
)
from phosphene.numerics.ridge import variance as variance_module

ALPHAS = np.logspace(0, 4, 6)
MIXES = np.array(
    [[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1], [0.0, 0.0, 1.0], [0.9, 0.05, 0.05]]
)


def draw(n: int, sizes: tuple[int, ...] = (7, 12, 20), t: int = 6, seed: int = 0):
    rng = np.random.default_rng(seed)
    spaces = {
        name: rng.normal(size=(n, p)) * (k + 1) + k
        for k, (name, p) in enumerate(zip("abc", sizes, strict=False))
    }
    weights = {"a": np.ones(t), "b": np.linspace(0, 1, t), "c": np.r_[np.zeros(t - 2), 1, 1]}
    Y = rng.normal(size=(n, t)) + 2
    for name, X in spaces.items():
        Y += (
            weights[name]
            * (X @ np.random.default_rng(5).normal(size=(X.shape[1], t)))
            / X.shape[1] ** 0.5
        )
    return spaces, Y


def scaled(spaces, train, mix):
    """Standardised by the training rows, then weighted: what one penalty for all columns has to
    see.
    """
    parts = [
        StandardScaler().fit(X[train]).transform(X) * np.sqrt(m)
        for X, m in zip(spaces.values(), mix, strict=True)
    ]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("n", [30, 150])
def test_every_target_gets_the_mix_and_penalty_of_the_textbook_loop(n):
    spaces, Y = draw(n)
    best = np.full(Y.shape[1], -np.inf)
    chosen = [(0, 0.0)] * Y.shape[1]
    for k, mix in enumerate(MIXES):
        for alpha in ALPHAS:
            score = np.zeros(Y.shape[1])
            for train, test in KFold(4).split(Y):
                Z = scaled(spaces, train, mix)
                errors = (Ridge(alpha).fit(Z[train], Y[train]).predict(Z[test]) - Y[test]) ** 2
                score += (1 - errors.mean(axis=0) / Y[test].var(axis=0)) / 4
            for target in np.flatnonzero(score > best + 1e-12):
                best[target] = score[target]
                chosen[target] = (k, alpha)
    model = BandedRidgeCV(ALPHAS, MIXES, cv=4, target_block=4).fit(spaces, Y)
    np.testing.assert_allclose(model.best_scores_, best, rtol=1e-8)
    np.testing.assert_allclose(model.best_alphas_, [alpha for _, alpha in chosen])
    np.testing.assert_allclose(model.best_mixes_, MIXES[[k for k, _ in chosen]])
    for target, (k, alpha) in enumerate(chosen):
        Z = scaled(spaces, np.arange(n), MIXES[k])
        expected = Ridge(alpha).fit(Z, Y[:, target]).predict(Z)
        np.testing.assert_allclose(
            model.predict(spaces)[:, target], expected, atol=1e-9 * np.abs(expected).max()
        )


SCORES = {
    "r2": "r2_score",
    "neg_mean_squared_error": "l2_neg_loss",
    "correlation": "correlation_score",
}


@pytest.mark.parametrize("scoring_name", SCORES)
@pytest.mark.parametrize("n", [30, 120])  # fewer and more rows than columns
def test_agrees_with_himalaya(n, scoring_name):
    from himalaya import scoring as himalaya_scoring
    from himalaya.ridge import GroupRidgeCV

    spaces, Y = draw(n)
    spaces = {name: X - X.mean(axis=0) for name, X in spaces.items()}
    images = np.random.default_rng(0).integers(0, n // 3, n)
    folds = np.empty(n, int)
    for number, (_, test) in enumerate(GroupKFold(4).split(Y, groups=images)):
        folds[test] = number
    mixes = np.maximum(MIXES, 1e-3)  # it takes logarithms
    mixes /= mixes.sum(axis=1, keepdims=True)
    settings = {
        "n_iter": mixes,
        "alphas": ALPHAS,
        "progress_bar": False,
        "warn": False,
        "local_alpha": True,
    }
    settings["score_func"] = getattr(himalaya_scoring, SCORES[scoring_name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = GroupRidgeCV(
            groups="input", cv=PredefinedSplit(folds), fit_intercept=True, solver_params=settings
        )
        peer.fit(list(spaces.values()), Y)
    ours = BandedRidgeCV(ALPHAS, mixes, cv=4, standardize=False, scoring=scoring_name).fit(
        spaces, Y, images
    )
    np.testing.assert_allclose(ours.best_scores_, np.max(peer.cv_scores_, axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        np.log(ours.best_mixes_ / ours.best_alphas_[:, None]).T, peer.deltas_, rtol=1e-6
    )
    others, _ = draw(15, seed=1)
    np.testing.assert_allclose(ours.predict(others), peer.predict(list(others.values())), atol=1e-6)


@pytest.mark.parametrize("n", [30, 120])
def test_one_space_agrees_with_himalaya(n):
    from himalaya import ridge
    from himalaya.scoring import r2_score

    spaces, Y = draw(n, (40,))
    X = spaces["a"] - spaces["a"].mean(axis=0)
    settings = {"score_func": r2_score, "warn": False}
    peer = ridge.RidgeCV(
        alphas=ALPHAS, fit_intercept=True, cv=KFold(4), solver_params=settings
    ).fit(X, Y)
    ours = BandedRidgeCV(ALPHAS, cv=4, standardize=False).fit({"a": X}, Y)
    np.testing.assert_allclose(ours.best_scores_, peer.cv_scores_, rtol=1e-6)
    np.testing.assert_allclose(ours.best_alphas_, peer.best_alphas_)
    np.testing.assert_allclose(ours.predict({"a": X}), peer.predict(X), atol=1e-6)


def test_one_space_is_plain_ridge():
    spaces, Y = draw(90)
    banded = BandedRidgeCV(ALPHAS, mixes=3).fit({"b": spaces["b"]}, Y)
    plain = RidgeCV(ALPHAS).fit(spaces["b"], Y)
    np.testing.assert_allclose(banded.best_scores_, plain.cv_scores_.max(axis=0), rtol=1e-10)
    np.testing.assert_allclose(banded.coef_, plain.coef_, atol=1e-10)


def test_what_the_spaces_add_sums_to_the_prediction():
    spaces, Y = draw(90)
    model = BandedRidgeCV(ALPHAS, MIXES).fit(spaces, Y)
    parts = model.predict_spaces(spaces)
    assert list(parts) == ["a", "b", "c"]
    np.testing.assert_allclose(
        sum(parts.values()) + model.intercept_, model.predict(spaces), atol=1e-10
    )
    assert np.abs(parts["c"][:, model.best_mixes_[:, 2] == 0]).max(initial=0) < 1e-12


def test_unique_variance_is_found_where_it_was_put_and_nowhere_else():
    spaces, Y = draw(900)
    train, test = (
        {name: X[rows] for name, X in spaces.items()} for rows in (slice(600), slice(600, 900))
    )
    found = leave_one_out(BandedRidgeCV(ALPHAS, mixes=8), train, Y[:600], test, Y[600:])
    assert set(found) == {"all", "a", "b", "c"}
    assert (found["a"] > 0.03).all()  # the first space drives every target
    assert (np.diff(found["b"][:4]) > 0).all() and abs(
        found["b"][0]
    ) < 0.02  # the second more and more of them
    assert (found["c"][-2:] > 0.2).all() and np.abs(
        found["c"][:-2]
    ).max() < 0.02  # the third only the last two
    shuffled = np.random.default_rng(1).permutation(600)
    broken = leave_one_out(BandedRidgeCV(ALPHAS, mixes=8), train, Y[:600][shuffled], test, Y[600:])
    assert max(abs(broken[name].mean()) for name in ("all", *"abc")) < 0.04


def split(n: int, **settings):
    """A model fitted to two thirds of `n` rows, and the other rows."""
    spaces, Y = draw(n)
    cut = 2 * n // 3
    train, test = (
        {name: X[rows] for name, X in spaces.items()} for rows in (slice(cut), slice(cut, n))
    )
    return BandedRidgeCV(ALPHAS, MIXES, **settings).fit(train, Y[:cut]), test, Y[cut:]


def test_product_measure_is_that_of_himalaya_and_adds_up():
    from himalaya.scoring import correlation_score_split, r2_score_split

    model, test, truth = split(150)
    parts = np.stack(list(model.predict_spaces(test).values()))
    centred = parts - parts.mean(axis=1, keepdims=True)
    y = truth - truth.mean(axis=0)
    shares = product_measure(truth, parts)
    np.testing.assert_allclose(shares, r2_score_split(y, centred), atol=1e-10)
    np.testing.assert_allclose(
        shares.sum(axis=0), correlation.r2(y, centred.sum(axis=0)), atol=1e-10
    )
    r = correlation.correlation(truth, model.predict(test))
    by_r = product_measure(truth, parts, "correlation")
    np.testing.assert_allclose(by_r, correlation_score_split(truth, parts), atol=1e-10)
    np.testing.assert_allclose(by_r.sum(axis=0), r, atol=1e-10)
    by_square = product_measure(truth, parts, "squared_correlation")
    np.testing.assert_allclose(by_square, by_r * r, atol=1e-10)
    np.testing.assert_allclose(by_square.sum(axis=0), r**2, atol=1e-10)


def test_product_measure_by_hand():
    y = np.array([1.0, -1.0, 1.0, -1.0])
    other = np.array([1.0, 1.0, -1.0, -1.0])
    # y = 0.6 of a and 0.4 of b, and b predicts something beside it that is worth minus 0.25
    shares = product_measure(
        y[:, None] + 3, np.stack([0.6 * y, 0.4 * y + 0.5 * other])[..., None] - 1
    )
    np.testing.assert_allclose(shares[:, 0], [0.6, 0.4 - 0.25])
    # orthogonal spaces in the proportions of the truth: shares are the variances
    shares = product_measure(
        (0.8 * y + 0.6 * other)[:, None], np.stack([0.8 * y, 0.6 * other])[..., None]
    )
    np.testing.assert_allclose(shares[:, 0], [0.64, 0.36])
    assert np.isnan(product_measure(np.full((4, 1), 0.1), np.ones((2, 4, 1)))).all()


@pytest.mark.parametrize("intercept", [True, False])
def test_variance_by_space_adds_up_to_what_the_predictions_explain(monkeypatch, intercept):
    monkeypatch.setattr(variance_module, "BLOCK", 4)  # of 6 targets
    model, test, truth = split(150, fit_intercept=intercept)
    truth[:, 1] = 0.5
    found = variance_by_space(model, test, truth)
    assert list(found) == ["all", "a", "b", "c", "mean"]
    np.testing.assert_allclose(found["all"], correlation.r2(truth, model.predict(test)), atol=1e-10)
    np.testing.assert_allclose(
        found["all"], sum(found[name] for name in ("a", "b", "c", "mean")), atol=1e-10
    )
    assert (
        np.isnan(found["all"][1])
        and np.nanmax(found["mean"]) <= 0
        and np.isfinite(found["a"][[0, 2, 3, 4, 5]]).all()
    )
    by_r = variance_by_space(model, test, truth, "correlation")
    assert list(by_r) == ["all", "a", "b", "c"]
    np.testing.assert_allclose(
        by_r["all"], correlation.correlation(truth, model.predict(test)), atol=1e-10
    )
    np.testing.assert_allclose(by_r["all"], by_r["a"] + by_r["b"] + by_r["c"], atol=1e-10)


def test_both_ways_find_the_variances_that_independent_spaces_were_given():
    rng = np.random.default_rng(0)
    n = 6000
    t = 40
    given = {"a": 0.3, "b": 0.2, "c": 0.0}
    spaces = {name: rng.normal(size=(n, 8)) for name in given}
    drive = [
        np.sqrt(given[name] / 8) * X @ rng.choice([-1, 1], (8, t)) for name, X in spaces.items()
    ]
    Y = np.sum(drive, axis=0) + np.sqrt(0.5) * rng.normal(size=(n, t))
    train, test = (
        {name: X[rows] for name, X in spaces.items()} for rows in (slice(4000), slice(4000, n))
    )
    model = BandedRidgeCV(ALPHAS, mixes=6).fit(train, Y[:4000])
    for found in (
        variance_by_space(model, test, Y[4000:]),
        leave_one_out(BandedRidgeCV(ALPHAS, mixes=6), train, Y[:4000], test, Y[4000:]),
    ):
        for name, share in given.items():
            assert found[name].mean() == pytest.approx(share, abs=0.01)
        assert found["all"].mean() == pytest.approx(0.5, abs=0.01)


def test_shared_variance_is_split_by_the_product_measure_and_left_out_by_the_other():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 5))
    Y = X @ rng.normal(size=(5, 4)) + rng.normal(size=(900, 4))
    spaces = {"a": X, "b": X + 0.01 * rng.normal(size=X.shape)}
    train, test = (
        {name: x[rows] for name, x in spaces.items()} for rows in (slice(600), slice(600, 900))
    )
    lost = leave_one_out(BandedRidgeCV(ALPHAS, [[0.5, 0.5]]), train, Y[:600], test, Y[600:])
    shares = variance_by_space(
        BandedRidgeCV(ALPHAS, [[0.5, 0.5]]).fit(train, Y[:600]), test, Y[600:]
    )
    for name in spaces:
        assert np.abs(lost[name]).max() < 0.02
        np.testing.assert_allclose(shares[name], lost["all"] / 2, atol=0.05)


def test_mixes_that_repeat_are_tried_once():
    spaces, Y = draw(30)
    assert len(BandedRidgeCV(ALPHAS, mixes=30).fit({"b": spaces["b"]}, Y).mixes_) == 1
    twice = BandedRidgeCV(ALPHAS, np.concatenate([MIXES, 3 * MIXES[::-1]])).fit(spaces, Y)
    np.testing.assert_allclose(twice.mixes_, MIXES)


def test_more_mixes_never_score_worse_and_a_seed_repeats_them():
    spaces, Y = draw(90)
    few, many = (BandedRidgeCV(ALPHAS, mixes=m, seed=3).fit(spaces, Y) for m in (4, 20))
    assert (many.best_scores_ >= few.best_scores_).all() and (
        many.best_scores_ > few.best_scores_
    ).any()
    np.testing.assert_allclose(few.mixes_, many.mixes_[:4])
    np.testing.assert_allclose(many.mixes_.sum(axis=1), 1)


def test_groups_stay_whole_and_blocks_change_nothing():
    spaces, Y = draw(30)
    spaces = {name: np.repeat(X, 3, axis=0) for name, X in spaces.items()}
    Y = np.repeat(Y, 3, axis=0)
    groups = np.repeat(np.arange(30), 3)
    leaking = BandedRidgeCV(ALPHAS, MIXES, cv=KFold(5, shuffle=True, random_state=0)).fit(spaces, Y)
    honest = BandedRidgeCV(ALPHAS, MIXES).fit(spaces, Y, groups)
    assert (leaking.best_scores_ > honest.best_scores_).all()
    blocks = BandedRidgeCV(ALPHAS, MIXES, target_block=2).fit(spaces, Y, groups)
    np.testing.assert_allclose(blocks.coef_, honest.coef_, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "settings", "sentence"),
    [
        ({"spaces": {}}, {}, "at least one"),
        ({"spaces": {"a": np.zeros((30, 2)), "b": np.zeros((29, 2))}}, {}, "same rows"),
        ({"spaces": {"a": np.full((30, 2), np.nan)}}, {}, "X holds NaN"),
        ({}, {"mixes": 0}, "1 or more"),
        ({}, {"mixes": [[0.5, 0.5]]}, r"mixes must be \(n, 3\)"),
        ({}, {"mixes": [[0.5, -0.5, 1.0]]}, "not negative"),
        ({}, {"scoring": "mse"}, "scoring must be one of"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(change, settings, sentence):
    spaces, Y = draw(30)
    with pytest.raises(PhospheneError, match=sentence) as caught:
        BandedRidgeCV(**settings).fit(change.get("spaces", spaces), Y)
    assert "\n" not in str(caught.value)


def test_predict_refuses_other_spaces():
    spaces, Y = draw(30)
    model = BandedRidgeCV(ALPHAS, mixes=2).fit(spaces, Y)
    with pytest.raises(PhospheneError, match="expected a, b, c"):
        model.predict({"a": spaces["a"]})
    with pytest.raises(PhospheneError, match=r"space b must be \(n, 12\)"):
        model.predict(spaces | {"b": spaces["a"]})
    with pytest.raises(PhospheneError, match="two or more"):
        leave_one_out(BandedRidgeCV(), {"a": spaces["a"]}, Y, {"a": spaces["a"]}, Y)


def test_variance_refuses_what_does_not_fit():
    model, test, truth = split(60)
    parts = np.stack(list(model.predict_spaces(test).values()))
    for call, sentence in (
        (lambda: variance_by_space(model, test, truth[:, :2]), r"targets \(20, 6\)"),
        (lambda: variance_by_space(model, test | {"c": test["c"][:5]}, truth), r"c \(5, 20\)"),
        (lambda: variance_by_space(model, {"a": test["a"]}, truth), "expected a, b, c"),
        (lambda: product_measure(truth, parts[0]), r"parts \(n_spaces, n, t\)"),
        (lambda: product_measure(truth[:3], parts), r"found \(3, 6\)"),
        (lambda: product_measure(truth, parts, "r"), "measure must be one of"),
    ):
        with pytest.raises(PhospheneError, match=sentence):
            call()
