"""Figures 6 to 9 of the paper: how well models predict each part of the brain, what each space
adds, the best layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import PhospheneError
from phosphene.maps import legends, panels
from phosphene.maps.page import NARROW, Legend, box, head, page, paint
from phosphene.maps.panels import PLAIN, WORDS, Look, Measure, Panels, Tables, best_layer
from phosphene.maps.places import Grid, Ground, ground, n_test_images, regions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_of_accuracy(maps: Tables, data: Grid, look: Look = PLAIN) -> Figure:
    """Draw how well models predict each voxel, all on one scale (the paper's figure 6).

    Parameters
    ----------
    maps : dict of DataFrame
        Panel name, such as "z" -> x, y, z, r, q of every voxel, as
        :func:`phosphene.steps.encode.maps` gives.
    data : Scans
        The subject.
    look : Look
    """
    on, outlines = _where(maps, data, look)
    shown = panels.of_accuracy(maps, on, data, look)
    title = look.title or "How well each voxel is predicted"
    figure, place = _painted(
        shown, (on, outlines), data, look, (title, legends.height_of_ramp(look.width))
    )
    legends.ramp(figure, place, shown.top, "r of predicted with measured responses", shown.lowest)
    return figure


def figure_of_unique(
    maps: Tables,
    data: Grid,
    names: tuple[str, str] = ("z", "zc"),
    look: Look = PLAIN,
    measure: Measure = "unique",
) -> Figure:
    """Draw the variance that each of two spaces alone explains, in colours of two dimensions
    (figures 7 and 8).

    Parameters
    ----------
    maps : dict of DataFrame
        Panel name, such as "low noise" -> x, y, z, q and two columns "unique SPACE" (or "product
        SPACE"); the first space is blue.
    data : Scans
    names : tuple of str
        What the legend calls the spaces.
    look : Look
    measure : {"unique", "product"}
        R² lost without a space, or its part of R² (product measure).
    """
    on, outlines = _where(maps, data, look)
    shown = panels.of_unique(maps, on, data, names, look, measure)
    title = look.title or f"{names[0]} against {names[1]}: {WORDS[measure]} of each"
    figure, place = _painted(
        shown, (on, outlines), data, look, (title, legends.height_of_square(look.width))
    )
    legends.square(figure, place, shown.top, names, f"{WORDS[measure]}, R²")
    return figure


def figure_of_best(maps: Mapping[str, Tables], data: Grid, look: Look = PLAIN) -> Figure:
    """Draw which layer predicts each voxel best; paler where the second best is close (the paper's
    figure 9).

    Parameters
    ----------
    maps : dict of dict of DataFrame
        Panel name, such as "early steps" -> layer -> x, y, z, r, q; the same layers in the same
        order in each panel.
    data : Scans
    look : Look
        `top` is the margin, in r, from which colours are full.
    """
    layers = list(next(iter(maps.values()), {}))
    found = {name: best_layer(tables) for name, tables in maps.items()}
    for name, tables in maps.items():
        if list(tables) != layers or len(layers) < 2:
            raise PhospheneError(
                f"maps: panel {name!r} has layers {', '.join(tables)}; expected two or more, and "
                "the "
                f"same in every panel: {', '.join(layers)}."
            )
    on, outlines = _where(found, data, look)
    shown = panels.of_best(found, layers, on, data, look)
    title = look.title or "The layer that predicts each voxel best"
    figure, place = _painted(
        shown, (on, outlines), data, look, (title, legends.height_of_kinds(len(layers)))
    )
    legends.kinds(figure, place, shown.top, layers, shown.shares)
    return figure


# ---- what the figures share
# ----------------------------------------------------------------------------------------


def _where(maps: Tables, data: Grid, look: Look) -> tuple[Ground, dict[str, NDArray[np.bool_]]]:
    """The ground to paint on and regions to outline."""
    if not maps:
        raise PhospheneError("maps: found none, expected one or more panels.")
    known = np.zeros(data.shape, bool)
    shown = np.zeros(data.shape, bool)
    for table in maps.values():
        places = table[["x", "y", "z"]].to_numpy()
        known[tuple(places.T)] = True
        shown[tuple(places[panels.significant(table, look)].T)] = True
    return ground(data, look.transforms, known, shown, look.width < NARROW), regions(
        data, look.outlines
    )


def _painted(
    shown: Panels,
    where: tuple[Ground, dict[str, NDArray[np.bool_]]],
    data: Grid,
    look: Look,
    text: tuple[str, float],
) -> tuple[Figure, Legend]:
    """Draw all panels; `text` is the title and the height of the legend, which is still to come."""
    on, outlines = where
    spread = [on.labels(region.astype(float)) > 0 for region in outlines.values()]
    part = box(on, [*(panel.there for panel in shown.panels), *spread])
    cut = "" if part == on.extent else " Shown is the part of it with results."
    notes = (
        f"{on.note}{cut} N\u00a0=\u00a0{n_test_images(data)} test pictures. "
        f"Coloured: q\u00a0<\u00a0{look.threshold:g} (one-sided, Benjamini–Hochberg over all "
        "voxels); "
        "grey: not significant, or not measured."
    )
    title, height = text
    words = ("", "") if look.bare else (title, notes)
    figure, axes, place = page(words, len(shown.panels), part, height, look.width)
    for panel, one in zip(shown.panels, axes, strict=True):
        paint(one, on, shown.colour(panel.pictures), panel.there, outlines)
        head(one, panel.name, panel.about, on.flat)
    return figure, place
