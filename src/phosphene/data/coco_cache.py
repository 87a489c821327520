"""COCO's annotations as small parquet files, made once per file and shared by processes."""

from __future__ import annotations

import json
import logging
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import ijson
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phosphene import disk
from phosphene.data.opening import open_file
from phosphene.errors import PhospheneError

VERSION = 1  # of the cache files
GROUP = 128  # images in a row group of a cache file, the least that is read for one semantic map
THING = [
    ("id", pa.int64()),
    ("name", pa.string()),
    *((key, pa.float64()) for key in ("area", "x", "y", "w", "h")),
]
SCHEMAS = {
    "captions": pa.schema({"image": pa.int64(), "captions": pa.list_(pa.string())}),
    "instances": pa.schema(
        {
            **dict.fromkeys(("image", "width", "height"), pa.int64()),
            "things": pa.list_(pa.struct(THING)),
            # COCO's "segmentation" of every thing, still as JSON
            "outlines": pa.list_(pa.string()),
        }
    ),
}
# what reading damaged parquet raises
DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    MemoryError,
    pa.ArrowException,
)
DEEPEST = 100  # levels of brackets; COCO has 6
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
UNPACK = "unpack COCO's annotations_trainval2017.zip there"
_log = logging.getLogger("phosphene")


@dataclass(frozen=True)
class Table:
    """An open cache file: one row per picture; `content` holds all columns but the large one, the
    outlines.
    """

    file: pq.ParquetFile
    content: pa.Table
    rows: dict[int, int]

    def outlines(self, row: int) -> list[str]:
        """Read the row group that holds a row."""
        group = self.file.read_row_group(row // GROUP, columns=["outlines"])
        return list(group["outlines"][row % GROUP].as_py())


def schema_of(name: str) -> pa.Schema:
    """Columns of the cache of a JSON file."""
    return SCHEMAS[name.split("_")[0]]


def load(source: Path | BytesIO, schema: pa.Schema) -> Table:
    """Open a cache file."""
    file = pq.ParquetFile(source, page_checksum_verification=True)
    if file.schema_arrow != schema:
        raise pa.ArrowInvalid("not the columns of a cache file")
    content = file.read(columns=[name for name in schema.names if name != "outlines"])
    return Table(
        file, content, {image: row for row, image in enumerate(content["image"].to_pylist())}
    )


def packed(rows: list[dict[str, Any]], schema: pa.Schema) -> BytesIO:
    """Content of a cache file, with a checksum for every page."""
    content = BytesIO()
    with pq.ParquetWriter(content, schema, compression="zstd", write_page_checksum=True) as writer:
        for start in range(0, len(rows), GROUP):
            writer.write_table(pa.Table.from_pylist(rows[start : start + GROUP], schema=schema))
    return content


def save(content: BytesIO, target: Path) -> None:
    """Write a cache file, whole or not at all; say so where that is impossible."""
    half = target.with_name(
        f"{socket.gethostname()}+{os.getpid()}+{uuid.uuid4().hex}+{target.name}"
    )
    try:
        half.parent.mkdir(parents=True, exist_ok=True)
        disk.sweep(half.parent)
        half.write_bytes(content.getbuffer())
        disk.move(half, target)
    except OSError as error:
        _log.warning(
            "%s: could not be written (%s); COCO's annotations will be parsed every time",
            target,
            error,
        )
        with suppress(OSError):
            half.unlink()


def parse_captions(path: Path) -> list[dict[str, Any]]:
    """Rows of the schema, sorted by image."""
    found: dict[int, list[str]] = {}
    with _told(path):
        for entry in _stream(path, "annotations"):
            found.setdefault(int(entry["image_id"]), []).append(entry["caption"].strip())
    return [{"image": image, "captions": found[image]} for image in sorted(found)]


def parse_instances(path: Path) -> list[dict[str, Any]]:
    """Rows of the schema, sorted by image."""
    with _told(path):
        names = {int(entry["id"]): str(entry["name"]) for entry in _stream(path, "categories")}
        found: dict[int, dict[str, Any]] = {}
        for entry in _stream(path, "images"):
            size = {"width": int(entry["width"]), "height": int(entry["height"])}
            found[int(entry["id"])] = {
                "image": int(entry["id"]),
                **size,
                "things": [],
                "outlines": [],
            }
        for entry in _stream(path, "annotations"):
            picture = found[entry["image_id"]]
            category = int(entry["category_id"])
            x, y, w, h = map(float, entry["bbox"])
            picture["things"].append((category, names[category], float(entry["area"]), x, y, w, h))
            picture["outlines"].append(json.dumps(entry["segmentation"], separators=(",", ":")))
    return [found[image] for image in sorted(found)]


def _stream(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """Entries of one list of a COCO file, without holding the others."""
    with open_file(path) as file:
        empty = True
        shallow = _Shallow(file)
        for entry in ijson.items(shallow, f"{key}.item", use_float=True, buf_size=1 << 20):
            yield entry
            empty = False
    if empty:
        raise KeyError(key)


class _Shallow:
    """A JSON file whose nesting is counted while it is read: the parser keeps the whole path to
    every level, so that a few megabytes of brackets would take gigabytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._level = 0
        self._in_text = False
        self._rest = b""  # backslashes, whose meaning depends on what follows

    def read(self, size: int = -1) -> bytes:
        """Read some bytes, and refuse brackets inside brackets beyond `DEEPEST`."""
        block = self._file.read(size)
        self._count(block)
        return block

    def _count(self, block: bytes) -> None:
        text = self._rest + block
        ending = text[len(text.rstrip(b"\\")) :] if block else b""
        self._rest = ending
        text = text[: len(text) - len(ending)].replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = text.split(b'"')
        brackets = b"".join(parts[self._in_text :: 2]).translate(None, NO_BRACKETS)
        self._in_text ^= not len(parts) % 2
        if brackets:
            signs = np.frombuffer(brackets, np.uint8)
            steps = np.where((signs == ord("[")) | (signs == ord("{")), 1, -1)
            levels = self._level + np.cumsum(steps)
            self._level = int(levels[-1])
            if levels.max() > DEEPEST:
                raise ValueError(f"it is nested more than {DEEPEST} levels deep")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say in one sentence what is wrong with a JSON file."""
    try:
        yield
    except PhospheneError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ijson.JSONError) as error:
        reason = str(error).partition("\n")[0]  # the parser's next lines show the place
        raise PhospheneError(
            f"{path}: could not be read as COCO annotations ({type(error).__name__}: {reason}); "
            f"{UNPACK} again"
        ) from error
