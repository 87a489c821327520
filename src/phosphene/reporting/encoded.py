"""What a report says of the encoding half: figures 6 to 9 with what is seen in them, and numbers by
region.
"""

from __future__ import annotations

import base64
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from phosphene import disk, encoding
from phosphene import maps as brain_maps
from phosphene.data.scans import Scans
from phosphene.encoding import Model
from phosphene.maps import places, surface
from phosphene.maps.flatmap.raster import FlatGround
from phosphene.maps.flatmap.slices import SliceGround
from phosphene.pipeline.store import Store
from phosphene.reporting.encoded_words import HOW, Table, by_region, meaning, words
from phosphene.steps import encode, figures
from phosphene.steps import subject as sources
from phosphene.steps.encode import encode_recipe, finished
from phosphene.steps.encode.statistics import statistics_recipe
from phosphene.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Named = list[tuple[str, Model]]
# pixels of a figure on a page, and on a phone; of WebP
WIDE = 1600
NARROW = 720
QUALITY = 84
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


def planned(study: Study) -> dict[str, tuple[Named, Named]]:
    """Subject -> the study's encoding models and those of them that are finished; only subjects
    that have any.
    """
    if not (Path(study.root) / "encode").is_dir():
        return {}  # without encodings no model has to be loaded to know which ones there could be
    models = encoding.planned(study, sources.load_model(study.model.name, "cpu"))
    done = {subject: finished(study, subject, models) for subject in study.data.subjects}
    return {subject: (models, some) for subject, some in done.items() if some}


def inputs(study: Study) -> dict[str, str]:
    """What the page is made from: finished models and statistics, by name -> hash; files that lead
    to the surface.
    """
    found = {}
    for subject, (_, done) in planned(study).items():
        if done and (transforms := _transforms(study, subject)) is not None:
            found[f"{subject}-transforms"] = disk.fingerprint(
                "transforms", transforms, transforms.glob("*.mgz")
            )
        for _, model in done:
            found[f"{subject}-encode-{model}"] = encode_recipe(study, subject, model).hash
            numbers = Store(study.root).artefact(statistics_recipe(study, subject, model))
            if numbers.done:
                found[f"{subject}-statistics-{model}"] = numbers.hash
    return found


def _transforms(study: Study, subject: str) -> Path | None:
    """Folder of the files that lead from the scans to the cortical surface, which is drawn."""
    data = sources.dataset(study, subject)
    return brain_maps.transforms_of(data) if isinstance(data, Scans) else None


def gather(study: Study) -> list[Encoded]:
    """Read and draw everything that is finished."""
    return [
        _of_subject(study, subject, some, 1.0 if k == 0 else SMALLER)
        for k, (subject, some) in enumerate(planned(study).items())
    ]


def _of_subject(study: Study, subject: str, some: tuple[Named, Named], size: float) -> Encoded:
    models, done = some
    data: Any = sources.dataset(study, subject)
    regions = encode.regions(study, subject, done)
    drawings = []
    numbers = {}
    turnable = []
    for analysis in dict.fromkeys(name for name, _ in done):
        names = figures.panel_names(analysis, [m for name, m in models if name == analysis])
        tables = figures.tables_of(study, subject, [m for name, m in done if name == analysis])
        drawing = draw(analysis, names, tables, (subject, data), size)
        drawings += [drawing] if drawing else []
        if size == 1 or analysis == "features":  # the page has a budget
            turnable += figures.turned(subject, analysis, names, tables, data)
        numbers[analysis] = by_region(regions[regions["analysis"] == analysis], names)
    on = FlatGround.note if brain_maps.transforms_of(data) else SliceGround.note
    note = (
        f"{on} {places.n_test_images(data)} test pictures; q one-sided, Benjamini–Hochberg "
        "over all voxels."
    )
    return Encoded(subject, drawings, numbers, len(models) - len(done), turnable, note)


def spin(study: Study, found: Sequence[Encoded]) -> str:
    """The page with the cortex that can be turned, of all subjects, as base64 of gzip; "" where no
    surface is known.
    """
    maps = [one for some in found for one in some.surface]
    if not maps:
        return ""
    known = {
        some.subject: figures.outlined(sources.dataset(study, some.subject))
        for some in found
        if some.surface
    }
    page = surface.surface_page(study.name, maps, known)
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
    looks = (brain_maps.Look(bare=True), brain_maps.Look(bare=True, width=NARROW_INCHES))
    drawn = [figures.figure(analysis, names, tables, data, look) for look in looks]
    if drawn[0] is None or drawn[1] is None:
        return None
    seen, alt = words(analysis, names, tables)
    kind = "layers" if analysis == "layers" else "two" if figures.joint(tables) else "one"
    pair = figures.pair_of(analysis, tables) if kind == "two" else ()
    ground = "Flat map of the cortex" if brain_maps.transforms_of(data) else "Slices of the scan"
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
