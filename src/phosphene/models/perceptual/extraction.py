"""Pictures in, features out: through networks in batches of one size, kept on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.models.perceptual import networks
from phosphene.models.perceptual.cache import Shelf
from phosphene.models.perceptual.spaces import Space
from phosphene.models.perceptual.stamps import BATCH, facts, missing, stamp
from phosphene.models.preparing import Pictures, Preparation, digest, picture_at, prepare


def features(
    pictures: Pictures,
    spaces: Sequence[Space],
    *,
    weights: Path | None = None,
    cache: Path | None = None,
    device: str = "cpu",
) -> dict[Space, NDArray[Any]]:
    """Features of pictures in several perceptual spaces.

    Parameters
    ----------
    pictures : Pictures
        n pictures, uint8 or float32 from 0 to 1, (height, width, 3) each; read once, one at a time.
    spaces : sequence of Space
        Layers of one network for pictures prepared in the same way share one pass.
    weights : Path, optional
        Folder of weights, looked at before ``PHOSPHENE_WEIGHTS`` and the caches of torch hub and
        Hugging Face.
    cache : Path, optional
        Folder in which features are kept, to be found again by the pixels of a picture.
    device : str
        Where networks run, as torch names it. What was made on a GPU is kept apart from what was
        made on the CPU.

    Returns
    -------
    dict of Space to ndarray, (n, n_features)
        float16; float32 where a number is too large for that. Rounded so even when they are fresh,
        so that fresh and kept features are the same bits.

    Raises
    ------
    PhospheneError
        When weights are missing or damaged, or a picture is none.
    """
    for space in spaces:
        if reason := missing(space, weights):
            raise PhospheneError(reason)
    passes = [_Pass(members, len(pictures), weights, cache, device) for members in _grouped(spaces)]
    for index in range(len(pictures) if passes else 0):
        picture = picture_at(pictures, index)
        key = digest(picture) if cache is not None else ""
        for one in passes:
            if not one.recall(index, key):
                one.add(index, key, prepare(picture, one.preparation))
    found: dict[Space, NDArray[Any]] = {}
    for one in passes:
        found |= one.finish()
    return {space: found[space] for space in spaces}


def _grouped(spaces: Sequence[Space]) -> list[list[Space]]:
    """Spaces that share a network and a preparation."""
    groups: dict[tuple[str, Preparation], list[Space]] = {}
    for space in dict.fromkeys(spaces):
        groups.setdefault((space.network, space.preparation), []).append(space)
    return list(groups.values())


class _Pass:
    """One network for pictures prepared in one way: fills batches, takes all wanted layers,
    collects rows.
    """

    def __init__(
        self,
        spaces: Sequence[Space],
        n_pictures: int,
        weights: Path | None,
        cache: Path | None,
        device: str,
    ) -> None:
        self.network = spaces[0].network
        self.preparation = spaces[0].preparation
        self._spaces = list(spaces)
        self._weights = weights
        self._device = device
        self._rows = {space: _Rows(n_pictures) for space in spaces}
        self._waiting: list[tuple[int, str, Tensor]] = []
        self._shelves: dict[Space, Shelf] = {}
        if cache is not None:
            kind = torch.device(device).type
            for space in spaces:
                folder = cache / (stamp(space, weights) + ("" if kind == "cpu" else f"-{kind}"))
                self._shelves[space] = Shelf(folder, facts(space, weights) | {"device": kind})

    def recall(self, index: int, key: str) -> bool:
        """Take a picture's rows from the cache; False when any is not there."""
        rows = {space: shelf.get(key) for space, shelf in self._shelves.items()}
        if not rows or any(row is None for row in rows.values()):
            return False
        for space, row in rows.items():
            self._rows[space].put(index, np.asarray(row))
        return True

    def add(self, index: int, key: str, prepared: Tensor) -> None:
        """Let a prepared picture wait for its batch."""
        self._waiting.append((index, key, prepared))
        if len(self._waiting) == BATCH:
            self._run()

    def finish(self) -> dict[Space, NDArray[Any]]:
        """Run what still waits and hand over all features."""
        if self._waiting:
            self._run()
        for shelf in self._shelves.values():
            shelf.close()
        return {space: rows.array for space, rows in self._rows.items()}

    def _run(self) -> None:
        tensors = [prepared for _, _, prepared in self._waiting]
        batch = torch.stack(tensors + tensors[-1:] * (BATCH - len(tensors))).to(self._device)
        values = self._activations(batch)
        for space in self._spaces:
            for (index, key, _), row in zip(self._waiting, values[space.layer], strict=False):
                rounded = _rounded(row)
                self._rows[space].put(index, rounded)
                if space in self._shelves:
                    self._shelves[space].put(key, rounded)
        self._waiting = []

    def _activations(self, batch: Tensor) -> Mapping[str, NDArray[np.float32]]:
        layers = list(dict.fromkeys(space.layer for space in self._spaces))
        with torch.inference_mode(), _exact():
            if self.network == "formula":
                return networks.computed(layers, batch)
            model = networks.network(self.network, self._weights, self._device)
            return networks.activations(model, self.network, layers, batch)


def _exact() -> Any:
    """Convolutions on a GPU in full float32, and the same ones every time."""
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )


def _rounded(row: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
    """Round to float16; a row that does not fit stays float32."""
    with np.errstate(over="ignore"):
        half = row.astype(np.float16)
    return half if np.array_equal(np.isfinite(half), np.isfinite(row)) else row


class _Rows:
    """An array (n, n_features) filled row by row; float16 until a row needs float32."""

    def __init__(self, n: int) -> None:
        self._n = n
        self.array: NDArray[Any] = np.empty((n, 0), np.float16)

    def put(self, index: int, row: NDArray[np.floating[Any]]) -> None:
        if not self.array.size:
            self.array = np.empty((self._n, len(row)), row.dtype)
        if row.dtype == np.float32 and self.array.dtype == np.float16:
            self.array = self.array.astype(np.float32)
        self.array[index] = row
