"""Legends: a ramp, a square of two scales, a table of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene.maps import colours
from phosphene.maps.flatmap.raster import GREYS
from phosphene.maps.flatmap.style import INK, SOFT
from phosphene.maps.page import NARROW, Legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


def _axes(
    figure: Figure, place: Legend, corner: tuple[float, float], size: tuple[float, float]
) -> Axes:
    """Axes of a size with the upper left corner so far right of and below the legend's own,
    inches.
    """
    x = place.left + corner[0]
    y = place.top - corner[1] - size[1]
    axes = figure.add_axes(
        (x / place.width, y / place.height, size[0] / place.width, size[1] / place.height)
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=2.5, color=SOFT, labelcolor=INK, labelsize=8.5)
    return axes


def _text(
    figure: Figure, place: Legend, corner: tuple[float, float], text: str, **more: Any
) -> None:
    x = (place.left + corner[0]) / place.width
    y = (place.top - corner[1]) / place.height
    figure.text(x, y, text, **{"fontsize": 9.5, "color": INK, "va": "center", **more})


def height_of_ramp(width: float) -> float:
    """Inches that :func:`ramp` needs on a page of a width."""
    return 1.05 if width < NARROW else 0.85


def ramp(figure: Figure, place: Legend, top: float, label: str, lowest: float) -> None:
    """Draw the scale of accuracy, grey below the lowest value that is shown."""
    _text(figure, place, (0, 0.1), label)
    axes = _axes(figure, place, (0, 0.27), (3.6, 0.16))
    share = np.linspace(0, 1, 512)
    picture = colours.ramp(share, colours.ACCURACY)
    if np.isfinite(lowest):
        picture[share * top < lowest] = sum(GREYS) / 2
    axes.imshow(picture[None], extent=(0, top, 0, 1), aspect="auto")
    axes.set_yticks([])
    ticks = _ticks(top)
    axes.set_xticks(ticks, [f"{'≥ ' if t == ticks[-1] else ''}{t:g}" for t in ticks])
    if np.isfinite(lowest):
        corner = (0, 0.85) if place.width < NARROW else (3.9, 0.35)
        _text(
            figure,
            place,
            corner,
            f"grey: below {lowest:.2f}, the lowest r shown",
            fontsize=8.5,
            color=SOFT,
        )


def height_of_square(width: float) -> float:
    """Inches that :func:`square` needs on a page of a width."""
    return 3.2 if width < NARROW else 2.05


def square(figure: Figure, place: Legend, top: float, names: tuple[str, str], label: str) -> None:
    """Draw the square of colours of two scales, the first to the right, the second upwards."""
    side = 1.35
    axes = _axes(figure, place, (0.62, 0.1), (side, side))
    second, first = np.indices((64, 64)) / 63
    axes.imshow(
        colours.bivariate(first, second),
        extent=(0, top, 0, top),
        origin="lower",
        interpolation="bilinear",
    )
    for axis, name, colour in (
        (axes.xaxis, names[0], colours.FIRST),
        (axes.yaxis, names[1], colours.SECOND),
    ):
        axis.set_ticks([0, top / 2, top], ["0", f"{top / 2:g}", f"≥ {top:g}"])
        axis.set_label_text(name, fontsize=10, fontweight="bold", color=colour)
    axes.yaxis.label.set(rotation=0, ha="right", va="center")
    x, y = (0.0, 2.05) if place.width < NARROW else (0.62 + side + 0.45, 0.2)
    _text(figure, place, (x, y), label)
    for k, (colour, text) in enumerate(words_of_square(names).items()):
        patch = _axes(figure, place, (x, y + 0.2 + 0.25 * k), (0.2, 0.15))
        patch.set(facecolor=colour, xticks=[], yticks=[])
        _text(figure, place, (x + 0.3, y + 0.275 + 0.25 * k), text, fontsize=9)


def words_of_square(names: tuple[str, str]) -> dict[str, str]:
    """What the corners of the square mean, by colour."""
    return {
        colours.FIRST: f"only {names[0]}",
        colours.SECOND: f"only {names[1]}",
        colours.BOTH: "both, each something of its own",
        colours.NEITHER: "neither: what they explain is shared",
    }


ABOUT_KINDS = """Hue: the best layer, from the U-Net's input (top)
to its output (bottom).
Paler: the second best is close; the scale is
the r of the best less that of the second best.
Numbers: the share of the coloured voxels
that each layer wins."""


def height_of_kinds(n_kinds: int) -> float:
    """Inches that :func:`kinds` needs."""
    return 0.75 + 0.22 * n_kinds


def kinds(
    figure: Figure, place: Legend, top: float, names: Sequence[str], shares: dict[str, Floats]
) -> None:
    """Show layers below each other: colours from no margin to a full one, and the share of voxels
    won in each panel.
    """
    own = colours.palette(len(names))
    strength = np.linspace(0, 1, 64)
    down = 0.45
    strip, first = (0.75, 0.75 + 0.95) if place.width < NARROW else (0.9, 0.9 + 1.4)
    step = min((place.width - 2 * place.left - first) / max(len(shares), 1), 1.4)
    _text(figure, place, (0, 0.2), "best layer")
    for column, (panel, share) in enumerate(shares.items()):
        x = first + (column + 1) * step - 0.1
        title = panel.replace(" (", "\n(")
        _text(figure, place, (x, 0.2), title, fontsize=8.5, color=SOFT, ha="right")
        for row, one in enumerate(share):
            bold = "bold" if one == share.max() > 0 else "normal"
            at = (x, down + 0.1 + 0.22 * row)
            _text(figure, place, at, f"{100 * one:.0f} %", fontsize=9, ha="right", fontweight=bold)
    for row, name in enumerate(names):
        _text(figure, place, (0, down + 0.1 + 0.22 * row), name)
        at = (strip - 0.15, down + 0.02 + 0.22 * row)
        axes = _axes(figure, place, at, (first - strip - 0.1, 0.16))
        picture = colours.categorical(np.full(64, row), strength, own)[None]
        axes.imshow(picture, aspect="auto", extent=(0, top, 0, 1))
        axes.set_yticks([])
        last = row == len(names) - 1
        axes.set_xticks([0, top] if last else [], ["0", f"≥ {top:g}"] if last else [])
    if place.width >= NARROW:
        at = (first + step * len(shares) + 0.3, down + 0.1)
        _text(figure, place, at, ABOUT_KINDS, fontsize=8.5, color=SOFT, va="top")


def _ticks(top: float) -> list[float]:
    """Round numbers from 0 on, and the end of the scale."""
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if top / s <= 6 or s == 0.5)
    inner = [round(k * step, 6) for k in range(int(top / step) + 1)]
    return [t for t in inner if top - t > 0.4 * step] + [top]
