"""Encoding models: the same answer as single trials, planted truths found again, nothing found
where nothing is.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from phosphene.encoding.design import Design
from phosphene.encoding.fitting import Voxels, fit_block
from phosphene.encoding.models import Model, mixes
from phosphene.errors import PhospheneError
from phosphene.numerics import correlation
from phosphene.numerics.ridge import RidgeCV

ALPHAS = np.logspace(-4, 5, 19)


def designed(spaces: list[np.ndarray], test: list[np.ndarray], counts: np.ndarray) -> Design:
    """The arrays that `phosphene.steps.encode.factors.design` makes of features, written from its
    description.
    """
    train = []
    shown = []
    for x, y in zip(spaces, test, strict=True):
        mean = np.average(x, axis=0, weights=counts)
        scale = np.sqrt((counts[:, None] * (x - mean) ** 2).sum() / counts.sum())
        train.append((np.sqrt(counts)[:, None] * (x - mean) / scale).astype(np.float32))
        shown.append(((y - mean) / scale).astype(np.float32))
    return Design(train, shown, np.sqrt(counts))


def observed(train: np.ndarray, rows: np.ndarray, test: np.ndarray) -> Voxels:
    """The arrays that `read_voxels` makes of training trials (n_trials, v) of images `rows`, and of
    test means.
    """
    counts = np.bincount(rows)
    mean = train.mean(axis=0)
    averaged = np.array([train[rows == k].mean(axis=0) for k in range(len(counts))])
    weighted = np.sqrt(counts)[:, None] * (averaged - mean)
    return Voxels(weighted.astype(np.float32), test - mean, np.ones(train.shape[1], bool))


def fitted(known: Design, voxels: Voxels, n_mixes: int = 5) -> dict[str, np.ndarray]:
    model = RidgeCV(alphas=ALPHAS, cv=5, fit_intercept=False, standardize=False)
    shares = mixes(len(known.train), n_mixes)
    made = [model.decompose(known.mixed(mix, known.train)) for mix in shares]
    return fit_block(known, voxels, shares, model, lambda k: made[k])


def test_pictures_weighted_by_their_trials_are_single_trials():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 20)) + 3
    test = rng.normal(size=(15, 20)) + 3
    rows = np.repeat(np.arange(60), rng.integers(1, 4, 60))
    beta = rng.normal(size=(20, 8))
    trials = x[rows] @ beta + 2 * rng.normal(size=(len(rows), 8)) + 5
    known = designed([x], [test], np.bincount(rows))
    truth = test @ beta + 5
    found = fitted(known, observed(trials, rows, truth))
    scale = np.sqrt(((x[rows] - x[rows].mean(axis=0)) ** 2).sum() / len(rows))
    for voxel in range(8):  # scikit-learn on every trial by itself, at the penalty that was chosen
        oracle = Ridge(found["alpha"][voxel]).fit(x[rows] / scale, trials[:, voxel])
        expected = oracle.predict(test / scale)
        predicted = found["prediction"][:, voxel] + trials[:, voxel].mean()
        np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-3)
        assert found["r"][voxel] == pytest.approx(
            np.corrcoef(expected, truth[:, voxel])[0, 1], abs=1e-4
        )


def generated(rng: np.random.Generator, n: int, shared: float) -> list[np.ndarray]:
    """Two feature spaces of 12 numbers, of which the first 4 are alike to the correlation
    `shared`.
    """
    a, b = rng.normal(size=(2, n, 12))
    b[:, :4] = shared * a[:, :4] + np.sqrt(1 - shared**2) * b[:, :4]
    return [a, b]


def test_unique_variance_is_that_of_the_generative_model():
    rng = np.random.default_rng(1)
    n = 1500
    n_test = 4000
    v = 60
    shared = 0.8
    train = generated(rng, n, shared)
    test = generated(rng, n_test, shared)
    kind = np.arange(v) % 3  # driven by the first space, by the second, by both
    weights = rng.normal(size=(2, 12, v)) * np.array([kind != 1, kind != 0])[:, None]
    signal = sum(x @ w for x, w in zip(train, weights, strict=True))
    noise = signal.std(axis=0)
    known = designed(train, test, np.ones(n, int))
    responses = signal + noise * rng.normal(size=signal.shape)
    tested = sum(x @ w for x, w in zip(test, weights, strict=True)) + noise * rng.normal(
        size=(n_test, v)
    )
    found = fitted(known, observed(responses, np.arange(n), tested), 9)

    # In expectation: the variance that is left of each space given the other, by the covariance of
    # the spaces
    cross = np.zeros((12, 12))
    cross[:4, :4] = shared * np.eye(4)
    left = np.eye(12) - cross @ cross.T
    total = sum((w**2).sum(axis=0) for w in weights) + 2 * np.einsum(
        "iv,ij,jv->v", weights[0], cross, weights[1]
    )
    total = total + noise**2
    for space in range(2):
        expected = np.einsum("iv,ij,jv->v", weights[space], left, weights[space]) / total
        assert np.abs(found["unique"][space] - expected).mean() < 0.02
    np.testing.assert_allclose(
        found["product"].sum(axis=0),
        correlation.r2(
            tested - tested.mean(axis=0), found["prediction"] - found["prediction"].mean(axis=0)
        ),
        atol=1e-6,
    )
    assert found["mix"][0][kind == 0].mean() > 0.8 > 0.2 > found["mix"][0][kind == 1].mean()


def test_the_best_space_is_the_one_that_was_planted():
    rng = np.random.default_rng(2)
    n = 400
    n_test = 300
    v = 90
    spaces = rng.normal(size=(3, n, 30))
    tests = rng.normal(size=(3, n_test, 30))
    planted = np.arange(v) % 3
    beta = rng.normal(size=(30, v))
    drive, shown = (
        np.stack([x[planted[k]] @ beta[:, k] for k in range(v)], axis=1) for x in (spaces, tests)
    )
    voxels = observed(drive + 8 * rng.normal(size=drive.shape), np.arange(n), shown)
    r = [
        fitted(designed([x], [y], np.ones(n, int)), voxels)["r"]
        for x, y in zip(spaces, tests, strict=True)
    ]
    assert (np.argmax(r, axis=0) == planted).mean() > 0.97


def test_mixes_leave_every_space_out_once():
    for b in (1, 2, 3, 4):
        shares = mixes(b, 6)
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        assert b == 1 or all((shares[:, space] == 0).any() for space in range(b))
    np.testing.assert_array_equal(mixes(3, 4), mixes(3, 4))


def test_models_are_named_by_their_spaces():
    assert str(Model.of("z", "zc@0.5")) == "z + zc@0.5"
    for wrong in ((), ("z", "z"), ("nonsense",)):
        with pytest.raises(PhospheneError):
            Model.of(*wrong)
