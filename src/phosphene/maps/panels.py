"""What figures show, whatever it is painted on: flattened cortex, slices, or a cortex that can be
turned.

A ground carries a volume to pictures or to vertices; here those become panels, a scale and colours.
Figures and the surface that can be turned are made from the same panels, so that they never say
different things.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.errors import PhospheneError
from phosphene.maps import colours, flatmap
from phosphene.maps.flatmap.style import WIDTH
from phosphene.maps.places import Grid

# percentile of what is shown that gets the last colour
HIGH = 99
USUAL = 95  # where most values are small
Floats = NDArray[np.float64]
Tables = Mapping[str, pd.DataFrame]
Measure = Literal["unique", "product"]
WORDS = {"unique": "unique variance", "product": "share of variance"}


class Carrier(Protocol):
    """Carries a volume (X, Y, Z) to where it is drawn: values, NaN where there are none, or labels,
    0 for none.
    """

    def values(self, volume: Floats) -> Floats:
        """Of numbers."""

    def labels(self, volume: Floats) -> NDArray[np.int64]:
        """Of whole numbers from 1 on."""


@dataclass(frozen=True)
class Look:
    """How a figure looks.

    Attributes
    ----------
    title : str
        Without one, what the figure shows.
    transforms : Transforms, Pycortex or path, optional
        The subject's way to the surface; without it the one in the subject's own folder.
    outlines : sequence of str, optional
        Regions to outline; without them the visual streams that the data have.
    threshold : float
        Voxels with q from here on stay grey.
    top : float, optional
        The value that gets the last colour; without it the 99th percentile of those shown, of
        unique variance and margins the 95th.
    width : float
        Inches. Where it is less than `page.NARROW`, panels and legends stand below each other, to
        be read on a phone.
    bare : bool
        Without title and notes, for a page that says them.
    """

    title: str = ""
    transforms: flatmap.Transforms | flatmap.Pycortex | str | Path | None = None
    outlines: Sequence[str] | None = None
    threshold: float = 0.05
    top: float | None = None
    width: float = WIDTH
    bare: bool = False


PLAIN = Look()


@dataclass(frozen=True)
class Panel:
    """One map: pictures, NaN where nothing is shown, and a sentence of numbers."""

    name: str
    pictures: list[Floats]
    about: str

    @property
    def there(self) -> NDArray[np.bool_]:
        """Where something is shown."""
        return np.isfinite(self.pictures[0])


@dataclass(frozen=True)
class Panels:
    """Maps that share a scale.

    Attributes
    ----------
    panels : list of Panel
    colour : callable
        From the pictures of a panel to colours (..., 3).
    top : float
        The value of the last colour.
    lowest : float
        The lowest value shown, NaN where it does not matter or nothing is shown.
    shares : dict of ndarray
        Of best layers: panel name -> the share of significant voxels that each layer wins.
    """

    panels: list[Panel]
    colour: Callable[[list[Floats]], Floats]
    top: float
    lowest: float = float("nan")
    shares: dict[str, Floats] = field(default_factory=dict)


def of_accuracy(maps: Tables, on: Carrier, data: Grid, look: Look) -> Panels:
    """How well models predict each voxel, all on one scale."""
    there = {name: significant(table, look) for name, table in maps.items()}
    panels = []
    for name, table in maps.items():
        said = counted(there[name]) + _highest(table["r"], there[name])
        panels.append(Panel(name, [on.values(volume(table["r"], table, data, there[name]))], said))
    top = look.top or last([table["r"][there[name]] for name, table in maps.items()], 1.0)
    lowest = [
        float(table["r"][there[name]].min()) for name, table in maps.items() if there[name].any()
    ]
    return Panels(
        panels,
        lambda pictures: colours.ramp(np.nan_to_num(pictures[0]) / top, colours.ACCURACY),
        top,
        min(lowest, default=float("nan")),
    )


def of_unique(
    maps: Tables, on: Carrier, data: Grid, names: tuple[str, str], look: Look, measure: Measure
) -> Panels:
    """The variance that each of two spaces alone explains."""
    panels = []
    drawn = []
    for name, table in maps.items():
        own = [str(column) for column in table.columns if str(column).startswith(f"{measure} ")]
        if len(own) != 2:
            raise PhospheneError(
                f"maps: panel {name!r} has {len(own)} columns '{measure} SPACE', expected two; "
                "give a joint model."
            )
        there = significant(table, look)
        pair = table[own].to_numpy(float)
        share = 100 * int((pair[there, 0] > pair[there, 1]).sum()) / max(there.sum(), 1)
        pictures = [on.values(volume(table[column], table, data, there)) for column in own]
        panels.append(
            Panel(name, pictures, f"{number(there.sum())} voxels, {names[0]} more in {share:.0f} %")
        )
        drawn += [pair[there].max(1)] if there.any() else []
    top = look.top or last(drawn, 1.0, USUAL)

    def colour(pictures: list[Floats]) -> Floats:
        first, second = (np.nan_to_num(picture) / top for picture in pictures)
        return colours.bivariate(first, second)

    return Panels(panels, colour, top)


def of_best(found: Tables, layers: Sequence[str], on: Carrier, data: Grid, look: Look) -> Panels:
    """Which layer predicts each voxel best, from what :func:`best_layer` gave."""
    there = {name: significant(table, look) for name, table in found.items()}
    top = look.top or last(
        [table["margin"][there[name]] for name, table in found.items()], 0.1, USUAL
    )
    panels = []
    shares = {}
    for name, table in found.items():
        labels = on.labels(volume(table["best"] + 1, table, data, there[name]))
        margin = on.values(volume(table["margin"], table, data, there[name]))
        margin = np.where(labels > 0, np.nan_to_num(margin), np.nan)
        panels.append(Panel(name, [margin, labels.astype(np.float64) - 1], counted(there[name])))
        wins = np.bincount(table["best"][there[name]], minlength=len(layers))
        shares[name] = wins / max(wins.sum(), 1)
    own = colours.palette(len(layers))

    def colour(pictures: list[Floats]) -> Floats:
        kinds = np.maximum(pictures[1], 0).astype(np.int64)
        return colours.categorical(kinds, np.nan_to_num(pictures[0]) / top, own)

    return Panels(panels, colour, top, shares=shares)


def of_difference(
    name: str, pair: tuple[pd.DataFrame, pd.DataFrame], on: Carrier, data: Grid, look: Look
) -> Panels:
    """R of one model less that of another, where either predicts."""
    first, second = pair
    there = significant(first, look) | significant(second, look)
    difference = first["r"] - second["r"]
    top = look.top or last([difference[there].abs()], 0.1)
    panel = Panel(name, [on.values(volume(difference, first, data, there))], counted(there))
    return Panels(
        [panel], lambda pictures: colours.diverging(np.nan_to_num(pictures[0]) / top), top
    )


def best_layer(tables: Tables) -> pd.DataFrame:
    """Find the best layer of every voxel.

    Returns
    -------
    DataFrame
        x, y, z, best (row of the layer in `tables`), layer (its name), r and q of the best layer,
        margin (r over that of the second best).
    """
    first = next(iter(tables.values()))
    for name, table in tables.items():
        if not np.array_equal(table[["x", "y", "z"]], first[["x", "y", "z"]]):
            raise PhospheneError(
                f"maps: layer {name!r} has other voxels than the first; encode both anew."
            )
    r = np.array([table["r"] for table in tables.values()], float)
    q = np.array([table["q"] for table in tables.values()], float)
    order = np.sort(np.nan_to_num(r, nan=-np.inf), axis=0)
    best = np.nan_to_num(r, nan=-np.inf).argmax(axis=0)
    rows = np.arange(r.shape[1])
    known = np.isfinite(r).all(axis=0)
    with np.errstate(invalid="ignore"):
        margin = (
            np.where(known, order[-1] - order[-2], np.nan)
            if len(r) > 1
            else np.full(len(rows), np.nan)
        )
    return pd.DataFrame(
        {
            **{axis: first[axis].to_numpy() for axis in "xyz"},
            "best": best,
            "layer": np.array(list(tables))[best],
            "r": r[best, rows],
            "q": np.where(known, q[best, rows], np.nan),
            "margin": margin,
        }
    )


# ---- small things
# --------------------------------------------------------------------------------------------------


def significant(table: pd.DataFrame, look: Look) -> NDArray[np.bool_]:
    """Voxels that are coloured."""
    return np.asarray(table["q"].to_numpy(float) < look.threshold)


def volume(values: pd.Series, table: pd.DataFrame, data: Grid, there: NDArray[np.bool_]) -> Floats:
    """Values of the voxels that are coloured, NaN elsewhere."""
    return flatmap.to_volume(np.where(there, values.to_numpy(float), np.nan), table, data.shape)


def last(
    values: Sequence[pd.Series | NDArray[Any]], default: float, percentile: float = HIGH
) -> float:
    """The value of the last colour, rounded up to two digits that can be read."""
    pooled = np.concatenate([np.asarray(some, float) for some in values]) if values else np.zeros(0)
    pooled = pooled[np.isfinite(pooled)]
    if not len(pooled) or (top := float(np.percentile(pooled, percentile))) <= 0:
        return default
    unit = 10 ** np.floor(np.log10(top)) / 2
    return float(np.ceil(round(top / unit, 6)) * unit)


def counted(there: NDArray[np.bool_]) -> str:
    """How many voxels of how many."""
    return f"{number(there.sum())} of {number(len(there))} voxels"


def number(n: int) -> str:
    """With narrow spaces between thousands."""
    return f"{n:,}".replace(",", "\u202f")


def _highest(r: pd.Series, there: NDArray[np.bool_]) -> str:
    return f", r up to {r[there].max():.2f}" if there.any() else ""
