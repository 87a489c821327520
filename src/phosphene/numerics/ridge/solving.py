"""What is done with a block of targets: scores of every penalty, then coefficients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.numerics.ridge.factors import CHUNK, Decomposition, Fold, doubles
from phosphene.numerics.ridge.scores import split_pairs, summed_scores
from phosphene.numerics.ridge.targets import Targets, as_tensor, block_size, release

Floats = NDArray[np.float64]
ORDINARY = 30  # targets whose largest value is within 2 ** ±30 are worked on as they are
LARGEST = 126  # exponent of two that float32 holds, also with the other sign


@dataclass(frozen=True)
class Block:
    """Some targets: distinct rows (n_distinct, block), centred, their means, and their products
    with the features.

    All three are in units of ``2 ** exponent`` (block,), which is 1 for targets of ordinary size.
    """

    columns: slice
    y: Tensor
    mean: Tensor
    cross: Tensor | None
    exponent: Tensor

    def some(self, index: NDArray[np.intp]) -> Block:
        """Only the targets `index` of this block."""
        i = torch.from_numpy(index).to(self.y.device)
        cross = None if self.cross is None else self.cross[:, i]
        return Block(self.columns, self.y[:, i], self.mean[i], cross, self.exponent[i])


class Blocks:
    """Blocks of targets, read and centred, as often as they are gone through.

    Parameters
    ----------
    parts, targets
    size : int
        Targets of a block; 0 chooses.
    store : Tensor, (p, t), optional
        Where products with the features are kept after the first time.
    """

    def __init__(
        self, parts: Decomposition, targets: Targets, size: int, store: Tensor | None = None
    ) -> None:
        self.parts = parts
        self.targets = targets
        self.store = store
        self.seen: dict[
            int, tuple[Tensor, Tensor]
        ] = {}  # by first column: means and exponents of earlier passes
        self.size = size or block_size(
            len(parts.target_rows), len(parts.mean), parts.final.values.itemsize
        )

    def __iter__(self) -> Iterator[Block]:
        final = self.parts.final
        center = self.parts.center
        for columns in self.targets.blocks(self.size):
            first = columns.start not in self.seen
            y = self.targets.block(
                columns, final.values.dtype, final.values.device, known=not first
            )
            y = y[: len(final.weights)]
            exponent = _exponent(y) if first else self.seen[columns.start][1]
            if exponent.any():
                y = torch.ldexp(y, -exponent)
            if first:
                mean = final.weights @ y / final.weights.sum() if center else torch.zeros_like(y[0])
                self.seen[columns.start] = mean, exponent
            mean = self.seen[columns.start][0]
            y = y - mean
            release(self.targets.values)
            cross = self.parts.cross(y) if first or self.store is None else self.store[:, columns]
            if first and self.store is not None and cross is not None:
                self.store[:, columns] = cross
            yield Block(columns, y, mean, cross, exponent)


def _exponent(y: Tensor) -> Tensor:
    """Exponents of two that bring targets (n, block) whose squares float32 cannot hold near 1; 0
    for all others.

    Dividing by a power of two is exact: no result depends on it, except that nothing overflows or
    vanishes.
    """
    low, high = y.aminmax(dim=0)
    exponent = torch.frexp(torch.maximum(-low, high)).exponent
    return torch.where(exponent.abs() > ORDINARY, exponent.clamp(-LARGEST, LARGEST), 0)


class Scorer:
    """Sums over `folds` of the scores of blocks of targets; `overwrite` spends the ``products`` of
    the folds.
    """

    def __init__(
        self,
        parts: Decomposition,
        folds: list[Fold],
        alphas: Floats,
        scoring: str,
        overwrite: bool = True,
    ) -> None:
        self.center = parts.center
        self.folds = folds
        self.scoring = scoring
        self.alphas = as_tensor(alphas).to(parts.final.values)
        least = float(alphas.min())
        self.pairs = [
            None
            if fold.products is None
            else split_pairs(fold.factor.values, fold.products, least, overwrite)
            for fold in folds
        ]

    def __call__(self, block: Block) -> Floats:
        """Scores summed over folds, (n_alphas, block)."""
        scores = summed_scores(
            self.folds, self.pairs, block.y, block.cross, self.alphas, self.center, self.scoring
        )
        if self.scoring == "neg_mean_squared_error":
            scores = np.ldexp(scores, 2 * block.exponent.cpu().numpy())
        wrong = np.flatnonzero(~np.isfinite(scores).all(axis=0))
        if len(wrong):
            raise PhospheneError(
                f"RidgeCV: target {block.columns.start + wrong[0]} of Y has no finite score, "
                "since its values or those "
                "of X are too large or too small for the precision of the work; divide them by "
                "their standard "
                "deviation, or give float64."
            )
        return scores


class Writer:
    """Solves for blocks of targets on all rows and puts coefficients (p, t) and intercepts (t,)
    where they go.

    With `dual` these are coefficients of the rows ``parts.span``, (n, t).
    """

    def __init__(self, parts: Decomposition, coef: Any, intercept: Any, dual: bool = False) -> None:
        self.parts = parts
        self.coef = coef
        self.intercept = intercept
        self.span = parts.span
        self.mean = parts.mean
        if dual and parts.span is not None:
            self.span = None
            self.mean = torch.cat([(rows * parts.mean).sum(1) for rows in doubles(parts.span)])

    def write(self, block: Block, alphas: Floats, columns: Any = None) -> None:
        """Solve for one block of targets, with one penalty for each; `columns` in place of the
        block's own.
        """
        final = self.parts.final
        columns = block.columns if columns is None else columns
        q, _, rest = final.project(block.y, block.cross, self.parts.center)
        q /= final.values[:, None] + as_tensor(alphas).to(q)
        assert final.basis is not None
        solved = final.basis @ q
        if self.span is not None:
            solved = self.span.T @ solved
        elif self.parts.span is None:
            solved /= self.parts.scale.to(q)[:, None]
        origin = block.mean + rest - final.origin @ q
        weighted = zip(torch.split(self.mean, CHUNK), doubles(solved), strict=True)
        intercept = origin - sum(mean @ rows for mean, rows in weighted)
        if block.exponent.any():
            solved = torch.ldexp(solved, block.exponent)
            intercept = torch.ldexp(intercept, block.exponent)
        intercept = intercept.to(q.dtype)
        for target, values, key in (
            (self.coef, solved, (slice(None), columns)),
            (self.intercept, intercept, columns),
        ):
            target[key] = values if isinstance(target, Tensor) else values.cpu().numpy()
            release(target)


def empty(parts: Decomposition, shape: tuple[int, ...], kind: type) -> Any:
    """An array of the precision of the work: a tensor on its device, or NumPy."""
    like = parts.final.values
    return as_kind(
        kind, torch.empty(shape, dtype=like.dtype, device=like.device if kind is Tensor else "cpu")
    )


def as_kind(kind: type, values: Tensor) -> Any:
    return values if kind is Tensor else values.cpu().numpy()
