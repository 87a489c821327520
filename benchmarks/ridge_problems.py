"""The problems that ridge regressions are timed on, and how each implementation is asked to solve
them.

Libraries are loaded only when they are used, so that one is not counted in another's memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, KFold

Json = dict[str, Any]
OURS = "phosphene"
PEERS = ("himalaya numpy", "himalaya torch")
LEAVE_ONE_OUT = "scikit-learn leave-one-out"
GRID_SEARCH = "scikit-learn grid search"
BIG = 10**11  # n p t from which fewer batch settings are tried
FOLDS = 5


@dataclass(frozen=True)
class Shape:
    """Samples, features, targets and penalties of one problem; kind is "", "brain-like" or
    "repeats".
    """

    n: int
    p: int
    t: int
    alphas: int
    kind: str = ""

    @property
    def name(self) -> str:
        """Name by which results are kept and ``--only`` finds them."""
        return f"{self.n}x{self.p}x{self.t}x{self.alphas} {self.kind}".strip()

    @property
    def distinct(self) -> int:
        """Distinct rows of the targets."""
        return self.n // 3 if self.kind == "repeats" else self.n


SHAPES = [
    Shape(4000, 500, 2000, 7),
    Shape(4000, 1000, 500, 7),
    Shape(4000, 1000, 2000, 3),
    Shape(4000, 1000, 2000, 7),
    Shape(4000, 1000, 2000, 10),
    Shape(4000, 1000, 2000, 20),
    Shape(4000, 1000, 8000, 7),
    Shape(4000, 2000, 2000, 7),
    Shape(8000, 1000, 2000, 7),
    Shape(6000, 1500, 2000, 7),
    Shape(6000, 1500, 2000, 7, "brain-like"),
    Shape(6000, 1500, 2000, 7, "repeats"),
    Shape(750, 3000, 2000, 7),
    Shape(1500, 1500, 1000, 7),
    Shape(9000, 2100, 6000, 7),
    Shape(9000, 2100, 20000, 7),
]
CENTRE = SHAPES[3]  # the panels of the plot vary one number of this shape
NSD = Shape(24980, 7604, 59136, 13)
NSD_DISTINCT = 8859
DISK = Shape(5000, 1500, 59136, 7)
TINY = Shape(300, 40, 60, 3)


def quick(shape: Shape) -> Shape:
    """Shrink a shape to try the script out."""
    return replace(shape, n=shape.n // 150 * 15, p=shape.p // 10, t=shape.t // 10)


@dataclass(frozen=True)
class Data:
    """A problem with the splits that everyone uses; ``groups`` says which picture a row shows, when
    pictures repeat.
    """

    X: np.ndarray
    Y: np.ndarray
    alphas: np.ndarray
    cv: Any
    groups: np.ndarray | None


def make(shape: Shape) -> Data:
    """Draw a problem in float32: linear signal, and noise that differs between targets so that
    their penalties do.
    """
    rng = np.random.default_rng(0)
    single = np.float32
    n = shape.n
    p = shape.p
    t = shape.t
    Z = rng.standard_normal((shape.distinct, p), dtype=single)
    # variance falls with the square of the rank: needs float64 eigendecompositions
    if shape.kind == "brain-like":
        scale = np.arange(1, p + 1, dtype=single) ** -1
        rotation, _ = np.linalg.qr(rng.standard_normal((p, p), dtype=single))
        Z = (Z * (scale / np.sqrt(np.mean(scale**2)))) @ rotation
    Y = Z @ (rng.standard_normal((p, t), dtype=single) * single(p**-0.5))
    Y += rng.standard_normal(Y.shape, dtype=single) * np.geomspace(0.5, 8, t, dtype=single)
    groups = None
    cv = KFold(FOLDS)
    if shape.kind == "repeats":
        groups = rng.permutation(np.repeat(np.arange(shape.distinct), 3))
        Z = Z[groups] + single(0.5) * rng.standard_normal((n, p), dtype=single)
        Y = Y[groups]
        cv = list(GroupKFold(FOLDS).split(Z, groups=groups))
    assert Z.dtype == Y.dtype == single
    return Data(Z, Y, np.logspace(0, 6, shape.alphas), cv, groups)


def fit(who: str, data: Data, setting: Json) -> Any:
    """Fit one implementation."""
    if who == OURS:
        from phosphene.numerics.ridge import RidgeCV

        model = RidgeCV(
            data.alphas, cv=data.cv, scoring="neg_mean_squared_error", standardize=False
        )
        return model.fit(data.X, data.Y, groups=data.groups)
    if who in PEERS:
        return himalaya_model(who.split()[1], data, setting).fit(data.X, data.Y)
    from sklearn.linear_model import Ridge, RidgeCV
    from sklearn.model_selection import GridSearchCV

    if who == LEAVE_ONE_OUT:
        return RidgeCV(data.alphas, alpha_per_target=True).fit(data.X, data.Y)
    search = GridSearchCV(
        Ridge(), {"alpha": data.alphas}, cv=data.cv, scoring="neg_mean_squared_error"
    )
    return search.fit(data.X, data.Y)


def himalaya_model(backend: str, data: Data, setting: Json) -> Any:
    """Make himalaya's estimator for a backend and a batch setting."""
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV

    set_backend(backend)
    batches = {key: value for key, value in setting.items() if key != "kernel"}
    given = {"alphas": data.alphas, "fit_intercept": True, "cv": data.cv}
    if setting.get("kernel"):
        return KernelRidgeCV(kernel="linear", solver_params=batches, warn=False, **given)
    return RidgeCV(solver_params=batches | {"warn": False}, **given)


def settings(shape: Shape) -> list[Json]:
    """List the batch settings worth trying: penalties one by one or at once, targets at once or in
    four parts.
    """
    parts = {"n_alphas_batch": 1, "n_targets_batch": -(-shape.t // 4)}
    found: list[Json] = [{"n_alphas_batch": 1}, {}, parts]  # {}: himalaya's default
    if shape.n * shape.p * shape.t > BIG:
        found = found[:2]
    return [{"kernel": True} | one for one in found] + found[:1] if shape.n < shape.p else found
