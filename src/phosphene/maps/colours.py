"""Colours that colour-blind readers can tell apart, mixed so that equal steps look equal (Oklab,
Ottosson 2020).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import PhospheneError

Floats = NDArray[np.float64]

# pale to dark: more is darker
ACCURACY = (
    "#f3ead2",
    "#f2c879",
    "#e39a5b",
    "#c8635a",
    "#953a66",
    "#5a2467",
    "#241246",
)
# Of two kinds of unique variance: neither, the first, the second, both
NEITHER = "#f1ece2"
FIRST = "#0072b2"
SECOND = "#d55e00"
BOTH = "#2a1038"
DIVERGING = ("#7a2e00", SECOND, NEITHER, FIRST, "#003e63")  # of a difference: less, the same, more
# For kinds in order, cool to warm: chosen so that the two most alike are as far apart as can be, in
# Oklab, for readers with usual sight, without red and without green receptors
FEW = ("#332288", "#88ccee", "#e69f00", "#cc6677", "#8c3b00")
MANY = (
    "#332288",
    "#0072b2",
    "#6699ff",
    "#88ccee",
    "#44aa99",
    "#ddcc77",
    "#d55e00",
    "#8c3b00",
    "#570f27",
)
PALE = "#f1ece2"  # what a colour fades into
PALEST = 0.25  # how much of the colour is left at a margin of 0

_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def rgb(colour: str) -> Floats:
    """Read "#rrggbb", (3,) from 0 to 1."""
    return np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255


def to_oklab(colours: Floats) -> Floats:
    """From sRGB (..., 3) to lightness and two axes of hue."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _CONES.T) @ _LAB.T)


def from_oklab(lab: Floats) -> Floats:
    """Back to sRGB; what no screen can show is clipped."""
    linear = np.clip((lab @ np.linalg.inv(_LAB).T) ** 3 @ np.linalg.inv(_CONES).T, 0, 1)
    return np.asarray(
        np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    )


def ramp(share: Floats, colours: tuple[str, ...]) -> Floats:
    """Colours (..., 3) of shares (...) of the way along a row of colours."""
    knots = to_oklab(np.array([rgb(colour) for colour in colours]))
    places = np.linspace(0, 1, len(colours))
    return from_oklab(np.stack([np.interp(share, places, knots[:, k]) for k in range(3)], axis=-1))


def diverging(share: Floats) -> Floats:
    """Colours (..., 3) of differences from -1, vermilion, over pale to 1, blue."""
    return ramp((np.clip(share, -1, 1) + 1) / 2, DIVERGING)


def bivariate(first: Floats, second: Floats) -> Floats:
    """Colours (..., 3) of two shares (...) from 0 to 1: pale for neither, blue, vermilion, dark for
    both.
    """
    u = np.clip(first, 0, 1)[..., None]
    v = np.clip(second, 0, 1)[..., None]
    neither, one, two, both = (to_oklab(rgb(colour)) for colour in (NEITHER, FIRST, SECOND, BOTH))
    return from_oklab(
        (1 - u) * (1 - v) * neither + u * (1 - v) * one + (1 - u) * v * two + u * v * both
    )


def palette(n: int) -> tuple[str, ...]:
    """Choose n colours for kinds in order."""
    if n > len(MANY):
        raise PhospheneError(
            f"layers: found {n}, expected at most {len(MANY)}: more colours cannot be told apart."
        )
    if n <= len(FEW):
        return FEW[:n]
    return tuple(MANY[k] for k in np.linspace(0, len(MANY) - 1, n).round().astype(int))


def categorical(kinds: NDArray[np.int64], strength: Floats, colours: tuple[str, ...]) -> Floats:
    """Colours (..., 3) of kinds (0-based), paler the less their strength (0 to 1)."""
    share = (PALEST + (1 - PALEST) * np.clip(strength, 0, 1))[..., None]
    full = to_oklab(np.array([rgb(colour) for colour in colours]))[kinds]
    return from_oklab(share * full + (1 - share) * to_oklab(rgb(PALE)))
