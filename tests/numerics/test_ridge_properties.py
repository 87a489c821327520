"""RidgeCV over drawn shapes: the textbook's answers, himalaya's and scikit-learn's, from memory,
tensors and disk.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from himalaya.ridge import RidgeCV as HimalayaRidgeCV
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut
from sklearn.utils.estimator_checks import check_estimator
from test_ridge import textbook, textbook_scores

from phosphene.errors import PhospheneError
from phosphene.numerics.ridge import Repeated, RidgeCV, load, save
from phosphene.numerics.ridge.targets import LARGEST_BLOCK, Targets

ALPHAS = np.logspace(-1, 5, 7)
WIDE = np.logspace(-2, 7, 10)
EPS32 = float(np.finfo(np.float32).eps)

pytestmark = pytest.mark.filterwarnings("ignore:RidgeCV.* alpha of the grid")
drawn = settings(max_examples=25, deadline=None, derandomize=True)


@dataclass(frozen=True)
class Problem:
    """A regression to solve, the ``cv`` and ``groups`` that are given to fit, and the splits that
    these mean.
    """

    X: np.ndarray
    Y: np.ndarray
    new: np.ndarray
    cv: Any
    groups: np.ndarray | None
    splits: list[tuple[np.ndarray, np.ndarray]]

    def astype(self, dtype):
        X, Y, new = (a.astype(dtype) for a in (self.X, self.Y, self.new))
        return Problem(X, Y, new, self.cv, self.groups, self.splits)

    def oracle(self, alphas, scoring="r2", **how):
        """The textbook's scores of float64 copies; 0 where the target of a fold is constant, as
        RidgeCV promises.
        """
        X = self.X.astype(float)
        Y = self.Y.astype(float)
        folds = []
        for train, test in self.splits:
            with np.errstate(all="ignore"):
                scores = textbook_scores(X, Y, alphas, [(train, test)], scoring, **how)
            silent = (np.ptp(Y[test], axis=0) == 0) & (scoring != "neg_mean_squared_error")
            folds.append(np.where(silent, 0.0, scores))
        return np.mean(folds, axis=0)


@st.composite
def problems(
    draw,
    flaws=("constant", "constant in training", "duplicated", "collinear", "repeated rows"),
    kinds=("contiguous", "images", "uneven"),
):
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    regime = draw(st.sampled_from(["n < p", "n = p", "n > p", "n >> p"]))
    n = draw(st.integers(16, 60)) * (4 if regime == "n >> p" else 1)
    p = {
        "n < p": n + draw(st.integers(1, 30)),
        "n = p": n,
        "n > p": n - draw(st.integers(1, 12)),
        "n >> p": draw(st.integers(1, 5)),
    }[regime]
    found = draw(st.sets(st.sampled_from(flaws))) if flaws and p > 3 else set()

    means = 3 * rng.normal(size=p)
    sizes = 10.0 ** rng.uniform(-1, 1, size=p)
    X, new = (means + sizes * rng.normal(size=(rows, p)) for rows in (n, 7))
    for some in (X, new):
        if "duplicated" in found:
            some[:, p // 2 : 2 * (p // 2)] = some[:, : p // 2]
        if "collinear" in found:
            some[:, -1] = some[:, : p // 2] @ np.linspace(-1, 2, p // 2)
        if "constant" in found:
            some[:, 1] = 3.3
    if "repeated rows" in found:
        X = X[rng.integers(0, n // 2, size=n)]
    Y = (X / sizes) @ rng.normal(size=(p, draw(st.integers(1, 4)))) / np.sqrt(p)
    Y += draw(st.sampled_from([0.1, 1.0])) * rng.normal(size=Y.shape) + rng.normal(size=Y.shape[1])

    kind = draw(st.sampled_from(kinds))
    k = draw(st.integers(2, 4))
    groups = None
    if kind == "contiguous":
        cv = k
        splits = list(KFold(k).split(X))
    elif kind == "images":  # two rows or more of each, for every fold needs two
        groups = rng.permutation(np.arange(n) % draw(st.integers(k, n // 2)))
        if draw(st.booleans()):
            Y = Y[np.unique(groups, return_index=True)[1]][groups]
        cv = k
        splits = list(GroupKFold(k).split(X, groups=groups))
    else:  # folds of any size and order, which may leave rows out of both parts
        rows = rng.permutation(n)
        splits = []
        for size in draw(st.lists(st.integers(2, n // k), min_size=1, max_size=k)):
            rows = np.roll(rows, -size)
            splits.append((rows[size : draw(st.integers(size + 3, n))], rows[:size]))
        cv = splits
    if "constant in training" in found:
        X[splits[0][0], 2] = 1.5
    return Problem(X, Y, new, cv, groups, splits)


def plain(n, p, t=8, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 1
    return X, X @ rng.normal(size=(p, t)) / np.sqrt(p) + rng.normal(size=(n, t))


def assert_same_fit(actual, expected, rtol=1e-9):
    """Equal up to rounding: relative to the largest coefficient, and to scores of at least one.

    Where two penalties score the same, either may be chosen: a correlation with one feature knows
    no penalty.
    """
    np.testing.assert_allclose(actual.cv_scores_, expected.cv_scores_, rtol=rtol, atol=rtol)
    clear = clear_winners(expected.cv_scores_, 10 * rtol)
    np.testing.assert_array_equal(actual.best_alphas_[clear], expected.best_alphas_[clear])
    for ours, theirs in ((actual.coef_, expected.coef_), (actual.intercept_, expected.intercept_)):
        ours, theirs = (np.atleast_1d(np.asarray(a[...])) for a in (ours, theirs))
        if len(clear) == ours.shape[-1]:
            ours = ours[..., clear]
            theirs = theirs[..., clear]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * np.abs(theirs).max(initial=0))


def assert_same_to_the_bit(actual, expected):
    for name in ("best_alphas_", "cv_scores_", "coef_", "intercept_"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), err_msg=name)


def clear_winners(scores, tolerance):
    """Targets whose best score is ahead of the second by more than `tolerance`, relative to scores
    of at least one.
    """
    second, best = np.sort(scores, axis=0)[-2:]
    return best - second > tolerance * np.maximum(1.0, np.abs(best))


def assert_relatively_close(actual, expected, tolerance):
    """The largest difference is at most `tolerance` of the largest expected value."""
    assert np.abs(actual - expected).max(initial=0.0) <= tolerance * np.abs(expected).max(
        initial=0.0
    )


# ---- the textbook and himalaya
# ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
@drawn
@given(
    problem=problems(),
    scoring=st.sampled_from(["r2", "neg_mean_squared_error"]),
    block=st.integers(0, 3),
)
def test_scores_alphas_and_predictions_are_the_textbook_ones(
    problem, scoring, block, fit_intercept, standardize
):
    how = {"standardize": standardize, "fit_intercept": fit_intercept}
    model = RidgeCV(ALPHAS, cv=problem.cv, scoring=scoring, target_block=block, **how)
    model.fit(problem.X, problem.Y, problem.groups)
    expected = problem.oracle(ALPHAS, scoring, **how)
    np.testing.assert_allclose(model.cv_scores_, expected, rtol=1e-8, atol=1e-8)
    clear = clear_winners(expected, 1e-7)
    np.testing.assert_array_equal(model.best_alphas_[clear], ALPHAS[expected.argmax(axis=0)][clear])
    for target, alpha in enumerate(model.best_alphas_):
        reference = textbook(alpha, standardize, fit_intercept).fit(problem.X, problem.Y[:, target])
        assert_relatively_close(
            model.predict(problem.new)[:, target], reference.predict(problem.new), 1e-9
        )


@pytest.mark.parametrize(
    "column",
    [np.r_[np.random.default_rng(1).normal(size=10), np.ones(30)], np.full(40, 0.1)],
    ids=["constant in training", "constant"],
)
def test_without_an_intercept_columns_are_divided_as_the_textbook_scaler_divides(column):
    rng = np.random.default_rng(0)
    X = 0.1 * rng.normal(size=(40, 6))
    Y = rng.normal(size=(40, 3)) + 3
    X[:, 3] = (
        column  # without an intercept it still predicts, so the number it is divided by matters
    )
    splits = [(np.arange(10, 40), np.arange(10)), (np.arange(30), np.arange(30, 40))]
    how = {"standardize": True, "fit_intercept": False}
    model = RidgeCV(ALPHAS, cv=splits, **how).fit(X, Y)
    np.testing.assert_allclose(
        model.cv_scores_, textbook_scores(X, Y, ALPHAS, splits, **how), rtol=1e-8, atol=1e-9
    )
    for target, alpha in enumerate(model.best_alphas_):
        reference = textbook(alpha, **how).fit(X, Y[:, target])
        assert_relatively_close(model.predict(X)[:, target], reference.predict(X), 1e-9)


@pytest.mark.parametrize(
    "shape", [(4200, 5), (900, 530), (540, 1100)], ids=["rows", "columns", "rows of a kernel"]
)
def test_shapes_that_are_worked_on_in_several_chunks_have_the_textbook_scores(shape):
    X, Y = plain(*shape, t=3)
    model = RidgeCV(ALPHAS[3:5], cv=2).fit(X, Y)
    expected = textbook_scores(X, Y, ALPHAS[3:5], list(KFold(2).split(X)))
    np.testing.assert_allclose(model.cv_scores_, expected, rtol=1e-8, atol=1e-9)
    new = plain(9, shape[1], seed=1)[0]
    for target, alpha in enumerate(model.best_alphas_):
        reference = textbook(alpha, True, True).fit(X, Y[:, target])
        assert_relatively_close(model.predict(new)[:, target], reference.predict(new), 1e-9)


@drawn
@given(problems())
def test_one_target_alone_is_as_good_as_among_others(problem):
    together = RidgeCV(ALPHAS, cv=problem.cv).fit(problem.X, problem.Y, problem.groups)
    alone = RidgeCV(ALPHAS, cv=problem.cv).fit(problem.X, problem.Y[:, -1], problem.groups)
    np.testing.assert_allclose(
        alone.cv_scores_[:, 0], together.cv_scores_[:, -1], rtol=1e-9, atol=1e-9
    )
    assert alone.coef_.shape == problem.X.shape[1:] and alone.predict(problem.new).shape == (7,)
    if alone.best_alphas_[0] == together.best_alphas_[-1]:  # otherwise two are equally good
        assert_relatively_close(
            alone.predict(problem.new), together.predict(problem.new)[:, -1], 1e-9
        )


@drawn
@given(problems(), st.integers(0, 3), st.sampled_from(["r2", "neg_mean_squared_error"]))
def test_one_alpha_for_all_targets_has_the_best_mean_score_and_the_textbook_predictions(
    problem, block, scoring
):
    model = RidgeCV(ALPHAS, cv=problem.cv, per_target=False, scoring=scoring, target_block=block)
    model.fit(problem.X, problem.Y, problem.groups)
    mean = problem.oracle(ALPHAS, scoring).mean(axis=1, keepdims=True)
    assert len(set(model.best_alphas_)) == 1 and model.best_alphas_.shape == problem.Y.shape[1:]
    if clear_winners(mean, 1e-7):
        assert model.best_alphas_[0] == ALPHAS[mean.argmax()]
    reference = textbook(model.best_alphas_[0], True, True).fit(problem.X, problem.Y)
    # scikit-learn may drop the axis of a single target
    expected = reference.predict(problem.new).reshape(7, -1)
    assert_relatively_close(model.predict(problem.new), expected, 1e-9)


@drawn
@given(problems())
def test_float32_agrees_with_himalaya_in_float32(problem):
    # himalaya does not standardise; columns of one size suit its float32
    X = problem.X - problem.X.mean(axis=0)
    scale = np.where(X.std(axis=0) > 1e-9, X.std(axis=0), 1.0)
    new = (problem.new - problem.X.mean(axis=0)) / scale
    problem = Problem(X / scale, problem.Y, new, problem.cv, problem.groups, problem.splits).astype(
        np.float32
    )
    alphas = np.logspace(0, 4, 5)
    peer = HimalayaRidgeCV(
        alphas=alphas, fit_intercept=True, cv=problem.splits, solver_params={"warn": False}
    )
    peer.fit(problem.X, problem.Y)
    ours = RidgeCV(alphas, cv=problem.cv, standardize=False, scoring="neg_mean_squared_error")
    ours.fit(problem.X, problem.Y, problem.groups)
    assert peer.coef_.dtype == ours.coef_.dtype == np.float32
    clear = clear_winners(problem.oracle(alphas, "neg_mean_squared_error", standardize=False), 1e-4)
    # himalaya rounds its alphas to float32
    same = np.isclose(ours.best_alphas_, peer.best_alphas_, rtol=1e-5)
    assert same[clear].all()
    assert_relatively_close(
        ours.predict(problem.new)[:, same], peer.predict(problem.new)[:, same], 1e-4
    )


# ---- correlation, which is computed without predictions
# --------------------------------------------------------------


@drawn
@given(
    problems(flaws=("constant", "duplicated", "collinear")),
    st.sampled_from([np.float64, np.float32]),
)
def test_correlation_is_the_textbook_one_in_both_precisions_and_under_large_alphas(problem, dtype):
    problem = problem.astype(dtype)
    # two or three test rows with nearly equal predictions have no stable correlation in any
    # arithmetic
    assume(min(len(np.unique(problem.Y[test], axis=0)) for _, test in problem.splits) > 3)
    model = RidgeCV(WIDE, cv=problem.cv, scoring="correlation").fit(
        problem.X, problem.Y, problem.groups
    )
    # rounding of the features by eps moves the answer by eps * eigenvalue / alpha, and n * p is the
    # sum of eigenvalues
    amplified = 1 + problem.X.size / WIDE[:, None]
    tolerance = 1e-9 if dtype == np.float64 else 1e-5 + EPS32 * amplified
    expected = problem.oracle(WIDE, "correlation")
    assert np.all(np.abs(model.cv_scores_ - expected) <= tolerance)
    clear = clear_winners(expected, 2 * np.max(tolerance))
    np.testing.assert_array_equal(model.best_alphas_[clear], WIDE[expected.argmax(axis=0)][clear])


@pytest.mark.parametrize("n_alphas", [7, 80])  # with predictions, and without
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_correlation_of_predictions_that_do_not_differ_is_zero(dtype, n_alphas):
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(20), 6)
    X = rng.normal(size=(20, 50))[images] + 2
    Y = rng.normal(size=(120, 3))
    model = RidgeCV(np.logspace(-1, 5, n_alphas), cv=LeaveOneGroupOut(), scoring="correlation")
    model.fit(X.astype(dtype), Y.astype(dtype), images)
    np.testing.assert_allclose(model.cv_scores_, 0.0, atol=1e-6)


# ---- arrays of all kinds
# ---------------------------------------------------------------------------------------------


class ColumnsOnly:
    """Targets or coefficients that only have a shape and columns, and note how many of these are
    asked for at once.
    """

    def __init__(self, values, chunks=None):
        self.values = values
        self.shape = values.shape
        self.asked = []
        if chunks:
            self.chunks = chunks

    def __getitem__(self, key):
        found = self.values[key]
        assert key[0] == slice(None) or found.size == 1, (
            "only columns, and one value to learn the type"
        )
        if key[0] == slice(None):
            self.asked.append(key[1])
        return found

    def __setitem__(self, key, values):
        self.asked.append(key[1])
        self.values[key] = values

    def __array__(self, *_, **__):
        raise AssertionError("read whole")

    @property
    def widest(self):
        return max(columns.stop - columns.start for columns in self.asked)


def mapped(values, folder):
    found = np.memmap(folder / "mapped", dtype=values.dtype, mode="w+", shape=values.shape)
    found[:] = values
    return np.memmap(folder / "mapped", dtype=values.dtype, mode="r", shape=values.shape)


def in_zarr(values, folder):
    return zarr.create_array(folder / "z", data=values, chunks=(7, 3), overwrite=True)


def in_hdf5(values, folder):
    return h5py.File(folder / "h", "w").create_dataset("values", data=values, chunks=(7, 3))


FORMS = {
    "Fortran order": lambda values, _: np.asfortranarray(values),
    "reversed strides": lambda values, _: np.ascontiguousarray(values[::-1, ::-1])[::-1, ::-1],
    "big-endian": lambda values, _: values.astype(values.dtype.newbyteorder(">")),
    "lists": lambda values, _: values.tolist(),
    "data frame": lambda values, _: pd.DataFrame(values),
    "tensor": lambda values, _: torch.from_numpy(values),
    "transposed tensor": lambda values, _: torch.from_numpy(values.T.copy()).T,
    "memory map": mapped,
    "zarr": in_zarr,
    "HDF5": in_hdf5,
}


@pytest.mark.parametrize("form", [*FORMS, "columns only"])
@pytest.mark.parametrize("shape", [(30, 45), (60, 20)], ids=["n < p", "n > p"])
def test_targets_of_every_form_give_the_answers_of_a_plain_array(shape, form, tmp_path):
    X, Y = plain(*shape)
    given_Y = ColumnsOnly(Y) if form == "columns only" else FORMS[form](Y, tmp_path)
    model = RidgeCV(ALPHAS, target_block=5).fit(X, given_Y)
    assert_same_fit(model, RidgeCV(ALPHAS).fit(X, Y), rtol=1e-11)
    assert isinstance(model.coef_, np.ndarray) and isinstance(model.predict(X), np.ndarray)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_features_of_every_form_give_the_answers_of_a_plain_array(dtype, form, tmp_path):
    X, Y = (a.astype(dtype) for a in plain(60, 20))
    features = FORMS[form](X, tmp_path)
    model = RidgeCV(ALPHAS).fit(features, Y)
    tolerance = 1e-11 if dtype == np.float64 or form == "lists" else 1e-5
    # lists are float64
    expected = RidgeCV(ALPHAS).fit(X.astype(float) if form == "lists" else X, Y)
    assert_same_fit(model, expected, tolerance)
    assert_relatively_close(np.asarray(model.predict(features)), expected.predict(X), tolerance)


@drawn
@given(problems(), st.sampled_from([np.float64, np.float32]))
def test_tensors_in_tensors_out_with_the_answers_of_arrays(problem, dtype):
    problem = problem.astype(dtype)
    X, Y, new = (torch.from_numpy(a) for a in (problem.X, problem.Y, problem.new))
    model = RidgeCV(ALPHAS, cv=problem.cv).fit(X, Y, problem.groups)
    for found, shape in ((model.coef_, (X.shape[1], Y.shape[1])), (model.intercept_, Y.shape[1:])):
        assert isinstance(found, torch.Tensor) and found.dtype == X.dtype and found.shape == shape
    assert isinstance(model.predict(new), torch.Tensor)
    assert_same_to_the_bit(
        model, RidgeCV(ALPHAS, cv=problem.cv).fit(problem.X, problem.Y, problem.groups)
    )


@pytest.mark.parametrize("per_target", [True, False])
@pytest.mark.parametrize("groups", [None, np.arange(60) // 3], ids=["no groups", "groups"])
@pytest.mark.parametrize(("chunks", "widest"), [(None, 5), ((7, 3), 3), ((60, 2), 4), ((60, 9), 9)])
def test_targets_on_disk_are_read_once_and_never_whole(chunks, widest, groups, per_target):
    X, Y = plain(60, 20, t=23)
    Y = Y[np.arange(60) // 3]  # repeats, that would have to be read whole to be found
    targets = ColumnsOnly(Y, chunks)
    model = RidgeCV(ALPHAS, target_block=5, per_target=per_target).fit(X, targets, groups)
    assert targets.widest == widest
    read = np.concatenate([np.arange(23)[columns] for columns in targets.asked])
    # one penalty for all targets is known only after all have been read once
    np.testing.assert_array_equal(read, np.tile(np.arange(23), 1 if per_target else 2))
    if chunks:  # a chunk that lies in two blocks would be decoded twice
        assert not any(columns.start % chunks[1] for columns in targets.asked)
    assert_same_fit(model, RidgeCV(ALPHAS, per_target=per_target).fit(X, Y, groups))


def test_a_memory_map_is_not_searched_for_repeats_as_that_reads_it_whole(tmp_path):
    X, Y = plain(60, 20)
    images = np.arange(60) // 3
    targets = mapped(Y[images], tmp_path)
    assert Targets(targets, 60, images).values is targets
    assert_same_fit(
        RidgeCV(ALPHAS).fit(X, targets, images), RidgeCV(ALPHAS).fit(X, Y[images], images)
    )


def test_blocks_have_a_limit_when_no_size_is_asked_for():
    rng = np.random.default_rng(0)
    targets = ColumnsOnly(rng.normal(size=(12, LARGEST_BLOCK + 904)).astype(np.float32))
    RidgeCV(ALPHAS, cv=2).fit(rng.normal(size=(12, 3)).astype(np.float32), targets)
    assert targets.widest == LARGEST_BLOCK


@pytest.mark.parametrize("per_target", [True, False])
@pytest.mark.parametrize("place", ["memory map", "zarr", "columns only"])
@pytest.mark.parametrize("shape", [(30, 45), (60, 20)], ids=["n < p", "n > p"])
def test_coefficients_on_disk_predict_as_those_in_memory(shape, place, per_target, tmp_path):
    X, Y = plain(*shape)
    empty = np.zeros((shape[1], Y.shape[1]))
    if place == "zarr":
        coef = zarr.create_array(
            tmp_path / "z", shape=empty.shape, chunks=(7, 3), dtype=empty.dtype
        )
    else:
        coef = np.memmap(tmp_path / "c", mode="w+", dtype=empty.dtype, shape=empty.shape)
    coef = ColumnsOnly(coef) if place == "columns only" else coef
    expected = RidgeCV(ALPHAS, per_target=per_target).fit(X, Y)
    model = RidgeCV(ALPHAS, per_target=per_target, target_block=3).fit(X, Y, coef=coef)
    assert model.coef_ is coef
    new = X[:9] + 0.5
    blocks = list(model.predict_blocks(new, size=2))
    assert [(columns.start, columns.stop) for columns, _ in blocks] == [
        (0, 2),
        (2, 4),
        (4, 6),
        (6, 8),
    ]
    assert_relatively_close(np.hstack([block for _, block in blocks]), expected.predict(new), 1e-11)
    if place == "columns only":
        assert coef.widest == 3  # also while they were written
    else:
        assert_same_fit(model, expected)
        assert_relatively_close(model.predict(new), expected.predict(new), 1e-11)


def test_coefficients_of_a_tensor_fit_on_disk_predict_tensors(tmp_path):
    X, Y = (torch.from_numpy(a) for a in plain(60, 20))
    coef = np.memmap(tmp_path / "c", mode="w+", dtype=np.float64, shape=(20, 8))
    model = RidgeCV(ALPHAS).fit(X, Y, coef=coef)
    assert_relatively_close(
        model.predict(X).numpy(), RidgeCV(ALPHAS).fit(X, Y).predict(X).numpy(), 1e-11
    )


# ---- repeats
# --------------------------------------------------------------------------------------------------


@st.composite
def repeats(draw):
    """A problem whose targets are ``values[rows]``: rows in any order, some never used, some used
    often.
    """
    problem = draw(problems(flaws=("constant", "duplicated")))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n = len(problem.X)
    rows = {
        "some often": rng.integers(0, draw(st.integers(2, 2 * n)), size=n),
        "once or never": rng.permutation(2 * n)[:n],
        "all once": rng.permutation(n),
    }[draw(st.sampled_from(["some often", "once or never", "all once"]))]
    values = rng.normal(size=(rows.max() + draw(st.integers(1, 3)), problem.Y.shape[1])) + 3
    return problem, values, rows


@drawn
@given(
    repeats(), st.integers(0, 2), st.sampled_from(["r2", "neg_mean_squared_error", "correlation"])
)
def test_repeated_targets_equal_those_written_out(drawn_repeats, block, scoring):
    problem, values, rows = drawn_repeats
    # two rows with equal or nearly equal predictions have no stable correlation in any arithmetic
    assume(
        scoring != "correlation"
        or all(len(np.unique(rows[test])) > 2 for _, test in problem.splits)
    )
    model = RidgeCV(ALPHAS, cv=problem.cv, scoring=scoring, target_block=block)
    groups = problem.groups
    written = ColumnsOnly(values[rows])  # so that nothing looks for repeats there
    expected = RidgeCV(ALPHAS, cv=problem.cv, scoring=scoring).fit(problem.X, written, groups)
    for given_values in (values, torch.from_numpy(values), ColumnsOnly(values)):
        assert_same_fit(model.fit(problem.X, Repeated(given_values, rows), groups), expected)


@drawn
@given(problems(("constant", "duplicated"), kinds=("images",)), st.booleans(), st.data())
def test_repeats_that_groups_reveal_change_no_answer(problem, as_tensor, data):
    images = problem.groups
    Y = problem.Y[np.unique(images, return_index=True)[1]][images]
    model = RidgeCV(ALPHAS, cv=problem.cv)
    expected = RidgeCV(ALPHAS, cv=problem.cv).fit(problem.X, ColumnsOnly(Y), images)
    assert len(Targets(Y, len(Y), images).values) == len(np.unique(images)) < len(Y)
    assert_same_fit(model.fit(problem.X, torch.from_numpy(Y) if as_tensor else Y, images), expected)

    # one value of one repeat is another, however little: none of the rows may be taken for another
    row, column = (data.draw(st.integers(0, size - 1)) for size in Y.shape)
    Y[row, column] += data.draw(st.sampled_from([1e-14, 1.0])) * np.abs(Y[row, column])
    assert len(Targets(Y, len(Y), images).values) == len(Y)
    assert_same_fit(
        model.fit(problem.X, Y, images),
        RidgeCV(ALPHAS, cv=problem.cv).fit(problem.X, ColumnsOnly(Y), images),
    )


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "uint16", ">i4"])
def test_rows_of_repeats_may_be_integers_of_any_kind(dtype):
    X, Y = plain(60, 20)
    rows = np.arange(60) // 3
    expected = RidgeCV(ALPHAS).fit(X, ColumnsOnly(Y[rows]))
    assert_same_fit(RidgeCV(ALPHAS).fit(X, Repeated(Y[:20], rows.astype(dtype))), expected)


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        (np.ones((20, 4)), np.arange(60) // 2),
        (np.ones((20, 4)), np.arange(60) // 3 - 1),
        (np.ones((20, 4)), np.arange(60) / 3),
        (np.ones((20, 4)), np.arange(60) > 30),
        (np.ones((20, 4)), np.arange(60)[:, None] // 3),
        (np.ones((20, 4)), np.arange(59) // 3),
        (np.ones(20), np.arange(60) // 3),
    ],
    ids=[
        "beyond the values",
        "negative",
        "fractions",
        "a mask",
        "a matrix",
        "one too few",
        "values of one dimension",
    ],
)
def test_rows_of_repeats_that_cannot_be_are_refused_in_one_sentence(values, rows):
    X, _ = plain(60, 20)
    with pytest.raises(PhospheneError, match="RidgeCV") as caught:
        RidgeCV(ALPHAS).fit(X, Repeated(values, rows))
    assert "\n" not in str(caught.value)


# ---- decompositions
# --------------------------------------------------------------------------------------------------

FOLDS = {
    "contiguous": 4,
    "many small": 15,  # so few test rows that predictions are cheaper
    "partial": [
        (np.arange(10, 60), np.arange(10)),
        (np.arange(25), np.arange(40, 60)),
        (np.arange(40), [41, 40, 44]),
    ],
}
ROWS = {
    "distinct": None,
    "permuted": np.random.default_rng(0).permutation(60),
    "repeated": np.arange(60) // 3,
    "some repeated": np.r_[np.arange(45), np.arange(15)],
    "unused": np.random.default_rng(1).integers(0, 70, size=60),
}


@pytest.mark.parametrize(
    ("dtype", "fit_intercept"), [(np.float64, True), (np.float64, False), (np.float32, True)]
)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("cv", FOLDS.values(), ids=FOLDS)
@pytest.mark.parametrize("p", [40, 90])
def test_a_saved_decomposition_gives_the_same_answers_to_the_bit(
    p, cv, rows, dtype, fit_intercept, tmp_path
):
    X, Y = (a.astype(dtype) for a in plain(60, p))
    Y = (
        Y
        if rows is None
        else Repeated(np.random.default_rng(2).normal(size=(70, 6)).astype(dtype), rows)
    )
    model = RidgeCV(ALPHAS, cv=cv, fit_intercept=fit_intercept)
    parts = model.decompose(X, rows=rows)
    save(parts, tmp_path / "parts.safetensors")
    expected = RidgeCV(ALPHAS, cv=cv, fit_intercept=fit_intercept).fit(parts, Y)
    assert_same_to_the_bit(model.fit(load(tmp_path / "parts.safetensors"), Y), expected)
    assert_same_to_the_bit(expected, RidgeCV(ALPHAS, cv=cv, fit_intercept=fit_intercept).fit(X, Y))


@drawn
@given(repeats(), st.booleans(), st.booleans(), st.data())
def test_two_halves_of_the_targets_from_one_decomposition_equal_all(
    drawn_repeats, fit_intercept, standardize, data
):
    problem, values, rows = drawn_repeats
    model = RidgeCV(ALPHAS, cv=problem.cv, fit_intercept=fit_intercept, standardize=standardize)
    values = np.concatenate([values, values[::-1] ** 2], axis=1)
    whole = RidgeCV(**model.get_params()).fit(problem.X, Repeated(values, rows), problem.groups)
    parts = model.decompose(problem.X, problem.groups, rows)
    cut = data.draw(st.integers(1, values.shape[1] - 1))
    for columns in (slice(None, cut), slice(cut, None)):
        half = model.fit(parts, Repeated(values[:, columns], rows))
        np.testing.assert_allclose(
            half.cv_scores_, whole.cv_scores_[:, columns], rtol=1e-9, atol=1e-9
        )
        np.testing.assert_array_equal(half.best_alphas_, whole.best_alphas_[columns])
        assert_relatively_close(
            half.predict(problem.new), whole.predict(problem.new)[:, columns], 1e-9
        )


def damaged(whole, how, path):
    """Write what is left of the file `whole` after it was damaged, or another file in its place."""
    content = {
        "empty": b"",
        "text": b"a report that has the wrong name\n" * 9,
        "cut in the header": whole[:50],
        "cut in the data": whole[:-100],
        "longer": whole + b"more",
        "broken header": whole[:12] + b"\xff" + whole[13:],
    }
    metadata = {
        "another safetensors file": None,
        "other metadata": {"ridge": "not json"},
        "metadata that is a list": {"ridge": "[]"},
        "too few arrays": {"ridge": json.dumps({"version": 1, "center": True, "kept": [True]})},
        "a later version": {"ridge": json.dumps({"version": 99})},
    }
    if how in content:
        path.write_bytes(content[how])
    elif how in metadata:
        save_file({"values": torch.zeros(3)}, path, metadata=metadata[how])
    elif how == "a folder":
        path.mkdir()
    else:
        assert how == "missing"


@pytest.mark.parametrize(
    "how",
    [
        "empty",
        "text",
        "cut in the header",
        "cut in the data",
        "longer",
        "broken header",
        "another safetensors file",
        "other metadata",
        "metadata that is a list",
        "too few arrays",
        "a later version",
        "a folder",
        "missing",
    ],
)
def test_a_wrong_or_damaged_file_is_refused_in_one_sentence_that_names_it(how, tmp_path):
    X, _ = plain(60, 20)
    save(RidgeCV(ALPHAS).decompose(X, rows=ROWS["repeated"]), tmp_path / "good")
    damaged((tmp_path / "good").read_bytes(), how, tmp_path / "bad")
    with pytest.raises(PhospheneError, match="bad: .*decomposition") as caught:
        load(tmp_path / "bad")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rows",
    [np.arange(59), np.arange(60) - 1, np.arange(60) / 2],
    ids=["one too few", "negative", "fractions"],
)
def test_a_decomposition_for_impossible_rows_is_refused_in_one_sentence(rows):
    with pytest.raises(PhospheneError, match="RidgeCV") as caught:
        RidgeCV(ALPHAS).decompose(plain(60, 20)[0], rows=rows)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "targets", [np.ones((60, 2)), Repeated(np.ones((60, 2)), np.arange(60)[::-1])]
)
def test_a_decomposition_is_refused_for_targets_that_repeat_other_rows(targets):
    parts = RidgeCV(ALPHAS).decompose(plain(60, 20)[0], rows=ROWS["repeated"])
    with pytest.raises(PhospheneError, match="repeats other rows"):
        RidgeCV(ALPHAS).fit(parts, targets)


# ---- what is refused
# -------------------------------------------------------------------------------------------------


@drawn
@given(
    st.data(), st.sampled_from([np.nan, np.inf, -np.inf]), st.sampled_from([np.float64, np.float32])
)
def test_one_value_that_is_not_finite_is_refused_with_a_sentence_wherever_it_is(data, value, dtype):
    X, Y = (a.astype(dtype) for a in plain(1100, 3, t=7))  # X is checked 1024 rows at a time
    where = data.draw(st.sampled_from(["X", "Y", "repeated values"]))
    bad = X if where == "X" else Y
    row = data.draw(st.sampled_from([0, 1, 1023, 1024, 1099]))
    column = data.draw(st.integers(0, bad.shape[1] - 1))
    bad[row, column] = value
    targets = Repeated(Y, np.arange(1100)) if where == "repeated values" else Y
    named = (
        "X holds"
        if where == "X"
        else f"columns {column - column % 3} to {min(column - column % 3 + 2, 6)} of Y"
    )
    for form in (lambda a: a, torch.from_numpy) if where != "repeated values" else (lambda a: a,):
        with pytest.raises(PhospheneError, match=f"{named}.*NaN or infinite") as caught:
            RidgeCV(ALPHAS, target_block=3).fit(form(X), targets if targets is not Y else form(Y))
        assert "\n" not in str(caught.value)


# ---- scikit-learn
# --------------------------------------------------------------------------------------------------

EXPECTED_FAILURES = {
    "check_dtype_object": (
        "features of type object are refused: they are a mistake more often than numbers"
    ),
    "check_fit2d_1sample": (
        "one row is refused since it cannot be split into folds, not in the words of the check"
    ),
}


@pytest.mark.parametrize(
    "model",
    [RidgeCV(), RidgeCV(ALPHAS, per_target=False, standardize=False, target_block=1)],
    ids=["plain", "changed"],
)
def test_scikit_learn_checks_pass_but_for_those_that_have_a_reason(model):
    # on_skip: the check of array API inputs runs only where SCIPY_ARRAY_API is set before SciPy is
    # imported
    results = check_estimator(model, expected_failed_checks=EXPECTED_FAILURES, on_skip=None)
    failed = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert failed == set(EXPECTED_FAILURES), "a reason that is no longer needed"
    assert {result["check_name"] for result in results if result["status"] == "skipped"} <= {
        "check_array_api_input"
    }
