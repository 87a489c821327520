"""RidgeCV against textbook loops over scikit-learn's Ridge, and against himalaya."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from phosphene.errors import PhospheneError
from phosphene.numerics.ridge import RidgeCV
from phosphene.numerics.ridge.folds import row_splits
from phosphene.numerics.ridge.scores import quadratic, split_pairs

ALPHAS = np.logspace(-1, 5, 9)
SHAPES = {
    "n<p": (30, 70),
    "n=p": (40, 40),
    "train<p<n": (50, 45),
    "n>p": (90, 40),
    "n>>p": (300, 12),
}


@pytest.fixture(autouse=True)
def _edge_warnings_are_expected():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RidgeCV: .* alpha of the grid")
        yield


def textbook(alpha, standardize, fit_intercept):
    scaler = StandardScaler(with_mean=fit_intercept, with_std=standardize)
    return make_pipeline(scaler, Ridge(alpha=alpha, fit_intercept=fit_intercept, solver="svd"))


def textbook_scores(X, Y, alphas, splits, scoring="r2", standardize=True, fit_intercept=True):
    total = np.zeros((len(alphas), Y.shape[1]))
    for train, test in splits:
        for i, alpha in enumerate(alphas):
            model = textbook(alpha, standardize, fit_intercept).fit(X[train], Y[train])
            predicted = model.predict(X[test]).reshape(len(test), -1)
            measured = Y[test]
            errors = ((measured - predicted) ** 2).mean(axis=0)
            if scoring == "r2":
                total[i] += 1 - errors / measured.var(axis=0)
            elif scoring == "neg_mean_squared_error":
                total[i] -= errors
            else:
                total[i] += [
                    np.corrcoef(a, b)[0, 1] for a, b in zip(measured.T, predicted.T, strict=True)
                ]
    return total / len(splits)


def draw(n, p, t=5, kind="plain", seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.logspace(0, -1.5, p) + rng.normal(size=p)
    if kind == "duplicated columns":
        X[:, p // 2 : 2 * (p // 2)] = X[:, : p // 2]
    if kind == "constant columns":
        X[:, 0] = 3.3
        X[:, 1] = 0.0
        # the latter is constant in the first training part only
        X[: n // 3, 2] = 1.0
        X[n // 3 :, 3] = -2.0
    if kind == "repeated rows":
        X = X[np.repeat(np.arange(n), 3)[:n]]
    if kind == "large means":
        X += 1e4
    Y = X @ rng.normal(size=(p, t)) + 2 * rng.normal(size=(n, t)) + 3
    return X, Y


@pytest.mark.parametrize(
    "kind", ["plain", "duplicated columns", "constant columns", "repeated rows", "large means"]
)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_scores_and_predictions_are_the_textbook_ones(shape, kind):
    X, Y = draw(*shape, kind=kind)
    splits = list(KFold(3).split(X))
    model = RidgeCV(ALPHAS, cv=3, target_block=2).fit(X, Y)
    np.testing.assert_allclose(
        model.cv_scores_, textbook_scores(X, Y, ALPHAS, splits), rtol=1e-8, atol=1e-9
    )
    np.testing.assert_array_equal(model.best_alphas_, ALPHAS[model.cv_scores_.argmax(axis=0)])
    new, _ = draw(7, shape[1], seed=1)
    for target, alpha in enumerate(model.best_alphas_):
        expected = textbook(alpha, True, True).fit(X, Y[:, target]).predict(new)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(model.predict(new)[:, target], expected, atol=1e-9 * scale)


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("shape", [(30, 70), (90, 40)])
def test_settings_mean_what_the_textbook_means(shape, fit_intercept, standardize):
    X, Y = draw(*shape)
    splits = list(KFold(4).split(X))
    model = RidgeCV(ALPHAS, cv=4, fit_intercept=fit_intercept, standardize=standardize).fit(X, Y)
    expected = textbook_scores(
        X, Y, ALPHAS, splits, standardize=standardize, fit_intercept=fit_intercept
    )
    np.testing.assert_allclose(model.cv_scores_, expected, rtol=1e-8, atol=1e-9)
    reference = textbook(model.best_alphas_[0], standardize, fit_intercept).fit(X, Y[:, 0])
    np.testing.assert_allclose(model.predict(X)[:, 0], reference.predict(X), atol=1e-9)
    if not fit_intercept:
        assert not model.intercept_.any()


@pytest.mark.parametrize("scoring", ["r2", "neg_mean_squared_error", "correlation"])
@pytest.mark.parametrize("shape", [(30, 70), (300, 12)])
def test_scorings(shape, scoring):
    X, Y = draw(*shape)
    model = RidgeCV(ALPHAS, cv=3, scoring=scoring).fit(X, Y)
    expected = textbook_scores(X, Y, ALPHAS, list(KFold(3).split(X)), scoring)
    np.testing.assert_allclose(model.cv_scores_, expected, rtol=1e-8, atol=1e-9)


def test_few_alphas_or_small_folds_take_the_prediction_path_with_equal_answers():
    X, Y = draw(90, 40)
    one = RidgeCV(ALPHAS[4:5], cv=30).fit(X, Y).cv_scores_
    np.testing.assert_allclose(
        one, textbook_scores(X, Y, ALPHAS[4:5], list(KFold(30).split(X))), rtol=1e-8, atol=1e-9
    )
    many = RidgeCV(np.r_[ALPHAS[4], np.logspace(0, 4, 60)], cv=30).fit(X, Y).cv_scores_
    np.testing.assert_allclose(many[:1], one, rtol=1e-8, atol=1e-9)


def test_uneven_explicit_and_partial_splits():
    X, Y = draw(120, 30)
    rows = np.random.default_rng(3).permutation(120)
    # the last leaves rows out
    splits = [
        (rows[:80], rows[80:]),
        (rows[50:], rows[:9]),
        (rows[:35], rows[60:110]),
    ]
    expected = textbook_scores(X, Y, ALPHAS, splits)
    np.testing.assert_allclose(
        RidgeCV(ALPHAS, cv=splits).fit(X, Y).cv_scores_, expected, rtol=1e-8, atol=1e-9
    )
    np.testing.assert_allclose(
        RidgeCV(ALPHAS, cv=iter(splits)).fit(X, Y).cv_scores_, expected, rtol=1e-8, atol=1e-9
    )


def test_a_column_nearly_silent_in_training_is_not_lost_to_down_dating():
    X, Y = draw(120, 30)
    X[:80, 4] = 1e-5 * X[:80, 4]
    splits = [(np.arange(80), np.arange(80, 120))]
    model = RidgeCV(ALPHAS, cv=splits).fit(X, Y)
    np.testing.assert_allclose(model.cv_scores_, textbook_scores(X, Y, ALPHAS, splits), rtol=1e-8)


def test_groups_stay_whole_and_splitters_get_them():
    X, Y = draw(90, 20)
    groups = np.random.default_rng(0).integers(0, 25, 90)
    for train, test in row_splits(90, 5, groups):
        assert not set(groups[train]) & set(groups[test])
    expected = textbook_scores(X, Y, ALPHAS, list(GroupKFold(5).split(X, groups=groups)))
    np.testing.assert_allclose(
        RidgeCV(ALPHAS).fit(X, Y, groups).cv_scores_, expected, rtol=1e-8, atol=1e-9
    )
    runs = np.arange(90) // 30
    leave_one = RidgeCV(ALPHAS, cv=LeaveOneGroupOut()).fit(X, Y, runs).cv_scores_
    np.testing.assert_allclose(
        leave_one, textbook_scores(X, Y, ALPHAS, list(KFold(3).split(X))), rtol=1e-8, atol=1e-9
    )


def test_one_alpha_for_all_targets_maximises_the_mean_score():
    X, Y = draw(90, 40, t=8)
    model = RidgeCV(ALPHAS, per_target=False).fit(X, Y)
    assert set(model.best_alphas_) == {ALPHAS[model.cv_scores_.mean(axis=1).argmax()]}
    assert model.best_alphas_.shape == (8,)


@pytest.mark.parametrize("shape", [(30, 70), (90, 40)])
def test_blocks_and_the_order_of_alphas_change_nothing(shape):
    X, Y = draw(*shape, t=7)
    whole = RidgeCV(ALPHAS).fit(X, Y)
    blocks = RidgeCV(ALPHAS[::-1], target_block=3).fit(X, Y)
    np.testing.assert_allclose(blocks.cv_scores_[::-1], whole.cv_scores_, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(blocks.coef_, whole.coef_, rtol=1e-8, atol=1e-12)


def test_one_target_as_a_vector():
    X, Y = draw(60, 20)
    vector = RidgeCV(ALPHAS).fit(X, Y[:, 0])
    matrix = RidgeCV(ALPHAS).fit(X, Y[:, :1])
    assert vector.coef_.shape == (20,) and vector.predict(X).shape == (60,)
    np.testing.assert_allclose(vector.predict(X), matrix.predict(X)[:, 0], rtol=1e-12)
    assert vector.score(X, Y[:, 0]) > 0.5  # scikit-learn's own R²


def test_float32_in_float32_out_and_close_to_float64():
    X, Y = (a.astype(np.float32) for a in draw(200, 50))
    single = RidgeCV(ALPHAS).fit(X, Y)
    double = RidgeCV(ALPHAS).fit(X.astype(float), Y.astype(float))
    assert single.coef_.dtype == single.intercept_.dtype == single.predict(X).dtype == np.float32
    assert (
        double.coef_.dtype == np.float64
        and RidgeCV(ALPHAS).fit(X, Y.astype(float)).coef_.dtype == np.float64
    )
    np.testing.assert_allclose(single.cv_scores_, double.cv_scores_, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(single.coef_, double.coef_, rtol=1e-4, atol=1e-5)


def test_constant_target_scores_zero_and_predicts_its_value():
    X, Y = draw(60, 20)
    Y[:, 1] = 4.2
    for scoring in ("r2", "correlation"):
        model = RidgeCV(ALPHAS, scoring=scoring).fit(X, Y)
        assert not model.cv_scores_[:, 1].any()
        np.testing.assert_allclose(model.predict(X)[:, 1], 4.2)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_quadratic_forms_survive_equal_and_nearly_equal_eigenvalues(dtype, rtol):
    rng = np.random.default_rng(0)
    base = np.repeat(np.logspace(-8, 6, 30), 4)
    values = np.sort(base * (1 + np.tile([0, 0, 1e-12, 1e-6], 30)))
    P, q = (
        rng.normal(size=shape) * size
        for shape, size in (((50, 120), values**0.5), ((120, 3), values[:, None] ** 0.5))
    )
    expected = [((P @ (q / (values + a)[:, None])) ** 2).sum(axis=0) for a in ALPHAS]
    w, M, projected, alphas = (torch.from_numpy(a).to(dtype) for a in (values, P.T @ P, q, ALPHAS))
    actual = quadratic(w, split_pairs(w, M, ALPHAS.min()), projected, alphas)
    np.testing.assert_allclose(actual, expected, rtol=rtol)


def test_warns_at_the_edge_of_the_grid():
    X, Y = draw(60, 20)
    noise = np.random.default_rng(1).normal(size=(60, 9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RidgeCV(np.logspace(-3, 6, 19)).fit(X, Y)
    with pytest.warns(UserWarning, match="smallest alpha of the grid, 10000"):
        RidgeCV([1e4, 1e5]).fit(X, Y)
    with pytest.warns(UserWarning, match="largest"):
        RidgeCV([1e-3, 1e-1]).fit(X, noise)


@pytest.mark.parametrize(
    ("settings", "change", "sentence"),
    [
        ({"alphas": [0.0, 1.0]}, {}, "alphas must be positive"),
        ({"alphas": []}, {}, "alphas must be positive"),
        ({"scoring": "mse"}, {}, "scoring must be one of r2"),
        ({"cv": 1}, {}, "cv must lie between 2"),
        ({"cv": 40}, {"groups": np.arange(60) // 2}, "number of groups, 30"),
        ({"cv": 40}, {}, "use fewer folds"),
        ({"cv": [(np.arange(40), np.arange(30, 60))]}, {}, "each once"),
        ({"cv": [(np.arange(40), np.arange(50, 70))]}, {}, "within 0..59"),
        ({"cv": 3.5}, {}, "no \\(train, test\\) splits"),
        ({"cv": LeaveOneGroupOut()}, {}, "groups"),
        ({}, {"groups": np.arange(3)}, "one label for each of the 60 rows"),
        ({}, {"Y": np.zeros((59, 2))}, "as X has 60 rows"),
        ({}, {"X": np.full((60, 3), np.nan)}, "X holds NaN"),
        ({}, {"Y": np.full((60, 3), np.inf)}, "columns 0 to 2 of Y hold NaN or infinite"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(settings, change, sentence):
    X, Y = draw(60, 20)
    with pytest.raises(PhospheneError, match=sentence) as caught:
        RidgeCV(**settings).fit(**({"X": X, "Y": Y} | change))
    assert "\n" not in str(caught.value)


def test_predict_refuses_another_number_of_features():
    X, Y = draw(60, 20)
    with pytest.raises(PhospheneError, match="X has 5 features, but RidgeCV is expecting 20"):
        RidgeCV(ALPHAS).fit(X, Y).predict(X[:, :5])


@pytest.mark.parametrize("shape", [(30, 70), (90, 40)])
def test_agrees_with_himalaya(shape):
    himalaya = pytest.importorskip("himalaya.ridge")
    X, Y = draw(*shape)
    X -= X.mean(axis=0)
    peer = himalaya.RidgeCV(
        alphas=ALPHAS, fit_intercept=True, cv=KFold(4), solver_params={"warn": False}
    ).fit(X, Y)
    ours = RidgeCV(ALPHAS, cv=4, standardize=False, scoring="neg_mean_squared_error").fit(X, Y)
    np.testing.assert_allclose(ours.best_alphas_, peer.best_alphas_)
    np.testing.assert_allclose(ours.predict(X), peer.predict(X), atol=1e-8)


@pytest.mark.parametrize("standardize", [True, False])
def test_coefficients_of_rows_are_kept_where_samples_are_not_more_than_features(standardize):
    X, Y = draw(30, 70)
    dual = RidgeCV(ALPHAS, standardize=standardize).fit(X, Y)
    primal = RidgeCV(ALPHAS, standardize=standardize).fit(X, Y, coef=np.empty((70, 5)))
    assert dual.dual_coef_.shape == (30, 5) and primal.dual_coef_ is None
    np.testing.assert_allclose(dual.coef_, primal.coef_, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        dual.predict(X[:9] + 1), (X[:9] + 1) @ primal.coef_ + primal.intercept_, rtol=1e-10
    )
    taller = RidgeCV(ALPHAS).fit(*draw(90, 40))
    assert taller.dual_coef_ is None and taller.coef_.shape == (40, 5)


def test_changes_to_a_private_copy_of_a_memory_map_outlive_a_fit(tmp_path):
    X, Y = draw(60, 20)
    Y.tofile(tmp_path / "Y")
    mapped = np.memmap(tmp_path / "Y", Y.dtype, mode="c", shape=Y.shape)
    mapped[:, 0] = np.arange(60)
    RidgeCV(ALPHAS).fit(X, mapped)
    np.testing.assert_array_equal(mapped[:, 0], np.arange(60))
    np.testing.assert_array_equal(mapped[:, 1:], Y[:, 1:])


@pytest.mark.parametrize("shape", [(80, 10), (30, 60)])
@pytest.mark.parametrize("scoring", ["r2", "neg_mean_squared_error", "correlation"])
@pytest.mark.parametrize("exponent", [60, -75, 100, -100])
def test_targets_of_any_size_give_the_same_fit(shape, scoring, exponent):
    """2^60 is 1e18 and 2^-75 is 3e-23: the squares of such float32 numbers are infinite or zero."""
    random = np.random.default_rng(0)
    X = random.normal(size=shape).astype(np.float32)
    weights = random.normal(size=(shape[1], 5)) * [1, 0.5, 0.1, 0.02, 0]
    Y = (X @ weights + random.normal(size=(shape[0], 5))).astype(np.float32)
    expected = RidgeCV(scoring=scoring).fit(X, Y)
    model = RidgeCV(scoring=scoring).fit(X, np.ldexp(Y, exponent))
    np.testing.assert_array_equal(model.best_alphas_, expected.best_alphas_)
    np.testing.assert_array_equal(np.ldexp(model.predict(X), -exponent), expected.predict(X))
    unit = 2 * exponent if scoring == "neg_mean_squared_error" else 0
    np.testing.assert_array_equal(np.ldexp(model.cv_scores_, -unit), expected.cv_scores_)


def test_scores_that_are_not_finite_are_refused():
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 5)).astype(np.float32) * np.float32(1e30)
    with pytest.raises(PhospheneError, match="target 0 of Y has no finite score"):
        RidgeCV(standardize=False).fit(X, random.normal(size=(40, 3)).astype(np.float32))
