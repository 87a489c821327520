"""Targets of a regression, read block by block from wherever they are."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from torch import Tensor

from phosphene.errors import PhospheneError

BLOCK_BYTES = 64 * 2**20  # all temporary arrays of one block of targets
LARGEST_BLOCK = 4096


@runtime_checkable
class Columns(Protocol):
    """Anything with a shape (n, t) that gives columns: arrays, memory maps, zarr and HDF5 arrays,
    torch tensors.
    """

    shape: tuple[int, ...]

    def __getitem__(self, key: Any, /) -> Any:
        """Return ``self[:, start:stop]`` as an array (n, stop - start)."""
        ...


@dataclass(frozen=True)
class Repeated:
    """Targets ``values[rows]`` that are not written out: every picture's features once, though it
    was shown often.

    Attributes
    ----------
    values : array-like with columns, (n_distinct, t)
    rows : ndarray of int, (n,)
        Which row of ``values`` each sample has.
    """

    values: Columns
    rows: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (n, t) of the targets as they would be written out."""
        return (len(self.rows), *self.values.shape[1:])


class Targets:
    """Checked targets: ``rows`` (n,) says which distinct row each sample has, :meth:`block` gives
    distinct rows.
    """

    def __init__(self, Y: Any, n: int, groups: NDArray[Any] | None = None) -> None:
        if Y is None:
            raise PhospheneError("RidgeCV requires y to be passed, but the target y is None.")
        values = Y.values if isinstance(Y, Repeated) else Y
        if not isinstance(values, Columns) or len(values.shape) == 1 or hasattr(values, "iloc"):
            values = values.detach() if isinstance(values, Tensor) else real_array(values, "Y")
        elif isinstance(values, np.ndarray):
            values = real_array(values, "Y")
        self.is_vector = len(values.shape) == 1 and not isinstance(Y, Repeated)
        self.values: Any = values[:, None] if self.is_vector else values
        if (
            len(self.values.shape) != 2
            or 0 in values.shape
            or not isinstance(Y, Repeated)
            and values.shape[0] != n
        ):
            raise PhospheneError(
                f"RidgeCV: Y must be ({n}, t) or ({n},), as X has {n} rows, found "
                f"{tuple(values.shape)}."
            )
        self.rows = np.arange(n)
        if isinstance(Y, Repeated):
            self.rows = checked_rows(Y.rows, n, int(values.shape[0]))
        elif groups is not None and self.in_memory:
            self._find_repeats(groups)

    def _find_repeats(self, groups: NDArray[Any]) -> None:
        """Keep one row per group when all rows of every group are equal (only for targets that are
        in memory).
        """
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        if len(first) == len(groups):
            return
        step = max(1, 2**24 // len(groups))
        for start in range(0, self.values.shape[1], step):
            some = self.values[:, start : start + step]
            if not bool((some == some[first][inverse]).all()):
                return
        self.values = self.values[first]
        self.rows = inverse

    @property
    def n_targets(self) -> int:
        """Number of targets t."""
        return int(self.values.shape[1])

    @property
    def in_memory(self) -> bool:
        """Whether targets can be read again for nothing."""
        return isinstance(self.values, (np.ndarray, Tensor)) and not isinstance(
            self.values, np.memmap
        )

    def blocks(self, size: int) -> Iterator[slice]:
        """Cut the targets into blocks of `size` columns, or of whole chunks for arrays that are
        stored in chunks.
        """
        chunks = getattr(self.values, "chunks", None)
        if chunks and size < self.n_targets:
            size = max(1, size // chunks[1]) * chunks[1]
        for start in range(0, self.n_targets, size):
            yield slice(start, min(start + size, self.n_targets))

    def block(
        self, columns: slice, dtype: torch.dtype, device: torch.device, known: bool = False
    ) -> Tensor:
        """Read some columns of the distinct rows: (n_distinct, block), refused when not finite
        (`known` says so).
        """
        values = as_tensor(self.values[:, columns]).to(device=device, dtype=dtype)
        if not known and not bool(torch.isfinite(values).all()):
            where = f"columns {columns.start} to {columns.stop - 1} of Y"
            raise PhospheneError(
                f"RidgeCV: {where} hold NaN or infinite values; drop or fill them before fitting."
            )
        return values


def release(array: Any) -> None:
    """Let go of the pages of a memory map that were read or written; the file, or its cache, keeps
    them.

    Otherwise all of a file counts as memory of this process once it was gone through.
    """
    # changes to a private copy are in no file
    if isinstance(array, np.memmap) and array.mode != "c":
        base: Any = array.base
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


def checked_rows(rows: ArrayLike, n: int, n_distinct: int | None = None) -> NDArray[np.intp]:
    """Check which distinct row of the targets each of `n` samples has."""
    found = np.asarray(rows)
    fits = found.shape == (n,) and found.dtype.kind in "iu" and found.min() >= 0
    if not fits or (n_distinct is not None and found.max() >= n_distinct):
        last = "" if n_distinct is None else f" to {n_distinct - 1}"
        raise PhospheneError(
            f"RidgeCV: rows must be {n} row numbers, one for each row of X, from 0{last}."
        )
    return found.astype(np.intp)


def block_size(n: int, n_features: int, itemsize: int) -> int:
    """Targets worked on at a time, so that the temporary arrays of a block stay within
    `BLOCK_BYTES`.
    """
    return int(np.clip(BLOCK_BYTES // (itemsize * (2 * n + 4 * n_features)), 1, LARGEST_BLOCK))


def real_array(values: Any, name: str) -> NDArray[Any]:
    """Convert to an array of real numbers, without a copy where that is possible.

    Masked entries become NaN, which is refused later: np.asarray would pass on what a mask hides.
    Truth values become 0 and 1, Python numbers in an array of objects what they are.
    """
    array: NDArray[Any] = np.asanyarray(values)
    if isinstance(array, np.ma.MaskedArray):
        array = np.ma.filled(array.astype(np.float64), np.nan)
    if not isinstance(array, np.memmap):  # which is read block by block
        array = np.asarray(array)
    if array.dtype.kind == "c":
        raise PhospheneError(f"RidgeCV: Complex data not supported; give {name} as real numbers.")
    if array.dtype.kind in "Ob":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            pass
    if array.dtype.kind not in "fiu":
        raise PhospheneError(f"RidgeCV: {name} must hold real numbers, found {array.dtype}.")
    return array


def as_tensor(values: Any) -> Tensor:
    """View an array as a tensor, without a copy where that is possible; without its gradient."""
    if isinstance(values, Tensor):
        return values.detach()
    array = np.asarray(values)
    if (
        not array.flags.writeable
        or not array.dtype.isnative
        or any(step < 0 for step in array.strides)
    ):
        array = np.array(array, dtype=array.dtype.newbyteorder("="))  # torch takes neither
    return torch.from_numpy(array)


def checked_features(X: ArrayLike | Tensor) -> Tensor:
    """Check features and view them as a tensor (n, p)."""
    if sparse.issparse(X):
        raise PhospheneError(
            "RidgeCV: X is a sparse matrix, expected a dense array; use X.toarray()."
        )
    if not isinstance(X, Tensor):
        X = real_array(X, "X")
    if X.ndim != 2:
        raise PhospheneError(
            f"RidgeCV: X must be (n, p), found {tuple(X.shape)}; Reshape your data."
        )
    for axis, what in enumerate(("sample", "feature")):
        if not X.shape[axis]:
            raise PhospheneError(
                f"RidgeCV: found 0 {what}(s) (shape={tuple(X.shape)}) while a minimum of 1 is "
                "required."
            )
    features = as_tensor(X)
    for start in range(0, len(features), 1024):  # in blocks: no mask as large as the data
        if not bool(torch.isfinite(features[start : start + 1024]).all()):
            raise PhospheneError(
                "RidgeCV: X holds NaN or infinite values; drop or fill them before fitting."
            )
    return features


def working_dtype(X: Tensor, targets: Targets) -> torch.dtype:
    """Choose the precision of the work: float32 when neither side has more, else float64."""
    both = torch.promote_types(X.dtype, as_tensor(targets.values[:1, :1]).dtype)
    return torch.float32 if both.is_floating_point and both != torch.float64 else torch.float64
