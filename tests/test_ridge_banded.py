"""Banded ridge against a textbook loop, against himalaya, and where the truth is known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from phosphene.errors import PhospheneError
from phosphene.ridge import BandedRidgeCV, RidgeCV, unique_variance

ALPHAS = np.logspace(0, 4, 6)
MIXES = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1], [0.0, 0.0, 1.0], [0.9, 0.05, 0.05]])


def draw(n: int, sizes: tuple[int, ...] = (7, 12, 20), t: int = 6, seed: int = 0):
    rng = np.random.default_rng(seed)
    spaces = {
        name: rng.normal(size=(n, p)) * (k + 1) + k for k, (name, p) in enumerate(zip("abc", sizes, strict=False))
    }
    weights = {"a": np.ones(t), "b": np.linspace(0, 1, t), "c": np.r_[np.zeros(t - 2), 1, 1]}
    Y = rng.normal(size=(n, t)) + 2
    for name, X in spaces.items():
        Y += weights[name] * (X @ np.random.default_rng(5).normal(size=(X.shape[1], t))) / X.shape[1] ** 0.5
    return spaces, Y


def scaled(spaces, train, mix):
    """Standardised by the training rows, then weighted: what one penalty for all columns has to see."""
    parts = [
        StandardScaler().fit(X[train]).transform(X) * np.sqrt(m) for X, m in zip(spaces.values(), mix, strict=True)
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
                best[target], chosen[target] = score[target], (k, alpha)
    model = BandedRidgeCV(ALPHAS, MIXES, cv=4, target_block=4).fit(spaces, Y)
    np.testing.assert_allclose(model.best_scores_, best, rtol=1e-8)
    np.testing.assert_allclose(model.best_alphas_, [alpha for _, alpha in chosen])
    np.testing.assert_allclose(model.best_mixes_, MIXES[[k for k, _ in chosen]])
    for target, (k, alpha) in enumerate(chosen):
        Z = scaled(spaces, np.arange(n), MIXES[k])
        expected = Ridge(alpha).fit(Z, Y[:, target]).predict(Z)
        np.testing.assert_allclose(model.predict(spaces)[:, target], expected, atol=1e-9 * np.abs(expected).max())


def test_agrees_with_himalaya():
    from himalaya.ridge import GroupRidgeCV

    spaces, Y = draw(120)
    spaces = {name: X - X.mean(axis=0) for name, X in spaces.items()}
    mixes = np.maximum(MIXES, 1e-3)  # it takes logarithms
    mixes /= mixes.sum(axis=1, keepdims=True)
    settings = {"n_iter": mixes, "alphas": ALPHAS, "progress_bar": False, "warn": False, "local_alpha": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = GroupRidgeCV(groups="input", cv=KFold(4), fit_intercept=True, solver_params=settings)
        peer.fit(list(spaces.values()), Y)
    ours = BandedRidgeCV(ALPHAS, mixes, cv=4, standardize=False, scoring="neg_mean_squared_error").fit(spaces, Y)
    np.testing.assert_allclose(ours.predict(spaces), peer.predict(list(spaces.values())), atol=1e-6)


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
    np.testing.assert_allclose(sum(parts.values()) + model.intercept_, model.predict(spaces), atol=1e-10)
    assert np.abs(parts["c"][:, model.best_mixes_[:, 2] == 0]).max(initial=0) < 1e-12


def test_unique_variance_is_found_where_it_was_put_and_nowhere_else():
    spaces, Y = draw(900)
    train, test = ({name: X[rows] for name, X in spaces.items()} for rows in (slice(600), slice(600, 900)))
    found = unique_variance(BandedRidgeCV(ALPHAS, mixes=8), train, Y[:600], test, Y[600:])
    assert set(found) == {"all", "a", "b", "c"}
    assert (found["a"] > 0.03).all()  # the first space drives every target
    assert (np.diff(found["b"][:4]) > 0).all() and abs(found["b"][0]) < 0.02  # the second more and more of them
    assert (found["c"][-2:] > 0.2).all() and np.abs(found["c"][:-2]).max() < 0.02  # the third only the last two
    shuffled = np.random.default_rng(1).permutation(600)
    broken = unique_variance(BandedRidgeCV(ALPHAS, mixes=8), train, Y[:600][shuffled], test, Y[600:])
    assert max(abs(broken[name].mean()) for name in ("all", *"abc")) < 0.04


def test_more_mixes_never_score_worse_and_a_seed_repeats_them():
    spaces, Y = draw(90)
    few, many = (BandedRidgeCV(ALPHAS, mixes=m, seed=3).fit(spaces, Y) for m in (4, 20))
    assert (many.best_scores_ >= few.best_scores_).all() and (many.best_scores_ > few.best_scores_).any()
    np.testing.assert_allclose(few.mixes_, many.mixes_[:4])
    np.testing.assert_allclose(many.mixes_.sum(axis=1), 1)


def test_groups_stay_whole_and_blocks_change_nothing():
    spaces, Y = draw(30)
    spaces, Y = {name: np.repeat(X, 3, axis=0) for name, X in spaces.items()}, np.repeat(Y, 3, axis=0)
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
        unique_variance(BandedRidgeCV(), {"a": spaces["a"]}, Y, {"a": spaces["a"]}, Y)
