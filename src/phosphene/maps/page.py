"""The page that maps stand on: title, what is shown, panels of one size, and below them the
legend.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene.maps.flatmap.style import INK, SOFT, WIDTH
from phosphene.maps.places import Ground

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# inches
LINE = 0.2  # a line of notes
NAME = 0.5  # above a panel
GAP = 0.16  # between panels
EDGE = 0.2
LETTERS = 14.2  # of notes, per inch
AROUND = 14.0  # mm of cortex shown around what is drawn
WHOLE = 0.75  # a box of more than this share of the cortex is not worth cutting out
TALLEST = (0.8, 1.2)  # height over width of figures; the second where panels are slim
SLIM = 2.5  # width over height of slim panels, at least
NARROWEST = 7.0  # inches, of figures with few or slim panels
NARROW = 6.0  # inches: below it everything stands below each other
Box = tuple[float, float, float, float]


def box(ground: Ground, shown: Sequence[NDArray[np.bool_]]) -> Box:
    """Left, right, bottom and top of what is worth showing: of flattened cortex the part with
    something on it.
    """
    left, right, bottom, top = ground.extent
    there = np.any(shown, axis=0)
    if not ground.flat or left != -right or not there.any():
        return ground.extent
    rows = np.flatnonzero(there.any(1))
    columns = np.flatnonzero(there.any(0))
    across = left + (right - left) * (columns[[0, -1]] + 0.5) / there.shape[1]
    up = top - (top - bottom) * (rows[[-1, 0]] + 0.5) / there.shape[0]
    half = min(float(np.abs(across).max()) + AROUND, right)  # the same of both hemispheres
    low = max(float(up[0]) - AROUND, bottom)
    high = min(float(up[1]) + AROUND, top)
    whole = 2 * half * (high - low) > WHOLE * (right - left) * (top - bottom)
    return ground.extent if whole else (-half, half, low, high)


@dataclass(frozen=True)
class Legend:
    """Where a legend stands, inches: its left and upper edge from the lower left corner, the
    figure's size.
    """

    left: float
    top: float
    width: float
    height: float


def layout(n: int, aspect: float, height: float, page_width: float = WIDTH) -> tuple[int, float]:
    """Choose the number of columns that makes panels largest on a page of the usual shape, and
    their width.

    Parameters
    ----------
    n : int
        Panels.
    aspect : float
        Of a panel: width over height.
    height : float
        Inches that panels may have together.
    page_width : float
        Inches. A narrow page has one column, as high as it gets.
    """
    if page_width < NARROW:
        return 1, page_width - 2 * EDGE

    def width(n_columns: int) -> float:
        n_rows = -(-n // n_columns)
        return min(
            (page_width - 2 * EDGE + GAP) / n_columns - GAP, (height / n_rows - NAME - GAP) * aspect
        )

    def worth(n_columns: int) -> float:
        # a hole in the last row is ugly
        return width(n_columns) * n / (n_columns * -(-n // n_columns))

    best = max(range(1, n + 1), key=worth)
    return best, width(best)


def page(
    words: tuple[str, str], n: int, shape: Box, legend: float, page_width: float = WIDTH
) -> tuple[Figure, list[Axes], Legend]:
    """Make a figure with `n` empty panels; `words` are title and notes, `legend` the height below,
    inches.
    """
    from matplotlib.figure import Figure

    left, right, bottom, top = shape
    aspect = abs((right - left) / (top - bottom))
    tallest = TALLEST[aspect >= SLIM] * page_width
    n_columns, width = layout(n, aspect, tallest - 1.0 - legend, page_width)
    height = width / aspect
    n_rows = -(-n // n_columns)
    whole = max(2 * EDGE + n_columns * (width + GAP) - GAP, min(NARROWEST, page_width))
    above = _words(words, whole)
    total = above[0] + n_rows * (height + NAME + GAP) + 0.1 + legend
    figure = Figure(figsize=(whole, total), facecolor="white")
    for down, text, style in above[1]:
        figure.text(EDGE / whole, 1 - down / total, text, va="center", **style)
    panels = []
    for k in range(n):
        row, column = divmod(k, n_columns)
        x = EDGE + column * (width + GAP)
        y = total - above[0] - (row + 1) * (height + NAME) - row * GAP
        axes = figure.add_axes(
            (x / whole, y / total, width / whole, height / total), aspect="equal"
        )
        axes.set_axis_off()
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        panels.append(axes)
    return figure, panels, Legend(EDGE, legend, whole, total)


def _words(
    words: tuple[str, str], width: float
) -> tuple[float, list[tuple[float, str, dict[str, Any]]]]:
    """Inches that title and notes need, and their lines: how far down, text, style."""
    title, notes = words
    if not title:
        return 0.05, []
    lines = textwrap.wrap(notes, int((width - 2 * EDGE) * LETTERS))
    found: list[tuple[float, str, dict[str, Any]]] = [
        (0.34, title, {"fontsize": 15, "fontweight": "bold", "color": INK})
    ]
    found += [
        (0.64 + LINE * k, line, {"fontsize": 9, "color": SOFT}) for k, line in enumerate(lines)
    ]
    return 0.6 + LINE * len(lines), found


def paint(
    axes: Axes,
    ground: Ground,
    colours: NDArray[np.float64],
    there: NDArray[np.bool_],
    outlines: Mapping[str, NDArray[np.bool_]],
) -> None:
    """Draw one map: the ground, colours (height, width, 3) where there are any, regions."""
    limits = axes.get_xlim(), axes.get_ylim()
    inches = axes.bbox.width / axes.figure.dpi
    how = "antialiased" if ground.flat else "nearest"
    picture = np.where(there[..., None], np.dstack([colours, np.ones(there.shape)]), ground.shade())
    axes.imshow(picture, extent=ground.extent, interpolation=how, aspect="equal")
    size = float(np.clip(inches / 6, 0.8, 1))
    for name, region in outlines.items():
        ground.outline(axes, name, region, size)
    ground.marks(axes)
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    for text in axes.texts:  # a name beyond the part shown would stand in the next panel
        text.set_clip_on(True)
        text.set_clip_box(axes.bbox)


def head(axes: Axes, name: str, about: str, sides: bool) -> None:
    """Write above a panel its name and, small, what it says in numbers; on cortex which side is
    which.
    """
    near: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "annotation_clip": False,
    }
    axes.annotate(name, (0, 1), (0, 18), fontsize=11, fontweight="bold", color=INK, **near)
    axes.annotate(about, (0, 1), (0, 6), fontsize=8.5, color=SOFT, **near)
    if sides:
        for x, side in ((0.0, "left"), (1.0, "right")):
            axes.text(
                x,
                0.0,
                side,
                fontsize=8,
                color=SOFT,
                ha="left" if x == 0 else "right",
                va="bottom",
                transform=axes.transAxes,
            )
