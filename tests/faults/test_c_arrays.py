"""Section C: what people hand to the regression and to the statistics."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import false_discovery_control

from phosphene.errors import PhospheneError
from phosphene.numerics import pca
from phosphene.numerics.ridge import RidgeCV
from phosphene.numerics.ridge.maker import eigh
from phosphene.numerics.stats import correlation_map, fdr_by


def rows(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


X = rows(0, 40, 5)
Y = rows(1, 40, 3)


def fitted(X: object, Y: object) -> np.ndarray:
    return np.asarray(RidgeCV(alphas=[1.0, 10.0], cv=2).fit(X, Y).coef_)


@pytest.mark.parametrize(
    ("same_X", "same_Y"),
    [
        (X.astype(object), Y),
        (X, Y.astype(object)),
        (torch.tensor(X, requires_grad=True), torch.tensor(Y, requires_grad=True)),
        (pd.DataFrame(X), pd.DataFrame(Y)),
    ],
)
def test_c12_what_holds_numbers_gives_the_same_fit(same_X, same_Y):
    np.testing.assert_allclose(fitted(same_X, same_Y), fitted(X, Y), atol=1e-12)


def test_c12_truth_values_count_as_0_and_1():
    np.testing.assert_allclose(fitted(X > 0, Y), fitted((X > 0).astype(float), Y), atol=1e-12)


@pytest.mark.parametrize("bad", [X.astype(str), np.full(X.shape, None), X + 1j])
def test_c12_what_holds_no_numbers_is_refused(bad):
    with pytest.raises(PhospheneError, match="real numbers|not supported|NaN"):
        fitted(bad, Y)


def test_c12_labels_that_cannot_be_sorted_are_refused():
    with pytest.raises(PhospheneError, match="groups"):
        RidgeCV(alphas=[1.0], cv=2).fit(X, Y, groups=[None, "a"] * 20)


def test_c12_tables_and_lists_in_correlation_map():
    a = rows(2, 20, 4)
    b = a + rows(3, 20, 4)
    expected = correlation_map(a, b)
    for convert in (pd.DataFrame, np.ndarray.tolist):
        np.testing.assert_array_equal(correlation_map(convert(a), convert(b)), expected)


def test_c5_what_does_not_converge_in_single_precision_is_tried_in_double(monkeypatch):
    gram = torch.tensor(X.T @ X)
    original = torch.linalg.eigh

    def fails_in_float32(matrix, *args, **kwargs):
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("did not converge")
        return original(matrix, *args, **kwargs)

    expected = np.linalg.eigvalsh(X.T @ X)
    monkeypatch.setattr(torch.linalg, "eigh", fails_in_float32)
    values, vectors = eigh(gram.clone(), double=False)
    assert values.dtype == vectors.dtype == torch.float32
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_c5_what_does_not_converge_at_all_is_said_in_a_sentence(monkeypatch):
    def fails(*_, **__):
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    with pytest.raises(PhospheneError, match="does not converge"):
        fitted(X, Y)

    def fails_too(*_, **__):
        raise np.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(pca, "eigh", fails_too)
    with pytest.raises(PhospheneError, match="does not converge"):
        pca._largest(X.T @ X, 2)


def test_e6_q_values_under_any_dependence():
    p = np.array([0.001, 0.01, np.nan, 0.03, 0.8])
    expected = false_discovery_control(p[~np.isnan(p)], method="by")
    np.testing.assert_allclose(fdr_by(p)[~np.isnan(p)], expected)
    assert np.isnan(fdr_by(p)[2])
