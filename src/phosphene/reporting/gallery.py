"""Pictures of the report: which ones are shown, what is known of each, and how they fit into one
page of bounded size.

What is shown is chosen by a rule that is printed beside it: evenly spread from the best to the
worst, never the best only. Small pictures are kept to the last pixel (PNG), large ones become
thumbnails (WebP).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from phosphene.data import Dataset
from phosphene.models.preparing import Pictures

LOSSLESS = 96  # pixels: pictures up to this side are shown as they are
THUMBNAIL = 256  # pixels: larger ones are shrunk to this side
PAGE_MB = 15.0  # the page is never larger
GALLERY_MB = 11.0  # what its pictures get
MOST = 120  # pictures of a subject in the gallery, however small they are
TENTHS = {"best tenth": 0.05, "middle tenth": 0.5, "worst tenth": 0.95}
EACH = 3  # examples of each tenth


@dataclass(frozen=True)
class Shown:
    """One test picture with its reconstructions.

    Attributes
    ----------
    subject : str
    item, image : int
        Row of the items, and id of the picture (0-based).
    pictures : dict of str to str
        "seen" (where it is known) and one per mode, as data URLs.
    caption : str
    categories : tuple of str
    scores : dict of str to float
        Per mode, 0 to 1; empty where nothing was scored.
    group : str
        Which tenth of the scores it is an example of.
    """

    subject: str
    item: int
    image: int
    pictures: dict[str, str]
    caption: str = ""
    categories: tuple[str, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    group: str = ""


# Which ones


def spread(scores: pd.Series | None, n_items: int, count: int) -> list[int]:
    """Choose items evenly from the best score to the worst; the first ones where there are no
    scores.
    """
    if scores is None or scores.empty:
        return list(range(min(count, n_items)))
    order = scores.sort_values(ascending=False, kind="stable").index.to_numpy()
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return [int(item) for item in order[places]]


def tenths(scores: pd.Series, each: int = EACH) -> dict[str, list[int]]:
    """Choose items out of the best, the middle and the worst tenth of scores, evenly within each,
    best first.
    """
    order = [int(item) for item in scores.sort_values(ascending=False, kind="stable").index]
    width = max(len(order) // 10, min(each, len(order) // 3), 1)
    found = {}
    for name, centre in TENTHS.items():
        start = min(max(round(centre * len(order) - width / 2), 0), len(order) - width)
        some = order[start : start + width]
        places = np.unique(np.linspace(0, width - 1, min(each, width)).round().astype(int))
        found[name] = [some[k] for k in places]
    return found


# What a page is given of them


def url(picture: NDArray[np.uint8]) -> str:
    """Encode a picture for a page: small ones to the last pixel, large ones as thumbnails."""
    image = Image.fromarray(picture)
    stream = io.BytesIO()
    if max(image.size) <= LOSSLESS:
        kind = "png"
        image.save(stream, "PNG", optimize=True)
    else:
        kind = "webp"
        image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        image.save(stream, "WEBP", quality=82, method=4)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


class Album:
    """Opens the pictures of one subject of a study.

    Parameters
    ----------
    data : Dataset
    images : ndarray of int, shape (n_items,)
        Id of the picture of every item.
    made : mapping of str to Pictures
        Mode -> reconstructions of the items, one of each.
    scores : DataFrame
        Rows items, columns modes.
    worded : bool
        Whether captions are shown.
    """

    def __init__(
        self,
        data: Dataset,
        images: NDArray[np.int64],
        made: Mapping[str, Pictures],
        scores: pd.DataFrame,
        worded: bool,
    ) -> None:
        self.data = data
        self.images = images
        self._made = made
        self._scores = scores
        self._worded = worded
        self._known: dict[int, Shown] = {}

    @property
    def columns(self) -> list[str]:
        """Names of what is shown of every item, in order."""
        return [*(["seen"] if self.data.photographs else []), *self._made]

    def show(self, chosen: Sequence[int], group: str = "") -> list[Shown]:
        """Read and encode some items; each once."""
        return [self._one(int(item), group) for item in chosen]

    def _one(self, item: int, group: str) -> Shown:
        if item not in self._known:
            image = int(self.images[item])
            seen = {"seen": url(self.data.images([image])[0])} if self.data.photographs else {}
            scored = (
                self._scores.loc[item].dropna()
                if item in self._scores.index
                else pd.Series(dtype=float)
            )
            self._known[item] = Shown(
                self.data.subject,
                item,
                image,
                pictures=seen
                | {
                    mode: url(np.asarray(made[item], np.uint8)) for mode, made in self._made.items()
                },
                caption=next(iter(self.data.captions([image])[0]), "") if self._worded else "",
                categories=tuple(self.data.categories([image])[0]),
                scores={str(mode): float(value) for mode, value in scored.items()},
            )
        known = self._known[item]
        return Shown(**{**known.__dict__, "group": group})


def megabytes(shown: Sequence[Shown]) -> float:
    """Size of pictures within a page."""
    return sum(len(picture) for one in shown for picture in one.pictures.values()) / 1e6


def fill(album: Album, scores: pd.Series | None, budget_mb: float) -> list[Shown]:
    """Show as many items as fit, spread evenly from the best to the worst."""
    count = min(MOST, len(album.images))
    sample = album.show(spread(scores, len(album.images), min(4, count)))
    count = max(min(count, int(budget_mb / (megabytes(sample) / len(sample)))), 1)
    while True:
        shown = album.show(spread(scores, len(album.images), count))
        if megabytes(shown) <= budget_mb or count == 1:
            return shown
        count = max(int(0.9 * count * budget_mb / megabytes(shown)), 1)
