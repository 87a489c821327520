"""COCO's annotations of the pictures of the Natural Scenes Dataset: captions, categories, semantic
maps.

The JSON files are large (``instances_train2017.json``: about 450 MB), so each is parsed once, as a
stream, and kept as parquet in a cache folder. The name of a cache file holds a fingerprint of the
JSON; a damaged one is made again.
"""

from __future__ import annotations

import json
import logging
import os
import re
from functools import lru_cache
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from phosphene import disk
from phosphene.data.coco_cache import (
    DAMAGED,
    UNPACK,
    VERSION,
    Table,
    load,
    packed,
    parse_captions,
    parse_instances,
    save,
    schema_of,
)
from phosphene.errors import PhospheneError

Crop = tuple[float, float, float, float]
"""NSD's cropBox: fractions of the picture's height or width cut off at top, bottom, left, right."""

# kind of JSON file that is read for each of the three
SPLITS = ("train2017", "val2017")
ANNOTATIONS = {"captions": "captions", "categories": "instances", "segmentation": "instances"}
BACKGROUND = (40, 40, 40)
N_COLOURS = 255  # COCO's category ids end at 90, those of its stuff at 182

_log = logging.getLogger("phosphene")


@lru_cache
def _palette() -> list[tuple[int, int, int]]:
    """The background, then again and again the RGB colour that is farthest in CIELAB from all
    before it.
    """
    from skimage.color import rgb2lab  # slow to import

    steps = np.linspace(0, 255, 9).round()
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    grid = grid[rgb2lab(grid / 255)[:, 0] > 35]  # nothing as dark as the background
    lab = rgb2lab(grid / 255)
    chosen = [BACKGROUND]
    distance = np.linalg.norm(lab - rgb2lab(np.array(BACKGROUND) / 255), axis=1)
    while len(chosen) <= N_COLOURS:
        best = int(distance.round(6).argmax())
        red, green, blue = grid[best].astype(int).tolist()
        chosen.append((red, green, blue))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=1))
    return chosen


def colour(category: int) -> tuple[int, int, int]:
    """Return the RGB colour of a COCO category id in semantic maps; 0 is the background."""
    return _palette()[(category - 1) % N_COLOURS + 1 if category else 0]


class Coco:
    """What COCO says about its pictures.

    Parameters
    ----------
    folder : path
        Holds ``captions_{train,val}2017.json`` and ``instances_{train,val}2017.json``; each is
        needed only when a picture of its split is asked for.
    cache : path, optional
        Where the parsed files are kept; by default ``phosphene/coco`` in ``$XDG_CACHE_HOME`` or
        ``~/.cache``. Several processes may use it at once. When it cannot be written, files are
        parsed again by every process.

    Raises
    ------
    PhospheneError
        By every method: when a file is missing or damaged, or says nothing about the picture.

    References
    ----------
    Lin et al. (2014), Microsoft COCO: Common objects in context, ECCV. Format: cocodataset.org,
    "Data format".
    """

    def __init__(self, folder: str | Path, cache: str | Path | None = None) -> None:
        self.folder = disk.expand_home(folder)
        self.cache = disk.expand_home(cache) if cache else disk.cache_folder() / "coco"
        self._tables: dict[str, Table] = {}

    def captions(self, coco_id: int, split: str) -> list[str]:
        """Return the captions of one picture of a split ("train2017" or "val2017"), in the order of
        the file.
        """
        table, row = self._find(f"captions_{split}", coco_id)
        return list(table.content["captions"][row].as_py())

    def categories(self, coco_id: int, split: str, crop: Crop = (0, 0, 0, 0)) -> list[str]:
        """Return the categories of one picture, largest thing first; things whose box is cut off do
        not count.
        """
        picture = self._picture(f"instances_{split}", coco_id)
        top, bottom, left, right = _window(crop, picture["height"], picture["width"])
        seen = [
            thing["name"]
            for thing in sorted(picture["things"], key=lambda thing: -thing["area"])
            if min(thing["x"] + thing["w"], right) > max(thing["x"], left)
            if min(thing["y"] + thing["h"], bottom) > max(thing["y"], top)
        ]
        return list(dict.fromkeys(seen))

    def labels(self, coco_id: int, split: str, crop: Crop, side: int) -> NDArray[np.int32]:
        """Return the semantic map of one picture as COCO's category ids.

        Parameters
        ----------
        coco_id : int
        split : {"train2017", "val2017"}
        crop : tuple of float
            NSD's cropBox.
        side : int
            Side of the map in pixels; the crop is resized to it by nearest neighbour.

        Returns
        -------
        ndarray of int32, shape (side, side)
            0 where there is no thing. Where things overlap, the one with the smaller area is seen.
        """
        name = f"instances_{split}"
        picture = self._picture(name, coco_id)
        height = picture["height"]
        width = picture["width"]
        top, bottom, left, right = _window(crop, height, width)
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise PhospheneError(
                f"{self.folder}: the crop {crop} of COCO image {coco_id} leaves nothing of its "
                f"{width} x {height} "
                "pixels; expected fractions cut off at top, bottom, left and right, as in NSD's "
                "cropBox"
            )
        labels = np.zeros((height, width), np.int32)
        things = zip(picture["things"], self._outlines(name, coco_id), strict=True)
        for thing, outline in sorted(things, key=lambda pair: -pair[0]["area"]):
            try:
                labels[_mask(json.loads(outline), height, width)] = thing["id"]
            except (ValueError, LookupError, TypeError, OverflowError) as error:
                raise PhospheneError(
                    f"{self.folder / name}.json: the segmentation of a {thing['name']} in image "
                    f"{coco_id} is neither "
                    f"polygons nor run lengths ({error}); {UNPACK} again"
                ) from error
        rows, columns = (
            first + ((np.arange(side) + 0.5) * (last - first) / side).astype(int)
            for first, last in ((top, bottom), (left, right))
        )
        return np.asarray(labels[np.ix_(rows, columns)])

    def segmentation(self, coco_id: int, split: str, crop: Crop, side: int) -> NDArray[np.uint8]:
        """Return the semantic map of one picture (see :meth:`labels`) as a picture, shape (side,
        side, 3).

        Every category has its :func:`colour`, in all pictures the same; the background is dark
        grey.
        """
        labels = self.labels(coco_id, split, crop, side)
        ids, places = np.unique(labels, return_inverse=True)
        colours = np.array([colour(category) for category in ids], np.uint8)
        return np.asarray(colours[places.reshape(labels.shape)])

    # ---- files
    # ----------------------------------------------------------------------------------------------

    def _find(self, name: str, coco_id: int) -> tuple[Table, int]:
        """Table of one JSON file and the row of a picture in it."""
        if name not in self._tables:
            _, cached = self._paths(name)
            try:
                self._tables[name] = load(cached, schema_of(name))
            except DAMAGED:  # or not there yet
                self._make(name)
        table = self._tables[name]
        if coco_id not in table.rows:
            raise PhospheneError(
                f"{self._paths(name)[0]}: nothing about COCO image {coco_id}; {UNPACK}"
            )
        return table, table.rows[coco_id]

    def _paths(self, name: str) -> tuple[Path, Path]:
        """A JSON file and its cache file."""
        split = name.partition("_")[2]
        if split not in SPLITS:  # it is part of the files' names
            raise PhospheneError(
                f"COCO has no split {split!r}; expected {' or '.join(map(repr, SPLITS))}"
            )
        source = self.folder / f"{name}.json"
        if not (disk.exists(source) and os.access(source, os.R_OK)):
            raise PhospheneError(f"{source}: no such file that can be read; {UNPACK}")
        mark = disk.fingerprint(f"coco {VERSION}", self.folder, [source])
        return source, self.cache / f"{name}-{mark}.parquet"

    def _make(self, name: str) -> Table:
        """Parse a JSON file and cache it, whatever is in the cache."""
        source, cached = self._paths(name)
        _log.info("%s: parsed once, kept as %s", source, cached)
        rows = parse_captions(source) if name.startswith("captions") else parse_instances(source)
        content = packed(rows, schema_of(name))
        save(content, cached)
        # not the file, which another process may remove
        self._tables[name] = load(content, schema_of(name))
        return self._tables[name]

    def _picture(self, name: str, coco_id: int) -> dict[str, Any]:
        """Width and height of a picture, and its things."""
        table, row = self._find(name, coco_id)
        picture: dict[str, Any] = table.content.slice(row, 1).to_pylist()[0]
        return picture

    def _outlines(self, name: str, coco_id: int) -> list[str]:
        """Segmentations of the things in a picture, as JSON."""
        table, row = self._find(name, coco_id)
        try:
            return table.outlines(row)
        except DAMAGED:
            return self._make(name).outlines(row)


def _window(crop: Crop, height: int, width: int) -> tuple[int, int, int, int]:
    """First and last row and column (exclusive) in pixels that a crop leaves: top, bottom, left,
    right.
    """
    top, bottom, left, right = crop
    return (
        round(top * height),
        height - round(bottom * height),
        round(left * width),
        width - round(right * width),
    )


def _mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Pixels inside polygons, run lengths or compressed run lengths, shape (height, width)."""
    # what pycocotools does not check itself is checked here: it crashes on coordinates far outside
    # of the picture, reads on where a string breaks off, and leaves memory as it was where the runs
    # end early
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return np.zeros((height, width), bool)
        if max(abs(value) for polygon in polygons for value in polygon) > 10 * max(height, width):
            raise ValueError("a polygon far outside of the picture")
        return np.asarray(rle.decode(rle.merge(rle.frPyObjects(polygons, height, width))), bool)
    counts = segmentation["counts"]
    code = segmentation
    filled = segmentation["size"] == [height, width]
    if isinstance(counts, str):
        # the last character says that none follows
        filled = filled and bool(re.fullmatch("[0-o]*[0-O]", counts))
    else:
        filled = filled and sum(map(index, counts)) == height * width
        code = rle.frPyObjects(segmentation, height, width)
    mask = rle.decode(code) if filled else None
    if mask is None or (code is segmentation and rle.encode(mask)["counts"] != counts.encode()):
        raise ValueError(f"its runs do not fill {height} rows of {width} pixels")
    return np.asarray(mask, bool)
