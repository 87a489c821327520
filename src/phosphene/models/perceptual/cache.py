"""Features kept on disk, found again by what a picture holds.

One folder per stamp (network, weights, layer, preparation, versions), in it safetensors files of
some pictures each. A row's name is the digest of its picture, so a picture is found whatever its
file's name or place, and two processes at once write the same rows at worst. Files appear whole or
not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene import disk
from phosphene.errors import PhospheneError

PICTURES_PER_FILE = 64
# read files kept in memory: pictures are mostly asked for in the order in which they were written
FILES_HELD = 4
Row = NDArray[np.floating[Any]]


class Shelf:
    """Rows of one feature space, by digest of picture.

    Parameters
    ----------
    folder : Path
    facts : mapping of str to str
        Written into every file, for people.
    """

    def __init__(self, folder: Path, facts: Mapping[str, str]) -> None:
        self.folder = folder
        self.facts = dict(facts)
        self._files: dict[str, Path] = {}
        self._held: OrderedDict[Path, dict[str, Row]] = OrderedDict()
        self._new: dict[str, Row] = {}
        disk.sweep(folder)
        for path in disk.list_files(folder, "*.safetensors"):
            self._files.update(dict.fromkeys(self._names(path), path))

    def __contains__(self, digest: str) -> bool:
        return digest in self._new or digest in self._files

    def get(self, digest: str) -> Row | None:
        """Read the row of a picture, None when there is none or its file is damaged."""
        if digest in self._new:
            return self._new[digest]
        path = self._files.get(digest)
        if path is None:
            return None
        if path not in self._held:
            self._held[path] = self._rows(path)
            if len(self._held) > FILES_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(path)
        return self._held[path].get(digest)

    def put(self, digest: str, row: Row) -> None:
        """Keep a row; written when a file is full, or by :meth:`close`."""
        if digest in self:
            return
        self._new[digest] = row.copy()
        if len(self._new) >= PICTURES_PER_FILE:
            self.close()

    def close(self) -> None:
        """Write what is not yet on disk."""
        if not self._new:
            return
        from safetensors.numpy import save

        rows = dict(sorted(self._new.items()))
        name = hashlib.blake2b("".join(rows).encode(), digest_size=16).hexdigest()
        data = _sorted_header(save(rows, metadata={**self.facts, "checksum": _checksum(rows)}))
        target = self.folder / f"{name}.safetensors"
        aside = self.folder / f"{socket.gethostname()}+{os.getpid()}+{uuid.uuid4().hex}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            disk.move(aside, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise PhospheneError(
                f"{self.folder}: features cannot be written ({error.strerror}); make room, or "
                "name another cache."
            ) from None
        self._files.update(dict.fromkeys(rows, target))
        self._new = {}

    def _names(self, path: Path) -> list[str]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                return list(file.keys())
        except (SafetensorError, OSError) as error:
            self._report(path, str(error))
            return []

    def _rows(self, path: Path) -> dict[str, Row]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                rows = {name: file.get_tensor(name) for name in sorted(file.keys())}
                said = (file.metadata() or {}).get("checksum")
            if said == _checksum(rows):
                return rows
            self._report(path, "its contents have changed since they were written")
        except (SafetensorError, OSError) as error:
            self._report(path, str(error))
        self._files = {name: other for name, other in self._files.items() if other != path}
        return {}

    def _report(self, path: Path, why: str) -> None:
        warnings.warn(
            f"{path}: damaged ({why.splitlines()[0]}); removed, its features are made again",
            stacklevel=2,
        )
        with contextlib.suppress(OSError):  # not ours to remove: it stays ignored
            path.unlink(missing_ok=True)


def _sorted_header(data: bytes) -> bytes:
    """A safetensors file whose metadata are sorted: safetensors writes them in random order, so
    that equal contents would give different files.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + data[end:]


def _checksum(rows: Mapping[str, Row]) -> str:
    said = hashlib.blake2b(digest_size=16)
    for name, row in rows.items():
        said.update(f"{name} {row.dtype} {row.shape}".encode())
        said.update(row.tobytes())
    return said.hexdigest()
