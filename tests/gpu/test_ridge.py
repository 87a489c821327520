"""The regression on tensors of a GPU: the penalties, scores and coefficients of the CPU.

Tolerances. Float64 work must agree to 1e-7. Float32 work is compared with float64 on the CPU:
predictions to 1e-3 of the largest, scores to 1e-3; where two neighbouring penalties score almost
equally, rounding may choose either, in at most 5 % of the targets, which are left out of the
comparison of predictions. TF32, which PyTorch leaves off for matrix products, would miss this: it
rounds to 5e-4 before anything is summed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from phosphene.numerics.ridge import BandedRidgeCV, RidgeCV, load, save

ALPHAS = np.logspace(-1, 5, 7)
SHAPES = {
    "more rows than columns": (600, 80),
    "more columns than rows": (120, 300),
    "repeats": (600, 80),
}
TARGETS = 300
PRECISIONS = [torch.float32, torch.float64]
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-7}

Array = NDArray[Any]
Record = Callable[[str, object], None]


def problem(kind: str) -> tuple[Array, Array, Array | None]:
    n, p = SHAPES[kind]
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n // 3), 3) if kind == "repeats" else None
    X = rng.standard_normal((n, p))
    Y = X @ rng.standard_normal((p, TARGETS)) * p**-0.5
    Y += rng.standard_normal((n, TARGETS)) * np.geomspace(0.3, 5, TARGETS)
    if groups is not None:
        Y = Y[::3][groups]
        X = X + 0.5 * rng.standard_normal((n, p))
    return X, Y, groups


def host(values: Any) -> Array:
    return np.asarray(torch.as_tensor(values).cpu())


def assert_agree(
    model: Any, reference: Any, predicted: Array, expected: Array, tolerance: float
) -> dict[str, float]:
    same = np.isclose(host(model.best_alphas_), host(reference.best_alphas_))
    error = np.abs(predicted - expected)[:, same].max() / np.abs(expected).max()
    assert same.mean() >= (1 if tolerance < 1e-4 else 0.95)
    assert error < tolerance
    return {"share_of_equal_alphas": float(same.mean()), "relative_error": float(error)}


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("kind", SHAPES)
def test_ridge(device: str, kind: str, dtype: torch.dtype, record_property: Record) -> None:
    X, Y, groups = problem(kind)
    reference = RidgeCV(ALPHAS).fit(X, Y, groups=groups)
    features = torch.from_numpy(X).to(device, dtype)
    targets = torch.from_numpy(Y).to(device, dtype)
    model = RidgeCV(ALPHAS).fit(features, targets, groups=groups)
    predicted = model.predict(features)
    assert predicted.device == model.coef_.device == model.intercept_.device == features.device
    assert predicted.dtype == model.coef_.dtype == dtype
    scores = np.abs(model.cv_scores_ - reference.cv_scores_).max()
    figures = assert_agree(
        model, reference, host(predicted), reference.predict(X), TOLERANCE[dtype]
    )
    assert scores < TOLERANCE[dtype]
    for name, value in (figures | {"score_error": float(scores)}).items():
        record_property(name, value)


def test_targets_and_new_features_in_host_memory(device: str) -> None:
    """Only X decides where the work is done; Y may be an array, and so may the features to predict
    from.
    """
    X, Y, _ = problem("more rows than columns")
    reference = RidgeCV(ALPHAS).fit(X, Y)
    model = RidgeCV(ALPHAS, target_block=64).fit(torch.from_numpy(X).to(device), Y)
    assert_agree(
        model, reference, model.predict(X[:50]), reference.predict(X[:50]), TOLERANCE[torch.float64]
    )


def test_decomposition_is_saved_and_loaded(device: str, tmp_path: Path) -> None:
    X, Y, _ = problem("more rows than columns")
    features = torch.from_numpy(X).to(device)
    reference = RidgeCV(ALPHAS).fit(X, Y)
    save(RidgeCV(ALPHAS).decompose(features), tmp_path / "parts.safetensors")
    for place in (device, "cpu"):
        parts = load(tmp_path / "parts.safetensors", place)
        model = RidgeCV(ALPHAS).fit(parts, torch.from_numpy(Y).to(place))
        assert_agree(
            model, reference, model.predict(X), reference.predict(X), TOLERANCE[torch.float64]
        )


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_banded_ridge(device: str, dtype: torch.dtype, record_property: Record) -> None:
    """The spaces are tensors of the device; coefficients come back as arrays."""
    X, Y, _ = problem("more rows than columns")
    spaces = {"near": X[:, :30], "far": X[:, 30:]}
    reference = BandedRidgeCV(ALPHAS, mixes=5).fit(spaces, Y)
    tensors = {name: torch.from_numpy(values).to(device, dtype) for name, values in spaces.items()}
    model = BandedRidgeCV(ALPHAS, mixes=5).fit(tensors, torch.from_numpy(Y).to(device, dtype))
    same_mix = (model.best_mixes_ == reference.best_mixes_).all(axis=1)
    record_property("share_of_equal_mixes", float(same_mix.mean()))
    assert same_mix.mean() >= (1 if dtype == torch.float64 else 0.95)
    same = same_mix & np.isclose(model.best_alphas_, reference.best_alphas_)
    error = np.abs(model.coef_ - reference.coef_)[:, same].max() / np.abs(reference.coef_).max()
    assert error < TOLERANCE[dtype]
