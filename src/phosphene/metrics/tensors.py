"""Pictures in a ``.pt`` file: one tensor, mapped into memory, read without running code."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import PhospheneError
from phosphene.models import tensor_files

if TYPE_CHECKING:
    import torch

SHOWN = 5  # names in a message
# how far floats may leave 0 to 1 (rounding of resizers); beyond, the scale is another one
TOLERANCE = 1e-3
DARK = 1.01 / 255  # the largest value of pictures from 0 to 1 that were divided by 255 again


class Tensors(Sequence[NDArray[Any]]):
    """The pictures (n, 3, h, w) of a tensor as arrays (h, w, 3): uint8, or float32 from 0 to 1."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Tensors(self.tensor[index])
        picture = self.tensor[int(index)].permute(1, 2, 0)
        if picture.is_floating_point():
            picture = picture.float().clamp(0, 1)
        return np.ascontiguousarray(picture.numpy())


def load(path: Path) -> list[Tensors]:
    """Open a ``.pt`` file of one tensor (n, 3, h, w) or (n, n_samples, 3, h, w); one sequence per
    sample.

    Raises
    ------
    PhospheneError
        Where it holds more than a tensor, or one that is no pictures: shape, type, NaN, or a range
        other than 0 to 1.
    """
    tensor = _loaded(path)
    if tensor.ndim not in (4, 5) or tensor.shape[-3] != 3 or 0 in tensor.shape:
        hint = (
            "; its channels are last, permute them"
            if tensor.ndim in (4, 5) and tensor.shape[-1] == 3
            else ""
        )
        raise PhospheneError(
            f"{path}: found a tensor of shape {tuple(tensor.shape)}, expected (n, 3, height, "
            "width) or "
            f"(n, n_samples, 3, height, width){hint}"
        )
    _check_values(path, tensor)
    samples = [tensor] if tensor.ndim == 4 else list(tensor.unbind(1))
    return [Tensors(sample) for sample in samples]


def dark_notes(path: Path, samples: Sequence[Tensors]) -> list[str]:
    """Note pictures that were divided by 255 once too often: their range is allowed, and they are
    all but black.
    """
    if not samples[0].tensor.is_floating_point():
        return []
    most = max(float(sample.tensor.max()) for sample in samples)
    if most > DARK:
        return []
    return [
        f"{path}: the largest value of all pictures is {most:.4g}, so they are all but black; "
        "expected 0 to 1, perhaps they were divided by 255 twice"
    ]


def _loaded(path: Path) -> torch.Tensor:
    """The one tensor of a file; never runs code that the file brings along."""
    import torch

    try:
        found = tensor_files.read(path)
    except PhospheneError:
        raise
    except pickle.UnpicklingError:
        raise PhospheneError(
            f"{path}: holds more than tensors and is not opened, because such files can run code; "
            "save the pictures "
            "alone, as torch.save(pictures, ...)"
        ) from None
    except (RuntimeError, ValueError, OSError, EOFError, LookupError, TypeError) as error:
        raise PhospheneError(
            f"{path}: cannot be read as a .pt file ({' '.join(str(error).split())[:120]})"
        ) from None
    tensors = (
        {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}
        if isinstance(found, dict)
        else {}
    )
    if len(tensors) == 1:
        found = next(iter(tensors.values()))
    if not isinstance(found, torch.Tensor):
        what = f"tensors {first([str(k) for k in tensors])}" if tensors else type(found).__name__
        raise PhospheneError(f"{path}: found {what}, expected one tensor of pictures")
    if found.layout != torch.strided or (
        not found.is_floating_point() and found.dtype != torch.uint8
    ):
        raise PhospheneError(
            f"{path}: found a tensor of type {str(found.dtype).removeprefix('torch.')}, expected "
            "uint8, or float "
            "from 0 to 1"
        )
    return found.detach()


def _check_values(path: Path, tensor: torch.Tensor) -> None:
    if not tensor.is_floating_point():
        return
    undefined = []
    beyond = []
    low = np.inf
    high = -np.inf
    for k, picture in enumerate(tensor):
        ends = picture.aminmax()
        least = float(ends.min)
        most = float(ends.max)
        if not (np.isfinite(least) and np.isfinite(most)):
            undefined.append(str(k))
        elif least < -TOLERANCE or most > 1 + TOLERANCE:
            beyond.append(str(k))
            low = min(low, least)
            high = max(high, most)
    if undefined:
        raise PhospheneError(
            f"{path}: {len(undefined)} of {len(tensor)} pictures hold NaN or infinite values "
            f"({first(undefined)}); "
            "mend or remove them"
        )
    if beyond:
        raise PhospheneError(
            f"{path}: {len(beyond)} of {len(tensor)} pictures leave the range from 0 to 1 "
            f"({first(beyond)}; found "
            f"{low:.4g} to {high:.4g}); scale them to 0 to 1"
        )


def first(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
