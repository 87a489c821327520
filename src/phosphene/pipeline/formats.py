"""Tables and chunks of arrays as the bytes of files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Where = slice | tuple[slice, ...]


def parquet(frame: Any) -> bytes:
    """A DataFrame as the bytes of a parquet file."""
    data: bytes = frame.to_parquet()
    return data


def chunks(metadata: Path, where: Where, values: ArrayLike) -> dict[str, bytes]:
    """Chunk key -> bytes, encoded by zarr in memory so that no half-written chunk ever has a final
    name.
    """
    import numpy as np
    import zarr
    from zarr.buffer.cpu import Buffer
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {"zarr.json": Buffer.from_bytes(metadata.read_bytes())}
    array = zarr.open_array(MemoryStore(files), mode="r+").with_config({"write_empty_chunks": True})
    where = where if isinstance(where, tuple) else (where,)
    where += (slice(None),) * (array.ndim - len(where))
    bounds = [w.indices(length) for w, length in zip(where, array.shape, strict=True)]
    for (low, high, step), length, chunk in zip(bounds, array.shape, array.chunks, strict=True):
        if step != 1 or low % chunk or (high % chunk and high != length):
            raise ValueError(
                f"{metadata.parent}: {low}:{high}:{step} is not made of whole chunks of {chunk}"
            )
    values = np.asarray(values)
    if values.shape != tuple(high - low for low, high, _ in bounds):
        raise ValueError(
            f"{metadata.parent}: values of shape {values.shape} do not fit the selection {where}"
        )
    array[where] = values
    return {key: data.to_bytes() for key, data in files.items() if key != "zarr.json"}
