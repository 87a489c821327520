"""What is done with a block of targets: scores of every penalty, then coefficients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene.ridge.factors import CHUNK, Decomposition, Fold, doubles
from phosphene.ridge.scores import split_pairs, summed_scores
from phosphene.ridge.targets import Targets, as_tensor, block_size, release

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """Some targets: distinct rows (n_distinct, block), centred, their means, and their products with the features."""

    columns: slice
    y: Tensor
    mean: Tensor
    cross: Tensor | None

    def some(self, index: NDArray[np.intp]) -> Block:
        """Only the targets `index` of this block."""
        i = torch.from_numpy(index).to(self.y.device)
        return Block(self.columns, self.y[:, i], self.mean[i], None if self.cross is None else self.cross[:, i])


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

    def __init__(self, parts: Decomposition, targets: Targets, size: int, store: Tensor | None = None) -> None:
        self.parts, self.targets, self.store = parts, targets, store
        self.means: dict[int, Tensor] = {}  # by first column, of blocks that were gone through
        self.size = size or block_size(len(parts.target_rows), len(parts.mean), parts.final.values.itemsize)

    def __iter__(self) -> Iterator[Block]:
        final, center = self.parts.final, self.parts.center
        for columns in self.targets.blocks(self.size):
            mean = self.means.get(columns.start)
            y = self.targets.block(columns, final.values.dtype, final.values.device, known=mean is not None)
            y, first = y[: len(final.weights)], mean is None
            if mean is None:
                mean = final.weights @ y / final.weights.sum() if center else torch.zeros_like(y[0])
                self.means[columns.start] = mean
            y = y - mean
            release(self.targets.values)
            cross = self.parts.cross(y) if first or self.store is None else self.store[:, columns]
            if first and self.store is not None and cross is not None:
                self.store[:, columns] = cross
            yield Block(columns, y, mean, cross)


class Scorer:
    """Sums over `folds` of the scores of blocks of targets; `overwrite` spends the ``products`` of the folds."""

    def __init__(
        self, parts: Decomposition, folds: list[Fold], alphas: Floats, scoring: str, overwrite: bool = True
    ) -> None:
        self.center, self.folds, self.scoring = parts.center, folds, scoring
        self.alphas = as_tensor(alphas).to(parts.final.values)
        least = float(alphas.min())
        self.pairs = [
            None if fold.products is None else split_pairs(fold.factor.values, fold.products, least, overwrite)
            for fold in folds
        ]

    def __call__(self, block: Block) -> Floats:
        return summed_scores(self.folds, self.pairs, block.y, block.cross, self.alphas, self.center, self.scoring)


class Writer:
    """Solves for blocks of targets on all rows and puts coefficients (p, t) and intercepts (t,) where they go.

    With `dual` these are coefficients of the rows ``parts.span``, (n, t).
    """

    def __init__(self, parts: Decomposition, coef: Any, intercept: Any, dual: bool = False) -> None:
        self.parts, self.coef, self.intercept = parts, coef, intercept
        self.span, self.mean = parts.span, parts.mean
        if dual and parts.span is not None:
            self.span, self.mean = None, torch.cat([(rows * parts.mean).sum(1) for rows in doubles(parts.span)])

    def write(self, block: Block, alphas: Floats, columns: Any = None) -> None:
        """Solve for one block of targets, with one penalty for each; `columns` in place of the block's own."""
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
        intercept = (origin - sum(mean @ rows for mean, rows in weighted)).to(q.dtype)
        for target, values, key in ((self.coef, solved, (slice(None), columns)), (self.intercept, intercept, columns)):
            target[key] = values if isinstance(target, Tensor) else values.cpu().numpy()
            release(target)


def empty(parts: Decomposition, shape: tuple[int, ...], kind: type) -> Any:
    """An array of the precision of the work: a tensor on its device, or NumPy."""
    like = parts.final.values
    return as_kind(kind, torch.empty(shape, dtype=like.dtype, device=like.device if kind is Tensor else "cpu"))


def as_kind(kind: type, values: Tensor) -> Any:
    return values if kind is Tensor else values.cpu().numpy()
