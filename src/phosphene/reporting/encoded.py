"""What a report says of the encoding half: figures 6 to 9 with what is seen in them, and numbers by
region.
"""

from __future__ import annotations

import base64
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from phosphene import maps
from phosphene.encoding import Model
from phosphene.encoding.models import Named
from phosphene.maps import analyses, places, surface
from phosphene.maps.flatmap.raster import FlatGround
from phosphene.maps.flatmap.slices import SliceGround
from phosphene.reporting.encoded_words import HOW, Table, by_region, meaning, words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 1600  # pixels of a figure on a page
NARROW = 720  # pixels on a phone
QUALITY = 84  # of WebP
SMALLER = 0.8  # all three for subjects after the first, whose figures are folded
NARROW_INCHES = 4.6
TITLES = {
    "features": "Features of the diffusion model, each alone",
    "noise": "z and zc together, with more and more noise",
    "text": "How much of zc depends on the text",
    "steps": "z and zc together, along the denoising",
    "layers": "Layers of the U-Net, along the denoising",
}


@dataclass(frozen=True)
class Drawing:
    """One of the figures: pictures for wide and narrow pages as data URLs, and its words."""

    analysis: str
    wide: str
    narrow: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Encoded:
    """What is known of one subject.

    Attributes
    ----------
    subject : str
    drawings : list of Drawing
    tables : dict of str to list of Table
        Analysis -> one table per atlas, the streams first.
    waiting : int
        How many of the study's models are not finished.
    surface : list of Turned
        Maps on a cortex that can be turned.
    note : str
        What the maps are painted on, and what they rest on.
    """

    subject: str
    drawings: list[Drawing]
    tables: dict[str, list[Table]]
    waiting: int
    surface: list[surface.Turned]
    note: str = ""


def of_subject(
    subject: str,
    data: Any,
    models: tuple[Named, Named],
    tables: Mapping[str, dict[Model, pd.DataFrame]],
    regions: pd.DataFrame,
    size: float = 1.0,
) -> Encoded:
    """Draw everything that is finished of one subject.

    Parameters
    ----------
    subject : str
    data : Scans
    models : pair of sequence of (str, Model)
        All models of the study with their analyses, and those that are finished.
    tables : mapping of str to dict
        Analysis -> the tables of its finished models, as :func:`phosphene.maps.analyses.figure`
        takes them.
    regions : DataFrame
        As :func:`phosphene.steps.encode.regions` gives it.
    size : float
        Of the figures; 1 for the first subject.
    """
    planned, done = models
    drawings = []
    numbers = {}
    turnable = []
    for analysis, found in tables.items():
        names = analyses.panel_names(analysis, [m for name, m in planned if name == analysis])
        drawing = draw(analysis, names, found, (subject, data), size)
        drawings += [drawing] if drawing else []
        if size == 1 or analysis == "features":  # the page has a budget
            turnable += analyses.turned(subject, analysis, names, found, data)
        numbers[analysis] = by_region(regions[regions["analysis"] == analysis], names)
    on = FlatGround.note if maps.transforms_of(data) else SliceGround.note
    note = (
        f"{on} {places.n_test_images(data)} test pictures; q one-sided, Benjamini–Hochberg "
        "over all voxels."
    )
    return Encoded(subject, drawings, numbers, len(planned) - len(done), turnable, note)


def spin(title: str, found: Sequence[Encoded], data: Mapping[str, Any]) -> str:
    """The page with the cortex that can be turned, of all subjects, as base64 of gzip.

    Parameters
    ----------
    title : str
    found : sequence of Encoded
    data : mapping of str to Scans
        By subject.

    Returns
    -------
    str
        "" where no surface is known.
    """
    turned = [one for some in found for one in some.surface]
    if not turned:
        return ""
    known = {s.subject: analyses.outlined(data[s.subject]) for s in found if s.surface}
    page = surface.surface_page(title, turned, known)
    return base64.b64encode(gzip.compress(page.encode(), 9, mtime=0)).decode()


def megabytes(found: Sequence[Encoded], surface_page: str) -> float:
    """Size of the section's pictures within a page."""
    pictures = [
        picture
        for one in found
        for drawing in one.drawings
        for picture in (drawing.wide, drawing.narrow)
    ]
    return sum(map(len, [*pictures, surface_page])) / 1e6


# Figures and their words


def draw(
    analysis: str,
    names: dict[Model, str],
    tables: dict[Model, pd.DataFrame],
    whose: tuple[str, Any],
    size: float = 1.0,
) -> Drawing | None:
    """Draw one analysis twice, for wide and narrow pages; None where too little of it is
    finished.
    """
    subject, data = whose
    looks = (maps.Look(bare=True), maps.Look(bare=True, width=NARROW_INCHES))
    drawn = [analyses.figure(analysis, names, tables, data, look) for look in looks]
    if drawn[0] is None or drawn[1] is None:
        return None
    seen, alt = words(analysis, names, tables)
    kind = "layers" if analysis == "layers" else "two" if analyses.joint(tables) else "one"
    pair = analyses.pair_of(analysis, tables) if kind == "two" else ()
    ground = "Flat map of the cortex" if maps.transforms_of(data) else "Slices of the scan"
    return Drawing(
        analysis,
        webp(drawn[0], WIDE, size),
        webp(drawn[1], NARROW, size),
        f"{ground}, {subject}. {alt}",
        " ".join(filter(None, [seen, meaning(analysis, tables), HOW[kind].format(*pair)])),
    )


def webp(figure: Figure, width: int, size: float = 1.0) -> str:
    """Write a figure as a data URL, `size` times so many pixels wide."""
    from PIL import Image

    stream = io.BytesIO()
    written = io.BytesIO()
    figure.savefig(stream, format="png", dpi=size * width / figure.get_figwidth())
    Image.open(stream).convert("RGB").save(written, "WEBP", quality=round(size * QUALITY), method=6)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"
