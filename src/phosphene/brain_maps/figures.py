"""Figures 6 to 9 of the paper: how well models predict each part of the brain, what each space adds, the best layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import flatmap
from phosphene.brain_maps import colours, legends
from phosphene.brain_maps.page import Legend, box, head, page, paint
from phosphene.brain_maps.places import Grid, Ground, ground, n_test_images, regions
from phosphene.errors import PhospheneError
from phosphene.flatmap.raster import FlatGround

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIGH, USUAL = 99, 95  # percentile of what is shown that gets the last colour; where most values are small
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """How a figure looks.

    Attributes
    ----------
    title : str
        Without one, what the figure shows.
    transforms : Transforms or path, optional
        The subject's way to the surface; without it the one in the subject's own folder.
    outlines : sequence of str, optional
        Regions to outline; without them the visual streams that the data have.
    threshold : float
        Voxels with q from here on stay grey.
    top : float, optional
        The value that gets the last colour; without it the 99th percentile of those shown, of unique
        variance and margins the 95th.
    """

    title: str = ""
    transforms: flatmap.Transforms | str | Path | None = None
    outlines: Sequence[str] | None = None
    threshold: float = 0.05
    top: float | None = None


PLAIN = Look()


@dataclass(frozen=True)
class _Panel:
    """Pictures of one panel: values by name, NaN where grey, and a sentence of numbers."""

    name: str
    pictures: list[Floats]
    about: str


def figure_of_accuracy(maps: Mapping[str, pd.DataFrame], data: Grid, look: Look = PLAIN) -> Figure:
    """Draw how well models predict each voxel, all on one scale (the paper's figure 6).

    Parameters
    ----------
    maps : dict of DataFrame
        Panel name, such as "z" -> x, y, z, r, q of every voxel, as :func:`phosphene.encoding.maps` gives.
    data : Scans
        The subject.
    look : Look
    """
    significant = {name: _significant(table, look) for name, table in maps.items()}
    where, ground_ = _where(maps, data, look, significant)
    panels = [_Panel(name, [ground_.values(_volume(table["r"], table, data, significant[name]))],
                     _counted(significant[name]) + _highest(table["r"], significant[name]))
              for name, table in maps.items()]  # fmt: skip
    top = look.top or _top([table["r"][significant[name]] for name, table in maps.items()], 1.0)
    lowest = [float(table["r"][significant[name]].min()) for name, table in maps.items() if significant[name].any()]
    title = look.title or "How well each voxel is predicted"
    figure, place = _painted(
        panels, (ground_, where), data, look, (title, legends.HEIGHTS["ramp"]),
        lambda pictures: colours.ramp(np.nan_to_num(pictures[0]) / top, colours.ACCURACY),
    )  # fmt: skip
    legends.ramp(figure, place, top, "r of predicted with measured responses", min(lowest, default=np.nan))
    return figure


def figure_of_unique(
    maps: Mapping[str, pd.DataFrame],
    data: Grid,
    names: tuple[str, str] = ("z", "zc"),
    look: Look = PLAIN,
    measure: Literal["unique", "product"] = "unique",
) -> Figure:
    """Draw the variance that each of two spaces alone explains, in colours of two dimensions (figures 7 and 8).

    Parameters
    ----------
    maps : dict of DataFrame
        Panel name, such as "low noise" -> x, y, z, q and two columns "unique SPACE" (or "product SPACE"); the first
        space is blue.
    data : Scans
    names : tuple of str
        What the legend calls the spaces.
    look : Look
    measure : {"unique", "product"}
        R² lost without a space, or its part of R² (product measure).
    """
    significant = {name: _significant(table, look) for name, table in maps.items()}
    where, ground_ = _where(maps, data, look, significant)
    panels, drawn = [], []
    for name, table in maps.items():
        own = [str(column) for column in table.columns if str(column).startswith(f"{measure} ")]
        if len(own) != 2:
            raise PhospheneError(
                f"maps: panel {name!r} has {len(own)} columns '{measure} SPACE', expected two; give a joint model."
            )
        there, pair = significant[name], table[own].to_numpy(float)
        first = int((pair[there, 0] > pair[there, 1]).sum())
        share = 100 * first / max(there.sum(), 1)
        about = f"{_number(there.sum())} voxels, {names[0]} more in {share:.0f} %"
        pictures = [ground_.values(_volume(table[column], table, data, there)) for column in own]
        panels.append(_Panel(name, pictures, about))
        drawn += [pair[there].max(1)] if there.any() else []
    top = look.top or _top(drawn, 1.0, USUAL)
    what = "unique variance" if measure == "unique" else "share of variance"
    title = look.title or f"{names[0]} against {names[1]}: {what} of each"
    figure, place = _painted(
        panels, (ground_, where), data, look, (title, legends.HEIGHTS["square"]),
        lambda pictures: colours.bivariate(*(np.nan_to_num(picture) / top for picture in pictures)),
    )  # fmt: skip
    legends.square(figure, place, top, names, f"{what}, R²")
    return figure


def figure_of_best(maps: Mapping[str, Mapping[str, pd.DataFrame]], data: Grid, look: Look = PLAIN) -> Figure:
    """Draw which layer predicts each voxel best; paler where the second best is close (the paper's figure 9).

    Parameters
    ----------
    maps : dict of dict of DataFrame
        Panel name, such as "early steps" -> layer -> x, y, z, r, q; the same layers in the same order in each panel.
    data : Scans
    look : Look
        `top` is the margin, in r, from which colours are full.
    """
    layers = list(next(iter(maps.values()), {}))
    found = {name: best_layer(tables) for name, tables in maps.items()}
    for name, tables in maps.items():
        if list(tables) != layers or len(layers) < 2:
            raise PhospheneError(f"maps: panel {name!r} has layers {', '.join(tables)}; expected two or more, and the "
                                 f"same in every panel: {', '.join(layers)}.")  # fmt: skip
    significant = {name: _significant(table, look) for name, table in found.items()}
    where, ground_ = _where(found, data, look, significant)
    top = look.top or _top([table["margin"][significant[name]] for name, table in found.items()], 0.1, USUAL)
    panels, shares = [], {}
    for name, table in found.items():
        there = significant[name]
        labels = ground_.labels(_volume(table["best"] + 1, table, data, there))
        margin = np.where(labels > 0, ground_.values(_volume(table["margin"], table, data, there)), np.nan)
        panels.append(_Panel(name, [margin, labels.astype(np.float64) - 1], _counted(there)))
        shares[name] = np.bincount(table["best"][there], minlength=len(layers)) / max(there.sum(), 1)
    own = colours.palette(len(layers))

    def colour(pictures: list[Floats]) -> Floats:
        kinds = np.maximum(pictures[1], 0).astype(np.int64)
        return colours.categorical(kinds, np.nan_to_num(pictures[0]) / top, own)

    title = look.title or "The layer that predicts each voxel best"
    figure, place = _painted(
        panels, (ground_, where), data, look, (title, legends.height_of_kinds(len(panels))), colour
    )
    legends.kinds(figure, place, top, layers, shares)
    return figure


def best_layer(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Find the best layer of every voxel.

    Returns
    -------
    DataFrame
        x, y, z, best (row of the layer in `tables`), layer (its name), r and q of the best layer, margin (r over that
        of the second best).
    """
    first = next(iter(tables.values()))
    for name, table in tables.items():
        if not np.array_equal(table[["x", "y", "z"]], first[["x", "y", "z"]]):
            raise PhospheneError(f"maps: layer {name!r} has other voxels than the first; encode both anew.")
    r = np.array([table["r"] for table in tables.values()], float)
    q = np.array([table["q"] for table in tables.values()], float)
    order = np.sort(np.nan_to_num(r, nan=-np.inf), axis=0)
    best = np.nan_to_num(r, nan=-np.inf).argmax(axis=0)
    rows = np.arange(r.shape[1])
    known = np.isfinite(r).all(axis=0)
    with np.errstate(invalid="ignore"):
        margin = np.where(known, order[-1] - order[-2], np.nan) if len(r) > 1 else np.full(len(rows), np.nan)
    return pd.DataFrame({
        **{axis: first[axis].to_numpy() for axis in "xyz"}, "best": best, "layer": np.array(list(tables))[best],
        "r": r[best, rows], "q": np.where(known, q[best, rows], np.nan), "margin": margin,
    })  # fmt: skip


# ---- what the figures share ----------------------------------------------------------------------------------------


def _significant(table: pd.DataFrame, look: Look) -> NDArray[np.bool_]:
    return np.asarray(table["q"].to_numpy(float) < look.threshold)


def _volume(values: pd.Series, table: pd.DataFrame, data: Grid, there: NDArray[np.bool_]) -> Floats:
    return flatmap.to_volume(np.where(there, values.to_numpy(float), np.nan), table, data.shape)


def _where(maps: Mapping[str, pd.DataFrame], data: Grid, look: Look,
           significant: Mapping[str, NDArray[np.bool_]]) -> tuple[dict[str, NDArray[np.bool_]], Ground]:  # fmt: skip
    """Regions to outline and the ground to paint on."""
    if not maps:
        raise PhospheneError("maps: found none, expected one or more panels.")
    known, shown = np.zeros(data.shape, bool), np.zeros(data.shape, bool)
    for name, table in maps.items():
        places = table[["x", "y", "z"]].to_numpy()
        known[tuple(places.T)] = True
        shown[tuple(places[significant[name]].T)] = True
    return regions(data, look.outlines), ground(data, look.transforms, known, shown)


def _painted(
    panels: list[_Panel], where: tuple[Ground, dict[str, NDArray[np.bool_]]], data: Grid, look: Look,
    text: tuple[str, float], colour: legends.Colour,
) -> tuple[Figure, Legend]:  # fmt: skip
    """Draw all panels; `text` is the title and the height of the legend, which is still to come."""
    on, outlines = where
    there = [np.isfinite(panel.pictures[0]) for panel in panels]
    spread = [on.labels(region.astype(float)) > 0 for region in outlines.values()]
    part = box(on, [*there, *spread])
    cut = "" if part == on.extent else " Shown is the part of it with results."
    notes = (
        f"{on.note}{cut} N\u00a0=\u00a0{n_test_images(data)} test pictures. "
        f"Coloured: q\u00a0<\u00a0{look.threshold:g} (one-sided, Benjamini–Hochberg over all voxels); "
        "grey: not significant, or not measured."
    )
    figure, axes, place = page(text[0], notes, len(panels), part, text[1])
    for panel, one, shown in zip(panels, axes, there, strict=True):
        paint(one, on, colour(panel.pictures), shown, outlines)
        head(one, panel.name, panel.about, isinstance(on, FlatGround))
    return figure, place


def _top(values: Sequence[pd.Series | Floats], default: float, percentile: float = HIGH) -> float:
    """The value of the last colour, rounded up to two digits that can be read."""
    pooled = np.concatenate([np.asarray(some, float) for some in values]) if values else np.zeros(0)
    pooled = pooled[np.isfinite(pooled)]
    if not len(pooled) or (top := float(np.percentile(pooled, percentile))) <= 0:
        return default
    unit = 10 ** np.floor(np.log10(top)) / 2
    return float(np.ceil(round(top / unit, 6)) * unit)


def _counted(there: NDArray[np.bool_]) -> str:
    return f"{_number(there.sum())} of {_number(len(there))} voxels"


def _number(n: int) -> str:
    return f"{n:,}".replace(",", "\u202f")  # a narrow space


def _highest(r: pd.Series, there: NDArray[np.bool_]) -> str:
    return f", r up to {r[there].max():.2f}" if there.any() else ""
