"""Whether chunks of stored arrays take about as much memory as the values they hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phosphene.errors import PhospheneError

LARGEST_CHUNK = 1 << 30  # bytes that are decompressed at once
SMALL_CHUNK = 1 << 24  # bytes of a chunk that may be larger than its array
FILTERED = 8  # times: how much larger filters may make values before they are compressed
HEADER = 18  # bytes that hold the size of what is compressed, whatever the format
ZSTD = b"\x28\xb5\x2f\xfd"
GZIP = b"\x1f\x8b"


def check_chunks(
    path: Path, chunks: Sequence[int] | None, shape: Sequence[int], dtype: Any
) -> None:
    """Refuse chunks that take far more memory, decompressed, than the array itself.

    Parameters
    ----------
    path : Path
    chunks : sequence of int, or None
        Shape of one; None where values are not stored in chunks.
    shape : sequence of int
    dtype : dtype
        Of the array.
    """
    if chunks is None:
        return
    size = np.dtype(dtype).itemsize
    chunk = math.prod(chunks) * size
    array = math.prod(shape) * size
    if chunk > LARGEST_CHUNK or chunk > max(SMALL_CHUNK, 4 * array):
        raise PhospheneError(
            f"{path}: its chunks {tuple(chunks)} take {chunk / 1e6:,.0f} MB each, decompressed, "
            f"for an array {tuple(shape)} of {array / 1e6:,.1f} MB; write it again with chunks "
            "that are not larger than it"
        )


def check_compressed(files: Sequence[Path], size: int, compressor: str) -> None:
    """Refuse compressed chunks that announce far more bytes than a chunk has.

    Parameters
    ----------
    files : sequence of Path
        Of chunks, one in each.
    size : int
        Bytes of a chunk.
    compressor : str
        Name of the class that compressed them.
    """
    for path in files:
        announced = _announced(path, compressor.lower())
        if announced > FILTERED * size + SMALL_CHUNK:
            raise PhospheneError(
                f"{path}: holds {announced / 1e6:,.0f} MB, compressed, where a chunk of the array "
                f"has {size / 1e6:,.1f} MB; write or copy the array again"
            )


def _announced(path: Path, compressor: str) -> int:
    """Bytes of a compressed chunk as its format tells them; at least those of the file."""
    stored = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER)
        file.seek(max(0, stored - 4))
        tail = file.read()
    announced = 0
    if "blosc" in compressor and len(head) >= 8:
        announced = int.from_bytes(head[4:8], "little")
    elif head.startswith(ZSTD):
        announced = _content_size(head)
    elif head.startswith(GZIP):
        announced = int.from_bytes(tail, "little")
    return max(stored, announced)


def _content_size(head: bytes) -> int:
    """Bytes that the header of a zstd frame announces (RFC 8878, 3.1.1.1); 0 where it does not."""
    flags = head[4]
    single = bool(flags & 0x20)
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    return int.from_bytes(head[start : start + width], "little") + (256 if width == 2 else 0)
